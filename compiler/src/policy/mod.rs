//! Policy as conjunctive matches: from, to and port are clauses of their own, shared between rules, so that a rule costs
//! addresses + ports and never their product (ovs-fields(7), "Conjunctive Match Fields").

mod clause;
mod conjunction;
mod prefixes;
mod stage;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::{Direction, PolicyId, SetId, Tier, ViewPolicy};

use crate::builder::{Builder, flow};
use crate::input::LocalPort;
use crate::packet::{End, Family, address, ct_state, with_address, with_state};
use crate::pipeline::Context;
use crate::provenance::{Owner, Reason};
use crate::register::{OWN_NODE, SOURCE, Side};
use crate::table::Table;

/// Priorities inside the NetworkPolicy tables.
mod priority {
    /// Not a pod's egress at all.
    pub(super) const NOT_A_POD: u16 = 60_000;
    /// A pod and its own node.
    pub(super) const OWN_NODE: u16 = 50_000;
    /// What an isolated pod's policies do not allow.
    pub(super) const ISOLATION: u16 = 100;
}

/// The pods of this node as policies see them.
pub(crate) struct Subjects<'a> {
    /// Addresses of the local members of every subject set.
    addresses: BTreeMap<SetId, BTreeSet<IpAddr>>,
    /// Which policies isolate an address.
    isolated: BTreeMap<(Direction, IpAddr), BTreeSet<&'a PolicyId>>,
}

impl<'a> Subjects<'a> {
    fn of(context: &Context<'a>) -> Self {
        let mut addresses: BTreeMap<SetId, BTreeSet<IpAddr>> = BTreeMap::new();
        for (port, pod) in context.admitted().filter_map(|port| Some((port, local_pod(context, port)?))) {
            for set in &pod.member_of {
                addresses.entry(*set).or_default().extend(port.addresses.iter().copied());
            }
        }
        let mut isolated: BTreeMap<_, BTreeSet<&PolicyId>> = BTreeMap::new();
        for policy in context.view.policies.values() {
            for direction in [Direction::Ingress, Direction::Egress] {
                if policy.isolates.of(direction) {
                    for own in addresses.get(&policy.subject).into_iter().flatten() {
                        isolated.entry((direction, *own)).or_default().insert(&policy.id);
                    }
                }
            }
        }
        Self { addresses, isolated }
    }
}

fn local_pod<'a>(context: &Context<'a>, port: &LocalPort) -> Option<&'a network::LocalPod> {
    context.view.pods.get(&port.pod.as_ref()?.0)
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

/// Adds all policy flows; gives the policies that were refused, and why.
pub(crate) fn build(context: &Context<'_>, out: &mut Builder) -> BTreeMap<PolicyId, String> {
    let subjects = Subjects::of(context);
    let mut refused = BTreeMap::new();
    not_pods(out);
    for direction in [Direction::Egress, Direction::Ingress] {
        own_node(context, &subjects, direction, out);
        isolation(&subjects, direction, out);
        let (tiers, _) = tables(direction);
        for (tier, _) in tiers {
            let policies: Vec<&ViewPolicy> =
                context.view.policies.values().filter(|policy| policy.tier == tier).collect();
            stage::build(context, &subjects, direction, tier, &policies, out, &mut refused);
        }
    }
    mid_stream(&subjects, out);
    refused
}

/// Egress is asked where the source runs, and only pods have egress policies.
fn not_pods(out: &mut Builder) {
    for side in [Side::Gateway, Side::Tunnel] {
        let draft =
            flow(Table::EgressAdmin, priority::NOT_A_POD, SOURCE.on(openflow::Match::new(), side as u64));
        let what = "not from a pod of this node: egress was judged where it started, if anywhere";
        out.add(draft.goto(Table::Routing), Owner::Pipeline, what);
    }
}

/// NetworkPolicy never comes between a pod and its own node (kubelet's probes). Only traffic that really is the node's:
/// the mark was set at the gateway port, before any translation.
fn own_node(context: &Context<'_>, subjects: &Subjects<'_>, direction: Direction, out: &mut Builder) {
    for (judged, own) in subjects.isolated.keys().filter(|(judged, _)| *judged == direction) {
        let table = tables(direction).0[1].1;
        let next = tables(direction).1;
        let pod = address(subject_end(*judged), *own);
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
                    let what =
                        format!("allow: {own} to its own node at {node}, as NetworkPolicy always does");
                    out.add(draft(match_), owner.clone(), what);
                }
            }
        }
    }
}

fn isolation(subjects: &Subjects<'_>, direction: Direction, out: &mut Builder) {
    for ((judged, own), policies) in &subjects.isolated {
        if *judged != direction {
            continue;
        }
        let table = tables(direction).0[1].1;
        let draft =
            flow(table, priority::ISOLATION, address(subject_end(direction), *own)).goto(Table::Block);
        let owners =
            policies.iter().map(|policy| Owner::Isolation { policy: (*policy).clone(), direction }).collect();
        let what = format!(
            "drop: no rule allows this {} {own}",
            if direction == Direction::Ingress { "to" } else { "from" }
        );
        out.add_for(draft, Reason { owners, what });
    }
}

/// A TCP connection that starts without SYN is an old one whose entry is gone, or was never there. For a pod that some
/// policy isolates its direction is unknown, so policy cannot judge it.
fn mid_stream(subjects: &Subjects<'_>, out: &mut Builder) {
    for ((direction, own), policies) in &subjects.isolated {
        for end in [End::Source, End::Destination] {
            let new =
                with_state(Family::of(*own).any().with(openflow::Field::IP_PROTO, 6u8), ct_state::NEW, 0);
            let match_ = with_address(new, end, *own).with_masked(openflow::Field::TCP_FLAGS, 0u16, 0x002u16);
            let owners = policies
                .iter()
                .map(|policy| Owner::Isolation { policy: (*policy).clone(), direction: *direction })
                .collect();
            let side = if end == End::Source { "from" } else { "to" };
            let what =
                format!("drop: TCP in mid-stream without a known connection, {side} the isolated {own}");
            out.add_for(flow(Table::ConntrackState, 170, match_), Reason { owners, what });
        }
    }
}
