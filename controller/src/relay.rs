//! Questions for agents: asked over their streams, answered within [`TIMEOUT`], the lists put together. Knows no kinds.

use std::time::Duration;

use api::generated::ferrule::v1alpha1 as wire;
use api::insight;
use network::NodeName;
use serde_json::Value;

use crate::owner::{Gone, Owner};
use crate::state::Asked;

/// How long agents have to answer.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// What the agents' answers come to.
#[derive(Debug)]
pub enum Relayed {
    /// A list; what is missing in it is among its warnings.
    List(insight::List<Value>),
    /// There is no such node.
    NoSuchNode,
    /// The agents that answered all refused the question; the first of their answers.
    Refused {
        /// HTTP status.
        status: u16,
        /// JSON.
        body: Vec<u8>,
    },
}

/// Asks one node or all of them for a list of `kind`; they get `path` with its query.
pub async fn ask(owner: &Owner, node: Option<NodeName>, path: String, kind: &str) -> Result<Relayed, Gone> {
    let Some(asked) = owner.ask(node, path).await? else { return Ok(Relayed::NoSuchNode) };
    let until = tokio::time::Instant::now() + TIMEOUT;
    let mut list = insight::List::<Value> {
        api_version: insight::API_VERSION.into(),
        kind: format!("{kind}List"),
        items: Vec::new(),
        warnings: Vec::new(),
    };
    let (mut answered, mut refused) = (false, None);
    for (node, asked) in asked {
        let answer = match wait(asked, until).await {
            Ok(answer) => answer,
            Err(reason) => {
                list.warnings.push(format!("node {node}: {reason}"));
                continue;
            }
        };
        if (400..500).contains(&answer.status) {
            list.warnings.push(format!("node {node}: {}", message_of(&answer)));
            refused.get_or_insert((u16::try_from(answer.status).unwrap_or(400), answer.json));
            continue;
        }
        match serde_json::from_slice::<insight::List<Value>>(&answer.json) {
            Ok(part) if answer.status == 200 && part.kind == list.kind => {
                answered = true;
                list.items.extend(part.items);
                list.warnings
                    .extend(part.warnings.into_iter().map(|warning| format!("node {node}: {warning}")));
            }
            Ok(part) => {
                list.warnings.push(format!(
                    "node {node}: its agent answered with a {}, not a {}",
                    part.kind, list.kind
                ));
            }
            Err(_) => list.warnings.push(format!("node {node}: {}", message_of(&answer))),
        }
    }
    match refused {
        Some((status, body)) if !answered => Ok(Relayed::Refused { status, body }),
        _ => Ok(Relayed::List(list)),
    }
}

async fn wait(asked: Asked, until: tokio::time::Instant) -> Result<wire::Answer, String> {
    match tokio::time::timeout_at(until, asked?).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err("its agent went away while it was asked".into()),
        Err(_) => Err(format!("its agent did not answer within {} s", TIMEOUT.as_secs())),
    }
}

fn message_of(answer: &wire::Answer) -> String {
    match serde_json::from_slice::<insight::Error>(&answer.json) {
        Ok(error) => error.error,
        Err(_) => format!("its agent answered with status {} and something unreadable", answer.status),
    }
}
