//! Traffic that runs while the world around it changes: numbered messages in both directions over real sockets of pods, each
//! counted as it is sent and noted as it arrives. Judges nothing.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lab::Place;

/// Between two messages of one speaker.
const GAP: Duration = Duration::from_millis(15);

/// How often those who listen look up.
const LOOK_UP: Duration = Duration::from_millis(50);

/// One direction of a conversation.
#[derive(Debug, Default)]
pub struct Direction {
    talks: AtomicBool,
    sent: AtomicU64,
    heard: Mutex<BTreeSet<u64>>,
}

impl Direction {
    /// From now on messages are sent, or not.
    pub fn talk(&self, talks: bool) {
        self.talks.store(talks, Ordering::SeqCst);
    }

    /// How many were sent: the number of the next one.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// How many of those that were sent from `number` on have arrived.
    pub fn heard_from(&self, number: u64) -> usize {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).range(number..).count()
    }

    /// How many of those before `number` have not arrived.
    pub fn missing_before(&self, number: u64) -> u64 {
        self.missing(0..number)
    }

    /// How many of those with these numbers have not arrived.
    pub fn missing(&self, numbers: Range<u64>) -> u64 {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        (numbers.end - numbers.start) - heard.range(numbers).count() as u64
    }

    fn next(&self) -> Option<u64> {
        self.talks.load(Ordering::SeqCst).then(|| self.sent.fetch_add(1, Ordering::SeqCst))
    }

    fn hear(&self, message: &[u8]) {
        if let Ok(number) = message.try_into() {
            let number = u64::from_be_bytes(number);
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        }
    }
}

