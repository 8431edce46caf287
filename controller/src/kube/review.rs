//! The API server as [`reviewer`](crate::identity::reviewer) needs it.

use axum::http::Method;
use serde_json::{Value, json};

use super::client::Api;
use super::reflector::Failure;
use crate::identity::judgement::{AUDIENCE, Review};
use crate::identity::reviewer::ApiServer;

impl ApiServer for Api {
    async fn review(&self, token: &str) -> Result<Review, String> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let review = self.json(Method::POST, path, Some(&review)).await;
        read(&review.map_err(|failure| why("create tokenreviews.authentication.k8s.io", &failure))?)
    }
}

/// A verb that is missing is the operator's to give, and no fault of the token.
fn why(verb: &str, failure: &Failure) -> String {
    match failure {
        Failure::Forbidden(said) => format!("this controller's account may not {verb}: {said}"),
        failure => failure.to_string(),
    }
}

fn read(review: &Value) -> Result<Review, String> {
    let status = review["status"].as_object().ok_or("it answered a TokenReview without a status")?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let user = status.get("user").cloned().unwrap_or_default();
    let extra = user["extra"].as_object().into_iter().flatten();
    Ok(Review {
        authenticated: status.get("authenticated").and_then(Value::as_bool).unwrap_or(false),
        error: text(status.get("error")),
        audiences: status.get("audiences").map(list).unwrap_or_default(),
        username: text(user.get("username")),
        extra: extra.map(|(key, value)| (key.clone(), list(value))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_the_api_server_writes_it() {
        let answer = json!({"kind": "TokenReview", "status": {
            "authenticated": true,
            "audiences": ["ferrule"],
            "user": {
                "username": "system:serviceaccount:kube-system:ferrule-agent",
                "extra": {"authentication.kubernetes.io/node-name": ["node-1"]},
            },
        }});
        let review = read(&answer).unwrap();
        assert!(review.authenticated && review.error.is_empty());
        assert_eq!(review.audiences, ["ferrule"]);
        assert_eq!(review.extra["authentication.kubernetes.io/node-name"], ["node-1"]);
        let refused = read(&json!({"status": {"error": "token has expired"}})).unwrap();
        assert_eq!((refused.authenticated, refused.error.as_str()), (false, "token has expired"));
        assert!(read(&json!({})).is_err());
    }
}
