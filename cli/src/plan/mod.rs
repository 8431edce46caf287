//! `ferrule plan`: what a change would do to who reaches whom, before it is made.

mod cost;
mod document;
mod expect;
mod note;
mod options;
mod text;
mod verify;

use std::io::{Read, Write};
use std::path::Path;

use network::difference::warnings::warnings;
use network::difference::{arrivals, connectivity, services};
use network::{Network, PolicyId, PolicyKind};
use objects::{ObjectRef, ObjectSet, Problem, SourceText};

use crate::arguments::Output;
use crate::fail::{Fail, Outcome};
use crate::get::{self, json};
use crate::model::{self, Model};
use crate::paint::Paint;
use document::{Assumed, Found, Plan};
use note::Note;
pub use options::Options;

pub fn run(options: &Options) -> Result<Outcome, Fail> {
    let expected = options.expect.as_deref().map(expect::read).transpose()?;
    let change = change(options)?;
    let skipped = change.skipped.clone();
    let (before, after, assumed) = match &options.manifests {
        Some(directory) => {
            let before = model::load(directory, options.nodes)?;
            let after = amended(&before, change, options.delete)?;
            (before, after, Vec::new())
        }
        None => {
            let before = model::of_controller(&get::endpoint(&options.endpoint))?;
            let (after, assumed) = amended_network(&before, change, options.delete)?;
            (before, after, assumed)
        }
    };
    let found = connectivity(&before.network, &after.network);
    verify::verify(&before.network, &after.network, &found.shifts)?;
    let arrivals = arrivals(&before.network, &after.network);
    if let Some((shut, found)) = &arrivals {
        verify::verify(shut, &after.network, &found.shifts)?;
    }
    let checked =
        expected.map(|tuples| expect::check(tuples, &before.network, &after.network)).transpose()?;
    let broken = checked.iter().flatten().any(|expectation| expectation.broken);
    let sources = |time: usize, policy: &PolicyId, field: &str| {
        source([&before.objects, &after.objects][time], policy, field)
    };
    let census = census(&after.network);
    let notes = warnings(&before.network, &after.network, &found);
    let plan = Found {
        connectivity: &found,
        arrivals: arrivals.as_ref().map(|(_, found)| found),
        services: services::changes(&before.network, &after.network),
        costs: cost::count(&before.network, &after.network, options.costs),
        warnings: notes.iter().map(|warning| Note::of(warning, &sources, &census)).collect(),
        assumed,
        skipped,
        expectations: checked,
    };
    let plan = Plan::of(plan, &sources);
    let text = match options.output {
        Output::Json => json(&plan)?,
        Output::Table => text::render(&plan, &census, Paint::stdout()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    // What could not be used is not planned: the answer is not the one that was asked for.
    Ok(match (before.is_clean && after.is_clean, broken, plan.is_empty()) {
        (false, ..) => Outcome::Failed,
        (true, true, _) => Outcome::Broken,
        (true, false, false) => Outcome::Differences,
        (true, false, true) => Outcome::Expected,
    })
}

/// The objects of the change. Nothing is planned when one cannot be read: the others would not be applied either.
fn change(options: &Options) -> Result<ObjectSet, Fail> {
    let (mut texts, mut is_clean) = (Vec::new(), true);
    for path in &options.files {
        if path == Path::new("-") {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| format!("cannot read the standard input: {error}"))?;
            texts.push(SourceText::new("standard input", text));
            continue;
        }
        let (more, unreadable) = lab::manifests::named(path)?;
        model::say_unreadable(&unreadable);
        is_clean &= unreadable.is_empty();
        texts.extend(more);
    }
    let (objects, problems) = objects::read(&texts);
    if !(model::report(&problems) && is_clean) {
        return Err(Fail::Quiet);
    }
    Ok(objects)
}

/// The model after the change.
fn amended(before: &Model, change: ObjectSet, delete: bool) -> Result<Model, Fail> {
    let mut objects = before.objects.clone();
    if delete {
        refuse_missing(&objects.delete(&change))?;
    } else {
        objects.apply(change);
    }
    let (own, mut problems) = objects::nodes(&objects);
    let nodes = if own.is_empty() { before.nodes.clone() } else { own };
    let (network, more) = objects::offline::network_beside(&objects, &nodes, &before.network);
    problems.extend(more);
    let new: Vec<Problem> = problems.iter().filter(|it| !before.problems.contains(it)).cloned().collect();
    let is_clean = model::report(&new);
    Ok(Model { objects, nodes, network, problems, is_clean })
}

/// The same of a network whose objects are not at hand.
fn amended_network(before: &Model, change: ObjectSet, delete: bool) -> Result<(Model, Vec<Assumed>), Fail> {
    let amended = objects::amend(&before.network, &change, delete);
    refuse_missing(&amended.missing)?;
    let is_clean = model::report(&amended.problems) && amended.untold.is_empty();
    let paint = Paint::stderr();
    for object in &amended.untold {
        let why = "what it does to endpoints cannot be told, and is not in the plan: the controller is of a version that does not say \
                   what endpoints come from";
        eprintln!("{} {object}: {why}; ask a newer one, or use --manifests", paint.error("error:"));
    }
    let nodes = amended.network.nodes.values().cloned().collect();
    let assumed = amended.assumed.iter();
    let assumed = assumed.map(|(object, it)| Assumed { object: object.to_string(), text: it.to_string() });
    let assumed = assumed.collect();
    let (network, problems) = (amended.network, amended.problems);
    Ok((Model { objects: change, nodes, network, problems, is_clean }, assumed))
}

fn refuse_missing(missing: &[ObjectRef]) -> Result<(), Fail> {
    let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
    match names.as_slice() {
        [] => Ok(()),
        names => Err(Fail::Said(format!("there is no {} to delete", names.join(", no ")))),
    }
}

/// Where a field of a policy stands.
pub fn source(objects: &ObjectSet, policy: &PolicyId, field: &str) -> Option<String> {
    let origin = match policy.kind {
        PolicyKind::NetworkPolicy => {
            let key = network::NamespacedName::new(&policy.namespace, &policy.name);
            objects.network_policies.get(&key)?.origin.as_ref()?
        }
        PolicyKind::ClusterNetworkPolicy => {
            objects.cluster_network_policies.get(&policy.name)?.origin.as_ref()?
        }
    };
    Some(origin.at(field).to_string())
}

fn census(network: &Network) -> text::Census {
    let mut census = text::Census::new();
    for pod in network.pods.values().filter(|pod| pod.is_policed()) {
        *census.entry(pod.key.namespace().to_owned()).or_default() += 1;
    }
    census
}
