//! A node's own place in the hierarchies of control groups: a group below the one that we are in (never beside or above it:
//! the limits around us keep holding), which the node sees as the root. Hierarchies of version 1 and the one of version 2.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// A hierarchy of the machine, as `/proc/PID/cgroup` tells (cgroups(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// `cpu`, `cpu,cpuacct`, `name=systemd`; empty for version 2.
    pub controllers: String,
    /// The group of the process in it.
    path: String,
}

impl Hierarchy {
    /// Its folder below `/sys/fs/cgroup`; empty where version 2 is the only one.
    pub fn folder(&self) -> &str {
        match self.controllers.as_str() {
            "" if Path::new(ROOT).join("cgroup.controllers").exists() => "",
            "" => "unified",
            name => name.trim_start_matches("name="),
        }
    }

    fn group(&self, name: &str) -> PathBuf {
        let own = self.path.trim_start_matches('/');
        Path::new(ROOT).join(self.folder()).join(own).join(name)
    }
}

/// Those that are mounted where everybody expects them.
pub fn hierarchies() -> Result<Vec<Hierarchy>> {
    let path = "/proc/self/cgroup";
    let text = std::fs::read_to_string(path).context(|| format!("read {path}"))?;
    Ok(parse(&text).into_iter().filter(|h| Path::new(ROOT).join(h.folder()).is_dir()).collect())
}

fn parse(text: &str) -> Vec<Hierarchy> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some(Hierarchy { controllers: fields.next()?.to_owned(), path: fields.next()?.to_owned() })
    };
    text.lines().filter_map(line).collect()
}

/// Makes a group of this name in every hierarchy and moves this process there. The groups are written down first, for
/// [`remove`].
pub fn join(name: &str, record: &Path) -> Result<()> {
    let hierarchies = hierarchies()?;
    let groups: Vec<_> = hierarchies.iter().map(|hierarchy| hierarchy.group(name)).collect();
    let text: String = groups.iter().map(|group| format!("{}\n", group.display())).collect();
    std::fs::write(record, text).context(|| format!("write {}", record.display()))?;
    for (hierarchy, group) in hierarchies.iter().zip(&groups) {
        std::fs::create_dir_all(group).context(|| format!("make the control group {}", group.display()))?;
        if hierarchy.controllers.split(',').any(|controller| controller == "cpuset") {
            inherit_cpus(group)?;
        }
        write(&group.join("cgroup.procs"), &std::process::id().to_string())?;
    }
    Ok(())
}

/// A new cpuset of version 1 has neither processors nor memory, and nobody can join it.
fn inherit_cpus(group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let parent = group.parent().unwrap_or(group).join(file);
        let value = std::fs::read_to_string(&parent).context(|| format!("read {}", parent.display()))?;
        write(&group.join(file), value.trim())?;
    }
    write(&group.join("cgroup.clone_children"), "1")
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).context(|| format!("write {text} to {}", path.display()))
}

/// Removes the groups of a record, whose processes have ended or are about to.
pub fn remove(record: &Path) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(5);
    let Ok(text) = std::fs::read_to_string(record) else { return Ok(()) };
    let began = Instant::now();
    for group in text.lines().map(Path::new) {
        loop {
            match remove_tree(group) {
                Ok(()) => break,
                Err(_) if began.elapsed() < LIMIT => std::thread::sleep(Duration::from_millis(20)),
                error => return error.context(|| format!("remove the control group {}", group.display())),
            }
        }
    }
    Ok(())
}

/// Groups go from below; the files in them go by themselves.
fn remove_tree(group: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_as_the_kernel_writes_them() {
        let all = parse("9:name=systemd:/\n4:memory:/a/b:c\n0::/\n");
        assert_eq!(
            all.iter().map(|h| h.controllers.as_str()).collect::<Vec<_>>(),
            ["name=systemd", "memory", ""]
        );
        assert_eq!(all[0].folder(), "systemd");
        assert_eq!(all[1].group("x"), Path::new("/sys/fs/cgroup/memory/a/b:c/x"));
    }
}
