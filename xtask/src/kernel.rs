//! `cargo xtask kernel`: an emulated machine with the distribution's own kernel, whose Open vSwitch datapath and tunnels this
//! machine's kernel may lack, and tests of the tree run in it. Knows kernels and machines; what is tested is the tests' own.
//!
//! The machine sees this one's files read-only, and what it writes goes with it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace::{self, Metadata};
use crate::{distribution, lab};

/// Debian's name for its newest kernel.
const KERNEL: &str = "linux-image-amd64";

/// What is run when nothing is named.
const SMOKE: &str = "kernel_datapath";

/// Without these the machine does not see the host's files.
const FIRST_MODULES: [&str; 5] = ["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_rng"];

const INIT: &str = include_str!("kernel/init.sh");
const RUN: &str = include_str!("kernel/run.sh");

/// What the machine says last.
const LAST_WORDS: &str = "ferrule-kernel ends with ";

/// How the machine is run.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// How long it may take.
    pub minutes: u64,
    /// By this machine's processor, where KVM works.
    pub kvm: bool,
}

/// Boots it and runs the tests (`kernel_datapath`, or those named: files of tests/tests); ends with 2 when one fails.
pub fn run(tests: &[String], machine: Machine) -> Result<ExitCode> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("there is an emulated machine for x86_64 only, and this is {}", std::env::consts::ARCH);
    }
    distribution::ensure(distribution::LAB)?;
    distribution::ensure(distribution::EMULATION)?;
    let folder = Metadata::read()?.target_directory.join("kernel");
    let kernel = Kernel::fetch(&folder)?;
    let binaries = lab::build()?;
    let smoke = [SMOKE.to_owned()];
    let tests = build_tests(if tests.is_empty() { &smoke } else { tests })?;
    let initramfs = kernel.initramfs(&folder)?;
    let script = folder.join("run.sh");
    std::fs::write(&script, script_for(&kernel, &binaries, &tests))
        .with_context(|| format!("cannot write {}", script.display()))?;
    kernel.boot(&initramfs, &script, machine)
}

/// What runs in the machine: our variables, then the script.
fn script_for(kernel: &Kernel, binaries: &Path, tests: &[PathBuf]) -> String {
    let tests: Vec<_> = tests.iter().map(|test| test.display().to_string()).collect();
    format!(
        "export FERRULE_BIN_DIR='{}'\nMODULES='{}'\nTESTS='{}'\ncd '{}' || exit\n{RUN}",
        binaries.display(),
        kernel.root.join("lib/modules").display(),
        tests.join(" "),
        workspace::root().join("tests").display(),
    )
}

/// What cargo says of a test that it built (`--message-format=json`).
#[derive(Deserialize)]
struct Built {
    #[serde(default)]
    executable: Option<PathBuf>,
}

fn build_tests(names: &[String]) -> Result<Vec<PathBuf>> {
    println!("==> building {} (tests)", names.join(", "));
    let mut command = workspace::cargo();
    command.args(["test", "--no-run", "--package", "tests", "--message-format=json-render-diagnostics"]);
    for name in names {
        command.args(["--test", name]);
    }
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the tests do not build ({}): see cargo's message above", output.status);
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let executables = said.lines().filter_map(|line| serde_json::from_str::<Built>(line).ok()?.executable);
    // Programs of the package that tests need are among them.
    let is_test = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.rsplit_once('-').is_some_and(|(name, _)| names.iter().any(|asked| asked == name))
    };
    Ok(executables.filter(is_test).collect())
}

/// A kernel of the distribution, unpacked below the build directory: this machine's own is left alone.
#[derive(Debug)]
struct Kernel {
    version: String,
    root: PathBuf,
}

impl Kernel {
    fn fetch(folder: &Path) -> Result<Self> {
        let package = newest(&said("apt-cache", &["depends", KERNEL], folder).unwrap_or_default());
        let package = match package {
            Some(package) => package,
            None => {
                said("apt-get", &["update", "-qq"], folder)?;
                newest(&said("apt-cache", &["depends", KERNEL], folder)?).with_context(|| {
                    format!("the distribution has no {KERNEL}: this needs Debian's package sources")
                })?
            }
        };
        let version = package.trim_start_matches("linux-image-").to_owned();
        let kernel = Self { root: folder.join(&version), version };
        if kernel.image().is_file() && kernel.root.join("complete").is_file() {
            return Ok(kernel);
        }
        // Half of one, or the one of before.
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        std::fs::create_dir_all(&kernel.root)
            .with_context(|| format!("cannot make {}", kernel.root.display()))?;
        println!("==> fetching {package} from the distribution, into {}", kernel.root.display());
        said("apt-get", &["download", "-qq", &package], folder)?;
        let mut archives = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        let archive = archives.find(|path| path.extension().is_some_and(|end| end == "deb"));
        let archive = archive.with_context(|| format!("apt-get downloaded no {package}"))?;
        let root = kernel.root.display().to_string();
        said("dpkg-deb", &["-x", &archive.display().to_string(), &root], folder)?;
        said("depmod", &["-b", &root, &kernel.version], folder)?;
        std::fs::remove_file(&archive)?;
        std::fs::write(kernel.root.join("complete"), "")?;
        Ok(kernel)
    }

