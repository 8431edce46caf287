//! Between the protobuf of the agent stream and the types of `network`: the only module that knows both. Encoding is
//! canonical (equal values give equal bytes); decoding refuses what encoding cannot have written, and names where.

mod service;

use std::collections::BTreeSet;
use std::net::IpAddr;

use network::{
    Action, AddressSet, Cidr, Direction, IpBlock, Isolation, LocalPod, NamespacedName, Node, NodeName,
    PeerMatch, PolicyId, PolicyKind, PortRange, Protocol, SetId, Tier, ViewPolicy, ViewRule,
};

use crate::generated::ferrule::v1alpha1 as wire;
use crate::stream::{Binding, Rejection, Resource, ResourceId};
use crate::watermark::Watermark;

pub use service::encode_service;

/// Something on the wire is not what the contract says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{resource}: field {field}: {reason}")]
pub struct Malformed {
    /// Which resource or message.
    pub resource: String,
    /// Which field, with indexes: `rules[3].blocks[0].cidr`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A fault on its way up: every level puts its own field in front.
#[derive(Debug)]
struct Fault {
    field: String,
    reason: String,
}

impl Fault {
    fn new(field: &str, reason: impl Into<String>) -> Self {
        Self { field: field.to_owned(), reason: reason.into() }
    }

    fn under(self, parent: &str) -> Self {
        let field =
            if self.field.is_empty() { parent.to_owned() } else { format!("{parent}.{}", self.field) };
        Self { field, ..self }
    }

