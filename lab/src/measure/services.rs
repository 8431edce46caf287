//! Services in the matrix of a lab (docs/adr/0021-a-cell-of-a-service.md): who asks for them, where, and who may answer. A
//! Service is asked several times, as each connection may get another endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use network::Network;
use network::matrix::{
    Choice, Difference, Entry, Grid, Matrix, Participant, ServedPort, Services, Way, services_of,
};
use network::reference::Endpoint;

use crate::lab::Lab;
use crate::pods;
use crate::probe::{Ask, Outcome, Probed, Source, Target};

/// How many connections are made for every endpoint that one may get, at first.
const TIMES: usize = 2;
/// The same where an endpoint should refuse and none did yet: one of ten that is never chosen then is one case in ten million.
const INSISTING: usize = 16;
/// At most so many connections over one way.
const MOST: usize = 320;

/// What is asked of Services, and beside it the outside, which comes after them.
pub(super) struct Asked {
    services: Vec<Participant>,
    asks: BTreeMap<Entry, Vec<Ask>>,
    outside: (Source, Target, Participant),
}

impl Lab {
    /// What everybody who takes part can ask Services for. A port is left out when not every endpoint of it is one that
    /// answers in the lab: nobody could tell a policy from a silence.
    pub(super) fn services(
        &self,
        network: &Network,
        services: &Services<'_>,
        participants: &[Participant],
    ) -> Asked {
        let outside = self.outside();
        let mut asked = Asked { services: services_of(network), asks: BTreeMap::new(), outside };
        let sources: Vec<&Participant> = participants.iter().chain([&asked.outside.2]).collect();
        for service in &mut asked.services {
            let Entry::Service(key) = service.entry.clone() else { continue };
            service.serves.retain(|port| {
                let mut asks = Vec::new();
                for from in &sources {
                    for way in services.ways(from, &key, *port) {
                        let Some(ask) = self.ask(network, &service.entry, *port, &way) else { return false };
                        asks.push((from.entry.clone(), ask));
                    }
                }
                asks.into_iter().for_each(|(from, ask)| asked.asks.entry(from).or_default().push(ask));
                true
            });
        }
        asked
    }

    /// `None` when an endpoint is none that answers in the lab.
    fn ask(&self, network: &Network, to: &Entry, port: ServedPort, way: &Way) -> Option<Ask> {
        let answers: Option<BTreeSet<String>> =
            way.choices.iter().map(|choice| self.answers(network, port, choice)).collect();
        let times = (TIMES * way.choices.len()).clamp(TIMES, MOST);
        Some(Ask { to: to.clone(), port, at: SocketAddr::new(way.at, way.port), answers: answers?, times })
    }

    /// What the one says that answers for an endpoint.
    fn answers(&self, network: &Network, port: ServedPort, choice: &Choice) -> Option<String> {
        let at = ServedPort { protocol: port.protocol, port: choice.port };
        let address = match &choice.to {
            Endpoint::Pod { key, .. } => {
                return self.record.pods.get(key)?.serves.contains(&at).then(|| key.to_string());
            }
            Endpoint::Node { address, .. } | Endpoint::Outside(address) => *address,
        };
        if let Some(pod) = network.pod_at(address) {
            return self.record.pods.get(&pod.key)?.serves.contains(&at).then(|| pod.key.to_string());
        }
        let own = |addresses: Vec<IpAddr>| addresses.contains(&address);
        let node = self
            .record
            .node_indexes()
            .find(|node| own(self.layout.node_addresses(*node, self.record.family)));
        if let Some(node) = node {
            let on_node = self.record.pods.iter().find(|(_, pod)| {
                pod.host_network && pod.is_plugged() && pod.node == node && pod.serves.contains(&at)
            });
            return match on_node {
                Some((pod, _)) => Some(pod.to_string()),
                None => pods::node_serves(&self.record, node)
                    .contains(&at)
                    .then(|| Entry::Node(node.name()).to_string()),
            };
        }
        let is_outside = own(self.layout.gateway_addresses(self.record.family));
        (is_outside && at == pods::OUTSIDE_SERVES).then(|| Entry::Outside.to_string())
    }
}

