//! The newest entry of each key, in a fixed number of bytes: a flat table with linear probing, allocated once.
//!
//! Never grows and never forgets: what does not fit is refused, and the caller hands out what is there.

use super::{Entry, Layout, Position};

/// Of 8 slots at most 7 are taken: beyond that, probing costs more than the memory is worth.
const TAKEN: usize = 7;
const OF: usize = 8;
/// The smallest table that makes any progress.
const LEAST_SLOTS: usize = 8;

pub struct Latest {
    layout: Layout,
    hashes: Vec<u128>,
    /// Position and sign; zero where the slot is free.
    positions: Vec<u64>,
    /// Empty where entries have no version.
    versions: Vec<i128>,
    len: usize,
}

impl Latest {
    /// A table of at most so many bytes, and at least a handful of entries.
    pub fn new(layout: Layout, bytes: u64) -> Self {
        let slots = ((bytes as usize) / layout.entry_bytes()).max(LEAST_SLOTS);
        Self {
            layout,
            hashes: vec![0; slots],
            positions: vec![0; slots],
            versions: if layout.versioned {
                vec![0; slots]
            } else {
                Vec::new()
            },
            len: 0,
        }
    }

    /// Keys that fit.
    pub fn capacity(&self) -> usize {
        self.positions.len() / OF * TAKEN
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether another key could be refused.
    pub fn is_full(&self) -> bool {
        self.len >= self.capacity()
    }

    /// Takes an entry if it is the newest of its key: greater version, then later position. False where its key
    /// is a new one and there is no room: then nothing has changed.
    pub fn take(&mut self, entry: &Entry) -> bool {
        let slots = self.positions.len();
        // By the lower half of the hash: a pass has all its keys from a small range of the upper half.
        let mut slot = ((u128::from(entry.hash as u64) * slots as u128) >> 64) as usize;
        while self.positions[slot] != 0 {
            if self.hashes[slot] == entry.hash {
                if (entry.version, entry.packed()) > (self.version(slot), self.positions[slot]) {
                    self.put(slot, entry);
                }
                return true;
            }
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
        if self.is_full() {
            return false;
        }
        self.put(slot, entry);
        self.len += 1;
        true
    }

    fn version(&self, slot: usize) -> i128 {
        self.versions.get(slot).copied().unwrap_or(0)
    }

    fn put(&mut self, slot: usize, entry: &Entry) {
        self.hashes[slot] = entry.hash;
        self.positions[slot] = entry.packed();
        if let Some(version) = self.versions.get_mut(slot) {
            *version = entry.version;
        }
    }

    /// Hands out all entries as the bytes of a run, in no order, and is empty.
    pub fn hand_out(&mut self) -> Vec<u8> {
        let mut run = Vec::with_capacity(self.len * self.layout.entry_bytes());
        for slot in 0..self.positions.len() {
            if self.positions[slot] != 0 {
                let entry = Entry::unpack(self.hashes[slot], self.version(slot), self.positions[slot]);
                self.layout.encode(&entry, &mut run);
            }
        }
        self.clear();
        run
    }

    pub fn clear(&mut self) {
        self.positions.fill(0);
        self.len = 0;
    }

    /// The positions in ascending order, those of expired tombstones only if they are kept. Takes no memory for
    /// it: afterwards the table is of no use until it is cleared.
    pub fn survivors(&mut self, keep_expired: bool) -> impl Iterator<Item = Position> + '_ {
        self.positions.sort_unstable();
        self.len = 0;
        let there = self.positions.iter().filter(|packed| **packed != 0);
        there
            .filter(move |packed| keep_expired || **packed & 1 == 0)
            .map(|packed| Position::from_number(packed >> 1))
    }
}
