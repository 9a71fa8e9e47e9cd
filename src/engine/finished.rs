//! What the bodies of a job whose batches are all done add up to: outputs, sources that were left out, and the sources
//! that were really merged. For publish and dispose.
//!
//! Writes nothing.

use std::collections::BTreeSet;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::bodies::{Finished, ShardRun, bodies};
use super::body::SkippedAt;
use super::consumed::{Line, Lines};
use super::failed::FailedGroups;
use super::{Body, Context, Error, OutputRecord, SkippedSource};

/// Outputs looked at at the same time.
const CONCURRENCY: usize = 32;

/// The outputs of all bodies but those of failed groups, each found in the store as it was written.
pub(crate) fn outputs<'a>(
    context: &'a Context,
    runs: &'a [ShardRun],
    failed: &'a FailedGroups,
    skipped: &'a mut Skipped,
) -> BoxStream<'a, Result<OutputRecord, Error>> {
    bodies(&context.ledger, runs)
        .map_ok(move |mut body| {
            skipped.take(&mut body);
            let outputs = body.finished.into_iter();
            stream::iter(outputs.filter(|output| !failed.contains(&output.group)).map(Ok))
        })
        .try_flatten()
        .map_ok(move |output| look_at(context, output))
        .try_buffered(CONCURRENCY)
        .boxed()
}

/// The sources that were left out, as bodies tell it in their order.
#[derive(Default)]
pub(crate) struct Skipped(Vec<(usize, SkippedAt)>);

impl Skipped {
    /// Where an output was lost, a body goes back to its beginning: what was left out from there on is looked at
    /// again, and counts only if it is left out again.
    fn take(&mut self, body: &mut Body) {
        let cursor = (body.shard, body.cursor.segment, body.cursor.entry);
        let comes_again =
            |(shard, source): &mut (usize, SkippedAt)| (*shard, source.segment, source.entry) >= cursor;
        while self.0.pop_if(comes_again).is_some() {}
        let skipped = std::mem::take(&mut body.skipped).into_iter();
        self.0.extend(skipped.map(|source| (body.shard, source)));
    }

    /// As the manifest names them.
    pub(crate) fn sources(self) -> BTreeSet<SkippedSource> {
        let skipped = self.0.into_iter();
        skipped
            .map(|(_, SkippedAt { key, reason, .. })| SkippedSource { key, reason })
            .collect()
    }
}

async fn look_at(context: &Context, mut output: OutputRecord) -> Result<OutputRecord, Error> {
    let head = context.store.head(&output.key).await?;
    let altered = |problem: &str| Error::OutputAltered {
        key: output.key.clone(),
        problem: problem.to_owned(),
    };
    let head = head.ok_or_else(|| altered("is gone"))?;
    if head.size != output.size || head.token.as_deref() != Some(&output.token) {
        return Err(altered("is not what was written"));
    }
    // A late worker may have put the same bytes there once more.
    output.etag = head.etag;
    output.token.clear();
    Ok(output)
}

/// What of the plan is in the outputs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Merged {
    pub objects: u64,
    /// With those of sources that were left out while merging.
    pub bytes: u64,
}

/// The sources that were really merged, and what earlier jobs consumed, in key order.
pub(crate) struct Candidates {
    lines: Lines,
    /// Groups that the plan left out, or that failed.
    dropped: BTreeSet<u64>,
    skipped: BTreeSet<String>,
    /// Of the lines so far.
    pub merged: Merged,
}

impl Candidates {
    pub(crate) async fn open(
        context: &Context,
        finished: &Finished<'_>,
        failed: &FailedGroups,
        skipped: &BTreeSet<SkippedSource>,
    ) -> Result<Self, Error> {
        let (location, stored) = (finished.location, &finished.plan.candidates);
        let key = context.ledger.candidates_key(location);
        let too_small = context.ledger.dropped(location, &stored.dropped_sha256).await?;
        let dropped = too_small.into_iter().chain(failed.ordinals()).collect();
        let lines = Lines::open_checked(&context.store, key, &stored.crc64nvme).await?;
        Ok(Self {
            lines,
            dropped,
            skipped: skipped.iter().map(|source| source.key.clone()).collect(),
            merged: Merged::default(),
        })
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Line>, Error> {
        while let Some(line) = self.lines.next::<Line>().await? {
            let Some(group) = line.group else {
                return Ok(Some(line));
            };
            if self.dropped.contains(&group) {
                continue;
            }
            self.merged.bytes += line.size.unwrap_or_default();
            if !self.skipped.contains(&line.key) {
                self.merged.objects += 1;
                return Ok(Some(line));
            }
        }
        Ok(None)
    }
}
