//! A node and its controllers: who leads, who is told what, what happens when one goes.

use api::role::{Holding, Role};
use prost::Message;
use wire::from_agent::Body;

use super::*;
use crate::drift::{Drift, Lately};

fn messages(work: Work) -> Vec<(u64, Body)> {
    work.messages.into_iter().map(|(session, message)| (session.0, message.body.unwrap())).collect()
}

/// A node whose switch holds everything, with streams to controllers 1 and 2, of which 1 has sent its first delta.
fn led() -> Node {
    let mut node = node(Saved::default(), &[], true);
    node.handle(database(&[]));
    node.handle(observed(1, Shadow::default()));
    settle(&mut node);
    for session in [1, 2] {
        node.handle(opened(session));
        let [(to, Body::Hello(hello)), rest @ ..] = &messages(node.work())[..] else { panic!("no Hello") };
        let role = if session == 1 { Role::Leader } else { Role::Standby };
        assert_eq!((*to, Role::decode(hello.role)), (session, role));
        // Everything that a standby was told of is in force already.
        assert!(rest.iter().all(|(to, body)| *to == 2 && matches!(body, Body::Progress(_))), "{rest:?}");
    }
    sends(&mut node, 1, delta(1, 1, 100, &[("cart", "u")]));
    node
}

/// A delta comes and is in force.
fn sends(node: &mut Node, session: u64, delta: wire::Delta) -> Vec<(u64, Body)> {
    node.handle(Event::Delta(Session(session), Box::new(delta)));
    let mut all = Vec::new();
    loop {
        let work = node.work();
        let (flows, host) = (work.flows.is_some(), work.host.clone());
        all.extend(messages(work));
        if !flows && host.is_none() {
            return all;
        }
        if let Some(host) = host {
            node.handle(Event::Host(Some(host), Ok(())));
        }
        if flows {
            node.handle(Event::SwitchConfirmed);
        }
    }
}

fn pods(node: &Node) -> Vec<String> {
    node.snapshot().view.pods.keys().map(ToString::to_string).collect()
}

fn behind(session: u64, term: u64) -> Event {
    Event::Behind(
        Session(session),
        Box::new(wire::Behind { term, reason: "it lags".into(), watermark: None }),
    )
}

fn parts(node: &Node) -> Vec<Part> {
    node.snapshot().controllers.iter().map(|controller| controller.part).collect()
}

#[test]
fn the_leader_is_answered_and_the_other_told() {
    let mut node = led();
    let said = sends(&mut node, 1, delta(2, 1, 100, &[("cart", "u2")]));
    let [(1, Body::Acknowledgement(answer)), (2, Body::Progress(progress))] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!((answer.nonce, progress.rejected.len()), (2, 0));
    let holding = Holding::decode(progress.holding.as_ref().unwrap()).unwrap();
    assert_eq!(holding.changes.len(), 1);
    assert_eq!(holding.watermark.epoch, Epoch(1));
    let held = api::delta::versions(&node.snapshot().view);
    assert!(holding.changes.iter().all(|(id, version)| held.get(id) == version.as_ref()));
}

#[test]
fn every_controller_is_told_of_drift_once_and_when_it_is_over() {
    let mut node = led();
    let told = |said: Vec<(u64, Body)>| -> Vec<(u64, String)> {
        let progress = |body| match body {
            Body::Progress(progress) => progress,
            other => panic!("{other:?}"),
        };
        said.into_iter().map(|(to, body)| (to, progress(body).drifted)).collect()
    };
    let mut lately = Lately::default();
    let host = Drift::other("host", api::insight::Difference::Changed, "sysctl a".into(), "");
    lately.add(&[host], std::time::Instant::now(), |_| BTreeSet::new());
    let words = lately.words(&node.config.node);
    node.tell_drifted(&lately);
    // What is under way comes first.
    node.handle(Event::Plugged(Box::new(attachment("a", 2, None))));
    node.handle(database(&[&attachment("a", 2, None).host_interface]));
    let work = node.work();
    assert!(work.messages.iter().all(|(_, said)| !matches!(said.body, Some(Body::Progress(_)))));
    node.handle(Event::SwitchConfirmed);
    node.handle(Event::Host(work.host, Ok(())));
    assert_eq!(told(messages(node.work())), [(1, words.clone()), (2, words.clone())]);
    assert_eq!(messages(node.work()), []);
    // One that comes later hears of it; and all that it is long ago.
    node.handle(opened(3));
    let [(3, Body::Hello(_)), (3, Body::Progress(progress))] = &messages(node.work())[..] else { panic!() };
    assert_eq!(progress.drifted, words);
    node.tell_drifted(&Lately::default());
    assert_eq!(told(messages(node.work())), [1, 2, 3].map(|to| (to, String::new())));
}

