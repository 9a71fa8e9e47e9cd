//! Multipart uploads. An upload is a directory of the server's own with a description and one file
//! a part; it outlives a restart. It begins and ends by a rename of that directory, so a part either
//! gets into an open upload or is told that there is none.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::CompletedPart;
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::failure::{self, Context, is_absence};
use super::folder::{Change, Condition, Folder};
use super::key::check_key;
use super::transfer::Received;
use super::version::{self, Attributes, Version};

/// No part but the last may be smaller, bytes.
const MIN_PART: u64 = 5 << 20;
const MAX_PARTS: i32 = 10_000;
const DESCRIPTION: &str = "upload.json";

#[derive(Debug, Serialize, Deserialize)]
struct Description {
    bucket: String,
    key: String,
    attributes: Attributes,
}

/// An upload that was open when it was looked up.
pub(super) struct Upload {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) initiated: SystemTime,
    attributes: Attributes,
    path: PathBuf,
}

fn no_such_upload() -> s3s::S3Error {
    s3_error!(
        NoSuchUpload,
        "there is no such upload of this key; it may have been completed or aborted"
    )
}

/// Opens an upload and returns its id.
pub(super) fn create(
    folder: &Folder,
    bucket: String,
    key: String,
    attributes: Attributes,
) -> S3Result<String> {
    let doing = "create the upload";
    folder.bucket(&bucket)?;
    check_key(&key)?;
    let id = Uuid::new_v4().simple().to_string();
    let (new, path) = (folder.temporary_path(), folder.uploads.join(&id));
    let description = serde_json::to_vec(&Description {
        bucket,
        key,
        attributes,
    })
    .map_err(|error| s3_error!(error, InternalError))?;
    fs::create_dir(&new).doing(doing)?;
    let written = File::create(new.join(DESCRIPTION))
        .and_then(|mut file| file.write_all(&description).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        remove(&new);
    }
    written.doing(doing)?;
    Ok(id)
}

/// The open upload of this id, if it is one of this key.
pub(super) fn find(folder: &Folder, bucket: &str, key: &str, id: &str) -> S3Result<Upload> {
    folder.bucket(bucket)?;
    // An id is a file name here: whatever is not one of ours is no path either.
    let id = Uuid::try_parse(id)
        .map_err(|_| no_such_upload())?
        .simple()
        .to_string();
    let found = read(folder, &id)?.filter(|(of, upload)| of == bucket && upload.key == key);
    found.map(|(_, upload)| upload).ok_or_else(no_such_upload)
}

/// The open uploads of keys that begin with `prefix`, by key and id.
pub(super) fn list(folder: &Folder, bucket: &str, prefix: &str) -> S3Result<Vec<Upload>> {
    folder.bucket(bucket)?;
    let mut uploads = Vec::new();
    for entry in fs::read_dir(&folder.uploads).doing("list the uploads")? {
        let name = entry.doing("list the uploads")?.file_name();
        let Some(id) = name.to_str() else { continue };
        uploads
            .extend(read(folder, id)?.filter(|(of, upload)| of == bucket && upload.key.starts_with(prefix)));
    }
    let mut uploads: Vec<_> = uploads.into_iter().map(|(_, upload)| upload).collect();
    uploads.sort_unstable_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
    Ok(uploads)
}

/// An upload with the bucket it belongs to.
fn read(folder: &Folder, id: &str) -> S3Result<Option<(String, Upload)>> {
    let path = folder.uploads.join(id);
    let description = path.join(DESCRIPTION);
    let read = fs::read(&description).and_then(|text| Ok((text, fs::metadata(&description)?.modified()?)));
    let (text, initiated) = match read {
        Err(error) if is_absence(&error) => return Ok(None),
        read => read.doing("read the upload's description")?,
    };
    let Description {
        bucket,
        key,
        attributes,
    } = serde_json::from_slice(&text)
        .map_err(|error| s3_error!(error, InternalError, "the description of upload {id} is damaged"))?;
    Ok(Some((
        bucket,
        Upload {
            id: id.to_owned(),
            key,
            initiated,
            attributes,
            path,
        },
    )))
}

impl Upload {
    fn part(&self, number: i32) -> S3Result<PathBuf> {
        if (1..=MAX_PARTS).contains(&number) {
            Ok(self.path.join(format!("{number:05}")))
        } else {
            Err(s3_error!(
                InvalidArgument,
                "a part number is from 1 to {MAX_PARTS}"
            ))
        }
    }

    pub(super) fn store_part(&self, number: i32, received: Received) -> S3Result<String> {
        let path = self.part(number)?;
        let Received { file, md5 } = received;
        file.seal(&md5, &Attributes::default())?;
        file.rename(&path).map_err(|error| match error {
            error if is_absence(&error) => no_such_upload(),
            error => failure::io("store the part", error),
        })?;
        Ok(md5)
    }

