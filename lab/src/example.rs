//! The example that ships with the project, as files that can be edited: the lab writes them where its manifests are watched.

use std::path::Path;

use crate::error::{Context, Result};

macro_rules! files {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../examples/shop/", $name)))),*] };
}

/// A small shop: ten workloads, twelve pods on two nodes, in three namespaces.
pub const SHOP: [(&str, &str); 7] = files![
    "00-namespaces.yaml",
    "10-shop.yaml",
    "20-data.yaml",
    "30-platform.yaml",
    "40-policies-shop.yaml",
    "50-policies-data.yaml",
    "60-policies-platform.yaml",
];

/// Writes it into a directory, which is made.
pub fn write(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).context(|| format!("make {}", directory.display()))?;
    SHOP.iter().try_for_each(|(name, text)| {
        let path = directory.join(name);
        std::fs::write(&path, text).context(|| format!("write {}", path.display()))
    })
}