#[test]
fn what_a_standby_sends_is_not_taken() {
    let mut node = led();
    assert!(sends(&mut node, 2, delta(1, 9, 100, &[])).is_empty());
    assert_eq!(pods(&node), ["shop/cart"]);
}

#[test]
fn a_standby_leads_at_once_with_what_was_not_in_force_yet() {
    let mut node = led();
    node.handle(Event::Plugged(Box::new(attachment("a", 2, Some(("web", "w"))))));
    let said = messages(node.work());
    assert!(matches!(&said[..], [(1, Body::Bindings(_)), (2, Body::Bindings(_))]), "{said:?}");
    // Its answer waits for the switch when its stream breaks.
    node.handle(database(&[&attachment("a", 2, None).host_interface]));
    node.work();
    node.handle(Event::Delta(Session(1), Box::new(delta(2, 1, 101, &[("web", "w"), ("cart", "u")]))));
    node.handle(closed(1));
    let said = messages(node.work());
    let [(2, Body::Lead(lead))] = &said[..] else { panic!("{said:?}") };
    assert_eq!((lead.term, lead.holding.as_ref().unwrap().changed.len()), (1, 1));
    assert_eq!(parts(&node), [Part::Away, Part::Asked]);
    node.handle(Event::SwitchConfirmed);
    settle(&mut node);
    // What it sent before it was asked is not taken, what it sends now is.
    sends(&mut node, 2, delta(1, 1, 101, &[]));
    assert_eq!(pods(&node), ["shop/cart", "shop/web"]);
    let last = wire::Delta { term: 1, ..delta(2, 1, 102, &[("cart", "u3")]) };
    let said = sends(&mut node, 2, last);
    assert!(
        said.iter().any(|(to, body)| *to == 2 && matches!(body, Body::Acknowledgement(a) if a.nonce == 2))
    );
    assert_eq!(parts(&node), [Part::Away, Part::Leads]);
}

#[test]
fn a_controller_that_is_behind_gives_way_to_one_that_is_not_and_stays() {
    let mut node = led();
    node.handle(closed(1));
    node.work();
    node.handle(opened(3));
    let said = messages(node.work());
    assert!(matches!(&said[..], [(3, Body::Hello(_)), (3, Body::Progress(_))]), "{said:?}");
    node.handle(behind(2, 0));
    assert!(messages(node.work()).is_empty(), "an earlier word");
    node.handle(behind(2, 1));
    let said = messages(node.work());
    assert!(matches!(&said[..], [(3, Body::Lead(lead))] if lead.term == 1), "{said:?}");
    node.handle(behind(3, 1));
    assert!(messages(node.work()).is_empty(), "all were asked");
    assert!(node.snapshot().problems["controller"].contains("it lags"));
    // The first that has caught up leads, the other one stands by.
    let said = sends(&mut node, 2, wire::Delta { term: 1, ..delta(1, 1, 100, &[]) });
    assert!(said.iter().any(|(to, body)| *to == 3 && matches!(body, Body::StandBy(_))), "{said:?}");
    assert_eq!(parts(&node), [Part::Away, Part::Leads, Part::StandsBy]);
    assert!(!node.snapshot().problems.contains_key("controller"));
}

#[test]
fn an_older_state_is_refused_and_its_sender_asked_anew_once() {
    let saved = Saved {
        watermark: Watermark { epoch: Epoch(5), revisions: BTreeMap::from([("manifests".to_owned(), 9)]) },
        ..Saved::default()
    };
    let mut node = node(saved, &[], true);
    node.handle(opened(1));
    node.work();
    let older = || delta(1, 5, 0, &[("cart", "u")]);
    node.handle(Event::Delta(Session(1), Box::new(older())));
    let work = node.work();
    assert!(work.leave.is_empty());
    let said = messages(work);
    let [(_, Body::Acknowledgement(answer)), (_, Body::StandBy(stand_by)), (_, Body::Lead(lead))] = &said[..]
    else {
        panic!("{said:?}")
    };
    assert!(answer.rejected[0].reason.contains("lags") && stand_by.reason.contains("lags"));
    assert_eq!(lead.term, 1);
    node.handle(Event::Delta(Session(1), Box::new(older())));
    assert!(node.work().leave.is_empty(), "it was sent before");
    node.handle(Event::Delta(Session(1), Box::new(wire::Delta { term: 1, ..older() })));
    assert!(matches!(&node.work().leave[..], [(Session(1), reason)] if reason.contains("lags")));
    assert!(pods(&node).is_empty());
}

