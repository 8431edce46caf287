//! Whose connections a change of the view may deny. What was before is remembered of what changed alone. Errs on the side of
//! asking too much: the switch itself decides about each connection. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::stream::ResourceId;
use network::{
    Action, AddressSet, Direction, LocalPod, NamespacedName, NodeName, NodeView, PeerMatch, PolicyId,
    PortRange, SetId, Tier, ViewPolicy, ViewRule,
};

use super::Connection;

/// Whose connections are to be asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Threat {
    /// Everybody's.
    pub everyone: bool,
    /// Those that these pods began.
    pub sources: BTreeSet<IpAddr>,
    /// Those that these pods answer.
    pub answerers: BTreeSet<IpAddr>,
}

impl Threat {
    /// Nobody's.
    pub fn is_empty(&self) -> bool {
        !self.everyone && self.sources.is_empty() && self.answerers.is_empty()
    }

    /// Whether this connection is to be asked about.
    pub fn concerns(&self, connection: &Connection) -> bool {
        self.everyone
            || self.sources.contains(&connection.source)
            || self.answerers.contains(&connection.answerer)
    }

    /// Takes another one in.
    pub fn extend(&mut self, other: Self) {
        self.everyone |= other.everyone;
        self.sources.extend(other.sources);
        self.answerers.extend(other.answerers);
    }

    pub(super) fn add(&mut self, direction: Direction, addresses: impl IntoIterator<Item = IpAddr>) {
        match direction {
            Direction::Egress => self.sources.extend(addresses),
            Direction::Ingress => self.answerers.extend(addresses),
        }
    }
}

/// What the view held of everything that changed, since the switch was last told.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    everyone: bool,
    policies: BTreeMap<PolicyId, Option<ViewPolicy>>,
    sets: BTreeMap<SetId, Option<AddressSet>>,
    pods: BTreeMap<NamespacedName, Option<LocalPod>>,
}

const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

impl Journal {
    /// What is about to change: `view` still has it as it was.
    pub fn remember(
        &mut self,
        view: &NodeView,
        own: &NodeName,
        changing: impl IntoIterator<Item = ResourceId>,
    ) {
        for id in changing {
            match id {
                ResourceId::Policy(id) => {
                    self.policies.entry(id).or_insert_with_key(|id| view.policies.get(id).cloned());
                }
                ResourceId::AddressSet(id) => {
                    self.sets.entry(id).or_insert_with_key(|id| view.sets.get(id).cloned());
                }
                ResourceId::LocalPod(key) => {
                    self.pods.entry(key).or_insert_with_key(|key| view.pods.get(key).cloned());
                }
                // A pod's own node is always allowed, by its addresses; other nodes are no policy's matter.
                ResourceId::Node(name) => self.everyone |= name == *own && view.nodes.contains_key(own),
                ResourceId::Service(_) => {}
            }
        }
    }

    /// What was in force is not known.
    pub fn forget(&mut self) {
        *self = Self { everyone: true, ..Self::default() };
    }

    /// Pods that left the view.
    pub fn gone<'a>(&'a self, now: &'a NodeView) -> impl Iterator<Item = &'a NamespacedName> {
        self.pods
            .iter()
            .filter(|(key, before)| before.is_some() && !now.pods.contains_key(key))
            .map(|(key, _)| key)
    }

    /// Who may lose a connection; `None` is everyone. A pod that is new has none, unless it is among those that `returned`.
    pub fn threatened(
        &self,
        now: &NodeView,
        returned: &BTreeSet<NamespacedName>,
    ) -> Option<BTreeSet<(Direction, NamespacedName)>> {
        if self.everyone {
            return None;
        }
        let mut threatened = BTreeSet::new();
        for key in self.touched(now) {
            let Some(after) = now.pods.get(key) else { continue };
            let nowhere = BTreeSet::new();
            let before = match self.pods.get(key) {
                None => &after.member_of,
                Some(Some(before)) => &before.member_of,
                Some(None) if returned.contains(key) => &nowhere,
                Some(None) => continue,
            };
            for direction in BOTH {
                let before = Judged::new(before, self.policies_before(now), direction);
                let after = Judged::new(&after.member_of, now.policies.values(), direction);
                if before.may_lose(&after) {
                    threatened.insert((direction, key.clone()));
                }
            }
        }
        self.by_members(now, &mut threatened);
        Some(threatened)
    }

    /// The pods whose policies, or whose place among them, changed.
    fn touched<'a>(&'a self, now: &'a NodeView) -> BTreeSet<&'a NamespacedName> {
        let versions = |id: &PolicyId| {
            [self.policies.get(id).and_then(Option::as_ref), now.policies.get(id)].into_iter().flatten()
        };
        let subjects: BTreeSet<SetId> =
            self.policies.keys().flat_map(versions).map(|policy| policy.subject).collect();
        let selected =
            now.pods.values().filter(|pod| !pod.member_of.is_disjoint(&subjects)).map(|pod| &pod.key);
        selected.chain(self.pods.keys()).collect()
    }

