//! Who is meant by a name: a pod, workload, Service, node or address. Nobody is guessed: what several have is listed, and
//! for what nobody has the nearest name is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use compiler::explain::Start;
use network::workload::workloads_of;
use network::{NamedPort, NamespacedName, Network, NodeName, Protocol};

/// One end of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// As it is called: `pod shop/cart-0`.
    pub name: String,
    /// The places that it stands for.
    pub ends: Vec<End>,
}

/// A place from which packets come and to which they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// As it is called: `shop/cart-0`, `node:node-1`, an address.
    pub name: String,
    /// Whose it is.
    pub kind: EndKind,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The ports that it declares.
    pub ports: Vec<NamedPort>,
}

/// Whose an end is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// A pod with a port of the switch.
    Pod(NamespacedName),
    /// A node's own network, with the host-network pods there.
    Node(NodeName),
    /// A Service's address.
    Service(NamespacedName),
    /// An address that the cluster does not know.
    Outside,
}

impl End {
    /// Where its packets start; `None` for outside, which has no place of its own.
    pub fn start(&self) -> Option<Start> {
        match &self.kind {
            EndKind::Pod(key) => Some(Start::Pod(key.clone())),
            EndKind::Node(name) => Some(Start::Node(name.clone())),
            EndKind::Service(_) | EndKind::Outside => None,
        }
    }
}

const KINDS: [&str; 4] = ["pod", "workload", "service", "node"];

/// An address of documentation (RFC 5737, RFC 3849): `outside` without saying whose.
const OUTSIDE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// Finds who is meant.
pub fn find(network: &Network, text: &str) -> Result<Party, String> {
    if text == "outside" {
        let addresses = OUTSIDE.iter().filter_map(|text| text.parse().ok()).collect();
        let end = End { name: "outside".into(), kind: EndKind::Outside, addresses, ports: Vec::new() };
        return Ok(Party { name: "outside".into(), ends: vec![end] });
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(at_address(network, address));
    }
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) if KINDS.contains(&kind) => (Some(kind), name),
        Some((kind, _)) => {
            return Err(format!("`{kind}:` is no kind: write {}:NAME", KINDS.join(":NAME, ")));
        }
        None => (None, text),
    };
    let names = Names::of(network);
    let mut found = names.called(kind, name);
    match found.len() {
        1 => found.remove(0).party(network),
        0 => {
            let what = kind.unwrap_or("pod, workload, Service or node");
            let nearest = names.nearest(kind, name);
            let hint = if nearest.is_empty() {
                "see `ferrule get pods`".to_owned()
            } else {
                format!("did you mean {}?", nearest.join(" or "))
            };
            Err(format!("there is no {what} `{name}`; {hint}"))
        }
        _ => {
            let all: Vec<String> = found.iter().map(Name::full).collect();
            Err(format!("`{text}` may be any of: {}", all.join(", ")))
        }
    }
}

fn at_address(network: &Network, address: IpAddr) -> Party {
    let mut end = if let Some(pod) = network.pod_at(address) {
        pod_end(network, &pod.key)
    } else if let Some(node) = network.node_at(address) {
        node_end(network, &node.name)
    } else {
        let kind = match service_at(network, address) {
            Some(key) => EndKind::Service(key.clone()),
            None => EndKind::Outside,
        };
        End { name: address.to_string(), kind, addresses: vec![address], ports: Vec::new() }
    };
    end.addresses = vec![address];
    Party { name: address.to_string(), ends: vec![end] }
}

fn service_at(network: &Network, address: IpAddr) -> Option<&NamespacedName> {
    let has = |service: &&network::Service| {
        service.cluster_ips.contains(&address) || service.outside_addresses().any(|own| own == address)
    };
    network.services.values().find(has).map(|service| &service.key)
}

