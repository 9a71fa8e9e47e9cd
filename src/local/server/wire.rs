//! Pieces of requests and answers that several operations share.

use std::fs;
use std::io;
use std::ops;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use s3s::dto::{
    Bucket, CommonPrefix, ETag, ETagCondition, EncodingType, ListObjectsV2Input, ListObjectsV2Output,
    MultipartUpload, Object, Part, Range, Timestamp,
};
use s3s::{S3Result, s3_error};

use super::listing::Page;
use super::uploads::Upload;
use super::version::Version;

/// The most that one page of any listing has, and one `DeleteObjects`.
pub(super) const PAGE: usize = 1000;

/// Takes the attributes to keep out of a request that has them.
macro_rules! attributes {
    ($input:expr) => {
        $crate::local::server::version::Attributes {
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $input
                .content_encoding
                .take()
                .and_then(|header| $crate::local::server::wire::content_coding(&header)),
            content_language: $input.content_language.take(),
            content_type: $input.content_type.take(),
            user: $input.metadata.take().unwrap_or_default(),
        }
    };
}
pub(super) use attributes;

/// What is left of a `Content-Encoding` without the framing of the request itself.
pub(super) fn content_coding(header: &str) -> Option<String> {
    let codings = header
        .split(',')
        .map(str::trim)
        .filter(|coding| !matches!(*coding, "" | "aws-chunked"));
    Some(codings.collect::<Vec<_>>().join(",")).filter(|codings| !codings.is_empty())
}

/// What S3 says of an object without one.
pub(super) const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// Takes the conditions of a read out of a request that has them.
macro_rules! conditions {
    ($input:expr) => {
        $crate::local::server::wire::Conditions {
            matching: $input.if_match.take(),
            none_matching: $input.if_none_match.take(),
            modified_since: $input.if_modified_since.take(),
            unmodified_since: $input.if_unmodified_since.take(),
        }
    };
}
pub(super) use conditions;

/// What must hold for a read to be answered. A condition on the ETag overrides the one on the time.
pub(super) struct Conditions {
    pub(super) matching: Option<ETagCondition>,
    pub(super) none_matching: Option<ETagCondition>,
    pub(super) modified_since: Option<Timestamp>,
    pub(super) unmodified_since: Option<Timestamp>,
}

impl Conditions {
    pub(super) fn check(&self, version: &Version) -> S3Result<()> {
        let is = |condition: &ETagCondition| {
            condition
                .as_etag()
                .is_none_or(|etag| etag.value() == version.etag)
        };
        let changed_since = |time: &Timestamp| whole_seconds(version.modified) > *time;

        let wanted = match (&self.matching, &self.unmodified_since) {
            (Some(condition), _) => is(condition),
            (None, Some(time)) => !changed_since(time),
            (None, None) => true,
        };
        let known = match (&self.none_matching, &self.modified_since) {
            (Some(condition), _) => is(condition),
            (None, Some(time)) => !changed_since(time),
            (None, None) => false,
        };
        match (wanted, known) {
            (false, _) => Err(s3_error!(PreconditionFailed, "the object is another version")),
            (true, true) => Err(s3_error!(NotModified)),
            (true, false) => Ok(()),
        }
    }
}

/// As times are in HTTP headers.
fn whole_seconds(time: SystemTime) -> Timestamp {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs()))
}

/// What asks for more than this server does, and may not be dropped silently.
const UNSUPPORTED: [&str; 6] = [
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
];

pub(super) fn refuse_unsupported(headers: &HeaderMap) -> S3Result<()> {
    if let Some(name) = UNSUPPORTED.into_iter().find(|name| headers.contains_key(*name)) {
        return Err(s3_error!(
            NotImplemented,
            "the embedded server does not do {name}"
        ));
    }
    match headers
        .get("x-amz-storage-class")
        .map(hyper::header::HeaderValue::as_bytes)
    {
        None | Some(b"STANDARD") => Ok(()),
        Some(_) => Err(s3_error!(
            InvalidStorageClass,
            "the embedded server has STANDARD only"
        )),
    }
}

