//! `ServiceAddress` to `EndpointDnat`: which Service a new connection asks for, which endpoint it gets, and the translation.
//! Everything behind these tables sees the endpoint; replies are translated back by connection tracking.
//!
//! A backend is the endpoints of one Service port in one family, all of them or this node's only. A frontend leads to a
//! backend; the switch hashes the connection into an index (`multipath`, even at any size), the index names the endpoint, the
//! endpoint is the translation. A client that keeps its endpoint finds it among the flows that the switch learned.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use network::service::{Claim, Frontend, claims};
use network::{
    Cidr, NamespacedName, NodeName, Protocol, Service, ServiceEndpoint, ServicePort, TrafficPolicy,
};
use openflow::{
    Action, Ct, CtZone, Field, HashFields, Match, Multipath, MultipathAlgorithm, Nat, PortNo, TableId,
};

use super::Context;
use crate::affinity;
use crate::input::PortRef;
use crate::packet::{End, Family, address, port_field, transport, with_address, with_prefix};
use crate::policy::conjunction::{assign, ids, print};
use crate::program::FlowAction;
use crate::provenance::Owner;
use crate::register::{
    AFFINE, ASKED_NODE, ASKED_NODE_MORE, CT_LAYOUT, CT_SERVICE, CT_UNJUDGED, CT_VERSION, DESTINATION,
    ENDPOINT, INDEX, JUDGED, OUT_PORT, OWN_NODE, SERVICE, SOURCE, Side, TO_NODE, TO_OTHER_NODE, ZONE,
};
use crate::stack;
use crate::stream::{Out, flow};
use crate::table::Table;

/// Endpoints to choose among.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BackendKey {
    service: NamespacedName,
    protocol: Protocol,
    port: u16,
    ipv4: bool,
    /// Only those of one node.
    at: Option<NodeName>,
}

/// Ids are made of this: those of backends of all endpoints must not shift from one version to the next, or clients would lose
/// the endpoints that they keep.
impl Hash for BackendKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.service, self.protocol, self.port, self.ipv4, self.at.is_some()).hash(state);
        if let Some(node) = &self.at {
            node.hash(state);
        }
    }
}

/// What a client gets.
enum Way {
    /// One of a Service port's endpoints: of all, or of one node's.
    Among(Option<NodeName>),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// What the flows of one Service depend on beside it. Small: it is kept from one compilation to the next.
#[derive(Debug)]
pub(crate) struct Services {
    frontends: Frontends,
    /// By a hash of the backend.
    ids: HashMap<u64, u32>,
}

/// Who has which frontend.
#[derive(Debug)]
pub(crate) struct Frontends {
    /// What Services claim and do not have: another is older.
    lost: BTreeSet<(Claim, NamespacedName)>,
}

impl Services {
    pub(crate) fn of(context: &Context<'_>) -> Self {
        let services = balanced(context);
        let mut keys: Vec<BackendKey> = services
            .clone()
            .flat_map(|service| service.ports.iter().flat_map(|port| backends_of(service, port)))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let prints: Vec<u64> = keys.iter().map(print).collect();
        let ids = assign(prints.iter().copied(), 32);
        Self { frontends: Frontends::of(services), ids: prints.into_iter().zip(ids).collect() }
    }

    /// Whether a Service that becomes another leaves all of this as it is: what it claims, and its backends.
    pub(crate) fn stand(old: &Service, new: &Service) -> bool {
        fn backends(service: &Service) -> impl Iterator<Item = BackendKey> + '_ {
            service.ports.iter().flat_map(|port| backends_of(service, port))
        }
        old.seniority() == new.seniority() && old.claims().eq(new.claims()) && backends(old).eq(backends(new))
    }

    /// Whether a Service's flows are the same beside `other` Services.
    pub(crate) fn same(&self, other: &Services, service: &Service) -> bool {
        let ids = |services: &Services| -> Vec<u32> {
            let keys = service.ports.iter().flat_map(|port| backends_of(service, port));
            keys.filter_map(|key| services.id(&key)).collect()
        };
        ids(self) == ids(other) && self.frontends.of_service(service) == other.frontends.of_service(service)
    }

