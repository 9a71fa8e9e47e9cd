//! The hashes in as many ranges as their keys need room: one range a pass, from the lowest to the highest.
//!
//! How many keys there are is only known when they have been seen, as a key may be in every run. So the first
//! range is all hashes; the later ones go by the keys that were found so far. Whenever the keys of one do not fit, it is
//! narrowed, and the keys above it are left to a later pass. Each pass ends beyond where it began, so there is an end.

use serde::{Deserialize, Serialize};

/// Passes that are made at most: each reads every run again, and the survivors of each are a list of its own to
/// be merged while writing.
const MOST: u32 = 64;

/// Of the room, what is planned with: hashes are not spread evenly to the last one.
const PLANNED: u128 = 15;
const OF: u128 = 16;

/// Hashes by their upper 64 bits, `last` included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HashRange {
    pub first: u64,
    pub last: u64,
}

impl HashRange {
    pub fn contains(&self, hash: u128) -> bool {
        (self.first..=self.last).contains(&((hash >> 64) as u64))
    }

    /// The lower three quarters; `None` for a single hash.
    pub fn narrowed(self) -> Option<Self> {
        let rest = (self.last - self.first) / 4 * 3;
        (self.last > self.first).then_some(Self {
            first: self.first,
            last: self.first + rest,
        })
    }
}

/// How far the hashes are settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Passes {
    pub done: u32,
    /// The last hash that is settled.
    pub settled: Option<u64>,
    /// Keys found in them.
    pub keys: u64,
}

impl Passes {
    /// The range of the next pass, for a table with room for `capacity` keys. `None` when all hashes are settled.
    pub fn next(&self, capacity: usize) -> Option<HashRange> {
        let Some(settled) = self.settled else {
            return Some(HashRange {
                first: 0,
                last: u64::MAX,
            });
        };
        let first = settled.checked_add(1)?;
        let room = (capacity as u128 * PLANNED / OF).max(1);
        // As many hashes as hold so many keys, as far as is known.
        let (hashes, keys) = (u128::from(settled) + 1, u128::from(self.keys));
        let width = (hashes * room / keys.max(1)).clamp(1, 1 << 64);
        let last = (u128::from(first) + width - 1).min(u128::from(u64::MAX)) as u64;
        Some(HashRange { first, last })
    }

    /// A pass over `range` has found so many keys.
    #[must_use]
    pub fn after(self, range: HashRange, keys: usize) -> Self {
        Self {
            done: self.done + 1,
            settled: Some(range.last),
            keys: self.keys + keys as u64,
        }
    }

    /// Whether there are more keys than the passes that may be made have room for. Said early only where it is
    /// beyond doubt.
    pub fn too_many(&self, capacity: usize) -> bool {
        let Some(next) = self.next(capacity) else {
            return false;
        };
        let width = u128::from(next.last - next.first) + 1;
        let left = ((1 << 64) - u128::from(next.first)).div_ceil(width);
        self.done >= MOST || (self.done > 0 && u128::from(self.done) + left > 2 * u128::from(MOST))
    }
}
