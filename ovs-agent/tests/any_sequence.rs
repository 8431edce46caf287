//! A node that is told of one change after the other sends exactly what differs, and its switch ends up with what the whole
//! compilation says: for any sequence of deltas, plugs, renumbered ports, refusals and reconnections.

#![allow(clippy::unwrap_used)]

#[path = "../../compiler/tests/networks/mod.rs"]
mod networks;

use std::collections::BTreeMap;

use api::cni::{AttachmentId, PodAddress, PodIdentity};
use api::generated::ferrule::v1alpha1 as wire;
use api::watermark::{Epoch, Watermark};
use compiler::{Datapath, NodeConfig};
use network::{Network, NodeName, NodeView};
use networks::network;
use openflow::{FlowMod, FlowModCommand, FlowStats};
use ovs_agent::attachment::Attachment;
use ovs_agent::event::{Database, Event, Observed, PortStatus, Session};
use ovs_agent::node::{Node, Start};
use ovs_agent::saved::Saved;
use ovs_agent::shadow::Shadow;
use proptest::prelude::*;

type Flows = BTreeMap<String, FlowMod>;

fn key(flow: &FlowMod) -> String {
    format!("{} {} {:?}", flow.table.0, flow.priority, flow.match_.to_bytes())
}

struct World {
    node: Node,
    config: NodeConfig,
    view: NodeView,
    switch: Flows,
    ports: BTreeMap<String, PortStatus>,
    nonce: u64,
    sessions: u64,
}

impl World {
    fn new() -> Self {
        let config = NodeConfig::new(NodeName::new("node-1"), Datapath::Netdev, 1500);
        let node = Node::new(Start {
            config: config.clone(),
            described: network::Node {
                name: config.node.clone(),
                labels: BTreeMap::new(),
                addresses: vec!["172.30.0.1".parse().unwrap()],
                pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
                ..network::Node::default()
            },
            saved: Saved::default(),
            attachments: BTreeMap::new(),
            has_controllers: true,
            revision: 1,
        });
        let ports = [(config.gateway.clone(), 1), (config.tunnel.clone(), 2)]
            .map(|(name, number)| (name, PortStatus { ofport: Some(number), error: None }));
        let (view, switch) = (NodeView::default(), Flows::new());
        let mut world = Self { node, config, view, switch, ports: ports.into(), nonce: 0, sessions: 0 };
        world.node.handle(Event::StreamOpened(Session(1), "controller:1".into()));
        world.connect();
        world.database();
        world
    }

    fn connect(&mut self) {
        let mut shadow = Shadow::default();
        for flow in self.switch.values() {
            shadow.observe(&FlowStats {
                table: flow.table,
                priority: flow.priority,
                cookie: flow.cookie,
                match_: flow.match_.clone(),
                instructions: flow.instructions.clone(),
                ..FlowStats::default()
            });
        }
        self.sessions += 1;
        let observed =
            Observed { session: Session(self.sessions), version: "3.1.0".into(), shadow, copies: true };
        self.node.handle(Event::SwitchObserved(Box::new(observed)));
    }

    fn database(&mut self) {
        let database = Database { ports: self.ports.clone(), realized: true, ..Database::default() };
        self.node.handle(Event::Database(Box::new(database)));
    }

    fn learn(&mut self, network: &Network) {
        let next = NodeView::of(network, &self.config.node);
        self.nonce += 1;
        let watermark = Watermark { epoch: Epoch(1), revisions: BTreeMap::new() };
        let delta = wire::Delta {
            nonce: self.nonce,
            watermark: Some(api::convert::encode_watermark(&watermark)),
            ..api::delta::delta(&api::delta::versions(&self.view), &api::delta::resources(&next))
        };
        self.node.handle(Event::Delta(Session(1), Box::new(delta)));
        self.view = next;
    }

    /// Plugs some of the pods that the view knows of, or unplugs those that are plugged.
    fn plug(&mut self, dice: u64) {
        let pods: Vec<_> = self.view.pods.values().cloned().collect();
        for (place, pod) in pods.into_iter().enumerate() {
            let (Some(first), true) = (pod.addresses.first(), dice >> (place % 60) & 1 == 1) else {
                continue;
            };
            let id = AttachmentId { container_id: pod.key.name().to_owned(), interface: "eth0".into() };
            let interface = id.host_interface();
            if self.ports.remove(&interface).is_some() {
                self.node.handle(Event::Unplugged(id));
                continue;
            }
            // A port may have no number yet, and gets one that another had.
            let number = 10 + place as u32 + (dice % 5) as u32;
            let number = Some(number).filter(|n| !self.ports.values().any(|p| p.ofport == Some(*n)));
            self.ports.insert(interface.clone(), PortStatus { ofport: number, error: None });
            let address =
                |address: &std::net::IpAddr| PodAddress { address: *address, gateway: *address, range: None };
            self.node.handle(Event::Plugged(Box::new(Attachment {
                host_interface: interface,
                id,
                network: "ferrule".into(),
                netns: String::new(),
                pod: Some(PodIdentity {
                    namespace: pod.key.namespace().to_owned(),
                    name: pod.key.name().to_owned(),
                    uid: if dice.is_multiple_of(7) { "another".into() } else { pod.uid.clone() },
                }),
                mac: network::Mac::from_address(*first),
                addresses: pod.addresses.iter().map(address).collect(),
                ipam: None,
            })));
        }
        self.database();
    }

