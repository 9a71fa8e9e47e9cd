//! Bodies in and out. At most one [`HELD`] of a body is in memory; files are touched on tokio's
//! blocking threads only, which never wait for a client.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Error, S3Request, S3Result, TrailingHeaders, s3_error};

use super::failure;
use super::folder::{Folder, Temporary};

/// Bytes of one body in memory: what is written, or read, in one go.
const HELD: usize = 1 << 20;

/// Runs file operations where they may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> S3Result<T> + Send + 'static,
) -> S3Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(s3_error!(error, InternalError)))
}

/// A body that has arrived in a file and is what the client said it would be.
pub(super) struct Received {
    pub(super) file: Temporary,
    /// Hexadecimal: the ETag of a simple object or part.
    pub(super) md5: String,
}

/// Stores a body in a temporary file, then calls `finish` with it.
///
/// An error is returned only when the client has sent everything: one that is still sending would
/// see a broken connection instead of the answer. So what speaks against the request is best
/// checked in `finish`.
pub(super) async fn receive<T: Send + 'static>(
    folder: &Arc<Folder>,
    body: Option<StreamingBlob>,
    promise: Promise,
    finish: impl FnOnce(Received) -> S3Result<T> + Send + 'static,
) -> S3Result<T> {
    let mut sink = Ok(Sink::new(Arc::clone(folder), &promise));
    let mut held = Vec::new();
    let mut body = body.unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| s3_error!(IncompleteBody, "cannot read the body: {error}"))?;
        match sink {
            Err(_) => {} // only to let the client come to an end
            Ok(_) if held.iter().map(Bytes::len).sum::<usize>() + chunk.len() < HELD => held.push(chunk),
            Ok(open) => {
                held.push(chunk);
                let chunks = std::mem::take(&mut held);
                sink = blocking(move || open.write(&chunks)).await;
            }
        }
    }
    let sink = sink?;
    blocking(move || finish(sink.write(&held)?.close(promise)?)).await
}

/// A body on its way to a file. Hashing goes along with writing.
struct Sink {
    folder: Arc<Folder>,
    /// Made with the first bytes, on a blocking thread.
    file: Option<Temporary>,
    md5: Md5,
    checksums: ChecksumHasher,
    size: u64,
}

impl Sink {
    fn new(folder: Arc<Folder>, promise: &Promise) -> Self {
        Self {
            folder,
            file: None,
            md5: Md5::new(),
            checksums: promise.hasher(),
            size: 0,
        }
    }

    fn write(mut self, chunks: &[Bytes]) -> S3Result<Self> {
        let mut file = match self.file {
            Some(file) => file,
            None => self.folder.temporary_file()?,
        };
        for chunk in chunks {
            self.md5.update(chunk);
            self.checksums.update(chunk);
            self.size += chunk.len() as u64;
            file.write(chunk)?;
        }
        self.file = Some(file);
        Ok(self)
    }

    fn close(self, promise: Promise) -> S3Result<Received> {
        let file = match self.file {
            Some(file) => file,
            None => self.folder.temporary_file()?,
        };
        let md5 = self.md5.finalize();
        promise.check(self.size, md5, &self.checksums.finalize())?;
        Ok(Received {
            file,
            md5: hex::encode(md5),
        })
    }
}

/// What a client says of a body: its length and checksums, in headers or in trailers.
pub(super) struct Promise {
    headers: HeaderMap,
    trailers: Option<TrailingHeaders>,
}

const CHECKSUMS: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];

impl Promise {
    pub(super) fn of<T>(request: &mut S3Request<T>) -> Self {
        Self {
            headers: std::mem::take(&mut request.headers),
            trailers: request.trailing_headers.take(),
        }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn hasher(&self) -> ChecksumHasher {
        let trailers = self
            .headers
            .get("x-amz-trailer")
            .and_then(|names| names.to_str().ok())
            .unwrap_or("");
        let promised = |name: &str| {
            self.headers.contains_key(name)
                || trailers
                    .split(',')
                    .any(|trailer| trailer.trim().eq_ignore_ascii_case(name))
        };
        let [crc32, crc32c, crc64nvme, sha1, sha256] = CHECKSUMS.map(promised);
        ChecksumHasher {
            crc32: crc32.then(Default::default),
            crc32c: crc32c.then(Default::default),
            crc64nvme: crc64nvme.then(Default::default),
            sha1: sha1.then(Default::default),
            sha256: sha256.then(Default::default),
        }
    }

    fn check(self, size: u64, md5: [u8; 16], found: &Checksum) -> S3Result<()> {
        let trailers = self
            .trailers
            .and_then(|trailers| trailers.take())
            .unwrap_or_default();
        let said = |name| {
            self.headers
                .get(name)
                .or_else(|| trailers.get(name))
                .map(HeaderValue::as_bytes)
        };

        let length = said("content-length").and_then(|text| str::from_utf8(text).ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length != size) {
            return Err(s3_error!(IncompleteBody, "{size} bytes came of the body"));
        }
        if said("content-md5").is_some_and(|text| text != BASE64.encode(md5).as_bytes()) {
            return Err(s3_error!(
                BadDigest,
                "the body's MD5 is not what Content-MD5 says"
            ));
        }
        let found = [
            &found.checksum_crc32,
            &found.checksum_crc32c,
            &found.checksum_crc64nvme,
            &found.checksum_sha1,
            &found.checksum_sha256,
        ];
        for (name, found) in CHECKSUMS.into_iter().zip(found) {
            if said(name) != found.as_deref().map(str::as_bytes) {
                return Err(s3_error!(
                    BadDigest,
                    "the body's checksum is not what {name} says"
                ));
            }
        }
        Ok(())
    }
}

/// An opened part of a file, with its first bytes read.
pub(super) struct Outgoing {
    file: Arc<File>,
    first: Bytes,
    rest: Range<u64>,
}

impl Outgoing {
    pub(super) fn open(file: File, range: Range<u64>) -> S3Result<Self> {
        let (first, rest) = read(&file, range).map_err(|error| failure::io("read the object", error))?;
        Ok(Self {
            file: Arc::new(file),
            first,
            rest,
        })
    }

    pub(super) fn into_body(self) -> StreamingBlob {
        let file = self.file;
        let rest = stream::try_unfold(self.rest, move |rest| {
            let file = Arc::clone(&file);
            async move {
                if rest.is_empty() {
                    return Ok::<_, S3Error>(None);
                }
                let read = blocking(move || read(&file, rest).map_err(|e| failure::io("read the object", e)));
                read.await.map(Some)
            }
        });
        StreamingBlob::wrap(stream::iter([Ok(self.first)]).chain(rest).into_stream())
    }
}

/// The first bytes of `range`, and what is left of it. A file that has become shorter is an error.
fn read(file: &File, range: Range<u64>) -> std::io::Result<(Bytes, Range<u64>)> {
    let length = (range.end - range.start).min(HELD as u64);
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok((bytes.into(), range.start + length..range.end))
}
