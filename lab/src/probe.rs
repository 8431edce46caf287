//! Probes for real: one thread per source, inside its network namespace, with all of its connections open at once. A probe
//! passes when the one that was meant answers and says its name. Knows sockets and names, no policy.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use network::Protocol;
use network::matrix::{Entry, ServedPort};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::Interrupt;
use crate::error::Result;
use crate::netns;
use crate::responder::payload;
use crate::sctp;

/// When a probe that had no answer sends again: TCP's own first retransmission (RFC 6298 §2.1), the others do as it does. A
/// lost packet must not look like a denied one.
const RETRANSMIT: Duration = Duration::from_secs(1);

/// When a probe without an answer counts as blocked.
pub const LIMIT: Duration = Duration::from_millis(2200);

/// Connections that may be open at once, where the process may have so many descriptors.
const MAX_OPEN: usize = 4096;

/// Descriptors that others need.
const SPARE: u64 = 256;

/// How many probes all sources together begin between two looks at what came back (20 ms at most): a switch takes a few
/// thousand new connections a second, and a burst that overruns it would look like a policy.
const BURST: usize = 64;

/// One probe begins every so often, over all sources.
const PACE: Duration = Duration::from_micros(400);

/// The pairs of addresses between which an SCTP probe is under way. The userspace datapath tracks SCTP without its ports: two
/// associations of one pair are one to it, so that probes at a time would judge each other's.
type Pairs = Mutex<BTreeSet<(IpAddr, IpAddr)>>;

/// Somebody who probes.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in the matrix.
    pub entry: Entry,
    /// Its namespace.
    pub namespace: PathBuf,
    /// The families it has.
    pub ipv4: bool,
    /// The families it has.
    pub ipv6: bool,
    /// What it asks Services for.
    pub asks: Vec<Ask>,
}

/// A way to a port of a Service, which one of several answers.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The Service.
    pub to: Entry,
    /// Its port.
    pub port: ServedPort,
    /// Where to send to.
    pub at: SocketAddr,
    /// Who may answer.
    pub answers: BTreeSet<String>,
    /// How many connections are made: each may get another endpoint.
    pub times: usize,
}

/// Somebody who is probed.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name in the matrix; also what its responder says.
    pub entry: Entry,
    /// Where it is reached.
    pub addresses: Vec<IpAddr>,
    /// What it serves.
    pub serves: BTreeSet<ServedPort>,
    /// What its responder says.
    pub identity: String,
}

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The one that was meant answered.
    Passed,
    /// Nobody did, in time.
    TimedOut,
    /// Somebody refused: a reset or an ICMP error.
    Refused(String),
    /// Another one answered.
    Misdelivered(String),
}

/// A probe that was made.
#[derive(Clone, Debug)]
pub struct Probed {
    /// From.
    pub from: Entry,
    /// To.
    pub to: Entry,
    /// At.
    pub address: IpAddr,
    /// The port.
    pub port: ServedPort,
    /// What became of it.
    pub outcome: Outcome,
}

/// Probes every target from every source. `progress` is told how many of how many are done.
pub fn run(
    sources: &[Source],
    targets: &[Target],
    interrupt: &Interrupt,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Probed>> {
    run_some(sources, targets, PACE, &|_, _, _| true, interrupt, progress)
}

/// The same for the probes that are `wanted` (from, to, at), one every `pace`.
pub(crate) fn run_some(
    sources: &[Source],
    targets: &[Target],
    pace: Duration,
    wanted: &dyn Fn(&Entry, &Entry, ServedPort) -> bool,
    interrupt: &Interrupt,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Probed>> {
    let plans: Vec<(&Source, Vec<Plan<'_>>)> = sources
        .iter()
        .map(|source| {
            let mut plans = plans(source, targets);
            plans.retain(|plan| wanted(&source.entry, plan.to, plan.port));
            (source, plans)
        })
        .filter(|(_, plans)| !plans.is_empty())
        .collect();
    let total = plans.iter().map(|(_, plan)| plan.len()).sum();
    let slots = Slots::new(descriptors(), pace);
    let burst = (BURST / sources.len().max(1)).max(1);
    let pairs = Pairs::default();
    let done = AtomicUsize::new(0);
    let all = Mutex::new(Vec::with_capacity(total));
    let failed = Mutex::new(None);
    progress(0, total);
    std::thread::scope(|scope| {
        for (source, plan) in &plans {
            let (limits, done, all, failed) =
                (Limits { slots: &slots, pairs: &pairs, burst }, &done, &all, &failed);
            scope.spawn(move || {
                let finished = |outcomes: usize| {
                    progress(done.fetch_add(outcomes, Ordering::Relaxed) + outcomes, total);
                };
                let result = netns::enter(&source.namespace)
                    .map(|()| probe_all(source, plan, &limits, interrupt, &finished));
                // Poisoned only by a panic of another thread, whose results then matter no more.
                match result {
                    Ok(probed) => all.lock().unwrap_or_else(|e| e.into_inner()).extend(probed),
                    Err(error) => *failed.lock().unwrap_or_else(|e| e.into_inner()) = Some(error),
                }
            });
        }
    });
    interrupt.check()?;
    if let Some(error) = failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
        return Err(error);
    }
    let mut all = all.into_inner().unwrap_or_else(|e| e.into_inner());
    all.sort_by(|a, b| (&a.from, &a.to, a.port, a.address).cmp(&(&b.from, &b.to, b.port, b.address)));
    Ok(all)
}

/// How many sockets may be open: the limit is raised as far as it may be.
fn descriptors() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return BURST };
    let wanted = (MAX_OPEN as u64 + SPARE).min(hard);
    // A limit that cannot be raised is kept to.
    let raised = soft >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok();
    let limit = if raised { wanted.max(soft) } else { soft };
    usize::try_from(limit.saturating_sub(SPARE)).unwrap_or(MAX_OPEN).clamp(BURST, MAX_OPEN)
}

