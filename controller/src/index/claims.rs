//! Which addresses that agents report are believed, kept up to date. [`Bindings::merge`] says the same of everything at
//! once. A report that is in order stands unless somebody else has the address: a pod that is not reported, or one of a
//! smaller name whose report stands.

use std::collections::BTreeSet;
use std::net::IpAddr;

use network::NamespacedName;

use super::slab::PodPlace;
use super::{Index, each_once};
use crate::bindings::{self, Bindings, Verdict};

impl Index {
    pub(super) fn settle_claims(&mut self, bindings: &Bindings) {
        let mut reports = std::mem::take(&mut self.stale.reports);
        let reported = each_once(&mut self.stale.reported);
        let reporters = std::mem::take(&mut self.stale.reporters);
        if bindings.is_empty() && self.reported.is_empty() && self.refused.is_empty() {
            self.stale.claimants.clear();
            return;
        }
        reports.extend(reported.into_iter().filter_map(|place| Some(self.pods.get(place)?.pod.key.clone())));
        for node in reporters {
            reports.extend(bindings.of(&node).into_iter().flat_map(|held| held.pods.keys().cloned()));
        }
        // Noted as things happen, judged in the order of the names, each once.
        reports.sort_unstable();
        reports.dedup();
        for key in reports {
            self.judge(bindings, &key);
        }
        let claimants = each_once(&mut self.stale.claimants);
        let named = |index: &Self, place: PodPlace| Some((index.pods.get(place)?.pod.key.clone(), place));
        let mut open: BTreeSet<(NamespacedName, PodPlace)> =
            claimants.into_iter().filter_map(|place| named(self, place)).collect();
        // The smaller names first: what one comes to matters to the larger ones alone.
        while let Some((key, place)) = open.pop_first() {
            let Some(accepted) = self.pods[place].accepted.clone() else {
                self.contested.remove(&key);
                continue;
            };
            let owner = accepted.iter().find_map(|address| Some((*address, self.owner(*address, &key)?)));
            let granted = owner.is_none();
            match owner {
                None => drop(self.contested.remove(&key)),
                Some((address, owner)) => {
                    let binding = self.pods[place]
                        .pod
                        .node
                        .as_ref()
                        .and_then(|node| Some((node, bindings.of(node)?.pods.get(&key)?)));
                    if let Some((node, binding)) = binding {
                        let reason = format!("{address} is the address of pod {owner}");
                        self.contested.insert(key.clone(), bindings::refusal(node, binding, &reason));
                    }
                }
            }
            if granted != self.pods[place].granted {
                self.readdress(place, |pod| pod.granted = granted);
            }
            for address in accepted {
                let others = self.reported.get(&address).into_iter().flatten();
                let larger = others.filter_map(|other| named(self, *other)).filter(|(other, _)| *other > key);
                open.extend(larger);
            }
        }
    }

    /// Who has an address that the report of `key` is about, if not `key`.
    fn owner(&self, address: IpAddr, key: &NamespacedName) -> Option<NamespacedName> {
        let at = self.at.get(&address).into_iter().flatten().map(|place| &self.pods[*place]);
        let unreported = at.filter(|pod| pod.accepted.is_none() && pod.pod.key != *key);
        if let Some(owner) = unreported.map(|pod| &pod.pod.key).max() {
            return Some(owner.clone());
        }
        let reported = self.reported.get(&address).into_iter().flatten().map(|place| &self.pods[*place]);
        reported.filter(|pod| pod.granted && pod.pod.key < *key).map(|pod| pod.pod.key.clone()).max()
    }

    /// What every agent that reports a pod is to be believed of it.
    fn judge(&mut self, bindings: &Bindings, key: &NamespacedName) {
        let mut accepted = None;
        let place = self.pod_of.get(&self.pods, key);
        self.forget_refusals(key);
        for node in bindings.reporters(key) {
            let Some(binding) = bindings.of(node).and_then(|held| held.pods.get(key)) else { continue };
            let Some(pod) = place.map(|place| &self.pods[place].pod).filter(|pod| pod.uid == binding.uid)
            else {
                continue;
            };
            match bindings::judge(self.node(node), node, pod, binding) {
                Verdict::Believed => accepted = Some(binding.addresses.clone()),
                Verdict::Waits => {}
                Verdict::Refused(reason) => {
                    let problem = bindings::refusal(node, binding, &reason);
                    self.refused.insert((key.clone(), node.clone()), problem);
                }
            }
        }
        let Some(place) = place.filter(|place| self.pods[*place].accepted != accepted) else { return };
        self.unreport(place);
        for address in accepted.iter().flatten() {
            let pods = self.reported.entry(*address).or_default();
            if !pods.contains(&place) {
                pods.push(place);
            }
            self.stale.claimants.extend(pods.iter());
        }
        if accepted.is_some() {
            self.pods[place].accepted = accepted;
            self.unclaim(place);
        }
        self.stale.claimants.push(place);
    }

    fn forget_refusals(&mut self, key: &NamespacedName) {
        let first = (key.clone(), network::NodeName::new(""));
        let own = self.refused.range(first..).take_while(|((pod, _), _)| pod == key);
        for id in own.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.refused.remove(&id);
        }
    }

    /// The pod is not reported any more; it has what its object says.
    pub(super) fn unreport(&mut self, place: PodPlace) {
        let Some(accepted) = self.pods[place].accepted.clone() else { return };
        self.readdress(place, |pod| (pod.accepted, pod.granted) = (None, false));
        for address in accepted {
            if let Some(pods) = self.reported.get_mut(&address) {
                pods.retain(|pod| *pod != place);
                self.stale.claimants.extend(pods.iter());
                if pods.is_empty() {
                    self.reported.remove(&address);
                }
            }
        }
        self.unclaim(place);
    }

    /// Whoever reports an address of the pod's object may have won or lost it.
    fn unclaim(&mut self, place: PodPlace) {
        for address in &self.pods[place].pod.addresses {
            self.stale.claimants.extend(self.reported.get(address).into_iter().flatten());
        }
    }
}
