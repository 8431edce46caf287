//! The programs of Kubernetes, built from their published sources through the Go module proxy: once per version, into cargo's
//! target directory. Which there are is one list. Knows `go`, not what the programs do.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use lab::Interrupt;
use lab::progress::{Event, Progress};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// The Kubernetes that everything was tried with; any other of 1.3x should do.
const KUBERNETES: &str = "1.34.4";

/// The etcd that it is released with.
const ETCD: &str = "3.6.5";

/// The least Go that builds them.
const LEAST_GO: (u32, u32) = (1, 24);

/// Lines of go's output that an error shows.
const LAST_LINES: usize = 12;

/// Which versions are built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Of Kubernetes, such as `1.34.4`.
    pub kubernetes: String,
    /// Of etcd, such as `3.6.5`.
    pub etcd: String,
}

impl Default for Versions {
    fn default() -> Self {
        Self { kubernetes: KUBERNETES.to_owned(), etcd: ETCD.to_owned() }
    }
}

impl Versions {
    /// This Kubernetes, with the etcd that we know.
    pub fn of_kubernetes(version: &str) -> Result<Self> {
        let plain = version.strip_prefix('v').unwrap_or(version);
        let parts: Vec<_> = plain.split('.').collect();
        let is_version = parts.len() == 3
            && parts[0] == "1"
            && parts.iter().all(|part| part.parse::<u32>().is_ok_and(|number| number.to_string() == **part));
        if !is_version {
            return Err(Error::BadVersion { version: version.to_owned(), example: KUBERNETES });
        }
        Ok(Self { kubernetes: plain.to_owned(), ..Self::default() })
    }

    fn minor(&self) -> &str {
        self.kubernetes.split('.').nth(1).unwrap_or("0")
    }

    /// The libraries in Kubernetes' staging area are published as v0.MINOR.PATCH.
    fn staging(&self) -> String {
        format!("v0.{}", self.kubernetes.trim_start_matches("1."))
    }
}

/// Where a program's sources are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Module {
    /// A main package of `k8s.io/kubernetes`, or of what it requires.
    Kubernetes(&'static str),
    /// The tests of a package of it, as a program.
    KubernetesTest(&'static str),
    /// `go.etcd.io/etcd/server/v3`, whose main function lies in a package of its own.
    Etcd,
    /// A main package of another module: its path, its version, and the package.
    Other { name: &'static str, path: &'static str, version: &'static str, package: &'static str },
    /// The tests of a package of another module, as a program.
    OtherTest { name: &'static str, path: &'static str, version: &'static str, package: &'static str },
    /// A main function of our own that requires nothing.
    Own { name: &'static str, main: &'static str },
    /// A main function of our own over another module: its path and its version.
    Over { name: &'static str, main: &'static str, path: &'static str, version: &'static str },
}

impl Module {
    /// The folder of its sources.
    fn folder(self) -> &'static str {
        match self {
            Self::Kubernetes(_) | Self::KubernetesTest(_) => "kubernetes",
            Self::Etcd => "etcd",
            Self::Other { name, .. }
            | Self::OtherTest { name, .. }
            | Self::Own { name, .. }
            | Self::Over { name, .. } => name,
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Kubernetes(package)
            | Self::KubernetesTest(package)
            | Self::Other { package, .. }
            | Self::OtherTest { package, .. } => package,
            Self::Etcd | Self::Own { .. } | Self::Over { .. } => ".",
        }
    }

    fn version(self, versions: &Versions) -> &str {
        match self {
            Self::Kubernetes(_) | Self::KubernetesTest(_) => &versions.kubernetes,
            Self::Etcd => &versions.etcd,
            Self::Other { version, .. } | Self::OtherTest { version, .. } | Self::Over { version, .. } => {
                version
            }
            Self::Own { .. } => "for pods",
        }
    }

    /// The main function that is ours.
    fn main(self) -> Option<&'static str> {
        match self {
            Self::Etcd => Some(ETCD_MAIN),
            Self::Own { main, .. } | Self::Over { main, .. } => Some(main),
            _ => None,
        }
    }

    /// What go does with it.
    fn verb(self) -> &'static [&'static str] {
        let tests = matches!(self, Self::KubernetesTest(_) | Self::OtherTest { .. });
        if tests { &["test", "-c"] } else { &["build", "-v"] }
    }
}

