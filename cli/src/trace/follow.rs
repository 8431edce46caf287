//! One packet of the model followed through the live switches: what each says that it would do, and what its flows counted
//! when a packet like it was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use api::insight::{FlowItem, List, PortItem, PortRole, ProbeItem, TraceItem, TraceStep};
use compiler::Table;
use compiler::explain::{Entry, Explanation};
use lab::http::Endpoint;
use network::NodeName;
use openflow::Field;
use serde::Serialize;

use super::words;
use crate::fail::Fail;

/// Connections that are tried until the switch balances one to the endpoint that the model took.
const ATTEMPTS: u16 = 256;
/// How long a packet may take to show in counters, which a switch brings up to date now and then.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);

/// Whom to ask, and how.
pub struct Follower<'a> {
    pub endpoint: &'a Endpoint,
    pub ports: &'a [PortItem],
    /// Whether a packet is sent.
    pub probe: bool,
    /// How long it is in bytes, where that matters: UDP alone.
    pub length: Option<u16>,
}

/// What became of one packet.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Followed {
    /// The source port that was traced and sent from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    pub hops: Vec<Hop>,
    /// Whether a packet was sent.
    pub probed: bool,
    /// Where model, program, switch and probe do not agree.
    pub disagreements: Vec<String>,
    /// What could not be asked.
    pub unknown: Vec<String>,
    pub notes: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    pub node: NodeName,
    /// The packet as the switch was asked about it.
    pub packet: String,
    pub steps: Vec<Step>,
}

/// A flow that the switch says the packet meets.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    #[serde(flatten)]
    pub flow: TraceStep,
    pub what: String,
    /// The model meets it too, in this place.
    pub agrees: bool,
    /// Packets before the probe, and after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// The flows of a node by their cookies.
type Flows = BTreeMap<String, FlowItem>;
/// Tables of nodes, by number.
type Tables = BTreeSet<(NodeName, u8)>;

