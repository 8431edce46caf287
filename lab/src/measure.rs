//! The matrix of a lab: what passes, probed for real, beside what the evaluator predicts. Judges nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use network::Network;
use network::matrix::{
    Cell, Difference, Entry, Grid, Matrix, Participant, Row, ServedPort, Services, predict,
};
use serde::Serialize;

use crate::error::Result;
use crate::lab::Lab;
use crate::layout::NodeIndex;
use crate::manifests;
use crate::probe::{self, Outcome, Probed, Source, Target};
use crate::{netns, pods};

mod services;

/// What met silence is asked again, after so long. At last after more than an agent waits until it has the userspace datapath
/// forget what it cached.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::ZERO, Duration::from_secs(1)];

/// One probe every so often.
const PACE: Duration = Duration::from_micros(400);

/// And then.
const SLOW: Duration = Duration::from_millis(1);

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What passed, combined only.
    pub observed: Matrix,
    /// What the evaluator predicts.
    pub predicted: Matrix,
    /// Where they differ: left observed, right predicted.
    pub differences: Vec<Difference>,
    /// Probes that ended in an unexpected way: refused, answered by another, or different per family.
    pub remarks: Vec<String>,
    /// How many probes were made.
    pub probes: usize,
}

/// The JSON of `ferrule lab matrix -o json` (docs/contracts.md).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MeasuredJson<'a> {
    /// What passed.
    pub observed: &'a Matrix,
    /// What the evaluator predicts.
    pub predicted: &'a Matrix,
    /// How many cells differ.
    pub differences: usize,
}

impl Measured {
    /// As the contract wants it.
    pub fn json(&self) -> MeasuredJson<'_> {
        MeasuredJson {
            observed: &self.observed,
            predicted: &self.predicted,
            differences: self.differences.len(),
        }
    }
}