/// The CoreDNS and the Helm that everything was tried with.
const COREDNS: &str = "1.12.4";
const HELM: &str = "3.19.0";

/// Suites of others than Kubernetes.
const CYCLONUS: (&str, &str) = ("github.com/mattfenwick/cyclonus", "0.5.6");
const NETWORK_POLICY_API: (&str, &str) = ("sigs.k8s.io/network-policy-api", "0.2.0");

/// A program that can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its file name.
    pub name: &'static str,
    module: Module,
}

/// All of them, in the order of their need.
pub const PROGRAMS: &[Program] = &[
    Program { name: "etcd", module: Module::Etcd },
    kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    Program { name: "pause", module: Module::Own { name: "pause", main: include_str!("go/pause.go") } },
    other("coredns", "github.com/coredns/coredns", COREDNS, "github.com/coredns/coredns"),
    other("helm", "helm.sh/helm/v3", HELM, "helm.sh/helm/v3/cmd/helm"),
    kubernetes("agnhost", "k8s.io/kubernetes/test/images/agnhost"),
    Program { name: "e2e.test", module: Module::KubernetesTest("k8s.io/kubernetes/test/e2e") },
    kubernetes("ginkgo", "github.com/onsi/ginkgo/v2/ginkgo"),
    Program {
        name: "agnhost-sctp",
        module: Module::Own { name: "agnhost-sctp", main: include_str!("go/agnhost.go") },
    },
    Program {
        name: "cnp.test",
        module: Module::OtherTest {
            name: "network-policy-api",
            path: NETWORK_POLICY_API.0,
            version: NETWORK_POLICY_API.1,
            package: "sigs.k8s.io/network-policy-api/conformance",
        },
    },
    Program {
        name: "cyclonus",
        module: Module::Over {
            name: "cyclonus",
            main: include_str!("go/cyclonus.go"),
            path: CYCLONUS.0,
            version: CYCLONUS.1,
        },
    },
];

const fn kubernetes(name: &'static str, package: &'static str) -> Program {
    Program { name, module: Module::Kubernetes(package) }
}

const fn other(
    name: &'static str,
    path: &'static str,
    version: &'static str,
    package: &'static str,
) -> Program {
    Program { name, module: Module::Other { name, path, version, package } }
}

/// Builds programs of one version into one folder.
#[derive(Clone, Debug)]
pub struct Builder {
    versions: Versions,
    directory: PathBuf,
}

impl Builder {
    /// Below a directory, such as `target/cluster`.
    pub fn new(versions: Versions, directory: &Path) -> Self {
        let directory = directory.join(&versions.kubernetes);
        Self { versions, directory }
    }

    /// Below the target directory of the cargo that built the running program.
    pub fn in_target(versions: Versions) -> Result<Self> {
        let own = std::env::current_exe().context(|| "tell where this program is".to_owned())?;
        // Cargo marks its target directory as a cache.
        let target = own.ancestors().find(|directory| directory.join("CACHEDIR.TAG").is_file());
        let target = target.ok_or(Error::NoBuildDirectory)?;
        Ok(Self::new(versions, &target.join("cluster")))
    }

    /// What it builds.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// The folder of the built programs.
    pub fn binaries(&self) -> PathBuf {
        self.directory.join("bin")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.directory
    }

