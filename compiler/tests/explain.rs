//! What `explain` says is what the reference evaluator says, and its reasons hold: on random networks, for every pair and port.

#![allow(clippy::unwrap_used)]

mod networks;

use std::collections::BTreeMap;
use std::net::IpAddr;

use compiler::Owner;
use compiler::explain::{Cluster, Fit, Phase, Probe, Question, Start};
use compiler::simulate::Outcome;
use network::reference::{Endpoint, verdict};
use network::{Direction, Pod, Protocol, Tier};
use networks::network;
use proptest::prelude::*;

fn of_family(pod: &Pod, ipv4: bool) -> Option<IpAddr> {
    pod.addresses.iter().copied().find(|a| a.is_ipv4() == ipv4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_verdict_is_the_reference_s_and_the_reasons_hold(network in network()) {
        let mut cluster = Cluster::new(&network, BTreeMap::new());
        let living: Vec<&Pod> = network.pods.values().filter(|pod| pod.is_policed()).collect();
        for ipv4 in [true, false] {
            for (from, to) in living.iter().flat_map(|from| living.iter().map(move |to| (from, to))) {
                if from.key == to.key {
                    continue;
                }
                let (Some(source), Some(destination)) = (of_family(from, ipv4), of_family(to, ipv4)) else { continue };
                for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 81), (Protocol::Sctp, 79)] {
                    let expected = verdict(
                        &network,
                        &Endpoint::Pod { key: from.key.clone(), address: source },
                        &Endpoint::Pod { key: to.key.clone(), address: destination },
                        protocol, port,
                    );
                    let ask = |phase| Question {
                        start: Start::Pod(from.key.clone()), source, destination,
                        probe: Probe::Port(protocol, port), phase,
                    };
                    let told = cluster.explain(&ask(Phase::New)).unwrap();
                    let passed = !matches!(told.outcome, Outcome::Dropped { .. });
                    prop_assert_eq!(passed, expected.combined(), "{} -> {} {}/{}: {:#?}", from.key, to.key, protocol, port, told);
                    prop_assert_eq!(passed, told.delivered_to == Some(to.key.clone()));
                    prop_assert!(told.unknown.is_empty());
                    for decision in &told.decisions {
                        let side = if decision.direction == Direction::Ingress { expected.ingress } else { expected.egress };
                        prop_assert_eq!(decision.passes, side, "{:#?}", told);
                    }
                    // Whoever is said to decide by a rule has that rule among the considered ones, as the one that decides.
                    let deciding: Vec<Owner> = told.rules.iter().filter(|rule| rule.fit == Fit::Decides).map(|rule| Owner::Rule {
                        policy: rule.policy.clone(), direction: rule.direction, index: rule.index,
                    }).collect();
                    for decision in &told.decisions {
                        for owner in decision.reason.owners.iter().filter(|owner| matches!(owner, Owner::Rule { .. })) {
                            // A flow of several owners may name rules of policies that select another pod; one at least is of this.
                            let about = told.rules.iter().any(|rule| Owner::Rule {
                                policy: rule.policy.clone(), direction: rule.direction, index: rule.index,
                            } == *owner);
                            prop_assert!(!about || deciding.contains(owner), "{:?} {:#?}", owner, told.rules);
                        }
                        let isolated = decision.reason.owners.iter().any(|owner| matches!(owner, Owner::Isolation { .. }));
                        if isolated {
                            // Default deny: no rule of the tier matches, and each says what it lacks.
                            let of_tier = told.rules.iter().filter(|rule| rule.tier == Tier::NetworkPolicy && rule.direction == decision.direction);
                            for rule in of_tier {
                                let lacks = match &rule.fit {
                                    Fit::Differs { missing } => !missing.is_empty(),
                                    Fit::Void(why) => !why.is_empty(),
                                    Fit::Decides | Fit::Matches => false,
                                };
                                prop_assert!(lacks, "{:#?}", told);
                            }
                        }
                    }
                    // A connection from before is judged again; its reply is cut with it.
                    for phase in [Phase::Established, Phase::Reply] {
                        let told = cluster.explain(&ask(phase)).unwrap();
                        let passed = !matches!(told.outcome, Outcome::Dropped { .. });
                        prop_assert_eq!(passed, expected.combined(), "{:?} {}/{} {:#?}", phase, protocol, port, told);
                    }
                }
            }
        }
    }
}
