//! The work between two checkpoints: bytes in, cuts found, outputs written, the pointer moved.

use bytes::Bytes;
use tokio::time::timeout;

use super::check::{check, excuse};
use super::checkpoint::Last;
use super::deduplicate::Survivors;
use super::outputs::Outputs;
use super::{Ended, ShardInput};
use crate::engine::body::{Cursor, Deduplication, FailedGroup, GroupState, SkippedAt, Start, Totals};
use crate::engine::reader::{Item, Place, Reader, Room};
use crate::engine::{Context, Error};
use crate::format::{self, Codec, Merge, Offset, Selected, Step};
use crate::plan::{BATCH_SOURCES, Frozen, Source};
use crate::store;

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
    out: Vec<u8>,
    /// Where an output that is opened now begins.
    last_cut: Start,
    /// Everything merged so far has been handed out.
    at_cut: bool,
    /// Records of the current merge that belong to finished outputs or are counted in the open one.
    counted: u64,
    totals: Totals,
    batch: Batch,
}

/// The source that is being merged.
struct Current {
    place: Place,
    source: Source,
    /// Where the merge goes on inside it.
    offset: Option<Offset>,
    /// What is kept of it.
    selected: Option<Selected>,
    /// Something of it was handed to the merge.
    begun: bool,
    /// It is left out: what is still read of it is dropped.
    left_out: bool,
}

impl Current {
    /// Hands its beginning to the merge, once.
    fn begin(&mut self, merge: &mut dyn Merge) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        merge.begin(self.offset.take());
        if let Some(selected) = self.selected.take() {
            merge.select(selected);
        }
    }
}

