//! The compiled flows, simulated, say what the reference evaluator says: on random networks, for every pair and port.

#![allow(clippy::unwrap_used)]

mod networks;

use std::net::IpAddr;

use compiler::simulate::matrix::compile_all;
use compiler::simulate::{Fabric, Outcome, Packet};
use network::reference::{Endpoint, verdict};
use network::{Pod, Protocol};
use networks::network;
use proptest::prelude::*;

fn of_family(pod: &Pod, ipv4: bool) -> Option<IpAddr> {
    pod.addresses.iter().copied().find(|a| a.is_ipv4() == ipv4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_pair_and_port(network in network()) {
        let compiled = compile_all(&network);
        for site in &compiled {
            prop_assert!(site.program.refused.is_empty());
        }
        let sites = || compiled.iter().map(|site| (&site.node, &site.program, site.ports.as_slice()));
        let mut fabric = Fabric::new(sites());
        let living: Vec<&Pod> = network.pods.values().filter(|pod| pod.is_policed()).collect();
        for ipv4 in [true, false] {
            for to in &living {
                let Some(target) = of_family(to, ipv4) else { continue };
                for (protocol, port) in [(Protocol::Tcp, 79), (Protocol::Tcp, 80), (Protocol::Udp, 81), (Protocol::Sctp, 82)] {
                    for from in &living {
                        if from.key == to.key {
                            continue;
                        }
                        let Some(source) = of_family(from, ipv4) else { continue };
                        let expected = verdict(
                            &network,
                            &Endpoint::Pod { key: from.key.clone(), address: source },
                            &Endpoint::Pod { key: to.key.clone(), address: target },
                            protocol, port,
                        );
                        fabric.forget_connections();
                        let packet = Packet::first(source, target, protocol, port);
                        let walk = fabric.from_pod(&from.key, packet.clone()).unwrap();
                        prop_assert_eq!(walk.passed(), expected.combined(), "{} -> {} {}/{}: {:#?}", from.key, to.key, protocol, port, walk);
                        if walk.passed() {
                            // The reply comes back, and so does everything later, without policy having a say.
                            let reply = fabric.from_pod(&to.key, packet.reply()).unwrap();
                            prop_assert!(reply.passed(), "reply {:#?}", reply);
                            let later = fabric.from_pod(&from.key, packet.clone().later()).unwrap();
                            prop_assert!(later.passed(), "later {:#?}", later);
                        }
                        for hop in &walk.hops {
                            prop_assert!(hop.trace.unknown.is_empty(), "{:?}", hop.trace.unknown);
                        }
                    }
                    for from in network.nodes.values() {
                        let source = from.address(ipv4).unwrap();
                        let expected = verdict(
                            &network,
                            &Endpoint::Node { name: from.name.clone(), address: source },
                            &Endpoint::Pod { key: to.key.clone(), address: target },
                            protocol, port,
                        );
                        fabric.forget_connections();
                        let walk = fabric.from_node(&from.name, Packet::first(source, target, protocol, port));
                        prop_assert_eq!(walk.passed(), expected.combined(), "{} -> {} {}/{}: {:#?}", from.name, to.key, protocol, port, walk);
                        // And the other way.
                        let expected = verdict(
                            &network,
                            &Endpoint::Pod { key: to.key.clone(), address: target },
                            &Endpoint::Node { name: from.name.clone(), address: source },
                            protocol, port,
                        );
                        fabric.forget_connections();
                        let walk = fabric.from_pod(&to.key, Packet::first(target, source, protocol, port)).unwrap();
                        prop_assert_eq!(walk.passed(), expected.combined(), "{} -> {} {}/{}: {:#?}", to.key, from.name, protocol, port, walk);
                        if walk.passed() {
                            prop_assert_eq!(walk.outcome, Outcome::Host { node: from.name.clone() });
                        }
                        // By its external addresses, which are outside, and so behind the pod's own node.
                        for external in from.external.iter().copied().filter(|a| a.is_ipv4() == ipv4) {
                            let outside = Endpoint::Outside(external);
                            let pod = Endpoint::Pod { key: to.key.clone(), address: target };
                            let own = to.node.clone().unwrap();
                            let expected = verdict(&network, &pod, &outside, protocol, port);
                            fabric.forget_connections();
                            let walk = fabric.from_pod(&to.key, Packet::first(target, external, protocol, port)).unwrap();
                            prop_assert_eq!(walk.passed(), expected.combined(), "{} -> {}: {:#?}", to.key, external, walk);
                            if walk.passed() {
                                prop_assert_eq!(walk.outcome, Outcome::Host { node: own.clone() });
                            }
                            let expected = verdict(&network, &outside, &pod, protocol, port);
                            fabric.forget_connections();
                            let walk = fabric.from_node(&own, Packet::first(external, target, protocol, port));
                            prop_assert_eq!(walk.passed(), expected.combined(), "{} -> {}: {:#?}", external, to.key, walk);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_matrix_of_the_flows_is_the_matrix_of_the_reference(network in network()) {
        let participants = network::matrix::pods_of(&network);
        let flows = compiler::simulate::matrix::predict(&network, &participants);
        let reference = network::matrix::predict(&network, &participants);
        let differences = flows.differences(&reference);
        prop_assert!(differences.is_empty(), "{:?}", differences);
    }

    #[test]
    fn the_same_state_gives_the_same_program(network in network()) {
        let (once, again) = (compile_all(&network), compile_all(&network));
        for (a, b) in once.iter().zip(&again) {
            prop_assert_eq!(&a.program, &b.program);
        }
    }
}
