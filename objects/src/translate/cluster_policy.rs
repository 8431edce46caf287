//! ClusterNetworkPolicy objects into policies. A rule that is not understood fails closed, as the specification says: "For
//! "Accept" rules, "fail closed" means: "treat the rule as matching no traffic". For "Deny" and "Pass" rules, "fail closed"
//! means: "treat the rule as a 'Deny all' rule"." The one exception are domain names, whose rules match nothing.

use std::collections::BTreeSet;

use network::{
    Action, Cidr, Direction, Few, IpBlock, Isolation, LabelSelector, NamespaceSelector, Peers, Policy,
    PolicyId, PolicyKind, PortMatch, PortRange, Ports, Protocol, Rule, Selector, Tier,
};

use super::policy::Translated;
use super::selector::selector;
use crate::cluster_policy::{
    self as api, ClusterNetworkPolicy, NamespacedPod, Part, Peer, Port, PortsOf, ProtocolMatch, Unknown,
    UnknownField,
};
use crate::lenient::join;
use crate::problem::{Fault, ObjectRef, RuleFault};
use crate::set::{Origin, Report};

type Failed = (String, RuleFault);

/// Translates one ClusterNetworkPolicy.
pub fn cluster_network_policy(object: &ClusterNetworkPolicy, origin: Option<&Origin>) -> Translated {
    let name = object.metadata.name.clone().unwrap_or_default();
    let report = Report::new(ObjectRef::cluster("ClusterNetworkPolicy", &name), origin);
    let mut translator = Translator { report, selectors: Vec::new(), in_doubt: false };
    let policy = translator.policy(object, name);
    Translated { policy, selectors: translator.selectors, problems: translator.report.problems }
}

struct Translator<'a> {
    report: Report<'a>,
    selectors: Vec<Selector>,
    /// Something that all rules depend on is not understood.
    in_doubt: bool,
}

