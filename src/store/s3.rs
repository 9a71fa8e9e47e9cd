//! One bucket behind the S3 protocol.
//!
//! This file has what all operations share; each group of operations has a file below `s3/`. SDK
//! types stay here and in [`super::config`].

pub(super) mod failure;

mod clock;
mod delete;
mod lifecycle;
mod limit;
mod list;
mod probe;
mod read;
mod retry;
mod upload;
mod write;

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use bytes::Bytes;

use self::limit::Limit;
use self::retry::{Call, Effect};
use super::buffers::Buffers;
use super::config::{Retries, Settings, SettingsError};
use super::credentials::Keys;
use super::{Capabilities, Completion, Deleted, Head, Page, Part, Put, Result, Store};
use crate::deadline::Deadlines;

/// Sizes of the reads that objects are read in.
const READ_SIZES: RangeInclusive<usize> = (1 << 20)..=(8 << 20);
/// Of a worker that reads in order, one read ends when another begins. Bytes.
const IDLE_READS: usize = 16 << 20;

/// The metadata entry that holds [`Put::token`].
const TOKEN: &str = "compaction-token";

/// A bucket of an S3-compatible store. Clones share connections, keys and the limit of requests.
#[derive(Debug, Clone)]
pub struct S3 {
    client: Client,
    bucket: String,
    keys: Arc<Keys>,
    limit: Arc<Limit>,
    deadlines: Deadlines,
    retries: Retries,
    capabilities: Capabilities,
    buffers: Arc<Buffers>,
    /// The store has no bulk delete; found out once.
    deletes_singly: Arc<AtomicBool>,
}

impl S3 {
    /// A store that uses none of the optional [`Capabilities`]. Sends nothing to the bucket yet; may ask
    /// the environment for a region.
    pub async fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let (client, keys) = settings.client().await?;
        Ok(Self {
            client,
            bucket: settings.bucket.clone(),
            keys,
            limit: Arc::new(Limit::new(settings.concurrency)),
            deadlines: settings.deadlines.clone(),
            retries: settings.retries.clone(),
            capabilities: Capabilities::default(),
            buffers: Buffers::new(READ_SIZES, IDLE_READS),
            deletes_singly: Arc::default(),
        })
    }

    fn using(self, capabilities: Capabilities) -> Self {
        Self { capabilities, ..self }
    }

    /// How many requests may be in flight at present.
    pub fn concurrency(&self) -> usize {
        self.limit.now()
    }

    /// A request about `key` with little to send and little to answer.
    fn on<'a>(&self, operation: &'static str, key: &'a str) -> Call<'a> {
        Call {
            operation,
            key: Some(key),
            limit: self.deadlines.first_byte,
            effect: Effect::Repeatable,
        }
    }

    /// A request about the bucket.
    fn on_bucket(&self, operation: &'static str) -> Call<'static> {
        Call {
            operation,
            key: None,
            limit: self.deadlines.answer(),
            effect: Effect::Repeatable,
        }
    }

    /// How long a body of this many bytes may take.
    fn transfer(&self, len: usize) -> Duration {
        self.deadlines.transfer(len as u64)
    }
}

/// `If-Match` wants quotes, and some listings come without.
fn quoted(etag: &str) -> String {
    format!("\"{}\"", bare(etag))
}

/// The part of an ETag that identifies a version.
fn bare(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

#[async_trait]
impl Store for S3 {
    fn with_capabilities(&self, capabilities: Capabilities) -> Arc<dyn Store> {
        Arc::new(self.clone().using(capabilities))
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        self.list_page(prefix, after).await
    }

    async fn head(&self, key: &str) -> Result<Option<Head>> {
        self.head_object(key).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>> {
        self.get_object(key, limit).await
    }

    async fn read(&self, key: &str, range: Range<u64>, etag: &str) -> Result<Bytes> {
        self.read_range(key, range, etag).await
    }

    async fn put(&self, key: &str, body: Bytes, options: Put<'_>) -> Result<String> {
        self.put_object(key, body, options).await
    }

    async fn create_upload(&self, key: &str, options: Put<'_>) -> Result<String> {
        self.open_upload(key, options).await
    }

    async fn upload_part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> Result<String> {
        self.send_part(key, upload, number, body).await
    }

    async fn list_parts(&self, key: &str, upload: &str) -> Result<Option<Vec<Part>>> {
        self.parts(key, upload).await
    }

    async fn complete(&self, key: &str, upload: &str, parts: &[Part], size: u64) -> Completion {
        self.complete_upload(key, upload, parts, size).await
    }

    async fn abort(&self, key: &str, upload: &str) -> Result<()> {
        self.abort_upload(key, upload).await
    }

    async fn list_uploads(&self, key: &str) -> Result<Vec<String>> {
        self.uploads(key).await
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        self.delete_all(keys).await
    }

    async fn delete_if_match(&self, key: &str, etag: &str) -> Result<Deleted> {
        self.delete_version(key, etag).await
    }

    async fn upload_days(&self, prefixes: &[&str]) -> Result<Option<u32>> {
        self.days_of_open_uploads(prefixes).await
    }

    async fn time(&self, prefix: &str) -> Result<Option<i64>> {
        self.time_of_answer(prefix).await
    }

    async fn probe(&self, keys: &[String; 2]) -> Result<Capabilities> {
        self.try_capabilities(keys).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_are_the_same_with_and_without_quotes() {
        assert_eq!(quoted("abc"), "\"abc\"");
        assert_eq!(quoted("\"abc-2\""), "\"abc-2\"");
        assert_eq!(bare("W/\"abc\""), "abc");
    }
}
