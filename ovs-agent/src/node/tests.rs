//! The node as a state machine: events in, work out, no switch anywhere.

use std::collections::{BTreeMap, BTreeSet};

use api::cni::{PodAddress, PodIdentity, code};
use api::watermark::Epoch;
use compiler::Datapath;
use network::{LocalPod, NamespacedName, NodeName};

use super::*;
use crate::event::{Observed, PortStatus};
use crate::shadow::FlowChange;

fn node(saved: Saved, attachments: &[Attachment], has_controllers: bool) -> Node {
    let name = NodeName::new("node-1");
    Node::new(Start {
        config: NodeConfig::new(name.clone(), Datapath::Netdev, 1500),
        described: network::Node {
            name,
            labels: BTreeMap::new(),
            addresses: vec!["192.168.0.1".parse().unwrap()],
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            ..network::Node::default()
        },
        saved,
        attachments: attachments.iter().map(|a| (a.id.clone(), a.clone())).collect(),
        has_controllers,
        revision: 100,
    })
}

fn attachment(container: &str, host: u8, pod: Option<(&str, &str)>) -> Attachment {
    let id = AttachmentId { container_id: container.into(), interface: "eth0".into() };
    let address = format!("10.244.1.{host}").parse().unwrap();
    Attachment {
        host_interface: id.host_interface(),
        id,
        network: "ferrule".into(),
        netns: String::new(),
        pod: pod.map(|(name, uid)| PodIdentity {
            namespace: "shop".into(),
            name: name.into(),
            uid: uid.into(),
        }),
        mac: network::Mac::from_address(address),
        addresses: vec![PodAddress { address, gateway: "10.244.1.1".parse().unwrap(), range: None }],
        ipam: None,
    }
}

fn database(interfaces: &[&str]) -> Event {
    let mut ports = BTreeMap::new();
    for (number, name) in ["ferrule-gw0", "ferrule-gnv0"].iter().chain(interfaces).enumerate() {
        let status = PortStatus { ofport: Some(number as u32 + 1), error: None };
        ports.insert((*name).to_owned(), status);
    }
    Event::Database(Box::new(Database { ports, realized: true, ..Database::default() }))
}

fn observed(session: u64, shadow: Shadow) -> Event {
    Event::SwitchObserved(Box::new(Observed {
        session: Session(session),
        version: "3.1.0".into(),
        shadow,
        copies: true,
    }))
}

/// What a switch holds that has confirmed everything it was sent.
fn shadow(node: &Node) -> Shadow {
    let Switch::Here { shadow, .. } = &node.switch else { panic!("no switch") };
    shadow.clone()
}

/// Takes the node to where everything is confirmed; gives how many flow-mods that took.
fn settle(node: &mut Node) -> usize {
    let mut sent = 0;
    loop {
        let work = node.work();
        let host = work.host.clone();
        if let Some(host) = work.host {
            node.handle(Event::Host(Some(host), Ok(())));
        }
        match work.flows {
            Some((_, flows)) => {
                sent += flows.len();
                node.handle(Event::SwitchConfirmed);
            }
            None if host.is_some() => {}
            None => return sent,
        }
    }
}

fn service(name: &str, cluster_ip: [u8; 4]) -> network::Service {
    let endpoint = network::ServiceEndpoint::new([[10, 244, 1, 2].into()], 80);
    network::Service {
        cluster_ips: [cluster_ip.into()].into(),
        ports: vec![network::ServicePort::new(network::Protocol::Tcp, 80, [endpoint])],
        ..network::Service::new(NamespacedName::new("shop", name))
    }
}

fn delta(nonce: u64, epoch: u64, bindings: u64, pods: &[(&str, &str)]) -> wire::Delta {
    let mut view = NodeView::default();
    for (name, uid) in pods {
        let key = NamespacedName::new("shop", *name);
        let pod =
            LocalPod { key: key.clone(), uid: (*uid).into(), addresses: vec![], member_of: BTreeSet::new() };
        view.pods.insert(key, pod);
    }
    let revisions = BTreeMap::from([("bindings/node-1".to_owned(), bindings)]);
    wire::Delta {
        nonce,
        watermark: Some(api::convert::encode_watermark(&Watermark { epoch: Epoch(epoch), revisions })),
        ..api::delta::delta(&Default::default(), &api::delta::resources(&view))
    }
}

fn opened(session: u64) -> Event {
    Event::StreamOpened(Session(session), format!("192.0.2.{session}:7470"))
}

fn closed(session: u64) -> Event {
    let address = format!("192.0.2.{session}:7470");
    Event::StreamClosed { session: Session(session), address, problem: "gone".into() }
}

