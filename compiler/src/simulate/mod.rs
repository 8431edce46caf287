//! `simulate(&Program, packet, conntrack) → Trace` over the same flows that the switch holds. Verdicts shown to people
//! come from here, never from a second engine.

pub mod matrix;
mod packet;
mod walk;

use std::collections::BTreeMap;

use openflow::{
    Action, Cookie, Ct, CtExec, CtZone, Field, Learn, LearnDst, LearnSrc, Multipath, Oxm, PortNo, TableId,
};

pub use packet::{Conntrack, Packet, Tuple};
pub use walk::{Fabric, Hop, Outcome, Walk};

use crate::input::PortRef;
use crate::packet::ct_state;
use crate::policy::conjunction;
use crate::program::{Flow, FlowAction, FlowKey, Program};
use crate::table::Table;

/// A program ready to be asked many times: its flows by table.
#[derive(Debug)]
pub struct Simulator<'a> {
    tables: BTreeMap<Table, Vec<(&'a FlowKey, &'a Flow)>>,
    ports: Vec<PortRef>,
    /// Keep the packet as it came to each table.
    watched: bool,
    /// The endpoint to choose, by its place; any by a hash where nobody says.
    link: Option<u64>,
}

/// One flow that a packet met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where.
    pub table: Table,
    /// Which flow; `None`: none matched, and the table drops.
    pub flow: Option<FlowKey>,
    /// Leads to its reason.
    pub cookie: Cookie,
}

/// What became of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The flows it met, in order.
    pub steps: Vec<Step>,
    /// The packet as it came to each of them; only of a simulator that was told to watch.
    pub seen: Vec<Packet>,
    /// Where it left, and what it then was; nowhere means it was dropped at the last step.
    pub outputs: Vec<(Exit, Packet)>,
    /// Among how many endpoints of a Service the packet's was chosen; 0 where none was.
    pub links: u64,
    /// Actions that the simulator does not know. A trace with any is not to be trusted.
    pub unknown: Vec<String>,
}

/// A way out of the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Through a port.
    Port(PortRef),
    /// Back where it came from.
    InPort,
}

/// The most steps a packet takes: every table once on each of the two passes around connection tracking, and more than
/// that is a loop.
const STEPS: usize = 64;

impl<'a> Simulator<'a> {
    /// Prepares a program.
    pub fn new(program: &'a Program) -> Self {
        let mut tables: BTreeMap<Table, Vec<_>> = BTreeMap::new();
        for (key, flow) in &program.flows {
            tables.entry(key.table).or_default().push((key, flow));
        }
        Self { tables, ports: program.port_refs().into_iter().cloned().collect(), watched: false, link: None }
    }

    /// The same, but its traces hold the packet as it came to each step.
    #[must_use]
    pub fn watching(self) -> Self {
        Self { watched: true, ..self }
    }

    /// Sends a packet in by a port. Commits go into `conntrack`.
    pub fn run(&self, port: &PortRef, packet: Packet, conntrack: &mut Conntrack) -> Trace {
        let mut trace = Trace::default();
        let mut state =
            State { packet, in_port: port.clone(), conntrack, trace: &mut trace, simulator: self };
        let mut next = Some(Table::Classifier);
        while let Some(table) = next {
            if state.trace.steps.len() >= STEPS {
                state.trace.unknown.push(format!("more than {STEPS} steps: a loop"));
                break;
            }
            next = state.table(table);
        }
        trace
    }

    fn lookup(&self, table: Table, packet: &Packet, in_port: &PortRef) -> Option<(&'a FlowKey, &'a Flow)> {
        let flows = self.tables.get(&table)?;
        let mut rest = flows.as_slice();
        while let Some(((first, _), _)) = rest.split_first() {
            let same = rest.iter().take_while(|(key, _)| key.priority == first.priority).count();
            let (level, lower) = rest.split_at(same);
            if let Some(found) = lookup_level(level, packet, in_port) {
                return Some(found);
            }
            rest = lower;
        }
        None
    }
}

