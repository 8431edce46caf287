//! The OpenFlow connection to our bridge: reads all flows when it comes up, applies what it is given in one bundle, and says
//! what became of it. It must not know why flows exist.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openflow::connection::BundleError;
use openflow::io::{Client, ClientError, ClientEvent, Target};
use openflow::message::{
    CtFlush, CtTuple, FlowStatsRequest, Message, MultipartReplyBody, MultipartRequestBody, NiciraMessage,
};
use openflow::{Cookie, FlowStats};
use ovsdb::Backoff;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::beside::{self, Beside};
use super::copies::{self, Copies};
use super::cutter::{self, CutError};
use super::fragments::Fragments;
use super::{cache, monitor, sweeper};
use crate::cut::stale::Served;
use crate::cut::{Order, Outcome};
use crate::drift::Drift;
use crate::event::{Event, Observed, Session};
use crate::owner::{Dump, Mend, SwitchCommand};
use crate::plan::FlowMods;
use crate::shadow::{FlowChange, Shadow};

/// How long the switch may take for everything that it holds, or for a bundle; 100,000 flows take it a second or two.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Runs until the owner is gone.
pub async fn run(
    socket: PathBuf,
    mut commands: mpsc::Receiver<SwitchCommand>,
    events: mpsc::Sender<Event>,
    mut copies: Copies,
) {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    let mut told = String::new();
    for number in 1.. {
        let mut link = Link { session: Session(number), events: &events, copies: &mut copies };
        let problem = match link.serve(&socket, &mut commands).await {
            End::Agent => return,
            End::Lost { problem, was_up } => {
                if was_up {
                    backoff.succeeded();
                    told.clear();
                }
                problem
            }
        };
        if told != problem {
            told.clone_from(&problem);
            if events.send(Event::SwitchLost(problem)).await.is_err() {
                return;
            }
        }
        if !idle(backoff.failed(), &mut commands, &told, &copies).await {
            return;
        }
    }
}

/// Waits; meanwhile what the owner asks has no answer.
async fn idle(
    wait: Duration,
    commands: &mut mpsc::Receiver<SwitchCommand>,
    problem: &str,
    copies: &Copies,
) -> bool {
    let until = tokio::time::Instant::now() + wait;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(until) => return true,
            command = commands.recv() => match command {
                Some(SwitchCommand::Dump(dump)) => {
                    drop(dump.reply.send(Err(format!("the switch is out of reach ({problem}); check ovs-vswitchd"))));
                }
                Some(SwitchCommand::Seen(reply)) => drop(reply.send(copies.seen.clone())),
                Some(SwitchCommand::Suppressed(reply)) => drop(reply.send(Err(problem.to_owned()))),
                Some(SwitchCommand::Probe(_, reply)) => drop(reply.send(Err(problem.to_owned()))),
                Some(SwitchCommand::Beside(reply)) => drop(reply.send(Err(problem.to_owned()))),
                // It belongs to a connection that is over.
                Some(SwitchCommand::Apply(..) | SwitchCommand::Forget(..) | SwitchCommand::Cut(..) | SwitchCommand::Served(..) | SwitchCommand::Observe(..)) => {}
                None => return false,
            },
        }
    }
}

enum End {
    Agent,
    Lost { problem: String, was_up: bool },
}

struct Link<'a> {
    session: Session,
    events: &'a mpsc::Sender<Event>,
    copies: &'a mut Copies,
}