struct Plan<'a> {
    to: &'a Entry,
    at: SocketAddr,
    port: ServedPort,
    answers: Answers<'a>,
}

/// Who may answer.
#[derive(Clone, Copy)]
enum Answers<'a> {
    Only(&'a str),
    OneOf(&'a BTreeSet<String>),
}

impl Answers<'_> {
    fn has(self, answer: &str) -> bool {
        match self {
            Self::Only(name) => name == answer,
            Self::OneOf(names) => names.contains(answer),
        }
    }
}

fn plans<'a>(source: &'a Source, targets: &'a [Target]) -> Vec<Plan<'a>> {
    let mut plans = Vec::new();
    for target in targets {
        for &address in &target.addresses {
            if if address.is_ipv4() { source.ipv4 } else { source.ipv6 } {
                plans.extend(target.serves.iter().map(|&port| Plan {
                    to: &target.entry,
                    at: SocketAddr::new(address, port.port),
                    port,
                    answers: Answers::Only(&target.identity),
                }));
            }
        }
    }
    for ask in &source.asks {
        let plan = || Plan { to: &ask.to, at: ask.at, port: ask.port, answers: Answers::OneOf(&ask.answers) };
        plans.extend(std::iter::repeat_with(plan).take(ask.times));
    }
    plans
}

impl Plan<'_> {
    /// Both ends of an SCTP probe, in the same order from either side; called inside the source's namespace.
    fn pair(&self) -> Option<(IpAddr, IpAddr)> {
        if self.port.protocol != Protocol::Sctp {
            return None;
        }
        let (own, at) = (local_address(self.at.ip()).ok()?, self.at.ip());
        Some((own.min(at), own.max(at)))
    }
}

/// How many more connections may be opened, over all threads, and how fast.
struct Slots {
    free: AtomicUsize,
    began: Instant,
    taken: AtomicUsize,
    pace: Duration,
}

impl Slots {
    fn new(free: usize, pace: Duration) -> Self {
        Self { free: AtomicUsize::new(free), began: Instant::now(), taken: AtomicUsize::new(0), pace }
    }

    fn take(&self) -> bool {
        let due = self.began.elapsed().as_micros() / self.pace.as_micros().max(1) + 1;
        self.taken.load(Ordering::Acquire) as u128 <= due
            && self
                .free
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1))
                .is_ok_and(|_| {
                    self.taken.fetch_add(1, Ordering::AcqRel);
                    true
                })
    }

    fn give_back(&self) {
        self.free.fetch_add(1, Ordering::AcqRel);
    }
}

fn probe_all(
    source: &Source,
    plans: &[Plan<'_>],
    limits: &Limits<'_>,
    interrupt: &Interrupt,
    finished: &dyn Fn(usize),
) -> Vec<Probed> {
    let mut waiting: VecDeque<&Plan<'_>> = plans.iter().collect();
    let mut open: Vec<(&Plan<'_>, Attempt)> = Vec::new();
    let mut probed = Vec::with_capacity(plans.len());
    let mut tell = |plan: &Plan<'_>, outcome: Outcome| {
        probed.push(Probed {
            from: source.entry.clone(),
            to: plan.to.clone(),
            address: plan.at.ip(),
            port: plan.port,
            outcome,
        });
        finished(1);
    };
    while (!waiting.is_empty() || !open.is_empty()) && !interrupt.is_set() {
        for _ in 0..limits.burst.min(waiting.len()) {
            let Some(plan) = waiting.pop_front() else { break };
            let pair = plan.pair();
            if !limits.take(pair) {
                waiting.push_back(plan);
                continue;
            }
            match Attempt::start(plan.at, plan.port.protocol) {
                Ok(attempt) => open.push((plan, Attempt { pair, ..attempt })),
                Err(error) => {
                    limits.give_back(pair);
                    tell(plan, Outcome::Refused(error.to_string()));
                }
            }
        }
        wait(&open);
        let now = Instant::now();
        open.retain_mut(|(plan, attempt)| {
            let Some(outcome) = attempt.advance(now, plan.answers) else { return true };
            tell(plan, outcome);
            limits.give_back(attempt.pair);
            false
        });
    }
    for (_, attempt) in open {
        limits.give_back(attempt.pair);
    }
    probed
}

/// What all threads share and keep to.
struct Limits<'a> {
    slots: &'a Slots,
    pairs: &'a Pairs,
    burst: usize,
}

