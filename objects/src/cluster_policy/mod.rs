//! `ClusterNetworkPolicy` of `policy.networking.k8s.io/v1alpha2` (sigs.k8s.io/network-policy-api v0.2.0,
//! `apis/v1alpha2/clusternetworkpolicy_types.go`, experimental channel). k8s-openapi has no types for it.
//!
//! Decoding never fails for what is wrong inside `spec`: a part that is not understood stays as one, so that whoever reads
//! the object can let it deny. That holds for objects from an API server too: a newer definition may know fields that are
//! unknown here.

mod shape;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::{ClusterResourceScope, Metadata, Resource};
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::lenient::decode;
use crate::problem::RuleFault;
use shape::Shape;

/// The most rules of a direction, peers of a rule, protocols of a rule and networks of a peer (`maxItems` of the CRD).
pub const MOST_ITEMS: usize = 25;

/// The object.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ClusterNetworkPolicy {
    /// Name, generation and the like.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it says.
    #[serde(default)]
    pub spec: ClusterNetworkPolicySpec,
    /// What implementations say about it.
    #[serde(default)]
    pub status: ClusterNetworkPolicyStatus,
}

impl Resource for ClusterNetworkPolicy {
    const API_VERSION: &'static str = "policy.networking.k8s.io/v1alpha2";
    const GROUP: &'static str = "policy.networking.k8s.io";
    const KIND: &'static str = "ClusterNetworkPolicy";
    const VERSION: &'static str = "v1alpha2";
    const URL_PATH_SEGMENT: &'static str = "clusternetworkpolicies";
    type Scope = ClusterResourceScope;
}

impl Metadata for ClusterNetworkPolicy {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The conditions that implementations report; which ones is up to them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterNetworkPolicyStatus {
    /// One of each type.
    #[serde(default)]
    pub conditions: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
}

/// What a policy says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterNetworkPolicySpec {
    /// `Admin` or `Baseline`.
    pub tier: Part<Tier>,
    /// 0 to 1000; smaller is asked first.
    pub priority: Part<Priority>,
    /// The pods it is about.
    pub subject: Part<Subject>,
    /// Rules for traffic to them, in order.
    pub ingress: Vec<Part<Rule>>,
    /// Rules for traffic from them, in order.
    pub egress: Vec<Part<Rule>>,
    /// Fields that are not known here: a name that could be a misspelt list of rules, and whether it may deny.
    pub unknown: Vec<(String, UnknownField)>,
}

/// A field of the spec that is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownField {
    /// A list: rules under a wrong name, perhaps.
    List {
        /// Whether an item is anything but an `Accept` rule.
        may_deny: bool,
    },
    /// Anything else.
    Other,
}

/// A part of a policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Part<T> {
    /// It is understood.
    Known(T),
    /// It is not.
    Unknown(Unknown),
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        let reason = RuleFault::Type("it is missing".to_owned());
        Self::Unknown(Unknown { field: String::new(), reason, may_deny: true })
    }
}

/// A part that is not understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Unknown {
    /// The path of the field at fault, below the part.
    pub field: String,
    /// What is wrong there.
    pub reason: RuleFault,
    /// Of a rule: whether it is anything but an `Accept` rule.
    pub may_deny: bool,
}

/// When a policy is asked: before every NetworkPolicy, or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Tier {
    /// Before.
    Admin,
    /// After.
    Baseline,
}

/// 0 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Priority(pub u32);

/// The pods a policy is about; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Subject {
    /// All pods of these namespaces.
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    pub pods: Option<NamespacedPod>,
}

/// Pods by the labels of their namespace and their own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespacedPod {
    /// Missing or empty: every namespace.
    pub namespace_selector: Option<LabelSelector>,
    /// Empty: every pod. Required.
    pub pod_selector: Option<LabelSelector>,
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Action {
    /// The traffic passes this and every later tier.
    Accept,
    /// It is dropped.
    Deny,
    /// The next tier decides.
    Pass,
}

/// A rule; `from` belongs to ingress, `to` to egress.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Rule {
    /// For people; at most 100 characters.
    pub name: Option<String>,
    /// What it does.
    pub action: Action,
    /// The other end, any of these.
    #[serde(alias = "from", alias = "to", default)]
    pub peers: Vec<Peer>,
    /// Destination ports, any of these; everything when missing.
    pub protocols: Option<Vec<ProtocolMatch>>,
}

