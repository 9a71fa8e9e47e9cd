//! The batch loop of one shard: read → merge → write → checkpoint, from the last checkpoint to the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::body::{BODY_VERSION, BodyRef, Cursor, GroupState, OpenOutput, Run, Start, Tail, Totals};
use super::output::{Output, Saved, Sink};
use super::reader::{Item, Place, Reader, Room};
use super::{Body, Context, Error, Ledger, OutputRecord, SkippedSource};
use crate::api::Checkpoint;
use crate::format::{self, Codec, Merge, Offset, Step};
use crate::plan::{self, BATCH_SOURCES, Frozen, Plan, Source};
use crate::store::{self, ErrorKind};

/// How a call of [`run_batches`] ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every batch of the shard is done.
    Done,
    /// Asked to stop; everything done so far is in the checkpoint.
    Stopped,
}

/// What the batches of a shard are run with.
pub struct ShardInput {
    pub plan: Arc<Plan>,
    pub plan_sha256: String,
    pub plan_location: String,
    /// As the status has it under this worker's epoch.
    pub checkpoint: Checkpoint,
    pub deadline: Duration,
    pub max_attempts: i32,
}

/// Runs the shard's batches until they are done, from `input.checkpoint`.
pub async fn run_batches(context: &Context, input: &ShardInput) -> Result<Ended, Error> {
    let mut last = Last::load(context, input).await?;
    loop {
        let ended = match Work::resume(context, input, &mut last).await {
            Ok(mut work) => work.run().await,
            Err(error) => Err(error),
        };
        match ended {
            Err(Error::OutputLost { key, why }) if last.checkpoint.attempts < input.max_attempts => {
                tracing::warn!(key, why, "the open output is built again from its start");
                last.go_back(context, input).await?;
            }
            Err(error @ Error::Deadline(_)) => {
                last.record_attempt(context, input).await?;
                return Err(error);
            }
            other => return other,
        }
    }
}

/// The last acknowledged checkpoint, and the body it names.
struct Last {
    checkpoint: Checkpoint,
    body: Option<Body>,
    run: Run,
}

impl Last {
    async fn load(context: &Context, input: &ShardInput) -> Result<Self, Error> {
        let checkpoint = input.checkpoint.clone();
        let body = if checkpoint.body.is_empty() {
            None
        } else {
            let body = context.ledger.body(&checkpoint.body, &checkpoint.sha256).await?;
            if body.version != BODY_VERSION || body.plan != input.plan_sha256 {
                let problem = "it belongs to another plan or version".to_owned();
                return Err(Error::Ledger {
                    name: checkpoint.body,
                    problem,
                });
            }
            Some(body)
        };
        let writer = context.ledger.writer();
        let after = body.as_ref().map(|_| BodyRef {
            name: checkpoint.body.clone(),
            sha256: checkpoint.sha256.clone(),
        });
        let first = checkpoint.sequence + 1;
        let run = Run {
            epoch: writer.epoch,
            holder: writer.holder.clone(),
            first,
            after,
        };
        Ok(Self {
            checkpoint,
            body,
            run,
        })
    }

    /// Stores a body and moves the pointer to it. Only then is the batch done (I1).
    async fn advance(
        &mut self,
        context: &Context,
        input: &ShardInput,
        body: Body,
        attempts: i32,
    ) -> Result<(), Error> {
        let done = body.cursor.segment >= input.plan.shards[body.shard].count;
        let shard = &input.plan.shards[body.shard];
        let remaining = plan::batches(
            shard.sources.saturating_sub(body.totals.sources),
            shard.bytes.saturating_sub(body.totals.bytes_read),
            input.plan.frozen.batch_bytes,
        );
        let total_batches = body.batch + if done { 0 } else { remaining.max(1) as i64 };
        let (name, sha256) = context.ledger.put_body(&body).await?;
        let checkpoint = Checkpoint {
            sequence: body.sequence,
            batch: body.batch,
            body: name,
            sha256,
            bytes_read: body.totals.bytes_read as i64,
            bytes_written: body.totals.bytes_written as i64,
            skipped_sources: body.totals.skipped as i64,
            attempts,
            time: None,
        };
        context.fence.advance(checkpoint.clone(), total_batches).await?;
        let needless = self.body.as_ref().and_then(|old| old.open.as_ref()?.tail.clone());
        self.checkpoint = checkpoint;
        self.body = Some(body);
        // Only now: until the new pointer was acknowledged, the old one named this tail (I2).
        if let Some(tail) = needless {
            context.ledger.delete(&[tail.name]).await?;
        }
        Ok(())
    }

