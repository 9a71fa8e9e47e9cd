//! An S3 server on the loopback interface over a folder: what `run --store DIR` and `demo` talk to,
//! as they would talk to any other store. A bucket is a sub-folder and an object a file in it, so
//! that a user puts files in and looks at results with ordinary tools.
//!
//! It behaves as AWS does wherever a compaction can notice; `tests/server_conformance/` holds it
//! and a real server to the same checks. What it does not do it refuses. It creates no bucket unless
//! asked, serves nothing outside of its directory, and knows nothing of jobs or batches.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

use crate::store::AccessKeys;

mod api;
mod failure;
mod folder;
mod key;
mod listing;
mod transfer;
mod uploads;
mod version;
mod wire;

/// How long requests under way may take to end when the server is stopped.
const GRACE: Duration = Duration::from_secs(5);
/// Between two attempts to accept when the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot serve {0}: there is no such directory; create it, with a folder for each bucket")]
    Missing(PathBuf),
    #[error("cannot serve {0}: it is not a directory")]
    NotADirectory(PathBuf),
    #[error("cannot serve {0}: another process does; stop that one first")]
    InUse(PathBuf),
    #[error(
        "cannot serve {0}: its file system keeps no extended attributes; choose a directory on ext4, xfs, btrfs or tmpfs"
    )]
    NoAttributes(PathBuf),
    #[error("cannot serve {dir}: {source}")]
    Io { dir: PathBuf, source: io::Error },
    #[error("cannot listen on the loopback interface: {0}")]
    Listen(io::Error),
}

/// A running server. It stops when this is dropped, and waits for that in [`Server::stop`].
pub struct Server {
    address: SocketAddr,
    access_key: String,
    secret_key: String,
    /// Dropped to stop.
    stop: watch::Sender<()>,
    serving: JoinHandle<()>,
}

/// Serves `dir` on a free port of 127.0.0.1, to whoever has the keys, which are new each time.
pub async fn start(dir: &Path) -> Result<Server, Error> {
    let owned = dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || folder::Folder::open(&owned)).await;
    let folder = opened.map_err(|error| Error::Io {
        dir: dir.to_owned(),
        source: error.into(),
    })??;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(Error::Listen)?;
    let address = listener.local_addr().map_err(Error::Listen)?;

    let access_key = Uuid::new_v4().simple().to_string();
    let secret_key = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let mut service = S3ServiceBuilder::new(api::Api(Arc::new(folder)));
    service.set_auth(Keys {
        access_key: access_key.clone(),
        secret_key: secret_key.clone(),
    });
    let (stop, stopped) = watch::channel(());
    let serving = tokio::spawn(serve(listener, service.build(), stopped));
    Ok(Server {
        address,
        access_key,
        secret_key,
        stop,
        serving,
    })
}

impl Server {
    /// The URL for `endpoint`, with path-style addressing.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn keys(&self) -> AccessKeys {
        AccessKeys {
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
        }
    }

    /// Accepts nothing more, lets requests under way end, for 5 seconds at most, and returns when
    /// the directory is free for another server.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.serving.await {
            tracing::warn!(%error, "the embedded server did not stop by itself");
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("endpoint", &self.endpoint())
            .finish_non_exhaustive()
    }
}

struct Keys {
    access_key: String,
    secret_key: String,
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            Ok(self.secret_key.clone().into())
        } else {
            Err(s3_error!(
                InvalidAccessKeyId,
                "the access key is not the one of this server"
            ))
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service, mut stop: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, service.clone(), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the embedded server cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = stop.changed() => break,
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(stream: TcpStream, service: S3Service, mut stop: watch::Receiver<()>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
