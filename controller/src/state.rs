//! Everything the controller knows, and how each event changes it. One task owns it; no IO, the time is an argument.

mod checkpoint;
mod problems;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use api::generated::ferrule::v1alpha1 as wire;
use api::watermark::{Epoch, Watermark};
use network::{Network, NodeName};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::agent::{Agent, Hello, Link, Offer, SessionId};
use crate::bindings::{Bindings, Change, NodeBindings};
use crate::floor::{Floor, Ours, Verdict};
use crate::hearing::Said;
use crate::index::{Index, Oracle};
use crate::manifests::MANIFESTS;
use crate::metrics::Metrics;
use crate::news::News;
use crate::source::{Changes, Problem, Progress, Revision, Snapshot};

pub use checkpoint::Checkpoint;

/// An agent may push the epoch, or a revision that we count ourselves, by this much at most, so that none can use it up.
const STRIDE: u64 = 1 << 32;
/// One that was never told any takes what it hears first, up to here.
const BELIEVABLE: u64 = 1 << 62;

/// What agents acknowledged and we lack: the source is to look for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Counts them.
    pub number: u64,
    /// All that agents acknowledged.
    pub acknowledged: Watermark,
}

/// The state.
#[derive(Debug)]
pub struct State {
    epoch: Epoch,
    epoch_started: bool,
    /// What the source said last, but for the network, which the index holds; `None` until the first snapshot.
    source: Option<Snapshot>,
    /// How it stands.
    progress: Progress,
    bindings: Bindings,
    unsaved: BTreeSet<NodeName>,
    index: Index,
    /// What the source said since the index was settled.
    news: News,
    /// How often the index was settled.
    recomputes: u64,
    /// The whole recompute beside the index, where somebody wants it checked at every step.
    oracle: Option<Oracle>,
    agents: BTreeMap<NodeName, Agent>,
    refused: Vec<Problem>,
    garbage: BTreeMap<NodeName, String>,
    questions: BTreeMap<u64, (SessionId, oneshot::Sender<wire::Answer>)>,
    next_question: u64,
    stale: bool,
    metrics: Metrics,
    /// What agents acknowledged beyond what we have.
    floors: BTreeMap<NodeName, Floor>,
    demand: Demand,
    demanded: bool,
    confirmed: u64,
    /// The source keeps the epoch, and its revisions are the same for everybody; otherwise we count them.
    keeps_epoch: bool,
    /// Added to the revisions that we count, from the beginning at every start.
    lift: u64,
}

/// One node's share of a question: the answer to come, or why there will be none.
pub type Asked = Result<oneshot::Receiver<wire::Answer>, String>;

impl State {
    /// Starts with the epoch and the bindings that were saved.
    pub fn new(epoch: Epoch, bindings: BTreeMap<NodeName, NodeBindings>, metrics: Metrics) -> Self {
        Self {
            epoch,
            epoch_started: false,
            source: None,
            progress: Progress::default(),
            bindings: Bindings::restore(bindings),
            unsaved: BTreeSet::new(),
            index: Index::default(),
            news: News::default(),
            recomputes: 0,
            oracle: None,
            agents: BTreeMap::new(),
            refused: Vec::new(),
            garbage: BTreeMap::new(),
            questions: BTreeMap::new(),
            next_question: 0,
            stale: false,
            metrics,
            floors: BTreeMap::new(),
            demand: Demand::default(),
            demanded: false,
            confirmed: 0,
            keeps_epoch: false,
            lift: 0,
        }
    }

    /// With a source that keeps the epoch, and whose revisions are the same for everybody who reads it.
    #[must_use]
    pub fn of_shared_source(mut self) -> Self {
        self.keeps_epoch = true;
        self.epoch = Epoch(0);
        self
    }

    /// A source read its objects again.
    pub fn snapshot(&mut self, mut snapshot: Snapshot) {
        tracing::debug!(
            revisions = ?snapshot.revisions.iter().map(|(kind, at)| (kind, at.changed)).collect::<BTreeMap<_, _>>(),
            nodes = snapshot.network.nodes.len(),
            pods = snapshot.network.pods.len(),
            policies = snapshot.network.policies.len(),
            problems = snapshot.problems.len(),
            "the source has changed"
        );
        if let Some(epoch) = snapshot.epoch {
            self.epoch = epoch;
        }
        self.news.replace(std::mem::take(&mut snapshot.network));
        self.source = Some(snapshot);
        self.stale = true;
    }

