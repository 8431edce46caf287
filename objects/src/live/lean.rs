//! JSON of an API server into values that hold only what is read: the rest of a pod (ten times as much) is never kept, not
//! even for the moment between parsing and translating.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What of a value is kept.
#[derive(Clone, Copy, Debug)]
enum Keep {
    /// All of it.
    All,
    /// These fields of a map, each so; a value that is no map is kept.
    Fields(&'static [(&'static str, Keep)]),
    /// These fields so, and all others whole.
    Else(&'static [(&'static str, Keep)]),
    /// Every item of a list.
    Each(&'static Keep),
}

use Keep::{All, Each, Else, Fields};

const METADATA: Keep = Fields(&[
    ("name", All),
    ("namespace", All),
    ("uid", All),
    ("labels", All),
    ("annotations", All),
    ("generation", All),
    ("resourceVersion", All),
    ("deletionTimestamp", All),
]);
const DATED: Keep = Fields(&[
    ("name", All),
    ("namespace", All),
    ("uid", All),
    ("labels", All),
    ("annotations", All),
    ("generation", All),
    ("resourceVersion", All),
    ("creationTimestamp", All),
    ("deletionTimestamp", All),
]);
const CONTAINER: Keep = Fields(&[("name", All), ("ports", All), ("restartPolicy", All)]);
const STATUS: [(&str, Keep); 3] = [("code", All), ("message", All), ("reason", All)];

const POD: Keep = Fields(&[
    ("metadata", METADATA),
    (
        "spec",
        Fields(&[
            ("nodeName", All),
            ("hostNetwork", All),
            ("containers", Each(&CONTAINER)),
            ("initContainers", Each(&CONTAINER)),
        ]),
    ),
    ("status", Fields(&[("phase", All), ("podIP", All), ("podIPs", All)])),
    STATUS[0],
    STATUS[1],
    STATUS[2],
]);
const NODE: Keep = Fields(&[
    ("metadata", METADATA),
    ("spec", Fields(&[("podCIDR", All), ("podCIDRs", All)])),
    ("status", Fields(&[("addresses", All)])),
    STATUS[0],
    STATUS[1],
    STATUS[2],
]);
/// An unknown field of a policy means something.
const OTHER: Keep = Else(&[("metadata", METADATA), ("status", Fields(&[("loadBalancer", All)]))]);

/// Of several that claim something the oldest has it.
const SERVICE: Keep = Else(&[("metadata", DATED), ("status", Fields(&[("loadBalancer", All)]))]);

fn of(kind: &str) -> Keep {
    match kind {
        "Pod" => POD,
        "Node" => NODE,
        "Service" => SERVICE,
        _ => OTHER,
    }
}

/// Parses a page of a list: `metadata`, and `items` of the kind.
pub fn page(kind: &str, json: &[u8]) -> Result<Value, serde_json::Error> {
    parse(Lean::List(of(kind)), json)
}

/// Parses an event of a watch: `type`, and an `object` of the kind or a Status.
pub fn event(kind: &str, json: &[u8]) -> Result<Value, serde_json::Error> {
    parse(Lean::Event(of(kind)), json)
}

fn parse(lean: Lean, json: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = lean.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
enum Lean {
    List(Keep),
    Items(Keep),
    Event(Keep),
    Value(Keep),
}

impl Lean {
    fn field(self, name: &str) -> Option<Self> {
        match self {
            Self::List(kind) if name == "items" => Some(Self::Items(kind)),
            Self::Event(kind) if name == "object" => Some(Self::Value(kind)),
            Self::List(_) | Self::Event(_) => Some(Self::Value(All)),
            Self::Items(_) => None,
            Self::Value(All | Each(_)) => Some(Self::Value(All)),
            Self::Value(Fields(fields)) => {
                fields.iter().find(|(field, _)| *field == name).map(|(_, keep)| Self::Value(*keep))
            }
            Self::Value(Else(fields)) => {
                let keep = fields.iter().find(|(field, _)| *field == name).map_or(All, |(_, keep)| *keep);
                Some(Self::Value(keep))
            }
        }
    }

    fn item(self) -> Self {
        match self {
            Self::Items(kind) => Self::Value(kind),
            Self::Value(Each(keep)) => Self::Value(*keep),
            _ => Self::Value(All),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Lean {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Lean {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self.item())? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            match self.field(&name) {
                Some(lean) => drop(fields.insert(name, map.next_value_seed(lean)?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_read_of_a_pod_is_what_is_kept() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "labels": {"env": "x", "spec": "y"}, "managedFields": [{"f": {}}]},
            "spec": {"nodeName": "n", "volumes": [{}], "containers": [{"name": "c", "env": [{}], "ports": [{"containerPort": 1}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{}], "containerStatuses": [{}]},
        });
        let kept = json!({
            "metadata": {"name": "a", "labels": {"env": "x", "spec": "y"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"containerPort": 1}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1"},
        });
        let list = json!({"metadata": {"resourceVersion": "7", "continue": "x"}, "items": [pod]}).to_string();
        let lean = page("Pod", list.as_bytes()).unwrap();
        assert_eq!(lean, json!({"metadata": {"resourceVersion": "7", "continue": "x"}, "items": [kept]}));
        let added = json!({"type": "ADDED", "object": pod}).to_string();
        assert_eq!(event("Pod", added.as_bytes()).unwrap(), json!({"type": "ADDED", "object": kept}));
    }

    #[test]
    fn the_age_of_a_service_is_kept() {
        let service = json!({"type": "ADDED", "object": {
            "metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"clusterIP": "10.96.0.1"}}});
        assert_eq!(event("Service", service.to_string().as_bytes()).unwrap(), service);
    }

    #[test]
    fn a_status_and_unknown_fields_of_a_policy_stay() {
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410, "message": "too old"}});
        let lean = event("Pod", gone.to_string().as_bytes()).unwrap();
        assert_eq!((&lean["object"]["code"], &lean["object"]["message"]), (&json!(410), &json!("too old")));
        let policy = json!({"type": "ADDED", "object": {"metadata": {"name": "p"}, "spec": {"new": [{"x": 1.5}]}, "more": true}});
        assert_eq!(event("NetworkPolicy", policy.to_string().as_bytes()).unwrap(), policy);
        assert!(page("Pod", b"{\"items\": [}").is_err());
    }
}
