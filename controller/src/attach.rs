//! The agents' gRPC service: authenticates, reads what an agent says, turns it into events. Keeps no state of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use api::generated::ferrule::v1alpha1 as wire;
use api::generated::ferrule::v1alpha1::agents_server::Agents;
use network::NodeName;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub use crate::hearing::{read, read_hello};

use crate::agent::{self, Link, Outgoing, SessionId};
use crate::hearing::{Flood, Said};
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::owner::{Event, Owner};

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
        let mut flood = Flood::new(Instant::now());
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
            let wait = flood.take(Flood::cost(&message), Instant::now());
            for said in read(message) {
                if self.owner.tell(Event::Said(node.clone(), session, said)).await.is_err() {
                    return Err(Status::unavailable("the controller is shutting down"));
                }
            }
            if !wait.is_zero() {
                self.metrics.slowed.inc();
                tokio::time::sleep(wait).await;
            }
        }
    }
}