    /// Builds those of the named programs that are not there yet, or not as our sources have them by now: minutes the first time, nothing
    /// later.
    pub fn build(&self, names: &[&str], interrupt: &Interrupt, progress: &Progress<'_>) -> Result<()> {
        let missing = || {
            let wanted = PROGRAMS.iter().filter(|program| names.contains(&program.name));
            wanted.filter(|program| !self.is_built(program)).collect::<Vec<_>>()
        };
        if missing().is_empty() {
            return Ok(());
        }
        check_go()?;
        let sources = missing().into_iter().map(|program| self.source(program.module.folder()));
        for directory in sources.chain([self.binaries()]) {
            std::fs::create_dir_all(&directory).context(|| format!("make {}", directory.display()))?;
        }
        // Another command may build the same: then its programs are ours, too.
        let _lock = self.lock(progress)?;
        for program in missing() {
            // What is built of earlier sources must not pass for this once the new ones are written.
            let _ = std::fs::remove_file(self.binaries().join(program.name));
            self.prepare(program.module, interrupt)?;
            self.build_one(program, interrupt, progress)?;
        }
        Ok(())
    }

    fn is_built(&self, program: &Program) -> bool {
        let main = self.source(program.module.folder()).join("main.go");
        let of_our_sources = |text| std::fs::read_to_string(&main).is_ok_and(|built| built == text);
        self.binaries().join(program.name).is_file() && program.module.main().is_none_or(of_our_sources)
    }

    pub(crate) fn source(&self, module: &str) -> PathBuf {
        self.directory.join("source").join(module)
    }

    fn lock(&self, progress: &Progress<'_>) -> Result<Flock<File>> {
        let path = self.directory.join("lock");
        let open = || File::create(&path).context(|| format!("open {}", path.display()));
        Flock::lock(open()?, FlockArg::LockExclusiveNonblock).or_else(|_| {
            progress(Event::Note(&format!(
                "another command builds in {}: waiting",
                self.directory.display()
            )));
            Flock::lock(open()?, FlockArg::LockExclusive)
                .map_err(|(_, errno)| errno)
                .context(|| format!("lock {}", path.display()))
        })
    }

    /// Writes the module that the programs are built in.
    fn prepare(&self, module: Module, interrupt: &Interrupt) -> Result<()> {
        let version = &self.versions;
        let write = |path: PathBuf, text: &str| {
            std::fs::write(&path, text).context(|| format!("write {}", path.display()))
        };
        match module {
            Module::Etcd => {
                let directory = self.source("etcd");
                write(directory.join("main.go"), ETCD_MAIN)?;
                let text = format!(
                    "module ferrule.io/cluster/etcd\n\ngo {}.{}\n\nrequire go.etcd.io/etcd/server/v3 v{}\n",
                    LEAST_GO.0, LEAST_GO.1, version.etcd
                );
                write(directory.join("go.mod"), &text)
            }
            Module::Own { name, main } => {
                let directory = self.source(name);
                write(directory.join("main.go"), main)?;
                let text = format!("module ferrule.io/cluster/{name}\n\ngo {}.{}\n", LEAST_GO.0, LEAST_GO.1);
                write(directory.join("go.mod"), &text)
            }
            Module::Other { name, path, version, .. }
            | Module::OtherTest { name, path, version, .. }
            | Module::Over { name, path, version, .. } => {
                if let Module::Over { main, .. } = module {
                    write(self.source(name).join("main.go"), main)?;
                }
                let file = self.source(name).join("go.mod");
                // With what go added to it, it says what was built.
                if file.is_file() {
                    return Ok(());
                }
                let text = format!(
                    "module ferrule.io/cluster/{name}\n\ngo {}.{}\n\nrequire {path} v{version}\n",
                    LEAST_GO.0, LEAST_GO.1
                );
                write(file, &text)
            }
            Module::Kubernetes(_) | Module::KubernetesTest(_) => {
                let directory = self.source("kubernetes");
                if directory.join("go.sum").is_file() {
                    return Ok(());
                }
                let module = format!("k8s.io/kubernetes@v{}", version.kubernetes);
                let downloaded = self.go(&directory, &["mod", "download", "-json", &module], interrupt)?;
                let file = field(&downloaded, "GoMod").unwrap_or_default();
                let theirs = self.go(&directory, &["mod", "edit", "-json", &file], interrupt)?;
                write(directory.join("go.mod"), &kubernetes_module(version, &theirs))
            }
        }
    }

