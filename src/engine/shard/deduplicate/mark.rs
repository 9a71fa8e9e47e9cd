//! Marks the records of a stretch: read → judge → table → run → checkpoint.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::check::admit;
use super::super::checkpoint::Last;
use super::super::{Ended, ShardInput};
use super::{AHEAD, marking};
use crate::deduplicate::{Entry, Judge, Latest, Position, judge};
use crate::engine::body::{Cursor, Deduplication, GroupState, SkippedPlace, Stage};
use crate::engine::reader::{Item, Place, Reader};
use crate::engine::window::Room;
use crate::engine::{Context, Error};
use crate::format::{self, Offset, Scan, Scanned};
use crate::plan::{BATCH_SOURCES, Deduplicate, Source};
use crate::store;

/// Entries of so many bytes are enough for a stretch: as many keys as fit a small worker's table in one pass, and
/// hundreds of megabytes to be read. Bytes.
const STRETCH_BYTES: u64 = 32 << 20;
/// So many sources that are left out are enough as well: each body of the stretch has all of them.
const MOST_SKIPPED: usize = 10_000;
/// How many records pass before it is asked again whether to stop.
const ASK: u64 = 1024;

/// The state between two checkpoints. Dropped whole when anything goes wrong.
pub(super) struct Mark<'a> {
    context: &'a Context,
    input: &'a ShardInput,
    last: &'a mut Last,
    rules: &'a Deduplicate,
    reader: Reader,
    scan: Box<dyn Scan>,
    judge: Box<dyn Judge>,
    latest: Latest,
    /// Entries that the table has not taken yet.
    fresh: Vec<Entry>,
    state: Deduplication,
    /// A stretch ends at the group that begins when it has so many records. A function of the plan: whether an
    /// expired tombstone goes depends on what else lies in its stretch (I3).
    enough: u64,
    /// The group in hand, or the one that was marked last.
    group: Option<GroupState>,
    current: Option<Current>,
    /// Where in the first source the scan goes on, and how many of its records came before.
    resume_at: Option<(Offset, u64)>,
    scanning: bool,
    room: Option<Room>,
    batch_bytes: u64,
    batch_sources: u64,
}

/// The source that is being marked.
struct Current {
    place: Place,
    source: Source,
    offset: Option<(Offset, u64)>,
    begun: bool,
    left_out: bool,
}

/// What a batch ended with.
enum BatchEnd {
    More,
    Marked,
}

impl<'a> Mark<'a> {
    pub(super) async fn resume(
        context: &'a Context,
        input: &'a ShardInput,
        last: &'a mut Last,
        rules: &'a Deduplicate,
    ) -> Result<Self, Error> {
        let (cursor, state) = last
            .body
            .as_ref()
            .map(|body| (body.cursor.clone(), body.deduplicate.clone().unwrap_or_default()))
            .unwrap_or_default();
        let (reads, table) = marking(context.window, rules);
        let reader = Reader::new(
            context,
            input.plan_location.clone(),
            (&input.plan, context.ledger.writer().shard),
            &cursor,
            Vec::new(),
            reads,
        )
        .await?;
        let layout = rules.rules.layout();
        let mut judge = judge(&rules.rules);
        if let Some(group) = &cursor.group {
            judge.enter_group(&group.directory);
        }
        Ok(Self {
            context,
            input,
            last,
            rules,
            reader,
            scan: format::scan(&input.plan.frozen.format),
            judge,
            latest: Latest::new(layout, table),
            fresh: Vec::with_capacity(AHEAD),
            enough: rules.table_bytes.min(STRETCH_BYTES) / layout.entry_bytes() as u64,
            state,
            group: cursor.group,
            current: None,
            resume_at: cursor.offset.map(|offset| (offset, cursor.records)),
            scanning: false,
            room: None,
            batch_bytes: 0,
            batch_sources: 0,
        })
    }

    pub(super) async fn run(mut self) -> Result<Option<Ended>, Error> {
        loop {
            match self.input.in_time(Box::pin(self.batch())).await? {
                _ if self.context.stop.is_cancelled() => return Ok(Some(Ended::Stopped)),
                BatchEnd::Marked => return Ok(None),
                BatchEnd::More => {}
            }
        }
    }

