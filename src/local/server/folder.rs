//! The served directory: where a key lies, and every change of it.
//!
//! A bucket is a sub-folder, an object a regular file in it under its key. The server's own files
//! are in `.compaction-operator/` beside the buckets: no bucket can have that name, so no key and
//! no listing ever meets them. An object appears, and is replaced, by one rename of a file that is
//! complete, on disk and carries its record; whatever else happens, the old state stays.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use s3s::dto::{ETag, ETagCondition};
use s3s::{S3Result, s3_error};

use super::Error;
use super::failure::{self, Context, is_absence};
use super::key::check_key;
use super::listing::Names;
use super::version::{self, Attributes, Version};

const OWN: &str = ".compaction-operator";

/// The served directory. There is one in all processes for a directory (it holds a lock).
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    temporary: PathBuf,
    pub(super) uploads: PathBuf,
    pub(super) names: Names,
    serial: AtomicU64,
    change: Mutex<()>,
    lock: File,
}

/// Held while something is checked and then changed, so that nothing comes between the two.
pub(super) type Change<'a> = MutexGuard<'a, ()>;

/// Gives the directory back at once. Closing the file would do so only when no process that is being started has a copy
/// of it any more.
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl Folder {
    /// Takes the directory over: locks it and removes what an earlier server left half-done. Open
    /// uploads stay.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Io {
            dir: dir.to_owned(),
            source,
        };
        match fs::metadata(dir) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(Error::NotADirectory(dir.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing(dir.to_owned()));
            }
            Err(error) => return Err(failed(error)),
        }
        let own = dir.join(OWN);
        let (temporary, uploads) = (own.join("tmp"), own.join("uploads"));
        fs::create_dir_all(&uploads).map_err(failed)?;

        let lock = File::create(own.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::InUse(dir.to_owned())),
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        if !version::supported(&lock).map_err(failed)? {
            return Err(Error::NoAttributes(dir.to_owned()));
        }
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => fs::create_dir(&temporary).map_err(failed)?,
        }
        Ok(Self {
            dir: dir.to_owned(),
            temporary,
            uploads,
            names: Names::default(),
            serial: AtomicU64::new(0),
            change: Mutex::new(()),
            lock,
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn bucket(&self, name: &str) -> S3Result<PathBuf> {
        let path = self.dir.join(name);
        if path.is_dir() {
            Ok(path)
        } else {
            Err(s3_error!(
                NoSuchBucket,
                "there is no folder `{name}` in the served directory; create it"
            ))
        }
    }

    /// Opens an object to read it.
    pub(super) fn object(&self, bucket: &str, key: &str) -> S3Result<(File, Version)> {
        self.find(bucket, key, version::open)?
            .ok_or_else(|| s3_error!(NoSuchKey))
    }

    /// What there is under a key now.
    pub(super) fn current(&self, bucket: &str, key: &str) -> S3Result<Option<Version>> {
        self.find(bucket, key, version::look)
    }

    fn find<T>(&self, bucket: &str, key: &str, open: fn(&Path) -> io::Result<T>) -> S3Result<Option<T>> {
        let bucket = self.bucket(bucket)?;
        // What cannot be stored is not there.
        if check_key(key).is_err() {
            return Ok(None);
        }
        match open(&bucket.join(key)) {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(failure::io("open the object", error)),
        }
    }

    /// A name of our own that nothing else uses.
    pub(super) fn temporary_path(&self) -> PathBuf {
        self.temporary
            .join(self.serial.fetch_add(1, Ordering::Relaxed).to_string())
    }

    pub(super) fn temporary_file(&self) -> S3Result<Temporary> {
        Temporary::create(self.temporary_path()).doing("create a temporary file")
    }

    pub(super) fn change(&self) -> Change<'_> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a sealed file the object `key`, if `condition` holds.
    pub(super) fn publish(
        &self,
        _: &Change<'_>,
        bucket: &str,
        key: &str,
        file: Temporary,
        condition: &Condition,
    ) -> S3Result<()> {
        check_key(key)?;
        condition.check(self.current(bucket, key)?.as_ref())?;
        let path = self.bucket(bucket)?.join(key);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| match error.kind() {
                io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                    s3_error!(
                        InvalidRequest,
                        "a folder cannot hold `{key}`: a prefix of it is an object"
                    )
                }
                _ => failure::io("create the object's folder", error),
            })?;
        }
        file.rename(&path).map_err(|error| match error.kind() {
            io::ErrorKind::IsADirectory | io::ErrorKind::DirectoryNotEmpty => {
                s3_error!(InvalidRequest, "a folder cannot hold `{key}`: there are objects below it")
            }
            io::ErrorKind::CrossesDevices => s3_error!(
                InternalError,
                "the bucket is on another file system than the served directory; serve one of that file system"
            ),
            _ => failure::io("store the object", error),
        })
    }

    /// Deletes an object, and the folders that this leaves empty.
    pub(super) fn delete(&self, bucket: &str, key: &str, condition: &Condition) -> S3Result<()> {
        let _change = self.change();
        let current = self.current(bucket, key)?;
        condition.check(current.as_ref())?;
        if current.is_none() {
            return Ok(());
        }
        let bucket = self.bucket(bucket)?;
        let path = bucket.join(key);
        match fs::remove_file(&path) {
            Err(error) if !is_absence(&error) => return Err(failure::io("delete the object", error)),
            _ => {}
        }
        // Prefixes do not outlive their objects. The first one that is not empty ends it.
        for parent in path.ancestors().skip(1).take_while(|parent| *parent != bucket) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// What must hold for a change to take place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match`
    Match(ETagCondition),
}