    /// What the source says is different, and how far it has come with that; before the first of these there is no model.
    pub fn changes(&mut self, changes: Changes) {
        tracing::debug!(changes = changes.changes.len(), "the source has changed");
        if let Some(epoch) = changes.epoch {
            self.epoch = epoch;
        }
        let source = self.source.get_or_insert_default();
        (source.epoch, source.revisions, source.problems) =
            (changes.epoch, changes.revisions, changes.problems);
        self.news.extend(changes.changes);
        self.stale = true;
    }

    /// Recomputes everything whole at every step from now on, and panics where that says something else than the index.
    /// To be called before the first snapshot.
    pub fn check_recompute(&mut self) {
        self.oracle = Some(Oracle::default());
    }

    /// How the source stands.
    pub fn progress(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// An agent connected and said Hello.
    pub fn attach(&mut self, node: &NodeName, link: Link, mut hello: Hello) {
        let (version, known, pods) = (&hello.version, hello.known.len(), hello.bindings.len());
        tracing::info!(%node, %version, known, pods, role = ?hello.role, "agent connected");
        let change =
            self.bindings.replace(node, std::mem::take(&mut hello.bindings), hello.bindings_revision);
        self.note(node, change);
        self.garbage.remove(node);
        let agent = self.agents.entry(node.clone()).or_default();
        agent.connect(link, hello);
        self.outrun(node);
    }

    /// Whether an agent that wants us to lead has acknowledged more than we have.
    fn outrun(&mut self, node: &NodeName) {
        self.floors.remove(node);
        let Some(agent) = self.agents.get(node).filter(|agent| agent.is_asking()) else { return };
        let acknowledged = agent.acknowledged(node);
        let ours = self.watermark();
        // Revisions that we count ourselves say nothing of what another one counted: the source has to look, and what it
        // finds then is not older than anything that was acknowledged before.
        let believable = self.is_believable(&acknowledged);
        let looks = !self.keeps_epoch && believable && acknowledged != Watermark::default();
        let Some(floor) = Floor::of(node, &acknowledged, &ours, looks.then_some(self.demand.number + 1))
        else {
            return;
        };
        if !believable {
            tracing::error!(%node, epoch = %acknowledged.epoch, ours = %self.epoch, "the agent claims to have acknowledged what cannot be; it gets nothing until it forgets its state");
        } else if looks {
            self.demands(&acknowledged);
        }
        self.floors.insert(node.clone(), floor);
    }

    fn is_believable(&self, acknowledged: &Watermark) -> bool {
        let fresh = self.epoch <= Epoch(1);
        let most = if fresh { BELIEVABLE } else { self.epoch.0.saturating_add(STRIDE) };
        let counted = self.counted().is_none_or(|ours| {
            acknowledged.revision(MANIFESTS) <= ours.saturating_add(if fresh { BELIEVABLE } else { STRIDE })
        });
        acknowledged.epoch.0 <= most && counted
    }

    fn demands(&mut self, acknowledged: &Watermark) {
        self.demand.number += 1;
        self.demand.acknowledged = acknowledged.join(std::mem::take(&mut self.demand.acknowledged));
        self.demanded = true;
    }

    /// What the source has to look for, if there is something new.
    pub fn take_demand(&mut self) -> Option<Demand> {
        std::mem::take(&mut self.demanded).then(|| self.demand.clone())
    }

    /// A source that counts its revisions itself has looked again after the demand was made: what it gave contains
    /// everything that was acknowledged before, and says so from now on.
    pub fn confirm(&mut self, demand: &Demand) {
        self.confirmed = self.confirmed.max(demand.number);
        let acknowledged = &demand.acknowledged;
        if !self.is_believable(acknowledged) {
            return;
        }
        if acknowledged.epoch > self.epoch {
            self.epoch = acknowledged.epoch;
            self.epoch_started = true;
        }
        if acknowledged.epoch == self.epoch
            && let Some(ours) = self.counted()
        {
            self.lift += acknowledged.revision(MANIFESTS).saturating_sub(ours);
        }
    }

    /// The revision that we count ourselves.
    fn counted(&self) -> Option<u64> {
        let source = self.source.as_ref().filter(|_| !self.keeps_epoch)?;
        source.revisions.get(MANIFESTS).map(|revision| revision.changed.saturating_add(self.lift))
    }

    /// An agent said something else.
    pub fn said(&mut self, node: &NodeName, session: SessionId, said: Said, now: Instant) {
        let Some(agent) = self.agents.get_mut(node).filter(|agent| agent.session() == Some(session)) else {
            return;
        };
        match said {
            Said::Answer { nonce, rejected } => {
                for rejection in &rejected {
                    let resource = rejection.id.as_ref().map_or_else(|| "?".into(), ToString::to_string);
                    tracing::warn!(%node, %resource, error = %rejection.reason, "the agent rejects a resource");
                }
                self.metrics.rejections.inc_by(rejected.len() as u64);
                match agent.answer(nonce, rejected, now).elapsed {
                    Some(elapsed) => {
                        tracing::debug!(%node, nonce, elapsed_ms = elapsed.as_millis(), "delta acknowledged");
                        self.metrics.acknowledge_seconds.observe(elapsed.as_secs_f64());
                    }
                    None => tracing::debug!(%node, nonce, "an answer to a delta that is not pending"),
                }
            }
            Said::Bindings { bound, released, revision } => {
                let change = self.bindings.update(node, bound, &released, revision);
                self.note(node, change);
            }
            Said::Progress { holding, rejected, drifted } => {
                if !drifted.is_empty() && agent.drifted() != Some(drifted.as_str()) {
                    tracing::warn!(%node, what = %drifted, "drift");
                }
                agent.progress(&holding, rejected, drifted);
            }
            Said::Lead { term, holding } => {
                tracing::info!(%node, "the agent wants us to lead");
                agent.lead(term, &holding);
                self.outrun(node);
            }
            Said::StandBy { held, reason } => {
                tracing::info!(%node, %reason, "we stand by for the agent");
                agent.stand_by(held);
                self.floors.remove(node);
            }
            Said::Told(answer) => {
                let asked = self.questions.get(&answer.id).is_some_and(|(asked, _)| *asked == session);
                if let Some((_, reply)) = asked.then(|| self.questions.remove(&answer.id)).flatten() {
                    let _ = reply.send(answer);
                }
            }
            Said::Unknown => {
                tracing::debug!(%node, "the agent said something that only newer controllers know");
                self.metrics.unknown.inc();
            }
            Said::Garbage(error) => {
                tracing::warn!(%node, %error, "the agent sent something malformed; the rest of it is used");
                self.garbage.insert(node.clone(), error);
            }
        }
    }

    /// An agent's stream ended.
    pub fn detach(&mut self, node: &NodeName, session: SessionId) {
        self.questions.retain(|_, (asked, _)| *asked != session);
        if self.agents.get_mut(node).is_some_and(|agent| agent.disconnect(session)) {
            tracing::info!(%node, "agent disconnected");
            if self.index.node(node).is_none() {
                self.drop_agent(node);
            }
        }
    }

    fn note(&mut self, node: &NodeName, change: Change) {
        if change != Change::Nothing {
            self.stale = true;
            self.unsaved.insert(node.clone());
        }
        if change == Change::Back {
            tracing::warn!(%node, "the agent's count of bindings went back: it lost its state");
        }
    }

    /// Brings model, views and agents up to date with everything that happened since; call after each batch of events.
    pub fn settle(&mut self, now: Instant) {
        if self.source.is_none() {
            return;
        }
        if self.stale {
            let started = Instant::now();
            self.recomputes += 1;
            for change in std::mem::take(&mut self.news).since(|| self.index.source()) {
                if let Some(oracle) = &mut self.oracle {
                    oracle.apply(change.clone());
                }
                self.index.apply(change);
            }
            self.index.reports_changed(self.bindings.take_touched());
            let mut changed = self.index.settle(&self.bindings);
            self.forget();
            // Forgetting an agent's reports may take addresses away.
            self.index.reports_changed(self.bindings.take_touched());
            changed.extend(self.index.settle(&self.bindings));
            let refused: Vec<Problem> =
                self.index.refused().cloned().chain(self.bindings.overfull()).collect();
            for problem in refused.iter().filter(|problem| !self.refused.contains(problem)) {
                tracing::warn!(object = %problem.object, source = %problem.source, error = %problem.message, "refused");
            }
            self.refused = refused;
            self.stale = false;
            self.metrics.recompute_seconds.observe(started.elapsed().as_secs_f64());
            tracing::debug!(
                nodes = changed.len(),
                elapsed_ms = started.elapsed().as_millis(),
                "views changed"
            );
            if let Some(oracle) = &self.oracle
                && let Err(difference) = oracle.check(&self.index, &self.bindings)
            {
                panic!("the incremental index is wrong: {difference}");
            }
        }
        self.fan_out(now);
        self.measure();
    }

    /// Agents of nodes that left are forgotten once they are disconnected.
    fn forget(&mut self) {
        let index = &self.index;
        let gone = |node: &NodeName, agent: &Agent| !agent.is_connected() && index.node(node).is_none();
        let gone: Vec<NodeName> = self
            .agents
            .iter()
            .filter(|(node, agent)| gone(node, agent))
            .map(|(node, _)| node.clone())
            .collect();
        for node in gone {
            self.drop_agent(&node);
        }
        let (index, agents) = (&self.index, &self.agents);
        self.bindings.forget(|node| index.node(node).is_some() || agents.contains_key(node));
    }

    fn drop_agent(&mut self, node: &NodeName) {
        self.agents.remove(node);
        self.floors.remove(node);
        self.garbage.remove(node);
        self.index.neglect(node);
    }

    fn fan_out(&mut self, now: Instant) {
        let watermark = self.watermark();
        let contained = self.contained();
        let mut lacking = Vec::new();
        for (node, agent) in &mut self.agents {
            if !agent.is_connected() {
                continue;
            }
            let mut raised = BTreeMap::new();
            if let Some(floor) = self.floors.get_mut(node) {
                let nodes = &self.index;
                let ours =
                    Ours { watermark: &watermark, contained: &contained, nodes, confirmed: self.confirmed };
                match floor.judge(ours, now) {
                    Verdict::Met => drop(self.floors.remove(node)),
                    Verdict::Raised(revisions) => raised = revisions,
                    Verdict::Waits(_) => continue,
                    Verdict::Lags(behind) => {
                        agent.tell_behind(&watermark, &behind);
                        if floor.reminds(now) {
                            tracing::info!(%node, error = %behind, "the agent has acknowledged more than we have; looking for it");
                            lacking.push(floor.acknowledged().clone());
                        }
                        continue;
                    }
                }
            }
            raised.extend(self.bindings.went_back(node).map(|own| (Watermark::bindings_of(node), own)));
            let mut own = None;
            if !raised.is_empty() {
                own.insert(watermark.clone()).revisions.extend(raised);
            }
            let resources = self.index.attend(node);
            let offered = own.as_ref().unwrap_or(&watermark);
            if let Offer::Sent { resources, bytes } = agent.offer(node, &resources, offered, now) {
                tracing::debug!(%node, resources, bytes, "delta sent");
                self.metrics.deltas_sent.inc();
                self.metrics.resources_sent.inc_by(resources as u64);
                self.metrics.delta_bytes.inc_by(bytes as u64);
            }
        }
        for acknowledged in lacking {
            if self.is_believable(&acknowledged) {
                self.demands(&acknowledged);
            }
        }
    }

    /// When to settle again although nothing happens.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        let connected = |node: &NodeName| self.agents.get(node).is_some_and(Agent::is_connected);
        let waiting = self.floors.iter().filter(|(node, _)| connected(node));
        waiting.filter_map(|(_, floor)| floor.wakes_at(now)).min()
    }

