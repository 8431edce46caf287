//! Random policies of every kind against the tables of an independent evaluator: `policy/networkpolicy.jsonl` holds
//! NetworkPolicies alone, `policy/all-tiers.jsonl` ClusterNetworkPolicies beside them. The evaluator was written from the texts
//! of the two APIs, in another language, and knows nothing of this project.

#![allow(clippy::unwrap_used)]

use network::Matrix;
use objects::{Scenario, SourceText, scenarios};

const RECORDED: [(&str, &str); 2] = [
    ("networkpolicy.jsonl", include_str!("policy/networkpolicy.jsonl")),
    ("all-tiers.jsonl", include_str!("policy/all-tiers.jsonl")),
];

/// Compares every scenario's table with what an engine predicts; gives how many cells other than the diagonal there were.
fn compare(engine: impl Fn(&Scenario) -> Matrix) -> usize {
    let mut cells = 0;
    for (name, text) in RECORDED {
        let (scenarios, problems) = scenarios(&SourceText::new(name, text));
        assert_eq!(problems, []);
        for scenario in &scenarios {
            let expected = scenario.expected.as_ref().unwrap();
            let differences = engine(scenario).differences(expected);
            assert!(differences.is_empty(), "{name} {:?}: {differences:#?}", scenario.id);
            let size = scenario.order.len();
            cells += expected.table.values().map(|grids| grids.len() * size * (size - 1)).sum::<usize>();
        }
    }
    cells
}

#[test]
fn the_reference_agrees_with_an_independent_evaluator() {
    assert!(compare(Scenario::predict) > 10_000);
}

#[test]
fn the_compiled_flows_agree_with_an_independent_evaluator() {
    let flows = |scenario: &Scenario| {
        compiler::simulate::matrix::predict(&scenario.network, &scenario.participants())
    };
    assert!(compare(flows) > 10_000);
}
