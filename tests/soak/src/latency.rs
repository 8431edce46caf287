//! How long sandboxes wait for their network: what agents say of each request of the CNI binary, and containerd of each sandbox.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;

use crate::place::Place;

/// What was gathered so far.
#[derive(Debug, Default)]
pub struct Latencies {
    /// Lines of agents' logs about ADD: a line is gathered once.
    adds: BTreeSet<String>,
    /// Lines of containerd's about sandboxes, by node.
    sandboxes: BTreeMap<String, BTreeSet<String>>,
    /// Lines of before the soak, of either log: they do not count.
    before: BTreeSet<String>,
}

impl Latencies {
    /// Of what logs say from now on.
    pub fn from_now(place: &Place) -> Mutex<Self> {
        let all = Mutex::new(Self::default());
        gather(place, &all);
        let Self { adds, sandboxes, .. } = all.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before = adds.into_iter().chain(sandboxes.into_values().flatten()).collect();
        Mutex::new(Self { before, ..Self::default() })
    }

    /// Takes lines of a node's agent and of its containerd.
    fn take(&mut self, node: &str, adds: &str, containerd: &str) {
        let new = |line: &String| !self.before.contains(line);
        self.adds.extend(adds.lines().map(|line| format!("{node} {line}")).filter(new));
        let sandboxes = containerd.lines().filter(|line| line.contains("RunPodSandbox for"));
        // The node comes first here, too: two nodes may say the same at one time.
        let sandboxes = sandboxes.map(|line| format!("{node} {line}")).filter(new);
        self.sandboxes.entry(node.to_owned()).or_default().extend(sandboxes);
    }
}

/// Reads what is new; a node that cannot be asked now is asked the next time.
pub fn gather(place: &Place, latencies: &Mutex<Latencies>) {
    const ADDS: &str = r#"cat /var/log/pods/kube-system_ferrule-agent-*/agent/*.log | grep '"ADD"' || true"#;
    for node in place.nodes() {
        let adds = place.shell(node, ADDS).unwrap_or_default();
        let name = node.name().as_str().to_owned();
        let log = place.cluster.logs().join(format!("{name}.containerd.log"));
        let log = std::fs::read_to_string(log).unwrap_or_default();
        // A poisoned lock still has what was gathered.
        let mut all = latencies.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        all.take(&name, &adds, &log);
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let succeeded = |line: &&String| field(line, "\"code\":").is_some_and(|code| code == 0.0);
        let adds =
            self.adds.iter().filter(succeeded).filter_map(|line| field(line, "\"elapsed_ms\":")).collect();
        let refused = self.adds.iter().filter(|line| !succeeded(line)).count();
        let sandboxes = self.sandboxes.values().flat_map(durations).collect();
        writeln!(
            f,
            "network asked for → ready (ADD, at the agent): {}; {refused} were told to try again or failed",
            percentiles(adds)
        )?;
        write!(
            f,
            "sandbox asked for → made (RunPodSandbox of containerd, that in it): {}",
            percentiles(sandboxes)
        )
    }
}

/// A number behind a name in a line of JSON.
fn field(line: &str, name: &str) -> Option<f64> {
    let (_, rest) = line.split_once(name)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// From `RunPodSandbox for &PodSandboxMetadata{…}` to the line of the same that `returns sandbox id`, in milliseconds.
fn durations(lines: &BTreeSet<String>) -> Vec<f64> {
    let mut began: BTreeMap<&str, f64> = BTreeMap::new();
    let mut all = Vec::new();
    // Sorted: each begins with its node, which is the same, and its time.
    for line in lines {
        let parsed = line.split_once("RunPodSandbox for ").and_then(|(head, rest)| {
            let end = rest.find('}')?;
            Some((time_of_day(head)?, &rest[..end], &rest[end..]))
        });
        let Some((time, metadata, rest)) = parsed else { continue };
        if rest.contains("returns sandbox id") {
            if let Some(begin) = began.remove(metadata) {
                // Over midnight.
                all.push((time - begin).rem_euclid(86_400_000.0));
            }
        } else if !rest.contains("failed") {
            began.insert(metadata, time);
        }
    }
    all
}

/// Milliseconds of the day in `time="2026-01-01T07:12:50.123456789Z"`.
fn time_of_day(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once("time=\"")?;
    let (_, clock) = rest.split_once('"')?.0.trim_end_matches('Z').split_once('T')?;
    let mut parts = clock.splitn(3, ':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(((hours * 60.0 + minutes) * 60.0 + seconds) * 1000.0)
}

/// `p50 … ms, p99 … ms of N`.
fn percentiles(mut all: Vec<f64>) -> String {
    if all.is_empty() {
        return "none was seen".to_owned();
    }
    all.sort_by(f64::total_cmp);
    let at = |share: usize| all[(all.len() - 1) * share / 100];
    format!("p50 {:.0} ms, p99 {:.0} ms, longest {:.0} ms, of {}", at(50), at(99), at(100), all.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_agent_and_containerd_are_read() {
        let said = r#"stdout F {"timestamp":"x","fields":{"message":"CNI","command":"ADD","code":0,"elapsed_ms":12.5}}"#;
        assert_eq!((field(said, "\"code\":"), field(said, "\"elapsed_ms\":")), (Some(0.0), Some(12.5)));
        let lines = [
            r#"time="2026-01-01T23:59:59.900000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:a,Attempt:0,}""#,
            r#"time="2026-01-01T23:59:59.950000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:b,Attempt:0,}""#,
            r#"time="2026-01-02T00:00:00.100000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:a,Attempt:0,} returns sandbox id \"x\"""#,
            r#"time="2026-01-02T00:00:00.200000000Z" level=error msg="RunPodSandbox for &PodSandboxMetadata{Name:b,Attempt:0,} failed, error""#,
        ];
        let found = durations(&lines.map(str::to_owned).into());
        assert!(found.len() == 1 && (found[0] - 200.0).abs() < 0.001, "{found:?}");
        let mut all = Latencies { before: [format!("node-1 {}", lines[0])].into(), ..Latencies::default() };
        all.take("node-1", said, &lines.join("\n"));
        assert_eq!(
            (all.adds.len(), all.sandboxes["node-1"].len()),
            (1, 3),
            "what was there before does not count"
        );
        assert_eq!(percentiles(vec![3.0, 1.0, 2.0]), "p50 2 ms, p99 2 ms, longest 3 ms, of 3");
        assert_eq!(percentiles(Vec::new()), "none was seen");
    }
}