    /// Up to where each kind of objects is known.
    fn contained(&self) -> BTreeMap<String, Revision> {
        let Some(source) = &self.source else { return BTreeMap::new() };
        if let Some(ours) = self.counted() {
            return [(MANIFESTS.to_owned(), Revision::at(ours))].into();
        }
        // What came in since the snapshot was the same, as long as it is of the same epoch.
        let newer =
            if self.progress.epoch == source.epoch { &self.progress.contained } else { &source.revisions };
        let mut contained = source.revisions.clone();
        contained.extend(newer.iter().map(|(kind, revision)| (kind.clone(), *revision)));
        contained
    }

    /// How much of every source the model contains.
    pub fn watermark(&self) -> Watermark {
        let mut revisions: BTreeMap<String, u64> = self.bindings.revisions().collect();
        if let Some(source) = &self.source {
            let lift = if self.keeps_epoch { 0 } else { self.lift };
            let changed = source.revisions.iter().filter(|(_, revision)| revision.changed > 0);
            revisions.extend(
                changed.map(|(kind, revision)| (kind.clone(), revision.changed.saturating_add(lift))),
            );
        }
        Watermark { epoch: self.epoch, revisions }
    }

    /// Asks one node, or all of them. `None` when there is no such node.
    pub fn ask(&mut self, only: Option<&NodeName>, path: &str) -> Option<Vec<(NodeName, Asked)>> {
        self.questions.retain(|_, (_, reply)| !reply.is_closed());
        let mut nodes: BTreeSet<NodeName> =
            self.index.node_names().chain(self.agents.keys()).cloned().collect();
        if let Some(only) = only {
            nodes.retain(|node| node == only);
            if nodes.is_empty() {
                return None;
            }
        }
        let mut asked = Vec::new();
        for node in nodes {
            let id = self.next_question;
            self.next_question += 1;
            let answer =
                match self.agents.get(&node).ok_or("its agent never connected").and_then(|a| a.ask(id, path))
                {
                    Ok(session) => {
                        let (reply, answer) = oneshot::channel();
                        self.questions.insert(id, (session, reply));
                        Ok(answer)
                    }
                    Err(reason) => Err(reason.to_owned()),
                };
            asked.push((node, answer));
        }
        Some(asked)
    }

