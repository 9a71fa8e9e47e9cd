//! The sources in hand: what is read of them goes to the merge, or they are left out. Never looks at outputs.

use bytes::Bytes;

use super::Work;
use crate::engine::Error;
use crate::engine::body::{Cursor, SkippedAt};
use crate::engine::reader::Place;
use crate::engine::shard::check::admit;
use crate::engine::window::Room;
use crate::format::{self, Codec, Merge, Offset, Selected};
use crate::plan::{Frozen, Source};
use crate::store;

/// The source that is being merged.
pub(super) struct Current {
    pub(super) place: Place,
    pub(super) source: Source,
    /// Where the merge goes on inside it.
    offset: Option<Offset>,
    /// Up to where its stored bytes were handed to the merge.
    pub(super) fed: u64,
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

impl Work<'_> {
    pub(super) async fn begin_source(&mut self, place: Place, source: Source) -> Result<(), Error> {
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
            fed: offset.map_or(0, |at| at.stored),
            selected,
            begun: false,
            left_out: reason.is_some(),
        });
        if let Some(reason) = reason {
            self.leave_out(reason);
        }
        Ok(())
    }

    pub(super) async fn take_chunk(
        &mut self,
        bytes: Result<Bytes, store::Error>,
        room: Room,
    ) -> Result<(), Error> {
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
        let bytes = match admit(self.context, frozen, &current.source, bytes, fresh).await? {
            Ok(bytes) => bytes,
            Err(reason) => {
                current.left_out = true;
                self.leave_out(reason);
                return Ok(());
            }
        };
        self.batch.bytes += bytes.len() as u64;
        let codec = self.group.as_ref().and_then(|group| group.codec);
        let merge = self.merge.get_or_insert_with(|| new_merge(frozen, codec));
        current.begin(merge.as_mut());
        current.fed += bytes.len() as u64;
        merge.feed(bytes);
        self.room = Some(room);
        self.draining = true;
        self.at_cut = false;
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
    pub(super) async fn end_source(&mut self) -> Result<bool, Error> {
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

    pub(super) async fn source_done(&mut self, cut: bool) -> Result<bool, Error> {
        let Some(Current { place, source, .. }) = self.current.take() else {
            return Ok(false);
        };
        self.totals.sources += 1;
        self.totals.bytes_read += source.size;
        self.batch.sources += 1;
        if !cut {
            return Ok(false);
        }
        self.cut(Cursor::at(place.segment, place.entry + 1), 0).await
    }
}
