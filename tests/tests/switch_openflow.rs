//! OpenFlow against the installed Open vSwitch: random valid flows from the types print as `ovs-ofctl` prints them, are
//! accepted by a private switch (dummy datapath, no root) and read back equal; bundles are all or nothing.
//!
//! Skips loudly where Open vSwitch is not installed.

// A failing step shall stop the test with its own words.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use openflow::canonical::{canonical, fingerprint, identity};
use openflow::connection::BundleError;
use openflow::io::{Client, ClientError, ClientEvent};
use openflow::message::{FlowStatsRequest, PacketOut, PortReason};
use openflow::text::{parse_flow, parse_group};
use openflow::{
    Action, Bucket, Cookie, Ct, CtExec, Field, FlowMod, FlowModCommand, GroupId, GroupMod, GroupModCommand,
    GroupType, Instruction, Learn, LearnSpec, MacAddr, Match, Message, Multipath, MultipathAlgorithm, Nat,
    Oxm, PortNo, Subfield, TableId, Xid,
};

/// A private Open vSwitch with one bridge, `br0`, and the ports 1 to 8.
struct Switch {
    directory: tempfile::TempDir,
    processes: Vec<Child>,
}

impl Switch {
    /// `None`, with a loud word, when Open vSwitch is not installed.
    fn start() -> Option<Switch> {
        if Command::new("ovs-vswitchd").arg("--version").output().is_err() {
            eprintln!("SKIPPED: Open vSwitch is not installed; nothing was checked against a switch");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut switch = Switch { directory, processes: Vec::new() };
        let schema =
            ["/usr/share/openvswitch/vswitch.ovsschema", "/usr/local/share/openvswitch/vswitch.ovsschema"];
        let schema =
            schema.iter().find(|path| Path::new(path).exists()).expect("Open vSwitch has its schema");
        switch.run("ovsdb-tool", &["create", &switch.path("conf.db"), schema]);
        let remote = format!("--remote=punix:{}", switch.path("db.sock"));
        switch.spawn("ovsdb-server", &[&switch.path("conf.db"), &remote]);
        switch.wait_for("db.sock");
        switch.vsctl(&["--no-wait", "init"]);
        let database = format!("unix:{}", switch.path("db.sock"));
        switch.spawn("ovs-vswitchd", &[&database, "--enable-dummy=override", "--disable-system"]);
        let mut bridge: Vec<String> =
            "add-br br0 -- set bridge br0 datapath_type=dummy protocols=OpenFlow13 fail_mode=secure"
                .split(' ')
                .map(str::to_owned)
                .collect();
        for n in 1..=8 {
            let port = format!("-- add-port br0 p{n} -- set interface p{n} type=dummy ofport_request={n}");
            bridge.extend(port.split(' ').map(str::to_owned));
        }
        switch.vsctl(&bridge.iter().map(String::as_str).collect::<Vec<_>>());
        switch.wait_for("br0.mgmt");
        Some(switch)
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let directory = self.directory.path();
        command.env("OVS_RUNDIR", directory).env("OVS_LOGDIR", directory).env("OVS_DBDIR", directory);
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn vsctl(&self, arguments: &[&str]) -> String {
        let database = format!("--db=unix:{}", self.path("db.sock"));
        self.run("ovs-vsctl", &[&[database.as_str()], arguments].concat())
    }

    fn spawn(&mut self, program: &str, arguments: &[&str]) {
        let child = self.command(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.processes.push(child.unwrap());
    }

    fn wait_for(&self, name: &str) {
        let until = Instant::now() + Duration::from_secs(10);
        while !Path::new(&self.path(name)).exists() {
            assert!(Instant::now() < until, "{name} does not appear");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    async fn client(&self) -> (Client, tokio::sync::mpsc::Receiver<ClientEvent>) {
        let target = format!("unix:{}", self.path("br0.mgmt")).parse().unwrap();
        Client::connect(&target, Default::default()).await.unwrap()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for child in self.processes.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A small deterministic source of choices; a failure names its seed.
struct Dice(u64);

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
fn random_flows(count: u32) -> Vec<FlowMod> {
    let seed = std::env::var("FERRULE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    eprintln!("FERRULE_SEED={seed}");
    let mut dice = Dice(seed);
    (0..count).map(|index| random_flow(&mut dice, index)).collect()
}

/// What `ovs-ofctl ofp-parse` prints for a stream of messages, one text each.
fn ofp_parse(messages: &[Vec<u8>]) -> Option<Vec<String>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    messages.iter().for_each(|message| file.write_all(message).unwrap());
    let output = match Command::new("ovs-ofctl").arg("ofp-parse").arg(file.path()).output() {
        Ok(output) => output,
        Err(_) => {
            eprintln!("SKIPPED: ovs-ofctl is not installed; texts were not compared");
            return None;
        }
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let mut texts: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with("OFPT_") || line.starts_with("OFPST_") {
            texts.push(line.to_owned());
        } else if let Some(last) = texts.last_mut() {
            *last += "\n";
            *last += line;
        }
    }
    Some(texts)
}

#[test]
fn random_flows_print_as_ovs_ofctl_prints_them() {
    let flows = random_flows(4000);
    let messages: Vec<Message> = flows.into_iter().map(|flow| Message::FlowMod(Box::new(flow))).collect();
    let bytes: Vec<Vec<u8>> =
        messages.iter().map(|message| message.to_bytes(Xid(7)).unwrap().to_vec()).collect();
    let Some(texts) = ofp_parse(&bytes) else { return };
    assert_eq!(texts.len(), messages.len());
    for ((message, bytes), text) in messages.iter().zip(&bytes).zip(texts) {
        let (_, decoded) = Message::decode(bytes).unwrap();
        assert_eq!(decoded.to_bytes(Xid(7)).unwrap(), bytes, "{message:?}");
        // What went over the wire, where notes are padded.
        assert_eq!(decoded.display(Xid(7)).to_string().trim_end(), text.trim_end(), "{bytes:02x?}");
    }
}

#[test]
fn printed_flows_parse_to_the_same_flow() {
    for flow in random_flows(4000) {
        let text = flow.to_string();
        let text = text.trim_start_matches("ADD ").replace("table:", "table=").replace("cookie:", "cookie=");
        let again = parse_flow(&text, FlowModCommand::Add).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(canonical(&again), canonical(&flow), "{text}\n{again}");
    }
}

#[tokio::test]
async fn random_flows_are_accepted_and_read_back_equal() {
    let Some(switch) = Switch::start() else { return };
    let (client, _events) = switch.client().await;
    let flows = random_flows(2000);
    let messages: Vec<Message> = flows.iter().cloned().map(|flow| Message::FlowMod(Box::new(flow))).collect();
    match client.apply_bundle(messages).await {
        Ok(committed) => assert_eq!(committed.messages, flows.len()),
        Err(ClientError::Bundle(BundleError::Message { index, error })) => {
            panic!("{:?} refused: {}", flows[index].to_string(), error.code)
        }
        Err(error) => panic!("{error}"),
    }
    let mut wanted: std::collections::HashMap<u64, &FlowMod> =
        flows.iter().map(|flow| (identity(flow), flow)).collect();
    let mut failures = Vec::new();
    let count = client
        .dump_flows(FlowStatsRequest::default(), |stats| match wanted.remove(&identity(&stats)) {
            None => failures.push(format!("not asked for: {stats}")),
            Some(flow) if fingerprint(flow) == fingerprint(&stats) => {}
            Some(flow) => failures.push(format!(
                "asked {}\nhas   {}\n{:?}\n{:?}",
                canonical(flow),
                canonical(&stats),
                canonical(flow).instructions,
                canonical(&stats).instructions
            )),
        })
        .await
        .unwrap();
    failures.extend(wanted.values().map(|flow| format!("missing: {flow}")));
    assert_eq!(count, flows.len());
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures[..failures.len().min(10)].join("\n")
    );
    assert_same_dump(&switch, &client).await;
}

/// Our lines are those of `ovs-ofctl dump-flows`, ages aside.
async fn assert_same_dump(switch: &Switch, client: &Client) {
    let target = format!("unix:{}", switch.path("br0.mgmt"));
    let text = switch.run("ovs-ofctl", &["-O", "OpenFlow13", "--no-names", "dump-flows", &target]);
    let without_age = |line: &str| {
        let (head, tail) = line.trim().split_once("duration=").unwrap();
        format!("{head}{}", tail.split_once(", ").unwrap().1)
    };
    let mut theirs: Vec<String> =
        text.lines().filter(|line| line.contains("duration=")).map(without_age).collect();
    let mut ours = Vec::new();
    client
        .dump_flows(FlowStatsRequest::default(), |flow| ours.push(without_age(&flow.to_string())))
        .await
        .unwrap();
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn groups_come_back_and_a_refused_message_takes_the_bundle_with_it() {
    let Some(switch) = Switch::start() else { return };
    let (client, _events) = switch.client().await;
    let group = parse_group(
        "group_id=5,type=select,bucket=weight:7,set_field:1->reg0,resubmit(,9),bucket=output:2",
        GroupModCommand::Add,
    )
    .unwrap();
    let uses = parse_flow("table=3,ip,actions=group:5", FlowModCommand::Add).unwrap();
    client.apply_bundle([Message::GroupMod(group.clone()), Message::FlowMod(Box::new(uses))]).await.unwrap();
    let groups = client.dump_groups().await.unwrap();
    assert_eq!(groups.len(), 1);
    assert_eq!(
        openflow::canonical::group_fingerprint(&groups[0]),
        openflow::canonical::group_fingerprint(&group)
    );
    let good = parse_flow("table=4,actions=drop", FlowModCommand::Add).unwrap();
    let bad = parse_flow("table=5,actions=group:99", FlowModCommand::Add).unwrap();
    let messages = [good.clone(), bad, good].map(|flow| Message::FlowMod(Box::new(flow)));
    match client.apply_bundle(messages).await.unwrap_err() {
        ClientError::Bundle(BundleError::Message { index: 1, error }) => {
            assert_eq!(error.code.name(), Some("OFPBAC_BAD_OUT_GROUP"));
        }
        other => panic!("{other}"),
    }
    let count = client.dump_flows(FlowStatsRequest::default(), |_| {}).await.unwrap();
    assert_eq!(count, 1, "the bundle left something behind");
    let all = GroupMod::delete(GroupId::ALL);
    client.apply_bundle([Message::GroupMod(all)]).await.unwrap();
    assert!(client.dump_groups().await.unwrap().is_empty());
    let bucket = Bucket { actions: vec![Action::output(PortNo(1))], ..Bucket::default() };
    let indirect = GroupMod::add(GroupId(6), GroupType::Indirect, vec![bucket]);
    client.send(Message::GroupMod(indirect)).await.unwrap();
    client.barrier().await.unwrap();
    assert_eq!(client.dump_groups().await.unwrap().len(), 1);
}

#[tokio::test]
async fn ports_packets_and_what_the_switch_says_unasked() {
    let Some(switch) = Switch::start() else { return };
    let (client, mut events) = switch.client().await;
    client.listen().await.unwrap();
    assert_eq!(client.features().await.unwrap().n_tables, 254);
    let ports = client.ports().await.unwrap();
    let names: Vec<String> = ports.iter().map(|port| port.name.text().into_owned()).collect();
    assert!(names.contains(&"p1".to_owned()) && names.contains(&"br0".to_owned()), "{names:?}");
    let to_controller = parse_flow(
        "table=0,priority=9,arp,cookie=0x77,actions=set_field:5->reg0,controller",
        FlowModCommand::Add,
    )
    .unwrap();
    client.apply_bundle([Message::FlowMod(Box::new(to_controller))]).await.unwrap();
    let mut packet = vec![0xff; 6];
    packet.extend([0x0a, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    packet.resize(60, 0);
    client.packet_out(PacketOut::through_tables(PortNo(1), packet.into())).await.unwrap();
    let heard = async {
        loop {
            match events.recv().await.unwrap() {
                ClientEvent::Async(Message::PacketIn(packet)) => return packet,
                ClientEvent::Error { error, .. } => panic!("{}", error.code),
                _ => {}
            }
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(5), heard).await.unwrap();
    assert_eq!(heard.cookie, Cookie(0x77));
    assert_eq!(heard.match_.exact(Field::IN_PORT), Some(1));
    assert_eq!(heard.match_.exact(Field::reg(0)), Some(5));
    switch.vsctl(&[
        "add-port",
        "br0",
        "p9",
        "--",
        "set",
        "interface",
        "p9",
        "type=dummy",
        "ofport_request=9",
    ]);
    let added = async {
        loop {
            if let ClientEvent::Async(Message::PortStatus(status)) = events.recv().await.unwrap()
                && status.reason == PortReason::Add
            {
                return status.port.name.text().into_owned();
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), added).await.unwrap(), "p9");
}

#[tokio::test]
async fn a_killed_switch_is_a_disconnect_and_a_bundle_in_flight_is_lost() {
    let Some(mut switch) = Switch::start() else { return };
    let (client, mut events) = switch.client().await;
    let endless = std::iter::repeat_with(|| {
        Message::FlowMod(Box::new(FlowMod::add(TableId(1), 1, Match::new(), Vec::new())))
    });
    let bundle = tokio::spawn({
        let client = client.clone();
        async move { client.apply_bundle(endless).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    switch.processes[1].kill().unwrap();
    let error = tokio::time::timeout(Duration::from_secs(10), bundle).await.unwrap().unwrap().unwrap_err();
    assert!(error.is_disconnect(), "{error}");
    let last = async {
        loop {
            if let ClientEvent::Disconnected(_) = events.recv().await.unwrap() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), last).await.unwrap();
    assert!(client.barrier().await.unwrap_err().is_disconnect());
}

#[tokio::test]
async fn nobody_there_is_an_error_with_a_cure() {
    let nowhere: PathBuf = tempfile::tempdir().unwrap().path().join("br0.mgmt");
    let error = Client::connect(&openflow::io::Target::Unix(nowhere), Default::default()).await.unwrap_err();
    assert!(error.to_string().contains("is ovs-vswitchd running"), "{error}");
}
