//! A bundle: what a controller and its agents answer, kept in one file that answers in their place. One format for whoever
//! writes it and whoever asks it; a file of a newer format, or a part of one, is an error that says so.

use std::collections::BTreeMap;
use std::path::Path;

use api::insight::API_VERSION;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The format of the file. It grows when an older reader would misunderstand it.
pub const FORMAT: u32 = 1;

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 512 << 20;

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `Bundle`.
    pub kind: String,
    /// [`FORMAT`].
    pub format: u32,
    /// Versions by program: `ferrule`, `kernel`, …
    pub versions: BTreeMap<String, String>,
    /// What was answered, by resource: lists of items.
    pub answers: BTreeMap<String, Value>,
    /// By resource and pod: which items of the answer are about the pod.
    pub about_pods: BTreeMap<String, BTreeMap<String, Vec<usize>>>,
    /// The ends of logs, by file, without secrets.
    pub logs: BTreeMap<String, String>,
}

/// Only what tells how to read the rest.
#[derive(Deserialize)]
struct Head {
    kind: Option<String>,
    format: Option<u32>,
}

impl Bundle {
    /// An empty one of this format.
    pub fn new(versions: BTreeMap<String, String>) -> Self {
        Self {
            api_version: API_VERSION.into(),
            kind: "Bundle".into(),
            format: FORMAT,
            versions,
            answers: BTreeMap::new(),
            about_pods: BTreeMap::new(),
            logs: BTreeMap::new(),
        }
    }

    /// Reads a file. The error is a sentence about it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let length = std::fs::metadata(path).map_err(|error| format!("cannot read {name}: {error}"))?.len();
        if length > MAX_BYTES {
            return Err(format!("{name} is larger than {} MiB: no bundle is", MAX_BYTES >> 20));
        }
        let bytes = std::fs::read(path).map_err(|error| format!("cannot read {name}: {error}"))?;
        Self::parse(&bytes).map_err(|what| format!("{name} {what}"))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let broken = |error: serde_json::Error| match error.classify() {
            serde_json::error::Category::Eof => {
                format!(
                    "is cut short: it ends at byte {} in the middle of something; copy it again",
                    bytes.len()
                )
            }
            _ => format!("is no bundle: {error}"),
        };
        let head: Head = serde_json::from_slice(bytes).map_err(broken)?;
        match (head.kind.as_deref(), head.format) {
            (Some("Bundle"), Some(format)) if format > FORMAT => Err(format!(
                "is a bundle of format {format}, and this ferrule reads formats up to {FORMAT}: use a newer ferrule"
            )),
            (Some("Bundle"), Some(_)) => serde_json::from_slice(bytes).map_err(broken),
            _ => {
                Err("is no bundle: it does not say that it is one; make one with `ferrule bundle`".to_owned())
            }
        }
    }

    /// What the controller would answer to `GET /v1alpha1/RESOURCE?QUERY`.
    pub fn answer(&self, resource: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let Some(answer) = self.answers.get(resource) else {
            return Err(format!("holds nothing about {resource}"));
        };
        let mut answer = answer.clone();
        let Some(items) = answer.get_mut("items").and_then(Value::as_array_mut) else { return Ok(answer) };
        let mut kept: Vec<bool> = vec![true; items.len()];
        for (key, wanted) in query {
            match *key {
                // It was asked for when the bundle was made.
                "rules" => {}
                "pod" => {
                    let about = self.about_pods.get(resource).and_then(|pods| pods.get(*wanted));
                    let about = about.ok_or_else(|| format!("holds no {resource} of a pod {wanted}"))?;
                    let of_pod = |(index, kept): (usize, &mut bool)| *kept &= about.contains(&index);
                    kept.iter_mut().enumerate().for_each(of_pod);
                }
                _ => kept
                    .iter_mut()
                    .zip(items.iter())
                    .for_each(|(kept, item)| *kept &= fits(item, key, wanted)),
            }
        }
        let mut kept = kept.into_iter();
        items.retain(|_| kept.next().unwrap_or(true));
        Ok(answer)
    }
}

/// Whether an item is one of those that a parameter asks for, as the daemons judge it.
fn fits(item: &Value, key: &str, wanted: &str) -> bool {
    let text = |field: &str| item.get(field).and_then(Value::as_str);
    // `NetworkPolicy shop/cart` is also `shop/cart`.
    let bare = |name: &str| name.split_once(' ').map_or_else(|| name.to_owned(), |(_, name)| name.to_owned());
    let is_named = |name: &str| name == wanted || bare(name) == wanted;
    match key {
        "node" => text("node") == Some(wanted) || lists(item, "nodes", wanted),
        "namespace" => text("pod")
            .or(text("policy"))
            .or(text("service"))
            .is_some_and(|name| bare(name).split_once('/').is_some_and(|(namespace, _)| namespace == wanted)),
        "policy" => {
            text("policy").is_some_and(is_named)
                || is_owned(item, |kind| kind.ends_with("NetworkPolicy"), is_named)
        }
        "service" => {
            let is_named =
                |name: &str| name == wanted || name.split_once('/').is_some_and(|(_, name)| name == wanted);
            text("service").is_some_and(is_named) || is_owned(item, |kind| kind == "Service", is_named)
        }
        "table" => {
            let number = item.get("tableId").and_then(Value::as_u64);
            text("table").is_some_and(|name| name.eq_ignore_ascii_case(wanted))
                || number.is_some_and(|number| number.to_string() == wanted)
        }
        _ => false,
    }
}

