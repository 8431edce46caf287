//! `Conntrack` and `ConntrackState`: every IP packet is tracked, and judged by what its connection already is.

use network::Protocol;
use openflow::{Action, Ct, CtZone, Field, Match, Nat, PortNo, TableId};

use crate::packet::{Family, ct_state, transport, with_state};
use crate::provenance::Owner;
use crate::register::{CT_BLOCKED, CT_UNJUDGED, JUDGED, OWN_NODE, QUESTION, SCTP_BLOCKED, ZONE};
use crate::stream::{Out, flow};
use crate::table::Table;

pub(super) fn build(out: &mut Out<'_>) {
    for family in Family::BOTH {
        let track = Ct {
            zone: CtZone::Immediate(ZONE),
            table: Some(TableId(Table::ConntrackState.id())),
            nat: Some(Nat::default()),
            ..Ct::default()
        };
        let draft = flow(Table::Conntrack, 200, family.any()).act(Action::Ct(Box::new(track)));
        out.add(draft, Owner::Pipeline, "look the connection up");
    }
    // Its connection is not looked up: made without knowing the sequence numbers, it would be invalid, or disturb them.
    let question = flow(Table::Conntrack, 300, QUESTION.on(Match::new(), 1)).goto(Table::EgressAdmin);
    out.add(question, Owner::Pipeline, "a question about a connection: policy alone is asked");
    out.add(flow(Table::Conntrack, 0, Match::new()), Owner::Pipeline, "drop: not IP");
    state(out);
}

fn state(out: &mut Out<'_>) {
    let judge = |priority, match_| flow(Table::ConntrackState, priority, match_);
    let state = |set, unset| with_state(Match::new(), set, unset);
    out.add(judge(200, state(ct_state::INV, 0)), Owner::Pipeline, "drop: not valid for any connection");
    for flag in [ct_state::RPL, ct_state::REL] {
        let blocked = CT_BLOCKED.on(state(flag, 0), 1);
        out.add(
            judge(190, blocked),
            Owner::Pipeline,
            "drop: reply on a connection that a later policy blocked",
        );
        let unjudged = CT_UNJUDGED.on(state(flag, 0), 1);
        out.add(judge(190, unjudged), Owner::Pipeline, "drop: reply on a connection that no policy allowed");
        let draft = judge(180, state(flag, 0)).act(JUDGED.load(1)).goto(Table::Routing);
        let what = if flag == ct_state::RPL {
            "a reply: its connection was allowed"
        } else {
            "about a connection that was allowed (ICMP error)"
        };
        out.add(draft, Owner::Pipeline, what);
    }
    sctp(out);
    refusals(out);
    let draft = judge(100, state(0, 0)).goto(Table::ServiceAddress);
    out.add(draft, Owner::Pipeline, "new, or in its original direction: policy is asked (again)");
    out.add(judge(0, Match::new()), Owner::Pipeline, "drop: not tracked");
}

/// The host refuses on behalf of Services without endpoints; its ICMP error is about a connection that was never committed.
fn refusals(out: &mut Out<'_>) {
    for (family, protocol, kind, code) in [
        (Family::V4, (Field::ICMPV4_TYPE, Field::ICMPV4_CODE), 3u8, 3u8),
        (Family::V6, (Field::ICMPV6_TYPE, Field::ICMPV6_CODE), 1, 4),
    ] {
        let icmp: u8 = if family == Family::V4 { 1 } else { 58 };
        let error = family.any().with(Field::IP_PROTO, icmp).with(protocol.0, kind).with(protocol.1, code);
        let match_ = OWN_NODE.on(with_state(error, ct_state::INV, 0), 1);
        let draft = flow(Table::ConntrackState, 205, match_).act(JUDGED.load(1)).goto(Table::Routing);
        out.add(draft, Owner::Pipeline, "the node says that nobody listens (port unreachable)");
    }
}

/// The userspace datapath tracks SCTP without its ports: any association between two hosts makes all others look
/// established. So SCTP never rides on its entry; a packet is a reply when the switch learned so from an allowed packet of
/// the other direction, ports included, and is asked about by policy otherwise.
fn sctp(out: &mut Out<'_>) {
    for family in Family::BOTH {
        let match_ = with_state(transport(family, Protocol::Sctp), 0, ct_state::INV);
        let replies = Some(TableId(Table::SctpReplies.id()));
        let draft = flow(Table::ConntrackState, 185, match_)
            .act(Action::Resubmit { port: PortNo::IN_PORT, table: replies, ct: false })
            .goto(Table::SctpState);
        out.add(draft, Owner::Pipeline, "SCTP: is it a reply on an association that was allowed?");
    }
    let blocked = flow(Table::SctpState, 210, SCTP_BLOCKED.on(Match::new(), 1));
    out.add(blocked, Owner::Pipeline, "drop: reply on an SCTP association that a later policy blocked");
    let reply = flow(Table::SctpState, 200, JUDGED.on(Match::new(), 1)).goto(Table::Routing);
    out.add(reply, Owner::Pipeline, "a reply on an SCTP association that was allowed");
    let asked = flow(Table::SctpState, 0, Match::new()).goto(Table::ServiceAddress);
    out.add(asked, Owner::Pipeline, "SCTP in the direction of its association: policy is asked (again)");
}
