//! The store: one MinIO for all, or one that a fault has to itself.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::common::{Endpoint, Minio, random};
use crate::site::own_address;

/// MiB. Holds what a job needs, and is filled in a moment.
const MEMORY: u32 = 256;

pub enum Server {
    Shared(Endpoint),
    /// Its disk is small.
    InMemory(Minio),
    /// May be killed and started again over the same disk, at the same address, also with other keys.
    Mortal {
        minio: Mutex<Option<Minio>>,
        endpoint: Mutex<Endpoint>,
        address: SocketAddr,
        disk: TempDir,
    },
}

impl Server {
    pub async fn shared() -> Self {
        Self::Shared(spawn_blocking(|| Minio::shared().endpoint.clone()).await.unwrap())
    }

    /// Needs root.
    pub async fn in_memory() -> Self {
        Self::InMemory(spawn_blocking(|| Minio::in_memory(MEMORY)).await.unwrap())
    }

    pub async fn mortal() -> Self {
        let (disk, address) = (tempfile::tempdir().unwrap(), own_address());
        let path = disk.path().to_owned();
        let started = spawn_blocking(move || Minio::over(&path, address, (random(), random())));
        let minio = started.await.unwrap();
        Self::Mortal {
            endpoint: Mutex::new(minio.endpoint.clone()),
            minio: Mutex::new(Some(minio)),
            address,
            disk,
        }
    }

    /// The way around all faults.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Shared(endpoint) => endpoint.clone(),
            Self::Mortal { endpoint, .. } => endpoint.lock().unwrap().clone(),
            Self::InMemory(minio) => minio.endpoint.clone(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.endpoint().url.trim_start_matches("http://").parse().unwrap()
    }

    pub async fn kill(&self) {
        if let Self::Mortal { minio, .. } = self {
            let minio = minio.lock().unwrap().take();
            spawn_blocking(move || drop(minio)).await.unwrap();
        }
    }

    /// From now on it takes other keys, and those alone.
    pub async fn change_keys(&self) {
        if let Self::Mortal { endpoint, .. } = self {
            self.kill().await;
            {
                let mut endpoint = endpoint.lock().unwrap();
                (endpoint.access_key, endpoint.secret_key) = (random(), random());
            }
            self.start_again().await;
        }
    }

    pub async fn start_again(&self) {
        if let Self::Mortal {
            minio, address, disk, ..
        } = self
        {
            let Endpoint {
                access_key,
                secret_key,
                ..
            } = self.endpoint();
            let keys = (access_key, secret_key);
            let (path, address) = (disk.path().to_owned(), *address);
            let started = spawn_blocking(move || Minio::over(&path, address, keys))
                .await
                .unwrap();
            *minio.lock().unwrap() = Some(started);
        }
    }

    /// Somebody else fills the disk, to the last byte. Not through MinIO, which frees what is deleted minutes later.
    pub async fn fill(&self) {
        let path = self.filler();
        let fill = move || {
            let mut filler = File::create(path).unwrap();
            let mut pages = 0..u64::from(MEMORY) << 8;
            let full = pages.find_map(|_| filler.write_all(&[0; 4096]).err());
            assert_eq!(full.unwrap().kind(), ErrorKind::StorageFull);
        };
        spawn_blocking(fill).await.unwrap();
    }

    pub async fn make_room(&self) {
        tokio::fs::remove_file(self.filler()).await.unwrap();
    }

    fn filler(&self) -> PathBuf {
        let Self::InMemory(minio) = self else {
            panic!("its disk belongs to everybody");
        };
        minio.memory().join("filler")
    }
}
