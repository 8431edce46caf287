//! A packet socket on one device of one namespace (packet(7)): frames go out as they are, and everything that comes in is
//! kept for the test to look at.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use network::Mac;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, sendto, socket,
};

/// `PACKET_OUTGOING` of packet(7): our own frames, seen on their way out.
const OUTGOING: u8 = 4;

/// Frames longer than any that a lab carries are cut.
const LONGEST: usize = 65_536;

/// A device to send on and to listen on.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    link: LinkAddr,
    heard: Mutex<Vec<Vec<u8>>>,
}

impl Wire {
    /// Opens a device of a namespace.
    ///
    /// # Panics
    /// When there is no such device, or without root.
    pub fn open(namespace: &Path, device: &str) -> Self {
        match lab::netns::run(namespace, || Self::open_here(device)) {
            Ok(Ok(wire)) => wire,
            Ok(Err(error)) => panic!("cannot listen on {device} in {}: {error}", namespace.display()),
            Err(error) => panic!("{error}"),
        }
    }

    fn open_here(device: &str) -> nix::Result<Self> {
        let link = getifaddrs()?
            .filter(|one| one.interface_name == device)
            .find_map(|one| one.address?.as_link_addr().copied())
            .ok_or(Errno::ENODEV)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        bind(socket.as_raw_fd(), &link)?;
        Ok(Self { socket, link, heard: Mutex::default() })
    }

    /// The device's own Ethernet address.
    pub fn mac(&self) -> Mac {
        Mac(self.link.addr().unwrap_or_default())
    }

    /// Sends a frame as it is.
    ///
    /// # Panics
    /// When the device does not take it.
    pub fn send(&self, frame: &[u8]) {
        if let Err(error) = sendto(self.socket.as_raw_fd(), frame, &self.link, MsgFlags::empty()) {
            panic!("cannot send {} bytes: {error}", frame.len());
        }
    }

    /// Everything that came in since it was opened.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.listen().clone()
    }

    /// Whether some frame that came in holds these bytes.
    pub fn has(&self, bytes: &[u8]) -> bool {
        self.any(|frame| frame.windows(bytes.len()).any(|window| window == bytes))
    }

    /// Whether some frame that came in is one of these.
    pub fn any(&self, wanted: impl Fn(&[u8]) -> bool) -> bool {
        self.listen().iter().any(|frame| wanted(frame))
    }

    /// Waits for a frame; whether it came.
    pub fn waits_for(&self, limit: Duration, wanted: impl Fn(&[u8]) -> bool) -> bool {
        let began = Instant::now();
        while !self.any(&wanted) {
            if began.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Forgets what was heard.
    pub fn forget(&self) {
        self.listen().clear();
    }

    /// Takes in what came, and gives all of it.
    fn listen(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = vec![0; LONGEST];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    if from.is_none_or(|from| from.pkttype() != OUTGOING) {
                        heard.push(buffer[..length].to_vec());
                    }
                }
                Err(Errno::EINTR) => {}
                // Nothing more for now; a device that went away (a switch restarted) is heard again when it is back.
                Err(_) => return heard,
            }
        }
    }
}
