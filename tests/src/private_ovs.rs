//! A private Open vSwitch for one test: its own database, daemons and sockets in a temporary directory.
//!
//! It runs the dummy datapath, so it needs neither root nor a kernel module, and starts in some 60 ms. It must not
//! know what a test does with it, and never touches the machine's own Open vSwitch.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a daemon may take to answer on its socket before the test fails.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The programs of Open vSwitch that a private one needs.
const PROGRAMS: [&str; 6] =
    ["ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl", "ovs-appctl"];

/// Where distributions and source builds put the schema.
const SCHEMAS: [&str; 2] =
    ["/usr/share/openvswitch/vswitch.ovsschema", "/usr/local/share/openvswitch/vswitch.ovsschema"];

/// ovsdb-server and ovs-vswitchd in a directory of their own; both end when this is dropped.
#[derive(Debug)]
pub struct PrivateOvs {
    directory: TempDir,
    ovsdb_server: Option<Child>,
    ovs_vswitchd: Option<Child>,
}

impl PrivateOvs {
    /// Starts a database and a switch without bridges; `None` (said loudly) when Open vSwitch is not installed.
    pub fn start() -> io::Result<Option<Self>> {
        let Some(mut ovs) = Self::start_database()? else { return Ok(None) };
        ovs.start_vswitchd()?;
        Ok(Some(ovs))
    }

    /// Starts the database alone, initialised as `ovs-vsctl init` does; no switch acts on it.
    pub fn start_database() -> io::Result<Option<Self>> {
        if let Some(missing) = PROGRAMS.iter().find(|name| !installed(name)) {
            skip_this_test(&format!("{missing} is not installed (install openvswitch-switch)"));
            return Ok(None);
        }
        let Some(schema) = schema() else {
            skip_this_test("vswitch.ovsschema was not found; set OVS_SCHEMA to its path");
            return Ok(None);
        };
        let directory = tempfile::Builder::new().prefix("ovs-").tempdir()?;
        let mut ovs = Self { directory, ovsdb_server: None, ovs_vswitchd: None };
        let database = ovs.database();
        ovs.run("ovsdb-tool", [OsStr::new("create"), database.as_os_str(), schema.as_os_str()])?;
        ovs.start_ovsdb()?;
        ovs.run("ovs-vsctl", ["--no-wait", "init"])?;
        Ok(Some(ovs))
    }

    /// The directory of the sockets, pid files and logs (`OVS_RUNDIR`).
    pub fn rundir(&self) -> &Path {
        self.directory.path()
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.rundir().join("conf.db")
    }

    /// The unix socket on which ovsdb-server listens.
    pub fn db_socket(&self) -> PathBuf {
        self.rundir().join("db.sock")
    }

    /// The unix socket on which a bridge accepts OpenFlow controllers.
    pub fn mgmt_socket(&self, bridge: &str) -> PathBuf {
        self.rundir().join(format!("{bridge}.mgmt"))
    }

    /// The unix socket on which a bridge shows its OpenFlow traffic.
    pub fn snoop_socket(&self, bridge: &str) -> PathBuf {
        self.rundir().join(format!("{bridge}.snoop"))
    }

    /// `ovs-vsctl ARGS`: its standard output, or an error with what it said. It waits for the switch to follow.
    pub fn vsctl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> io::Result<String> {
        let wait = if self.ovs_vswitchd.is_some() { "--timeout=20" } else { "--no-wait" };
        let mut all = vec![wait.into()];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self.run("ovs-vsctl", all)
    }

    /// A bridge of the dummy datapath that forwards nothing by itself.
    pub fn dummy_bridge(&self, name: &str) -> io::Result<()> {
        let words = ["add-br", name, "--", "set", "bridge", name, "datapath_type=dummy", "fail_mode=secure"];
        self.vsctl(words).map(drop)
    }

    /// `ovs-ofctl ARGS`: its standard output, or an error with what it said.
    pub fn ofctl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> io::Result<String> {
        self.run("ovs-ofctl", args)
    }

    /// `ovs-appctl ARGS`, to ovs-vswitchd unless they name another target.
    pub fn appctl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> io::Result<String> {
        self.run("ovs-appctl", args)
    }

