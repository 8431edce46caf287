//! Delta xDS over a node's view: what a view is made of, which versions of it somebody holds, what they lack, and how
//! they apply it. Pure: no stream, no watermark's meaning, no switch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use network::{Node, NodeName, NodeView, Service};
use prost::{DecodeError, Message};

use crate::convert::{self, Malformed};
use crate::generated::ferrule::v1alpha1 as wire;
use crate::stream::{Rejection, Resource, ResourceId, Version};
use crate::watermark::Watermark;

pub use crate::resources::{
    Entry, Members, Resources, Section, Versioned, next_set_entry, node_entry, pod_entry, policy_entry,
    resources, service_entry, set_entry, versions,
};
pub use crate::set_change::Sums;

/// Which version of each resource somebody holds.
pub type Versions = BTreeMap<ResourceId, Version>;

/// What somebody who holds `known` lacks of `resources`. Without nonce and watermark: the sender puts them in.
pub fn delta(known: &Versions, resources: &Resources) -> wire::Delta {
    delta_where(known, resources, false, |_| false).delta
}

/// What somebody lacks.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Without nonce and watermark.
    pub delta: wire::Delta,
    /// How many resources it brings or takes away.
    pub resources: usize,
    /// The sets that come as a change.
    pub as_changes: BTreeSet<ResourceId>,
}

/// The same. Where `bundles` are taken, sections of which nothing is known come as one; and of what `may_change` says, an
/// address set that is known in an earlier version may come as a change of that.
pub fn delta_where(
    known: &Versions,
    resources: &Resources,
    bundles: bool,
    may_change: impl Fn(&ResourceId) -> bool,
) -> Difference {
    let (mut kept, mut count) = (0, 0);
    let mut delta = wire::Delta::default();
    let mut as_changes = BTreeSet::new();
    for section in resources.sections() {
        let is_new = || known.is_empty() || !section.iter().any(|entry| known.contains_key(&entry.id));
        // Mostly the first one is known; only for who lacks all of it is it encoded whole.
        if bundles
            && is_new()
            && let Some(bundle) = section.bundle()
        {
            delta.bundles.push(bundle);
            count += section.len();
            continue;
        }
        for entry in section.iter() {
            let held = known.get(&entry.id);
            kept += usize::from(held.is_some());
            if held == Some(&entry.version) {
                continue;
            }
            count += 1;
            let change = held.filter(|_| may_change(&entry.id)).and_then(|held| entry.change_since(*held));
            delta.changed.push(match change {
                Some(change) => {
                    as_changes.insert(entry.id.clone());
                    change.encode_to_vec().into()
                }
                None => entry.encoded.clone(),
            });
        }
    }
    // Looking for each is dear; mostly nothing is gone.
    if kept != known.len() {
        delta.removed = known.keys().filter(|id| !resources.contains(id)).map(convert::encode_id).collect();
    }
    count += delta.removed.len();
    Difference { delta, resources: count, as_changes }
}

/// Writes a view as one delta that holds everything, resource by resource: never more than one of them is held. It is what
/// encoding the whole delta would give.
pub fn write_parts<E>(
    view: &NodeView,
    watermark: &Watermark,
    mut write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let watermark = Some(convert::encode_watermark(watermark));
    write(&wire::Delta { watermark, ..wire::Delta::default() }.encode_to_vec())?;
    let mut outcome = Ok(());
    crate::resources::each(view, |entry| {
        if outcome.is_ok() {
            let part = wire::Delta { changed: vec![entry.encoded.clone()], ..wire::Delta::default() };
            outcome = write(&part.encode_to_vec());
        }
    });
    outcome
}

/// Reads what [`write_parts`] wrote, resource by resource; gives the watermark. Why not, in words.
pub fn read_parts(
    mut bytes: &[u8],
    mut take: impl FnMut(wire::Delta) -> Result<(), String>,
) -> Result<Watermark, String> {
    // A message is the sum of its fields, in any number of pieces (Protocol Buffers, "Encoding", last one wins).
    let mut rest = wire::Delta::default();
    while !bytes.is_empty() {
        let before = bytes;
        let (tag, kind) = prost::encoding::decode_key(&mut bytes).map_err(|error| error.to_string())?;
        let context = prost::encoding::DecodeContext::default();
        prost::encoding::skip_field(kind, tag, &mut bytes, context).map_err(|error| error.to_string())?;
        let field = before.get(..before.len() - bytes.len()).unwrap_or_default();
        let part = wire::Delta::decode(field).map_err(|error| error.to_string())?;
        match part.watermark {
            Some(_) => rest.watermark = part.watermark,
            None => take(part)?,
        }
    }
    watermark(&rest).map_err(|error| error.to_string())
}

/// The watermark that a delta carries.
pub fn watermark(delta: &wire::Delta) -> Result<Watermark, Malformed> {
    convert::decode_watermark(delta.watermark.as_ref())
}

/// The resources that a delta speaks of, as far as they can be understood.
pub fn named(delta: &wire::Delta) -> impl Iterator<Item = ResourceId> + '_ {
    let removed = delta.removed.iter().filter_map(|id| convert::decode_id(id).ok());
    removed.chain(changed_versions(delta).map(|(id, _)| id))
}

/// The resources that a delta brings, and in which versions, as far as that can be understood.
pub fn changed_versions(delta: &wire::Delta) -> impl Iterator<Item = (ResourceId, Version)> + '_ {
    encoded(delta).flatten().filter_map(|resource| {
        // Its body is passed over.
        let head = wire::ResourceVersion::decode(resource).ok()?;
        Some((convert::decode_id(head.id.as_ref()?).ok()?, Version(head.version)))
    })
}