type Applying = Pin<Box<dyn Future<Output = Result<(), ClientError>> + Send>>;
type Sweeping = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Link<'_> {
    /// False when nobody listens any more.
    async fn tell_observed(&self, what: &What, shadow: Shadow, early: Vec<FlowChange>) -> bool {
        let What { version, copies } = what.clone();
        let observed = Observed { session: self.session, version, shadow, copies };
        let told = self.events.send(Event::SwitchObserved(Box::new(observed))).await;
        told.is_ok()
            && (early.is_empty() || self.events.send(Event::FlowsChanged(self.session, early)).await.is_ok())
    }

    /// False when nobody listens any more.
    async fn tell_drifts(&self, mended: Vec<Beside>) -> bool {
        let drifts: Vec<Drift> = mended.iter().map(Beside::drift).collect();
        drifts.is_empty() || self.events.send(Event::Drifted(drifts)).await.is_ok()
    }

    async fn serve(&mut self, socket: &std::path::Path, commands: &mut mpsc::Receiver<SwitchCommand>) -> End {
        let target = Target::Unix(socket.to_owned());
        let lost = |was_up| move |error: ClientError| End::Lost { problem: error.to_string(), was_up };
        let (client, mut unasked) = match Client::connect(&target, Default::default()).await {
            Ok(connected) => connected,
            Err(error) => return lost(false)(error),
        };
        // Before everything is read, so that no change falls between.
        if let Err(error) = Client::within(ANSWER_LIMIT, watch(&client)).await {
            return lost(false)(error);
        }
        let (shadow, early) = match Client::within(ANSWER_LIMIT, observe(&client, &mut unasked)).await {
            Ok(observed) => observed,
            Err(error) => return lost(false)(error),
        };
        let what = match Client::within(ANSWER_LIMIT, what(&client)).await {
            Ok(what) => what,
            Err(error) => return lost(false)(error),
        };
        if !what.copies {
            tracing::warn!(
                "the switch has no meters: no tuples of dropped packets, no audit log, and in userspace no fragments to Services"
            );
        }
        if !self.tell_observed(&what, shadow, early).await {
            return End::Agent;
        }
        // Not the numbers of an earlier life.
        let since = (self.copies.clock)().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut fragments = Fragments::new(since.as_micros() as u32);
        let mut applying: Option<Applying> = None;
        // It reads flows: a task of its own, or it would hold back whatever is waited for here.
        let mut cutting = JoinSet::<Result<Outcome, CutError>>::new();
        let mut sweeping: Option<Sweeping> = None;
        // What is served changed while a sweep was under way: one more behind it.
        let (mut served, mut due) = (None::<Arc<Served>>, false);
        let mut settling: Option<Sweeping> = None;
        // Flows changed, and the switch's cache may not know.
        let (mut renewing, mut cached) = (None::<Sweeping>, false);
        let mut again = tokio::time::interval(sweeper::AGAIN);
        let mut later = VecDeque::new();
        loop {
            if let Some(served) = served.as_ref().filter(|_| due && sweeping.is_none()) {
                due = false;
                sweeping = Some(Box::pin(sweep(client.clone(), socket.to_owned(), Arc::clone(served))));
            }
            if cached && renewing.is_none() {
                cached = false;
                renewing = Some(Box::pin(renew(socket.to_owned())));
            }
            tokio::select! {
                event = next(&mut later, &mut unasked) => match event {
                    Some(ClientEvent::Disconnected(error)) => return lost(true)(error.into()),
                    Some(ClientEvent::Error { xid, error }) => {
                        tracing::warn!(xid = xid.0, error = %error.code, "the switch refused a message");
                    }
                    Some(ClientEvent::Async(message @ Message::Nicira(_))) => {
                        self.copies.take(&message);
                        for packet in fragments.take(&message, Instant::now()) {
                            if let Err(error) = client.packet_out(packet).await {
                                return lost(true)(error);
                            }
                        }
                    }
                    Some(ClientEvent::Async(Message::FlowRemoved(removed))) => {
                        if let Some(flow) = compiler::affinity::continued(&removed)
                            && let Err(error) = client.send(Message::FlowMod(Box::new(flow))).await
                        {
                            return lost(true)(error);
                        }
                    }
                    Some(ClientEvent::Async(message)) => match monitor::word(message) {
                        monitor::Word::Changes(changes) => {
                            if self.events.send(Event::FlowsChanged(self.session, changes)).await.is_err() {
                                return End::Agent;
                            }
                        }
                        monitor::Word::Gap => {
                            let problem = "the switch left out changes of its flows: reading all again";
                            return End::Lost { problem: problem.into(), was_up: true };
                        }
                        monitor::Word::Nothing => {}
                    },
                    Some(_) => {}
                    None => {
                        let problem = "the connection to the switch ended".into();
                        return End::Lost { problem, was_up: true };
                    }
                },
                outcome = finished(&mut applying) => {
                    (applying, cached) = (None, true);
                    let event = match outcome {
                        Ok(()) => Event::SwitchConfirmed,
                        Err(ClientError::Bundle(BundleError::Message { index, error })) => {
                            Event::SwitchRefused { index, error: error.code.to_string() }
                        }
                        // What is in force is unknown: read it again.
                        Err(error) => return lost(true)(error),
                    };
                    if self.events.send(event).await.is_err() {
                        return End::Agent;
                    }
                }
                Some(outcome) = cutting.join_next() => {
                    let outcome = match outcome {
                        Ok(outcome) => outcome.map_err(|error| error.to_string()),
                        Err(error) => Err(error.to_string()),
                    };
                    if self.events.send(Event::ConnectionsCut(self.session, outcome)).await.is_err() {
                        return End::Agent;
                    }
                }
                () = finished(&mut sweeping) => sweeping = None,
                () = finished(&mut renewing) => renewing = None,
                () = finished(&mut settling) => (settling, due) = (None, true),
                _ = again.tick() => {
                    due = true;
                    if !what.copies {
                        continue;
                    }
                    let mending = aside(beside::mend_ours(&client), &mut unasked, &mut later);
                    match Client::within(ANSWER_LIMIT, mending).await {
                        Ok(mended) => if !self.tell_drifts(mended).await { return End::Agent },
                        Err(error) => return lost(true)(error),
                    }
                }
                command = commands.recv() => match command {
                    Some(SwitchCommand::Served(session, now)) if session == self.session => {
                        (served, due) = (Some(now), true);
                        settling = Some(Box::pin(tokio::time::sleep(sweeper::SETTLED)));
                    }
                    Some(SwitchCommand::Cut(session, order)) if session == self.session => {
                        cutting.spawn(cut(client.clone(), socket.to_owned(), order));
                    }
                    Some(SwitchCommand::Apply(session, flows)) if session == self.session => {
                        applying = Some(Box::pin(apply(client.clone(), flows)));
                    }
                    Some(SwitchCommand::Forget(session, addresses)) if session == self.session => {
                        if let Err(error) = forget(&client, &addresses).await {
                            return lost(true)(error);
                        }
                    }
                    Some(SwitchCommand::Observe(session, mend)) if session == self.session => {
                        if mend == Mend::Beside {
                            let mending = aside(beside::mend(&client), &mut unasked, &mut later);
                            match Client::within(ANSWER_LIMIT, mending).await {
                                Ok(mended) => if !self.tell_drifts(mended).await { return End::Agent },
                                Err(error) => return lost(true)(error),
                            }
                        }
                        // What changed before is read with the rest.
                        later.retain(|event| !matches!(event, ClientEvent::Async(Message::MultipartReply(_) | Message::FlowMonitorResumed)));
                        let observed = observe(&client, &mut unasked);
                        let (shadow, early) = match Client::within(ANSWER_LIMIT, observed).await {
                            Ok(observed) => observed,
                            Err(error) => return lost(true)(error),
                        };
                        if !self.tell_observed(&what, shadow, early).await {
                            return End::Agent;
                        }
                    }
                    Some(SwitchCommand::Apply(..) | SwitchCommand::Forget(..) | SwitchCommand::Cut(..) | SwitchCommand::Served(..) | SwitchCommand::Observe(..)) => {}
                    Some(SwitchCommand::Dump(wanted)) => drop(tokio::spawn(dump(client.clone(), wanted))),
                    Some(SwitchCommand::Seen(reply)) => drop(reply.send(self.copies.seen.clone())),
                    Some(SwitchCommand::Probe(packet, reply)) => {
                        let client = client.clone();
                        let sent = async move {
                            client.packet_out(*packet).await?;
                            client.barrier().await
                        };
                        tokio::spawn(async move { reply.send(sent.await.map_err(|error| error.to_string())) });
                    }
                    Some(SwitchCommand::Beside(reply)) => {
                        let client = client.clone();
                        let differing = async move { Client::within(ANSWER_LIMIT, beside::differing(&client)).await };
                        tokio::spawn(async move { reply.send(differing.await.map_err(|error| error.to_string())) });
                    }
                    Some(SwitchCommand::Suppressed(reply)) => {
                        let client = client.clone();
                        let count = async move { Client::within(ANSWER_LIMIT, copies::suppressed(&client)).await };
                        tokio::spawn(async move { reply.send(count.await.map_err(|error| error.to_string())) });
                    }
                    None => return End::Agent,
                },
            }
        }
    }
}

