//! The epoch of the cluster, in the API itself: a ConfigMap that all controllers share. It grows when the history of etcd
//! went back. What to do is decided by a pure function; compare-and-swap by `resourceVersion` does it.

use std::time::Duration;

use api::watermark::Epoch;
use axum::http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::client::{Api, encoded};
use super::reflector::Failure;

/// The ConfigMap.
pub const NAME: &str = "ferrule-epoch";
/// Its key.
const KEY: &str = "epoch";
/// How long after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// What stands in the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The revision of etcd at which it was read, by a consistent list.
    pub at: u64,
    /// The epoch and the version of the object that holds it.
    pub epoch: Option<(Epoch, String)>,
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// This one is in force.
    Adopt(Epoch),
    /// The first one, or one after an object that is gone.
    Create(Epoch),
    /// A greater one, in place of the one in this version of the object.
    Replace(Epoch, String),
}

/// Which epoch is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Any; the first one when there is none.
    Any,
    /// This one or a greater one: it was heard of. When the API does not have it, the history went back behind it.
    AtLeast(Epoch),
    /// A greater one: the history of this one went back.
    After(Epoch),
}

impl Want {
    fn accepts(self, epoch: Epoch) -> bool {
        match self {
            Self::Any => true,
            Self::AtLeast(least) => epoch >= least,
            Self::After(old) => epoch > old,
        }
    }

    /// One that was never in use.
    fn next(self) -> Epoch {
        match self {
            Self::Any => Epoch(1),
            Self::AtLeast(epoch) | Self::After(epoch) => Epoch(epoch.0.saturating_add(1)),
        }
    }

    /// Both wishes in one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let order = |want: Self| match want {
            Self::Any => (Epoch(0), 0),
            Self::AtLeast(epoch) => (epoch, 1),
            Self::After(epoch) => (epoch, 2),
        };
        if order(other) > order(self) { other } else { self }
    }
}

/// What to do about what was found.
pub fn decide(found: &Found, want: Want) -> Act {
    match &found.epoch {
        None => Act::Create(want.next()),
        Some((epoch, _)) if want.accepts(*epoch) => Act::Adopt(*epoch),
        Some((_, version)) => Act::Replace(want.next(), version.clone()),
    }
}

/// What the keeper says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// This is the epoch, read when etcd was at this revision; the one known when it was asked for.
    Is {
        /// The epoch.
        epoch: Epoch,
        /// Revision of etcd.
        at: u64,
        /// As in [`Ask`].
        known: u64,
    },
    /// It cannot be read or written; trying again.
    Failed(&'static str, Failure),
}

/// A question after the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which is wanted.
    pub want: Want,
    /// The greatest revision of etcd that is known: a list that is made now cannot be older.
    pub known: u64,
}

/// Answers questions after the epoch; keeps trying. Ends when nobody listens.
pub async fn keep(api: Api, namespace: String, mut asked: mpsc::Receiver<Ask>, told: mpsc::Sender<Told>) {
    let mut open: Option<Ask> = None;
    loop {
        let Some(ask) = open else {
            match asked.recv().await {
                Some(ask) => open = Some(ask),
                None => return,
            }
            continue;
        };
        match renew(&api, &namespace, ask.want).await {
            Ok((epoch, at)) => {
                open = None;
                if told.send(Told::Is { epoch, at, known: ask.known }).await.is_err() {
                    return;
                }
                continue;
            }
            // Another controller was faster; its epoch may do.
            Err((_, Failure::Conflict(_))) => {}
            Err((verb, failure)) => {
                if told.send(Told::Failed(verb, failure)).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            more = asked.recv() => match more {
                Some(more) => open = Some(Ask { want: ask.want.and(more.want), known: ask.known.min(more.known) }),
                None => return,
            },
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn renew(api: &Api, namespace: &str, want: Want) -> Result<(Epoch, u64), (&'static str, Failure)> {
    let path = format!("/api/v1/namespaces/{}/configmaps", encoded(namespace));
    let found = read(api, &path).await.map_err(|failure| ("list", failure))?;
    let body = |epoch: Epoch, version: Option<&str>| {
        let mut body = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": namespace},
            "data": {KEY: epoch.to_string()},
        });
        if let Some(version) = version {
            body["metadata"]["resourceVersion"] = version.into();
        }
        body
    };
    match decide(&found, want) {
        Act::Adopt(epoch) => Ok((epoch, found.at)),
        Act::Create(epoch) => {
            let made = api.json(Method::POST, &path, Some(&body(epoch, None))).await;
            let made = made.map_err(|failure| ("create", failure))?;
            tracing::info!(%epoch, "the cluster has an epoch");
            Ok((epoch, version(&made).max(found.at)))
        }
        Act::Replace(epoch, held) => {
            let path = format!("{path}/{NAME}");
            let made = api.json(Method::PUT, &path, Some(&body(epoch, Some(&held)))).await;
            let made = made.map_err(|failure| ("update", failure))?;
            tracing::warn!(%epoch, "the history of the API server went back: a new epoch");
            Ok((epoch, version(&made).max(found.at)))
        }
    }
}

/// By a list, since its revision is that of etcd and not that of the object.
async fn read(api: &Api, path: &str) -> Result<Found, Failure> {
    let list = api.json(Method::GET, &format!("{path}?fieldSelector=metadata.name%3D{NAME}"), None).await?;
    let epoch = list["items"].as_array().and_then(|items| items.first()).map(|object| {
        let text = object["data"][KEY].as_str().unwrap_or_default();
        let epoch = text.trim().parse().unwrap_or_else(|error| {
            tracing::warn!(%error, "the ConfigMap {NAME} is damaged; it counts as epoch 0");
            Epoch(0)
        });
        (epoch, object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned())
    });
    Ok(Found { at: version(&list), epoch })
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(epoch: Option<u64>) -> Found {
        Found { at: 9, epoch: epoch.map(|epoch| (Epoch(epoch), "7".into())) }
    }

    #[test]
    fn an_epoch_is_adopted_made_or_followed_by_a_greater_one() {
        assert_eq!(decide(&found(Some(3)), Want::Any), Act::Adopt(Epoch(3)));
        assert_eq!(decide(&found(None), Want::Any), Act::Create(Epoch(1)));
        // The history went back: ours was 3, and so was the one in the backup.
        let after = Want::After(Epoch(3));
        assert_eq!(decide(&found(Some(3)), after), Act::Replace(Epoch(4), "7".into()));
        // The backup is of an earlier epoch, or of before there was one.
        assert_eq!(decide(&found(Some(1)), after), Act::Replace(Epoch(4), "7".into()));
        assert_eq!(decide(&found(None), after), Act::Create(Epoch(4)));
        // Another controller saw it first.
        assert_eq!(decide(&found(Some(4)), after), Act::Adopt(Epoch(4)));
        // An agent has heard of 4: from another controller, or before a restore.
        let heard = Want::AtLeast(Epoch(4));
        assert_eq!(decide(&found(Some(4)), heard), Act::Adopt(Epoch(4)));
        assert_eq!(decide(&found(Some(3)), heard), Act::Replace(Epoch(5), "7".into()));
        assert_eq!(heard.and(after), heard);
        assert_eq!(Want::Any.and(after).and(Want::After(Epoch(4))), Want::After(Epoch(4)));
    }
}
