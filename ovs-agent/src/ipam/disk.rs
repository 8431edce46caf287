//! One small durable file, in the steps a crash can fall between. It must not know what is in the file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The steps of keeping one file durable. An error or a crash may happen at each of them; what was written and not yet
/// synced may be on the disk afterwards in any part.
pub trait Disk: std::fmt::Debug + Send {
    /// Its path, for messages.
    fn path(&self) -> String;
    /// The whole content; empty when the file does not exist.
    fn read(&mut self) -> io::Result<Vec<u8>>;
    /// Writes `bytes` at `offset`, which is the end of what is known good; what was behind is gone.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Writes a new content beside the file.
    fn write_beside(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the new content durable.
    fn sync_beside(&mut self) -> io::Result<()>;
    /// Puts the new content in the file's place, atomically.
    fn swap(&mut self) -> io::Result<()>;
    /// Makes the swap durable.
    fn sync_folder(&mut self) -> io::Result<()>;
}

/// [`Disk`] on a real file system.
#[derive(Debug)]
pub struct FileDisk {
    path: PathBuf,
    file: Option<File>,
    beside: Option<File>,
}

impl FileDisk {
    /// For the file at `path`; its folder is made when it is missing.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(Self { path, file: None, beside: None })
    }

    fn beside_path(&self) -> PathBuf {
        self.path.with_extension("new")
    }

    fn open(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            self.file = Some(open_private(&self.path, false)?);
        }
        self.file.as_mut().ok_or_else(|| io::Error::other("the file was just opened"))
    }
}

fn open_private(path: &Path, empty: bool) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).write(true).create(true).truncate(empty).mode(0o600).open(path)
}

impl Disk for FileDisk {
    fn path(&self) -> String {
        self.path.display().to_string()
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        self.file = None;
        match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.open()?;
        if file.metadata()?.len() != offset {
            file.set_len(offset)?;
        }
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.open()?.sync_data()
    }

    fn write_beside(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = open_private(&self.beside_path(), true)?;
        file.write_all(bytes)?;
        self.beside = Some(file);
        Ok(())
    }

    fn sync_beside(&mut self) -> io::Result<()> {
        match self.beside.take() {
            Some(file) => file.sync_all(),
            None => Err(io::Error::other("nothing was written beside")),
        }
    }

    fn swap(&mut self) -> io::Result<()> {
        self.file = None;
        fs::rename(self.beside_path(), &self.path)
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    }
}
