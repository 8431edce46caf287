//! Registers and connection marks: every bit the pipeline uses, declared once. A test checks that nothing overlaps.

use std::net::SocketAddr;

use openflow::{Action, CtExec, Field, Match, Subfield};

/// A run of bits of a register with one meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// How the pipeline page calls it.
    pub name: &'static str,
    /// Where it is.
    pub bits: Subfield,
    /// What it holds.
    pub doc: &'static str,
}

macro_rules! slots {
    ($($(#[doc = $doc:literal])+ $name:ident = $field:ident[$start:literal, $count:literal];)*) => {
        $($(#[doc = $doc])+ pub const $name: Slot = Slot {
            name: stringify!($name),
            bits: Subfield::new(Field::$field, $start, $count),
            doc: concat!($($doc),+),
        };)*
        /// All of them.
        pub const SLOTS: &[Slot] = &[$($name),*];
    };
}

slots! {
    /// Where the packet came from: 1 a pod, 2 the gateway, 3 a tunnel.
    SOURCE = REG0[0, 2];
    /// The sender is this node itself.
    OWN_NODE = REG0[2, 1];
    /// The packet belongs to a connection that was judged already: no policy is asked.
    JUDGED = REG0[3, 1];
    /// Where the packet goes: 1 a local pod, 2 the gateway, 3 a tunnel.
    DESTINATION = REG0[4, 2];
    /// Not a packet of anybody but a question of the agent: does policy still allow this connection? It goes nowhere.
    QUESTION = REG0[6, 1];
    /// The packet belongs to an SCTP association that a later policy blocked.
    SCTP_BLOCKED = REG0[7, 1];
    /// It leaves where it came from, which the switch does only when it is told.
    HAIRPIN = REG0[8, 1];
    /// It asks a node for something, perhaps for a node port.
    TO_NODE = REG0[9, 1];
    /// The client was given its endpoint before.
    AFFINE = REG0[10, 1];
    /// Its source is to be rewritten, or replies would miss this node.
    MASK_SOURCE = REG0[11, 1];
    /// The node that it asks is another one.
    TO_OTHER_NODE = REG0[12, 1];
    /// The question is about a connection that was translated: its client asked another address than who answers.
    TRANSLATED = REG0[13, 1];
    /// A datagram that the agent put together. It leaves in pieces, as it came.
    JOINED = REG0[14, 1];
    /// OpenFlow port to leave by.
    OUT_PORT = REG1[0, 32];
    /// Scratch of the ARP responder.
    SCRATCH = REG2[0, 32];
    /// Which backend of a Service a new connection asks for.
    SERVICE = REG3[0, 32];
    /// The place of the chosen endpoint among the backend's.
    INDEX = REG4[0, 16];
    /// The chosen endpoint.
    ENDPOINT = REG5[0, 32];
    /// Which other node it asks: half of a hash of the node's name.
    ASKED_NODE = REG6[0, 32];
    /// The other half.
    ASKED_NODE_MORE = REG7[0, 32];
    /// Which address the client asked that the question is about: all of an IPv4 one, the last 32 bits of an IPv6 one.
    ASKED_0 = REG8[0, 32];
    /// The 32 bits before those.
    ASKED_1 = REG9[0, 32];
    /// The 32 bits before those.
    ASKED_2 = REG10[0, 32];
    /// The first 32 bits of an IPv6 address.
    ASKED_3 = REG11[0, 32];
    /// At which port.
    ASKED_PORT = REG12[0, 16];
    /// Of how many bytes the largest of its pieces was, without Ethernet's header.
    PIECE_SIZE = REG13[0, 16];
    /// The flow of an audited policy that decided last, as the end of its cookie.
    DECIDED_BY = REG14[0, 32];
    /// The connection is blocked: a policy that came later denies it.
    CT_BLOCKED = CT_MARK[0, 1];
    /// The connection was translated and no policy was asked yet.
    CT_UNJUDGED = CT_MARK[1, 1];
    /// The connection is one to a Service.
    CT_SERVICE = CT_MARK[2, 1];
    /// Layout of the mark; a future layout must not misread an old entry.
    CT_VERSION = CT_MARK[28, 4];
}

/// The layout of `ct_mark` that this version writes.
pub const CT_LAYOUT: u64 = 1;

/// Connection tracking zone of pod traffic; never zone 0, which the host's netfilter uses.
pub const ZONE: u16 = 0xfe01;

/// Connection tracking zone of rewritten sources.
pub const SNAT_ZONE: u16 = 0xfe02;

/// The geneve virtual network identifier of the pod network.
pub const VNI: u64 = 0xfe;

/// Values of [`SOURCE`] and [`DESTINATION`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A pod of this node.
    Pod = 1,
    /// The gateway port.
    Gateway = 2,
    /// Another node.
    Tunnel = 3,
}

/// The 32 bits of an asked address, the last ones first.
pub(crate) const ASKED: [Slot; 4] = [ASKED_0, ASKED_1, ASKED_2, ASKED_3];

/// What a question about a translated connection carries besides: whom the client asked. The packet itself is addressed to
/// who answers, whom policy is asked about.
pub fn translated_from(asked: SocketAddr) -> Vec<Action> {
    let bits = network::address::address_bits(asked.ip());
    let word = |(number, slot): (usize, &Slot)| slot.load((bits >> (32 * number)) as u32 as u64);
    let words = ASKED.iter().enumerate().map(word);
    words.chain([ASKED_PORT.load(asked.port().into()), TRANSLATED.load(1)]).collect()
}

impl Slot {
    /// The action that writes a value here.
    pub fn load(self, value: u64) -> Action {
        Action::load(self.bits, value)
    }

    /// The same inside `ct(exec(…))`.
    pub fn exec(self, value: u64) -> CtExec {
        CtExec::RegLoad { dst: self.bits, value }
    }

    /// A match with this value in these bits.
    pub fn on(self, match_: Match, value: u64) -> Match {
        let shift = u32::from(self.bits.start_bit);
        let (old, old_mask) =
            match_.get(self.bits.field).map_or((0, 0), |(v, m)| (v, m.unwrap_or(u128::MAX)));
        let (value, mask) = (old | u128::from(value) << shift, old_mask | self.bits.mask());
        match_.with_masked(self.bits.field, value, mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_slots_overlap_and_none_leaves_its_register() {
        for (i, a) in SLOTS.iter().enumerate() {
            assert!(a.bits.end_bit() < a.bits.field.width_bits(), "{} leaves its register", a.name);
            for b in &SLOTS[i + 1..] {
                let same = a.bits.field == b.bits.field;
                assert!(!same || a.bits.mask() & b.bits.mask() == 0, "{} overlaps {}", a.name, b.name);
            }
        }
    }

    #[test]
    fn two_slots_of_one_register_match_together() {
        let both = OWN_NODE.on(SOURCE.on(Match::new(), 2), 1);
        assert_eq!(both.get(Field::REG0), Some((0b110, Some(0b111))));
    }
}