/// Services and the outside join those who are there.
pub(super) fn take_part(
    mut asked: Asked,
    participants: &mut Vec<Participant>,
    sources: &mut Vec<Source>,
    targets: &mut Vec<Target>,
) {
    targets.extend(asked.services.iter().map(|service| Target {
        entry: service.entry.clone(),
        addresses: Vec::new(),
        serves: service.serves.clone(),
        identity: service.entry.to_string(),
    }));
    participants.append(&mut asked.services);
    let (source, target, participant) = asked.outside;
    sources.push(source);
    targets.push(target);
    participants.push(participant);
    for source in sources {
        source.asks = asked.asks.remove(&source.entry).unwrap_or_default();
    }
}

/// From now on everybody asks often enough to meet every endpoint.
pub(super) fn insist(sources: &mut [Source]) {
    for ask in sources.iter_mut().flat_map(|source| &mut source.asks) {
        ask.times = (INSISTING * ask.answers.len()).clamp(ask.times, MOST);
    }
}

/// Ports of Services of which an endpoint should refuse, and all that answered passed.
pub(super) fn unmet(probed: &[Probed], predicted: &Matrix) -> BTreeSet<(Entry, Entry, ServedPort)> {
    let of_service = |probe: &&Probed| !probe.to.speaks();
    let name = |probe: &Probed| (probe.from.clone(), probe.to.clone(), probe.port);
    let met: BTreeSet<_> =
        probed.iter().filter(|probe| probe.outcome != Outcome::Passed).filter(of_service).map(name).collect();
    let blocked = |(from, to, port): &(Entry, Entry, ServedPort)| {
        predicted.cell(*port, Grid::Combined, from, to) == Some(network::matrix::Cell::Blocked)
    };
    let all = probed.iter().filter(of_service).map(name).filter(blocked);
    all.filter(|cell| !met.contains(cell)).collect()
}

/// Whether nobody can say what a cell should be: the endpoints disagree, and the client has one of them for long.
pub(super) fn is_undecided(
    services: &Services<'_>,
    participants: &[Participant],
    difference: &Difference,
) -> bool {
    let Entry::Service(key) = &difference.to else { return false };
    let from = participants.iter().find(|participant| participant.entry == difference.from);
    services.keeps_endpoint(key) && from.is_some_and(|from| services.disagree(from, key, difference.port))
}

/// What is worth saying of the connections to a port of a Service.
pub(super) fn remark(port: ServedPort, from: &Entry, to: &Entry, probes: &[&Probed]) -> Option<String> {
    let passed = probes.iter().filter(|probe| probe.outcome == Outcome::Passed).count();
    let wrong = probes.iter().find_map(|probe| match &probe.outcome {
        Outcome::Misdelivered(who) => Some(who),
        _ => None,
    });
    match wrong {
        Some(who) => Some(format!("{from} → {to} {port} was answered by {who}")),
        None if passed > 0 && passed < probes.len() => {
            Some(format!("{from} → {to} {port} passed {passed} of {} times", probes.len()))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use network::matrix::{Cell, Row};
    use network::{NamespacedName, Protocol};

    use super::*;

    #[test]
    fn an_endpoint_that_should_refuse_is_looked_for_until_it_was_met() {
        let port = ServedPort { protocol: Protocol::Tcp, port: 80 };
        let client = Entry::Pod(NamespacedName::new("t", "client"));
        let service = |name: &str| Entry::Service(NamespacedName::new("t", name));
        let (mixed, open) = (service("mixed"), service("open"));
        let mut predicted =
            Matrix { order: vec![client.clone(), mixed.clone(), open.clone()], ..Matrix::default() };
        let grid = predicted.table.entry(port).or_default().entry(Grid::Combined).or_default();
        grid.insert(client.clone(), Row(vec![Cell::NotServed, Cell::Blocked, Cell::Passes]));
        let probed = |to: &Entry, outcome: Outcome| Probed {
            from: client.clone(),
            to: to.clone(),
            address: "10.96.0.2".parse().unwrap(),
            port,
            outcome,
        };
        let passed = [probed(&mixed, Outcome::Passed), probed(&open, Outcome::Passed)];
        assert_eq!(unmet(&passed, &predicted), [(client.clone(), mixed.clone(), port)].into());
        let met = [probed(&mixed, Outcome::Passed), probed(&mixed, Outcome::TimedOut)];
        assert!(unmet(&met, &predicted).is_empty());
        let said = remark(port, &client, &mixed, &met.iter().collect::<Vec<_>>());
        assert_eq!(said.as_deref(), Some("t/client → service:t/mixed TCP/80 passed 1 of 2 times"));
    }
}
