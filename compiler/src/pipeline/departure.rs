//! `Commit`, `Output` and `Block`: what was allowed is remembered and sent, what is no longer allowed is marked and dropped.

use network::Protocol;
use openflow::{
    Action, Ct, CtZone, Field, FlowMod, FlowModCommand, Instruction, Learn, LearnSpec, Match, PortNo,
    Subfield, TableId,
};

use crate::packet::{ETH_IPV4, ETH_IPV6, Family, ct_state, port_field, transport, with_state};
use crate::provenance::Owner;
use crate::register::{
    ASKED, ASKED_PORT, CT_BLOCKED, CT_LAYOUT, CT_UNJUDGED, CT_VERSION, HAIRPIN, JUDGED, OUT_PORT, QUESTION,
    SCTP_BLOCKED, SOURCE, Side, Slot, TRANSLATED, ZONE,
};
use crate::stream::{Draft, Out, flow};
use crate::table::Table;

pub(super) fn build(out: &mut Out<'_>) {
    questions(out);
    for family in Family::BOTH {
        let new = with_state(family.any(), ct_state::NEW, 0);
        let draft = flow(Table::Commit, 200, new).act(commit(remembered())).goto(Table::Snat);
        out.add(draft, Owner::Pipeline, "remember the connection");
        // Before the flow for new ones: its first packet was committed when it was translated.
        let unjudged = CT_UNJUDGED.on(with_state(family.any(), 0, ct_state::RPL), 1);
        let allowed = commit([CT_UNJUDGED.exec(0), CT_BLOCKED.exec(0)]);
        let draft = flow(Table::Commit, 203, unjudged).act(allowed).goto(Table::Snat);
        out.add(draft, Owner::Pipeline, "policy allows this connection to a Service");
        let unblock = CT_BLOCKED.on(with_state(family.any(), ct_state::EST, ct_state::RPL), 1);
        let draft = flow(Table::Commit, 190, unblock).act(commit([CT_BLOCKED.exec(0)])).goto(Table::Snat);
        out.add(draft, Owner::Pipeline, "policy allows it again: unblock the connection");

        // Fragments carry no ports, so a rule about ports cannot allow them: what is dropped for that must not cut the
        // connection they belong to.
        let established =
            with_state(family.any(), ct_state::EST, ct_state::RPL).with_masked(Field::IP_FRAG, 0u8, 3u8);
        let draft = flow(Table::Block, 200, established).act(block());
        out.add(draft, Owner::Pipeline, "drop, and block the connection: a policy that came later denies it");

        sctp(family, out);

        let draft = flow(Table::Output, 190, family.any())
            .act(Action::DecNwTtl)
            .act(Action::OutputReg { src: OUT_PORT.bits, max_len: 0 });
        out.add(draft, Owner::Pipeline, "out of the chosen port, one hop further");
        let back = flow(Table::Output, 210, HAIRPIN.on(family.any(), 1))
            .act(Action::DecNwTtl)
            .act(Action::output(PortNo::IN_PORT));
        out.add(back, Owner::Pipeline, "out where it came from, one hop further");
    }
    out.add(flow(Table::Commit, 0, Match::new()).goto(AFTER_COMMIT), Owner::Pipeline, "remembered already");
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

/// Where a packet goes on whose connection is remembered already.
const AFTER_COMMIT: Table = Table::Snat;

/// Changes a flow that stands in every program into itself. Nothing changes, but the switch looks through everything that it
/// has cached of its flows.
pub fn look_again() -> FlowMod {
    let goto = vec![Instruction::GotoTable(TableId(AFTER_COMMIT.id()))];
    let mut same = FlowMod::add(TableId(Table::Commit.id()), 0, Match::new(), goto);
    same.command = FlowModCommand::ModifyStrict;
    same
}

/// The agent's questions end here. What policy still allows is not touched; what it denies is marked as blocked, without a
/// look at the connection's state (`Conntrack` says why).
fn questions(out: &mut Out<'_>) {
    let question = |table, priority, match_: Match| flow(table, priority, QUESTION.on(match_, 1));
    let what = "answer a question: policy still allows this connection";
    out.add(question(Table::Commit, 300, Match::new()), Owner::Pipeline, what);
    out.add(question(Table::Output, 300, Match::new()), Owner::Pipeline, what);
    for family in Family::BOTH {
        let draft = question(Table::Block, 300, family.any()).act(block());
        let what = "answer a question: policy denies this connection now; block it";
        out.add(draft, Owner::Pipeline, what);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let translated = TRANSLATED.on(transport(family, protocol), 1);
            let draft = as_asked(question(Table::Block, 320, translated), family, protocol).act(block());
            let what = "answer a question: policy denies this connection to a Service now; block it";
            out.add(draft, Owner::Pipeline, what);
        }
        let sctp = transport(family, Protocol::Sctp);
        let draft = question(Table::Block, 310, sctp).act(learn_reply(family, SCTP_BLOCKED));
        let what = "answer a question: policy denies this SCTP association now; learn to drop its replies";
        out.add(draft, Owner::Pipeline, what);
    }
}

