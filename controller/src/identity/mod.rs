//! Who is calling: a bearer token to the node that it was given to. Knows no streams.

pub mod judgement;
pub mod reviewer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use network::NodeName;
use sha2::{Digest, Sha256};
use tonic::Status;
use tonic::metadata::MetadataMap;

use judgement::Refusal;
use reviewer::{NoNode, Reviewer};

use crate::kube::client::Api;

/// A token shorter than this many bytes is none: an empty file must not let everybody in.
pub const LEAST_TOKEN_BYTES: usize = 16;

/// How nodes are told apart.
#[derive(Clone, Debug)]
pub enum Identity {
    /// A directory with one file per node, named by the node, holding its token. Read anew for every stream, so that a
    /// token added, changed or withdrawn counts at once; streams that are open stay.
    Tokens(PathBuf),
    /// Service-account tokens, bound to the pod of an agent, reviewed by the API server.
    ServiceAccount(Arc<Reviewer<Api>>),
}

impl Identity {
    /// The node whose token the request carries.
    pub async fn authenticate(&self, metadata: &MetadataMap) -> Result<NodeName, Status> {
        let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let token = header
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::trim)
            .filter(|token| !token.is_empty())
            .ok_or_else(|| Status::unauthenticated("no bearer token: give the agent its node's token"))?
            .to_owned();
        match self {
            Self::Tokens(directory) => {
                let directory = directory.clone();
                let found = tokio::task::spawn_blocking(move || find(&directory, &token)).await;
                match found {
                    Ok(Ok(Some(node))) => Ok(node),
                    Ok(Ok(None)) => Err(Status::unauthenticated(
                        "the token is no node's: is it the one that this controller knows for the node?",
                    )),
                    Ok(Err(error)) => {
                        tracing::error!(%error, "the directory of tokens cannot be read");
                        Err(Status::unavailable("the controller cannot read its nodes' tokens"))
                    }
                    Err(_) => Err(Status::unavailable("the controller is shutting down")),
                }
            }
            Self::ServiceAccount(reviewer) => {
                let found = reviewer.node_of(&token, Instant::now(), SystemTime::now()).await;
                found.map_err(|error| match &error {
                    NoNode::Away(_) => Status::unavailable(error.to_string()),
                    NoNode::Refused(Refusal::Unknown(_)) => Status::unauthenticated(error.to_string()),
                    NoNode::Refused(Refusal::Unfit(_)) => Status::permission_denied(error.to_string()),
                })
            }
        }
    }
}

/// Looks at every token whatever was found before, so that the time taken says nothing of them.
fn find(directory: &Path, token: &str) -> std::io::Result<Option<NodeName>> {
    let offered = Sha256::digest(token.as_bytes());
    let mut found = None;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(node) =
            path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'))
        else {
            continue;
        };
        if !path.is_file() {
            continue;
        }
        let held = match std::fs::read_to_string(&path) {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(%error, %node, "the token of this node cannot be read; its agent is refused");
                continue;
            }
        };
        let held = held.trim();
        if held.len() < LEAST_TOKEN_BYTES {
            tracing::warn!(%node, "the token of this node is shorter than {LEAST_TOKEN_BYTES} bytes and does not count");
            continue;
        }
        let held = Sha256::digest(held.as_bytes());
        let difference = held.iter().zip(&offered).fold(0, |difference, (a, b)| difference | (a ^ b));
        if std::hint::black_box(difference) == 0 {
            found = Some(NodeName::new(node));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_the_node_that_names_its_file_and_short_ones_to_nobody() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("node-1"), "0123456789abcdef-one\n").unwrap();
        std::fs::write(directory.path().join("node-2"), "").unwrap();
        std::fs::write(directory.path().join(".node-3.new"), "0123456789abcdef-three").unwrap();
        let find = |token| find(directory.path(), token).unwrap();
        assert_eq!(find("0123456789abcdef-one"), Some(NodeName::new("node-1")));
        assert_eq!(find("0123456789abcdef-on"), None);
        assert_eq!(find(""), None);
        assert_eq!(find("0123456789abcdef-three"), None);
        // A changed token counts at once.
        std::fs::write(directory.path().join("node-1"), "fedcba9876543210").unwrap();
        assert_eq!(find("0123456789abcdef-one"), None);
        assert_eq!(find("fedcba9876543210"), Some(NodeName::new("node-1")));
    }
}
