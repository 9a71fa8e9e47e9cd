//! Reads a shard's sources ahead, in order, as many at a time as the window has room for.
//!
//! Room for a read is taken when it is started, in the order in which reads will be merged, and given
//! back when its bytes are merged. As the merge never waits for a later read, this cannot lock up. While
//! nothing is merged, the room of parts is lent to reads, all but that of one part: what is merged next can
//! always be sent. It goes back before anything new is read.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio_util::task::AbortOnDropHandle;

use super::body::{Cursor, GroupState};
use super::window::{Room, Share};
use super::{Context, Error, Ledger};
use crate::plan::{Entry, Plan, Segment, SegmentRef, Source};
use crate::store::{self, Store};

/// While less is ahead, a segment that is loaded is entered before all of the one before it is merged.
const FEW: usize = 512;

pub(crate) enum Item {
    /// As it begins, also where its middle comes next.
    Group(Place, GroupState),
    Source(Place, Source),
    /// The next stored bytes of the source, and the room they take until they are merged.
    Chunk(Result<Bytes, store::Error>, Room),
    SourceEnd,
}

/// Of an entry: its segment, counted from the shard's first, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub segment: usize,
    pub entry: usize,
}

enum Ahead {
    Ready(Item),
    Reading(Reading),
}

struct Reading {
    key: String,
    bytes: AbortOnDropHandle<Result<Bytes, store::Error>>,
    size: u64,
    room: Room,
    /// The room is one of parts.
    lent: bool,
}

/// What remains to be read of one source.
struct Remaining {
    source: Source,
    from: u64,
}

pub(crate) struct Reader {
    store: Arc<dyn Store>,
    ledger: Ledger,
    location: String,
    /// Segments that are not loaded yet.
    segments: VecDeque<SegmentRef>,
    loading: Option<AbortOnDropHandle<Result<Segment, Error>>>,
    /// What `loading` came to.
    loaded: Option<Result<Segment, Error>>,
    entries: VecDeque<(Place, Entry)>,
    /// Of the segment that is loaded next.
    next_segment: usize,
    remaining: Option<Remaining>,
    ahead: VecDeque<Ahead>,
    share: Share,
    /// Reads in flight, at most.
    reads: usize,
    /// The most that one read asks for.
    read_bytes: u64,
    reading: usize,
    /// So many of these with room that is lent.
    lent: usize,
    /// Directories of groups of which nothing is read: their sources come without bytes.
    passed_over: Vec<String>,
    /// The entries that are pushed belong to such a group.
    passing: bool,
}

impl Reader {
    /// Starts at `cursor` of the shard whose segments these are.
    pub(crate) async fn new(
        context: &Context,
        location: String,
        (plan, shard): (&Plan, usize),
        cursor: &Cursor,
        passed_over: Vec<String>,
        share_bytes: u64,
    ) -> Result<Self, Error> {
        let range = &plan.shards[shard];
        let segments = plan.segments[range.first..range.first + range.count]
            .iter()
            .skip(cursor.segment);
        let mut reader = Self {
            store: Arc::clone(&context.store),
            ledger: context.ledger.clone(),
            location,
            segments: segments.cloned().collect(),
            loading: None,
            loaded: None,
            entries: VecDeque::new(),
            next_segment: cursor.segment,
            remaining: None,
            ahead: VecDeque::new(),
            share: Share::new(share_bytes),
            reads: context.window.reads,
            read_bytes: context.window.read_bytes_of(share_bytes),
            reading: 0,
            lent: 0,
            passed_over,
            passing: false,
        };
        reader.take_segment().await?;
        reader.skip_to(cursor);
        Ok(reader)
    }

    /// Passes over what is merged already, but for the name of the group in the middle of which it ends.
    fn skip_to(&mut self, cursor: &Cursor) {
        let rest = self.entries.split_off(cursor.entry.min(self.entries.len()));
        let passed = std::mem::replace(&mut self.entries, rest);
        let group = passed
            .into_iter()
            .rev()
            .map(|(_, entry)| entry)
            .find(|entry| matches!(entry, Entry::Group { .. }));
        if let (Some(group), Some((place, Entry::Source(source)))) = (group, self.entries.front().cloned()) {
            self.push_entry(place, group);
            if let Some(offset) = &cursor.offset {
                self.entries.pop_front();
                self.push_source(place, source, offset.stored);
            }
        }
    }

    fn push_entry(&mut self, place: Place, entry: Entry) {
        match entry {
            Entry::Group {
                ordinal,
                directory,
                extension,
            } => {
                self.passing = self.passed_over.contains(&directory);
                let group = GroupState {
                    ordinal,
                    directory,
                    extension,
                    number: 0,
                    codec: None,
                    failed: false,
                };
                self.ahead.push_back(Ahead::Ready(Item::Group(place, group)));
            }
            Entry::Source(source) => self.push_source(place, source, 0),
        }
    }

    fn push_source(&mut self, place: Place, source: Source, from: u64) {
        self.ahead
            .push_back(Ahead::Ready(Item::Source(place, source.clone())));
        let from = if self.passing { source.size } else { from };
        self.remaining = Some(Remaining { source, from });
    }

