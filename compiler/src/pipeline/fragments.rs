//! Datagrams in pieces, on a datapath that shows them (ADR-0045). Only the first piece has ports. Where a later table would
//! ask for them, the pieces are handed to the agent before anything is translated. It joins them and sends the datagram in again
//! where it came from, so that every table sees a packet as any other; where that leaves, the agent takes it apart.

use std::net::IpAddr;

use network::{Direction, Isolation, Protocol};
use openflow::{Action, Ct, CtZone, Field, Match, TableId};

use super::Context;
use crate::copies::Copied;
use crate::packet::{ETH_IPV4, Family, ct_state, fragment, with_address, with_state};
use crate::policy::subject_end;
use crate::provenance::Owner;
use crate::register::{CT_SERVICE, CT_VERSION, JOINED, SOURCE, Side, ZONE};
use crate::stream::{Draft, Out, flow};
use crate::table::Table;

pub(super) fn build(context: &Context<'_>, out: &mut Out<'_>) {
    if !context.config.joins() {
        return;
    }
    for family in Family::BOTH {
        let track = Ct {
            zone: CtZone::Immediate(ZONE),
            table: Some(TableId(Table::ConntrackState.id())),
            ..Ct::default()
        };
        let draft = flow(Table::Conntrack, 210, piece(family.any())).act(Action::Ct(Box::new(track)));
        out.add(
            draft,
            Owner::Pipeline,
            "a piece of a datagram: look the connection up, and translate nothing yet",
        );
        let tracked = with_state(piece(family.any()), 0, ct_state::INV);
        let translated = hand_over(Table::ConntrackState, 187, CT_SERVICE.on(tracked, 1));
        out.add(
            translated,
            Owner::Pipeline,
            "a piece of a datagram to or from a Service: the agent joins it",
        );
        // What was committed has a mark.
        let new = with_state(fragment(family, Protocol::Udp), ct_state::NEW, ct_state::INV);
        let first = hand_over(Table::ConntrackState, 186, CT_VERSION.on(new, 0));
        out.add(first, Owner::Pipeline, "a piece of a connection's first datagram: the agent joins it");
        let draft = flow(Table::Output, 230, JOINED.on(family.any(), 1)).act(Action::DecNwTtl);
        out.add(
            draft.act(Copied::Joined.action()),
            Owner::Pipeline,
            "in pieces, as it came, one hop further",
        );
    }
    let tunnelled = SOURCE.on(JOINED.on(Match::new(), 1), Side::Tunnel as u64);
    let draft = flow(Table::Output, 240, tunnelled).act(Copied::Joined.action());
    out.add(draft, Owner::Pipeline, "in pieces, as it came; the hop was counted where it entered the tunnel");
}

/// What may be a reply to a rewritten source.
pub(super) fn before_restoring(context: &Context<'_>, reply: &Match, out: &mut Out<'_>) {
    if context.config.joins() {
        // Later pieces of IPv6 do not say what they are of (ovs-fields(7), nw_proto).
        let of_family = match reply.exact(Field::ETH_TYPE) == Some(ETH_IPV4.into()) {
            true => reply.clone().with(Field::IP_PROTO, Protocol::Udp.number()),
            false => reply.clone(),
        };
        let draft = hand_over(Table::UnSnat, 210, piece(of_family));
        out.add(draft, Owner::Pipeline, "a piece of what is perhaps such a reply: the agent joins it");
    }
}

/// What stands for one address because rules about it name UDP ports, in these directions.
pub(crate) fn judged_by_ports(context: &Context<'_>, own: IpAddr, ports: Isolation, out: &mut Out<'_>) {
    if !context.config.joins() {
        return;
    }
    for direction in [Direction::Egress, Direction::Ingress].into_iter().filter(|one| ports.of(*one)) {
        let match_ = with_address(fragment(Family::of(own), Protocol::Udp), subject_end(direction), own);
        let side = if direction == Direction::Egress { "from" } else { "to" };
        let what = format!("a piece of a datagram {side} {own}, whose rules name ports: the agent joins it");
        out.add(hand_over(Table::ConntrackState, 105, match_), Owner::Pipeline, what);
    }
}

fn hand_over(table: Table, priority: u16, match_: Match) -> Draft {
    flow(table, priority, match_).act(Copied::Piece.action())
}

/// Pieces of datagrams, the first ones too.
fn piece(match_: Match) -> Match {
    match_.with_masked(Field::IP_FRAG, 1u8, 1u8)
}
