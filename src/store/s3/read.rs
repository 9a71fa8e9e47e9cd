//! Looking at objects: HEAD, whole reads, pinned ranged reads.
//!
//! A body is read to its end into memory of exactly its length, or it is an error; none is handed
//! out half read.

use std::ops::Range;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use super::failure::{Failure, chain};
use super::retry::Call;
use super::{READ_SIZES, S3, TOKEN, bare, quoted};
use crate::deadline::within;
use crate::store::{ErrorKind, Head, Result};

impl S3 {
    pub(super) async fn head_object(&self, key: &str) -> Result<Option<Head>> {
        let attempt = || async {
            let request = self.client.head_object().bucket(&self.bucket).key(key);
            match Box::pin(request.send()).await {
                Ok(answer) => {
                    let etag = etag(answer.e_tag)?;
                    let size = length(answer.content_length)?;
                    let token = answer.metadata.and_then(|mut metadata| metadata.remove(TOKEN));
                    Ok(Some(Head { etag, size, token }))
                }
                Err(SdkError::ServiceError(error)) if error.raw().status().as_u16() == 404 => {
                    self.is_missing(key).await.map(|()| None)
                }
                Err(error) => Err(error.into()),
            }
        };
        self.call(self.on("HeadObject", key), attempt).await
    }

