//! Every method of `Store`, as `S3` implements it, over four servers.
//!
//! The checks know the trait alone. What a server is known to do in another way is data, in
//! [`Traits`], as seen by running it.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use bytes::Bytes;
use common::{Embedded, Endpoint, Program, random};
use compaction_operator::store::{
    AccessKeys, Capabilities, Completion, CredentialsFrom, Deleted, ErrorKind, Part, Put, Retries, S3,
    Settings, Store,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

/// Makes a test of each check for each server.
macro_rules! conformance {
    (over $server:ident, $traits:ident: $($check:ident)*) => {
        mod $server {
            $(#[tokio::test]
            async fn $check() {
                super::$check(&crate::World::of(&crate::$traits).await).await;
            })*
        }
    };
    ($($check:ident)*) => {
        conformance! { over embedded, EMBEDDED: $($check)* }
        conformance! { over minio, MINIO: $($check)* }
        conformance! { over versitygw, VERSITYGW: $($check)* }
        conformance! { over moto, MOTO: $($check)* }
    };
}

mod deletion;
mod listing;
mod objects;
mod probe;
mod uploads;

/// What one server does where servers differ.
struct Traits {
    /// `None`: the embedded server.
    program: Option<Program>,
    /// What a probe finds.
    capabilities: Capabilities,
    /// Of the keys in `listing.rs`, those that it refuses.
    refused_keys: &'static [&'static str],
    /// Those that its listings cannot carry.
    unlistable_keys: &'static [&'static str],
    /// Of the attributes in `objects.rs`, those that it refuses. The others it keeps.
    refused_attributes: &'static [&'static str],
    /// Those that it takes and forgets.
    forgotten_attributes: &'static [&'static str],
    /// What it tells of a rule that aborts uploads after 3 days, if it takes one.
    upload_days: Result<Option<u32>, ErrorKind>,
    /// What comes of a second Complete that demands a free name.
    second_conditional_complete: &'static str,
    /// What comes of a second Complete without a condition.
    second_complete: &'static str,
    /// And when the object of the first one is gone.
    complete_without_object: &'static str,
    /// What comes of a Complete that names a part which was never sent, after a small one.
    complete_with_missing_part: &'static str,
    /// What comes of a Complete of an aborted upload, when another object has its name.
    complete_of_gone_upload: &'static str,
    /// How a part of an aborted upload is refused.
    part_of_gone_upload: ErrorKind,
    /// The outcomes of `delete_if_match` for another version and for a missing key.
    deleted_otherwise: [Deleted; 2],
}

const EMBEDDED: Traits = Traits {
    program: None,
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
    unlistable_keys: &[],
    refused_attributes: &["encryption", "storage class", "tags", "tags beyond ASCII"],
    forgotten_attributes: &[],
    upload_days: Err(ErrorKind::InvalidRequest),
    second_conditional_complete: "Unknown(NoSuchUpload)",
    second_complete: "Unknown(NoSuchUpload)",
    complete_without_object: "Unknown(NoSuchUpload)",
    complete_with_missing_part: "Refused(InvalidPart)",
    complete_of_gone_upload: "Unknown(NoSuchUpload)",
    part_of_gone_upload: ErrorKind::NoSuchUpload,
    deleted_otherwise: [Deleted::Changed, Deleted::Missing],
};

const MINIO: Traits = Traits {
    program: Some(Program::Minio),
    capabilities: Capabilities {
        size_guard: false,
        conditional_delete: false,
        ..EMBEDDED.capabilities
    },
    refused_keys: &["odd/a//b"],
    // It knows other rules.
    upload_days: Ok(None),
    // Without a KMS it has no key to encrypt with.
    refused_attributes: &["encryption", "tags beyond ASCII"],
    // It looks at the condition before it looks for the upload.
    second_conditional_complete: "Refused(PreconditionFailed)",
    deleted_otherwise: [Deleted::Deleted, Deleted::Deleted],
    ..EMBEDDED
};

const VERSITYGW: Traits = Traits {
    program: Some(Program::Versitygw),
    // But for an empty one, which is a folder.
    refused_keys: &["odd/folder/"],
    refused_attributes: &[],
    // The second is the same object as the one with a single slash.
    unlistable_keys: &["odd/\u{1}control", "odd/a//b"],
    forgotten_attributes: &["encryption", "storage class"],
    second_conditional_complete: "Done",
    // It takes an object under the name for the one that the upload has become.
    second_complete: "Done",
    complete_of_gone_upload: "Done",
    complete_with_missing_part: "Refused(PartTooSmall)",
    deleted_otherwise: [Deleted::Changed, Deleted::Deleted],
    ..EMBEDDED
};

const MOTO: Traits = Traits {
    program: Some(Program::Moto),
    capabilities: Capabilities {
        size_guard: false,
        // It answers with a document of another name than S3's.
        list_parts: false,
        ..EMBEDDED.capabilities
    },
    refused_keys: &[],
    unlistable_keys: &["odd/\u{1}control"],
    upload_days: Ok(Some(3)),
    refused_attributes: &[],
    second_conditional_complete: "Done",
    second_complete: "Done",
    // It fails inside.
    complete_without_object: "Unknown(ServerError)",
    complete_of_gone_upload: "Unknown(ServerError)",
    part_of_gone_upload: ErrorKind::ServerError,
    ..EMBEDDED
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
    async fn of(traits: &'static Traits) -> Self {
        let Some(program) = traits.program else {
            let embedded = Embedded::start().await;
            return Self::new(traits, &embedded.endpoint.clone(), Some(embedded)).await;
        };
        let endpoint = tokio::task::spawn_blocking(move || program.endpoint())
            .await
            .unwrap();
        Self::new(traits, endpoint, None).await
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

    /// The store lists these parts, or has no such listing.
    async fn check_parts(&self, key: &str, upload: &str, expected: Option<&[Part]>) {
        let listed = self.store.list_parts(key, upload).await;
        if self.traits.capabilities.list_parts {
            assert!(listed.unwrap().as_deref() == expected, "{key}: other parts");
        } else if expected.is_some() {
            assert_eq!(listed.unwrap_err().kind, ErrorKind::Unsupported);
        }
    }

    async fn upload(&self, key: &str) -> String {
        self.store.create_upload(key, Put::default()).await.unwrap()
    }

    /// The keys of all uploads that are open, where the server lists them, and of those of these keys in any case:
    /// MinIO lists them only to those who ask for the very key.
    async fn open_uploads(&self, keys: &[&str]) -> Vec<String> {
        let mut open = Vec::new();
        for prefix in [&[""], keys].concat() {
            let request = self.client.list_multipart_uploads().bucket(&self.bucket);
            let listed = request.prefix(prefix).send().await.unwrap();
            let uploads = listed.uploads.unwrap_or_default();
            open.extend(uploads.into_iter().filter_map(|upload| upload.key));
        }
        open
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
