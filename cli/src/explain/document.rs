//! What `ferrule explain -o json` prints (docs/explain.md): the explanation with names and places in files.

use std::collections::BTreeMap;

use compiler::explain::{Clause, Considered, Decision, Entry, Explanation, Fit, headers};
use compiler::simulate::Outcome;
use compiler::{Owner, Reason};
use network::{Action, Direction, NamespacedName, NodeName, PolicyId, Tier};
use serde::Serialize;

/// The whole answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub from: String,
    pub to: String,
    /// `TCP/80`, `icmp`, or what was asked for where it differs from end to end.
    pub port: String,
    /// `new`, `established`, `reply`.
    pub phase: &'static str,
    /// `allowed`: every packet passes; `denied`: one at least does not.
    pub verdict: Verdict,
    /// One for each pair of ends and family.
    pub packets: Vec<Packet>,
    /// What is not known.
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    Allowed,
    Denied,
}

impl Verdict {
    pub fn of(passes: bool) -> Self {
        if passes { Self::Allowed } else { Self::Denied }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Packet {
    pub from: Place,
    pub to: Place,
    /// `tcp 10.244.1.2:40000 → 10.244.2.3:80`, as it was sent.
    pub sent: String,
    pub verdict: Verdict,
    /// One sentence.
    pub reason: String,
    pub outcome: End,
    /// What its headers became on the way.
    pub translations: Vec<String>,
    pub decisions: Vec<Judgement>,
    pub rules: Vec<Rule>,
    pub hops: Vec<Hop>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    pub name: String,
    pub address: std::net::IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
}

/// Where the packet ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// `pod`, `host`, `dropped`, `itself`, `underlay`.
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<NamespacedName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The packet as it ended, where it met a switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<String>,
}

impl End {
    /// An end that no switch has a part in.
    pub fn apart(kind: &'static str) -> Self {
        Self { kind, node: None, pod: None, interface: None, packet: None }
    }
}

/// What policy said in one direction.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    pub direction: &'static str,
    pub pod: NamespacedName,
    pub node: NodeName,
    pub verdict: Verdict,
    pub table: &'static str,
    /// The rules and default denies that decided; none where no policy had a say.
    pub by: Vec<RuleName>,
    pub what: String,
}

/// A rule, or a policy's default deny.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleName {
    /// `NetworkPolicy shop/cart`.
    pub policy: String,
    /// `ingress[0]`, `egress default-deny`.
    pub rule: String,
    /// File, line and column, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl std::fmt::Display for RuleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.policy, self.rule)?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, " ({source})"))
    }
}

/// A rule of a policy that selects one of the two pods.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    #[serde(flatten)]
    pub name: RuleName,
    pub pod: NamespacedName,
    /// `admin`, `networkpolicy`, `baseline`.
    pub tier: &'static str,
    /// `accept`, `deny`, `pass`.
    pub action: &'static str,
    pub what: String,
    /// `decides`, `matches`, `differs`, `void`.
    pub fit: &'static str,
    /// Of one that differs: `subject`, `peer`, `port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<&'static str>,
    /// Of one that is void: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    pub node: NodeName,
    pub entries: Vec<Flow>,
}

/// A flow that the packet met.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    pub table: &'static str,
    pub table_id: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
    pub cookie: String,
    /// In ovs-ofctl's words, ports by their names.
    pub flow: String,
    pub what: String,
    /// Everything that made it.
    pub owners: Vec<String>,
    /// The packet as it came here, where it has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<String>,
    /// The flows of a conjunction's clauses that matched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clauses: Vec<String>,
    /// Packets that the switch counts; absent where nobody was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// The switch was asked and does not have this flow.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

/// Where rules stand.
pub type Places<'a> = &'a dyn Fn(&PolicyId, Option<(Direction, u32)>) -> Option<String>;

/// What the switch of a node counts, by cookie.
pub type Counters = BTreeMap<NodeName, BTreeMap<String, u64>>;

impl Document {
    /// The nodes whose switches the packets meet.
    pub fn nodes(&self) -> std::collections::BTreeSet<NodeName> {
        self.packets.iter().flat_map(|packet| packet.hops.iter().map(|hop| hop.node.clone())).collect()
    }

    /// Fills in what switches count. What a switch was asked for and does not have is marked; gives how many those are.
    pub fn count(&mut self, counters: &Counters) -> BTreeMap<NodeName, usize> {
        let mut absent: BTreeMap<NodeName, usize> = BTreeMap::new();
        for hop in self.packets.iter_mut().flat_map(|packet| &mut packet.hops) {
            let Some(counters) = counters.get(&hop.node) else { continue };
            for flow in hop.entries.iter_mut().filter(|flow| flow.priority.is_some()) {
                flow.packets = counters.get(&flow.cookie).copied();
                flow.absent = flow.packets.is_none();
                *absent.entry(hop.node.clone()).or_default() += usize::from(flow.absent);
            }
        }
        absent.retain(|_, count| *count > 0);
        absent
    }
}

/// Puts an explanation into the document's form.
pub fn packet(told: &Explanation, (from, to): (Place, Place), sent: String, places: Places<'_>) -> Packet {
    let passes = !matches!(told.outcome, Outcome::Dropped { .. });
    let outcome = outcome(told);
    let hop = |hop: &compiler::explain::Met| Hop { node: hop.node.clone(), entries: flows(&hop.entries) };
    let hops: Vec<Hop> = told.hops.iter().map(hop).collect();
    let decisions: Vec<Judgement> = told.decisions.iter().map(|one| judgement(one, places)).collect();
    Packet {
        verdict: Verdict::of(passes),
        reason: reason(told, &decisions, passes),
        outcome,
        rules: told.rules.iter().map(|rule| considered(rule, places)).collect(),
        translations: hops
            .iter()
            .flat_map(|hop| &hop.entries)
            .filter_map(|flow| flow.packet.clone())
            .collect(),
        hops,
        decisions,
        from,
        to,
        sent,
    }
}

