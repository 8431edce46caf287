//! From the texts of a directory to the network, by way of the `objects` crate. No files, no state.

use std::collections::BTreeMap;
use std::sync::Arc;

use network::Network;
use objects::{Fault, SourceText};

use crate::manifests::Translate;
use crate::source::{Problem, Reason};

/// Kubernetes objects: pods are placed without a scheduler, addresses are those of the objects (agents report the rest).
#[derive(Clone, Copy, Debug, Default)]
pub struct Objects;

impl Translate for Objects {
    fn check(&self, name: &str, text: &str) -> Result<(), String> {
        let (_, problems) = objects::read(&[SourceText::new(name, text)]);
        match problems.into_iter().find(|problem| matches!(problem.fault, Fault::Unreadable { .. })) {
            None => Ok(()),
            Some(problem) => {
                let line = problem.source.map(|source| format!("line {}: ", source.line)).unwrap_or_default();
                Err(format!("{line}{}", problem.fault))
            }
        }
    }

    fn translate(&self, files: &BTreeMap<String, Arc<str>>) -> (Network, Vec<Problem>) {
        let texts: Vec<SourceText> =
            files.iter().map(|(name, text)| SourceText::new(name, &**text)).collect();
        let (set, mut problems) = objects::read(&texts);
        drop(texts);
        let (nodes, found) = objects::nodes(&set);
        problems.extend(found);
        let placement = objects::place(&set, &nodes);
        problems.extend(placement.problems);
        let (network, found) = objects::translate(&set, &nodes, &placement.pods);
        problems.extend(found);
        (network, problems.iter().map(told).collect())
    }
}

/// A problem of objects for people.
pub(crate) fn told(problem: &objects::Problem) -> Problem {
    let source = problem.source.as_ref().map(ToString::to_string).unwrap_or_default();
    let field = problem.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
    Problem {
        object: problem.object.as_ref().map_or_else(|| source.clone(), ToString::to_string),
        source,
        message: format!("{field}{}; {}", problem.what(), problem.cure()),
        reason: Reason::NotRealized,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: db, namespace: shop}\n\
        spec:\n  podSelector: {}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/40}\n";

    fn network(files: &[(&str, &str)]) -> (Network, Vec<Problem>) {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), Arc::from(*text))).collect();
        Objects.translate(&files)
    }

    #[test]
    fn a_problem_names_the_policy_as_the_model_does_and_says_where() {
        let (network, problems) = network(&[("policy.yaml", POLICY)]);
        let id = network.policies.keys().next().unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].object, id.to_string());
        assert!(problems[0].source.starts_with("policy.yaml:8:"), "{problems:?}");
        assert!(problems[0].message.contains("prefix length 40"), "{problems:?}");
    }

    #[test]
    fn what_cannot_be_parsed_is_told_with_its_line() {
        assert_eq!(
            Objects.check("policy.yaml", POLICY),
            Ok(()),
            "an impossible value is no matter of syntax"
        );
        let error = Objects.check("x.yaml", "kind: Pod\napiVersion: v1\nmetadata: {name: [\n").unwrap_err();
        assert!(error.starts_with("line "), "{error}");
    }
}
