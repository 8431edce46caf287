//! The same of a running cluster: the network as a controller believes it, the ports that agents have, and what switches
//! count. What an agent that is away would have said is told to be unknown.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::insight::{FlowItem, List, ManifestItem, NetworkItem, NodeItem, PortItem, PortRole};
use compiler::LocalPort;
use compiler::explain::{Cluster, Explanation};
use lab::http::Endpoint;
use network::{Network, NodeName};
use objects::{ObjectSet, SourceText};

use super::document::{Counters, Document};
use super::{Asker, field_of, print};
use crate::arguments::Explain;
use crate::fail::{Fail, Outcome};
use crate::{get, plan};

pub fn run(explain: &Explain) -> Result<Outcome, Fail> {
    let endpoint = get::endpoint(&explain.endpoint);
    let (mut document, _) = known(&endpoint)?.explain(explain)?;
    let warnings = count(&endpoint, &mut document)?;
    document.warnings.extend(warnings);
    print(&document, explain)
}

/// What a controller and its agents know.
pub struct Known {
    /// The network as the controller believes it.
    pub network: Network,
    objects: ObjectSet,
    /// The ports that agents say they have.
    pub ports: Vec<PortItem>,
}

/// Asks for everything that packets are explained from.
pub fn known(endpoint: &Endpoint) -> Result<Known, Fail> {
    let list: List<NetworkItem> = endpoint.list("network", &[])?;
    let network = list.items.into_iter().next().map(Network::from);
    let network = network.ok_or_else(|| Fail::Said(format!("{endpoint} knows no network")))?;
    let objects = manifests(endpoint);
    let ports: List<PortItem> = endpoint.list("ports", &[])?;
    Ok(Known { network, objects, ports: ports.items })
}

impl Known {
    /// The model's answer, and what it was made from, packet by packet.
    pub fn explain(&self, explain: &Explain) -> Result<(Document, Vec<Option<Explanation>>), Fail> {
        self.explain_in(&mut self.cluster(), explain)
    }

    /// Its nodes, to be compiled once for many questions.
    pub fn cluster(&self) -> Cluster<'_> {
        Cluster::new(&self.network, plugged(&self.network, &self.ports))
    }

    /// The same answer from nodes that may be compiled already.
    pub fn explain_in<'n>(
        &'n self,
        cluster: &mut Cluster<'n>,
        explain: &Explain,
    ) -> Result<(Document, Vec<Option<Explanation>>), Fail> {
        let places = |policy: &_, rule: Option<_>| plan::source(&self.objects, policy, &field_of(rule));
        let mut asker = Asker::new(&self.network, cluster, &places, explain);
        let document = asker.document(Vec::new())?;
        Ok((document, asker.told))
    }
}

/// The ports that agents say they have, by node. Whose agent is away is not among them.
fn plugged(network: &Network, ports: &[PortItem]) -> BTreeMap<NodeName, Vec<LocalPort>> {
    let mut plugged: BTreeMap<NodeName, Vec<LocalPort>> = BTreeMap::new();
    for item in ports {
        let node = plugged.entry(item.node.clone()).or_default();
        let (PortRole::Pod | PortRole::Attachment, Some(mac)) = (item.role, item.mac) else { continue };
        let pod = item.pod.as_ref().map(|key| {
            let uid = network.pods.get(key).map_or_else(String::new, |pod| pod.uid.clone());
            (key.clone(), uid)
        });
        let addresses: Vec<IpAddr> = item.addresses.clone();
        node.push(LocalPort { interface: item.interface.clone(), pod, mac, addresses });
    }
    plugged
}

/// What the switches on the way count; and what is not known, or not as the model has it.
pub fn count(endpoint: &Endpoint, document: &mut Document) -> Result<Vec<String>, Fail> {
    let mut warnings = Vec::new();
    let nodes: List<NodeItem> = endpoint.list("nodes", &[])?;
    let mut counters = Counters::new();
    for name in document.nodes() {
        let node = nodes.items.iter().find(|node| node.name == name);
        if !node.is_some_and(|node| node.connected) {
            warnings.push(format!(
                "node {name}: its agent is away: this is the model's answer; what its switch holds and counts is not known"
            ));
            continue;
        }
        if node.is_some_and(|node| !node.realized) {
            warnings.push(format!(
                "node {name} has not confirmed everything that it was sent: its switch may lag behind"
            ));
        }
        match endpoint.list::<FlowItem>("flows", &[("node", name.as_str())]) {
            Ok(flows) if flows.warnings.is_empty() => {
                let counted = flows.items.into_iter().map(|flow| (flow.cookie, flow.packets));
                counters.insert(name, counted.collect());
            }
            Ok(flows) => warnings.extend(flows.warnings),
            Err(error) => warnings.push(format!("node {name}: what its switch holds is not known: {error}")),
        }
    }
    let absent = document.count(&counters);
    warnings.extend(absent.into_iter().map(|(node, count)| {
        format!("node {node}: its switch does not hold {count} of the flows that this packet should meet")
    }));
    Ok(warnings)
}

/// The controller's manifests, as far as they are files here with the same content: where rules stand.
fn manifests(endpoint: &Endpoint) -> ObjectSet {
    let list = endpoint.list::<ManifestItem>("manifests", &[]).map(|list| list.items).unwrap_or_default();
    let same = |item: ManifestItem| {
        let text = std::fs::read_to_string(&item.file).ok()?;
        (api::insight::sha256(&text) == item.sha256).then(|| SourceText::new(item.file, text))
    };
    let texts: Vec<SourceText> = list.into_iter().filter_map(same).collect();
    objects::read(&texts).0
}