    fn image(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.version))
    }

    /// The archive from which the kernel begins: busybox, a few modules, and [`INIT`].
    fn initramfs(&self, folder: &Path) -> Result<PathBuf> {
        let stage = folder.join("initramfs");
        if stage.exists() {
            std::fs::remove_dir_all(&stage)?;
        }
        std::fs::create_dir_all(stage.join("bin"))?;
        std::fs::create_dir_all(stage.join("modules"))?;
        let busybox = distribution::find("busybox").context("busybox is not on PATH")?;
        std::fs::copy(&busybox, stage.join("bin/busybox"))
            .with_context(|| format!("cannot copy {}", busybox.display()))?;
        let root = self.root.display().to_string();
        let all = ["-d", &root, "-S", &self.version, "--all", "--show-depends"];
        let listed = said("modprobe", &[&all[..], &FIRST_MODULES].concat(), folder)?;
        let mut order = Vec::new();
        for module in in_order(&listed) {
            let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
            std::fs::copy(module, stage.join("modules").join(&name))
                .with_context(|| format!("cannot copy {}", module.display()))?;
            order.push(name + "\n");
        }
        std::fs::write(stage.join("modules/order"), order.concat())?;
        std::fs::write(stage.join("init"), INIT)?;
        let pack = "chmod 755 init && find . | busybox cpio -o -H newc >../initramfs.cpio";
        said("busybox", &["sh", "-c", pack], &stage)?;
        Ok(folder.join("initramfs.cpio"))
    }

    /// Boots, passes on what the machine says, and gives what it ends with.
    fn boot(&self, initramfs: &Path, script: &Path, Machine { minutes, kvm }: Machine) -> Result<ExitCode> {
        let (accelerator, how) = if kvm { ("kvm", "a virtual") } else { ("tcg", "an emulated, slow") };
        println!("==> booting Linux {} in {how} machine, for at most {minutes} minutes", self.version);
        let began = Instant::now();
        let words = format!("console=ttyS0 quiet panic=-1 FERRULE_RUN={}", script.display());
        let limit = Duration::from_secs(60 * minutes);
        // timeout(1): the machine ends in time also when we are killed.
        let mut machine = Command::new("timeout")
            .args(["--kill-after=5", &limit.as_secs().to_string(), "qemu-system-x86_64"])
            .args(["-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", "2048"])
            .args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(self.image())
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", &words])
            .args(["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"])
            .args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host", "-device", "virtio-rng-pci"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run qemu-system-x86_64")?;
        let output = machine.stdout.take().context("the machine has no output")?;
        let mut code = None;
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("cannot read what the machine says")?;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            match line.strip_prefix(LAST_WORDS) {
                Some(last) => code = last.trim().parse::<u8>().ok(),
                None => println!("{line}"),
            }
        }
        let status = machine.wait().context("cannot wait for the machine")?;
        let elapsed = began.elapsed().as_secs();
        match code {
            Some(code) => {
                let verdict = if code == 0 { "everything is as it should be" } else { "see above" };
                println!("==> the machine is gone after {elapsed} s: {verdict}");
                Ok(ExitCode::from(code))
            }
            None if began.elapsed() >= limit => {
                bail!("the machine was not done in {minutes} minutes (--minutes)")
            }
            None => bail!("the machine ended by itself ({status}) after {elapsed} s: see above"),
        }
    }
}

/// The kernel that the distribution's name stands for, of `apt-cache depends`.
fn newest(depends: &str) -> Option<String> {
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))?;
    Some(format!("linux-image-{package}"))
}

/// The modules of `modprobe --show-depends`, each once, those that others need before them.
fn in_order(listed: &str) -> Vec<&Path> {
    let mut order = Vec::new();
    for module in listed.lines().filter_map(|line| line.strip_prefix("insmod ")) {
        let module = Path::new(module.trim());
        if !order.contains(&module) {
            order.push(module);
        }
    }
    order
}

/// What a program says, run in a folder that exists or here; an error with what it complained of.
fn said(program: &str, arguments: &[&str], folder: &Path) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null());
    let sbin = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    command.env("PATH", sbin);
    if folder.is_dir() {
        command.current_dir(folder);
    }
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}` failed ({}): {}", arguments.join(" "), output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_what_the_distributions_name_depends_on() {
        let said = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  Conflicts: x\n";
        assert_eq!(newest(said).unwrap(), "linux-image-6.1.0-56-amd64");
        assert_eq!(newest("linux-image-amd64\n"), None);
    }

    #[test]
    fn modules_come_once_and_after_what_they_need() {
        let listed = "insmod /m/virtio.ko \nbuiltin crc\ninsmod /m/9pnet.ko \ninsmod /m/virtio.ko \ninsmod /m/9p.ko \n";
        let order: Vec<_> = in_order(listed).iter().map(|path| path.display().to_string()).collect();
        assert_eq!(order, ["/m/virtio.ko", "/m/9pnet.ko", "/m/9p.ko"]);
    }

    #[test]
    fn the_smoke_is_a_test_of_the_tree() {
        let file = workspace::root().join(format!("tests/tests/{SMOKE}.rs"));
        assert!(file.is_file(), "{} is not there", file.display());
    }
}
