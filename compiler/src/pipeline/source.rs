//! `Snat` and `UnSnat`: the source is rewritten where replies would otherwise miss this node, and back.

use std::net::IpAddr;

use openflow::{Action, Ct, CtZone, Nat, TableId};

use super::{Context, fragments};
use crate::packet::{End, Family, address};
use crate::provenance::Owner;
use crate::register::{DESTINATION, MASK_SOURCE, SNAT_ZONE, SOURCE, Side};
use crate::stack;
use crate::stream::{Out, flow};
use crate::table::Table;

pub(super) fn build(context: &Context<'_>, out: &mut Out<'_>) {
    let Some(own) = context.own else { return };
    for gateway in own.gateway_addresses() {
        let family = Family::of(gateway);
        let hairpin = stack::hairpin_address(gateway.is_ipv4());
        // The host answers to a name that it does not have itself; everybody else to the gateway's.
        for (side, mask) in [(Side::Pod, gateway), (Side::Tunnel, gateway), (Side::Gateway, hairpin)] {
            let masked = DESTINATION.on(MASK_SOURCE.on(family.any(), 1), side as u64);
            let draft = flow(Table::Snat, 200, masked).act(rewrite(mask));
            out.add(draft, Owner::Pipeline, format!("speaks as {mask}, so that replies come back here"));
            let reply = SOURCE.on(address(End::Destination, mask), side as u64);
            fragments::before_restoring(context, &reply, out);
            let draft = flow(Table::UnSnat, 200, reply).act(restore());
            out.add(draft, Owner::Pipeline, format!("perhaps a reply to what spoke as {mask}"));
        }
    }
}

fn rewrite(mask: IpAddr) -> Action {
    track(Ct {
        commit: true,
        table: Some(TableId(Table::Output.id())),
        nat: Some(Nat::src(mask)),
        ..Ct::default()
    })
}

fn restore() -> Action {
    track(Ct { table: Some(TableId(Table::Conntrack.id())), nat: Some(Nat::default()), ..Ct::default() })
}

fn track(ct: Ct) -> Action {
    Action::Ct(Box::new(Ct { zone: CtZone::Immediate(SNAT_ZONE), ..ct }))
}