impl Translator<'_> {
    fn policy(&mut self, object: &ClusterNetworkPolicy, name: String) -> Policy {
        let spec = &object.spec;
        let tier = match &spec.tier {
            Part::Known(api::Tier::Admin) => Tier::Admin,
            Part::Known(api::Tier::Baseline) => Tier::Baseline,
            Part::Unknown(unknown) => {
                self.doubt("spec.tier", unknown, "it is taken for one of the Admin tier");
                Tier::Admin
            }
        };
        let priority = match &spec.priority {
            Part::Known(priority) => priority.0,
            Part::Unknown(unknown) => {
                self.doubt("spec.priority", unknown, "its priority is taken for 0");
                0
            }
        };
        let subject = self.subject(&spec.subject);
        for (name, kind) in &spec.unknown {
            if *kind == UnknownField::Other {
                let known = "tier, priority, subject, ingress, egress".to_owned();
                let reason = RuleFault::Field { name: name.clone(), known };
                let unknown = Unknown { field: String::new(), reason, may_deny: true };
                self.doubt(&format!("spec.{name}"), &unknown, "the policy may mean anything");
            }
        }
        let mut rules = self.rules(Direction::Ingress, &spec.ingress);
        rules.extend(self.rules(Direction::Egress, &spec.egress));
        rules.extend(self.misspelt(spec));
        let id = subject.id();
        self.selectors.push(subject);
        Policy {
            id: PolicyId { kind: PolicyKind::ClusterNetworkPolicy, namespace: String::new(), name },
            generation: object.metadata.generation.and_then(|g| u64::try_from(g).ok()).unwrap_or(0),
            tier,
            priority,
            subject: id,
            isolates: Isolation::default(),
            audit: object.metadata.annotations.as_ref().is_some_and(network::policy::asks_for_audit),
            rules,
        }
    }

    fn doubt(&mut self, field: &str, unknown: &Unknown, taken: &'static str) {
        self.in_doubt = true;
        let fault = Fault::PolicyInDoubt { reason: unknown.reason.clone(), taken };
        self.report.field(&join(field, &unknown.field), fault);
    }

    fn subject(&mut self, subject: &Part<api::Subject>) -> Selector {
        let outcome = match subject {
            Part::Known(known) => pods_of(known.namespaces.as_ref(), known.pods.as_ref()),
            Part::Unknown(unknown) => Err((unknown.field.clone(), unknown.reason.clone())),
        };
        outcome.unwrap_or_else(|(field, reason)| {
            let unknown = Unknown { field, reason, may_deny: true };
            self.doubt("spec.subject", &unknown, "it is taken to be about every pod");
            everybody()
        })
    }

    fn rules(&mut self, direction: Direction, rules: &[Part<api::Rule>]) -> Vec<Rule> {
        let (list, peers) = match direction {
            Direction::Ingress => ("ingress", "from"),
            Direction::Egress => ("egress", "to"),
        };
        let rules = rules.iter().enumerate().map(|(index, rule)| {
            let path = format!("spec.{list}[{index}]");
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let (outcome, denies) = match rule {
                Part::Unknown(unknown) => {
                    (Err((unknown.field.clone(), unknown.reason.clone())), unknown.may_deny)
                }
                Part::Known(rule) => {
                    (self.rule(direction, index, rule, peers), rule.action != api::Action::Accept)
                }
            };
            if let Part::Known(rule) = rule {
                self.remarks(rule, &path, peers);
            }
            match outcome {
                Ok(rule) => rule,
                Err((below, reason)) => {
                    self.report.field(&join(&path, &below), Fault::RuleFailsClosed { reason, denies });
                    closed(direction, index, denies)
                }
            }
        });
        rules.collect()
    }

    /// A list under a name that is not known may be a list of rules: it counts as a last rule of both directions.
    fn misspelt(&mut self, spec: &api::ClusterNetworkPolicySpec) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (name, kind) in &spec.unknown {
            let UnknownField::List { may_deny: denies } = *kind else { continue };
            let reason = RuleFault::Field {
                name: name.clone(),
                known: "tier, priority, subject, ingress, egress".into(),
            };
            self.report.field(&format!("spec.{name}"), Fault::RuleFailsClosed { reason, denies });
            if rules.is_empty() && denies {
                for (direction, list) in
                    [(Direction::Ingress, &spec.ingress), (Direction::Egress, &spec.egress)]
                {
                    rules.push(closed(direction, u32::try_from(list.len()).unwrap_or(u32::MAX), true));
                }
            }
        }
        rules
    }

    /// What is worth saying of a rule that is understood.
    fn remarks(&mut self, rule: &api::Rule, path: &str, peers: &str) {
        let characters = rule.name.as_ref().map_or(0, |name| name.chars().count());
        if characters > MOST_CHARACTERS {
            let fault = Fault::LongName { characters, most: MOST_CHARACTERS };
            self.report.field(&format!("{path}.name"), fault);
        }
        if let Some(index) = rule.peers.iter().position(|peer| peer.domain_names.is_some()) {
            self.report.field(&format!("{path}.{peers}[{index}].domainNames"), Fault::DomainNames);
        }
    }

    fn rule(
        &mut self,
        direction: Direction,
        index: u32,
        rule: &api::Rule,
        list: &str,
    ) -> Result<Rule, Failed> {
        let mut selectors = Vec::new();
        let mut peers = peers(&rule.peers, list, &mut selectors)?;
        let ports = match &rule.protocols {
            None => Ports::Any,
            Some(protocols) => {
                ports(protocols).map_err(|(below, reason)| (join("protocols", &below), reason))?
            }
        };
        let mut action = match rule.action {
            api::Action::Accept => Action::Accept,
            api::Action::Deny => Action::Deny,
            api::Action::Pass => Action::Pass,
        };
        let by_name = rule.peers.iter().any(|peer| peer.domain_names.is_some());
        // Where and when a policy in doubt is asked is not certain, so it must not let anything pass that others deny.
        if by_name || (self.in_doubt && action == Action::Accept) {
            peers = nobody();
        } else if self.in_doubt {
            action = Action::Deny;
        }
        if peers != nobody() {
            self.selectors.append(&mut selectors);
        }
        Ok(Rule { index, direction, action, peers, ports })
    }
}

/// `maxLength` of a rule's name.
const MOST_CHARACTERS: usize = 100;

fn nobody() -> Peers {
    Peers::Some { sets: Few::new(), blocks: BTreeSet::new() }
}

fn everybody() -> Selector {
    Selector::Pods {
        namespaces: NamespaceSelector::Labels(LabelSelector::everything()),
        pods: LabelSelector::everything(),
        port: None,
    }
}

/// What stands for a rule that is not understood.
fn closed(direction: Direction, index: u32, denies: bool) -> Rule {
    let (action, peers) = if denies { (Action::Deny, Peers::Any) } else { (Action::Accept, nobody()) };
    Rule { index, direction, action, peers, ports: Ports::Any }
}

