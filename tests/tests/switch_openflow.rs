//! OpenFlow against the installed Open vSwitch: random valid flows from the types print as `ovs-ofctl` prints them, are
//! accepted by a private switch (dummy datapath, no root) and read back equal; bundles are all or nothing.
//!
//! Skips loudly where Open vSwitch is not installed.

// A failing step shall stop the test with its own words.
#![allow(clippy::unwrap_used)]

mod random_flows;

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
    Action, Bucket, Cookie, Field, FlowMod, FlowModCommand, GroupId, GroupMod, GroupModCommand, GroupType,
    Match, Message, PortNo, TableId, Xid,
};
use random_flows::random_flows;

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
