//! An agent with the load of the design's memory row on a private switch: what its process keeps resident, how long until
//! the switch holds everything, what a change costs then; and a policy of 15,000 address blocks beside `ovs-ofctl` with the
//! same flows.
//!
//! The agent is a process of its own: this program again, told to be one. Its state comes from the disk, as after a restart
//! without a controller.

#[path = "../../compiler/benches/loaded_node/mod.rs"]
#[allow(dead_code)]
mod loaded_node;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::cni::{AttachmentId, PodAddress, PodIdentity};
use api::generated::ferrule::v1alpha1 as wire;
use api::watermark::{Epoch, Watermark};
use clap::Parser;
use compiler::NodeConfig;
use loaded_node::{BUDGET, Load, loaded_node};
use network::{
    Cidr, Direction, Few, IpBlock, NamespacedName, NodeName, NodeView, PeerMatch, Protocol, Service,
    ServiceEndpoint, ServicePort,
};
use openflow::Message;
use openflow::connection::Config;
use openflow::io::{Client, Target};
use ovs_agent::attachment::{Attachment, Store};
use ovs_agent::event::{Database, Event, Observed, PortStatus, Session};
use ovs_agent::node::{Node, Start};
use ovs_agent::saved::Saved;
use ovs_agent::settings::Settings;
use ovs_agent::shadow::Shadow;
use tests::private_ovs::PrivateOvs;

/// The first word of the arguments that make this program an agent.
const AGENT: &str = "agent";
const BUDGET_MIB: f64 = 60.0;
/// What `deploy/chart` sets for an agent (ADR-0018).
const ENVIRONMENT: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "262144")];
const BLOCKS: u32 = 15_000;
const ROUNDS: usize = 5;
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == AGENT) {
        let settings = Settings::try_parse_from(arguments)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(ovs_agent::run(settings, std::future::pending()))?;
        return Ok(());
    }
    memory_row()?;
    one_member()?;
    services_row()?;
    one_endpoint()?;
    blocks()
}

/// A folder of an agent that knows this from before.
fn kept(view: NodeView, attachments: &[Attachment]) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state");
    std::fs::create_dir_all(&state)?;
    Saved { view: Arc::new(view), watermark: watermark() }.store(&Saved::path(&state))?;
    let store = Store::open(state.join("attachments"))?;
    attachments.iter().try_for_each(|attachment| store.put(attachment))?;
    Ok(folder)
}

/// An agent that has filled an empty switch.
struct Filled {
    agent: Agent,
    flows: u64,
    /// Seconds from its start.
    elapsed: f64,
    /// What is resident when it has come to rest, and was at most, in MiB.
    rest: f64,
    peak: f64,
}

impl Filled {
    fn new(ovs: &PrivateOvs, folder: &tempfile::TempDir, config: &NodeConfig, least: u64) -> Result<Self> {
        let began = Instant::now();
        let agent = Agent::start(ovs, folder.path(), config)?;
        let flows = agent.in_sync(least)?;
        let elapsed = began.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_secs(2));
        let (rest, peak) = (agent.memory("VmRSS")?, agent.memory("VmHWM")?);
        Ok(Self { agent, flows, elapsed, rest, peak })
    }
}

/// The process under load.
fn memory_row() -> Result<()> {
    let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
    let (view, config, attachments) = node(BUDGET);
    let folder = kept(view, &attachments)?;

    let empty = tempfile::tempdir()?;
    let idle = {
        let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
        let agent = Agent::start(&ovs, empty.path(), &config)?;
        agent.in_sync(0)?;
        agent.memory("VmRSS")?
    };
    let Filled { agent, flows, elapsed, rest, peak } = Filled::new(&ovs, &folder, &config, 100_000)?;
    println!(
        "ratio: agent, 110 pods, 10,000 rules over 2,000 sets of 50: {flows} flows in the switch {elapsed:.2} s after its start"
    );
    println!(
        "ratio: agent, the same: {rest:.1} MiB resident ({idle:.1} idle), {:.2} of {BUDGET_MIB:.0} MiB; {peak:.1} MiB at the peak",
        rest / BUDGET_MIB
    );
    drop(agent);
    let began = Instant::now();
    let agent = Agent::start(&ovs, folder.path(), &config)?;
    agent.in_sync(100_000)?;
    let (sent, elapsed) = (agent.field("flowModsSent")?, began.elapsed().as_secs_f64());
    println!("ratio: agent, the same started again: {sent} flow-mods sent, in sync after {elapsed:.2} s");
    println!(
        "ratio: agent, the same started again: {:.1} MiB resident, {:.1} MiB at the peak",
        agent.memory("VmRSS")?,
        agent.memory("VmHWM")?
    );
    Ok(())
}

