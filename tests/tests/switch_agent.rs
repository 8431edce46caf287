//! The agent on a private Open vSwitch: what it makes, what it does again after a restart of either side, what it says when
//! something is wrong. The host's network state is left alone, so no root is needed.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::cni::{AddRequest, AttachmentId, Command, Failure, PROTOCOL, PodIdentity, Reply, Request, code};
use network::{LocalPod, NamespacedName, NodeView};
use ovs_agent::saved::Saved;
use ovs_agent::settings::Settings;
use tests::private_ovs::PrivateOvs;
use tokio::sync::oneshot;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const LIMIT: Duration = Duration::from_secs(20);

/// An agent in a runtime of its own; ends when dropped.
struct Agent {
    folder: PathBuf,
    runtime: Option<tokio::runtime::Runtime>,
    end: Option<oneshot::Sender<()>>,
    task: Option<tokio::task::JoinHandle<Result<(), ovs_agent::StartError>>>,
}

impl Agent {
    fn start(rundir: &Path, folder: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        use clap::Parser;
        let text = |name: &str| folder.join(name).display().to_string();
        let settings = Settings::try_parse_from([
            "ferrule-agent",
            "--node=node-1",
            "--node-address=192.168.0.1",
            "--pod-cidr=10.244.1.0/24,fd00:10:244:1::/64",
            "--datapath=netdev",
            "--host-network-state=ignore",
            &format!("--ovs-rundir={}", rundir.display()),
            &format!("--cni-socket={}", text("cni.sock")),
            &format!("--api-socket={}", text("agent.sock")),
            &format!("--state-dir={}", text("state")),
        ])?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let ended = async {
            let _ = ended.await;
        };
        let task = runtime.spawn(ovs_agent::run(settings, ended));
        let agent =
            Self { folder: folder.to_owned(), runtime: Some(runtime), end: Some(end), task: Some(task) };
        agent.wait("it listens", |agent| UnixStream::connect(agent.folder.join("agent.sock")).is_ok());
        Ok(agent)
    }

