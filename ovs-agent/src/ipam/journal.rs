//! The durable record of allocations: one checked line per change, appended and synced before the change counts,
//! rewritten whole when it has grown. It must not know ranges or rules.
//!
//! A crash leaves a good prefix and perhaps a torn last line, which nobody was promised; it is dropped. A failed write
//! leaves the tail in doubt: then the next change rewrites the file beside and swaps it in.

use std::net::IpAddr;

use api::cni::AttachmentId;
use serde::{Deserialize, Serialize};

use super::{Allocation, Disk, IpamError};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub(super) enum Entry {
    /// Addresses were handed out.
    Take(Allocation),
    /// Attachments gave their addresses back, at a time in seconds since 1970.
    Free { ids: Vec<AttachmentId>, at: u64 },
    /// An address was given back by someone who is forgotten (only in a rewritten record).
    Rest { address: IpAddr, at: u64 },
}

/// The record, open for appending.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Box<dyn Disk>,
    /// Bytes that are known good.
    length: u64,
    /// Lines in those bytes.
    lines: usize,
    /// The last line is written and not synced.
    unsynced: bool,
    /// The tail behind `length` may hold anything, or the file may be the old or the new one.
    doubtful: bool,
}

/// The record is rewritten when it has this many lines more than needed.
const SLACK: usize = 1_000;

impl Journal {
    /// Reads the record; gives its entries in order.
    pub(super) fn open(mut disk: Box<dyn Disk>) -> Result<(Self, Vec<Entry>), IpamError> {
        let path = disk.path();
        let bytes =
            disk.read().map_err(|error| IpamError::Storage { action: "read", path: path.clone(), error })?;
        let mut entries = Vec::new();
        let mut length = 0;
        let mut torn = false;
        let mut rest = bytes.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            match parse(&rest[..end]) {
                Ok(entry) => entries.push(entry),
                // Only the last line can be torn: every line is synced before the next one is written.
                Err(_) if end + 1 == rest.len() => {
                    torn = true;
                    break;
                }
                Err(why) => return Err(IpamError::Damaged { path, line: entries.len() + 1, why }),
            }
            rest = &rest[end + 1..];
            length += end + 1;
        }
        let lines = entries.len();
        // What lies behind the good prefix must not mix with a new line when the next crash tears that one too.
        let doubtful = torn || !rest.is_empty();
        Ok((Self { disk, length: length as u64, lines, unsynced: false, doubtful }, entries))
    }

    /// Makes `entry` durable. `before` gives the whole state without it, for a rewrite. After an error it does not
    /// count, now or after a restart that follows a later success.
    pub(super) fn append(
        &mut self,
        entry: Entry,
        before: impl FnOnce() -> Vec<Entry>,
    ) -> Result<(), IpamError> {
        let (length, lines) = (self.length, self.lines);
        self.write(entry, before)?;
        self.sync().inspect_err(|_| {
            (self.length, self.lines) = (length, lines);
            self.take_back(length);
        })
    }

    /// The same, durable only after [`Self::sync`].
    pub(super) fn write(
        &mut self,
        entry: Entry,
        before: impl FnOnce() -> Vec<Entry>,
    ) -> Result<(), IpamError> {
        // Only the last line can be torn: every line is synced before the next one is written.
        if !self.doubtful && self.sync().is_err() {
            self.doubtful = true;
        }
        if self.doubtful {
            let mut all = before();
            all.push(entry);
            return self.rewrite(&all);
        }
        let bytes = encode(&[entry]);
        if let Err(error) = self.disk.write_at(self.length, &bytes) {
            self.take_back(self.length);
            return Err(self.storage("write", error));
        }
        self.length += bytes.len() as u64;
        self.lines += 1;
        self.unsynced = true;
        Ok(())
    }

    /// Makes the last line durable. After an error the disk is left as it was before it, or is in doubt.
    pub(super) fn sync(&mut self) -> Result<(), IpamError> {
        if !std::mem::take(&mut self.unsynced) {
            return Ok(());
        }
        self.disk.sync().map_err(|error| {
            self.doubtful = true;
            self.storage("write", error)
        })
    }

    /// Tries to leave the disk as it was, so that a crash now does not bring an entry back.
    fn take_back(&mut self, length: u64) {
        let undone = self.disk.write_at(length, &[]).and_then(|()| self.disk.sync());
        self.doubtful = undone.is_err();
    }

    /// Rewrites the record when it holds much that is past. A failure costs nothing: the record is good as it is.
    pub(super) fn compact(&mut self, live: usize, all: impl FnOnce() -> Vec<Entry>) {
        if self.lines > 2 * live + SLACK
            && let Err(error) = self.rewrite(&all())
        {
            tracing::warn!(%error, "the address record stays long");
        }
    }

    fn rewrite(&mut self, all: &[Entry]) -> Result<(), IpamError> {
        let bytes = encode(all);
        // Until the folder is synced, either file may be there after a crash.
        let was_doubtful = std::mem::replace(&mut self.doubtful, true);
        let beside = self.disk.write_beside(&bytes).and_then(|()| self.disk.sync_beside());
        if let Err(error) = beside {
            self.doubtful = was_doubtful;
            return Err(self.storage("rewrite", error));
        }
        let swapped = self.disk.swap().and_then(|()| self.disk.sync_folder());
        swapped.map_err(|error| self.storage("rewrite", error))?;
        (self.length, self.lines, self.doubtful) = (bytes.len() as u64, all.len(), false);
        Ok(())
    }

    fn storage(&self, action: &'static str, error: std::io::Error) -> IpamError {
        IpamError::Storage { action, path: self.disk.path(), error }
    }
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        // An entry is strings, numbers and addresses, which JSON always takes.
        let text = serde_json::to_string(entry).unwrap_or_default();
        bytes.extend_from_slice(format!("{:016x} {text}\n", checksum(text.as_bytes())).as_bytes());
    }
    bytes
}

fn parse(line: &[u8]) -> Result<Entry, String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let (sum, text) = text.split_once(' ').ok_or("no checksum")?;
    if u64::from_str_radix(sum, 16) != Ok(checksum(text.as_bytes())) {
        return Err("the checksum does not fit".into());
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// FNV-1a, 64 bits: enough to see a torn line.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
