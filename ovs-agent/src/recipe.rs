//! What a node's flows are made from, and nothing of the flows: from it they, and why they exist, can be made again at any
//! time. Pure. It must not know what the switch holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use compiler::{Flow, FlowKey, Input, LocalPort, NodeConfig, PortRef, Program, Reason, Sink};
use network::{NodeView, PolicyId};
use openflow::{Cookie, PortNo};

use crate::shadow::FlowId;

/// OpenFlow numbers of ports, as far as there are any.
pub type Numbers = BTreeMap<PortRef, PortNo>;

/// Everything that a node's flows are made from.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What the node needs of the network.
    pub view: Arc<NodeView>,
    /// This node, until the view has it.
    pub described: network::Node,
    /// How the node is set up.
    pub config: NodeConfig,
    /// Its plugged ports.
    pub ports: Vec<LocalPort>,
    /// Policies that cannot be realized.
    pub closed: BTreeSet<PolicyId>,
    /// The numbers of the ports.
    pub numbers: Numbers,
}

impl Recipe {
    /// What the compiler reads.
    pub fn input(&self) -> Input<'_> {
        Input {
            view: &self.view,
            described: Some(&self.described),
            config: &self.config,
            ports: &self.ports,
            closed: &self.closed,
        }
    }

    /// Everything at once.
    pub fn program(&self) -> Program {
        compiler::compile_input(self.input())
    }

    /// Why the flows exist whose decisions are audited, by the end of their mark.
    pub fn audited(&self) -> BTreeMap<u32, Reason> {
        let mut found = Audited::default();
        compiler::incremental::stream(self.input(), &mut found);
        found.0
    }

    /// Why one flow exists, by its mark.
    pub fn reason(&self, cookie: Cookie) -> Option<Reason> {
        let mut found = Wanted { wants: |each| each == cookie, reasons: BTreeMap::new() };
        compiler::incremental::stream(self.input(), &mut found);
        found.reasons.remove(&cookie)
    }

    /// Why these flows exist, without those that are not ours.
    pub fn reasons_of<'i>(&self, ids: &BTreeSet<&'i FlowId>) -> BTreeMap<&'i FlowId, Reason> {
        let mut found = Among { ids, numbers: &self.numbers, reasons: BTreeMap::new() };
        if !ids.is_empty() {
            compiler::incremental::stream(self.input(), &mut found);
        }
        found.reasons
    }
}

/// Collects the reasons of some flows.
struct Among<'a, 'i> {
    ids: &'a BTreeSet<&'i FlowId>,
    numbers: &'a Numbers,
    reasons: BTreeMap<&'i FlowId, Reason>,
}

impl Sink for Among<'_, '_> {
    fn flow(&mut self, key: FlowKey, _: Flow, why: &dyn Fn() -> Reason) {
        let id = FlowId::of_key(&key, self.numbers);
        if let Some(id) = id.and_then(|id| self.ids.get(&id).copied()) {
            note(&mut self.reasons, id, why());
        }
    }
}

/// Collects the reasons of flows whose decisions are audited.
#[derive(Default)]
struct Audited(BTreeMap<u32, Reason>);

impl Sink for Audited {
    fn flow(&mut self, _: FlowKey, flow: Flow, why: &dyn Fn() -> Reason) {
        if compiler::copies::is_audited(&flow) {
            self.0.insert(compiler::copies::short(flow.cookie), why());
        }
    }
}

/// Why flows exist, by their mark: made when somebody asks for the first time.
#[derive(Debug)]
pub struct Reasons {
    recipe: Recipe,
    made: OnceLock<BTreeMap<Cookie, Reason>>,
}

impl Reasons {
    /// The reasons of the flows of a recipe.
    pub fn new(recipe: Recipe) -> Self {
        Self { recipe, made: OnceLock::new() }
    }

    /// Why a flow with this mark exists; `None`: it is not ours, or no longer.
    pub fn get(&self, cookie: &Cookie) -> Option<&Reason> {
        self.all().get(cookie)
    }

    /// All of them.
    pub fn all(&self) -> &BTreeMap<Cookie, Reason> {
        self.made.get_or_init(|| {
            let mut all = Wanted { wants: |_| true, reasons: BTreeMap::new() };
            compiler::incremental::stream(self.recipe.input(), &mut all);
            all.reasons
        })
    }

    /// What the flows are made from.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }
}

/// Collects reasons; of several for one mark all owners.
struct Wanted<F> {
    wants: F,
    reasons: BTreeMap<Cookie, Reason>,
}

impl<F: Fn(Cookie) -> bool> Sink for Wanted<F> {
    fn flow(&mut self, _: FlowKey, flow: Flow, why: &dyn Fn() -> Reason) {
        if (self.wants)(flow.cookie) {
            note(&mut self.reasons, flow.cookie, why());
        }
    }
}

fn note<K: Ord>(reasons: &mut BTreeMap<K, Reason>, of: K, reason: Reason) {
    match reasons.get_mut(&of) {
        Some(standing) => standing.owners.extend(reason.owners),
        None => drop(reasons.insert(of, reason)),
    }
}