fn outcome(told: &Explanation) -> End {
    let (kind, node, interface) = match &told.outcome {
        Outcome::Delivered { node, interface } => ("pod", node, Some(interface.clone())),
        Outcome::Host { node } => ("host", node, None),
        Outcome::Dropped { node } => ("dropped", node, None),
    };
    End {
        kind,
        node: Some(node.clone()),
        pod: told.delivered_to.clone(),
        interface,
        packet: Some(headers(&told.packet)),
    }
}

fn reason(told: &Explanation, decisions: &[Judgement], passes: bool) -> String {
    let names = |by: &[RuleName]| by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if let Some(denied) = decisions.iter().find(|one| one.verdict == Verdict::Denied) {
        let by = if denied.by.is_empty() { denied.what.clone() } else { names(&denied.by) };
        return format!("{} of {} is denied by {by}", denied.direction, denied.pod);
    }
    if !passes {
        let last = told.hops.last().and_then(|hop| Some((hop, hop.entries.last()?)));
        return last.map_or_else(
            || "it meets no switch".into(),
            |(hop, entry)| format!("in {} on {}: {}", entry.table, hop.node, entry.reason.what),
        );
    }
    let by = |one: &Judgement| match one.by.is_empty() {
        true => format!("{} of {}: {}", one.direction, one.pod, one.what),
        false => format!("{} of {}: by {}", one.direction, one.pod, names(&one.by)),
    };
    match decisions.is_empty() {
        true => {
            let mut judged = told.hops.iter().flat_map(|hop| &hop.entries);
            let state = judged.rfind(|entry| entry.table == compiler::Table::ConntrackState);
            state.map_or_else(|| "no policy is asked".into(), |entry| entry.reason.what.clone())
        }
        false => decisions.iter().map(by).collect::<Vec<_>>().join("; "),
    }
}

fn judgement(one: &Decision, places: Places<'_>) -> Judgement {
    let by: Vec<RuleName> = rules_of(&one.reason, places);
    let what = if by.is_empty() && one.passes && !one.reason.what.starts_with("allow") {
        "no policy is against it".to_owned()
    } else {
        one.reason.what.clone()
    };
    Judgement {
        direction: word(one.direction),
        pod: one.pod.clone(),
        node: one.node.clone(),
        verdict: Verdict::of(one.passes),
        table: one.table.name(),
        by,
        what,
    }
}

fn rules_of(reason: &Reason, places: Places<'_>) -> Vec<RuleName> {
    let rule = |owner: &Owner| match owner {
        Owner::Rule { policy, direction, index } => Some(rule_name(policy, *direction, Some(*index), places)),
        Owner::Isolation { policy, direction } => Some(rule_name(policy, *direction, None, places)),
        _ => None,
    };
    reason.owners.iter().filter_map(rule).collect()
}

fn rule_name(policy: &PolicyId, direction: Direction, index: Option<u32>, places: Places<'_>) -> RuleName {
    let list = word(direction);
    RuleName {
        policy: policy.to_string(),
        rule: index.map_or_else(|| format!("{list} default-deny"), |index| format!("{list}[{index}]")),
        source: places(policy, index.map(|index| (direction, index))),
    }
}

fn considered(rule: &Considered, places: Places<'_>) -> Rule {
    let clause = |clause: &Clause| match clause {
        Clause::Subject => "subject",
        Clause::Peer => "peer",
        Clause::Port => "port",
    };
    let (fit, missing, why) = match &rule.fit {
        Fit::Decides => ("decides", Vec::new(), None),
        Fit::Matches => ("matches", Vec::new(), None),
        Fit::Differs { missing } => ("differs", missing.iter().map(clause).collect(), None),
        Fit::Void(why) => ("void", Vec::new(), Some(why.clone())),
    };
    Rule {
        name: rule_name(&rule.policy, rule.direction, Some(rule.index), places),
        pod: rule.pod.clone(),
        tier: match rule.tier {
            Tier::Admin => "admin",
            Tier::NetworkPolicy => "networkpolicy",
            Tier::Baseline => "baseline",
        },
        action: match rule.action {
            Action::Accept => "accept",
            Action::Deny => "deny",
            Action::Pass => "pass",
        },
        what: rule.what.clone(),
        fit,
        missing,
        why,
    }
}

fn flows(entries: &[Entry]) -> Vec<Flow> {
    let mut before = entries.first().map(|entry| headers(&entry.packet));
    let mut flow = |entry: &Entry| {
        let now = headers(&entry.packet);
        let changed = before.replace(now.clone()).is_some_and(|before| before != now);
        Flow {
            table: entry.table.name(),
            table_id: entry.table.id(),
            priority: entry.priority,
            flow: entry.text.clone(),
            what: entry.reason.what.clone(),
            owners: entry.reason.owners.iter().map(ToString::to_string).collect(),
            packet: changed.then_some(now),
            clauses: entry.clauses.clone(),
            packets: None,
            absent: false,
            cookie: format!("{:#x}", entry.cookie.0),
        }
    };
    entries.iter().map(&mut flow).collect()
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}
