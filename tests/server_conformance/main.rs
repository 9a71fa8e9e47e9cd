//! What a compaction relies on, asked of the embedded server and of MinIO in the same words.
//!
//! A check states what AWS S3 does, point by point. Where a server is known to do otherwise, that is
//! in [`DIFFERENCES`] with what it does instead, as seen by running it.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::abort_multipart_upload::builders::AbortMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::delete_object::builders::DeleteObjectFluentBuilder;
use aws_sdk_s3::operation::delete_objects::builders::DeleteObjectsFluentBuilder;
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::operation::head_object::builders::HeadObjectFluentBuilder;
use aws_sdk_s3::operation::list_multipart_uploads::builders::ListMultipartUploadsFluentBuilder;
use aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder;
use aws_sdk_s3::operation::list_parts::builders::ListPartsFluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::operation::upload_part::builders::UploadPartFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Part};
use common::{Embedded, Endpoint, Minio, random};
use s3s::crypto::{Checksum as _, Md5};

/// Makes two tests of each check, one a server.
macro_rules! conformance {
    ($($check:ident)*) => {
        mod embedded {
            $(#[tokio::test]
            async fn $check() {
                super::$check(&crate::Store::embedded().await).await;
            })*
        }
        mod minio {
            $(#[tokio::test]
            async fn $check() {
                super::$check(&crate::Store::minio().await).await;
            })*
        }
    };
}

mod keys;
mod listing;
mod objects;
mod uploads;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embedded,
    Minio,
}

