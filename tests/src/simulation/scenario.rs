//! Random scenarios: from a seed to steps, one at a time, and the way back to rest. All chance is here.

use std::collections::BTreeSet;

use network::{Labels, Network, Node, NodeName, Peers, Pod, Policy, Selector, Tier};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::step::Step;
use super::world::{World, fingerprint, uid};

#[allow(clippy::unwrap_used)]
#[path = "../../../compiler/tests/networks/mod.rs"]
mod networks;

/// Numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Equal seeds, equal numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// So many times of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these; there is one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// What a scenario may do.
#[derive(Clone, Copy, Debug)]
pub struct Flavour {
    /// Every tier, not only NetworkPolicy.
    pub tiers: bool,
    /// Controllers at the same time.
    pub replicas: usize,
    /// The switch refuses flow-mods.
    pub refusals: bool,
    /// Messages arrive as from peers of a later version.
    pub newer: bool,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps.
    pub steps: usize,
    /// Times at rest.
    pub rests: usize,
    /// Packets walked.
    pub walked: usize,
    /// Of these, the ones that reached their pod.
    pub delivered: usize,
    /// States that an agent had to refuse.
    pub stale: usize,
}

/// A scenario under way.
#[derive(Debug)]
pub struct Run {
    seed: u64,
    flavour: Flavour,
    dice: Dice,
    runner: TestRunner,
    incarnations: usize,
    /// The cluster.
    pub world: World,
    /// What happened so far.
    pub log: Vec<Step>,
}

/// More steps than any way back to rest takes.
const PATIENCE: usize = 4000;

