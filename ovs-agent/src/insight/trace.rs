//! The way of a packet through the switch by the switch's own account, and a packet that is sent for real.

use std::net::IpAddr;
use std::path::Path;

use api::insight::{List, ProbeItem, TraceItem, TraceStep};
use axum::http::StatusCode;
use compiler::{PortRef, Table};
use network::Mac;
use tokio::sync::oneshot;

use super::{Insight, Parameters};
use crate::cut::connection::Discriminator;
use crate::cut::question;
use crate::drivers::unixctl::Unixctl;
use crate::node::Snapshot;
use crate::owner::SwitchCommand;

/// In bytes: what jumbo frames hold.
const LONGEST: u16 = 9_000;

type Refusal = (StatusCode, String);

fn wrong(error: impl Into<String>) -> Refusal {
    (StatusCode::BAD_REQUEST, error.into())
}

/// Asks the switch about the packet that `flow` describes (ovs-ofctl's words).
pub(super) async fn trace(
    rundir: &Path,
    node: &Snapshot,
    parameters: &Parameters,
) -> Result<List<TraceItem>, Refusal> {
    let flow = parameters.flow.clone().ok_or_else(|| wrong("flow is missing: in_port=1,tcp,nw_src=…"))?;
    // It stands alone: nothing of it may be taken for an option or a second argument.
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || ",=:._/+".contains(letter);
    if !flow.chars().all(is_plain) || flow.is_empty() {
        return Err(wrong(format!("`{flow}` is no packet in ovs-ofctl's words")));
    }
    let away = |error: String| (StatusCode::SERVICE_UNAVAILABLE, error);
    let ask =
        async { Unixctl::connect(rundir).await?.call("ofproto/trace", &[&node.config.bridge, &flow]).await };
    let text = ask.await.map_err(|error| away(error.to_string()))?;
    let node = node.config.node.clone();
    let steps = steps(&text);
    Ok(List::new(vec![TraceItem { node, flow, steps, text }]))
}

/// The flows of `br-int` that a trace names: it goes on into other bridges where a tunnel leaves by one.
fn steps(text: &str) -> Vec<TraceStep> {
    let mut ours = true;
    let mut steps = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if let Some(bridge) = line.strip_prefix("bridge(\"") {
            ours = bridge.starts_with("br-int");
        }
        let Some((number, flow)) = line.split_once(". ") else { continue };
        let Ok(table_id) = number.parse::<u8>() else { continue };
        // What is copied to the agent is beside the packet's way.
        if !ours || table_id == Table::Audit.id() {
            continue;
        }
        // What the switch learned is asked in passing: where it has nothing to say, the packet goes on.
        if Table::from_id(table_id).is_some_and(Table::is_learned) && flow.starts_with("No match") {
            continue;
        }
        let (flow, cookie) = flow.split_once(", cookie ").unwrap_or((flow, "0x0"));
        let table =
            Table::from_id(table_id).map_or_else(|| number.to_owned(), |table| table.name().to_owned());
        steps.push(TraceStep { table_id, table, cookie: cookie.trim().to_owned(), flow: flow.to_owned() });
    }
    steps
}

impl Insight {
    /// Sends the first packet of a connection into the switch, where its source is plugged; else by the gateway.
    pub(super) async fn probe(
        &self,
        node: &Snapshot,
        parameters: &Parameters,
    ) -> Result<List<ProbeItem>, Refusal> {
        let missing = |what: &str| wrong(format!("{what} is missing"));
        let source = parameters.source.ok_or_else(|| missing("source"))?;
        let destination = parameters.destination.ok_or_else(|| missing("destination"))?;
        let protocol = parameters.protocol.ok_or_else(|| missing("protocol"))?;
        let discriminator = match (protocol, parameters.source_port, parameters.port) {
            (1, ..) => Discriminator::Echo { id: parameters.source_port.unwrap_or(1), kind: 8, code: 0 },
            (58, ..) => Discriminator::Echo { id: parameters.source_port.unwrap_or(1), kind: 128, code: 0 },
            (_, Some(source), Some(destination)) => Discriminator::Ports { source, destination },
            _ => return Err(missing("sourcePort or port")),
        };
        let (port, mac) = entrance(node, source)
            .ok_or_else(|| wrong(format!("{source} has no port here that a packet could come in by")))?;
        let length = match parameters.length {
            Some(_) if protocol != 17 => return Err(wrong("only UDP can be sent at a length")),
            Some(length) if length > LONGEST => {
                return Err(wrong(format!("no packet of {length} bytes is sent, at most {LONGEST}")));
            }
            length => length.unwrap_or(0),
        };
        let packet = question::probe((source, destination), protocol, discriminator, (port, mac), length);
        let packet = packet.ok_or_else(|| {
            wrong("no such packet can be made: TCP, UDP and ICMP, both addresses of one family")
        })?;
        let (reply, answer) = oneshot::channel();
        let _ = self.switch.send(SwitchCommand::Probe(Box::new(packet), reply)).await;
        match answer.await {
            Ok(Ok(())) => Ok(List::new(vec![ProbeItem { node: node.config.node.clone(), port: port.0 }])),
            Ok(Err(error)) => Err((StatusCode::SERVICE_UNAVAILABLE, error)),
            Err(_) => Err((StatusCode::SERVICE_UNAVAILABLE, "the switch is out of reach".into())),
        }
    }
}

fn entrance(node: &Snapshot, source: IpAddr) -> Option<(openflow::PortNo, Mac)> {
    let recipe = node.reasons.recipe();
    let port = recipe.ports.iter().find(|port| port.addresses.contains(&source));
    let (port, mac) = match port {
        Some(port) => (PortRef::Interface(port.interface.clone()), port.mac),
        None => (PortRef::Gateway, Mac::ROUTER),
    };
    Some((*recipe.numbers.get(&port)?, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flows_of_our_bridge_are_read() {
        let text = "Flow: tcp,in_port=7\n\nbridge(\"br-int\")\n----------------\n 0. in_port=7, priority 200, cookie 0xfe70\n    \
            goto_table:8\n 8. ip,in_port=7, priority 200, cookie 0xfe1c\n    ct(table=40,zone=65025,nat)\n\n\
            ====\nrecirc(0x12) - resume\n====\n\nbridge(\"br-int\")\n    thaw\n        Resuming from table 40\n44. No match.\n            \
            46. No match.\n136. priority 0, cookie 0x5\n    drop\n\nbridge(\"br-phy\")\n 0. priority 0, cookie 0x9\n    NORMAL\n";
        let read: Vec<_> = steps(text).into_iter().map(|step| (step.table, step.cookie, step.flow)).collect();
        let step = |table: Table, cookie: &str, flow: &str| {
            (table.name().to_owned(), cookie.to_owned(), flow.to_owned())
        };
        assert_eq!(
            read,
            [
                step(Table::Classifier, "0xfe70", "in_port=7, priority 200"),
                step(Table::SpoofGuard, "0xfe1c", "ip,in_port=7, priority 200"),
                step(Table::SctpState, "0x0", "No match."),
            ]
        );
    }
}
