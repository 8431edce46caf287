//! What clients heard, held against what they may hear: a stranger nothing; a friend everything, but while a datapath on its way restarted, or
//! while the machine had no processor for the client.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};

use crate::faults::{Fault, Kind};
use crate::objects::{self, FRIEND, ITSELF, NAMESPACE, STRANGER};
use crate::place::Place;

/// After a switch serves again, neighbours are asked for anew, and a client that waited asks again.
const AFTER: f64 = 5.0;
/// A client that takes so long to hear itself waits for a processor, so what it loses meanwhile tells nothing of the network.
const STARVED: f64 = 1.0;

/// One ask of a client; times are seconds since boot.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub stranger: bool,
    pub node: String,
    pub target: String,
    /// The target's node; a Service's is none.
    pub at: Option<String>,
    pub begin: f64,
    pub end: f64,
    pub passed: bool,
}

/// Reads what all clients have said.
pub fn hear(place: &Place) -> Result<Vec<Ask>> {
    let servers: BTreeMap<_, _> = objects::servers(place)?.into_iter().collect();
    let mut asks = Vec::new();
    for kind in [FRIEND, STRANGER] {
        for (pod, node) in objects::pods(place, &format!("app={kind}"), "metadata.name")? {
            let said = place.kubectl(&["--namespace", NAMESPACE, "logs", &pod, "--request-timeout=0"])?;
            let lines = said.lines().filter_map(|line| ask(line, kind == STRANGER, &node, &servers));
            let before = asks.len();
            asks.extend(lines);
            (asks.len() > before).then_some(()).with_context(|| format!("{pod} has said nothing"))?;
        }
    }
    Ok(asks)
}

/// `BEGIN END passed|lost TARGET`.
fn ask(line: &str, stranger: bool, node: &str, servers: &BTreeMap<String, String>) -> Option<Ask> {
    let mut words = line.split(' ');
    let (begin, end) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let passed = words.next()? == "passed";
    let target = words.next()?.to_owned();
    Some(Ask {
        stranger,
        node: node.to_owned(),
        at: servers.get(&target).cloned(),
        target,
        begin,
        end,
        passed,
    })
}

/// What the asks came to.
#[derive(Debug, Default)]
pub struct Verdict {
    answered: usize,
    /// Lost while a datapath on the way restarted.
    excused: usize,
    /// Lost while the client did not hear itself either.
    starved: usize,
    lost: Vec<Ask>,
    kept_out: usize,
    let_in: Vec<Ask>,
    /// Seconds without a datapath, of all nodes together.
    down: f64,
}

/// Holds asks against faults.
pub fn judge(asks: &[Ask], faults: &[Fault]) -> Verdict {
    let mut verdict = Verdict::default();
    let switches = |fault: &&Fault| matches!(fault.kind, Kind::Switch(_));
    verdict.down = faults.iter().filter(switches).map(|fault| fault.back - fault.killed).sum();
    let (alone, asks): (Vec<_>, Vec<_>) = asks.iter().partition(|ask| ask.target == ITSELF);
    let starved = |ask: &Ask| {
        let same = |own: &&Ask| own.node == ask.node && own.stranger == ask.stranger;
        let slow = |own: &Ask| own.end - own.begin >= STARVED || !own.passed;
        alone
            .iter()
            .filter(|own| same(own))
            .any(|own| slow(own) && own.begin <= ask.end && own.end >= ask.begin)
    };
    for ask in asks {
        match (ask.stranger, ask.passed) {
            (true, true) => verdict.let_in.push(ask.clone()),
            (true, false) => verdict.kept_out += 1,
            (false, true) => verdict.answered += 1,
            (false, false) if faults.iter().any(|fault| excuses(fault, ask)) => verdict.excused += 1,
            (false, false) if starved(ask) => verdict.starved += 1,
            (false, false) => verdict.lost.push(ask.clone()),
        }
    }
    verdict
}

