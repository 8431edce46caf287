//! Traffic that notices one lost packet, and waiting for what must come. It knows no daemons.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longer than a round trip, shorter than the first retransmission of TCP (200 ms).
const LOST: Duration = Duration::from_millis(190);

/// Waits until it is so.
///
/// # Panics
/// When it is not in time.
pub fn until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
    let began = Instant::now();
    while !ready() {
        assert!(began.elapsed() < limit, "not after {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends the threads of a scope also when the test fails inside it.
#[derive(Debug)]
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends and awaits small pieces on one connection to a lab's responder, which says its name first.
///
/// # Panics
/// When a piece takes longer than a retransmission would: a packet was lost.
pub fn echo_until(stop: &AtomicBool, echoes: &AtomicUsize, to: IpAddr, name: &[u8]) {
    echo_within(LOST, stop, echoes, to, name);
}

/// The same where a piece may take this long: on a machine that is too busy to tell a lost packet from a late one.
///
/// # Panics
/// When a piece takes longer.
pub fn echo_within(limit: Duration, stop: &AtomicBool, echoes: &AtomicUsize, to: IpAddr, name: &[u8]) {
    let talk = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect((to, 80))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut said = vec![0; name.len()];
        let mut buffer = [0; 10];
        stream.write_all(b"0123456789")?;
        stream.read_exact(&mut said)?;
        assert_eq!(said, name);
        stream.read_exact(&mut buffer)?;
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            stream.write_all(b"0123456789")?;
            stream.read_exact(&mut buffer)?;
            assert!(began.elapsed() < limit, "a packet was lost: {:?}", began.elapsed());
            echoes.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    if let Err(error) = talk() {
        panic!("the connection to {to} broke after {} echoes: {error}", echoes.load(Ordering::Relaxed));
    }
}
