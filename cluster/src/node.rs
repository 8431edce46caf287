//! A node from inside: its namespaces, its root file system over the machine's, containerd and kubelet. Runs as the commands
//! `cluster node` (which enters the namespaces) and `cluster node-init` (the node's first process).

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::NodeIndex;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::wait::wait;

use crate::cgroup;
use crate::control_plane::ControlPlane;
use crate::error::{Context, Error, Result};
use crate::nodes::{INIT, NodePlace};

/// Where programs of a node are looked for.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The folders of the machine that a node has for itself, and where they come from below its data.
const PRIVATE: [(&str, &str); 6] = [
    ("var/lib/kubelet", "kubelet"),
    ("var/lib/containerd", "containerd"),
    ("var/lib/cni", "cni"),
    ("var/lib/ferrule", "network"),
    ("etc/openvswitch", "openvswitch"),
    ("var/log", "log"),
];

/// Machine-wide settings that kubelet insists on; a node has files that say so already.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Joins the node's control groups and becomes unshare(1), whose child is the node's first process.
pub fn enter(cluster: &ControlPlane, name: &str) -> Result<()> {
    let place = place(cluster, name)?;
    let group = format!("{}{name}", cluster.layout().namespace_prefix());
    cgroup::join(&group, &place.groups())?;
    let own = std::env::current_exe().context(|| "tell where this program is".to_owned())?;
    let source = Command::new("unshare")
        .args(["--cgroup", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child=KILL"])
        .args(["--uts", "--ipc", "--"])
        .arg(own)
        .arg("--state")
        .arg(cluster.layout().state())
        .args(["node-init", name])
        .exec();
    Err(source).context(|| "run unshare (Debian package util-linux)".to_owned())
}

/// The node's first process: makes it what it is, starts its daemons, and buries its orphans until it is killed.
pub fn init(cluster: &ControlPlane, name: &str) -> Result<()> {
    let place = place(cluster, name)?;
    // /proc still is the machine's: this is our id out there.
    let id = fs::read_link("/proc/self").context(|| "read /proc/self".to_owned())?;
    write(&place.directory.join(INIT), &id.to_string_lossy())?;
    let root = root(cluster, &place)?;
    enter_root(&root)?;
    write(Path::new("/proc/sys/kernel/hostname"), name)?;
    for (file, value) in [("ip_forward", "1"), ("conf/all/rp_filter", "0"), ("conf/default/rp_filter", "0")] {
        write(&Path::new("/proc/sys/net/ipv4").join(file), value)?;
    }
    if place.second.is_some() {
        write(Path::new("/proc/sys/net/ipv6/conf/all/forwarding"), "1")?;
    }
    start_containerd(cluster, &place)?;
    start_kubelet(cluster, &place)?;
    loop {
        match wait() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}

fn place(cluster: &ControlPlane, name: &str) -> Result<NodePlace> {
    let nodes = cluster.nodes().map_or(0, |nodes| nodes.count);
    let places = (1..=nodes).map(|node| cluster.node(NodeIndex(node)));
    places
        .into_iter()
        .find(|place| place.name == name)
        .ok_or_else(|| Error::NoNode { node: name.to_owned(), state: cluster.layout().state().to_owned() })
}

/// The machine's root file system with an overlay in memory: the node may write everywhere, and nothing stays.
fn root(cluster: &ControlPlane, place: &NodePlace) -> Result<PathBuf> {
    let memory = place.directory.join("root");
    make(&memory)?;
    mounted("tmpfs", &memory, Some("tmpfs"), MsFlags::empty(), "mode=755")?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| memory.join(name));
    for folder in [&upper, &work, &root] {
        make(folder)?;
    }
    let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    mounted("overlay", &root, Some("overlay"), MsFlags::empty(), &options)?;
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    mounted("proc", &at("proc"), Some("proc"), MsFlags::empty(), "")?;
    mounted("sysfs", &at("sys"), Some("sysfs"), MsFlags::empty(), "")?;
    control_groups(&at("sys/fs/cgroup"))?;
    bind(Path::new("/dev"), &at("dev"))?;
    mounted("tmpfs", &at("run"), Some("tmpfs"), MsFlags::empty(), "mode=755")?;
    mounted("tmpfs", &at("tmp"), Some("tmpfs"), MsFlags::empty(), "mode=1777")?;
    make(&at("run/lock"))?;
    for (path, name) in PRIVATE {
        let source = place.data.join(name);
        make(&source)?;
        bind(&source, &at(path))?;
    }
    for folder in ["opt/cni/bin", "etc/cni/net.d"] {
        // The machine's own must not show through.
        mounted("tmpfs", &at(folder), Some("tmpfs"), MsFlags::empty(), "mode=755")?;
    }
    reference_plugins(&at("opt/cni/bin"))?;
    for folder in outside(cluster) {
        bind(&folder, &at(&folder.to_string_lossy()))?;
    }
    let gateway = cluster.address().ip();
    replace(&at("etc/resolv.conf"), &format!("nameserver {gateway}\n"))?;
    replace(&at("etc/hosts"), &format!("127.0.0.1 localhost\n{} {}\n", place.address, place.name))?;
    for (name, value) in SYSCTLS {
        let file = memory.join(name.replace('/', "."));
        write(&file, value)?;
        // Some kernels lack some.
        if at("proc/sys").join(name).exists() {
            bind(&file, &at("proc/sys").join(name))?;
        }
    }
    Ok(root)
}

/// Folders of the machine that need not be on its root file system: the cluster's state, programs and images.
fn outside(cluster: &ControlPlane) -> Vec<PathBuf> {
    let images = cluster.nodes().into_iter().flat_map(|nodes| &nodes.images);
    let folders = images.filter_map(|path| path.parent()).map(Path::to_owned);
    let mut all: Vec<_> = folders
        .chain([cluster.layout().state().to_owned(), cluster.binaries().to_owned(), cluster.images()])
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Debian's plugins, for whoever chains or compares.
fn reference_plugins(to: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir("/usr/lib/cni") else { return Ok(()) };
    for entry in entries.flatten() {
        fs::copy(entry.path(), to.join(entry.file_name()))
            .context(|| format!("copy {}", entry.path().display()))?;
    }
    Ok(())
}

/// In the node's control group namespace a mount shows its own group as the root.
fn control_groups(at: &Path) -> Result<()> {
    let hierarchies = cgroup::hierarchies()?;
    if hierarchies.iter().any(|hierarchy| hierarchy.folder().is_empty()) {
        mounted("cgroup2", at, Some("cgroup2"), MsFlags::empty(), "")?;
        // A group with processes cannot hand its controllers down.
        make(&at.join("init"))?;
        write(&at.join("init/cgroup.procs"), "0")?;
        let all = fs::read_to_string(at.join("cgroup.controllers")).unwrap_or_default();
        let wanted: Vec<_> = all.split_whitespace().map(|controller| format!("+{controller}")).collect();
        return write(&at.join("cgroup.subtree_control"), &wanted.join(" "));
    }
    mounted("tmpfs", at, Some("tmpfs"), MsFlags::empty(), "mode=755")?;
    for hierarchy in hierarchies.iter().filter(|hierarchy| hierarchy.folder() != "unified") {
        let (folder, controllers) = (hierarchy.folder(), hierarchy.controllers.as_str());
        let to = at.join(folder);
        make(&to)?;
        let options = if controllers.starts_with("name=") {
            format!("none,{controllers}")
        } else {
            controllers.to_owned()
        };
        mounted("cgroup", &to, Some("cgroup"), MsFlags::empty(), &options)?;
        for name in controllers.split(',').filter(|name| *name != folder && !name.starts_with("name=")) {
            std::os::unix::fs::symlink(folder, at.join(name)).context(|| format!("link {name}"))?;
        }
    }
    Ok(())
}

fn enter_root(root: &Path) -> Result<()> {
    let old = root.join(".machine");
    make(&old)?;
    nix::unistd::pivot_root(root, &old).context(|| format!("make {} the root", root.display()))?;
    std::env::set_current_dir("/").context(|| "enter the node's root".to_owned())?;
    umount2("/.machine", MntFlags::MNT_DETACH).context(|| "leave the machine's root".to_owned())?;
    let _ = fs::remove_dir("/.machine");
    // Pods may want mounts that they make to be seen (mountPropagation: Bidirectional).
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>)
        .context(|| "share the node's mounts".to_owned())
}

fn start_containerd(cluster: &ControlPlane, place: &NodePlace) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    make(Path::new("/etc/containerd"))?;
    // An overlay cannot lie over an overlay.
    let kind = nix::sys::statfs::statfs("/var/lib/containerd").map(|statfs| statfs.filesystem_type());
    let over = kind.is_ok_and(|kind| kind == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC);
    let configuration = include_str!("containerd.toml")
        .replace("PAUSE", crate::images::PAUSE)
        .replace("SNAPSHOTTER", if over { "native" } else { "overlayfs" });
    replace(Path::new("/etc/containerd/config.toml"), &configuration)?;
    let mut containerd = Command::new("containerd");
    start(cluster, place, containerd.args(["--config", "/etc/containerd/config.toml"]))?;
    let began = Instant::now();
    while !quiet(Command::new("ctr").arg("version")).is_ok_and(|status| status.success()) {
        if began.elapsed() > LIMIT {
            return Err(Error::NodeFailed {
                node: place.name.clone(),
                what: format!("has no containerd after {LIMIT:?}"),
                logs: cluster.layout().logs(),
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for archive in cluster.image_archives() {
        lab::command::run(Command::new("ctr").args(["--namespace=k8s.io", "images", "import"]).arg(archive))?;
    }
    Ok(())
}

fn start_kubelet(cluster: &ControlPlane, place: &NodePlace) -> Result<()> {
    let file = |name: &str| cluster.pki().file(format!("{}{name}", place.name)).display().to_string();
    let second = place.second.map(|second| format!(",{second}")).unwrap_or_default();
    let configuration = include_str!("kubelet.yaml")
        .replace("ADDRESS", &place.address.to_string())
        .replace("CLIENT_CA", &cluster.ca().display().to_string())
        .replace("CERTIFICATE", &file("-server.crt"))
        .replace("PRIVATE_KEY", &file("-server.key"))
        .replace("NAME_SERVER", &crate::flags::DNS_SERVICE.to_string());
    make(Path::new("/etc/kubernetes"))?;
    replace(Path::new("/etc/kubernetes/kubelet.yaml"), &configuration)?;
    let mut kubelet = Command::new(cluster.binaries().join("kubelet"));
    kubelet
        .args(["--config=/etc/kubernetes/kubelet.yaml", "--v=2"])
        .arg(format!("--kubeconfig={}", file(".kubeconfig")))
        .arg(format!("--hostname-override={}", place.name))
        .arg(format!("--node-labels=topology.kubernetes.io/zone={}", place.zone))
        .arg(format!("--node-ip={}{second}", place.address));
    start(cluster, place, &mut kubelet)
}

/// A daemon of the node, with a log beside those of the control plane.
fn start(cluster: &ControlPlane, place: &NodePlace, command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = cluster.layout().logs().join(format!("{}.{program}.log", place.name));
    let log = fs::File::create(&path).context(|| format!("write {}", path.display()))?;
    let errors = log.try_clone().context(|| format!("write {}", path.display()))?;
    let child = command
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .context(|| format!("start {program}"))?;
    // The first process buries it.
    drop(child);
    Ok(())
}

fn quiet(command: &mut Command) -> std::io::Result<std::process::ExitStatus> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
}

fn mounted(source: &str, at: &Path, kind: Option<&str>, flags: MsFlags, options: &str) -> Result<()> {
    make(at)?;
    mount(Some(source), at, kind, flags, Some(options))
        .context(|| format!("mount {source} at {}", at.display()))
}

/// A file or a folder of the machine, seen at another place too.
fn bind(source: &Path, at: &Path) -> Result<()> {
    if source.is_dir() {
        make(at)?;
    }
    mount(Some(source), at, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .context(|| format!("show {} at {}", source.display(), at.display()))
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).context(|| format!("make {}", folder.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(|| format!("write {}", path.display()))
}

/// What lies there may be a link into somewhere else.
fn replace(path: &Path, text: &str) -> Result<()> {
    let _ = fs::remove_file(path);
    write(path, text)
}