impl Condition {
    pub(super) fn new(
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
    ) -> S3Result<Self> {
        match (if_match, if_none_match) {
            (None, None) => Ok(Self::Always),
            (None, Some(ETagCondition::Any)) => Ok(Self::Absent),
            (Some(condition), None) => Ok(Self::Match(condition)),
            _ => Err(s3_error!(
                NotImplemented,
                "If-None-Match allows `*` only, and not beside If-Match"
            )),
        }
    }

    pub(super) fn etag(etag: Option<ETag>) -> Self {
        etag.map_or(Self::Always, |etag| Self::Match(ETagCondition::ETag(etag)))
    }

    pub(super) fn check(&self, current: Option<&Version>) -> S3Result<()> {
        match (self, current) {
            (Self::Absent, Some(_)) => Err(s3_error!(PreconditionFailed, "the key exists")),
            (Self::Match(_), None) => Err(s3_error!(NoSuchKey)),
            (Self::Match(ETagCondition::ETag(wanted)), Some(version)) if wanted.value() != version.etag => {
                Err(s3_error!(PreconditionFailed, "the object has another ETag"))
            }
            _ => Ok(()),
        }
    }
}

/// A file under construction; removed again unless it is renamed to where it belongs.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(Self {
            path,
            file,
            renamed: false,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> S3Result<()> {
        self.file.write_all(bytes).doing("write the object")
    }

    /// Appends a whole file, in the kernel where the file system can.
    pub(super) fn append(&mut self, source: &mut File) -> S3Result<u64> {
        io::copy(source, &mut self.file).doing("write the object")
    }

    /// Says that the content is complete, and waits until it is on disk.
    pub(super) fn seal(&self, etag: &str, attributes: &Attributes) -> S3Result<()> {
        version::write(&self.file, etag, attributes)?;
        self.file.sync_all().doing("write the object to disk")
    }

    pub(super) fn rename(mut self, to: &Path) -> io::Result<()> {
        match fs::rename(&self.path, to) {
            // An empty folder is no object and no prefix, so it may not be in the way of one.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                fs::remove_dir(to)?;
                fs::rename(&self.path, to)?;
            }
            result => result?,
        }
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.renamed {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a temporary file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        (dir, folder)
    }

    fn sealed(folder: &Folder, content: &[u8]) -> Temporary {
        let mut file = folder.temporary_file().unwrap();
        file.write(content).unwrap();
        file.seal("etag", &Attributes::default()).unwrap();
        file
    }

    #[test]
    fn a_full_disk_is_told_as_such_and_the_file_is_removed() {
        let (dir, folder) = folder();
        let mut file = folder.temporary_file().unwrap();
        file.file = File::options().write(true).open("/dev/full").unwrap();
        let error = file.write(b"x").unwrap_err();
        assert_eq!(error.code().as_str(), "XMinioStorageFull");
        assert_eq!(error.status_code().unwrap(), 507);
        assert!(error.message().unwrap().contains("disk is full"), "{error}");
        let path = file.path.clone();
        assert!(path.exists());
        drop(file);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(dir.path().join("data")).unwrap().count(), 0);
    }

    #[test]
    fn a_refused_publication_leaves_the_old_object_and_no_file() {
        let (dir, folder) = folder();
        let publish = |content: &[u8], condition| {
            let file = sealed(&folder, content);
            folder.publish(&folder.change(), "data", "a", file, &condition)
        };
        publish(b"old", Condition::Absent).unwrap();
        let error = publish(b"new", Condition::Absent).unwrap_err();
        assert_eq!(error.code().as_str(), "PreconditionFailed");
        assert_eq!(fs::read(dir.path().join("data/a")).unwrap(), b"old");
        assert_eq!(fs::read_dir(&folder.temporary).unwrap().count(), 0);
    }

    #[test]
    fn a_key_that_is_no_path_is_refused_and_never_found() {
        let (_dir, folder) = folder();
        let long = "k".repeat(256);
        for key in [
            "", "/", "..", "a/../b", "./a", "a//b", "/a", "a/", "a\0b", "a\nb", &long,
        ] {
            assert!(check_key(key).is_err(), "{key:?}");
            assert_eq!(
                folder.current("data", key).unwrap().map(|version| version.etag),
                None
            );
            folder.delete("data", key, &Condition::Always).unwrap();
        }
        for key in ["a", "a/b", "...", "a..b/.c", " ", "ü", &long[..255]] {
            check_key(key).unwrap();
        }
    }
}