fn pod_end(network: &Network, key: &NamespacedName) -> End {
    let Some(pod) = network.pods.get(key) else {
        return End { name: key.to_string(), kind: EndKind::Outside, addresses: vec![], ports: vec![] };
    };
    let node = pod.node.clone().filter(|_| pod.host_network);
    let addresses = match node.as_ref().and_then(|name| network.nodes.get(name)) {
        Some(node) => node.addresses.clone(),
        None => pod.addresses.clone(),
    };
    let kind = node.map_or_else(|| EndKind::Pod(key.clone()), EndKind::Node);
    End { name: key.to_string(), kind, addresses, ports: pod.ports.clone() }
}

fn node_end(network: &Network, name: &NodeName) -> End {
    let addresses = network.nodes.get(name).map_or_else(Vec::new, |node| node.addresses.clone());
    End { name: format!("node:{name}"), kind: EndKind::Node(name.clone()), addresses, ports: Vec::new() }
}

/// Every name that there is.
struct Names<'a> {
    network: &'a Network,
    workloads: BTreeMap<NamespacedName, BTreeSet<&'a NamespacedName>>,
}

#[derive(Clone, Debug)]
enum Name<'a> {
    Pod(&'a NamespacedName),
    Workload(NamespacedName, BTreeSet<&'a NamespacedName>),
    Service(&'a NamespacedName),
    Node(&'a NodeName),
}

impl<'a> Names<'a> {
    fn of(network: &'a Network) -> Self {
        let mut workloads: BTreeMap<NamespacedName, BTreeSet<&NamespacedName>> = BTreeMap::new();
        for pod in network.pods.values().filter(|pod| !pod.completed) {
            for name in workloads_of(pod) {
                let key = NamespacedName::new(pod.key.namespace(), name);
                workloads.entry(key).or_default().insert(&pod.key);
            }
        }
        Self { network, workloads }
    }

    fn all(&self, kind: Option<&str>) -> Vec<Name<'a>> {
        let wanted = |this: &str| kind.is_none_or(|kind| kind == this);
        let mut all = Vec::new();
        if wanted("pod") {
            all.extend(self.network.pods.keys().map(Name::Pod));
        }
        if wanted("workload") {
            all.extend(self.workloads.iter().map(|(key, pods)| Name::Workload(key.clone(), pods.clone())));
        }
        if wanted("service") {
            all.extend(self.network.services.keys().map(Name::Service));
        }
        if wanted("node") {
            all.extend(self.network.nodes.keys().map(Name::Node));
        }
        all
    }

    fn called(&self, kind: Option<&str>, text: &str) -> Vec<Name<'a>> {
        self.all(kind).into_iter().filter(|name| name.is_called(text)).collect()
    }

    /// Up to three names that are spelt nearly so.
    fn nearest(&self, kind: Option<&str>, text: &str) -> Vec<String> {
        let mut near: Vec<(usize, String)> = self
            .all(kind)
            .iter()
            .map(|name| {
                let (full, short) = name.spellings();
                let short = short.map(|short| distance(text, short)).unwrap_or(usize::MAX);
                (distance(text, &full).min(short), name.full())
            })
            .filter(|(distance, _)| *distance <= text.len().div_ceil(3))
            .collect();
        near.sort();
        near.dedup();
        near.into_iter().take(3).map(|(_, name)| name).collect()
    }
}

impl Name<'_> {
    /// With its namespace, and without where it has one.
    fn spellings(&self) -> (String, Option<&str>) {
        match self {
            Self::Pod(key) | Self::Service(key) => (key.to_string(), Some(key.name())),
            Self::Workload(key, _) => (key.to_string(), Some(key.name())),
            Self::Node(name) => (name.to_string(), None),
        }
    }

    fn is_called(&self, text: &str) -> bool {
        let (full, short) = self.spellings();
        full == text || short == Some(text)
    }

    fn full(&self) -> String {
        let kind = match self {
            Self::Pod(_) => "pod",
            Self::Workload(..) => "workload",
            Self::Service(_) => "service",
            Self::Node(_) => "node",
        };
        format!("{kind}:{}", self.spellings().0)
    }

    fn party(&self, network: &Network) -> Result<Party, String> {
        let name = self.full();
        let ends: Vec<End> = match self {
            Self::Pod(key) => vec![pod_end(network, key)],
            Self::Workload(_, pods) => pods.iter().map(|key| pod_end(network, key)).collect(),
            Self::Node(node) => vec![node_end(network, node)],
            Self::Service(key) => service_ends(network, key),
        };
        match ends.iter().any(|end| !end.addresses.is_empty()) {
            true => Ok(Party { name, ends }),
            false if matches!(self, Self::Service(_)) => {
                Err(format!("{name} has no address, and no endpoint that has one"))
            }
            false => {
                Err(format!("{name} has no address yet, or has ended: no packet comes from it or to it"))
            }
        }
    }
}