    fn build_one(&self, program: &Program, interrupt: &Interrupt, progress: &Progress<'_>) -> Result<()> {
        let began = Instant::now();
        let module = program.module;
        let step = format!("building {} {} (once)", program.name, module.version(&self.versions));
        progress(Event::Began(&step));
        let (directory, package) = (self.source(module.folder()), module.package());
        let flags = match module {
            Module::Kubernetes(_) | Module::KubernetesTest(_) => version_flags(&self.versions),
            _ => "-s -w".to_owned(),
        };
        let listed = self.go(&directory, &["list", "-mod=mod", "-deps", package], interrupt)?;
        let total = listed.lines().count();
        // Beside and then into place: what is there is whole.
        let beside = self.binaries().join(format!("{}.new", program.name));
        let beside = beside.to_string_lossy();
        let mut arguments = module.verb().to_vec();
        arguments.extend(["-mod=mod", "-trimpath", "-ldflags", &flags, "-o", &beside, package]);
        let mut built = 0;
        // `-v` names every package that was not in the cache.
        self.run(&directory, &arguments, interrupt, &mut |line| {
            if !line.starts_with("go: ") {
                built += 1;
                progress(Event::Part(&step, built.min(total), total));
            }
        })?;
        let place = self.binaries().join(program.name);
        std::fs::rename(&*beside, &place).context(|| format!("write {}", place.display()))?;
        progress(Event::Finished(&step, began.elapsed()));
        Ok(())
    }

    pub(crate) fn go(&self, directory: &Path, arguments: &[&str], interrupt: &Interrupt) -> Result<String> {
        self.run(directory, arguments, interrupt, &mut |_| {})
    }

    /// Calls go; `hear` gets what it says on standard error, line by line.
    fn run(
        &self,
        directory: &Path,
        arguments: &[&str],
        interrupt: &Interrupt,
        hear: &mut dyn FnMut(&str),
    ) -> Result<String> {
        interrupt.check()?;
        let mut child = Command::new("go")
            .args(arguments)
            .current_dir(directory)
            // Static, so that they run in any root file system.
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-buildvcs=false")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(|| "start go".to_owned())?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut last = VecDeque::new();
        let output = std::thread::scope(|scope| {
            let reader = scope.spawn(|| stdout.map(std::io::read_to_string));
            let watch = scope.spawn(|| watch(child, interrupt));
            for line in
                stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines().map_while(Result::ok))
            {
                hear(&line);
                if last.len() == LAST_LINES {
                    last.pop_front();
                }
                last.push_back(line);
            }
            (reader.join(), watch.join())
        });
        interrupt.check()?;
        let (Ok(Some(Ok(text))), Ok(Ok(status))) = output else {
            return Err(Error::Io {
                what: format!("call go in {}", directory.display()),
                source: std::io::ErrorKind::BrokenPipe.into(),
            });
        };
        if status.success() {
            return Ok(text);
        }
        Err(Error::Build {
            what: directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            command: format!("go {}", arguments.join(" ")),
            said: Vec::from(last).join("\n"),
            directory: directory.to_owned(),
        })
    }
}

