//! Two controllers on one API server: either, both, and the API server are killed in any order. A connection does not notice, and
//! what the API says is in force whoever is left; nor do agents that start when nobody is. Every datagram beside it is counted: none is lost, and no flow-mod is sent while
//! nothing changes.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lab::{Component, Lab, NodeIndex};
use nix::sys::signal::Signal;
use serde_json::json;
use tests::cluster::{Settings, Stage, only};
use tests::lab_up::{flow_mods_sent, is_in_sync};
use tests::steady::{StopOnDrop, echo_within, until};
use tests::traffic::{Conversation, Direction};

const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";
const SOON: Duration = Duration::from_secs(30);
const BUSY: Duration = Duration::from_secs(5);

#[test]
fn either_both_and_the_api_server_are_killed_in_any_order() {
    let Some(mut stage) =
        Stage::with("either_both_and_the_api_server", &Settings { controllers: 2, ..Settings::default() })
    else {
        return;
    };
    stage.namespace("shop", &json!({}));
    for (name, node) in [("a", "node-1"), ("b", "node-2"), ("c", "node-2")] {
        stage.pod("shop", name, &json!({"app": name}), node, &[80]);
    }
    stage.kubelets();
    stage.agrees("pods without a policy");
    let (a, b) = (stage.lab.pod("shop/a").unwrap(), stage.lab.pod("shop/b").unwrap());
    let to = b.address(true).unwrap();
    let anywhere = NodeIndex(1);
    let (stop, echoes) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let talk = scope.spawn(|| a.run(|| echo_within(BUSY, &stop, &echoes, to, b"shop/b")));
        let _stop = StopOnDrop(&stop);
        until("the connection stands", SOON, || echoes.load(Ordering::Relaxed) > 10);
        let datagrams = Conversation::udp(&a, &b, true, 5000);
        let directions = [&datagrams.client, &datagrams.server];
        // The client opens the connection, or the server's first words were new.
        for direction in directions {
            direction.talk(true);
            until("datagrams arrive", SOON, || direction.heard_from(0) > 3);
        }
        let begun = directions.map(|direction| direction.sent());

        for (round, victim) in [Component::Controller, Component::SecondController].into_iter().enumerate() {
            stage.lab.stop(anywhere, victim, Signal::SIGKILL).unwrap();
            stage.create(POLICIES, &only(&format!("round-{round}"), "c", if round == 0 { "a" } else { "b" }));
            stage.agrees(&format!("{victim} is dead and a policy came"));
            stage.lab.start(anywhere, victim).unwrap();
            stage.agrees(&format!("{victim} is back"));
        }
        let before = flow_mods_sent(&stage.lab);
        // The API server first, then both controllers: nobody is left who knows anything but the nodes.
        stage.control.stop(cluster::Component::ApiServer, Signal::SIGKILL).unwrap();
        stage.lab.stop(anywhere, Component::SecondController, Signal::SIGKILL).unwrap();
        stage.lab.stop(anywhere, Component::Controller, Signal::SIGKILL).unwrap();
        let so_far = echoes.load(Ordering::Relaxed);
        until("the connection goes on", SOON, || echoes.load(Ordering::Relaxed) > so_far + 100);
        nothing_was_sent(&stage.lab, &before);
        // Agents that start now have nothing but what they saved.
        let nodes: Vec<_> = stage.lab.record().node_indexes().collect();
        for node in &nodes {
            stage.lab.restart(*node, Component::Agent, Signal::SIGKILL).unwrap();
        }
        until("the agents know what their switches hold", SOON, || is_in_sync(&stage.lab));
        let so_far = echoes.load(Ordering::Relaxed);
        until("the connection goes on", SOON, || echoes.load(Ordering::Relaxed) > so_far + 100);
        let before = vec![0; nodes.len()];
        nothing_was_sent(&stage.lab, &before);
        // Controllers that start without an API server know nothing, and take nothing away.
        stage.lab.start(anywhere, Component::SecondController).unwrap();
        let so_far = echoes.load(Ordering::Relaxed);
        until("the connection goes on", SOON, || echoes.load(Ordering::Relaxed) > so_far + 100);
        nothing_was_sent(&stage.lab, &before);
        stage.control.start(cluster::Component::ApiServer).unwrap();
        stage.create(POLICIES, &only("late", "a", "b"));
        stage.agrees("the API server and one controller are back, and a policy came");
        stage.lab.start(anywhere, Component::Controller).unwrap();
        stage.delete(&format!("{POLICIES}/late"));
        stage.agrees("everything is back");
        stop.store(true, Ordering::Relaxed);
        talk.join().unwrap().unwrap();
        for (direction, begun) in directions.into_iter().zip(begun) {
            direction.talk(false);
            let (lost, sent) = (|| lost_since(direction, begun), direction.sent());
            until("every datagram has arrived", BUSY, || lost() == 0);
            eprintln!("{}: {} datagrams, none lost", datagrams.name, sent - begun);
            assert!(sent - begun > 500, "{sent} datagrams");
        }
    });
}

/// Nobody knew anything new, an agent that started neither.
fn nothing_was_sent(lab: &Lab, before: &[u64]) {
    assert_eq!(flow_mods_sent(lab), before, "flow-mods were sent although nobody knew anything new");
}

/// How many of the datagrams from this one on have not arrived.
fn lost_since(direction: &Direction, begun: u64) -> u64 {
    direction.sent() - begun - direction.heard_from(begun) as u64
}
