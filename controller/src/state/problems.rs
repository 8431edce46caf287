//! What is to be shown of what is not as it should be: one list of all that this controller, its source and its agents say.

use super::State;
use crate::source::{Problem, Reason};

impl State {
    /// Everything that could not be used: by the source, of the bindings, by the agents.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self
            .source
            .iter()
            .flat_map(|source| source.problems.iter())
            .chain(&self.progress.problems)
            .chain(&self.refused)
            .cloned()
            .collect();
        for (node, agent) in &self.agents {
            problems.extend(agent.rejected().map(|(id, reason)| Problem {
                object: id.map_or_else(|| format!("Node {node}"), ToString::to_string),
                source: format!("agent of node {node}"),
                message: format!("not in force there: {reason}"),
                reason: Reason::NotRealized,
            }));
            problems.extend(agent.drifted().map(|what| Problem {
                object: format!("Node {node}"),
                source: format!("agent of node {node}"),
                message: what.to_owned(),
                reason: Reason::Drifted,
            }));
        }
        problems.extend(self.garbage.iter().map(|(node, error)| Problem {
            object: format!("Node {node}"),
            source: format!("agent of node {node}"),
            message: format!("its agent sent something malformed ({error}); is it of another version?"),
            reason: Reason::NotRealized,
        }));
        problems.sort();
        problems.dedup();
        problems
    }
}
