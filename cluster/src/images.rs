//! The images that a cluster and Kubernetes' own tests run: made of programs built from source and of what the distribution
//! installed, under the names that manifests ask for. Nothing is fetched from an image registry.

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::Interrupt;
use lab::progress::{Progress, step};

use crate::error::{Context, Error, Result};
use crate::image::{Image, Layer, save};
use crate::program::Builder;

/// What holds a pod's namespaces.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10.1";
/// Small tools and a shell.
pub const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1";
/// What answers and asks in Kubernetes' tests.
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.56";
/// The same as the conformance suite of ClusterNetworkPolicy calls it, and as Cyclonus does.
const AGNHOST_OF_OTHERS: [&str; 2] =
    ["registry.k8s.io/e2e-test-images/agnhost:2.45", "docker.io/mfenwick100/cyclonus-worker:latest"];
/// Asks name servers in Kubernetes' tests.
const DNSUTILS: &str = "registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7";
/// The name server of a cluster.
pub const COREDNS: &str = "registry.k8s.io/coredns/coredns:v1.12.4";

/// What every cluster with nodes runs.
pub const NEEDED: &[&str] = &["pause", "coredns", "busybox"];
/// What Kubernetes' tests run besides.
pub const FOR_TESTS: &[&str] = &["agnhost-sctp", "dnsutils"];

impl Builder {
    /// Where the images are.
    pub fn images(&self) -> PathBuf {
        self.folder().join("images")
    }

    /// Makes those of the named images that are not there yet, or are older than a program in them, and says where they are.
    pub fn build_images(
        &self,
        names: &[&str],
        interrupt: &Interrupt,
        progress: &Progress<'_>,
    ) -> Result<Vec<PathBuf>> {
        let directory = self.images();
        std::fs::create_dir_all(&directory).context(|| format!("make {}", directory.display()))?;
        let make = |name: &&str| {
            let path = directory.join(format!("{name}.tar"));
            if !self.is_fresh(name, &path) {
                interrupt.check()?;
                step(progress, &format!("image {name}"), || self.build_image(name, &path, interrupt))?;
            }
            Ok(path)
        };
        names.iter().map(make).collect()
    }

    fn is_fresh(&self, name: &str, path: &Path) -> bool {
        let programs: &[&str] = match name {
            "agnhost-sctp" => &["agnhost-sctp", "agnhost", "coredns"],
            "pause" => &["pause"],
            "coredns" => &["coredns"],
            _ => &[],
        };
        let written = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        written(path).is_some_and(|image| {
            programs.iter().all(|program| written(&self.binaries().join(program)) <= Some(image))
        })
    }

    fn build_image(&self, name: &str, path: &Path, interrupt: &Interrupt) -> Result<()> {
        let own = |program: &str| self.binaries().join(program);
        let mut layer = Layer::default();
        match name {
            "pause" => {
                layer.program(&own("pause"), "pause")?;
                save(
                    path,
                    &Image {
                        tags: &[PAUSE],
                        entrypoint: &["/pause"],
                        user: "65535:65535",
                        ..Image::default()
                    },
                    layer,
                )
            }
            "coredns" => {
                layer.base()?;
                layer.program(&own("coredns"), "coredns")?;
                save(path, &Image { tags: &[COREDNS], entrypoint: &["/coredns"], ..Image::default() }, layer)
            }
            "busybox" => {
                layer.base()?;
                // busybox-static's wget crashes where it looks a name up.
                layer.program(&found("wget")?, "bin/wget")?;
                busybox(&mut layer)?;
                save(path, &Image { tags: &[BUSYBOX], command: &["sh"], ..Image::default() }, layer)
            }
            "agnhost-sctp" => {
                layer.base()?;
                tools(&mut layer)?;
                busybox(&mut layer)?;
                layer.folder("uploads", 0o777)?;
                layer.program(&own("agnhost-sctp"), "agnhost")?;
                layer.program(&own("agnhost"), "agnhost-upstream")?;
                layer.link("worker", "agnhost")?;
                // A name server of its own, for one spec.
                layer.program(&own("coredns"), "coredns")?;
                layer.link("agnhost-2", "agnhost")?;
                // The certificate that its TLS server shows.
                let arguments = ["list", "-mod=mod", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"];
                let sources = self.go(&self.source("kubernetes"), &arguments, interrupt)?;
                for file in ["localhost.crt", "localhost.key"] {
                    let from = Path::new(sources.trim()).join("test/images/agnhost/porter").join(file);
                    let content = std::fs::read(&from).context(|| format!("read {}", from.display()))?;
                    layer.file(file, &content, 0o644)?;
                }
                save(
                    path,
                    &Image {
                        tags: &[AGNHOST, AGNHOST_OF_OTHERS[0], AGNHOST_OF_OTHERS[1]],
                        entrypoint: &["/agnhost"],
                        command: &["pause"],
                        ..Image::default()
                    },
                    layer,
                )
            }
            _ => {
                layer.base()?;
                tools(&mut layer)?;
                busybox(&mut layer)?;
                save(
                    path,
                    &Image { tags: &[DNSUTILS], command: &["/bin/sleep", "1d"], ..Image::default() },
                    layer,
                )
            }
        }
    }
}

/// The programs that test scripts call; busybox has poorer ones, and its shell would take its own before these.
const TOOLS: &[(&str, &str)] = &[
    ("wget", "bin/wget"),
    ("nslookup", "bin/nslookup"),
    ("dash", "bin/sh"),
    ("bash", "bin/bash"),
    ("curl", "usr/bin/curl"),
    ("dig", "usr/bin/dig"),
    ("nc", "bin/nc"),
    ("ss", "usr/bin/ss"),
    ("ip", "sbin/ip"),
    ("getent", "usr/bin/getent"),
    ("iperf", "usr/bin/iperf"),
];

fn tools(layer: &mut Layer) -> Result<()> {
    for (program, place) in TOOLS {
        layer.program(&found(program)?, place)?;
    }
    // Opened by name at run time: no program names them.
    let folders = ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib64"].map(Path::new);
    for library in ["libnss_dns.so.2", "libnss_files.so.2"] {
        if let Some(path) = folders.iter().map(|folder| folder.join(library)).find(|path| path.is_file()) {
            let content = std::fs::read(&path).context(|| format!("read {}", path.display()))?;
            layer.file(&path.to_string_lossy(), &content, 0o755)?;
        }
    }
    Ok(())
}

/// busybox under all its names that nobody has taken.
pub fn busybox(layer: &mut Layer) -> Result<()> {
    let program = found("busybox")?;
    layer.program(&program, "bin/busybox")?;
    let output = Command::new(&program).arg("--list").output().context(|| "run busybox --list".to_owned())?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .try_for_each(|name| layer.link(&format!("bin/{name}"), "busybox"))
}

/// A program of the distribution, or the one at a path.
pub fn found(program: &str) -> Result<PathBuf> {
    if program.starts_with('/') {
        return Ok(PathBuf::from(program));
    }
    let path = lab::command::search_path();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.ok_or_else(|| Error::NoProgram { program: program.to_owned() })
}
