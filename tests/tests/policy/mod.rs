//! Random policies, recorded with what others judged of them, and a world for them to meet.

/// Random policies that others judged too (`simulation_policy.rs`); here their namespaces and labels meet other pods.
const RECORDED: [&str; 2] = [include_str!("all-tiers.jsonl"), include_str!("networkpolicy.jsonl")];

/// Pods with the labels, port names and numbers that the policies ask for; on two nodes in turn.
pub fn world() -> String {
    let pods = [
        (
            "ns0",
            "a",
            "app: a, tier: b",
            "{containerPort: 80, name: http}, {containerPort: 53, protocol: UDP, name: dns}",
        ),
        (
            "ns0",
            "b",
            "app: b, ver: c",
            "{containerPort: 8080, name: http}, {containerPort: 9090, protocol: SCTP, name: metrics}",
        ),
        (
            "ns1",
            "c",
            "tier: a, ver: a",
            "{containerPort: 443, name: metrics}, {containerPort: 80, protocol: UDP, name: http}",
        ),
        ("ns1", "d", "app: c", "{containerPort: 80}, {containerPort: 81, name: http}"),
        (
            "ns2",
            "e",
            "app: a, tier: c, ver: b",
            "{containerPort: 9090, name: metrics}, {containerPort: 81, protocol: UDP, name: dns}",
        ),
        (
            "ns2",
            "f",
            "ver: a",
            "{containerPort: 80, name: dns}, {containerPort: 443, protocol: SCTP, name: http}",
        ),
    ];
    let teams = [("ns0", "{team: a}"), ("ns1", "{team: b}"), ("ns2", "{}")];
    let namespaces = teams.map(|(name, labels)| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}\n")
    });
    let pods = pods.map(|(namespace, name, labels, ports)| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\n\
             spec: {{containers: [{{name: c, image: i, ports: [{ports}]}}]}}\n"
        )
    });
    namespaces.into_iter().chain(pods).collect::<Vec<_>>().join("---\n")
}

/// The policies of a recorded line, their address blocks moved to where the lab's pods live.
pub fn policies((file, line): (usize, usize)) -> String {
    let line = RECORDED[file].lines().nth(line).unwrap();
    let moved = line
        .replace("192.168.", "10.244.")
        .replace("fd01::/16", "fd00::/16")
        .replace("fd01:0::", "fd00:10:244:1::")
        .replace("fd01:1::", "fd00:10:244:1::")
        .replace("fd01:2::", "fd00:10:244:2::")
        .replace("fd01:", "fd00:10:244:");
    let scenario: serde_json::Value = serde_json::from_str(&moved).unwrap();
    let documents = scenario["policies"].as_array().unwrap().iter().map(ToString::to_string);
    documents.collect::<Vec<_>>().join("\n---\n")
}
