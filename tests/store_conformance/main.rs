//! Every method of `Store`, as `S3` implements it, over the embedded server and over MinIO.
//!
//! The checks know the trait alone. What a server is known to do in another way is data: [`EMBEDDED`]
//! and [`MINIO`], as seen by running them.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use bytes::Bytes;
use common::{Embedded, Endpoint, Minio, random};
use compaction_operator::store::{
    AccessKeys, Capabilities, Completion, CredentialsFrom, Deleted, ErrorKind, Put, Retries, S3, Settings,
    Store,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

/// Makes two tests of each check, one a server.
macro_rules! conformance {
    ($($check:ident)*) => {
        mod embedded {
            $(#[tokio::test]
            async fn $check() {
                super::$check(&crate::World::embedded().await).await;
            })*
        }
        mod minio {
            $(#[tokio::test]
            async fn $check() {
                super::$check(&crate::World::minio().await).await;
            })*
        }
    };
}

mod deletion;
mod listing;
mod objects;
mod probe;
mod uploads;

/// What one server does where servers differ.
struct Traits {
    /// What a probe finds.
    capabilities: Capabilities,
    /// Of the keys in `listing.rs`, those that it refuses.
    refused_keys: &'static [&'static str],
    /// Of the attributes in `objects.rs`, those that it refuses. The others it keeps.
    refused_attributes: &'static [&'static str],
    /// What comes of a second Complete that demands a free name.
    second_conditional_complete: &'static str,
    /// The outcomes of `delete_if_match` for another version and for a missing key.
    deleted_otherwise: [Deleted; 2],
}

const EMBEDDED: Traits = Traits {
    capabilities: Capabilities {
        create_only: true,
        if_match_read: true,
        conditional_complete: true,
        size_guard: true,
        conditional_delete: true,
        list_parts: true,
        list_uploads: true,
    },
    // No file has such a name.
    refused_keys: &["odd/\u{1}control", "odd/a//b", "odd/folder/"],
    refused_attributes: &["encryption", "storage class", "tags", "tags beyond ASCII"],
    second_conditional_complete: "Unknown(NoSuchUpload)",
    deleted_otherwise: [Deleted::Changed, Deleted::Missing],
};

const MINIO: Traits = Traits {
    capabilities: Capabilities {
        size_guard: false,
        conditional_delete: false,
        ..EMBEDDED.capabilities
    },
    refused_keys: &["odd/a//b"],
    // Without a KMS it has no key to encrypt with.
    refused_attributes: &["encryption", "tags beyond ASCII"],
    // It looks at the condition before it looks for the upload.
    second_conditional_complete: "Refused(PreconditionFailed)",
    deleted_otherwise: [Deleted::Deleted, Deleted::Deleted],
};

/// An empty bucket on one of the servers.
struct World {
    traits: &'static Traits,
    /// Makes use of no capability.
    store: Arc<dyn Store>,
    /// To look behind the trait.
    client: Client,
    bucket: String,
    _embedded: Option<Embedded>,
}

impl World {
    async fn embedded() -> Self {
        let embedded = Embedded::start().await;
        Self::new(&EMBEDDED, &embedded.endpoint.clone(), Some(embedded)).await
    }

    async fn minio() -> Self {
        let minio = tokio::task::spawn_blocking(Minio::shared).await.unwrap();
        Self::new(&MINIO, &minio.endpoint, None).await
    }

    async fn new(traits: &'static Traits, endpoint: &Endpoint, embedded: Option<Embedded>) -> Self {
        let client = endpoint.client();
        let bucket = format!("bucket-{}", random());
        client.create_bucket().bucket(&bucket).send().await.unwrap();
        let mut settings = Settings::new(&bucket);
        settings.endpoint = Some(endpoint.url.clone());
        settings.credentials = CredentialsFrom::Keys(AccessKeys {
            access_key: endpoint.access_key.clone(),
            secret_key: endpoint.secret_key.clone(),
        });
        settings.concurrency = 32;
        settings.retries = Retries {
            attempts: 3,
            min_delay: Duration::from_millis(10),
            ..Retries::default()
        };
        Self {
            traits,
            store: Arc::new(S3::new(&settings).await.unwrap()),
            client,
            bucket,
            _embedded: embedded,
        }
    }

    /// The store, making use of all that the server honours.
    fn capable(&self) -> Arc<dyn Store> {
        self.store.with_capabilities(self.traits.capabilities)
    }

    async fn put(&self, key: &str, body: &[u8]) -> String {
        let body = Bytes::copy_from_slice(body);
        self.store.put(key, body, Put::default()).await.unwrap()
    }

    /// Stores each key with itself as the body.
    async fn put_all(&self, keys: &[String]) {
        let puts: Vec<_> = keys.iter().map(|key| self.put(key, key.as_bytes())).collect();
        stream::iter(puts).buffer_unordered(32).collect::<Vec<_>>().await;
    }

    async fn content(&self, key: &str) -> Option<Bytes> {
        self.store.get(key, u64::MAX >> 8).await.unwrap()
    }

    /// Every key under a prefix, in the order in which they are listed.
    async fn keys(&self, prefix: &str) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let page = self
                .store
                .list(prefix, keys.last().map(String::as_str))
                .await
                .unwrap();
            keys.extend(page.objects.into_iter().map(|object| object.key));
            if !page.more {
                return keys;
            }
        }
    }

    async fn upload(&self, key: &str) -> String {
        self.store.create_upload(key, Put::default()).await.unwrap()
    }

    /// The keys of all uploads that are open in the bucket.
    async fn open_uploads(&self) -> Vec<String> {
        let request = self.client.list_multipart_uploads().bucket(&self.bucket);
        let uploads = request.send().await.unwrap().uploads.unwrap_or_default();
        uploads.into_iter().filter_map(|upload| upload.key).collect()
    }
}

/// The ETag of an object that was made.
#[track_caller]
fn done(completion: Completion) -> String {
    match completion {
        Completion::Done(etag) => etag,
        other => panic!("{other:?}"),
    }
}

/// What came of a Complete that made no object, and why.
fn outcome(completion: Completion) -> String {
    match completion {
        Completion::Done(_) => "Done".to_owned(),
        Completion::Refused(error) => format!("Refused({:?})", error.kind),
        Completion::Unknown(error) => format!("Unknown({:?})", error.kind),
    }
}

/// `size` bytes that differ by `seed`.
fn bytes(size: usize, seed: u8) -> Bytes {
    let byte = |i: usize| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed;
    (0..size).map(byte).collect()
}

const MIB: usize = 1 << 20;
