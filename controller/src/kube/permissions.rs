//! Holds `deploy/chart/rbac/controller.yaml` against what the controller asks of the API: no verb too few, none too many.

use std::collections::BTreeSet;

use super::kinds::WATCHED;
use super::{authority, epoch, lease};

/// A verb on a resource of a group, limited to an object where that is possible.
type Permission = (String, String, String, Option<String>);

fn permission(group: &str, resource: &str, verb: &str, name: Option<&str>) -> Permission {
    (group.to_owned(), resource.to_owned(), verb.to_owned(), name.map(str::to_owned))
}

/// In the whole cluster.
fn everywhere() -> BTreeSet<Permission> {
    let mut needed: BTreeSet<Permission> = WATCHED
        .iter()
        .flat_map(|kind| ["list", "watch"].map(|verb| permission(kind.group, kind.plural, verb, None)))
        .collect();
    needed.insert(permission("", "events", "create", None));
    needed.insert(permission("policy.networking.k8s.io", "clusternetworkpolicies/status", "patch", None));
    // Agents' tokens (`identity`).
    needed.insert(permission("authentication.k8s.io", "tokenreviews", "create", None));
    needed
}

/// In the controller's own namespace.
fn at_home() -> BTreeSet<Permission> {
    let leases = |verb, name| permission("coordination.k8s.io", "leases", verb, name);
    let epochs = |verb, name| permission("", "configmaps", verb, name);
    [
        epochs("create", None),
        epochs("list", Some(epoch::NAME)),
        epochs("update", Some(epoch::NAME)),
        permission("", "secrets", "create", None),
        permission("", "secrets", "get", Some(authority::NAME)),
        epochs("get", Some(authority::NAME)),
        epochs("update", Some(authority::NAME)),
        leases("create", None),
        leases("get", Some(lease::NAME)),
        leases("update", Some(lease::NAME)),
    ]
    .into()
}

fn granted(kind: &str) -> BTreeSet<Permission> {
    let text = include_str!("../../../deploy/chart/rbac/controller.yaml");
    let mut granted = BTreeSet::new();
    for document in text.split("\n---\n").filter(|document| document.contains(&format!("\nkind: {kind}\n"))) {
        let list = |line: &str, key: &str| -> Option<Vec<String>> {
            let items = line.trim().trim_start_matches("- ").strip_prefix(key)?.trim();
            let items = items.strip_prefix('[')?.strip_suffix(']')?;
            Some(items.split(',').map(|item| item.trim().trim_matches('"').to_owned()).collect())
        };
        for rule in document.split("- apiGroups:").skip(1) {
            let rule = format!("apiGroups:{rule}");
            let find = |key: &str| rule.lines().find_map(|line| list(line, key));
            let names = find("resourceNames:").map(|names| names.into_iter().map(Some).collect());
            let names: Vec<Option<String>> = names.unwrap_or_else(|| vec![None]);
            for group in find("apiGroups:").unwrap() {
                for resource in find("resources:").unwrap() {
                    for verb in find("verbs:").unwrap() {
                        for name in &names {
                            granted.insert(permission(&group, &resource, &verb, name.as_deref()));
                        }
                    }
                }
            }
        }
    }
    granted
}

#[test]
fn what_is_granted_is_what_is_needed() {
    assert_eq!(granted("ClusterRole"), everywhere());
    assert_eq!(granted("Role"), at_home());
}
