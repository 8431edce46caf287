//! The rules of the built-in allocator: ranges, reserved addresses, rest, requested addresses, and the state that the
//! journal keeps. Synchronous, one owner; time is an argument. It must not know who runs it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::cni::{AttachmentId, PodAddress};
use network::node::gateway_address;
use network::{Cidr, NodeName};

use super::journal::{Entry, Journal};
use super::{Allocation, Disk, IpamError, Usage, Wanted};

/// How many addresses of a range are handed out unasked, from its start: a range may have 2^64, a node has few pods,
/// and what was used once is remembered.
const WINDOW: u128 = 1 << 16;

/// Who has what on this node.
#[derive(Debug)]
pub(super) struct Allocator {
    node: NodeName,
    ranges: Vec<Cidr>,
    rest: Duration,
    journal: Journal,
    held: BTreeMap<AttachmentId, Allocation>,
    owners: BTreeMap<IpAddr, AttachmentId>,
    /// Free addresses that were used before, and since when they are free, in seconds of the agent's clock.
    freed: BTreeMap<IpAddr, u64>,
}

/// What an attachment is to have.
enum Choice {
    /// It has it already.
    Held(Vec<PodAddress>),
    New(Allocation),
}

impl Allocator {
    /// Reads the record. Allocations outside the ranges stay until they are released. What was freed later than `now` was freed
    /// by another clock: it rests from now on.
    pub(super) fn open(
        node: NodeName,
        ranges: Vec<Cidr>,
        rest: Duration,
        disk: Box<dyn Disk>,
        now: SystemTime,
    ) -> Result<Self, IpamError> {
        let (journal, entries) = Journal::open(disk)?;
        let mut new = Self {
            node,
            ranges: Vec::new(),
            rest,
            journal,
            held: BTreeMap::new(),
            owners: BTreeMap::new(),
            freed: BTreeMap::new(),
        };
        for entry in entries {
            new.replay(entry);
        }
        let now = seconds(now);
        new.freed.values_mut().for_each(|at| *at = now.min(*at));
        new.set_ranges(ranges);
        Ok(new)
    }

    /// The pod ranges of the node from now on.
    pub(super) fn set_ranges(&mut self, ranges: Vec<Cidr>) {
        if self.ranges == ranges {
            return;
        }
        self.ranges = ranges;
        for allocation in self.held.values() {
            for held in &allocation.addresses {
                if let Err(why) = self.check_range(held.address) {
                    tracing::warn!(
                        node = %self.node, address = %held.address, owner = %allocation.owner(), %why,
                        "an address in use is not one of the node's ranges any more; it stays until it is released"
                    );
                }
            }
        }
    }

    /// See [`super::Ipam::allocate`].
    pub(super) fn allocate(
        &mut self,
        wanted: &Wanted,
        now: SystemTime,
    ) -> Result<Vec<PodAddress>, IpamError> {
        match self.choose(wanted, now)? {
            Choice::Held(addresses) => Ok(addresses),
            Choice::New(allocation) => {
                let addresses = allocation.addresses.clone();
                self.record(Entry::Take(allocation), seconds(now))?;
                Ok(addresses)
            }
        }
    }

    /// The same, durable only after [`Self::sync`].
    pub(super) fn take(&mut self, wanted: &Wanted, now: SystemTime) -> Result<Vec<PodAddress>, IpamError> {
        match self.choose(wanted, now)? {
            Choice::Held(addresses) => Ok(addresses),
            Choice::New(allocation) => {
                let addresses = allocation.addresses.clone();
                let entry = Entry::Take(allocation);
                let Self { journal, held, freed, .. } = self;
                journal.write(entry.clone(), || snapshot(held, freed))?;
                self.replay(entry);
                Ok(addresses)
            }
        }
    }

    /// Makes what was taken durable. After an error it is in doubt, and the next change rewrites the record.
    pub(super) fn sync(&mut self) -> Result<(), IpamError> {
        self.journal.sync()
    }

    fn choose(&self, wanted: &Wanted, now: SystemTime) -> Result<Choice, IpamError> {
        if let Some(held) = self.held.get(&wanted.id) {
            let has = |address: &IpAddr| held.addresses.iter().any(|held| held.address == *address);
            return match wanted.addresses.iter().find(|address| !has(address)) {
                None => Ok(Choice::Held(held.addresses.clone())),
                Some(other) => {
                    Err(self.refused(*other, "the attachment holds another address already: DEL it first"))
                }
            };
        }
        let mut addresses = Vec::new();
        for ipv4 in [true, false] {
            let mut asked = wanted.addresses.iter().copied().filter(|address| address.is_ipv4() == ipv4);
            match (asked.next(), asked.next()) {
                (Some(address), None) => addresses.push(self.requested(address)?),
                (Some(_), Some(second)) => {
                    return Err(self.refused(second, "one address per family is given, two were asked for"));
                }
                (None, _) if !wanted.exact && self.ranges.iter().any(|range| range.is_ipv4() == ipv4) => {
                    addresses.push(self.any(ipv4, seconds(now))?);
                }
                (None, _) => {}
            }
        }
        if addresses.is_empty() {
            return Err(IpamError::NoRange { node: self.node.clone() });
        }
        Ok(Choice::New(Allocation {
            id: wanted.id.clone(),
            network: wanted.network.clone(),
            pod: wanted.pod.clone(),
            addresses,
        }))
    }

