//! Sets of protocols and ports, and their algebra. Everything else that IP carries (ICMP) is one element of its own.

use std::fmt;

use crate::protocol::{PortRange, Protocol};

/// What passes between two ends. Canonical: two equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet {
    /// Per protocol in its order: ranges, sorted, apart from each other.
    ranges: [Vec<(u16, u16)>; 3],
    /// ICMP and everything else without ports.
    other: bool,
}

impl PortSet {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Everything.
    pub fn all() -> Self {
        Self { ranges: [const { (0, u16::MAX) }; 3].map(|whole| vec![whole]), other: true }
    }

    /// These ports.
    pub fn of(ports: impl IntoIterator<Item = PortRange>) -> Self {
        let mut ranges: [Vec<(u16, u16)>; 3] = Default::default();
        for range in ports {
            ranges[range.protocol as usize].push((range.first, range.last));
        }
        Self { ranges: ranges.map(canonical), other: false }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        !self.other && self.ranges.iter().all(Vec::is_empty)
    }

    /// Whether everything is in it.
    pub fn is_all(&self) -> bool {
        self.other && self.ranges.iter().all(|ranges| ranges.as_slice() == [(0, u16::MAX)])
    }

    /// Whether a port is in it.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.ranges[protocol as usize].iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// Whether a whole range is in it.
    pub fn contains_all(&self, range: PortRange) -> bool {
        let mut ranges = self.ranges[range.protocol as usize].iter();
        ranges.any(|(first, last)| *first <= range.first && range.last <= *last)
    }

    /// Whether it holds what has no ports.
    pub fn has_other(&self) -> bool {
        self.other
    }

    /// Its ranges, by protocol and number.
    pub fn ranges(&self) -> impl Iterator<Item = PortRange> + '_ {
        Protocol::ALL.into_iter().flat_map(|protocol| {
            let ranges = self.ranges[protocol as usize].iter();
            ranges.map(move |(first, last)| PortRange { protocol, first: *first, last: *last })
        })
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.with(other, |mine, its| canonical([mine, its].concat()), |mine, its| mine || its)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.with(other, intersection, |mine, its| mine && its)
    }

    /// What is in this one only.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.with(other, |mine, its| intersection(mine, &complement(its)), |mine, its| mine && !its)
    }

    fn with(
        &self,
        other: &Self,
        ranges: impl Fn(&[(u16, u16)], &[(u16, u16)]) -> Vec<(u16, u16)>,
        rest: impl Fn(bool, bool) -> bool,
    ) -> Self {
        let one = |k: usize| ranges(&self.ranges[k], &other.ranges[k]);
        Self { ranges: [one(0), one(1), one(2)], other: rest(self.other, other.other) }
    }
}

fn canonical(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn intersection(left: &[(u16, u16)], right: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut both = Vec::new();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let (first, last) = (a.0.max(b.0), a.1.min(b.1));
        if first <= last {
            both.push((first, last));
        }
        let shorter = if a.1 < b.1 { &mut left } else { &mut right };
        shorter.next();
    }
    both
}

fn complement(ranges: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let mut rest = Vec::new();
    let mut next = Some(0);
    for (first, last) in ranges {
        if let Some(next) = next.filter(|next| next < first) {
            rest.push((next, first - 1));
        }
        next = last.checked_add(1);
    }
    rest.extend(next.map(|next| (next, u16::MAX)));
    rest
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("everything");
        }
        let one = |range: PortRange| match (range.first, range.last) {
            (0, u16::MAX) => range.protocol.to_string(),
            (first, last) if first == last => format!("{}/{first}", range.protocol),
            (first, last) => format!("{}/{first}-{last}", range.protocol),
        };
        let ranges = self.ranges().map(one);
        let words: Vec<_> = ranges.chain(self.other.then(|| "ICMP and other protocols".to_owned())).collect();
        f.write_str(if words.is_empty() { "nothing" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sets() -> impl Strategy<Value = Vec<(u16, u16)>> {
        let edges = prop_oneof![0u16..12, (u16::MAX - 6)..=u16::MAX];
        prop::collection::vec((edges.clone(), edges), 0..5)
            .prop_map(|pairs| pairs.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect())
    }

    fn set(ranges: &[(u16, u16)], other: bool) -> PortSet {
        let ranges = ranges.iter().map(|&(first, last)| PortRange { protocol: Protocol::Udp, first, last });
        PortSet { other, ..PortSet::of(ranges) }
    }

    proptest! {
        #[test]
        fn the_algebra_is_that_of_ports(a in sets(), b in sets(), icmp in any::<[bool; 2]>()) {
            let (left, right) = (set(&a, icmp[0]), set(&b, icmp[1]));
            let has = |ranges: &[(u16, u16)], port| ranges.iter().any(|(x, y)| (*x..=*y).contains(&port));
            for port in (0..16).chain(u16::MAX - 16..=u16::MAX) {
                let holds = |set: PortSet| set.contains(Protocol::Udp, port);
                let (a, b) = (has(&a, port), has(&b, port));
                prop_assert_eq!(holds(left.union(&right)), a || b);
                prop_assert_eq!(holds(left.intersection(&right)), a && b);
                prop_assert_eq!(holds(left.minus(&right)), a && !b);
            }
            prop_assert_eq!(left.minus(&right).union(&left.intersection(&right)), left.clone());
            prop_assert!(left.minus(&PortSet::all()).is_empty());
            prop_assert_eq!(PortSet::all().minus(&PortSet::all().minus(&left)), left);
        }
    }

    #[test]
    fn it_reads_as_people_write_it() {
        let tcp = |first, last| PortRange { protocol: Protocol::Tcp, first, last };
        assert_eq!(
            PortSet::of([tcp(80, 80), tcp(443, 500), tcp(81, 81)]).to_string(),
            "TCP/80-81, TCP/443-500"
        );
        assert_eq!(PortSet::all().to_string(), "everything");
        assert_eq!(PortSet::none().to_string(), "nothing");
        let but = PortSet::all().minus(&PortSet::of([PortRange::all(Protocol::Sctp)]));
        assert_eq!(but.to_string(), "TCP, UDP, ICMP and other protocols");
    }
}
