//! `cluster image`: writes a docker-archive from files of this machine. For images that are not the cluster's own.

use std::path::{Path, PathBuf};

use cluster::Error;
use cluster::image::{Image, Layer, save};

/// What goes into the image, each as SOURCE:PATH-INSIDE.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Where the archive is written
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Its name, such as example.com/name:1
    #[arg(long, value_name = "NAME")]
    tag: String,
    /// A program with the shared libraries that it needs (looked for on PATH when it has no slash); may be repeated
    #[arg(long = "program", value_name = "SOURCE:PATH")]
    programs: Vec<String>,
    /// A file; executable when it is here; may be repeated
    #[arg(long = "file", value_name = "SOURCE:PATH")]
    files: Vec<String>,
    /// A symbolic link, as TARGET:PATH; may be repeated
    #[arg(long = "link", value_name = "TARGET:PATH")]
    links: Vec<String>,
    /// A shell and busybox' tools
    #[arg(long)]
    shell: bool,
}

/// Writes it.
pub fn write(arguments: &Arguments) -> Result<(), Error> {
    let mut layer = Layer::default();
    layer.base()?;
    for text in &arguments.programs {
        let (source, path) = split(text)?;
        layer.program(&cluster::images::found(source)?, path)?;
    }
    for text in &arguments.files {
        let (source, path) = split(text)?;
        let (content, mode) = read(Path::new(source))?;
        layer.file(path, &content, mode)?;
    }
    for text in &arguments.links {
        let (target, path) = split(text)?;
        layer.link(path, target)?;
    }
    if arguments.shell {
        layer.program(&cluster::images::found("dash")?, "bin/sh")?;
        cluster::images::busybox(&mut layer)?;
    }
    save(&arguments.output, &Image { tags: &[&arguments.tag], ..Image::default() }, layer)
}

fn split(text: &str) -> Result<(&str, &str), Error> {
    text.rsplit_once(':').ok_or_else(|| Error::Io {
        what: format!("read `{text}`: write SOURCE:PATH"),
        source: std::io::ErrorKind::InvalidInput.into(),
    })
}

/// A file and whether it may be run.
fn read(path: &Path) -> Result<(Vec<u8>, u32), Error> {
    use std::os::unix::fs::PermissionsExt;
    let both =
        std::fs::read(path).and_then(|content| Ok((content, std::fs::metadata(path)?.permissions().mode())));
    both.map(|(content, mode)| (content, if mode & 0o111 == 0 { 0o644 } else { 0o755 }))
        .map_err(|source| Error::Io { what: format!("read {}", path.display()), source })
}
