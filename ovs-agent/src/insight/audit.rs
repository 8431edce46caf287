//! What the node holds against what it should hold, thing by thing. Pure but for the host, which its driver reads; nothing is
//! changed here.

use std::collections::BTreeMap;
use std::time::SystemTime;

use api::insight::{AuditItem, Difference};
use compiler::host::HostState;
use compiler::switch::SwitchRows;
use compiler::{Reason, Table};
use network::NodeName;
use openflow::{FlowMod, FlowStats};

use super::flows::{actions, shown};
use crate::drift::{Drift, NOT_OURS, Past, Thing};
use crate::drivers::beside::Beside;
use crate::drivers::netlink::{Change, Netlink};
use crate::drivers::nftables::Nftables;
use crate::drivers::sysctl::Sysctls;
use crate::event::Database;
use crate::recipe::Recipe;
use crate::shadow::{FlowId, Held, named};

/// Flows that are missing, extra or other than they should be, in the order of the pipeline.
pub(super) fn flows(recipe: &Recipe, held: &[FlowStats]) -> Vec<AuditItem> {
    let node = &recipe.config.node;
    let program = recipe.program();
    let mut found: BTreeMap<FlowId, &FlowStats> = held
        .iter()
        // What the switch learned is its own.
        .filter(|flow| !Table::from_id(flow.table.0).is_some_and(Table::is_learned))
        .map(|flow| (FlowId::new(flow.table, flow.priority, &flow.match_), flow))
        .collect();
    let mut items = Vec::new();
    for wanted in program.bind(|port| recipe.numbers.get(port).copied()) {
        let reason = program.reasons.get(&wanted.cookie);
        match found.remove(&FlowId::of(&wanted)) {
            None => items.push(item(node, Difference::Missing, reason, Some(&wanted), None)),
            Some(there) if Held::observed(there) != Held::wanted(&wanted) => {
                items.push(item(node, Difference::Changed, reason, Some(&wanted), Some(there)));
            }
            Some(_) => {}
        }
    }
    items.extend(found.into_values().map(|there| item(node, Difference::Extra, None, None, Some(there))));
    items
}

fn item(
    node: &NodeName,
    difference: Difference,
    reason: Option<&Reason>,
    wanted: Option<&FlowMod>,
    found: Option<&FlowStats>,
) -> AuditItem {
    let key = wanted.map(|flow| (flow.table, flow.priority, &flow.match_));
    let key = key.or(found.map(|flow| (flow.table, flow.priority, &flow.match_)));
    let object = key.map_or_else(String::new, |(table, priority, match_)| named(table, priority, match_));
    let does = |flow: &FlowMod| {
        flow.to_string().split_once("actions=").map_or_else(String::new, |(_, actions)| actions.to_owned())
    };
    let mut now = found.map(actions);
    if let (Some(wanted), Some(there)) = (wanted, found)
        && wanted.cookie != there.cookie
    {
        now = now.map(|actions| format!("{actions} (cookie {:#x})", there.cookie.0));
    }
    let what = reason.map_or(NOT_OURS, |reason| &reason.what);
    AuditItem {
        wanted: wanted.map(does),
        found: now,
        owners: reason.into_iter().flat_map(|reason| &reason.owners).map(shown).collect(),
        ..thing(node, "flow", difference, object, what)
    }
}

fn thing(node: &NodeName, place: &str, difference: Difference, object: String, what: &str) -> AuditItem {
    AuditItem {
        node: node.clone(),
        place: place.into(),
        difference,
        object,
        wanted: None,
        found: None,
        owners: Vec::new(),
        what: what.into(),
        repaired: false,
        at: None,
    }
}

/// Meters and groups.
pub(super) fn beside(node: &NodeName, all: Vec<Beside>) -> Vec<AuditItem> {
    let item = |one: Beside| {
        let mut item = thing(node, one.place, one.difference, one.object, &one.what);
        (item.wanted, item.found) = (one.wanted, one.found);
        item
    };
    all.into_iter().map(item).collect()
}

