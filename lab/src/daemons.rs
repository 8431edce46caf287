//! How the controller and the agents of a lab are started: their flags, sockets, tokens and Node objects. The one place that
//! knows the daemons' command lines.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use objects::translate::node::THIS_CLUSTER;

use crate::error::{Context, Error, Result};
use crate::layout::{FIRST_CONTROLLER, Family, Layout, NodeIndex, controller_name, pod_cidrs};
use crate::process::{Process, wait_until};
use crate::record::Record;
use crate::{Interrupt, netns};

/// How long a daemon may take to listen.
const LIMIT: Duration = Duration::from_secs(20);

/// The binaries that a lab runs.
pub const BINARIES: [&str; 4] = ["ferrule", "ferrule-agent", "ferrule-cni", "ferrule-controller"];

/// Fails with what to do when one is missing.
pub fn check_binaries(directory: &Path) -> Result<()> {
    match BINARIES.iter().map(|binary| directory.join(binary)).find(|path| !path.is_file()) {
        Some(path) => Err(Error::MissingBinary { path }),
        None => Ok(()),
    }
}

/// The process name of a node's agent.
pub fn agent_name(node: NodeIndex) -> String {
    format!("{}.agent", node.name())
}

/// Starts a controller in the underlay's namespace and waits until it answers.
pub fn start_controller(layout: &Layout, record: &Record, number: u8, interrupt: &Interrupt) -> Result<()> {
    if number > record.controllers {
        return Err(Error::BadOption(format!("this lab has {} controller(s)", record.controllers)));
    }
    let socket = layout.controller_socket_of(number);
    let mut command = Command::new(record.binaries.join("ferrule-controller"));
    match &record.kubernetes {
        Some(kubernetes) => command.args(["--kubeconfig".as_ref(), kubernetes.kubeconfig.as_os_str()]),
        None => command
            .args(["--manifests".as_ref(), record.manifests.as_os_str()])
            .args(["--manifests".as_ref(), layout.node_manifests().as_os_str()]),
    };
    command
        .args(["--listen", &layout.controller_address_of(number, record.family).to_string()])
        .args(["--api", &format!("unix:{}", socket.display())])
        .args(["--tls-dir".as_ref(), layout.tls().as_os_str()])
        .args(["--node-tokens".as_ref(), layout.tokens().as_os_str()])
        .args(["--state-dir".as_ref(), layout.controller_state(number).as_os_str()]);
    for address in layout.gateway_addresses(record.family) {
        command.args(["--tls-name", &address.to_string()]);
    }
    if record.recorded {
        command.args(["--record".as_ref(), layout.recording_of(number).as_os_str()]).arg("--check-recompute");
    }
    let namespace = netns::path(&layout.underlay_namespace());
    let _ = std::fs::remove_file(&socket);
    let process = Process::start(layout, &controller_name(number), Some(&namespace), &command)?;
    wait_until(&process, LIMIT, interrupt, || UnixStream::connect(&socket).is_ok())
}

fn controllers(layout: &Layout, record: &Record) -> String {
    let address = |number| layout.controller_address_of(number, record.family).to_string();
    (FIRST_CONTROLLER..=record.controllers).map(address).collect::<Vec<_>>().join(",")
}

/// The CA that agents trust: the controller makes it in its TLS directory.
pub fn controller_ca(layout: &Layout) -> PathBuf {
    layout.tls().join("ca.crt")
}