/// Server, point, what it does where AWS does something else.
const DIFFERENCES: &[(Kind, &str, &str)] = &[
    // A file system has no such names.
    (
        Kind::Embedded,
        "put of a key with a dot segment",
        "400 InvalidRequest",
    ),
    (
        Kind::Embedded,
        "put of a key with an empty segment",
        "400 InvalidRequest",
    ),
    (
        Kind::Embedded,
        "put of a key that begins with a slash",
        "400 InvalidRequest",
    ),
    (
        Kind::Embedded,
        "put of a key that ends with a slash",
        "400 InvalidRequest",
    ),
    (
        Kind::Embedded,
        "put of a key with a control character",
        "400 InvalidRequest",
    ),
    (
        Kind::Embedded,
        "put of a segment of 256 bytes",
        "400 KeyTooLongError",
    ),
    // A name is that of a file or of a folder.
    (Kind::Embedded, "put below an object", "400 InvalidRequest"),
    (
        Kind::Embedded,
        "list of an object and what is below it",
        r#"["a"]"#,
    ),
    (
        Kind::Embedded,
        "put of a prefix of an object",
        "400 InvalidRequest",
    ),
    (
        Kind::Embedded,
        "completion of a prefix of an object",
        "400 InvalidRequest",
    ),
    (
        Kind::Minio,
        "put of a key with a dot segment",
        "400 XMinioInvalidResourceName",
    ),
    (Kind::Minio, "head of a key with a dot segment", "400 -"),
    (
        Kind::Minio,
        "delete of a key with a dot segment",
        "400 XMinioInvalidResourceName",
    ),
    (
        Kind::Minio,
        "put of a key with an empty segment",
        "400 XMinioInvalidObjectName",
    ),
    (Kind::Minio, "head of a key with an empty segment", "400 -"),
    (
        Kind::Minio,
        "delete of a key with an empty segment",
        "400 XMinioInvalidObjectName",
    ),
    (
        Kind::Minio,
        "put of a segment of 256 bytes",
        "400 XMinioInvalidObjectName",
    ),
    (Kind::Minio, "list of an object and what is below it", r#"["a"]"#),
    // Conditions that it does not know, it ignores.
    (Kind::Minio, "deletion of another version", "ok"),
    (Kind::Minio, "conditional deletion of a missing key", "ok"),
    (Kind::Minio, "bulk deletion of another version", "[]"),
    (Kind::Minio, "keys left by a bulk deletion", "[]"),
    (Kind::Minio, "completion of another size", "ok"),
    // It removes a version's data under its readers.
    (Kind::Minio, "read that goes on after the next put", "broken off"),
    (
        Kind::Minio,
        "put with another CRC32",
        "400 XAmzContentChecksumMismatch",
    ),
    (Kind::Minio, "completion without parts", "400 InvalidRequest"),
    (Kind::Minio, "completion with a part twice", "ok"),
    (Kind::Minio, "part number 0", "400 InvalidPart"),
    (Kind::Minio, "abort of another key's upload", "ok"),
    (Kind::Minio, "abort an ended upload", "ok"),
    (
        Kind::Minio,
        "part of a malformed upload",
        "400 XMinioInvalidResourceName",
    ),
    (
        Kind::Minio,
        "list a malformed upload",
        "400 XMinioInvalidResourceName",
    ),
    (
        Kind::Minio,
        "complete a malformed upload",
        "400 XMinioInvalidResourceName",
    ),
    (
        Kind::Minio,
        "abort a malformed upload",
        "400 XMinioInvalidResourceName",
    ),
    // It finds uploads by their whole key only, or all of them.
    (Kind::Minio, "uploads with the prefix `dir/a`", "some missing"),
    (Kind::Minio, "uploads with the prefix `dir/`", "some missing"),
    (Kind::Minio, "uploads with the prefix `dir`", "some missing"),
    (
        Kind::Minio,
        "pages with another delimiter than a slash",
        "some twice",
    ),
];

/// An empty bucket on one of the servers.
struct Store {
    kind: Kind,
    client: Client,
    bucket: String,
    embedded: Option<Embedded>,
}

impl Store {
    async fn embedded() -> Self {
        let embedded = Embedded::start().await;
        Self::new(Kind::Embedded, embedded.endpoint.client(), Some(embedded)).await
    }

    async fn minio() -> Self {
        let minio = tokio::task::spawn_blocking(Minio::shared).await.unwrap();
        Self::new(Kind::Minio, minio.endpoint.client(), None).await
    }

    async fn new(kind: Kind, client: Client, embedded: Option<Embedded>) -> Self {
        let bucket = format!("bucket-{}", random());
        client.create_bucket().bucket(&bucket).send().await.unwrap();
        Self {
            kind,
            client,
            bucket,
            embedded,
        }
    }

    /// Compares what was seen at a point with what AWS does, or with the known difference.
    #[track_caller]
    fn expect(&self, point: &str, aws: &str, seen: impl Into<String>) {
        let known = DIFFERENCES
            .iter()
            .find(|(kind, name, _)| *kind == self.kind && *name == point);
        let expected = known.map_or(aws, |(_, _, instead)| instead);
        let seen = seen.into();
        assert_eq!(seen, expected, "{:?}: {point}", self.kind);
    }

    /// Requests to this bucket, to be completed and sent.
    fn get(&self, key: &str) -> GetObjectFluentBuilder {
        self.client.get_object().bucket(&self.bucket).key(key)
    }

    fn head(&self, key: &str) -> HeadObjectFluentBuilder {
        self.client.head_object().bucket(&self.bucket).key(key)
    }

    fn putting(&self, key: &str) -> PutObjectFluentBuilder {
        self.client.put_object().bucket(&self.bucket).key(key)
    }

    fn deleting(&self, key: &str) -> DeleteObjectFluentBuilder {
        self.client.delete_object().bucket(&self.bucket).key(key)
    }

    fn deleting_all(&self) -> DeleteObjectsFluentBuilder {
        self.client.delete_objects().bucket(&self.bucket)
    }

    fn list(&self) -> ListObjectsV2FluentBuilder {
        self.client.list_objects_v2().bucket(&self.bucket)
    }

    fn creating(&self, key: &str) -> CreateMultipartUploadFluentBuilder {
        self.client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
    }

    fn uploading(&self, key: &str) -> UploadPartFluentBuilder {
        self.client.upload_part().bucket(&self.bucket).key(key)
    }

    fn listing_parts(&self, key: &str) -> ListPartsFluentBuilder {
        self.client.list_parts().bucket(&self.bucket).key(key)
    }

    fn listing_uploads(&self) -> ListMultipartUploadsFluentBuilder {
        self.client.list_multipart_uploads().bucket(&self.bucket)
    }

    fn aborting(&self, key: &str) -> AbortMultipartUploadFluentBuilder {
        self.client.abort_multipart_upload().bucket(&self.bucket).key(key)
    }

    async fn put(&self, key: &str, body: &[u8]) -> String {
        let put = self.putting(key).body(body.to_vec().into());
        put.send().await.unwrap().e_tag.unwrap()
    }

    async fn read(&self, key: &str) -> Vec<u8> {
        let object = self.get(key).send().await.unwrap();
        object.body.collect().await.unwrap().to_vec()
    }

    async fn exists(&self, key: &str) -> bool {
        self.head(key).send().await.is_ok()
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        let mut pages = self.list().prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            keys.extend(
                page.unwrap()
                    .contents
                    .unwrap_or_default()
                    .into_iter()
                    .map(|o| o.key.unwrap()),
            );
        }
        keys
    }

    async fn create_upload(&self, key: &str) -> String {
        let created = self.creating(key).send().await;
        created.unwrap().upload_id.unwrap()
    }

    async fn upload_part(&self, key: &str, id: &str, number: i32, body: &[u8]) -> CompletedPart {
        let upload = self.uploading(key).upload_id(id);
        let part = upload
            .part_number(number)
            .body(body.to_vec().into())
            .send()
            .await
            .unwrap();
        CompletedPart::builder()
            .part_number(number)
            .e_tag(part.e_tag.unwrap())
            .build()
    }

    fn complete(&self, key: &str, id: &str, parts: &[CompletedPart]) -> CompleteMultipartUploadFluentBuilder {
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.to_vec()))
            .build();
        let complete = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key);
        complete.upload_id(id).multipart_upload(parts)
    }

    async fn parts(&self, key: &str, id: &str) -> Vec<Part> {
        let listed = self.listing_parts(key).upload_id(id).send().await;
        listed.unwrap().parts.unwrap_or_default()
    }
}

/// `ok`, or status and code of the error.
fn outcome<T, E: ProvideErrorMetadata>(result: &Result<T, SdkError<E, HttpResponse>>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(SdkError::ServiceError(error)) => {
            format!(
                "{} {}",
                error.raw().status().as_u16(),
                error.err().code().unwrap_or("-")
            )
        }
        Err(_) => "no answer".to_owned(),
    }
}

/// `size` bytes that differ by `seed`.
fn bytes(size: usize, seed: u8) -> Vec<u8> {
    (0..size)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed)
        .collect()
}

const MIB: usize = 1 << 20;
