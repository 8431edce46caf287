//! What a reviewed service-account token proves: which node, or why none. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use network::NodeName;

/// The audience for which agents' tokens are issued: one that was made for somebody else says nothing to us.
pub const AUDIENCE: &str = "ferrule";

/// Set by the API server on tokens bound to a pod (Kubernetes 1.30 and later: `ServiceAccountTokenPodNodeInfo`).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// A service account, written NAMESPACE/NAME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl FromStr for ServiceAccount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("write NAMESPACE/NAME".into()),
        }
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What the API server says of a token (`authentication.k8s.io/v1` TokenReviewStatus).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// It is good.
    pub authenticated: bool,
    /// Why not.
    pub error: String,
    /// Of those asked about, the audiences that it was issued for.
    pub audiences: Vec<String>,
    /// Whose.
    pub username: String,
    /// What more is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The API server does not know it, or no longer.
    #[error("the API server does not take the token: {0}")]
    Unknown(String),
    /// It is somebody's, for something else.
    #[error("the token is good, but {0}")]
    Unfit(String),
}

/// The node that the token of an agent with this service account proves.
pub fn judge(review: &Review, account: &ServiceAccount) -> Result<NodeName, Refusal> {
    if !review.authenticated {
        let why = if review.error.is_empty() { "without a reason" } else { &review.error };
        return Err(Refusal::Unknown(why.to_owned()));
    }
    // A server that does not know of audiences lists none.
    if !review.audiences.iter().any(|audience| audience == AUDIENCE) {
        return Err(Refusal::Unfit(format!(
            "not for the audience `{AUDIENCE}`: the agent needs a projected token with that audience"
        )));
    }
    let expected = format!("system:serviceaccount:{}:{}", account.namespace, account.name);
    if review.username != expected {
        return Err(Refusal::Unfit(format!("it is that of {}, not of {expected}", review.username)));
    }
    let one = |key: &str| match review.extra.get(key).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Some(value.clone()),
        _ => None,
    };
    if one(POD_NAME).is_none() || one(POD_UID).is_none() {
        return Err(Refusal::Unfit(
            "it is bound to no pod, so it does not tell on which node its bearer runs".into(),
        ));
    }
    one(NODE_NAME).map(NodeName::new).ok_or_else(|| {
        Refusal::Unfit(
            "the API server does not say on which node its pod runs: that needs Kubernetes 1.30 or newer, with the feature \
             gate ServiceAccountTokenPodNodeInfo on, as it is by default"
                .into(),
        )
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn account() -> ServiceAccount {
        "ferrule/agent".parse().unwrap()
    }

    pub fn good(node: Option<&str>) -> Review {
        let extra = [(POD_NAME, Some("agent-x")), (POD_UID, Some("u1")), (NODE_NAME, node)];
        Review {
            authenticated: true,
            error: String::new(),
            audiences: vec![AUDIENCE.into()],
            username: "system:serviceaccount:ferrule:agent".into(),
            extra: extra
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), vec![value?.to_owned()])))
                .collect(),
        }
    }

    #[test]
    fn a_token_proves_the_node_of_its_pod() {
        assert_eq!(judge(&good(Some("node-1")), &account()), Ok(NodeName::new("node-1")));
        let older = judge(&good(None), &account()).unwrap_err().to_string();
        assert!(older.contains("1.30"), "{older}");
    }

    #[test]
    fn what_proves_nothing_is_said() {
        let refused = |change: &dyn Fn(&mut Review)| {
            let mut review = good(Some("node-1"));
            change(&mut review);
            judge(&review, &account()).unwrap_err().to_string()
        };
        let expired = |review: &mut Review| {
            (review.authenticated, review.error) =
                (false, "[invalid bearer token, token has expired]".into());
        };
        assert!(refused(&expired).contains("has expired"));
        assert!(refused(&|review| review.audiences.clear()).contains("audience `ferrule`"));
        assert!(
            refused(&|review| review.username = "system:node:node-1".into())
                .contains("that of system:node:node-1")
        );
        assert!(refused(&|review| drop(review.extra.remove(POD_NAME))).contains("bound to no pod"));
        let two = |review: &mut Review| {
            review.extra.insert(POD_UID.into(), vec!["u1".into(), "u2".into()]);
        };
        assert!(refused(&two).contains("bound to no pod"));
    }

    #[test]
    fn a_service_account_has_two_parts() {
        assert_eq!(account().to_string(), "ferrule/agent");
        for bad in ["agent", "a/b/c", "/b", "a/"] {
            assert!(bad.parse::<ServiceAccount>().is_err(), "{bad}");
        }
    }
}