/// What somebody else changed lately, and the agent put right by itself.
pub(super) fn past(node: &NodeName, recipe: &Recipe, past: &Past, now: SystemTime) -> Vec<AuditItem> {
    let ids = past.lately(now).filter_map(|(_, drift)| match &drift.thing {
        Thing::Flow { id, known: true } => Some(id),
        _ => None,
    });
    let reasons = recipe.reasons_of(&ids.collect());
    let item = |(at, drift): &(SystemTime, Drift)| {
        let mut item = match &drift.thing {
            Thing::Flow { id, known } => {
                let (table, priority, match_) = id.parts();
                let object = named(table, priority, &match_);
                let reason = reasons.get(id).filter(|_| *known);
                let unknown = match drift.difference {
                    Difference::Extra => "not ours: nobody knows why it was here",
                    _ => "what made it is gone since",
                };
                let what = reason.map_or(unknown, |reason| &reason.what);
                let mut item = thing(node, drift.place, drift.difference, object, what);
                item.owners = reason.into_iter().flat_map(|reason| &reason.owners).map(shown).collect();
                item
            }
            Thing::Other { object, what } => thing(node, drift.place, drift.difference, object.clone(), what),
        };
        (item.repaired, item.at) = (true, Some(crate::time::rfc3339(*at)));
        item
    };
    past.lately(now).map(item).collect()
}

/// The bridge and its ports.
pub(super) fn database(node: &NodeName, wanted: &SwitchRows, held: Option<&Database>) -> Vec<AuditItem> {
    let at = |difference, object: String, what: &str| thing(node, "database", difference, object, what);
    let Some(held) = held else {
        return vec![at(Difference::Missing, wanted.bridge.name.clone(), "the database has not been read")];
    };
    let mut items = Vec::new();
    let bridge = &wanted.bridge;
    for (column, should, is) in [
        ("fail_mode", &bridge.fail_mode, &held.fail_mode),
        ("datapath_type", &bridge.datapath_type, &held.datapath_type),
    ] {
        if should != is {
            let mut item =
                at(Difference::Changed, format!("bridge {} {column}", bridge.name), "a column of the bridge");
            (item.wanted, item.found) = (Some(should.clone()), Some(is.clone()));
            items.push(item);
        }
    }
    for name in wanted.ports.keys() {
        match held.ports.get(name) {
            None => items.push(at(Difference::Missing, format!("port {name}"), "a port of the bridge")),
            Some(status) if status.ofport.is_none() => {
                let mut item =
                    at(Difference::Changed, format!("port {name}"), "Open vSwitch gives it no number");
                item.found.clone_from(&status.error);
                items.push(item);
            }
            Some(_) => {}
        }
    }
    let local = &bridge.name;
    for name in held.ports.keys().filter(|name| *name != local && !wanted.ports.contains_key(*name)) {
        items.push(at(Difference::Extra, format!("port {name}"), NOT_OURS));
    }
    if items.is_empty() && !held.realized {
        let what = held.problem.clone().unwrap_or_else(|| "some column is not as it should be yet".into());
        items.push(at(Difference::Changed, format!("bridge {local}"), &what));
    }
    items
}

/// Device, addresses, neighbours, routes, kernel settings and the nftables table; and what could not be read.
pub(super) async fn host(
    node: &NodeName,
    wanted: &HostState,
    nftables: &Nftables,
) -> (Vec<AuditItem>, Vec<String>) {
    let (mut items, mut warnings) = (Vec::new(), Vec::new());
    let at = |difference, object: String, what: &str| thing(node, "host", difference, object, what);
    let changes = match Netlink::open() {
        Ok(netlink) => netlink.difference(wanted).await,
        Err(error) => Err(error),
    };
    match changes {
        Ok(changes) => items.extend(changes.into_iter().map(|change| {
            let (difference, object, what) = described(&change);
            at(difference, object, what)
        })),
        Err(error) => warnings.push(format!("the host's network: {error}")),
    }
    let (settings, failed) = Sysctls::default().differing(&wanted.sysctls);
    items.extend(settings.into_iter().map(|(name, value, is)| {
        let mut item = at(Difference::Changed, format!("sysctl {name}"), "a setting of the kernel");
        (item.wanted, item.found) = (Some(value), Some(is));
        item
    }));
    warnings.extend(failed.iter().map(ToString::to_string));
    match nftables.differences(&wanted.nftables).await {
        Ok(meddled) => items.extend(meddled.into_iter().map(|one| {
            let mut item = at(one.difference, format!("nftables {}", one.object), &one.what);
            (item.wanted, item.found) = (one.wanted, one.found);
            item
        })),
        Err(error) => warnings.push(error.to_string()),
    }
    (items, warnings)
}