impl Follower<'_> {
    /// Follows the packets of the model, each by itself.
    pub fn follow_all(&self, told: &[Option<Explanation>]) -> Result<Vec<Followed>, Fail> {
        told.iter().map(|told| self.follow(told.as_ref())).collect()
    }

    /// One that meets no switch has no way.
    fn follow(&self, told: Option<&Explanation>) -> Result<Followed, Fail> {
        let mut followed = Followed::default();
        let Some(told) = told else { return Ok(followed) };
        let mut flows: BTreeMap<NodeName, Flows> = BTreeMap::new();
        for hop in &told.hops {
            match self.flows(&hop.node, None) {
                Ok(held) => drop(flows.insert(hop.node.clone(), held)),
                Err(why) => followed.unknown.push(why),
            }
        }
        if !followed.unknown.is_empty() {
            return Ok(followed);
        }
        // A connection that nobody has yet; of many probes no two are the same.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut source_port = 20_000 + (now.subsec_micros() % 20_000) as u16;
        for (number, met) in told.hops.iter().enumerate() {
            let Some(first) = met.entries.first() else { continue };
            let Some(port) = self.entrance(&met.node, number, first) else {
                followed
                    .unknown
                    .push(format!("node {}: it has no port that the packet comes in by", met.node));
                return Ok(followed);
            };
            let attempts = if number == 0 { ATTEMPTS } else { 1 };
            let mut found = None;
            for _attempt in 0..attempts {
                let packet = words::flow(&first.packet, port, source_port);
                let trace = match self.trace(&met.node, &packet)? {
                    Ok(trace) => trace,
                    Err(why) => {
                        followed.unknown.push(why);
                        return Ok(followed);
                    }
                };
                let parting = parting(&met.entries, &trace.steps);
                let another = parting.is_some_and(|at| is_choice(&met.entries, at));
                found = Some((packet, trace, parting));
                if !another {
                    break;
                }
                source_port += 1;
            }
            let Some((packet, trace, parting)) = found else { continue };
            let known = flows.get(&met.node);
            if let Some(at) = parting {
                followed.disagreements.push(disagreement(&met.node, &met.entries, &trace.steps, at, known));
            }
            followed.hops.push(Hop {
                node: met.node.clone(),
                packet,
                steps: steps(trace.steps, &met.entries, parting, known),
            });
            if parting.is_some() {
                if number + 1 < told.hops.len() {
                    let text = format!(
                        "the next node is not asked: the packet parts from the model on {}",
                        met.node
                    );
                    followed.notes.push(text);
                }
                break;
            }
        }
        followed.source_port = Some(source_port);
        if self.probe {
            self.send(told, source_port, &mut followed)?;
        }
        Ok(followed)
    }

    fn entrance(&self, node: &NodeName, number: usize, first: &Entry) -> Option<u32> {
        let source = first.packet.source()?;
        let of_node = || self.ports.iter().filter(|port| port.node == *node);
        let with = |role: PortRole| of_node().find(|port| port.role == role)?.ofport;
        if number > 0 {
            return with(PortRole::Tunnel);
        }
        let is_its = |port: &&PortItem| {
            matches!(port.role, PortRole::Pod | PortRole::Attachment) && port.addresses.contains(&source)
        };
        match of_node().find(is_its) {
            Some(port) => port.ofport,
            None => with(PortRole::Gateway),
        }
    }

    fn trace(&self, node: &NodeName, packet: &str) -> Result<Result<TraceItem, String>, Fail> {
        let list: List<TraceItem> =
            self.endpoint.list("trace", &[("node", node.as_str()), ("flow", packet)])?;
        let why = list.warnings.into_iter().next();
        Ok(list.items.into_iter().next().ok_or_else(|| {
            why.unwrap_or_else(|| format!("node {node}: its agent does not answer for its switch"))
        }))
    }

    fn flows(&self, node: &NodeName, table: Option<u8>) -> Result<Flows, String> {
        let table = table.map(|table| table.to_string());
        let table = table.as_deref().map(|table| ("table", table));
        let query: Vec<_> = [("node", node.as_str())].into_iter().chain(table).collect();
        match self.endpoint.list::<FlowItem>("flows", &query) {
            Ok(list) => match list.warnings.into_iter().next() {
                Some(warning) => Err(warning),
                None => Ok(list.items.into_iter().map(|flow| (flow.cookie.clone(), flow)).collect()),
            },
            Err(error) => Err(format!("node {node}: what its switch holds is not known: {error}")),
        }
    }

    /// Sends the packet, and waits for the flows on its way to count it.
    fn send(&self, told: &Explanation, source_port: u16, followed: &mut Followed) -> Result<(), Fail> {
        let first = told.hops.first().and_then(|hop| Some((&hop.node, &hop.entries.first()?.packet)));
        let Some((node, packet)) = first else { return Ok(()) };
        let protocol = packet.get(Field::IP_PROTO) as u8;
        let (Some(source), Some(destination)) = (packet.source(), packet.destination()) else {
            return Ok(());
        };
        let port = match protocol {
            6 => packet.get(Field::TCP_DST),
            17 => packet.get(Field::UDP_DST),
            132 => {
                followed.notes.push("SCTP is traced, not sent: no probe of it is made".into());
                return Ok(());
            }
            _ => 0,
        };
        let mut waiting: Tables = followed
            .hops
            .iter()
            .flat_map(|hop| hop.steps.iter().map(|step| (hop.node.clone(), step.flow.table_id)))
            .collect();
        let before = self.counts(&waiting)?;
        let (protocol, port) = (protocol.to_string(), port.to_string());
        let (source, destination) = (source.to_string(), destination.to_string());
        let source_port = source_port.to_string();
        let length = self.length.unwrap_or(0).to_string();
        let mut query = vec![
            ("node", node.as_str()),
            ("source", &source),
            ("destination", &destination),
            ("protocol", &protocol),
            ("sourcePort", &source_port),
            ("port", &port),
        ];
        if self.length.is_some() {
            query.push(("length", &length));
        }
        let sent: List<ProbeItem> = self.endpoint.post("probe", &query)?;
        if sent.items.is_empty() {
            followed.unknown.extend(sent.warnings);
            return Ok(());
        }
        followed.probed = true;
        let began = Instant::now();
        let mut after = BTreeMap::new();
        loop {
            // What has counted it need not be asked again.
            after.extend(self.counts(&waiting)?);
            waiting.clear();
            let mut silent = Vec::new();
            for hop in &mut followed.hops {
                for step in &mut hop.steps {
                    let key = (hop.node.clone(), step.flow.cookie.clone());
                    (step.before, step.after) = (before.get(&key).copied(), after.get(&key).copied());
                    if step.before.is_some() && step.after <= step.before {
                        waiting.insert((hop.node.clone(), step.flow.table_id));
                        silent.push(format!(
                            "node {}, table {}: the packet that was sent was not counted by “{}”",
                            hop.node, step.flow.table, step.what
                        ));
                    }
                }
            }
            if silent.is_empty() {
                return Ok(());
            }
            if began.elapsed() > COUNTED_WITHIN {
                // Behind the first that did not count it nothing can.
                followed.disagreements.extend(silent.into_iter().take(1));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn counts(&self, tables: &Tables) -> Result<BTreeMap<(NodeName, String), u64>, Fail> {
        let mut counts = BTreeMap::new();
        for (node, table) in tables {
            let flows = self.flows(node, Some(*table)).map_err(Fail::Said)?;
            counts.extend(flows.into_iter().map(|(cookie, flow)| ((node.clone(), cookie), flow.packets)));
        }
        Ok(counts)
    }
}

fn cookie(entry: &Entry) -> String {
    format!("{:#x}", entry.cookie.0)
}

/// The first place where the two ways are not the same.
fn parting(model: &[Entry], switch: &[TraceStep]) -> Option<usize> {
    let same = model.iter().zip(switch).take_while(|(entry, step)| cookie(entry) == step.cookie).count();
    (same < model.len() || same < switch.len()).then_some(same)
}

/// An endpoint is chosen by a hash that the model does not have: another connection may be given the model's.
fn is_choice(model: &[Entry], at: usize) -> bool {
    model.get(at).is_some_and(|entry| entry.table == Table::EndpointSelect)
}

fn steps(
    switch: Vec<TraceStep>,
    model: &[Entry],
    parting: Option<usize>,
    flows: Option<&Flows>,
) -> Vec<Step> {
    let step = |(at, flow): (usize, TraceStep)| {
        let agrees = parting.is_none_or(|parting| at < parting);
        let expected = model.get(at).filter(|_| agrees).map(|entry| entry.reason.what.clone());
        let held = || flows.and_then(|flows| flows.get(&flow.cookie)).map(|held| held.what.clone());
        Step { what: expected.or_else(held).unwrap_or_default(), agrees, before: None, after: None, flow }
    };
    switch.into_iter().enumerate().map(step).collect()
}

fn disagreement(
    node: &NodeName,
    model: &[Entry],
    switch: &[TraceStep],
    at: usize,
    flows: Option<&Flows>,
) -> String {
    let expects = model.get(at).map_or_else(
        || "the packet's way to end here".to_owned(),
        |entry| format!("“{}” in table {}", entry.reason.what, entry.table.name()),
    );
    let takes = match switch.get(at) {
        None => "ends its way here".to_owned(),
        Some(step) => {
            let held = flows.and_then(|flows| flows.get(&step.cookie));
            let whose = match held {
                Some(held) if !held.owners.is_empty() => {
                    format!(
                        "which the node's agent made: “{}”; the node is behind the model or ahead of it",
                        held.what
                    )
                }
                _ => "which is nobody's".to_owned(),
            };
            format!("takes {} in table {}, {whose}", step.flow, step.table)
        }
    };
    format!("node {node}: the model expects {expects}, the switch {takes}")
}

#[cfg(test)]
mod tests {
    use compiler::Reason;
    use compiler::simulate::Packet;
    use openflow::Cookie;

    use super::*;

    fn entry(table: Table, cookie: u64) -> Entry {
        Entry {
            table,
            priority: Some(1),
            cookie: Cookie(cookie),
            text: String::new(),
            reason: Reason { what: format!("flow {cookie}"), ..Reason::default() },
            packet: Packet::default(),
            clauses: Vec::new(),
        }
    }

    fn step(table: Table, cookie: u64) -> TraceStep {
        TraceStep {
            table_id: table.id(),
            table: table.name().into(),
            cookie: format!("{cookie:#x}"),
            flow: "ip, priority 1".into(),
        }
    }

    #[test]
    fn the_place_where_two_ways_part_is_found_and_named() {
        let model = [entry(Table::Classifier, 1), entry(Table::EndpointSelect, 2), entry(Table::Egress, 3)];
        let same = [step(Table::Classifier, 1), step(Table::EndpointSelect, 2), step(Table::Egress, 3)];
        assert_eq!(parting(&model, &same), None);
        assert_eq!(parting(&model, &same[..2]), Some(2));
        let other = [step(Table::Classifier, 1), step(Table::EndpointSelect, 9)];
        assert_eq!(parting(&model, &other), Some(1));
        assert!(is_choice(&model, 1) && !is_choice(&model, 2) && !is_choice(&model, 3));
        let node = NodeName::new("node-1");
        let said = disagreement(&node, &model, &other, 1, None);
        assert!(said.contains("“flow 2” in table EndpointSelect") && said.contains("nobody's"), "{said}");
        let said = disagreement(&node, &model, &same[..2], 2, None);
        assert!(said.contains("“flow 3”") && said.ends_with("the switch ends its way here"), "{said}");
        let shown = steps(other.to_vec(), &model, Some(1), None);
        assert_eq!(shown.iter().map(|step| step.agrees).collect::<Vec<_>>(), [true, false]);
    }
}
