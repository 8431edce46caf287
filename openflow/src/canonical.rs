//! One form for flows that mean the same: what a controller asks for and what the switch reports of it compare equal here.
//! Open vSwitch 3.1 under OpenFlow 1.3 changes a flow's wording (masked `set_field` comes back as `load`, notes come back
//! padded, wide registers as registers); this module knows how. It talks to nobody.

use bytes::BytesMut;

use crate::action::{Action, Controller, Ct, CtExec, CtZone, Learn, LearnDst, LearnSpec, LearnSrc};
use crate::flow::{FlowFlags, FlowMod, FlowStats};
use crate::flow_match::Match;
use crate::group::{Bucket, GroupDesc, GroupMod, GroupModCommand, GroupType};
use crate::instruction::Instruction;
use crate::number::{Cookie, GroupId, PortNo, TableId};
use crate::oxm::{Field, Oxm, Subfield};
use crate::wire::Writer;

/// A flow, asked for or reported.
pub trait FlowLike {
    /// What it consists of.
    fn parts(&self) -> FlowParts<'_>;
}

/// What makes a flow.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct FlowParts<'a> {
    pub table: TableId,
    pub priority: u16,
    pub cookie: Cookie,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub flags: FlowFlags,
    pub match_: &'a Match,
    pub instructions: &'a [Instruction],
}

macro_rules! flow_like {
    ($($type:ty),*) => { $(
        impl FlowLike for $type {
            fn parts(&self) -> FlowParts<'_> {
                FlowParts {
                    table: self.table,
                    priority: self.priority,
                    cookie: self.cookie,
                    idle_timeout: self.idle_timeout,
                    hard_timeout: self.hard_timeout,
                    flags: self.flags,
                    match_: &self.match_,
                    instructions: &self.instructions,
                }
            }
        }
    )* };
}

flow_like!(FlowMod, FlowStats);

/// The flow-mod that adds this flow, in canonical form.
pub fn canonical(flow: &impl FlowLike) -> FlowMod {
    let parts = flow.parts();
    FlowMod {
        table: parts.table,
        priority: parts.priority,
        cookie: parts.cookie,
        idle_timeout: parts.idle_timeout,
        hard_timeout: parts.hard_timeout,
        // The other flags say how to add a flow, not what it is.
        flags: FlowFlags(
            parts.flags.0
                & (FlowFlags::SEND_FLOW_REM | FlowFlags::NO_PACKET_COUNTS | FlowFlags::NO_BYTE_COUNTS).0,
        ),
        match_: canonical_match(parts.match_),
        instructions: canonical_instructions(parts.instructions),
        ..FlowMod::default()
    }
}

/// The canonical form's bytes (an OpenFlow 1.3 flow-mod without its header): equal bytes, equal flow.
pub fn canonical_bytes(flow: &impl FlowLike) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(128);
    // A flow that is too long for the wire has no canonical bytes, and no switch holds it.
    if canonical(flow).encode(&mut Writer::new(&mut bytes)).is_err() {
        bytes.clear();
    }
    bytes
}

/// 64 bits that tell flows apart: table, priority, match, cookie, timeouts, flags, instructions. Stable across processes,
/// machines and versions of this crate's major number.
pub fn fingerprint(flow: &impl FlowLike) -> u64 {
    let mut hash = StableHash::new();
    hash.write(&canonical_bytes(flow));
    hash.finish()
}

/// 64 bits for what makes a flow the same flow to a switch: table, priority and match.
pub fn identity(flow: &impl FlowLike) -> u64 {
    let parts = flow.parts();
    let mut bytes = BytesMut::with_capacity(64);
    let mut out = Writer::new(&mut bytes);
    out.u8(parts.table.0);
    out.u16(parts.priority);
    // As above: too long for the wire is held by no switch.
    let _ = canonical_match(parts.match_).encode_fields(&mut out);
    let mut hash = StableHash::new();
    hash.write(&bytes);
    hash.finish()
}

/// A group, asked for or reported.
pub trait GroupLike {
    /// Number, type and buckets.
    fn group_parts(&self) -> (GroupId, GroupType, &[Bucket]);
}

impl GroupLike for GroupMod {
    fn group_parts(&self) -> (GroupId, GroupType, &[Bucket]) {
        (self.group, self.group_type, &self.buckets)
    }
}

impl GroupLike for GroupDesc {
    fn group_parts(&self) -> (GroupId, GroupType, &[Bucket]) {
        (self.group, self.group_type, &self.buckets)
    }
}