    /// Releases every listed attachment that holds something, in one step; gives what was freed.
    pub(super) fn release(
        &mut self,
        ids: &[AttachmentId],
        now: SystemTime,
    ) -> Result<Vec<IpAddr>, IpamError> {
        let ids: Vec<_> = ids.iter().filter(|id| self.held.contains_key(id)).cloned().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let freed = ids
            .iter()
            .filter_map(|id| self.held.get(id))
            .flat_map(|held| held.addresses.iter().map(|held| held.address))
            .collect();
        self.record(Entry::Free { ids, at: seconds(now) }, seconds(now))?;
        Ok(freed)
    }

    /// Everything handed out.
    pub(super) fn list(&self) -> impl Iterator<Item = &Allocation> {
        self.held.values()
    }

    /// Every address that anybody has or had, as far as remembered.
    pub(super) fn used(&self) -> BTreeSet<IpAddr> {
        self.owners.keys().chain(self.freed.keys()).copied().collect()
    }

    /// Whether [`Self::allocate`] without wishes would succeed.
    pub(super) fn status(&self, now: SystemTime) -> Result<(), IpamError> {
        if self.ranges.is_empty() {
            return Err(IpamError::NoRange { node: self.node.clone() });
        }
        for ipv4 in [true, false] {
            if self.ranges.iter().any(|range| range.is_ipv4() == ipv4) {
                self.any(ipv4, seconds(now))?;
            }
        }
        Ok(())
    }

    /// How full every range is.
    pub(super) fn usage(&self, now: SystemTime) -> Vec<Usage> {
        self.ranges.iter().map(|range| self.range_usage(*range, seconds(now))).collect()
    }

    fn range_usage(&self, range: Cidr, now: u64) -> Usage {
        let inside = range.address()..=range.last();
        let allocated = self.owners.range(inside.clone()).count() as u64;
        let resting =
            self.freed.range(inside).filter(|(_, at)| self.rests(**at, now).is_some()).count() as u64;
        let (first, last) = usable(&range);
        let size = if first > last {
            0
        } else {
            u64::try_from(last - first).map_or(u64::MAX, |n| n.saturating_add(1))
        };
        Usage { range, size, allocated, resting }
    }

    /// An address somebody asked for by name. One that rests is given: who asks for it means it.
    fn requested(&self, address: IpAddr) -> Result<PodAddress, IpamError> {
        if let Some(owner) = self.owners.get(&address) {
            let owner = self.held.get(owner).map(Allocation::owner).unwrap_or_default();
            return Err(IpamError::Owned { address, owner });
        }
        match self.check_range(address) {
            Ok((range, gateway)) => Ok(PodAddress { address, gateway, range: Some(range) }),
            Err(why) => Err(self.refused(address, &why)),
        }
    }

    /// The range of an address that may be handed out, and its gateway; or why it may not.
    fn check_range(&self, address: IpAddr) -> Result<(Cidr, IpAddr), String> {
        let Some(range) = self.ranges.iter().find(|range| range.contains(address)) else {
            let ranges: Vec<_> = self.ranges.iter().map(Cidr::to_string).collect();
            return Err(format!("it is not in its pod ranges ({})", ranges.join(", ")));
        };
        let index = network::address::address_bits(address) - network::address::address_bits(range.address());
        let (first, last) = usable(range);
        match gateway_address(range) {
            Some(gateway) if (first..=last).contains(&index) => Ok((*range, gateway)),
            _ => Err(format!("the network, gateway and broadcast addresses of {range} are reserved")),
        }
    }

    /// The address of a family that has been free for the longest time.
    fn any(&self, ipv4: bool, now: u64) -> Result<PodAddress, IpamError> {
        let mut full = IpamError::NoRange { node: self.node.clone() };
        for range in self.ranges.iter().filter(|range| range.is_ipv4() == ipv4) {
            let taken = |gateway, address| PodAddress { address, gateway, range: Some(*range) };
            if let Some(gateway) = gateway_address(range)
                && let Some(address) = self.never_used(range).or_else(|| self.rested(range, now))
            {
                return Ok(taken(gateway, address));
            }
            let usage = self.range_usage(*range, now);
            let inside = self.freed.range(range.address()..=range.last());
            full = IpamError::Full {
                node: self.node.clone(),
                range: *range,
                size: usage.size,
                allocated: usage.allocated,
                resting: usage.resting,
                next_free: inside.filter_map(|(_, at)| self.rests(*at, now)).min(),
            };
        }
        Err(full)
    }