async fn finished<T>(work: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// Does what needs answers of the switch, which come behind whatever else it says: that is kept for later. Not so its packets: copies
/// and fragments are worth nothing when they are old.
async fn aside<T>(
    work: impl Future<Output = T>,
    unasked: &mut mpsc::Receiver<ClientEvent>,
    later: &mut VecDeque<ClientEvent>,
) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(event) = unasked.recv() => {
                if !matches!(event, ClientEvent::Async(Message::Nicira(_))) {
                    later.push_back(event);
                }
            }
        }
    }
}

/// What was kept goes first.
async fn next(
    later: &mut VecDeque<ClientEvent>,
    unasked: &mut mpsc::Receiver<ClientEvent>,
) -> Option<ClientEvent> {
    match later.pop_front() {
        Some(event) => Some(event),
        None => unasked.recv().await,
    }
}

async fn cut(client: Client, socket: PathBuf, order: Box<Order>) -> Result<Outcome, CutError> {
    let rundir = socket.parent().unwrap_or(&socket);
    let began = Instant::now();
    let outcome = cutter::cut(&client, rundir, &order).await;
    if let Ok(Outcome { listed, asked }) = outcome {
        let elapsed_ms = began.elapsed().as_micros() as f64 / 1e3;
        tracing::debug!(listed, asked, elapsed_ms, "connections that a policy may deny");
    }
    outcome
}

