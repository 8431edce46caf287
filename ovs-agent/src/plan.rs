//! The difference between what the switch holds and what it should: which flow-mods to send, in one bundle, and what the
//! switch holds once it has confirmed them. Pure. A large difference is not held: it is made again while it is sent.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use compiler::incremental::{Changes, Compiler, Touched};
use compiler::program::bind_flow;
use compiler::{Flow, FlowKey, PortRef, Reason, Sink};
use openflow::{Cookie, FlowMod};

use crate::recipe::{Numbers, Recipe};
use crate::shadow::{FlowId, FlowTable, Held, Shadow};

/// More flow-mods than these are not held but made again.
const HELD: usize = 10_000;
/// Flow-mods that are made ahead of what is sent.
const AHEAD: usize = 256;

/// Compiles and compares, change by change.
#[derive(Debug, Default)]
pub struct Planner {
    compiler: Compiler,
    /// The numbers of the ports in the last plan.
    numbers: Numbers,
}

/// What takes the switch from what it holds to what it should hold.
#[derive(Debug)]
pub struct Plan {
    /// To be sent.
    pub flows: FlowMods,
    /// What the switch holds more and less once they are confirmed.
    pub confirmation: Confirmation,
    /// The policies that are refused, and why.
    pub refused: std::collections::BTreeMap<network::PolicyId, String>,
}

impl Planner {
    /// The next plan compares everything: what the switch holds is not what the last plan would have made it.
    pub fn forget(&mut self) {
        self.compiler.forget();
    }

    /// What takes `shadow` to what `recipe` makes. Additions and changes are both ADD: an identical ADD keeps counters and
    /// renews the cookie, where MODIFY_STRICT keeps the old one. Deletions come last, ordered. What `touched` does not name
    /// is as it was in the last plan.
    pub fn plan(&mut self, recipe: Recipe, touched: Touched, shadow: &mut Shadow) -> Plan {
        self.plan_holding(recipe, touched, shadow, HELD)
    }

    fn plan_holding(
        &mut self,
        recipe: Recipe,
        mut touched: Touched,
        shadow: &mut Shadow,
        limit: usize,
    ) -> Plan {
        let renumbered = self
            .numbers
            .keys()
            .chain(recipe.numbers.keys())
            .filter(|port| self.numbers.get(*port) != recipe.numbers.get(*port));
        touched.renumbered = renumbered.cloned().collect();
        let mut difference = Difference {
            shadow,
            now: &recipe.numbers,
            before: &self.numbers,
            whole: false,
            limit,
            held: Some(Vec::new()),
            added: FlowTable::default(),
            wanted: HashSet::new(),
            gone: HashSet::new(),
        };
        let refused = self.compiler.update(recipe.input(), &touched, &mut difference).clone();
        let (held, added, gone) = difference.finish();
        self.numbers.clone_from(&recipe.numbers);
        let (added, gone): (Arc<FlowTable>, Arc<[_]>) = (Arc::new(added), gone.into());
        let flows = match held {
            Some(mut flows) => {
                flows.extend(gone.iter().map(FlowId::deletion));
                FlowMods::Held(flows)
            }
            None => FlowMods::Made(Again {
                recipe: Arc::new(recipe),
                added: Arc::clone(&added),
                gone: Arc::clone(&gone),
            }),
        };
        let marks = match &flows {
            FlowMods::Held(flows) => Marks::Known(flows.iter().take(added.len()).map(|f| f.cookie).collect()),
            FlowMods::Made(again) => Marks::Made(again.clone()),
        };
        Plan { flows, confirmation: Confirmation { marks, added, gone }, refused }
    }
}

/// Compares flows with the shadow as they come.
struct Difference<'a> {
    shadow: &'a mut Shadow,
    now: &'a Numbers,
    before: &'a Numbers,
    /// Everything comes.
    whole: bool,
    limit: usize,
    /// `None` once there were too many.
    held: Option<Vec<FlowMod>>,
    added: FlowTable,
    /// What came, unless everything does.
    wanted: HashSet<FlowId>,
    gone: HashSet<FlowId>,
}

impl Difference<'_> {
    /// Messages in the order in which the flows came, what is added, what is gone.
    fn finish(self) -> (Option<Vec<FlowMod>>, FlowTable, Vec<FlowId>) {
        let mut gone: Vec<FlowId> = match self.whole {
            true => self.shadow.unwanted().collect(),
            // A number may have passed from one port to another.
            false => self.gone.into_iter().filter(|id| !self.wanted.contains(id)).collect(),
        };
        gone.sort_unstable();
        (self.held, self.added, gone)
    }

    /// The flow as it was bound last is no longer.
    fn unbind(&mut self, key: &FlowKey) {
        let id = FlowId::of_key(key, self.before).filter(|id| self.shadow.get(id).is_some());
        self.gone.extend(id);
    }

    fn is_rebound(&self, key: &FlowKey) -> bool {
        key.in_port.as_ref().is_some_and(|port| self.before.get(port) != self.now.get(port))
    }

    fn add(&mut self, id: &FlowId, held: Held, message: FlowMod) {
        // Two flows that differ only in what the switch does not see: the first is the one.
        if self.added.get(id).is_some() {
            return;
        }
        self.added.insert(id, held);
        if let Some(messages) = &mut self.held {
            if messages.len() < self.limit {
                messages.push(message);
            } else {
                self.held = None;
            }
        }
    }
}