    fn of(self, resource: impl Into<String>) -> Malformed {
        Malformed { resource: resource.into(), field: self.field, reason: self.reason }
    }
}

// ---------------------------------------------------------------------------------------------------------- identity

/// The wire form of an id.
pub fn encode_id(id: &ResourceId) -> wire::ResourceId {
    let (kind, name) = match id {
        ResourceId::Node(name) => (wire::ResourceKind::Node, name.to_string()),
        ResourceId::AddressSet(set) => (wire::ResourceKind::AddressSet, set.to_string()),
        ResourceId::Policy(id) => {
            let kind = match id.kind {
                PolicyKind::NetworkPolicy => "NetworkPolicy",
                PolicyKind::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            };
            (wire::ResourceKind::Policy, format!("{kind}/{}/{}", id.namespace, id.name))
        }
        ResourceId::LocalPod(key) => (wire::ResourceKind::LocalPod, key.to_string()),
        ResourceId::Service(key) => (wire::ResourceKind::Service, key.to_string()),
    };
    wire::ResourceId { kind: kind.into(), name }
}

/// Whether resources of this kind are known here; those of another kind come from a peer that is newer.
pub fn knows_kind(id: &wire::ResourceId) -> bool {
    wire::ResourceKind::try_from(id.kind).is_ok()
}

/// An id from the wire.
pub fn decode_id(id: &wire::ResourceId) -> Result<ResourceId, Malformed> {
    let name = id.name.as_str();
    let read = || match wire::ResourceKind::try_from(id.kind) {
        Ok(wire::ResourceKind::Node) if name.is_empty() => Err(Fault::new("name", "is empty")),
        Ok(wire::ResourceKind::Node) => Ok(ResourceId::Node(NodeName::new(name))),
        Ok(wire::ResourceKind::AddressSet) => {
            // Digits of either case read alike, and one set must not have two ids.
            let id: SetId =
                name.parse().map_err(|e: network::selector::SetIdError| Fault::new("name", e.to_string()))?;
            if id.to_string() == name {
                Ok(ResourceId::AddressSet(id))
            } else {
                Err(Fault::new("name", "has capital digits"))
            }
        }
        Ok(wire::ResourceKind::Policy) => policy_name(name).map(ResourceId::Policy),
        Ok(wire::ResourceKind::LocalPod) => namespaced_name(name).map(ResourceId::LocalPod),
        Ok(wire::ResourceKind::Service) => namespaced_name(name).map(ResourceId::Service),
        Ok(wire::ResourceKind::Unspecified) | Err(_) => {
            Err(Fault::new("kind", format!("{} is no kind of resource known here", id.kind)))
        }
    };
    read().map_err(|fault| fault.under("id").of(format!("resource `{name}`")))
}

fn namespaced_name(name: &str) -> Result<NamespacedName, Fault> {
    name.parse().map_err(|error: network::name::NameError| Fault::new("name", error.to_string()))
}

fn policy_name(name: &str) -> Result<PolicyId, Fault> {
    let malformed = || Fault::new("name", format!("`{name}` is not KIND/NAMESPACE/NAME of a policy"));
    let mut parts = name.split('/');
    let (Some(kind), Some(namespace), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    let kind = match kind {
        "NetworkPolicy" => PolicyKind::NetworkPolicy,
        "ClusterNetworkPolicy" => PolicyKind::ClusterNetworkPolicy,
        _ => return Err(malformed()),
    };
    if name.is_empty() {
        return Err(malformed());
    }
    Ok(PolicyId { kind, namespace: namespace.into(), name: name.into() })
}

// ---------------------------------------------------------------------------------------------------------- resources

/// The wire form of a resource's content.
pub fn encode_body(resource: &Resource) -> wire::resource::Body {
    match resource {
        Resource::Node(node) => encode_node(node),
        Resource::AddressSet(set) => encode_set(set),
        Resource::Policy(policy) => encode_policy(policy),
        Resource::LocalPod(pod) => encode_pod(pod),
        Resource::Service(service) => encode_service(service),
    }
}

/// The wire form of a node.
pub fn encode_node(node: &Node) -> wire::resource::Body {
    wire::resource::Body::Node(wire::Node {
        name: node.name.to_string(),
        labels: node.labels.clone(),
        addresses: node.addresses.iter().copied().map(encode_address).collect(),
        pod_cidrs: node.pod_cidrs.iter().map(encode_prefix).collect(),
    })
}

/// The wire form of an address set.
pub fn encode_set(set: &AddressSet) -> wire::resource::Body {
    encode_members(set.members.iter().copied())
}

/// The wire form of the members of an address set, which come in their order.
pub fn encode_members(members: impl IntoIterator<Item = IpAddr>) -> wire::resource::Body {
    let members = members.into_iter().map(encode_address).collect();
    wire::resource::Body::AddressSet(wire::AddressSet { members })
}

/// The wire form of a local pod.
pub fn encode_pod(pod: &LocalPod) -> wire::resource::Body {
    wire::resource::Body::LocalPod(wire::LocalPod {
        namespace: pod.key.namespace().to_owned(),
        name: pod.key.name().to_owned(),
        uid: pod.uid.clone(),
        addresses: pod.addresses.iter().copied().map(encode_address).collect(),
        member_of: pod.member_of.iter().copied().map(encode_set_id).collect(),
    })
}

/// The wire form of a policy.
pub fn encode_policy(policy: &ViewPolicy) -> wire::resource::Body {
    let kind = match policy.id.kind {
        PolicyKind::NetworkPolicy => wire::PolicyKind::NetworkPolicy,
        PolicyKind::ClusterNetworkPolicy => wire::PolicyKind::ClusterNetworkPolicy,
    };
    let tier = match policy.tier {
        Tier::Admin => wire::Tier::Admin,
        Tier::NetworkPolicy => wire::Tier::NetworkPolicy,
        Tier::Baseline => wire::Tier::Baseline,
    };
    wire::resource::Body::Policy(wire::Policy {
        kind: kind.into(),
        namespace: policy.id.namespace.clone(),
        name: policy.id.name.clone(),
        generation: policy.generation,
        tier: tier.into(),
        priority: policy.priority,
        subject: encode_set_id(policy.subject),
        isolates_ingress: policy.isolates.ingress,
        isolates_egress: policy.isolates.egress,
        audit: policy.audit,
        rules: policy.rules.iter().map(encode_rule).collect(),
    })
}

fn encode_rule(rule: &ViewRule) -> wire::Rule {
    let direction = match rule.direction {
        Direction::Ingress => wire::Direction::Ingress,
        Direction::Egress => wire::Direction::Egress,
    };
    let action = match rule.action {
        Action::Accept => wire::Action::Accept,
        Action::Deny => wire::Action::Deny,
        Action::Pass => wire::Action::Pass,
    };
    let (sets, blocks) = match &rule.peers {
        PeerMatch::Any => (Vec::new(), Vec::new()),
        PeerMatch::Some { sets, blocks } => {
            (sets.iter().copied().map(encode_set_id).collect(), blocks.iter().map(encode_block).collect())
        }
    };
    wire::Rule {
        index: rule.index,
        direction: direction.into(),
        action: action.into(),
        subject: encode_set_id(rule.subject),
        any_peer: rule.peers == PeerMatch::Any,
        sets,
        blocks,
        any_port: rule.ports.is_none(),
        ports: rule.ports.iter().flatten().map(encode_ports).collect(),
    }
}

fn encode_block(block: &IpBlock) -> wire::IpBlock {
    wire::IpBlock {
        cidr: Some(encode_prefix(&block.cidr)),
        except: block.except.iter().map(encode_prefix).collect(),
    }
}

fn encode_ports(range: &PortRange) -> wire::PortRange {
    wire::PortRange {
        protocol: range.protocol.number().into(),
        first: range.first.into(),
        last: range.last.into(),
    }
}

fn encode_prefix(cidr: &Cidr) -> wire::Prefix {
    wire::Prefix { address: encode_address(cidr.address()), length: cidr.length().into() }
}

pub(crate) fn encode_address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn encode_set_id(id: SetId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

/// A resource from the wire. Its id and its content must name the same thing.
pub fn decode_resource(resource: &wire::Resource) -> Result<Resource, Malformed> {
    let Some(id) = &resource.id else {
        return Err(Fault::new("id", "is missing").of("a resource without id"));
    };
    let id = decode_id(id)?;
    let read = || {
        let body = resource.body.as_ref().ok_or_else(|| Fault::new("body", "is missing"))?;
        let (field, read) = match (&id, body) {
            (ResourceId::Node(_), wire::resource::Body::Node(node)) => ("node", decode_node(node)),
            (ResourceId::AddressSet(id), wire::resource::Body::AddressSet(set)) => {
                let members = all("members", &set.members, |member| decode_address(member));
                ("address_set", members.map(|members| Resource::AddressSet(AddressSet { id: *id, members })))
            }
            (ResourceId::Policy(_), wire::resource::Body::Policy(policy)) => {
                ("policy", decode_policy(policy))
            }
            (ResourceId::LocalPod(_), wire::resource::Body::LocalPod(pod)) => ("local_pod", decode_pod(pod)),
            (ResourceId::Service(_), wire::resource::Body::Service(service)) => {
                ("service", service::decode_service(service).map(Resource::Service))
            }
            _ => return Err(Fault::new("body", "is of another kind than the id")),
        };
        let read = read.map_err(|fault| fault.under(field))?;
        if read.id() == id {
            Ok(read)
        } else {
            Err(Fault::new(field, format!("is of {}, another than the id names", read.id())))
        }
    };
    read().map_err(|fault| fault.of(id.to_string()))
}

fn decode_node(node: &wire::Node) -> Result<Resource, Fault> {
    Ok(Resource::Node(Node {
        name: NodeName::new(node.name.clone()),
        labels: node.labels.clone(),
        addresses: all("addresses", &node.addresses, |address| decode_address(address))?,
        pod_cidrs: all("pod_cidrs", &node.pod_cidrs, decode_prefix)?,
        external: Vec::new(),
    }))
}

fn decode_pod(pod: &wire::LocalPod) -> Result<Resource, Fault> {
    Ok(Resource::LocalPod(LocalPod {
        key: NamespacedName::new(pod.namespace.clone(), pod.name.clone()),
        uid: pod.uid.clone(),
        addresses: all("addresses", &pod.addresses, |address| decode_address(address))?,
        member_of: all("member_of", &pod.member_of, |id| decode_set_id(id))?,
    }))
}

fn decode_policy(policy: &wire::Policy) -> Result<Resource, Fault> {
    let kind = match wire::PolicyKind::try_from(policy.kind) {
        Ok(wire::PolicyKind::NetworkPolicy) => PolicyKind::NetworkPolicy,
        Ok(wire::PolicyKind::ClusterNetworkPolicy) => PolicyKind::ClusterNetworkPolicy,
        Ok(wire::PolicyKind::Unspecified) | Err(_) => return Err(unknown("kind", policy.kind)),
    };
    let tier = match wire::Tier::try_from(policy.tier) {
        Ok(wire::Tier::Admin) => Tier::Admin,
        Ok(wire::Tier::NetworkPolicy) => Tier::NetworkPolicy,
        Ok(wire::Tier::Baseline) => Tier::Baseline,
        Ok(wire::Tier::Unspecified) | Err(_) => return Err(unknown("tier", policy.tier)),
    };
    Ok(Resource::Policy(ViewPolicy {
        id: PolicyId { kind, namespace: policy.namespace.clone(), name: policy.name.clone() },
        generation: policy.generation,
        tier,
        priority: policy.priority,
        subject: decode_set_id(&policy.subject).map_err(|fault| fault.under("subject"))?,
        isolates: Isolation { ingress: policy.isolates_ingress, egress: policy.isolates_egress },
        audit: policy.audit,
        rules: all("rules", &policy.rules, decode_rule)?,
    }))
}

fn decode_rule(rule: &wire::Rule) -> Result<ViewRule, Fault> {
    let direction = match wire::Direction::try_from(rule.direction) {
        Ok(wire::Direction::Ingress) => Direction::Ingress,
        Ok(wire::Direction::Egress) => Direction::Egress,
        Ok(wire::Direction::Unspecified) | Err(_) => return Err(unknown("direction", rule.direction)),
    };
    let action = match wire::Action::try_from(rule.action) {
        Ok(wire::Action::Accept) => Action::Accept,
        Ok(wire::Action::Deny) => Action::Deny,
        Ok(wire::Action::Pass) => Action::Pass,
        Ok(wire::Action::Unspecified) | Err(_) => return Err(unknown("action", rule.action)),
    };
    // A rule that says both must not be read as the wider of the two.
    if rule.any_peer && !(rule.sets.is_empty() && rule.blocks.is_empty()) {
        return Err(Fault::new("any_peer", "stands beside sets or blocks"));
    }
    if rule.any_port && !rule.ports.is_empty() {
        return Err(Fault::new("any_port", "stands beside ports"));
    }
    let peers = if rule.any_peer {
        PeerMatch::Any
    } else {
        PeerMatch::Some {
            sets: all("sets", &rule.sets, |id| decode_set_id(id))?,
            blocks: all("blocks", &rule.blocks, decode_block)?,
        }
    };
    let ports: BTreeSet<PortRange> = all("ports", &rule.ports, decode_ports)?;
    Ok(ViewRule {
        index: rule.index,
        direction,
        action,
        subject: decode_set_id(&rule.subject).map_err(|fault| fault.under("subject"))?,
        peers,
        ports: (!rule.any_port).then_some(ports),
    })
}

fn decode_block(block: &wire::IpBlock) -> Result<IpBlock, Fault> {
    let cidr = block.cidr.as_ref().ok_or_else(|| Fault::new("cidr", "is missing"))?;
    Ok(IpBlock {
        cidr: decode_prefix(cidr).map_err(|fault| fault.under("cidr"))?,
        except: all("except", &block.except, decode_prefix)?,
    })
}

fn decode_ports(range: &wire::PortRange) -> Result<PortRange, Fault> {
    let protocol = decode_protocol(range.protocol)?;
    let (first, last) = (decode_port("first", range.first)?, decode_port("last", range.last)?);
    if last < first {
        return Err(Fault::new("last", format!("{last} is below the first, {first}")));
    }
    Ok(PortRange { protocol, first, last })
}

fn decode_protocol(number: u32) -> Result<Protocol, Fault> {
    let known = Protocol::ALL.into_iter().find(|protocol| u32::from(protocol.number()) == number);
    known.ok_or_else(|| Fault::new("protocol", format!("{number} is not TCP, UDP or SCTP")))
}

fn decode_port(field: &str, number: u32) -> Result<u16, Fault> {
    u16::try_from(number).map_err(|_| Fault::new(field, format!("{number} is no port: at most 65535")))
}

fn decode_prefix(prefix: &wire::Prefix) -> Result<Cidr, Fault> {
    let address = decode_address(&prefix.address).map_err(|fault| fault.under("address"))?;
    let length = u8::try_from(prefix.length)
        .map_err(|_| Fault::new("length", format!("{} does not fit an address", prefix.length)))?;
    let cidr = Cidr::new(address, length).map_err(|error| Fault::new("length", error.to_string()))?;
    if cidr.address() == address {
        Ok(cidr)
    } else {
        Err(Fault::new("address", format!("{address} has bits beyond its length of {length}")))
    }
}

fn decode_address(bytes: &[u8]) -> Result<IpAddr, Fault> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Ok(IpAddr::from(v4))
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::from(v6))
    } else {
        Err(Fault::new("", format!("an address has 4 or 16 bytes, not {}", bytes.len())))
    }
}