impl Run {
    /// A scenario that has not begun.
    pub fn new(seed: u64, flavour: Flavour) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let network = sample(&mut runner, flavour);
        let mut world = World::new(network, flavour.replicas);
        world.newer = flavour.newer;
        Self { seed, flavour, dice: Dice::new(seed), runner, incarnations: 0, world, log: Vec::new() }
    }

    /// The network that it began with, for a replay.
    pub fn beginning(seed: u64, flavour: Flavour) -> World {
        Self::new(seed, flavour).world
    }

    /// Plays: `rounds` times so many random steps, then to rest and through a restart that must change nothing.
    pub fn play(&mut self, rounds: usize, steps: usize) -> Tally {
        let mut tally = Tally::default();
        for _ in 0..rounds {
            for _ in 0..steps {
                if let Some(step) = self.random_step() {
                    self.take(step);
                }
            }
            self.come_to_rest();
            self.take(Step::Quiet(true));
            self.restart_something();
            self.come_to_rest();
            self.take(Step::Quiet(false));
            tally.rests += 2;
        }
        let stale = self.world.machines.values().map(|machine| machine.stale_sent).sum();
        Tally {
            steps: self.log.len(),
            walked: self.world.walked,
            delivered: self.world.delivered,
            stale,
            ..tally
        }
    }

    /// Everything that can be compared, in words.
    pub fn digest(world: &World) -> Vec<String> {
        let mut digest = world.trace.clone();
        for replica in &world.replicas {
            let Some(state) = &replica.state else { continue };
            digest.push(format!("model {}", fingerprint(&state.network())));
            for node in state.network().nodes.keys() {
                digest.push(format!("view of {node} {}", fingerprint(&state.index().resources(node))));
            }
        }
        for (name, machine) in &world.machines {
            digest.push(format!("program of {name} {}", fingerprint(&machine.switch.listing())));
        }
        digest
    }

    fn take(&mut self, step: Step) {
        self.log.push(step);
        let result = match self.log.last() {
            Some(step) => self.world.step(step),
            None => Ok(()),
        };
        if let Err(violation) = result {
            let log: Vec<String> = self.log.iter().map(|step| serde_json::json!(step).to_string()).collect();
            panic!(
                "{violation}\n\nseed {}, {:?}, after {} steps:\n{}",
                self.seed,
                self.flavour,
                log.len(),
                log.join("\n")
            );
        }
    }

    fn come_to_rest(&mut self) {
        for _ in 0..PATIENCE {
            match next_towards_rest(&self.world) {
                Some(step) => self.take(step),
                None => return self.take(Step::Rest),
            }
        }
        let last: Vec<_> = self.log.iter().rev().take(12).collect();
        panic!("seed {}, {:?}: it does not come to rest; last: {last:?}", self.seed, self.flavour);
    }

    /// One of the restarts after which nothing may be sent.
    fn restart_something(&mut self) {
        let machines: Vec<NodeName> = self.world.machines.keys().cloned().collect();
        let node = self.dice.pick(&machines).clone();
        let replica = self.dice.below(self.flavour.replicas);
        match self.dice.below(5) {
            0 => self.take(Step::AgentDown(node, true)),
            1 => self.world.streams.keys().copied().collect::<Vec<_>>().into_iter().for_each(|id| {
                self.take(Step::Cut(id, 0));
            }),
            2 => self.take(Step::SwitchLost { node, applied: true, restart: false, renumber: false }),
            3 => self.take(Step::ReplicaDown(replica)),
            _ => {
                self.take(Step::DatabaseLost(node.clone()));
                self.take(Step::AgentDown(node, true));
                (0..self.flavour.replicas).for_each(|replica| self.take(Step::ReplicaDown(replica)));
            }
        }
    }

    fn random_step(&mut self) -> Option<Step> {
        if self.dice.chance(72) {
            let possible = deliveries(&self.world);
            if !possible.is_empty() {
                return Some(match self.dice.pick(&possible) {
                    Step::Bundle(node, _) if self.flavour.refusals && self.dice.clone().chance(30) => {
                        Step::Bundle(node.clone(), Some(self.dice.below(10_000)))
                    }
                    step => step.clone(),
                });
            }
        }
        let machines: Vec<NodeName> = self.world.machines.keys().cloned().collect();
        let node = self.dice.pick(&machines).clone();
        let streams: Vec<u64> = self.world.streams.keys().copied().collect();
        let replica = self.dice.below(self.flavour.replicas);
        match self.dice.below(100) {
            0..16 => self.policy(),
            16..21 => self.pod_changes(),
            21..24 => self.namespace(),
            24..27 => self.node(node),
            27..47 => self.plug(),
            47..55 => {
                let ids: Vec<_> = self.world.machines[&node].plugged().map(|a| a.id.clone()).collect();
                (!ids.is_empty()).then(|| Step::Unplug(node, self.dice.pick(&ids).clone()))
            }
            55..61 if !streams.is_empty() => Some(Step::Cut(*self.dice.pick(&streams), self.dice.below(3))),
            61..65 => Some(Step::AgentDown(node, self.dice.chance(50))),
            65..68 => Some(Step::ReplicaDown(replica)),
            68..74 => Some(Step::SwitchLost {
                node,
                applied: self.dice.chance(50),
                restart: self.dice.chance(50),
                renumber: self.dice.chance(50),
            }),
            74..82 if self.flavour.refusals => Some(Step::Bundle(node, Some(self.dice.below(10_000)))),
            82..88 => Some(Step::Busy(node)),
            88..91 => Some(Step::DatabaseLost(node)),
            91..95 => Some(Step::Ports(node, self.dice.chance(50))),
            95..97 => Some(Step::Wait(4_000)),
            97..99 => Some(Step::Stale(node)),
            _ => Some(Step::Wait(1)),
        }
    }

    fn policy(&mut self) -> Option<Step> {
        let ids: Vec<_> = self.world.network.policies.keys().cloned().collect();
        if !ids.is_empty() && self.dice.chance(30) {
            return Some(Step::NoPolicy(self.dice.pick(&ids).clone()));
        }
        let fresh = sample(&mut self.runner, self.flavour);
        let policies: Vec<&Policy> = fresh.policies.values().collect();
        let policy = (!policies.is_empty()).then(|| (*self.dice.pick(&policies)).clone())?;
        let peers = policy.rules.iter().filter_map(|rule| match &rule.peers {
            Peers::Some { sets, .. } => Some(sets),
            Peers::Any => None,
        });
        let ids: BTreeSet<_> = peers.flatten().copied().chain([policy.subject]).collect();
        let selectors: Vec<Selector> = ids.iter().filter_map(|id| fresh.selectors.get(id).cloned()).collect();
        Some(Step::Policy(Box::new(policy), selectors))
    }

    /// A pod is made, made anew under its name, relabelled, ended or deleted.
    fn pod_changes(&mut self) -> Option<Step> {
        let keys: Vec<_> = self.world.network.pods.keys().cloned().collect();
        if !keys.is_empty() && self.dice.chance(25) {
            return Some(Step::NoPod(self.dice.pick(&keys).clone()));
        }
        let fresh = sample(&mut self.runner, self.flavour);
        let pods: Vec<&Pod> = fresh.pods.values().collect();
        let mut pod = (*self.dice.pick(&pods)).clone();
        if let Some(old) = self.world.network.pods.get(&pod.key)
            && self.dice.chance(60)
        {
            pod = Pod { labels: pod.labels, completed: pod.completed, ports: pod.ports, ..old.clone() };
        } else {
            self.incarnations += 1;
            pod.uid = format!("{}-{}", pod.uid, self.incarnations);
        }
        Some(Step::Pod(Box::new(pod)))
    }

    fn namespace(&mut self) -> Option<Step> {
        let names: Vec<_> = self.world.network.namespaces.keys().cloned().collect();
        let app = *self.dice.pick(&["cart", "shop", "bank"]);
        let name = (!names.is_empty()).then(|| self.dice.pick(&names).clone())?;
        Some(Step::Namespace(name, Labels::from([("app".to_owned(), app.to_owned())])))
    }

    /// A node leaves, comes back, or moves to another address.
    fn node(&mut self, name: NodeName) -> Option<Step> {
        let Some(node) = self.world.network.nodes.get(&name) else {
            return Some(Step::Node(Box::new(self.world.machines[&name].described.clone())));
        };
        if self.dice.chance(40) {
            return Some(Step::NoNode(name));
        }
        let mut node: Node = node.clone();
        if let Some(std::net::IpAddr::V4(address)) = node.addresses.first_mut() {
            let [a, b, _, d] = address.octets();
            *address = [a, b, self.dice.below(4) as u8, d].into();
        }
        Some(Step::Node(Box::new(node)))
    }

    fn plug(&mut self) -> Option<Step> {
        let pods: Vec<_> = self
            .world
            .network
            .pods
            .values()
            .filter(|pod| pod.is_policed())
            .map(|pod| pod.key.clone())
            .collect();
        (!pods.is_empty()).then(|| Step::Plug(self.dice.pick(&pods).clone()))
    }
}

