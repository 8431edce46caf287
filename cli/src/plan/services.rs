//! What a change does to Services: frontends and endpoints that come and go, and clients that reach other than before. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::matrix::{Entry, Participant, ServedPort, Services, Way, everybody};
use network::reference::verdict;
use network::service::{Claim, Frontend, claims};
use network::{Labels, NamespacedName, Network, Node, NodeName, Peers, Service, ServicePort, TrafficPolicy};
use serde::Serialize;

/// A Service that is not what it was.
#[derive(Debug, Serialize)]
pub struct ServiceChange {
    /// `NAMESPACE/NAME`.
    pub service: String,
    /// Where it answers: `10.96.0.1 TCP/80`, `nodes TCP/30080 (IPv4)`.
    pub frontends: GainedLost,
    /// Fields of its `spec` that say something else, and are neither frontends nor endpoints.
    pub settings: Vec<&'static str>,
    pub ports: Vec<PortChange>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GainedLost {
    pub gained: Vec<String>,
    pub lost: Vec<String>,
}

/// One port of it.
#[derive(Debug, Serialize)]
pub struct PortChange {
    pub port: ServedPort,
    pub endpoints: Vec<EndpointsChange>,
    pub clients: Vec<ClientsChange>,
}

/// Nodes that choose among other endpoints than before.
#[derive(Debug, Serialize)]
pub struct EndpointsChange {
    pub nodes: Vec<NodeName>,
    /// They are all nodes.
    #[serde(rename = "everyNode")]
    pub is_every_node: bool,
    /// For whom they choose: `cluster`, `outside`.
    pub clients: Vec<&'static str>,
    #[serde(flatten)]
    pub endpoints: GainedLost,
}

/// Clients that reach the port other than before, all alike.
#[derive(Debug, Serialize)]
pub struct ClientsChange {
    pub count: usize,
    /// `NAMESPACE/POD`, `node:NAME`, `outside`.
    pub listed: Vec<Entry>,
    pub before: Reach,
    pub after: Reach,
}

/// What becomes of a client's connections to a port of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    /// Nobody answers there.
    NotServed,
    /// No endpoint lets it in, or there is none.
    Blocked,
    /// Some endpoints let it in, and some do not.
    Partly,
    /// Every endpoint lets it in.
    Passes,
}

/// What two networks' Services differ in. Policies that change alone are no change of a Service.
pub fn changes(before: &Network, after: &Network) -> Vec<ServiceChange> {
    if is_same(before, after) {
        return Vec::new();
    }
    let sides = [Side::of(before), Side::of(after)];
    let moved = is_moved(before, after);
    let keys: BTreeSet<&NamespacedName> = before.services.keys().chain(after.services.keys()).collect();
    let concerned = |key: &&NamespacedName| moved || sides[0].known(key) != sides[1].known(key);
    let concerned: Vec<_> = keys.into_iter().filter(concerned).collect();
    if concerned.is_empty() {
        return Vec::new();
    }
    let clients = Clients::of([before, after]);
    let changes = concerned.into_iter().map(|key| change(&sides, &clients, key));
    changes.filter(|change| !change.is_empty()).collect()
}

/// Whether nothing that Services depend on differs, found without a look at any Service.
fn is_same(before: &Network, after: &Network) -> bool {
    before.services == after.services
        && (before.services.is_empty() || before.pods.len() == after.pods.len() && !is_moved(before, after))
}

/// Whether a node is another one, or anybody's pod is elsewhere.
fn is_moved(before: &Network, after: &Network) -> bool {
    let is_elsewhere = |(key, was): (&NamespacedName, &network::Pod)| {
        let is = after.pods.get(key);
        is.is_none_or(|is| {
            (&was.node, &was.addresses, was.host_network) != (&is.node, &is.addresses, is.host_network)
        })
    };
    before.nodes != after.nodes || before.pods.iter().any(is_elsewhere)
}

/// One of the two networks.
struct Side<'n> {
    network: &'n Network,
    services: Services<'n>,
    resolved: BTreeMap<&'n NamespacedName, Service>,
    owned: BTreeMap<&'n NamespacedName, BTreeSet<Claim>>,
}

impl<'n> Side<'n> {
    fn of(network: &'n Network) -> Self {
        let mut owned: BTreeMap<_, BTreeSet<Claim>> = BTreeMap::new();
        for (claim, owner) in claims(network.services.values()).0 {
            owned.entry(owner).or_default().insert(claim);
        }
        let resolved = network.services.iter().map(|(key, service)| (key, service.resolved(network)));
        Self { network, services: Services::of(network), resolved: resolved.collect(), owned }
    }

