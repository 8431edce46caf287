//! A pod speaks as itself alone (ARCHITECTURE.md, "Nobody speaks for another"): each attack that a pod can try, carried out with
//! real packets against a lab with the real agents, controller and switches. Every lie has an honest packet of the same shape
//! behind it.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use network::Mac;
use tests::packet::stage::{
    FAMILIES, GATEWAY, Host, NODE_SOCKET, SERVICE, Stage, datagram, family, holds, next, until,
};
use tests::packet::{self, BROADCAST, Ear, Mark, Trials, Wire};

#[test]
fn a_pod_speaks_as_itself_alone() {
    let Some(stage) = Stage::new("source") else { return };
    let (alice, mallory) = (&stage.alice_1, &stage.mallory);
    let mut trials = Trials::default();
    for ipv4 in FAMILIES {
        let name = family(ipv4);
        // Alice's address is worth having: `shut` listens to her alone.
        for shut in [&stage.shut_1, &stage.shut_2] {
            for (what, mac) in
                [("own MAC, alice's address", mallory.mac), ("alice's MAC and address", alice.mac)]
            {
                trials.lie(
                    &format!("{name}: mallory to {} with {what}", shut.name),
                    &shut.ear,
                    |mark| mallory.send_as(mac, &datagram(alice.ip(ipv4), shut.ip(ipv4), SERVICE, mark)),
                    |mark| alice.send(&datagram(alice.ip(ipv4), shut.ip(ipv4), SERVICE, mark)),
                );
            }
            trials.lie(
                &format!("{name}: mallory to {} as itself", shut.name),
                &shut.ear,
                |mark| mallory.send(&datagram(mallory.ip(ipv4), shut.ip(ipv4), SERVICE, mark)),
                |mark| alice.send(&datagram(alice.ip(ipv4), shut.ip(ipv4), SERVICE, mark)),
            );
        }
        let open = &stage.open_1;
        let honest = |mark: &Mark| mallory.send(&datagram(mallory.ip(ipv4), open.ip(ipv4), SERVICE, mark));
        trials.lie(
            &format!("{name}: mallory to open with alice's MAC and its own address"),
            &open.ear,
            |mark| mallory.send_as(alice.mac, &datagram(mallory.ip(ipv4), open.ip(ipv4), SERVICE, mark)),
            honest,
        );
        let somebody = [
            ("a pod of the other node", stage.alice_2.ip(ipv4)),
            ("its node", stage.node(0, ipv4)),
            ("its node's gateway", stage.gateway(0, ipv4)),
            ("the other node", stage.node(1, ipv4)),
            ("a host on the underlay", stage.stranger.ip(ipv4)),
            ("the receiver itself", open.ip(ipv4)),
            ("a free address of its range", next(mallory.ip(ipv4), 100)),
        ];
        for (who, source) in somebody {
            trials.lie(
                &format!("{name}: mallory to open as {who}"),
                &open.ear,
                |mark| mallory.send(&datagram(source, open.ip(ipv4), SERVICE, mark)),
                honest,
            );
        }
        // The nodes themselves: neither through the gateway port nor through the tunnel.
        for (index, ear) in stage.node_ears.iter().enumerate() {
            let to = stage.node(index, ipv4);
            trials.lie(
                &format!("{name}: mallory to node {} as alice", index + 1),
                ear,
                |mark| mallory.send(&datagram(alice.ip(ipv4), to, NODE_SOCKET, mark)),
                |mark| mallory.send(&datagram(mallory.ip(ipv4), to, NODE_SOCKET, mark)),
            );
        }
    }
    trials.verdict();
}

