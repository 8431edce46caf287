//! What the lab and the tests need of the machine, and how to install it. Knows packages, not what they are used for;
//! starts no service: the lab runs its own daemons, so a machine without systemd is as good as one with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program and the Debian package that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    pub program: &'static str,
    pub package: &'static str,
}

/// Needed to run labs and every tier of the tests.
pub const LAB: &[Requirement] = &[
    Requirement { program: "ovsdb-server", package: "openvswitch-switch" },
    Requirement { program: "ovs-vswitchd", package: "openvswitch-switch" },
    Requirement { program: "ovsdb-tool", package: "openvswitch-switch" },
    Requirement { program: "ovs-vsctl", package: "openvswitch-switch" },
    Requirement { program: "ovs-ofctl", package: "openvswitch-switch" },
    Requirement { program: "ovs-appctl", package: "openvswitch-switch" },
    Requirement { program: "nft", package: "nftables" },
    Requirement { program: "ip", package: "iproute2" },
    Requirement { program: "nsenter", package: "util-linux" },
    Requirement { program: "ethtool", package: "ethtool" },
    Requirement { program: "ping", package: "iputils-ping" },
];

/// Needed by a cluster; Go builds the rest.
pub const CLUSTER: &[Requirement] = &[
    Requirement { program: "ip", package: "iproute2" },
    Requirement { program: "setsid", package: "util-linux" },
];

/// Needed besides by the nodes of a cluster, and to make the images that they run.
pub const NODES: &[Requirement] = &[
    Requirement { program: "containerd", package: "containerd" },
    Requirement { program: "runc", package: "runc" },
    Requirement { program: "ethtool", package: "ethtool" },
    Requirement { program: "/usr/lib/cni/portmap", package: "containernetworking-plugins" },
    Requirement { program: "iptables", package: "iptables" },
    Requirement { program: "busybox", package: "busybox-static" },
    Requirement { program: "wget", package: "wget" },
    Requirement { program: "ovs-vswitchd", package: "openvswitch-switch" },
    Requirement { program: "nft", package: "nftables" },
];

/// Needed besides to make the images that Kubernetes' own tests run.
pub const TEST_IMAGES: &[Requirement] = &[
    Requirement { program: "dig", package: "bind9-dnsutils" },
    Requirement { program: "nc", package: "netcat-openbsd" },
    Requirement { program: "iperf", package: "iperf" },
    Requirement { program: "curl", package: "curl" },
    Requirement { program: "bash", package: "bash" },
    Requirement { program: "dash", package: "dash" },
];

/// Needed besides to count what nodes hold during a soak.
pub const SOAK: &[Requirement] = &[
    Requirement { program: "ovs-ofctl", package: "openvswitch-switch" },
    Requirement { program: "curl", package: "curl" },
];

/// Needed besides to run an emulated machine with a kernel of the distribution.
pub const EMULATION: &[Requirement] = &[
    Requirement { program: "qemu-system-x86_64", package: "qemu-system-x86" },
    Requirement { program: "depmod", package: "kmod" },
    Requirement { program: "busybox", package: "busybox-static" },
    Requirement { program: "timeout", package: "coreutils" },
];

/// Needed besides by the dataplane tests: the neighbours that `ferrule-cni` is tried with.
pub const NEIGHBOURS: &[Requirement] = &[
    Requirement { program: "/usr/lib/cni/host-local", package: "containernetworking-plugins" },
    Requirement { program: "iptables", package: "iptables" },
    Requirement { program: "busybox", package: "busybox-static" },
    Requirement { program: "tc", package: "iproute2" },
    Requirement { program: "faketime", package: "faketime" },
];

/// Needed besides by the benchmarks: the reference plugins that Ferrule's are measured against.
pub const BENCH: &[Requirement] =
    &[Requirement { program: "/usr/lib/cni/bridge", package: "containernetworking-plugins" }];

/// Installs what is missing, and says so; an error names the packages when it cannot.
pub fn ensure(requirements: &[Requirement]) -> Result<()> {
    let packages = missing(requirements, present);
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !is_root() {
        bail!(
            "{list} must be installed, which needs root: run `apt-get install {list}` or call this as root"
        );
    }
    if find("apt-get").is_none() {
        bail!(
            "this machine has no apt-get: install the equivalent of the Debian packages {list} and try again"
        );
    }
    println!("==> installing from the distribution: {list}");
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&packages);
    let installed = apt(&arguments);
    let left = missing(requirements, present);
    match installed {
        Ok(()) if left.is_empty() => Ok(()),
        Ok(()) => bail!("apt-get succeeded, but what {} should bring is not on PATH", left.join(" ")),
        // A package can be unpacked and its own service fail to start, as in a container: we do not need the service.
        Err(error) if left.is_empty() => {
            println!("==> going on, since every program is there ({error:#})");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The packages that bring what `present` does not find, each once, in the order of the list.
pub fn missing(requirements: &[Requirement], present: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for requirement in requirements {
        if !present(requirement.program) && !packages.contains(&requirement.package) {
            packages.push(requirement.package);
        }
    }
    packages
}

pub fn present(program: &str) -> bool {
    find(program).is_some()
}

/// Whether we are root: the owner of our own entry in /proc.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Looks on PATH and in the sbin folders, which root's PATH may lack.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(PathBuf::from(program)).filter(|path| path.exists());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(Path::new(program)))
        .find(|candidate| candidate.is_file())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null())
        .status()
        .context("cannot run apt-get")?;
    if !status.success() {
        bail!("`apt-get {}` failed ({status}): see its message above", arguments.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_missing_installs_nothing() {
        assert!(missing(LAB, |_| true).is_empty());
    }

    #[test]
    fn each_package_is_named_once() {
        assert_eq!(
            missing(LAB, |program| program == "ip"),
            ["openvswitch-switch", "nftables", "util-linux", "ethtool", "iputils-ping"]
        );
    }

    #[test]
    fn a_program_is_found_by_path_and_by_name() {
        assert!(present("/proc/self/stat"));
        assert!(present("sh"));
        assert!(!present("/nowhere/at/all"));
    }
}
