//! From what the file system says to what a client of S3 understands. Never panics, never names a
//! path outside the served directory.

use std::io::{Error, ErrorKind};

use s3s::{S3Error, S3ErrorCode, S3Result};

/// The answer for a file operation that failed. `doing` completes "cannot …".
pub(super) fn io(doing: &str, error: Error) -> S3Error {
    let code = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => return storage_full(doing, error),
        ErrorKind::FileTooLarge => S3ErrorCode::EntityTooLarge,
        ErrorKind::InvalidFilename => S3ErrorCode::KeyTooLongError,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => S3ErrorCode::AccessDenied,
        _ if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => S3ErrorCode::SlowDown,
        _ => S3ErrorCode::InternalError,
    };
    let mut answer = S3Error::with_message(code, format!("cannot {doing}: {error}"));
    answer.set_source(Box::new(error));
    answer
}

const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();
const ENFILE: i32 = rustix::io::Errno::NFILE.raw_os_error();

/// S3 itself is never full, so it has no code for this; the code and the status are those of MinIO.
fn storage_full(doing: &str, error: Error) -> S3Error {
    let message = format!("cannot {doing}: the disk is full ({error}); free some space");
    let mut answer = S3Error::with_message(S3ErrorCode::Custom("XMinioStorageFull".into()), message);
    answer.set_status_code(hyper::StatusCode::INSUFFICIENT_STORAGE);
    answer.set_source(Box::new(error));
    answer
}

/// Adds to a file operation what it was for.
pub(super) trait Context<T> {
    fn doing(self, doing: &str) -> S3Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn doing(self, doing: &str) -> S3Result<T> {
        self.map_err(|error| io(doing, error))
    }
}

/// Whether an error only says that nothing lies there.
pub(super) fn is_absence(error: &Error) -> bool {
    use ErrorKind::{InvalidFilename, IsADirectory, NotADirectory, NotFound};
    matches!(
        error.kind(),
        NotFound | NotADirectory | IsADirectory | InvalidFilename
    )
}
