//! How an attack is judged: the lie goes first and an honest packet of the same shape behind it. When the honest one has
//! arrived, the lie would have, too. So a test that cannot fail for want of a path fails for want of its control.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lab::Place;

use super::Wire;

/// How long the honest packet may take.
const LIMIT: Duration = Duration::from_secs(2);

/// How much later than the honest packet a lie could still come: they may have entered by different ports.
const STRAGGLER: Duration = Duration::from_millis(10);

/// Where packets arrive.
#[derive(Debug)]
pub enum Ear {
    /// Every frame that a device gets: a pod hears nothing at all of a lie.
    Wire(Wire),
    /// Datagrams that a node's own stack takes: frames reach its uplink in any case.
    Socket(UdpSocket, Mutex<Vec<Vec<u8>>>),
}

impl Ear {
    /// A datagram socket on all addresses of a place.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn socket(place: &Place, port: u16) -> Self {
        let socket = place.run(|| {
            let socket = UdpSocket::bind(("::", port))?;
            socket.set_nonblocking(true).map(|()| socket)
        });
        match socket {
            Ok(Ok(socket)) => Self::Socket(socket, Mutex::default()),
            Ok(Err(error)) => panic!("cannot listen on port {port} of {}: {error}", place.name()),
            Err(error) => panic!("cannot enter {}: {error}", place.name()),
        }
    }

    /// Whether these bytes came in.
    pub fn has(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Wire(wire) => wire.has(bytes),
            Self::Socket(socket, heard) => {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                let mut buffer = [0; 4096];
                while let Ok(length) = socket.recv(&mut buffer) {
                    heard.push(buffer[..length].to_vec());
                }
                heard.iter().any(|datagram| datagram.windows(bytes.len()).any(|part| part == bytes))
            }
        }
    }
}

/// One packet's own mark: bytes that no other packet has, and a source port, so that no connection of before knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// To be put into the payload.
    pub bytes: Vec<u8>,
    /// To be used as source port.
    pub port: u16,
}

impl Mark {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "no two are alike")]
    pub fn new() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        // Clear of the ports that a stack chooses for itself, and of those that are listened on.
        Self {
            bytes: format!("ferrule-attack-{number:08}").into_bytes(),
            port: 10_000 + (number % 20_000) as u16,
        }
    }
}

/// The verdicts of one test: all are tried before it fails.
#[derive(Debug, Default)]
pub struct Trials {
    tried: usize,
    findings: Vec<String>,
}

impl Trials {
    /// A lie that must not arrive at `ear`, and an honest packet of the same shape that must.
    pub fn lie(&mut self, what: &str, ear: &Ear, lie: impl FnOnce(&Mark), honest: impl FnOnce(&Mark)) {
        let (lying, speaking) = (Mark::new(), Mark::new());
        lie(&lying);
        honest(&speaking);
        let came = arrives(ear, &speaking.bytes);
        self.check(came, || format!("control: the honest packet did not arrive: {what}"));
        std::thread::sleep(STRAGGLER);
        self.check(!ear.has(&lying.bytes), || format!("LEAK: {what}"));
    }

    /// A packet that must arrive.
    pub fn honest(&mut self, what: &str, ear: &Ear, honest: impl FnOnce(&Mark)) {
        let mark = Mark::new();
        honest(&mark);
        let came = arrives(ear, &mark.bytes);
        self.check(came, || format!("the honest packet did not arrive: {what}"));
    }

    /// Anything else that must be so.
    pub fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.tried += 1;
        if !holds {
            self.findings.push(what());
        }
    }

    /// Ends the test.
    ///
    /// # Panics
    /// When something was found, with all of it; and when nothing was tried.
    pub fn verdict(self) {
        assert!(self.tried > 0, "nothing was tried");
        let (found, tried) = (self.findings.len(), self.tried);
        assert!(found == 0, "{found} of {tried}:\n  {}", self.findings.join("\n  "));
    }
}

fn arrives(ear: &Ear, bytes: &[u8]) -> bool {
    let began = Instant::now();
    while !ear.has(bytes) {
        if began.elapsed() > LIMIT {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}