    fn id(&self, backend: &BackendKey) -> Option<u32> {
        self.ids.get(&print(backend)).copied()
    }
}

impl Frontends {
    /// Of some Services.
    pub(crate) fn of<'a>(services: impl Iterator<Item = &'a Service>) -> Self {
        let lost = claims(services).1.into_iter().map(|lost| (lost.claim, lost.service.clone()));
        Self { lost: lost.collect() }
    }

    fn owns(&self, service: &Service, claim: &Claim) -> bool {
        self.lost.is_empty() || !self.lost.contains(&(*claim, service.key.clone()))
    }

    /// Every frontend of a Service, without those that another has.
    pub(crate) fn of_service<'s>(&self, service: &'s Service) -> Vec<(Frontend, &'s ServicePort)> {
        if !service.is_in_data_path() {
            return Vec::new();
        }
        let addresses: BTreeSet<IpAddr> =
            service.cluster_ips.iter().copied().chain(service.outside_addresses()).collect();
        let mut frontends = Vec::new();
        // An API server has no Service with one number twice; of manifests the first counts.
        let (mut seen, mut taken) = (BTreeSet::new(), BTreeSet::new());
        let mut once = |port: &&ServicePort| seen.insert((port.protocol, port.port));
        for port in service.ports.iter().filter(|port| is_balanced(port)).filter(&mut once) {
            let at = addresses.iter().map(|address| (Frontend::Address(*address), port.port));
            let at_nodes = port
                .node_port
                .into_iter()
                .flat_map(|number| [true, false].map(|ipv4| (Frontend::NodePort { ipv4 }, number)));
            for (frontend, number) in at.chain(at_nodes) {
                let claim = (frontend, port.protocol, number);
                if self.owns(service, &claim) && taken.insert(claim) {
                    frontends.push((frontend, port));
                }
            }
        }
        frontends
    }
}

/// Every backend that a port may have.
fn backends_of<'s>(service: &'s Service, port: &'s ServicePort) -> impl Iterator<Item = BackendKey> + 's {
    let by_node = [service.internal_policy, service.external_policy].contains(&TrafficPolicy::Local);
    let nodes: BTreeSet<&NodeName> =
        port.endpoints.iter().filter(|_| by_node).filter_map(|endpoint| endpoint.node.as_ref()).collect();
    let places: Vec<Option<NodeName>> =
        std::iter::once(None).chain(nodes.into_iter().cloned().map(Some)).collect();
    [true, false].into_iter().flat_map(move |ipv4| {
        places.clone().into_iter().map(move |at| BackendKey {
            service: service.key.clone(),
            protocol: port.protocol,
            port: port.port,
            ipv4,
            at,
        })
    })
}

/// SCTP is tracked without its ports, so one entry would stand for the associations with every Service of a host: it is not
/// balanced (docs/adr/0005-sctp-replies-are-learned.md).
pub(crate) fn is_balanced(port: &ServicePort) -> bool {
    port.protocol != Protocol::Sctp
}

/// What stands whatever Services there are.
pub(super) fn own(out: &mut Out<'_>) {
    let translated =
        flow(Table::ServiceAddress, 250, CT_SERVICE.on(Match::new(), 1)).goto(Table::EgressAdmin);
    out.add(translated, Owner::Pipeline, "of a connection to a Service: its endpoint was chosen");
    for ipv4 in [true, false] {
        let match_ =
            SOURCE.on(address(End::Destination, stack::node_port_address(ipv4)), Side::Gateway as u64);
        let draft = flow(Table::ServiceAddress, 200, match_).act(TO_NODE.load(1)).goto(Table::ServiceLb);
        out.add(draft, Owner::Pipeline, "asks for a node port; the node has rewritten its address");
    }
    let affine = flow(Table::EndpointSelect, 200, AFFINE.on(Match::new(), 1)).goto(Table::EndpointDnat);
    out.add(affine, Owner::Pipeline, "the client keeps its endpoint");
    let none = flow(Table::EndpointSelect, 0, Match::new());
    out.add(none, Owner::Pipeline, "drop: no endpoint of this index");
    let again =
        flow(Table::EndpointDnat, 50, AFFINE.on(Match::new(), 1)).act(AFFINE.load(0)).act(Action::Resubmit {
            port: PortNo::IN_PORT,
            table: Some(TableId(Table::EndpointSelect.id())),
            ct: false,
        });
    out.add(again, Owner::Pipeline, "the client's endpoint is gone: choose another");
    out.add(flow(Table::EndpointDnat, 0, Match::new()), Owner::Pipeline, "drop: no such endpoint");
}

