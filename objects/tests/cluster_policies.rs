//! ClusterNetworkPolicy: what each form means, and what becomes of everything that is not understood.

#![allow(clippy::unwrap_used, reason = "a test")]

use expect_test::{Expect, expect};
use network::{
    Action, Direction, LabelSelector, NamespaceSelector, Network, Peers, Policy, PortMatch, Ports, Selector,
};
use objects::offline::{Families, network, numbered_nodes};
use objects::translate::cluster_policy::cluster_network_policy;
use objects::{ClusterNetworkPolicy, Problem, SourceText, read};

fn translated(text: &str) -> (Network, String) {
    let (objects, mut problems) = read(&[SourceText::new("p.yaml", text)]);
    let (network, more) = network(&objects, &numbered_nodes(2, Families::Ipv4));
    problems.extend(more);
    (network, problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))
}

const HEAD: &str =
    "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: p}\nspec:\n";

fn check(spec: &str, meaning: Expect, problems: Expect) {
    let (network, found) = translated(&format!("{HEAD}{spec}\n"));
    let policy = network.policies.values().next().expect("the policy is there whatever is wrong with it");
    meaning.assert_eq(&show(&network, policy));
    problems.assert_eq(&found);
}

/// One rule of a policy that is fine otherwise.
fn check_rule(direction: &str, rule: &str, meaning: Expect, problems: Expect) {
    check(
        &format!("  tier: Admin\n  priority: 5\n  subject: {{namespaces: {{}}}}\n  {direction}:\n  - {rule}"),
        meaning,
        problems,
    );
}

fn show(network: &Network, policy: &Policy) -> String {
    assert!(!policy.isolates.ingress && !policy.isolates.egress);
    let subject = selector(&network.selectors[&policy.subject]);
    let mut out = format!("{:?} {} {subject}", policy.tier, policy.priority);
    for rule in &policy.rules {
        let direction = if rule.direction == Direction::Ingress { "from" } else { "to" };
        let peers = match &rule.peers {
            Peers::Any => "anybody".to_owned(),
            Peers::Some { sets, blocks } => {
                let mut all: Vec<String> = sets.iter().map(|id| selector(&network.selectors[id])).collect();
                all.sort();
                all.extend(blocks.iter().map(|block| block.cidr.to_string()));
                if all.is_empty() { "nobody".to_owned() } else { all.join(" or ") }
            }
        };
        let ports = match &rule.ports {
            Ports::Any => "any port".to_owned(),
            Ports::Some(ports) => {
                let one = |port: &PortMatch| match port {
                    PortMatch::Range(range) => format!("{}/{}-{}", range.protocol, range.first, range.last),
                    PortMatch::Named { protocol, name } => format!("{protocol}/{name}"),
                };
                ports.iter().map(one).collect::<Vec<_>>().join(",")
            }
        };
        out.push_str(&format!("\n{} {:?} {direction} {peers} on {ports}", rule.index, rule.action));
    }
    out
}

fn selector(selector: &Selector) -> String {
    match selector {
        Selector::Nodes(labels) => format!("nodes[{}]", labels_of(labels)),
        Selector::Pods { namespaces: NamespaceSelector::Labels(namespaces), pods, port: None } => {
            format!("[{}/{}]", labels_of(namespaces), labels_of(pods))
        }
        other => panic!("{other:?}"),
    }
}

fn labels_of(selector: &LabelSelector) -> String {
    let one = |r: &network::Requirement| format!("{} {:?} {:?}", r.key, r.operator, r.values);
    match selector.is_everything() {
        true => "*".to_owned(),
        false => selector.requirements().map(one).collect::<Vec<_>>().join(" & "),
    }
}

