//! Expectations: tuples that must be allowed or denied after a change (docs/contracts.md, "Expectations").

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use network::matrix::{Entry, Participant, ServedPort};
use network::reference::{Endpoint, verdict};
use network::{NamespacedName, Network, Pod};
use serde::{Deserialize, Serialize};

use crate::fail::Fail;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    allowed: Vec<Tuple>,
    #[serde(default)]
    denied: Vec<Tuple>,
}

/// One tuple of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuple {
    /// `NAMESPACE/POD` where `*` stands for any letters, `node:NAME`, or an address.
    pub from: String,
    /// The same, or `service:NAMESPACE/NAME`, whose port is then the Service's.
    pub to: String,
    /// `TCP/80`.
    pub port: ServedPort,
}

/// What became of one.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expectation {
    #[serde(flatten)]
    pub tuple: Tuple,
    /// `allowed` or `denied`.
    pub expected: &'static str,
    /// It is not so after the change.
    pub broken: bool,
    /// It was not so before either.
    pub broken_before: bool,
    /// The pairs for which it is not so.
    pub because: Vec<String>,
}

/// Reads a file of expectations.
pub fn read(path: &Path) -> Result<Vec<(Tuple, bool)>, Fail> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let file: File = serde_saphyr::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
    if (file.api_version.as_str(), file.kind.as_str()) != (api::insight::API_VERSION, "Expectations") {
        let (version, kind) = (file.api_version, file.kind);
        let wanted = format!("apiVersion {} and kind Expectations", api::insight::API_VERSION);
        return Err(Fail::Said(format!("{name}: it is {version} {kind}; write {wanted}")));
    }
    let allowed = file.allowed.into_iter().map(|tuple| (tuple, true));
    let tuples: Vec<_> = allowed.chain(file.denied.into_iter().map(|tuple| (tuple, false))).collect();
    if tuples.is_empty() {
        return Err(Fail::Said(format!("{name}: it expects nothing; list tuples under allowed or denied")));
    }
    Ok(tuples)
}

/// Holds the tuples against the networks. One that matches nobody after the change is an error: it would be kept whatever
/// happens.
pub fn check(
    tuples: Vec<(Tuple, bool)>,
    before: &Network,
    after: &Network,
) -> Result<Vec<Expectation>, Fail> {
    let one = |(tuple, allowed): (Tuple, bool)| -> Result<Expectation, Fail> {
        let asked = pairs(after, &tuple)?;
        let wrong = |network: &Network, pair: &Pair| {
            let verdicts = pair.verdicts(network);
            // Allowed in every family and at every endpoint, or in none at all.
            if allowed { verdicts.is_empty() || verdicts.contains(&false) } else { verdicts.contains(&true) }
        };
        let because: Vec<String> =
            asked.iter().filter(|pair| wrong(after, pair)).map(ToString::to_string).collect();
        let earlier = pairs(before, &tuple).unwrap_or_default();
        Ok(Expectation {
            tuple,
            expected: if allowed { "allowed" } else { "denied" },
            broken: !because.is_empty(),
            broken_before: earlier.iter().any(|pair| wrong(before, pair)),
            because,
        })
    };
    tuples.into_iter().map(one).collect()
}

/// Two ends and a port, with all addresses.
struct Pair {
    from: Participant,
    to: Participant,
    port: ServedPort,
    /// What a Service leads to: for each endpoint its own port.
    endpoints: Option<Vec<(Participant, u16)>>,
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} → {} {}", word(&self.from), word(&self.to), self.port)
    }
}

fn word(participant: &Participant) -> String {
    match (&participant.entry, participant.sources.first()) {
        (Entry::Outside, Some(Endpoint::Outside(address))) => address.to_string(),
        (entry, _) => entry.to_string(),
    }
}

impl Pair {
    /// One verdict per family that both ends have (and per endpoint).
    fn verdicts(&self, network: &Network) -> Vec<bool> {
        let whole = [(self.to.clone(), self.port.port)];
        let targets = self.endpoints.as_deref().unwrap_or(&whole);
        let mut verdicts = Vec::new();
        for (to, port) in targets {
            for source in &self.from.sources {
                let same_family = |it: &&Endpoint| it.address().is_ipv4() == source.address().is_ipv4();
                for destination in to.destinations.iter().filter(same_family) {
                    verdicts
                        .push(verdict(network, source, destination, self.port.protocol, *port).combined());
                }
            }
        }
        verdicts
    }
}