/// Pods ask for node ports of any node; they are balanced where the pod is, as the node that they ask would.
pub(super) fn node(context: &Context<'_>, node: &network::Node, out: &mut Out<'_>) {
    for own in node.addresses.iter().filter(|address| context.config.has_node_ports(**address)) {
        let match_ = SOURCE.on(address(End::Destination, *own), Side::Pod as u64);
        let mut draft = flow(Table::ServiceAddress, 200, match_).act(TO_NODE.load(1));
        if !context.is_own(node) {
            let [half, other] = halves(&node.name);
            draft =
                draft.act(TO_OTHER_NODE.load(1)).act(ASKED_NODE.load(half)).act(ASKED_NODE_MORE.load(other));
        }
        let what = format!("perhaps a node port of node {} at {own}", node.name);
        out.add(draft.goto(Table::ServiceLb), Owner::Node(node.name.clone()), what);
    }
}

/// A node's name as registers hold it: of the name alone, so that the flows of nodes and of Services need not know each other.
fn halves(node: &NodeName) -> [u64; 2] {
    let print = print(node);
    [print >> 32, print & u64::from(u32::MAX)]
}

/// The flows of one Service.
pub(crate) fn service(context: &Context<'_>, services: &Services, service: &Service, out: &mut Out<'_>) {
    let Some(own) = context.own else { return };
    let mut backends: BTreeMap<BackendKey, &ServicePort> = BTreeMap::new();
    let writer = Writer { context, services, service, own };
    for (frontend, port) in services.frontends.of_service(service) {
        for (priority, condition, way) in writer.ways(frontend, port) {
            let at = match way {
                Way::Among(at) => at,
                Way::Nothing(why) => {
                    let draft = flow(Table::ServiceLb, priority, condition(writer.asks(frontend, port)));
                    out.add(draft, writer.owner(), format!("drop: {why}"));
                    continue;
                }
            };
            let backend = writer.backend(port, frontend.is_ipv4(), at);
            if writer.lead(frontend, port, priority, &*condition, &backend, out) {
                backends.insert(backend, port);
            }
        }
    }
    for (backend, port) in backends {
        writer.choose(&backend, port, out);
    }
}

/// Makes a match more particular.
type Condition = Box<dyn Fn(Match) -> Match>;

struct Writer<'w, 'a> {
    context: &'w Context<'a>,
    services: &'w Services,
    service: &'w Service,
    own: &'w network::Node,
}

impl Writer<'_, '_> {
    fn owner(&self) -> Owner {
        Owner::Service(self.service.key.clone())
    }

    fn backend(&self, port: &ServicePort, ipv4: bool, at: Option<NodeName>) -> BackendKey {
        BackendKey { service: self.service.key.clone(), protocol: port.protocol, port: port.port, ipv4, at }
    }

    /// Among whom a policy of this node chooses.
    fn among(&self, policy: TrafficPolicy) -> Way {
        Way::Among((policy == TrafficPolicy::Local).then(|| self.own.name.clone()))
    }

    /// Packets that ask for a frontend.
    fn asks(&self, frontend: Frontend, port: &ServicePort) -> Match {
        let family = if frontend.is_ipv4() { Family::V4 } else { Family::V6 };
        let any = transport(family, port.protocol);
        match frontend {
            Frontend::Address(address) => {
                with_address(any, End::Destination, address).with(port_field(port.protocol), port.port)
            }
            Frontend::NodePort { .. } => {
                TO_NODE.on(any.with(port_field(port.protocol), port.node_port.unwrap_or(0)), 1)
            }
        }
    }

