//! Whether everything works on a cluster where Ferrule is installed: what controller and agents say, and packets between all
//! nodes that are sent for real. It looks with the eyes of `ferrule trace`: no pods of its own are needed.

use api::insight::{AuditItem, List, NodeItem, ProblemItem, SwitchItem};
use compiler::explain::Cluster;
use lab::http::Endpoint;
use network::{NamespacedName, NodeName, Pod, Protocol};

use super::options::Check;
use super::{Finding, Status};
use crate::explain::online::{self, Known};
use crate::explain::{Verdict, Wanted};
use crate::fail::Fail;
use crate::trace::follow::{Followed, Follower};
use crate::{get, kubeconfig};

type Tell<'a> = &'a mut dyn FnMut(Finding) -> Result<(), Fail>;

/// As many pods of a node are tried as senders or receivers until one fits.
const TRIED: usize = 12;
/// A port that hardly anybody listens at (RFC 863): what comes there is only counted.
const DISCARD: u16 = 9;

pub fn run(check: &Check, tell: Tell<'_>) -> Result<(), Fail> {
    let endpoint = get::controller(&check.at);
    let sends = matches!(endpoint, Endpoint::Unix(_)) && !check.at.forwarded;
    if !sends {
        let what = "none are sent, which a controller does for those alone who have its socket: what switches say counts";
        let cure = format!("`{} ferrule check`", kubeconfig::IN_A_CONTROLLER);
        tell(Finding::new("packets", endpoint.to_string(), Status::Skipped, what).cure(cure))?;
    }
    let nodes = nodes(&endpoint, tell)?;
    problems(&endpoint, tell)?;
    audit(&endpoint, &nodes, tell)?;
    let known = online::known(&endpoint)?;
    let mtu = endpoint.list::<SwitchItem>("switches", &[])?;
    let mtu = mtu.items.iter().filter_map(|switch| switch.pod_mtu).min();
    let mut prober = Prober { endpoint: &endpoint, known: &known, cluster: known.cluster(), sends };
    for from in &nodes {
        for to in &nodes {
            prober.between(from, to, mtu, tell)?;
        }
        prober.services(from, tell)?;
    }
    Ok(())
}

/// Tells of each node; gives those that can be asked.
fn nodes(endpoint: &Endpoint, tell: Tell<'_>) -> Result<Vec<NodeName>, Fail> {
    let list: List<NodeItem> = endpoint.list("nodes", &[])?;
    if list.items.is_empty() {
        tell(Finding::new("nodes", endpoint.to_string(), Status::Bad, "the controller knows no nodes"))?;
    }
    let mut there = Vec::new();
    for node in list.items {
        let at = |status, what: &str| Finding::new("nodes", node.name.as_str(), status, what);
        tell(match (node.connected, node.realized) {
            (true, true) => at(Status::Good, "its agent is there, and has in force what it should"),
            (true, false) => at(Status::Warning, "its agent has not confirmed everything that it was sent")
                .cure("`ferrule get problems` says why, where it is for long"),
            (false, _) => at(Status::Bad, "its agent is away: the node goes on with what it knew")
                .cure(format!("look at the log of the agent's pod on {}", node.name)),
        })?;
        there.extend(node.connected.then_some(node.name));
    }
    Ok(there)
}

fn problems(endpoint: &Endpoint, tell: Tell<'_>) -> Result<(), Fail> {
    const SHOWN: usize = 10;
    let list: List<ProblemItem> = endpoint.list("problems", &[])?;
    let count = list.items.len();
    for problem in list.items.into_iter().take(SHOWN) {
        tell(Finding::new("problems", problem.object, Status::Warning, problem.message))?;
    }
    match count {
        0 => tell(Finding::new("problems", endpoint.to_string(), Status::Good, "there are none")),
        _ if count > SHOWN => {
            let what = format!("{} more: `ferrule get problems`", count - SHOWN);
            tell(Finding::new("problems", endpoint.to_string(), Status::Warning, what))
        }
        _ => Ok(()),
    }
}