/// Members of a set; the field, with its index, and what is wrong with it.
pub(crate) fn decode_members(field: &str, members: &[Vec<u8>]) -> Result<Vec<IpAddr>, (String, String)> {
    all(field, members, |member| decode_address(member)).map_err(|fault| (fault.field, fault.reason))
}

fn decode_set_id(bytes: &[u8]) -> Result<SetId, Fault> {
    let bits = <[u8; 16]>::try_from(bytes)
        .map_err(|_| Fault::new("", format!("the id of an address set has 16 bytes, not {}", bytes.len())))?;
    Ok(SetId(u128::from_be_bytes(bits)))
}

fn unknown(field: &str, value: i32) -> Fault {
    Fault::new(field, format!("{value} is not known here"))
}

/// Reads every element of a repeated field; a fault names the element.
fn all<W, T, C: FromIterator<T>>(
    field: &str,
    items: &[W],
    read: impl Fn(&W) -> Result<T, Fault>,
) -> Result<C, Fault> {
    // What is collected has room for these and no more: it is kept.
    let mut all = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        all.push(read(item).map_err(|fault| fault.under(&format!("{field}[{index}]")))?);
    }
    Ok(all.into_iter().collect())
}

// ------------------------------------------------------------------------------------------------- around the resources

/// The wire form of a watermark.
pub fn encode_watermark(watermark: &Watermark) -> wire::Watermark {
    wire::Watermark { epoch: watermark.epoch.to_string(), revisions: watermark.revisions.clone() }
}

