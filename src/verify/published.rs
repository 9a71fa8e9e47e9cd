//! What the published jobs of an output prefix say of their work, in the documented files beside
//! `_SUCCESS`. A job without `_SUCCESS` has said nothing yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::lists::{Listing, unknown_version};
use super::{CONCURRENCY, Error};
use crate::store::{Object, Store};

/// A manifest names outputs at some 300 bytes each. Bytes.
const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// `manifest.json`, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    version: u32,
    pub source_prefix: String,
    pub outputs: Vec<Output>,
    pub superseded: Vec<String>,
    pub sources: Sources,
    pub records_dropped: u64,
    pub skipped: Vec<Skipped>,
    #[serde(default)]
    pub failed: Vec<Failed>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Output {
    pub key: String,
    pub size: u64,
    pub crc64nvme: String,
    pub records: u64,
    pub group: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Sources {
    pub objects: u64,
    pub records: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Skipped {
    pub key: String,
    pub reason: String,
}

/// A group of which a job has published nothing.
#[derive(Debug, Deserialize)]
pub(super) struct Failed {
    pub group: String,
    pub reason: String,
    pub message: String,
}

/// One published job.
pub(super) struct Published {
    pub uid: String,
    pub manifest: Manifest,
    /// Its `consumed.jsonl`, unless a later job has taken that over into its own.
    pub consumed: Option<Object>,
}

/// The published jobs of an output prefix that read `source_prefix`, in the order of their UIDs.
pub(super) async fn find(
    store: &Arc<dyn Store>,
    output_prefix: &str,
    source_prefix: &str,
) -> Result<Vec<Published>, Error> {
    let directory = format!("{output_prefix}_compaction/");
    let mut jobs: BTreeMap<String, BTreeMap<String, Object>> = BTreeMap::new();
    let mut listing = Listing::new(store, &directory);
    while let Some(object) = listing.next().await? {
        if let Some((uid, name)) = object
            .key
            .strip_prefix(&directory)
            .and_then(|rest| rest.split_once('/'))
        {
            jobs.entry(uid.to_owned())
                .or_default()
                .insert(name.to_owned(), object.clone());
        }
    }
    jobs.retain(|_, files| files.contains_key("_SUCCESS"));
    let reads: Vec<_> = jobs
        .into_iter()
        .map(|(uid, files)| read(store, &directory, uid, files))
        .collect();
    let mut published: Vec<Published> = stream::iter(reads).buffered(CONCURRENCY).try_collect().await?;
    published.retain(|job| job.manifest.source_prefix == source_prefix);
    Ok(published)
}

async fn read(
    store: &Arc<dyn Store>,
    directory: &str,
    uid: String,
    mut files: BTreeMap<String, Object>,
) -> Result<Published, Error> {
    let key = format!("{directory}{uid}/manifest.json");
    let bytes = store.get(&key, MAX_MANIFEST_BYTES).await?;
    let damaged = |problem: String| Error::Damaged {
        key: key.clone(),
        problem,
    };
    let bytes = bytes.ok_or_else(|| damaged("it is missing, though _SUCCESS stands beside it".to_owned()))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if manifest.version != 1 {
        return Err(damaged(unknown_version(manifest.version)));
    }
    Ok(Published {
        uid,
        manifest,
        consumed: files.remove("consumed.jsonl"),
    })
}
