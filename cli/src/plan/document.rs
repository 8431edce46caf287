//! What `ferrule plan -o json` prints (docs/contracts.md): the shape, and how it is made of what the engine found.

use std::collections::BTreeMap;

use network::difference::services::ServiceChange;
use network::difference::{Connectivity, Decider, Group, Relation, Shift};
use network::{PolicyId, PortSet, Protocol};
use serde::Serialize;

use super::expect::Expectation;
use super::note::Note;

/// The whole answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub api_version: &'static str,
    pub kind: &'static str,
    /// What passes after the change and did not.
    pub newly_allowed: Vec<Change>,
    /// What passed and does not after the change. Established connections of these are cut.
    pub newly_denied: Vec<Change>,
    /// Pods that are there only after the change.
    pub appeared: Vec<String>,
    /// What passes to and from these, all of it; `before` is empty.
    pub new_pods: Vec<Change>,
    /// Pods that are there only before it.
    pub vanished: Vec<String>,
    /// Services whose frontends, endpoints or settings are not what they were, and who reaches them other than before.
    pub services: Vec<ServiceChange>,
    /// Flows of policies on every node where they change; none where the network is too large to count them in passing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub costs: Option<Vec<Cost>>,
    pub warnings: Vec<Note>,
    /// What only the cluster knows, and is taken for granted.
    pub assumed: Vec<Assumed>,
    /// Objects of the change that have no part in the network, by kind (`Kind` or `Kind.group`): they were not looked at.
    pub skipped: BTreeMap<String, u32>,
    /// What was expected, when that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expectations: Option<Vec<Expectation>>,
}

/// Something that is taken for granted of an object.
#[derive(Clone, Debug, Serialize)]
pub struct Assumed {
    /// `Deployment shop/web`.
    pub object: String,
    pub text: String,
}

/// What the policies of a node take in flows.
#[derive(Debug, Serialize)]
pub struct Cost {
    pub node: String,
    pub before: usize,
    pub after: usize,
    pub budget: usize,
    /// Policies that do not fit after the change: the agent refuses them and closes their subjects.
    pub refused: Vec<String>,
}

/// One change for every pair of two groups.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub from: Members,
    pub to: Members,
    /// Which pairs: `any`, a pod and its `ownNode`, a pod and `otherNodes`.
    pub relation: Relation,
    /// `IPv4`, `IPv6`.
    pub families: Vec<&'static str>,
    pub ports: Ports,
    /// Who decided before: what kept it out, or what let it pass. Empty: no policy.
    pub before: Vec<Cause>,
    /// Who decides after.
    pub after: Vec<Cause>,
    #[serde(skip)]
    pub is_of_new_pods: bool,
}

/// Ends that behave alike.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Members {
    /// How many.
    pub count: usize,
    /// They are everybody but those listed.
    pub all_but: bool,
    /// `NAMESPACE/POD`, `node:NAME`, `outside in CIDR`, …
    pub listed: Vec<String>,
    #[serde(skip)]
    pub group: Group,
}

/// Protocols and ports.
#[derive(Debug, Serialize)]
pub struct Ports {
    /// As people write them.
    pub text: String,
    pub ranges: Vec<Range>,
    /// ICMP and other protocols without ports.
    pub other: bool,
}

#[derive(Debug, Serialize)]
pub struct Range {
    pub protocol: Protocol,
    pub first: u16,
    pub last: u16,
}

/// A rule, or the isolation, that decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// `NetworkPolicy shop/cart`.
    pub policy: String,
    /// `ingress[0]`, `egress default-deny`.
    pub rule: String,
    /// Whether it lets pass.
    pub allows: bool,
    /// File, line and column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Where a rule of a policy stands, before (0) or after (1).
pub type Sources<'a> = dyn Fn(usize, &PolicyId, &str) -> Option<String> + 'a;