/// Whether an object of that kind and name made a flow: a pod and a policy may have the same name.
fn is_owned(item: &Value, of_kind: impl Fn(&str) -> bool, is_named: impl Fn(&str) -> bool) -> bool {
    let text =
        |owner: &Value, field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let owners = item.get("owners").and_then(Value::as_array);
    owners.is_some_and(|owners| {
        owners.iter().any(|owner| of_kind(&text(owner, "kind")) && is_named(&text(owner, "name")))
    })
}

fn lists(item: &Value, field: &str, wanted: &str) -> bool {
    let list = item.get(field).and_then(Value::as_array);
    list.is_some_and(|list| list.iter().any(|it| it.as_str() == Some(wanted)))
}

/// A text without what nobody else may know: tokens (`Bearer …`, JSON Web Tokens), private keys, passwords.
pub fn without_secrets(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut in_key = false;
    for line in text.lines() {
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
            in_key = true;
            clean.push_str("[a private key was removed]\n");
        }
        if !in_key {
            clean.push_str(&line_without_secrets(line));
            clean.push('\n');
        }
        in_key &= !(line.contains("-----END") && line.contains("PRIVATE KEY"));
    }
    clean
}

fn line_without_secrets(line: &str) -> String {
    const REMOVED: &str = "[removed]";
    let mut words: Vec<String> = Vec::new();
    let mut after_bearer = false;
    for word in line.split(' ') {
        let lower = word.to_ascii_lowercase();
        let named = ["token=", "password=", "secret=", "token:", "password:", "secret:"];
        let value = named.iter().find_map(|name| lower.find(name).map(|place| place + name.len()));
        // A JSON Web Token: three parts of base64, the first of which begins with `{"`.
        let is_token = word
            .split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
            .any(|part| part.starts_with("eyJ") && part.matches('.').count() >= 2);
        words.push(match value {
            _ if after_bearer || is_token => REMOVED.to_owned(),
            Some(place) if place < word.len() => format!("{}{REMOVED}", &word[..place]),
            _ => word.to_owned(),
        });
        after_bearer = lower.ends_with("bearer") || matches!(value, Some(place) if place == word.len());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Bundle {
        let mut bundle = Bundle::new(BTreeMap::new());
        let flows = serde_json::json!({"kind": "FlowList", "items": [
            {"node": "node-1", "table": "Ingress", "tableId": 100, "owners": [
                {"kind": "NetworkPolicy", "name": "shop/cart"}, {"kind": "Service", "name": "shop/web"}]},
            {"node": "node-2", "table": "Output", "tableId": 120, "owners": [{"kind": "Pod", "name": "shop/cart"}]},
        ]});
        bundle.answers.insert("flows".into(), flows);
        bundle.about_pods.insert("flows".into(), [("shop/a".to_owned(), vec![1])].into());
        bundle
    }

    #[test]
    fn what_was_recorded_is_answered_as_it_was_asked_for() {
        let bundle = bundle();
        let count = |query: &[(&str, &str)]| {
            bundle.answer("flows", query).unwrap()["items"].as_array().unwrap().len()
        };
        assert_eq!(count(&[]), 2);
        for query in [
            ("node", "node-1"),
            ("policy", "shop/cart"),
            ("service", "shop/web"),
            ("service", "web"),
            ("table", "output"),
            ("table", "100"),
            ("pod", "shop/a"),
        ] {
            assert_eq!(count(&[query]), 1, "{query:?}");
        }
        assert_eq!(count(&[("node", "node-1"), ("pod", "shop/a")]), 0);
        assert_eq!(count(&[("node", "node-3")]), 0);
        assert!(bundle.answer("flows", &[("pod", "shop/b")]).unwrap_err().contains("shop/b"));
        assert!(bundle.answer("drops", &[]).unwrap_err().contains("nothing about drops"));
    }

    #[test]
    fn newer_and_cut_and_other_files_are_refused_with_a_sentence() {
        let text = serde_json::to_string(&bundle()).unwrap();
        assert_eq!(Bundle::parse(text.as_bytes()).unwrap(), bundle());
        for end in [1, 10, text.len() / 2, text.len() - 1] {
            let error = Bundle::parse(&text.as_bytes()[..end]).unwrap_err();
            assert!(error.contains("cut short") && error.contains(&format!("byte {end}")), "{error}");
        }
        let newer = text.replace("\"format\":1", "\"format\":2,\"more\":{}");
        assert!(Bundle::parse(newer.as_bytes()).unwrap_err().contains("use a newer ferrule"));
        for other in ["", "x", "[]", "{}", "{\"kind\":\"Plan\"}"] {
            assert!(!Bundle::parse(other.as_bytes()).unwrap_err().is_empty(), "{other}");
        }
    }

    #[test]
    fn secrets_are_removed_and_the_rest_stays() {
        let text = "a token=abc b\nAuthorization: Bearer x.y.z tail\njwt \"eyJhbGciOi.eyJpc3M.sig\" end\n\
                    -----BEGIN EC PRIVATE KEY-----\nMHc=\n-----END EC PRIVATE KEY-----\npassword: hunter2 next\n";
        let clean = without_secrets(text);
        for secret in ["abc", "x.y.z", "eyJ", "MHc", "hunter2"] {
            assert!(!clean.contains(secret), "{secret}: {clean}");
        }
        for kept in ["a token=", " b\n", "tail", "jwt", "end", "next"] {
            assert!(clean.contains(kept), "{kept}: {clean}");
        }
    }
}
