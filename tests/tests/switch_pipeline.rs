//! Compiled programs on a real switch: it takes them whole, reads them back as they are, and walks packets through them
//! as the simulator does.

#![allow(clippy::unwrap_used)]

mod bridge;
#[path = "../../compiler/tests/networks/mod.rs"]
mod networks;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bridge::{BRIDGE, connect, flow_mods, install, make_bridge, numbers};
use compiler::PortRef;
use compiler::simulate::matrix::{Site, compile_all};
use compiler::simulate::{Conntrack, Packet, Simulator};
use network::{Mac, Network, Protocol};
use openflow::message::FlowStatsRequest;
use openflow::{Field, PortNo};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tests::private_ovs::PrivateOvs;

fn sample(runner: &mut TestRunner) -> Network {
    networks::network().new_tree(runner).unwrap().current()
}

#[tokio::test]
async fn a_program_reads_back_as_it_was_sent() {
    let Some(ovs) = PrivateOvs::start().unwrap() else { return };
    let mut runner = TestRunner::deterministic();
    for _ in 0..10 {
        let site = compile_all(&sample(&mut runner)).swap_remove(0);
        let numbers = numbers(&site);
        make_bridge(&ovs, &numbers);
        let client = connect(&ovs).await;
        let flows = flow_mods(&site.program, &numbers);
        assert_eq!(flows.len(), site.program.flows.len());
        install(&client, flows.clone()).await;
        let mut held = BTreeMap::new();
        client
            .dump_flows(FlowStatsRequest::default(), |flow| {
                let key = (flow.table, flow.priority, flow.match_.canonical());
                held.insert(key, (flow.cookie, format!("{:?}", flow.instructions)));
            })
            .await
            .unwrap();
        for flow in &flows {
            let key = (flow.table, flow.priority, flow.match_.canonical());
            let there = held.remove(&key).unwrap_or_else(|| panic!("missing: {flow:?}"));
            // By name: the switch may print a field under another of its code points.
            assert_eq!(there, (flow.cookie, format!("{:?}", flow.instructions)), "{key:?}");
        }
        assert!(held.is_empty(), "more than was sent: {held:?}");
    }
}

/// The cookies of the flows that `ofproto/trace` walked, in order.
fn cookies(trace: &str) -> Vec<u64> {
    let cookie = |line: &str| {
        let text = line.split("cookie 0x").nth(1)?;
        u64::from_str_radix(text.split(|c: char| !c.is_ascii_hexdigit()).next()?, 16).ok()
    };
    // Copies to the agent are beside a packet's way: the simulator does not walk there.
    let beside = format!("{}. ", compiler::Table::Audit.id());
    trace.lines().filter(|line| !line.trim_start().starts_with(&beside)).filter_map(cookie).collect()
}

fn flow_text(packet: &Packet, port: PortNo) -> String {
    let mac = |field| Mac(packet.get(field).to_be_bytes()[10..].try_into().unwrap());
    let ipv4 = packet.get(Field::ETH_TYPE) == 0x0800;
    let address = |v4, v6| match ipv4 {
        true => IpAddr::from((packet.get(v4) as u32).to_be_bytes()),
        false => IpAddr::from(packet.get(v6).to_be_bytes()),
    };
    let (source, destination) =
        (address(Field::IPV4_SRC, Field::IPV6_SRC), address(Field::IPV4_DST, Field::IPV6_DST));
    let prefix = if ipv4 { "nw" } else { "ipv6" };
    let protocol = match (packet.get(Field::IP_PROTO), ipv4) {
        (6, true) => format!("tcp,tcp_dst={},tcp_flags=syn", packet.get(Field::TCP_DST)),
        (6, false) => format!("tcp6,tcp_dst={},tcp_flags=syn", packet.get(Field::TCP_DST)),
        (17, true) => format!("udp,udp_dst={}", packet.get(Field::UDP_DST)),
        (17, false) => format!("udp6,udp_dst={}", packet.get(Field::UDP_DST)),
        (_, true) => format!("sctp,sctp_dst={}", packet.get(Field::SCTP_DST)),
        (_, false) => format!("sctp6,sctp_dst={}", packet.get(Field::SCTP_DST)),
    };
    let tunnel = match packet.get(Field::TUN_SRC) as u32 {
        0 => String::new(),
        outer => format!("tun_id={:#x},tun_src={},", packet.get(Field::TUN_ID), Ipv4Addr::from(outer)),
    };
    format!(
        "{tunnel}in_port={},dl_src={},dl_dst={},{protocol},{prefix}_src={source},{prefix}_dst={destination},nw_ttl=64",
        port.0,
        mac(Field::ETH_SRC),
        mac(Field::ETH_DST),
    )
}