/// What was found of two networks.
pub struct Found<'f> {
    pub connectivity: &'f Connectivity,
    /// Of pods that only the later one has.
    pub arrivals: Option<&'f Connectivity>,
    pub services: Vec<ServiceChange>,
    pub costs: Option<Vec<Cost>>,
    pub warnings: Vec<Note>,
    pub assumed: Vec<Assumed>,
    pub skipped: BTreeMap<String, u32>,
    pub expectations: Option<Vec<Expectation>>,
}

impl Plan {
    pub fn of(found: Found<'_>, sources: &Sources<'_>) -> Self {
        let Found { connectivity, arrivals, services, costs, warnings, assumed, skipped, expectations } =
            found;
        let side = |allowed: bool| {
            let shifts = connectivity.shifts.iter();
            let changes = shifts.map(|shift| (shift, if allowed { &shift.allowed } else { &shift.denied }));
            let changes = changes.filter(|(_, ports)| !ports.is_empty());
            changes.map(|(shift, ports)| change(shift, ports, allowed, sources)).collect()
        };
        let arriving = arrivals.into_iter().flat_map(|found| &found.shifts);
        // Nothing of theirs passed before they were there, and nobody decided that.
        let arriving = arriving.map(|shift| Change {
            before: vec![],
            is_of_new_pods: true,
            ..change(shift, &shift.allowed, true, sources)
        });
        let names = |pods: &[network::NamespacedName]| pods.iter().map(ToString::to_string).collect();
        Self {
            api_version: api::insight::API_VERSION,
            kind: "Plan",
            newly_allowed: side(true),
            newly_denied: side(false),
            appeared: names(&connectivity.appeared),
            new_pods: arriving.collect(),
            vanished: names(&connectivity.vanished),
            services,
            costs,
            warnings,
            assumed,
            skipped,
            expectations,
        }
    }

    /// Whether anything changes.
    pub fn is_empty(&self) -> bool {
        self.newly_allowed.is_empty()
            && self.newly_denied.is_empty()
            && self.appeared.is_empty()
            && self.vanished.is_empty()
            && self.services.is_empty()
    }
}

fn change(shift: &Shift, ports: &PortSet, allowed: bool, sources: &Sources<'_>) -> Change {
    // Before an allowed one something kept it out; after it something lets it pass; and the other way round.
    let causes = |time: usize, deciders: &[(Decider, bool)], allows: bool| {
        let deciders = deciders.iter().filter(|(_, it)| *it == allows);
        deciders.map(|(decider, allows)| cause(time, decider, *allows, sources)).collect()
    };
    let families = [(shift.ipv4, "IPv4"), (shift.ipv6, "IPv6")];
    Change {
        from: members(&shift.from),
        to: members(&shift.to),
        relation: shift.relation,
        families: families.into_iter().filter_map(|(has, name)| has.then_some(name)).collect(),
        ports: Ports {
            text: ports.to_string(),
            ranges: ports
                .ranges()
                .map(|range| Range { protocol: range.protocol, first: range.first, last: range.last })
                .collect(),
            other: ports.has_other(),
        },
        before: causes(0, &shift.before, !allowed),
        after: causes(1, &shift.after, allowed),
        is_of_new_pods: false,
    }
}

pub fn members(group: &Group) -> Members {
    Members {
        count: group.count,
        all_but: group.all_but,
        listed: group.listed.iter().map(ToString::to_string).collect(),
        group: group.clone(),
    }
}

fn cause(time: usize, decider: &Decider, allows: bool, sources: &Sources<'_>) -> Cause {
    let direction = match decider.direction {
        network::Direction::Ingress => "ingress",
        network::Direction::Egress => "egress",
    };
    let (rule, field) = match decider.rule {
        Some(index) => (format!("{direction}[{index}]"), format!("spec.{direction}[{index}]")),
        None => (format!("{direction} default-deny"), "spec.policyTypes".to_owned()),
    };
    Cause { source: sources(time, &decider.policy, &field), policy: decider.policy.to_string(), rule, allows }
}
