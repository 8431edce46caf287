//! What answers in a pod: a small server on its declared ports that says who it is. TCP echoes and understands an HTTP
//! GET, UDP echoes, SCTP answers an INIT (by raw packets). Knows nothing of the lab around it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use network::Protocol;
use network::matrix::ServedPort;
use nix::sys::socket::{SockaddrStorage, recvfrom};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::sctp;

/// What a pod's responder does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What it says it is: `shop/cart-0`, `node:node-1`.
    pub identity: String,
    /// Where it listens.
    pub ports: Vec<ServedPort>,
    /// On these addresses only; empty: all. Needed where a host has several, so that an answer leaves from the one asked.
    pub addresses: Vec<IpAddr>,
}

/// More connections than this at a time are closed at once: a pod's responder must not grow without limit.
const MAX_CONNECTIONS: usize = 256;

/// A connection that says nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(300);

/// First bytes of a connection that only sends (throughput): read and thrown away.
pub const SINK: &[u8] = b"SINK\n";

/// Serves until the process ends. Returns the ports that could not be opened, each with the reason, once all others are
/// served by threads of their own.
pub fn start(service: &Service) -> Vec<(ServedPort, io::Error)> {
    let mut failed = Vec::new();
    let sctp: Vec<u16> =
        service.ports.iter().filter(|port| port.protocol == Protocol::Sctp).map(|port| port.port).collect();
    for &port in &service.ports {
        let opened = match port.protocol {
            Protocol::Tcp => serve_tcp(service, port.port),
            Protocol::Udp => serve_udp(service, port.port),
            // One raw socket per address sees the packets of every port.
            Protocol::Sctp if sctp.first() == Some(&port.port) => serve_sctp(service, &sctp),
            Protocol::Sctp => Ok(()),
        };
        if let Err(error) = opened {
            failed.push((port, error));
        }
    }
    failed
}

/// The addresses to bind to: those named, else the wildcards of both families (each only if the namespace has it).
fn addresses(service: &Service) -> (Vec<IpAddr>, bool) {
    if service.addresses.is_empty() {
        (vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)], true)
    } else {
        (service.addresses.clone(), false)
    }
}

