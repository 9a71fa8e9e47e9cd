//! TLS to a store whose certificate was signed by a CA of its owner's.
//!
//! The certificates are for 127.0.0.1, until 2120; the key of the CA is gone.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use compaction_operator::store::{CredentialsFrom, ErrorKind, S3, Settings, Store};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::server::keys;

const CA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/store_faults/certificates/ca.crt"
);
const CERTIFICATE: &[u8] = include_bytes!("certificates/server.crt.der");
const KEY: &[u8] = include_bytes!("certificates/server.key.der");

#[tokio::test]
async fn a_store_with_a_certificate_of_ones_own_ca_is_reached_with_the_ca_bundle() {
    let directory = keys("test");
    let mut settings = settings(start(), directory.path());
    settings.ca_bundle = Some(CA.into());
    let store = S3::new(&settings).await.unwrap();
    assert_eq!(store.head("key").await.unwrap().unwrap().size, 7);
}

#[tokio::test]
async fn without_the_ca_bundle_it_is_refused_and_the_message_says_where_to_name_one() {
    let directory = keys("test");
    let store = S3::new(&settings(start(), directory.path())).await.unwrap();
    let error = store.head("key").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    let message = error.to_string();
    for text in ["certificate", "spec.storage.s3.caBundleConfigMapRef"] {
        assert!(message.contains(text), "{message}");
    }
}

#[tokio::test]
async fn a_handshake_that_is_never_answered_ends_at_the_deadline_of_the_connection() {
    // Nobody takes the connections that the kernel accepts.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = keys("test");
    let mut settings = settings(silent.local_addr().unwrap(), directory.path());
    settings.deadlines.connect = Duration::from_millis(300);
    let store = S3::new(&settings).await.unwrap();
    let error = store.head("key").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.detail.contains("300ms"), "{error}");
}

fn settings(address: SocketAddr, keys: &std::path::Path) -> Settings {
    let mut settings = Settings::new("bucket");
    settings.endpoint = Some(format!("https://{address}"));
    settings.credentials = CredentialsFrom::Directory(keys.to_owned());
    settings.retries.min_delay = Duration::from_millis(5);
    settings.retries.max_delay = Duration::from_millis(20);
    settings
}

/// A server in which every object has seven bytes.
fn start() -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(CERTIFICATE)],
            PrivatePkcs8KeyDer::from(KEY).into(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let stream = StreamOwned::new(tls, stream.unwrap());
            std::thread::spawn(move || serve(BufReader::new(stream)));
        }
    });
    address
}

/// Until the client goes, or refuses the certificate.
fn serve(mut stream: BufReader<StreamOwned<ServerConnection, TcpStream>>) {
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|length| length > 0) {
        if line == "\r\n" {
            let head = "HTTP/1.1 200 OK\r\netag: \"e1\"\r\ncontent-length: 7\r\n\r\n";
            stream.get_mut().write_all(head.as_bytes()).ok();
        }
        line.clear();
    }
}