/// The pods of a subject or peer, whose shape was checked: one of the two is set.
fn pods_of(
    namespaces: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
    pods: Option<&NamespacedPod>,
) -> Result<Selector, Failed> {
    let inside = |name: &'static str| move |(below, reason): Failed| (join(name, &below), reason);
    let (namespaces, pods) = match (namespaces, pods) {
        (Some(namespaces), _) => {
            (selector(namespaces).map_err(inside("namespaces"))?, LabelSelector::everything())
        }
        (None, Some(pods)) => {
            let namespaces = match &pods.namespace_selector {
                None => LabelSelector::everything(),
                Some(api) => selector(api).map_err(inside("pods.namespaceSelector"))?,
            };
            let Some(api) = &pods.pod_selector else {
                return Err(("pods".to_owned(), RuleFault::Missing("podSelector")));
            };
            (namespaces, selector(api).map_err(inside("pods.podSelector"))?)
        }
        (None, None) => {
            let known = "namespaces, pods".to_owned();
            return Err((String::new(), RuleFault::NotOne { found: 0, known }));
        }
    };
    Ok(Selector::Pods { namespaces: NamespaceSelector::Labels(namespaces), pods, port: None })
}

/// One peer that is not understood makes the whole rule so.
fn peers(api: &[Peer], list: &str, selectors: &mut Vec<Selector>) -> Result<Peers, Failed> {
    let (mut sets, mut blocks) = (BTreeSet::new(), BTreeSet::new());
    for (index, peer) in api.iter().enumerate() {
        let at = |(below, reason): Failed| (join(&format!("{list}[{index}]"), &below), reason);
        if let Some(networks) = &peer.networks {
            for (index, text) in networks.iter().enumerate() {
                let block = network(text).map_err(|reason| at((format!("networks[{index}]"), reason)))?;
                blocks.insert(block);
            }
        } else if peer.domain_names.is_none() {
            let selected = match &peer.nodes {
                Some(nodes) => selector(nodes)
                    .map(Selector::Nodes)
                    .map_err(|(below, reason)| (join("nodes", &below), reason)),
                None => pods_of(peer.namespaces.as_ref(), peer.pods.as_ref()),
            };
            let selected = selected.map_err(at)?;
            sets.insert(selected.id());
            selectors.push(selected);
        }
    }
    Ok(Peers::Some { sets: sets.into(), blocks })
}

/// A CIDR as `isCIDR` of CEL takes it: not IPv4 written as IPv6.
fn network(text: &str) -> Result<IpBlock, RuleFault> {
    let cidr: Cidr = text.parse().map_err(RuleFault::Cidr)?;
    match cidr.address() {
        std::net::IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(RuleFault::MappedCidr(cidr)),
        _ => Ok(IpBlock::whole(cidr)),
    }
}

fn ports(api: &[ProtocolMatch]) -> Result<Ports, Failed> {
    let mut matches = BTreeSet::new();
    for (index, entry) in api.iter().enumerate() {
        let of = |protocol, name: &str, ports: &PortsOf| {
            let range = ports.destination_port.as_ref().ok_or(("", RuleFault::Missing("destinationPort")));
            let range = range.and_then(|port| port_range(protocol, port));
            range.map(PortMatch::Range).map_err(|(below, reason)| {
                (join(&join(&format!("[{index}].{name}"), "destinationPort"), below), reason)
            })
        };
        match (&entry.tcp, &entry.udp, &entry.sctp, &entry.destination_named_port) {
            (Some(ports), ..) => matches.extend([of(Protocol::Tcp, "tcp", ports)?]),
            (_, Some(ports), ..) => matches.extend([of(Protocol::Udp, "udp", ports)?]),
            (_, _, Some(ports), _) => matches.extend([of(Protocol::Sctp, "sctp", ports)?]),
            // A name may stand for a port of any protocol.
            (.., Some(name)) if !name.is_empty() => matches
                .extend(Protocol::ALL.map(|protocol| PortMatch::Named { protocol, name: name.clone() })),
            _ => {
                let known = "tcp, udp, sctp, destinationNamedPort".to_owned();
                return Err((format!("[{index}]"), RuleFault::NotOne { found: 0, known }));
            }
        }
    }
    Ok(Ports::Some(matches))
}

fn port_range(protocol: Protocol, port: &Port) -> Result<PortRange, (&'static str, RuleFault)> {
    let valid = |field, number: i64| {
        let valid = u16::try_from(number).ok().filter(|number| *number > 0);
        valid.ok_or((field, RuleFault::PortNumber(number)))
    };
    match (port.number, port.range) {
        (Some(number), _) => Ok(PortRange::single(protocol, valid("number", number)?)),
        (None, Some(range)) => {
            let (first, last) = (valid("range.start", range.start)?, valid("range.end", range.end)?);
            if first >= last {
                return Err(("range", RuleFault::EmptyRange { first: range.start, last: range.end }));
            }
            Ok(PortRange { protocol, first, last })
        }
        (None, None) => Err(("", RuleFault::NotOne { found: 0, known: "number, range".to_owned() })),
    }
}
