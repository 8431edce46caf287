//! Compiles what a change touches, and nothing else. It keeps of the last compilation what the flows were made from, in a
//! small form, and never the flows; what differs in it tells which flows may differ. The compilation as a whole
//! ([`crate::stream`]) is the oracle: after any sequence of changes both say the same, which is tested.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use network::{NamespacedName, Node, NodeName, PolicyId, Service, SetId};

use crate::input::{LocalPort, NodeConfig, PortRef};
use crate::pipeline::service::{self, Services};
use crate::pipeline::{self, Context};
use crate::policy::{self, Kept, Members, Narrow, Now, STAGES, Stage, StageChanges, Stages, Subjects, Why};
use crate::program::{Flow, FlowKey};
use crate::provenance::Reason;
use crate::stream::{Input, Keys, Out, Sink};

/// Takes what a change comes to.
pub trait Changes {
    /// Everything comes again: what does not come is no longer. Called first, if at all.
    fn everything(&mut self);

    /// This flow must stand.
    fn flow(&mut self, key: FlowKey, flow: Flow);

    /// This flow is no longer.
    fn gone(&mut self, key: FlowKey);
}

/// What may differ from the state of the last update; what is not named here is not looked at.
#[derive(Clone, Debug)]
pub struct Touched {
    /// Policies.
    pub policies: bool,
    /// Members of these sets; `None`: of any.
    pub sets: Option<BTreeSet<SetId>>,
    /// Ports whose number is another than last time: their flows come again.
    pub renumbered: BTreeSet<PortRef>,
}

impl Default for Touched {
    fn default() -> Self {
        Self::everything()
    }
}

impl Touched {
    /// Nothing is known to be as it was.
    pub fn everything() -> Self {
        Self { policies: true, sets: None, renumbered: BTreeSet::new() }
    }

    /// Everything is as it was.
    pub fn nothing() -> Self {
        Self { policies: false, sets: Some(BTreeSet::new()), renumbered: BTreeSet::new() }
    }
}

/// Above this many touched matches it is cheaper to compile everything.
const TOUCHED: usize = 50_000;

/// Remembers what flows were last made from.
#[derive(Debug, Default)]
pub struct Compiler {
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    config: NodeConfig,
    own: Option<Node>,
    nodes: BTreeMap<NodeName, Node>,
    /// With whether they might carry traffic.
    ports: BTreeMap<String, (LocalPort, bool)>,
    /// Nothing that makes flows of nodes and ports stood twice.
    distinct: bool,
    closed: BTreeSet<PolicyId>,
    services: BTreeMap<NamespacedName, Arc<Service>>,
    /// What they are to each other.
    beside: Arc<Services>,
    members: Kept,
    stages: Vec<Stage>,
    refused: BTreeMap<PolicyId, String>,
    /// By so many members sets may grow in all before a rule comes near a limit.
    room: usize,
}

/// A Service as it was and as it is.
type Became<'s> = (Option<&'s Arc<Service>>, Option<&'s Arc<Service>>);

impl Compiler {
    /// Forgets: what comes next is everything.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// Moves to a new state. Gives the policies that are refused, and why.
    pub fn update(
        &mut self,
        input: Input<'_>,
        touched: &Touched,
        out: &mut dyn Changes,
    ) -> &BTreeMap<PolicyId, String> {
        let context = Context::new(input);
        let subjects = Subjects::of(&context);
        let now = Now { view: input.view, subjects: &subjects };
        let is_same =
            |last: &Last| last.own.as_ref() == context.own && last.has_same_rules(&now, input, touched);
        let same_rules = self.last.as_ref().is_some_and(is_same);
        // Of rules that are as they were the stages are too, on the same node.
        let fresh = (!same_rules).then(|| policy::stages(&context, &now));
        let distinct = is_distinct(&context);
        let beside = match &self.last {
            Some(last) if last.stands_beside(&context) => Arc::clone(&last.beside),
            _ => Arc::new(Services::of(&context)),
        };
        let incremental = match &self.last {
            Some(last) if last.allows(&context, distinct, &touched.renumbered) => {
                let stages = fresh.as_ref().map(|fresh| &fresh.stages[..]);
                last.update(&context, &now, stages, &beside, touched, out)
            }
            _ => false,
        };
        if !incremental {
            out.everything();
            let made;
            let stages = match &fresh {
                Some(fresh) => fresh,
                None => {
                    made = policy::stages(&context, &now);
                    &made
                }
            };
            everything(&context, &now, &stages.stages, &beside, &mut WithoutWhy(out));
        }
        // What is remembered of nothing is everything.
        let sets = touched.sets.as_ref().filter(|_| self.last.is_some());
        let (nodes, keep) = kept_nodes(&context, self.last.take());
        let ports = kept_ports(&context);
        let own = context.own.cloned();
        drop(context);
        let (mut members, stages, refused, room) = match (keep, fresh) {
            (Some(last), None) => {
                let grown = touched.sets.as_ref().map_or(0, |sets| last.growth(&now, sets));
                (last.members, last.stages, last.refused, last.room - grown)
            }
            (last, fresh) => {
                let Stages { stages, refused, room } = fresh.unwrap_or_default();
                let members = last.map(|last| last.members).unwrap_or_default();
                (members, stages.into_iter().map(|(stage, _)| stage).collect(), refused, room)
            }
        };
        members.follow(input.view, subjects, sets);
        let last = Last {
            config: input.config.clone(),
            own,
            nodes,
            ports,
            distinct,
            closed: input.closed.clone(),
            services: if input.config.services { input.view.services.clone() } else { BTreeMap::new() },
            beside,
            members,
            stages,
            refused,
            room,
        };
        &self.last.insert(last).refused
    }
}