fn messages(work: Work) -> Vec<wire::from_agent::Body> {
    work.messages.into_iter().filter_map(|(_, message)| message.body).collect()
}

#[test]
fn nothing_is_planned_before_the_database_was_read() {
    let plugged = attachment("a", 2, None);
    let mut first = node(Saved::default(), std::slice::from_ref(&plugged), false);
    first.handle(observed(1, Shadow::default()));
    assert!(first.work().flows.is_none());
    first.handle(database(&[&plugged.host_interface]));
    assert!(settle(&mut first) > 0);
    assert!(first.work().in_sync);
}

#[test]
fn an_agent_that_starts_again_sends_nothing() {
    let plugged = attachment("a", 2, None);
    let mut first = node(Saved::default(), std::slice::from_ref(&plugged), false);
    first.handle(observed(1, Shadow::default()));
    first.handle(database(&[&plugged.host_interface]));
    settle(&mut first);

    for switch_first in [true, false] {
        let mut second = node(Saved::default(), std::slice::from_ref(&plugged), false);
        let events = [observed(1, shadow(&first)), database(&[&plugged.host_interface])];
        let mut events = Vec::from(events);
        if !switch_first {
            events.reverse();
        }
        for event in events {
            second.handle(event);
            assert!(second.work().flows.is_none());
        }
        assert!(second.work().in_sync);
        assert_eq!(second.snapshot().flow_mods_sent, 0);
        assert_eq!(second.standing(&plugged.id), Standing::InForce);
    }
}

#[test]
fn an_empty_switch_gets_everything_again() {
    let plugged = attachment("a", 2, None);
    let mut node = node(Saved::default(), std::slice::from_ref(&plugged), false);
    node.handle(database(&[&plugged.host_interface]));
    node.handle(observed(1, Shadow::default()));
    let all = settle(&mut node);
    node.handle(Event::SwitchLost("gone".into()));
    assert!(!node.work().in_sync);
    assert!(matches!(node.standing(&plugged.id), Standing::Waiting(failure) if failure.msg.contains("gone")));
    node.handle(observed(2, Shadow::default()));
    assert_eq!(settle(&mut node), all);
}

