//! The file that stands for what is to be taken back (`api::cni::Tombstone`): written and locked before anything is made,
//! removed when nothing is left to do. A lock ends with its process, so a file that nobody locks is a deletion that is
//! owed. It must not know how a deletion is done.
//!
//! It need not survive a power cut, since the containers do not either.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::cni::Tombstone;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Where the files are below the folder of states.
pub fn folder(state: &Path) -> PathBuf {
    state.join("tombstones")
}

/// A file that this process has locked.
#[derive(Debug)]
pub struct Intent {
    file: Flock<File>,
    path: PathBuf,
}

/// What a file says is owed: nothing, a deletion, or why that cannot be read.
pub type Owed = Option<Result<Tombstone, String>>;

/// How often is looked whether another process is through with the attachment.
const PAUSE: Duration = Duration::from_millis(5);

impl Intent {
    /// Locks the attachment's file, waiting for whoever has it; gives what was owed before. [`io::ErrorKind::TimedOut`]
    /// when the other one does not end.
    pub(crate) fn lock(
        state: &Path,
        tombstone: &Tombstone,
        patience: Duration,
    ) -> io::Result<(Self, Option<Tombstone>)> {
        let folder = folder(state);
        let path = folder.join(Tombstone::file_name(&tombstone.id));
        let end = Instant::now() + patience;
        loop {
            let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(&folder)?;
                    continue;
                }
                other => other?,
            };
            if let Some(mut intent) = Self::locked(file, &path)? {
                // Written before anything is made: what is empty or torn owes nothing.
                let owed = intent.read()?.map(|owed| owed.unwrap_or_else(|_| tombstone.clone()));
                return Ok((intent, owed));
            }
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Locks a file that was found, if nobody else has it; gives what is owed, or why it cannot be read.
    pub fn found(path: &Path) -> io::Result<Option<(Self, Owed)>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let Some(mut intent) = Self::locked(file, path)? else { return Ok(None) };
        let owed = intent.read()?;
        Ok(Some((intent, owed)))
    }

    /// `None` when another process has it, or removed it meanwhile.
    fn locked(file: File, path: &Path) -> io::Result<Option<Self>> {
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, error)) => return Err(error.into()),
        };
        let same = match fs::metadata(path) {
            Ok(there) => (there.dev(), there.ino()) == file.metadata().map(|m| (m.dev(), m.ino()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        Ok(same.then(|| Self { file, path: path.to_owned() }))
    }

    fn read(&mut self) -> io::Result<Owed> {
        let mut text = Vec::new();
        self.file.read_to_end(&mut text)?;
        if text.is_empty() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&text).map_err(|error| error.to_string())))
    }

    /// Leaves what could not be done for the next try, unless somebody is busy with the attachment, who will do it.
    pub fn owe(state: &Path, tombstone: &Tombstone) -> io::Result<()> {
        match Self::lock(state, tombstone, Duration::ZERO) {
            Ok((mut intent, _)) => intent.write(tombstone),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// From now on this is owed, if the process is killed.
    pub(crate) fn write(&mut self, tombstone: &Tombstone) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        let text = serde_json::to_vec(tombstone)?;
        self.file.write_all(&text).inspect_err(|_| {
            // Half of it would be taken for damage; there is nothing to owe yet.
            let _ = self.file.set_len(0);
        })
    }

    /// Nothing is owed any more.
    pub fn end(self) -> io::Result<()> {
        // Removed under the lock: whoever waits for it sees that the file is another one now.
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use api::cni::AttachmentId;

    use super::*;

    fn tombstone() -> Tombstone {
        let id = AttachmentId { container_id: "c".repeat(300), interface: "eth0".into() };
        Tombstone { id, network: "ferrule".into(), ipam: None }
    }

    #[test]
    fn what_was_not_ended_is_owed_whatever_the_length_of_the_id() {
        let state = tempfile::tempdir().unwrap();
        let now = Duration::ZERO;
        let (mut intent, owed) = Intent::lock(state.path(), &tombstone(), now).unwrap();
        assert_eq!(owed, None);
        intent.write(&tombstone()).unwrap();
        let path = intent.path.clone();
        assert!(Intent::found(&path).unwrap().is_none(), "somebody is busy with it");
        let refused = Intent::lock(state.path(), &tombstone(), now).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        Intent::owe(state.path(), &tombstone()).unwrap();
        drop(intent);
        let (found, owed) = Intent::found(&path).unwrap().unwrap();
        assert_eq!(owed, Some(Ok(tombstone())));
        drop(found);
        let (intent, owed) = Intent::lock(state.path(), &tombstone(), now).unwrap();
        assert_eq!(owed, Some(tombstone()));
        intent.end().unwrap();
        assert!(Intent::found(&path).unwrap().is_none() && !path.exists());
        let (again, owed) = Intent::lock(state.path(), &tombstone(), now).unwrap();
        assert_eq!((owed, std::fs::read_dir(folder(state.path())).unwrap().count()), (None, 1));
        again.end().unwrap();
        Intent::owe(state.path(), &tombstone()).unwrap();
        assert_eq!(Intent::found(&path).unwrap().unwrap().1, Some(Ok(tombstone())));
    }

    #[test]
    fn whoever_waits_gets_the_file_that_is_there_and_not_the_one_that_was() {
        let state = tempfile::tempdir().unwrap();
        let counter = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let long = Duration::from_secs(20);
                        let (mut intent, owed) = Intent::lock(state.path(), &tombstone(), long).unwrap();
                        assert_eq!(owed, None);
                        assert_eq!(counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        intent.write(&tombstone()).unwrap();
                        counter.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        intent.end().unwrap();
                    }
                });
            }
        });
    }
}
