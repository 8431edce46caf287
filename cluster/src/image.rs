//! Container images without a container engine: one layer of files, written as a docker-archive that `ctr images import` and
//! `docker load` read. The same files make the same bytes. Knows nothing of what is in them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::error::{Context, Error, Result};

/// Where an image's programs are looked for.
const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The architecture as images name it.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// The files of an image.
pub struct Layer {
    archive: tar::Builder<Vec<u8>>,
    seen: BTreeSet<PathBuf>,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Layer").field(&self.seen).finish()
    }
}

impl Default for Layer {
    fn default() -> Self {
        Self { archive: tar::Builder::new(Vec::new()), seen: BTreeSet::new() }
    }
}

impl Layer {
    /// A folder, and those above it. What is there already stays as it is, here and below.
    pub fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        let path = inside(path);
        if path.as_os_str().is_empty() || self.seen.contains(&path) {
            return Ok(());
        }
        self.parents(&path)?;
        self.entry(tar::EntryType::Directory, &path, mode, &[], None)
    }

    /// A file with this content.
    pub fn file(&mut self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = inside(path);
        if self.seen.contains(&path) {
            return Ok(());
        }
        self.parents(&path)?;
        self.entry(tar::EntryType::Regular, &path, mode, content, None)
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let path = inside(path);
        if self.seen.contains(&path) {
            return Ok(());
        }
        self.parents(&path)?;
        self.entry(tar::EntryType::Symlink, &path, 0o777, &[], Some(target))
    }

    /// A program of this machine, with the shared libraries that it names.
    pub fn program(&mut self, source: &Path, path: &str) -> Result<()> {
        let real = source.canonicalize().context(|| format!("find {}", source.display()))?;
        self.file(path, &read(&real)?, 0o755)?;
        for library in libraries(&real)? {
            let content = read(&library)?;
            self.file(&library.to_string_lossy(), &content, 0o755)?;
        }
        Ok(())
    }

    /// Users and groups, and the folders that programs expect.
    pub fn base(&mut self) -> Result<()> {
        self.folder("tmp", 0o1777)?;
        self.folder("root", 0o700)?;
        self.file(
            "etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            0o644,
        )?;
        self.file("etc/group", b"root:x:0:\nnobody:x:65534:\n", 0o644)?;
        self.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n", 0o644)
    }

    fn parents(&mut self, path: &Path) -> Result<()> {
        let missing: Vec<_> = path
            .ancestors()
            .skip(1)
            .filter(|parent| !parent.as_os_str().is_empty() && !self.seen.contains(*parent))
            .map(Path::to_owned)
            .collect();
        missing
            .iter()
            .rev()
            .try_for_each(|parent| self.entry(tar::EntryType::Directory, parent, 0o755, &[], None))
    }

    fn entry(
        &mut self,
        kind: tar::EntryType,
        path: &Path,
        mode: u32,
        content: &[u8],
        target: Option<&str>,
    ) -> Result<()> {
        append(&mut self.archive, kind, path, mode, content, target)?;
        self.seen.insert(path.to_owned());
        Ok(())
    }
}

/// What a runtime has to know of an image.
#[derive(Clone, Debug, Default)]
pub struct Image<'a> {
    /// Its names.
    pub tags: &'a [&'a str],
    /// The program that a container runs.
    pub entrypoint: &'a [&'a str],
    /// Its arguments, unless the container has others.
    pub command: &'a [&'a str],
    /// Who runs it; root when empty.
    pub user: &'a str,
}