    fn next_body(&self, input: &ShardInput, shard: usize) -> Body {
        let previous = &self.checkpoint.sha256;
        Body {
            version: BODY_VERSION,
            plan: input.plan_sha256.clone(),
            shard,
            sequence: self.checkpoint.sequence + 1,
            batch: self.checkpoint.batch,
            run: self.run.clone(),
            previous: previous.clone(),
            cursor: Cursor::default(),
            finished: Vec::new(),
            skipped: Vec::new(),
            open: None,
            totals: Totals::default(),
        }
    }

    /// Gives the open output up: the next work begins where it began.
    async fn go_back(&mut self, context: &Context, input: &ShardInput) -> Result<(), Error> {
        let shard = context.ledger.writer().shard;
        let attempts = self.checkpoint.attempts + 1;
        let mut body = self.next_body(input, shard);
        match self.body.as_ref() {
            Some(Body {
                open: Some(OpenOutput { start, .. }),
                ..
            }) => {
                body.cursor = start.cursor.clone();
                body.batch = start.batch;
                body.totals = start.totals;
            }
            Some(old) => {
                body.cursor = old.cursor.clone();
                body.totals = old.totals;
            }
            None => {}
        }
        self.advance(context, input, body, attempts).await
    }

    /// A batch passed its deadline: the same checkpoint under a new sequence, with one more attempt.
    async fn record_attempt(&self, context: &Context, input: &ShardInput) -> Result<(), Error> {
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.sequence += 1;
        checkpoint.attempts += 1;
        let shard = &input.plan.shards[context.ledger.writer().shard];
        let done = self.body.as_ref().map_or(Totals::default(), |body| body.totals);
        let remaining = plan::batches(
            shard.sources.saturating_sub(done.sources),
            shard.bytes.saturating_sub(done.bytes_read),
            input.plan.frozen.batch_bytes,
        );
        let total = checkpoint.batch + remaining.max(1) as i64;
        Ok(context.fence.advance(checkpoint, total).await?)
    }
}

/// The output that is being written.
struct Open {
    output: Output,
    start: Start,
    codec: Codec,
    records: u64,
}

/// The state between two checkpoints. Dropped whole when anything goes wrong.
struct Work<'a> {
    context: &'a Context,
    input: &'a ShardInput,
    last: &'a mut Last,
    shard: usize,
    sink: Sink,
    reader: Reader,
    group: Option<GroupState>,
    merge: Option<Box<dyn Merge>>,
    open: Option<Open>,
    current: Option<Current>,
    /// Where in the first source the merge goes on.
    resume_at: Option<Offset>,
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
    /// Something of it was handed to the merge.
    begun: bool,
    /// It is left out: what is still read of it is dropped.
    left_out: bool,
}

/// What has been done since the last checkpoint.
#[derive(Default)]
struct Batch {
    bytes: u64,
    sources: u64,
    finished: Vec<OutputRecord>,
    skipped: Vec<SkippedSource>,
}

/// What a call of [`Work::batch`] ended with: always a checkpoint.
enum BatchEnd {
    More,
    ShardDone,
}