    /// Works up to the next checkpoint.
    async fn batch(&mut self) -> Result<BatchEnd, Error> {
        loop {
            if self.last.is_due(self.context) {
                self.last.point(self.context).await?;
            }
            if self.scanning && self.scan().await? {
                return Ok(BatchEnd::More);
            }
            match self.reader.next().await? {
                None => return self.end_stretch(None).await,
                Some(Item::Group(place, group)) => {
                    let last = self.group.as_ref().map(|last| &last.directory);
                    if last == Some(&group.directory) {
                        continue;
                    }
                    if last.is_some() && self.has_enough() {
                        return self.end_stretch(Some((place.segment, place.entry))).await;
                    }
                    self.judge.enter_group(&group.directory);
                    self.group = Some(group);
                }
                Some(Item::Source(place, source)) => {
                    self.current = Some(Current {
                        place,
                        source,
                        offset: self.resume_at.take(),
                        begun: false,
                        left_out: false,
                    });
                }
                Some(Item::Chunk(bytes, room)) => self.take_chunk(bytes, room).await?,
                Some(Item::SourceEnd) => {
                    if self.end_source().await? {
                        return Ok(BatchEnd::More);
                    }
                }
            }
        }
    }

    fn has_enough(&self) -> bool {
        self.state.records >= self.enough || self.state.skipped.len() >= MOST_SKIPPED
    }

    async fn take_chunk(&mut self, bytes: Result<Bytes, store::Error>, room: Room) -> Result<(), Error> {
        let frozen = &self.input.plan.frozen;
        let Some(current) = self.current.as_mut().filter(|current| !current.left_out) else {
            return Ok(());
        };
        // What an earlier job made of many sources is never left out.
        let earlier = current.source.key.starts_with(&self.input.plan.output_prefix);
        let fresh = !current.begun && current.offset.is_none() && !earlier;
        let bytes = match admit(self.context, frozen, &current.source, bytes, fresh).await? {
            Ok(bytes) => bytes,
            Err(reason) => {
                current.left_out = true;
                let Place { segment, entry } = current.place;
                self.state.skipped.push(SkippedPlace {
                    segment,
                    entry,
                    reason,
                });
                return Ok(());
            }
        };
        self.batch_bytes += bytes.len() as u64;
        self.begin();
        self.scan.feed(bytes);
        self.room = Some(room);
        self.scanning = true;
        Ok(())
    }

    fn begin(&mut self) {
        let Some(current) = self.current.as_mut().filter(|current| !current.begun) else {
            return;
        };
        current.begun = true;
        let at = current.offset.take();
        let (offset, records) = at.map_or((None, 0), |(offset, records)| (Some(offset), records));
        self.scan.begin(offset, records);
    }

    /// No more bytes of the current source will be read. Returns whether a checkpoint was made.
    async fn end_source(&mut self) -> Result<bool, Error> {
        match &self.current {
            None => Ok(false),
            Some(current) if current.left_out => self.source_done().await,
            Some(_) => {
                self.begin();
                self.scan.end_source();
                self.scanning = true;
                Ok(false)
            }
        }
    }