/// A conversation between a client, who began it, and a server. Ends when it is dropped.
#[derive(Debug)]
pub struct Conversation {
    /// What it is, for people.
    pub name: String,
    /// What the client says.
    pub client: Arc<Direction>,
    /// What the server says.
    pub server: Arc<Direction>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Conversation {
    /// Over UDP. Nothing is said yet.
    ///
    /// # Panics
    /// When a socket cannot be made.
    pub fn udp(client: &Place, server: &Place, ipv4: bool, port: u16) -> Self {
        Self::udp_by(client, server, address(server, ipv4), port)
    }

    /// The same, the server asked by an address that is given to it.
    ///
    /// # Panics
    /// When a socket cannot be made.
    pub fn udp_by(client: &Place, server: &Place, asked: IpAddr, port: u16) -> Self {
        let (from, to) = (address(client, asked.is_ipv4()), address(server, asked.is_ipv4()));
        let bind = |place: &Place, address| place.run(|| UdpSocket::bind(address)).map_err(|e| e.to_string());
        let socket = |place, address| match bind(place, address) {
            Ok(Ok(socket)) => socket,
            other => panic!("cannot bind {address}: {other:?}"),
        };
        let near = socket(client, SocketAddr::new(from, 0));
        let far = socket(server, SocketAddr::new(to, port));
        let connected = near.local_addr().and_then(|near_address| {
            near.connect(SocketAddr::new(asked, port))?;
            far.connect(near_address)?;
            near.set_read_timeout(Some(LOOK_UP))?;
            far.set_read_timeout(Some(LOOK_UP))
        });
        if let Err(error) = connected {
            panic!("cannot connect {from} and {to} by {asked}: {error}");
        }
        let (near, far) = (Arc::new(near), Arc::new(far));
        let mut this = Self::new(format!("UDP {}:{from} to {}:{asked}", client.name(), server.name()));
        for (socket, says, hears) in [
            (near, this.client.clone(), this.server.clone()),
            (far, this.server.clone(), this.client.clone()),
        ] {
            let speaker = Arc::clone(&socket);
            this.every_gap(move || {
                // What is refused by an ICMP error has been sent.
                says.next().map_or(Ok(()), |number| speaker.send(&number.to_be_bytes()).map(drop).or(Ok(())))
            });
            let mut buffer = [0; 64];
            this.repeat(move || match socket.recv(&mut buffer) {
                Ok(length) => {
                    hears.hear(buffer.get(..length).unwrap_or_default());
                    Ok(())
                }
                Err(_) => Ok(()),
            });
        }
        this
    }

    /// Over TCP, connected. Nothing is said yet.
    ///
    /// # Panics
    /// When it cannot be connected.
    pub fn tcp(client: &Place, server: &Place, ipv4: bool, port: u16) -> Self {
        Self::tcp_by(client, server, address(server, ipv4), port)
    }

    /// The same, the server asked by an address that is given to it.
    ///
    /// # Panics
    /// When it cannot be connected.
    pub fn tcp_by(client: &Place, server: &Place, asked: IpAddr, port: u16) -> Self {
        let (from, to) = (address(client, asked.is_ipv4()), address(server, asked.is_ipv4()));
        let listener = match server.run(|| TcpListener::bind((to, port))) {
            Ok(Ok(listener)) => listener,
            other => panic!("cannot listen on {to} port {port}: {other:?}"),
        };
        let limit = Duration::from_secs(10);
        let connect = || TcpStream::connect_timeout(&SocketAddr::new(asked, port), limit);
        let near = match client.run(connect) {
            Ok(Ok(stream)) => stream,
            other => panic!("cannot connect to {asked} port {port}: {other:?}"),
        };
        let far = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => panic!("no connection on {to} port {port}: {error}"),
        };
        let mut this = Self::new(format!("TCP {}:{from} to {}:{asked}", client.name(), server.name()));
        for (stream, says, hears) in [
            (near, this.client.clone(), this.server.clone()),
            (far, this.server.clone(), this.client.clone()),
        ] {
            let set = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(LOOK_UP)));
            let set = set.and_then(|()| stream.set_write_timeout(Some(LOOK_UP)));
            let speaker = set.and_then(|()| stream.try_clone());
            let (mut speaker, mut stream) = match speaker {
                Ok(speaker) => (speaker, stream),
                Err(error) => panic!("{}: {error}", this.name),
            };
            let mut unsent = Vec::new();
            this.every_gap(move || {
                unsent.extend(says.next().into_iter().flat_map(u64::to_be_bytes));
                // What does not fit into a connection that stands still waits its turn.
                match speaker.write(&unsent) {
                    Ok(length) => drop(unsent.drain(..length)),
                    Err(error) if is_timeout(&error) => {}
                    Err(error) => return Err(error),
                }
                Ok(())
            });
            let (mut message, mut filled) = ([0; 8], 0);
            this.repeat(move || match stream.read(&mut message[filled..]) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    filled += length;
                    if filled == message.len() {
                        filled = 0;
                        hears.hear(&message);
                    }
                    Ok(())
                }
                Err(error) if is_timeout(&error) => Ok(()),
                Err(error) => Err(error),
            });
        }
        this
    }

    fn new(name: String) -> Self {
        let (client, server, stop) = Default::default();
        Self { name, client, server, stop, threads: Vec::new() }
    }

    fn every_gap(&mut self, mut work: impl FnMut() -> std::io::Result<()> + Send + 'static) {
        self.repeat(move || {
            std::thread::sleep(GAP);
            work()
        });
    }

    fn repeat(&mut self, mut work: impl FnMut() -> std::io::Result<()> + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(
            move || {
                while !stop.load(Ordering::Relaxed) && work().is_ok() {}
            },
        ));
    }

    /// Lets both speak until both were heard.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn begin(&self) {
        // The server of a UDP conversation must not be the first: it would be the one who began.
        self.client.talk(true);
        self.heard_within(&self.client, Duration::from_secs(10));
        self.server.talk(true);
        self.heard_within(&self.server, Duration::from_secs(10));
    }

    /// Waits until something that is said from now on arrives; how long that took.
    ///
    /// # Panics
    /// When nothing does.
    pub fn heard_within(&self, direction: &Direction, limit: Duration) -> Duration {
        let (began, from) = (Instant::now(), direction.sent());
        while direction.heard_from(from) == 0 {
            assert!(began.elapsed() < limit, "{}: nothing arrives within {limit:?}", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
        began.elapsed()
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn address(place: &Place, ipv4: bool) -> IpAddr {
    place.address(ipv4).unwrap_or_else(|| panic!("{} has no such address", place.name()))
}