impl Lab {
    /// Probes every pair and every served port, and predicts the same from the manifests as they are now; waits until they are
    /// in force. `progress` hears how many probes of how many are done.
    pub fn measure(&self, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Measured> {
        let in_force = self.in_force()?;
        let manifests = manifests::understand(&in_force.texts, in_force.problems, &self.record);
        let mut measured = self.measure_network(&manifests.network(&self.record), progress)?;
        measured.remarks.splice(0..0, in_force.remarks);
        Ok(measured)
    }

    /// The same for a network that the caller knows.
    pub(crate) fn measure_network(
        &self,
        network: &Network,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Measured> {
        let (mut sources, mut targets) = self.participants();
        let mut participants = self.predicted_participants(network)?;
        let services = Services::of(network);
        let asked = self.services(network, &services, &participants);
        services::take_part(asked, &mut participants, &mut sources, &mut targets);
        let predicted = predict(network, &participants).only(Grid::Combined);
        let mut remarks = Vec::new();
        let mut probed = probe::run(&sources, &targets, &self.interrupt, progress)?;
        // What should have passed and met silence is asked again, slowly: a busy machine loses packets, a policy never relents.
        for pause in PAUSES {
            let silent = silent(&probed, &predicted);
            if silent.is_empty() {
                break;
            }
            self.rest(pause)?;
            let wanted = |from: &Entry, to: &Entry, port| silent.contains(&(from.clone(), to.clone(), port));
            let again = probe::run_some(&sources, &targets, SLOW, &wanted, &self.interrupt, progress)?;
            probed.retain(|probe| !wanted(&probe.from, &probe.to, probe.port));
            probed.extend(again);
            let after = if pause.is_zero() {
                ""
            } else {
                ", after a pause in which agents have the switch forget what it cached"
            };
            remarks.push(format!(
                "{} pairs and ports were probed again, as no answer came{after}",
                silent.len()
            ));
        }
        // An endpoint that should refuse may not have been among those few that were chosen.
        let unmet = services::unmet(&probed, &predicted);
        if !unmet.is_empty() {
            let wanted = |from: &Entry, to: &Entry, port| unmet.contains(&(from.clone(), to.clone(), port));
            services::insist(&mut sources);
            probed.extend(probe::run_some(&sources, &targets, PACE, &wanted, &self.interrupt, progress)?);
        }
        let (observed, more) = observe(&sources, &targets, &probed);
        remarks.extend(more);
        let mut differences = observed.differences(&predicted);
        differences.retain(|difference| {
            let undecided = services::is_undecided(&services, &participants, difference);
            if undecided {
                remarks.push(format!(
                    "{} → {} {}: its endpoints disagree and a client keeps one; not compared",
                    difference.from, difference.to, difference.port
                ));
            }
            !undecided
        });
        Ok(Measured { observed, predicted, differences, remarks, probes: probed.len() })
    }

    fn rest(&self, pause: Duration) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < pause {
            self.interrupt.check()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn participants(&self) -> (Vec<Source>, Vec<Target>) {
        let mut sources = Vec::new();
        let mut targets = Vec::new();
        for (key, pod) in self.record.pods.iter().filter(|(_, pod)| pod.is_plugged()) {
            let entry = Entry::Pod(key.clone());
            let namespace = netns::path(&pod.namespace(&self.layout, key));
            sources.push(source(&entry, namespace, &pod.addresses));
            targets.push(Target {
                identity: key.to_string(),
                entry,
                addresses: pod.addresses.clone(),
                serves: pod.serves.clone(),
            });
        }
        for node in self.record.node_indexes() {
            let entry = Entry::Node(node.name());
            let addresses = self.layout.node_addresses(node, self.record.family);
            sources.push(source(&entry, netns::path(&self.layout.node_namespace(node)), &addresses));
            targets.push(Target {
                identity: entry.to_string(),
                entry,
                addresses,
                serves: pods::node_serves(&self.record, node),
            });
        }
        (sources, targets)
    }

    /// The outside: comes last, after the Services.
    fn outside(&self) -> (Source, Target, Participant) {
        let entry = Entry::Outside;
        let addresses = self.layout.gateway_addresses(self.record.family);
        let source = source(&entry, netns::path(&self.layout.underlay_namespace()), &addresses);
        let serves = BTreeSet::from([pods::OUTSIDE_SERVES]);
        let participant = Participant::outside(&addresses, serves.clone());
        (source, Target { identity: entry.to_string(), entry, addresses, serves }, participant)
    }

    fn predicted_participants(&self, network: &Network) -> Result<Vec<Participant>> {
        let mut all: Vec<Participant> = network
            .pods
            .values()
            .map(|pod| {
                let mut participant = Participant::pod(pod);
                // A port that its responder could not open is served by nobody.
                if let Some(plugged) = self.record.pods.get(&pod.key) {
                    participant.serves.clone_from(&plugged.serves);
                }
                participant
            })
            .collect();
        for node in self.record.node_indexes() {
            let own = self.layout.node_addresses(node, self.record.family);
            let sources = self.addresses_towards_pods(node)?;
            all.push(Participant::node(&node.name(), &sources, &own, pods::node_serves(&self.record, node)));
        }
        Ok(all)
    }

    /// What a node's packets to pods carry as their source, per family: what its kernel says, preferably for a pod elsewhere.
    fn addresses_towards_pods(&self, node: NodeIndex) -> Result<Vec<IpAddr>> {
        let mut own = Vec::new();
        for ipv4 in [true, false] {
            let mut pods: Vec<_> = self
                .record
                .pods
                .values()
                .filter(|pod| !pod.host_network)
                .flat_map(|pod| pod.addresses.iter().map(|address| (pod.node == node, *address)))
                .filter(|(_, address)| address.is_ipv4() == ipv4)
                .collect();
            pods.sort_unstable();
            let fallback = || {
                let own = self.layout.node_addresses(node, self.record.family);
                own.into_iter().find(|address| address.is_ipv4() == ipv4)
            };
            let chosen = match pods.first() {
                Some((_, pod)) => self.place_of_node(node).run(|| probe::local_address(*pod))?.ok(),
                None => None,
            };
            own.extend(chosen.or_else(fallback));
        }
        Ok(own)
    }
}

/// Where nobody answered although it was predicted to pass.
fn silent(probed: &[Probed], predicted: &Matrix) -> BTreeSet<(Entry, Entry, ServedPort)> {
    let passes = |probe: &Probed| {
        let column = predicted.order.iter().position(|entry| *entry == probe.to);
        let row =
            predicted.table.get(&probe.port).and_then(|grids| grids.get(&Grid::Combined)?.get(&probe.from));
        column.zip(row).and_then(|(column, row)| row.0.get(column)) == Some(&Cell::Passes)
    };
    probed
        .iter()
        .filter(|probe| probe.outcome == Outcome::TimedOut && passes(probe))
        .map(|probe| (probe.from.clone(), probe.to.clone(), probe.port))
        .collect()
}

fn source(entry: &Entry, namespace: std::path::PathBuf, addresses: &[IpAddr]) -> Source {
    Source {
        entry: entry.clone(),
        namespace,
        ipv4: addresses.iter().any(IpAddr::is_ipv4),
        ipv6: addresses.iter().any(IpAddr::is_ipv6),
        asks: Vec::new(),
    }
}

/// One cell per pair and port: it passes when every probe of it did, over all families.
fn observe(sources: &[Source], targets: &[Target], probed: &[Probed]) -> (Matrix, Vec<String>) {
    let mut by_cell: BTreeMap<_, Vec<&Probed>> = BTreeMap::new();
    for probe in probed {
        by_cell.entry((probe.port, &probe.from, &probe.to)).or_default().push(probe);
    }
    let mut matrix = Matrix { order: targets.iter().map(|t| t.entry.clone()).collect(), ..Matrix::default() };
    let ports = targets.iter().flat_map(|target| target.serves.iter().copied());
    for port in ports.collect::<BTreeSet<_>>() {
        let grid = matrix.table.entry(port).or_default().entry(Grid::Combined).or_default();
        for source in sources {
            let cells = targets.iter().map(|target| {
                if !target.serves.contains(&port) {
                    return Cell::NotServed;
                }
                let probes = by_cell.get(&(port, &source.entry, &target.entry));
                match probes {
                    // A Service may serve some and not others.
                    None if !target.entry.speaks() => Cell::NotServed,
                    Some(all) if all.iter().all(|probe| probe.outcome == Outcome::Passed) => Cell::Passes,
                    _ => Cell::Blocked,
                }
            });
            grid.insert(source.entry.clone(), Row(cells.collect()));
        }
    }
    let mut remarks = Vec::new();
    for ((port, from, to), probes) in &by_cell {
        if !to.speaks() {
            remarks.extend(services::remark(*port, from, to, probes));
            continue;
        }
        let passed = probes.iter().filter(|probe| probe.outcome == Outcome::Passed).count();
        for probe in probes {
            let what = match &probe.outcome {
                Outcome::Passed => continue,
                Outcome::TimedOut if passed > 0 => "timed out, while the other family passed".to_owned(),
                Outcome::TimedOut => continue,
                Outcome::Refused(why) => format!("was refused: {why}"),
                Outcome::Misdelivered(who) => format!("was answered by {who}"),
            };
            remarks.push(format!("{from} → {to} {port} at {} {what}", probe.address));
        }
    }
    (matrix, remarks)
}

#[cfg(test)]
mod tests {
    use network::{NamespacedName, Protocol};

    use super::*;

    #[test]
    fn a_cell_passes_only_when_every_family_does() {
        let port = ServedPort { protocol: Protocol::Tcp, port: 80 };
        let entry = |name: &str| Entry::Pod(NamespacedName::new("x", name));
        let (a, b) = (entry("a"), entry("b"));
        let addresses: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let sources = [source(&a, "/a".into(), &addresses), source(&b, "/b".into(), &addresses)];
        let target = |entry: &Entry, serves: &[ServedPort]| Target {
            entry: entry.clone(),
            addresses: addresses.clone(),
            serves: serves.iter().copied().collect(),
            identity: entry.to_string(),
        };
        let targets = [target(&a, &[]), target(&b, &[port])];
        let probed = |from: &Entry, address: usize, outcome: Outcome| Probed {
            from: from.clone(),
            to: b.clone(),
            address: addresses[address],
            port,
            outcome,
        };
        let probes = [
            probed(&a, 0, Outcome::Passed),
            probed(&a, 1, Outcome::TimedOut),
            probed(&b, 0, Outcome::Passed),
            probed(&b, 1, Outcome::Passed),
        ];
        let (matrix, remarks) = observe(&sources, &targets, &probes);
        let row = |from: &Entry| matrix.table[&port][&Grid::Combined][from].to_string();
        assert_eq!((row(&a), row(&b)), ("-X".into(), "-.".into()));
        assert_eq!(remarks, ["x/a → x/b TCP/80 at fd00::2 timed out, while the other family passed"]);
    }

    #[test]
    fn silence_is_asked_again_only_where_an_answer_was_predicted() {
        let port = ServedPort { protocol: Protocol::Tcp, port: 80 };
        let entry = |name: &str| Entry::Pod(NamespacedName::new("x", name));
        let (a, b) = (entry("a"), entry("b"));
        let mut predicted = Matrix { order: vec![a.clone(), b.clone()], ..Matrix::default() };
        let grid = predicted.table.entry(port).or_default().entry(Grid::Combined).or_default();
        grid.insert(a.clone(), Row(vec![Cell::Blocked, Cell::Passes]));
        let probed = |to: &Entry, outcome: Outcome| Probed {
            from: a.clone(),
            to: to.clone(),
            address: "10.0.0.2".parse().unwrap(),
            port,
            outcome,
        };
        let expected = BTreeSet::from([(a.clone(), b.clone(), port)]);
        assert_eq!(
            silent(&[probed(&b, Outcome::TimedOut), probed(&a, Outcome::TimedOut)], &predicted),
            expected
        );
        assert!(
            silent(&[probed(&b, Outcome::Refused(String::new())), probed(&b, Outcome::Passed)], &predicted)
                .is_empty()
        );
    }
}