/// Starts a node's agent in its namespace and waits until it takes CNI calls.
pub fn start_agent(layout: &Layout, record: &Record, node: NodeIndex, interrupt: &Interrupt) -> Result<()> {
    let mut command = Command::new(record.binaries.join("ferrule-agent"));
    command
        .args(["--node", node.name().as_str()])
        .args(["--ovs-rundir".as_ref(), layout.ovs_directory(node).as_os_str()])
        .args(["--cni-socket".as_ref(), layout.cni_socket(node).as_os_str()])
        .args(["--api-socket".as_ref(), layout.agent_socket(node).as_os_str()])
        .args(["--state-dir".as_ref(), layout.agent_state_directory(node).as_os_str()])
        .args(["--controllers", &controllers(layout, record)])
        .args(["--controller-ca".as_ref(), controller_ca(layout).as_os_str()])
        .args(["--token-file".as_ref(), layout.token(node).as_os_str()])
        .args(["--datapath", &record.datapath.to_string()])
        .args(["--underlay-device", record.datapath.underlay_device()]);
    for address in layout.node_addresses(node, record.family) {
        command.args(["--node-address", &address.to_string()]);
    }
    for cidr in pod_cidrs(node, record.family) {
        command.args(["--pod-cidr", &cidr.to_string()]);
    }
    let namespace = netns::path(&layout.node_namespace(node));
    let process = Process::start(layout, &agent_name(node), Some(&namespace), &command)?;
    let socket = layout.cni_socket(node);
    wait_until(&process, LIMIT, interrupt, || UnixStream::connect(&socket).is_ok())
}

/// Writes what the daemons read before they start: tokens, Node objects and CNI configurations.
pub fn write_configuration(layout: &Layout, record: &Record) -> Result<()> {
    for node in record.node_indexes() {
        write_secret(&layout.token(node), &mint_token()?)?;
        let object = node_object(layout, node, record.family, true);
        write(&layout.node_manifests().join(format!("{}.yaml", node.name())), &object)?;
        let configuration = serde_json::to_string_pretty(&crate::cni::conflist(layout, node))
            .context(|| "describe the CNI configuration".to_owned())?;
        write(&layout.cni_configuration(node), &configuration)?;
    }
    Ok(())
}

/// A Node object as a cluster would have it; `only_these` makes all others another cluster's.
pub(crate) fn node_object(layout: &Layout, node: NodeIndex, family: Family, only_these: bool) -> String {
    let name = node.name();
    let cidrs: Vec<_> = pod_cidrs(node, family).iter().map(ToString::to_string).collect();
    let annotations =
        if only_these { format!("  annotations:\n    {THIS_CLUSTER}: \"true\"\n") } else { String::new() };
    let mut text = format!(
        "# Written by `ferrule lab`: a node of the lab. Your own manifests are elsewhere.\napiVersion: v1\nkind: Node\n\
         metadata:\n  name: {name}\n  labels:\n    kubernetes.io/hostname: {name}\n    kubernetes.io/os: linux\n\
         {annotations}spec:\n  podCIDR: {}\n  podCIDRs:\n",
        cidrs.first().map_or("", String::as_str)
    );
    for cidr in &cidrs {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  - {cidr}");
    }
    text.push_str("status:\n  addresses:\n");
    for address in layout.node_addresses(node, family) {
        let _ = writeln!(text, "  - type: InternalIP\n    address: \"{address}\"");
    }
    let _ = writeln!(text, "  - type: Hostname\n    address: {name}");
    text
}

/// 128 random bits from the kernel, as hexadecimal digits.
fn mint_token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context(|| "read random bits from /dev/urandom".to_owned())?;
    Ok(bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).context(|| format!("write {}", path.display()))
}

/// Written beside and moved into place: never half, and never for a moment for others to read.
pub fn write_secret(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    let beside = path.with_extension("new");
    // What a crash may have left.
    let _ = std::fs::remove_file(&beside);
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_ref()))
        .and_then(|()| std::fs::rename(&beside, path))
        .context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_object_says_where_the_node_is() {
        let layout = Layout::new(Path::new(crate::layout::DEFAULT_STATE)).unwrap();
        let text = node_object(&layout, NodeIndex(2), Family::Dual, true);
        assert!(
            text.contains("podCIDR: 10.244.2.0/24\n  podCIDRs:\n  - 10.244.2.0/24\n  - fd00:10:244:2::/64")
        );
        assert!(text.contains("address: \"fd00:172:30::2\""), "{text}");
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(mint_token().unwrap(), mint_token().unwrap());
    }
}