fn audit(endpoint: &Endpoint, nodes: &[NodeName], tell: Tell<'_>) -> Result<(), Fail> {
    for node in nodes {
        let list: List<AuditItem> = endpoint.list("audit", &[("node", node.as_str())])?;
        let wrong = list.items.iter().filter(|item| !item.repaired).count();
        let at = |status, what: String| Finding::new("audit", node.as_str(), status, what);
        tell(match (wrong, list.warnings.first()) {
            (0, None) => at(Status::Good, "it holds what it should, and nothing else".into()),
            (0, Some(warning)) => at(Status::Unknown, warning.clone()),
            (wrong, _) => at(Status::Bad, format!("{wrong} things are not as they should be"))
                .cure(format!("`ferrule audit --node {node}`, and --repair")),
        })?;
    }
    Ok(())
}

struct Prober<'a> {
    endpoint: &'a Endpoint,
    known: &'a Known,
    cluster: Cluster<'a>,
    /// Whether packets are sent.
    sends: bool,
}

/// A packet to be tried.
struct Try {
    from: String,
    to: String,
    port: (Protocol, u16),
}

impl Prober<'_> {
    /// Pods of two nodes that may speak, pods that may not, the node itself, and a packet as large as pods may send.
    fn between(
        &mut self,
        from: &NodeName,
        to: &NodeName,
        mtu: Option<u32>,
        tell: Tell<'_>,
    ) -> Result<(), Fail> {
        let on = format!("{from} → {to}");
        let receivers: Vec<(String, Vec<(Protocol, u16)>)> =
            self.pods(to).map(|pod| (format!("pod:{}", pod.key), ports_of(pod))).collect();
        let senders: Vec<String> = self.pods(from).map(|pod| format!("pod:{}", pod.key)).collect();
        let tries = |senders: &[String], udp: bool| -> Vec<Try> {
            let mut all = Vec::new();
            for sender in senders {
                for (receiver, ports) in receivers.iter().filter(|(receiver, _)| receiver != sender) {
                    let mut ports = ports.clone();
                    if udp {
                        ports.retain(|(protocol, _)| *protocol == Protocol::Udp);
                        ports.push((Protocol::Udp, DISCARD));
                    }
                    all.extend(ports.into_iter().map(|port| Try {
                        from: sender.clone(),
                        to: receiver.clone(),
                        port,
                    }));
                }
            }
            all
        };
        let of_pods = tries(&senders, false);
        let none = "no two pods there for which this is so";
        tell(self.first("pod", &on, &of_pods, Verdict::Allowed, None, none)?)?;
        tell(self.first("policy", &on, &of_pods, Verdict::Denied, None, none)?)?;
        let of_node = tries(&[format!("node:{from}")], false);
        tell(self.first(
            "node",
            &on,
            &of_node,
            Verdict::Allowed,
            None,
            "policies let the node reach none of the pods",
        )?)?;
        let length = mtu.and_then(|mtu| u16::try_from(mtu).ok()).filter(|_| from != to);
        if let Some(length) = length {
            let own = [senders, vec![format!("node:{from}")]].concat();
            let (tried, none) = match self.sends {
                true => (tries(&own, true), "policies let no UDP pass between these nodes"),
                false => (Vec::new(), "no packet is sent, so none that is large"),
            };
            tell(self.first("mtu", &on, &tried, Verdict::Allowed, Some(length), none)?)?;
        }
        Ok(())
    }

    /// A Service, and one that answers names, from a pod of the node.
    fn services(&mut self, from: &NodeName, tell: Tell<'_>) -> Result<(), Fail> {
        let senders: Vec<String> = self.pods(from).map(|pod| format!("pod:{}", pod.key)).collect();
        let mut all: Vec<(&NamespacedName, (Protocol, u16))> = Vec::new();
        for service in self.known.network.services.values().filter(|service| !service.cluster_ips.is_empty())
        {
            let served = service.ports.iter().filter(|port| port.endpoints.iter().any(|one| one.ready));
            all.extend(served.map(|port| (&service.key, (port.protocol, port.port))));
        }
        let (names, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, (_, port))| *port == 53);
        for (check, services, none) in [
            ("service", others, "no Service that a pod of this node may ask"),
            ("dns", names, "no Service at port 53 that a pod of this node may ask"),
        ] {
            let tries: Vec<Try> = services
                .iter()
                .flat_map(|(key, port)| {
                    senders.iter().map(move |sender| Try {
                        from: sender.clone(),
                        to: format!("service:{key}"),
                        port: *port,
                    })
                })
                .collect();
            tell(self.first(check, from.as_str(), &tries, Verdict::Allowed, None, none)?)?;
        }
        Ok(())
    }

    fn pods(&self, node: &NodeName) -> impl Iterator<Item = &Pod> {
        let here = move |pod: &&Pod| pod.is_policed() && pod.node.as_ref() == Some(node);
        self.known.network.pods.values().filter(here).take(TRIED)
    }

    /// Follows the first of these packets for which the model's verdict is this one.
    fn first(
        &mut self,
        check: &'static str,
        on: &str,
        tries: &[Try],
        verdict: Verdict,
        length: Option<u16>,
        none: &str,
    ) -> Result<Finding, Fail> {
        for one in tries {
            let (protocol, port) = one.port;
            let explain =
                crate::arguments::Explain::about(&one.from, &one.to, Wanted::Number(protocol, port));
            // An end without an address is nobody's fault.
            let Ok((document, told)) = self.known.explain_in(&mut self.cluster, &explain) else { continue };
            if document.verdict != verdict || told.iter().all(Option::is_none) {
                continue;
            }
            let follower =
                Follower { endpoint: self.endpoint, ports: &self.known.ports, probe: self.sends, length };
            let followed = follower.follow_all(&told)?;
            return Ok(finding(check, on, one, length, verdict, &followed));
        }
        Ok(Finding::new(check, on, Status::Skipped, none))
    }
}