    /// The nodes whose bindings should be saved, and whether a new epoch has to be saved first.
    pub fn take_unsaved(&mut self) -> (Option<Epoch>, Vec<(NodeName, NodeBindings)>) {
        let epoch = std::mem::take(&mut self.epoch_started).then_some(self.epoch);
        let nodes = std::mem::take(&mut self.unsaved).into_iter();
        let bindings =
            nodes.filter_map(|node| Some((node.clone(), self.bindings.of(&node)?.clone()))).collect();
        (epoch, bindings)
    }

    /// A node's bindings could not be handed to the store yet.
    pub fn keep_unsaved(&mut self, node: NodeName) {
        self.unsaved.insert(node);
    }

    /// Whether the first snapshot is here.
    pub fn is_ready(&self) -> bool {
        self.source.is_some()
    }

    /// What is in the way of serving agents, for people; nothing when this controller is of use.
    pub fn obstacles(&self) -> Vec<String> {
        let mut obstacles: Vec<String> = self.progress.unserved.iter().cloned().collect();
        if !self.is_ready() {
            obstacles.extend(self.progress.waiting.iter().cloned());
            if obstacles.is_empty() {
                obstacles.push("the source has not been read yet".into());
            }
        }
        obstacles
    }

    /// The files that the source was read from, with the SHA-256 of what is used of them.
    pub fn files(&self) -> Option<&BTreeMap<String, String>> {
        self.source.as_ref().map(|source| &source.files)
    }

