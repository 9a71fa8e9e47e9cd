//! The work between two checkpoints: bytes in, cuts found, outputs written, the pointer moved.

mod group;
mod source;

use self::group::is_in;
use self::source::Current;
use super::checkpoint::Last;
use super::deduplicate::Survivors;
use super::outputs::Outputs;
use super::{Ended, ShardInput};
use crate::engine::body::{Cursor, Deduplication, FailedGroup, GroupState, SkippedAt, Start, Totals};
use crate::engine::reader::{Item, Reader};
use crate::engine::window::Room;
use crate::engine::{Context, Error};
use crate::format::{Codec, Merge, Offset, Step};
use crate::plan::BATCH_SOURCES;

/// The state between two checkpoints. Dropped whole when anything goes wrong.
pub(super) struct Work<'a> {
    context: &'a Context,
    input: &'a ShardInput,
    last: &'a mut Last,
    shard: usize,
    outputs: Outputs<'a>,
    reader: Reader,
    /// What is kept of each source, where not every record is.
    survivors: Option<Survivors>,
    group: Option<GroupState>,
    /// To be given up when its turn comes.
    failed: Option<FailedGroup>,
    merge: Option<Box<dyn Merge>>,
    current: Option<Current>,
    /// Where in the first source the merge goes on, and how many of its records come before.
    resume_at: Option<(Offset, u64)>,
    /// The merge has bytes to hand out before it takes more.
    draining: bool,
    /// Taken by the chunk that is being merged.
    room: Option<Room>,
    /// Where an output that is opened now begins.
    last_cut: Start,
    /// Everything merged so far has been handed out.
    at_cut: bool,
    /// Records of the current merge that belong to finished outputs or are counted in the open one.
    counted: u64,
    totals: Totals,
    batch: Batch,
}

/// What has been done since the last checkpoint.
#[derive(Default)]
struct Batch {
    bytes: u64,
    sources: u64,
    skipped: Vec<SkippedAt>,
    failed: Option<FailedGroup>,
}

/// What a call of [`Work::batch`] ended with: always a checkpoint.
enum BatchEnd {
    More,
    StretchDone,
    ShardDone,
}

impl<'a> Work<'a> {
    /// `failed`: a group that is given up when its turn comes; it may have come already.
    pub(super) async fn resume(
        context: &'a Context,
        input: &'a ShardInput,
        last: &'a mut Last,
        failed: Option<FailedGroup>,
    ) -> Result<Self, Error> {
        let shard = context.ledger.writer().shard;
        let frozen = &input.plan.frozen;
        let shares = context.window.shares(frozen.part_bytes)?;
        let (mut cursor, totals) = last
            .body
            .as_ref()
            .map(|b| (b.cursor.clone(), b.totals))
            .unwrap_or_default();
        let mut saved = last.body.as_ref().and_then(|body| body.open.clone());
        if is_in(cursor.group.as_ref(), failed.as_ref()) {
            // Its upload ends with the ledger's clean-up.
            (saved, cursor.offset) = (None, None);
        }
        let given_up = cursor.group.iter().filter(|group| group.failed);
        let passed_over = given_up.map(|group| &group.directory);
        let passed_over = passed_over.chain(failed.iter().map(|failed| &failed.group));
        let passed_over = passed_over.cloned().collect();
        let outputs = Outputs::resume(context, input, shard, shares, saved).await?;
        let reader = Reader::new(
            context,
            input.plan_location.clone(),
            (&input.plan, shard),
            &cursor,
            passed_over,
            shares.read_bytes,
        )
        .await?;
        Ok(Self {
            context,
            input,
            shard,
            outputs,
            reader,
            survivors: Survivors::open(&context.ledger, last).await?,
            group: cursor.group.clone(),
            failed,
            merge: None,
            current: None,
            resume_at: cursor.offset.map(|offset| (offset, cursor.records)),
            draining: false,
            room: None,
            last_cut: Start {
                cursor,
                batch: last.checkpoint.batch,
                totals,
            },
            at_cut: true,
            counted: 0,
            totals,
            batch: Batch::default(),
            last,
        })
    }

    /// `None`: what was settled is written, and more is to be marked.
    pub(super) async fn run(&mut self) -> Result<Option<Ended>, Error> {
        loop {
            match self.input.in_time(Box::pin(self.batch())).await? {
                BatchEnd::ShardDone => return Ok(Some(Ended::Done)),
                _ if self.context.stop.is_cancelled() => return Ok(Some(Ended::Stopped)),
                BatchEnd::StretchDone => return Ok(None),
                BatchEnd::More => {}
            }
        }
    }

    /// The group in hand.
    pub(super) fn group(&self) -> Option<GroupState> {
        self.group.clone()
    }

    /// Works up to the next checkpoint.
    async fn batch(&mut self) -> Result<BatchEnd, Error> {
        if is_in(self.group.as_ref(), self.failed.as_ref()) {
            let cursor = self.last_cut.cursor.clone();
            self.give_up(cursor).await?;
            return Ok(BatchEnd::More);
        }
        loop {
            // A pointer that had to wait does not wait for this batch, however long it takes.
            if self.last.is_due(self.context) {
                self.last.point(self.context).await?;
            }
            if self.draining && self.drain().await? {
                return Ok(BatchEnd::More);
            }
            let Some(item) = self.reader.next().await? else {
                self.finish_group().await?;
                let end = Cursor::at(self.input.plan.shards[self.shard].count, 0);
                self.checkpoint(end, None).await?;
                return Ok(BatchEnd::ShardDone);
            };
            if let Item::Group(place, _) = &item
                && let Some(next) = self.survivors.as_ref().and_then(|s| s.next_stretch(*place))
            {
                self.finish_group().await?;
                self.checkpoint(next.start.clone(), Some(next)).await?;
                return Ok(BatchEnd::StretchDone);
            }
            let checkpointed = match item {
                Item::Group(place, group) => self.enter_group(place, group).await?,
                Item::Source(place, source) => {
                    self.begin_source(place, source).await?;
                    false
                }
                Item::Chunk(bytes, room) => {
                    self.take_chunk(bytes, room).await?;
                    false
                }
                Item::SourceEnd => self.end_source().await?,
            };
            if checkpointed {
                return Ok(BatchEnd::More);
            }
        }
    }