/// Reads and deletions are of the one version that there is, and of all of it.
pub(super) fn only_current_whole(version: Option<&str>, part: Option<i32>) -> S3Result<()> {
    match (version, part) {
        (None | Some("null"), None) => Ok(()),
        _ => Err(s3_error!(
            NotImplemented,
            "the embedded server keeps no versions and no bounds of parts"
        )),
    }
}

/// The bytes that a range means in an object of `size` bytes.
pub(super) fn satisfiable(range: Range, size: u64) -> S3Result<ops::Range<u64>> {
    let range = range.check(size).ok().filter(|range| !range.is_empty());
    range.ok_or_else(|| {
        s3_error!(
            InvalidRange,
            "the range lies outside of the object's {size} bytes"
        )
    })
}

pub(super) fn page_size(wanted: Option<i32>) -> S3Result<usize> {
    let wanted = usize::try_from(wanted.unwrap_or(PAGE as i32));
    wanted
        .map(|wanted| wanted.min(PAGE))
        .map_err(|error| s3_error!(error, InvalidArgument))
}

pub(super) fn page_output(input: ListObjectsV2Input, limit: usize, page: Page) -> ListObjectsV2Output {
    let encode = encoder(input.encoding_type.as_ref());
    ListObjectsV2Output {
        key_count: Some((page.objects.len() + page.prefixes.len()) as i32),
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.map(|next| next.token()),
        contents: Some(
            page.objects
                .into_iter()
                .map(|(key, version)| object(encode(key), version))
                .collect(),
        ),
        common_prefixes: Some(
            page.prefixes
                .into_iter()
                .map(|prefix| CommonPrefix {
                    prefix: Some(encode(prefix)),
                })
                .collect(),
        ),
        name: Some(input.bucket),
        prefix: Some(encode(input.prefix.unwrap_or_default())),
        delimiter: input.delimiter.map(encode),
        start_after: input.start_after.map(encode),
        continuation_token: input.continuation_token,
        encoding_type: input.encoding_type,
        max_keys: Some(limit as i32),
        request_charged: None,
    }
}

fn object(key: String, version: Version) -> Object {
    Object {
        key: Some(key),
        last_modified: Some(version.last_modified()),
        size: Some(version.size.cast_signed()),
        e_tag: Some(ETag::Strong(version.etag)),
        storage_class: Some(s3s::dto::ObjectStorageClass::from_static(
            s3s::dto::ObjectStorageClass::STANDARD,
        )),
        ..Default::default()
    }
}

/// What a listing does with keys: S3 encodes them for clients whose XML could not carry them.
pub(super) fn encoder(encoding: Option<&EncodingType>) -> impl Fn(String) -> String + Copy {
    let url = encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL);
    move |text| if url { url_encode(&text) } else { text }
}

/// As S3 encodes keys in listings: everything but `/` and the unreserved characters, a space as `+`.
fn url_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => {
                encoded.push('%');
                encoded.push_str(&hex::encode_upper([byte]));
            }
        }
    }
    encoded
}

pub(super) fn part((number, version): (i32, Version)) -> Part {
    Part {
        part_number: Some(number),
        size: Some(version.size.cast_signed()),
        last_modified: Some(version.last_modified()),
        e_tag: Some(ETag::Strong(version.etag)),
        ..Default::default()
    }
}

pub(super) fn upload(upload: Upload) -> MultipartUpload {
    MultipartUpload {
        key: Some(upload.key),
        upload_id: Some(upload.id),
        initiated: Some(Timestamp::from(upload.initiated)),
        ..Default::default()
    }
}

/// The folders in the served directory that can be buckets, by name.
pub(super) fn buckets(dir: &Path) -> io::Result<Vec<Bucket>> {
    let mut buckets = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if entry.path().is_dir() && s3s::path::check_bucket_name(&name) {
            let created = entry.metadata()?.modified()?;
            let creation_date = Some(Timestamp::from(created));
            buckets.push(Bucket {
                name: Some(name),
                creation_date,
                bucket_region: None,
            });
        }
    }
    buckets.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(buckets)
}
