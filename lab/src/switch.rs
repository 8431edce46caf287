//! One node's Open vSwitch: its own database and switch, and on the userspace datapath br-phy, the bridge that holds the
//! uplink and the node's address. br-int is the agent's, never touched here.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use network::Mac;

use crate::command::{self, search_path};
use crate::datapath::Datapath;
use crate::error::{Context, Error, Result};
use crate::layout::{Family, Layout, NodeIndex, underlay_prefix};
use crate::process::{Process, wait_until};
use crate::record::Record;
use crate::underlay::{UPLINK, hold_addresses};
use crate::{Interrupt, netns};

/// The bridge with the uplink and the node's address.
pub const BRIDGE: &str = "br-phy";

/// How long a daemon of Open vSwitch may take to listen.
const LIMIT: Duration = Duration::from_secs(20);

/// Where distributions and source builds put the schema.
const SCHEMAS: [&str; 2] =
    ["/usr/share/openvswitch/vswitch.ovsschema", "/usr/local/share/openvswitch/vswitch.ovsschema"];

/// The environment that makes the tools of Open vSwitch talk to this node's.
pub fn environment(layout: &Layout, node: NodeIndex) -> Vec<(&'static str, String)> {
    let directory = layout.ovs_directory(node).display().to_string();
    ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"]
        .into_iter()
        .map(|variable| (variable, directory.clone()))
        .collect()
}

/// Makes the database and starts both daemons; what has the node's addresses stands when this returns.
pub fn up(layout: &Layout, record: &Record, node: NodeIndex, interrupt: &Interrupt) -> Result<()> {
    let directory = layout.ovs_directory(node);
    let schema = SCHEMAS.iter().find(|path| Path::new(path).is_file()).ok_or_else(|| {
        Error::MissingProgram { program: "vswitch.ovsschema".to_owned(), package: "openvswitch-switch" }
    })?;
    command::run(tool(layout, node, "ovsdb-tool").arg("create").arg(directory.join("conf.db")).arg(schema))?;
    start_ovsdb_server(layout, node, interrupt)?;
    command::run(tool(layout, node, "ovs-vsctl").args(["--no-wait", "init"]).args([
        "--",
        "set",
        "Open_vSwitch",
        ".",
        &format!("external_ids:system-id={}", node.name()),
    ]))?;
    start_vswitchd(layout, record, node, interrupt)
}

/// Starts ovsdb-server on the node's database and waits until it listens.
pub fn start_ovsdb_server(layout: &Layout, node: NodeIndex, interrupt: &Interrupt) -> Result<()> {
    let directory = layout.ovs_directory(node);
    let socket = directory.join("db.sock");
    let process = Process::start(
        layout,
        &format!("{}.ovsdb-server", node.name()),
        Some(&netns::path(&layout.node_namespace(node))),
        daemon(layout, node, "ovsdb-server")
            .arg(format!("--remote=punix:{}", socket.display()))
            .arg("--remote=db:Open_vSwitch,Open_vSwitch,manager_options")
            .arg(directory.join("conf.db")),
    )?;
    wait_until(&process, LIMIT, interrupt, || UnixStream::connect(&socket).is_ok())
}

/// Starts ovs-vswitchd and gives br-phy, where there is one, what it needs. When the agent's bridge is in the database already, the switch is told
/// to leave the datapath alone until the agent has put everything back (design §7): whoever starts the switch must say so.
pub fn start_vswitchd(
    layout: &Layout,
    record: &Record,
    node: NodeIndex,
    interrupt: &Interrupt,
) -> Result<()> {
    let bridges = command::run(tool(layout, node, "ovs-vsctl").args(["--no-wait", "list-br"]))?;
    let restoring = bridges.lines().any(|bridge| bridge != BRIDGE);
    if restoring {
        command::run(tool(layout, node, "ovs-vsctl").args([
            "--no-wait",
            "set",
            "Open_vSwitch",
            ".",
            "other_config:flow-restore-wait=true",
        ]))?;
    }
    let directory = layout.ovs_directory(node);
    let mut command = daemon(layout, node, "ovs-vswitchd");
    if record.datapath == Datapath::Netdev {
        command.arg("--disable-system-route");
    }
    command.arg(format!("unix:{}", directory.join("db.sock").display()));
    let process = Process::start(
        layout,
        &format!("{}.ovs-vswitchd", node.name()),
        Some(&netns::path(&layout.node_namespace(node))),
        &command,
    )?;
    let control = directory.join(format!("ovs-vswitchd.{}.ctl", process.pid));
    wait_until(&process, LIMIT, interrupt, || UnixStream::connect(&control).is_ok())?;
    if record.datapath == Datapath::System {
        // The kernel's tunnels go by the kernel's routes.
        return Ok(());
    }
    physical_bridge(layout, node, record.family)?;
    tunnels_find_their_way(layout, node, record.family, &process, interrupt)
}

/// Tells the switch the way to the other nodes, because it does not read the kernel's routes: it would forget them all and read
/// them anew whenever any device of the node changes, and tunnels that are looked up in between lose packets in both directions.
fn tunnels_find_their_way(
    layout: &Layout,
    node: NodeIndex,
    family: Family,
    switch: &Process,
    interrupt: &Interrupt,
) -> Result<()> {
    layout.node_addresses(node, family).into_iter().try_for_each(|address| {
        let range = format!("{address}/{}", underlay_prefix(address));
        // It takes a route once it has seen the new address of br-phy.
        wait_until(switch, LIMIT, interrupt, || {
            command::run(tool(layout, node, "ovs-appctl").args(["ovs/route/add", &range, BRIDGE])).is_ok()
        })
    })
}

/// br-phy and the node's addresses on it; the same again changes nothing. Its Ethernet address is fixed, and not the uplink's: the
/// switch would choose another at every start, while the neighbours still have the old one.
fn physical_bridge(layout: &Layout, node: NodeIndex, family: Family) -> Result<()> {
    let addresses = layout.node_addresses(node, family);
    let mac = addresses.first().map(|address| Mac::from_address(*address).to_string()).unwrap_or_default();
    command::run(
        tool(layout, node, "ovs-vsctl")
            .args(["--timeout=20", "--may-exist", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE])
            .args(["datapath_type=netdev", &format!("other_config:hwaddr=\"{mac}\"")])
            .args(["--", "--may-exist", "add-port", BRIDGE, UPLINK]),
    )?;
    hold_addresses(layout, family, node, BRIDGE)
}

/// A tool of Open vSwitch that talks to this node's.
pub fn tool(layout: &Layout, node: NodeIndex, program: &str) -> Command {
    let mut command = Command::new(program);
    command.envs(environment(layout, node)).env("PATH", search_path());
    command
}

fn daemon(layout: &Layout, node: NodeIndex, program: &str) -> Command {
    let log = layout.logs().join(format!("{}.{program}.log", node.name()));
    let mut command = tool(layout, node, program);
    command.args(["-vconsole:off", "-vsyslog:off", "-vfile:info", "--pidfile"]);
    command.arg(format!("--log-file={}", log.display()));
    command
}

/// The directories of a node's switch.
pub fn make_directories(layout: &Layout, node: NodeIndex) -> Result<()> {
    let directory = layout.ovs_directory(node);
    std::fs::create_dir_all(&directory).context(|| format!("make {}", directory.display()))
}