#[test]
fn a_pod_lies_to_no_neighbour() {
    let Some(stage) = Stage::new("neighbours") else { return };
    let (alice, mallory, open) = (&stage.alice_1, &stage.mallory, &stage.open_1);
    let gateway = Wire::open(&stage.nodes[0].netns_path(), GATEWAY);
    let mut trials = Trials::default();

    // By ARP nothing leaves the switch but the router's answers; the honest request shows that requests are carried.
    let gateway_ip = Ipv4Addr::new(10, 244, 1, 1);
    let (nobody, zero) = (Mac([0; 6]), Ipv4Addr::UNSPECIFIED);
    let lies = [
        ("answers for alice, to open", 2, (mallory.mac, alice.v4()), (open.mac, open.v4()), open.mac),
        (
            "answers for alice, to the router",
            2,
            (mallory.mac, alice.v4()),
            (Mac::ROUTER, gateway_ip),
            Mac::ROUTER,
        ),
        ("answers for the gateway, to open", 2, (mallory.mac, gateway_ip), (open.mac, open.v4()), open.mac),
        ("announces alice by a reply", 2, (mallory.mac, alice.v4()), (BROADCAST, alice.v4()), BROADCAST),
        ("announces alice by a request", 1, (mallory.mac, alice.v4()), (nobody, alice.v4()), BROADCAST),
        ("announces itself by a reply", 2, (mallory.mac, mallory.v4()), (BROADCAST, mallory.v4()), BROADCAST),
        ("asks as alice", 1, (mallory.mac, alice.v4()), (nobody, gateway_ip), BROADCAST),
        ("asks with alice's MAC", 1, (alice.mac, mallory.v4()), (nobody, gateway_ip), BROADCAST),
        ("probes for its own address", 1, (mallory.mac, zero), (nobody, mallory.v4()), BROADCAST),
        ("probes for alice's address", 1, (mallory.mac, zero), (nobody, alice.v4()), BROADCAST),
    ];
    let everybody = [&stage.alice_1, open, &stage.shut_1, &stage.open_2];
    for (what, operation, sender, target, to) in lies {
        for host in everybody {
            host.wire().forget();
        }
        gateway.forget();
        mallory.wire().forget();
        mallory.wire().send(&packet::ethernet(
            mallory.mac,
            to,
            packet::ARP,
            &packet::arp(operation, sender, target),
        ));
        let asks = packet::arp(1, (mallory.mac, mallory.v4()), (nobody, gateway_ip));
        let answer = packet::arp(2, (Mac::ROUTER, gateway_ip), (mallory.mac, mallory.v4()));
        mallory.wire().send(&packet::ethernet(mallory.mac, BROADCAST, packet::ARP, &asks));
        let answered =
            mallory.wire().waits_for(Duration::from_secs(2), |frame| frame[14..].starts_with(&answer));
        trials.check(answered, || format!("control: an honest request is answered: {what}"));
        std::thread::sleep(Duration::from_millis(10));
        for host in everybody {
            let heard = host.wire().any(is_arp);
            trials.check(!heard, || format!("LEAK: mallory {what}: {} hears ARP", host.name));
        }
        trials.check(!gateway.any(is_arp), || format!("LEAK: mallory {what}: the node hears ARP"));
        let answers = mallory.wire().heard().iter().filter(|frame| is_arp(frame)).count();
        trials.check(answers == 1, || {
            format!("mallory {what}: {answers} answers, one is to its honest request")
        });
    }

    // By ND: the target is told, all nodes are told, the router is told.
    let all_nodes = (Mac([0x33, 0x33, 0, 0, 0, 1]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    let link_local = mallory.mac.link_local();
    let advertises = packet::neighbour(0x6000_0000, alice.v6(), Some((2, mallory.mac)));
    let router = [&[64, 0, 7, 8][..], &[0; 8], &[1, 1], &mallory.mac.0].concat();
    let redirect = [&[0; 4][..], &mallory.v6().octets(), &alice.v6().octets()].concat();
    let solicits = packet::neighbour(0, alice.v6(), Some((1, mallory.mac)));
    let own = packet::neighbour(0, mallory.v6(), None);
    for (what, kind, body) in [
        ("advertises itself as alice", packet::NEIGHBOUR_ADVERTISEMENT, &advertises),
        ("advertises itself as a router", packet::ROUTER_ADVERTISEMENT, &router),
        ("redirects alice's packets to itself", packet::REDIRECT, &redirect),
        ("solicits as alice", packet::NEIGHBOUR_SOLICITATION, &solicits),
        ("probes for its own address", packet::NEIGHBOUR_SOLICITATION, &own),
    ] {
        let sources = match what {
            "solicits as alice" => vec![alice.v6(), alice.mac.link_local()],
            "probes for its own address" => vec![Ipv6Addr::UNSPECIFIED],
            _ => vec![mallory.v6(), link_local, alice.v6(), Mac::ROUTER.link_local(), Ipv6Addr::UNSPECIFIED],
        };
        for source in sources {
            for (mac, to) in [(open.mac, open.v6()), all_nodes, (Mac::ROUTER, stage.shut_2.v6())] {
                for host in everybody {
                    host.wire().forget();
                }
                gateway.forget();
                mallory.wire().forget();
                let message = packet::icmpv6(source, to, kind, body);
                let message = packet::ip(source.into(), to.into(), packet::ICMPV6, 255, &message);
                mallory.wire().send(&packet::ip_frame(mallory.mac, mac, &message));
                // An echo request is ICMPv6, too, and passes.
                let mark = Mark::new();
                let echo = [&mark.port.to_be_bytes()[..], &[0, 1], &mark.bytes].concat();
                let echo = packet::icmpv6(mallory.v6(), open.v6(), 128, &echo);
                mallory.send(&packet::ip(mallory.ip(false), open.ip(false), packet::ICMPV6, 255, &echo));
                let came = open.wire().waits_for(Duration::from_secs(2), |frame| holds(frame, &mark.bytes));
                trials.check(came, || format!("control: an honest echo request passes: {what} to {to}"));
                std::thread::sleep(Duration::from_millis(10));
                for host in everybody {
                    let heard = host.wire().any(is_nd);
                    let name = &host.name;
                    trials.check(!heard, || {
                        format!("LEAK: mallory {what} as {source} to {to}: {name} hears it")
                    });
                }
                trials.check(!gateway.any(is_nd), || {
                    format!("LEAK: mallory {what} as {source}: the node hears it")
                });
                let answered = mallory.wire().any(is_nd);
                trials.check(!answered, || format!("mallory {what} as {source} to {to}: it is answered"));
            }
        }
    }
    trials.verdict();
}

fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&packet::ARP.to_be_bytes())
}

