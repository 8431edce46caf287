//! Node objects into nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use network::{Cidr, Node, NodeName};

use crate::problem::{Fault, ObjectRef, Problem};
use crate::set::{Object, ObjectSet, Origin, Report};
use crate::translate::pod::unusable;

/// Marks the nodes there really are, with the value `true`. Once one node carries it, Node objects without it are of another
/// cluster: manifests that were dumped from one bring its nodes along, and nothing runs on those here.
pub const THIS_CLUSTER: &str = "ferrule.io/this-cluster";

/// The nodes of a set, by name. Of two nodes with one address, or with overlapping pod ranges, the first keeps it.
pub fn nodes(objects: &ObjectSet) -> (Vec<Node>, Vec<Problem>) {
    nodes_of(&objects.nodes)
}

pub(crate) fn nodes_of(objects: &BTreeMap<String, Object<core::Node>>) -> (Vec<Node>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut nodes: Vec<Node> = Vec::new();
    let mut taken: BTreeMap<IpAddr, ObjectRef> = BTreeMap::new();
    let marked = objects.values().any(|object| is_marked(&object.value));
    for object in objects.values() {
        let origin = object.origin.as_ref();
        if marked && !is_marked(&object.value) {
            let name = object.value.metadata.name.clone().unwrap_or_default();
            let mut report = Report::new(ObjectRef::cluster("Node", &name), origin);
            report.field("metadata", Fault::ForeignNode);
            problems.extend(report.problems);
            continue;
        }
        let (mut node, faults) = node(&object.value, origin);
        problems.extend(faults);
        let me = ObjectRef::cluster("Node", node.name.as_str());
        let mut report = Report::new(me.clone(), origin);
        node.addresses.retain(|address| match taken.get(address) {
            None => {
                taken.insert(*address, me.clone());
                true
            }
            Some(owner) => {
                let (address, owner, consequence) = (*address, owner.clone(), "this node goes without it");
                report.field("status.addresses", Fault::AddressTaken { address, owner, consequence });
                false
            }
        });
        node.pod_cidrs.retain(|range| {
            let overlapping = nodes.iter().find_map(|other| {
                let clash = other.pod_cidrs.iter().find(|r| r.covers(range) || range.covers(r))?;
                Some((*clash, ObjectRef::cluster("Node", other.name.as_str())))
            });
            let Some((other, owner)) = overlapping else { return true };
            report.field("spec.podCIDRs", Fault::RangeTaken { range: *range, other, owner });
            false
        });
        problems.extend(report.problems);
        nodes.push(node);
    }
    (nodes, problems)
}

fn is_marked(object: &core::Node) -> bool {
    let annotations = object.metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(THIS_CLUSTER)).is_some_and(|value| value == "true")
}

/// One node. Without an address or a pod range it still is a node; the problem says what does not work.
pub fn node(object: &core::Node, origin: Option<&Origin>) -> (Node, Vec<Problem>) {
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut report = Report::new(ObjectRef::cluster("Node", &name), origin);
    let (addresses, further) = addresses(object, &mut report);
    let pod_cidrs = pod_ranges(object, &mut report);
    let external = external(object, &addresses, further, &mut report);
    let labels = object.metadata.labels.clone().unwrap_or_default();
    (Node { name: NodeName::new(name), labels, addresses, pod_cidrs, external }, report.problems)
}

/// The node's own, one per family, and those beyond.
fn addresses(object: &core::Node, report: &mut Report<'_>) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let (listed, bad) = listed(object, "InternalIP", report);
    let (mut addresses, mut further): (Vec<IpAddr>, _) = (Vec::new(), Vec::new());
    for (field, address) in listed {
        if addresses.contains(&address) {
            continue;
        }
        if addresses.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
            report.field(&field, Fault::FurtherAddress { address });
            further.push(address);
        } else {
            addresses.push(address);
        }
    }
    if addresses.is_empty() && !bad {
        report.field("status.addresses", Fault::NodeWithoutAddress);
    }
    (addresses, further)
}

/// Those of the outside and those beyond its own, but for what is its own as well.
fn external(
    object: &core::Node,
    own: &[IpAddr],
    further: Vec<IpAddr>,
    report: &mut Report<'_>,
) -> Vec<IpAddr> {
    let (listed, _) = listed(object, "ExternalIP", report);
    let listed = listed.into_iter().map(|(_, address)| address).chain(further);
    let mut external: Vec<IpAddr> = listed.filter(|address| !own.contains(address)).collect();
    external.sort_unstable();
    external.dedup();
    external
}

/// The addresses of a type that can be somebody's, with their fields, and whether there are others that cannot.
fn listed(object: &core::Node, kind: &str, report: &mut Report<'_>) -> (Vec<(String, IpAddr)>, bool) {
    let all = object.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let (mut listed, mut bad) = (Vec::new(), false);
    for (index, entry) in all.enumerate().filter(|(_, entry)| entry.type_ == kind) {
        let field = format!("status.addresses[{index}].address");
        match entry.address.parse::<IpAddr>() {
            Ok(address) if !unusable(address) => {
                listed.push((field, address));
                continue;
            }
            Ok(address) => report.field(&field, Fault::UnusableAddress { address }),
            Err(_) => report.field(&field, Fault::BadAddress { text: entry.address.clone() }),
        }
        bad = true;
    }
    (listed, bad)
}

fn pod_ranges(object: &core::Node, report: &mut Report<'_>) -> Vec<Cidr> {
    let spec = object.spec.as_ref();
    let listed = spec.and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    let texts: Vec<(String, &String)> = if listed.is_empty() {
        spec.and_then(|spec| spec.pod_cidr.as_ref())
            .map(|cidr| ("spec.podCIDR".to_owned(), cidr))
            .into_iter()
            .collect()
    } else {
        listed.iter().enumerate().map(|(index, cidr)| (format!("spec.podCIDRs[{index}]"), cidr)).collect()
    };
    if texts.is_empty() {
        report.field("spec.podCIDRs", Fault::NodeWithoutRange);
    }
    let mut ranges: Vec<Cidr> = Vec::new();
    for (field, text) in texts {
        match text.parse::<Cidr>() {
            Err(error) => report.field(&field, Fault::BadRange(error)),
            Ok(range) if ranges.iter().any(|other| other.is_ipv4() == range.is_ipv4()) => {
                report.field(&field, Fault::SecondAddress { address: range.address() });
            }
            Ok(range) => ranges.push(range),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Severity, SourceText, read};

    #[test]
    fn nodes_of_another_cluster_are_left_out_once_ours_are_marked() {
        let node = |name: &str, annotations: &str, k: u8| {
            format!(
                "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n{annotations}spec:\n  podCIDR: 10.244.{k}.0/24\nstatus:\n  \
                 addresses:\n  - type: InternalIP\n    address: 172.30.0.{k}\n---\n"
            )
        };
        let mark = format!("  annotations:\n    {THIS_CLUSTER}: \"true\"\n");
        let theirs = node("worker-1", "", 9);
        let names = |text: String| {
            let (objects, _) = read(&[SourceText::new("nodes.yaml".to_owned(), text)]);
            let (nodes, problems) = nodes(&objects);
            assert!(problems.iter().all(|problem| problem.severity() == Severity::Warning), "{problems:?}");
            (nodes.into_iter().map(|node| node.name.to_string()).collect::<Vec<_>>(), problems.len())
        };
        assert_eq!(names(theirs.clone()), (vec!["worker-1".into()], 0));
        assert_eq!(names(theirs + &node("node-1", &mark, 1)), (vec!["node-1".into()], 1));
    }
}