#[test]
fn every_form_that_the_api_has() {
    check(
        r#"  tier: Baseline
  priority: 1000
  subject:
    pods:
      namespaceSelector: {matchLabels: {team: a}}
      podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db]}]}
  ingress:
  - name: first
    action: Pass
    from:
    - namespaces: {}
    - pods: {podSelector: {}}
    - pods: {podSelector: {matchLabels: {app: web}}, namespaceSelector: {matchLabels: {team: b}}}
    protocols:
    - tcp: {destinationPort: {number: 80}}
    - udp: {destinationPort: {range: {start: 1, end: 65535}}}
    - sctp: {destinationPort: {number: 9003}}
    - destinationNamedPort: web
  egress:
  - action: Accept
    to:
    - nodes: {matchLabels: {kubernetes.io/os: linux}}
    - nodes: {}
    - networks: [10.1.2.3/8, "fd00::/8"]
  - action: Deny
    to: [{networks: ["0.0.0.0/0", "::/0"]}]"#,
        expect![[r#"
            Baseline 1000 [team In {"a"}/app NotIn {"db"}]
            0 Pass from [*/*] or [team In {"b"}/app In {"web"}] on TCP/80-80,UDP/1-65535,SCTP/9003-9003,TCP/web,UDP/web,SCTP/web
            0 Accept to nodes[*] or nodes[kubernetes.io/os In {"linux"}] or 10.0.0.0/8 or fd00::/8 on any port
            1 Deny to 0.0.0.0/0 or ::/0 on any port"#]],
        expect![""],
    );
}

#[test]
fn what_a_rule_lacks_or_has_too_much_fails_closed() {
    // An Accept rule matches nothing, another denies everything, whatever else is right about it.
    for (action, rule) in
        [("Accept", "0 Accept to nobody on any port"), ("Deny", "0 Deny to anybody on any port")]
    {
        for wrong in [
            "",
            "to: []",
            "to: [{}]",
            "to: [{namespaces: {}, networks: [10.0.0.0/8]}]",
            "to: [{namespaces: {}}, {somebody: {}}]",
            "to: [{pods: {namespaceSelector: {}}}]",
            "to: [{networks: []}]",
            "to: [{networks: [10.0.0.0/33]}]",
            "to: [{networks: [10.0.0.1]}]",
            "to: [{networks: ['::ffff:10.0.0.0/104']}]",
            "to: [{namespaces: {matchLabels: {a: [b]}}}]",
            "to: [{namespaces: {matchLabel: {a: b}}}]",
            "to: [{namespaces: {matchExpressions: [{key: a, operator: Near, values: [b]}]}}]",
            "to: {namespaces: {}}",
            "to: [{namespaces: {}}], protocols: []",
            "to: [{namespaces: {}}], protocols: [{}]",
            "to: [{namespaces: {}}], protocols: [{tcp: {}}]",
            "to: [{namespaces: {}}], protocols: [{icmp: {}}]",
            "to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {}}}]",
            "to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 0}}}]",
            "to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 65536}}}]",
            "to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: '80'}}}]",
            "to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 80, end: 80}}}}]",
            "to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 80}}}}]",
            "to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 1, range: {start: 1, end: 2}}}}]",
            "to: [{namespaces: {}}], protocols: [{destinationNamedPort: ''}]",
            "to: [{namespaces: {}}], protocols: [{destinationNamedPort: 80}]",
            "to: [{networks: [10.0.0.0/8]}], protocols: [{destinationNamedPort: web}]",
            "to: [{nodes: {}}], protocols: [{destinationNamedPort: web}]",
            "to: [{namespaces: {}}], from: [{namespaces: {}}]",
            "to: [{namespaces: {}}], ports: [{portNumber: {port: 80}}]",
        ] {
            let spec = format!(
                "  tier: Admin\n  priority: 5\n  subject: {{namespaces: {{}}}}\n  egress:\n  - {{action: {action}, {wrong}}}"
            );
            let (network, problems) = translated(&format!("{HEAD}{spec}\n"));
            let policy = network.policies.values().next().unwrap();
            assert_eq!(show(&network, policy), format!("Admin 5 [*/*]\n{rule}"), "{wrong}");
            assert_eq!(problems.lines().count(), 1, "{wrong}: {problems}");
            assert!(problems.starts_with("p.yaml:9:"), "{wrong}: {problems}");
        }
    }
}