/// Who is at the other end; exactly one field is set. The last three are of egress only.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// All pods of these namespaces.
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    pub pods: Option<NamespacedPod>,
    /// The addresses of these nodes.
    pub nodes: Option<LabelSelector>,
    /// These addresses, inside the cluster and outside.
    pub networks: Option<Vec<String>>,
    /// The addresses of these names. Not supported yet.
    pub domain_names: Option<Vec<String>>,
}

/// Destination ports; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProtocolMatch {
    /// Of TCP.
    pub tcp: Option<PortsOf>,
    /// Of UDP.
    pub udp: Option<PortsOf>,
    /// Of SCTP.
    pub sctp: Option<PortsOf>,
    /// By the name that the destination's container gives it, of any protocol.
    pub destination_named_port: Option<String>,
}

/// What of a protocol is meant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortsOf {
    /// The ports. Nothing else can be said of a protocol, so it is required.
    pub destination_port: Option<Port>,
}

/// A number or a range; exactly one is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Port {
    /// One port.
    pub number: Option<i64>,
    /// Several, both ends included.
    pub range: Option<Range>,
}

/// Ports from `start` to `end`, which is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Range {
    /// The first.
    pub start: i64,
    /// The last.
    pub end: i64,
}

impl<'de> Deserialize<'de> for ClusterNetworkPolicySpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = match Value::deserialize(deserializer)? {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            // Only a text can be so wrong: then nothing of it is understood, its list of rules included.
            other => Map::from_iter([("spec".to_owned(), Value::Array(vec![other]))]),
        };
        let mut take = |name: &str| fields.remove(name).unwrap_or(Value::Null);
        let (tier, priority, subject) = (take("tier"), take("priority"), take("subject"));
        let (ingress, egress) = (take("ingress"), take("egress"));
        let unknown = fields.into_iter().map(|(name, value)| {
            let kind = match &value {
                Value::Array(items) => UnknownField::List { may_deny: items.iter().any(may_deny) },
                _ => UnknownField::Other,
            };
            (name, kind)
        });
        Ok(Self {
            tier: part(tier, shape::tier),
            priority: part(priority, shape::priority),
            subject: part(subject, shape::subject),
            ingress: rules(ingress, shape::ingress_rule),
            egress: rules(egress, shape::egress_rule),
            unknown: unknown.collect(),
        })
    }
}

/// Whether a value that stands where a rule should is anything but a rule that accepts.
fn may_deny(rule: &Value) -> bool {
    rule.get("action").and_then(Value::as_str) != Some("Accept")
}

fn part<T: DeserializeOwned>(value: Value, shape: Shape) -> Part<T> {
    let may_deny = may_deny(&value);
    let outcome = shape(&value)
        .and_then(|()| decode(value).map_err(|(field, reason)| (field, RuleFault::Type(reason))));
    match outcome {
        Ok(known) => Part::Known(known),
        Err((field, reason)) => Part::Unknown(Unknown { field, reason, may_deny }),
    }
}

/// The rules of a direction. Of more than there may be, all but the first ones are one that is not understood: reading is
/// bounded by the limit and not by the list.
fn rules(list: Value, shape: Shape) -> Vec<Part<Rule>> {
    let mut items = match list {
        Value::Null => return Vec::new(),
        Value::Array(items) => items,
        other => {
            let reason = crate::lenient::wrong_type(&other, "a list of rules");
            return vec![Part::Unknown(Unknown { field: String::new(), reason, may_deny: true })];
        }
    };
    let found = items.len();
    let more = if found > MOST_ITEMS { items.split_off(MOST_ITEMS - 1) } else { Vec::new() };
    let mut rules: Vec<Part<Rule>> = items.into_iter().map(|rule| part(rule, shape)).collect();
    if !more.is_empty() {
        let reason = RuleFault::TooMany { what: "rules", most: MOST_ITEMS, found };
        let may_deny = more.iter().any(may_deny);
        rules.push(Part::Unknown(Unknown { field: String::new(), reason, may_deny }));
    }
    rules
}