    /// Who asks gets what: priority, condition, and among whom.
    fn ways(&self, frontend: Frontend, port: &ServicePort) -> Vec<(u16, Condition, Way)> {
        let service = self.service;
        let anybody = || Box::new(|match_| match_) as Condition;
        let outside = |match_: Match| OWN_NODE.on(SOURCE.on(match_, Side::Gateway as u64), 0);
        let external = || self.among(service.external_policy);
        let mut ways: Vec<(u16, Condition, Way)> = Vec::new();
        if let Frontend::Address(address) = frontend {
            if service.cluster_ips.contains(&address) {
                return vec![(200, anybody(), self.among(service.internal_policy))];
            }
            if service.load_balancer_ips.contains(&address) && !service.source_ranges.is_empty() {
                for range in service.source_ranges.iter().filter(|r| r.is_ipv4() == address.is_ipv4()) {
                    let range: Cidr = *range;
                    let from = move |match_| with_prefix(match_, End::Source, &range);
                    ways.push((226, Box::new(move |m| outside(from(m))), external()));
                    ways.push((224, Box::new(from), Way::Among(None)));
                }
                let node = |match_| OWN_NODE.on(match_, 1);
                ways.push((222, Box::new(node), Way::Among(None)));
                ways.push((
                    220,
                    anybody(),
                    Way::Nothing("the client is in none of the loadBalancerSourceRanges"),
                ));
                return ways;
            }
        }
        if service.external_policy == TrafficPolicy::Local {
            ways.push((210, Box::new(outside), external()));
            if let Frontend::NodePort { ipv4 } = frontend
                && !self.is_refused(port, ipv4)
            {
                self.at_other_nodes(port, ipv4, &mut ways);
            }
        }
        // Who is in the cluster reaches all endpoints, whatever is promised to those outside.
        ways.push((200, anybody(), Way::Among(None)));
        ways
    }

    /// Pods that ask another node for its port are outside there: they get what that node would give them (ADR-0035).
    fn at_other_nodes(&self, port: &ServicePort, ipv4: bool, ways: &mut Vec<(u16, Condition, Way)>) {
        let nodes: BTreeSet<&NodeName> = port.endpoints.iter().filter_map(|e| e.node.as_ref()).collect();
        for node in nodes.into_iter().filter(|node| **node != self.own.name) {
            if port.local(node, ipv4).is_empty() {
                continue;
            }
            let [half, other] = halves(node);
            let asked = move |match_| ASKED_NODE_MORE.on(ASKED_NODE.on(match_, half), other);
            ways.push((214, Box::new(asked), Way::Among(Some(node.clone()))));
        }
        let another = |match_| TO_OTHER_NODE.on(match_, 1);
        ways.push((
            212,
            Box::new(another),
            Way::Nothing("the node that is asked has no endpoint of its own"),
        ));
    }

    /// From a frontend to its backend; whether there is any endpoint to choose.
    fn lead(
        &self,
        frontend: Frontend,
        port: &ServicePort,
        priority: u16,
        condition: &dyn Fn(Match) -> Match,
        backend: &BackendKey,
        out: &mut Out<'_>,
    ) -> bool {
        let count = self.endpoints(port, backend).len();
        let name = self.name(port);
        for match_ in self.arrivals(frontend, port) {
            let draft = flow(Table::ServiceLb, priority, condition(match_));
            match count {
                0 if backend.at.is_some() && !self.is_refused(port, backend.ipv4) => {
                    out.add(draft, self.owner(), format!("drop: {name} has no endpoint on this node"));
                }
                0 if matches!(frontend, Frontend::NodePort { .. }) => {
                    // Nothing listens there: the node itself refuses.
                    out.add(draft.goto(Table::EgressAdmin), self.owner(), format!("{name} has no endpoint"));
                }
                0 => {
                    let draft = draft
                        .act(DESTINATION.load(Side::Gateway as u64))
                        .act(FlowAction::LoadPort(PortRef::Gateway, OUT_PORT.bits))
                        .act(Action::set_field(Field::ETH_SRC, network::Mac::ROUTER.0))
                        .act(Action::set_field(Field::ETH_DST, self.context.gateway_mac().0))
                        .goto(Table::Output);
                    out.add(draft, self.owner(), format!("{name} has no endpoint: the host refuses"));
                }
                count => {
                    let Some(id) = self.services.id(backend) else { continue };
                    let mut draft =
                        draft.act(SERVICE.load(u64::from(id))).act(Action::Multipath(Multipath {
                            fields: HashFields::SYMMETRIC_L3L4_UDP,
                            basis: id as u16,
                            algorithm: MultipathAlgorithm::MODULO_N,
                            max_link: (count - 1) as u16,
                            arg: 0,
                            dst: INDEX.bits,
                        }));
                    if self.service.affinity_seconds.is_some() {
                        draft = draft.act(Action::Resubmit {
                            port: PortNo::IN_PORT,
                            table: Some(TableId(Table::ServiceAffinity.id())),
                            ct: false,
                        });
                    }
                    let what = format!("{name}: one of {count} endpoints");
                    out.add(draft.goto(Table::EndpointSelect), self.owner(), what);
                }
            }
        }
        if count == 0 && self.is_refused(port, backend.ipv4) {
            self.refusal(frontend, port, out);
        }
        count > 0
    }