/// Writes an image beside and then into place: what is there is whole.
pub fn save(path: &Path, image: &Image<'_>, layer: Layer) -> Result<()> {
    let layer = layer.archive.into_inner().context(|| format!("make {}", path.display()))?;
    let digest = hexadecimal(&layer);
    let none_if_empty = |words: &[&str]| (!words.is_empty()).then(|| json!(words));
    let configuration = json!({
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": {
            "Env": [SEARCH_PATH],
            "Entrypoint": none_if_empty(image.entrypoint),
            "Cmd": none_if_empty(image.command),
            "WorkingDir": "/",
            "User": image.user,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        "history": [{"created_by": "cargo xtask"}],
    })
    .to_string();
    let name = format!("{}.json", hexadecimal(configuration.as_bytes()));
    let place = format!("{digest}/layer.tar");
    let manifest = json!([{"Config": name, "RepoTags": image.tags, "Layers": [place]}]).to_string();
    let beside = path.with_extension("new");
    let file = File::create(&beside).context(|| format!("write {}", beside.display()))?;
    let mut archive = tar::Builder::new(std::io::BufWriter::new(file));
    for (name, content) in [
        (&name, configuration.as_bytes()),
        (&place, &layer),
        (&"manifest.json".to_owned(), manifest.as_bytes()),
    ] {
        append(&mut archive, tar::EntryType::Regular, Path::new(name), 0o644, content, None)?;
    }
    archive
        .into_inner()
        .and_then(|mut writer| writer.flush())
        .and_then(|()| std::fs::rename(&beside, path))
        .context(|| format!("write {}", path.display()))
}

/// One entry, owned by root and without a time.
fn append(
    archive: &mut tar::Builder<impl Write>,
    kind: tar::EntryType,
    path: &Path,
    mode: u32,
    content: &[u8],
    target: Option<&str>,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    match target {
        Some(target) => archive.append_link(&mut header, path, target),
        None => archive.append_data(&mut header, path, content),
    }
    .context(|| format!("put {} into an image", path.display()))
}

/// Relative to the image's root.
fn inside(path: &str) -> PathBuf {
    PathBuf::from(path.trim_matches('/'))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).context(|| format!("read {}", path.display()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The shared libraries of a program, as the dynamic linker finds them; none for a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context(|| "run ldd".to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        return Err(Error::Io {
            what: format!("put {} into an image: {}", program.display(), line.trim()),
            source: std::io::ErrorKind::NotFound.into(),
        });
    }
    Ok(named_libraries(&text))
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the linker itself: `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn named_libraries(text: &str) -> Vec<PathBuf> {
    let words = text.lines().filter_map(|line| line.split_once(" (0x")?.0.split_whitespace().last());
    words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_names_libraries_and_the_linker() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\t/lib64/ld.so.2 (0x00007f)\n";
        assert_eq!(named_libraries(text), [PathBuf::from("/lib/libc.so.6"), PathBuf::from("/lib64/ld.so.2")]);
        assert!(named_libraries("\tstatically linked\n").is_empty());
    }

    #[test]
    fn the_same_files_make_the_same_archive_and_its_digests_are_true() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let mut layer = Layer::default();
            layer.base().unwrap();
            layer.file("/usr/bin/x", b"x", 0o755).unwrap();
            // The first one stays.
            layer.file("usr/bin/x", b"other", 0o755).unwrap();
            layer.link("bin/x", "../usr/bin/x").unwrap();
            let path = folder.path().join(name);
            save(&path, &Image { tags: &["example.com/x:1"], ..Image::default() }, layer).unwrap();
            std::fs::read(path).unwrap()
        };
        let bytes = write("a.tar");
        assert_eq!(bytes, write("b.tar"));
        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            files.insert(entry.path().unwrap().to_string_lossy().into_owned(), content);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let configuration = &files[&text(&manifest[0]["Config"])];
        let layer = &files[&text(&manifest[0]["Layers"][0])];
        assert_eq!(text(&manifest[0]["Config"]), format!("{}.json", hexadecimal(configuration)));
        let read: serde_json::Value = serde_json::from_slice(configuration).unwrap();
        assert_eq!(read["rootfs"]["diff_ids"][0], format!("sha256:{}", hexadecimal(layer)));
        let inner = tar::Archive::new(layer.as_slice()).entries().unwrap().count();
        assert_eq!(inner, 11, "tmp, root, etc, 3 files, usr, usr/bin, x, bin, bin/x");
    }
}