/// The group-mod that adds this group, in canonical form.
pub fn canonical_group(group: &impl GroupLike) -> GroupMod {
    let (group, group_type, buckets) = group.group_parts();
    let buckets = buckets
        .iter()
        .map(|bucket| Bucket {
            // Weights count in select groups only.
            weight: if group_type == GroupType::Select { bucket.weight } else { 0 },
            actions: canonical_actions(&bucket.actions),
            ..bucket.clone()
        })
        .collect();
    GroupMod { command: GroupModCommand::Add, group_type, group, buckets }
}

/// 64 bits that tell groups apart, as [`fingerprint`] does flows.
pub fn group_fingerprint(group: &impl GroupLike) -> u64 {
    let mut bytes = BytesMut::with_capacity(128);
    let mut hash = StableHash::new();
    if canonical_group(group).encode(&mut Writer::new(&mut bytes)).is_ok() {
        hash.write(&bytes);
    }
    hash.finish()
}

/// Fields under their preferred code points, wide registers as registers, masks as Open vSwitch keeps them.
pub fn canonical_match(match_: &Match) -> Match {
    let special = |field: Field| {
        matches!(field, Field::CT_STATE | Field::TUN_FLAGS | Field::TCP_FLAGS | Field::PACKET_TYPE)
            || registers_of(field).is_some()
    };
    if !match_.iter().any(|oxm| special(oxm.field().preferred())) {
        return match_.canonical();
    }
    let mut built = Match::new();
    for oxm in match_ {
        let field = oxm.field().preferred();
        let (Some(value), mask) = (oxm.value(), oxm.mask().unwrap_or(u128::MAX)) else {
            built.set(oxm.clone());
            continue;
        };
        match field {
            // Ethernet is the default.
            Field::PACKET_TYPE if value == 0 => {}
            Field::CT_STATE => put(&mut built, field, value, mask & 0xff),
            Field::TUN_FLAGS => put(&mut built, field, value, mask & 1),
            Field::TCP_FLAGS => {
                put(&mut built, field, value, if mask & 0xfff == 0xfff { 0xffff } else { mask & 0xfff })
            }
            _ => match registers_of(field) {
                Some((first, count)) => {
                    for part in 0..count {
                        let shift = 32 * u32::from(count - 1 - part);
                        let word = |bits: u128| bits >> shift & 0xffff_ffff;
                        put(&mut built, Field::reg(first + part), word(value), word(mask));
                    }
                }
                None => built.set(oxm.clone()),
            },
        }
    }
    built
}

/// First register and how many, of a wide register.
fn registers_of(field: Field) -> Option<(u8, u8)> {
    (0..8)
        .find(|n| Field::xreg(*n) == field)
        .map(|n| (n * 2, 2))
        .or_else(|| (0..4).find(|n| Field::xxreg(*n) == field).map(|n| (n * 4, 4)))
}

fn put(match_: &mut Match, field: Field, value: u128, mask: u128) {
    if let (false, Ok(oxm)) = (mask == 0, Oxm::masked_wire(field, value & mask, mask)) {
        match_.set(oxm);
    }
}

/// Instructions as the switch gives them back, in the order in which they take effect.
pub fn canonical_instructions(instructions: &[Instruction]) -> Vec<Instruction> {
    let mut all: Vec<Instruction> = instructions
        .iter()
        .filter_map(|instruction| match instruction {
            Instruction::ApplyActions(actions) if actions.is_empty() => None,
            Instruction::WriteActions(actions) if actions.is_empty() => None,
            Instruction::ApplyActions(actions) => Some(Instruction::ApplyActions(canonical_actions(actions))),
            Instruction::WriteActions(actions) => Some(Instruction::WriteActions(canonical_actions(actions))),
            Instruction::WriteMetadata { metadata, mask } => {
                Some(Instruction::WriteMetadata { metadata: metadata & mask, mask: *mask })
            }
            other => Some(other.clone()),
        })
        .collect();
    all.sort_by_key(|instruction| match instruction {
        Instruction::Meter(_) => 0,
        Instruction::ApplyActions(_) => 1,
        Instruction::ClearActions => 2,
        Instruction::WriteActions(_) => 3,
        Instruction::WriteMetadata { .. } => 4,
        Instruction::GotoTable(_) => 5,
        _ => 6,
    });
    all
}

/// Actions as the switch gives them back.
pub fn canonical_actions(actions: &[Action]) -> Vec<Action> {
    let mut all = Vec::with_capacity(actions.len());
    actions.iter().for_each(|action| canonical_action(action, &mut all));
    all
}