/// A random network whose pods have no address before they are plugged.
fn sample(runner: &mut TestRunner, flavour: Flavour) -> Network {
    let mut network = match networks::network().new_tree(runner) {
        Ok(tree) => tree.current(),
        Err(reason) => panic!("no network can be made: {reason}"),
    };
    for pod in network.pods.values_mut().filter(|pod| !pod.host_network) {
        pod.addresses.clear();
    }
    if !flavour.tiers {
        network.policies.retain(|_, policy| policy.tier == Tier::NetworkPolicy);
    }
    network
}

/// Every step that only lets happen what is under way.
fn deliveries(world: &World) -> Vec<Step> {
    let mut steps = Vec::new();
    for (id, stream) in &world.streams {
        if stream.broken && stream.agent_end {
            steps.push(Step::AgentNotices(*id));
        }
        if stream.replica_end && !stream.up.is_empty() {
            steps.push(Step::Up(*id));
        } else if stream.broken && stream.replica_end {
            steps.push(Step::ReplicaNotices(*id));
        }
        if !stream.broken && stream.down.as_ref().is_some_and(|down| !down.is_empty()) {
            steps.push(Step::Down(*id));
        }
    }
    for (name, machine) in &world.machines {
        let name = || name.clone();
        if machine.agent.is_none() {
            steps.push(Step::AgentUp { node: name(), clock_back: machine.sessions_odd() });
            continue;
        }
        let wanted = machine.rows.as_ref().map(|rows| rows.ports.keys().collect::<Vec<_>>());
        let made = machine.switch.ports.iter().filter(|(_, number)| number.is_some());
        if wanted.is_some_and(|wanted| {
            wanted.len() != machine.switch.ports.len()
                || wanted != made.map(|(name, _)| name).collect::<Vec<_>>()
        }) {
            steps.push(Step::Ports(name(), false));
        }
        if !machine.database || machine.heard.as_ref() != Some(&machine.switch.ports) {
            steps.push(Step::Database(name()));
        }
        if !machine.connected {
            steps.push(Step::SwitchBack(name()));
        }
        if machine.bundle.is_some() {
            steps.push(Step::Bundle(name(), None));
        }
        if machine.answer.is_some() {
            steps.push(Step::Answer(name()));
        } else if machine.retry {
            steps.push(Step::Retry(name()));
        }
        if machine.is_unsaved() {
            steps.push(Step::Save(name()));
        }
        if machine.busy {
            steps.push(Step::Work(name()));
        }
        let open = |replica: usize| {
            world
                .streams
                .values()
                .any(|it| it.replica == replica && it.agent_end && it.node == machine.described.name)
        };
        let runs = |replica: &usize| world.replicas[*replica].state.is_some();
        let dialled = (0..world.replicas.len()).filter(|replica| runs(replica) && !open(*replica));
        steps.extend(dialled.map(|replica| Step::Open(name(), replica)));
    }
    for (number, replica) in world.replicas.iter().enumerate() {
        if replica.state.is_none() {
            steps.push(Step::ReplicaUp { replica: number, forgetful: replica.unread.len() % 3 == 1 });
            continue;
        }
        if !replica.unread.is_empty() {
            steps.push(Step::Read(number));
        }
        if replica.dirty {
            steps.push(Step::Settle(number));
        }
    }
    steps
}