    fn known(&self, key: &NamespacedName) -> (Option<&Service>, Option<&BTreeSet<Claim>>) {
        (self.resolved.get(key), self.owned.get(key))
    }

    fn balanced(&self, key: &NamespacedName) -> Option<&Service> {
        self.resolved.get(key).filter(|service| service.is_in_data_path())
    }

    fn port(&self, key: &NamespacedName, wanted: ServedPort) -> Option<(&Service, &ServicePort)> {
        let service = self.balanced(key)?;
        let is_it = |port: &&ServicePort| (port.protocol, port.port) == (wanted.protocol, wanted.port);
        Some((service, service.ports.iter().find(is_it)?))
    }

    fn ports(&self, key: &NamespacedName) -> impl Iterator<Item = ServedPort> + '_ {
        let ports = self.balanced(key).into_iter().flat_map(|service| &service.ports);
        ports.map(|port| ServedPort { protocol: port.protocol, port: port.port })
    }

    fn frontends(&self, key: &NamespacedName) -> BTreeSet<String> {
        let has = |ipv4: bool| self.network.nodes.values().any(|node| node.address(ipv4).is_some());
        let text = |(frontend, protocol, port): &Claim| match frontend {
            Frontend::Address(address) => Some(format!("{address} {protocol}/{port}")),
            Frontend::NodePort { ipv4 } => {
                let family = if *ipv4 { "IPv4" } else { "IPv6" };
                has(*ipv4).then(|| format!("nodes {protocol}/{port} ({family})"))
            }
        };
        self.owned.get(key).into_iter().flatten().filter_map(text).collect()
    }

    /// The pods behind a Service, also those of which it knows the address alone; and the nodes of which it does.
    fn behind(&self, key: &NamespacedName) -> (BTreeSet<&NamespacedName>, BTreeSet<&NodeName>) {
        let (mut pods, mut nodes) = (BTreeSet::new(), BTreeSet::new());
        let ports = self.resolved.get(key).into_iter().flat_map(|service| &service.ports);
        for endpoint in ports.flat_map(|port| &port.endpoints) {
            if let Some((key, _)) = endpoint.pod.as_ref().and_then(|key| self.network.pods.get_key_value(key))
            {
                pods.insert(key);
                continue;
            }
            for address in &endpoint.addresses {
                pods.extend(self.network.pod_at(*address).map(|pod| &pod.key));
                nodes.extend(self.network.node_at(*address).map(|node| &node.name));
            }
        }
        (pods, nodes)
    }
}

impl ServiceChange {
    fn is_empty(&self) -> bool {
        self.frontends == GainedLost::default() && self.settings.is_empty() && self.ports.is_empty()
    }
}

impl GainedLost {
    fn of<T: Ord + ToString>(before: &BTreeSet<T>, after: &BTreeSet<T>) -> Self {
        let only =
            |this: &BTreeSet<T>, other: &BTreeSet<T>| this.difference(other).map(T::to_string).collect();
        Self { gained: only(after, before), lost: only(before, after) }
    }
}

