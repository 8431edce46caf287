//! The API server as [`super::reviewer`] needs it, over a Kubernetes client.

use ::kube::api::{Api, PostParams};
use ::kube::{Client, Error};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Pod;

use super::judgement::{AUDIENCE, Review};
use super::reviewer::ApiServer;

/// A client whose account may `create` `tokenreviews.authentication.k8s.io`, and `get` pods in the agents' namespace.
#[derive(Clone)]
pub struct KubeApi(pub Client);

impl std::fmt::Debug for KubeApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KubeApi")
    }
}

impl ApiServer for KubeApi {
    async fn review(&self, token: &str) -> Result<Review, String> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let api = Api::<TokenReview>::all(self.0.clone());
        let review = api.create(&PostParams::default(), &review).await;
        let status = review.map_err(|error| why(&error, "create tokenreviews.authentication.k8s.io"))?.status;
        let status = status.ok_or("it answered a TokenReview without a status")?;
        let user = status.user.unwrap_or_default();
        Ok(Review {
            authenticated: status.authenticated.unwrap_or(false),
            error: status.error.unwrap_or_default(),
            audiences: status.audiences.unwrap_or_default(),
            username: user.username.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        })
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<(String, String)>, String> {
        let pod = Api::<Pod>::namespaced(self.0.clone(), namespace).get_opt(name).await;
        let pod = pod.map_err(|error| why(&error, &format!("get pods in namespace {namespace}")))?;
        Ok(pod.and_then(|pod| Some((pod.metadata.uid?, pod.spec?.node_name?))))
    }
}

/// A verb that is missing is the operator's to give, and no fault of the token.
fn why(error: &Error, verb: &str) -> String {
    match error {
        Error::Api(status) if status.code == 403 => {
            format!("this controller's account may not {verb}: {}", status.message)
        }
        error => error.to_string(),
    }
}