    /// Looks at the records that are there. Returns whether a checkpoint was made.
    async fn scan(&mut self) -> Result<bool, Error> {
        let Some(Current { place, source, .. }) = &self.current else {
            return Ok(false);
        };
        let (place, key) = (*place, source.key.clone());
        let full = self.batch_bytes >= self.input.plan.frozen.batch_bytes;
        let Self {
            scan,
            judge,
            latest,
            fresh,
            state,
            ..
        } = self;
        let (stop, keep_unkeyed) = (&self.context.stop, self.rules.rules.keep_unkeyed);
        let mut problem = None;
        let scanned = scan.advance(&mut |record, bytes| {
            match mark(judge.as_ref(), keep_unkeyed, place, record, bytes) {
                Ok(entry) => {
                    fresh.push(entry);
                    state.records += 1;
                    if fresh.len() >= AHEAD {
                        // What it refuses goes into the run that it is handed out as.
                        latest.take_all(fresh);
                    }
                }
                Err(found) => {
                    problem = Some(found);
                    return ControlFlow::Break(());
                }
            }
            let asked = record % ASK == 0 && stop.is_cancelled();
            if full || latest.is_full() || asked {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        match problem {
            Some(Problem::Unkeyed(record, why)) => return Err(Error::UnkeyedRecord { key, record, why }),
            Some(Problem::TooMany) => return Err(Error::TooManyRecords(key)),
            None => {}
        }
        match scanned.map_err(|problem| Error::BadSource { key, problem })? {
            Scanned::NeedInput => {
                self.scanning = false;
                self.room = None;
                Ok(false)
            }
            Scanned::SourceEnd => {
                self.scanning = false;
                self.room = None;
                self.source_done().await
            }
            Scanned::Stopped => {
                let (offset, records) = self.scan.offset();
                let cursor = Cursor {
                    segment: place.segment,
                    entry: place.entry,
                    offset: Some(offset),
                    group: self.group.clone(),
                    records,
                };
                self.checkpoint(cursor).await?;
                Ok(true)
            }
        }
    }

    async fn source_done(&mut self) -> Result<bool, Error> {
        let Some(Current { place, source, .. }) = self.current.take() else {
            return Ok(false);
        };
        self.state.marked_sources += 1;
        self.state.marked_bytes += source.size;
        self.batch_sources += 1;
        let full =
            self.batch_bytes >= self.input.plan.frozen.batch_bytes || self.batch_sources >= BATCH_SOURCES;
        if !full && !self.latest.is_full() && !self.context.stop.is_cancelled() {
            return Ok(false);
        }
        let cursor = Cursor {
            segment: place.segment,
            entry: place.entry + 1,
            group: self.group.clone(),
            ..Cursor::default()
        };
        self.checkpoint(cursor).await?;
        Ok(true)
    }

    /// Order: run, body, pointer (I2).
    async fn checkpoint(&mut self, cursor: Cursor) -> Result<(), Error> {
        let shard = self.context.ledger.writer().shard;
        let mut body = self.last.next_body(self.input, shard);
        let run = self.latest.hand_out(&mut self.fresh);
        if !run.is_empty() {
            let entries = (run.len() / self.rules.rules.layout().entry_bytes()) as u64;
            let stored = self
                .context
                .ledger
                .put_run(body.sequence, entries, run.into())
                .await?;
            self.state.runs.push(stored);
        }
        body.batch += 1;
        body.cursor = cursor;
        // No output is open while records are marked.
        body.redone_to = None;
        body.deduplicate = Some(self.state.clone());
        (self.batch_bytes, self.batch_sources) = (0, 0);
        self.last.advance(self.context, self.input, body, 0).await
    }

    async fn end_stretch(&mut self, end: Option<(usize, usize)>) -> Result<BatchEnd, Error> {
        self.state.stage = Stage::Settle;
        self.state.end = end;
        self.checkpoint(self.state.start.clone()).await?;
        let (records, runs) = (self.state.records, self.state.runs.len());
        tracing::info!(records, runs, "marked the records of the stretch");
        Ok(BatchEnd::Marked)
    }
}

enum Problem {
    Unkeyed(u64, crate::deduplicate::Unkeyed),
    TooMany,
}

/// The entry of one record.
fn mark(
    judge: &dyn Judge,
    keep_unkeyed: bool,
    place: Place,
    record: u64,
    bytes: &[u8],
) -> Result<Entry, Problem> {
    let position = Position::new(place.segment, place.entry, record).ok_or(Problem::TooMany)?;
    match judge.judge(bytes) {
        Ok(keyed) => Ok(Entry {
            hash: keyed.hash,
            version: keyed.version,
            position,
            expired: keyed.expired,
        }),
        Err(_) if keep_unkeyed => Ok(Entry {
            hash: judge.unkeyed(position.number()),
            version: 0,
            position,
            expired: false,
        }),
        Err(why) => Err(Problem::Unkeyed(record, why)),
    }
}