fn change(sides: &[Side<'_>; 2], clients: &Clients, key: &NamespacedName) -> ServiceChange {
    let [before, after] = sides;
    let ports: BTreeSet<ServedPort> = before.ports(key).chain(after.ports(key)).collect();
    let mut reached = clients.reached(sides, key, &ports);
    let ports = ports.into_iter().map(|port| PortChange {
        port,
        endpoints: endpoints(sides, key, port),
        clients: reached.remove(&port).unwrap_or_default(),
    });
    ServiceChange {
        service: key.to_string(),
        frontends: GainedLost::of(&before.frontends(key), &after.frontends(key)),
        settings: match (before.balanced(key), after.balanced(key)) {
            (Some(before), Some(after)) => settings(before, after),
            _ => Vec::new(),
        },
        ports: ports.filter(|port| !port.endpoints.is_empty() || !port.clients.is_empty()).collect(),
    }
}

fn settings(before: &Service, after: &Service) -> Vec<&'static str> {
    let all = [
        ("sessionAffinity", before.affinity_seconds != after.affinity_seconds),
        ("loadBalancerSourceRanges", before.source_ranges != after.source_ranges),
        ("internalTrafficPolicy", before.internal_policy != after.internal_policy),
        ("externalTrafficPolicy", before.external_policy != after.external_policy),
        ("healthCheckNodePort", before.health_check_node_port != after.health_check_node_port),
    ];
    all.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// The endpoints that every node gained and lost; nodes that are there before and after.
fn endpoints(sides: &[Side<'_>; 2], key: &NamespacedName, port: ServedPort) -> Vec<EndpointsChange> {
    type Policy = fn(&Service, &ServicePort) -> Option<TrafficPolicy>;
    let inside: Policy = |service, _| (!service.cluster_ips.is_empty()).then_some(service.internal_policy);
    let outside: Policy = |service, port| {
        let is_reached = port.node_port.is_some() || service.outside_addresses().next().is_some();
        is_reached.then_some(service.external_policy)
    };
    let both = |name: &&NodeName| sides[1].network.nodes.contains_key(*name);
    let nodes: Vec<&NodeName> = sides[0].network.nodes.keys().filter(both).collect();
    let mut merged: BTreeMap<(GainedLost, Vec<&NodeName>), Vec<&'static str>> = BTreeMap::new();
    for (clients, policy) in [("cluster", inside), ("outside", outside)] {
        let mut alike: BTreeMap<GainedLost, Vec<&NodeName>> = BTreeMap::new();
        let mut offers = [0, 1].map(|time: usize| {
            let found = sides[time].port(key, port);
            Offer::of(found.and_then(|(service, port)| Some((port, policy(service, port)?))))
        });
        for name in &nodes {
            let [was, is] = &mut offers;
            let [old, new] = [0, 1].map(|time: usize| &sides[time].network.nodes[*name]);
            let difference = GainedLost::of(was.at(old), is.at(new));
            if difference != GainedLost::default() {
                alike.entry(difference).or_default().push(name);
            }
        }
        for group in alike {
            merged.entry(group).or_default().push(clients);
        }
    }
    let changes = merged.into_iter().map(|((endpoints, members), clients)| EndpointsChange {
        is_every_node: members.len() == nodes.len(),
        nodes: members.into_iter().cloned().collect(),
        clients,
        endpoints,
    });
    changes.collect()
}

/// What nodes choose among.
struct Offer<'s> {
    port: Option<(&'s ServicePort, TrafficPolicy)>,
    /// All nodes choose among the same.
    is_alike: bool,
    last: Option<BTreeSet<String>>,
}

impl<'s> Offer<'s> {
    fn of(port: Option<(&'s ServicePort, TrafficPolicy)>) -> Self {
        let is_alike = port.is_none_or(|(port, policy)| {
            let mut endpoints = port.endpoints.iter();
            policy == TrafficPolicy::Cluster
                && endpoints.all(|it| it.for_zones.is_empty() && it.for_nodes.is_empty())
        });
        Self { port, is_alike, last: None }
    }

    fn at(&mut self, node: &Node) -> &BTreeSet<String> {
        let (port, known) = (self.port, self.last.take().filter(|_| self.is_alike));
        self.last.insert(known.unwrap_or_else(|| {
            let of = |(port, policy): (&ServicePort, TrafficPolicy)| {
                let usable = [true, false].map(|ipv4| (ipv4, port.usable(node, policy, ipv4)));
                let texts = usable.into_iter().flat_map(|(ipv4, endpoints)| {
                    endpoints.into_iter().filter_map(move |endpoint| {
                        let at = std::net::SocketAddr::new(endpoint.address(ipv4)?, endpoint.port);
                        Some(match &endpoint.pod {
                            Some(pod) => format!("{pod} ({at})"),
                            None => at.to_string(),
                        })
                    })
                });
                texts.collect()
            };
            port.map(of).unwrap_or_default()
        }))
    }
}

/// Those who are there before and after, in classes that policies tell apart by an address alone.
struct Clients {
    classes: Vec<Class>,
}

struct Class {
    members: Vec<[Participant; 2]>,
    /// What decides about what they send.
    excerpts: [Network; 2],
}

/// What classes are made by: of a pod its namespace, and before and after its labels, node, and families.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Kind<'n> {
    Pods(&'n str, [(&'n Labels, Option<&'n NodeName>, BTreeSet<bool>); 2]),
    Alone(Entry),
}

impl Clients {
    fn of(networks: [&Network; 2]) -> Self {
        let speaks = |one: &Participant| one.entry.speaks() && !one.sources.is_empty();
        let [before, after] = networks.map(|network| everybody(network).into_iter().filter(speaks));
        let mut after: BTreeMap<Entry, Participant> = after.map(|one| (one.entry.clone(), one)).collect();
        let mut classes: BTreeMap<Kind<'_>, Vec<[Participant; 2]>> = BTreeMap::new();
        for was in before {
            if let Some(is) = after.remove(&was.entry) {
                let both = [was, is];
                classes.entry(kind(networks, &both)).or_default().push(both);
            }
        }
        let class = |members: Vec<[Participant; 2]>| {
            let excerpts = [0, 1].map(|time: usize| excerpt(networks[time], &members, time));
            Class { members, excerpts }
        };
        Self { classes: classes.into_values().map(class).collect() }
    }

    /// By port the clients that reach it other than before.
    fn reached(
        &self,
        sides: &[Side<'_>; 2],
        key: &NamespacedName,
        ports: &BTreeSet<ServedPort>,
    ) -> BTreeMap<ServedPort, Vec<ClientsChange>> {
        let behind = [0, 1].map(|time: usize| sides[time].behind(key));
        let parts = [0, 1].map(|time: usize| {
            let (pods, nodes) = &behind[time];
            sides[time].network.excerpt(pods, nodes)
        });
        let is_behind = |entry: &Entry| match entry {
            Entry::Pod(key) => behind.iter().any(|(pods, _)| pods.contains(key)),
            _ => true,
        };
        let mut found: BTreeMap<(ServedPort, Reach, Reach), Vec<Entry>> = BTreeMap::new();
        for class in &self.classes {
            let networks = [0, 1].map(|time: usize| joined(&parts[time], &class.excerpts[time]));
            let by_address = networks.iter().any(names_blocks);
            let reach = |member: &[Participant; 2], port: ServedPort| {
                [0, 1].map(|time: usize| {
                    let ways = sides[time].services.ways(&member[time], key, port);
                    Reach::of(&networks[time], &ways, port)
                })
            };
            for port in ports {
                let mut alike = None;
                for member in &class.members {
                    let [was, is] = match alike {
                        _ if by_address || is_behind(&member[0].entry) => reach(member, *port),
                        Some(known) => known,
                        None => *alike.insert(reach(member, *port)),
                    };
                    if was != is {
                        found.entry((*port, was, is)).or_default().push(member[0].entry.clone());
                    }
                }
            }
        }
        let mut by_port: BTreeMap<ServedPort, Vec<ClientsChange>> = BTreeMap::new();
        for ((port, before, after), mut listed) in found {
            listed.sort();
            let change = ClientsChange { count: listed.len(), listed, before, after };
            by_port.entry(port).or_default().push(change);
        }
        by_port
    }
}

fn kind<'n>(networks: [&'n Network; 2], both: &[Participant; 2]) -> Kind<'n> {
    let alone = || Kind::Alone(both[0].entry.clone());
    let Entry::Pod(key) = &both[0].entry else { return alone() };
    let [Some(was), Some(is)] = networks.map(|network| network.pods.get(key)) else { return alone() };
    if !was.is_policed() || !is.is_policed() {
        return alone();
    }
    let of = |pod: &'n network::Pod| {
        let labels: &Labels = &pod.labels;
        (labels, pod.node.as_ref(), pod.addresses.iter().map(IpAddr::is_ipv4).collect())
    };
    Kind::Pods(&was.key.namespace, [of(was), of(is)])
}