#[test]
fn a_pod_is_in_force_when_a_state_with_its_uid_and_binding_is_confirmed() {
    let plugged = attachment("a", 2, Some(("cart", "u2")));
    let interface = plugged.host_interface.clone();
    let mut node = node(Saved::default(), &[], true);
    node.handle(database(&[]));
    node.handle(observed(1, Shadow::default()));
    settle(&mut node);
    node.handle(opened(7));
    let hello = messages(node.work());
    assert!(matches!(&hello[..], [wire::from_agent::Body::Hello(hello)] if hello.bindings_revision == 100));

    node.handle(Event::Plugged(Box::new(plugged.clone())));
    let work = node.work();
    assert!(work.rows.as_ref().is_some_and(|rows| rows.ports.contains_key(&interface)));
    let [wire::from_agent::Body::Bindings(bindings)] = &messages(work)[..] else { panic!("no bindings") };
    assert_eq!((bindings.revision, bindings.bound[0].uid.as_str()), (101, "u2"));
    node.handle(database(&[&interface]));
    settle(&mut node);
    let waiting = |node: &Node| match node.standing(&plugged.id) {
        Standing::Waiting(failure) => failure.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(waiting(&node), code::TRY_AGAIN);

    // Its predecessor's state does not count.
    node.handle(Event::Delta(Session(7), Box::new(delta(1, 1, 101, &[("cart", "u1")]))));
    settle(&mut node);
    assert_eq!(waiting(&node), code::TRY_AGAIN);
    // Nor does one that was made before the controller heard of the binding, while there is a controller.
    node.handle(Event::Delta(Session(7), Box::new(delta(2, 1, 100, &[("cart", "u2")]))));
    settle(&mut node);
    assert_eq!(node.standing(&plugged.id), Standing::Unheard);
    node.handle(Event::Delta(Session(7), Box::new(delta(3, 1, 101, &[("cart", "u2")]))));
    let work = node.work();
    // The pod's flows are the same: nothing to send, in force at once.
    assert!(work.flows.is_none());
    assert!(work.save.is_some());
    assert_eq!(node.standing(&plugged.id), Standing::InForce);
    assert!(messages(work).iter().any(
        |body| matches!(body, wire::from_agent::Body::Acknowledgement(a) if a.nonce == 3 && a.rejected.is_empty())
    ));
}

#[test]
fn a_pod_that_the_flows_under_way_no_longer_serve_is_not_in_force() {
    let plugged = attachment("a", 2, Some(("cart", "u")));
    let mut node = node(Saved::default(), &[], true);
    node.handle(database(&[&plugged.host_interface]));
    node.handle(observed(1, Shadow::default()));
    node.handle(opened(7));
    node.handle(Event::Plugged(Box::new(plugged.clone())));
    node.handle(Event::Delta(Session(7), Box::new(delta(1, 1, 100, &[("cart", "u")]))));
    settle(&mut node);
    assert_eq!(node.standing(&plugged.id), Standing::Unheard);

    // Its pod goes, then the controller that was waited for, while the switch may have taken the flows or not.
    let mut without = delta(2, 1, 100, &[]);
    let cart = delta(1, 1, 100, &[("cart", "u")]);
    without.removed = api::delta::bodies(&cart).filter_map(|it| it.id).collect();
    node.handle(Event::Delta(Session(7), Box::new(without)));
    assert!(node.work().flows.is_some());
    node.handle(closed(7));
    let Standing::Waiting(failure) = node.standing(&plugged.id) else {
        panic!("its flows are being taken away")
    };
    assert_eq!(failure.code, code::TRY_AGAIN);
    // They stay if the switch will not delete them.
    node.handle(Event::SwitchRefused { index: 0, error: "OFPBMC_BAD_FIELD".into() });
    assert_eq!(node.standing(&plugged.id), Standing::InForce);
}

#[test]
fn a_delta_is_answered_after_the_switch_and_only_to_its_session() {
    let mut node = node(Saved::default(), &[attachment("a", 2, Some(("cart", "u")))], true);
    node.handle(database(&[&attachment("a", 2, None).host_interface]));
    node.handle(observed(1, Shadow::default()));
    settle(&mut node);
    node.handle(opened(7));
    node.work();
    node.handle(Event::Delta(Session(7), Box::new(delta(5, 1, 100, &[("cart", "u")]))));
    let work = node.work();
    assert!(work.flows.is_some() && work.messages.is_empty() && work.save.is_none());
    node.handle(Event::SwitchConfirmed);
    assert!(matches!(
        &messages(node.work())[..],
        [wire::from_agent::Body::Acknowledgement(answer)] if answer.nonce == 5
    ));

    node.handle(Event::Delta(Session(7), Box::new(delta(6, 1, 100, &[]))));
    node.handle(closed(7));
    node.handle(opened(8));
    node.handle(Event::Delta(Session(7), Box::new(delta(7, 1, 100, &[]))));
    settle(&mut node);
    assert!(messages(node.work()).is_empty());
}

#[test]
fn a_flow_that_the_switch_refuses_takes_its_pod_along_and_nothing_else() {
    let (good, bad) = (attachment("a", 2, None), attachment("b", 3, None));
    let mut node = node(Saved::default(), &[good.clone(), bad.clone()], false);
    node.handle(database(&[&good.host_interface, &bad.host_interface]));
    node.handle(observed(1, Shadow::default()));
    let (_, flows) = node.work().flows.unwrap();
    let owner = Owner::Attachment(bad.host_interface.clone());
    let reasons = node.snapshot().reasons;
    let mut flows = flows.into_iter();
    let index = flows.position(|flow| reasons.get(&flow.cookie).unwrap().owners.contains(&owner)).unwrap();
    node.handle(Event::SwitchRefused { index, error: "OFPBMC_BAD_FIELD".into() });
    assert!(settle(&mut node) > 0);
    assert_eq!(node.standing(&good.id), Standing::InForce);
    assert!(matches!(
        node.standing(&bad.id),
        Standing::Failed(failure) if failure.code == code::SWITCH && failure.msg.contains("OFPBMC_BAD_FIELD")
    ));
    assert!(!node.work().in_sync);
}

#[test]
fn a_flow_that_the_switch_refuses_takes_its_service_along_and_nothing_else() {
    let mut view = NodeView::default();
    for (name, last) in [("good", 1u8), ("bad", 2)] {
        let service = service(name, [10, 96, 0, last]);
        view.services.insert(service.key.clone(), Arc::new(service));
    }
    let saved = Saved { view: Arc::new(view), ..Saved::default() };
    let mut node = node(saved, &[], false);
    node.handle(database(&[]));
    node.handle(observed(1, Shadow::default()));
    let (_, flows) = node.work().flows.unwrap();
    let [good, bad] = ["good", "bad"].map(|name| Owner::Service(NamespacedName::new("shop", name)));
    let reasons = node.snapshot().reasons;
    let of = |owner: &Owner, flow: &openflow::FlowMod| {
        reasons.get(&flow.cookie).is_some_and(|reason| reason.owners.contains(owner))
    };
    let flows: Vec<_> = flows.into_iter().collect();
    let index = flows.iter().position(|flow| of(&bad, flow)).unwrap();
    node.handle(Event::SwitchRefused { index, error: "OFPBAC_BAD_TYPE".into() });
    let (_, again) = node.work().flows.unwrap();
    let again: Vec<_> = again.into_iter().collect();
    assert!(again.iter().any(|flow| of(&good, flow)) && !again.iter().any(|flow| of(&bad, flow)));
    node.handle(Event::SwitchConfirmed);
    assert_eq!(node.readiness(), Ok(()));
    let problem = node.snapshot().problems.remove("services").unwrap();
    assert!(problem.contains("shop/bad") && problem.contains("OFPBAC_BAD_TYPE"), "{problem}");
    // A switch that was started anew forwards what it has, though that is not all.
    assert!(matches!(node.work(), Work { in_sync: false, restored: true, .. }));
    node.handle(Event::Retry);
    assert!(settle(&mut node) > 0 && node.work().in_sync);
}

#[test]
fn a_pipeline_that_the_switch_refuses_waits_and_is_tried_again() {
    let mut node = node(Saved::default(), &[], false);
    node.handle(database(&[]));
    node.handle(observed(1, Shadow::default()));
    assert!(node.work().flows.is_some());
    node.handle(Event::SwitchRefused { index: 0, error: "OFPFMFC_TABLE_FULL".into() });
    let work = node.work();
    assert!(work.retry && work.flows.is_none());
    assert!(node.readiness().unwrap_err().msg.contains("OFPFMFC_TABLE_FULL"));
    node.handle(Event::Retry);
    assert!(settle(&mut node) > 0);
    assert_eq!(node.readiness(), Ok(()));
}

#[test]
fn what_is_unplugged_is_gone_when_neither_switch_nor_database_has_it() {
    let plugged = attachment("a", 2, Some(("cart", "u")));
    let mut node = node(Saved::default(), std::slice::from_ref(&plugged), true);
    node.handle(database(&[&plugged.host_interface]));
    node.handle(observed(1, Shadow::default()));
    settle(&mut node);
    node.handle(opened(1));
    node.work();
    node.handle(Event::Unplugged(plugged.id.clone()));
    let work = node.work();
    assert!(!work.rows.as_ref().is_some_and(|rows| rows.ports.contains_key(&plugged.host_interface)));
    assert!(matches!(
        &messages(work)[..],
        [wire::from_agent::Body::Bindings(bindings)] if bindings.released == ["u"]
    ));
    node.handle(Event::SwitchConfirmed);
    let forget = node.work().forget;
    let expected = vec!["10.244.1.2".parse().unwrap()];
    assert_eq!(forget, Some((Session(1), expected)), "its connections go when its flows are gone");
    assert!(!node.is_gone(&plugged.id));
    node.handle(database(&[]));
    settle(&mut node);
    assert!(node.is_gone(&plugged.id));
}

#[test]
fn a_pod_is_told_of_with_the_addresses_of_all_its_attachments() {
    let first = attachment("a", 2, Some(("cart", "u")));
    let mut second = attachment("a", 3, Some(("cart", "u")));
    second.id.interface = "net1".into();
    second.host_interface = second.id.host_interface();
    let mut node = node(Saved::default(), std::slice::from_ref(&first), true);
    node.handle(database(&[&first.host_interface]));
    node.handle(observed(1, Shadow::default()));
    settle(&mut node);
    node.handle(opened(1));
    node.work();
    let told = |node: &mut Node| {
        let [wire::from_agent::Body::Bindings(told)] = &messages(node.work())[..] else {
            panic!("no bindings")
        };
        let bound = told.bound.iter().map(|it| api::convert::decode_binding(it).unwrap().addresses);
        (bound.map(|all| all.iter().map(ToString::to_string).collect()).collect(), told.released.clone())
    };
    let (both, nobody) = (vec!["10.244.1.2".to_owned(), "10.244.1.3".to_owned()], Vec::<String>::new());
    node.handle(Event::Plugged(Box::new(second.clone())));
    assert_eq!(told(&mut node), (vec![both.clone()], nobody.clone()));
    node.handle(opened(2));
    let said = messages(node.work());
    let [wire::from_agent::Body::Hello(hello), ..] = &said[..] else { panic!("{said:?}") };
    assert_eq!(hello.bindings.len(), 1);
    node.handle(closed(2));
    node.work();
    node.handle(Event::Unplugged(first.id));
    assert_eq!(told(&mut node), (vec![both[1..].to_vec()], nobody));
    node.handle(Event::Unplugged(second.id));
    assert_eq!(told(&mut node), (Vec::<Vec<String>>::new(), vec!["u".to_owned()]));
}

#[test]
fn open_vswitchs_own_words_reach_whoever_waits() {
    let plugged = attachment("a", 2, None);
    let mut node = node(Saved::default(), std::slice::from_ref(&plugged), false);
    let Event::Database(mut database) = database(&[]) else { unreachable!() };
    let error = Some("could not open network device (No such device)".to_owned());
    database.ports.insert(plugged.host_interface.clone(), PortStatus { ofport: None, error });
    node.handle(Event::Database(database));
    node.handle(observed(1, Shadow::default()));
    settle(&mut node);
    assert!(matches!(
        node.standing(&plugged.id),
        Standing::Failed(failure) if failure.msg.contains("No such device") && failure.code == code::SWITCH
    ));
    assert!(matches!(node.work(), Work { in_sync: false, restored: true, .. }), "others wait for it");
}

#[path = "stream_tests.rs"]
mod stream_tests;

#[test]
fn a_change_behind_our_back_is_put_right_and_one_in_between_is_looked_up() {
    let mut node = node(Saved::default(), &[], false);
    node.handle(database(&[]));
    node.handle(observed(1, Shadow::default()));
    settle(&mut node);
    let whole = shadow(&node);
    let gone = |whole: &Shadow| FlowChange { id: whole.iter().next().unwrap().0.clone(), now: None };
    node.handle(Event::FlowsChanged(Session(2), vec![gone(&whole)]));
    assert_eq!(settle(&mut node), 0, "of another connection");
    node.handle(Event::FlowsChanged(Session(1), vec![gone(&whole)]));
    assert!(!node.in_sync());
    assert_eq!((settle(&mut node), node.drifted()), (1, 1));
    assert_eq!(shadow(&node), whole);

    // Whether it came before or after what is under way cannot be told.
    node.handle(Event::Plugged(Box::new(attachment("a", 2, None))));
    node.handle(database(&[&attachment("a", 2, None).host_interface]));
    assert!(node.work().flows.is_some());
    node.handle(Event::FlowsChanged(Session(1), vec![gone(&whole)]));
    node.handle(Event::SwitchConfirmed);
    let work = node.work();
    assert!(work.observe == Some(Session(1)) && work.flows.is_none() && !work.in_sync);
    let (reread, plugged) = (shadow(&node), attachment("a", 2, None));
    node.handle(observed(1, reread));
    assert_eq!(settle(&mut node), 1);
    assert_eq!(node.standing(&plugged.id), Standing::InForce);
}

/// The view of a Service with so many endpoints, as a delta.
fn serving(nonce: u64, endpoints: u8) -> Event {
    let mut service = service("web", [10, 96, 0, 1]);
    let port = &mut service.ports[0];
    let Some(any) = port.endpoints.pop_first() else { panic!("no endpoint") };
    let at = |k: u8| network::ServiceEndpoint { addresses: [[10, 244, 1, k].into()].into(), ..any.clone() };
    port.endpoints = (1..=endpoints).map(at).collect();
    let mut view = NodeView::default();
    view.services.insert(service.key.clone(), Arc::new(service));
    let delta = wire::Delta {
        nonce,
        watermark: Some(api::convert::encode_watermark(&Watermark::default())),
        ..api::delta::delta(&Default::default(), &api::delta::resources(&view))
    };
    Event::Delta(Session(1), Box::new(delta))
}

#[test]
fn endpoints_that_flap_cost_one_bundle_for_every_confirmation() {
    let mut node = node(Saved::default(), &[], true);
    node.handle(database(&[]));
    node.handle(observed(1, Shadow::default()));
    node.handle(opened(1));
    settle(&mut node);
    node.handle(serving(1, 20));
    settle(&mut node);
    // One that goes: its place, its translation, and what says among how many is chosen.
    node.handle(serving(2, 19));
    assert_eq!(settle(&mut node), 3);
    node.handle(serving(3, 20));
    let (_, first) = node.work().flows.unwrap();
    assert_eq!(first.len(), 3);
    // A hundred changes before the switch has confirmed: nothing more is sent until then, and then the difference once.
    for k in 0..100 {
        node.handle(serving(4 + k, if k % 2 == 0 { 25 } else { 18 }));
        assert!(node.work().flows.is_none(), "change {k}");
    }
    node.handle(Event::SwitchConfirmed);
    let (_, rest) = node.work().flows.unwrap();
    assert_eq!(rest.len(), 5, "two endpoints of twenty go");
    node.handle(Event::SwitchConfirmed);
    assert_eq!(settle(&mut node), 0);
}