/// Neighbour discovery of anybody's, in a plain IPv6 packet.
fn is_nd(frame: &[u8]) -> bool {
    let ipv6 = frame.get(12..14) == Some(&packet::IPV6.to_be_bytes());
    ipv6 && frame.get(20) == Some(&packet::ICMPV6)
        && frame.get(54).is_some_and(|kind| (133..=137).contains(kind))
}

#[test]
fn the_router_answers_for_every_address_but_the_askers() {
    let Some(stage) = Stage::new("responders") else { return };
    let asker = &stage.mallory;
    let mut trials = Trials::default();
    let others =
        [stage.gateway(0, true), stage.alice_1.ip(true), stage.alice_2.ip(true), [1, 1, 1, 1].into()];
    for target in others {
        let IpAddr::V4(target) = target else { continue };
        let request = packet::arp(1, (asker.mac, asker.v4()), (Mac([0; 6]), target));
        let reply = packet::arp(2, (Mac::ROUTER, target), (asker.mac, asker.v4()));
        let expected = packet::ethernet(Mac::ROUTER, asker.mac, packet::ARP, &reply);
        asker.wire().forget();
        asker.wire().send(&packet::ethernet(asker.mac, BROADCAST, packet::ARP, &request));
        let came = asker.wire().waits_for(Duration::from_secs(2), |frame| frame == expected);
        trials.check(came, || {
            format!("ARP for {target}: expected {expected:x?}, got {:x?}", asker.wire().heard())
        });
    }
    for target in [stage.gateway(0, false), stage.alice_1.ip(false), stage.alice_2.ip(false)] {
        let IpAddr::V6(target) = target else { continue };
        for source in [asker.v6(), asker.mac.link_local()] {
            // Multicast as a first question is, and straight to the router as a later one is (RFC 4861 §7.3.3).
            for (mac, to) in [packet::solicited(target), (Mac::ROUTER, target)] {
                for sll in [Some((1, asker.mac)), None] {
                    let ask = packet::icmpv6(
                        source,
                        to,
                        packet::NEIGHBOUR_SOLICITATION,
                        &packet::neighbour(0, target, sll),
                    );
                    let ask = packet::ip(source.into(), to.into(), packet::ICMPV6, 255, &ask);
                    // Without SLL there is no room for the answer's address; the frame's source says it.
                    let tll = sll.map(|_| (2, Mac::ROUTER));
                    let body = packet::neighbour(0x6000_0000, target, tll);
                    let answer = packet::icmpv6(target, source, packet::NEIGHBOUR_ADVERTISEMENT, &body);
                    let answer = packet::ip(target.into(), source.into(), packet::ICMPV6, 255, &answer);
                    let expected = packet::ip_frame(Mac::ROUTER, asker.mac, &answer);
                    asker.wire().forget();
                    asker.wire().send(&packet::ip_frame(asker.mac, mac, &ask));
                    let came = asker.wire().waits_for(Duration::from_secs(2), |frame| frame == expected);
                    trials.check(came, || {
                        let heard = asker.wire().heard();
                        format!("ND for {target} from {source} {sll:?}:\n    expected {expected:x?}\n    got {heard:x?}")
                    });
                }
            }
        }
    }
    trials.verdict();
}

