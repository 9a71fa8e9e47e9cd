//! The positions that survived, as roaring bitmaps: one for each source, put together in chunks.

use std::io;

use roaring::RoaringTreemap;

use super::Position;

/// Survivors in one chunk, at most. Where each is in a source of its own they take a megabyte; usually they take
/// two bytes each.
const CHUNK: u64 = 1 << 15;

/// Part of the survivors of one pass, in the order of positions.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Survivors(RoaringTreemap);

impl Survivors {
    /// Adds a position that comes after all that are in it.
    pub fn push(&mut self, position: Position) {
        self.0.insert(position.number());
    }

    pub fn is_full(&self) -> bool {
        self.0.len() >= CHUNK
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// The last position in it, as a number.
    pub fn last(&self) -> Option<u64> {
        self.0.max()
    }

    /// In the portable format of roaring bitmaps with 64 bits.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.serialized_size());
        // A vector takes everything.
        let _ = self.0.serialize_into(&mut bytes);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        RoaringTreemap::deserialize_from(bytes).map(Self)
    }

    /// Adds those of one source to its selection.
    pub fn add_to(&self, selection: &mut Selection) {
        let mut positions = self.0.iter();
        positions.advance_to(selection.range.start);
        let records = positions
            .take_while(|number| selection.range.contains(number))
            .map(|number| number - selection.range.start);
        selection.records.extend(records);
    }
}

/// Which records of one source are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    range: std::ops::Range<u64>,
    records: RoaringTreemap,
}

impl Selection {
    /// Of no record of this source, so far.
    pub fn none(segment: usize, entry: usize) -> Self {
        Self {
            range: Position::range(segment, entry),
            records: RoaringTreemap::new(),
        }
    }

    /// The position before that of any record of the source.
    pub fn first(&self) -> u64 {
        self.range.start
    }

    /// The last position that a record of the source can have.
    pub fn last(&self) -> u64 {
        self.range.end - 1
    }

    /// Whether the record of this number is kept; they count from 1.
    pub fn keeps(&self, record: u64) -> bool {
        self.records.contains(record)
    }

    pub fn len(&self) -> u64 {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}
