//! The built-in IPAM as the agent uses it: the allocator behind a lock, since calls come from several tasks. An
//! operation is one small synced write, about a millisecond, and never waits for anything else.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use api::cni::{AttachmentId, PodAddress};
use futures::FutureExt;
use futures::future::BoxFuture;
use network::{Cidr, NodeName};

use super::allocator::Allocator;
use super::{Allocation, Disk, Ipam, IpamError, Usage, Wanted};

/// Addresses from the node's own pod ranges, one per family.
#[derive(Debug)]
pub struct BuiltIn(Mutex<Allocator>);

impl BuiltIn {
    /// How long an address rests after its release, unless told otherwise: longer than any node needs to learn that the
    /// old owner is gone.
    pub const REST: Duration = Duration::from_secs(60);

    /// Opens the record on `disk` (see [`super::FileDisk`]); `ranges` may be empty until they are known. `now` and every later
    /// time are of a clock that nobody sets.
    pub fn open(
        node: NodeName,
        ranges: Vec<Cidr>,
        rest: Duration,
        disk: Box<dyn Disk>,
        now: SystemTime,
    ) -> Result<Self, IpamError> {
        Ok(Self(Mutex::new(Allocator::open(node, ranges, rest, disk, now)?)))
    }

    /// The node's pod ranges from now on. Allocations outside them stay until they are released.
    pub fn set_ranges(&self, ranges: Vec<Cidr>) {
        self.lock().set_ranges(ranges);
    }

    /// [`Ipam::allocate`], but not durable before [`Self::sync`].
    pub fn take(&self, wanted: &Wanted, now: SystemTime) -> Result<Vec<PodAddress>, IpamError> {
        self.lock().take(wanted, now)
    }

    /// Makes what was taken durable; blocks for as long as the disk needs. After an error it has to be released.
    pub fn sync(&self) -> Result<(), IpamError> {
        self.lock().sync()
    }

    /// Every address that anybody has or had, as far as remembered.
    pub fn used(&self) -> BTreeSet<IpAddr> {
        self.lock().used()
    }

    /// How full every range is, for metrics.
    pub fn usage(&self, now: SystemTime) -> Vec<Usage> {
        self.lock().usage(now)
    }

    /// Releases everything of `network` that is not in `valid` (CNI GC), in one step; gives the attachments freed.
    pub fn release_others(
        &self,
        network: &str,
        valid: &[AttachmentId],
        now: SystemTime,
    ) -> Result<Vec<AttachmentId>, IpamError> {
        let mut allocator = self.lock();
        let gone = |held: &&Allocation| held.network == network && !valid.contains(&held.id);
        let ids: Vec<_> = allocator.list().filter(gone).map(|held| held.id.clone()).collect();
        allocator.release(&ids, now)?;
        Ok(ids)
    }

    fn lock(&self) -> MutexGuard<'_, Allocator> {
        // The allocator changes its state only after its write succeeded, in steps that cannot panic halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ipam for BuiltIn {
    fn allocate(&self, wanted: Wanted, now: SystemTime) -> BoxFuture<'_, Result<Vec<PodAddress>, IpamError>> {
        async move { self.lock().allocate(&wanted, now) }.boxed()
    }

    fn release<'a>(
        &'a self,
        id: &'a AttachmentId,
        now: SystemTime,
    ) -> BoxFuture<'a, Result<Vec<IpAddr>, IpamError>> {
        async move { self.lock().release(std::slice::from_ref(id), now) }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Allocation>, IpamError>> {
        async move { Ok(self.lock().list().cloned().collect()) }.boxed()
    }

    fn status(&self, now: SystemTime) -> BoxFuture<'_, Result<(), IpamError>> {
        async move { self.lock().status(now) }.boxed()
    }
}