    /// Swaps the numbers of two pods' ports.
    fn renumber(&mut self) {
        let pods = self.ports.iter_mut().filter(|(name, _)| !name.starts_with("ferrule-"));
        let mut pods: Vec<_> = pods.map(|(_, status)| status).collect();
        if let [a, b, ..] = &mut pods[..] {
            std::mem::swap(&mut a.ofport, &mut b.ofport);
        }
        self.database();
    }

    fn wanted(&self) -> Flows {
        let reasons = self.node.snapshot().reasons;
        let recipe = reasons.recipe();
        let program = recipe.program();
        program.bind(|port| recipe.numbers.get(port).copied()).map(|flow| (key(&flow), flow)).collect()
    }

    /// Lets the node send what it wants; the switch refuses the first bundle if it is told to. Gives how many flow-mods
    /// were carried out.
    fn settle(&mut self, mut refuse: Option<usize>) -> usize {
        let mut sent = 0;
        while let Some((_, flows)) = self.node.work().flows {
            if let Some(index) = refuse.take() {
                let index = index % flows.len();
                self.node.handle(Event::SwitchRefused { index, error: "OFPBMC_BAD_FIELD".into() });
                continue;
            }
            for flow in flows {
                sent += 1;
                match flow.command {
                    FlowModCommand::Add => drop(self.switch.insert(key(&flow), flow)),
                    FlowModCommand::DeleteStrict => {
                        assert!(self.switch.remove(&key(&flow)).is_some(), "nothing to delete: {flow:?}");
                    }
                    other => panic!("{other:?}"),
                }
            }
            self.node.handle(Event::SwitchConfirmed);
        }
        sent
    }

    /// Settles, and compares with the whole compilation.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let (before, wanted) = (self.switch.clone(), self.wanted());
        let same = |flow: &FlowMod, other: Option<&FlowMod>| {
            other.is_some_and(|o| (o.cookie, &o.instructions) == (flow.cookie, &flow.instructions))
        };
        let differs = wanted.iter().filter(|(key, flow)| !same(flow, before.get(*key))).count()
            + before.keys().filter(|key| !wanted.contains_key(*key)).count();
        prop_assert_eq!(self.settle(None), differs, "flow-mods sent, and flows that differ");
        prop_assert_eq!(&self.switch, &wanted);
        Ok(())
    }
}

/// The policies of one network beside the pods of another, by the bits of a mask.
fn mixed(a: &Network, b: &Network, mask: u64) -> Network {
    let mut mixed = a.clone();
    mixed.selectors.extend(b.selectors.clone());
    for (place, (id, policy)) in b.policies.iter().enumerate() {
        if mask >> place & 1 == 1 {
            mixed.policies.insert(id.clone(), policy.clone());
        }
    }
    for (place, (key, pod)) in b.pods.iter().enumerate() {
        match mask >> (2 * place + 8) & 3 {
            1 => drop(mixed.pods.insert(key.clone(), pod.clone())),
            2 => drop(mixed.pods.remove(key)),
            _ => {}
        }
    }
    mixed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn exactly_what_differs_is_sent(
        a in network(), b in network(), steps in prop::collection::vec((any::<u64>(), 0u8..10), 1..10),
    ) {
        let mut world = World::new();
        let mut mask = 0;
        world.learn(&a);
        world.plug(u64::MAX - 4);
        for (dice, kind) in steps {
            match kind {
                0 => world.renumber(),
                1..=3 => world.plug(dice),
                4 => world.connect(),
                5 => {
                    mask ^= 1 << (dice % 32);
                    world.learn(&mixed(&a, &b, mask));
                    // Whatever is left out for it comes back when it is tried again.
                    world.settle(Some(dice as usize));
                    world.node.handle(Event::Retry);
                }
                _ => {
                    mask ^= 1 << (dice % 32);
                    world.learn(&mixed(&a, &b, mask));
                }
            }
            world.check()?;
        }
        // Whoever looks at everything again finds nothing to do.
        world.connect();
        prop_assert_eq!(world.settle(None), 0);
    }
}
