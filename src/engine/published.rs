//! Which jobs have published beside an output prefix, and what their files are called.
//!
//! Never reads what is in the files.

use std::sync::Arc;

use super::Error;
use crate::store::{Pages, Store};

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const SUCCESS: &str = "_SUCCESS";
pub(crate) const CONSUMED: &str = "consumed.jsonl";

pub(crate) const CONSUMED_VERSION: u32 = 1;

/// Where the manifests of an output prefix are, each in a directory of its job's UID.
pub fn manifest_directory(output_prefix: &str) -> String {
    format!("{output_prefix}_compaction/")
}

/// A job with `_SUCCESS`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Published {
    /// When that was written. Seconds since the epoch, by the store's clock.
    announced: i64,
    pub uid: String,
    /// Whether it has a list of what it has consumed; a later job may have taken that over.
    pub has_consumed: bool,
}

/// What is wrong with a file of another version than the one that is known.
pub(crate) fn unknown_version(version: u32) -> String {
    format!("its version {version} is not known; use a newer compaction-operator")
}

/// In the order in which they were announced.
pub(crate) async fn published(store: &Arc<dyn Store>, directory: &str) -> Result<Vec<Published>, Error> {
    let mut published: Vec<Published> = Vec::new();
    let mut pages = Pages::of(directory);
    while let Some(objects) = pages.next(&**store).await? {
        for object in objects {
            let file = object.key.strip_prefix(directory).unwrap_or_default();
            match file.split_once('/') {
                Some((uid, SUCCESS)) => published.push(Published {
                    announced: object.modified,
                    uid: uid.to_owned(),
                    has_consumed: false,
                }),
                // In the order of keys it comes after its `_SUCCESS`.
                Some((uid, CONSUMED)) => {
                    if let Some(job) = published.last_mut().filter(|job| job.uid == uid) {
                        job.has_consumed = true;
                    }
                }
                _ => {}
            }
        }
    }
    published.sort();
    Ok(published)
}