fn excuses(fault: &Fault, ask: &Ask) -> bool {
    let Kind::Switch(node) = fault.kind else { return false };
    let on_the_way = [Some(&ask.node), ask.at.as_ref()].contains(&Some(&node.name().as_str().to_owned()));
    on_the_way && ask.begin <= fault.back + AFTER && ask.end >= fault.killed
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.lost.len();
        writeln!(
            f,
            "allowed: {} asks answered, {} lost while a datapath on their way restarted ({:.0} s of {AFTER} s more each), {} while their client did not hear itself for {STARVED} s, {lost} lost otherwise",
            self.answered, self.excused, self.down, self.starved
        )?;
        write!(f, "denied: {} asks kept out, {} let in", self.kept_out, self.let_in.len())
    }
}

impl Verdict {
    /// What should not have been.
    pub fn wrong(&self) -> Vec<String> {
        let said = |what: &str, asks: &[Ask]| {
            let first = asks.first()?;
            let places =
                format!("{} → {} ({})", first.node, first.target, first.at.as_deref().unwrap_or("a Service"));
            Some(format!("{} asks were {what}, the first at {:.1}: {places}", asks.len(), first.begin))
        };
        let nothing = (self.answered == 0).then(|| "no client was answered".to_owned());
        let unasked = (self.kept_out == 0).then(|| "no stranger asked".to_owned());
        [said("lost", &self.lost), said("let in", &self.let_in), nothing, unasked]
            .into_iter()
            .flatten()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::NodeIndex;

    fn said(line: &str, stranger: bool) -> Ask {
        let servers = BTreeMap::from([("10.0.0.2".to_owned(), "node-2".to_owned())]);
        ask(line, stranger, "node-1", &servers).unwrap()
    }

    #[test]
    fn only_a_switch_on_the_way_excuses_a_loss() {
        let lost = said("100.5 105.5 lost 10.0.0.2", false);
        let fault = |kind, killed| Fault { kind, killed, back: killed + 3.0 };
        let judged = |faults: &[Fault]| judge(std::slice::from_ref(&lost), faults);
        for (kind, killed, excused) in [
            (Kind::Switch(NodeIndex(2)), 104.0, 1),
            (Kind::Switch(NodeIndex(1)), 93.0, 1),
            (Kind::Switch(NodeIndex(3)), 104.0, 0),
            (Kind::Switch(NodeIndex(2)), 80.0, 0),
            (Kind::Switch(NodeIndex(2)), 106.0, 0),
            (Kind::Agent(NodeIndex(2)), 104.0, 0),
        ] {
            let verdict = judged(&[fault(kind.clone(), killed)]);
            assert_eq!((verdict.excused, verdict.lost.len()), (excused, 1 - excused), "{kind} at {killed}");
        }
    }

    #[test]
    fn whoever_does_not_hear_itself_tells_nothing_of_the_network() {
        let lost = said("100.5 105.5 lost 10.0.0.2", false);
        for (own, stranger, starved) in [
            ("104 105.5 passed 127.0.0.1", false, 1),
            ("105 105.3 lost 127.0.0.1", false, 1),
            ("104 104.2 passed 127.0.0.1", false, 0),
            ("98 100 passed 127.0.0.1", false, 0),
            ("104 105.5 passed 127.0.0.1", true, 0),
        ] {
            let verdict = judge(&[lost.clone(), said(own, stranger)], &[]);
            assert_eq!((verdict.starved, verdict.lost.len()), (starved, 1 - starved), "{own}");
            assert_eq!((verdict.answered, verdict.let_in.len()), (0, 0), "nobody is let in by itself");
        }
    }

    #[test]
    fn whoever_is_let_in_is_named() {
        let asks = [
            said("1 2 passed 10.0.0.2", true),
            said("1 2 passed 10.0.0.2", false),
            said("1 2 lost 10.96.0.9", true),
        ];
        let verdict = judge(&asks, &[]);
        assert_eq!(verdict.wrong(), ["1 asks were let in, the first at 1.0: node-1 → 10.0.0.2 (node-2)"]);
        assert_eq!((verdict.answered, verdict.kept_out), (1, 1));
        assert_eq!(ask("wget: bad", true, "node-1", &BTreeMap::new()), None);
    }
}
