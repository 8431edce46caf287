//! JSON-RPC 1.0 messages (RFC 7047 §4, JSON-RPC 1.0 §1.1 to §1.3): what a whole message is, before anyone asks what
//! its method means.

use serde_json::{Value as Json, json};

use crate::datum::beginning;

/// A message that came.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A method with an id: the peer waits for a reply.
    Request {
        /// The method's name.
        method: String,
        /// Its arguments.
        params: Json,
        /// What the reply must carry.
        id: Json,
    },
    /// A method without an id.
    Notification {
        /// The method's name.
        method: String,
        /// Its arguments.
        params: Json,
    },
    /// The answer to one of our requests.
    Reply {
        /// The id of our request.
        id: Json,
        /// The result, or the error that came instead.
        result: Result<Json, Json>,
    },
}

/// Why a whole message is not one of JSON-RPC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Balanced, and still not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// Neither a request, nor a notification, nor a reply.
    #[error("neither a request nor a reply: {0}")]
    NotJsonRpc(String),
}

impl Incoming {
    /// Reads one message.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let json: Json =
            serde_json::from_slice(bytes).map_err(|error| MessageError::NotJson(error.to_string()))?;
        let Json::Object(mut members) = json else { return Err(MessageError::NotJsonRpc(beginning(&json))) };
        let mut take = |member: &str| members.remove(member).unwrap_or(Json::Null);
        let (id, method, params) = (take("id"), take("method"), take("params"));
        match (id, method) {
            (Json::Null, Json::String(method)) => Ok(Self::Notification { method, params }),
            (id, Json::String(method)) => Ok(Self::Request { method, params, id }),
            // ovsdb-server leaves "result" out of an error, and its "error" is a text or an object.
            (id, Json::Null) if !id.is_null() => {
                let result = match take("error") {
                    Json::Null => Ok(take("result")),
                    error => Err(error),
                };
                Ok(Self::Reply { id, result })
            }
            (id, method) => Err(MessageError::NotJsonRpc(format!(
                "id {} and method {}",
                beginning(&id),
                beginning(&method)
            ))),
        }
    }
}

/// A request in its bytes.
pub fn request(method: &str, params: &Json, id: u64) -> Vec<u8> {
    bytes(&json!({"method": method, "params": params, "id": id}))
}

/// A notification in its bytes.
pub fn notification(method: &str, params: &Json) -> Vec<u8> {
    bytes(&json!({"method": method, "params": params, "id": null}))
}

/// The reply to a request in its bytes.
pub fn reply(result: &Json, id: &Json) -> Vec<u8> {
    bytes(&json!({"result": result, "error": null, "id": id}))
}

/// The reply to a request for a method that is not offered, in its bytes.
pub fn unknown_method(id: &Json) -> Vec<u8> {
    bytes(&json!({"result": null, "error": "unknown method", "id": id}))
}

fn bytes(json: &Json) -> Vec<u8> {
    // Display of a JSON value cannot fail and makes no invalid UTF-8.
    json.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds_of_message() {
        let parse = |text: &str| Incoming::parse(text.as_bytes());
        assert_eq!(
            parse(r#"{"id":null,"method":"update2","params":[1]}"#),
            Ok(Incoming::Notification { method: "update2".into(), params: json!([1]) })
        );
        assert_eq!(
            parse(r#"{"id":[],"method":"echo","params":["x"]}"#),
            Ok(Incoming::Request { method: "echo".into(), params: json!(["x"]), id: json!([]) })
        );
        assert_eq!(
            parse(r#"{"id":1,"error":"x"}"#),
            Ok(Incoming::Reply { id: json!(1), result: Err(json!("x")) })
        );
        assert_eq!(
            parse(r#"{"id":1,"result":{},"error":null}"#),
            Ok(Incoming::Reply { id: json!(1), result: Ok(json!({})) })
        );
        assert!(matches!(parse("{}"), Err(MessageError::NotJsonRpc(_))));
        assert!(matches!(parse(r#"{"id":1,"method":7}"#), Err(MessageError::NotJsonRpc(_))));
        assert!(matches!(parse(r#"{"id":1,}"#), Err(MessageError::NotJson(_))));
        assert!(matches!(Incoming::parse(b"{\"\xff\":1}"), Err(MessageError::NotJson(_))));
    }

    #[test]
    fn what_we_send_is_read_back() {
        assert!(matches!(Incoming::parse(&request("m", &json!([]), 1)), Ok(Incoming::Request { .. })));
        assert!(matches!(Incoming::parse(&notification("m", &json!([]))), Ok(Incoming::Notification { .. })));
        assert!(matches!(Incoming::parse(&reply(&json!({}), &json!([]))), Ok(Incoming::Reply { .. })));
        assert!(matches!(
            Incoming::parse(&unknown_method(&json!(1))),
            Ok(Incoming::Reply { result: Err(_), .. })
        ));
    }
}
