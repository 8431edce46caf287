//! Plans against a shadow, from recipes that differ little.

use std::collections::BTreeSet;

use compiler::{Datapath, LocalPort, NodeConfig};
use network::{Mac, Node, NodeName, NodeView};
use openflow::{FlowModCommand, FlowStats};

use super::*;

/// So many attachments without a pod, numbered from 10 in the order of `numbers`.
fn recipe(ports: &[&str], numbers: &[u32]) -> Recipe {
    let name = NodeName::new("node-1");
    let port = |(place, interface): (usize, &&str)| {
        let address = std::net::IpAddr::from([10, 244, 1, 10 + place as u8]);
        let mac = Mac::from_address(address);
        LocalPort { interface: (*interface).to_owned(), pod: None, mac, addresses: vec![address] }
    };
    let given = ports
        .iter()
        .zip(numbers)
        .map(|(interface, number)| (PortRef::Interface((*interface).to_owned()), openflow::PortNo(*number)));
    let own = [(PortRef::Gateway, openflow::PortNo(1)), (PortRef::Tunnel, openflow::PortNo(2))];
    Recipe {
        view: Arc::new(NodeView::default()),
        described: Node {
            name: name.clone(),
            labels: Default::default(),
            addresses: vec!["192.168.0.1".parse().unwrap()],
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            ..Node::default()
        },
        config: NodeConfig::new(name, Datapath::Netdev, 1500),
        ports: ports.iter().enumerate().map(port).collect(),
        closed: BTreeSet::new(),
        numbers: own.into_iter().chain(given).collect(),
    }
}

/// What a switch holds that got everything of a recipe.
fn holding(recipe: &Recipe) -> Shadow {
    let mut shadow = Shadow::default();
    let program = recipe.program();
    for flow in program.bind(|port| recipe.numbers.get(port).copied()) {
        shadow.observe(&FlowStats {
            table: flow.table,
            priority: flow.priority,
            cookie: flow.cookie,
            match_: flow.match_.clone(),
            instructions: flow.instructions.clone(),
            packet_count: 7,
            ..FlowStats::default()
        });
    }
    shadow
}

/// Plans, confirms, checks what the switch then holds; gives how many were added and deleted.
fn step(planner: &mut Planner, shadow: &mut Shadow, recipe: &Recipe) -> (usize, usize) {
    let plan = planner.plan(recipe.clone(), Touched::nothing(), shadow);
    plan.confirmation.apply(shadow);
    assert_eq!(*shadow, holding(recipe));
    let flows: Vec<_> = plan.flows.into_iter().collect();
    let added = flows.iter().filter(|flow| flow.command == FlowModCommand::Add).count();
    assert!(flows[..added].iter().all(|flow| flow.command == FlowModCommand::Add), "deletions come last");
    (added, flows.len() - added)
}

#[test]
fn what_is_there_already_is_not_sent() {
    let recipe = recipe(&["a", "b"], &[10, 11]);
    assert_eq!(step(&mut Planner::default(), &mut holding(&recipe), &recipe), (0, 0));
}

#[test]
fn a_port_comes_and_goes_with_its_own_flows() {
    let (mut planner, mut shadow) = (Planner::default(), Shadow::default());
    let all = step(&mut planner, &mut shadow, &recipe(&["a"], &[10])).0;
    // Classifier, SpoofGuard (IP, ARP, probe, the rest), Routing, and to itself: Routing, EgressAdmin.
    assert_eq!(step(&mut planner, &mut shadow, &recipe(&["a", "b"], &[10, 11])), (8, 0));
    assert_eq!(step(&mut planner, &mut shadow, &recipe(&["a"], &[10])), (0, 8));
    assert_eq!(shadow.len(), all);
}

#[test]
fn a_port_is_given_another_number_or_loses_it() {
    let (mut planner, mut shadow) = (Planner::default(), Shadow::default());
    step(&mut planner, &mut shadow, &recipe(&["a", "b"], &[10, 11]));
    // Six flows match the number, the seventh sends there, the eighth knows the address only.
    assert_eq!(step(&mut planner, &mut shadow, &recipe(&["a", "b"], &[10, 12])), (7, 6));
    // Two swap their numbers: the flows that name nothing but the number are added over, not deleted.
    assert_eq!(step(&mut planner, &mut shadow, &recipe(&["a", "b"], &[12, 10])), (14, 8));
    // One passes its number on to another.
    assert_eq!(step(&mut planner, &mut shadow, &recipe(&["a"], &[12])), (0, 8));
    let (added, deleted) = step(&mut planner, &mut shadow, &recipe(&["a", "b"], &[]));
    assert_eq!((added, deleted), (1, 7));
    step(&mut planner, &mut shadow, &recipe(&["a", "b"], &[12, 10]));
}

#[test]
fn what_is_foreign_is_deleted_and_what_was_changed_is_added_again() {
    let recipe = recipe(&["a"], &[10]);
    let mut shadow = holding(&recipe);
    let foreign = FlowMod::add(openflow::TableId(3), 9, openflow::Match::new(), Vec::new());
    shadow.insert(&FlowId::of(&foreign), Held::wanted(&foreign));
    let program = recipe.program();
    let mut marked = program.bind(|port| recipe.numbers.get(port).copied()).next().unwrap();
    marked.cookie = Cookie(7);
    shadow.insert(&FlowId::of(&marked), Held::wanted(&marked));
    assert_eq!(step(&mut Planner::default(), &mut shadow, &recipe), (1, 1));
}

#[test]
fn a_flow_leads_to_why_it_exists_by_its_match_as_by_its_mark() {
    let recipe = recipe(&["a"], &[10]);
    let flows: Vec<_> = recipe.program().bind(|port| recipe.numbers.get(port).copied()).collect();
    let ids: Vec<_> = flows.iter().map(FlowId::of).collect();
    let foreign = FlowId::of(&FlowMod::add(openflow::TableId(3), 9, openflow::Match::new(), Vec::new()));
    let found = recipe.reasons_of(&ids.iter().chain([&foreign]).collect());
    assert_eq!(found.len(), ids.len());
    for (flow, id) in flows.iter().zip(&ids) {
        assert_eq!(found.get(id), recipe.reason(flow.cookie).as_ref());
    }
}

#[test]
fn a_large_plan_is_made_again_as_it_was() {
    let recipe = recipe(&["a", "b"], &[10, 11]);
    let foreign = FlowMod::add(openflow::TableId(3), 9, openflow::Match::new(), Vec::new());
    let plan = |limit| {
        let mut shadow = Shadow::default();
        shadow.insert(&FlowId::of(&foreign), Held::wanted(&foreign));
        Planner::default().plan_holding(recipe.clone(), Touched::nothing(), &mut shadow, limit)
    };
    let (held, made) = (plan(HELD), plan(3));
    assert!(matches!((&held.flows, &made.flows), (FlowMods::Held(_), FlowMods::Made(_))));
    assert_eq!(held.flows.len(), made.flows.len());
    for index in [0, 5, made.flows.len() - 1, made.flows.len()] {
        assert_eq!(held.confirmation.cookie(index), made.confirmation.cookie(index), "{index}");
    }
    let (held, made): (Vec<_>, Vec<_>) = (held.flows.into_iter().collect(), made.flows.into_iter().collect());
    assert_eq!(held, made);
}
