//! ADD, DEL, CHECK, STATUS and GC, step by step: addresses, record, port and flows, in an order in which a crash between any
//! two leaves nothing that the next start does not find. It must not know sockets.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use api::cni::{
    AddRequest, Attachment as Answer, AttachmentId, Command, Failure, PROTOCOL, PodAddress, Reply, Request,
    Tombstone, code,
};
use cni::fault;
use cni::tombstone::Intent;
use network::Mac;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::collect;
use super::host::Host;
use super::lock::Locks;
use crate::attachment::{Attachment, Store};
use crate::ipam::{BuiltIn, Ipam, IpamError, Wanted};
use crate::node::Standing;
use crate::owner::{Ask, ask};

/// How long an ADD waits for the controller to know its pod (design: at most 5 s, then `TRY_AGAIN`).
const POLICY_WAIT: Duration = Duration::from_secs(5);
/// How long it waits beyond that for a switch that is slow.
const SWITCH_WAIT: Duration = Duration::from_secs(10);
/// How long a DEL waits for the switch to let go; then the next reconciliation does it.
const RELEASE_WAIT: Duration = Duration::from_secs(5);

/// Carries out commands.
#[derive(Clone, Debug)]
pub struct Attacher {
    /// To the owner of the node's state.
    pub asks: mpsc::Sender<Ask>,
    /// Who hands out addresses.
    pub ipam: Arc<BuiltIn>,
    /// Where attachments are recorded.
    pub store: Store,
    /// One command at a time for each container.
    pub locks: Arc<Locks>,
    /// The node's devices and plugins.
    pub host: Host,
    /// The folder in which calls leave what they owe ([`cni::tombstone`]).
    pub state: PathBuf,
    /// Addresses of which an agent before this one may not have forgotten the connections.
    pub suspects: Arc<Mutex<BTreeSet<IpAddr>>>,
}

type Outcome<T> = Result<T, Failure>;

impl Attacher {
    /// Carries out one request; what an ADD may be told ahead of its reply goes to `early`.
    pub async fn carry_out(
        &self,
        request: Request,
        now: SystemTime,
        early: oneshot::Sender<Answer>,
    ) -> Reply {
        if request.protocol > PROTOCOL {
            let msg = format!(
                "ferrule-cni speaks version {} of the agent's protocol, this agent {}: update the agent on this node",
                request.protocol, PROTOCOL
            );
            return Reply::Failed(failure(code::INCOMPATIBLE_VERSION, msg));
        }
        let outcome = match request.command {
            Command::Add(request) => {
                let added = self.add(request, now, early).await.map(Reply::Added);
                fault::reach("agent.add.answered");
                added
            }
            Command::Del(id) => self.del(&id, now).await.map(|()| Reply::Done),
            Command::Check(request) => self.check(&request).await.map(|()| Reply::Done),
            Command::Status => self.status(now).await.map(|()| Reply::Done),
            Command::Gc { network, valid } => self.gc(&network, &valid, now).await.map(|()| Reply::Done),
        };
        outcome.unwrap_or_else(Reply::Failed)
    }

    async fn add(
        &self,
        request: AddRequest,
        now: SystemTime,
        early: oneshot::Sender<Answer>,
    ) -> Outcome<Answer> {
        check_names(&request)?;
        let _held = self.locks.hold(&request.id.container_id).await;
        fault::reach("agent.add.received");
        if self.store.contains(&request.id) {
            // Never deleted, but its veth was made anew: the switch has to take the new one.
            self.take_away(&request.id, now).await?;
        }
        let wanted = Wanted {
            id: request.id.clone(),
            network: request.network.clone(),
            pod: request.pod.clone(),
            addresses: request.addresses.clone(),
            exact: request.ipam.is_some(),
        };
        let addresses = self.ipam.take(&wanted, now).map_err(|error| of_plugin(&request, error))?;
        // Durable before the answer, and while the switch is busy.
        let ipam = Arc::clone(&self.ipam);
        let durable = tokio::task::spawn_blocking(move || ipam.sync());
        fault::reach("agent.add.allocated");
        self.forget_suspects(&addresses).await;
        let outcome = match Attachment::new(&request, addresses) {
            Some(attachment) => match self.connect(attachment, request.early.then_some(early)).await {
                Ok(answer) => match durable.await {
                    Ok(synced) => synced.map(|()| answer).map_err(Failure::from),
                    Err(error) => Err(failure(code::IO, format!("the address record broke off: {error}"))),
                },
                Err(failure) => Err(failure),
            },
            None => Err(failure(
                code::NO_ADDRESS,
                format!("no address for container {}", request.id.container_id),
            )),
        };
        if let Err(failure) = &outcome {
            tracing::warn!(container = request.id.container_id, error = failure.msg, "ADD failed; undone");
            // The error to report is the first one; what is left here is found at the next start.
            let _ = self.take_away(&request.id, now).await;
        }
        outcome
    }