/// Waits for go, and asks it to end when the user wants to.
fn watch(mut child: Child, interrupt: &Interrupt) -> std::io::Result<std::process::ExitStatus> {
    let mut asked = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupt.is_set() && !asked {
            // Go ends its compilers and removes their files.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT);
            asked = true;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What `go version` must say.
fn check_go() -> Result<()> {
    let said = match Command::new("go").arg("version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => return Err(Error::NoGo { found: format!("`go` cannot be run ({error})") }),
    };
    match go_version(&said) {
        Some(version) if version >= LEAST_GO => Ok(()),
        _ => Err(Error::NoGo { found: format!("`go version` says `{said}`") }),
    }
}

/// Major and minor of `go version go1.26.8 linux/amd64`.
fn go_version(said: &str) -> Option<(u32, u32)> {
    let word = said.split_whitespace().find_map(|word| word.strip_prefix("go1."))?;
    let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
    Some((1, digits.parse().ok()?))
}

/// A module that requires Kubernetes. Its own go.mod replaces the staging libraries by folders of its repository, which a module
/// that requires it does not have: each is replaced by its published version instead.
fn kubernetes_module(versions: &Versions, theirs: &str) -> String {
    let read: serde_json::Value = serde_json::from_str(theirs).unwrap_or_default();
    let go = read["Go"].as_str().unwrap_or("1.24.0");
    let mut text = format!(
        "module ferrule.io/cluster/kubernetes\n\ngo {go}\n\nrequire k8s.io/kubernetes v{}\n\n",
        versions.kubernetes
    );
    for replace in read["Replace"].as_array().into_iter().flatten() {
        if let Some(path) = replace["Old"]["Path"].as_str().filter(|path| path.starts_with("k8s.io/")) {
            text.push_str(&format!("replace {path} => {path} {}\n", versions.staging()));
        }
    }
    text
}

/// Programs that do not know their version take it for v0.0.0 and behave so.
fn version_flags(versions: &Versions) -> String {
    let package = "k8s.io/component-base/version";
    format!(
        "-s -w -X {package}.gitVersion=v{} -X {package}.gitMajor=1 -X {package}.gitMinor={}",
        versions.kubernetes,
        versions.minor()
    )
}

fn field(json: &str, name: &str) -> Option<String> {
    let read: serde_json::Value = serde_json::from_str(json).ok()?;
    Some(read.get(name)?.as_str()?.to_owned())
}

const ETCD_MAIN: &str = "// Written by `cargo xtask cluster`.
package main

import (
\t\"os\"

\t\"go.etcd.io/etcd/server/v3/etcdmain\"
)

func main() { etcdmain.Main(os.Args) }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_others_refused_with_an_example() {
        let versions = Versions::of_kubernetes("v1.33.5").unwrap();
        assert_eq!((versions.kubernetes.as_str(), versions.minor()), ("1.33.5", "33"));
        assert_eq!(versions.staging(), "v0.33.5");
        for bad in ["1.34", "latest", "1.34.4-rc.1", "2.0.0", "1.34.04", ""] {
            let error = Versions::of_kubernetes(bad).unwrap_err().to_string();
            assert!(error.contains("1.34.4"), "{error}");
        }
    }

    #[test]
    fn a_program_of_other_sources_than_ours_is_not_built() {
        let folder = tempfile::tempdir().unwrap();
        let builder = Builder::new(Versions::default(), folder.path());
        let pause = PROGRAMS.iter().find(|program| program.name == "pause").unwrap();
        std::fs::create_dir_all(builder.binaries()).unwrap();
        std::fs::create_dir_all(builder.source("pause")).unwrap();
        std::fs::write(builder.binaries().join("pause"), "").unwrap();
        std::fs::write(builder.source("pause").join("main.go"), pause.module.main().unwrap()).unwrap();
        assert!(builder.is_built(pause));
        std::fs::write(builder.source("pause").join("main.go"), "package main").unwrap();
        assert!(!builder.is_built(pause));
    }

    #[test]
    fn go_says_its_version() {
        assert_eq!(go_version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(go_version("go version go1.24rc1 linux/arm64"), Some((1, 24)));
        assert_eq!(go_version("bash: go: command not found"), None);
    }

    #[test]
    fn the_staging_libraries_are_replaced_by_their_published_versions() {
        let theirs = r#"{"Go": "1.24.0", "Replace": [
            {"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
            {"Old": {"Path": "github.com/other"}, "New": {"Path": "github.com/fork"}}]}"#;
        let text = kubernetes_module(&Versions::default(), theirs);
        assert!(
            text.contains("\ngo 1.24.0\n") && text.contains("require k8s.io/kubernetes v1.34.4\n"),
            "{text}"
        );
        assert!(text.ends_with("replace k8s.io/api => k8s.io/api v0.34.4\n"), "{text}");
    }
}
