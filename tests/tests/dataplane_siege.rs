//! Nodes and the underlay between them (ARCHITECTURE.md, "Nobody speaks for another"): forged tunnels, hosts that claim a pod's
//! or a node's address, and a switch that is killed under a siege. Every lie has an honest packet of the same shape behind it.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::{Component, NodeIndex, Place};
use network::Mac;
use nix::sys::signal::Signal;
use tests::packet::stage::{
    FAMILIES, GENEVE, NODE_SOCKET, SERVICE, Stage, VNI, datagram, family, forged, holds, next, until,
};
use tests::packet::{self, Mark, Trials};

#[test]
fn a_pod_makes_no_tunnel() {
    let Some(stage) = Stage::new("pod-geneve") else { return };
    let (alice, mallory) = (&stage.alice_1, &stage.mallory);
    // A node may have addresses that the cluster does not know of; its tunnel listens there, too.
    let secondary = next(stage.node(1, true), 100);
    let device = stage.up.lab.record().datapath.underlay_device();
    let output =
        stage.nodes[1].exec(["ip", "addr", "add", &format!("{secondary}/24"), "dev", device]).unwrap();
    assert!(output.status.success());
    std::thread::sleep(Duration::from_millis(200));
    let mut trials = Trials::default();
    // What a node sends there arrives: were mallory's datagram made the node's own on its way out, so would that.
    trials.honest("node 1 sends geneve to node 2's other address", &stage.shut_2.ear, |mark| {
        let payload = forged(alice.ip(true), stage.shut_2.ip(true), SERVICE, mark);
        stage.node_sends(0, None, (secondary, GENEVE), &payload);
    });
    for ipv4 in FAMILIES {
        let name = family(ipv4);
        for (index, inner_from, shut) in [(0, &stage.alice_2, &stage.shut_1), (1, alice, &stage.shut_2)] {
            let mut addresses = vec![stage.node(index, ipv4), stage.gateway(index, ipv4)];
            if index == 1 && ipv4 {
                addresses.push(secondary);
            }
            for to in addresses {
                trials.lie(
                    &format!("{name}: mallory sends geneve to node {} at {to}, alice inside", index + 1),
                    &shut.ear,
                    |mark| {
                        for inner in FAMILIES {
                            let payload = forged(inner_from.ip(inner), shut.ip(inner), SERVICE, mark);
                            let from = mallory.ip(ipv4);
                            let outer = packet::udp(from, to, (mark.port, GENEVE), &payload);
                            mallory.send(&packet::ip(from, to, packet::UDP, 64, &outer));
                        }
                    },
                    // What it forges is worth forging: alice herself gets through.
                    |mark| inner_from.send(&datagram(inner_from.ip(ipv4), shut.ip(ipv4), SERVICE, mark)),
                );
            }
            // Datagrams of this shape on another port reach the node.
            let to = stage.node(index, ipv4);
            trials.honest(
                &format!("{name}: mallory to node {} on another port", index + 1),
                &stage.node_ears[index],
                |mark| {
                    let payload = forged(inner_from.ip(ipv4), shut.ip(ipv4), SERVICE, mark);
                    let from = mallory.ip(ipv4);
                    let outer = packet::udp(from, to, (mark.port, NODE_SOCKET), &payload);
                    mallory.send(&packet::ip(from, to, packet::UDP, 64, &outer));
                },
            );
        }
        // Port 6081 of a pod is a port like any other.
        trials.honest(&format!("{name}: mallory to open on port {GENEVE}"), &stage.open_2.ear, |mark| {
            mallory.send(&datagram(mallory.ip(ipv4), stage.open_2.ip(ipv4), GENEVE, mark));
        });
    }
    trials.verdict();
}