/// Addresses a question as its client did: by that the connection is known.
fn as_asked(draft: Draft, family: Family, protocol: Protocol) -> Draft {
    let (address, words) = match family {
        Family::V4 => (Field::IPV4_DST, 1),
        Family::V6 => (Field::IPV6_DST, 4),
    };
    let words = ASKED.iter().zip(0u16..).take(words);
    let draft = words.fold(draft, |draft, (slot, number)| {
        let dst = Subfield::new(address, 32 * number, 32);
        draft.act(Action::RegMove { src: slot.bits, dst })
    });
    draft.act(Action::RegMove { src: ASKED_PORT.bits, dst: Subfield::all(port_field(protocol)) })
}

/// A connection of before may have had the same tuple, and been blocked.
fn remembered() -> [openflow::CtExec; 2] {
    [CT_VERSION.exec(CT_LAYOUT), CT_BLOCKED.exec(0)]
}

fn block() -> Action {
    commit([CT_VERSION.exec(CT_LAYOUT), CT_BLOCKED.exec(1)])
}

fn commit<const N: usize>(exec: [openflow::CtExec; N]) -> Action {
    let ct = Ct { commit: true, zone: CtZone::Immediate(ZONE), exec: exec.into(), ..Ct::default() };
    Action::Ct(Box::new(ct))
}

/// How long a reply may follow without a packet of the allowed direction, in seconds: two of SCTP's heartbeats (RFC 9260
/// §8.3), and no longer than a freed address rests.
const SCTP_REPLY_SECONDS: u16 = 60;

/// An allowed SCTP packet teaches the switch to take its association's replies; see `ConntrackState`. Its entry in connection
/// tracking is shared by all associations of the two hosts, so it is never marked as blocked.
fn sctp(family: Family, out: &mut Out<'_>) {
    let any = transport(family, Protocol::Sctp);
    let new = with_state(any.clone(), ct_state::NEW, 0);
    let draft = flow(Table::Commit, 210, new)
        .act(learn_reply(family, JUDGED))
        .act(commit(remembered()))
        .goto(Table::Snat);
    out.add(draft, Owner::Pipeline, "remember the hosts, and learn the association's replies");
    let draft = flow(Table::Commit, 205, any.clone()).act(learn_reply(family, JUDGED)).goto(Table::Snat);
    out.add(draft, Owner::Pipeline, "learn the association's replies (again)");
    out.add(flow(Table::Block, 210, any), Owner::Pipeline, "drop: a policy denies this SCTP association");
}

/// Learns the reverse of this packet's association: its packets get the mark.
fn learn_reply(family: Family, mark: Slot) -> Action {
    let (eth_type, source, destination) = match family {
        Family::V4 => (ETH_IPV4, Field::IPV4_SRC, Field::IPV4_DST),
        Family::V6 => (ETH_IPV6, Field::IPV6_SRC, Field::IPV6_DST),
    };
    let mirror = |a, b| LearnSpec::match_field(Subfield::all(a), Subfield::all(b));
    // Constants: the switch checks the prerequisites of the others against them.
    let fixed = |field, value: u16| LearnSpec::match_value(Subfield::all(field), value.into());
    let specs = vec![
        fixed(Field::ETH_TYPE, eth_type),
        fixed(Field::IP_PROTO, Protocol::Sctp.number().into()),
        mirror(source, destination),
        mirror(destination, source),
        mirror(Field::SCTP_SRC, Field::SCTP_DST),
        mirror(Field::SCTP_DST, Field::SCTP_SRC),
        LearnSpec::load_value(1, mark.bits),
    ];
    Action::Learn(Box::new(Learn {
        table: TableId(Table::SctpReplies.id()),
        priority: 100,
        hard_timeout: SCTP_REPLY_SECONDS,
        specs,
        ..Learn::default()
    }))
}
