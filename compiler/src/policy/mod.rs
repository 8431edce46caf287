//! Policy as conjunctive matches: from, to and port are clauses of their own, shared between rules, so that a rule costs
//! addresses + ports and never their product (ovs-fields(7), "Conjunctive Match Fields").

mod closed;
pub(crate) mod conjunction;
mod cost;
mod order;
mod parts;
mod prefixes;
mod rules;
mod stage;
mod subjects;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::{Direction, Isolation, PolicyId, Tier, ViewPolicy};

pub use cost::Cost;
pub(crate) use parts::{Members, Narrow};
pub(crate) use stage::{Stage, StageChanges, Why};
pub(crate) use subjects::{Isolated, Kept, Now, Subjects};

use crate::packet::{End, Family, address, ct_state, with_address, with_state};
use crate::pipeline::{Context, fragments, host_ports};
use crate::provenance::{Owner, Reason};
use crate::register::{OWN_NODE, SOURCE, Side};
use crate::stream::{Out, flow};
use crate::table::Table;

/// Policies that are left out in whole or in part, and why.
pub(crate) type Refused = BTreeMap<PolicyId, String>;

/// Priorities inside the NetworkPolicy tables.
mod priority {
    /// Not a pod's egress at all.
    pub(super) const NOT_A_POD: u16 = 60_000;
    /// A pod and its own node.
    pub(super) const OWN_NODE: u16 = 50_000;
    /// What an isolated pod's policies do not allow.
    pub(super) const ISOLATION: u16 = 100;
}

/// The tables of a direction, tier by tier, and where a packet goes that every tier let pass.
pub(crate) fn tables(direction: Direction) -> ([(Tier, Table); 3], Table) {
    match direction {
        Direction::Egress => (
            [
                (Tier::Admin, Table::EgressAdmin),
                (Tier::NetworkPolicy, Table::Egress),
                (Tier::Baseline, Table::EgressBaseline),
            ],
            Table::Routing,
        ),
        Direction::Ingress => (
            [
                (Tier::Admin, Table::IngressAdmin),
                (Tier::NetworkPolicy, Table::Ingress),
                (Tier::Baseline, Table::IngressBaseline),
            ],
            Table::Commit,
        ),
    }
}

/// Which end of a packet the subject is.
pub(crate) fn subject_end(direction: Direction) -> End {
    match direction {
        Direction::Ingress => End::Destination,
        Direction::Egress => End::Source,
    }
}

/// The tiers in the order in which a packet meets them.
pub(crate) const STAGES: [(Direction, Tier); 6] = [
    (Direction::Egress, Tier::Admin),
    (Direction::Egress, Tier::NetworkPolicy),
    (Direction::Egress, Tier::Baseline),
    (Direction::Ingress, Tier::Admin),
    (Direction::Ingress, Tier::NetworkPolicy),
    (Direction::Ingress, Tier::Baseline),
];

/// What the rules of a view come to.
#[derive(Default)]
pub(crate) struct Stages<'a> {
    /// In the order of [`STAGES`].
    pub(crate) stages: Vec<(Stage, Why<'a>)>,
    /// The policies that were refused.
    pub(crate) refused: Refused,
    /// By so many members sets may grow in all before a rule comes near a limit.
    pub(crate) room: usize,
}

/// The stages of a view. What does not fit the node's budget of flows is closed, and said to be refused.
pub(crate) fn stages<'a>(context: &Context<'a>, members: &dyn Members) -> Stages<'a> {
    let budget = context.config.flow_budget;
    let (all, flows, most) = stages_without(context, members, &Refused::new());
    let over = if flows <= budget { Refused::new() } else { over_budget(context, members) };
    if over.is_empty() {
        let room = all.room.min(budget.saturating_sub(flows) / most.max(1));
        return Stages { room, ..all };
    }
    let (mut all, ..) = stages_without(context, members, &over);
    all.refused.extend(over);
    all
}

/// With how many flows there are at most, and on how many priorities the matches of one part stand at most.
fn stages_without<'a>(
    context: &Context<'a>,
    members: &dyn Members,
    over: &Refused,
) -> (Stages<'a>, usize, usize) {
    let mut all = Stages { room: rules::MATCHES_PER_RULE, ..Stages::default() };
    let (mut flows, mut most) = (0usize, 0);
    let speakers: Vec<IpAddr> = context.own.into_iter().flat_map(host_ports::speakers).collect();
    let is_closed = |id: &PolicyId| context.input.closed.contains(id) || over.contains_key(id);
    for (direction, tier) in STAGES {
        let policies = context.input.view.policies.values().filter(|policy| policy.tier == tier);
        let policies: Vec<(&ViewPolicy, bool)> =
            policies.map(|policy| (policy, is_closed(&policy.id))).collect();
        let (stage, why, largest) =
            Stage::new(&policies, direction, tier, members, &speakers, &mut all.refused);
        let counted = stage.flows(members);
        (flows, most) = (flows.saturating_add(counted.0), most.max(counted.1));
        all.stages.push((stage, why));
        all.room = all.room.min(rules::MATCHES_PER_RULE.saturating_sub(largest));
    }
    (all, flows, most)
}

fn over_budget(context: &Context<'_>, members: &dyn Members) -> Refused {
    let budget = context.config.flow_budget;
    let costs = costs(context, members);
    let used: usize = costs.values().filter(|cost| cost.fits).map(|cost| cost.adds).sum();
    let refusal = |(id, cost): (&&PolicyId, &Cost)| {
        let reason = format!(
            "needs {} flows more, and the policies of this node that are cheaper need {used} of the {budget} that it may have: \
             name fewer peers and ports, or give the agent a larger --flow-budget",
            cost.adds
        );
        ((*id).clone(), reason)
    };
    costs.iter().filter(|(_, cost)| !cost.fits).map(refusal).collect()
}

