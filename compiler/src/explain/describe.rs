//! Flows, packets and rules in words: ovs-ofctl's for the first two, the API's for the last.

use std::fmt::Write as _;
use std::net::IpAddr;

use network::{
    Direction, LabelSelector, NamespaceSelector, Network, Operator, Peers, PortMatch, Ports, Rule, Selector,
};
use openflow::Field;

use crate::input::PortRef;
use crate::program::{Flow, FlowAction, FlowKey};
use crate::simulate::Packet;

/// `priority=200,in_port="veth",ip actions=load:0x1->…,goto_table:8`, ports by their names.
pub fn flow_text(key: &FlowKey, flow: &Flow) -> String {
    let mut text = format!("priority={}", key.priority.0);
    if let Some(port) = &key.in_port {
        let _ = write!(text, ",in_port={}", port_text(port));
    }
    let fields = key.match_.to_string();
    if !fields.is_empty() {
        let _ = write!(text, ",{fields}");
    }
    let action = |action: &FlowAction| match action {
        FlowAction::Do(action) => action.to_string(),
        FlowAction::LoadPort(port, dst) => format!("load:{}->{dst}", port_text(port)),
        FlowAction::Output(port) => format!("output:{}", port_text(port)),
    };
    let goto = flow.goto.map(|table| format!("goto_table:{}", table.id()));
    let actions: Vec<String> = flow.actions.iter().map(action).chain(goto).collect();
    let _ =
        write!(text, " actions={}", if actions.is_empty() { "drop".to_owned() } else { actions.join(",") });
    text
}

fn port_text(port: &PortRef) -> String {
    match port {
        PortRef::Interface(name) => format!("\"{name}\""),
        PortRef::Gateway => "gateway".into(),
        PortRef::Tunnel => "tunnel".into(),
    }
}

/// `tcp 10.244.1.2:40000 → 10.244.2.3:80`.
pub fn headers(packet: &Packet) -> String {
    let (Some(source), Some(destination)) = (packet.source(), packet.destination()) else {
        return "not IP".into();
    };
    let (name, ports) = match packet.get(Field::IP_PROTO) {
        6 => ("tcp", Some((Field::TCP_SRC, Field::TCP_DST))),
        17 => ("udp", Some((Field::UDP_SRC, Field::UDP_DST))),
        132 => ("sctp", Some((Field::SCTP_SRC, Field::SCTP_DST))),
        1 | 58 => ("icmp", None),
        _ => ("ip", None),
    };
    let end = |address: IpAddr, port: Option<Field>| match (address, port) {
        (address, None) => address.to_string(),
        (IpAddr::V4(address), Some(field)) => format!("{address}:{}", packet.get(field)),
        (IpAddr::V6(address), Some(field)) => format!("[{address}]:{}", packet.get(field)),
    };
    let (from, to) = (ports.map(|ports| ports.0), ports.map(|ports| ports.1));
    format!("{name} {} → {}", end(source, from), end(destination, to))
}

/// What a rule says: `from pods app=web in shop, to TCP/80`.
pub fn rule_text(network: &Network, rule: &Rule) -> String {
    let word = if rule.direction == Direction::Ingress { "from" } else { "to" };
    let peers = match &rule.peers {
        Peers::Any => "anybody".to_owned(),
        Peers::Some { sets, blocks } => {
            let sets = sets.iter().map(|id| network.selectors.get(id).map_or("nobody".into(), selector));
            let blocks = blocks.iter().map(|block| {
                let holes: Vec<String> = block.except.iter().map(ToString::to_string).collect();
                let holes =
                    if holes.is_empty() { String::new() } else { format!(" except {}", holes.join(", ")) };
                format!("{}{holes}", block.cidr)
            });
            any_of(sets.chain(blocks).collect(), "nobody")
        }
    };
    let ports = match &rule.ports {
        Ports::Any => "on every port".to_owned(),
        Ports::Some(ports) => {
            let one = |port: &PortMatch| match port {
                PortMatch::Named { protocol, name } => format!("{protocol}/{name}"),
                PortMatch::Range(range) if range.is_all() => format!("any {}", range.protocol),
                PortMatch::Range(range) if range.first == range.last => {
                    format!("{}/{}", range.protocol, range.first)
                }
                PortMatch::Range(range) => format!("{}/{}-{}", range.protocol, range.first, range.last),
            };
            format!("on {}", any_of(ports.iter().map(one).collect(), "no port"))
        }
    };
    format!("{word} {peers}, {ports}")
}

fn any_of(all: Vec<String>, none: &str) -> String {
    if all.is_empty() { none.to_owned() } else { all.join(" or ") }
}

fn selector(selector: &Selector) -> String {
    match selector {
        Selector::Nodes(labels) if labels.is_everything() => "every node".into(),
        Selector::Nodes(labels) => format!("nodes with {}", requirements(labels)),
        Selector::Pods { namespaces, pods, port } => {
            let pods = match pods.is_everything() {
                true => "every pod".to_owned(),
                false => format!("pods with {}", requirements(pods)),
            };
            let place = match namespaces {
                NamespaceSelector::Name(name) => format!("in namespace {name}"),
                NamespaceSelector::Labels(labels) if labels.is_everything() => "in every namespace".into(),
                NamespaceSelector::Labels(labels) => format!("in namespaces with {}", requirements(labels)),
            };
            let port = port.as_ref().map(|port| format!(" that declare {}/{}", port.protocol, port.name));
            format!("{pods} {place}{}", port.unwrap_or_default())
        }
    }
}

fn requirements(labels: &LabelSelector) -> String {
    let one = |requirement: &network::Requirement| {
        let key = &requirement.key;
        let values = requirement.values.iter().cloned().collect::<Vec<_>>().join(", ");
        match (requirement.operator, requirement.values.len()) {
            (Operator::In, 1) => format!("{key}={values}"),
            (Operator::NotIn, 1) => format!("{key}!={values}"),
            (Operator::In, _) => format!("{key} in ({values})"),
            (Operator::NotIn, _) => format!("{key} not in ({values})"),
            (Operator::Exists, _) => key.clone(),
            (Operator::DoesNotExist, _) => format!("no {key}"),
        }
    };
    labels.requirements().map(one).collect::<Vec<_>>().join(" and ")
}
