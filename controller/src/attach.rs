//! The agents' gRPC service: authenticates, reads what an agent says, turns it into events. Keeps no state of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::convert;
use api::delta::Versions;
use api::generated::ferrule::v1alpha1 as wire;
use api::generated::ferrule::v1alpha1::agents_server::Agents;
use api::role::{self, Holding, Role};
use api::stream::{Binding, Rejection, Version};
use network::NodeName;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::agent::{self, Held, Hello, Link, Outgoing, SessionId};
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::owner::{Event, Owner};
use crate::state::Said;

/// How long an agent may take to say Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The service.
#[derive(Clone, Debug)]
pub struct Service {
    owner: Owner,
    identity: Identity,
    metrics: Metrics,
    sessions: Arc<AtomicU64>,
}

impl Service {
    /// A service that tells this owner about agents with this identity.
    pub fn new(owner: Owner, identity: Identity, metrics: Metrics) -> Self {
        Self { owner, identity, metrics, sessions: Arc::default() }
    }
}

#[tonic::async_trait]
impl Agents for Service {
    type AttachStream = ReceiverStream<Result<wire::FromController, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let peer = request.remote_addr().map(|address| address.to_string()).unwrap_or_default();
        let node = self.identity.authenticate(request.metadata()).await.inspect_err(|status| {
            self.metrics.denied.inc();
            tracing::warn!(%peer, error = status.message(), "an agent is refused");
        })?;
        let session = SessionId(self.sessions.fetch_add(1, Ordering::Relaxed));
        let (out, stream) = mpsc::channel(agent::QUEUE);
        let service = self.clone();
        tokio::spawn(async move {
            if let Err(status) = service.serve(&node, session, request.into_inner(), &out).await {
                tracing::warn!(%node, %peer, error = status.message(), "the agent's stream ends");
                let _ = out.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Service {
    /// Reads the stream to its end.
    async fn serve(
        &self,
        node: &NodeName,
        session: SessionId,
        mut said: Streaming<wire::FromAgent>,
        out: &Outgoing,
    ) -> Result<(), Status> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, said.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no Hello came"))??;
        let Some(wire::FromAgent { body: Some(wire::from_agent::Body::Hello(hello)) }) = first else {
            return Err(Status::failed_precondition("the first message has to be a Hello"));
        };
        if hello.node != node.as_str() {
            self.metrics.denied.inc();
            return Err(Status::permission_denied(format!(
                "the token is that of node {node}, which may not speak for node {}",
                hello.node
            )));
        }
        let gone = |_| Status::unavailable("the controller is shutting down");
        let (hello, garbage) = read_hello(hello);
        let link = Link { session, out: out.clone() };
        self.owner.tell(Event::Attach(node.clone(), link, Box::new(hello))).await.map_err(gone)?;
        for error in garbage {
            self.owner.tell(Event::Said(node.clone(), session, Said::Garbage(error))).await.map_err(gone)?;
        }
        let ended = self.listen(node, session, said, out).await;
        let _ = self.owner.tell(Event::Detach(node.clone(), session)).await;
        ended
    }

    async fn listen(
        &self,
        node: &NodeName,
        session: SessionId,
        mut said: Streaming<wire::FromAgent>,
        out: &Outgoing,
    ) -> Result<(), Status> {
        loop {
            // Ours may end first: another stream of the node took this one's place, or we shut down.
            let message = tokio::select! {
                message = said.message() => message,
                () = out.closed() => return Ok(()),
                () = self.owner.closed() => return Err(Status::unavailable("the controller is shutting down")),
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(status) => {
                    tracing::info!(%node, error = status.message(), "the agent's stream broke");
                    return Ok(());
                }
            };
            for said in read(message) {
                if self.owner.tell(Event::Said(node.clone(), session, said)).await.is_err() {
                    return Err(Status::unavailable("the controller is shutting down"));
                }
            }
        }
    }
}

/// What can be read of a Hello, and what cannot.
pub fn read_hello(hello: wire::Hello) -> (Hello, Vec<String>) {
    let mut garbage = Vec::new();
    let mut known = Versions::new();
    for held in &hello.known {
        let id = held.id.clone().unwrap_or_default();
        match convert::decode_id(&id) {
            Ok(id) => {
                known.insert(id, Version(held.version));
            }
            Err(error) => garbage.push(format!("hello.known: {error}")),
        }
    }
    let acknowledged = convert::decode_watermark(hello.acknowledged.as_ref()).unwrap_or_else(|error| {
        garbage.push(format!("hello.acknowledged: {error}"));
        api::watermark::Watermark::default()
    });
    let bindings = read_bindings(&hello.bindings, &mut garbage);
    let hello = Hello {
        version: hello.version,
        known,
        acknowledged,
        bindings,
        bindings_revision: hello.bindings_revision,
        role: Role::decode(hello.role),
    };
    (hello, garbage)
}

fn read_bindings(bindings: &[wire::Binding], garbage: &mut Vec<String>) -> Vec<Binding> {
    let read = bindings.iter().map(convert::decode_binding);
    read.filter_map(|read| read.map_err(|error| garbage.push(error.to_string())).ok()).collect()
}

fn read_rejections(rejected: &[wire::Rejection]) -> Vec<Rejection> {
    rejected.iter().map(convert::decode_rejection).collect()
}

/// What an agent says after its Hello, and what of it cannot be read.
pub fn read(message: wire::FromAgent) -> Vec<Said> {
    match message.body {
        Some(wire::from_agent::Body::Acknowledgement(answer)) => {
            vec![Said::Answer { nonce: answer.nonce, rejected: read_rejections(&answer.rejected) }]
        }
        Some(wire::from_agent::Body::Bindings(bindings)) => {
            let mut garbage = Vec::new();
            let bound = read_bindings(&bindings.bound, &mut garbage);
            let released = bindings.released.into_iter().collect();
            let mut said = vec![Said::Bindings { bound, released, revision: bindings.revision }];
            said.extend(garbage.into_iter().map(Said::Garbage));
            said
        }
        Some(wire::from_agent::Body::Answer(answer)) => vec![Said::Told(answer)],
        Some(wire::from_agent::Body::Progress(progress)) => {
            vec![match Holding::decode(&progress.holding.unwrap_or_default()) {
                Ok(holding) => Said::Progress { holding, rejected: read_rejections(&progress.rejected) },
                Err(error) => Said::Garbage(format!("progress: {error}")),
            }]
        }
        Some(wire::from_agent::Body::Lead(lead)) => {
            vec![match Holding::decode(&lead.holding.unwrap_or_default()) {
                Ok(holding) => Said::Lead { term: lead.term, holding },
                Err(error) => Said::Garbage(format!("lead: {error}")),
            }]
        }
        Some(wire::from_agent::Body::StandBy(stand_by)) => {
            let held = || {
                Ok::<_, convert::Malformed>(Held {
                    known: role::decode_versions(&stand_by.known)?,
                    acknowledged: convert::decode_watermark(stand_by.acknowledged.as_ref())?,
                    rejected: read_rejections(&stand_by.rejected),
                })
            };
            vec![match held() {
                Ok(held) => Said::StandBy { held, reason: stand_by.reason },
                Err(error) => Said::Garbage(format!("stand_by: {error}")),
            }]
        }
        Some(wire::from_agent::Body::Hello(_)) => vec![Said::Garbage("a second Hello".into())],
        None => vec![Said::Garbage("a message of a kind that is not known here".into())],
    }
}