    /// Everything behind the addresses.
    async fn connect(
        &self,
        attachment: Attachment,
        early: Option<oneshot::Sender<Answer>>,
    ) -> Outcome<Answer> {
        self.store.put(&attachment).map_err(|error| failure(code::IO, error.to_string()))?;
        fault::reach("agent.add.recorded");
        let traits = ask(&self.asks, Ask::LinkTraits).await.ok_or_else(ending)?;
        let answer = Answer {
            mac: attachment.mac,
            addresses: attachment.addresses.clone(),
            gateway_mac: Mac::ROUTER,
            mtu: traits.mtu,
            tx_checksum_offload: traits.tx_checksum_offload,
        };
        // Whoever does not wait for it hears it in the answer.
        early.map(|early| early.send(answer.clone()));
        let id = attachment.id.clone();
        let answered = ask(&self.asks, |reply| Ask::Plug(Box::new(attachment), reply));
        tokio::pin!(answered);
        if let Ok(standing) = timeout(POLICY_WAIT, &mut answered).await {
            return settled(standing).map(|()| answer);
        }
        match ask(&self.asks, |reply| Ask::Standing(id.clone(), reply)).await {
            // The policies known for this UID are in force; the controller that should say more does not.
            Some(Standing::Unheard | Standing::InForce) => return Ok(answer),
            Some(Standing::Waiting(failure)) if failure.code != code::TRY_AGAIN => {}
            standing => return settled(standing).map(|()| answer),
        }
        match timeout(SWITCH_WAIT, &mut answered).await {
            Ok(standing) => settled(standing).map(|()| answer),
            Err(_) => settled(ask(&self.asks, |reply| Ask::Standing(id, reply)).await).map(|()| answer),
        }
    }

    /// Connections of an address that changes hands are forgotten when it is freed, unless the agent was killed just then.
    async fn forget_suspects(&self, addresses: &[PodAddress]) {
        let suspects = {
            // Whole between any two statements, so a panic elsewhere does not matter.
            let mut all = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
            addresses.iter().map(|one| one.address).filter(|address| all.remove(address)).collect::<Vec<_>>()
        };
        if !suspects.is_empty() {
            // An owner that has ended is told of by the next question.
            let _ = self.asks.send(Ask::Forget(suspects)).await;
        }
    }

    /// Frees an attachment. Succeeds when there is nothing.
    pub async fn del(&self, id: &AttachmentId, now: SystemTime) -> Outcome<()> {
        let _held = self.locks.hold(&id.container_id).await;
        fault::reach("agent.del.received");
        self.take_away(id, now).await
    }

    /// Carries out a whole deletion: also what the binary does in a DEL.
    pub async fn del_all(&self, owed: &Tombstone, now: SystemTime) -> Outcome<()> {
        let _held = self.locks.hold(&owed.id.container_id).await;
        self.take_away(&owed.id, now).await?;
        self.take_back(owed.clone()).await
    }

    /// Frees an attachment if its device is gone, and with it the container.
    pub async fn del_if_gone(&self, attachment: &Attachment, now: SystemTime) -> Outcome<bool> {
        let id = &attachment.id;
        let _held = self.locks.hold(&id.container_id).await;
        // Asked under the lock: an ADD may have made it anew.
        if self.host.has_device(&attachment.host_interface) != Some(false) || !self.store.contains(id) {
            return Ok(false);
        }
        self.take_away(id, now).await?;
        self.take_back(attachment.tombstone()).await.map(|()| true)
    }

    /// Of what fails there is no record any more: it is owed, and tried again.
    async fn take_back(&self, owed: Tombstone) -> Outcome<()> {
        let outcome = self.host.take_back(owed.clone()).await;
        if outcome.is_err()
            && let Err(error) = Intent::owe(&self.state, &owed)
        {
            tracing::warn!(container = owed.id.container_id, %error, "a deletion that failed cannot be written down");
        }
        outcome
    }

    /// The record goes first: whatever comes after it is found to be nobody's at the next start. The address goes last,
    /// when nothing can carry its packets any more.
    async fn take_away(&self, id: &AttachmentId, now: SystemTime) -> Outcome<()> {
        self.store.remove(id).map_err(|error| failure(code::IO, error.to_string()))?;
        fault::reach("agent.del.unrecorded");
        let gone = ask(&self.asks, |reply| Ask::Unplug(id.clone(), reply));
        if timeout(RELEASE_WAIT, gone).await.is_err() {
            tracing::warn!(container = id.container_id, "the switch has not let go of a port yet");
        }
        fault::reach("agent.del.unplugged");
        match self.ipam.release(id, now).await {
            Ok(_) => {}
            // Nothing uses it any more, and it is found to be nobody's later: a full disk must not keep pods from ending.
            Err(error @ IpamError::Storage { .. }) => {
                tracing::warn!(container = id.container_id, %error, "an address is freed later");
            }
            Err(error) => return Err(error.into()),
        }
        fault::reach("agent.del.released");
        Ok(())
    }