#[test]
fn packets_that_are_not_plain_open_nothing() {
    let Some(stage) = Stage::new("odd-packets") else { return };
    let (alice, mallory) = (&stage.alice_1, &stage.mallory);
    let mut trials = Trials::default();
    for ipv4 in FAMILIES {
        let name = family(ipv4);
        let open = &stage.open_1;
        let honest = |mark: &Mark| mallory.send(&datagram(mallory.ip(ipv4), open.ip(ipv4), SERVICE, mark));

        // Sources and destinations that are nobody's.
        let nobodies: Vec<IpAddr> = if ipv4 {
            [
                "224.0.0.1",
                "239.1.2.3",
                "255.255.255.255",
                "127.0.0.1",
                "0.0.0.0",
                "169.254.254.1",
                "240.0.0.1",
            ]
            .map(|address| address.parse().unwrap())
            .to_vec()
        } else {
            ["ff02::1", "ff05::2", "::1", "::", "fe80::1", "fe80::2", "::ffff:10.244.1.2"]
                .map(|address| address.parse().unwrap())
                .to_vec()
        };
        let link_local = if ipv4 { vec![] } else { vec![IpAddr::V6(mallory.mac.link_local())] };
        for nobody in nobodies.iter().chain(&link_local).copied() {
            trials.lie(
                &format!("{name}: mallory to open from {nobody}"),
                &open.ear,
                |mark| mallory.send(&datagram(nobody, open.ip(ipv4), SERVICE, mark)),
                honest,
            );
        }
        let open_link_local = if ipv4 { vec![] } else { vec![IpAddr::V6(open.mac.link_local())] };
        for nobody in nobodies.iter().chain(&open_link_local).copied() {
            // Whatever Ethernet address it is sent to, no pod hears it.
            for mac in [Mac::ROUTER, open.mac, BROADCAST, Mac([0x33, 0x33, 0, 0, 0, 1])] {
                trials.lie(
                    &format!("{name}: mallory to {nobody} at {mac}"),
                    &open.ear,
                    |mark| {
                        let packet = datagram(mallory.ip(ipv4), nobody, SERVICE, mark);
                        mallory.wire().send(&packet::ip_frame(mallory.mac, mac, &packet));
                    },
                    honest,
                );
            }
        }

        // A tag hides nothing, and reaches nobody.
        for (to, from, sender) in
            [(&stage.shut_1, alice, mallory), (open, mallory, mallory), (open, alice, mallory)]
        {
            trials.lie(
                &format!("{name}: {} to {} as {} with a VLAN tag", sender.name, to.name, from.name),
                &to.ear,
                |mark| {
                    let packet = datagram(from.ip(ipv4), to.ip(ipv4), SERVICE, mark);
                    let frame = packet::ip_frame(sender.mac, Mac::ROUTER, &packet);
                    for vlan in [0, 1, 100] {
                        sender.wire().send(&packet::tagged(&frame, vlan));
                        sender.wire().send(&packet::tagged(&packet::tagged(&frame, vlan), vlan));
                    }
                },
                |mark| alice.send(&datagram(alice.ip(ipv4), to.ip(ipv4), SERVICE, mark)),
            );
        }

        // Nobody enters in the middle of a conversation that never began, not even who may begin one.
        for shut in [&stage.shut_1, &stage.shut_2] {
            for (flags, what) in [
                (packet::ACK, "ACK"),
                (packet::ACK | packet::SYN, "SYN and ACK"),
                (0x04, "RST"),
                (0x01, "FIN"),
            ] {
                let segment = |flags: u8, mark: &Mark| {
                    let (from, to) = (alice.ip(ipv4), shut.ip(ipv4));
                    alice.send(&packet::ip(
                        from,
                        to,
                        packet::TCP,
                        64,
                        &packet::tcp(from, to, (mark.port, 80), flags, &mark.bytes),
                    ));
                };
                trials.lie(
                    &format!("{name}: alice to {} on TCP 80 with {what} first", shut.name),
                    &shut.ear,
                    |mark| segment(flags, mark),
                    |mark| segment(packet::SYN, mark),
                );
            }
        }
    }
    trials.verdict();
}

