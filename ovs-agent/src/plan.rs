//! The difference between what the switch holds and what it should: which flow-mods to send, in one bundle, and what the
//! switch holds once it has confirmed them. Pure.

use std::collections::HashSet;

use openflow::{Cookie, FlowMod};

use crate::shadow::{FlowId, Held, Shadow};

/// Flow-mods that take the switch from what it holds to what it should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    changes: Vec<Change>,
}

/// One flow-mod and what it means for the shadow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which flow.
    pub id: FlowId,
    /// What it will be; `None`: gone.
    pub after: Option<Held>,
    /// The message.
    pub message: FlowMod,
}

impl Change {
    /// The mark of the flow that is added; a deletion has none.
    pub fn cookie(&self) -> Option<Cookie> {
        self.after.map(|held| held.cookie)
    }
}

impl Plan {
    /// What takes `shadow` to `wanted`. Additions and changes are both ADD: an identical ADD keeps counters and renews the
    /// cookie, where MODIFY_STRICT keeps the old one. They come in the order of `wanted`; deletions come last, ordered.
    pub fn difference(shadow: &Shadow, wanted: impl Iterator<Item = FlowMod>) -> Self {
        let mut changes = Vec::new();
        let mut kept: HashSet<FlowId> = HashSet::with_capacity(shadow.len());
        let mut twice: HashSet<FlowId> = HashSet::new();
        for message in wanted {
            let id = FlowId::of(&message);
            let held = Held::wanted(&message);
            match shadow.get(&id) {
                Some(before) => {
                    if *before != held {
                        changes.push(Change { id: id.clone(), after: Some(held), message });
                    }
                    kept.insert(id);
                }
                None if twice.insert(id.clone()) => changes.push(Change { id, after: Some(held), message }),
                // Two flows that differ only in what the switch does not see: the first is the one.
                None => {}
            }
        }
        let mut gone: Vec<FlowId> =
            shadow.iter().map(|(id, _)| id).filter(|id| !kept.contains(*id)).cloned().collect();
        gone.sort_unstable();
        changes.extend(gone.into_iter().map(|id| Change { message: id.deletion(), id, after: None }));
        Self { changes }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many flow-mods it takes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// The changes in their order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The messages in their order, leaving what is needed when they are confirmed.
    pub fn split(self) -> (Vec<FlowMod>, Confirmation) {
        let (messages, effects) =
            self.changes.into_iter().map(|change| (change.message, (change.id, change.after))).unzip();
        (messages, Confirmation { effects })
    }
}

/// What the switch holds more and less once a plan is confirmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    effects: Vec<(FlowId, Option<Held>)>,
}

impl Confirmation {
    /// How many flow-mods it stands for.
    pub fn len(&self) -> usize {
        self.effects.len()
    }

    /// Whether it stands for none.
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// The mark of the flow that the flow-mod at `index` adds.
    pub fn cookie(&self, index: usize) -> Option<Cookie> {
        self.effects.get(index)?.1.map(|held| held.cookie)
    }

    /// Brings the shadow up to date.
    pub fn apply(self, shadow: &mut Shadow) {
        for (id, after) in self.effects {
            match after {
                Some(held) => shadow.insert(id, held),
                None => shadow.remove(&id),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use openflow::{Action, Field, FlowModCommand, FlowStats, Instruction, Match, PortNo, TableId};

    use super::*;

    fn flow(table: u8, address: u32, port: u32, cookie: u64) -> FlowMod {
        let match_ = Match::new().with(Field::ETH_TYPE, 0x0800u16).with(Field::IPV4_DST, address);
        let actions = vec![Instruction::ApplyActions(vec![Action::output(PortNo(port))])];
        FlowMod::add(TableId(table), 100, match_, actions).with_cookie(Cookie(cookie))
    }

    fn reported(flow: &FlowMod) -> FlowStats {
        FlowStats {
            table: flow.table,
            priority: flow.priority,
            cookie: flow.cookie,
            match_: flow.match_.clone(),
            instructions: flow.instructions.clone(),
            packet_count: 7,
            ..FlowStats::default()
        }
    }

    fn holding(flows: &[FlowMod]) -> Shadow {
        let mut shadow = Shadow::default();
        flows.iter().for_each(|flow| shadow.observe(&reported(flow)));
        shadow
    }

    #[test]
    fn what_is_there_already_is_not_sent() {
        let flows = [flow(0, 1, 1, 1), flow(0, 2, 2, 2)];
        assert!(Plan::difference(&holding(&flows), flows.into_iter()).is_empty());
    }

    #[test]
    fn additions_changes_and_new_cookies_are_add_and_the_rest_is_deleted_strictly() {
        let shadow = holding(&[flow(0, 1, 1, 1), flow(0, 2, 2, 2), flow(0, 3, 3, 3), flow(9, 4, 4, 4)]);
        let wanted = [flow(0, 1, 1, 1), flow(0, 2, 9, 2), flow(0, 3, 3, 33), flow(1, 1, 1, 1)];
        let plan = Plan::difference(&shadow, wanted.clone().into_iter());
        let commands: Vec<_> = plan.changes().iter().map(|c| (c.message.command, c.cookie())).collect();
        use FlowModCommand::{Add, DeleteStrict};
        assert_eq!(
            commands,
            [(Add, Some(Cookie(2))), (Add, Some(Cookie(33))), (Add, Some(Cookie(1))), (DeleteStrict, None)]
        );
        let deletion = &plan.changes()[3].message;
        assert_eq!((deletion.table, deletion.match_.clone()), (TableId(9), flow(9, 4, 4, 4).match_));

        let mut after = shadow;
        let (messages, confirmation) = plan.split();
        assert_eq!((messages.len(), confirmation.cookie(1)), (4, Some(Cookie(33))));
        confirmation.apply(&mut after);
        assert!(Plan::difference(&after, wanted.into_iter()).is_empty());
    }

    #[test]
    fn two_flows_of_one_identity_are_sent_once() {
        let plan = Plan::difference(&Shadow::default(), [flow(0, 1, 1, 1), flow(0, 1, 2, 1)].into_iter());
        assert_eq!(plan.len(), 1);
    }
}
