//! Multipart uploads: opened, filled, listed, completed, aborted.
//!
//! Completing is the one request here that is not repeated unless it certainly did nothing.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, EncodingType};
use bytes::Bytes;

use super::S3;
use super::failure::Failure;
use super::list::decoded;
use super::read::{etag, length};
use super::retry::{Call, Effect};
use super::write::Sent;
use crate::store::{Completion, ErrorKind, Part, Put, Result};

/// How often an abort is repeated while parts are still listed: one that was in flight may arrive
/// after it.
const ABORTS: usize = 5;

/// A store that never stops listing is broken.
const PAGES: usize = 100;

impl S3 {
    /// When an answer is lost this is repeated, and an upload without parts remains that
    /// [`super::Store::list_uploads`] finds.
    pub(super) async fn open_upload(&self, key: &str, options: Put<'_>) -> Result<String> {
        let attempt = || async {
            let sent = Sent::from(options);
            let request = self
                .client
                .create_multipart_upload()
                .bucket(&self.bucket)
                .key(key)
                .set_metadata(sent.metadata)
                .set_server_side_encryption(sent.encryption)
                .set_ssekms_key_id(sent.kms_key)
                .set_storage_class(sent.storage_class)
                .set_content_type(sent.content_type)
                .set_tagging(sent.tagging);
            let answer = Box::pin(request.send()).await?;
            answer
                .upload_id
                .filter(|id| !id.is_empty())
                .ok_or_else(|| Failure::new(ErrorKind::NotS3, "answered without an upload id"))
        };
        self.call(self.on("CreateMultipartUpload", key), attempt).await
    }

    pub(super) async fn send_part(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        body: Bytes,
    ) -> Result<String> {
        let call = Call {
            limit: self.transfer(body.len()),
            ..self.on("UploadPart", key)
        };
        let attempt = || async {
            let request = self
                .client
                .upload_part()
                .bucket(&self.bucket)
                .key(key)
                .upload_id(upload)
                .part_number(number as i32)
                .body(ByteStream::from(body.clone()));
            etag(Box::pin(request.send()).await?.e_tag)
        };
        self.call(call, attempt).await
    }

    pub(super) async fn parts(&self, key: &str, upload: &str) -> Result<Option<Vec<Part>>> {
        let call = Call {
            limit: self.deadlines.answer(),
            ..self.on("ListParts", key)
        };
        let mut parts: Vec<Part> = Vec::new();
        for _ in 0..PAGES {
            let after = parts.last().map(|part| part.number);
            let page = match self.attempts(call, || self.parts_page(key, upload, after)).await {
                Ok(page) => page,
                Err(failure) if failure.kind == ErrorKind::NoSuchUpload => return Ok(None),
                Err(failure) => return Err(self.error(call, unsupported(failure))),
            };
            parts.extend(page.parts);
            if !page.more {
                return Ok(Some(parts));
            }
        }
        Err(self.error(call, endless()))
    }