fn kept_nodes(context: &Context<'_>, last: Option<Last>) -> (BTreeMap<NodeName, Node>, Option<Last>) {
    let same = |last: &Last| {
        last.nodes.len() == context.nodes.len()
            && last.nodes.iter().zip(&context.nodes).all(|(old, new)| old.0 == *new.0 && old.1 == *new.1)
    };
    match last {
        Some(mut last) if same(&last) => (std::mem::take(&mut last.nodes), Some(last)),
        last => (context.nodes.iter().map(|(name, node)| ((*name).clone(), (*node).clone())).collect(), last),
    }
}

fn kept_ports(context: &Context<'_>) -> BTreeMap<String, (LocalPort, bool)> {
    let keep = |port: &LocalPort| (port.interface.clone(), (port.clone(), context.is_admitted(port)));
    context.ports.iter().map(keep).collect()
}

/// Compiles everything, and hands it on flow by flow. Gives the policies that are refused, and why.
pub fn stream(input: Input<'_>, sink: &mut dyn Sink) -> BTreeMap<PolicyId, String> {
    let context = Context::new(input);
    let subjects = Subjects::of(&context);
    let now = Now { view: input.view, subjects: &subjects };
    let Stages { stages, refused, .. } = policy::stages(&context, &now);
    everything(&context, &now, &stages, &Services::of(&context), sink);
    refused
}

