//! The stages before anything is written: marking the records of a stretch of whole groups, and settling which
//! of them survive.
//!
//! A stretch ends at the first group that begins when enough records are marked for a small worker's table; so small
//! groups are marked together, and a large one is a stretch of its own. Each stage is made of batches with
//! checkpoints of their own, and holds nothing that the next worker would need.

mod mark;
mod settle;
mod survivors;

pub(super) use survivors::Survivors;

use super::checkpoint::Last;
use super::{Ended, ShardInput};
use crate::api::{CUT_BYTES, MAX_RECORD_BYTES};
use crate::engine::body::{Body, Cursor, Deduplication, Stage};
use crate::engine::{Context, Error, Window};
use crate::plan::{Deduplicate, Plan};

/// A run is one object and in memory twice while it is made.
const MOST_RUN_BYTES: u64 = 64 << 20;
/// What decoding and a record may take.
const SCAN_BYTES: u64 = CUT_BYTES + MAX_RECORD_BYTES;

/// Entries that the table takes in one go.
const AHEAD: usize = 64;

/// The stage that a shard is in; `None` where its plan keeps every record.
pub(super) fn stage(plan: &Plan, body: Option<&Body>) -> Option<Stage> {
    plan.frozen.deduplicate.as_ref()?;
    Some(
        body.and_then(|body| body.deduplicate.as_ref())
            .map_or(Stage::Mark, |state| state.stage),
    )
}

/// Works up to the end of the stage. `None`: the next one is to begin.
pub(super) async fn run(
    context: &Context,
    input: &ShardInput,
    last: &mut Last,
    rules: &Deduplicate,
    stage: Stage,
) -> Result<Option<Ended>, Error> {
    match stage {
        Stage::Mark => mark::Mark::resume(context, input, last, rules).await?.run().await,
        Stage::Settle => settle::run(context, input, last, rules).await,
        Stage::Write => Ok(None),
    }
}

/// The state after a stretch was written: the next one begins at `cursor`.
pub(super) fn next_stretch(state: &Deduplication, cursor: &Cursor) -> Deduplication {
    Deduplication {
        start: Cursor {
            group: None,
            ..cursor.clone()
        },
        marked_sources: state.marked_sources,
        marked_bytes: state.marked_bytes,
        ..Deduplication::default()
    }
}

/// How the window is divided while records are marked: reads, then the table and the run that it becomes. The run is
/// at most an eighth larger: without free slots, but with whole versions.
fn marking(window: Window, rules: &Deduplicate) -> (u64, u64) {
    let free = window.bytes.saturating_sub(SCAN_BYTES);
    let reads = (free / 3).max(2 * window.read_bytes);
    let table = (free.saturating_sub(reads) / 17 * 8).min(MOST_RUN_BYTES);
    (reads, table.min(rules.table_bytes))
}

/// The table that fits beside the largest run.
fn settling(window: Window, rules: &Deduplicate, state: &Deduplication) -> u64 {
    let layout = rules.rules.layout();
    let largest = state.runs.iter().map(|run| run.entries).max().unwrap_or(0);
    let free = window.bytes.saturating_sub(largest * layout.entry_bytes() as u64);
    free.min(rules.table_bytes)
}

/// As much of it as the runs can fill in one pass.
fn needed(rules: &Deduplicate, state: &Deduplication) -> u64 {
    let entries: u64 = state.runs.iter().map(|run| run.entries).sum();
    (entries / 4 * 5 + 64) * rules.rules.layout().entry_bytes() as u64
}