fn bind_all<T>(service: &Service, mut bind: impl FnMut(IpAddr) -> io::Result<T>) -> io::Result<Vec<T>> {
    let (addresses, lenient) = addresses(service);
    let mut sockets = Vec::new();
    for address in addresses {
        match bind(address) {
            Ok(socket) => sockets.push(socket),
            // A kernel or namespace without IPv6 has no such sockets.
            Err(error) if lenient && address.is_ipv6() && error.kind() != io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

fn socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(kind == Type::STREAM)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn serve_tcp(service: &Service, port: u16) -> io::Result<()> {
    let listeners = bind_all(service, |address| {
        let socket = socket(SocketAddr::new(address, port), Type::STREAM)?;
        socket.listen(1024)?;
        Ok(TcpListener::from(socket))
    })?;
    let open = Arc::new(AtomicUsize::new(0));
    for listener in listeners {
        let (identity, open) = (service.identity.clone(), Arc::clone(&open));
        thread(move || {
            loop {
                let Ok((stream, _)) = listener.accept() else {
                    // Out of descriptors or memory: others may free some.
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                };
                if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                    open.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let (identity, open) = (identity.clone(), Arc::clone(&open));
                thread(move || {
                    // The peer may go away at any moment; that is no concern of the server.
                    let _ = converse(stream, &identity);
                    open.fetch_sub(1, Ordering::Relaxed);
                })
            }
        });
    }
    Ok(())
}

fn converse(mut stream: TcpStream, identity: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut first = true;
    loop {
        let length = stream.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        if first {
            if bytes.starts_with(b"GET ") || bytes.starts_with(b"HEAD ") {
                let body = format!("{identity}\n");
                let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n";
                return write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
            }
            if bytes.starts_with(SINK) {
                while stream.read(&mut buffer)? > 0 {}
                return writeln!(stream, "{identity}");
            }
            writeln!(stream, "{identity}")?;
            first = false;
        }
        stream.write_all(bytes)?;
    }
}

fn serve_udp(service: &Service, port: u16) -> io::Result<()> {
    let sockets = bind_all(service, |address| {
        Ok(std::net::UdpSocket::from(socket(SocketAddr::new(address, port), Type::DGRAM)?))
    })?;
    for socket in sockets {
        let identity = service.identity.clone();
        thread(move || {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let mut answer = format!("{identity}\n").into_bytes();
                answer.extend(buffer.get(..length).unwrap_or_default());
                // Nobody waits for an answer that cannot be sent.
                let _ = socket.send_to(&answer, from);
            }
        });
    }
    Ok(())
}

fn serve_sctp(service: &Service, ports: &[u16]) -> io::Result<()> {
    let sockets = bind_all(service, |address| {
        let at = SocketAddr::new(address, 0);
        let socket = Socket::new(Domain::for_address(at), Type::RAW, Some(sctp::PROTOCOL.into()))?;
        socket.bind(&at.into())?;
        Ok((socket, address.is_ipv4()))
    })?;
    for (socket, ipv4) in sockets {
        let (identity, ports) = (service.identity.clone(), ports.to_vec());
        thread(move || {
            let mut buffer = vec![0; 64 * 1024];
            let mut own_tag: u32 = std::process::id();
            loop {
                let Ok((length, Some(from))) = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer)
                else {
                    continue;
                };
                let Some(from) = address_of(&from) else { continue };
                let Some(packet) = payload(buffer.get(..length).unwrap_or_default(), ipv4) else { continue };
                let Some(packet) = sctp::Packet::decode(packet) else { continue };
                if !ports.contains(&packet.destination) {
                    continue;
                }
                own_tag = own_tag.wrapping_mul(0x9e37_79b1).wrapping_add(1).max(1);
                if let Some(answer) = packet.accept(own_tag, identity.as_bytes()) {
                    let _ = socket.send_to(&answer.encode(), &SockAddr::from(SocketAddr::new(from, 0)));
                }
            }
        });
    }
    Ok(())
}

/// What lies behind the IPv4 header, which raw IPv4 sockets deliver and IPv6 ones do not (raw(7), RFC 3542 §3).
pub(crate) fn payload(bytes: &[u8], ipv4: bool) -> Option<&[u8]> {
    if !ipv4 {
        return Some(bytes);
    }
    bytes.get(usize::from(bytes.first()? & 0x0f) * 4..)
}

fn address_of(address: &SockaddrStorage) -> Option<IpAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
        _ => None,
    }
}

/// A thread with a small stack: there may be hundreds.
fn thread(work: impl FnOnce() + Send + 'static) {
    // Without a thread the connection closes, which its peer sees.
    let _ = std::thread::Builder::new().stack_size(128 * 1024).spawn(work);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_who_it_is_over_tcp_udp_and_http() {
        // A port that the system says is free; only this test knows it.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ports = vec![
            ServedPort { protocol: Protocol::Tcp, port: free },
            ServedPort { protocol: Protocol::Udp, port: free },
        ];
        let localhost = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let service = Service { identity: "shop/cart-0".into(), ports, addresses: localhost };
        assert!(start(&service).is_empty());
        let talk = |say: &str| {
            let mut stream = TcpStream::connect(("127.0.0.1", free)).unwrap();
            stream.write_all(say.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(talk("hello"), "shop/cart-0\nhello");
        assert!(talk("GET / HTTP/1.0\r\n\r\n").ends_with("\r\n\r\nshop/cart-0\n"));
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"ping", ("127.0.0.1", free)).unwrap();
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"shop/cart-0\nping");
        let clash = start(&service);
        assert_eq!(clash.len(), 2, "a port in use must be reported: {clash:?}");
    }
}