impl<'a> Work<'a> {
    async fn resume(context: &'a Context, input: &'a ShardInput, last: &'a mut Last) -> Result<Self, Error> {
        let shard = context.ledger.writer().shard;
        let frozen = &input.plan.frozen;
        let shares = context.window.shares(frozen.part_bytes)?;
        let sink = Sink {
            store: Arc::clone(&context.store),
            ledger: context.ledger.clone(),
            fence: Arc::clone(&context.fence),
            attributes: frozen.attributes.clone(),
            part_bytes: frozen.part_bytes,
            uploads: shares.uploads,
        };
        let (cursor, totals) = last
            .body
            .as_ref()
            .map(|b| (b.cursor.clone(), b.totals))
            .unwrap_or_default();
        let saved = last.body.as_ref().and_then(|body| body.open.clone());
        let open = match saved {
            Some(saved) => Some(reopen(context, &sink, input, shard, saved).await?),
            None => None,
        };
        let reader = Reader::new(
            Arc::clone(&context.store),
            context.ledger.clone(),
            input.plan_location.clone(),
            (&input.plan, shard),
            &cursor,
            shares.read_bytes,
            context.window,
        )
        .await?;
        Ok(Self {
            context,
            input,
            shard,
            sink,
            reader,
            group: cursor.group.clone(),
            merge: None,
            open,
            current: None,
            resume_at: cursor.offset,
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

    async fn run(&mut self) -> Result<Ended, Error> {
        loop {
            // The timer is outside the work: nothing inside can keep it from ending (I4).
            let Ok(end) = timeout(self.input.deadline, self.batch()).await else {
                return Err(Error::Deadline(self.input.deadline.as_secs()));
            };
            match end? {
                BatchEnd::ShardDone => return Ok(Ended::Done),
                BatchEnd::More if self.context.stop.is_cancelled() => return Ok(Ended::Stopped),
                BatchEnd::More => {}
            }
        }
    }

    /// Works up to the next checkpoint.
    async fn batch(&mut self) -> Result<BatchEnd, Error> {
        loop {
            if self.draining && self.drain().await? {
                return Ok(BatchEnd::More);
            }
            let Some(item) = self.reader.next().await? else {
                self.finish_group().await?;
                let end = Cursor {
                    segment: self.input.plan.shards[self.shard].count,
                    ..Cursor::default()
                };
                self.checkpoint(end).await?;
                return Ok(BatchEnd::ShardDone);
            };
            let checkpointed = match item {
                Item::Group {
                    place,
                    directory,
                    extension,
                } => self.enter_group(place, directory, extension).await?,
                Item::Source(place, source) => {
                    let offset = self.resume_at.take();
                    self.current = Some(Current {
                        place,
                        source,
                        offset,
                        begun: false,
                        left_out: false,
                    });
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

    async fn enter_group(
        &mut self,
        place: Place,
        directory: String,
        extension: String,
    ) -> Result<bool, Error> {
        if self
            .group
            .as_ref()
            .is_some_and(|group| group.directory == directory)
        {
            return Ok(false);
        }
        self.finish_group().await?;
        self.group = Some(GroupState {
            directory,
            extension,
            number: 0,
            codec: None,
        });
        self.cut(Cursor {
            segment: place.segment,
            entry: place.entry,
            offset: None,
            group: None,
        })
        .await
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
        let fresh = !current.begun && current.offset.is_none_or(|at| at.stored == 0 && at.skip == 0);
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
        let merge = self.merge.get_or_insert_with(|| {
            format::merge(&frozen.format, self.group.as_ref().and_then(|group| group.codec))
        });
        if !current.begun {
            current.begun = true;
            merge.begin(current.offset.take());
        }
        merge.feed(bytes);
        self.room = Some(room);
        self.draining = true;
        self.at_cut = false;
        Ok(())
    }

    /// `fresh`: nothing of the source has been merged, so that it may be left out.
    fn source_unreadable(&mut self, error: store::Error, fresh: bool) -> Result<(), Error> {
        let frozen = &self.input.plan.frozen;
        let Some(current) = &self.current else {
            return Err(error.into());
        };
        let key = current.source.key.clone();
        match error.kind {
            ErrorKind::NotFound if fresh && frozen.skip_missing => self.leave_out("missing".to_owned()),
            ErrorKind::NotFound => return Err(Error::Missing(key)),
            ErrorKind::PreconditionFailed => return Err(Error::Changed(key)),
            ErrorKind::Archived if fresh && frozen.skip_bad => self.leave_out("archived".to_owned()),
            ErrorKind::Archived => return Err(Error::Archived(key)),
            _ => return Err(error.into()),
        }
        Ok(())
    }

    fn leave_out(&mut self, reason: String) {
        let Some(current) = &self.current else { return };
        tracing::warn!(key = current.source.key, reason, "source left out");
        self.totals.skipped += 1;
        self.batch.skipped.push(SkippedSource {
            key: current.source.key.clone(),
            reason,
        });
    }

    /// No more bytes of the current source will be read. Returns whether a checkpoint was made.
    async fn end_source(&mut self) -> Result<bool, Error> {
        let Some(current) = &mut self.current else {
            return Ok(false);
        };
        if current.left_out {
            return self.source_done(self.at_cut).await;
        }
        let format = &self.input.plan.frozen.format;
        let codec = self.group.as_ref().and_then(|group| group.codec);
        let merge = self.merge.get_or_insert_with(|| format::merge(format, codec));
        if !current.begun {
            merge.begin(current.offset.take());
        }
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
                    };
                    if self.cut(cursor).await? {
                        return Ok(true);
                    }
                }
                Step::SourceEnd { cut } => {
                    self.draining = false;
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
            offset: None,
            group: None,
        })
        .await
    }

    /// Appends what the merge handed out to the open output.
    async fn write(&mut self, codec: Option<Codec>) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        if let (None, Some(codec)) = (&self.open, codec) {
            self.open_output(codec);
        }
        match &mut self.open {
            Some(open) => open.output.append(&self.out).await,
            None => Ok(()),
        }
    }

    fn open_output(&mut self, codec: Codec) {
        let Some(group) = &mut self.group else { return };
        let start = self.last_cut.clone();
        let (key, token) = name_output(self.input, self.shard, group, group.number, codec);
        // Unique among this writer's uploads: an output that is built again starts a later batch.
        let Cursor { segment, entry, .. } = self.last_cut.cursor;
        let label = format!(
            "{}-{segment}-{entry}-{}",
            self.last.checkpoint.sequence, group.number
        );
        group.number += 1;
        group.codec = Some(codec);
        self.open = Some(Open {
            output: Output::new(self.sink.clone(), key, token, label),
            start,
            codec,
            records: 0,
        });
    }

    fn count(&mut self, records: u64) {
        if let Some(open) = &mut self.open {
            open.records += records - self.counted;
        }
        self.counted = records;
    }

    async fn close_output(&mut self) -> Result<(), Error> {
        let Some(Open { output, records, .. }) = self.open.take() else {
            return Ok(());
        };
        let (key, token) = (output.key().to_owned(), output.token().to_owned());
        let finished = output.close().await?;
        self.totals.bytes_written += finished.size;
        self.batch.finished.push(OutputRecord {
            key,
            size: finished.size,
            etag: finished.etag,
            crc64nvme: finished.crc64nvme,
            records,
            group: self
                .group
                .as_ref()
                .map_or(String::new(), |group| group.directory.clone()),
            token,
        });
        Ok(())
    }

    /// At a cut: closes the output if it has its size, and ends the batch if it has its own. Returns
    /// whether a checkpoint was made.
    async fn cut(&mut self, mut cursor: Cursor) -> Result<bool, Error> {
        let frozen = &self.input.plan.frozen;
        self.at_cut = true;
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.output.len() >= frozen.target_bytes)
        {
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
            self.checkpoint(cursor).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Order: parts, tail, body, pointer (I2).
    async fn checkpoint(&mut self, cursor: Cursor) -> Result<(), Error> {
        let mut body = self.last.next_body(self.input, self.shard);
        body.batch += 1;
        body.totals = self.totals;
        body.open = match &mut self.open {
            Some(open) => Some(save(&self.context.ledger, open, body.sequence).await?),
            None => None,
        };
        let batch = std::mem::take(&mut self.batch);
        body.finished = batch.finished;
        body.skipped = batch.skipped;
        body.cursor = cursor;
        self.last.advance(self.context, self.input, body, 0).await?;
        self.last_cut.batch = self.last.checkpoint.batch;
        Ok(())
    }
}

fn name_output(
    input: &ShardInput,
    shard: usize,
    group: &GroupState,
    number: u32,
    codec: Codec,
) -> (String, String) {
    let extension = format!("{}{}", group.extension, codec.extension());
    let encoder = format::encoder_version(codec);
    let key = input
        .plan
        .output_key(&input.plan_sha256, &group.directory, shard, number, &extension);
    (
        key,
        Plan::output_token(&input.plan_sha256, shard, &group.directory, number, encoder),
    )
}

async fn save(ledger: &Ledger, open: &mut Open, sequence: i64) -> Result<OpenOutput, Error> {
    let Saved {
        upload,
        sent_bytes,
        crc,
        tail,
    } = open.output.save().await?;
    let tail = match tail {
        Some(bytes) => {
            let (name, size) = (ledger.tail_name(sequence), bytes.len() as u64);
            let sha256 = ledger.put_tail(&name, bytes).await?;
            Some(Tail { name, size, sha256 })
        }
        None => None,
    };
    Ok(OpenOutput {
        start: open.start.clone(),
        key: open.output.key().to_owned(),
        codec: open.codec,
        encoder: format::encoder_version(open.codec).to_owned(),
        upload,
        sent_bytes,
        tail,
        crc,
        records: open.records,
    })
}

async fn reopen(
    context: &Context,
    sink: &Sink,
    input: &ShardInput,
    shard: usize,
    saved: OpenOutput,
) -> Result<Open, Error> {
    let lost = |why: &str| Error::OutputLost {
        key: saved.key.clone(),
        why: why.to_owned(),
    };
    if saved.encoder != format::encoder_version(saved.codec) {
        return Err(lost("it was begun by another version of the encoder"));
    }
    let tail = match &saved.tail {
        Some(tail) => {
            let bytes = context.ledger.tail(&tail.name, &tail.sha256, tail.size).await?;
            Some(bytes.ok_or_else(|| lost("its tail is missing or was altered"))?)
        }
        None => None,
    };
    let Some(group) = &saved.start.cursor.group else {
        return Err(lost("it belongs to no group"));
    };
    let (key, token) = name_output(input, shard, group, group.number, saved.codec);
    let resumed = Saved {
        upload: saved.upload,
        sent_bytes: saved.sent_bytes,
        crc: saved.crc,
        tail,
    };
    let output = Output::resume(sink.clone(), key, token, "resumed".to_owned(), resumed).await?;
    Ok(Open {
        output,
        start: saved.start,
        codec: saved.codec,
        records: saved.records,
    })
}

/// Reads a whole source and says whether it is good, before anything of it is merged.
async fn check(context: &Context, frozen: &Frozen, source: &Source, first: Bytes) -> Result<(), Error> {
    let settings = format::Settings {
        compression: format::Compression::Auto,
        ..frozen.format.clone()
    };
    let mut merge = format::merge(&settings, None);
    merge.begin(None);
    let mut out = Vec::new();
    let mut read = first.len() as u64;
    let mut chunk = Some(first);
    loop {
        match chunk.take() {
            Some(bytes) => merge.feed(bytes),
            None => merge.end_source(),
        }
        loop {
            out.clear();
            match merge.advance(&mut out) {
                Ok(Step::Cut) => {}
                Ok(Step::NeedInput) => break,
                Ok(Step::SourceEnd { .. }) => return Ok(()),
                Err(problem) => {
                    return Err(Error::BadSource {
                        key: source.key.clone(),
                        problem,
                    });
                }
            }
        }
        if read < source.size {
            let to = source.size.min(read + context.window.read_bytes);
            chunk = Some(context.store.read(&source.key, read..to, &source.etag).await?);
            read = to;
        }
    }
}