    fn stop(mut self) -> Outcome {
        drop(self.end.take());
        if let (Some(runtime), Some(task)) = (self.runtime.take(), self.task.take()) {
            runtime.block_on(task)??;
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
        Ok(())
    }

    fn wait(&self, what: &str, ready: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !ready(self) {
            assert!(began.elapsed() < LIMIT, "not in time: {what}; {}", self.get("/healthz"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn in_sync(&self) {
        self.wait("in sync", |agent| agent.switch()["inSync"] == true);
    }

    fn get(&self, path: &str) -> serde_json::Value {
        body(&self.get_text(path))
    }

    fn get_text(&self, path: &str) -> String {
        self.request("GET", path)
    }

    fn repair(&self) -> serde_json::Value {
        body(&self.request("POST", "/v1alpha1/repair"))
    }

    /// What an audit finds now, and what was put right before.
    fn audit(&self) -> [Vec<serde_json::Value>; 2] {
        let items = self.get("/v1alpha1/audit")["items"].as_array().cloned().unwrap_or_default();
        let (past, now) = items.into_iter().partition(|item| item["repaired"] == true);
        [now, past]
    }

    fn request(&self, method: &str, path: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(self.folder.join("agent.sock"))?;
            write!(stream, "{method} {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        ask().unwrap_or_default()
    }

    fn switch(&self) -> serde_json::Value {
        self.get("/v1alpha1/switches")["items"][0].take()
    }

    fn sent(&self) -> u64 {
        self.switch()["flowModsSent"].as_u64().unwrap_or(u64::MAX)
    }

    fn call(&self, command: Command) -> Result<Reply, Box<dyn std::error::Error>> {
        let mut stream = UnixStream::connect(self.folder.join("cni.sock"))?;
        stream.write_all(&serde_json::to_vec(&Request { protocol: PROTOCOL, command })?)?;
        stream.shutdown(Shutdown::Write)?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    fn add(&self, container: &str, pod: Option<(&str, &str)>) -> Result<Reply, Box<dyn std::error::Error>> {
        self.call(Command::Add(request(container, pod)))
    }
}

fn body(text: &str) -> serde_json::Value {
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or(serde_json::Value::Null)
}

fn id(container: &str) -> AttachmentId {
    AttachmentId { container_id: container.into(), interface: "eth0".into() }
}

fn request(container: &str, pod: Option<(&str, &str)>) -> AddRequest {
    let id = id(container);
    AddRequest {
        host_interface: id.host_interface(),
        id,
        network: "ferrule".into(),
        netns: "/var/run/netns/none".into(),
        pod: pod.map(|(name, uid)| PodIdentity {
            namespace: "shop".into(),
            name: name.into(),
            uid: uid.into(),
        }),
        addresses: Vec::new(),
        mac: None,
        ipam: None,
        early: false,
        expected: Vec::new(),
    }
}

fn failed(reply: Reply) -> Failure {
    match reply {
        Reply::Failed(failure) => failure,
        other => panic!("it should have failed: {other:?}"),
    }
}

/// The flows of the bridge as text.
fn flows(ovs: &PrivateOvs) -> std::io::Result<BTreeSet<String>> {
    let target = format!("unix:{}", ovs.mgmt_socket("br-int").display());
    let text = ovs.ofctl(["-O", "OpenFlow13", "--no-stats", "dump-flows", target.as_str()])?;
    Ok(text.lines().filter(|line| line.contains("actions=")).map(str::to_owned).collect())
}

fn same(is: &BTreeSet<String>, should_be: &BTreeSet<String>) {
    let differences: Vec<_> = is.symmetric_difference(should_be).collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn a_restarted_agent_sends_nothing_and_a_restarted_switch_gets_everything() -> Outcome {
    let Some(mut ovs) = PrivateOvs::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    assert_eq!(agent.switch()["failMode"], "secure");
    assert_eq!(agent.get("/healthz")["status"], "ok");
    for container in ["one", "two"] {
        assert!(matches!(agent.add(container, None)?, Reply::Added(_)));
    }
    let before = flows(&ovs)?;
    agent.stop()?;

    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    assert_eq!(agent.sent(), 0, "an agent that starts again must not touch the switch");
    same(&flows(&ovs)?, &before);

    ovs.kill_vswitchd()?;
    agent.wait("it sees that the switch is gone", |agent| agent.switch()["inSync"] == false);
    assert!(agent.get("/healthz")["problems"]["switch"].is_string());
    let refusal = failed(agent.call(Command::Status)?);
    assert!(
        refusal.code == code::NOT_AVAILABLE_LIMITED && refusal.msg.contains("ovs-vswitchd"),
        "{refusal:?}"
    );
    ovs.start_vswitchd()?;
    agent.in_sync();
    assert_eq!(flows(&ovs)?.len(), before.len());
    assert!(matches!(agent.call(Command::Status)?, Reply::Done));
    agent.stop()
}

#[test]
fn an_attachment_comes_and_goes_without_a_trace() -> Outcome {
    let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    let empty = flows(&ovs)?;
    let Reply::Added(answer) = agent.add("one", None)? else { panic!("not added") };
    assert_eq!(answer.addresses.len(), 2);
    assert_eq!(answer.mtu, 1450);
    let address = answer.addresses[0].address.to_string();
    assert!(flows(&ovs)?.iter().any(|flow| flow.contains(&address)), "its flows are in the switch");
    assert!(ovs.vsctl(["list-ports", "br-int"])?.contains(&id("one").host_interface()));

    // Again without a DEL: the veth behind the name is another one, so the port is made anew, and the first address rests.
    let held = flows(&ovs)?.len();
    let Reply::Added(again) = agent.add("one", None)? else { panic!("not added") };
    assert!(again.addresses[0].address != answer.addresses[0].address && flows(&ovs)?.len() == held);
    let answer = again;
    let mut check = request("one", None);
    check.expected = answer.addresses.iter().map(|address| address.address).collect();
    assert!(matches!(agent.call(Command::Check(check.clone()))?, Reply::Done));
    check.expected.pop();
    assert_eq!(failed(agent.call(Command::Check(check))?).code, code::CHECK_FAILED);

    for _ in 0..2 {
        assert!(matches!(agent.call(Command::Del(id("one")))?, Reply::Done));
    }
    same(&flows(&ovs)?, &empty);
    assert!(!ovs.vsctl(["list-ports", "br-int"])?.contains(&id("one").host_interface()));
    let text = agent.get_text("/metrics");
    assert!(text.contains("ferrule_agent_addresses_allocated 0"), "{text}");
    assert!(text.contains(r#"ferrule_agent_cni_requests_total{command="ADD",code="0"} 2"#), "{text}");

    // GC frees what is not listed.
    for container in ["two", "three"] {
        assert!(matches!(agent.add(container, None)?, Reply::Added(_)));
    }
    let valid = vec![id("two")];
    assert!(matches!(agent.call(Command::Gc { network: "ferrule".into(), valid })?, Reply::Done));
    let ports = ovs.vsctl(["list-ports", "br-int"])?;
    assert!(ports.contains(&id("two").host_interface()) && !ports.contains(&id("three").host_interface()));
    agent.stop()
}

#[test]
fn a_pod_of_the_saved_state_needs_no_controller_and_another_is_undone() -> Outcome {
    let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let mut view = NodeView::default();
    let key = NamespacedName::new("shop", "cart");
    let pod =
        LocalPod { key: key.clone(), uid: "u1".into(), addresses: Vec::new(), member_of: Default::default() };
    view.pods.insert(key, pod);
    std::fs::create_dir_all(folder.path().join("state"))?;
    let saved = Saved { view: Arc::new(view), ..Saved::default() };
    saved.store(&Saved::path(&folder.path().join("state")))?;

    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    assert!(matches!(agent.add("known", Some(("cart", "u1")))?, Reply::Added(_)));
    let shown = agent.get("/v1alpha1/flows?pod=shop/cart");
    let items = shown["items"].as_array().cloned().unwrap_or_default();
    assert!(!items.is_empty() && items.iter().all(|flow| flow["what"].is_string()), "{shown}");
    let ours = shown.to_string();
    assert!(ours.contains("nw_src=10.244.1.2") && ours.contains("goto_table:"), "{ours}");
    let one_table = agent.get("/v1alpha1/flows?table=SpoofGuard");
    let tables = one_table["items"].as_array().cloned().unwrap_or_default();
    assert!(!tables.is_empty() && tables.iter().all(|flow| flow["table"] == "SpoofGuard"), "{one_table}");
    let wrong = agent.get("/v1alpha1/flows?table=nowhere").to_string();
    assert!(wrong.contains("nowhere") && wrong.contains("SpoofGuard"), "{wrong}");

    let (before, sent) = (flows(&ovs)?, agent.sent());
    let refusal = failed(agent.add("unknown", Some(("cart", "u2")))?);
    assert_eq!(refusal.code, code::TRY_AGAIN);
    assert!(refusal.msg.contains("shop/cart") && refusal.msg.contains("--controller"), "{refusal:?}");
    same(&flows(&ovs)?, &before);
    assert!(agent.sent() >= sent);
    assert!(!ovs.vsctl(["list-ports", "br-int"])?.contains(&id("unknown").host_interface()));
    agent.stop()
}

#[test]
fn foreign_flows_go_and_the_hold_on_forwarding_is_released() -> Outcome {
    let Some(mut ovs) = PrivateOvs::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    let ours = flows(&ovs)?;
    agent.stop()?;
    let target = format!("unix:{}", ovs.mgmt_socket("br-int").display());
    ovs.ofctl(["add-flow", target.as_str(), "table=0,priority=65535,actions=normal"])?;
    ovs.ofctl(["del-flows", target.as_str(), "table=36"])?;

    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    same(&flows(&ovs)?, &ours);

    ovs.kill_vswitchd()?;
    ovs.vsctl(["set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true"])?;
    ovs.start_vswitchd()?;
    agent.in_sync();
    let released = |_: &Agent| {
        ovs.vsctl(["get", "Open_vSwitch", ".", "other_config"])
            .is_ok_and(|text| !text.contains("flow-restore"))
    };
    agent.wait("flow-restore-wait is cleared", released);
    assert_eq!(flows(&ovs)?.len(), ours.len());
    agent.stop()
}

#[test]
fn a_restarted_database_is_used_again() -> Outcome {
    let Some(mut ovs) = PrivateOvs::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    let sent = agent.sent();
    ovs.kill_ovsdb()?;
    agent.wait("it says so", |agent| agent.get("/healthz")["problems"]["database"].is_string());
    assert_eq!(failed(agent.call(Command::Status)?).code, code::NOT_AVAILABLE);
    ovs.start_ovsdb()?;
    agent.in_sync();
    assert_eq!(agent.sent(), sent, "the switch kept its flows, nothing is to be sent");
    assert!(matches!(agent.add("one", None)?, Reply::Added(_)));
    agent.stop()
}

#[test]
fn a_lost_record_of_addresses_gives_no_address_twice() -> Outcome {
    let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    let Reply::Added(first) = agent.add("one", None)? else { panic!("not added") };
    agent.stop()?;
    std::fs::remove_file(folder.path().join("state").join("addresses"))?;

    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    let allocated = |agent: &Agent| {
        let text = agent.get_text("/metrics");
        text.lines().any(|line| line == "ferrule_agent_addresses_allocated 2")
    };
    agent.wait("both addresses are claimed again", allocated);
    let Reply::Added(second) = agent.add("two", None)? else { panic!("not added") };
    for address in &second.addresses {
        assert!(first.addresses.iter().all(|taken| taken.address != address.address), "{address:?} twice");
    }
    agent.stop()
}

#[test]
fn what_an_agent_that_was_away_missed_is_made_up_for() -> Outcome {
    let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    let empty = flows(&ovs)?;
    assert!(matches!(agent.add("one", None)?, Reply::Added(_)));
    assert!(matches!(agent.add("two", None)?, Reply::Added(_)));
    agent.stop()?;
    // A deletion that ferrule-cni could not hand over, and an ADD of which only the address is left.
    let state = folder.path().join("state");
    let tombstone = api::cni::Tombstone { id: id("one"), network: "ferrule".into(), ipam: None };
    std::fs::create_dir_all(state.join("tombstones"))?;
    let path = state.join("tombstones").join(api::cni::Tombstone::file_name(&tombstone.id));
    std::fs::write(&path, serde_json::to_vec(&tombstone)?)?;
    std::fs::remove_file(state.join("attachments").join(format!("{}.json", id("two").host_interface())))?;

    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.wait("both are gone", |_| flows(&ovs).is_ok_and(|flows| flows == empty));
    agent.wait("the tombstone is done", |_| !path.exists());
    let ports = ovs.vsctl(["list-ports", "br-int"])?;
    assert!(!ports.contains(&id("one").host_interface()) && !ports.contains(&id("two").host_interface()));
    agent.stop()
}

#[test]
fn liars_and_the_absent_get_one_clear_sentence() -> Outcome {
    let folder = tempfile::tempdir()?;
    // A database that drops the line in mid-message, and a switch that speaks something else.
    let liar = |name: &str, says: &'static [u8]| -> std::io::Result<()> {
        let listener = UnixListener::bind(folder.path().join(name))?;
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.write_all(says);
            }
        });
        Ok(())
    };
    liar("db.sock", br#"{"id":0,"result":{"name":"Open_vSw"#)?;
    liar("br-int.mgmt", b"\x04\x00\x00\x08\x00\x00\x00\x01\x04\x0d\xff")?;
    let agent = Agent::start(folder.path(), folder.path())?;
    agent.wait("both are named", |agent| {
        let health = agent.get("/healthz");
        health["problems"]["switch"].is_string() && health["problems"]["database"].is_string()
    });
    let health = agent.get("/healthz");
    assert_eq!(health["status"], "broken", "{health}");
    let refusal = failed(agent.call(Command::Status)?);
    assert!(refusal.msg.contains("check ovs-vswitchd"), "{refusal:?}");
    // A request that is none is answered too.
    let mut stream = UnixStream::connect(folder.path().join("cni.sock"))?;
    stream.write_all(b"{\"protocol\":1,")?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    assert_eq!(failed(serde_json::from_slice(&text)?).code, code::DECODE);
    agent.stop()
}

#[test]
fn what_somebody_does_to_the_flows_is_put_right_at_once() -> Outcome {
    let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    assert!(matches!(agent.add("one", None)?, Reply::Added(_)));
    let before = flows(&ovs)?;
    let target = format!("unix:{}", ovs.mgmt_socket("br-int").display());
    // What is done, and how many flow-mods put it right.
    for (command, flow, repairs) in [
        ("del-flows", "table=36", 6),
        ("add-flow", "table=80,priority=65000,ip,actions=drop", 1),
        ("mod-flows", "table=120,actions=drop", 9),
        ("add-flow", "cookie=0x7,table=28,priority=0,actions=drop", 1),
    ] {
        let sent = agent.sent();
        ovs.ofctl(["-O", "OpenFlow13", command, target.as_str(), flow])?;
        agent.wait(flow, |agent| agent.sent() >= sent + repairs);
        agent.in_sync();
        assert_eq!(agent.sent(), sent + repairs, "{command} {flow}");
        same(&flows(&ovs)?, &before);
    }
    let metrics = agent.get_text("/metrics");
    assert!(metrics.contains("ferrule_agent_flows_drifted_total 17"), "{metrics}");
    // What the switch learns is its own, and what comes and goes again needs nothing.
    let sent = agent.sent();
    ovs.ofctl(["-O", "OpenFlow13", "add-flow", target.as_str(), "table=44,priority=1,actions=drop"])?;
    assert!(matches!(agent.add("two", None)?, Reply::Added(_)));
    assert!(agent.sent() > sent);
    assert!(flows(&ovs)?.iter().any(|flow| flow.contains("table=44, priority=1 ")));
    agent.stop()
}

/// What somebody may do to a flow of this text, for ovs-ofctl.
fn mutation(flow: &str, kind: u32) -> (&'static str, String) {
    let (_, flow) = flow.trim().split_once(", ").unwrap_or_default();
    let (of, actions) = flow.split_once(" actions=").unwrap_or_default();
    let of = of.replace(", ", ",");
    match kind {
        0 => ("del-flows", of),
        1 if actions == "drop" => ("mod-flows", format!("{of},actions=NORMAL")),
        1 => ("mod-flows", format!("{of},actions=drop")),
        _ => {
            let rest = of.split_once(",priority=").unwrap_or_default();
            let match_ = rest.1.split_once(',').map_or("", |(_, match_)| match_);
            ("add-flow", format!("{},priority=31337,{match_},actions=drop", rest.0))
        }
    }
}

#[test]
fn random_mutations_are_named_and_the_identical_program_comes_back() -> Outcome {
    let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    assert!(matches!(agent.add("one", None)?, Reply::Added(_)));
    agent.in_sync();
    let before = flows(&ovs)?;
    let [now, past] = agent.audit();
    assert!(now.is_empty() && past.is_empty(), "{now:#?}{past:#?}");
    let target = format!("unix:{}", ovs.mgmt_socket("br-int").display());
    let all: Vec<&String> = before.iter().filter(|flow| !flow.contains("table=44,")).collect();
    let mut random = 0x9e37_79b9_u32;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) as usize % below
    };
    for round in 1..=60u64 {
        let flow = all[draw(all.len())];
        let kind = draw(3) as u32;
        let (command, what) = mutation(flow, kind);
        ovs.ofctl(["-O", "OpenFlow13", "--strict", command, target.as_str(), what.as_str()])?;
        let drifted = format!("ferrule_agent_flows_drifted_total {round}");
        agent.wait(&what, |agent| agent.get_text("/metrics").lines().any(|line| line == drifted));
        agent.in_sync();
        same(&flows(&ovs)?, &before);
        let [now, past] = agent.audit();
        let last = past.last().cloned().unwrap_or_default();
        let difference = ["missing", "changed", "extra"][kind as usize];
        assert!(now.is_empty() && last["difference"] == difference, "{command} {what}: {last:#} {now:#?}");
        let priority = what.split(',').find(|word| word.starts_with("priority=")).unwrap_or("priority=");
        let object = last["object"].as_str().unwrap_or_default();
        assert!(object.contains(priority), "{command} {what}: {last:#}");
        let owners = last["owners"].as_array().cloned().unwrap_or_default();
        assert_eq!(owners.is_empty(), kind == 2, "{command} {what}: {last:#}");
    }
    agent.stop()
}

#[test]
fn what_is_beside_flows_is_found_and_put_right_when_somebody_asks() -> Outcome {
    let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(ovs.rundir(), folder.path())?;
    agent.in_sync();
    let before = flows(&ovs)?;
    let target = format!("unix:{}", ovs.mgmt_socket("br-int").display());
    let ofctl = |words: &[&str]| {
        let all: Vec<&str> = ["-O", "OpenFlow13", words[0], target.as_str()]
            .into_iter()
            .chain(words[1..].iter().copied())
            .collect();
        ovs.ofctl(all)
    };
    let meters = ofctl(&["dump-meters"])?;
    // The agent looks at its meters every 30 s, or when somebody asks.
    ofctl(&["del-meters"])?;
    let [now, past] = agent.audit();
    let is_meter = |item: &serde_json::Value| item["place"] == "meter" && item["difference"] == "missing";
    assert!(!now.is_empty() || !past.is_empty());
    assert!(now.iter().chain(&past).all(is_meter), "{now:#?}{past:#?}");
    agent.repair();
    assert!(same_lines(&ofctl(&["dump-meters"])?, &meters));
    assert!(agent.audit()[0].is_empty());

    ofctl(&["add-group", "group_id=7,type=all,bucket=actions=drop"])?;
    ofctl(&["add-meter", "meter=77,kbps,band=type=drop,rate=1"])?;
    ovs.vsctl(["add-port", "br-int", "by-hand", "--", "set", "interface", "by-hand", "type=internal"])?;
    agent.wait("the port is seen", |agent| agent.audit()[0].len() == 3);
    let named = |items: &[serde_json::Value]| {
        let mut all: Vec<String> = items
            .iter()
            .map(|item| format!("{} {}", item["difference"], item["object"]).replace('"', ""))
            .collect();
        all.sort();
        all
    };
    let extra = ["extra group 7", "extra meter 77", "extra port by-hand"];
    assert_eq!(named(&agent.audit()[0]), extra);
    // To read is not to change.
    assert!(agent.request("GET", "/v1alpha1/repair").starts_with("HTTP/1.1 405"), "repairs are posted");
    assert_eq!(named(&agent.audit()[0]), extra);
    let repaired = agent.repair();
    let items = repaired["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(named(&items), extra, "{repaired:#}");
    assert!(items.iter().all(|item| item["repaired"] == true), "{repaired:#}");
    assert!(agent.audit()[0].is_empty());
    assert!(!ovs.vsctl(["list-ports", "br-int"])?.contains("by-hand"));
    assert!(same_lines(&ofctl(&["dump-meters"])?, &meters));
    assert!(!ofctl(&["dump-groups"])?.contains("group_id=7"));
    same(&flows(&ovs)?, &before);
    let metrics = agent.get_text("/metrics");
    assert!(metrics.contains(r#"ferrule_agent_things_drifted_total{place="group"} 1"#), "{metrics}");
    // A port that comes back later is somebody's wish again, until he asks.
    ovs.vsctl(["add-port", "br-int", "by-hand", "--", "set", "interface", "by-hand", "type=internal"])?;
    agent.wait("the port is seen again", |agent| named(&agent.audit()[0]) == ["extra port by-hand"]);

    // What is in the database is put right by itself, and told.
    ovs.vsctl(["set-fail-mode", "br-int", "standalone"])?;
    let told = |agent: &Agent| {
        agent.audit()[1]
            .iter()
            .any(|item| item["object"] == "Bridge fail_mode" && item["place"] == "database")
    };
    agent.wait("the fail mode was told", told);
    assert_eq!(ovs.vsctl(["get-fail-mode", "br-int"])?.trim(), "secure");
    agent.stop()
}

/// The first line carries the transaction's number.
fn same_lines(one: &str, other: &str) -> bool {
    let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<BTreeSet<_>>();
    lines(one) == lines(other)
}
