//! Where the rules of an ordered tier stand among a table's flow priorities: by priority, then by policy, then by index.
//!
//! Usually every priority has a block of its own for as many rules as one policy may have, used or not, so that a policy more
//! or less moves no rule of another priority. When more rules share one priority, the priorities that are used stand close
//! together, in blocks as large as fit: then a change may move what stands behind it.

use std::collections::{BTreeMap, BTreeSet};

use network::PolicyId;

/// The highest flow priority; every rule has two, as the step above its clauses is for what needs none.
const FIRST: u16 = 52_100;
/// As many rules as there is room for in one tier and direction.
pub(super) const MOST_RULES: u32 = 26_000;
/// The flow priority of what found no room.
pub(super) const LAST: u16 = FIRST - 2 * MOST_RULES as u16;
/// Priorities that the API knows, 0 to 1000, and rules that it lets one policy have in a direction.
const PRIORITIES: u32 = 1_001;
const RULES_OF_A_POLICY: u32 = 25;

const _: () = assert!(2 * MOST_RULES < FIRST as u32 && PRIORITIES * RULES_OF_A_POLICY <= MOST_RULES);

/// What identifies a rule of one direction: priority, policy, index. Rules are asked in this order.
pub(super) type RuleOf<'p> = (u32, &'p PolicyId, u32);

/// The flow priority of every rule; `None` for those that find no room, the last ones.
pub(super) fn of<'p>(rules: impl IntoIterator<Item = RuleOf<'p>>) -> BTreeMap<RuleOf<'p>, Option<u16>> {
    let mut priorities: BTreeMap<u32, BTreeSet<RuleOf<'p>>> = BTreeMap::new();
    for rule in rules {
        priorities.entry(rule.0).or_default().insert(rule);
    }
    let counts = priorities.iter().map(|(priority, rules)| (*priority, rules.len() as u32)).collect();
    let bases = bases(&counts);
    let rules = priorities.into_values().zip(bases).flat_map(|(rules, base)| {
        rules.into_iter().zip(base..).map(|(rule, place)| (rule, flow_priority(place)))
    });
    rules.collect()
}

fn flow_priority(place: u32) -> Option<u16> {
    (place < MOST_RULES).then(|| FIRST - 2 * place as u16)
}

/// The place of the first rule of every priority that is used.
fn bases(counts: &BTreeMap<u32, u32>) -> Vec<u32> {
    if counts.iter().all(|(priority, rules)| *priority < PRIORITIES && *rules <= RULES_OF_A_POLICY) {
        return counts.keys().map(|priority| priority * RULES_OF_A_POLICY).collect();
    }
    let close = |block: u32| {
        let mut next = 0;
        let bases: Vec<u32> = counts
            .values()
            .map(|rules| {
                let base = next;
                next += rules.next_multiple_of(block);
                base
            })
            .collect();
        (next, bases)
    };
    let fitting = [RULES_OF_A_POLICY, 5].map(close).into_iter().find(|(end, _)| *end <= MOST_RULES);
    fitting.unwrap_or_else(|| close(1)).1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_priority_more_moves_no_other() {
        let few: BTreeMap<u32, u32> = [(3, 25), (1_000, 1)].into();
        let mut more = few.clone();
        more.insert(0, 25);
        assert_eq!(bases(&few), bases(&more)[1..]);
    }

    #[test]
    fn a_rule_more_at_a_crowded_priority_moves_others_once_in_a_while() {
        let with = |rules| bases(&[(3, rules), (7, 20), (1_000, 1)].into());
        assert_eq!(with(26), with(50));
        assert_ne!(with(50), with(51));
    }

    #[test]
    fn the_room_is_used_to_the_end() {
        let counts: BTreeMap<u32, u32> = (0..1_000).map(|priority| (priority, 26)).collect();
        assert_eq!(bases(&counts).last(), Some(&(MOST_RULES - 26)));
        assert!(flow_priority(MOST_RULES - 1).is_some_and(|priority| priority > LAST));
        assert_eq!(flow_priority(MOST_RULES), None);
    }

    proptest! {
        #[test]
        fn rules_keep_their_order_and_never_share_a_place(
            counts in prop::collection::btree_map(0u32..1_500, 1u32..120, 0..300),
        ) {
            let mut free = 0;
            for (base, rules) in bases(&counts).into_iter().zip(counts.values()) {
                prop_assert!(base >= free);
                free = base + rules;
            }
            if counts.values().sum::<u32>() <= MOST_RULES {
                prop_assert!(free <= MOST_RULES);
            }
        }
    }
}