/// What a network decides about clients that are alike.
fn excerpt(network: &Network, members: &[[Participant; 2]], time: usize) -> Network {
    let Some(first) = members.first() else { return Network::default() };
    match &first[time].entry {
        Entry::Pod(key) => {
            let mut part = network.excerpt(&[key].into(), &[].into());
            for member in members {
                if let Entry::Pod(key) = &member[time].entry
                    && let Some(pod) = network.pods.get(key)
                {
                    part.pods.insert(key.clone(), pod.clone());
                }
            }
            part
        }
        Entry::Node(name) => network.excerpt(&[].into(), &[name].into()),
        // It may come in by any node, which then speaks in its place.
        Entry::Outside | Entry::Service(_) => network.excerpt(&[].into(), &network.nodes.keys().collect()),
    }
}

/// Two parts of one network in one.
fn joined(one: &Network, other: &Network) -> Network {
    let mut both = one.clone();
    let other = other.clone();
    both.nodes.extend(other.nodes);
    both.namespaces.extend(other.namespaces);
    both.pods.extend(other.pods);
    both.policies.extend(other.policies);
    both.selectors.extend(other.selectors);
    both
}

/// Whether a policy tells pods of one kind apart by their addresses.
fn names_blocks(network: &Network) -> bool {
    let mut rules = network.policies.values().flat_map(|policy| &policy.rules);
    rules.any(|rule| matches!(&rule.peers, Peers::Some { blocks, .. } if !blocks.is_empty()))
}

impl Reach {
    fn of(network: &Network, ways: &[Way], port: ServedPort) -> Self {
        let (mut passing, mut kept_out) = (false, ways.iter().any(|way| way.choices.is_empty()));
        for choice in ways.iter().flat_map(|way| &way.choices) {
            let lets: bool =
                verdict(network, &choice.from, &choice.to, port.protocol, choice.port).combined();
            passing |= lets;
            kept_out |= !lets;
        }
        match (passing, kept_out) {
            _ if ways.is_empty() => Self::NotServed,
            (true, false) => Self::Passes,
            (true, true) => Self::Partly,
            (false, _) => Self::Blocked,
        }
    }
}