fn bind(key: &FlowKey, flow: &Flow, numbers: &Numbers) -> Option<FlowMod> {
    bind_flow(key, flow, &|port: &PortRef| numbers.get(port).copied())
}

impl Changes for Difference<'_> {
    fn flow(&mut self, key: FlowKey, flow: Flow) {
        let bound = bind(&key, &flow, self.now);
        if !self.whole && (bound.is_none() || self.is_rebound(&key)) {
            self.unbind(&key);
        }
        let Some(message) = bound else { return };
        let (id, wanted) = (FlowId::of(&message), Held::wanted(&message));
        let known = if self.whole {
            match self.shadow.want(&id) {
                Some((_, true)) => return,
                known => known.map(|(held, _)| held),
            }
        } else {
            self.wanted.insert(id.clone());
            self.shadow.get(&id)
        };
        if known != Some(wanted) {
            self.add(&id, wanted, message);
        }
    }

    fn everything(&mut self) {
        self.whole = true;
        self.shadow.begin_round();
    }

    fn gone(&mut self, key: FlowKey) {
        self.unbind(&key);
    }
}

/// Flow-mods to be sent, in their order.
#[derive(Debug)]
pub enum FlowMods {
    /// Few enough to be held.
    Held(Vec<FlowMod>),
    /// Too many: made again while they are sent.
    Made(Again),
}

impl FlowMods {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Held(flows) => flows.len(),
            Self::Made(again) => again.added.len() + again.gone.len(),
        }
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl IntoIterator for FlowMods {
    type Item = FlowMod;
    type IntoIter = Box<dyn Iterator<Item = FlowMod> + Send>;

    fn into_iter(self) -> Self::IntoIter {
        match self {
            Self::Held(flows) => Box::new(flows.into_iter()),
            Self::Made(again) => Box::new(again.flows()),
        }
    }
}

/// How to make a difference again.
#[derive(Clone, Debug)]
pub struct Again {
    recipe: Arc<Recipe>,
    added: Arc<FlowTable>,
    gone: Arc<[FlowId]>,
}

impl Again {
    /// The flow-mods, made by a thread that is never far ahead of whoever takes them, and ends with them.
    fn flows(self) -> impl Iterator<Item = FlowMod> + Send {
        let (sender, made): (SyncSender<Vec<FlowMod>>, Receiver<_>) = sync_channel(2);
        let again = self.clone();
        std::thread::spawn(move || {
            let Self { recipe, added, gone } = again;
            let mut sending = Sending { numbers: &recipe.numbers, added: &added, sender, batch: Vec::new() };
            compiler::incremental::stream(recipe.input(), &mut sending);
            for id in gone.iter() {
                sending.push(id.deletion());
            }
            sending.flush();
        });
        let count = self.added.len() + self.gone.len();
        made.into_iter().flatten().take(count)
    }

    fn cookie(&self, index: usize) -> Option<Cookie> {
        (index < self.added.len()).then(|| self.clone().flows().nth(index)).flatten().map(|flow| flow.cookie)
    }
}

struct Sending<'a> {
    numbers: &'a Numbers,
    added: &'a FlowTable,
    sender: SyncSender<Vec<FlowMod>>,
    batch: Vec<FlowMod>,
}

impl Sending<'_> {
    fn push(&mut self, flow: FlowMod) {
        self.batch.push(flow);
        if self.batch.len() == AHEAD {
            self.flush();
        }
    }

    /// Nobody takes them any more when the connection is over; then they are made for nothing.
    fn flush(&mut self) {
        let _ = self.sender.send(std::mem::take(&mut self.batch));
    }
}

impl Sink for Sending<'_> {
    fn flow(&mut self, key: FlowKey, flow: Flow, _: &dyn Fn() -> Reason) {
        let Some(message) = bind(&key, &flow, self.numbers) else { return };
        if self.added.get(&FlowId::of(&message)) == Some(Held::wanted(&message)) {
            self.push(message);
        }
    }
}

/// What the switch holds more and less once a plan is confirmed.
#[derive(Debug)]
pub struct Confirmation {
    marks: Marks,
    added: Arc<FlowTable>,
    gone: Arc<[FlowId]>,
}

#[derive(Debug)]
enum Marks {
    Known(Vec<Cookie>),
    Made(Again),
}

impl Confirmation {
    /// The mark of the flow that the flow-mod at `index` adds; a deletion has none.
    pub fn cookie(&self, index: usize) -> Option<Cookie> {
        match &self.marks {
            Marks::Known(cookies) => cookies.get(index).copied(),
            Marks::Made(again) => again.cookie(index),
        }
    }

    /// Brings the shadow up to date.
    pub fn apply(self, shadow: &mut Shadow) {
        let Self { marks, added, gone } = self;
        drop(marks);
        shadow.extend(added);
        gone.iter().for_each(|id| shadow.remove(id));
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