    /// The answer to a HEAD has no body, so that a 404 may come from anything on the way. That of a GET says
    /// in the store's words that there is no such key.
    async fn is_missing(&self, key: &str) -> Result<(), Failure> {
        let request = self.client.get_object().bucket(&self.bucket).key(key);
        match Box::pin(request.send()).await.map_err(Failure::from) {
            Ok(_) => Err(Failure::new(
                ErrorKind::BadAnswer,
                "not found by HEAD, but by GET",
            )),
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// That an object is missing, or is another version than the one that is pinned, ends a job: what a GET of
    /// the bytes up to `end` says of it counts only if a HEAD does not contradict.
    async fn confirmed(&self, key: &str, failure: Failure, pinned: Option<&str>, end: u64) -> Failure {
        if !matches!(failure.kind, ErrorKind::NotFound | ErrorKind::PreconditionFailed) {
            return failure;
        }
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        let Ok(head) = Box::pin(request.send()).await else {
            return failure;
        };
        let size = head.content_length.and_then(|size| u64::try_from(size).ok());
        let same = |etag: &String| pinned.is_none_or(|pinned| bare(pinned) == bare(etag));
        if head.e_tag.as_ref().is_some_and(same) && size.is_some_and(|size| end <= size) {
            let detail = format!("not found by GET, but by HEAD: {}", failure.detail);
            return Failure::new(ErrorKind::BadAnswer, detail);
        }
        failure
    }

    pub(super) async fn get_object(&self, key: &str, limit: u64) -> Result<Option<Bytes>> {
        let call = Call {
            limit: self.deadlines.transfer(limit),
            ..self.on("GetObject", key)
        };
        let attempt = || async {
            let request = self.client.get_object().bucket(&self.bucket).key(key);
            let answer = match within(self.deadlines.first_byte, Box::pin(request.send())).await? {
                Ok(answer) => answer,
                Err(error) => return Err(self.confirmed(key, error.into(), None, 0).await),
            };
            etag(answer.e_tag)?;
            let len = announced(answer.content_length)?;
            if len.is_some_and(|len| len > limit) {
                return Err(too_large(limit));
            }
            let body = self.body(answer.body, len.unwrap_or_default(), limit).await?;
            match len {
                Some(len) if body.len() as u64 != len => Err(short(body.len() as u64, len)),
                _ => Ok(body),
            }
        };
        match self.attempts(call, attempt).await {
            Ok(body) => Ok(Some(body)),
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(None),
            Err(failure) => Err(self.error(call, failure)),
        }
    }

    pub(super) async fn read_range(&self, key: &str, range: Range<u64>, etag: &str) -> Result<Bytes> {
        let len = range.end.saturating_sub(range.start);
        let call = Call {
            limit: self.deadlines.transfer(len),
            ..self.on("GetObject", key)
        };
        if len == 0 {
            return self.read_nothing(call, key, etag).await;
        }
        let attempt = || async {
            let request = self
                .client
                .get_object()
                .bucket(&self.bucket)
                .key(key)
                .if_match(quoted(etag))
                .range(format!("bytes={}-{}", range.start, range.end - 1));
            let answer = match within(self.deadlines.first_byte, Box::pin(request.send())).await? {
                Ok(answer) => answer,
                Err(error) => return Err(self.confirmed(key, error.into(), Some(etag), range.end).await),
            };
            check_range(&answer, &range, etag)?;
            let body = self.body(answer.body, len, len).await?;
            if body.len() as u64 == len {
                Ok(body)
            } else {
                Err(short(body.len() as u64, len))
            }
        };
        self.call(call, attempt).await
    }

    /// No range has no bytes, but the version must still be the one that is pinned.
    async fn read_nothing(&self, call: Call<'_>, key: &str, pinned: &str) -> Result<Bytes> {
        let kind = match self.head_object(key).await? {
            Some(head) if bare(&head.etag) == bare(pinned) => return Ok(Bytes::new()),
            Some(_) => ErrorKind::PreconditionFailed,
            None => ErrorKind::NotFound,
        };
        Err(self.error(call, Failure::new(kind, "")))
    }

    /// Reads a body to its end. The pieces are copied once: each of them keeps a whole receive buffer
    /// alive, which nobody has counted.
    async fn body(&self, mut stream: ByteStream, expected: u64, limit: u64) -> Result<Bytes, Failure> {
        let mut body = self.buffers.take(room_for(expected));
        while let Some(piece) = within(self.deadlines.stall, stream.try_next())
            .await?
            .map_err(|error| {
                Failure::new(
                    ErrorKind::Unreachable,
                    format!("broken off after {} bytes: {}", body.len(), chain(&error)),
                )
            })?
        {
            if (body.len() + piece.len()) as u64 > limit {
                return Err(too_large(limit));
            }
            body.extend_from_slice(&piece);
        }
        Ok(self.buffers.share(body))
    }
}

/// Reads of nearly the same size use the same memory.
fn room_for(bytes: u64) -> usize {
    let bytes = usize::try_from(bytes).unwrap_or_default();
    if READ_SIZES.contains(&bytes) {
        bytes.next_multiple_of(256 << 10)
    } else {
        bytes
    }
}

/// A second line behind `Range` and `If-Match`, which a store may ignore.
fn check_range(answer: &GetObjectOutput, range: &Range<u64>, pinned: &str) -> Result<(), Failure> {
    if bare(&etag(answer.e_tag.clone())?) != bare(pinned) {
        return Err(Failure::new(
            ErrorKind::PreconditionFailed,
            "answered with another version",
        ));
    }
    let starts_right = match &answer.content_range {
        Some(sent) => sent.starts_with(&format!("bytes {}-{}/", range.start, range.end - 1)),
        None => range.start == 0,
    };
    if !starts_right {
        let sent = answer.content_range.as_deref().unwrap_or("the whole object");
        return Err(Failure::new(
            ErrorKind::BadAnswer,
            format!("answered with {sent}"),
        ));
    }
    let expected = range.end - range.start;
    match announced(answer.content_length)? {
        Some(len) if len != expected => Err(short(len, expected)),
        _ => Ok(()),
    }
}

/// The length of a body, when it is told beforehand.
fn announced(len: Option<i64>) -> Result<Option<u64>, Failure> {
    len.map(|len| length(Some(len))).transpose()
}

/// Every S3 store sends one; what does not is something else.
pub(super) fn etag(etag: Option<String>) -> Result<String, Failure> {
    etag.filter(|etag| !bare(etag).is_empty())
        .ok_or_else(|| Failure::new(ErrorKind::NotS3, "answered without an ETag"))
}

pub(super) fn length(len: Option<i64>) -> Result<u64, Failure> {
    len.and_then(|len| u64::try_from(len).ok())
        .ok_or_else(|| Failure::new(ErrorKind::BadAnswer, "answered without a length"))
}

fn short(len: u64, expected: u64) -> Failure {
    Failure::new(
        ErrorKind::BadAnswer,
        format!("answered with {len} bytes instead of {expected}"),
    )
}

fn too_large(limit: u64) -> Failure {
    Failure::new(ErrorKind::TooLarge, format!("more than {limit} bytes"))
}