/// What a change of one set costs an agent that holds the load, without a switch.
fn one_member() -> Result<()> {
    let mut world = World::new(BUDGET);
    world.settle();
    let Some(id) = world.view.sets.keys().next().copied() else { return Ok(()) };
    let stranger = "203.0.113.7".parse()?;
    let (mut times, mut sent) = (Vec::new(), BTreeSet::new());
    for more in [true, false, true, false, true] {
        let known = world.view.sets.get(&id).cloned().unwrap_or_default();
        let mut set = known;
        let _ = if more { set.members.insert(stranger) } else { set.members.remove(&stranger) };
        let mut of_set = NodeView::default();
        of_set.sets.insert(id, set.clone());
        let delta = api::delta::delta(&Default::default(), &api::delta::resources(&of_set));
        let event = world.delta(delta);
        let began = Instant::now();
        world.node.handle(event);
        let flows = world.node.work().flows;
        times.push(began.elapsed().as_secs_f64());
        sent.insert(flows.map_or(0, |(_, flows)| flows.len()));
        world.node.handle(Event::SwitchConfirmed);
        world.settle();
        world.view.sets.insert(id, set);
    }
    println!(
        "ratio: agent, one address-set member at that load: {:.2} ms from the delta to its flow-mods, {sent:?} flow-mods",
        median(times) * 1e3
    );
    Ok(())
}

/// The process under that load and Services beside it.
fn services_row() -> Result<()> {
    let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
    let (mut view, config, attachments) = node(BUDGET);
    view.services = services();
    let folder = kept(view, &attachments)?;
    let Filled { flows, elapsed, rest, peak, agent: _running } =
        Filled::new(&ovs, &folder, &config, 300_000)?;
    println!(
        "ratio: agent, the same and {SERVICES} Services of {ENDPOINTS} endpoints: {flows} flows in the switch {elapsed:.2} s after its start"
    );
    println!(
        "ratio: agent, the same and {SERVICES} Services: {rest:.1} MiB resident, {:.2} of {BUDGET_MIB:.0} MiB; {peak:.1} MiB at the peak",
        rest / BUDGET_MIB
    );
    Ok(())
}

/// What an endpoint that goes or comes back costs beside all these Services: up to the barrier of a switch that holds them.
fn one_endpoint() -> Result<()> {
    let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
    ovs.dummy_bridge("br-int")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let small = Load { nodes: 2, pods: 10, rules: 10, sets: 10, members: 5 };
    let (mut view, config, attachments) = node(small);
    view.services = services();
    let began = Instant::now();
    let mut world = World::of(view, config, attachments);
    let target = Target::Unix(ovs.mgmt_socket("br-int"));
    let (client, _events) = runtime.block_on(Client::connect(&target, Config::default()))?;
    let flows = runtime.block_on(world.apply(&client))?;
    println!(
        "ratio: {SERVICES} Services of {ENDPOINTS} endpoints, from the first event to the barrier: {:.2} s for {flows} flows",
        began.elapsed().as_secs_f64()
    );
    let Some(whole) = world.view.services.values().next().cloned() else { return Ok(()) };
    let mut fewer = (*whole).clone();
    fewer.ports.iter_mut().for_each(|port| drop(port.endpoints.pop_first()));
    let (mut times, mut sent) = (Vec::new(), BTreeSet::new());
    for round in 0..6 {
        let mut of_service = NodeView::default();
        let now = if round % 2 == 0 { Arc::new(fewer.clone()) } else { Arc::clone(&whole) };
        of_service.services.insert(whole.key.clone(), now);
        let event = world.delta(api::delta::delta(&Default::default(), &api::delta::resources(&of_service)));
        let began = Instant::now();
        world.node.handle(event);
        sent.insert(runtime.block_on(world.apply(&client))?);
        times.push(began.elapsed().as_secs_f64());
    }
    println!(
        "ratio: one endpoint of {ENDPOINTS} at that load: {:.2} ms from the delta to the barrier, {sent:?} flow-mods in one bundle",
        median(times) * 1e3
    );
    Ok(())
}

const SERVICES: u32 = 5_000;
const ENDPOINTS: u32 = 20;

