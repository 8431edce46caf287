//! `ferrule explain`: why a packet passes or does not. The flows decide (`compiler::explain`); here names become packets, and
//! reasons get their places in files.

mod document;
mod names;
pub mod online;
pub mod people;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;

use compiler::explain::{Cluster, Explanation, Phase, Probe, Question, Start, headers};
use network::service::TrafficPolicy;
use network::{Direction, Network, NodeName, Service};

pub use self::document::{Document, Verdict};
use self::document::{Packet, Place, Places};
pub use self::names::Wanted;
use self::names::{End, EndKind, Party};
use crate::arguments::{self, Output};
use crate::fail::{Fail, Outcome};
use crate::get::json;
use crate::model;
use crate::paint::Paint;
use crate::plan;

/// More pairs than these are nothing that anybody reads.
const MOST_PACKETS: usize = 200;

pub fn run(explain: &arguments::Explain) -> Result<Outcome, Fail> {
    let Some(directory) = &explain.manifests else { return online::run(explain) };
    let offline = model::load(directory, explain.nodes)?;
    let places = |policy: &_, rule: Option<_>| plan::source(&offline.objects, policy, &field_of(rule));
    let mut cluster = Cluster::new(&offline.network, BTreeMap::new());
    let mut warnings = Vec::new();
    if !offline.is_clean {
        warnings.push("not all of the manifests could be used: the answer is about the rest".to_owned());
    }
    let mut asker = Asker::new(&offline.network, &mut cluster, &places, explain);
    print(&asker.document(warnings)?, explain)
}

/// The field that holds a rule; all of the object where none is meant.
fn field_of(rule: Option<(Direction, u32)>) -> String {
    match rule {
        None => String::new(),
        Some((Direction::Ingress, index)) => format!("spec.ingress[{index}]"),
        Some((Direction::Egress, index)) => format!("spec.egress[{index}]"),
    }
}

