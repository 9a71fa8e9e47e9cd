//! Which keys the server takes: those that can be the path of a file. Touches no file.

use s3s::{S3Result, s3_error};

/// As S3 has it, bytes.
pub(super) const MAX_KEY: usize = 1024;
/// The longest file name that common file systems store, bytes.
const MAX_NAME: usize = 255;

/// Whether a folder can hold an object of this key, at a path that is the key and no other's.
pub(super) fn check_key(key: &str) -> S3Result<()> {
    if key.len() > MAX_KEY {
        return Err(s3_error!(
            KeyTooLongError,
            "the key is longer than {MAX_KEY} bytes"
        ));
    }
    if key.split('/').any(|segment| segment.len() > MAX_NAME) {
        return Err(s3_error!(
            KeyTooLongError,
            "a segment of the key is longer than {MAX_NAME} bytes, the most that a file name can have"
        ));
    }
    if key.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(s3_error!(
            InvalidRequest,
            "a folder cannot hold a key with an empty, `.` or `..` segment"
        ));
    }
    if !is_listable(key) {
        return Err(s3_error!(
            InvalidRequest,
            "control characters in a key cannot be listed"
        ));
    }
    Ok(())
}

/// Whether a listing, which is XML 1.0, can carry the name.
pub(super) fn is_listable(name: &str) -> bool {
    !name.contains(|c: char| c < ' ' || c == '\u{fffe}' || c == '\u{ffff}')
}