fn canonical_action(action: &Action, all: &mut Vec<Action>) {
    let place = |place: &Subfield| Subfield { field: place.field.operand(), ..*place };
    all.push(match action {
        Action::Output { port, .. } if *port != PortNo::CONTROLLER => Action::output(*port),
        Action::Controller(controller)
            if **controller == (Controller { max_len: controller.max_len, ..Controller::default() }) =>
        {
            Action::Output { port: PortNo::CONTROLLER, max_len: controller.max_len }
        }
        Action::SetField(oxm) => Action::SetField(oxm.clone().preferred()),
        Action::RegLoad2(oxm) => return canonical_masked(oxm, all),
        Action::SetTunnel(id) => Action::set_field(Field::TUN_ID, *id),
        Action::SetTunnel64(id) => Action::set_field(Field::TUN_ID, *id),
        Action::Resubmit { port, table, ct } => {
            Action::Resubmit { port: *port, table: table.or(Some(TableId::ALL)), ct: *ct }
        }
        Action::RegMove { src, dst } => Action::RegMove { src: place(src), dst: place(dst) },
        Action::RegLoad { dst, value } => Action::RegLoad { dst: place(dst), value: *value },
        Action::OutputReg { src, max_len } => Action::OutputReg { src: place(src), max_len: *max_len },
        Action::StackPush(src) => Action::StackPush(place(src)),
        Action::StackPop(dst) => Action::StackPop(place(dst)),
        Action::CheckPktLarger { length, dst } => Action::CheckPktLarger { length: *length, dst: place(dst) },
        Action::Multipath(multipath) => {
            let mut multipath = *multipath;
            multipath.dst = place(&multipath.dst);
            Action::Multipath(multipath)
        }
        Action::Note(note) => {
            let mut padded = note.to_vec();
            padded.resize((note.len() + 2).next_multiple_of(8).max(8) - 2, 0);
            Action::Note(padded.into())
        }
        Action::Clone(actions) => Action::Clone(canonical_actions(actions)),
        Action::Ct(ct) => Action::Ct(Box::new(canonical_ct(ct))),
        Action::Learn(learn) => Action::Learn(Box::new(canonical_learn(learn))),
        other => other.clone(),
    });
}

/// A masked set of a field becomes loads of its runs of ones; OpenFlow 1.3 has nothing else for it.
fn canonical_masked(oxm: &Oxm, all: &mut Vec<Action>) {
    let field = oxm.field().preferred();
    let (Some(value), false) = (oxm.value(), field.experimenter().is_some()) else {
        all.push(Action::RegLoad2(oxm.clone()));
        return;
    };
    let Some(mask) = oxm.mask() else {
        all.push(Action::SetField(oxm.clone().preferred()));
        return;
    };
    for (start_bit, n_bits) in runs_of_ones(mask) {
        let value = (value >> start_bit & (u128::MAX >> (128 - u32::from(n_bits)))) as u64;
        all.push(Action::RegLoad { dst: Subfield { field: field.operand(), start_bit, n_bits }, value });
    }
}

/// Runs of ones, from the lowest bit, in pieces of at most 64 bits: first bit, how many.
pub(crate) fn runs_of_ones(mask: u128) -> impl Iterator<Item = (u16, u16)> {
    let mut at = 0u32;
    std::iter::from_fn(move || {
        let rest = mask.checked_shr(at).filter(|rest| *rest != 0)?;
        let start = at + rest.trailing_zeros();
        let length = (mask >> start).trailing_ones().min(64);
        at = start + length;
        Some((start as u16, length as u16))
    })
}

fn canonical_ct(ct: &Ct) -> Ct {
    let mut exec = Vec::with_capacity(ct.exec.len());
    for one in &ct.exec {
        match one.clone().into_action() {
            Ok(action) => {
                let mut actions = Vec::new();
                canonical_action(&action, &mut actions);
                exec.extend(actions.into_iter().filter_map(|action| CtExec::try_from(action).ok()));
            }
            Err(nat) => exec.push(CtExec::Nat(nat)),
        }
    }
    let zone = match ct.zone {
        CtZone::Field(place) => CtZone::Field(Subfield { field: place.field.operand(), ..place }),
        immediate => immediate,
    };
    let mut nat = ct.nat.clone();
    if let Some(nat) = &mut nat {
        let range = &mut nat.range;
        range.ipv4_max = range.ipv4_max.filter(|max| Some(*max) != range.ipv4_min);
        range.ipv6_max = range.ipv6_max.filter(|max| Some(*max) != range.ipv6_min);
        range.port_max = range.port_max.filter(|max| Some(*max) != range.port_min);
    }
    Ct { zone, nat, exec, ..ct.clone() }
}