fn ports_of(pod: &Pod) -> Vec<(Protocol, u16)> {
    let declared = pod.ports.iter().map(|port| (port.protocol, port.number));
    // SCTP is traced and not sent.
    let mut ports: Vec<_> = declared.filter(|(protocol, _)| *protocol != Protocol::Sctp).collect();
    ports.push((Protocol::Tcp, 80));
    ports
}

fn finding(
    check: &'static str,
    on: &str,
    one: &Try,
    length: Option<u16>,
    verdict: Verdict,
    followed: &[Followed],
) -> Finding {
    let (Try { from, to, .. }, (protocol, port)) = (one, one.port);
    let size = length.map(|length| format!(", {length} bytes")).unwrap_or_default();
    let named = format!("{from} → {to} {protocol}/{port}{size}");
    if let Some(disagreement) = followed.iter().flat_map(|one| &one.disagreements).next() {
        let cure = format!("`ferrule trace {from} {to} --port {protocol}/{port}`");
        return Finding::new(check, on, Status::Bad, format!("{named}: {disagreement}")).cure(cure);
    }
    if let Some(unknown) = followed.iter().flat_map(|one| &one.unknown).next() {
        return Finding::new(check, on, Status::Unknown, format!("{named}: {unknown}"));
    }
    let hops = followed.iter().flat_map(|one| &one.hops);
    let (nodes, flows) = hops.fold((0, 0), |(nodes, flows), hop| (nodes + 1, flows + hop.steps.len()));
    let does = if verdict == Verdict::Allowed { "passes" } else { "is denied, as it should be" };
    let places = if nodes == 1 { "switch" } else { "switches" };
    let how = if followed.iter().any(|one| one.probed) { "counted it" } else { "would, as they say" };
    Finding::new(check, on, Status::Good, format!("{named} {does}: {flows} flows of {nodes} {places} {how}"))
}