/// A watermark from the wire; a missing one, or one without epoch and revisions, is that of a state that contains nothing.
pub fn decode_watermark(watermark: Option<&wire::Watermark>) -> Result<Watermark, Malformed> {
    let Some(watermark) = watermark else { return Ok(Watermark::default()) };
    if watermark.epoch.is_empty() && watermark.revisions.is_empty() {
        return Ok(Watermark::default());
    }
    let epoch = watermark.epoch.parse().map_err(|error: crate::watermark::EpochError| {
        Fault::new("epoch", error.to_string()).of("watermark")
    })?;
    Ok(Watermark { epoch, revisions: watermark.revisions.clone() })
}

/// The wire form of a binding.
pub fn encode_binding(binding: &Binding) -> wire::Binding {
    wire::Binding {
        namespace: binding.pod.namespace().to_owned(),
        name: binding.pod.name().to_owned(),
        uid: binding.uid.clone(),
        addresses: binding.addresses.iter().copied().map(encode_address).collect(),
        interface: binding.interface.clone(),
    }
}

/// A binding from the wire.
pub fn decode_binding(binding: &wire::Binding) -> Result<Binding, Malformed> {
    let resource = || format!("binding of pod {}/{}", binding.namespace, binding.name);
    for (field, text) in [("namespace", &binding.namespace), ("name", &binding.name)] {
        if text.is_empty() || text.contains('/') {
            return Err(Fault::new(field, format!("`{text}` is no name")).of(resource()));
        }
    }
    let addresses = all("addresses", &binding.addresses, |address| decode_address(address));
    Ok(Binding {
        pod: NamespacedName::new(binding.namespace.clone(), binding.name.clone()),
        uid: binding.uid.clone(),
        addresses: addresses.map_err(|fault| fault.of(resource()))?,
        interface: binding.interface.clone(),
    })
}

/// The wire form of a rejection.
pub fn encode_rejection(rejection: &Rejection) -> wire::Rejection {
    wire::Rejection { id: rejection.id.as_ref().map(encode_id), reason: rejection.reason.clone() }
}

/// A rejection from the wire. One whose id cannot be read is still a rejection: its reason then says so too.
pub fn decode_rejection(rejection: &wire::Rejection) -> Rejection {
    match rejection.id.as_ref().map(decode_id) {
        None => Rejection { id: None, reason: rejection.reason.clone() },
        Some(Ok(id)) => Rejection { id: Some(id), reason: rejection.reason.clone() },
        Some(Err(error)) => Rejection { id: None, reason: format!("{} ({error})", rejection.reason) },
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
