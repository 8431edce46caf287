//! What a view is made of, ready to be sent, and its versions: hashes of the content that are equal on every controller and
//! in every agent. Shared: what many views contain is encoded and held once.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use network::{LocalPod, Node, NodeView, Service, SetId, ViewPolicy};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::convert;
use crate::delta::Versions;
use crate::generated::ferrule::v1alpha1 as wire;
use crate::set_change::History;
use crate::stream::{ResourceId, Version};

/// A resource and its version.
#[derive(Clone, Debug)]
pub struct Versioned {
    /// Which.
    pub id: ResourceId,
    /// The hash of its content.
    pub version: Version,
    /// As it is sent, encoded: a `Resource`.
    pub encoded: Bytes,
    /// Of an address set: who is in it and how it came to be.
    set: Option<Box<SetState>>,
}

#[derive(Clone, Debug)]
struct SetState {
    members: Box<[IpAddr]>,
    history: History,
}

impl PartialEq for Versioned {
    /// Whatever they came from.
    fn eq(&self, other: &Self) -> bool {
        (&self.id, self.version, &self.encoded) == (&other.id, other.version, &other.encoded)
    }
}

impl Versioned {
    /// What leads here from an earlier version, when it is remembered and costs less than the whole.
    pub fn change_since(&self, known: Version) -> Option<wire::Resource> {
        let set = self.set.as_ref()?;
        let change = set.history.since(known)?;
        if change.added.len() + change.removed.len() >= set.members.len() {
            return None;
        }
        let body = Some(wire::resource::Body::AddressSetChange(change));
        Some(wire::Resource { id: Some(convert::encode_id(&self.id)), version: self.version.0, body })
    }
}

/// A resource that many views hold.
pub type Entry = Arc<Versioned>;

fn entry(id: ResourceId, body: wire::resource::Body) -> Entry {
    let mut wire = wire::Resource { id: Some(convert::encode_id(&id)), version: 0, body: Some(body) };
    let version = version_of(&wire);
    wire.version = version.0;
    Arc::new(Versioned { id, version, encoded: wire.encode_to_vec().into(), set: None })
}

/// A node, to be sent.
pub fn node_entry(node: &Node) -> Entry {
    entry(ResourceId::Node(node.name.clone()), convert::encode_node(node))
}

/// A policy, to be sent.
pub fn policy_entry(policy: &ViewPolicy) -> Entry {
    entry(ResourceId::Policy(policy.id.clone()), convert::encode_policy(policy))
}

/// A local pod, to be sent.
pub fn pod_entry(pod: &LocalPod) -> Entry {
    entry(ResourceId::LocalPod(pod.key.clone()), convert::encode_pod(pod))
}

/// A Service, to be sent.
pub fn service_entry(service: &Service) -> Entry {
    entry(ResourceId::Service(service.key.clone()), convert::encode_service(service))
}

/// A set of these members (each once, in order), whose version is known.
pub fn set_entry(id: SetId, version: Version, members: &[IpAddr]) -> Entry {
    next_set_entry(None, id, version, members)
}

/// The same of a set that was another before: it remembers what it has more and less since then.
pub fn next_set_entry(before: Option<&Entry>, id: SetId, version: Version, members: &[IpAddr]) -> Entry {
    let before = before.and_then(|before| Some((before.version, before.set.as_ref()?)));
    let history = before.map(|(from, set)| set.history.then(from, &set.members, members));
    let id = ResourceId::AddressSet(id);
    let body = Some(convert::encode_members(members.iter().copied()));
    let wire = wire::Resource { id: Some(convert::encode_id(&id)), version: version.0, body };
    let set = SetState { members: members.into(), history: history.unwrap_or_default() };
    Arc::new(Versioned { id, version, encoded: wire.encode_to_vec().into(), set: Some(Box::new(set)) })
}

/// The first 64 bits of SHA-256 over the encoded resource without its version. Our encoding is canonical: fields by tag,
/// maps and sets in their order. A set's is that of its [`Members`].
fn version_of(unversioned: &wire::Resource) -> Version {
    first_64(Sha256::digest(unversioned.encode_to_vec()).as_slice())
}

fn first_64(digest: &[u8]) -> Version {
    Version(digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
}

/// The members of a set as a sum that knows no order: one more or fewer costs one hash, whatever the size of the set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members {
    count: u64,
    /// Of the first 128 bits of SHA-256 over each member's bytes, modulo 2^128.
    sum: u128,
}

impl Members {
    /// One that was not in it.
    pub fn add(&mut self, member: IpAddr) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(hash_of(member));
    }

    /// One that was in it.
    pub fn remove(&mut self, member: IpAddr) {
        self.count -= 1;
        self.sum = self.sum.wrapping_sub(hash_of(member));
    }

    /// The version of the set with these members.
    pub fn version(&self, id: SetId) -> Version {
        let mut hash = Sha256::new();
        hash.update(id.0.to_be_bytes());
        hash.update(self.count.to_be_bytes());
        hash.update(self.sum.to_be_bytes());
        first_64(hash.finalize().as_slice())
    }
}