fn pairs(network: &Network, tuple: &Tuple) -> Result<Vec<Pair>, Fail> {
    let sources = participants(network, &tuple.from)?;
    let mut pairs = Vec::new();
    if let Some(name) = tuple.to.strip_prefix("service:") {
        let key: NamespacedName = name.parse().map_err(|error| format!("{}: {error}", tuple.to))?;
        let endpoints = behind(network, &key, tuple.port)?;
        for from in sources {
            let (sources, destinations) = (Vec::new(), Vec::new());
            let entry = Entry::Service(key.clone());
            let to = Participant { entry, sources, destinations, serves: BTreeSet::new() };
            pairs.push(Pair { from, to, port: tuple.port, endpoints: Some(endpoints.clone()) });
        }
        return Ok(pairs);
    }
    let targets = participants(network, &tuple.to)?;
    for from in sources {
        for to in targets.iter().filter(|to| to.entry != from.entry || to.entry == Entry::Outside) {
            let pair = Pair { from: from.clone(), to: to.clone(), port: tuple.port, endpoints: None };
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

/// Whom a text names; somebody, or it is an error.
fn participants(network: &Network, text: &str) -> Result<Vec<Participant>, Fail> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(vec![Participant::outside(&[address], BTreeSet::new())]);
    }
    let mut found = Vec::new();
    if let Some(wanted) = text.strip_prefix("node:") {
        for node in network.nodes.values().filter(|node| fits(wanted, node.name.as_str())) {
            found.push(Participant::node(&node.name, &node.addresses, &node.addresses, BTreeSet::new()));
        }
    } else if let Some((namespace, name)) = text.split_once('/') {
        let named =
            |pod: &&Pod| !pod.completed && fits(namespace, pod.key.namespace()) && fits(name, pod.key.name());
        found.extend(network.pods.values().filter(named).map(Participant::pod));
    } else {
        let how = "NAMESPACE/POD (with * for any letters), node:NAME, service:NAMESPACE/NAME or an address";
        return Err(Fail::Said(format!("`{text}` names no end of a connection: write {how}")));
    }
    if found.is_empty() {
        let hint = nearest(network, text).map_or(String::new(), |near| format!("; did you mean {near}?"));
        return Err(Fail::Said(format!("nothing is called `{text}` after the change{hint}")));
    }
    Ok(found)
}

/// The endpoints of a port of a Service that can be used, each with its own port.
fn behind(
    network: &Network,
    key: &NamespacedName,
    port: ServedPort,
) -> Result<Vec<(Participant, u16)>, Fail> {
    let service = network.services.get(key).ok_or_else(|| format!("there is no Service {key}"))?;
    let served = service.resolved(network).ports.into_iter();
    let served = served.filter(|it| it.port == port.port && it.protocol == port.protocol);
    let served: Vec<_> = served.collect();
    if served.is_empty() {
        return Err(Fail::Said(format!("Service {key} has no port {port}")));
    }
    let mut endpoints = Vec::new();
    for endpoint in served.iter().flat_map(|port| &port.endpoints).filter(|endpoint| endpoint.ready) {
        let participant = match endpoint.pod.as_ref().and_then(|key| network.pods.get(key)) {
            Some(pod) => Participant::pod(pod),
            None => {
                let addresses: Vec<IpAddr> = endpoint.addresses.iter().copied().collect();
                Participant::outside(&addresses, BTreeSet::new())
            }
        };
        endpoints.push((participant, endpoint.port));
    }
    Ok(endpoints)
}

/// Whether a name is the pattern's, in which `*` stands for any letters.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(place) => left = &left[place + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

/// The pod or node whose name is the most like a text.
fn nearest(network: &Network, text: &str) -> Option<String> {
    let pods = network.pods.keys().map(ToString::to_string);
    let names = pods.chain(network.nodes.keys().map(|name| format!("node:{name}")));
    let (distance, name) = names.map(|name| (distance(text, &name), name)).min()?;
    (distance <= text.len().div_ceil(3)).then_some(name)
}

/// Letters to change, add or take away (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_distances() {
        for (pattern, name) in
            [("a*", "abc"), ("*", ""), ("a*c", "abc"), ("a*b*c", "axxbyyc"), ("abc", "abc")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a*", "ba"), ("a*c", "ac d"), ("ab", "abc"), ("a*a", "a")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
        assert_eq!([distance("cart", "card"), distance("", "ab"), distance("ab", "ba")], [1, 2, 2]);
    }
}
