//! A place between the controller and the API server where connections can be slowed, cut, or answered with an error. It
//! passes bytes on as they are, TLS included; to answer by itself it uses the API server's own certificate.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cluster::ControlPlane;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Beside the API server's own.
const PORT: u16 = 8443;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    Pass,
    /// What the API server says comes this much later, piece by piece.
    Slow(Duration),
    /// They are closed at once.
    Closed,
    /// Every request is answered with this status.
    Answer(u16),
}

/// It runs until it is dropped.
#[derive(Debug)]
pub struct Cut {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mode: Mutex<Mode>,
    open: Mutex<Vec<TcpStream>>,
    answered: AtomicUsize,
    ended: AtomicBool,
    namespace: PathBuf,
    server: SocketAddr,
    tls: Arc<ServerConfig>,
}

impl Cut {
    /// In the API server's namespace.
    ///
    /// # Panics
    /// When it cannot listen there.
    pub fn new(control: &ControlPlane) -> Self {
        let address = SocketAddr::new(control.address().ip(), PORT);
        let namespace = lab::netns::path(&control.namespace());
        let listener = lab::netns::run(&namespace, || TcpListener::bind(address));
        let listener = listener.map_err(|error| error.to_string()).and_then(|l| l.map_err(|e| e.to_string()));
        let listener = listener.unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Pass),
            open: Mutex::default(),
            answered: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            namespace,
            server: control.address(),
            tls: server_config(control),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// Where the controller finds it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on; connections that are open are cut.
    pub fn set(&self, mode: Mode) {
        *lock(&self.shared.mode) = mode;
        self.shared.close();
    }

    /// How many requests it has answered by itself.
    pub fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.close();
        // Wakes the one that accepts.
        let address = self.address;
        let _ = lab::netns::run(&self.shared.namespace, || TcpStream::connect(address).is_ok());
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mode = *lock(&self.mode);
        match mode {
            Mode::Closed => {}
            // A client that goes away is its own affair.
            Mode::Answer(status) => drop(self.answer(stream, status)),
            Mode::Pass => self.pass(&stream, Duration::ZERO),
            Mode::Slow(delay) => self.pass(&stream, delay),
        }
    }

    fn pass(&self, near: &TcpStream, delay: Duration) {
        let server = self.server;
        let Ok(Ok(far)) = lab::netns::run(&self.namespace, || TcpStream::connect(server)) else { return };
        let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { return };
        lock(&self.open).extend([near_too, far_too]);
        std::thread::scope(|scope| {
            scope.spawn(|| carry(near, &far, Duration::ZERO));
            carry(&far, near, delay);
        });
    }

    fn answer(&self, stream: TcpStream, status: u16) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let connection = ServerConnection::new(Arc::clone(&self.tls)).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let mut head = Vec::new();
        let mut buffer = [0; 4096];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                read => head.extend_from_slice(&buffer[..read]),
            }
        }
        let body = format!(
            r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"made up by the test","code":{status}}}"#
        );
        // Counted before it is sent: who has read the answer finds it counted.
        self.answered.fetch_add(1, Ordering::Relaxed);
        write!(
            stream,
            "HTTP/1.1 {status} Made Up\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn close(&self) {
        for stream in lock(&self.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Bytes of one direction, until either end closes.
fn carry(mut from: &TcpStream, mut to: &TcpStream, delay: Duration) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        std::thread::sleep(delay);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn server_config(control: &ControlPlane) -> Arc<ServerConfig> {
    let folder = control.ca().parent().map(std::path::Path::to_owned).unwrap_or_default();
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(folder.join("apiserver.crt")).and_then(Iterator::collect);
    let key = PrivateKeyDer::from_pem_file(folder.join("apiserver.key"));
    let config = certificates.and_then(|certificates| Ok((certificates, key?)));
    let (certificates, key) =
        config.unwrap_or_else(|error| panic!("no certificate of the API server: {error}"));
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key);
    Arc::new(config.unwrap_or_else(|error| panic!("the API server's certificate: {error}")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