fn everything(
    context: &Context<'_>,
    now: &Now<'_>,
    stages: &[(Stage, Why<'_>)],
    services: &Services,
    sink: &mut dyn Sink,
) {
    let out = &mut Out::new(context.config, sink);
    pipeline::own(context, out);
    for node in context.nodes.values() {
        pipeline::node(context, node, out);
    }
    for port in context.ports {
        pipeline::port(port, context.is_admitted(port), out);
    }
    for service in service::balanced(context) {
        service::service(context, services, service, out);
    }
    policy::not_pods(out);
    for (own, isolation) in &now.subjects.isolated {
        policy::isolated(context, *own, *isolation, out);
    }
    for (stage, why) in stages {
        stage.all(why, now, out);
    }
}

/// Whether every address and range belongs to one node or port: then no two of them make the same flow.
fn is_distinct(context: &Context<'_>) -> bool {
    let mut seen = HashSet::new();
    let host = |address: &std::net::IpAddr| network::Cidr::host(*address);
    let nodes = context.nodes.values();
    let mut ranges = nodes.clone().flat_map(|node| node.pod_cidrs.iter().copied());
    let addresses = nodes.flat_map(|node| node.addresses.iter().map(host));
    let mut hosts = addresses.chain(context.ports.iter().flat_map(|port| port.addresses.iter().map(host)));
    ranges.all(|range| seen.insert(range)) && hosts.all(|host| seen.insert(host))
}

impl Last {
    /// Whether the rules come to the same stages as last time. They name sets, not members; but a rule whose sets are empty
    /// is none, and one whose sets are too large is refused.
    fn has_same_rules(&self, now: &Now<'_>, input: Input<'_>, touched: &Touched) -> bool {
        let Some(sets) = touched.sets.as_ref().filter(|_| !touched.policies) else { return false };
        let counts = |set: &SetId| (self.members.count(*set), now.count(*set));
        self.refused.is_empty()
            && self.closed == *input.closed
            && self.members.subjects.addresses == now.subjects.addresses
            && sets.iter().map(counts).all(|(old, new)| (old == 0) == (new == 0))
            && self.growth(now, sets) <= self.room
    }

    fn growth(&self, now: &Now<'_>, sets: &BTreeSet<SetId>) -> usize {
        sets.iter().map(|set| now.count(*set).saturating_sub(self.members.count(*set))).sum()
    }

    /// Whether the difference can be told node by node and port by port.
    fn allows(&self, context: &Context<'_>, distinct: bool, renumbered: &BTreeSet<PortRef>) -> bool {
        let everybody = renumbered.iter().any(|port| !matches!(port, PortRef::Interface(_)));
        let interfaces: HashSet<&str> = context.ports.iter().map(|port| port.interface.as_str()).collect();
        !everybody
            && self.config == *context.config
            && self.own.as_ref() == context.own
            && self.distinct
            && distinct
            && interfaces.len() == context.ports.len()
    }

    /// False, and nothing handed on, when so much is touched that everything should come. Without `stages` they are as they
    /// were.
    fn update(
        &self,
        context: &Context<'_>,
        now: &Now<'_>,
        stages: Option<&[(Stage, Why<'_>)]>,
        beside: &Services,
        touched: &Touched,
        out: &mut dyn Changes,
    ) -> bool {
        let mut sets = BTreeSet::new();
        self.members.changed(now.view, touched.sets.as_ref(), |member| {
            sets.insert(Narrow::other(member));
        });
        let subjects = self.changed_subjects(now.subjects);
        let mut differences = Vec::with_capacity(STAGES.len());
        for (place, before) in self.stages.iter().enumerate() {
            let mut narrow = sets.clone();
            narrow.extend(&subjects);
            let stage = stages.map_or(before, |stages| &stages[place].0);
            let mut changes = StageChanges::default();
            if stages.is_some() {
                changes = stage.changes(before);
                before.touch(&changes.gone, &self.members, &mut narrow);
                stage.touch(&changes.come, now, &mut narrow);
            }
            differences.push((before, stage, changes, narrow));
        }
        if differences.iter().map(|(.., narrow)| narrow.len()).sum::<usize>() > TOUCHED {
            return false;
        }

        let mut before = Keys::default();
        let mut come = Come { out, keys: BTreeSet::new() };
        self.nodes(context, &mut before, &mut come);
        self.ports(context, &touched.renumbered, &mut before, &mut come);
        self.services(context, beside, &mut before, &mut come);
        self.isolated(context, now.subjects, &mut before, &mut come);
        for (old, stage, changes, narrow) in &differences {
            old.keys(&self.members, &changes.gone, narrow, &mut before.0);
            stage.some(now, &changes.come, narrow, &mut Out::new(context.config, &mut come));
        }
        let Come { out, keys } = come;
        before.0.into_iter().filter(|key| !keys.contains(key)).for_each(|key| out.gone(key));
        true
    }

    fn changed_subjects(&self, now: &Subjects) -> BTreeSet<Narrow> {
        let old = &self.members.subjects.addresses;
        let sets: BTreeSet<_> = old.keys().chain(now.addresses.keys()).collect();
        let mut changed = BTreeSet::new();
        for set in sets {
            let of = |subjects: &BTreeMap<_, BTreeSet<_>>| subjects.get(set).cloned().unwrap_or_default();
            if old.get(set) != now.addresses.get(set) {
                changed.extend(
                    of(old).symmetric_difference(&of(&now.addresses)).map(|own| Narrow::subject(*own)),
                );
            }
        }
        changed
    }

    fn nodes(&self, context: &Context<'_>, before: &mut Keys, come: &mut Come<'_>) {
        let names: BTreeSet<&NodeName> = self.nodes.keys().chain(context.nodes.keys().copied()).collect();
        for name in names {
            let (old, new) = (self.nodes.get(name), context.nodes.get(name).copied());
            if old == new {
                continue;
            }
            // What a node's flows depend on beside it (which is this one) is as it was.
            old.into_iter()
                .for_each(|node| pipeline::node(context, node, &mut Out::new(context.config, before)));
            new.into_iter()
                .for_each(|node| pipeline::node(context, node, &mut Out::new(context.config, come)));
        }
    }

    fn ports(
        &self,
        context: &Context<'_>,
        renumbered: &BTreeSet<PortRef>,
        before: &mut Keys,
        come: &mut Come<'_>,
    ) {
        let new: BTreeMap<&str, (&LocalPort, bool)> = context
            .ports
            .iter()
            .map(|port| (port.interface.as_str(), (port, context.is_admitted(port))))
            .collect();
        let names: BTreeSet<&str> =
            self.ports.keys().map(String::as_str).chain(new.keys().copied()).collect();
        for name in names {
            let old = self.ports.get(name).map(|(port, admitted)| (port, *admitted));
            let new = new.get(name).copied();
            if old == new && !renumbered.contains(&PortRef::Interface(name.to_owned())) {
                continue;
            }
            old.into_iter()
                .for_each(|(port, ok)| pipeline::port(port, ok, &mut Out::new(context.config, before)));
            new.into_iter()
                .for_each(|(port, ok)| pipeline::port(port, ok, &mut Out::new(context.config, come)));
        }
    }

    /// The Services that are others than before, or there in one state only.
    fn changed_services<'s>(&'s self, context: &'s Context<'_>) -> Vec<Became<'s>> {
        let now =
            |key: &NamespacedName| context.input.view.services.get(key).filter(|_| context.config.services);
        let differ = |old: &Arc<Service>, new: &Arc<Service>| !Arc::ptr_eq(old, new) && old != new;
        let changed = self.services.iter().map(|(key, old)| (Some(old), now(key)));
        let changed = changed.filter(|(old, now)| old.zip(*now).is_none_or(|(old, now)| differ(old, now)));
        let come = context.input.view.services.iter().filter(|_| context.config.services);
        let come =
            come.filter(|(key, _)| !self.services.contains_key(*key)).map(|(_, new)| (None, Some(new)));
        changed.chain(come).collect()
    }

    /// Whether the Services are to each other what they were: those that are others claim the same, and have the same
    /// backends.
    fn stands_beside(&self, context: &Context<'_>) -> bool {
        self.changed_services(context).into_iter().all(|(old, new)| match (old, new) {
            (Some(old), Some(new)) => Services::stand(old, new),
            _ => false,
        })
    }

    fn services(&self, context: &Context<'_>, is: &Services, before: &mut Keys, come: &mut Come<'_>) {
        let was = &*self.beside;
        let mut changed = self.changed_services(context);
        // Of those that are as they were, some may have got what another claims, or given it away.
        if !std::ptr::eq(was, is) {
            let unchanged = self.services.iter().filter_map(|(key, old)| {
                let now = context.input.view.services.get(key).filter(|_| context.config.services)?;
                (Arc::ptr_eq(old, now) || old == now).then_some((Some(old), Some(now)))
            });
            changed.extend(unchanged.filter(|(old, _)| old.is_some_and(|old| !was.same(is, old))));
        }
        for (old, now) in changed {
            // What a Service's flows depend on beside the others (this node) is as it was.
            old.into_iter()
                .for_each(|old| service::service(context, was, old, &mut Out::new(context.config, before)));
            now.into_iter()
                .for_each(|now| service::service(context, is, now, &mut Out::new(context.config, come)));
        }
    }

    fn isolated(&self, context: &Context<'_>, subjects: &Subjects, before: &mut Keys, come: &mut Come<'_>) {
        let (old, new) = (&self.members.subjects.isolated, &subjects.isolated);
        for own in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let (was, is) = (old.get(own), new.get(own));
            if was != is {
                was.into_iter()
                    .for_each(|i| policy::isolated(context, *own, *i, &mut Out::new(context.config, before)));
                is.into_iter()
                    .for_each(|i| policy::isolated(context, *own, *i, &mut Out::new(context.config, come)));
            }
        }
    }
}

/// Hands flows on and remembers their keys.
struct Come<'o> {
    out: &'o mut dyn Changes,
    keys: BTreeSet<FlowKey>,
}

impl Sink for Come<'_> {
    fn flow(&mut self, key: FlowKey, flow: Flow, _: &dyn Fn() -> Reason) {
        self.keys.insert(key.clone());
        self.out.flow(key, flow);
    }
}

struct WithoutWhy<'o>(&'o mut dyn Changes);

impl Sink for WithoutWhy<'_> {
    fn flow(&mut self, key: FlowKey, flow: Flow, _: &dyn Fn() -> Reason) {
        self.0.flow(key, flow);
    }
}