/// The next step on the way to rest; `None` when everything is there, every controller too.
fn next_towards_rest(world: &World) -> Option<Step> {
    let under_way = deliveries(world).into_iter().next();
    let under_way = under_way.map(|step| match step {
        Step::ReplicaUp { replica, .. } => Step::ReplicaUp { replica, forgetful: false },
        Step::AgentUp { node, .. } => Step::AgentUp { node, clock_back: false },
        step => step,
    });
    under_way.or_else(|| gone(world)).or_else(|| retry(world)).or_else(|| wake(world))
}

/// The runtime takes away what is plugged of pods that are no more.
fn gone(world: &World) -> Option<Step> {
    world.machines.iter().find_map(|(name, machine)| {
        let stale = machine.plugged().find(|attachment| {
            let pod = attachment.pod_name().and_then(|key| world.network.pods.get(&key));
            pod.is_none_or(|pod| {
                pod.uid != uid(attachment) || pod.node.as_ref() != Some(name) || !pod.is_policed()
            })
        })?;
        Some(Step::Unplug(name.clone(), stale.id.clone()))
    })
}

/// What a switch refused once it takes now.
fn retry(world: &World) -> Option<Step> {
    let (name, _) = world.machines.iter().find(|(_, machine)| machine.refused)?;
    Some(Step::Retry(name.clone()))
}

/// A controller that waits for bindings waits no longer.
fn wake(world: &World) -> Option<Step> {
    let now = world.now();
    let mut running = world.replicas.iter().filter_map(|replica| replica.state.as_ref());
    running.any(|state| state.wake_at(now).is_some()).then_some(Step::Wait(4_000))
}
