//! Warnings of a plan, in words.

use network::difference::warnings::{Lifeline, Open, RuleId, Warning};
use network::{Direction, PolicyId};
use serde::Serialize;

use super::document::{Members, Sources, members};
use super::text::{Census, summary};

/// One warning.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// `selectsNobody`, `nobodyMeant`, `undeclaredPort`, `shadowed`, `wideOpen`, `losesDns`, `losesApiServer`, `losesProbes`.
    pub kind: &'static str,
    /// `NetworkPolicy shop/cart`, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// `ingress[0]`, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// File, line and column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whom it is about, where it is not a policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<Members>,
    /// What is wrong and what to look at.
    pub text: String,
}

impl Note {
    pub fn of(warning: &Warning, sources: &Sources<'_>, census: &Census) -> Self {
        match warning {
            Warning::SelectsNobody(policy) => {
                let source = sources(1, policy, "spec.podSelector");
                let text = "selects no pod: it has no effect until one has its labels".to_owned();
                Self::about("selectsNobody", Some(policy), source, text)
            }
            Warning::NobodyMeant(rule) => {
                let text = "its peers are nobody: no pod or node has these labels".to_owned();
                Self::rule("nobodyMeant", rule, sources, text)
            }
            Warning::UndeclaredPort(rule, name) => {
                let text = format!("no pod declares a port `{name}`: it opens nothing by that name");
                Self::rule("undeclaredPort", rule, sources, text)
            }
            Warning::Shadowed { rule, by } => {
                let text = format!("has no effect: {} {} says all of it", by.policy, rule_name(by));
                Self::rule("shadowed", rule, sources, text)
            }
            Warning::WideOpen(rule, open) => {
                let whom = match open {
                    Open::Everybody => "everybody, in the cluster and outside",
                    Open::EveryAddress => "every address, in the cluster and outside",
                    Open::EveryPod => "every pod of every namespace",
                };
                Self::rule("wideOpen", rule, sources, format!("lets in {whom}"))
            }
            Warning::Loses { pods, lifeline, ports } => {
                let pods = members(pods);
                let (kind, what) = match lifeline {
                    Lifeline::Dns => ("losesDns", "cannot ask the cluster's DNS any more"),
                    Lifeline::ApiServer => ("losesApiServer", "cannot reach the API server any more"),
                    Lifeline::Probes => ("losesProbes", "cannot be probed by their own node any more"),
                };
                let text = format!("{} {what} ({ports})", summary(&pods, census));
                Self { pods: Some(pods), ..Self::about(kind, None, None, text) }
            }
        }
    }

    fn rule(kind: &'static str, rule: &RuleId, sources: &Sources<'_>, text: String) -> Self {
        let name = rule_name(rule);
        let source = sources(1, &rule.policy, &format!("spec.{name}"));
        Self { rule: Some(name), ..Self::about(kind, Some(&rule.policy), source, text) }
    }

    fn about(kind: &'static str, policy: Option<&PolicyId>, source: Option<String>, text: String) -> Self {
        Self { kind, policy: policy.map(ToString::to_string), rule: None, source, pods: None, text }
    }
}

fn rule_name(rule: &RuleId) -> String {
    let direction = match rule.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    format!("{direction}[{}]", rule.index)
}