/// Its addresses, or where it has none its endpoints.
fn service_ends(network: &Network, key: &NamespacedName) -> Vec<End> {
    let Some(service) = network.services.get(key) else { return Vec::new() };
    if !service.cluster_ips.is_empty() {
        let ports = service.ports.iter().map(|port| NamedPort {
            name: port.name.clone(),
            protocol: port.protocol,
            number: port.port,
        });
        return vec![End {
            name: format!("service:{key}"),
            kind: EndKind::Service(key.clone()),
            addresses: service.cluster_ips.iter().copied().collect(),
            ports: ports.collect(),
        }];
    }
    endpoints(network, key)
}

/// The pods behind a Service.
pub fn endpoints(network: &Network, key: &NamespacedName) -> Vec<End> {
    let Some(service) = network.services.get(key) else { return Vec::new() };
    let pods: BTreeSet<&NamespacedName> = service
        .ports
        .iter()
        .flat_map(|port| &port.endpoints)
        .filter_map(|endpoint| endpoint.pod.as_ref())
        .filter(|key| network.pods.contains_key(*key))
        .collect();
    pods.into_iter().map(|key| pod_end(network, key)).collect()
}

/// The edits between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut above_left = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = above_left + usize::from(x != *y);
            above_left = row[j + 1];
            row[j + 1] = change.min(above_left + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// What `--port` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// ICMP echo.
    Icmp,
    /// A number.
    Number(Protocol, u16),
    /// A name, and the protocol where it was said.
    Name(Option<Protocol>, String),
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no port: write tcp/80, udp/53, sctp/9999, icmp, or a port's name");
        if ["icmp", "ping"].contains(&text.to_ascii_lowercase().as_str()) {
            return Ok(Self::Icmp);
        }
        let (protocol, port) = match text.split_once('/') {
            Some((protocol, port)) => (Some(protocol.parse::<Protocol>().map_err(|_| wrong())?), port),
            None => (None, text),
        };
        match port.parse::<u16>() {
            Ok(0) => Err(wrong()),
            Ok(number) => Ok(Self::Number(protocol.unwrap_or_default(), number)),
            Err(_) if port.is_empty() || port.bytes().all(|b| b.is_ascii_digit()) => Err(wrong()),
            Err(_) => Ok(Self::Name(protocol, port.to_owned())),
        }
    }
}

