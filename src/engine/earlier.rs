//! The outputs that readers see now, as sources of a plan that deduplicates (I9): what was compacted before takes
//! part again, so that the latest record of a key stays the only one.
//!
//! Of a group they come before everything new, in the order in which they were published. They are held in memory:
//! as many as readers see, however many were superseded before.
//!
//! They are pinned by the ETags that they have now. A manifest's may be out of date: a user may have encrypted the
//! outputs anew, and a late worker may have written one once more where the store cannot refuse it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::Error;
use super::body::MANIFEST_VERSION;
use super::fence::Heartbeat;
use super::published::{MANIFEST, Published, manifest_directory, unknown_version};
use crate::plan::Source;
use crate::store::{Pages, Store};

/// Manifests read at the same time, and the longest.
const CONCURRENCY: usize = 8;
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// By directory of their group, all outputs of published jobs between these prefixes that none supersedes.
pub(crate) async fn earlier_outputs(
    store: &Arc<dyn Store>,
    (output_prefix, source_prefix): (&str, &str),
    published: &[Published],
    mut heartbeat: Option<&mut Heartbeat>,
) -> Result<BTreeMap<String, Vec<Source>>, Error> {
    let directory = manifest_directory(output_prefix);
    let reads = published
        .iter()
        .map(|job| read(store, format!("{directory}{}/{MANIFEST}", job.uid)));
    let reads: Vec<_> = reads.rev().collect();
    let mut newest_first = stream::iter(reads).buffered(CONCURRENCY);
    let mut live = Live::default();
    while let Some(manifest) = newest_first.try_next().await? {
        live.take(manifest, source_prefix);
        show_progress(heartbeat.as_deref_mut()).await?;
    }
    pin(store, output_prefix, &mut live.outputs, heartbeat).await?;
    Ok(live.by_group())
}

/// What of a manifest is of use here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    version: u32,
    source_prefix: String,
    outputs: Vec<Output>,
    superseded: Vec<String>,
}

#[derive(Deserialize)]
struct Output {
    key: String,
    etag: String,
    size: u64,
    group: String,
}

/// Outputs that nothing supersedes, as far as manifests were taken. Right in any order of them: two may have been
/// announced in the same second.
#[derive(Default)]
struct Live {
    /// By key.
    outputs: HashMap<String, Earlier>,
    /// Keys of outputs whose manifest was not taken yet.
    superseded: HashSet<String>,
    manifests: usize,
}

struct Earlier {
    group: String,
    source: Source,
    /// Its manifest, counted from the newest, and its place there.
    order: (usize, usize),
}

impl Live {
    fn take(&mut self, manifest: Manifest, source_prefix: &str) {
        for key in manifest.superseded {
            if self.outputs.remove(&key).is_none() {
                self.superseded.insert(key);
            }
        }
        for (place, output) in manifest.outputs.into_iter().enumerate() {
            if self.superseded.remove(&output.key) || manifest.source_prefix != source_prefix {
                continue;
            }
            let earlier = Earlier {
                group: output.group,
                order: (self.manifests, place),
                source: Source {
                    key: output.key.clone(),
                    etag: output.etag,
                    size: output.size,
                },
            };
            self.outputs.insert(output.key, earlier);
        }
        self.manifests += 1;
    }

    fn by_group(self) -> BTreeMap<String, Vec<Source>> {
        let mut outputs: Vec<Earlier> = self.outputs.into_values().collect();
        outputs.sort_by_key(|Earlier { order, .. }| (std::cmp::Reverse(order.0), order.1));
        let mut groups: BTreeMap<String, Vec<Source>> = BTreeMap::new();
        for Earlier { group, source, .. } in outputs {
            groups.entry(group).or_default().push(source);
        }
        groups
    }
}

/// Takes over the ETags of the listing. One that is missing or has another size keeps its own, and the work says so.
async fn pin(
    store: &Arc<dyn Store>,
    prefix: &str,
    outputs: &mut HashMap<String, Earlier>,
    mut heartbeat: Option<&mut Heartbeat>,
) -> Result<(), Error> {
    let Some(last) = outputs.keys().max().cloned() else {
        return Ok(());
    };
    let mut pages = Pages::of(prefix);
    while let Some(objects) = pages.next(&**store).await? {
        let is_past = objects.last().is_some_and(|object| object.key >= last);
        for object in objects {
            if let Some(Earlier { source, .. }) = outputs.get_mut(&object.key)
                && source.size == object.size
            {
                source.etag = object.etag;
            }
        }
        if is_past {
            break;
        }
        show_progress(heartbeat.as_deref_mut()).await?;
    }
    Ok(())
}

async fn show_progress(heartbeat: Option<&mut Heartbeat>) -> Result<(), Error> {
    match heartbeat {
        Some(heartbeat) => Ok(heartbeat.step().await?),
        None => Ok(()),
    }
}

async fn read(store: &Arc<dyn Store>, key: String) -> Result<Manifest, Error> {
    let damaged = |problem: String| Error::Published {
        key: key.clone(),
        problem,
    };
    let bytes = store.get(&key, MAX_MANIFEST_BYTES).await?;
    let bytes = bytes.ok_or_else(|| damaged("it is missing, though _SUCCESS stands beside it".to_owned()))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if manifest.version != MANIFEST_VERSION {
        return Err(damaged(unknown_version(manifest.version)));
    }
    Ok(manifest)
}