    async fn check(&self, request: &AddRequest) -> Outcome<()> {
        let _held = self.locks.hold(&request.id.container_id).await;
        let wrong = |msg: String| Err(failure(code::CHECK_FAILED, msg));
        let snapshot = ask(&self.asks, Ask::Snapshot).await.ok_or_else(ending)?;
        let Some(attachment) = snapshot.attachments.iter().find(|attachment| attachment.id == request.id)
        else {
            let id = &request.id;
            let msg = format!("container {} interface {} is not attached", id.container_id, id.interface);
            return Err(failure(code::UNKNOWN_CONTAINER, msg));
        };
        let title = attachment.title();
        let mut held: Vec<_> = attachment.addresses.iter().map(|address| address.address).collect();
        let mut expected = request.expected.clone();
        held.sort_unstable();
        expected.sort_unstable();
        if !expected.is_empty() && held != expected {
            return wrong(format!("{title}: ADD answered addresses {expected:?}, the agent holds {held:?}"));
        }
        if self.host.has_device(&attachment.host_interface) == Some(false) {
            return wrong(format!("{title}: the host's interface {} is gone", attachment.host_interface));
        }
        match ask(&self.asks, |reply| Ask::Standing(request.id.clone(), reply)).await {
            Some(Standing::InForce | Standing::Unheard) => Ok(()),
            Some(Standing::Waiting(failure) | Standing::Failed(failure)) => wrong(failure.msg),
            None => Err(ending()),
        }
    }

    async fn status(&self, now: SystemTime) -> Outcome<()> {
        let ready = ask(&self.asks, Ask::Readiness).await.ok_or_else(ending)?;
        ready?;
        self.store.probe().map_err(|error| failure(code::NOT_AVAILABLE, error.to_string()))?;
        let addresses: Result<(), IpamError> = self.ipam.status(now).await;
        addresses.map_err(|error| failure(code::NOT_AVAILABLE, error.to_string()))
    }

    async fn gc(&self, network: &str, valid: &[AttachmentId], now: SystemTime) -> Outcome<()> {
        collect::replay(self, now).await;
        let snapshot = ask(&self.asks, Ask::Snapshot).await.ok_or_else(ending)?;
        let stale = snapshot.attachments.iter().filter(|a| a.network == network && !valid.contains(&a.id));
        let mut outcome = Ok(());
        for attachment in stale {
            tracing::info!(container = attachment.id.container_id, "GC: nobody needs this attachment");
            // One that fails must not keep the others.
            outcome = self.del_all(&attachment.tombstone(), now).await.and(outcome);
        }
        self.ipam.release_others(network, valid, now)?;
        // A veth of which nothing is recorded, because a record was damaged. One whose call is still under way has a file.
        let mut keep: BTreeSet<_> = valid.iter().map(AttachmentId::host_interface).collect();
        let busy = std::fs::read_dir(cni::tombstone::folder(&self.state)).into_iter().flatten().flatten();
        keep.extend(busy.filter_map(|file| Some(file.path().file_stem()?.to_str()?.to_owned())));
        for name in self.host.sweep(network.to_owned(), keep).await? {
            tracing::info!(device = name, "GC: nobody needs this device");
        }
        outcome
    }
}

/// What a delegated plugin gave may not be what this node can serve: then the cure is in the plugin's configuration.
fn of_plugin(request: &AddRequest, error: IpamError) -> Failure {
    let mut failure = Failure::from(error);
    if let Some(delegate) = &request.ipam {
        failure.details = format!(
            "IPAM plugin `{}` gave {:?}: its ranges must lie in the node's pod ranges, where the other nodes look for pods",
            delegate.plugin, request.addresses
        );
    }
    failure
}

fn settled(standing: Option<Standing>) -> Outcome<()> {
    match standing {
        Some(Standing::InForce | Standing::Unheard) => Ok(()),
        Some(Standing::Waiting(failure) | Standing::Failed(failure)) => Err(failure),
        None => Err(ending()),
    }
}

/// Both sides compute the interface's name; another one would not be found again by DEL.
fn check_names(request: &AddRequest) -> Outcome<()> {
    let computed = request.id.host_interface();
    if request.host_interface != computed {
        let msg = format!("the host's interface must be named {computed}, not {}", request.host_interface);
        return Err(failure(code::INVALID_CONFIG, msg));
    }
    Ok(())
}

fn ending() -> Failure {
    failure(code::TRY_AGAIN, "the agent is ending; try again when it has started".into())
}

fn failure(code: u32, msg: String) -> Failure {
    Failure { code, msg, details: String::new() }
}
