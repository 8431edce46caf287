//! The network that a directory of manifests makes, for every command that works without a cluster. Says what could not be
//! used.

use std::path::Path;

use api::insight::{List, NetworkItem};
use lab::http::Endpoint;
use network::{Network, Node};
use objects::offline::nodes_for;
use objects::{ObjectSet, Problem};

use crate::fail::Fail;
use crate::paint::Paint;

/// A directory of manifests, understood.
#[derive(Debug)]
pub struct Model {
    /// What stands there.
    pub objects: ObjectSet,
    /// The nodes: the manifests' own, where there are any, as the controller would take them; else numbered ones.
    pub nodes: Vec<Node>,
    /// What they make.
    pub network: Network,
    /// What could not be used; it was said.
    pub problems: Vec<Problem>,
    /// Nothing is wrong but for warnings.
    pub is_clean: bool,
}

/// Reads a directory and places its pods on `nodes` nodes when it has none of its own.
pub fn load(directory: &Path, nodes: u8) -> Result<Model, Fail> {
    let (texts, unreadable) = lab::manifests::texts(directory)?;
    say_unreadable(&unreadable);
    let (objects, mut problems) = objects::read(&texts);
    let (own, more) = objects::nodes(&objects);
    problems.extend(more);
    let nodes = if own.is_empty() { nodes_for(&objects, nodes) } else { own };
    let (network, more) = objects::offline::network(&objects, &nodes);
    problems.extend(more);
    let is_clean = report(&problems) && unreadable.is_empty();
    Ok(Model { objects, nodes, network, problems, is_clean })
}

/// What a controller knows, or a bundle of it; its objects are not at hand.
pub fn of_controller(endpoint: &Endpoint) -> Result<Model, Fail> {
    let list: List<NetworkItem> = endpoint.list("network", &[])?;
    let network = list.items.into_iter().next().map(Network::from);
    let network = network.ok_or_else(|| Fail::Said(format!("{endpoint} knows no network")))?;
    let nodes = network.nodes.values().cloned().collect();
    Ok(Model { objects: ObjectSet::default(), nodes, network, problems: Vec::new(), is_clean: true })
}

/// Says which files could not be read.
pub fn say_unreadable(unreadable: &[lab::manifests::Problem]) {
    for problem in unreadable {
        eprintln!("{} {}: {}", Paint::stderr().error("error:"), problem.object, problem.message);
    }
}

/// Says what could not be used; true when that is nothing but warnings.
pub fn report(problems: &[Problem]) -> bool {
    let paint = Paint::stderr();
    let mut is_clean = true;
    for problem in problems {
        let warning = problem.severity() == objects::Severity::Warning;
        is_clean &= warning;
        let label = if warning { paint.warning("warning:") } else { paint.error("error:") };
        eprintln!("{label} {problem}");
    }
    is_clean
}