    /// Starts ovsdb-server on the present database file and waits until it listens.
    pub fn start_ovsdb(&mut self) -> io::Result<()> {
        let socket = self.db_socket();
        let remote = format!("--remote=punix:{}", socket.display());
        let database = self.database();
        let child = self.daemon(
            "ovsdb-server",
            [
                OsStr::new(&remote),
                OsStr::new("--remote=db:Open_vSwitch,Open_vSwitch,manager_options"),
                database.as_os_str(),
            ],
        )?;
        let child = self.ovsdb_server.insert(child);
        wait_until("ovsdb-server", child, || UnixStream::connect(&socket).is_ok())
    }

    /// The process of ovsdb-server, while it runs.
    pub fn ovsdb_pid(&self) -> Option<u32> {
        self.ovsdb_server.as_ref().map(Child::id)
    }

    /// The process of ovs-vswitchd, while it runs.
    pub fn vswitchd_pid(&self) -> Option<u32> {
        self.ovs_vswitchd.as_ref().map(Child::id)
    }

    /// Ends ovsdb-server at once, as a crash would; the database file stays.
    pub fn kill_ovsdb(&mut self) -> io::Result<()> {
        end(&mut self.ovsdb_server)
    }

    /// Starts ovs-vswitchd with the dummy datapath and waits until it answers.
    pub fn start_vswitchd(&mut self) -> io::Result<()> {
        let remote = format!("unix:{}", self.db_socket().display());
        let child =
            self.daemon("ovs-vswitchd", ["--enable-dummy=override", "--disable-system", remote.as_str()])?;
        let control = self.rundir().join(format!("ovs-vswitchd.{}.ctl", child.id()));
        let child = self.ovs_vswitchd.insert(child);
        wait_until("ovs-vswitchd", child, || UnixStream::connect(&control).is_ok())?;
        // Its first pass over the database sets ovs_version and the datapath types; tools may come after it.
        self.run("ovs-vsctl", ["--timeout=20", "--", "show"]).map(drop)
    }

    /// Ends ovs-vswitchd at once, as a crash would.
    pub fn kill_vswitchd(&mut self) -> io::Result<()> {
        end(&mut self.ovs_vswitchd)
    }

    /// A daemon in the foreground, quiet, with its log, pid file and control socket in the directory.
    fn daemon<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> io::Result<Child> {
        let log = self.rundir().join(format!("{program}.log"));
        self.command(program)
            .args(["-vconsole:off", "-vsyslog:off", "-vfile:info", "--pidfile"])
            .arg(format!("--log-file={}", log.display()))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start {program}: {error}")))
    }

    fn run<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> io::Result<String> {
        let mut command = self.command(program);
        command.args(args).stdin(Stdio::null());
        let output = command
            .output()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot run {program}: {error}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("{command:?}: {}: {}", output.status, said.trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, self.rundir());
        }
        // The daemons live in sbin, which a plain user's PATH may lack.
        if let Some(path) = std::env::var_os("PATH") {
            let mut path = path;
            path.push(":/usr/local/sbin:/usr/sbin:/sbin");
            command.env("PATH", path);
        }
        command
    }
}

impl Drop for PrivateOvs {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the directory goes with `TempDir`.
        let _ = self.kill_vswitchd();
        let _ = self.kill_ovsdb();
    }
}

fn end(child: &mut Option<Child>) -> io::Result<()> {
    if let Some(mut child) = child.take() {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

fn wait_until(program: &str, child: &mut Child, ready: impl Fn() -> bool) -> io::Result<()> {
    let began = Instant::now();
    while !ready() {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("{program} ended while starting: {status}")));
        }
        if began.elapsed() > START_LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{program} did not start to listen"),
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).any(|folder| folder.join(program).is_file())
}

/// The test runner names each test's thread after it.
fn skip_this_test(reason: &str) {
    crate::skip::skip("switch", std::thread::current().name().unwrap_or("unnamed"), reason);
}

fn schema() -> Option<PathBuf> {
    let named = std::env::var_os("OVS_SCHEMA").map(PathBuf::from);
    named.into_iter().chain(SCHEMAS.map(PathBuf::from)).find(|path| path.is_file())
}