fn new_merge(frozen: &Frozen, codec: Option<Codec>) -> Box<dyn Merge> {
    if frozen.deduplicate.is_some() {
        format::selected(&frozen.format, codec)
    } else {
        format::merge(&frozen.format, codec)
    }
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
            out: Vec::new(),
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
            // The timer is outside the work: nothing inside can keep it from ending (I4).
            let Ok(end) = timeout(self.input.deadline, self.batch()).await else {
                return Err(Error::Deadline(self.input.deadline.as_secs()));
            };
            match end? {
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
                let end = Cursor {
                    segment: self.input.plan.shards[self.shard].count,
                    ..Cursor::default()
                };
                self.checkpoint(end, None).await?;
                return Ok(BatchEnd::ShardDone);
            };
            if let Item::Group { place, .. } = &item
                && let Some(next) = self.survivors.as_ref().and_then(|s| s.next_stretch(*place))
            {
                self.finish_group().await?;
                self.checkpoint(next.start.clone(), Some(next)).await?;
                return Ok(BatchEnd::StretchDone);
            }
            let checkpointed = match item {
                Item::Group {
                    place,
                    ordinal,
                    directory,
                    extension,
                } => {
                    let group = GroupState {
                        ordinal,
                        directory,
                        extension,
                        number: 0,
                        codec: None,
                        failed: false,
                    };
                    self.enter_group(place, group).await?
                }
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

    async fn begin_source(&mut self, place: Place, source: Source) -> Result<(), Error> {
        let (offset, before) = self.resume_at.take().map_or((None, 0), |(at, n)| (Some(at), n));
        let (mut selected, mut reason) = (None, None);
        if let Some(survivors) = &mut self.survivors {
            let selection = survivors.of(place).await?;
            selected = Some(Selected { selection, before });
            reason = survivors.left_out(place).map(ToOwned::to_owned);
        }
        self.current = Some(Current {
            place,
            source,
            offset,
            selected,
            begun: false,
            left_out: reason.is_some(),
        });
        if let Some(reason) = reason {
            self.leave_out(reason);
        }
        Ok(())
    }

    /// Returns whether a checkpoint was made.
    async fn enter_group(&mut self, place: Place, group: GroupState) -> Result<bool, Error> {
        let same = |current: &GroupState| current.directory == group.directory;
        if self.group.as_ref().is_some_and(same) {
            return Ok(false);
        }
        self.finish_group().await?;
        self.group = Some(group);
        let cursor = Cursor {
            segment: place.segment,
            entry: place.entry,
            ..Cursor::default()
        };
        if is_in(self.group.as_ref(), self.failed.as_ref()) {
            self.give_up(cursor).await?;
            return Ok(true);
        }
        self.cut(cursor).await
    }

    /// Gives the group up from `cursor` on, which is a checkpoint at once: what counts against a limit is never
    /// held back. What the group has of outputs is removed when the others are published.
    async fn give_up(&mut self, mut cursor: Cursor) -> Result<(), Error> {
        if let Some(group) = &mut self.group {
            group.failed = true;
        }
        cursor.group.clone_from(&self.group);
        self.batch.failed = self.failed.take();
        self.totals.failed_groups += 1;
        self.checkpoint(cursor, None).await?;
        self.last.point(self.context).await?;
        if self.totals.failed_groups > self.input.max_failed_groups {
            return Err(Error::TooManyFailedGroups(self.totals.failed_groups));
        }
        Ok(())
    }

    async fn finish_group(&mut self) -> Result<(), Error> {
        if let Some(mut merge) = self.merge.take() {
            self.out.clear();
            merge.finish(&mut self.out);
            let records = merge.counts().records;
            self.write(merge.output_codec()).await?;
            self.count(records);
            self.counted = 0;
        }
        self.close_output().await
    }

    async fn take_chunk(&mut self, bytes: Result<Bytes, store::Error>, room: Room) -> Result<(), Error> {
        let frozen = &self.input.plan.frozen;
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        if current.left_out {
            return Ok(());
        }
        // What was marked is merged or missed.
        let fresh = !current.begun
            && current.selected.is_none()
            && current.offset.is_none_or(|at| at.stored == 0 && at.skip == 0);
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                current.left_out = true;
                return self.source_unreadable(error, fresh);
            }
        };
        self.batch.bytes += bytes.len() as u64;
        if fresh && frozen.skip_bad {
            match check(self.context, frozen, &current.source, bytes.clone()).await {
                Ok(()) => {}
                Err(Error::BadSource { problem, .. }) => {
                    current.left_out = true;
                    self.leave_out(problem.to_string());
                    return Ok(());
                }
                Err(Error::Store(error)) => {
                    current.left_out = true;
                    return self.source_unreadable(error, true);
                }
                Err(error) => return Err(error),
            }
        }
        let codec = self.group.as_ref().and_then(|group| group.codec);
        let merge = self.merge.get_or_insert_with(|| new_merge(frozen, codec));
        current.begin(merge.as_mut());
        merge.feed(bytes);
        self.room = Some(room);
        self.draining = true;
        self.at_cut = false;
        Ok(())
    }

    /// `fresh`: nothing of the source has been merged, so that it may be left out.
    fn source_unreadable(&mut self, error: store::Error, fresh: bool) -> Result<(), Error> {
        let Some(current) = &self.current else {
            return Err(error.into());
        };
        let reason = excuse(error, &self.input.plan.frozen, &current.source.key, fresh)?;
        self.leave_out(reason);
        Ok(())
    }

    fn leave_out(&mut self, reason: String) {
        let Some(current) = &self.current else { return };
        tracing::warn!(key = current.source.key, reason, "source left out");
        self.totals.skipped += 1;
        self.batch.skipped.push(SkippedAt {
            segment: current.place.segment,
            entry: current.place.entry,
            key: current.source.key.clone(),
            reason,
        });
    }

    /// No more bytes of the current source will be read. Returns whether a checkpoint was made.
    async fn end_source(&mut self) -> Result<bool, Error> {
        let Some(current) = &mut self.current else {
            return Ok(false);
        };
        let given_up = self.group.as_ref().is_some_and(|group| group.failed);
        if current.left_out || given_up {
            return self.source_done(self.at_cut).await;
        }
        let frozen = &self.input.plan.frozen;
        let codec = self.group.as_ref().and_then(|group| group.codec);
        let merge = self.merge.get_or_insert_with(|| new_merge(frozen, codec));
        current.begin(merge.as_mut());
        merge.end_source();
        self.draining = true;
        Ok(false)
    }

    /// Hands out what the merge has. Returns whether a checkpoint was made, with more to hand out.
    async fn drain(&mut self) -> Result<bool, Error> {
        loop {
            let (Some(merge), Some(current)) = (&mut self.merge, &self.current) else {
                return Ok(false);
            };
            self.out.clear();
            let step = merge.advance(&mut self.out).map_err(|problem| Error::BadSource {
                key: current.source.key.clone(),
                problem,
            })?;
            let (codec, records, offset) = (merge.output_codec(), merge.counts().records, merge.offset());
            let before = merge.records_before_offset();
            let place = current.place;
            self.write(codec).await?;
            match step {
                Step::NeedInput => {
                    self.draining = false;
                    self.room = None;
                    return Ok(false);
                }
                Step::Cut => {
                    self.count(records);
                    let cursor = Cursor {
                        segment: place.segment,
                        entry: place.entry,
                        offset: Some(offset),
                        group: None,
                        records: before,
                    };
                    if self.cut(cursor).await? {
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

    async fn source_done(&mut self, cut: bool) -> Result<bool, Error> {
        let Some(Current { place, source, .. }) = self.current.take() else {
            return Ok(false);
        };
        self.totals.sources += 1;
        self.totals.bytes_read += source.size;
        self.batch.sources += 1;
        if !cut {
            return Ok(false);
        }
        self.cut(Cursor {
            segment: place.segment,
            entry: place.entry + 1,
            ..Cursor::default()
        })
        .await
    }

    /// Appends what the merge handed out to the open output.
    async fn write(&mut self, codec: Option<Codec>) -> Result<(), Error> {
        let Self {
            outputs,
            out,
            group,
            last_cut,
            last,
            ..
        } = self;
        outputs
            .write(out, codec, group.as_mut(), last_cut, last.checkpoint.sequence)
            .await
    }

    fn count(&mut self, records: u64) {
        self.outputs.count(records - self.counted);
        self.counted = records;
    }

    async fn close_output(&mut self) -> Result<(), Error> {
        self.totals.bytes_written += self.outputs.close().await?;
        Ok(())
    }

    /// At a cut: closes the output if it has its size, and ends the batch if it has its own. Returns
    /// whether a checkpoint was made.
    async fn cut(&mut self, mut cursor: Cursor) -> Result<bool, Error> {
        let frozen = &self.input.plan.frozen;
        self.at_cut = true;
        if self.outputs.is_full() {
            self.close_output().await?;
        }
        cursor.group.clone_from(&self.group);
        self.last_cut = Start {
            cursor: cursor.clone(),
            batch: self.last.checkpoint.batch,
            totals: self.totals,
        };
        let full = self.batch.bytes >= frozen.batch_bytes || self.batch.sources >= BATCH_SOURCES;
        if full || self.context.stop.is_cancelled() {
            self.checkpoint(cursor, None).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Order: parts, tail, body, pointer (I2). `next`: the stretch that begins there.
    async fn checkpoint(&mut self, cursor: Cursor, next: Option<Deduplication>) -> Result<(), Error> {
        let mut body = self.last.next_body(self.input, self.shard);
        body.batch += 1;
        body.totals = self.totals;
        (body.finished, body.open) = self.outputs.save(body.sequence).await?;
        let batch = std::mem::take(&mut self.batch);
        (body.skipped, body.failed) = (batch.skipped, batch.failed);
        if body.failed.is_some() || next.is_some() {
            // The outputs that it was about are given up, or finished.
            body.redone_to = None;
        }
        body.cursor = cursor;
        body.deduplicate = next.or(body.deduplicate);
        let attempts = self.last.attempts(&mut body);
        self.last
            .advance(self.context, self.input, body, attempts)
            .await?;
        self.last_cut.batch = self.last.checkpoint.batch;
        Ok(())
    }
}

/// Whether this is the group that is to be given up.
fn is_in(group: Option<&GroupState>, failed: Option<&FailedGroup>) -> bool {
    matches!((group, failed), (Some(group), Some(failed)) if group.directory == failed.group)
}
