//! Deleting objects: in bulk where the store can, one by one where it cannot, or one version only.

use std::sync::atomic::Ordering;

use aws_sdk_s3::types::{self, Delete, ObjectIdentifier};
use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::failure::Failure;
use super::{S3, quoted};
use crate::store::{Deleted, ErrorKind, Result};

/// The most keys in one request, and the most single deletes at one time.
const CHUNK: usize = 1000;
const SINGLY: usize = 16;

impl S3 {
    pub(super) async fn delete_all(&self, keys: &[String]) -> Result<()> {
        // XML has no way to write some characters, however they are escaped.
        let (plain, odd): (Vec<&str>, Vec<&str>) = keys
            .iter()
            .map(String::as_str)
            .partition(|key| key.chars().all(is_xml));
        for chunk in plain.chunks(CHUNK) {
            if self.deletes_singly.load(Ordering::Relaxed) || !self.delete_chunk(chunk).await? {
                self.delete_singly(chunk).await?;
            }
        }
        self.delete_singly(&odd).await
    }

    /// False when the store has no bulk delete, or not the one that we speak.
    async fn delete_chunk(&self, keys: &[&str]) -> Result<bool> {
        let call = self.on_bucket("DeleteObjects");
        match self.attempts(call, || self.delete_once(keys)).await {
            Ok(()) => Ok(true),
            Err(failure) if failure.kind == ErrorKind::InvalidRequest => {
                tracing::debug!(detail = failure.detail, "the store has no bulk delete");
                self.deletes_singly.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(failure) => Err(self.error(call, failure)),
        }
    }

    async fn delete_once(&self, keys: &[&str]) -> Result<(), Failure> {
        let objects = keys
            .iter()
            .map(|key| ObjectIdentifier::builder().key(*key).build())
            .collect::<Result<Vec<_>, _>>()
            .and_then(|objects| Delete::builder().set_objects(Some(objects)).quiet(true).build())
            .map_err(|error| Failure::new(ErrorKind::InvalidRequest, error.to_string()))?;
        let request = self.client.delete_objects().bucket(&self.bucket).delete(objects);
        let answer = Box::pin(request.send()).await?;
        match answer.errors.unwrap_or_default().iter().find_map(remaining) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    async fn delete_singly(&self, keys: &[&str]) -> Result<()> {
        let deletes: Vec<_> = keys.iter().map(|key| self.delete_object(key).boxed()).collect();
        stream::iter(deletes).buffer_unordered(SINGLY).try_collect().await
    }

    async fn delete_object(&self, key: &str) -> Result<()> {
        let call = self.on("DeleteObject", key);
        let attempt = || async {
            let request = self.client.delete_object().bucket(&self.bucket).key(key);
            Box::pin(request.send()).await?;
            Ok(())
        };
        match self.attempts(call, attempt).await {
            Err(failure) if failure.kind != ErrorKind::NotFound => Err(self.error(call, failure)),
            _ => Ok(()),
        }
    }

    pub(super) async fn delete_version(&self, key: &str, etag: &str) -> Result<Deleted> {
        let call = self.on("DeleteObject", key);
        let attempt = || async {
            let request = self
                .client
                .delete_object()
                .bucket(&self.bucket)
                .key(key)
                .if_match(quoted(etag));
            Box::pin(request.send()).await?;
            Ok(())
        };
        match self.attempts(call, attempt).await {
            Ok(()) => Ok(Deleted::Deleted),
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(Deleted::Missing),
            // What is missing does not match either, on some stores.
            Err(failure) if failure.kind == ErrorKind::PreconditionFailed => Ok(self
                .head_object(key)
                .await?
                .map_or(Deleted::Missing, |_| Deleted::Changed)),
            Err(failure) => Err(self.error(call, failure)),
        }
    }
}

/// The failure of one key in a bulk answer, unless it is that there is no such key.
fn remaining(error: &types::Error) -> Option<Failure> {
    let failure = Failure::of_code(error.code.as_deref(), error.message.as_deref());
    let key = error.key.as_deref().unwrap_or_default();
    (failure.kind != ErrorKind::NotFound).then(|| Failure {
        detail: format!("{key}: {}", failure.detail),
        ..failure
    })
}

/// Whether XML 1.0 can carry a character.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_key_in_a_bulk_answer_is_success_and_everything_else_is_a_failure() {
        let error = |code: &str| types::Error::builder().key("k").code(code).message("m").build();
        assert_eq!(remaining(&error("NoSuchKey")), None);
        for (code, kind) in [
            ("AccessDenied", ErrorKind::Denied),
            ("InternalError", ErrorKind::ServerError),
            ("SlowDown", ErrorKind::Throttled),
            ("SomethingNew", ErrorKind::ServerError),
        ] {
            let failure = remaining(&error(code)).unwrap();
            assert_eq!(failure.kind, kind);
            assert!(failure.detail.starts_with("k: "), "{}", failure.detail);
        }
    }

    #[test]
    fn control_characters_do_not_go_into_xml() {
        assert!("a b/ü\u{10000}\t".chars().all(is_xml));
        for odd in ['\0', '\u{1}', '\u{1f}', '\u{fffe}', '\u{ffff}'] {
            assert!(!is_xml(odd), "{odd:?}");
        }
    }
}