#[test]
fn only_nodes_make_tunnels_and_each_for_its_own() {
    let Some(stage) = Stage::new("node-geneve") else { return };
    let node = stage.node(0, true);
    let shut = &stage.shut_1;
    let mut trials = Trials::default();
    for ipv4 in FAMILIES {
        let name = family(ipv4);
        let geneve = |from: IpAddr, mark: &Mark| forged(from, shut.ip(ipv4), SERVICE, mark);
        // The real thing, made by hand on the other node.
        let honest =
            |mark: &Mark| stage.node_sends(1, None, (node, GENEVE), &geneve(stage.alice_2.ip(ipv4), mark));
        trials.lie(
            &format!("{name}: a host that is no node sends geneve with alice inside"),
            &shut.ear,
            |mark| {
                let from = stage.stranger.ip(true);
                let outer =
                    packet::udp(from, node, (mark.port, GENEVE), &geneve(stage.alice_2.ip(ipv4), mark));
                stage.stranger_sends(0, &packet::ip(from, node, packet::UDP, 64, &outer));
            },
            honest,
        );
        let somebody = [
            ("a pod of the receiving node", stage.alice_1.ip(ipv4)),
            ("the receiving node", stage.node(0, ipv4)),
            ("the receiving node's gateway", stage.gateway(0, ipv4)),
            ("the receiver", shut.ip(ipv4)),
            ("a host on the underlay", stage.stranger.ip(ipv4)),
        ];
        for (who, inside) in somebody {
            trials.lie(
                &format!("{name}: the other node sends geneve with {who} inside"),
                &shut.ear,
                |mark| stage.node_sends(1, None, (node, GENEVE), &geneve(inside, mark)),
                honest,
            );
        }
        trials.lie(
            &format!("{name}: the other node sends geneve of another network"),
            &shut.ear,
            |mark| {
                let frame = packet::ip_frame(
                    Mac::ROUTER,
                    Mac::ROUTER,
                    &datagram(stage.alice_2.ip(ipv4), shut.ip(ipv4), SERVICE, mark),
                );
                stage.node_sends(1, None, (node, GENEVE), &packet::geneve(VNI + 1, &frame));
            },
            honest,
        );
        // Neither does a tunnel lead on: into another tunnel, or out of the cluster.
        trials.lie(
            &format!("{name}: the other node sends geneve for itself through this one"),
            &stage.shut_2.ear,
            |mark| {
                stage.node_sends(
                    1,
                    None,
                    (node, GENEVE),
                    &forged(stage.alice_2.ip(ipv4), stage.shut_2.ip(ipv4), SERVICE, mark),
                )
            },
            |mark| {
                stage.alice_1.send(&datagram(stage.alice_1.ip(ipv4), stage.shut_2.ip(ipv4), SERVICE, mark))
            },
        );
    }
    trials.verdict();
}

#[test]
fn a_host_on_the_underlay_is_neither_pod_nor_node() {
    let Some(stage) = Stage::new("underlay") else { return };
    let mut trials = Trials::default();
    for ipv4 in FAMILIES {
        let name = family(ipv4);
        let own = stage.stranger.ip(ipv4);
        let (node, open, shut) = (stage.node(0, ipv4), stage.open_1.ip(ipv4), stage.shut_1.ip(ipv4));
        let claims = [
            ("a pod of that node", stage.alice_1.ip(ipv4)),
            ("a pod of the other node", stage.alice_2.ip(ipv4)),
            ("the node", node),
            ("the node's gateway", stage.gateway(0, ipv4)),
            ("the other node's gateway", stage.gateway(1, ipv4)),
            ("nobody", if ipv4 { [127, 0, 0, 1].into() } else { Ipv6Addr::LOCALHOST.into() }),
        ];
        for (who, source) in claims {
            trials.lie(
                &format!("{name}: the stranger to the node as {who}"),
                &stage.node_ears[0],
                |mark| stage.stranger_sends(0, &datagram(source, node, NODE_SOCKET, mark)),
                |mark| stage.stranger_sends(0, &datagram(own, node, NODE_SOCKET, mark)),
            );
        }
        for (who, source) in claims.into_iter().chain([("the other node", stage.node(1, ipv4))]) {
            trials.lie(
                &format!("{name}: the stranger through the node to open as {who}"),
                &stage.open_1.ear,
                |mark| stage.stranger_sends(0, &datagram(source, open, SERVICE, mark)),
                |mark| stage.stranger_sends(0, &datagram(own, open, SERVICE, mark)),
            );
            // As alice it would be let in, as the node it would be kubelet.
            trials.lie(
                &format!("{name}: the stranger through the node to shut as {who}"),
                &stage.shut_1.ear,
                |mark| stage.stranger_sends(0, &datagram(source, shut, SERVICE, mark)),
                |mark| stage.node_sends(0, None, (shut, SERVICE), &mark.bytes),
            );
        }
        trials.lie(
            &format!("{name}: the stranger through the node to shut as itself"),
            &stage.shut_1.ear,
            |mark| stage.stranger_sends(0, &datagram(own, shut, SERVICE, mark)),
            |mark| stage.node_sends(0, None, (shut, SERVICE), &mark.bytes),
        );
        // Nor is the other node kubelet here: its word counts for its own pods.
        trials.lie(
            &format!("{name}: the other node to shut as itself"),
            &stage.shut_1.ear,
            |mark| stage.node_sends(1, None, (shut, SERVICE), &mark.bytes),
            |mark| stage.node_sends(0, None, (shut, SERVICE), &mark.bytes),
        );
        trials.honest(&format!("{name}: the other node to open"), &stage.open_1.ear, |mark| {
            stage.node_sends(1, None, (open, SERVICE), &mark.bytes);
        });
    }
    trials.verdict();
}

