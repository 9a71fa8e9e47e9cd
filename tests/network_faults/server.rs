//! The store: one MinIO for all, or one that a fault has to itself.

use std::net::SocketAddr;
use std::sync::Mutex;

use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::common::{Endpoint, Minio, random};
use crate::site::own_address;

/// MiB. Holds what a job needs, and is filled in a moment.
const MEMORY: u32 = 256;
const FILLER: &str = "filler";

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

    /// Somebody else fills the disk, until not even little more has room.
    pub async fn fill(&self) {
        let client = self.endpoint().client();
        client.create_bucket().bucket(FILLER).send().await.unwrap();
        for size in [16 << 20, 1 << 20, 256 << 10] {
            for number in 0.. {
                let put = client.put_object().bucket(FILLER).key(format!("{size}-{number}"));
                let body = vec![b'x'; size];
                if put.body(body.into()).send().await.is_err() {
                    break;
                }
            }
        }
    }

    pub async fn make_room(&self) {
        let client = self.endpoint().client();
        let listed = client.list_objects_v2().bucket(FILLER).send().await.unwrap();
        for object in listed.contents.unwrap_or_default() {
            let delete = client.delete_object().bucket(FILLER).key(object.key.unwrap());
            delete.send().await.unwrap();
        }
    }
}
