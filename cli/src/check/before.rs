//! Whether this machine can be a node of Ferrule's: looks, and changes nothing. It must not need a cluster.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

use super::machine::{foreign_device, has_module, listener, version};
use super::options::Check;
use super::{Finding, Status};
use crate::fail::Fail;

/// The tunnels' port (RFC 8926), and the controllers'.
const GENEVE: u16 = 6081;
const CONTROLLER: u16 = 7470;
/// What geneve and its outer headers take, in bytes: IPv4, IPv6.
const OVERHEAD: [u32; 2] = [50, 70];
/// The least that pods can live with: IPv6 wants it (RFC 8200 §5).
const LEAST_MTU: u32 = 1280;

type Tell<'a> = &'a mut dyn FnMut(Finding) -> Result<(), Fail>;

pub fn run(check: &Check, tell: Tell<'_>) -> Result<(), Fail> {
    let here = nix::sys::utsname::uname().map(|name| name.nodename().to_string_lossy().into_owned());
    let here = here.unwrap_or_else(|_| "this machine".into());
    tell(kernel(&here))?;
    tell(nftables(&here))?;
    tell(open_vswitch(&here))?;
    for finding in ports(&here).into_iter().chain(other_networks(&here)) {
        tell(finding)?;
    }
    for peer in &check.peers {
        tell(path(&here, *peer))?;
    }
    if check.peers.is_empty() {
        let what = "no other node was named: the path to them is not tried";
        tell(Finding::new("mtu", &here, Status::Skipped, what).cure("--peer ADDRESS, of each other node"))?;
    }
    Ok(())
}

fn kernel(here: &str) -> Finding {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let release = release.unwrap_or_default();
    let lists: String = ["modules.dep", "modules.builtin"]
        .iter()
        .filter_map(|file| std::fs::read_to_string(Path::new("/lib/modules").join(&release).join(file)).ok())
        .collect();
    let lacks: Vec<&str> = ["openvswitch", "geneve"]
        .into_iter()
        .filter(|module| !Path::new("/sys/module").join(module).exists() && !has_module(&lists, module))
        .collect();
    match lacks.is_empty() {
        true => Finding::new("kernel", here, Status::Good, format!("Linux {release} with openvswitch and geneve")),
        false => Finding::new(
            "kernel",
            here,
            Status::Warning,
            format!("Linux {release} has no module {}: Open vSwitch forwards in user space, at a fraction of the speed", lacks.join(", ")),
        )
        .cure("install the kernel's extra modules, or set the chart's datapath to netdev on purpose"),
    }
}

fn output(program: &str, words: &[&str]) -> Result<String, String> {
    match Command::new(program).args(words).env("LC_ALL", "C").output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            let said = [output.stderr, output.stdout].concat();
            Err(String::from_utf8_lossy(&said).lines().next().unwrap_or("it failed").trim().to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn nftables(here: &str) -> Finding {
    match output("nft", &["list", "tables"]) {
        Ok(_) => Finding::new("nftables", here, Status::Good, "the kernel has nf_tables, and nft may use it"),
        Err(error) => Finding::new("nftables", here, Status::Bad, format!("`nft list tables`: {error}"))
            .cure("run this as root; install nftables 1.0 or later, and a kernel with nf_tables"),
    }
}

fn open_vswitch(here: &str) -> Finding {
    let at = |status, what: String| Finding::new("open-vswitch", here, status, what);
    let runs = std::fs::read_to_string("/run/openvswitch/ovs-vswitchd.pid")
        .is_ok_and(|pid| Path::new("/proc").join(pid.trim()).exists());
    match output("ovs-vswitchd", &["--version"]) {
        Err(_) => at(Status::Good, "none is installed: the chart brings its own".into()),
        Ok(said) => {
            let line = said.lines().next().unwrap_or_default();
            match (version(line), runs) {
                (Some(version), true) if version < (3, 1) => {
                    at(Status::Bad, format!("{line} runs here, and 3.1 is the least that can be used"))
                        .cure("stop it, and let the chart bring its own")
                }
                (_, true) => at(
                    Status::Warning,
                    format!("{line} runs here already: the chart's own must not run beside it"),
                )
                .cure("stop it, or install without the chart's switch (deploy/README.md)"),
                (Some(version), false) if version < (3, 1) => at(
                    Status::Warning,
                    format!("{line} is installed, and 3.1 is the least that can be used; it does not run"),
                ),
                _ => at(Status::Good, format!("{line} is installed, and does not run")),
            }
        }
    }
}

fn ports(here: &str) -> Vec<Finding> {
    let any = Ipv4Addr::UNSPECIFIED;
    let of = |what: &str, port: u16, tried: std::io::Result<()>, tables: [&str; 2]| {
        let named = format!("{what} {port}");
        match tried {
            Ok(()) => Finding::new("ports", here, Status::Good, format!("{named} is free")),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let table = tables.map(|table| std::fs::read_to_string(table).unwrap_or_default());
                let inode = table.iter().find_map(|table| listener(table, port));
                let who = inode.and_then(holder).unwrap_or_else(|| "the kernel, or somebody unknown".into());
                Finding::new("ports", here, Status::Bad, format!("{named} is taken by {who}"))
                    .cure("Ferrule installed already? Then `ferrule check` without --before. Else end what holds it")
            }
            Err(error) => Finding::new("ports", here, Status::Unknown, format!("{named}: {error}")),
        }
    };
    let udp = UdpSocket::bind((any, GENEVE)).map(drop);
    let tcp = TcpListener::bind((any, CONTROLLER)).map(drop);
    vec![
        of("UDP", GENEVE, udp, ["/proc/net/udp", "/proc/net/udp6"]),
        of("TCP", CONTROLLER, tcp, ["/proc/net/tcp", "/proc/net/tcp6"]),
    ]
}

/// The process that has the socket of this inode open.
fn holder(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |file: std::fs::DirEntry| {
            std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str())
        };
        if files.flatten().any(holds) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {})", name.trim(), process.file_name().to_string_lossy()));
        }
    }
    None
}