#[test]
fn what_stands_again_is_told_to_everybody_unasked() {
    let mut node = led();
    node.handle(Event::Plugged(Box::new(attachment("a", 2, Some(("web", "w"))))));
    node.handle(database(&[&attachment("a", 2, None).host_interface]));
    settle(&mut node);
    let id = network::PolicyId {
        kind: network::PolicyKind::NetworkPolicy,
        namespace: "shop".into(),
        name: "cart".into(),
    };
    node.rejected.policies.insert(id.clone(), "OFPBMC_BAD_FIELD".into());
    node.generation += 1;
    settle(&mut node);
    let rejections = |said: Vec<(u64, Body)>| {
        let count = |(to, body)| match body {
            Body::Progress(progress) => (to, progress.rejected.len()),
            other => panic!("{other:?}"),
        };
        said.into_iter().map(count).collect::<Vec<_>>()
    };
    node.handle(Event::Retry);
    let mut said = Vec::new();
    loop {
        let work = node.work();
        let flows = work.flows.is_some();
        said.extend(messages(work));
        if !flows {
            break;
        }
        node.handle(Event::SwitchConfirmed);
    }
    assert_eq!(rejections(said), [(1, 0), (2, 0)]);
    assert!(messages(node.work()).is_empty(), "once");
}

#[test]
fn a_resource_that_cannot_be_read_stays_refused_until_it_comes_again() {
    let mut node = led();
    let mut bad = delta(2, 1, 100, &[("web", "w")]);
    let without_body = |resource| wire::Resource { body: None, ..resource };
    let resources: Vec<_> = api::delta::bodies(&bad).map(without_body).collect();
    bad.changed = resources.iter().map(|resource| resource.encode_to_vec().into()).collect();
    let refused = |said: Vec<(u64, Body)>| {
        let answer = said.into_iter().find_map(|(_, body)| match body {
            Body::Acknowledgement(answer) => Some(answer.rejected),
            _ => None,
        });
        answer.unwrap().len()
    };
    assert_eq!(refused(sends(&mut node, 1, bad)), 1);
    assert_eq!(refused(sends(&mut node, 1, delta(3, 1, 100, &[("cart", "u")]))), 1);
    assert_eq!(refused(sends(&mut node, 1, delta(4, 1, 100, &[("web", "w")]))), 0);
}

#[test]
fn a_pod_that_leaves_with_what_is_on_its_way_to_the_switch_is_not_in_force() {
    let plugged = attachment("a", 2, Some(("web", "w")));
    let mut node = led();
    node.handle(Event::Plugged(Box::new(plugged.clone())));
    node.handle(database(&[&plugged.host_interface]));
    settle(&mut node);
    sends(&mut node, 1, delta(2, 1, 101, &[("web", "w")]));
    assert_eq!(node.standing(&plugged.id), Standing::InForce);
    // The switch may have taken it, although its answer has not come.
    node.handle(Event::Delta(Session(1), Box::new(delta(3, 1, 101, &[("web", "another")]))));
    assert!(node.work().flows.is_some());
    assert!(matches!(node.standing(&plugged.id), Standing::Waiting(_)));
}

#[test]
fn nothing_is_in_force_before_the_host_has_its_part_of_it() {
    let mut node = led();
    let elsewhere = network::Node {
        name: network::NodeName::new("node-9"),
        addresses: ["192.0.2.9".parse().unwrap()].into(),
        pod_cidrs: vec!["10.244.9.0/24".parse().unwrap()],
        ..network::Node::default()
    };
    let view = NodeView { nodes: [(elsewhere.name.clone(), elsewhere)].into(), ..NodeView::default() };
    let news = api::delta::delta(&Default::default(), &api::delta::resources(&view));
    let news = wire::Delta { changed: news.changed, ..delta(2, 1, 100, &[]) };
    node.handle(Event::Delta(Session(1), Box::new(news)));
    let work = node.work();
    let route = work.host.clone().expect("a node is a route");
    node.handle(Event::SwitchConfirmed);
    assert_eq!(messages(node.work()), [], "the host has no route yet");
    // An answer about what it held before is none about this.
    node.handle(Event::Host(Some(Arc::default()), Ok(())));
    assert_eq!(messages(node.work()), []);
    // What the host refuses is a problem that is told, and holds nothing up.
    node.handle(Event::Host(Some(route), Err("no such device".into())));
    assert!(matches!(&messages(node.work())[..], [(1, Body::Acknowledgement(_)), ..]));
}
