//! Collects flows into a program: merges equal flows of several owners, keeps the reasons, and hashes them into cookies at
//! the end.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use openflow::{Cookie, Match};

use crate::input::PortRef;
use crate::program::{Flow, FlowAction, FlowKey};
use crate::provenance::{Owner, Reason};
use crate::table::Table;

/// A flow in the making.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    table: Table,
    priority: u16,
    in_port: Option<PortRef>,
    match_: Match,
    actions: Vec<FlowAction>,
    goto: Option<Table>,
}

/// Starts a flow that drops what it matches.
pub(crate) fn flow(table: Table, priority: u16, match_: Match) -> Draft {
    Draft { table, priority, in_port: None, match_, actions: Vec::new(), goto: None }
}

impl Draft {
    /// Only packets from this port.
    pub(crate) fn on_port(mut self, port: PortRef) -> Self {
        self.in_port = Some(port);
        self
    }

    /// Does this, after what was said before.
    pub(crate) fn act(mut self, action: impl Into<FlowAction>) -> Self {
        self.actions.push(action.into());
        self
    }

    /// Does all of these.
    pub(crate) fn act_all(mut self, actions: impl IntoIterator<Item = openflow::Action>) -> Self {
        self.actions.extend(actions.into_iter().map(FlowAction::from));
        self
    }

    /// Goes on in another table.
    pub(crate) fn goto(mut self, table: Table) -> Self {
        debug_assert!(table > self.table, "goto only goes forward: {} to {table}", self.table);
        self.goto = Some(table);
        self
    }
}

/// The flows so far.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    flows: BTreeMap<FlowKey, (Flow, Reason)>,
}

impl Builder {
    /// Adds a flow of one owner.
    pub(crate) fn add(&mut self, draft: Draft, owner: Owner, what: impl Into<String>) {
        self.add_for(draft, Reason::of(owner, what));
    }

    /// Adds a flow with its reason. A flow that stands already gets the owners; the compiler never makes two flows of one
    /// key that differ in what they do.
    pub(crate) fn add_for(&mut self, draft: Draft, reason: Reason) {
        let Draft { table, priority, in_port, match_, actions, goto } = draft;
        let key = FlowKey { table, priority: Reverse(priority), in_port, match_ };
        let flow = Flow { cookie: Cookie(0), actions, goto };
        match self.flows.entry(key) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert((flow, reason));
            }
            std::collections::btree_map::Entry::Occupied(mut slot) => {
                let key = slot.key().clone();
                let (standing, owners) = slot.get_mut();
                debug_assert_eq!((&standing.actions, standing.goto), (&flow.actions, flow.goto), "{key:?}");
                owners.owners.extend(reason.owners);
            }
        }
    }

    /// The flows with their cookies, and the reasons by cookie.
    pub(crate) fn finish(self) -> (BTreeMap<FlowKey, Flow>, BTreeMap<Cookie, Reason>) {
        let mut reasons = BTreeMap::new();
        let flows = self.flows.into_iter().map(|(key, (mut flow, reason))| {
            flow.cookie = Cookie(reason.cookie());
            reasons.insert(flow.cookie, reason);
            (key, flow)
        });
        let flows = flows.collect();
        (flows, reasons)
    }
}
