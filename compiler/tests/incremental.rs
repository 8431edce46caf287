//! What a change comes to, added up over any sequence of changes, is what the whole compilation says, bit by bit.

#![allow(clippy::unwrap_used)]

mod networks;

use std::collections::{BTreeMap, BTreeSet};

use compiler::incremental::{Changes, Compiler, Touched};
use compiler::{Datapath, Flow, FlowKey, Input, LocalPort, NodeConfig, PortRef};
use network::{Mac, Network, NodeName, NodeView, PolicyId};
use networks::network;
use proptest::prelude::*;

/// A switch that believes everything that it is told.
#[derive(Default)]
struct Held {
    flows: BTreeMap<FlowKey, Flow>,
    whole: bool,
    /// Flows that came, and that were not there before or did something else.
    news: usize,
    came: usize,
    before: BTreeMap<FlowKey, Flow>,
}

impl Held {
    fn next(&mut self) {
        (self.whole, self.news, self.came) = (false, 0, 0);
        self.before = self.flows.clone();
    }
}

impl Changes for Held {
    fn flow(&mut self, key: FlowKey, flow: Flow) {
        self.came += 1;
        self.news += usize::from(self.before.get(&key) != Some(&flow));
        // Of two flows with one key the first stands.
        if !self.whole || !self.flows.contains_key(&key) {
            self.flows.insert(key, flow);
        }
    }

    fn everything(&mut self) {
        self.whole = true;
        self.flows.clear();
    }

    fn gone(&mut self, key: FlowKey) {
        assert!(self.flows.remove(&key).is_some(), "{key:?} was not there");
    }
}

/// Takes objects of one network or of the other, by the bits of a mask.
fn mixed(a: &Network, b: &Network, mask: u64) -> Network {
    fn pick<K: Ord + Clone, V: Clone>(a: &BTreeMap<K, V>, b: &BTreeMap<K, V>, mask: u64) -> BTreeMap<K, V> {
        let keys: BTreeSet<&K> = a.keys().chain(b.keys()).collect();
        let of = |(place, key): (usize, &K)| {
            let from = if mask >> (place % 64) & 1 == 0 { a } else { b };
            Some((key.clone(), from.get(key)?.clone()))
        };
        keys.into_iter().enumerate().filter_map(of).collect()
    }
    let mut network = a.clone();
    network.selectors.extend(b.selectors.clone());
    network.pods = pick(&a.pods, &b.pods, mask);
    network.policies = pick(&a.policies, &b.policies, mask.rotate_right(20));
    network.namespaces = pick(&a.namespaces, &b.namespaces, mask.rotate_right(40));
    network.services = pick(&a.services, &b.services, mask.rotate_right(30));
    if mask.rotate_right(50) & 7 == 7 {
        network.nodes.remove(&NodeName::new("node-2"));
    }
    network
}

/// The ports of a node: most pods are plugged, some have another UID than the view knows.
fn ports(view: &NodeView, mask: u64) -> Vec<LocalPort> {
    let mut ports = Vec::new();
    for (place, pod) in view.pods.values().enumerate() {
        let Some(first) = pod.addresses.first() else { continue };
        let dice = mask >> (place * 3 % 61) & 7;
        if dice == 0 {
            continue;
        }
        let uid = if dice == 1 { "another".into() } else { pod.uid.clone() };
        ports.push(LocalPort {
            interface: format!("fe-{}", pod.key.name()),
            pod: Some((pod.key.clone(), uid)),
            mac: Mac::from_address(*first),
            addresses: pod.addresses.clone(),
        });
    }
    ports
}

#[derive(Clone, Debug)]
struct Step {
    mask: u64,
    plugged: u64,
    closed: u8,
    renumbered: bool,
    /// Whether the compiler is told what may have changed.
    told: bool,
    forgets: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few bits change from step to step, so that most of a step is as it was.
    let step = (0u32..64, 0u32..64, prop_oneof![3 => Just(0u8), 1 => any::<u8>()], any::<bool>(), 0u8..8);
    let many = prop::collection::vec(step, 1..8);
    (any::<u64>(), any::<u64>(), many).prop_map(|(mut mask, mut plugged, many)| {
        many.into_iter()
            .map(|(a, b, closed, renumbered, kind)| {
                mask ^= if kind % 4 == 0 { mask.rotate_left(a) } else { 1 << a };
                plugged ^= if kind % 4 == 3 { 0 } else { 1 << b };
                Step { mask, plugged, closed, renumbered, told: kind < 6, forgets: kind == 5 }
            })
            .collect()
    })
}

fn walk(a: &Network, b: &Network, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut config = NodeConfig::new(NodeName::new("node-1"), Datapath::Netdev, 1500);
    // Every other node has little room for policies.
    if steps.first().is_some_and(|step| step.mask % 2 == 1) {
        config.flow_budget = (steps[0].plugged % 150) as usize;
    }
    let (mut compiler, mut held) = (Compiler::default(), Held::default());
    let mut last = NodeView::default();
    for step in steps {
        let network = mixed(a, b, step.mask);
        let view = NodeView::of(&network, &config.node);
        let ports = ports(&view, step.plugged);
        let ids = view.policies.keys().enumerate();
        let closed: BTreeSet<PolicyId> =
            ids.filter(|(i, _)| step.closed >> (i % 8) & 1 == 1).map(|(_, id)| id.clone()).collect();
        let input = Input { view: &view, described: None, config: &config, ports: &ports, closed: &closed };
        let renumbered: BTreeSet<PortRef> = match step.renumbered {
            true => ports.iter().take(1).map(|port| PortRef::Interface(port.interface.clone())).collect(),
            false => BTreeSet::new(),
        };
        let touched = Touched { renumbered: renumbered.clone(), ..touched(&last, &view, step.told) };
        if step.forgets {
            compiler.forget();
        }
        held.next();
        let refused = compiler.update(input, &touched, &mut held);
        let whole = compiler::compile_input(input);
        prop_assert_eq!(refused, &whole.refused);
        prop_assert_eq!(&held.flows, &whole.flows);
        for port in renumbered {
            prop_assert!(held.whole || held.came > 0, "the flows of {:?} did not come again", port);
        }
        // Nothing changed: nothing comes.
        held.next();
        compiler.update(input, &Touched::nothing(), &mut held);
        prop_assert!(
            held.came == 0 || (held.whole && held.news == 0),
            "{} flows came for nothing",
            held.came
        );
        prop_assert_eq!(&held.flows, &whole.flows);
        last = view;
    }
    Ok(())
}

/// What differs between two views.
fn touched(old: &NodeView, new: &NodeView, told: bool) -> Touched {
    if !told {
        return Touched::everything();
    }
    let sets = old.sets.keys().chain(new.sets.keys()).copied();
    let sets = sets.filter(|set| old.sets.get(set) != new.sets.get(set)).collect();
    Touched { policies: old.policies != new.policies, sets: Some(sets), ..Touched::nothing() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_changes_comes_to_the_whole(a in network(), b in network(), steps in steps()) {
        walk(&a, &b, &steps)?;
    }
}