    /// Hands out what the merge has. Returns whether a checkpoint was made, with more to hand out.
    async fn drain(&mut self) -> Result<bool, Error> {
        loop {
            let (Some(merge), Some(current)) = (&mut self.merge, &self.current) else {
                return Ok(false);
            };
            let step = merge.advance(self.outputs.pending());
            let step = step.map_err(|problem| Error::BadSource {
                key: current.source.key.clone(),
                problem,
            })?;
            let (codec, records, offset) = (merge.output_codec(), merge.counts().records, merge.offset());
            let before = merge.records_before_offset();
            let (place, fed) = (current.place, current.fed);
            self.write(codec).await?;
            match step {
                Step::More => {}
                Step::NeedInput => {
                    self.draining = false;
                    self.room = None;
                    return Ok(false);
                }
                Step::Cut => {
                    self.count(records);
                    // Inside a compressed stream nobody can tell.
                    let fed_after = if offset.skip == 0 { fed - offset.stored } else { 0 };
                    let cursor = Cursor {
                        segment: place.segment,
                        entry: place.entry,
                        offset: Some(offset),
                        group: None,
                        records: before,
                    };
                    if self.cut(cursor, fed_after).await? {
                        return Ok(true);
                    }
                }
                Step::SourceEnd { cut } => {
                    self.draining = false;
                    // Bytes may have come since the last cut in the same chunk; they wait in a frame.
                    self.at_cut = cut;
                    self.room = None;
                    if cut {
                        self.count(records);
                    }
                    return self.source_done(cut).await;
                }
            }
        }
    }

    /// Gives what the merge has handed out to the open output.
    async fn write(&mut self, codec: Option<Codec>) -> Result<(), Error> {
        let Self {
            outputs,
            group,
            last_cut,
            ..
        } = self;
        // Once the merge has chosen one it stays, also where nothing is kept of the sources so far (I3).
        if let (Some(codec), Some(group)) = (codec, group.as_mut()) {
            group.codec.get_or_insert(codec);
        }
        outputs.take_over(codec, group.as_mut(), last_cut).await
    }

    fn count(&mut self, records: u64) {
        self.outputs.count(records - self.counted);
        self.counted = records;
    }

    /// `full`: the group may need another one.
    async fn close_output(&mut self, full: bool) -> Result<(), Error> {
        let room = self.outputs.share();
        let goes_on = |group: &&GroupState| full && self.reader.goes_on_with(&group.directory);
        let group = self.group.as_ref().filter(goes_on);
        let closed = self
            .reader
            .while_waiting(room, Box::pin(self.outputs.close(group)))
            .await;
        self.totals.bytes_written += closed?;
        Ok(())
    }

    /// At a cut: closes the output if it has its size, and ends the batch if it has its own. Returns
    /// whether a checkpoint was made. `fed_after`: bytes of the batch that lie after the cut.
    async fn cut(&mut self, mut cursor: Cursor, fed_after: u64) -> Result<bool, Error> {
        let frozen = &self.input.plan.frozen;
        self.at_cut = true;
        if self.outputs.is_full() {
            self.close_output(true).await?;
        }
        cursor.group.clone_from(&self.group);
        self.last_cut = Start {
            cursor: cursor.clone(),
            batch: self.last.checkpoint.batch,
            totals: self.totals,
        };
        // An output that gets full with the batch is closed with it, and leaves no tail.
        let merged = self.batch.bytes.saturating_sub(fed_after);
        let full = merged >= frozen.batch_bytes || self.batch.sources >= BATCH_SOURCES;
        if full || self.context.stop.is_cancelled() {
            self.checkpoint(cursor, None).await?;
            self.batch.bytes = fed_after;
            return Ok(true);
        }
        Ok(false)
    }

    /// Order: parts, tail, body, pointer (I2). `next`: the stretch that begins there.
    async fn checkpoint(&mut self, cursor: Cursor, next: Option<Deduplication>) -> Result<(), Error> {
        let mut body = self.last.next_body(self.input, self.shard);
        body.batch += 1;
        body.totals = self.totals;
        let room = self.outputs.share();
        let save = self.outputs.save(body.sequence);
        (body.finished, body.open) = self.reader.while_waiting(room, Box::pin(save)).await?;
        let batch = std::mem::take(&mut self.batch);
        (body.skipped, body.failed) = (batch.skipped, batch.failed);
        if body.failed.is_some() || next.is_some() {
            // The outputs that it was about are given up, or finished.
            body.redone_to = None;
        }
        body.cursor = cursor;
        body.deduplicate = next.or(body.deduplicate);
        let attempts = self.last.attempts(&mut body);
        let advance = self.last.advance(self.context, self.input, body, attempts);
        let room = self.outputs.share();
        self.reader.while_waiting(room, Box::pin(advance)).await?;
        self.last_cut.batch = self.last.checkpoint.batch;
        Ok(())
    }
}