    /// The packets of a frontend: what asks for an address of this node comes from the host by a name of its own.
    fn arrivals(&self, frontend: Frontend, port: &ServicePort) -> Vec<Match> {
        let mut matches = vec![self.asks(frontend, port)];
        if let Frontend::Address(address) = frontend
            && self.own.addresses.contains(&address)
        {
            let stand_in = Frontend::Address(stack::own_external_address(address.is_ipv4()));
            matches.push(SOURCE.on(self.asks(stand_in, port), Side::Gateway as u64));
        }
        matches
    }

    /// Whether nobody in the cluster serves the port.
    fn is_refused(&self, port: &ServicePort, ipv4: bool) -> bool {
        !port.is_served(ipv4)
    }

    /// The host's reset on behalf of a Service comes back through the gateway, for a connection that nobody remembers.
    fn refusal(&self, frontend: Frontend, port: &ServicePort, out: &mut Out<'_>) {
        let (Frontend::Address(address), Protocol::Tcp) = (frontend, port.protocol) else { return };
        let family = Family::of(address);
        let reset = with_address(transport(family, Protocol::Tcp), End::Source, address)
            .with(Field::TCP_SRC, port.port)
            .with_masked(Field::TCP_FLAGS, 0x004u16, 0x004u16);
        let match_ = SOURCE.on(reset, Side::Gateway as u64);
        let draft = flow(Table::ConntrackState, 205, match_).act(JUDGED.load(1)).goto(Table::Routing);
        out.add(draft, self.owner(), format!("the host refuses for {}", self.name(port)));
    }

