//! Discovery against an HTTPS server of our own, which says what an API server would.

use std::sync::Mutex;

use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

/// What it answers, and the requests that it got.
#[derive(Debug)]
struct ApiServer {
    answer: Arc<Mutex<String>>,
    asked: Arc<Mutex<Vec<String>>>,
    discovery: Discovery,
    folder: tempfile::TempDir,
}

fn ok(addresses: &[&str]) -> String {
    let endpoints: Vec<String> =
        addresses.iter().map(|address| format!(r#"{{"addresses":["{address}"]}}"#)).collect();
    let body = format!(
        r#"{{"items":[{{"addressType":"IPv4","endpoints":[{}],"ports":[{{"port":7470}}]}}]}}"#,
        endpoints.join(",")
    );
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

impl ApiServer {
    async fn start(answer: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.crt"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("token"), "first-token\n").unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(Mutex::new(Vec::new())));
        let (answers, asks) = (Arc::clone(&answer), Arc::clone(&asked));
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    tls.read_exact(&mut byte).await.unwrap();
                    request.push(byte[0]);
                }
                asks.lock().unwrap().push(String::from_utf8(request).unwrap());
                let answer = answers.lock().unwrap().clone();
                tls.write_all(answer.as_bytes()).await.unwrap();
                let _ = tls.shutdown().await;
            }
        });
        let server = Server {
            url: format!("https://127.0.0.1:{port}").parse().unwrap(),
            authority: folder.path().join("ca.crt"),
            token: folder.path().join("token"),
        };
        let discovery = Discovery {
            servers: vec![server],
            service: "ferrule/controllers".parse().unwrap(),
            kept: kept(folder.path()),
        };
        Self { answer, asked, discovery, folder }
    }
}

async fn reached(found: &mut watch::Receiver<BTreeSet<String>>, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|address| (*address).to_owned()).collect();
    let reached = found.wait_for(|found| *found == wanted);
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("it is found").unwrap();
}

#[tokio::test]
async fn controllers_are_found_looked_for_again_when_one_is_lost_and_remembered() {
    let server = ApiServer::start(ok(&["192.0.2.1"])).await;
    let (found, mut seen) = watch::channel(remembered(&server.discovery.kept));
    assert!(seen.borrow().is_empty());
    let failed = Arc::new(Notify::new());
    let task = tokio::spawn(run(server.discovery.clone(), found, Arc::clone(&failed), || 0.0));
    reached(&mut seen, &["192.0.2.1:7470"]).await;
    let request = server.asked.lock().unwrap()[0].clone();
    assert!(
        request.starts_with("GET /apis/discovery.k8s.io/v1/namespaces/ferrule/endpointslices?"),
        "{request}"
    );
    assert!(request.contains("Bearer first-token\r\n"), "{request}");

    // A controller moves, and the token has been rotated since.
    *server.answer.lock().unwrap() = ok(&["192.0.2.2", "192.0.2.3"]);
    std::fs::write(server.folder.path().join("token"), "second-token").unwrap();
    failed.notify_one();
    reached(&mut seen, &["192.0.2.2:7470", "192.0.2.3:7470"]).await;
    assert!(server.asked.lock().unwrap().last().unwrap().contains("Bearer second-token"));

    // None at all is no list, and one that starts without an API server knows the last.
    *server.answer.lock().unwrap() = ok(&[]);
    let before = server.asked.lock().unwrap().len();
    failed.notify_one();
    while server.asked.lock().unwrap().len() == before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(seen.borrow().len(), 2);
    assert_eq!(remembered(&server.discovery.kept), *seen.borrow());
    drop(seen);
    tokio::time::timeout(Duration::from_secs(5), task).await.expect("it ends with who asked").unwrap();
}

#[tokio::test]
async fn what_an_api_server_refuses_or_cannot_prove_is_said() {
    let mut server =
        ApiServer::start("HTTP/1.1 403 Forbidden\r\ncontent-length: 7\r\n\r\nnot you".into()).await;
    let error = read(&server.discovery, 0).await.unwrap_err();
    assert!(error.contains("403") && error.contains("not you") && error.contains("127.0.0.1"), "{error}");
    *server.answer.lock().unwrap() = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 5 << 20);
    assert!(read(&server.discovery, 0).await.is_err());
    let other = ApiServer::start(String::new()).await;
    server.discovery.servers[0].authority = other.folder.path().join("ca.crt");
    let error = read(&server.discovery, 0).await.unwrap_err();
    assert!(error.contains("TLS") && error.contains("certificate"), "{error}");
    server.discovery.servers[0].authority = other.folder.path().join("none.crt");
    assert!(read(&server.discovery, 0).await.unwrap_err().contains("none.crt"));
    // The next in the list is asked in its turn.
    server.discovery.servers.push(other.discovery.servers[0].clone());
    *other.answer.lock().unwrap() = ok(&["192.0.2.9"]);
    assert_eq!(read(&server.discovery, 1).await.unwrap().len(), 1);
}