fn canonical_learn(learn: &Learn) -> Learn {
    let place = |place: &Subfield| Subfield { field: place.field.operand(), ..*place };
    let specs = learn
        .specs
        .iter()
        .map(|spec| LearnSpec {
            n_bits: spec.n_bits,
            src: match &spec.src {
                LearnSrc::Field(src) => LearnSrc::Field(place(src)),
                immediate => immediate.clone(),
            },
            dst: match &spec.dst {
                LearnDst::Match(dst) => LearnDst::Match(place(dst)),
                LearnDst::Load(dst) => LearnDst::Load(place(dst)),
                LearnDst::Output => LearnDst::Output,
            },
        })
        .collect();
    Learn { specs, result: learn.result.as_ref().map(place), ..learn.clone() }
}

/// A hash of bytes that never changes: FNV-1a in 64 bits, stirred at the end (MurmurHash3's finalizer).
#[derive(Clone, Copy, Debug)]
pub struct StableHash(u64);

impl StableHash {
    /// Of nothing yet.
    pub const fn new() -> StableHash {
        StableHash(0xcbf2_9ce4_8422_2325)
    }

    /// And these bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The hash so far.
    pub const fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ hash >> 33
    }
}

impl Default for StableHash {
    fn default() -> StableHash {
        StableHash::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FlowModCommand;
    use crate::text::parse_flow;

    fn print_of(text: &str) -> u64 {
        fingerprint(&parse_flow(text, FlowModCommand::Add).unwrap())
    }

    #[test]
    fn what_means_the_same_has_one_fingerprint() {
        let masked = Action::set_field_masked(Field::reg(1), 0x50u32, 0xf0u32).unwrap();
        let set =
            FlowMod { instructions: vec![Instruction::ApplyActions(vec![masked])], ..FlowMod::default() };
        assert_eq!(fingerprint(&set), print_of("actions=load:5->NXM_NX_REG1[4..7]"));
        let wide =
            FlowMod { match_: Match::new().with(Field::xreg(0), 0x1_0000_0002u64), ..FlowMod::default() };
        assert_eq!(fingerprint(&wide), print_of("reg0=1,reg1=2,actions=drop"));
        assert_eq!(
            print_of("check_overlap,ip,actions=note:01"),
            print_of("ip,actions=note:01.00.00.00.00.00")
        );
    }

    #[test]
    fn what_differs_has_two() {
        let flows =
            ["ip,actions=drop", "ipv6,actions=drop", "ip,actions=output:1", "cookie=1,ip,actions=drop"];
        for (i, one) in flows.iter().enumerate() {
            flows[i + 1..].iter().for_each(|other| assert_ne!(print_of(one), print_of(other)));
        }
        let flow = |text| identity(&parse_flow(text, FlowModCommand::Add).unwrap());
        assert_eq!(flow("ip,actions=drop"), flow("cookie=1,ip,actions=output:1"));
        assert_ne!(flow("ip,actions=drop"), flow("priority=1,ip,actions=drop"));
    }

    #[test]
    fn the_code_point_of_an_operand_does_not_matter() {
        let nicira = Field::from_raw(crate::oxm::class::NXM_OF.0, 2, 0);
        assert_ne!(nicira, Field::ETH_SRC);
        let copy = |src| {
            vec![Instruction::ApplyActions(vec![Action::RegMove {
                src: Subfield { field: src, start_bit: 0, n_bits: 48 },
                dst: Subfield::all(Field::ETH_DST),
            }])]
        };
        assert_eq!(canonical_instructions(&copy(nicira)), canonical_instructions(&copy(Field::ETH_SRC)));
        assert_ne!(canonical_instructions(&copy(nicira)), canonical_instructions(&copy(Field::ETH_DST)));
    }

    #[test]
    fn notes_are_padded_and_empty_lists_are_none() {
        let one = |action: &Action| canonical_actions(std::slice::from_ref(action));
        let note = |bytes: &'static [u8]| Action::Note(bytes::Bytes::from_static(bytes));
        assert_eq!(one(&note(b"a")), [note(b"a\0\0\0\0\0")]);
        assert_eq!(one(&note(b"1234567")), one(&note(b"1234567\0\0\0\0\0\0\0")));
        let goto = Instruction::GotoTable(TableId(1));
        assert_eq!(canonical_instructions(&[Instruction::ApplyActions(Vec::new()), goto.clone()]), [goto]);
    }

    #[test]
    fn the_hash_never_changes() {
        let mut hash = StableHash::new();
        hash.write(b"ferrule");
        let mut again = StableHash::new();
        again.write(b"fer");
        again.write(b"rule");
        assert_eq!(hash.finish(), again.finish());
        assert_eq!(hash.finish(), FERRULE);
    }

    const FERRULE: u64 = 0x85dbe06f967bd0dd;
}
