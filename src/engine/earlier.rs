//! The outputs that readers see now, as sources of a plan that deduplicates (I9): what was compacted before takes
//! part again, so that the latest record of a key stays the only one.
//!
//! Of a group they come before everything new, in the order in which they were published. All keys are held in
//! memory: there are as many as the last jobs' outputs, not as all sources.
//!
//! They are pinned by the ETags that they have now. A manifest's may be out of date: a user may have encrypted the
//! outputs anew, and a late worker may have written one once more where the store cannot refuse it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::publish::{MANIFEST, SUCCESS, manifest_directory};
use super::{Error, Manifest};
use crate::plan::Source;
use crate::store::{Pages, Store};

/// Manifests read at the same time, and the longest.
const CONCURRENCY: usize = 8;
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// By directory of their group, all outputs of published jobs between these prefixes that none supersedes.
pub(crate) async fn earlier_outputs(
    store: &Arc<dyn Store>,
    output_prefix: &str,
    source_prefix: &str,
) -> Result<BTreeMap<String, Vec<Source>>, Error> {
    let reads: Vec<_> = published(store, &manifest_directory(output_prefix))
        .await?
        .into_iter()
        .map(|directory| read(store, format!("{directory}{MANIFEST}")))
        .collect();
    let manifests: Vec<Manifest> = stream::iter(reads).buffered(CONCURRENCY).try_collect().await?;
    let superseded: BTreeSet<&String> = manifests
        .iter()
        .flat_map(|manifest| &manifest.superseded)
        .collect();
    let mut earlier: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    for manifest in manifests
        .iter()
        .filter(|manifest| manifest.source_prefix == source_prefix)
    {
        for output in manifest
            .outputs
            .iter()
            .filter(|output| !superseded.contains(&output.key))
        {
            earlier.entry(output.group.clone()).or_default().push(Source {
                key: output.key.clone(),
                etag: output.etag.clone(),
                size: output.size,
            });
        }
    }
    let sources = earlier.values_mut().flatten();
    pin(
        store,
        output_prefix,
        sources.map(|source| (source.key.clone(), source)).collect(),
    )
    .await?;
    Ok(earlier)
}

/// Takes over the ETags of the listing. One that is missing or has another size keeps its own, and the work says so.
async fn pin(
    store: &Arc<dyn Store>,
    prefix: &str,
    mut outputs: BTreeMap<String, &mut Source>,
) -> Result<(), Error> {
    let Some(last) = outputs.last_key_value().map(|(key, _)| key.clone()) else {
        return Ok(());
    };
    let mut pages = Pages::of(prefix);
    while let Some(objects) = pages.next(&**store).await? {
        for object in &objects {
            let output = outputs.remove(&object.key);
            if let Some(output) = output.filter(|output| output.size == object.size) {
                output.etag.clone_from(&object.etag);
            }
        }
        if objects.last().is_some_and(|object| object.key >= last) {
            break;
        }
    }
    Ok(())
}

/// Directories with `_SUCCESS` in them, in the order in which that was written.
async fn published(store: &Arc<dyn Store>, directory: &str) -> Result<Vec<String>, Error> {
    let mut published = Vec::new();
    let mut pages = Pages::of(directory);
    while let Some(objects) = pages.next(&**store).await? {
        for object in &objects {
            let job = object.key.strip_suffix(SUCCESS).filter(|job| job.ends_with('/'));
            published.extend(job.map(|job| (object.modified, job.to_owned())));
        }
    }
    published.sort();
    Ok(published.into_iter().map(|(_, job)| job).collect())
}

async fn read(store: &Arc<dyn Store>, key: String) -> Result<Manifest, Error> {
    let damaged = |problem: String| Error::Ledger {
        name: key.clone(),
        problem,
    };
    let bytes = store.get(&key, MAX_MANIFEST_BYTES).await?;
    let bytes = bytes.ok_or_else(|| damaged("it is missing".to_owned()))?;
    serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
}