/// One priority: an ordinary flow wins over a conjunction (ovs-fields(7)); a conjunction needs every clause.
fn lookup_level<'a>(
    level: &[(&'a FlowKey, &'a Flow)],
    packet: &Packet,
    in_port: &PortRef,
) -> Option<(&'a FlowKey, &'a Flow)> {
    let mut met: BTreeMap<u32, (u64, u8)> = BTreeMap::new();
    for (key, flow) in level {
        if !matches(key, packet, in_port) {
            continue;
        }
        let mut clauses = flow.actions.iter().filter_map(|action| match action {
            FlowAction::Do(Action::Conjunction { clause, n_clauses, id }) => Some((*clause, *n_clauses, *id)),
            _ => None,
        });
        let Some(first) = clauses.next() else { return Some((key, flow)) };
        for (clause, n_clauses, id) in std::iter::once(first).chain(clauses) {
            let entry = met.entry(id).or_insert((0, n_clauses));
            entry.0 |= 1 << clause;
        }
    }
    let satisfied = met.into_iter().filter(|(_, (clauses, n))| clauses.count_ones() == u32::from(*n));
    for (id, _) in satisfied {
        let mut with_id = packet.clone();
        with_id.set(Field::CONJ_ID, u128::from(id));
        let found = level.iter().find(|(key, _)| {
            key.match_.exact(Field::CONJ_ID) == Some(u128::from(id)) && matches(key, &with_id, in_port)
        });
        if let Some((key, flow)) = found {
            return Some((key, flow));
        }
    }
    None
}

/// Whether a flow's own match covers a packet.
pub(crate) fn matches(key: &FlowKey, packet: &Packet, in_port: &PortRef) -> bool {
    key.in_port.as_ref().is_none_or(|port| port == in_port)
        && key.match_.iter().all(|oxm| {
            let Some(value) = oxm.value() else { return false };
            let mask = oxm.mask().unwrap_or(u128::MAX);
            packet.get(oxm.field()) & mask == value & mask
        })
}

struct State<'a, 's> {
    packet: Packet,
    in_port: PortRef,
    conntrack: &'s mut Conntrack,
    trace: &'s mut Trace,
    simulator: &'s Simulator<'a>,
}

impl State<'_, '_> {
    fn table(&mut self, table: Table) -> Option<Table> {
        if self.simulator.watched {
            self.trace.seen.push(self.packet.clone());
        }
        let Some((key, flow)) = self.simulator.lookup(table, &self.packet, &self.in_port) else {
            self.trace.steps.push(Step { table, flow: None, cookie: Cookie(0) });
            return None;
        };
        self.trace.steps.push(Step { table, flow: Some(key.clone()), cookie: flow.cookie });
        let mut recirculate = None;
        for action in &flow.actions {
            recirculate = self.act(action).or(recirculate);
        }
        recirculate.or(flow.goto)
    }

    fn act(&mut self, action: &FlowAction) -> Option<Table> {
        match action {
            FlowAction::LoadPort(port, dst) => {
                let number =
                    self.simulator.ports.iter().position(|known| known == port).map_or(0, |n| n as u128 + 1);
                self.packet.load(*dst, number);
                None
            }
            FlowAction::Output(port) => {
                self.trace.outputs.push((Exit::Port(port.clone()), self.packet.clone()));
                None
            }
            FlowAction::Do(action) => self.standard(action),
        }
    }

    fn standard(&mut self, action: &Action) -> Option<Table> {
        match action {
            Action::SetField(oxm) => self.set(oxm),
            Action::RegLoad { dst, value } => self.packet.load(*dst, u128::from(*value)),
            Action::RegMove { src, dst } => {
                let value = self.packet.bits(*src);
                self.packet.load(*dst, value);
            }
            Action::DecNwTtl => {
                let ttl = self.packet.get(Field::IP_TTL);
                self.packet.set(Field::IP_TTL, ttl.saturating_sub(1));
            }
            Action::OutputReg { src, .. } => {
                let number = self.packet.bits(*src);
                let port =
                    usize::try_from(number).ok().and_then(|n| self.simulator.ports.get(n.wrapping_sub(1)));
                if let Some(port) = port {
                    self.trace.outputs.push((Exit::Port(port.clone()), self.packet.clone()));
                }
            }
            Action::Output { port: PortNo::IN_PORT, .. } => {
                self.trace.outputs.push((Exit::InPort, self.packet.clone()));
            }
            Action::Ct(ct) => return self.track(ct),
            Action::Learn(learn) => self.learn(learn),
            // Copies, and what copies: the packet goes on as it was.
            Action::Controller(_) => {}
            Action::Resubmit { table: Some(table), .. } if table.0 == Table::Audit.id() => {}
            Action::Resubmit { port: PortNo::IN_PORT, table: Some(table), ct: false } => {
                return self.resubmit(*table);
            }
            Action::Multipath(multipath) => self.choose(multipath),
            other => self.trace.unknown.push(format!("{other:?}")),
        }
        None
    }

