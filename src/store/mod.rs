//! Object storage as the rest of the program sees it: one trait, one error, plain data.
//!
//! Every method has its deadlines and retries inside: when it returns, the answer is final for the
//! caller's purposes. SDK types never leave this module's children. Nothing here knows about plans,
//! batches or ledgers.

mod buffers;
mod config;
mod credentials;
mod pages;
mod s3;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub(crate) use self::buffers::Buffers;
pub use self::config::{AccessKeys, Addressing, CredentialsFrom, Retries, Settings, SettingsError};
pub use self::pages::Pages;
pub use self::s3::S3;
use crate::disposition::Disposition;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One bucket. [`S3`] is the real one; the simulation has one in memory.
#[async_trait]
pub trait Store: Send + Sync {
    /// One page (at most 1,000 objects) of the keys that begin with `prefix` and are greater than
    /// `after`, in ascending order of their UTF-8 bytes; another order is `Unordered`. [`Pages`] asks for all.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page>;

    /// What the store says of one object; `None` when there is no such key.
    async fn head(&self, key: &str) -> Result<Option<Head>>;

    /// A whole object of at most `limit` bytes; `None` when there is no such key. A larger one is
    /// an error before its body is read.
    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>>;

    /// Exactly the bytes `range` of the version of `key` whose ETag is `etag`. Fewer bytes are an
    /// error, another version is `PreconditionFailed`, a missing key `NotFound`.
    async fn read(&self, key: &str, range: Range<u64>, etag: &str) -> Result<Bytes>;

    /// Stores an object in one request and returns its ETag.
    async fn put(&self, key: &str, body: Bytes, options: Put<'_>) -> Result<String>;

    /// Opens a multipart upload and returns its id.
    async fn create_upload(&self, key: &str, options: Put<'_>) -> Result<String>;

    /// Stores one part (numbers start at 1) and returns its ETag.
    async fn upload_part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> Result<String>;

    /// All parts of an open upload in ascending order; `None` when there is no such upload. `Unsupported`
    /// when the store has no such listing.
    async fn list_parts(&self, key: &str, upload: &str) -> Result<Option<Vec<Part>>>;

    /// Completes an upload. The three outcomes are distinct because an unanswered Complete may have
    /// taken effect: `Unknown` is for the caller to resolve by [`Store::head`], never by an abort.
    /// `size` is the length of the whole object, sent as a guard where the store honours it.
    async fn complete(&self, key: &str, upload: &str, parts: &[Part], size: u64) -> Completion;

    /// Ends an upload and frees its parts, repeating until the store lists none. A missing upload
    /// is success.
    async fn abort(&self, key: &str, upload: &str) -> Result<()>;

    /// The open uploads of exactly this key (listing by prefix does not work on every store).
    async fn list_uploads(&self, key: &str) -> Result<Vec<String>>;

    /// Deletes objects, in bulk where the store can. Missing keys are success.
    async fn delete(&self, keys: &[String]) -> Result<()>;

    /// Deletes `key` if its ETag is still `etag`, by a conditional request. Only meaningful on a
    /// store whose [`Capabilities::conditional_delete`] is true.
    async fn delete_if_match(&self, key: &str, etag: &str) -> Result<Deleted>;

    /// After how many days a rule of the bucket aborts open uploads of keys under these prefixes, by the shortest
    /// such rule; `None` when there is none. Many stores and permissions do not tell: nothing may rest on it.
    async fn upload_days(&self, prefixes: &[&str]) -> Result<Option<u32>>;

    /// What time it is by the store's clock, in seconds since the epoch, as an answer to a listing of `prefix` says;
    /// `None` when it does not say.
    async fn time(&self, prefix: &str) -> Result<Option<i64>>;

    /// Tries out what this store honours, with objects and uploads of these two keys, which nothing else
    /// uses. All are removed again, but by a process that ends on the way, and but for an upload whose opening was
    /// not answered.
    async fn probe(&self, keys: &[String; 2]) -> Result<Capabilities>;

    /// The same store, making use of what a probe has found it to honour.
    fn with_capabilities(&self, capabilities: Capabilities) -> Arc<dyn Store>;
}

/// What a listing says of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub key: String,
    /// With its quotes, as the store sent it.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// Seconds since the epoch, by the store's clock.
    pub modified: i64,
    /// False when the object must be restored before it can be read (Glacier and the like).
    pub readable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub objects: Vec<Object>,
    /// Whether another page follows after the last key of this one.
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub etag: String,
    pub size: u64,
    /// The [`Put::token`] that the object was stored with.
    pub token: Option<String>,
}

/// One uploaded part.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    pub number: u32,
    pub size: u64,
    pub etag: String,
}

/// How an object is stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Put<'a> {
    /// Refuse (`PreconditionFailed`) when the key exists; a second line of defence, sent only where
    /// the store honours it.
    pub create_only: bool,
    /// Recognises our own object after an answer was lost; kept in the object's metadata.
    pub token: Option<&'a str>,
    pub attributes: Option<&'a Attributes>,
}

