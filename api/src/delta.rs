//! Delta xDS over a node's view: what a view is made of, which versions of it somebody holds, what they lack, and how
//! they apply it. Pure: no stream, no watermark's meaning, no switch.

use std::collections::{BTreeMap, BTreeSet};

use network::NodeView;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::convert::{self, Malformed};
use crate::generated::ferrule::v1alpha1 as wire;
use crate::stream::{Rejection, Resource, ResourceId, Version};
use crate::watermark::Watermark;

/// Which version of each resource somebody holds.
pub type Versions = BTreeMap<ResourceId, Version>;

/// Everything that a view is made of, ready to be sent.
pub type Resources = BTreeMap<ResourceId, (Version, wire::Resource)>;

/// The resources of a view.
pub fn resources(view: &NodeView) -> Resources {
    let mut resources = Resources::new();
    each(view, |id, resource| {
        resources.insert(id, (Version(resource.version), resource));
    });
    resources
}

/// The versions of a view's resources: what an agent says that it has. Holds one encoded resource at a time.
pub fn versions(view: &NodeView) -> Versions {
    let mut versions = Versions::new();
    each(view, |id, resource| {
        versions.insert(id, Version(resource.version));
    });
    versions
}

fn each(view: &NodeView, mut take: impl FnMut(ResourceId, wire::Resource)) {
    let mut with = |id: ResourceId, body| {
        let mut resource = wire::Resource { id: Some(convert::encode_id(&id)), version: 0, body: Some(body) };
        resource.version = version_of(&resource).0;
        take(id, resource);
    };
    for (name, node) in &view.nodes {
        with(ResourceId::Node(name.clone()), convert::encode_node(node));
    }
    for (id, set) in &view.sets {
        with(ResourceId::AddressSet(*id), convert::encode_set(set));
    }
    for (id, policy) in &view.policies {
        with(ResourceId::Policy(id.clone()), convert::encode_policy(policy));
    }
    for (key, pod) in &view.pods {
        with(ResourceId::LocalPod(key.clone()), convert::encode_pod(pod));
    }
    for (key, service) in &view.services {
        with(ResourceId::Service(key.clone()), convert::encode_service(service));
    }
}

/// The first 64 bits of SHA-256 over the encoded resource without its version. Our encoding is canonical: fields by tag,
/// maps and sets in their order.
fn version_of(unversioned: &wire::Resource) -> Version {
    let digest = Sha256::digest(unversioned.encode_to_vec());
    let mut bits = [0; 8];
    bits.copy_from_slice(&digest[..8]);
    Version(u64::from_be_bytes(bits))
}

/// What somebody who holds `known` lacks of `resources`. Without nonce and watermark: the sender puts them in.
pub fn delta(known: &Versions, resources: &Resources) -> wire::Delta {
    let changed = resources.iter().filter(|(id, (version, _))| known.get(id) != Some(version));
    let removed = known.keys().filter(|id| !resources.contains_key(id));
    wire::Delta {
        nonce: 0,
        term: 0,
        watermark: None,
        changed: changed.map(|(_, (_, resource))| resource.clone()).collect(),
        removed: removed.map(convert::encode_id).collect(),
    }
}

/// The watermark that a delta carries.
pub fn watermark(delta: &wire::Delta) -> Result<Watermark, Malformed> {
    convert::decode_watermark(delta.watermark.as_ref())
}

/// The resources that a delta speaks of, as far as they can be understood.
pub fn named(delta: &wire::Delta) -> impl Iterator<Item = ResourceId> + '_ {
    let changed = delta.changed.iter().filter_map(|resource| resource.id.as_ref());
    delta.removed.iter().chain(changed).filter_map(|id| convert::decode_id(id).ok())
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
    let mut applied = Applied::default();
    for id in &delta.removed {
        match convert::decode_id(id) {
            Ok(id) => {
                if remove(view, &id) {
                    applied.changed.insert(id);
                }
            }
            Err(error) => applied.rejected.push(Rejection { id: None, reason: error.to_string() }),
        }
    }
    for resource in &delta.changed {
        match convert::decode_resource(resource) {
            Ok(read) => {
                let id = read.id();
                if insert(view, read) {
                    applied.changed.insert(id);
                }
            }
            Err(error) => {
                let id = resource.id.as_ref().and_then(|id| convert::decode_id(id).ok());
                applied.rejected.push(Rejection { id, reason: error.to_string() });
            }
        }
    }
    applied
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
        Resource::Service(service) => put(&mut view.services, service.key.clone(), service),
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
