//! `Commit`, `Output` and `Block`: what was allowed is remembered and sent, what is no longer allowed is marked and dropped.

use openflow::{Action, Ct, CtZone, Match};

use crate::builder::{Builder, flow};
use crate::packet::{Family, ct_state, with_state};
use crate::provenance::Owner;
use crate::register::{CT_BLOCKED, CT_LAYOUT, CT_VERSION, OUT_PORT, SOURCE, Side, ZONE};
use crate::table::Table;

pub(super) fn build(out: &mut Builder) {
    for family in Family::BOTH {
        let new = with_state(family.any(), ct_state::NEW, 0);
        let draft =
            flow(Table::Commit, 200, new).act(commit([CT_VERSION.exec(CT_LAYOUT)])).goto(Table::Output);
        out.add(draft, Owner::Pipeline, "remember the connection");
        let unblock = CT_BLOCKED.on(with_state(family.any(), ct_state::EST, ct_state::RPL), 1);
        let draft = flow(Table::Commit, 190, unblock).act(commit([CT_BLOCKED.exec(0)])).goto(Table::Output);
        out.add(draft, Owner::Pipeline, "policy allows it again: unblock the connection");

        let established = with_state(family.any(), ct_state::EST, ct_state::RPL);
        let block = commit([CT_VERSION.exec(CT_LAYOUT), CT_BLOCKED.exec(1)]);
        let draft = flow(Table::Block, 200, established).act(block);
        out.add(draft, Owner::Pipeline, "drop, and block the connection: a policy that came later denies it");

        let draft = flow(Table::Output, 190, family.any())
            .act(Action::DecNwTtl)
            .act(Action::OutputReg { src: OUT_PORT.bits, max_len: 0 });
        out.add(draft, Owner::Pipeline, "out of the chosen port, one hop further");
    }
    out.add(flow(Table::Commit, 0, Match::new()).goto(Table::Output), Owner::Pipeline, "remembered already");
    out.add(flow(Table::Block, 0, Match::new()), Owner::Pipeline, "drop: a policy denies it");
    let tunnelled = SOURCE.on(Match::new(), Side::Tunnel as u64);
    let draft = flow(Table::Output, 200, tunnelled).act(Action::OutputReg { src: OUT_PORT.bits, max_len: 0 });
    out.add(
        draft,
        Owner::Pipeline,
        "out of the chosen port; the hop was counted where it entered the tunnel",
    );
    out.add(flow(Table::Output, 0, Match::new()), Owner::Pipeline, "drop: not IP");
}

fn commit<const N: usize>(exec: [openflow::CtExec; N]) -> Action {
    let ct = Ct { commit: true, zone: CtZone::Immediate(ZONE), exec: exec.into(), ..Ct::default() };
    Action::Ct(Box::new(ct))
}
