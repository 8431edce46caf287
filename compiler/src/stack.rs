//! From the node's view to the node's own network stack: the gateway device, routes to every pod range through it, kernel
//! settings, and the nftables table that masquerades what leaves the cluster and drops what lies about its source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use network::service::{Frontend, TrafficPolicy};
use network::{Cidr, Mac, Node, Protocol, Service, ServicePort};

use crate::host::{HostState, InterfaceAddress, Link, Neighbour, Route};
use crate::pipeline::Context;
use crate::pipeline::host_ports;
use crate::pipeline::service::{self, Frontends};

/// The router as the host's next hop: reached by a permanent neighbour entry, so it needs no answer on the wire.
pub const NEXT_HOP_IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 254, 1);
/// The same for IPv6.
pub const NEXT_HOP_IPV6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The name by which the host knows all of its node ports.
pub fn node_port_address(ipv4: bool) -> IpAddr {
    stand_in(ipv4, 2)
}

/// The name by which the host knows an external address of a Service that is its own.
pub(crate) fn own_external_address(ipv4: bool) -> IpAddr {
    stand_in(ipv4, 3)
}

/// Who speaks to the host on behalf of a client that came from the host.
pub(crate) fn hairpin_address(ipv4: bool) -> IpAddr {
    stand_in(ipv4, 4)
}

/// Addresses that nobody has, routed to the switch: link-local for IPv4, a unique local prefix of our own for IPv6, whose
/// link-local addresses cannot be routed.
fn stand_in(ipv4: bool, number: u8) -> IpAddr {
    if ipv4 {
        Ipv4Addr::new(169, 254, 254, number).into()
    } else {
        Ipv6Addr::new(0xfd66, 0x6572, 0x7275, 0x6c65, 0, 0, 0, number.into()).into()
    }
}

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
    let frontends = Frontends::of(service::balanced(context));
    let frontends: Vec<Asked<'_>> = service::balanced(context)
        .flat_map(|service| {
            frontends.of_service(service).into_iter().map(move |(frontend, port)| (frontend, port, service))
        })
        .collect();
    for address in service_addresses(context, own, &frontends) {
        host.routes.insert(route(own, Cidr::host(address), device.clone()));
    }
    for via in host.routes.iter().filter_map(|route| route.via).collect::<BTreeSet<_>>() {
        host.neighbours.insert(Neighbour { device: device.clone(), address: via, mac: Mac::ROUTER });
    }
    host.sysctls = sysctls(own, &device);
    host.nftables = nftables(context, own, &frontends);
    host
}

/// What clients ask for, the port that is meant, and its Service.
type Asked<'a> = (Frontend, &'a ServicePort, &'a Service);

/// What the host sends to the switch because it asks for a Service.
fn service_addresses(context: &Context<'_>, own: &Node, frontends: &[Asked<'_>]) -> BTreeSet<IpAddr> {
    let families: BTreeSet<bool> = own.pod_cidrs.iter().map(Cidr::is_ipv4).collect();
    let of_nodes: BTreeSet<IpAddr> =
        context.nodes.values().flat_map(|node| node.addresses.iter().copied()).collect();
    let mut addresses: BTreeSet<IpAddr> = frontends
        .iter()
        .filter_map(|(frontend, ..)| match frontend {
            Frontend::Address(address) => Some(*address),
            Frontend::NodePort { .. } => None,
        })
        .filter(|address| families.contains(&address.is_ipv4()) && !of_nodes.contains(address))
        .collect();
    if context.config.services {
        for ipv4 in families {
            addresses
                .extend([node_port_address, own_external_address, hairpin_address].map(|name| name(ipv4)));
        }
    }
    addresses
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

fn nftables(context: &Context<'_>, own: &Node, frontends: &[Asked<'_>]) -> String {
    let gateway = &context.config.gateway;
    let mut text = String::new();
    let mut spoof = Vec::new();
    let mut masquerade = Vec::new();
    let mut at_host_ports = Vec::new();
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
        // What a pod asked this node for, and the host gave to one of the node's pods. That it came in by the gateway is known: nothing
        // else gets past `spoof` in a pod's name.
        if let Some(speaker) = host_ports::speakers(own).find(|speaker| speaker.is_ipv4() == ipv4) {
            let gateways = own.gateway_addresses().filter(|address| address.is_ipv4() == ipv4);
            at_host_ports.push(format!(
                "oifname \"{gateway}\" ct status dnat {word} saddr {} {word} saddr != {} {word} daddr {} counter snat {word} to {speaker} comment \"a pod at a hostPort\"",
                set(&ranges),
                set(&gateways.map(Cidr::host).collect()),
                set(&mine)
            ));
        }
    }
    let outside: Vec<String> = if context.config.services {
        [("ip", true), ("ip6", false)]
            .into_iter()
            .filter(|(_, ipv4)| own.pod_cidrs.iter().any(|range| range.is_ipv4() == *ipv4))
            .map(|(word, ipv4)| {
                let name = hairpin_address(ipv4);
                format!("oifname != \"{gateway}\" {word} saddr {name} counter masquerade comment \"to an endpoint outside\"")
            })
            .collect()
    } else {
        Vec::new()
    };
    masquerade.extend(outside);
    let ServiceRules { from_outside, of_the_node, mut refuse, refuse_here } =
        service_rules(context, own, frontends);
    let from_outside: Vec<String> =
        from_outside.iter().map(|rule| format!("iifname != \"{gateway}\" {rule}")).collect();
    chain(&mut text, "services", "nat hook prerouting priority dstnat", &from_outside);
    chain(&mut text, "services_own", "nat hook output priority -100", &of_the_node);
    chain(&mut text, "refuse", "filter hook forward priority filter", &refuse);
    refuse.extend(refuse_here.iter().cloned());
    chain(&mut text, "refuse_own", "filter hook output priority filter", &refuse);
    chain(&mut text, "refuse_here", "filter hook input priority filter", &refuse_here);
    chain(&mut text, "spoof", "filter hook prerouting priority raw", &spoof);
    chain(&mut text, "leave", "nat hook postrouting priority srcnat", &masquerade);
    // After others: who masquerades what a pod asks itself, or all that a proxy translated, is not interfered with.
    chain(&mut text, "host_ports", "nat hook postrouting priority srcnat + 1", &at_host_ports);
    text
}