    /// The model as it was settled last. Made anew: for people and checks.
    pub fn network(&self) -> Network {
        self.index.network()
    }

    /// How often model and views were brought up to date: equal numbers say that neither has changed in between.
    pub fn recomputes(&self) -> u64 {
        self.recomputes
    }

    /// The views, as they were settled last.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The agents that are or were here.
    pub fn agents(&self) -> &BTreeMap<NodeName, Agent> {
        &self.agents
    }

    fn measure(&self) {
        let (nodes, pods, policies) = self.index.counts();
        let gauge = |gauge: &prometheus_client::metrics::gauge::Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        gauge(&self.metrics.nodes, nodes);
        gauge(&self.metrics.pods, pods);
        gauge(&self.metrics.policies, policies);
        gauge(
            &self.metrics.agents_connected,
            self.agents.values().filter(|agent| agent.is_connected()).count(),
        );
        gauge(
            &self.metrics.agents_realized,
            self.agents.values().filter(|agent| agent.is_realized()).count(),
        );
        let source = self.source.as_ref().map_or(0, |source| source.problems.len());
        let of_agent = |agent: &Agent| agent.rejected().count() + usize::from(agent.drifted().is_some());
        let agents: usize = self.agents.values().map(of_agent).sum();
        gauge(
            &self.metrics.problems,
            source + self.progress.problems.len() + self.refused.len() + agents + self.garbage.len(),
        );
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