/// Packets for a node's switch: from its own pods, from the node and the outside through the gateway port, from pods of the
/// other node through the tunnel; to every pod of the network.
fn packets(network: &Network, site: &Site) -> Vec<(PortRef, Packet)> {
    let host = Mac([0x0e, 0, 0, 0, 0, 1]);
    let mut sources: Vec<(PortRef, Mac, IpAddr, Option<IpAddr>)> = Vec::new();
    for port in &site.ports {
        let interface = PortRef::Interface(port.interface.clone());
        sources.extend(port.addresses.iter().map(|own| (interface.clone(), port.mac, *own, None)));
    }
    let outside: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    for source in site.node.addresses.iter().copied().chain(site.node.gateway_addresses()).chain(outside) {
        sources.push((PortRef::Gateway, host, source, None));
    }
    let pods: Vec<_> = network.pods.values().filter(|pod| pod.is_policed()).collect();
    for pod in pods.iter().filter(|pod| pod.node.as_ref() != Some(&site.node.name)) {
        let outer = network.nodes[pod.node.as_ref().unwrap()].tunnel_address();
        sources.extend(pod.addresses.iter().map(|own| (PortRef::Tunnel, Mac::ROUTER, *own, outer)));
    }
    let mut packets = Vec::new();
    for (from, mac, source, outer) in sources {
        let targets = pods.iter().flat_map(|pod| pod.addresses.iter().copied());
        for destination in targets.filter(|address| address.is_ipv4() == source.is_ipv4()) {
            for (protocol, number) in [(Protocol::Tcp, 80), (Protocol::Udp, 81), (Protocol::Sctp, 79)] {
                let mut packet =
                    Packet::first(source, destination, protocol, number).ethernet(mac, Mac::ROUTER);
                if let Some(outer) = outer {
                    packet.set(Field::TUN_SRC, network::address::address_bits(outer));
                    packet.set(Field::TUN_ID, u128::from(compiler::register::VNI));
                }
                packets.push((from.clone(), packet));
            }
        }
    }
    packets
}

#[tokio::test]
async fn the_simulator_walks_as_the_switch_does() {
    let Some(ovs) = PrivateOvs::start().unwrap() else { return };
    let mut runner = TestRunner::deterministic();
    let mut walked: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..8 {
        let network = sample(&mut runner);
        let site = compile_all(&network).swap_remove(0);
        let numbers = numbers(&site);
        make_bridge(&ovs, &numbers);
        let client = connect(&ovs).await;
        install(&client, flow_mods(&site.program, &numbers)).await;
        let simulator = Simulator::new(&site.program);
        for (from, packet) in packets(&network, &site) {
            let trace = simulator.run(&from, packet.clone(), &mut Conntrack::default());
            let expected: Vec<u64> = trace.steps.iter().map(|step| step.cookie.0).collect();
            let text = flow_text(&packet, numbers[&from]);
            let said = ovs.appctl(["ofproto/trace", BRIDGE, &text, "--ct-next", "trk,new"]).unwrap();
            assert_eq!(cookies(&said), expected, "{text}\n{said}\n{trace:#?}");
            let way = match from {
                PortRef::Interface(_) => "pod",
                PortRef::Gateway => "gateway",
                PortRef::Tunnel => "tunnel",
            };
            *walked.entry(way).or_default() += 1;
        }
    }
    assert!(walked.len() == 3 && walked.values().all(|count| *count > 50), "only {walked:?} packets");
}