/// The port that is meant at an end. A name is the end's own, so it may be another number at every end.
pub fn port_at(wanted: Option<&Wanted>, end: &End) -> Result<Option<(Protocol, u16)>, String> {
    let declared = || {
        let one = |port: &NamedPort| match &port.name {
            Some(name) => format!("{}/{} ({name})", port.protocol, port.number),
            None => format!("{}/{}", port.protocol, port.number),
        };
        match end.ports.is_empty() {
            true => format!("{} declares none", end.name),
            false => format!("{} has {}", end.name, end.ports.iter().map(one).collect::<Vec<_>>().join(", ")),
        }
    };
    match wanted {
        Some(Wanted::Icmp) => Ok(None),
        Some(Wanted::Number(protocol, number)) => Ok(Some((*protocol, *number))),
        Some(Wanted::Name(protocol, name)) => {
            let is_it = |port: &&NamedPort| {
                port.name.as_ref() == Some(name) && protocol.is_none_or(|protocol| protocol == port.protocol)
            };
            let mut found = end.ports.iter().filter(is_it);
            match (found.next(), found.next()) {
                (Some(port), None) => Ok(Some((port.protocol, port.number))),
                (None, _) => Err(format!("there is no port `{name}`: {}", declared())),
                _ => Err(format!("several ports are called `{name}`, say the protocol too: {}", declared())),
            }
        }
        None => match end.ports.as_slice() {
            [only] => Ok(Some((only.protocol, only.number))),
            _ => Err(format!("say which --port: {}", declared())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let mut network = Network::default();
        for (namespace, name) in
            [("shop", "cart-0"), ("shop", "cart-1"), ("shop", "web-6d4cf56db6-x7bqk"), ("bank", "teller")]
        {
            let key = NamespacedName::new(namespace, name);
            let pod = network::Pod {
                key: key.clone(),
                uid: String::new(),
                node: Some(NodeName::new("node-1")),
                labels: Default::default(),
                addresses: vec![IpAddr::from([10, 244, 1, network.pods.len() as u8 + 2])],
                host_network: false,
                completed: false,
                ports: vec![],
            };
            network.pods.insert(key, pod);
        }
        network
    }

    #[test]
    fn names_are_found_by_their_kind_and_without_a_namespace_where_that_is_clear() {
        let network = network();
        let names = |text: &str| {
            find(&network, text).map(|party| party.ends.into_iter().map(|end| end.name).collect::<Vec<_>>())
        };
        assert_eq!(names("shop/cart-0").unwrap(), ["shop/cart-0"]);
        assert_eq!(names("teller").unwrap(), ["bank/teller"]);
        assert_eq!(names("shop/cart").unwrap(), ["shop/cart-0", "shop/cart-1"]);
        assert_eq!(names("workload:web").unwrap(), ["shop/web-6d4cf56db6-x7bqk"]);
        let pod = &network.pods[&NamespacedName::new("bank", "teller")];
        assert_eq!(names(&pod.addresses[0].to_string()).unwrap(), ["bank/teller"]);
        assert_eq!(names("192.0.2.7").unwrap(), ["192.0.2.7"]);
    }

    #[test]
    fn a_wrong_name_gets_its_nearest_and_an_ambiguous_one_all() {
        let mut network = network();
        let error = find(&network, "shop/crat-0").unwrap_err();
        assert!(error.contains("did you mean pod:shop/cart-0"), "{error}");
        assert!(find(&network, "zzzzzzzzz").unwrap_err().contains("ferrule get pods"));
        assert!(find(&network, "deployment:web").unwrap_err().contains("workload:NAME"));
        let key = NamespacedName::new("bank", "cart-0");
        let mut pod = network.pods[&NamespacedName::new("shop", "cart-0")].clone();
        pod.key = key.clone();
        network.pods.insert(key, pod);
        let error = find(&network, "cart-0").unwrap_err();
        assert!(error.contains("pod:bank/cart-0, pod:shop/cart-0"), "{error}");
    }

    #[test]
    fn ports_are_numbers_names_or_icmp() {
        assert_eq!("udp/53".parse(), Ok(Wanted::Number(Protocol::Udp, 53)));
        assert_eq!("80".parse(), Ok(Wanted::Number(Protocol::Tcp, 80)));
        assert_eq!("tcp/web".parse(), Ok(Wanted::Name(Some(Protocol::Tcp), "web".into())));
        assert_eq!("icmp".parse(), Ok(Wanted::Icmp));
        for bad in ["", "tcp/", "tcp/70000", "0", "quic/443"] {
            assert!(bad.parse::<Wanted>().is_err(), "{bad}");
        }
        let port =
            |name: &str, number| NamedPort { name: Some(name.into()), protocol: Protocol::Tcp, number };
        let end = End {
            name: "a/b".into(),
            kind: EndKind::Outside,
            addresses: vec![],
            ports: vec![port("web", 80), port("admin", 81)],
        };
        let at = |wanted: Option<&str>| port_at(wanted.map(|text| text.parse().unwrap()).as_ref(), &end);
        assert_eq!(at(Some("admin")), Ok(Some((Protocol::Tcp, 81))));
        assert!(at(Some("dns")).unwrap_err().contains("TCP/80 (web)"));
        assert!(at(None).unwrap_err().contains("say which --port"));
    }
}
