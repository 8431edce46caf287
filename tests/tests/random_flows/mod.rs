//! Random valid flows from the types: every field under its prerequisites, every action where it may stand.

use openflow::{
    Action, Cookie, Ct, CtExec, Field, FlowMod, Instruction, Learn, LearnSpec, MacAddr, Match, Multipath,
    MultipathAlgorithm, Nat, Oxm, PortNo, Subfield, TableId,
};

/// A small deterministic source of choices; a failure names its seed.
pub struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

/// A random value for a field, under a mask when the field allows it.
fn add_field(dice: &mut Dice, match_: Match, field: Field) -> Match {
    let bits = u32::from(field.width_bits());
    let ones = u128::MAX >> (128 - bits);
    let value = dice.wide() & ones;
    if field.is_maskable() && dice.one_in(3) {
        let mask = match dice.below(3) {
            0 => ones & !(ones >> (1 + dice.below(bits.into()) as u32).min(bits - 1)),
            1 => ones >> dice.below(bits.into()) as u32,
            _ => dice.wide() & ones,
        };
        return match_.with_masked(field, value, mask);
    }
    match_.with(field, value)
}

fn random_match(dice: &mut Dice) -> Match {
    let mut match_ = Match::new();
    for n in 0..dice.below(4) {
        let field = Field::reg((n * 4 + dice.below(4)) as u8);
        match_ = add_field(dice, match_, field);
    }
    let plain = [
        Field::METADATA,
        Field::PKT_MARK,
        Field::CONJ_ID,
        Field::TUN_ID,
        Field::TUN_SRC,
        Field::TUN_DST,
        Field::TUN_GBP_ID,
        Field::CT_ZONE,
        Field::CT_MARK,
        Field::CT_LABEL,
        Field::ETH_SRC,
        Field::ETH_DST,
        Field::TUN_IPV6_SRC,
    ];
    for field in plain {
        if dice.one_in(8) {
            match_ = add_field(dice, match_, field);
        }
    }
    if dice.one_in(4) {
        match_ = match_.with(Field::IN_PORT, PortNo(1 + dice.below(8) as u32));
    }
    if dice.one_in(4) {
        let states = [(0x21u32, 0x21u32), (0x22, 0x32), (0x20, 0x30), (0x2a, 0x3a), (0, 0x20), (0x24, 0x3f)];
        let (state, mask) = states[dice.below(6) as usize];
        match_ = match_.with_masked(Field::CT_STATE, state, mask);
    }
    if dice.one_in(6) {
        match_ = match_.with(Field::VLAN_VID, 0x1000 | dice.below(4096) as u16);
        if dice.one_in(2) {
            match_ = match_.with(Field::VLAN_PCP, dice.below(8) as u8);
        }
    }
    random_protocol(dice, match_)
}

fn random_protocol(dice: &mut Dice, match_: Match) -> Match {
    let (eth_type, addresses) = match dice.below(6) {
        0 => return match_,
        1 => (0x0806u16, [Field::ARP_SPA, Field::ARP_TPA]),
        2 | 3 => (0x0800, [Field::IPV4_SRC, Field::IPV4_DST]),
        _ => (0x86dd, [Field::IPV6_SRC, Field::IPV6_DST]),
    };
    let mut match_ = match_.with(Field::ETH_TYPE, eth_type);
    for field in addresses {
        if dice.one_in(2) {
            match_ = add_field(dice, match_, field);
        }
    }
    if eth_type == 0x0806 {
        if dice.one_in(2) {
            match_ = match_.with(Field::ARP_OP, 1 + dice.below(2) as u16);
        }
        if dice.one_in(3) {
            match_ = add_field(dice, match_, Field::ARP_SHA);
        }
        return match_;
    }
    for field in [Field::IP_DSCP, Field::IP_ECN, Field::IP_TTL] {
        if dice.one_in(6) {
            match_ = add_field(dice, match_, field);
        }
    }
    if eth_type == 0x86dd && dice.one_in(6) {
        match_ = add_field(dice, match_, Field::IPV6_LABEL);
    }
    let protocols: [(u8, &[Field]); 5] = [
        (6, &[Field::TCP_SRC, Field::TCP_DST]),
        (17, &[Field::UDP_SRC, Field::UDP_DST]),
        (132, &[Field::SCTP_SRC, Field::SCTP_DST]),
        if eth_type == 0x0800 {
            (1, &[Field::ICMPV4_TYPE, Field::ICMPV4_CODE])
        } else {
            (58, &[Field::ICMPV6_TYPE, Field::ICMPV6_CODE])
        },
        (dice.below(256) as u8, &[]),
    ];
    if dice.one_in(3) {
        return match_;
    }
    let (protocol, fields) = protocols[dice.below(5) as usize];
    match_ = match_.with(Field::IP_PROTO, protocol);
    for field in fields {
        if dice.one_in(2) {
            match_ = add_field(dice, match_, *field);
        }
    }
    if protocol == 6 && !fields.is_empty() && dice.one_in(4) {
        let (flags, mask) = [(2u16, 2u16), (2, 0x12), (0x10, 0xfff)][dice.below(3) as usize];
        match_ = match_.with_masked(Field::TCP_FLAGS, flags, mask);
    }
    match_
}