/// Stops a siege also when the test panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What an attacker tries without pause, counted in packets sent; `shut` must hear none of it.
fn siege(stage: &Stage, stop: &AtomicBool) -> Vec<Vec<u8>> {
    let mut marks = Vec::new();
    let alice = stage.alice_1.ip(true);
    while !stop.load(Ordering::Relaxed) {
        for shut in [&stage.shut_1, &stage.shut_2] {
            for (mac, from) in [
                (stage.mallory.mac, stage.mallory.ip(true)),
                (stage.mallory.mac, alice),
                (stage.alice_1.mac, alice),
                (stage.mallory.mac, stage.node(0, true)),
            ] {
                let mark = Mark::new();
                stage.mallory.send_as(mac, &datagram(from, shut.ip(true), SERVICE, &mark));
                marks.push(mark.bytes);
            }
        }
        std::thread::sleep(Duration::from_millis(4));
    }
    marks
}

#[test]
fn while_the_switch_is_killed_and_comes_back_nothing_forbidden_passes() {
    let Some(stage) = Stage::new("switch-siege") else { return };
    let mut trials = Trials::default();
    let host_state = |node: &Place| {
        let show = |words: &[&str]| {
            let output = node.exec(words).unwrap();
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            let mut lines: Vec<_> =
                String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        // The kernel's own link-local addresses come and go with the device; the rest is ours or the lab's.
        let addresses: Vec<_> = show(&["ip", "-o", "addr"])
            .iter()
            .filter(|line| !line.contains("scope link"))
            .map(|line| line.split_whitespace().skip(1).take(3).collect::<Vec<_>>().join(" "))
            .collect();
        let routes: Vec<_> =
            show(&["ip", "-4", "route"]).into_iter().chain(show(&["ip", "-6", "route"])).collect();
        let routes: Vec<_> = routes.into_iter().filter(|line| !line.starts_with("fe80::")).collect();
        (addresses, routes, show(&["nft", "-s", "list", "ruleset"]).join("\n").replace(char::is_numeric, "#"))
    };
    let before = stage.nodes.each_ref().map(host_state);
    let stop = AtomicBool::new(false);
    let marks = std::thread::scope(|scope| {
        let siege = scope.spawn(|| siege(&stage, &stop));
        std::thread::sleep(Duration::from_millis(100));
        // However this ends, the siege does.
        let end = SetOnDrop(&stop);
        // A crash of the processes themselves, one node after the other and then both.
        for nodes in [&[1][..], &[2], &[1, 2]] {
            for node in nodes {
                stage.up.lab.stop(NodeIndex(*node), Component::OvsVswitchd, Signal::SIGKILL).unwrap();
            }
            std::thread::sleep(Duration::from_millis(50));
            for node in nodes {
                stage.up.lab.start(NodeIndex(*node), Component::OvsVswitchd).unwrap();
            }
            stage.allowed_comes_back();
        }
        drop(end);
        siege.join().unwrap()
    });
    trials.check(marks.len() > 500, || format!("the siege sent {} packets only", marks.len()));
    for shut in [&stage.shut_1, &stage.shut_2] {
        let heard = shut.wire().heard();
        let leaks = heard.iter().filter(|frame| marks.iter().any(|mark| holds(frame, mark))).count();
        trials.check(leaks == 0, || {
            format!("LEAK: {} heard {leaks} of {} forbidden packets", shut.name, marks.len())
        });
    }
    for (index, node) in stage.nodes.iter().enumerate() {
        let mut now = host_state(node);
        let began = Instant::now();
        while now != before[index] && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(50));
            now = host_state(node);
        }
        trials.check(now == before[index], || {
            format!("{}: the host has {now:#?}, before the switch died {:#?}", node.name(), before[index])
        });
        let mode = stage.up.lab.ovs(
            NodeIndex(index as u8 + 1),
            "ovs-vsctl",
            ["get", "bridge", "br-int", "fail_mode"],
        );
        trials.check(mode.unwrap().trim() == "secure", || format!("{}: fail_mode", node.name()));
    }
    trials.verdict();
}

#[test]
fn fail_mode_is_kept_secure() {
    let Some(stage) = Stage::new("fail-mode") else { return };
    let node = NodeIndex(1);
    let mode = || stage.up.lab.ovs(node, "ovs-vsctl", ["get", "bridge", "br-int", "fail_mode"]).unwrap();
    assert_eq!(mode().trim(), "secure");
    stage.up.lab.ovs(node, "ovs-vsctl", ["--no-wait", "clear", "bridge", "br-int", "fail_mode"]).unwrap();
    until("the agent sets fail_mode back", || mode().trim() == "secure");
}
