//! `ferrule get policies --cost`: what policies cost in flows on each node, of what is there or of manifests that are not.

use api::insight::{CostItem, List, RuleCost};
use network::Network;

use crate::arguments::{Format, Get};
use crate::fail::{Fail, Outcome};
use crate::table::{self, yes};
use crate::{get, matrix};

pub fn run(asked: &Get) -> Result<Outcome, Fail> {
    let (mut list, clean) = match &asked.manifests {
        Some(directory) => {
            let (network, clean) = matrix::network_of(directory, asked.nodes)?;
            let unknown = |name: &&String| !network.nodes.keys().any(|node| node.as_str() == name.as_str());
            if let Some(name) = asked.node.as_ref().filter(unknown) {
                return Err(Fail::Said(format!("there is no node {name} in {}", directory.display())));
            }
            (List::new(offline(&network, asked)), clean)
        }
        None => (get::ask::<CostItem>(asked, "costs")?, true),
    };
    if let Some(namespace) = &asked.namespace {
        list.items
            .retain(|item| name_of(&item.policy).split_once('/').is_some_and(|(own, _)| own == namespace));
    }
    let outcome = get::print(asked, &list, |list| render(list, asked.output == Format::Wide))?;
    // What could not be used is not counted: the answer is not the one that was asked for.
    Ok(if clean { outcome } else { Outcome::Failed })
}

fn offline(network: &Network, asked: &Get) -> Vec<CostItem> {
    let mut items = Vec::new();
    for (node, costs) in compiler::simulate::matrix::costs_all(network) {
        for (id, cost) in &costs.policies {
            let rules = costs.rules.get(id).into_iter().flatten();
            items.push(CostItem {
                node: node.clone(),
                policy: id.to_string(),
                alone: cost.alone,
                adds: cost.adds,
                budget: costs.budget,
                fits: cost.fits,
                rules: rules
                    .map(|((direction, index), flows)| RuleCost::new(*direction, *index, *flows))
                    .collect(),
            });
        }
    }
    let is_asked = |item: &CostItem| {
        asked.node.as_ref().is_none_or(|node| item.node.as_str() == node)
            && asked.policy.as_ref().is_none_or(|text| {
                let name = name_of(&item.policy);
                [item.policy.as_str(), name].contains(&text.as_str())
                    || name.rsplit('/').next() == Some(text.as_str())
            })
    };
    items.retain(is_asked);
    items
}

/// Without the kind.
fn name_of(policy: &str) -> &str {
    policy.split_once(' ').map_or(policy, |(_, name)| name)
}

fn render(list: &List<CostItem>, wide: bool) -> String {
    if list.items.is_empty() {
        return "no policies found\n".into();
    }
    let mut headings = vec!["NODE", "POLICY", "RULE", "FLOWS", "BESIDE THE OTHERS", "FITS"];
    headings.extend(wide.then_some("BUDGET"));
    let mut rows = Vec::new();
    for item in &list.items {
        let of = |rule: &str, flows: usize, adds: String, fits: String| {
            let place = [item.node.to_string(), item.policy.clone(), rule.to_owned(), flows.to_string()];
            let mut row: Vec<String> = place.into_iter().chain([adds, fits]).collect();
            row.extend(wide.then(|| item.budget.to_string()));
            row
        };
        rows.push(of("all", item.alone, item.adds.to_string(), yes(item.fits)));
        rows.extend(item.rules.iter().map(|rule| of(&rule.rule, rule.flows, "-".into(), "-".into())));
    }
    table::columns(&headings, rows) + "\n"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::arguments::{Command, Ferrule};

    #[test]
    fn manifests_that_nobody_installed_have_costs() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../objects/tests/manifests");
        let words = "ferrule get policies --cost --policy shop/cart --manifests".split(' ');
        let words = words.map(Into::into).chain([directory.clone().into_os_string()]);
        let Ok(Ferrule { command: Command::Get(asked) }) = Ferrule::try_parse_from(words) else { panic!() };
        let (network, _) = matrix::network_of(&directory, 1).unwrap();
        let items = offline(&network, &asked);
        let said = render(&List::new(items.clone()), true);
        let [item] = &items[..] else { panic!("{said}") };
        assert_eq!((item.policy.as_str(), item.fits, item.rules.len()), ("NetworkPolicy shop/cart", true, 2));
        // One pod, one other pod, one port in two families, and the flow that decides; the subject is the same for both.
        assert_eq!((item.rules[0].flows, item.alone), (5, 9), "{said}");
        assert_eq!(said.lines().count(), 4, "{said}");
    }
}