    /// The next thing in order; `None` at the end of the shard.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, Error> {
        loop {
            self.read_ahead();
            match self.ahead.pop_front() {
                Some(Ahead::Ready(item)) => return Ok(Some(item)),
                Some(Ahead::Reading(reading)) => {
                    self.reading -= 1;
                    self.lent -= usize::from(reading.lent);
                    let bytes = reading.bytes.await.map_err(|error| Error::TaskFailed {
                        doing: format!("reading {}", reading.key),
                        why: error.to_string(),
                    })?;
                    return Ok(Some(Item::Chunk(bytes, reading.room)));
                }
                // Nothing is ahead, so all room is free, and the next pass starts a read.
                None => {
                    let more = !self.entries.is_empty() || self.remaining.is_some();
                    if !more && !self.take_segment().await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Whether more of the group in hand is known to follow.
    pub(crate) fn goes_on_with(&self, group: &str) -> bool {
        let is_end = |ahead: &&Ahead| matches!(ahead, Ahead::Ready(Item::SourceEnd));
        match self.ahead.iter().find(|ahead| !is_end(ahead)) {
            Some(Ahead::Ready(Item::Group(_, next))) => next.directory == group,
            other => other.is_some(),
        }
    }

    /// Waits for what has to be done before more is merged, and reads on meanwhile with the room that `parts`
    /// leave, but for that of one part.
    pub(crate) async fn while_waiting<T>(
        &mut self,
        (parts, part_bytes): (Share, u64),
        wait: Pin<Box<dyn Future<Output = T> + Send + '_>>,
    ) -> T {
        tokio::select! {
            biased;
            done = wait => done,
            never = self.read_on(&parts, part_bytes) => match never {},
        }
    }

    async fn read_on(&mut self, parts: &Share, part_bytes: u64) -> Infallible {
        self.read_ahead();
        loop {
            while let Some(range) = self.due() {
                let room = parts.take_beside(part_bytes, range.end - range.start).await;
                self.start_read(range, room, true);
            }
            if self.loading.is_none() {
                return pending().await;
            }
            self.load().await;
        }
    }

    /// Starts as many reads as there is room for, in order.
    fn read_ahead(&mut self) {
        self.give_back();
        while self.lent == 0
            && let Some(range) = self.due()
        {
            let Some(room) = self.share.try_take(range.end - range.start) else {
                return;
            };
            self.start_read(range, room, false);
        }
    }

    /// Takes room of its own for reads that have borrowed it, as far as there is any.
    fn give_back(&mut self) {
        for ahead in &mut self.ahead {
            if self.lent == 0 {
                return;
            }
            if let Ahead::Reading(reading) = ahead
                && reading.lent
            {
                let Some(room) = self.share.try_take(reading.size) else {
                    return;
                };
                (reading.room, reading.lent) = (room, false);
                self.lent -= 1;
            }
        }
    }

    /// The next read, unless enough are in flight or what is loaded ends. What comes before it is ahead already.
    fn due(&mut self) -> Option<Range<u64>> {
        while self.reading < self.reads {
            match &self.remaining {
                Some(Remaining { source, from }) if *from < source.size => {
                    return Some(*from..source.size.min(from + self.read_bytes));
                }
                Some(_) => {
                    self.remaining = None;
                    self.ahead.push_back(Ahead::Ready(Item::SourceEnd));
                }
                None => match self.entries.pop_front() {
                    Some((place, entry)) => self.push_entry(place, entry),
                    None if self.ahead.len() < FEW => self.enter_loaded()?,
                    None => return None,
                },
            }
        }
        None
    }

    fn start_read(&mut self, range: Range<u64>, room: Room, lent: bool) {
        let Some(Remaining { source, from }) = &mut self.remaining else {
            return;
        };
        *from = range.end;
        let size = range.end - range.start;
        let (store, key, etag) = (Arc::clone(&self.store), source.key.clone(), source.etag.clone());
        let asked = key.clone();
        let read = tokio::spawn(async move { store.read(&asked, range, &etag).await });
        self.ahead.push_back(Ahead::Reading(Reading {
            key,
            bytes: AbortOnDropHandle::new(read),
            size,
            room,
            lent,
        }));
        self.reading += 1;
        self.lent += usize::from(lent);
    }

    /// Takes the next segment over and starts to load the one after it.
    async fn take_segment(&mut self) -> Result<bool, Error> {
        if self.loading.is_none() && self.loaded.is_none() {
            self.load_next();
        }
        self.load().await;
        match self.loaded.take() {
            Some(segment) => self.enter(segment?),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Does the same if that needs no waiting. What went wrong is told when everything before it is merged.
    fn enter_loaded(&mut self) -> Option<()> {
        self.load().now_or_never()?;
        match self.loaded.take()? {
            Ok(segment) => {
                self.enter(segment);
                Some(())
            }
            failed => {
                self.loaded = Some(failed);
                None
            }
        }
    }

    /// Waits for the segment that is being loaded.
    async fn load(&mut self) {
        if let Some(loading) = &mut self.loading {
            let segment = loading.await.unwrap_or_else(|error| {
                Err(Error::TaskFailed {
                    doing: format!("reading a segment of {}", self.location),
                    why: error.to_string(),
                })
            });
            (self.loading, self.loaded) = (None, Some(segment));
        }
    }

    fn enter(&mut self, segment: Segment) {
        let number = self.next_segment;
        let places = (0..).map(|entry| Place {
            segment: number,
            entry,
        });
        self.entries = places.zip(segment.entries).collect();
        self.next_segment += 1;
        self.load_next();
    }

    fn load_next(&mut self) {
        let Some(next) = self.segments.pop_front() else {
            return;
        };
        let (ledger, location) = (self.ledger.clone(), self.location.clone());
        let load = async move { ledger.segment(&location, next.number, &next.sha256).await };
        self.loading = Some(AbortOnDropHandle::new(tokio::spawn(load)));
    }
}