fn print(document: &Document, explain: &arguments::Explain) -> Result<Outcome, Fail> {
    let text = match explain.output {
        Output::Json => json(document)?,
        Output::Table => people::text(document, explain.brief, Paint::stdout()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    if explain.output == Output::Table {
        let paint = Paint::stderr();
        for warning in &document.warnings {
            eprintln!("{} {warning}", paint.warning("warning:"));
        }
    }
    Ok(match document.verdict {
        Verdict::Allowed => Outcome::Expected,
        Verdict::Denied => Outcome::Differences,
    })
}

/// Everything that an answer is made of.
struct Asker<'a, 'n> {
    network: &'n Network,
    cluster: &'a mut Cluster<'n>,
    places: Places<'a>,
    explain: &'a arguments::Explain,
    /// What the compiler told of each packet, in their order; of one that meets no switch nothing.
    told: Vec<Option<Explanation>>,
}

impl<'a, 'n> Asker<'a, 'n> {
    fn new(
        network: &'n Network,
        cluster: &'a mut Cluster<'n>,
        places: Places<'a>,
        explain: &'a arguments::Explain,
    ) -> Self {
        Self { network, cluster, places, explain, told: Vec::new() }
    }

    fn document(&mut self, warnings: Vec<String>) -> Result<Document, Fail> {
        let from = self.senders(names::find(self.network, &self.explain.from)?)?;
        let to = names::find(self.network, &self.explain.to)?;
        let pairs = from.ends.len().saturating_mul(to.ends.len());
        if pairs > MOST_PACKETS {
            return Err(Fail::Said(format!(
                "{} and {} are {pairs} pairs of pods, at most {MOST_PACKETS} are explained at once: name one pod of them",
                from.name, to.name
            )));
        }
        let mut packets = Vec::new();
        let mut ports = Vec::new();
        for to in &to.ends {
            let port = names::port_at(self.explain.port.as_ref(), to)?;
            ports.push(
                port.map_or_else(|| "icmp".to_owned(), |(protocol, port)| format!("{protocol}/{port}")),
            );
            let probe = port.map_or(Probe::Echo, |(protocol, port)| Probe::Port(protocol, port));
            for from in &from.ends {
                // A workload's pods among each other; one pod and itself only where it was asked for.
                if from.kind != to.kind || pairs == 1 {
                    packets.extend(self.pair(from, to, probe)?);
                }
            }
        }
        if packets.is_empty() {
            return Err(Fail::Said(format!(
                "{} and {} have no address of one family: no packet goes from one to the other",
                from.name, to.name
            )));
        }
        ports.sort();
        ports.dedup();
        Ok(Document {
            api_version: api::insight::API_VERSION,
            kind: "Explanation",
            from: from.name,
            to: to.name,
            port: ports.join(", "),
            phase: match self.explain.phase() {
                Phase::New => "new",
                Phase::Established => "established",
                Phase::Reply => "reply",
            },
            verdict: Verdict::of(packets.iter().all(|packet| packet.verdict == Verdict::Allowed)),
            packets,
            warnings,
        })
    }

    /// A Service sends nothing: its endpoints do.
    fn senders(&self, party: Party) -> Result<Party, Fail> {
        let mut ends = Vec::new();
        for end in party.ends {
            match &end.kind {
                EndKind::Service(key) => ends.extend(names::endpoints(self.network, key)),
                _ => ends.push(end),
            }
        }
        if ends.is_empty() {
            return Err(Fail::Said(format!(
                "{} has no endpoint in the cluster that could send anything",
                party.name
            )));
        }
        Ok(Party { name: party.name, ends })
    }

    /// One packet for each family that both have.
    fn pair(&mut self, from: &End, to: &End, probe: Probe) -> Result<Vec<Packet>, Fail> {
        let mut packets = Vec::new();
        for source in &from.addresses {
            for destination in to.addresses.iter().filter(|one| one.is_ipv4() == source.is_ipv4()) {
                packets.push(self.packet((from, *source), (to, *destination), probe)?);
            }
        }
        Ok(packets)
    }

    fn packet(
        &mut self,
        (from, source): (&End, IpAddr),
        (to, destination): (&End, IpAddr),
        probe: Probe,
    ) -> Result<Packet, Fail> {
        let first = match probe {
            Probe::Port(protocol, port) => {
                compiler::simulate::Packet::first(source, destination, protocol, port)
            }
            Probe::Echo => compiler::simulate::Packet::echo(source, destination),
        };
        let ends = (self.place(from, source), self.place(to, destination));
        let sent = headers(&first);
        let apart = |kind, reason: &str| Packet {
            from: ends.0.clone(),
            to: ends.1.clone(),
            sent: sent.clone(),
            verdict: Verdict::Allowed,
            reason: reason.to_owned(),
            outcome: document::End::apart(kind),
            translations: Vec::new(),
            decisions: Vec::new(),
            rules: Vec::new(),
            hops: Vec::new(),
        };
        let node_port = self.node_port(to, probe);
        let mut asked = destination;
        let start = match (&from.kind, &to.kind) {
            (EndKind::Pod(a), EndKind::Pod(b)) if a == b => {
                self.told.push(None);
                return Ok(apart(
                    "itself",
                    "a pod's packets to itself never leave it: no policy can keep it from itself",
                ));
            }
            // The host's nftables hands it to the switch: a node's to its own, whichever node it asks, where all endpoints are
            // meant (docs/adr/0035-another-nodes-port-is-asked-from-outside.md).
            (asks @ (EndKind::Node(_) | EndKind::Outside), EndKind::Node(there))
                if let Some(service) = node_port =>
            {
                asked = compiler::node_port_address(destination.is_ipv4());
                let here = match asks {
                    EndKind::Node(here) if service.external_policy == TrafficPolicy::Cluster => here,
                    _ => there,
                };
                Start::Node(here.clone())
            }
            (EndKind::Node(_) | EndKind::Outside, EndKind::Node(_) | EndKind::Outside) => {
                self.told.push(None);
                return Ok(apart(
                    "underlay",
                    "between nodes and outside the underlay carries it: no switch of Ferrule's is met",
                ));
            }
            _ => match from.start() {
                Some(start) => start,
                None => Start::Node(self.entrance(to)?),
            },
        };
        let question = Question { start, source, destination: asked, probe, phase: self.explain.phase() };
        let told = self.cluster.explain(&question).map_err(|error| Fail::Said(error.to_string()))?;
        if let Some(unknown) = told.unknown.first() {
            return Err(Fail::Said(format!(
                "the simulator does not know what the switch would do: {unknown}"
            )));
        }
        let mut packet = document::packet(&told, ends, sent, self.places);
        if let EndKind::Service(key) = &to.kind
            && packet.verdict == Verdict::Allowed
            && told.packet.destination() == Some(destination)
        {
            packet.reason.push_str(&format!("; no flow translates the address of Service {key}"));
        }
        if asked != destination
            && let Some(service) = node_port
        {
            let why = format!(
                "; a node port of Service {}, which nftables hands to the switch as {asked}",
                service.key
            );
            packet.reason.push_str(&why);
        }
        let service = match &to.kind {
            EndKind::Service(key) => self.network.services.get(key),
            _ => node_port,
        };
        let chosen = service.and_then(|service| self.choice(service, probe, destination, &told));
        packet.reason.extend(chosen);
        self.told.push(Some(told));
        Ok(packet)
    }

    /// That a Service might have given another endpoint, where it might.
    fn choice(&self, service: &Service, probe: Probe, asked: IpAddr, told: &Explanation) -> Option<String> {
        let Probe::Port(protocol, number) = probe else { return None };
        told.packet.destination().filter(|got| *got != asked)?;
        let node = self.network.nodes.get(&told.hops.first()?.node)?;
        let service = service.resolved(self.network);
        let ports = service.ports.iter().filter(|port| port.protocol == protocol);
        let count = if self.network.node_at(asked).is_some() {
            let port = ports.clone().find(|port| port.node_port == Some(number))?;
            port.usable(node, service.external_policy, asked.is_ipv4()).len()
        } else {
            let port = ports.clone().find(|port| port.port == number)?;
            let is_outside = service.outside_addresses().any(|own| own == asked);
            let policy = if is_outside { service.external_policy } else { service.internal_policy };
            port.usable(node, policy, asked.is_ipv4()).len()
        };
        (count > 1).then(|| {
            format!(
                "; another connection may get another of the {count} endpoints of Service {}: name a pod of them to ask about it",
                service.key
            )
        })
    }

    /// The Service whose node port is asked for.
    fn node_port(&self, to: &End, probe: Probe) -> Option<&'n network::Service> {
        let (EndKind::Node(_), Probe::Port(protocol, number)) = (&to.kind, probe) else { return None };
        let has = |service: &&network::Service| {
            service.ports.iter().any(|port| port.protocol == protocol && port.node_port == Some(number))
        };
        self.network.services.values().find(has)
    }

    fn place(&self, end: &End, address: IpAddr) -> Place {
        let node = match &end.kind {
            EndKind::Pod(key) => self.network.pods.get(key).and_then(|pod| pod.node.clone()),
            EndKind::Node(name) => Some(name.clone()),
            EndKind::Service(_) | EndKind::Outside => None,
        };
        Place { name: end.name.clone(), address, node }
    }

    /// The node by which somebody outside comes in: the one that was named, or the pod's own.
    fn entrance(&self, to: &End) -> Result<NodeName, Fail> {
        if let Some(via) = &self.explain.via {
            let name = NodeName::new(via);
            return match self.network.nodes.contains_key(&name) {
                true => Ok(name),
                false => {
                    let known: Vec<&str> = self.network.nodes.keys().map(NodeName::as_str).collect();
                    Err(Fail::Said(format!("there is no node `{via}`; there are {}", known.join(", "))))
                }
            };
        }
        let home = match &to.kind {
            EndKind::Pod(key) => self.network.pods.get(key).and_then(|pod| pod.node.clone()),
            EndKind::Node(name) => Some(name.clone()),
            EndKind::Service(_) | EndKind::Outside => self.network.nodes.keys().next().cloned(),
        };
        home.ok_or_else(|| Fail::Said(format!("{} runs on no node", to.name)))
    }
}
