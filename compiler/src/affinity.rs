//! Clients that keep their endpoint: the flows that the switch learns of them, and how those outlive the longest timeout that a
//! flow can have (docs/adr/0023-affinity-outlives-a-flow.md).
//!
//! A flow that was learned for longer than that carries in its cookie which endpoint it gives and how many seconds are left when
//! its own end. The switch says when it goes, and whoever hears it adds it once more for what is left: it needs to know nothing
//! else.

use openflow::message::FlowRemoved;
use openflow::{Action, Cookie, Field, FlowMod, Instruction, Learn, LearnSpec, Match, Subfield, TableId};

use crate::packet::{ETH_IPV4, ETH_IPV6, Family};
use crate::register::{AFFINE, ENDPOINT, SERVICE};
use crate::table::Table;

/// The longest time that the switch keeps a learned flow, in seconds (timeouts are 16 bits wide).
const LONGEST: u32 = 65_535;
/// Over all learned flows; nothing else is in their table.
const PRIORITY: u16 = 100;
/// The cookie of a flow that is to be added once more begins with this.
const MARK: u64 = 0xfd << 56;
const MARK_MASK: u64 = 0xff << 56;
/// Where in the cookie the seconds that are left begin; below them stands the endpoint.
const LEFT_SHIFT: u32 = 32;
/// `OFPRR_HARD_TIMEOUT` (OpenFlow 1.3.5 §7.4.3).
const HARD_TIMEOUT: u8 = 1;

/// The client is given this endpoint again. Every new connection renews the time.
pub(crate) fn learn(family: Family, endpoint: u32, seconds: u32) -> Action {
    let (eth_type, source) = match family {
        Family::V4 => (ETH_IPV4, Field::IPV4_SRC),
        Family::V6 => (ETH_IPV6, Field::IPV6_SRC),
    };
    let same = |bits: Subfield| LearnSpec::match_field(bits, bits);
    let seconds = seconds.max(1);
    // Kubernetes allows 86,400 s: twice what a flow can have is enough.
    let left = seconds.saturating_sub(LONGEST).min(LONGEST);
    let (cookie, flags) = match left {
        0 => (Cookie(0), 0),
        left => (Cookie(MARK | u64::from(left) << LEFT_SHIFT | u64::from(endpoint)), Learn::SEND_FLOW_REM),
    };
    Action::Learn(Box::new(Learn {
        table: TableId(Table::ServiceAffinity.id()),
        priority: PRIORITY,
        hard_timeout: seconds.min(LONGEST) as u16,
        cookie,
        flags,
        specs: vec![
            LearnSpec::match_value(Subfield::all(Field::ETH_TYPE), eth_type.into()),
            same(Subfield::all(source)),
            same(SERVICE.bits),
            LearnSpec::load_field(ENDPOINT.bits, ENDPOINT.bits),
            LearnSpec::load_value(1, AFFINE.bits),
        ],
        ..Learn::default()
    }))
}

/// What is to be added in place of a flow that has come to its end, when it is one whose client keeps its endpoint for longer.
pub fn continued(removed: &FlowRemoved) -> Option<FlowMod> {
    let cookie = removed.cookie.0;
    let learned = removed.table.0 == Table::ServiceAffinity.id() && removed.reason == HARD_TIMEOUT;
    let left = u16::try_from(cookie >> LEFT_SHIFT & 0xffff).ok().filter(|left| *left > 0);
    let left = left.filter(|_| learned && cookie & MARK_MASK == MARK)?;
    let gives = vec![ENDPOINT.load(cookie & 0xffff_ffff), AFFINE.load(1)];
    let match_: Match = removed.match_.clone();
    Some(FlowMod {
        hard_timeout: left,
        ..FlowMod::add(removed.table, removed.priority, match_, vec![Instruction::ApplyActions(gives)])
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn removed(cookie: Cookie, reason: u8) -> FlowRemoved {
        FlowRemoved {
            cookie,
            priority: PRIORITY,
            reason,
            table: TableId(Table::ServiceAffinity.id()),
            duration: Duration::from_secs(65_535),
            idle_timeout: 0,
            hard_timeout: 65_535,
            packet_count: 3,
            byte_count: 180,
            match_: SERVICE.on(Match::new(), 7),
        }
    }

    fn learned(seconds: u32) -> Learn {
        match learn(Family::V4, 0x1234_5678, seconds) {
            Action::Learn(learn) => *learn,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_is_longer_than_a_flow_can_live_is_continued_and_for_the_rest_of_its_time() {
        let (short, long) = (learned(65_535), learned(86_400));
        assert_eq!((short.hard_timeout, short.flags, short.cookie), (65_535, 0, Cookie(0)));
        assert_eq!((long.hard_timeout, long.flags), (65_535, Learn::SEND_FLOW_REM));
        assert_eq!(continued(&removed(short.cookie, HARD_TIMEOUT)), None);
        let more = continued(&removed(long.cookie, HARD_TIMEOUT)).unwrap();
        assert_eq!((more.hard_timeout, more.priority), (20_865, PRIORITY));
        let gives = vec![ENDPOINT.load(0x1234_5678), AFFINE.load(1)];
        assert_eq!(more.instructions, [Instruction::ApplyActions(gives)]);
        // It is added once: then its time is over.
        assert_eq!(continued(&removed(more.cookie, HARD_TIMEOUT)), None);
    }

    #[test]
    fn a_flow_that_somebody_deleted_stays_deleted() {
        assert_eq!(continued(&removed(learned(86_400).cookie, 2)), None);
    }
}