    async fn parts_page(&self, key: &str, upload: &str, after: Option<u32>) -> Result<PartsPage, Failure> {
        let request = self
            .client
            .list_parts()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload)
            .set_part_number_marker(after.map(|number| number.to_string()));
        let answer = Box::pin(request.send()).await?;
        let mut parts: Vec<Part> = Vec::new();
        for part in answer.parts.unwrap_or_default() {
            let number = part
                .part_number
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or_default();
            if number <= parts.last().map(|part| part.number).or(after).unwrap_or_default() {
                return Err(Failure::new(
                    ErrorKind::BadAnswer,
                    "parts are not in ascending order",
                ));
            }
            parts.push(Part {
                number,
                size: length(part.size)?,
                etag: etag(part.e_tag)?,
            });
        }
        let more = answer.is_truncated.unwrap_or_default();
        if more && parts.is_empty() {
            return Err(Failure::new(
                ErrorKind::BadAnswer,
                "more parts are promised after none",
            ));
        }
        Ok(PartsPage { parts, more })
    }

    /// A refusal because the key exists may be the effect of an earlier, unknown outcome: the token of
    /// what exists tells.
    pub(super) async fn complete_upload(
        &self,
        key: &str,
        upload: &str,
        parts: &[Part],
        size: u64,
    ) -> Completion {
        let call = Call {
            limit: self.deadlines.complete,
            effect: Effect::Once,
            ..self.on("CompleteMultipartUpload", key)
        };
        let attempt = || async {
            let completed = parts
                .iter()
                .map(|part| {
                    CompletedPart::builder()
                        .part_number(part.number as i32)
                        .e_tag(&part.etag)
                        .build()
                })
                .collect();
            let request = self
                .client
                .complete_multipart_upload()
                .bucket(&self.bucket)
                .key(key)
                .upload_id(upload)
                .multipart_upload(
                    CompletedMultipartUpload::builder()
                        .set_parts(Some(completed))
                        .build(),
                )
                .set_if_none_match(self.capabilities.conditional_complete.then(|| "*".to_owned()))
                .set_mpu_object_size(self.capabilities.size_guard.then_some(size as i64));
            etag(Box::pin(request.send()).await?.e_tag)
        };
        match self.attempts(call, attempt).await {
            Ok(etag) => Completion::Done(etag),
            Err(failure) if failure.untouched => Completion::Refused(self.error(call, failure)),
            Err(failure) => Completion::Unknown(self.error(call, failure)),
        }
    }

    pub(super) async fn abort_upload(&self, key: &str, upload: &str) -> Result<()> {
        let call = self.on("AbortMultipartUpload", key);
        let attempt = || async {
            let request = self
                .client
                .abort_multipart_upload()
                .bucket(&self.bucket)
                .key(key)
                .upload_id(upload);
            Box::pin(request.send()).await?;
            Ok(())
        };
        let mut delays = self.retries.delays();
        for _ in 0..ABORTS {
            match self.attempts(call, attempt).await {
                Ok(()) => {}
                Err(failure) if failure.kind == ErrorKind::NoSuchUpload => return Ok(()),
                Err(failure) => return Err(self.error(call, failure)),
            }
            match self.parts(key, upload).await {
                Ok(parts) if parts.as_ref().is_none_or(Vec::is_empty) => return Ok(()),
                // Nothing more can be known.
                Err(error) if error.kind == ErrorKind::Unsupported => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => tokio::time::sleep(delays.next().unwrap_or(self.retries.max_delay)).await,
            }
        }
        Err(self.error(
            call,
            Failure::new(ErrorKind::ServerError, "parts are listed after every abort"),
        ))
    }

    pub(super) async fn uploads(&self, key: &str) -> Result<Vec<String>> {
        let call = Call {
            limit: self.deadlines.answer(),
            ..self.on("ListMultipartUploads", key)
        };
        let mut found = Vec::new();
        let mut markers = None;
        for _ in 0..PAGES {
            let page = self
                .attempts(call, || self.uploads_page(key, markers.clone()))
                .await
                .map_err(|failure| self.error(call, unsupported(failure)))?;
            found.extend(page.uploads);
            match page.next {
                Some(next) if Some(&next) != markers.as_ref() => markers = Some(next),
                Some(_) => break,
                None => return Ok(found),
            }
        }
        Err(self.error(call, endless()))
    }

    async fn uploads_page(&self, key: &str, after: Option<Markers>) -> Result<UploadsPage, Failure> {
        let (key_marker, id_marker) = after.unzip();
        let request = self
            .client
            .list_multipart_uploads()
            .bucket(&self.bucket)
            .prefix(key)
            .encoding_type(EncodingType::Url)
            .set_key_marker(key_marker)
            .set_upload_id_marker(id_marker);
        let answer = Box::pin(request.send()).await?;
        let encoding = answer.encoding_type;
        let mut uploads = Vec::new();
        // Longer keys come after all uploads of this one.
        let mut passed = false;
        for upload in answer.uploads.unwrap_or_default() {
            let of = decoded(upload.key.unwrap_or_default(), encoding.as_ref())?;
            passed |= of.as_str() > key;
            if of == key {
                uploads.extend(upload.upload_id);
            }
        }
        let next = match (
            answer.is_truncated.unwrap_or_default() && !passed,
            answer.next_key_marker,
        ) {
            (true, Some(marker)) => {
                let marker = decoded(marker, encoding.as_ref())?;
                Some((marker, answer.next_upload_id_marker.unwrap_or_default()))
            }
            (true, None) => return Err(Failure::new(ErrorKind::BadAnswer, "more uploads, but no marker")),
            (false, _) => None,
        };
        Ok(UploadsPage { uploads, next })
    }
}

struct PartsPage {
    parts: Vec<Part>,
    more: bool,
}

/// The key and the upload id that a page ended with.
type Markers = (String, String);

struct UploadsPage {
    uploads: Vec<String>,
    next: Option<Markers>,
}

/// Of a listing that not every store has: some refuse it, some answer with something else.
fn unsupported(failure: Failure) -> Failure {
    match failure.kind {
        ErrorKind::InvalidRequest | ErrorKind::NotS3 => Failure {
            kind: ErrorKind::Unsupported,
            ..failure
        },
        _ => failure,
    }
}

fn endless() -> Failure {
    Failure::new(ErrorKind::BadAnswer, "the listing does not end")
}
