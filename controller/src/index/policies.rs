//! Policies and Services: what they name, what it resolves to, what they count for in the group of their subject.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::delta::{self, Entry};
use network::view::{Census, Resolved};
use network::{
    Direction, Few, NamespacedName, Network, Peers, Policy, PolicyId, PortMatch, Ports, Protocol, Selector,
    Service, SetId,
};

use super::slab::{PolicyPlace, SetPlace};
use super::{Index, PolicyEntry, ResolvedEntry, ServiceEntry, parallel};

/// What so many policies come to is held at once.
const AT_A_TIME: usize = 4096;

/// What a policy comes to.
enum Outcome {
    /// Nobody knows what its subject selects.
    Unknown,
    /// What is sent of it, and the sets that it needs: with a selector where it is not one that the object names.
    Known {
        subject: SetPlace,
        subjects: Vec<(SetId, Option<Selector>)>,
        peers: Vec<(SetId, Option<Selector>)>,
        entry: Entry,
    },
}

impl Index {
    pub(super) fn put_policy(&mut self, policy: Policy, selectors: Vec<(SetId, Selector)>) {
        let before = self.policy_of.get(&self.policies, &policy.id);
        if before.is_some_and(|place| {
            self.policies[place].policy == policy && self.policies[place].resolved.is_some()
        }) {
            return;
        }
        // The new one first: what both name stays as it is.
        let named = self.acquire_all(policy.sets(), selectors);
        let place = match before {
            Some(place) => {
                self.watch_names(place, false);
                let entry = &mut self.policies[place];
                entry.policy = policy;
                let named_before = std::mem::replace(&mut entry.named, named);
                named_before.into_iter().for_each(|set| self.release(set));
                place
            }
            None => {
                let place = self.policies.insert(PolicyEntry { policy, named, resolved: None });
                self.policy_of.insert(&self.policies, place);
                place
            }
        };
        self.watch_names(place, true);
        self.stale.policies.insert(place);
    }

    pub(super) fn drop_policy(&mut self, id: &PolicyId) {
        let Some(place) = self.policy_of.remove(&self.policies, id) else { return };
        self.watch_names(place, false);
        self.unresolve(place);
        if let Some(entry) = self.policies.remove(place) {
            entry.named.into_iter().for_each(|set| self.release(set));
        }
    }

    /// What of a policy depends on which ports pods declare, and who names which set.
    fn watch_names(&mut self, place: PolicyPlace, there: bool) {
        let PolicyEntry { policy, named, .. } = &self.policies[place];
        let mut by_name = policy.rules.iter().filter(|rule| match &rule.ports {
            Ports::Any => false,
            Ports::Some(ports) => ports.iter().any(|port| matches!(port, PortMatch::Named { .. })),
        });
        let everywhere = policy.rules.iter().any(|rule| {
            rule.direction == Direction::Egress
                && match &rule.peers {
                    Peers::Any => true,
                    Peers::Some { blocks, .. } => !blocks.is_empty(),
                }
        });
        let any = by_name.next().is_some();
        for set in named {
            let entry = &mut self.sets[*set];
            if there {
                entry.named_by.insert(place);
            } else {
                entry.named_by.remove(&place);
            }
            if there && any {
                entry.named.insert(place);
            } else {
                entry.named.remove(&place);
            }
        }
        if there && any && everywhere {
            self.named_everywhere.insert(place);
        } else {
            self.named_everywhere.remove(&place);
        }
    }

    /// What a policy comes to now, where that is another than before.
    fn resolved(&self, place: PolicyPlace) -> Option<Outcome> {
        let held = self.policies.get(place)?;
        let Some(subject) = self.set_of.get(&held.policy.subject) else {
            return held.resolved.is_some().then_some(Outcome::Unknown);
        };
        let resolved = Resolved::of(&held.policy, &self.sets[*subject].selector, self);
        let entry = delta::policy_entry(&resolved.policy);
        let same = held.resolved.as_ref().is_some_and(|held| held.entry.version == entry.version);
        // A tree has room for eleven, and there is one of each for every policy.
        let [subjects, peers] =
            [resolved.subjects, resolved.peers].map(|sets| sets.into_iter().collect::<Vec<_>>());
        (!same).then_some(Outcome::Known { subject: *subject, subjects, peers, entry })
    }

    /// Makes the policy what it comes to, and counts it.
    fn resolve(&mut self, place: PolicyPlace, outcome: Outcome) {
        let Outcome::Known { subject, subjects, peers, entry } = outcome else {
            return self.unresolve(place);
        };
        // The new ones first: what both need stays as it is. What the object names itself is there already.
        let [subjects, peers] = [subjects, peers].map(|sets| {
            let sets = sets.into_iter();
            sets.filter_map(|(id, selector)| self.acquire(id, || selector)).collect::<Vec<_>>()
        });
        self.unresolve(place);
        for set in &subjects {
            self.count_subject(*set, true);
        }
        let first = self.sets[subject].group.policies.is_empty();
        self.sets[subject].group.policies.insert(place);
        if first {
            let nodes = self.sets[subject].span.keys();
            self.stale.spans.extend(nodes.map(|node| (subject, *node)));
        }
        for peer in &peers {
            self.count_peer(subject, *peer, true);
        }
        self.stale.groups.push(subject);
        self.policies[place].resolved = Some(ResolvedEntry { subject, subjects, peers, entry });
    }