/// The resources that a delta brings, decoded; those that are none are left out.
pub fn bodies(delta: &wire::Delta) -> impl Iterator<Item = wire::Resource> + '_ {
    encoded(delta).flatten().filter_map(|resource| wire::Resource::decode(resource).ok())
}

/// Every resource that a delta brings, by itself or in a bundle; or a bundle that is none.
fn encoded(delta: &wire::Delta) -> impl Iterator<Item = Result<Bytes, DecodeError>> + '_ {
    let bundled = delta.bundles.iter().flat_map(|bundle| match wire::Bundle::decode(bundle.clone()) {
        Ok(bundle) => bundle.changed.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    });
    bundled.chain(delta.changed.iter().cloned().map(Ok))
}

/// What applying a delta came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Resources that are now there, gone or different.
    pub changed: BTreeSet<ResourceId>,
    /// Resources that could not be understood; the view keeps what it had of them.
    pub rejected: Vec<Rejection>,
}

/// Applies a delta to a view: what can be understood, each resource for itself.
pub fn apply(view: &mut NodeView, delta: &wire::Delta) -> Applied {
    apply_with(view, &mut Sums::default(), delta)
}

/// The same, with what is known of the view's sets: it must be what earlier deltas of the same view left.
pub fn apply_with(view: &mut NodeView, sums: &mut Sums, delta: &wire::Delta) -> Applied {
    let mut applied = Applied::default();
    for id in &delta.removed {
        match convert::decode_id(id) {
            Ok(id) => {
                if let ResourceId::AddressSet(set) = id {
                    sums.forget(set);
                }
                if remove(view, &id) {
                    applied.changed.insert(id);
                }
            }
            Err(error) => applied.rejected.push(Rejection { id: None, reason: error.to_string() }),
        }
    }
    for resource in encoded(delta) {
        let id = |resource: Bytes| {
            let head = wire::ResourceVersion::decode(resource).ok();
            head.and_then(|head| convert::decode_id(head.id.as_ref()?).ok())
        };
        let read = resource
            .map_err(|error| (None, error))
            .and_then(|bytes| wire::Resource::decode(bytes.clone()).map_err(|error| (id(bytes), error)));
        let resource = match read {
            Ok(resource) => resource,
            Err((id, error)) => {
                applied.rejected.push(Rejection { id, reason: format!("is no resource: {error}") });
                continue;
            }
        };
        match put_in(view, sums, &resource) {
            Ok((id, true)) => drop(applied.changed.insert(id)),
            Ok((_, false)) => {}
            Err(error) => {
                let id = resource.id.as_ref().and_then(|id| convert::decode_id(id).ok());
                applied.rejected.push(Rejection { id, reason: error.to_string() });
            }
        }
    }
    applied
}

/// Which resource it is, and whether the view is another one with it.
fn put_in(
    view: &mut NodeView,
    sums: &mut Sums,
    resource: &wire::Resource,
) -> Result<(ResourceId, bool), Malformed> {
    let id = resource.id.as_ref().map(convert::decode_id).transpose()?;
    if let (Some(ResourceId::AddressSet(set)), Some(wire::resource::Body::AddressSetChange(change))) =
        (&id, &resource.body)
    {
        sums.apply(view, *set, Version(resource.version), change)?;
        return Ok((ResourceId::AddressSet(*set), true));
    }
    let read = convert::decode_resource(resource)?;
    let id = read.id();
    if let ResourceId::AddressSet(set) = id {
        sums.forget(set);
    }
    Ok((id, insert(view, read)))
}

fn insert(view: &mut NodeView, resource: Resource) -> bool {
    fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
        if map.get(&key) == Some(&value) {
            return false;
        }
        map.insert(key, value);
        true
    }
    match resource {
        Resource::Node(node) => put(&mut view.nodes, node.name.clone(), node),
        Resource::AddressSet(set) => put(&mut view.sets, set.id, set),
        Resource::Policy(policy) => put(&mut view.policies, policy.id.clone(), policy),
        Resource::LocalPod(pod) => put(&mut view.pods, pod.key.clone(), pod),
        Resource::Service(mut service) => {
            share_node_names(&view.nodes, &mut service);
            put(&mut view.services, service.key.clone(), Arc::new(service))
        }
    }
}

/// There are many endpoints, and each names a node.
fn share_node_names(nodes: &BTreeMap<NodeName, Node>, service: &mut Service) {
    for port in &mut service.ports {
        let endpoints = std::mem::take(&mut port.endpoints).into_iter().map(|mut endpoint| {
            let known = endpoint.node.as_ref().and_then(|name| nodes.get_key_value(name));
            if let Some((name, _)) = known {
                endpoint.node = Some(name.clone());
            }
            endpoint
        });
        port.endpoints = endpoints.collect();
    }
}

fn remove(view: &mut NodeView, id: &ResourceId) -> bool {
    match id {
        ResourceId::Node(name) => view.nodes.remove(name).is_some(),
        ResourceId::AddressSet(id) => view.sets.remove(id).is_some(),
        ResourceId::Policy(id) => view.policies.remove(id).is_some(),
        ResourceId::LocalPod(key) => view.pods.remove(key).is_some(),
        ResourceId::Service(key) => view.services.remove(key).is_some(),
    }
}