async fn sweep(client: Client, socket: PathBuf, served: Arc<Served>) {
    let rundir = socket.parent().unwrap_or(&socket);
    match sweeper::sweep(&client, rundir, &served).await {
        Ok(0) => {}
        Ok(connections) => tracing::info!(connections, "forgot UDP connections to endpoints that are gone"),
        Err(error) => {
            tracing::warn!(error = %error, "UDP connections to endpoints that are gone may stand; looking again in a while");
        }
    }
}

async fn renew(socket: PathBuf) {
    let rundir = socket.parent().unwrap_or(&socket);
    if let Err(error) = cache::renew(rundir).await {
        tracing::warn!(error = %error, "packets that never pause may go by flows of before for a while");
    }
}

/// Asks to be told of every change that others make.
async fn watch(client: &Client) -> Result<(), ClientError> {
    // The first answer says that it was understood.
    client.multipart(monitor::request()).await?.next().await.map(drop)
}

/// Everything that the switch holds, and what changed while it was read.
async fn observe(
    client: &Client,
    unasked: &mut mpsc::Receiver<ClientEvent>,
) -> Result<(Shadow, Vec<FlowChange>), ClientError> {
    let mut shadow = Shadow::default();
    let mut early = Vec::new();
    let take = |flow: FlowStats| {
        // What the switch learned is its own.
        if !compiler::Table::from_id(flow.table.0).is_some_and(compiler::Table::is_learned) {
            shadow.observe(&flow);
        }
    };
    let mut reading = Box::pin(client.dump_flows(FlowStatsRequest::default(), take));
    loop {
        tokio::select! {
            read = reading.as_mut() => {
                read?;
                break;
            }
            Some(event) = unasked.recv() => match event {
                ClientEvent::Disconnected(error) => return Err(error.into()),
                ClientEvent::Async(message) => match monitor::word(message) {
                    monitor::Word::Changes(changes) => early.extend(changes),
                    // Only what was missed before is missed: everything is being read.
                    monitor::Word::Gap | monitor::Word::Nothing => {}
                },
                _ => {}
            },
        }
    }
    drop(reading);
    Ok((shadow, early))
}

/// What the switch is.
#[derive(Clone)]
struct What {
    version: String,
    copies: bool,
}

async fn what(client: &Client) -> Result<What, ClientError> {
    Ok(What { version: version(client).await?, copies: copies::prepare(client).await? })
}

/// What the switch says that it is: Open vSwitch's version. The database may not say, where nobody wrote it there.
async fn version(client: &Client) -> Result<String, ClientError> {
    let mut parts = client.multipart(MultipartRequestBody::Desc).await?;
    match parts.next().await? {
        Some(MultipartReplyBody::Desc(description)) => Ok(description.software.text().into_owned()),
        _ => Ok(String::new()),
    }
}

/// All or nothing; then a barrier, so that whoever is told can rely on it.
async fn apply(client: Client, flows: FlowMods) -> Result<(), ClientError> {
    let work = async {
        client.apply_bundle(flows.into_iter().map(|flow| Message::FlowMod(Box::new(flow)))).await?;
        client.barrier().await
    };
    Client::within(ANSWER_LIMIT, work).await
}

/// Whoever gets one of these addresses next must not inherit a connection. Clients are found by their original direction,
/// servers by the reply's, which holds behind a Service too.
async fn forget(client: &Client, addresses: &[IpAddr]) -> Result<(), ClientError> {
    for address in addresses {
        let address = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => *v6,
        };
        let source = Some(CtTuple { src: Some(address), ..CtTuple::default() });
        let zone = Some(compiler::register::ZONE);
        let of_client = CtFlush { original: source.clone(), zone, ..CtFlush::default() };
        let of_server = CtFlush { reply: source, zone, ..CtFlush::default() };
        for flush in [of_client, of_server] {
            client.send(Message::Nicira(Box::new(NiciraMessage::CtFlush(flush)))).await?;
        }
    }
    Ok(())
}

async fn dump(client: Client, Dump { table, drops, wanted, reply }: Dump) {
    let mut flows = Vec::new();
    let mut request = table.map(FlowStatsRequest::table).unwrap_or_default();
    if drops {
        request.cookie_mask = compiler::COOKIE_MASK | compiler::drops::COOKIE_DROPS;
        request.cookie = Cookie(compiler::COOKIE_MARK | compiler::drops::COOKIE_DROPS);
    }
    let read = client.dump_flows(request, |flow| {
        if wanted(&flow) {
            flows.push(flow);
        }
    });
    let read = Client::within(ANSWER_LIMIT, read).await;
    // Whoever asked may have gone.
    let _ = reply.send(read.map(|_| flows).map_err(|error| error.to_string()));
}
