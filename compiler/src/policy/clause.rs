//! One clause of a rule as matches: who it is about, who is at the other end, which ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use network::{Cidr, PeerMatch, PortRange, SetId, ViewRule};
use openflow::Match;

use super::prefixes::{cover, masked_ports};
use crate::packet::{End, Family, address, port_field, prefix, transport};
use crate::pipeline::Context;

/// A rule takes at most this many matches; more is refused, naming the policy.
pub(crate) const MATCHES_PER_RULE: usize = 200_000;

/// The rule cannot be expressed within the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) what: &'static str,
}

/// A set of matches, any of which satisfies the clause. `None` where the rule does not restrict.
pub(crate) type Clause = Option<BTreeSet<Match>>;

/// The subject: local pods by address.
pub(crate) fn subject(end: End, addresses: &BTreeSet<IpAddr>) -> BTreeSet<Match> {
    addresses.iter().map(|own| address(end, *own)).collect()
}

/// The other end.
pub(crate) fn peers(context: &Context<'_>, end: End, rule: &ViewRule) -> Result<Clause, TooMany> {
    let PeerMatch::Some { sets, blocks } = &rule.peers else { return Ok(None) };
    let mut matches: BTreeSet<Match> =
        members(context, sets).map(|member| prefix(end, &Cidr::host(member))).collect();
    for block in blocks {
        let room = MATCHES_PER_RULE.saturating_sub(matches.len());
        let cover = cover(block, room).ok_or(TooMany { what: "address blocks with exceptions" })?;
        matches.extend(cover.iter().map(|part| prefix(end, part)));
    }
    if matches.len() > MATCHES_PER_RULE {
        return Err(TooMany { what: "peers" });
    }
    Ok(Some(matches))
}

fn members<'a>(context: &Context<'a>, sets: &'a BTreeSet<SetId>) -> impl Iterator<Item = IpAddr> + 'a {
    let view = context.view;
    sets.iter().filter_map(|id| view.sets.get(id)).flat_map(|set| set.members.iter().copied())
}

/// Destination ports, in both families.
pub(crate) fn ports(ranges: Option<&BTreeSet<PortRange>>) -> Clause {
    let mut matches = BTreeSet::new();
    for range in ranges? {
        for family in Family::BOTH {
            let any = transport(family, range.protocol);
            if range.is_all() {
                matches.insert(any);
                continue;
            }
            for port in masked_ports(range.first, range.last) {
                let field = port_field(range.protocol);
                matches.insert(any.clone().with_masked(field, port.port, port.mask));
            }
        }
    }
    Some(matches)
}
