//! Who is in the sets that policies name: as the view has it now, and as it was when flows were last compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::{Direction, Isolation, NodeView, Protocol, SetId, ViewRule};

use super::parts::Members;
use crate::pipeline::Context;

/// The pods of this node as policies see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subjects {
    /// Addresses of the local members of every subject set.
    pub(crate) addresses: BTreeMap<SetId, BTreeSet<IpAddr>>,
    /// The addresses that some policy isolates, or says something about by UDP ports, and where.
    pub(crate) isolated: BTreeMap<IpAddr, Isolated>,
}

/// Where somebody is isolated, where by a policy that is audited, and where rules about him name UDP ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Isolated {
    pub(crate) isolation: Isolation,
    pub(crate) audited: Isolation,
    pub(crate) ports: Isolation,
}

impl Isolated {
    fn add(&mut self, more: Self) {
        let each = [
            (&mut self.isolation, more.isolation),
            (&mut self.audited, more.audited),
            (&mut self.ports, more.ports),
        ];
        for (to, more) in each {
            to.ingress |= more.ingress;
            to.egress |= more.egress;
        }
    }
}

impl Subjects {
    pub(crate) fn of(context: &Context<'_>) -> Self {
        let view = context.input.view;
        let mut addresses: BTreeMap<SetId, BTreeSet<IpAddr>> = BTreeMap::new();
        for port in context.admitted() {
            let Some(pod) = port.pod.as_ref().and_then(|(key, _)| view.pods.get(key)) else { continue };
            for set in &pod.member_of {
                addresses.entry(*set).or_default().extend(port.addresses.iter().copied());
            }
        }
        let mut isolates: BTreeMap<SetId, Isolated> = BTreeMap::new();
        for policy in view.policies.values() {
            let audited = if policy.audit { policy.isolates } else { Isolation::default() };
            let isolated = Isolated { isolation: policy.isolates, audited, ports: Isolation::default() };
            isolates.entry(policy.subject).or_default().add(isolated);
            for rule in policy.rules.iter().filter(|rule| names_udp(rule)) {
                let ports = Isolation {
                    ingress: rule.direction == Direction::Ingress,
                    egress: rule.direction == Direction::Egress,
                };
                isolates.entry(rule.subject).or_default().add(Isolated { ports, ..Isolated::default() });
            }
        }
        let mut isolated: BTreeMap<IpAddr, Isolated> = BTreeMap::new();
        for (set, here) in isolates {
            if here != Isolated::default() {
                for own in addresses.get(&set).into_iter().flatten() {
                    isolated.entry(*own).or_default().add(here);
                }
            }
        }
        Self { addresses, isolated }
    }

    fn members(&self, set: SetId) -> &BTreeSet<IpAddr> {
        static NOBODY: BTreeSet<IpAddr> = BTreeSet::new();
        self.addresses.get(&set).unwrap_or(&NOBODY)
    }
}

fn names_udp(rule: &ViewRule) -> bool {
    rule.ports.iter().flatten().any(|range| range.protocol == Protocol::Udp && !range.is_all())
}

/// As it is now.
pub(crate) struct Now<'a> {
    pub(crate) view: &'a NodeView,
    pub(crate) subjects: &'a Subjects,
}

impl Members for Now<'_> {
    fn subject(&self, set: SetId) -> &BTreeSet<IpAddr> {
        self.subjects.members(set)
    }

    fn each(&self, set: SetId, take: &mut dyn FnMut(IpAddr)) {
        self.view.sets.get(&set).into_iter().flat_map(|set| set.members.iter().copied()).for_each(take);
    }

    fn count(&self, set: SetId) -> usize {
        self.view.sets.get(&set).map_or(0, |set| set.members.len())
    }

    fn contains(&self, set: SetId, address: IpAddr) -> bool {
        self.view.sets.get(&set).is_some_and(|set| set.members.contains(&address))
    }
}

/// As it was: a copy that is as small as can be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) subjects: Subjects,
    sets: BTreeMap<SetId, Box<[IpAddr]>>,
}

impl Kept {
    /// The members that a set has more or less now, of `touched` sets alone where they are given.
    pub(crate) fn changed(
        &self,
        view: &NodeView,
        touched: Option<&BTreeSet<SetId>>,
        mut take: impl FnMut(IpAddr),
    ) {
        let differs = |set: &SetId| !self.is_same(*set, view);
        let sets: BTreeSet<SetId> = match touched {
            Some(touched) => touched.iter().copied().filter(differs).collect(),
            None => self.sets.keys().chain(view.sets.keys()).copied().filter(differs).collect(),
        };
        for set in sets {
            let old = self.sets.get(&set).map_or(&[][..], |members| members);
            let new = view.sets.get(&set).map(|set| &set.members);
            old.iter().filter(|one| new.is_none_or(|new| !new.contains(*one))).for_each(|one| take(*one));
            let more = new.into_iter().flatten().filter(|one| old.binary_search(one).is_err());
            more.for_each(|one| take(*one));
        }
    }

    fn is_same(&self, set: SetId, view: &NodeView) -> bool {
        match (self.sets.get(&set), view.sets.get(&set)) {
            (Some(old), Some(new)) => {
                old.len() == new.members.len() && old.iter().zip(&new.members).all(|(a, b)| a == b)
            }
            (old, new) => old.is_none() && new.is_none(),
        }
    }

    /// Becomes what the view says, as far as it is `touched`.
    pub(crate) fn follow(&mut self, view: &NodeView, subjects: Subjects, touched: Option<&BTreeSet<SetId>>) {
        self.subjects = subjects;
        let every = || self.sets.keys().chain(view.sets.keys()).copied().collect();
        let sets = touched.cloned().unwrap_or_else(every);
        for id in sets {
            match view.sets.get(&id) {
                None => drop(self.sets.remove(&id)),
                Some(_) if self.is_same(id, view) => {}
                Some(set) => drop(self.sets.insert(id, set.members.iter().copied().collect())),
            }
        }
    }
}

impl Members for Kept {
    fn subject(&self, set: SetId) -> &BTreeSet<IpAddr> {
        self.subjects.members(set)
    }

    fn each(&self, set: SetId, take: &mut dyn FnMut(IpAddr)) {
        self.sets.get(&set).into_iter().flat_map(|set| set.iter().copied()).for_each(take);
    }

    fn count(&self, set: SetId) -> usize {
        self.sets.get(&set).map_or(0, |set| set.len())
    }

    fn contains(&self, set: SetId, address: IpAddr) -> bool {
        self.sets.get(&set).is_some_and(|set| set.binary_search(&address).is_ok())
    }
}
