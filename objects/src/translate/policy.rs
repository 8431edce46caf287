//! NetworkPolicy objects into policies. What is not understood matches nothing; it never disappears, and it never widens.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use network::{
    Action, Cidr, CidrError, Direction, IpBlock, Isolation, LabelSelector, NamespaceSelector, Peers, Policy,
    PolicyId, PolicyKind, PortMatch, PortRange, Ports, Protocol, Rule, Selector, Tier,
};

use crate::lenient::join;
use crate::problem::{Fault, ObjectRef, Problem, RuleFault, RulePart};
use crate::set::{Origin, Report};
use crate::syntax::is_port_name;
use crate::translate::pod::protocol;
use crate::translate::selector::selector;

/// A policy, the selectors that its set ids stand for, and what was not understood.
#[derive(Clone, Debug)]
pub struct Translated {
    /// The policy.
    pub policy: Policy,
    /// To be interned in the network.
    pub selectors: Vec<Selector>,
    /// What was not understood.
    pub problems: Vec<Problem>,
}

/// Translates one NetworkPolicy; it need not be defaulted.
pub fn network_policy(object: &NetworkPolicy, origin: Option<&Origin>) -> Translated {
    let namespace = object.metadata.namespace.clone().unwrap_or_else(|| "default".into());
    let name = object.metadata.name.clone().unwrap_or_default();
    let report = Report::new(ObjectRef::namespaced("NetworkPolicy", &namespace, &name), origin);
    let mut translator = Translator { namespace, report, selectors: Vec::new() };
    let policy = translator.policy(object, name);
    Translated { policy, selectors: translator.selectors, problems: translator.report.problems }
}

struct Translator<'a> {
    namespace: String,
    report: Report<'a>,
    selectors: Vec<Selector>,
}

impl Translator<'_> {
    fn policy(&mut self, object: &NetworkPolicy, name: String) -> Policy {
        let spec = object.spec.clone().unwrap_or_default();
        let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        let isolates = self.isolation(spec.policy_types.as_deref().unwrap_or_default(), has_egress);
        let (subject, understood) = match selector(&spec.pod_selector.clone().unwrap_or_default()) {
            Ok(subject) => (subject, true),
            Err((below, reason)) => {
                let namespace = self.namespace.clone();
                let fault = Fault::SubjectNotUnderstood { reason, namespace };
                self.report.field(&join("spec.podSelector", &below), fault);
                (LabelSelector::everything(), false)
            }
        };
        let subject = Selector::pods_in(&self.namespace, subject);
        let mut rules = Vec::new();
        // The rules of a subject that is not understood would be allowed to the whole namespace. Rules of a direction
        // that the policy is not about have no effect.
        if understood && isolates.ingress {
            for (index, rule) in spec.ingress.iter().flatten().enumerate() {
                let parts = (rule.from.as_deref(), rule.ports.as_deref());
                rules.push(self.rule(Direction::Ingress, index, parts));
            }
        }
        if understood && isolates.egress {
            for (index, rule) in spec.egress.iter().flatten().enumerate() {
                let parts = (rule.to.as_deref(), rule.ports.as_deref());
                rules.push(self.rule(Direction::Egress, index, parts));
            }
        }
        let id = subject.id();
        self.selectors.push(subject);
        Policy {
            id: PolicyId { kind: PolicyKind::NetworkPolicy, namespace: self.namespace.clone(), name },
            generation: object.metadata.generation.and_then(|g| u64::try_from(g).ok()).unwrap_or(0),
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject: id,
            isolates,
            audit: object.metadata.annotations.as_ref().is_some_and(network::policy::asks_for_audit),
            rules,
        }
    }

    fn isolation(&mut self, types: &[String], has_egress: bool) -> Isolation {
        if types.is_empty() {
            return Isolation { ingress: true, egress: has_egress };
        }
        let mut isolates = Isolation::default();
        for (index, direction) in types.iter().enumerate() {
            match direction.as_str() {
                "Ingress" => isolates.ingress = true,
                "Egress" => isolates.egress = true,
                other => {
                    let reason = RuleFault::PolicyType(other.to_owned());
                    let field = format!("spec.policyTypes[{index}]");
                    self.report.field(&field, Fault::DirectionsNotUnderstood { reason });
                    isolates = Isolation { ingress: true, egress: true };
                }
            }
        }
        isolates
    }

    fn rule(
        &mut self,
        direction: Direction,
        index: usize,
        (peers, ports): (Option<&[NetworkPolicyPeer]>, Option<&[NetworkPolicyPort]>),
    ) -> Rule {
        let (list, field) = match direction {
            Direction::Ingress => ("ingress", "from"),
            Direction::Egress => ("egress", "to"),
        };
        let path = format!("spec.{list}[{index}]");
        let peers = match peers {
            None | Some([]) => Peers::Any,
            Some(peers) => self.peers(peers, &format!("{path}.{field}")),
        };
        let ports = match ports {
            None | Some([]) => Ports::Any,
            Some(ports) => self.ports(ports, &format!("{path}.ports")),
        };
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        Rule { index, direction, action: Action::Accept, peers, ports }
    }

    fn peers(&mut self, peers: &[NetworkPolicyPeer], path: &str) -> Peers {
        let (mut sets, mut blocks) = (BTreeSet::new(), BTreeSet::new());
        for (index, peer) in peers.iter().enumerate() {
            match self.peer(peer) {
                Ok(Peer::Pods(selector)) => {
                    sets.insert(selector.id());
                    self.selectors.push(selector);
                }
                Ok(Peer::Block(block)) => {
                    blocks.insert(block);
                }
                Err((below, reason)) => {
                    let fault = Fault::NotUnderstood { reason, part: RulePart::Peer };
                    self.report.field(&join(&format!("{path}[{index}]"), &below), fault);
                }
            }
        }
        Peers::Some { sets: sets.into(), blocks }
    }

    fn peer(&self, peer: &NetworkPolicyPeer) -> Result<Peer, (String, RuleFault)> {
        let api = |field: &'static str, api: &_| {
            selector(api).map_err(|(below, reason)| (join(field, &below), reason))
        };
        match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
            (None, None, None) => Err((String::new(), RuleFault::EmptyPeer)),
            (Some(block), None, None) => {
                ip_block(block).map(Peer::Block).map_err(|(below, reason)| (join("ipBlock", &below), reason))
            }
            (Some(_), _, _) => Err((String::new(), RuleFault::MixedPeer)),
            (None, None, Some(pods)) => {
                Ok(Peer::Pods(Selector::pods_in(&self.namespace, api("podSelector", pods)?)))
            }
            (None, Some(namespaces), pods) => Ok(Peer::Pods(Selector::Pods {
                namespaces: NamespaceSelector::Labels(api("namespaceSelector", namespaces)?),
                pods: match pods {
                    Some(pods) => api("podSelector", pods)?,
                    None => LabelSelector::everything(),
                },
                port: None,
            })),
        }
    }

    fn ports(&mut self, ports: &[NetworkPolicyPort], path: &str) -> Ports {
        let mut matches = BTreeSet::new();
        for (index, entry) in ports.iter().enumerate() {
            match port(entry) {
                Ok(port) => {
                    matches.insert(port);
                }
                Err((below, reason)) => {
                    let fault = Fault::NotUnderstood { reason, part: RulePart::Port };
                    self.report.field(&format!("{path}[{index}].{below}"), fault);
                }
            }
        }
        Ports::Some(matches)
    }
}

