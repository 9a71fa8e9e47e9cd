//! What is remembered of a record while its key is marked, and the bytes of a run of such entries.

/// Bits of a [`Position`] below the sign of an expired tombstone.
const RECORD_BITS: u32 = 33;
const SOURCE_ENTRY_BITS: u32 = 14;
const SEGMENT_BITS: u32 = 16;

/// Where a record is in its shard: in which entry of which segment, and the how manieth record of that source.
/// Greater is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// `None` where a shard has more segments, or a source more records, than can be told apart. Records count
    /// from 1, so that no position is zero.
    pub fn new(segment: usize, entry: usize, record: u64) -> Option<Self> {
        let fits = segment < 1 << SEGMENT_BITS
            && entry < 1 << SOURCE_ENTRY_BITS
            && (1..1 << RECORD_BITS).contains(&record);
        fits.then_some(Self(Self::source(segment, entry) | record))
    }

    fn source(segment: usize, entry: usize) -> u64 {
        ((segment as u64) << SOURCE_ENTRY_BITS | entry as u64) << RECORD_BITS
    }

    /// Every position of the records of one source.
    pub(super) fn range(segment: usize, entry: usize) -> std::ops::Range<u64> {
        let start = Self::source(segment, entry);
        start..start + (1 << RECORD_BITS)
    }

    pub(super) fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub fn number(self) -> u64 {
        self.0
    }
}

/// A record as [`super::Latest`] knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub hash: u128,
    /// In units of 10^-18; zero where the rules have no version.
    pub version: i128,
    pub position: Position,
    /// A tombstone that has outlived its retention.
    pub expired: bool,
}

impl Entry {
    /// Position and sign in one number, never zero. In its order, as no two records share a position.
    pub(super) fn packed(&self) -> u64 {
        self.position.0 << 1 | u64::from(self.expired)
    }

    pub(super) fn unpack(hash: u128, version: i128, packed: u64) -> Self {
        Self {
            hash,
            version,
            position: Position(packed >> 1),
            expired: packed & 1 == 1,
        }
    }
}

/// The form of entries in runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub versioned: bool,
}

/// Bytes that are no run: altered, or written under other rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no whole number of entries")]
pub struct MalformedRun;

impl Layout {
    /// Bytes of one entry: 24, and 16 more for a version.
    pub const fn entry_bytes(self) -> usize {
        if self.versioned { 40 } else { 24 }
    }

    /// Appends an entry to a run: hash, position and sign, version; each little-endian.
    pub fn encode(self, entry: &Entry, run: &mut Vec<u8>) {
        run.extend_from_slice(&entry.hash.to_le_bytes());
        run.extend_from_slice(&entry.packed().to_le_bytes());
        if self.versioned {
            run.extend_from_slice(&entry.version.to_le_bytes());
        }
    }

    pub fn decode(self, run: &[u8]) -> Result<impl Iterator<Item = Entry> + '_, MalformedRun> {
        let entries = run.chunks_exact(self.entry_bytes());
        if !entries.remainder().is_empty() {
            return Err(MalformedRun);
        }
        Ok(entries.filter_map(|bytes| {
            let (hash, bytes) = bytes.split_first_chunk()?;
            let (packed, version) = bytes.split_first_chunk()?;
            let version = version.first_chunk().copied().unwrap_or_default();
            Some(Entry::unpack(
                u128::from_le_bytes(*hash),
                i128::from_le_bytes(version),
                u64::from_le_bytes(*packed),
            ))
        }))
    }
}