/// So many, each with an address and endpoints of its own.
fn services() -> BTreeMap<NamespacedName, Arc<Service>> {
    let endpoint = |number: u32| ServiceEndpoint {
        pod: Some(NamespacedName::new("services", format!("pod-{number}"))),
        node: Some(NodeName::new(format!("node-{}", number % 100))),
        ..ServiceEndpoint::new([std::net::Ipv4Addr::from(0x0a80_0000 + number).into()], 8080)
    };
    let service = |number: u32| Service {
        created: Some(u64::from(number)),
        cluster_ips: [std::net::Ipv4Addr::from(0x0a60_0000 + number).into()].into(),
        ports: vec![ServicePort::new(
            Protocol::Tcp,
            80,
            (0..ENDPOINTS).map(|k| endpoint(number * ENDPOINTS + k)),
        )],
        ..Service::new(NamespacedName::new("services", format!("service-{number}")))
    };
    (0..SERVICES).map(service).map(|service| (service.key.clone(), Arc::new(service))).collect()
}

/// A policy of many blocks comes to a node that is in force.
fn blocks() -> Result<()> {
    let small = Load { nodes: 2, pods: 10, rules: 10, sets: 10, members: 5 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut ours, mut theirs, mut count) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
        ovs.dummy_bridge("br-int")?;
        let mut world = World::new(small);
        let target = Target::Unix(ovs.mgmt_socket("br-int"));
        let connect = Client::connect(&target, Config::default());
        let (client, _events) = runtime.block_on(connect)?;
        runtime.block_on(world.apply(&client))?;

        let mut policy = world.view.policies.values().next().cloned().context("no policy")?;
        policy.id.name = "blocks".into();
        policy.rules.truncate(1);
        for rule in &mut policy.rules {
            rule.direction = Direction::Egress;
            let block = |n: u32| Cidr::new(std::net::Ipv4Addr::from(0x2000_0000 + n * 0x1000).into(), 24);
            let blocks = (0..BLOCKS).map(|n| block(n).map(IpBlock::whole)).collect::<Result<_, _>>()?;
            rule.peers = PeerMatch::Some { sets: Few::new(), blocks };
        }
        let mut of_policy = NodeView::default();
        of_policy.policies.insert(policy.id.clone(), policy);
        let delta = api::delta::delta(&Default::default(), &api::delta::resources(&of_policy));
        let event = world.delta(delta);
        let began = Instant::now();
        world.node.handle(event);
        count = runtime.block_on(world.apply(&client))?;
        ours.push(began.elapsed().as_secs_f64());
        ensure!(count > BLOCKS as usize, "{count} flow-mods");

        let dump = ovs.ofctl(["-OOpenFlow13", "--no-stats", "--no-names", "dump-flows", "br-int"])?;
        let text = ovs.rundir().join("flows.txt");
        std::fs::write(&text, dump)?;
        ovs.ofctl(["-OOpenFlow13", "del-flows", "br-int"])?;
        std::thread::sleep(Duration::from_millis(300));
        let file = text.to_str().context("the directory's name is not UTF-8")?;
        let began = Instant::now();
        ovs.ofctl(["-OOpenFlow13", "--bundle", "add-flows", "br-int", file])?;
        theirs.push(began.elapsed().as_secs_f64());
    }
    // The best of each: what others do with the processors only ever adds, and to one turn and not to the other.
    let best = |times: Vec<f64>| times.into_iter().fold(f64::INFINITY, f64::min);
    let (ours, theirs) = (best(ours), best(theirs));
    println!(
        "ratio: a policy of {BLOCKS} blocks, from the delta to the commit: {ours:.3} s for {count} flow-mods, {:.2} of ovs-ofctl --bundle add-flows ({theirs:.3} s; the best of {ROUNDS} turns each; goal 1.3)",
        ours / theirs
    );
    Ok(())
}

fn watermark() -> Watermark {
    Watermark { epoch: Epoch(1), revisions: BTreeMap::new() }
}

/// The node's view and configuration, and its pods as attachments.
fn node(load: Load) -> (NodeView, NodeConfig, Vec<Attachment>) {
    let (view, config, ports) = loaded_node(load);
    let attachment = |port: &compiler::LocalPort| {
        let (pod, uid) = port.pod.clone()?;
        let id = AttachmentId { container_id: pod.name().to_owned(), interface: "eth0".into() };
        let address =
            |address: &std::net::IpAddr| PodAddress { address: *address, gateway: *address, range: None };
        Some(Attachment {
            host_interface: id.host_interface(),
            id,
            network: "ferrule".into(),
            netns: String::new(),
            pod: Some(PodIdentity {
                namespace: pod.namespace().to_owned(),
                name: pod.name().to_owned(),
                uid,
            }),
            mac: port.mac,
            addresses: port.addresses.iter().map(address).collect(),
            ipam: None,
        })
    };
    let attachments = ports.iter().filter_map(attachment).collect();
    (view, config, attachments)
}