/// What the policies cost that are not closed.
pub(crate) fn costs<'a>(context: &Context<'a>, members: &dyn Members) -> BTreeMap<&'a PolicyId, Cost> {
    let policies = context.input.view.policies.values();
    let open = policies.filter(|policy| !context.input.closed.contains(&policy.id));
    cost::costs(open, members, context.config.flow_budget)
}

/// What each rule of a policy costs for itself.
pub(crate) fn costs_by_rule(policy: &ViewPolicy, members: &dyn Members) -> BTreeMap<(Direction, u32), usize> {
    cost::by_rule(policy, members)
}

/// Egress is asked where the source runs, and only pods have egress policies.
pub(crate) fn not_pods(out: &mut Out<'_>) {
    for side in [Side::Gateway, Side::Tunnel] {
        let draft =
            flow(Table::EgressAdmin, priority::NOT_A_POD, SOURCE.on(openflow::Match::new(), side as u64));
        let what = "not from a pod of this node: egress was judged where it started, if anywhere";
        out.add(draft.goto(Table::Routing), Owner::Pipeline, what);
    }
}

/// What stands for one address because policies isolate it, or name ports that it is asked at or asks for.
pub(crate) fn isolated(context: &Context<'_>, own: IpAddr, isolated: Isolated, out: &mut Out<'_>) {
    let Isolated { isolation, audited, ports } = isolated;
    fragments::judged_by_ports(context, own, ports, out);
    for direction in [Direction::Egress, Direction::Ingress] {
        if isolation.of(direction) {
            own_node(context, own, direction, out);
            default_deny(context, own, direction, audited.of(direction), out);
        }
    }
    if isolation != Isolation::default() {
        mid_stream(context, own, isolation, out);
    }
}

/// NetworkPolicy never comes between a pod and its own node (kubelet's probes). Only traffic that really is the node's:
/// the mark was set at the gateway port, before any translation.
fn own_node(context: &Context<'_>, own: IpAddr, direction: Direction, out: &mut Out<'_>) {
    let table = tables(direction).0[1].1;
    let next = tables(direction).1;
    let pod = address(subject_end(direction), own);
    let owner = Owner::Node(context.config.node.clone());
    let draft = |match_| flow(table, priority::OWN_NODE, match_).goto(next);
    match direction {
        Direction::Ingress => {
            let what = format!("allow: {own} from its own node, as NetworkPolicy always does");
            out.add(draft(OWN_NODE.on(pod, 1)), owner, what);
        }
        Direction::Egress => {
            for node in context.own_addresses().filter(|node| node.is_ipv4() == own.is_ipv4()) {
                let match_ = with_address(pod.clone(), End::Destination, node);
                let what = format!("allow: {own} to its own node at {node}, as NetworkPolicy always does");
                out.add(draft(match_), owner.clone(), what);
            }
        }
    }
}

fn default_deny(
    context: &Context<'_>,
    own: IpAddr,
    direction: Direction,
    is_audited: bool,
    out: &mut Out<'_>,
) {
    let table = tables(direction).0[1].1;
    let draft = flow(table, priority::ISOLATION, address(subject_end(direction), own)).goto(Table::Block);
    let draft = draft.audited(direction, is_audited);
    out.add_for(draft, &|| Reason {
        owners: isolators(context, own, direction).collect(),
        what: format!(
            "drop: no rule allows this {} {own}",
            if direction == Direction::Ingress { "to" } else { "from" }
        ),
    });
}

/// A TCP connection that starts without SYN is an old one whose entry is gone, or was never there. For a pod that some
/// policy isolates its direction is unknown, so policy cannot judge it.
fn mid_stream(context: &Context<'_>, own: IpAddr, isolation: Isolation, out: &mut Out<'_>) {
    for end in [End::Source, End::Destination] {
        let new = with_state(Family::of(own).any().with(openflow::Field::IP_PROTO, 6u8), ct_state::NEW, 0);
        let match_ = with_address(new, end, own).with_masked(openflow::Field::TCP_FLAGS, 0u16, 0x002u16);
        let side = if end == End::Source { "from" } else { "to" };
        out.add_for(flow(Table::ConntrackState, 170, match_), &|| Reason {
            owners: [Direction::Egress, Direction::Ingress]
                .into_iter()
                .filter(|direction| isolation.of(*direction))
                .flat_map(|direction| isolators(context, own, direction).collect::<BTreeSet<_>>())
                .collect(),
            what: format!("drop: TCP in mid-stream without a known connection, {side} the isolated {own}"),
        });
    }
}

/// The policies that isolate an address.
fn isolators<'a>(
    context: &'a Context<'_>,
    own: IpAddr,
    direction: Direction,
) -> impl Iterator<Item = Owner> + 'a {
    let sets: BTreeSet<_> = context
        .admitted()
        .filter(|port| port.addresses.contains(&own))
        .filter_map(|port| context.input.view.pods.get(&port.pod.as_ref()?.0))
        .flat_map(|pod| pod.member_of.iter().copied())
        .collect();
    let policies = context.input.view.policies.values();
    policies
        .filter(move |policy| policy.isolates.of(direction) && sets.contains(&policy.subject))
        .map(move |policy| Owner::Isolation { policy: policy.id.clone(), direction })
}