/// What nftables has to do for Services.
#[derive(Default)]
struct ServiceRules {
    /// What this node is asked for from outside goes to the switch under another name.
    from_outside: Vec<String>,
    /// So does what the node itself asks for, of any node: balanced here, as its pods are. But where `externalTrafficPolicy`
    /// is `Local` another node gives what it has itself, and is asked over the underlay.
    of_the_node: Vec<String>,
    /// What nobody serves is refused here, so that clients hear of it whether the agent runs or not.
    refuse: Vec<String>,
    /// A node port that nobody serves is refused before the host's stack does it: what is dropped here is not tracked. Else a
    /// client over UDP that goes on asking would be held to "not translated" also when somebody serves.
    refuse_here: Vec<String>,
}

fn service_rules(context: &Context<'_>, own: &Node, frontends: &[Asked<'_>]) -> ServiceRules {
    let mut rules = ServiceRules::default();
    for (word, ipv4) in [("ip", true), ("ip6", false)] {
        let mine: BTreeSet<Cidr> =
            own.addresses.iter().filter(|a| a.is_ipv4() == ipv4).copied().map(Cidr::host).collect();
        let answering = |nodes: &mut dyn Iterator<Item = &Node>| -> BTreeSet<Cidr> {
            let all = nodes.flat_map(|node| node.addresses.iter().copied());
            let of_family = all.filter(|a| a.is_ipv4() == ipv4 && context.config.has_node_ports(*a));
            of_family.map(Cidr::host).collect()
        };
        let here = answering(&mut std::iter::once(own));
        let elsewhere = &answering(&mut context.nodes.values().copied()) - &here;
        let (mut node_ports, mut balanced_here, mut idle) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut external = BTreeSet::new();
        for (frontend, port, service) in frontends {
            let protocol = port.protocol.to_string().to_lowercase();
            match frontend {
                Frontend::NodePort { ipv4: family } if *family == ipv4 && port.is_served(ipv4) => {
                    let element = format!("{protocol} . {}", port.node_port.unwrap_or(0));
                    if service.external_policy == TrafficPolicy::Cluster {
                        balanced_here.insert(element.clone());
                    }
                    node_ports.insert(element);
                }
                Frontend::NodePort { ipv4: family } if *family == ipv4 && port.protocol == Protocol::Udp => {
                    idle.insert(port.node_port.unwrap_or(0).to_string());
                }
                Frontend::Address(address) if mine.contains(&Cidr::host(*address)) => {
                    external.insert(format!("{address} . {protocol} . {}", port.port));
                }
                _ => {}
            }
        }
        let node_port_rule = |addresses: &BTreeSet<Cidr>, ports: &BTreeSet<String>, comment: &str| {
            (!ports.is_empty() && !addresses.is_empty()).then(|| {
                format!(
                    "{word} daddr {} meta l4proto . th dport {} counter dnat {word} to {} comment \"{comment}\"",
                    set(addresses),
                    elements(ports),
                    node_port_address(ipv4)
                )
            })
        };
        let own_ports = node_port_rule(&here, &node_ports, "node ports");
        rules.of_the_node.extend(own_ports.clone());
        rules.from_outside.extend(own_ports);
        rules.of_the_node.extend(node_port_rule(&elsewhere, &balanced_here, "other nodes' node ports"));
        if !external.is_empty() {
            let rule = format!(
                "{word} daddr . meta l4proto . th dport {} counter dnat {word} to {} comment \"external addresses of this node\"",
                elements(&external),
                own_external_address(ipv4)
            );
            rules.from_outside.push(rule.clone());
            rules.of_the_node.push(rule);
        }
        if !idle.is_empty() && !here.is_empty() {
            rules.refuse_here.push(format!(
                "{word} daddr {} udp dport {} counter reject with icmpx port-unreachable comment \"nobody serves it\"",
                set(&here),
                elements(&idle)
            ));
        }
        for (of, protocol, with) in
            [(Protocol::Tcp, "tcp", "tcp reset"), (Protocol::Udp, "udp", "icmpx port-unreachable")]
        {
            let nobody: BTreeSet<String> = frontends
                .iter()
                .filter_map(|(frontend, port, _)| match frontend {
                    Frontend::Address(address) if address.is_ipv4() == ipv4 && port.protocol == of => {
                        (!port.is_served(ipv4)).then(|| format!("{address} . {}", port.port))
                    }
                    _ => None,
                })
                .collect();
            if !nobody.is_empty() {
                rules.refuse.push(format!(
                    "{word} daddr . {protocol} dport {} counter reject with {with} comment \"nobody serves it\"",
                    elements(&nobody)
                ));
            }
        }
    }
    rules
}

fn elements(items: &BTreeSet<String>) -> String {
    format!("{{ {} }}", items.iter().cloned().collect::<Vec<_>>().join(", "))
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
