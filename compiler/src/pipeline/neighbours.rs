//! `ArpResponder`, `NdResponder` and `NdAdvertise`: the router answers for every address, so that a pod that asks (a plain
//! one has permanent entries and asks nothing) is answered without a packet leaving the switch. On the kernel's datapath it is
//! silent for IPv6: advertisements cannot be made there (ADR-0046).

use network::Mac;
use openflow::{Action, Field, Match, PortNo, Subfield};

use super::Context;
use crate::input::Datapath;
use crate::packet::{ETH_ARP, ETH_IPV6};
use crate::provenance::Owner;
use crate::register::SCRATCH;
use crate::stream::{Out, flow};
use crate::table::Table;

pub(super) fn build(context: &Context<'_>, out: &mut Out<'_>) {
    arp(out);
    match context.config.datapath {
        Datapath::Netdev => nd(out),
        // Open vSwitch refuses flows that set flags and options of neighbour discovery where the kernel forwards.
        Datapath::System => {}
    }
    for table in [Table::NdResponder, Table::NdAdvertise] {
        out.add(flow(table, 0, Match::new()), Owner::Pipeline, "drop: not answered here");
    }
}

fn copy(src: Field, dst: Field) -> Action {
    Action::RegMove { src: Subfield::all(src), dst: Subfield::all(dst) }
}

fn arp(out: &mut Out<'_>) {
    let request = Match::new().with(Field::ETH_TYPE, ETH_ARP).with(Field::ARP_OP, 1u16);
    let draft = flow(Table::ArpResponder, 200, request).act_all([
        copy(Field::ETH_SRC, Field::ETH_DST),
        Action::set_field(Field::ETH_SRC, Mac::ROUTER.0),
        Action::set_field(Field::ARP_OP, 2u16),
        copy(Field::ARP_SHA, Field::ARP_THA),
        Action::set_field(Field::ARP_SHA, Mac::ROUTER.0),
        Action::RegMove { src: Subfield::all(Field::ARP_TPA), dst: SCRATCH.bits },
        copy(Field::ARP_SPA, Field::ARP_TPA),
        Action::RegMove { src: SCRATCH.bits, dst: Subfield::all(Field::ARP_SPA) },
        Action::output(PortNo::IN_PORT),
    ]);
    out.add(draft, Owner::Pipeline, "answer ARP with the router's address");
    out.add(flow(Table::ArpResponder, 0, Match::new()), Owner::Pipeline, "drop: an ARP that asks nothing");
}

fn nd(out: &mut Out<'_>) {
    let icmpv6 = |kind: u8| {
        let match_ = Match::new().with(Field::ETH_TYPE, ETH_IPV6).with(Field::IP_PROTO, 58u8);
        match_.with(Field::ICMPV6_TYPE, kind).with(Field::ICMPV6_CODE, 0u8)
    };
    // Setting the target's link-layer address in the list that changes the type is refused; a second table may.
    let first = flow(Table::NdResponder, 200, icmpv6(135))
        .act_all([
            copy(Field::ETH_SRC, Field::ETH_DST),
            Action::set_field(Field::ETH_SRC, Mac::ROUTER.0),
            copy(Field::IPV6_SRC, Field::IPV6_DST),
            copy(Field::ND_TARGET, Field::IPV6_SRC),
            Action::set_field(Field::ICMPV6_TYPE, 136u8),
        ])
        .goto(Table::NdAdvertise);
    out.add(first, Owner::Pipeline, "answer a neighbour solicitation: source and type");
    // Solicited and Override (RFC 4861 §4.4), and the option's type from source (1) to target (2).
    let second = flow(Table::NdAdvertise, 200, icmpv6(136)).act_all([
        Action::set_field(Field::ND_RESERVED, 0x6000_0000u32),
        Action::set_field(Field::ND_OPTIONS_TYPE, 2u8),
        Action::set_field(Field::ND_TLL, Mac::ROUTER.0),
        Action::output(PortNo::IN_PORT),
    ]);
    out.add(second, Owner::Pipeline, "answer a neighbour solicitation: the router's address");
}