fn random_register(dice: &mut Dice) -> Subfield {
    let start = dice.below(32) as u16;
    Subfield::new(
        Field::reg(dice.below(16) as u8).operand(),
        start,
        1 + dice.below(u64::from(32 - start)) as u16,
    )
}

fn random_action(dice: &mut Dice, match_: &Match, depth: u8) -> Action {
    let eth_type = match_.exact(Field::ETH_TYPE);
    let ip = matches!(eth_type, Some(0x0800 | 0x86dd));
    let place = random_register(dice);
    match dice.below(20) {
        0 | 1 => Action::output(PortNo(1 + dice.below(8) as u32)),
        2 => Action::Output { port: PortNo::CONTROLLER, max_len: dice.next() as u16 },
        3 => Action::set_field(Field::reg(dice.below(16) as u8), dice.next() as u32),
        4 => {
            let value = dice.next() & (u64::MAX >> (64 - place.n_bits));
            Action::load(place, value)
        }
        5 => {
            let other = Subfield::new(Field::reg(dice.below(16) as u8), 32 - place.n_bits, place.n_bits);
            Action::move_bits(place, other)
        }
        6 => {
            Action::Resubmit { port: PortNo::IN_PORT, table: Some(TableId(dice.below(254) as u8)), ct: false }
        }
        7 if ip => Action::Ct(Box::new(random_ct(dice, eth_type))),
        8 => Action::CtClear,
        9 => Action::OutputReg { src: place, max_len: 0xffff },
        10 => Action::Note(vec![dice.next() as u8; 1 + dice.below(20) as usize].into()),
        11 => Action::Multipath(Multipath {
            fields: openflow::HashFields(dice.below(7) as u16),
            basis: dice.next() as u16,
            algorithm: MultipathAlgorithm(dice.below(4) as u16),
            max_link: dice.below(256) as u16,
            arg: dice.next() as u32,
            dst: Subfield::new(Field::reg(3), 0, 16),
        }),
        12 if depth < 2 => {
            Action::Clone((0..1 + dice.below(3)).map(|_| random_action(dice, match_, depth + 1)).collect())
        }
        13 => Action::Learn(Box::new(random_learn(dice))),
        14 if ip => Action::DecNwTtl,
        15 => Action::set_field(Field::ETH_DST, MacAddr::from_u64(dice.next())),
        16 => Action::set_field_masked(Field::reg(1), dice.next() as u32, 0x00ff_0f00u32).unwrap(),
        17 => Action::set_field(Field::TUN_ID, dice.next()),
        18 => Action::StackPush(place),
        _ => Action::CheckPktLarger { length: dice.next() as u16, dst: Subfield::bit(Field::reg(2), 5) },
    }
}

