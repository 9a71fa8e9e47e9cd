//! Settles which records of a stretch survive: one range of hashes a pass, all runs read for each.
//!
//! A pass is a batch. What it found is stored before its checkpoint; the table is begun anew for the next.

use super::super::checkpoint::Last;
use super::super::{Ended, ShardInput};
use super::{AHEAD, needed, settling};
use crate::deduplicate::{Entry, HashRange, Latest, Survivors, Unfit};
use crate::engine::body::{Deduplication, Stage};
use crate::engine::{Context, Error};
use crate::plan::Deduplicate;

pub(super) async fn run(
    context: &Context,
    input: &ShardInput,
    last: &mut Last,
    rules: &Deduplicate,
) -> Result<Option<Ended>, Error> {
    let state = last
        .body
        .as_ref()
        .and_then(|body| body.deduplicate.clone())
        .unwrap_or_default();
    let bytes = settling(context.window, rules, &state).min(needed(rules, &state));
    let latest = Latest::of_runs(rules.rules.layout(), bytes);
    let mut settle = Settle {
        context,
        input,
        last,
        rules,
        state,
        latest,
    };
    loop {
        match input.in_time(Box::pin(settle.batch())).await? {
            _ if context.stop.is_cancelled() => return Ok(Some(Ended::Stopped)),
            true => {}
            false => return Ok(None),
        }
    }
}

struct Settle<'a> {
    context: &'a Context,
    input: &'a ShardInput,
    last: &'a mut Last,
    rules: &'a Deduplicate,
    state: Deduplication,
    latest: Latest,
}

impl Settle<'_> {
    /// One pass, or the end of the stage. Returns whether there is more to settle.
    async fn batch(&mut self) -> Result<bool, Error> {
        let capacity = self.latest.capacity();
        let Some(range) = self.state.passes.next(capacity) else {
            self.state.stage = Stage::Write;
            self.checkpoint().await?;
            let (kept, passes) = (self.state.kept, self.state.passes.done);
            tracing::info!(kept, passes, "settled which records of the stretch are kept");
            return Ok(false);
        };
        if self.state.passes.too_many(capacity) {
            let keys = self.state.runs.iter().map(|run| run.entries).sum();
            return Err(Error::TooManyKeys { keys });
        }
        let range = self.pass(range).await?;
        self.state.passes = self.state.passes.after(range, self.latest.len());
        self.store_survivors().await?;
        self.checkpoint().await?;
        Ok(true)
    }

    /// Fills the table with the newest entries of a range, or of as much of it as fits, which is returned.
    async fn pass(&mut self, range: HashRange) -> Result<HashRange, Error> {
        loop {
            self.latest.clear();
            if let Some(range) = self.fill(range).await? {
                return Ok(range);
            }
            tracing::debug!("versions need wider slots; the pass is begun again");
        }
    }

    /// `None` where slots are too narrow for a version.
    async fn fill(&mut self, mut range: HashRange) -> Result<Option<HashRange>, Error> {
        let layout = self.rules.rules.layout();
        for run in &self.state.runs {
            let bytes = self.context.ledger.run(run, layout).await?;
            let mut entries = layout.decode(&bytes).map_err(|problem| Error::Ledger {
                name: run.name.clone(),
                problem: problem.to_string(),
            })?;
            loop {
                let within = entries.by_ref().filter(|entry| range.contains(entry.hash));
                let some: Vec<Entry> = within.take(AHEAD).collect();
                if some.is_empty() {
                    break;
                }
                let before = range;
                match self.latest.take_within(some, &mut range) {
                    Ok(()) => {}
                    Err(Unfit::Version) => return Ok(None),
                    Err(Unfit::Keys) => {
                        let keys = self.latest.len() as u64;
                        return Err(Error::TooManyKeys { keys });
                    }
                }
                if range != before {
                    tracing::debug!(?range, "keys do not fit; the range is narrowed");
                }
            }
        }
        Ok(Some(range))
    }

    async fn store_survivors(&mut self) -> Result<(), Error> {
        let (ledger, sequence) = (&self.context.ledger, self.last.checkpoint.sequence + 1);
        // A source that is left out may hold older records of a key, and so may what the plan does not read.
        let keep_expired = !(self.input.plan.covers_older() && self.state.skipped.is_empty());
        let mut list = Vec::new();
        let mut bitmaps = Survivors::default();
        for position in self.latest.survivors(keep_expired) {
            bitmaps.push(position);
            self.state.kept += 1;
            if bitmaps.is_full() {
                list.push(ledger.put_bitmaps(sequence, list.len(), &bitmaps).await?);
                bitmaps = Survivors::default();
            }
        }
        if !bitmaps.is_empty() {
            list.push(ledger.put_bitmaps(sequence, list.len(), &bitmaps).await?);
        }
        self.state
            .survivors
            .push(ledger.put_bitmaps_list(sequence, &list).await?);
        Ok(())
    }

    /// Order: bitmaps, body, pointer (I2).
    async fn checkpoint(&mut self) -> Result<(), Error> {
        let mut body = self
            .last
            .next_body(self.input, self.context.ledger.writer().shard);
        body.batch += 1;
        body.cursor = self.state.start.clone();
        // No output is open while it is settled what outputs hold.
        body.redone_to = None;
        if self.state.stage == Stage::Write {
            body.totals.kept += self.state.kept;
            body.totals.dropped += self.state.records - self.state.kept;
        }
        body.deduplicate = Some(self.state.clone());
        self.last.advance(self.context, self.input, body, 0).await
    }
}