#[test]
fn in_pieces_a_packet_passes_nowhere_that_it_does_not_pass_whole() {
    let Some(stage) = Stage::new("fragments") else { return };
    let mut trials = Trials::default();
    let place = |host: &Host| stage.up.lab.pod(&format!("t/{}", host.name)).unwrap();
    // The stacks of the pods themselves cut and join: 3,000 bytes are three pieces, and the mark is in each.
    let send = |host: &Host, to: IpAddr, port: u16, length: usize, mark: &Mark| {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let payload = mark.bytes.repeat(length / mark.bytes.len());
        let sent = place(host).run(|| UdpSocket::bind((any, mark.port))?.send_to(&payload, (to, port)));
        sent.unwrap().unwrap();
    };
    let alice = &stage.alice_1;
    for open in [&stage.open_1, &stage.open_2] {
        // Pieces are carried, and joined again where they arrive.
        let ear = Ear::socket(&place(open), SERVICE);
        for ipv4 in FAMILIES {
            let mark = Mark::new();
            send(&stage.mallory, open.ip(ipv4), SERVICE, 3000, &mark);
            until("a long packet arrives where everybody is heard", || ear.has(&mark.bytes.repeat(100)));
            let pieces = open.wire().heard().iter().filter(|frame| holds(frame, &mark.bytes)).count();
            trials.check(pieces == 3, || {
                format!("control: {pieces} pieces were seen to come to {}", open.name)
            });
        }
    }
    for shut in [&stage.shut_1, &stage.shut_2] {
        for ipv4 in FAMILIES {
            let to = shut.ip(ipv4);
            let name = format!("{} to {}", family(ipv4), shut.name);
            for (what, liar, port) in
                [("mallory", &stage.mallory, SERVICE), ("alice, on another port", alice, SERVICE + 1)]
            {
                let (lie, honest) = (Mark::new(), Mark::new());
                send(alice, to, SERVICE, honest.bytes.len(), &honest);
                let pieces = |mark: &Mark| {
                    shut.wire().heard().iter().filter(|frame| holds(frame, &mark.bytes)).count()
                };
                let whole =
                    shut.wire().waits_for(Duration::from_secs(2), |frame| holds(frame, &honest.bytes));
                trials.check(whole, || format!("control: a whole packet arrives: {name}"));
                send(liar, to, port, 3000, &lie);
                std::thread::sleep(Duration::from_millis(30));
                trials.check(pieces(&lie) == 0, || {
                    format!("LEAK: {name}: {} pieces of {what}'s packet", pieces(&lie))
                });
            }
        }
    }
    trials.verdict();
}
