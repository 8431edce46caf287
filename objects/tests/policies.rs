//! NetworkPolicy in full: what each form means, and what becomes of everything that is not understood.

#![allow(clippy::unwrap_used, reason = "a test")]

use expect_test::{Expect, expect};
use network::{
    Network, Peers, Policy, PortMatch, Ports, Selector,
    policy::{Direction, Isolation},
};
use objects::offline::{Families, network, numbered_nodes};
use objects::{Problem, SourceText, read};

/// Reads and translates; all problems of both.
fn translated(text: &str) -> (Network, String) {
    let (objects, mut problems) = read(&[SourceText::new("p.yaml", text)]);
    let (network, more) = network(&objects, &numbered_nodes(2, Families::Ipv4));
    problems.extend(more);
    (network, problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))
}

fn check(spec: &str, meaning: Expect, problems: Expect) {
    let text = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n{spec}\n"
    );
    let (network, found) = translated(&text);
    let policy = network.policies.values().next().expect("the policy is there whatever is wrong with it");
    meaning.assert_eq(&show(&network, policy));
    problems.assert_eq(&found);
}

fn show(network: &Network, policy: &Policy) -> String {
    let Isolation { ingress, egress } = policy.isolates;
    let mut out = format!(
        "{} isolates{}{}",
        selector(&network.selectors[&policy.subject]),
        if ingress { " ingress" } else { "" },
        if egress { " egress" } else { "" }
    );
    for rule in &policy.rules {
        let direction = if rule.direction == Direction::Ingress { "from" } else { "to" };
        let peers = match &rule.peers {
            Peers::Any => "anybody".to_owned(),
            Peers::Some { sets, blocks } => {
                let mut all: Vec<String> = sets.iter().map(|id| selector(&network.selectors[id])).collect();
                all.sort();
                all.extend(blocks.iter().map(|block| format!("{} except {:?}", block.cidr, block.except)));
                if all.is_empty() { "nobody".to_owned() } else { all.join(" or ") }
            }
        };
        let ports = match &rule.ports {
            Ports::Any => "any port".to_owned(),
            Ports::Some(ports) if ports.is_empty() => "no port".to_owned(),
            Ports::Some(ports) => {
                let one = |port: &PortMatch| match port {
                    PortMatch::Range(range) => format!("{}/{}-{}", range.protocol, range.first, range.last),
                    PortMatch::Named { protocol, name } => format!("{protocol}/{name}"),
                };
                ports.iter().map(one).collect::<Vec<_>>().join(",")
            }
        };
        out.push_str(&format!("\n{} {direction} {peers} on {ports}", rule.index));
    }
    out
}

fn selector(selector: &Selector) -> String {
    let Selector::Pods { namespaces, pods, .. } = selector else { panic!("no pods") };
    let namespaces = match namespaces {
        network::NamespaceSelector::Name(name) => name.clone(),
        network::NamespaceSelector::Labels(labels) => labels_of(labels),
    };
    format!("[{namespaces}/{}]", labels_of(pods))
}

fn labels_of(selector: &network::LabelSelector) -> String {
    let one = |r: &network::Requirement| format!("{} {:?} {:?}", r.key, r.operator, r.values);
    match selector.is_everything() {
        true => "*".to_owned(),
        false => selector.requirements().map(one).collect::<Vec<_>>().join(" & "),
    }
}