    fn endpoints<'p>(&self, port: &'p ServicePort, backend: &BackendKey) -> Vec<&'p ServiceEndpoint> {
        match &backend.at {
            None => port.usable(self.own, TrafficPolicy::Cluster, backend.ipv4),
            Some(node) => port.local(node, backend.ipv4),
        }
    }

    fn targets(&self, backend: &BackendKey, port: &ServicePort) -> Vec<(IpAddr, u16)> {
        let endpoints = self.endpoints(port, backend);
        endpoints.iter().filter_map(|e| Some((e.address(backend.ipv4)?, e.port))).collect()
    }

    fn name(&self, port: &ServicePort) -> String {
        format!("{} {}/{}", self.service.key, port.protocol, port.port)
    }

    /// From the index to the endpoint, and the translation.
    fn choose(&self, backend: &BackendKey, port: &ServicePort, out: &mut Out<'_>) {
        let Some(id) = self.services.id(backend) else { return };
        let endpoints = self.endpoints(port, backend);
        let targets = self.targets(backend, port);
        // Unique inside the backend, so that an id depends on the backend's endpoints alone.
        let ids = ids(targets.iter().copied());
        let family = if backend.ipv4 { Family::V4 } else { Family::V6 };
        let of_service = |match_| SERVICE.on(match_, u64::from(id));
        for (index, (endpoint, target)) in endpoints.iter().zip(&targets).enumerate() {
            let Some(endpoint_id) = ids.get(target).copied() else { continue };
            let who = self.describe(endpoint, *target);
            let chosen = INDEX.on(of_service(Match::new()), index as u64);
            let draft = flow(Table::EndpointSelect, 100, chosen)
                .act(ENDPOINT.load(u64::from(endpoint_id)))
                .goto(Table::EndpointDnat);
            out.add(draft, self.owner(), format!("{}: endpoint {who}", self.name(port)));
        }
        for (endpoint, target) in endpoints.iter().zip(&targets) {
            let Some(endpoint_id) = ids.get(target).copied() else { continue };
            let match_ = ENDPOINT.on(of_service(transport(family, port.protocol)), u64::from(endpoint_id));
            let mut draft = flow(Table::EndpointDnat, 100, match_);
            if let Some(seconds) = self.service.affinity_seconds {
                draft = draft.act(affinity::learn(family, endpoint_id, seconds));
            }
            let who = self.describe(endpoint, *target);
            let what = format!("{}: to endpoint {who}", self.name(port));
            out.add(draft.act(translate(*target)), self.owner(), what);
        }
    }

    fn describe(&self, endpoint: &ServiceEndpoint, (address, port): (IpAddr, u16)) -> String {
        let at = std::net::SocketAddr::new(address, port);
        let node = |name: &NodeName| format!(" on {name}");
        let on = endpoint.node.as_ref().map(node).unwrap_or_default();
        match &endpoint.pod {
            Some(pod) => format!("{pod} at {at}{on}"),
            None => format!("{at}{on}"),
        }
    }
}

/// The Services that this node balances.
pub(crate) fn balanced<'a>(context: &'a Context<'_>) -> impl Iterator<Item = &'a Service> + Clone + 'a {
    context.input.view.services.values().filter(|_| context.config.services).map(|service| &**service)
}

/// An endpoint that this node gives to clients, and how to find the flow that counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The Service.
    pub service: NamespacedName,
    /// Protocol and number of its port.
    pub port: (Protocol, u16),
    /// Address and number of the endpoint.
    pub endpoint: (IpAddr, u16),
    /// It is chosen among one node's endpoints only.
    pub local: bool,
    /// What the flow in `EndpointDnat` matches: the values of [`SERVICE`] and [`ENDPOINT`].
    pub marks: (u32, u32),
}

/// Every endpoint of every Service that this node gives to clients.
pub(crate) fn translations(context: &Context<'_>) -> Vec<Translation> {
    let Some(own) = context.own else { return Vec::new() };
    let services = Services::of(context);
    let mut all = Vec::new();
    for service in balanced(context) {
        let writer = Writer { context, services: &services, service, own };
        let mut backends: BTreeMap<BackendKey, &ServicePort> = BTreeMap::new();
        for (frontend, port) in services.frontends.of_service(service) {
            for (.., way) in writer.ways(frontend, port) {
                if let Way::Among(at) = way {
                    backends.insert(writer.backend(port, frontend.is_ipv4(), at), port);
                }
            }
        }
        for (backend, port) in &backends {
            let Some(id) = services.id(backend) else { continue };
            all.extend(ids(writer.targets(backend, port)).into_iter().map(|(endpoint, mark)| Translation {
                service: service.key.clone(),
                port: (port.protocol, port.port),
                endpoint,
                local: backend.at.is_some(),
                marks: (id, mark),
            }));
        }
    }
    all
}

/// The translation. It stands before any policy was asked, so the entry says that: replies on it do not pass until `Commit`
/// takes the mark away.
fn translate((address, port): (IpAddr, u16)) -> Action {
    Action::Ct(Box::new(Ct {
        commit: true,
        zone: CtZone::Immediate(ZONE),
        table: Some(TableId(Table::EgressAdmin.id())),
        nat: Some(Nat::dst(address).port(port)),
        exec: vec![CT_VERSION.exec(CT_LAYOUT), CT_UNJUDGED.exec(1), CT_SERVICE.exec(1)],
        ..Ct::default()
    }))
}
