//! What somebody else does behind our back: noted, counted, put right by the next plan; and everything read again when
//! somebody asks for that.

use std::collections::{BTreeSet, VecDeque};

use compiler::Owner;

use super::{Node, Switch};
use crate::drift::{Drift, Lately, Thing};
use crate::event::Session;
use crate::shadow::{FlowChange, FlowId, Held, Shadow};

/// As many flows are kept for whoever tells of them; more are counted. Of all else there are twice as many: what somebody
/// changed may have cost all flows, and is not to be lost among them.
const KEPT: usize = 100;

/// What was noted.
#[derive(Debug, Default)]
pub(super) struct Drifted {
    /// Flows, since the start.
    flows: u64,
    /// What nobody has taken yet.
    fresh: VecDeque<Drift>,
    /// Everything is being read again because somebody wants it put right.
    comparing: bool,
    /// What is beside flows is to be put right before they are read again.
    pub(super) mend: bool,
}

impl Drifted {
    pub(super) fn note(&mut self, drift: Drift) {
        let most = if drift.is_flow() { KEPT } else { 2 * KEPT };
        if self.fresh.len() < most {
            self.fresh.push_back(drift);
        }
    }

    fn flow(&mut self, id: FlowId, was: Option<Held>, is_there: bool) {
        self.flows += 1;
        let known = was.is_some();
        self.note(Drift::new("flow", (known, is_there), Thing::Flow { id, known }));
    }
}

impl Node {
    /// Notes what somebody else did to the switch's flows; what should be otherwise is put right by the next plan.
    pub(super) fn flows_changed(&mut self, session: Session, changes: Vec<FlowChange>) {
        let Switch::Here { session: here, shadow, applying, .. } = &mut self.switch else { return };
        if *here != session {
            return;
        }
        let before = self.drifted.flows;
        for FlowChange { id, now } in changes {
            let was = shadow.get(&id);
            if was != now {
                match now {
                    Some(held) => shadow.insert(&id, held),
                    None => shadow.remove(&id),
                }
                self.drifted.flow(id, was, now.is_some());
            }
        }
        if self.drifted.flows == before {
            return;
        }
        if let Some(applying) = applying {
            applying.doubtful = true;
        }
        self.planner.forget();
        self.generation += 1;
    }

    /// Reads everything again and puts right what differs, whatever is believed to be there: flows, what is beside them,
    /// the database, the host.
    pub fn repair(&mut self) {
        self.drifted.comparing = true;
        self.drifted.mend = true;
        match &mut self.switch {
            Switch::Here { applying: Some(applying), .. } => applying.doubtful = true,
            Switch::Here { session, problem, .. } => {
                *problem = None;
                self.work.observe = Some(*session);
            }
            // All is read when it is back.
            Switch::Away { .. } => {}
        }
        if self.compiled.generation > 0 {
            self.work.rows = Some(self.compiled.rows.clone());
            self.work.host = Some(self.compiled.host.clone());
        }
    }

    /// What was believed to be there and is not, where everything was read again for that.
    pub(super) fn compare_with_shadow(&mut self, session: Session, now: &Shadow) {
        if !std::mem::take(&mut self.drifted.comparing) {
            return;
        }
        let Switch::Here { session: here, shadow, .. } = &self.switch else { return };
        if *here != session {
            return;
        }
        for (id, held) in shadow.iter() {
            let there = now.get(&id);
            if there != Some(held) {
                self.drifted.flow(id, Some(held), there.is_some());
            }
        }
        for (id, _) in now.iter().filter(|(id, _)| shadow.get(id).is_none()) {
            self.drifted.flow(id, None, true);
        }
    }

    /// The ports of the bridge that nobody of ours made.
    pub fn foreign_ports(&self) -> BTreeSet<String> {
        let (Some(held), true) = (&self.database, self.compiled.generation > 0) else {
            return BTreeSet::new();
        };
        let rows = &self.compiled.rows;
        let ours = |name: &&String| **name == rows.bridge.name || rows.ports.contains_key(*name);
        held.ports.keys().filter(|name| !ours(name)).cloned().collect()
    }

    /// Flows of the switch that somebody else changed, since the start.
    pub fn drifted(&self) -> u64 {
        self.drifted.flows
    }

    /// What every controller is to know of what somebody else changed lately.
    pub fn tell_drifted(&mut self, lately: &Lately) {
        self.stream.drifted = lately.words(&self.config.node);
    }

    /// Whose a flow is: it compiles everything.
    pub fn owners(&self, id: &FlowId) -> BTreeSet<Owner> {
        let mut reasons = self.recipe().reasons_of(&BTreeSet::from([id]));
        reasons.remove(id).map(|reason| reason.owners).unwrap_or_default()
    }

    /// What somebody else changed since this was asked last, at most a hundred things.
    pub fn take_drifts(&mut self) -> Vec<Drift> {
        self.drifted.fresh.drain(..).collect()
    }
}
