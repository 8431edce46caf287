//! From the node's view to the node's own network stack: the gateway device, routes to every pod range through it, kernel
//! settings, and the nftables table that masquerades what leaves the cluster and drops what lies about its source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use network::{Cidr, Mac, Node};

use crate::host::{HostState, InterfaceAddress, Link, Neighbour, Route};
use crate::pipeline::Context;

/// The router as the host's next hop: reached by a permanent neighbour entry, so it needs no answer on the wire.
pub const NEXT_HOP_IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 254, 1);
/// The same for IPv6.
pub const NEXT_HOP_IPV6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

pub(crate) fn build(context: &Context<'_>, mtu: u32) -> HostState {
    let Some(own) = context.own else { return HostState::default() };
    let device = context.config.gateway.clone();
    let mut host = HostState::default();
    host.links.insert(Link { device: device.clone(), mac: context.gateway_mac(), mtu });
    for address in own.gateway_addresses() {
        let length = if address.is_ipv4() { 32 } else { 128 };
        host.addresses.insert(InterfaceAddress { device: device.clone(), address, length });
    }
    for range in context.pod_cidrs() {
        host.routes.insert(route(own, *range, device.clone()));
    }
    for via in host.routes.iter().filter_map(|route| route.via).collect::<BTreeSet<_>>() {
        host.neighbours.insert(Neighbour { device: device.clone(), address: via, mac: Mac::ROUTER });
    }
    host.sysctls = sysctls(own, &device);
    host.nftables = nftables(context, own);
    host
}

/// Every pod range is reached through the router. The source is the node's own address, so that policies and replies
/// know the node by the address that everybody knows it by.
fn route(own: &Node, destination: Cidr, device: String) -> Route {
    let ipv4 = destination.is_ipv4();
    let gateway = own.gateway_addresses().find(|address| address.is_ipv4() == ipv4);
    let via: IpAddr = if ipv4 { NEXT_HOP_IPV4.into() } else { NEXT_HOP_IPV6.into() };
    Route { destination, device, via: Some(via), source: own.address(ipv4).or(gateway), mtu: None }
}

fn sysctls(own: &Node, device: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |name: String, value: &str| {
        settings.insert(name, value.to_owned());
    };
    let families = own.pod_cidrs.iter().map(Cidr::is_ipv4).collect::<BTreeSet<_>>();
    if families.contains(&true) {
        set("net/ipv4/ip_forward".into(), "1");
        // Loose: what comes in by the gateway was checked port by port in the switch.
        set(format!("net/ipv4/conf/{device}/rp_filter"), "2");
        set(format!("net/ipv4/conf/{device}/send_redirects"), "0");
    }
    if families.contains(&false) {
        set("net/ipv6/conf/all/forwarding".into(), "1");
        set(format!("net/ipv6/conf/{device}/accept_ra"), "0");
        set(format!("net/ipv6/conf/{device}/accept_dad"), "0");
    }
    settings
}

fn nftables(context: &Context<'_>, own: &Node) -> String {
    let gateway = &context.config.gateway;
    let mut text = String::new();
    let mut spoof = Vec::new();
    let mut masquerade = Vec::new();
    for (word, ipv4) in [("ip", true), ("ip6", false)] {
        let ranges: BTreeSet<Cidr> = context.pod_cidrs().filter(|c| c.is_ipv4() == ipv4).copied().collect();
        let addresses = context.nodes.values().flat_map(|node| node.addresses.iter().copied());
        let nodes: BTreeSet<Cidr> = addresses.filter(|a| a.is_ipv4() == ipv4).map(Cidr::host).collect();
        let mine: BTreeSet<Cidr> = own.pod_cidrs.iter().filter(|c| c.is_ipv4() == ipv4).copied().collect();
        let own_addresses: BTreeSet<Cidr> =
            own.addresses.iter().filter(|a| a.is_ipv4() == ipv4).copied().map(Cidr::host).collect();
        if !ranges.is_empty() {
            spoof.push(format!(
                "iifname != {{ \"lo\", \"{gateway}\" }} {word} saddr {} counter drop comment \"claims a pod's address\"",
                set(&ranges)
            ));
        }
        if !own_addresses.is_empty() {
            spoof.push(format!(
                "iifname != \"lo\" {word} saddr {} counter drop comment \"claims this node's address\"",
                set(&own_addresses)
            ));
        }
        if context.config.masquerade && !mine.is_empty() {
            let cluster = ranges.union(&nodes).copied().collect();
            masquerade.push(format!(
                "oifname != \"{gateway}\" {word} saddr {} {word} daddr != {} counter masquerade comment \"leaves the cluster\"",
                set(&mine),
                set(&cluster)
            ));
        }
    }
    chain(&mut text, "spoof", "filter hook prerouting priority raw", &spoof);
    chain(&mut text, "leave", "nat hook postrouting priority srcnat", &masquerade);
    text
}

fn set(prefixes: &BTreeSet<Cidr>) -> String {
    // An address is written without its length, as nft prints it back.
    let text = |prefix: &Cidr| match (prefix.is_ipv4(), prefix.length()) {
        (true, 32) | (false, 128) => prefix.address().to_string(),
        _ => prefix.to_string(),
    };
    // A prefix inside another would overlap, which an interval set refuses.
    let outer = prefixes.iter().filter(|p| !prefixes.iter().any(|o| o != *p && o.covers(p)));
    format!("{{ {} }}", outer.map(text).collect::<Vec<_>>().join(", "))
}

fn chain(text: &mut String, name: &str, hook: &str, rules: &[String]) {
    let _ = writeln!(text, "chain {name} {{\n\ttype {hook}; policy accept;");
    for rule in rules {
        let _ = writeln!(text, "\t{rule}");
    }
    text.push_str("}\n");
}
