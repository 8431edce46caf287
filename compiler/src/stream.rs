//! Flows one after the other as they are compiled, for whoever takes them: nothing is held here. It must not know what a
//! program is or what a switch holds.

use std::collections::BTreeSet;

use network::{Direction, NodeView, PolicyId};
use openflow::{Cookie, Match};

use crate::copies;
use crate::drops::{DropClass, is_drop};
use crate::input::{LocalPort, NodeConfig, PortRef};
use crate::program::{Flow, FlowAction, FlowKey};
use crate::provenance::{Owner, Reason, cookie_of};
use crate::table::Table;

/// Everything that a node's flows depend on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What the node needs of the network.
    pub view: &'a NodeView,
    /// This node, until the view has it.
    pub described: Option<&'a network::Node>,
    /// How the node is set up.
    pub config: &'a NodeConfig,
    /// Its plugged ports.
    pub ports: &'a [LocalPort],
    /// Policies that cannot be realized: they are closed, whatever they allow.
    pub closed: &'a BTreeSet<PolicyId>,
}

/// Takes flows as they are compiled.
pub trait Sink {
    /// This flow must stand. `why` makes its reason, for those who want it.
    fn flow(&mut self, key: FlowKey, flow: Flow, why: &dyn Fn() -> Reason);
}

/// A flow in the making.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    key: FlowKey,
    flow: Flow,
    /// An audited policy's, of this direction.
    audited: Option<Direction>,
}

/// Starts a flow that drops what it matches.
pub(crate) fn flow(table: Table, priority: u16, match_: Match) -> Draft {
    let key = FlowKey { table, priority: std::cmp::Reverse(priority), in_port: None, match_ };
    Draft { key, flow: Flow { cookie: Cookie(0), actions: Vec::new(), goto: None }, audited: None }
}

impl Draft {
    /// Only packets from this port.
    pub(crate) fn on_port(mut self, port: PortRef) -> Self {
        self.key.in_port = Some(port);
        self
    }

    /// Does this, after what was said before.
    pub(crate) fn act(mut self, action: impl Into<FlowAction>) -> Self {
        self.flow.actions.push(action.into());
        self
    }

    /// Does all of these.
    pub(crate) fn act_all(mut self, actions: impl IntoIterator<Item = openflow::Action>) -> Self {
        self.flow.actions.extend(actions.into_iter().map(FlowAction::from));
        self
    }

    /// What it decides in this direction is to be told, if a policy that made it is audited.
    pub(crate) fn audited(mut self, direction: Direction, is_audited: bool) -> Self {
        self.audited = is_audited.then_some(direction);
        self
    }

    /// What tells it from other flows.
    pub(crate) fn into_key(self) -> FlowKey {
        self.key
    }

    /// Goes on in another table.
    pub(crate) fn goto(mut self, table: Table) -> Self {
        debug_assert!(table > self.key.table, "goto only goes forward: {} to {table}", self.key.table);
        self.flow.goto = Some(table);
        self
    }
}

/// Hands flows on with their cookies.
pub(crate) struct Out<'s> {
    sink: &'s mut dyn Sink,
    /// Copies of packets go to the agent.
    copies: bool,
}

impl<'s> Out<'s> {
    pub(crate) fn new(config: &NodeConfig, sink: &'s mut dyn Sink) -> Self {
        Self { sink, copies: config.copies }
    }

    /// A flow of one owner.
    pub(crate) fn add(&mut self, draft: Draft, owner: Owner, what: impl Into<String>) {
        let what = what.into();
        self.add_for(draft, &|| Reason::of(owner.clone(), what.clone()));
    }

    /// A flow whose reason is made when somebody asks.
    pub(crate) fn add_for(&mut self, draft: Draft, why: &dyn Fn() -> Reason) {
        let Draft { key, mut flow, audited } = draft;
        flow.cookie = cookie_of(&key, &flow);
        if self.copies {
            let class = is_drop(flow.cookie).then(|| DropClass::of(key.table, &key.match_));
            let more = copies::actions(class, audited, flow.goto, flow.cookie);
            flow.actions.extend(more.into_iter().map(FlowAction::from));
        }
        self.sink.flow(key, flow, why);
    }
}

/// A sink that only remembers which flows there were.
#[derive(Debug, Default)]
pub(crate) struct Keys(pub(crate) BTreeSet<FlowKey>);

impl Sink for Keys {
    fn flow(&mut self, key: FlowKey, _: Flow, _: &dyn Fn() -> Reason) {
        self.0.insert(key);
    }
}
