//! The survivors of a stretch while it is written: for each source, which of its records are kept.

use std::collections::VecDeque;

use super::super::checkpoint::Last;
use crate::deduplicate::{self, Selection};
use crate::engine::body::{Bitmaps, Cursor, Deduplication};
use crate::engine::reader::Place;
use crate::engine::{Error, Ledger};

/// Sources are asked for in the order of their places.
pub(in super::super) struct Survivors {
    ledger: Ledger,
    state: Deduplication,
    passes: Vec<Pass>,
}

/// What one pass found, from the source asked for last on.
struct Pass {
    later: VecDeque<Bitmaps>,
    now: Option<deduplicate::Survivors>,
}

impl Survivors {
    /// Of the stretch that is to be written; `None` where the plan keeps every record.
    pub(in super::super) async fn open(ledger: &Ledger, last: &Last) -> Result<Option<Self>, Error> {
        let Some(state) = last.body.as_ref().and_then(|body| body.deduplicate.clone()) else {
            return Ok(None);
        };
        let mut passes = Vec::with_capacity(state.survivors.len());
        for list in &state.survivors {
            let later = ledger.bitmaps_list(list).await?.into();
            passes.push(Pass { later, now: None });
        }
        Ok(Some(Self {
            ledger: ledger.clone(),
            state,
            passes,
        }))
    }

    /// The state in which the next stretch begins, if it begins with this group.
    pub(in super::super) fn next_stretch(&self, place: Place) -> Option<Deduplication> {
        let begins = self.state.end == Some((place.segment, place.entry));
        let cursor = Cursor::at(place.segment, place.entry);
        begins.then(|| super::next_stretch(&self.state, &cursor))
    }

    /// Why a source was left out when it was marked.
    pub(in super::super) fn left_out(&self, place: Place) -> Option<&str> {
        // They were found in this order.
        let skipped = &self.state.skipped;
        let found = skipped.binary_search_by_key(&(place.segment, place.entry), |at| (at.segment, at.entry));
        found.ok().map(|found| skipped[found].reason.as_str())
    }

    pub(in super::super) async fn of(&mut self, place: Place) -> Result<Selection, Error> {
        let mut selection = Selection::none(place.segment, place.entry);
        for pass in &mut self.passes {
            pass.add_to(&self.ledger, &mut selection).await?;
        }
        Ok(selection)
    }
}

impl Pass {
    async fn add_to(&mut self, ledger: &Ledger, selection: &mut Selection) -> Result<(), Error> {
        loop {
            if let Some(now) = &self.now {
                now.add_to(selection);
                if now.last() > Some(selection.last()) {
                    return Ok(());
                }
                self.now = None;
            }
            let passed = |bitmaps: &Bitmaps| bitmaps.last < selection.first();
            while self.later.pop_front_if(|bitmaps| passed(bitmaps)).is_some() {}
            match self.later.pop_front() {
                Some(next) => self.now = Some(ledger.bitmaps(&next).await?),
                None => return Ok(()),
            }
        }
    }
}