fn other_networks(here: &str) -> Vec<Finding> {
    let mut all = Vec::new();
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    for file in names("/etc/cni/net.d") {
        let is_configuration = [".conf", ".conflist", ".json"].iter().any(|end| file.ends_with(end));
        if is_configuration && !file.ends_with("-ferrule.conflist") {
            let what =
                format!("/etc/cni/net.d/{file} configures another network: kubelet takes the first name");
            all.push(Finding::new("other-cni", here, Status::Bad, what).cure(
                "uninstall that network first, or keep it on purpose with a name behind 10-ferrule.conflist",
            ));
        }
    }
    for device in names("/sys/class/net") {
        if let Some(network) = foreign_device(&device) {
            let what = format!("device {device} is left of {network}");
            all.push(
                Finding::new("other-cni", here, Status::Bad, what)
                    .cure(format!("uninstall {network}, then `ip link delete {device}` or boot anew")),
            );
        }
    }
    if all.is_empty() {
        all.push(Finding::new("other-cni", here, Status::Good, "no other network is in the way"));
    }
    all
}

/// Whether the path to another node takes packets as large as the device here.
fn path(here: &str, peer: IpAddr) -> Finding {
    let on = format!("{here} → {peer}");
    let at = |status, what: String| Finding::new("mtu", on.clone(), status, what);
    let route = match output("ip", &["-o", "route", "get", &peer.to_string()]) {
        Ok(route) => route,
        Err(error) => return at(Status::Bad, format!("no route leads there: {error}")),
    };
    let device = route.split_whitespace().skip_while(|word| *word != "dev").nth(1).unwrap_or_default();
    let mtu = std::fs::read_to_string(Path::new("/sys/class/net").join(device).join("mtu"));
    let Some(mtu) = mtu.ok().and_then(|text| text.trim().parse::<u32>().ok()) else {
        return at(Status::Unknown, format!("device {device} says no MTU"));
    };
    let headers = if peer.is_ipv4() { 28 } else { 48 };
    let passes = |size: u32| {
        let size = size.saturating_sub(headers).to_string();
        output("ping", &["-M", "do", "-c", "1", "-W", "2", "-s", &size, &peer.to_string()])
    };
    let small = passes(headers + 56);
    if let Err(error) = small {
        return match Command::new("ping").arg("-V").output() {
            Err(_) => at(Status::Unknown, "there is no `ping` to try it with".into()).cure("install iputils-ping"),
            Ok(_) => at(Status::Bad, format!("it does not answer: {error}"))
                .cure("nodes have to reach each other by UDP 6081; where ICMP is filtered, try after the installation"),
        };
    }
    let [overhead, _] = if peer.is_ipv4() { OVERHEAD } else { [OVERHEAD[1], OVERHEAD[0]] };
    if passes(mtu).is_ok() {
        let pods = mtu.saturating_sub(overhead);
        let what = format!("the path takes packets of {mtu} bytes, as {device} does: pods get {pods}");
        return match pods < LEAST_MTU {
            true => at(Status::Bad, format!("{what}, less than {LEAST_MTU}, which IPv6 needs")),
            false => at(Status::Good, what),
        };
    }
    let (mut takes, mut refuses) = (headers + 56, mtu);
    while refuses - takes > 1 {
        let middle = takes + (refuses - takes) / 2;
        match passes(middle) {
            Ok(_) => takes = middle,
            Err(_) => refuses = middle,
        }
    }
    at(
        Status::Bad,
        format!("{device} has an MTU of {mtu}, and the path takes {takes} bytes: larger packets are lost"),
    )
    .cure(format!("set the MTU of {device} to {takes}, on every node, or have the path take more"))
}