impl FromIterator<IpAddr> for Members {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(members: I) -> Self {
        let mut sum = Self::default();
        members.into_iter().for_each(|member| sum.add(member));
        sum
    }
}

fn hash_of(member: IpAddr) -> u128 {
    let digest = match member {
        IpAddr::V4(address) => Sha256::digest(address.octets()),
        IpAddr::V6(address) => Sha256::digest(address.octets()),
    };
    digest.iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

/// Entries in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct Section {
    entries: Vec<Entry>,
    bundle: OnceLock<Bytes>,
}

/// Fewer entries are not worth to be held a second time.
const BUNDLED: usize = 32;

impl Section {
    /// Puts entries in order.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        entries.shrink_to_fit();
        Self { entries, bundle: OnceLock::new() }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them encoded as one `Bundle`, once for everybody; `None` where that does not pay.
    pub fn bundle(&self) -> Option<Bytes> {
        let encode = || {
            let changed = self.entries.iter().map(|entry| entry.encoded.clone()).collect();
            wire::Bundle { changed }.encode_to_vec().into()
        };
        (self.len() >= BUNDLED).then(|| self.bundle.get_or_init(encode).clone())
    }
}

/// Everything that a view is made of. No id is in two sections.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    sections: Vec<Arc<Section>>,
    count: usize,
}

impl Resources {
    /// Puts sections together.
    pub fn new(sections: Vec<Arc<Section>>) -> Self {
        let sections: Vec<_> = sections.into_iter().filter(|section| !section.is_empty()).collect();
        let count = sections.iter().map(|section| section.len()).sum();
        Self { sections, count }
    }

    /// All of them, in the order of the sections.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.sections().flat_map(Section::iter)
    }

    /// The sections.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().map(|section| &**section)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The one of this id.
    pub fn get(&self, id: &ResourceId) -> Option<&Entry> {
        self.sections.iter().find_map(|section| {
            let at = section.entries.binary_search_by(|entry| entry.id.cmp(id)).ok()?;
            section.entries.get(at)
        })
    }

    /// Whether there is one of this id.
    pub fn contains(&self, id: &ResourceId) -> bool {
        self.get(id).is_some()
    }

    /// Which versions these are.
    pub fn versions(&self) -> Versions {
        self.iter().map(|entry| (entry.id.clone(), entry.version)).collect()
    }

    /// Whether both are the same resources in the same sections.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |a: &Arc<Section>, b: &Arc<Section>| {
            let equal =
                |(a, b): (&Entry, &Entry)| Arc::ptr_eq(a, b) || a.id == b.id && a.version == b.version;
            Arc::ptr_eq(a, b) || a.len() == b.len() && a.iter().zip(b.iter()).all(equal)
        };
        self.sections.len() == other.sections.len()
            && self.sections.iter().zip(&other.sections).all(|(a, b)| same(a, b))
    }

    /// The first difference to another, byte by byte and in words; sections do not matter.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let missing =
            |from: &Self| from.iter().find(|it| !other.contains(&it.id)).map(|it| it.id.to_string());
        if let Some(id) = missing(self) {
            return Some(format!("{id} is there and should not be"));
        }
        let differs = |wanted: &&Entry| self.get(&wanted.id).is_none_or(|held| held != *wanted);
        if let Some(wanted) = other.iter().find(differs) {
            return Some(match self.get(&wanted.id) {
                None => format!("{} is missing", wanted.id),
                Some(held) => format!("{} is {held:?} and should be {wanted:?}", wanted.id),
            });
        }
        (self.len() != other.len()).then(|| "something is there twice".to_owned())
    }
}

/// The resources of a view.
pub fn resources(view: &NodeView) -> Resources {
    let mut entries = Vec::new();
    each(view, |entry| entries.push(entry));
    Resources::new(vec![Arc::new(Section::new(entries))])
}

/// The versions of a view's resources: what an agent says that it has. Holds one encoded resource at a time.
pub fn versions(view: &NodeView) -> Versions {
    let mut versions = Versions::new();
    each(view, |entry| {
        versions.insert(entry.id.clone(), entry.version);
    });
    versions
}

/// Every resource of a view, one after the other.
pub(crate) fn each(view: &NodeView, mut take: impl FnMut(Entry)) {
    view.nodes.values().for_each(|node| take(node_entry(node)));
    for set in view.sets.values() {
        let members: Vec<IpAddr> = set.members.iter().copied().collect();
        let version = members.iter().copied().collect::<Members>().version(set.id);
        take(set_entry(set.id, version, &members));
    }
    view.policies.values().for_each(|policy| take(policy_entry(policy)));
    view.pods.values().for_each(|pod| take(pod_entry(pod)));
    view.services.values().for_each(|service| take(service_entry(service)));
}