    /// The first address that nobody ever had. What was ever used stands in one of two ordered maps, so the first gap
    /// is found by walking both.
    fn never_used(&self, range: &Cidr) -> Option<IpAddr> {
        let (first, last) = usable(range);
        let last = last.min(first.saturating_add(WINDOW));
        let inside = range.nth(first)?..=range.nth(last)?;
        if first > last {
            return None;
        }
        let mut held = self.owners.range(inside.clone()).map(|(address, _)| *address).peekable();
        let mut freed = self.freed.range(inside).map(|(address, _)| *address).peekable();
        (first..=last).map_while(|index| range.nth(index)).find(|address| {
            let was_held = held.next_if_eq(address).is_some();
            let was_freed = freed.next_if_eq(address).is_some();
            !was_held && !was_freed
        })
    }

    /// The one that was freed first, if it has rested.
    fn rested(&self, range: &Cidr, now: u64) -> Option<IpAddr> {
        let inside = self.freed.range(range.address()..=range.last());
        let usable = inside.filter(|(address, _)| self.check_range(**address).is_ok());
        let (address, at) = usable.min_by_key(|(address, at)| (**at, **address))?;
        self.rests(*at, now).is_none().then_some(*address)
    }

    /// How long an address freed `at` has still to rest.
    fn rests(&self, at: u64, now: u64) -> Option<Duration> {
        let rest = self.rest.as_secs();
        let left = at.saturating_add(rest).checked_sub(now).filter(|left| *left > 0)?;
        Some(Duration::from_secs(left.min(rest)))
    }

    fn refused(&self, address: IpAddr, why: &str) -> IpamError {
        IpamError::Refused { node: self.node.clone(), address, why: why.to_owned() }
    }

    /// Durable first, then in memory.
    fn record(&mut self, entry: Entry, now: u64) -> Result<(), IpamError> {
        let Self { journal, held, freed, .. } = self;
        journal.append(entry.clone(), || snapshot(held, freed))?;
        self.replay(entry);
        // What is outside the window is found again by nobody: it need not be remembered once it has rested.
        let rest = self.rest.as_secs();
        let ranges = &self.ranges;
        if self.freed.len() as u128 > WINDOW {
            self.freed.retain(|address, at| at.saturating_add(rest) > now || in_window(ranges, *address));
        }
        let Self { journal, held, freed, .. } = self;
        journal.compact(held.len() + freed.len(), || snapshot(held, freed));
        Ok(())
    }

    fn replay(&mut self, entry: Entry) {
        match entry {
            Entry::Take(allocation) => {
                for held in &allocation.addresses {
                    self.freed.remove(&held.address);
                    self.owners.insert(held.address, allocation.id.clone());
                }
                self.held.insert(allocation.id.clone(), allocation);
            }
            Entry::Free { ids, at } => {
                for allocation in ids.iter().filter_map(|id| self.held.remove(id)) {
                    for held in allocation.addresses {
                        self.owners.remove(&held.address);
                        self.freed.insert(held.address, at);
                    }
                }
            }
            Entry::Rest { address, at } => {
                self.freed.insert(address, at);
            }
        }
    }
}

fn snapshot(held: &BTreeMap<AttachmentId, Allocation>, freed: &BTreeMap<IpAddr, u64>) -> Vec<Entry> {
    let rest = freed.iter().map(|(address, at)| Entry::Rest { address: *address, at: *at });
    rest.chain(held.values().cloned().map(Entry::Take)).collect()
}

/// The first and the last index that may be handed out: not the network, not the gateway, not IPv4's broadcast. The
/// first is greater than the last when there is none.
fn usable(range: &Cidr) -> (u128, u128) {
    let width = if range.is_ipv4() { 32 } else { 128 };
    let free = u32::from(width - range.length());
    let last = 1u128.checked_shl(free).map_or(u128::MAX, |size| size - 1);
    (2, if range.is_ipv4() { last.saturating_sub(1) } else { last })
}

fn in_window(ranges: &[Cidr], address: IpAddr) -> bool {
    use network::address::address_bits;
    ranges.iter().any(|range| {
        range.contains(address) && address_bits(address) - address_bits(range.address()) <= WINDOW + 2
    })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "allocator_tests.rs"]
mod tests;