impl Limits<'_> {
    /// Whether a probe may begin now: a slot is free, and nobody probes SCTP between the same addresses.
    fn take(&self, pair: Option<(IpAddr, IpAddr)>) -> bool {
        if !self.slots.take() {
            return false;
        }
        // A panic elsewhere ends the whole run.
        let free = pair.is_none_or(|pair| self.pairs.lock().unwrap_or_else(|e| e.into_inner()).insert(pair));
        if !free {
            self.slots.give_back();
        }
        free
    }

    fn give_back(&self, pair: Option<(IpAddr, IpAddr)>) {
        if let Some(pair) = pair {
            self.pairs.lock().unwrap_or_else(|e| e.into_inner()).remove(&pair);
        }
        self.slots.give_back();
    }
}

/// Until something can be read or written, or 20 ms: other threads may have freed slots, and clocks must be looked at.
fn wait(open: &[(&Plan<'_>, Attempt)]) {
    let mut descriptors: Vec<_> = open
        .iter()
        .map(|(_, attempt)| {
            let flags = if attempt.connecting { PollFlags::POLLOUT } else { PollFlags::POLLIN };
            PollFd::new(attempt.socket.as_fd(), flags)
        })
        .collect();
    // An error here only means that the sockets are tried without knowing.
    let _ = poll(&mut descriptors, PollTimeout::from(20_u8));
}

/// One probe under way.
struct Attempt {
    socket: Socket,
    protocol: Protocol,
    to: SocketAddr,
    began: Instant,
    again: bool,
    connecting: bool,
    tag: u32,
    heard: Vec<u8>,
    pair: Option<(IpAddr, IpAddr)>,
}

impl Attempt {
    fn start(to: SocketAddr, protocol: Protocol) -> io::Result<Self> {
        static TAG: AtomicUsize = AtomicUsize::new(1);
        let domain = Domain::for_address(to);
        let socket = match protocol {
            Protocol::Tcp => Socket::new(domain, Type::STREAM, None)?,
            Protocol::Udp => Socket::new(domain, Type::DGRAM, None)?,
            Protocol::Sctp => Socket::new(domain, Type::RAW, Some(sctp::PROTOCOL.into()))?,
        };
        socket.set_nonblocking(true)?;
        let mut attempt = Self {
            socket,
            protocol,
            to,
            began: Instant::now(),
            again: false,
            connecting: protocol == Protocol::Tcp,
            tag: (TAG.fetch_add(1, Ordering::Relaxed) as u32).wrapping_mul(0x9e37_79b1) | 1,
            heard: Vec::new(),
            pair: None,
        };
        if protocol == Protocol::Tcp {
            // Ending with a reset leaves no connection waiting behind.
            attempt.socket.set_linger(Some(Duration::ZERO))?;
        }
        // A raw socket has no ports: they are in the packet.
        let at = if protocol == Protocol::Sctp { SocketAddr::new(to.ip(), 0) } else { to };
        match attempt.socket.connect(&at.into()) {
            Ok(()) => {
                attempt.connecting = false;
                attempt.send()?;
            }
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
            Err(error) => return Err(error),
        }
        Ok(attempt)
    }

    fn send(&mut self) -> io::Result<()> {
        match self.protocol {
            Protocol::Tcp | Protocol::Udp => (&self.socket).write_all(b"who are you?\n"),
            Protocol::Sctp => {
                let packet = sctp::Packet {
                    source: self.source_port(),
                    destination: self.to.port(),
                    tag: 0,
                    chunk: sctp::Chunk::Init { initiate_tag: self.tag },
                };
                (&self.socket).write_all(&packet.encode())
            }
        }
    }

    fn source_port(&self) -> u16 {
        49_152 | (self.tag >> 16) as u16 & 0x3fff
    }

    /// What became of it, once that is known.
    fn advance(&mut self, now: Instant, answers: Answers<'_>) -> Option<Outcome> {
        match self.step() {
            Ok(Some(answer)) if answers.has(&answer) => return Some(Outcome::Passed),
            Ok(Some(answer)) => return Some(Outcome::Misdelivered(answer)),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Some(Outcome::Refused(error.to_string())),
        }
        let waited = now.saturating_duration_since(self.began);
        if waited > LIMIT {
            return Some(Outcome::TimedOut);
        }
        if waited > RETRANSMIT && !self.again && self.protocol != Protocol::Tcp {
            self.again = true;
            if let Err(error) = self.send() {
                return Some(Outcome::Refused(error.to_string()));
            }
        }
        None
    }

    /// The answer's name, if it is there.
    fn step(&mut self) -> io::Result<Option<String>> {
        if self.connecting {
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
            if self.socket.peer_addr().is_err() {
                return Ok(None);
            }
            self.connecting = false;
            self.send()?;
        }
        let mut buffer = [0; 2048];
        loop {
            let length = (&self.socket).read(&mut buffer)?;
            let bytes = buffer.get(..length).unwrap_or_default();
            match self.protocol {
                Protocol::Tcp if length == 0 => return Err(io::Error::other("closed without an answer")),
                Protocol::Tcp => self.heard.extend(bytes),
                Protocol::Udp => self.heard = bytes.to_vec(),
                Protocol::Sctp => match self.answer(bytes) {
                    Some(name) => return Ok(Some(name)),
                    None => continue,
                },
            }
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(String::from_utf8_lossy(self.heard.get(..end).unwrap_or_default()).into()));
            }
        }
    }

    fn answer(&self, bytes: &[u8]) -> Option<String> {
        let packet = sctp::Packet::decode(payload(bytes, self.to.is_ipv4())?)?;
        let ours = packet.tag == self.tag && packet.destination == self.source_port();
        match packet.chunk {
            sctp::Chunk::InitAck { cookie, .. } if ours => Some(String::from_utf8_lossy(&cookie).into()),
            _ => None,
        }
    }
}

