//! `cargo xtask images`: Ferrule's container images, written without a container engine. Static programs, and what the distribution has
//! of Open vSwitch and nftables. `deploy/images/Dockerfile` makes the same with an engine.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::workspace::{self, Metadata};
use crate::{cluster, distribution};

/// The packages whose programs an image holds; each builds what its name says.
const PACKAGES: [&str; 4] = ["controller", "ovs-agent", "cni", "cli"];
const PROGRAMS: [&str; 4] = ["ferrule-controller", "ferrule-agent", "ferrule-cni", "ferrule"];

/// What of the distribution it holds: for the agent, and to take Ferrule off a node.
const TOOLS: [&str; 4] = ["nft", "ip", "ethtool", "ovs-dpctl"];

/// What the image of Open vSwitch holds.
const OPEN_VSWITCH: [&str; 9] = [
    "ovsdb-server",
    "ovs-vswitchd",
    "ovsdb-tool",
    "ovs-vsctl",
    "ovs-appctl",
    "ovs-ofctl",
    "ovs-dpctl",
    "ip",
    "ethtool",
];

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Writes them and says where.
pub fn run() -> Result<ExitCode> {
    for archive in build()? {
        println!("{}", archive.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The archives: `ferrule.tar` and `ferrule-ovs.tar` in `target/images`.
pub fn build() -> Result<[PathBuf; 2]> {
    distribution::ensure(distribution::NODES)?;
    let metadata = Metadata::read()?;
    let binaries = static_binaries(&metadata)?;
    let folder = metadata.target_directory.join("images");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let version = env!("CARGO_PKG_VERSION");
    let scripts = workspace::root().join("deploy/images");

    let ferrule = folder.join("ferrule.tar");
    let mut image = Command::new(cluster::command()?);
    image.args(["image", "--shell", "--output"]).arg(&ferrule);
    image.args(["--tag", &format!("ferrule.io/ferrule:{version}")]);
    for tool in TOOLS {
        image.args(["--program", &format!("{tool}:usr/sbin/{tool}")]);
    }
    for program in PROGRAMS {
        image.args(["--file", &format!("{}:usr/local/bin/{program}", binaries.join(program).display())]);
    }
    image.args(["--link", "ferrule:usr/local/bin/kubectl-ferrule"]);
    for script in ["install-cni", "remove-ferrule", "return-address"] {
        image.args(["--file", &format!("{}:usr/local/bin/{script}", scripts.join(script).display())]);
    }
    write(image)?;

    let ovs = folder.join("ferrule-ovs.tar");
    let mut image = Command::new(cluster::command()?);
    image.args(["image", "--shell", "--output"]).arg(&ovs);
    image.args(["--tag", &format!("ferrule.io/ferrule-ovs:{version}")]);
    for program in OPEN_VSWITCH {
        image.args(["--program", &format!("{program}:usr/bin/{program}")]);
    }
    image.args(["--file", &format!("{SCHEMA}:{SCHEMA}")]);
    for script in ["start-ovs", "return-address"] {
        image.args(["--file", &format!("{}:usr/local/bin/{script}", scripts.join(script).display())]);
    }
    write(image)?;
    Ok([ferrule, ovs])
}

fn write(mut image: Command) -> Result<()> {
    let status = image.status().context("cannot run the cluster's command")?;
    if !status.success() {
        bail!("an image cannot be written ({status}): see the message above");
    }
    Ok(())
}

/// Programs without shared libraries: the C library of the distribution is linked in, so they need no other target, and
/// ferrule-cni runs on whatever the node is.
fn static_binaries(metadata: &Metadata) -> Result<PathBuf> {
    let target = host()?;
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(" -Ctarget-feature=+crt-static");
    let mut build = workspace::cargo();
    // With a target named, build scripts and macros are built without these flags, which they could not be.
    build.args(["build", "--release", "--target", &target]).env("RUSTFLAGS", flags);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    if !build.status().context("cannot run cargo")?.success() {
        bail!("the static programs do not build: see cargo's message above");
    }
    Ok(metadata.target_directory.join(target).join("release"))
}

/// The machine's target, as rustc calls it.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` does not name its host")
}