    /// At most `limit` parts with numbers greater than `after`, and whether there are more.
    pub(super) fn parts(&self, after: i32, limit: usize) -> S3Result<(Vec<(i32, Version)>, bool)> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|_| no_such_upload())? {
            let name = entry.doing("list the parts")?.file_name();
            numbers.extend(
                name.to_str()
                    .and_then(|name| name.parse::<i32>().ok())
                    .filter(|n| *n > after),
            );
        }
        numbers.sort_unstable();
        let more = numbers.len() > limit;
        numbers.truncate(limit);
        let mut parts = Vec::with_capacity(numbers.len());
        for number in numbers {
            let version = version::look(&self.part(number)?).map_err(|_| no_such_upload())?;
            parts.push((number, version));
        }
        Ok((parts, more))
    }

    /// The parts that a client names for an object, checked against what there is.
    fn chosen(&self, parts: &[CompletedPart]) -> S3Result<Vec<(PathBuf, Version)>> {
        if parts.is_empty() {
            return Err(s3_error!(MalformedXML, "an object consists of at least one part"));
        }
        let numbers = parts.iter().map(|part| part.part_number.unwrap_or_default());
        if !numbers.clone().is_sorted_by(|a, b| a < b) {
            return Err(s3_error!(
                InvalidPartOrder,
                "the parts are not in ascending order"
            ));
        }
        let mut chosen = Vec::with_capacity(parts.len());
        for (number, part) in numbers.zip(parts) {
            let invalid = || s3_error!(InvalidPart, "part {number} is missing or has another ETag");
            let path = self.part(number)?;
            let version = version::look(&path).map_err(|_| invalid())?;
            if part
                .e_tag
                .as_ref()
                .is_none_or(|etag| etag.value() != version.etag)
            {
                return Err(invalid());
            }
            chosen.push((path, version));
        }
        let all_but_last = &chosen[..chosen.len() - 1];
        if let Some(at) = all_but_last
            .iter()
            .position(|(_, version)| version.size < MIN_PART)
        {
            return Err(s3_error!(
                EntityTooSmall,
                "part {} has {} bytes; every part but the last needs {MIN_PART}",
                parts[at].part_number.unwrap_or_default(),
                all_but_last[at].1.size
            ));
        }
        Ok(chosen)
    }

    /// Ends the upload, if it is still open. Returns what is left of it, for removal.
    fn close(&self, folder: &Folder, _: &Change<'_>) -> S3Result<PathBuf> {
        let remains = folder.temporary_path();
        fs::rename(&self.path, &remains).map_err(|_| no_such_upload())?;
        Ok(remains)
    }

    pub(super) fn abort(&self, folder: &Folder) -> S3Result<()> {
        let change = folder.change();
        let remains = self.close(folder, &change)?;
        drop(change);
        remove(&remains);
        Ok(())
    }
}

/// Makes the object of the named parts and returns its ETag. After an error the upload is open as
/// before. `size`, if given, is what the client expects of the whole object.
pub(super) fn complete(
    folder: &Folder,
    bucket: &str,
    upload: &Upload,
    parts: &[CompletedPart],
    size: Option<i64>,
    condition: &Condition,
) -> S3Result<String> {
    let parts = upload.chosen(parts)?;
    let total: u64 = parts.iter().map(|(_, version)| version.size).sum();
    if size.is_some_and(|size| u64::try_from(size) != Ok(total)) {
        return Err(s3_error!(
            InvalidRequest,
            "the parts have {total} bytes, not what x-amz-mp-object-size says"
        ));
    }
    condition.check(folder.current(bucket, &upload.key)?.as_ref())?; // before the work, and again after it
    let mut file = folder.temporary_file()?;
    let mut md5s = Md5::new();
    for (path, chosen) in &parts {
        let (mut part, version) = version::open(path).map_err(|_| no_such_upload())?;
        if version.etag != chosen.etag || file.append(&mut part)? != chosen.size {
            return Err(s3_error!(
                InvalidPart,
                "a part was replaced while the upload was completed"
            ));
        }
        md5s.update(&hex::decode(&version.etag).map_err(|error| s3_error!(error, InternalError))?);
    }
    let etag = format!("{}-{}", hex::encode(md5s.finalize()), parts.len());
    file.seal(&etag, &upload.attributes)?;

    let change = folder.change();
    if !upload.path.exists() {
        return Err(no_such_upload());
    }
    folder.publish(&change, bucket, &upload.key, file, condition)?;
    let remains = upload.close(folder, &change)?;
    drop(change);
    remove(&remains);
    Ok(etag)
}

/// What cannot be removed now goes at the next start.
fn remove(remains: &PathBuf) {
    if let Err(error) = fs::remove_dir_all(remains) {
        tracing::warn!(path = %remains.display(), %error, "cannot remove an ended upload");
    }
}