fn described(change: &Change) -> (Difference, String, &'static str) {
    use Difference::{Changed, Extra, Missing};
    match change {
        Change::SetLink { device, .. } => (Changed, format!("device {device}"), "the way to the pods"),
        Change::RemoveRoute(route) => {
            (Extra, format!("route {}", route.destination), "a route with our mark")
        }
        Change::AddRoute(route) => (Missing, format!("route {}", route.destination), "the way to a range"),
        Change::ReplaceRoute(route) => {
            (Changed, format!("route {}", route.destination), "the way to a range")
        }
        Change::RemoveNeighbour(one) => (Extra, format!("neighbour {}", one.address), "on our device"),
        Change::SetNeighbour(one) => (Changed, format!("neighbour {}", one.address), "the router's address"),
        Change::RemoveAddress(one) => (Extra, format!("address {}", one.address), "on our device"),
        Change::AddAddress(one) => {
            (Missing, format!("address {}", one.address), "the node's own among its pods")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use compiler::{Datapath, LocalPort, NodeConfig, PortRef};
    use network::{
        Direction, Isolation, LabelSelector, Mac, NamespacedName, Network, Node, NodeView, Peers, Pod,
        Policy, PolicyId, PolicyKind, PortMatch, PortRange, Ports, Protocol, Rule, Selector, Tier,
    };
    use openflow::{Action, Instruction, Match, PortNo, TableId};

    use super::*;

    /// Two pods of one node, one of which a policy isolates.
    fn recipe() -> Recipe {
        let name = NodeName::new("node-1");
        let node = Node {
            name: name.clone(),
            labels: Default::default(),
            addresses: vec!["192.168.0.1".parse().unwrap()],
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            ..Node::default()
        };
        let mut network = Network::default();
        network.nodes.insert(name.clone(), node.clone());
        let mut ports = Vec::new();
        for (number, pod) in ["cart", "web"].into_iter().enumerate() {
            let address = std::net::IpAddr::from([10, 244, 1, 10 + number as u8]);
            let key = NamespacedName::new("shop", pod);
            let pod = Pod {
                key: key.clone(),
                uid: pod.into(),
                node: Some(name.clone()),
                labels: network::Labels::from([("app".to_owned(), pod.to_owned())]).into(),
                addresses: vec![address],
                host_network: false,
                completed: false,
                ports: vec![],
            };
            ports.push(LocalPort {
                interface: format!("veth{number}"),
                pod: Some((key.clone(), pod.uid.clone())),
                mac: Mac::from_address(address),
                addresses: pod.addresses.clone(),
            });
            network.pods.insert(key, pod);
        }
        let pods = |app: &str| {
            Selector::pods_in(
                "shop",
                LabelSelector::from_labels(&[("app".to_owned(), app.to_owned())].into()),
            )
        };
        let (subject, peer) = (network.intern(pods("cart")), network.intern(pods("web")));
        let id = PolicyId { kind: PolicyKind::NetworkPolicy, namespace: "shop".into(), name: "cart".into() };
        let policy = Policy {
            id: id.clone(),
            generation: 1,
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject,
            isolates: Isolation { ingress: true, egress: false },
            audit: Default::default(),
            rules: vec![Rule {
                index: 0,
                direction: Direction::Ingress,
                action: network::Action::Accept,
                peers: Peers::Some { sets: [peer].into(), blocks: BTreeSet::new() },
                ports: Ports::Some([PortMatch::Range(PortRange::single(Protocol::Tcp, 80))].into()),
            }],
        };
        network.policies.insert(id, policy);
        let interfaces = ports.iter().map(|port| PortRef::Interface(port.interface.clone()));
        let refs = [PortRef::Gateway, PortRef::Tunnel].into_iter().chain(interfaces);
        Recipe {
            view: Arc::new(NodeView::of(&network, &name)),
            described: node,
            config: NodeConfig::new(name, Datapath::Netdev, 1500),
            closed: BTreeSet::new(),
            numbers: refs.zip((1..).map(PortNo)).collect(),
            ports,
        }
    }

    fn held(recipe: &Recipe) -> Vec<FlowStats> {
        let program = recipe.program();
        let stats = |flow: FlowMod| FlowStats {
            table: flow.table,
            priority: flow.priority,
            cookie: flow.cookie,
            match_: flow.match_,
            instructions: flow.instructions,
            packet_count: 7,
            ..FlowStats::default()
        };
        program.bind(|port| recipe.numbers.get(port).copied()).map(stats).collect()
    }

    #[test]
    fn every_mutation_of_every_flow_is_found_and_named() {
        let recipe = recipe();
        let (program, all) = (recipe.program(), held(&recipe));
        assert_eq!(flows(&recipe, &all), []);
        let mut rules = BTreeSet::new();
        for place in 0..all.len() {
            let reason = &program.reasons[&all[place].cookie];
            let owners: Vec<_> = reason.owners.iter().map(shown).collect();
            let dropped: Vec<_> =
                all.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, flow)| flow.clone()).collect();
            let found = flows(&recipe, &dropped);
            assert_eq!(found.len(), 1, "{:?}", all[place]);
            assert_eq!((found[0].difference, &found[0].owners), (Difference::Missing, &owners));
            rules.extend(owners.iter().map(|owner| owner.rule.clone()));

            let mut changed = all.clone();
            changed[place].instructions = vec![Instruction::ApplyActions(vec![Action::output(PortNo(99))])];
            let found = flows(&recipe, &changed);
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].difference, &found[0].owners), (Difference::Changed, &owners));
            assert!(found[0].found.as_ref().unwrap().contains("99"), "{found:?}");

            let mut added = all.clone();
            added[place].priority = 31_337;
            added.push(all[place].clone());
            let found = flows(&recipe, &added);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].difference, Difference::Extra);
            assert!(found[0].object.contains("priority=31337"), "{found:?}");
        }
        assert!(rules.contains("ingress[0]") && rules.contains("ingress default-deny"), "{rules:?}");
    }

    #[test]
    fn what_the_switch_learned_is_its_own() {
        let recipe = recipe();
        let mut all = held(&recipe);
        let learned = Table::ALL.iter().find(|table| table.is_learned()).unwrap();
        all.push(FlowStats {
            table: TableId(learned.id()),
            priority: 1,
            match_: Match::new(),
            ..FlowStats::default()
        });
        assert_eq!(flows(&recipe, &all), []);
    }

    #[test]
    fn the_bridge_is_compared_column_by_column_and_port_by_port() {
        let recipe = recipe();
        let (rows, _) = compiler::surroundings(recipe.input());
        let node = &recipe.config.node;
        let status = |ofport| crate::event::PortStatus { ofport, error: None };
        let mut held = Database {
            fail_mode: rows.bridge.fail_mode.clone(),
            datapath_type: rows.bridge.datapath_type.clone(),
            realized: true,
            ports: rows.ports.keys().map(|name| (name.clone(), status(Some(1)))).collect(),
            ..Database::default()
        };
        assert_eq!(database(node, &rows, Some(&held)), []);
        held.fail_mode = "standalone".into();
        held.ports.remove("veth0");
        held.ports.insert("tap-by-hand".into(), status(Some(9)));
        let found = database(node, &rows, Some(&held));
        let found: Vec<_> = found.iter().map(|item| (item.difference, item.object.as_str())).collect();
        assert_eq!(
            found,
            [
                (Difference::Changed, "bridge br-int fail_mode"),
                (Difference::Missing, "port veth0"),
                (Difference::Extra, "port tap-by-hand"),
            ]
        );
        assert_eq!(database(node, &rows, None).len(), 1);
    }
}
