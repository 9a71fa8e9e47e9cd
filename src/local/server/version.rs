//! What the server says of a file: ETag, size, time and the attributes given at its upload.
//!
//! They are kept in an extended attribute of the file itself, so that they appear and vanish with
//! it in the same rename. The record is believed only while size and modification time are those it
//! was written for. A file without one, or that somebody has changed since, gets an ETag derived
//! from size, modification time and inode: stable while the file is left alone, another one
//! afterwards, and no byte has to be read for it. It contains a `-`, so no client takes it for an MD5.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use s3s::dto::Timestamp;
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

use super::failure::Context;

const NAME: &str = "user.compaction-operator";

/// What ext4 keeps for one file, less its own headers.
const MAX_RECORD: usize = 3800;

/// What a client gave at upload and gets back at download.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Attributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    /// `x-amz-meta-…`
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub(super) user: HashMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    etag: String,
    size: u64,
    /// Nanoseconds since the epoch.
    modified: i64,
    #[serde(flatten)]
    attributes: Attributes,
}

#[derive(Debug, Clone)]
pub(super) struct Version {
    /// Without quotes.
    pub(super) etag: String,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
    pub(super) attributes: Attributes,
}

impl Version {
    fn derived(metadata: &Metadata) -> io::Result<Self> {
        let (nanos, inode, size) = (nanos(metadata), metadata.ino(), metadata.len());
        Ok(Self {
            etag: format!("{nanos:016x}{inode:016x}-{size}"),
            size,
            modified: metadata.modified()?,
            attributes: Attributes::default(),
        })
    }

    pub(super) fn last_modified(&self) -> Timestamp {
        Timestamp::from(self.modified)
    }
}

/// Opens the regular file at `path`; anything else that may lie there is `NotFound`.
pub(super) fn open(path: &Path) -> io::Result<(File, Version)> {
    // A FIFO would block an open without this flag; regular files ignore it.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let version = match read(&file)? {
        Some(record) if record.size == metadata.len() && record.modified == nanos(&metadata) => Version {
            etag: record.etag,
            size: record.size,
            modified: metadata.modified()?,
            attributes: record.attributes,
        },
        _ => Version::derived(&metadata)?,
    };
    Ok((file, version))
}

/// As [`open`], for who does not need the content. A file that may not be read still has a version.
pub(super) fn look(path: &Path) -> io::Result<Version> {
    match open(path) {
        Ok((_, version)) => Ok(version),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Version::derived(&fs::metadata(path)?)
        }
        Err(error) => Err(error),
    }
}

/// Attaches ETag and attributes to a file whose content is complete.
pub(super) fn write(file: &File, etag: &str, attributes: &Attributes) -> S3Result<()> {
    let metadata = file.metadata().doing("look at a new file")?;
    let record = Record {
        etag: etag.to_owned(),
        size: metadata.len(),
        modified: nanos(&metadata),
        attributes: attributes.clone(),
    };
    let record = serde_json::to_vec(&record).map_err(|error| s3_error!(error, InternalError))?;
    if record.len() > MAX_RECORD {
        return Err(s3_error!(
            MetadataTooLarge,
            "the object's metadata exceeds the 2 KB that S3 allows"
        ));
    }
    rustix::fs::fsetxattr(file, NAME, &record, rustix::fs::XattrFlags::empty())
        .map_err(io::Error::from)
        .doing("keep the object's ETag and metadata")
}

/// Whether files beside `file` can carry extended attributes.
pub(super) fn supported(file: &File) -> io::Result<bool> {
    match rustix::fs::fsetxattr(file, NAME, b"", rustix::fs::XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn read(file: &File) -> io::Result<Option<Record>> {
    let mut record = Vec::with_capacity(MAX_RECORD);
    match rustix::fs::fgetxattr(file, NAME, rustix::buffer::spare_capacity(&mut record)) {
        // What does not parse was not written by this server, and is as good as none.
        Ok(_) => Ok(serde_json::from_slice(&record).ok()),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP | rustix::io::Errno::RANGE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn nanos(metadata: &Metadata) -> i64 {
    metadata
        .mtime()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file_with(dir: &tempfile::TempDir, name: &str, content: &[u8]) -> std::path::PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn a_record_is_believed_until_the_file_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_with(&dir, "a", b"12345");
        let attributes = Attributes {
            content_type: Some("text/plain".into()),
            ..Attributes::default()
        };
        write(&File::open(&path).unwrap(), "abc", &attributes).unwrap();
        let version = look(&path).unwrap();
        assert_eq!((version.etag.as_str(), &version.attributes), ("abc", &attributes));

        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"6")
            .unwrap();
        let version = look(&path).unwrap();
        assert_ne!(version.etag, "abc");
        assert_eq!(version.size, 6);
        assert_eq!(version.attributes, Attributes::default());
    }

    #[test]
    fn a_file_of_the_same_size_and_time_but_another_inode_is_another_version() {
        let dir = tempfile::tempdir().unwrap();
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        let mut etags = ["a", "b"].map(|name| {
            let path = file_with(&dir, name, name.as_bytes());
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
            look(&path).unwrap().etag
        });
        etags.sort();
        assert_ne!(etags[0], etags[1]);
    }

    #[test]
    fn a_derived_etag_stays_when_the_file_is_read_renamed_or_made_readable() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_with(&dir, "a", b"x");
        let before = look(&path).unwrap().etag;
        fs::read(&path).unwrap();
        let moved = dir.path().join("b");
        fs::rename(&path, &moved).unwrap();
        assert_eq!(look(&moved).unwrap().etag, before);
        assert!(before.contains('-'), "{before} could be taken for an MD5");
    }

    #[test]
    fn metadata_beyond_what_fits_is_refused_as_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_with(&dir, "a", b"x");
        let attributes = Attributes {
            user: [("k".to_owned(), "v".repeat(4000))].into(),
            ..Attributes::default()
        };
        let error = write(&File::open(&path).unwrap(), "abc", &attributes).unwrap_err();
        assert_eq!(error.code().as_str(), "MetadataTooLarge");
    }

    #[test]
    fn directories_and_pipes_are_not_files() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(dir.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert_eq!(look(&pipe).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