    fn unresolve(&mut self, place: PolicyPlace) {
        let Some(resolved) = self.policies[place].resolved.take() else { return };
        let subject = resolved.subject;
        for peer in resolved.peers {
            self.count_peer(subject, peer, false);
            self.release(peer);
        }
        self.sets[subject].group.policies.remove(&place);
        self.stale.groups.push(subject);
        if self.sets[subject].group.policies.is_empty() {
            let nodes = self.sets[subject].group.nodes.iter();
            self.stale.spans.extend(nodes.map(|node| (subject, *node)));
        }
        for set in resolved.subjects {
            self.count_subject(set, false);
            self.release(set);
        }
    }

    /// Whether the policies of a namespace are audited may differ between what it is and these labels.
    pub(super) fn audit_changes(&mut self, namespace: &str, labels: &network::Labels) {
        if self.is_audited(namespace) != network::policy::asks_for_audit(labels) {
            let own = self.policies.places().filter(|it| self.policies[*it].policy.id.namespace == namespace);
            self.stale.policies.extend(own);
        }
    }

    /// The sets of these ids, of which those that nobody needed so far come with their selectors.
    fn acquire_all(&mut self, ids: Few<SetId>, mut selectors: Vec<(SetId, Selector)>) -> Vec<SetPlace> {
        let acquire = |id: SetId| {
            self.acquire(id, || {
                let at = selectors.iter().position(|(held, _)| *held == id)?;
                Some(selectors.swap_remove(at).1)
            })
        };
        ids.into_iter().filter_map(acquire).collect()
    }

    /// Policies that came, and those whose port names may have come to stand for other numbers.
    pub(super) fn settle_policies(&mut self) {
        // Resolving takes sets in and out, and never a pod: it makes no other policy stale.
        let stale: Vec<PolicyPlace> = std::mem::take(&mut self.stale.policies).into_iter().collect();
        for some in stale.chunks(AT_A_TIME) {
            let made = parallel::map(some, |place| self.resolved(*place));
            for (place, made) in some.iter().zip(made) {
                if let Some(outcome) = made {
                    self.resolve(*place, outcome);
                }
            }
        }
        self.stale.policies.clear();
    }

    pub(super) fn put_service(&mut self, service: Service) {
        let key = service.key.clone();
        if self.services.get(&key).is_some_and(|held| held.service == service) {
            return;
        }
        // What is sent of it stays until it is settled: the difference to that is what counts.
        let entry = self.services.get(&key).and_then(|held| held.entry.clone());
        self.drop_service(&key);
        for pod in pods_of(&service) {
            self.services_of.entry(pod).or_default().insert(key.clone());
        }
        self.services.insert(key.clone(), ServiceEntry { service, entry });
        self.stale.services.insert(key);
    }

    pub(super) fn drop_service(&mut self, key: &NamespacedName) {
        let Some(held) = self.services.remove(key) else { return };
        for pod in pods_of(&held.service) {
            if let Some(services) = self.services_of.get_mut(&pod) {
                services.remove(key);
                if services.is_empty() {
                    self.services_of.remove(&pod);
                }
            }
        }
        self.stale.services.insert(key.clone());
    }

    /// A Service with the addresses of its endpoints' pods.
    pub(super) fn resolved_service(&self, service: &Service) -> Service {
        let mut around = Network::default();
        for key in pods_of(service) {
            let Some(entry) = self.pod_of.get(&self.pods, &key).map(|place| &self.pods[place]) else {
                continue;
            };
            let mut pod = entry.pod.clone();
            pod.addresses = entry.addresses().to_vec();
            if let Some(node) = pod.node.as_ref().and_then(|name| self.node(name)) {
                around.nodes.insert(node.name.clone(), node.clone());
            }
            around.pods.insert(key, pod);
        }
        service.resolved(&around)
    }
}

fn pods_of(service: &Service) -> BTreeSet<NamespacedName> {
    service.ports.iter().flat_map(|port| &port.endpoints).filter_map(|it| it.pod.clone()).collect()
}

impl Census for Index {
    fn selector(&self, id: SetId) -> Option<&Selector> {
        self.set_of.get(&id).map(|set| &self.sets[*set].selector)
    }

    fn numbers(
        &self,
        set: Option<SetId>,
        selector: &Selector,
        name: &str,
        protocol: Protocol,
    ) -> BTreeSet<u16> {
        match set.and_then(|id| self.set_of.get(&id)) {
            Some(set) => {
                let pods = self.sets[*set].pods.iter().map(|pod| &self.pods[*pod].pod);
                pods.flat_map(|pod| pod.port_numbers(name, protocol)).collect()
            }
            None => {
                let none = network::Labels::new();
                let labels = |pod: &network::Pod| self.namespaces.get(pod.key.namespace()).unwrap_or(&none);
                let pods = self.pods.values().map(|entry| &entry.pod);
                let selected =
                    pods.filter(|pod| pod.ports.iter().any(|port| port.name.as_deref() == Some(name)));
                let selected = selected.filter(|pod| selector.selects_pod(pod, labels(pod)));
                selected.flat_map(|pod| pod.port_numbers(name, protocol)).collect()
            }
        }
    }

    fn is_audited(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(network::policy::asks_for_audit)
    }

    fn declaring(&self, name: &str, protocol: Protocol) -> Vec<(Vec<IpAddr>, BTreeSet<u16>)> {
        let policed = self.pods.values().filter(|entry| entry.pod.is_policed());
        let all = policed.map(|it| (it.addresses().to_vec(), it.pod.port_numbers(name, protocol).collect()));
        all.filter(|(_, numbers): &(_, BTreeSet<u16>)| !numbers.is_empty()).collect()
    }
}
