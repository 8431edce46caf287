//! What nodes hold, counted; and what daemons keep resident.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};

use crate::faults::pid;
use crate::place::Place;

/// What is counted on a node: a name, and a line of the shell that prints one number.
const COUNTED: &[(&str, &str)] = &[
    ("ports", "ovs-vsctl list-ports br-int | wc -l"),
    ("interfaces in the database", "ovs-vsctl --bare --columns=_uuid list interface | grep -c ."),
    ("queues in the database", "ovs-vsctl --bare --columns=_uuid list queue | grep -c ."),
    ("groups", "ovs-ofctl -OOpenFlow13 dump-groups br-int | grep -c group_id"),
    ("meters", "ovs-ofctl -OOpenFlow13 dump-meters br-int | grep -c meter="),
    ("veth devices", "ip -o link show type veth | wc -l"),
    ("namespaces", "ls /run/netns | wc -l"),
    ("routes", "{ ip route; ip -6 route; } | wc -l"),
    ("permanent neighbours", "ip neigh show nud permanent | wc -l"),
    ("lines of nftables", "nft list table inet ferrule | wc -l"),
    ("attachments on disk", "ls /var/lib/ferrule/attachments | wc -l"),
    ("deletions that are owed", "ls /var/lib/ferrule/tombstones | wc -l"),
    (
        "addresses handed out",
        "curl -s --unix-socket /run/ferrule/agent.sock http://agent/metrics | awk '$1 == \"ferrule_agent_addresses_allocated\" {print $2}'",
    ),
];

/// Flows by table; address sets and conjunctions are flows.
const FLOWS: &str = "ovs-ofctl -OOpenFlow13 dump-flows br-int";

/// By node and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers(BTreeMap<(String, String), u64>);

impl Numbers {
    pub fn now(place: &Place) -> Result<Self> {
        let mut numbers = BTreeMap::new();
        for node in place.nodes() {
            let name = node.name().as_str().to_owned();
            let line: Vec<_> = COUNTED.iter().map(|(_, line)| format!("echo $({line})")).collect();
            let said = place.shell(node, &line.join("; "))?;
            for ((what, _), value) in COUNTED.iter().zip(said.lines()) {
                let value =
                    value.parse().with_context(|| format!("{name}: {what}: {value:?} is no number"))?;
                numbers.insert((name.clone(), (*what).to_owned()), value);
            }
            for flow in place.shell(node, FLOWS)?.lines() {
                if let Some((_, rest)) = flow.split_once("table=") {
                    let table = rest.split(',').next().unwrap_or_default();
                    *numbers.entry((name.clone(), format!("flows of table {table}"))).or_default() += 1;
                }
            }
        }
        Ok(Self(numbers))
    }

    /// What differs, a line each.
    pub fn difference(&self, other: &Self) -> String {
        let keys: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let count = |numbers: &Self, key| numbers.0.get(key).copied().unwrap_or(0);
        let lines = keys.into_iter().filter(|key| count(self, key) != count(other, key)).map(|key| {
            format!("  {}: {}: {} before, {} now", key.0, key.1, count(self, key), count(other, key))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nodes: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
        for ((node, what), count) in &self.0 {
            let (flows, others) = nodes.entry(node).or_default();
            if what.starts_with("flows of table") {
                *flows += count;
            } else {
                others.push(format!("{count} {what}"));
            }
        }
        let lines = nodes
            .iter()
            .map(|(node, (flows, others))| format!("{node}: {flows} flows, {}", others.join(", ")));
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

/// What each daemon keeps resident, in KiB; one that is about to start again is left out.
#[derive(Clone, Debug, Default)]
pub struct Resident(BTreeMap<(&'static str, String), u64>);

/// A daemon may have grown by this factor and so many KiB between two times at which as many pods were there: allocators keep some.
const FLAT: (f64, f64) = (1.25, 8192.0);

impl Resident {
    pub fn now(place: &Place) -> Self {
        let mut all = BTreeMap::new();
        for program in ["ferrule-controller", "ferrule-agent", "ovs-vswitchd"] {
            for node in place.nodes() {
                let Some(pid) = pid(place, node, program) else { continue };
                let said = place.shell(node, &format!("awk '/^VmRSS/ {{print $2}}' /proc/{pid}/status"));
                if let Some(size) = said.ok().and_then(|said| said.trim().parse().ok()) {
                    all.insert((program, node.name().as_str().to_owned()), size);
                }
            }
        }
        Self(all)
    }

    /// A line for each daemon, at four times.
    pub fn beside<'a>(
        &'a self,
        first: Option<&'a Self>,
        last: Option<&'a Self>,
        end: &'a Self,
    ) -> impl Iterator<Item = String> + 'a {
        let at = |all: Option<&Self>, key| {
            let size = all.and_then(|all| all.0.get(key));
            size.map_or("-".to_owned(), |size| format!("{:.1}", *size as f64 / 1024.0))
        };
        end.0.keys().map(move |key| {
            let [a, b, c, d] = [at(Some(self), key), at(first, key), at(last, key), at(Some(end), key)];
            format!("{:<19} {:<8} {a:>7} {b:>7} {c:>7} {d:>7}", key.0, key.1)
        })
    }

    /// Those of Ferrule's that have grown although as much was there.
    pub fn grown(&self, later: &Self) -> Vec<String> {
        let pairs = self.0.iter().filter_map(|(key, before)| Some((key, *before, *later.0.get(key)?)));
        let ours = pairs.filter(|((program, _), ..)| program.starts_with("ferrule"));
        ours.filter(|(_, before, after)| *after as f64 > *before as f64 * FLAT.0 + FLAT.1)
            .map(|((program, node), before, after)| {
                format!("{program} on {node} has grown from {before} to {after} KiB at as many pods")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_named_and_growth_is_told_from_noise() {
        let numbers = |ports| Numbers([(("node-1".to_owned(), "ports".to_owned()), ports)].into());
        assert_eq!(numbers(3).difference(&numbers(4)), "  node-1: ports: 3 before, 4 now");
        assert_eq!(numbers(3).difference(&Numbers(BTreeMap::new())), "  node-1: ports: 3 before, 0 now");
        assert_eq!(numbers(3).difference(&numbers(3)), "");
        let resident = |size| Resident([(("ferrule-agent", "node-1".to_owned()), size)].into());
        assert!(resident(40_000).grown(&resident(50_000)).is_empty());
        assert_eq!(resident(40_000).grown(&resident(90_000)).len(), 1);
    }
}