    fn policies_before<'a>(&'a self, now: &'a NodeView) -> impl Iterator<Item = &'a ViewPolicy> {
        let unchanged = now.policies.iter().filter(|(id, _)| !self.policies.contains_key(id)).map(|(_, p)| p);
        unchanged.chain(self.policies.values().flatten())
    }

    /// Sets that lost a member that was let in, or gained one that is kept out.
    fn by_members(&self, now: &NodeView, threatened: &mut BTreeSet<(Direction, NamespacedName)>) {
        let nobody = BTreeSet::new();
        let changes: BTreeMap<SetId, (bool, bool)> = self
            .sets
            .iter()
            .map(|(id, before)| {
                let before = before.as_ref().map_or(&nobody, |set| &set.members);
                let after = now.sets.get(id).map_or(&nobody, |set| &set.members);
                (*id, (!before.is_subset(after), !after.is_subset(before)))
            })
            .filter(|(_, (lost, gained))| *lost || *gained)
            .collect();
        if changes.is_empty() {
            return;
        }
        let harmed = |rule: &ViewRule| {
            let PeerMatch::Some { sets, .. } = &rule.peers else { return false };
            sets.iter().filter_map(|id| changes.get(id)).any(|(lost, gained)| {
                *lost && rule.action != Action::Deny || *gained && rule.action != Action::Accept
            })
        };
        for rule in now.policies.values().flat_map(|policy| &policy.rules).filter(|rule| harmed(rule)) {
            let subjects = now.pods.values().filter(|pod| pod.member_of.contains(&rule.subject));
            threatened.extend(subjects.map(|pod| (rule.direction, pod.key.clone())));
        }
    }
}

/// A rule of an ordered tier: its place, what it does, and to what.
type Placed<'a> = (u32, &'a PolicyId, u32, Action, &'a PeerMatch, &'a Option<BTreeSet<PortRange>>);

/// What policies say about one pod in one direction.
#[derive(Default)]
struct Judged<'a> {
    isolated: bool,
    allows: BTreeSet<(&'a PeerMatch, &'a Option<BTreeSet<PortRange>>)>,
    admin: BTreeSet<Placed<'a>>,
    baseline: BTreeSet<Placed<'a>>,
}

impl<'a> Judged<'a> {
    fn new(
        member_of: &BTreeSet<SetId>,
        policies: impl Iterator<Item = &'a ViewPolicy>,
        direction: Direction,
    ) -> Self {
        let mut judged = Self::default();
        for policy in policies.filter(|policy| member_of.contains(&policy.subject)) {
            judged.isolated |= policy.tier == Tier::NetworkPolicy && policy.isolates.of(direction);
            let rules = policy.rules.iter();
            let rules = rules.filter(|rule| rule.direction == direction && member_of.contains(&rule.subject));
            for rule in rules {
                let placed = (policy.priority, &policy.id, rule.index, rule.action, &rule.peers, &rule.ports);
                match policy.tier {
                    Tier::Admin => drop(judged.admin.insert(placed)),
                    Tier::NetworkPolicy => drop(judged.allows.insert((&rule.peers, &rule.ports))),
                    Tier::Baseline => drop(judged.baseline.insert(placed)),
                }
            }
        }
        judged
    }

    /// Whether something that this let pass may not pass any more.
    fn may_lose(&self, after: &Judged<'_>) -> bool {
        let ordered = |before: &BTreeSet<Placed<'_>>, after: &BTreeSet<Placed<'_>>| {
            before.iter().any(|rule| rule.3 != Action::Deny && !after.contains(rule))
                || after.iter().any(|rule| rule.3 != Action::Accept && !before.contains(rule))
        };
        let lost = |allow: &(&PeerMatch, &Option<BTreeSet<PortRange>>)| {
            !after.allows.contains(allow) && !after.allows.iter().any(|wider| covers(*wider, *allow))
        };
        ordered(&self.admin, &after.admin)
            || ordered(&self.baseline, &after.baseline)
            || after.isolated && (!self.isolated || self.allows.iter().any(lost))
            // What no NetworkPolicy isolates is for the Baseline tier to decide.
            || self.isolated
                && !after.isolated
                && after.baseline.iter().any(|rule| rule.3 != Action::Accept)
    }
}

fn covers(
    (peers, ports): (&PeerMatch, &Option<BTreeSet<PortRange>>),
    (narrow_peers, narrow_ports): (&PeerMatch, &Option<BTreeSet<PortRange>>),
) -> bool {
    let peers = match (peers, narrow_peers) {
        (PeerMatch::Any, _) => true,
        (PeerMatch::Some { .. }, PeerMatch::Any) => false,
        (PeerMatch::Some { sets, blocks }, PeerMatch::Some { sets: narrow, blocks: narrow_blocks }) => {
            narrow.iter().all(|set| sets.contains(set)) && narrow_blocks.is_subset(blocks)
        }
    };
    peers
        && match (ports, narrow_ports) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ports), Some(narrow)) => narrow.iter().all(|one| {
                ports.iter().any(|wide| {
                    wide.protocol == one.protocol && wide.first <= one.first && one.last <= wide.last
                })
            }),
        }
}