/// The address that the kernel would send from: what the other side will see. Sends nothing.
pub fn local_address(to: IpAddr) -> io::Result<IpAddr> {
    let at = SocketAddr::new(to, 9);
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, None)?;
    socket.connect(&at.into())?;
    let own = socket.local_addr()?.as_socket();
    own.map(|own| own.ip())
        .ok_or_else(|| io::Error::other(format!("descriptor {} has no address", socket.as_raw_fd())))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;

    use network::NamespacedName;

    use super::*;
    use crate::responder::{self, Service};

    #[test]
    fn who_answers_counts_and_who_does_not_is_told_apart() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = |protocol| ServedPort { protocol, port: free };
        let localhost: IpAddr = "127.0.0.1".parse().unwrap();
        let service = Service {
            identity: "shop/cart-0".into(),
            ports: vec![port(Protocol::Tcp), port(Protocol::Udp)],
            addresses: vec![localhost],
        };
        assert!(responder::start(&service).is_empty());
        // Our own namespace by another name: entering it needs root, so probe_all is called without.
        let source = Source {
            entry: Entry::Outside,
            namespace: Path::new("/proc/self/ns/net").into(),
            ipv4: true,
            ipv6: false,
            asks: Vec::new(),
        };
        let target = |name: &str, address: &str, protocol| Target {
            entry: Entry::Pod(NamespacedName::new("shop", name)),
            addresses: vec![address.parse().unwrap()],
            serves: [port(protocol)].into(),
            identity: format!("shop/{name}"),
        };
        let targets = [
            target("cart-0", "127.0.0.1", Protocol::Tcp),
            target("cart-0", "127.0.0.1", Protocol::Udp),
            target("other-0", "127.0.0.1", Protocol::Tcp),
            target("gone-0", "127.0.0.2", Protocol::Tcp),
        ];
        let plans = plans(&source, &targets);
        let (slots, pairs) = (Slots::new(2, Duration::ZERO), Pairs::default());
        let limits = Limits { slots: &slots, pairs: &pairs, burst: 8 };
        let mut outcomes: Vec<_> = probe_all(&source, &plans, &limits, &Interrupt::default(), &|_| {})
            .into_iter()
            .map(|probed| (probed.to.to_string(), probed.port.protocol, probed.outcome))
            .collect();
        outcomes.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        assert_eq!(outcomes[0].2, Outcome::Passed);
        assert_eq!(outcomes[1].2, Outcome::Passed);
        assert!(matches!(outcomes[2].2, Outcome::Refused(_)), "{outcomes:?}");
        assert_eq!(outcomes[3].2, Outcome::Misdelivered("shop/cart-0".into()));
        assert_eq!(slots.free.into_inner(), 2, "a slot was lost");
    }
}
