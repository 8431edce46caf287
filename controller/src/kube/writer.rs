//! Writes what [`report`](super::report) decides, while the Lease is ours. Nothing waits for it; what cannot be written is
//! logged, and `report` says when to try it again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::http::Method;
use k8s_openapi::jiff::Timestamp;
use network::PolicyKind;
use serde_json::{Value, json};

use super::client::{Api, encoded};
use super::lease::{self, Act, Held, Lease};
use super::reflector::Failure;
use super::report::{Object, Report, Write, condition};
use crate::owner::Owner;
use crate::source::Reason;

/// How often the state is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Writes until the owner is gone. We are called `us`.
pub async fn run(api: Api, namespace: String, us: String, owner: Owner) {
    let mut writer = Writer {
        api,
        leases: format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", encoded(&namespace)),
        namespace,
        lease: Lease::new(us.clone()),
        us,
        report: Report::default(),
        failing: false,
    };
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut renewed: Option<Instant> = None;
    loop {
        tokio::select! {
            () = owner.closed() => return,
            _ = look.tick() => {}
        }
        let now = Instant::now();
        if renewed.is_none_or(|renewed| now >= renewed + lease::RENEW) {
            renewed = Some(now);
            let outcome = writer.renew(now).await;
            writer.note("the Lease", outcome);
        }
        if !writer.lease.is_ours(Instant::now()) {
            // Who takes over tells again; what stands in the API already is a conflict.
            writer.report = Report::default();
            continue;
        }
        let read = owner.read(|state| {
            let policies = state.index().policies();
            let policies = policies.filter(|policy| policy.id.kind == PolicyKind::ClusterNetworkPolicy);
            (
                state.is_ready().then(|| state.problems()),
                policies.map(|policy| (policy.id.to_string(), policy.generation)).collect::<BTreeMap<_, _>>(),
            )
        });
        let Ok((problems, policies)) = read.await else { return };
        let Some(problems) = problems else { continue };
        writer.report.look(&problems, &policies, Instant::now());
        while let Some(write) = writer.report.next(Instant::now()) {
            let (what, outcome) = match &write {
                Write::Event(object, message, reason) => {
                    (object, writer.event(object, message, *reason).await)
                }
                Write::Condition(policy, generation, messages) => {
                    (policy, writer.condition(policy, *generation, messages).await)
                }
            };
            let (what, written) = (what.clone(), outcome.is_ok());
            writer.note(&what, outcome);
            writer.report.done(write, written, Instant::now());
        }
    }
}

struct Writer {
    api: Api,
    namespace: String,
    leases: String,
    us: String,
    lease: Lease,
    report: Report,
    failing: bool,
}

impl Writer {
    /// One line when it begins to fail, one when it works again.
    fn note(&mut self, what: &str, outcome: Result<(), Failure>) {
        match outcome {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("status is written to the API again");
            }
            Ok(()) => {}
            Err(error) => {
                if !self.failing {
                    tracing::warn!(object = %what, %error, "status cannot be written to the API; agents are served all the same (see deploy/chart/rbac/controller.yaml)");
                }
                self.failing = true;
            }
        }
    }

    async fn renew(&mut self, now: Instant) -> Result<(), Failure> {
        let path = format!("{}/{}", self.leases, lease::NAME);
        let found = match self.api.json(Method::GET, &path, None).await {
            Ok(found) => Some(Held {
                holder: found["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned(),
                version: found["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
            }),
            Err(Failure::NotFound) => None,
            Err(failure) => return Err(failure),
        };
        let mut ours = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": lease::NAME, "namespace": self.namespace},
            "spec": {
                "holderIdentity": self.us,
                "leaseDurationSeconds": lease::DURATION.as_secs(),
                "renewTime": micros(),
            },
        });
        let written = match self.lease.look(found, now) {
            Act::Wait => return Ok(()),
            Act::Create => self.api.json(Method::POST, &self.leases, Some(&ours)).await,
            Act::Take(version) => {
                ours["metadata"]["resourceVersion"] = version.into();
                self.api.json(Method::PUT, &path, Some(&ours)).await
            }
        };
        match written {
            Ok(_) => {
                self.lease.taken(now);
                Ok(())
            }
            // Somebody else was faster.
            Err(Failure::Conflict(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// The object as it is now; `None` when it is gone.
    async fn find(&self, object: &Object<'_>) -> Result<Option<Value>, Failure> {
        match self.api.json(Method::GET, &object.path(), None).await {
            Ok(mut list) => Ok(list["items"].as_array_mut().and_then(Vec::pop)),
            Err(Failure::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn event(&self, object: &str, message: &str, reason: Reason) -> Result<(), Failure> {
        let Some(object) = Object::parse(object) else { return Ok(()) };
        let Some(found) = self.find(&object).await? else { return Ok(()) };
        let uid = found["metadata"]["uid"].as_str().unwrap_or_default();
        let (path, event) = object.event(uid, message, reason, &Timestamp::now().to_string());
        match self.api.json(Method::POST, &path, Some(&event)).await {
            // It stands there already; or the namespace goes.
            Ok(_) | Err(Failure::Conflict(_) | Failure::NotFound) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Says what was judged, which may be a generation behind what stands there: that one is judged next.
    async fn condition(&self, policy: &str, generation: u64, messages: &[String]) -> Result<(), Failure> {
        let Some(object) = Object::parse(policy) else { return Ok(()) };
        let Some(found) = self.find(&object).await? else { return Ok(()) };
        let wanted = condition(&object, messages, generation, &seconds());
        let holds = |held: &Value| {
            let wanted = &wanted["status"]["conditions"][0];
            ["type", "status", "message", "observedGeneration"]
                .iter()
                .all(|field| held[field] == wanted[field])
        };
        if found["status"]["conditions"].as_array().is_some_and(|held| held.iter().any(holds)) {
            return Ok(());
        }
        let path = format!(
            "{}/{}/status?fieldManager=ferrule-controller&force=true",
            object.kind().path(),
            encoded(object.name)
        );
        match self.api.json(Method::PATCH, &path, Some(&wanted)).await {
            Ok(_) | Err(Failure::NotFound) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

/// For people to read; nothing is decided by it.
fn seconds() -> String {
    format!("{:.0}", Timestamp::now())
}

fn micros() -> String {
    format!("{:.6}", Timestamp::now())
}