#[test]
fn how_it_is_said() {
    check_rule(
        "ingress",
        "{action: Deny, from: [{nodes: {}}]}",
        expect![[r#"
        Admin 5 [*/*]
        0 Deny from anybody on any port"#]],
        expect![
            "p.yaml:9:35: ClusterNetworkPolicy p: spec.ingress[0].from[0].nodes: the field `nodes` is unknown here (known: namespaces, pods), so this rule denies everything; check the spelling and the indentation"
        ],
    );
    check_rule(
        "ingress",
        "{action: Pass, from: [{namespaces: {}}, {pods: {}}]}",
        expect![[r#"
        Admin 5 [*/*]
        0 Deny from anybody on any port"#]],
        expect![
            "p.yaml:9:52: ClusterNetworkPolicy p: spec.ingress[0].from[1].pods: podSelector is missing, so this rule denies everything; write podSelector"
        ],
    );
    check_rule(
        "ingress",
        "{action: Allow, from: [{namespaces: {}}]}",
        expect![[r#"
        Admin 5 [*/*]
        0 Deny from anybody on any port"#]],
        expect![[
            r#"p.yaml:9:14: ClusterNetworkPolicy p: spec.ingress[0].action: "Allow" is not known as the action, so this rule denies everything; write one of Accept, Deny, Pass"#
        ]],
    );
    check_rule(
        "egress",
        "17",
        expect![[r#"
        Admin 5 [*/*]
        0 Deny to anybody on any port"#]],
        expect![
            "p.yaml:9:5: ClusterNetworkPolicy p: spec.egress[0]: a number stands where a map belongs, so this rule denies everything; write the type that the API wants (a text that looks like a number needs quotes)"
        ],
    );
    check_rule(
        "egress",
        "{action: Accept, to: [{networks: [10.0.0.0/40]}]}",
        expect![[r#"
        Admin 5 [*/*]
        0 Accept to nobody on any port"#]],
        expect![
            "p.yaml:9:39: ClusterNetworkPolicy p: spec.egress[0].to[0].networks[0]: prefix length 40 does not fit 10.0.0.0: at most 32, so this `Accept` rule matches nothing; write ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/48"
        ],
    );
}

#[test]
fn domain_names_match_nothing_and_say_so() {
    check_rule(
        "egress",
        "{action: Accept, to: [{domainNames: ['*.kubernetes.io']}]}",
        expect![[r#"
        Admin 5 [*/*]
        0 Accept to nobody on any port"#]],
        expect![
            "p.yaml:9:41: ClusterNetworkPolicy p: spec.egress[0].to[0].domainNames: domain names are not supported yet, so this rule matches nothing; write networks, or pods and namespaces where they are in the cluster"
        ],
    );
    check_rule(
        "egress",
        "{action: Deny, to: [{networks: [10.0.0.0/8]}, {domainNames: [kubernetes.io]}]}",
        expect![[r#"
            Admin 5 [*/*]
            0 Deny to nobody on any port"#]],
        expect![
            "p.yaml:9:65: ClusterNetworkPolicy p: spec.egress[0].to[1].domainNames: domain names are not supported yet, so this rule matches nothing; write networks, or pods and namespaces where they are in the cluster"
        ],
    );
}

#[test]
fn a_policy_whose_head_is_not_understood_allows_nothing() {
    let rules = "  ingress:\n  - {action: Accept, from: [{namespaces: {}}]}\n  - {action: Pass, from: [{namespaces: {}}]}\n  \
                 egress:\n  - {action: Deny, to: [{networks: [10.0.0.0/8]}]}";
    let head = |head: &str| format!("{head}\n{rules}");
    check(
        &head("  tier: Middle\n  priority: 5\n  subject: {namespaces: {}}"),
        expect![[r#"
        Admin 5 [*/*]
        0 Accept from nobody on any port
        1 Deny from [*/*] on any port
        0 Deny to 10.0.0.0/8 on any port"#]],
        expect![[
            r#"p.yaml:5:9: ClusterNetworkPolicy p: spec.tier: "Middle" is not known as the tier, so it is taken for one of the Admin tier, its `Accept` rules match nothing and its `Pass` rules deny; write one of Admin, Baseline"#
        ]],
    );
    check(
        &head("  tier: Baseline\n  priority: 1001\n  subject: {namespaces: {}}"),
        expect![[r#"
        Baseline 0 [*/*]
        0 Accept from nobody on any port
        1 Deny from [*/*] on any port
        0 Deny to 10.0.0.0/8 on any port"#]],
        expect![
            "p.yaml:6:13: ClusterNetworkPolicy p: spec.priority: 1001 is not a priority, so its priority is taken for 0, its `Accept` rules match nothing and its `Pass` rules deny; write a number from 0 to 1000"
        ],
    );
    check(
        &head("  tier: Baseline\n  priority: 7\n  subject: {}"),
        expect![[r#"
        Baseline 7 [*/*]
        0 Accept from nobody on any port
        1 Deny from [*/*] on any port
        0 Deny to 10.0.0.0/8 on any port"#]],
        expect![
            "p.yaml:7:12: ClusterNetworkPolicy p: spec.subject: 0 of namespaces, pods are set, not exactly one, so it is taken to be about every pod, its `Accept` rules match nothing and its `Pass` rules deny; set exactly one of them"
        ],
    );
    check(
        &head(
            "  tier: Baseline\n  priority: 7\n  subject: {namespaces: {matchExpressions: [{key: a, operator: Inn, values: [b]}]}}",
        ),
        expect![[r#"
            Baseline 7 [*/*]
            0 Accept from nobody on any port
            1 Deny from [*/*] on any port
            0 Deny to 10.0.0.0/8 on any port"#]],
        expect![
            "p.yaml:7:64: ClusterNetworkPolicy p: spec.subject.namespaces.matchExpressions[0].operator: `Inn` is not an operator of a selector, so it is taken to be about every pod, its `Accept` rules match nothing and its `Pass` rules deny; use In, NotIn, Exists or DoesNotExist"
        ],
    );
    check(
        &head("  tier: Baseline\n  priority: 7\n  subject: {namespaces: {}}\n  mode: audit"),
        expect![[r#"
        Baseline 7 [*/*]
        0 Accept from nobody on any port
        1 Deny from [*/*] on any port
        0 Deny to 10.0.0.0/8 on any port"#]],
        expect![
            "p.yaml:8:9: ClusterNetworkPolicy p: spec.mode: the field `mode` is unknown here (known: tier, priority, subject, ingress, egress), so the policy may mean anything, its `Accept` rules match nothing and its `Pass` rules deny; check the spelling and the indentation"
        ],
    );
    check(
        "  {}",
        expect!["Admin 0 [*/*]"],
        expect![[r#"
        p.yaml:5:3: ClusterNetworkPolicy p: spec.tier: the tier is missing, so it is taken for one of the Admin tier, its `Accept` rules match nothing and its `Pass` rules deny; write the tier
        p.yaml:5:3: ClusterNetworkPolicy p: spec.priority: priority is missing, so its priority is taken for 0, its `Accept` rules match nothing and its `Pass` rules deny; write priority
        p.yaml:5:3: ClusterNetworkPolicy p: spec.subject: 0 of namespaces, pods are set, not exactly one, so it is taken to be about every pod, its `Accept` rules match nothing and its `Pass` rules deny; set exactly one of them"#]],
    );
}

#[test]
fn a_misspelt_list_of_rules_counts_as_one_that_is_not_understood() {
    let head = "  tier: Baseline\n  priority: 7\n  subject: {namespaces: {}}\n";
    check(
        &format!("{head}  ingres:\n  - {{action: Deny, from: [{{namespaces: {{}}}}]}}"),
        expect![[r#"
            Baseline 7 [*/*]
            0 Deny from anybody on any port
            0 Deny to anybody on any port"#]],
        expect![
            "p.yaml:9:5: ClusterNetworkPolicy p: spec.ingres: the field `ingres` is unknown here (known: tier, priority, subject, ingress, egress), so this rule denies everything; check the spelling and the indentation"
        ],
    );
    check(
        &format!("{head}  ingres:\n  - {{action: Accept, from: [{{namespaces: {{}}}}]}}"),
        expect!["Baseline 7 [*/*]"],
        expect![
            "p.yaml:9:5: ClusterNetworkPolicy p: spec.ingres: the field `ingres` is unknown here (known: tier, priority, subject, ingress, egress), so this `Accept` rule matches nothing; check the spelling and the indentation"
        ],
    );
}

#[test]
fn of_more_rules_than_there_may_be_the_rest_is_one_that_is_not_understood() {
    let rule = |action: &str| format!("  - {{action: {action}, from: [{{namespaces: {{}}}}]}}\n");
    let policy = |count: usize, last: &str| {
        let rules = rule("Accept").repeat(count - 1) + &rule(last);
        format!("{HEAD}  tier: Admin\n  priority: 5\n  subject: {{namespaces: {{}}}}\n  ingress:\n{rules}")
    };
    let actions = |text: String| {
        let (network, problems) = translated(&text);
        let policy = network.policies.values().next().unwrap();
        (policy.rules.iter().map(|rule| (rule.action, rule.peers.clone())).collect::<Vec<_>>(), problems)
    };
    let (all, problems) = actions(policy(25, "Deny"));
    assert_eq!((all.len(), problems.as_str()), (25, ""));
    let (first, problems) = actions(policy(26, "Deny"));
    assert_eq!(first[..24], all[..24]);
    assert_eq!(first[24..], [(Action::Deny, Peers::Any)]);
    expect!["p.yaml:33:5: ClusterNetworkPolicy p: spec.ingress[24]: 26 rules are too many, so this rule denies everything; list at most 25, or make several of it"].assert_eq(&problems);
    let (first, _) = actions(policy(26, "Accept"));
    assert_eq!(first.len(), 25);
    assert_ne!(first[24].1, all[24].1, "an Accept rule too many matches nothing");
    // As bounded as the limit is: what comes behind it is looked at once.
    assert_eq!(actions(policy(2_000, "Pass")).0, actions(policy(26, "Pass")).0);
}

#[test]
fn kinds_that_are_no_policy_here_do_not_vanish() {
    let of = |head: &str| translated(&format!("{head}\nmetadata: {{name: p}}\nspec: {{}}\n")).1;
    expect!["p.yaml:1:1: AdminNetworkPolicy p: kind: AdminNetworkPolicy of apiVersion policy.networking.k8s.io/v1alpha1 is not known, the object is left out; write it as a ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2"].assert_eq(&of("apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy"));
    expect!["p.yaml:1:1: ClusterNetworkPolicy p: apiVersion: ClusterNetworkPolicy of apiVersion policy.networking.k8s.io/v1alpha1 is not read, the object is left out; write it as apiVersion policy.networking.k8s.io/v1alpha2"].assert_eq(&of("apiVersion: policy.networking.k8s.io/v1alpha1\nkind: ClusterNetworkPolicy"));
    expect!["p.yaml:1:1: NetworkPolicies default/p: kind: NetworkPolicies of apiVersion networking.k8s.io/v1 is not known, the object is left out; check the spelling: NetworkPolicy of networking.k8s.io/v1 and ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2 are read"].assert_eq(&of("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicies"));
    expect!["p.yaml:1:1: NetworkPolicy default/p: apiVersion: NetworkPolicy of apiVersion v1 is not read, the object is left out; write it as apiVersion networking.k8s.io/v1"].assert_eq(&of("apiVersion: v1\nkind: NetworkPolicy"));
    assert_eq!(of("apiVersion: networking.k8s.io/v1\nkind: Ingress"), "");
    assert_eq!(of("apiVersion: crd.example.org/v1\nkind: NetworkPolicy"), "");
}

#[test]
fn an_api_server_s_object_means_the_same_and_never_fails_to_decode() {
    let spec = "  tier: Admin\n  priority: 5\n  subject: {namespaces: {}}\n  egress:\n  - {action: Deny, to: [{services: {}}]}\n";
    let (network, _) = translated(&format!("{HEAD}{spec}"));
    let value = serde_json::json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "p", "resourceVersion": "7", "creationTimestamp": "2026-11-25T13:00:00Z"},
        "spec": {"tier": "Admin", "priority": 5, "subject": {"namespaces": {}},
                 "egress": [{"action": "Deny", "to": [{"services": {}}]}]},
        "status": {"conditions": [{"type": "ferrule.io/Understood", "status": "False", "reason": "R", "message": "",
                                   "lastTransitionTime": "2026-11-25T13:00:00Z"}]}});
    let object: ClusterNetworkPolicy = serde_json::from_value(value).unwrap();
    assert_eq!(object.status.conditions.len(), 1);
    let translated = cluster_network_policy(&object, None);
    assert_eq!(network.policies.values().next(), Some(&translated.policy));
    assert_eq!(translated.problems.len(), 1);
    for spec in ["7", "[]", "null", "{\"ingress\": {}, \"subject\": 4, \"tier\": []}"] {
        let text = format!("{{\"metadata\": {{\"name\": \"p\"}}, \"spec\": {spec}}}");
        let object: ClusterNetworkPolicy = serde_json::from_str(&text).unwrap();
        assert!(!cluster_network_policy(&object, None).problems.is_empty());
    }
}