enum Peer {
    Pods(Selector),
    Block(IpBlock),
}

fn ip_block(block: &IPBlock) -> Result<IpBlock, (String, RuleFault)> {
    let whole = cidr(&block.cidr).map_err(|error| ("cidr".to_owned(), RuleFault::Cidr(error)))?;
    let mut except = BTreeSet::new();
    for (index, text) in block.except.iter().flatten().enumerate() {
        let at = |fault| (format!("except[{index}]"), fault);
        let hole = cidr(text).map_err(|error| at(RuleFault::Cidr(error)))?;
        // Upstream wants a strict subset (`ValidateIPBlock`).
        if !whole.covers(&hole) || hole.length() <= whole.length() {
            return Err(at(RuleFault::Except { except: hole, cidr: whole }));
        }
        except.insert(hole);
    }
    Ok(IpBlock { cidr: whole, except })
}

/// An IPv4 prefix written as IPv4-mapped IPv6 (`::ffff:10.0.0.0/104`) means the IPv4 prefix, as in Go's `net.IPNet`.
fn cidr(text: &str) -> Result<Cidr, CidrError> {
    let cidr: Cidr = text.parse()?;
    match cidr.address() {
        IpAddr::V6(v6) if cidr.length() >= 96 => match v6.to_ipv4_mapped() {
            Some(v4) => Cidr::new(v4.into(), cidr.length() - 96),
            None => Ok(cidr),
        },
        _ => Ok(cidr),
    }
}

fn port(entry: &NetworkPolicyPort) -> Result<PortMatch, (&'static str, RuleFault)> {
    let protocol = match entry.protocol.as_deref() {
        None => Protocol::Tcp,
        Some(text) => protocol(text).ok_or_else(|| ("protocol", RuleFault::Protocol(text.to_owned())))?,
    };
    let number = |field, number: i32| {
        let valid = u16::try_from(number).ok().filter(|number| *number > 0);
        valid.ok_or((field, RuleFault::PortNumber(i64::from(number))))
    };
    match (&entry.port, entry.end_port) {
        (None, None) => Ok(PortMatch::Range(PortRange::all(protocol))),
        (Some(IntOrString::Int(first)), None) => {
            Ok(PortMatch::Range(PortRange::single(protocol, number("port", *first)?)))
        }
        (Some(IntOrString::Int(first)), Some(last)) => {
            let (first, last) = (number("port", *first)?, number("endPort", last)?);
            if last < first {
                let (first, last) = (i64::from(first), i64::from(last));
                return Err(("endPort", RuleFault::Reversed { first, last }));
            }
            Ok(PortMatch::Range(PortRange { protocol, first, last }))
        }
        (Some(IntOrString::String(name)), None) if is_port_name(name) => {
            Ok(PortMatch::Named { protocol, name: name.clone() })
        }
        (Some(IntOrString::String(name)), None) => Err(("port", RuleFault::PortName(name.clone()))),
        (None | Some(IntOrString::String(_)), Some(_)) => Err(("endPort", RuleFault::EndPortAlone)),
    }
}