    fn set(&mut self, oxm: &Oxm) {
        if let Some(value) = oxm.value() {
            let mask = oxm.mask().unwrap_or(u128::MAX);
            let old = self.packet.get(oxm.field());
            self.packet.set(oxm.field(), old & !mask | value & mask);
        }
    }

    fn learn(&mut self, learn: &Learn) {
        let mut learned = packet::Learned { table: learn.table.0, match_: vec![], loads: vec![] };
        for spec in &learn.specs {
            let value = match &spec.src {
                LearnSrc::Field(bits) => self.packet.bits(*bits),
                LearnSrc::Immediate(bytes) => {
                    bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
                }
            };
            match spec.dst {
                LearnDst::Match(bits) => learned.match_.push((bits, value)),
                LearnDst::Load(bits) => learned.loads.push((bits, value)),
                LearnDst::Output => self.trace.unknown.push("learn with output".into()),
            }
        }
        self.conntrack.learned.retain(|known| known.match_ != learned.match_ || known.table != learned.table);
        self.conntrack.learned.push(learned);
    }

    /// A lookup among learned flows, after which the packet goes on where it was; or on in another table.
    fn resubmit(&mut self, table: TableId) -> Option<Table> {
        let known = Table::from_id(table.0)?;
        if !known.is_learned() {
            return Some(known);
        }
        let found =
            self.conntrack.learned.iter().find(|flow| flow.table == table.0 && flow.matches(&self.packet));
        for (bits, value) in found.map(|flow| flow.loads.clone()).unwrap_or_default() {
            self.packet.load(bits, value);
        }
        None
    }

    /// Any link will do where nobody names one; the switch's own hash would give another, as even.
    fn choose(&mut self, multipath: &Multipath) {
        let any = || conjunction::print(&(Tuple::of(&self.packet), multipath.basis));
        let hash = self.simulator.link.unwrap_or_else(any);
        let links = u64::from(multipath.max_link) + 1;
        self.trace.links = links;
        self.packet.load(multipath.dst, u128::from(hash % links));
    }

    fn track(&mut self, ct: &Ct) -> Option<Table> {
        let CtZone::Immediate(zone) = ct.zone else {
            self.trace.unknown.push("ct with its zone in a field".into());
            return None;
        };
        let translates = ct.nat.as_ref();
        if ct.commit {
            let tuple = self.packet.original(zone);
            let mut mark = self.conntrack.mark(zone, &tuple);
            for exec in &ct.exec {
                match exec {
                    CtExec::RegLoad { dst, value } if dst.field == Field::CT_MARK => {
                        mark = mark & !(dst.mask() as u32) | ((*value as u32) << dst.start_bit);
                    }
                    other => self.trace.unknown.push(format!("{other:?}")),
                }
            }
            let wanted = translates.map_or_else(|| tuple.clone(), |nat| tuple.translated(nat));
            let becomes = self.conntrack.commit(zone, tuple.clone(), mark, wanted);
            self.packet.remember(zone, tuple);
            if translates.is_some() {
                self.packet.rewrite(&becomes);
            }
            if ct.table.is_some() {
                self.packet.set(Field::CT_MARK, u128::from(mark));
            }
        } else {
            let tuple = Tuple::of(&self.packet);
            let found = self.conntrack.look_up(zone, &tuple, self.packet.related());
            self.packet.set(Field::CT_STATE, u128::from(ct_state::TRK | found.state));
            self.packet.set(Field::CT_MARK, u128::from(found.mark));
            self.packet.set(Field::CT_ZONE, u128::from(zone));
            self.packet.remember(zone, found.original.unwrap_or(tuple));
            if let Some(becomes) = found.becomes.filter(|_| translates.is_some()) {
                self.packet.rewrite(&becomes);
            }
        }
        ct.table.and_then(|table| Table::from_id(table.0))
    }
}
