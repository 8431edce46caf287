//! Which files of a directory are manifests: one answer for everybody who reads one. It does not read.

/// Directories below the one that was named, at most. Deeper ones are somebody's mistake, or a loop of links.
pub const MAX_DEPTH: usize = 8;

/// A file of more bytes is nobody's manifest; it is refused rather than read into memory.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// What to do with an entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A manifest.
    Read,
    /// A directory to look into.
    Descend,
    /// Neither.
    Skip,
}

/// Judges an entry by its name. Hidden ones are left out: editors' drafts, and the way in which Kubernetes mounts a ConfigMap.
/// `depth` is that of the directory that holds it, 0 for the one that was named.
pub fn entry(name: &str, is_directory: bool, depth: usize) -> Entry {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match is_directory {
        _ if name.starts_with('.') => Entry::Skip,
        true if depth < MAX_DEPTH => Entry::Descend,
        false if ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known)) => {
            Entry::Read
        }
        _ => Entry::Skip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_by_their_extension_and_nothing_hidden() {
        for name in ["a.yaml", "b.YML", "c.json", "d.e.yaml"] {
            assert_eq!(entry(name, false, 0), Entry::Read, "{name}");
        }
        for name in [".a.yaml", "yaml", "a.yaml~", "a.yaml.swp", "README.md", ""] {
            assert_eq!(entry(name, false, 0), Entry::Skip, "{name}");
        }
        assert_eq!(entry("sub.d", true, MAX_DEPTH - 1), Entry::Descend);
        assert_eq!(entry("sub.d", true, MAX_DEPTH), Entry::Skip);
        assert_eq!(entry("..data", true, 0), Entry::Skip);
    }
}