/// Attributes that the user wants on outputs (`spec.output.objectMetadata`).
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attributes {
    pub server_side_encryption: Option<String>,
    pub kms_key_id: Option<String>,
    pub storage_class: Option<String>,
    pub content_type: Option<String>,
    pub tags: BTreeMap<String, String>,
}

/// The outcome of completing an upload.
#[derive(Debug)]
pub enum Completion {
    /// The object exists; its ETag.
    Done(String),
    /// This request changed nothing. With `PreconditionFailed` the key exists, maybe by an earlier
    /// Complete of the same upload; otherwise the upload is still as it was.
    Refused(Error),
    /// Nobody knows: no answer, or an answer that fits both (`NoSuchUpload`).
    Unknown(Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    Deleted,
    /// The key holds another version now; it was left alone.
    Changed,
    Missing,
}

/// What a store honours of the optional part of the protocol. Correctness never rests on these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "seven independent facts, recorded as they are"
)]
pub struct Capabilities {
    /// `PutObject` with `If-None-Match: *` is refused when the key exists.
    pub create_only: bool,
    /// `GetObject` with `If-Match` is refused for another version.
    pub if_match_read: bool,
    /// `CompleteMultipartUpload` with `If-None-Match: *` is refused when the key exists.
    pub conditional_complete: bool,
    /// `CompleteMultipartUpload` with a wrong `x-amz-mp-object-size` is refused.
    pub size_guard: bool,
    /// `DeleteObject` with a wrong `If-Match` is refused.
    pub conditional_delete: bool,
    /// `ListParts` tells the parts of an open upload.
    pub list_parts: bool,
    /// `ListMultipartUploads` finds an open upload by its key.
    pub list_uploads: bool,
}

/// A storage operation that failed for good, as far as this module can tell.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation} {target}: {kind}{}", if detail.is_empty() { String::new() } else { format!(" ({detail})") })]
pub struct Error {
    /// The S3 operation, e.g. `GetObject`.
    pub operation: &'static str,
    /// `bucket/key`, or the bucket alone.
    pub target: String,
    pub kind: ErrorKind,
    /// What the store or the connection said, without secrets; may be empty.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ErrorKind {
    #[error("no such key")]
    NotFound,
    #[error("no such bucket; create it or correct spec.storage.s3.bucket")]
    NoSuchBucket,
    #[error("no such upload")]
    NoSuchUpload,
    #[error("the object exists or has changed")]
    PreconditionFailed,
    #[error("a part is missing or has another ETag")]
    InvalidPart,
    #[error("a part is below the store's minimum size")]
    PartTooSmall,
    #[error("the store refused the request as invalid")]
    InvalidRequest,
    #[error("the store has no such operation, or another one of its name")]
    Unsupported,
    #[error("access denied; check the credentials' permissions")]
    Denied,
    #[error("the credentials have expired or are not known to the store; renew them")]
    CredentialsInvalid,
    #[error("no credentials found; set a credentials Secret, a role, or the AWS environment variables")]
    CredentialsMissing,
    #[error("the bucket is in another region; correct spec.storage.s3.region")]
    WrongRegion,
    #[error("the object is archived; restore it, exclude it, or set onBadSource: Skip")]
    Archived,
    #[error("the store asks to slow down")]
    Throttled,
    #[error("no answer within the deadline")]
    Timeout,
    #[error("the endpoint cannot be reached; check spec.storage.s3.endpoint and the network")]
    Unreachable,
    #[error("the store failed inside")]
    ServerError,
    #[error("the store's storage is full")]
    StorageFull,
    #[error("the endpoint does not answer like S3; check spec.storage.s3.endpoint")]
    NotS3,
    #[error("the answer is not what was asked for")]
    BadAnswer,
    #[error("keys are not listed in ascending order; use a bucket that lists them so")]
    Unordered,
    #[error("the object is larger than it may be")]
    TooLarge,
}

impl ErrorKind {
    /// `Wait` is what may heal without anybody touching the job: the store is away, slow or full,
    /// or somebody must renew credentials. It counts against no limit (I13). A caller to whom a missing or
    /// another version means something says so itself; anywhere else such an answer makes no sense, and
    /// another attempt is the way to find out.
    pub fn disposition(self) -> Disposition {
        match self {
            Self::Throttled
            | Self::Timeout
            | Self::Unreachable
            | Self::ServerError
            | Self::StorageFull
            | Self::NotS3
            | Self::CredentialsInvalid
            | Self::CredentialsMissing
            | Self::Denied
            | Self::NoSuchBucket
            | Self::WrongRegion => Disposition::Wait,
            Self::BadAnswer
            | Self::InvalidPart
            | Self::NoSuchUpload
            | Self::NotFound
            | Self::PreconditionFailed => Disposition::Retry,
            Self::PartTooSmall
            | Self::Unordered
            | Self::InvalidRequest
            | Self::Unsupported
            | Self::Archived
            | Self::TooLarge => Disposition::GiveUp,
        }
    }
}

impl Error {
    pub fn disposition(&self) -> Disposition {
        self.kind.disposition()
    }
}