#[test]
fn policy_types_are_defaulted_as_upstream_does() {
    check("  podSelector: {}", expect!["[shop/*] isolates ingress"], expect![""]);
    check(
        "  ingress: [{}]",
        expect![[r#"
        [shop/*] isolates ingress
        0 from anybody on any port"#]],
        expect![""],
    );
    check(
        "  egress: [{}]",
        expect![[r#"
        [shop/*] isolates ingress egress
        0 to anybody on any port"#]],
        expect![""],
    );
    check("  egress: []", expect!["[shop/*] isolates ingress"], expect![""]);
    check(
        "  policyTypes: []\n  egress: [{}]",
        expect![[r#"
        [shop/*] isolates ingress egress
        0 to anybody on any port"#]],
        expect![""],
    );
    check("  policyTypes: [Egress]", expect!["[shop/*] isolates egress"], expect![""]);
    check("  policyTypes: [Egress]\n  ingress: [{}]", expect!["[shop/*] isolates egress"], expect![""]);
    check("  policyTypes: [Ingress]\n  egress: [{}]", expect!["[shop/*] isolates ingress"], expect![""]);
    check("  podSelector:", expect!["[shop/*] isolates ingress"], expect![""]);
}

#[test]
fn no_spec_at_all_denies_all_ingress() {
    let (network, problems) =
        translated("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\n");
    assert_eq!(problems, "");
    expect!["[default/*] isolates ingress"]
        .assert_eq(&show(&network, network.policies.values().next().unwrap()));
}

#[test]
fn peers_of_every_form() {
    check(
        "  podSelector: {matchLabels: {app: web}}
  ingress:
  - from:
    - podSelector: {}
    - namespaceSelector: {}
    - podSelector: {matchLabels: {app: cart}}
      namespaceSelector: {matchExpressions: [{key: area, operator: NotIn, values: [back, ops]}]}
    - ipBlock: {cidr: 10.0.0.5/8, except: [10.1.0.0/16, 10.2.3.4/32]}
    - ipBlock: {cidr: '2001:db8::/32'}
    - ipBlock: {cidr: '::ffff:192.0.2.0/120'}
  - from: []
    ports: []
  - from:
    ports:",
        expect![[r#"
            [shop/app In {"web"}] isolates ingress
            0 from [*/*] or [area NotIn {"back", "ops"}/app In {"cart"}] or [shop/*] or 10.0.0.0/8 except {10.1.0.0/16, 10.2.3.4/32} or 192.0.2.0/24 except {} or 2001:db8::/32 except {} on any port
            1 from anybody on any port
            2 from anybody on any port"#]],
        expect![""],
    );
}

#[test]
fn ports_of_every_form() {
    check(
        "  egress:
  - ports:
    - {port: 80}
    - {port: http}
    - {port: 8000, endPort: 8080}
    - {protocol: UDP}
    - {protocol: SCTP, port: 7}
    - {port: 65535, endPort: 65535, protocol: UDP}
    - {}",
        expect![[r#"
            [shop/*] isolates ingress egress
            0 to anybody on TCP/0-65535,TCP/80-80,TCP/8000-8080,UDP/0-65535,UDP/65535-65535,SCTP/7-7,TCP/http"#]],
        expect![""],
    );
}

#[test]
fn ports_that_are_not_understood_match_nothing() {
    check(
        "  ingress:
  - ports:
    - {port: 0}
    - {port: 65536}
    - {port: 99999999999}
    - {port: 90, endPort: 80}
    - {port: 90, endPort: 70000}
    - {port: http, endPort: 80}
    - {endPort: 80}
    - {port: '80'}
    - {port: Http}
    - {port: 80, protocol: tcp}
    - {port: 80, protocol: ICMP}
    - {prot: 80}
    - {port: [80]}
    - 80
    -
  - ports: 80",
        expect![[r#"
            [shop/*] isolates ingress
            0 from anybody on no port
            1 from anybody on no port"#]],
        expect![[r#"
            p.yaml:9:14: NetworkPolicy shop/p: spec.ingress[0].ports[2].port: invalid value: integer `99999999999`, expected a 32-bit integer, so this port matches nothing; write the type that the API wants (a text that looks like a number needs quotes)
            p.yaml:18:14: NetworkPolicy shop/p: spec.ingress[0].ports[11].prot: the field `prot` is unknown here (known: protocol, port, endPort), so this port matches nothing; check the spelling and the indentation
            p.yaml:19:14: NetworkPolicy shop/p: spec.ingress[0].ports[12].port: invalid type: sequence, expected IntOrString, so this port matches nothing; write the type that the API wants (a text that looks like a number needs quotes)
            p.yaml:20:7: NetworkPolicy shop/p: spec.ingress[0].ports[13]: a number stands where a map belongs, so this port matches nothing; write the type that the API wants (a text that looks like a number needs quotes)
            p.yaml:21:6: NetworkPolicy shop/p: spec.ingress[0].ports[14]: nothing stands where a map belongs, so this port matches nothing; write the type that the API wants (a text that looks like a number needs quotes)
            p.yaml:22:12: NetworkPolicy shop/p: spec.ingress[1].ports: a number stands where a list of ports belongs, so this rule matches nothing; write the type that the API wants (a text that looks like a number needs quotes)
            p.yaml:7:14: NetworkPolicy shop/p: spec.ingress[0].ports[0].port: 0 is not a port, so this port matches nothing; write a number from 1 to 65535
            p.yaml:8:14: NetworkPolicy shop/p: spec.ingress[0].ports[1].port: 65536 is not a port, so this port matches nothing; write a number from 1 to 65535
            p.yaml:10:27: NetworkPolicy shop/p: spec.ingress[0].ports[3].endPort: the port range 90 to 80 is reversed, so this port matches nothing; put the smaller number into `port` and the larger into `endPort`
            p.yaml:11:27: NetworkPolicy shop/p: spec.ingress[0].ports[4].endPort: 70000 is not a port, so this port matches nothing; write a number from 1 to 65535
            p.yaml:12:29: NetworkPolicy shop/p: spec.ingress[0].ports[5].endPort: endPort stands beside no port number, so this port matches nothing; put the first number of the range into `port`
            p.yaml:13:17: NetworkPolicy shop/p: spec.ingress[0].ports[6].endPort: endPort stands beside no port number, so this port matches nothing; put the first number of the range into `port`
            p.yaml:14:14: NetworkPolicy shop/p: spec.ingress[0].ports[7].port: `80` cannot be the name of a port, so this port matches nothing; write 80 without quotes
            p.yaml:15:14: NetworkPolicy shop/p: spec.ingress[0].ports[8].port: `Http` cannot be the name of a port, so this port matches nothing; write at most 15 small letters, digits and `-`, at least one letter
            p.yaml:16:28: NetworkPolicy shop/p: spec.ingress[0].ports[9].protocol: `tcp` is not a protocol, so this port matches nothing; write TCP, UDP or SCTP, in capitals
            p.yaml:17:28: NetworkPolicy shop/p: spec.ingress[0].ports[10].protocol: `ICMP` is not a protocol, so this port matches nothing; write TCP, UDP or SCTP, in capitals"#]],
    );
}

#[test]
fn peers_that_are_not_understood_match_nothing_and_the_others_stay() {
    check(
        "  ingress:
  - from:
    - podSelector: {matchLabels: {app: good}}
    - {}
    -
    - ipBlock: {cidr: 10.0.0.0/33}
    - ipBlock: {cidr: 10.0.0/8}
    - ipBlock: {cidr: 10.0.0.1}
    - ipBlock: {}
    - ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}
    - ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}
    - ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/64']}
    - ipBlock: {cidr: 10.0.0.0/8, except: [x]}
    - ipBlock: {cidr: 10.0.0.0/8, exept: [10.0.0.0/16]}
    - ipBlock: {cidr: 10.0.0.0/8}
      podSelector: {}
    - podSelector: {matchExpressions: [{key: app, operator: Is, values: [x]}]}
    - podSelector: {matchExpressions: [{key: app, operator: In}]}
    - podSelector: {matchExpressions: [{key: app, operator: NotIn, values: []}]}
    - podSelector: {matchExpressions: [{key: app, operator: Exists, values: [x]}]}
    - podSelector: {matchExpressions: [{key: 'a b', operator: Exists}]}
    - podSelector: {matchExpressions: [{operator: Exists}]}
    - podSelector: {matchExpressions: [{key: app, operator: In, values: ['a b']}]}
    - podSelector: {matchExpressions: [{key: app, operator: In, values: x}]}
    - podSelector: {matchLabels: {app: 1}}
    - podSelector: {matchLabels: {app: -x}}
    - podSelector: {app: web}
    - namespaceSelector: {matchLabel: {app: web}}
    - podselector: {}
    - text",
        expect![[r#"
            [shop/*] isolates ingress
            0 from [shop/app In {"good"}] on any port"#]],
        expect![[r#"
            p.yaml:9:6: NetworkPolicy shop/p: spec.ingress[0].from[2]: nothing stands where a map belongs, so this peer matches nothing; write the type that the API wants (a text that looks like a number needs quotes)
            p.yaml:18:42: NetworkPolicy shop/p: spec.ingress[0].from[11].ipBlock.exept: the field `exept` is unknown here (known: cidr, except), so this peer matches nothing; check the spelling and the indentation
            p.yaml:28:73: NetworkPolicy shop/p: spec.ingress[0].from[20].podSelector.matchExpressions[0].values: invalid type: string "x", expected a sequence, so this peer matches nothing; write the type that the API wants (a text that looks like a number needs quotes)
            p.yaml:29:40: NetworkPolicy shop/p: spec.ingress[0].from[21].podSelector.matchLabels.app: invalid type: integer `1`, expected a string, so this peer matches nothing; write the type that the API wants (a text that looks like a number needs quotes)
            p.yaml:31:26: NetworkPolicy shop/p: spec.ingress[0].from[23].podSelector.app: the field `app` is unknown here (known: matchLabels, matchExpressions), so this peer matches nothing; check the spelling and the indentation
            p.yaml:32:39: NetworkPolicy shop/p: spec.ingress[0].from[24].namespaceSelector.matchLabel: the field `matchLabel` is unknown here (known: matchLabels, matchExpressions), so this peer matches nothing; check the spelling and the indentation
            p.yaml:33:20: NetworkPolicy shop/p: spec.ingress[0].from[25].podselector: the field `podselector` is unknown here (known: podSelector, namespaceSelector, ipBlock), so this peer matches nothing; check the spelling and the indentation
            p.yaml:34:7: NetworkPolicy shop/p: spec.ingress[0].from[26]: a text stands where a map belongs, so this peer matches nothing; write the type that the API wants (a text that looks like a number needs quotes)
            p.yaml:8:7: NetworkPolicy shop/p: spec.ingress[0].from[1]: the peer has neither podSelector, namespaceSelector nor ipBlock, so this peer matches nothing; name a selector or a block; to allow everybody leave `from` or `to` out
            p.yaml:10:23: NetworkPolicy shop/p: spec.ingress[0].from[3].ipBlock.cidr: prefix length 33 does not fit 10.0.0.0: at most 32, so this peer matches nothing; write ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/48
            p.yaml:11:23: NetworkPolicy shop/p: spec.ingress[0].from[4].ipBlock.cidr: `10.0.0/8` is not a CIDR, so this peer matches nothing; write ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/48
            p.yaml:12:23: NetworkPolicy shop/p: spec.ingress[0].from[5].ipBlock.cidr: `10.0.0.1` is not a CIDR, so this peer matches nothing; write ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/48
            p.yaml:13:16: NetworkPolicy shop/p: spec.ingress[0].from[6].ipBlock.cidr: `` is not a CIDR, so this peer matches nothing; write ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/48
            p.yaml:14:44: NetworkPolicy shop/p: spec.ingress[0].from[7].ipBlock.except[0]: the exception 11.0.0.0/16 is not a smaller part of 10.0.0.0/8, so this peer matches nothing; make each `except` a longer prefix inside `cidr`
            p.yaml:15:44: NetworkPolicy shop/p: spec.ingress[0].from[8].ipBlock.except[0]: the exception 10.0.0.0/8 is not a smaller part of 10.0.0.0/8, so this peer matches nothing; make each `except` a longer prefix inside `cidr`
            p.yaml:16:44: NetworkPolicy shop/p: spec.ingress[0].from[9].ipBlock.except[0]: the exception fd00::/64 is not a smaller part of 10.0.0.0/8, so this peer matches nothing; make each `except` a longer prefix inside `cidr`
            p.yaml:17:44: NetworkPolicy shop/p: spec.ingress[0].from[10].ipBlock.except[0]: `x` is not a CIDR, so this peer matches nothing; write ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/48
            p.yaml:19:7: NetworkPolicy shop/p: spec.ingress[0].from[12]: an ipBlock cannot stand beside a selector in one peer, so this peer matches nothing; make two peers of it
            p.yaml:21:61: NetworkPolicy shop/p: spec.ingress[0].from[13].podSelector.matchExpressions[0].operator: `Is` is not an operator of a selector, so this peer matches nothing; use In, NotIn, Exists or DoesNotExist
            p.yaml:22:40: NetworkPolicy shop/p: spec.ingress[0].from[14].podSelector.matchExpressions[0].values: the operator In needs at least one value, so this peer matches nothing; list values, or use Exists or DoesNotExist
            p.yaml:23:76: NetworkPolicy shop/p: spec.ingress[0].from[15].podSelector.matchExpressions[0].values: the operator NotIn needs at least one value, so this peer matches nothing; list values, or use Exists or DoesNotExist
            p.yaml:24:77: NetworkPolicy shop/p: spec.ingress[0].from[16].podSelector.matchExpressions[0].values: the operator Exists takes no values, so this peer matches nothing; leave the values out, or use In or NotIn
            p.yaml:25:46: NetworkPolicy shop/p: spec.ingress[0].from[17].podSelector.matchExpressions[0].key: `a b` cannot be the key of a label, so this peer matches nothing; write [PREFIX/]NAME of letters, digits, `-`, `_` and `.`, at most 63 each name
            p.yaml:26:40: NetworkPolicy shop/p: spec.ingress[0].from[18].podSelector.matchExpressions[0].key: `` cannot be the key of a label, so this peer matches nothing; write [PREFIX/]NAME of letters, digits, `-`, `_` and `.`, at most 63 each name
            p.yaml:27:73: NetworkPolicy shop/p: spec.ingress[0].from[19].podSelector.matchExpressions[0].values: `a b` cannot be the value of a label, so this peer matches nothing; write at most 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends
            p.yaml:30:40: NetworkPolicy shop/p: spec.ingress[0].from[22].podSelector.matchLabels.app: `-x` cannot be the value of a label, so this peer matches nothing; write at most 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends"#]],
    );
}

#[test]
fn rules_that_are_not_understood_match_nothing() {
    check(
        "  policyTypes: [Ingress, Egress]
  ingress:
  -
  - text
  - form: [{podSelector: {}}]
  - to: [{podSelector: {}}]
  - from: {podSelector: {}}
  - {ports: [{port: 80}]}
  egress: {}",
        expect![[r#"
            [shop/*] isolates ingress egress
            0 from nobody on any port
            1 from nobody on any port
            2 from nobody on any port
            3 from nobody on any port
            4 from nobody on any port
            5 from anybody on TCP/80-80
            0 to nobody on any port"#]],
        expect![[r#"
            p.yaml:7:4: NetworkPolicy shop/p: spec.ingress[0]: nothing stands where a map belongs, so this rule matches nothing; write the type that the API wants (a text that looks like a number needs quotes)
            p.yaml:8:5: NetworkPolicy shop/p: spec.ingress[1]: a text stands where a map belongs, so this rule matches nothing; write the type that the API wants (a text that looks like a number needs quotes)
            p.yaml:9:11: NetworkPolicy shop/p: spec.ingress[2].form: the field `form` is unknown here (known: from, ports), so this rule matches nothing; check the spelling and the indentation
            p.yaml:10:9: NetworkPolicy shop/p: spec.ingress[3].to: the field `to` is unknown here (known: from, ports), so this rule matches nothing; check the spelling and the indentation
            p.yaml:11:11: NetworkPolicy shop/p: spec.ingress[4].from: a map stands where a list of peers belongs, so this rule matches nothing; write the type that the API wants (a text that looks like a number needs quotes)
            p.yaml:13:11: NetworkPolicy shop/p: spec.egress: a map stands where a list of rules belongs, so this rule matches nothing; write the type that the API wants (a text that looks like a number needs quotes)"#]],
    );
}

#[test]
fn directions_that_are_not_understood_isolate_in_both() {
    check(
        "  policyTypes: [ingress]",
        expect!["[shop/*] isolates ingress egress"],
        expect![
            "p.yaml:5:17: NetworkPolicy shop/p: spec.policyTypes[0]: `ingress` is not a policy type, so the policy isolates its pods in both directions; write Ingress, Egress or both"
        ],
    );
    check(
        "  policyTypes: Ingress",
        expect!["[shop/*] isolates ingress egress"],
        expect![[
            r#"p.yaml:5:16: NetworkPolicy shop/p: spec.policyTypes: invalid type: string "Ingress", expected a sequence, so the policy isolates its pods in both directions; write the type that the API wants (a text that looks like a number needs quotes)"#
        ]],
    );
    check(
        "  egres: [{}]",
        expect!["[shop/*] isolates ingress egress"],
        expect![
            "p.yaml:5:10: NetworkPolicy shop/p: spec.egres: the field `egres` is unknown here (known: podSelector, policyTypes, ingress, egress), so the policy isolates its pods in both directions; check the spelling and the indentation"
        ],
    );
    check(
        "  policyTypes: [Ingress]\n  egres: [{}]",
        expect!["[shop/*] isolates ingress"],
        expect![
            "p.yaml:6:10: NetworkPolicy shop/p: spec.egres: the field `egres` is unknown and ignored; check the spelling and the indentation, or remove it"
        ],
    );
    check(
        "  egress: all",
        expect![[r#"
        [shop/*] isolates ingress egress
        0 to nobody on any port"#]],
        expect![
            "p.yaml:5:11: NetworkPolicy shop/p: spec.egress: a text stands where a list of rules belongs, so this rule matches nothing; write the type that the API wants (a text that looks like a number needs quotes)"
        ],
    );
}

#[test]
fn a_subject_that_is_not_understood_isolates_the_namespace_and_allows_nothing() {
    check(
        "  podSelector: {app: web}\n  ingress: [{}]",
        expect!["[shop/*] isolates ingress"],
        expect![
            "p.yaml:5:22: NetworkPolicy shop/p: spec.podSelector.app: the field `app` is unknown here (known: matchLabels, matchExpressions), so nobody can tell whom the policy is about: every pod of namespace `shop` is isolated by it and its rules allow nothing; check the spelling and the indentation"
        ],
    );
    check(
        "  podSelector: {matchExpressions: [{key: app, operator: like, values: [w]}]}\n  ingress: [{}]\n  egress: [{}]",
        expect!["[shop/*] isolates ingress egress"],
        expect![
            "p.yaml:5:57: NetworkPolicy shop/p: spec.podSelector.matchExpressions[0].operator: `like` is not an operator of a selector, so nobody can tell whom the policy is about: every pod of namespace `shop` is isolated by it and its rules allow nothing; use In, NotIn, Exists or DoesNotExist"
        ],
    );
    check(
        "  podSelector: web",
        expect!["[shop/*] isolates ingress"],
        expect![
            "p.yaml:5:16: NetworkPolicy shop/p: spec.podSelector: a text stands where a map belongs, so nobody can tell whom the policy is about: every pod of namespace `shop` is isolated by it and its rules allow nothing; write the type that the API wants (a text that looks like a number needs quotes)"
        ],
    );
    check(
        "  - podSelector: {}",
        expect!["[shop/*] isolates ingress egress"],
        expect![
            "p.yaml:5:3: NetworkPolicy shop/p: spec: a list stands where a map belongs, so nobody can tell whom the policy is about: every pod of namespace `shop` is isolated by it and its rules allow nothing; write the type that the API wants (a text that looks like a number needs quotes)"
        ],
    );
}

#[test]
fn a_policy_is_in_force_whatever_its_name_and_labels_are() {
    let (network, problems) = translated(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: Deny_All, labels: {version: 1.0}, annotations: [], generation: many}
spec: {podSelector: {}}
status: {}
extra: 1
",
    );
    expect![[r#"
        p.yaml:3:18: NetworkPolicy default/Deny_All: metadata.name: `Deny_All` is not a valid name; use small letters, digits, `-` and `.`, a letter or digit at both ends
        p.yaml:6:8: NetworkPolicy default/Deny_All: extra: the field `extra` is unknown and ignored; check the spelling and the indentation, or remove it"#]].assert_eq(&problems);
    expect!["[default/*] isolates ingress"]
        .assert_eq(&show(&network, network.policies.values().next().unwrap()));
}

#[test]
fn the_generation_is_kept() {
    let (network, _) = translated(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, generation: 7}\n",
    );
    assert_eq!(network.policies.values().next().unwrap().generation, 7);
}

#[test]
fn a_policy_of_many_rules() {
    let rules: String = (0..5_000)
        .map(|n| {
            format!(
                "  - {{from: [{{podSelector: {{matchLabels: {{n: '{n}'}}}}}}], ports: [{{port: {}}}]}}\n",
                n % 9 + 1
            )
        })
        .collect();
    let text = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\nspec:\n  ingress:\n{rules}"
    );
    let (network, problems) = translated(&text);
    assert_eq!(problems, "");
    assert_eq!(network.policies.values().next().unwrap().rules.len(), 5_000);
}

#[test]
fn a_policy_or_its_namespace_asks_for_an_audit_log() {
    let audited = |annotation: &str, label: &str| {
        let (network, problems) = translated(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{label}}}}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: shop}}\nspec: {{containers: [{{name: c, image: i}}]}}\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: p, namespace: shop, annotations: {{other: [1], {annotation}}}}}\n"
        ));
        assert_eq!(problems, "");
        let node = network.pods.values().next().unwrap().node.clone().unwrap();
        network::NodeView::of(&network, &node).policies.values().next().unwrap().audit
    };
    let (yes, no) = ("ferrule.io/audit: 'true'", "ferrule.io/audit: 'false'");
    assert_eq!(
        [audited("", ""), audited(no, no), audited(yes, no), audited(no, yes)],
        [false, false, true, true]
    );
}