/// An agent's state without drivers, in force from the start.
struct World {
    node: Node,
    view: NodeView,
    nonce: u64,
}

impl World {
    fn new(load: Load) -> Self {
        let (view, config, attachments) = node(load);
        Self::of(view, config, attachments)
    }

    fn of(view: NodeView, config: NodeConfig, attachments: Vec<Attachment>) -> Self {
        let own = view.nodes.get(&config.node).cloned();
        let names = [config.gateway.clone(), config.tunnel.clone()];
        let interfaces = attachments.iter().map(|attachment| attachment.host_interface.clone());
        let status = |(name, number): (String, u32)| (name, PortStatus { ofport: Some(number), error: None });
        let ports = names.into_iter().chain(interfaces).zip(1..).map(status).collect();
        let mut node = Node::new(Start {
            described: own.unwrap_or_else(|| network::Node {
                name: config.node.clone(),
                labels: BTreeMap::new(),
                addresses: Vec::new(),
                pod_cidrs: Vec::new(),
                ..network::Node::default()
            }),
            config,
            saved: Saved { view: Arc::new(view.clone()), watermark: watermark() },
            attachments: attachments.into_iter().map(|a| (a.id.clone(), a)).collect(),
            has_controllers: true,
            revision: 1,
        });
        node.handle(Event::StreamOpened(Session(1), "controller:1".into()));
        node.handle(Event::Database(Box::new(Database { ports, realized: true, ..Database::default() })));
        let observed =
            Observed { session: Session(1), version: String::new(), shadow: Shadow::default(), copies: true };
        node.handle(Event::SwitchObserved(Box::new(observed)));
        Self { node, view, nonce: 0 }
    }

    fn delta(&mut self, delta: wire::Delta) -> Event {
        self.nonce += 1;
        let watermark = Some(api::convert::encode_watermark(&watermark()));
        Event::Delta(Session(1), Box::new(wire::Delta { nonce: self.nonce, watermark, ..delta }))
    }

    /// A switch that takes everything.
    fn settle(&mut self) {
        while self.node.work().flows.is_some() {
            self.node.handle(Event::SwitchConfirmed);
        }
    }

    /// A real one; gives the flow-mods that it took.
    async fn apply(&mut self, client: &Client) -> Result<usize> {
        let mut sent = 0;
        while let Some((_, flows)) = self.node.work().flows {
            sent += flows.len();
            client.apply_bundle(flows.into_iter().map(|flow| Message::FlowMod(Box::new(flow)))).await?;
            client.barrier().await?;
            self.node.handle(Event::SwitchConfirmed);
        }
        Ok(sent)
    }
}

/// An agent as a process; ends when dropped.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(ovs: &PrivateOvs, folder: &Path, config: &NodeConfig) -> Result<Self> {
        let text = |name: &str| folder.join(name).display().to_string();
        let child = Command::new(std::env::current_exe()?)
            .arg(AGENT)
            .envs(ENVIRONMENT)
            .args([
                format!("--node={}", config.node),
                "--node-address=172.30.0.1".into(),
                "--pod-cidr=10.64.1.0/24,fd00:10:244:1::/64".into(),
                "--datapath=netdev".into(),
                "--host-network-state=ignore".into(),
                format!("--ovs-rundir={}", ovs.rundir().display()),
                format!("--cni-socket={}", text("cni.sock")),
                format!("--api-socket={}", text("agent.sock")),
                format!("--state-dir={}", text("state")),
            ])
            .spawn()?;
        Ok(Self { child, socket: folder.join("agent.sock") })
    }

    /// Waits until the switch holds at least so many flows and all it should; gives how many.
    fn in_sync(&self, flows: u64) -> Result<u64> {
        let began = Instant::now();
        loop {
            let switch = self.switch().unwrap_or_default();
            let held = switch["flows"].as_u64().unwrap_or_default();
            if switch["inSync"] == true && held >= flows {
                return Ok(held);
            }
            ensure!(began.elapsed() < LIMIT, "the agent is not in sync: {switch}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn field(&self, name: &str) -> Result<u64> {
        self.switch()?[name].as_u64().with_context(|| format!("no {name}"))
    }

    fn switch(&self) -> Result<serde_json::Value> {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&self.socket)?;
        write!(stream, "GET /v1alpha1/switches HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (_, body) = text.split_once("\r\n\r\n").context("no body")?;
        Ok(serde_json::from_str::<serde_json::Value>(body)?["items"][0].take())
    }

    /// A line of `/proc/PID/status`, in MiB.
    fn memory(&self, field: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kib.with_context(|| format!("no {field}"))? / 1024.0)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