fn random_ct(dice: &mut Dice, eth_type: Option<u128>) -> Ct {
    let mut ct = Ct { commit: dice.one_in(2), ..Ct::default() };
    if dice.one_in(2) {
        ct.table = Some(TableId(dice.below(254) as u8));
    }
    ct.zone = match dice.below(3) {
        0 => openflow::CtZone::Immediate(0),
        1 => openflow::CtZone::Immediate(dice.next() as u16),
        _ => openflow::CtZone::Field(Subfield::new(Field::reg(dice.below(16) as u8), 16, 16)),
    };
    if !ct.commit {
        if dice.one_in(3) {
            ct.nat = Some(Nat::default());
        }
        return ct;
    }
    ct.force = dice.one_in(5);
    if dice.one_in(2) {
        let address = match eth_type {
            Some(0x0800) => std::net::IpAddr::V4(std::net::Ipv4Addr::from_bits(1 + dice.next() as u32 / 2)),
            _ => std::net::IpAddr::V6(std::net::Ipv6Addr::from_bits(dice.wide() | 1)),
        };
        let mut nat = if dice.one_in(2) { Nat::src(address) } else { Nat::dst(address) };
        if dice.one_in(2) {
            nat = nat.port(1 + dice.below(60000) as u16);
            nat.range.port_max = dice.one_in(2).then_some(65535);
        }
        nat.hash = dice.one_in(4);
        nat.persistent = dice.one_in(4);
        ct.nat = Some(nat);
    }
    if dice.one_in(2) {
        let exec = match dice.below(4) {
            0 => CtExec::SetField(Oxm::exact(Field::CT_MARK, dice.next() as u32).unwrap()),
            1 => CtExec::RegLoad2(Oxm::masked(Field::CT_LABEL, dice.wide(), 0xff00u64).unwrap()),
            2 => CtExec::RegLoad { dst: Subfield::bit(Field::CT_MARK, 3), value: 1 },
            _ => CtExec::RegMove {
                src: Subfield::all(Field::reg(4)),
                dst: Subfield::new(Field::CT_LABEL, 32, 32),
            },
        };
        ct.exec.push(exec);
    }
    ct
}

fn random_learn(dice: &mut Dice) -> Learn {
    let eth_type = Subfield::all(Field::ETH_TYPE);
    let mut specs = vec![LearnSpec::match_value(eth_type, 0x800)];
    if dice.one_in(2) {
        specs.push(LearnSpec::match_value(Subfield::all(Field::IPV4_DST), u128::from(dice.next() as u32)));
    }
    if dice.one_in(2) {
        specs.push(LearnSpec::load_field(Subfield::all(Field::reg(4)), Subfield::all(Field::reg(5))));
    }
    if dice.one_in(2) {
        specs
            .push(LearnSpec::load_value(u128::from(dice.next() as u16), Subfield::new(Field::reg(6), 0, 16)));
    }
    if dice.one_in(3) {
        specs.push(LearnSpec::output(Subfield::all(Field::reg(7))));
    }
    Learn {
        table: TableId(dice.below(254) as u8),
        priority: dice.next() as u16,
        idle_timeout: dice.below(3) as u16,
        hard_timeout: dice.next() as u16,
        cookie: Cookie(dice.next()),
        flags: dice.below(4) as u16,
        limit: if dice.one_in(4) { 7 } else { 0 },
        specs,
        ..Learn::default()
    }
}

fn random_flow(dice: &mut Dice, index: u32) -> FlowMod {
    let match_ = random_match(dice);
    let table = TableId(dice.below(200) as u8);
    let mut instructions = Vec::new();
    let actions: Vec<Action> = (0..dice.below(4)).map(|_| random_action(dice, &match_, 0)).collect();
    if !actions.is_empty() {
        instructions.push(Instruction::ApplyActions(actions));
    }
    if dice.one_in(10) {
        instructions.push(Instruction::ClearActions);
    }
    if dice.one_in(10) {
        instructions.push(Instruction::WriteActions(vec![Action::output(PortNo(1))]));
    }
    if dice.one_in(6) {
        instructions.push(Instruction::WriteMetadata { metadata: dice.next(), mask: u64::MAX });
    }
    if dice.one_in(3) {
        instructions.push(Instruction::GotoTable(TableId(table.0 + 1 + dice.below(40) as u8)));
    }
    // Every flow of its own: two random matches may be equal.
    FlowMod::add(table, index as u16, match_, instructions).with_cookie(Cookie(dice.next()))
}

/// Flows with a seed that `FERRULE_SEED` may replace, so that a failure can be had again.
pub fn random_flows(count: u32) -> Vec<FlowMod> {
    let seed = std::env::var("FERRULE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    eprintln!("FERRULE_SEED={seed}");
    let mut dice = Dice(seed);
    (0..count).map(|index| random_flow(&mut dice, index)).collect()
}
