//! The group in hand: entered, finished, or given up when it cannot be done.

use super::Work;
use crate::engine::Error;
use crate::engine::body::{Cursor, FailedGroup, GroupState};
use crate::engine::reader::Place;

impl Work<'_> {
    /// Returns whether a checkpoint was made.
    pub(super) async fn enter_group(&mut self, place: Place, group: GroupState) -> Result<bool, Error> {
        let same = |current: &GroupState| current.directory == group.directory;
        if self.group.as_ref().is_some_and(same) {
            return Ok(false);
        }
        self.finish_group().await?;
        self.group = Some(group);
        let cursor = Cursor::at(place.segment, place.entry);
        if is_in(self.group.as_ref(), self.failed.as_ref()) {
            self.give_up(cursor).await?;
            return Ok(true);
        }
        self.cut(cursor, 0).await
    }

    /// Gives the group up from `cursor` on, which is a checkpoint at once: what counts against a limit is never
    /// held back. What the group has of outputs is removed when the others are published.
    pub(super) async fn give_up(&mut self, mut cursor: Cursor) -> Result<(), Error> {
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

    pub(super) async fn finish_group(&mut self) -> Result<(), Error> {
        if let Some(mut merge) = self.merge.take() {
            merge.finish(self.outputs.pending());
            let records = merge.counts().records;
            self.write(merge.output_codec()).await?;
            self.count(records);
            self.counted = 0;
        }
        self.close_output(false).await
    }
}

/// Whether this is the group that is to be given up.
pub(super) fn is_in(group: Option<&GroupState>, failed: Option<&FailedGroup>) -> bool {
    matches!((group, failed), (Some(group), Some(failed)) if group.directory == failed.group)
}
