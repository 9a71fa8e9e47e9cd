//! The newest entry of each key, in a fixed number of bytes: a flat table with linear probing, allocated once.
//!
//! Never grows: what does not fit is refused, and the caller hands out what is there, or leaves some of it to later.
//!
//! A slot is two words of hash, then what entries of a key are compared by, the greater of the words first: the version,
//! if there is one, then position and sign. All of it lies together, as each look at a large table is a wait for memory.
//! A version is one word as long as [`Scale`] can hold all exactly. One that it cannot hold is refused, as if
//! there were no room; emptied, the table has slots with two words for it.

use std::hint::black_box;

use super::scale::Scale;
use super::{Entry, HashRange, Layout, Position};

/// Of 10 slots at most 9 are taken: beyond that, probing costs more than the memory is worth.
const TAKEN: usize = 9;
const OF: usize = 10;
/// The smallest table that makes any progress.
const LEAST_SLOTS: usize = 8;

/// What versions are in a slot, and by that how many words a slot has.
#[derive(Debug, Clone, Copy)]
enum Form {
    Unversioned,
    Packed(Scale),
    Whole,
}

impl Form {
    fn words(self) -> usize {
        match self {
            Self::Unversioned => 3,
            Self::Packed(_) => 4,
            Self::Whole => 5,
        }
    }
}

/// Why entries of a range were not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It cannot be held exactly; emptied, the table has slots that can.
    Version,
    /// More than fit have one and the same range of hashes, which cannot be narrowed.
    Keys,
}

pub struct Latest {
    layout: Layout,
    form: Form,
    /// A version was refused that is exact in two words only.
    needs_whole: bool,
    words: Vec<u64>,
    len: usize,
    /// By how many bits the lower half of a hash is turned, which says where an entry belongs.
    turned: u32,
}

impl Latest {
    /// A table of at most so many bytes, and at least a handful of entries. It hands out in the order of its slots.
    pub fn new(layout: Layout, bytes: u64) -> Self {
        let form = if layout.versioned {
            Form::Packed(Scale::default())
        } else {
            Form::Unversioned
        };
        let words = bytes as usize / size_of::<u64>();
        Self {
            layout,
            form,
            needs_whole: false,
            words: vec![0; words.max(LEAST_SLOTS * Form::Whole.words())],
            len: 0,
            turned: 0,
        }
    }

    /// One for what others have handed out. In the same order its slots would be full from the first one on, and each
    /// key would be looked for past all that have found no room where they belong.
    pub fn of_runs(layout: Layout, bytes: u64) -> Self {
        Self {
            turned: 32,
            ..Self::new(layout, bytes)
        }
    }

    fn slots(&self) -> usize {
        self.words.len() / self.form.words()
    }

    /// Keys that fit.
    pub fn capacity(&self) -> usize {
        self.slots() * TAKEN / OF
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether another entry could be refused for ever.
    pub fn is_full(&self) -> bool {
        self.needs_whole || self.len >= self.capacity()
    }

    /// Takes the entries that are the newest of their keys so far: greater version, then later position. False where
    /// one is refused, as there is no room for it: that one and all after it are left.
    pub fn take_all(&mut self, entries: &mut Vec<Entry>) -> bool {
        self.touch(entries);
        let taken = entries.iter().take_while(|entry| self.take(entry)).count();
        entries.drain(..taken);
        entries.is_empty()
    }

    /// Takes those of the entries that are of a range. Where their keys do not fit, the range is narrowed, and the keys
    /// above it leave.
    pub fn take_within(&mut self, mut entries: Vec<Entry>, range: &mut HashRange) -> Result<(), Unfit> {
        entries.retain(|entry| range.contains(entry.hash));
        while !self.take_all(&mut entries) {
            if self.needs_whole {
                return Err(Unfit::Version);
            }
            *range = range.narrowed().ok_or(Unfit::Keys)?;
            self.retain(*range);
            entries.retain(|entry| range.contains(entry.hash));
        }
        Ok(())
    }

    /// Looks at all slots that entries belong to: so their waits for memory are one.
    fn touch(&self, entries: &[Entry]) {
        let (slots, words) = (self.slots(), self.form.words());
        let seen = entries.iter().fold(0, |seen, entry| {
            seen ^ self.words[home(self.lower(entry.hash), slots) * words]
        });
        black_box(seen);
    }

    fn lower(&self, hash: u128) -> u64 {
        (hash as u64).rotate_left(self.turned)
    }

    fn take(&mut self, entry: &Entry) -> bool {
        let room = self.len < self.capacity();
        let (lower, upper) = (self.lower(entry.hash), (entry.hash >> 64) as u64);
        let packed = entry.packed();
        let found = match self.form {
            Form::Unversioned => put(self.words.as_chunks_mut().0, [lower, upper, packed], room),
            Form::Packed(_) => {
                let Some(version) = self.pack(entry.version) else {
                    self.needs_whole = true;
                    return false;
                };
                put(
                    self.words.as_chunks_mut().0,
                    [lower, upper, version, packed],
                    room,
                )
            }
            Form::Whole => {
                let [high, low] = ordered(entry.version);
                put(
                    self.words.as_chunks_mut().0,
                    [lower, upper, high, low, packed],
                    room,
                )
            }
        };
        self.len += usize::from(found == Found::New);
        found != Found::Refused
    }

    /// `None` where one word cannot hold it exactly beside what is there.
    fn pack(&mut self, version: i128) -> Option<u64> {
        let Form::Packed(scale) = self.form else {
            return None;
        };
        if let Some(packed) = scale.pack(version) {
            return Some(packed);
        }
        let other = if self.len == 0 {
            Scale::from(version)
        } else {
            scale.finer(version)?
        };
        let packed = other.pack(version)?;
        self.repack(scale, other)?;
        self.form = Form::Packed(other);
        Some(packed)
    }

    /// Changes nothing where one does not fit.
    fn repack(&mut self, from: Scale, to: Scale) -> Option<()> {
        let repacked = |version| to.pack(from.unpack(version));
        let (slots, _) = self.words.as_chunks_mut::<4>();
        let taken = |slot: &&mut [u64; 4]| slot[3] != 0;
        if !slots
            .iter()
            .all(|slot| slot[3] == 0 || repacked(slot[2]).is_some())
        {
            return None;
        }
        for slot in slots.iter_mut().filter(taken) {
            slot[2] = repacked(slot[2])?;
        }
        Some(())
    }

    /// Takes these entries, hands out all as the bytes of a run, in no order, and is empty. Those for which there is no
    /// room are in the run as they are.
    pub fn hand_out(&mut self, others: &mut Vec<Entry>) -> Vec<u8> {
        self.take_all(others);
        let mut run = Vec::with_capacity((self.len + others.len()) * self.layout.entry_bytes());
        let slots = self.words.chunks_exact(self.form.words());
        for slot in slots.filter(|slot| slot.last() != Some(&0)) {
            if let Some(entry) = self.entry(slot) {
                self.layout.encode(&entry, &mut run);
            }
        }
        for entry in others.drain(..) {
            self.layout.encode(&entry, &mut run);
        }
        self.clear();
        run
    }

    fn entry(&self, slot: &[u64]) -> Option<Entry> {
        let (lower, upper, rest) = (*slot.first()?, *slot.get(1)?, slot.get(2..)?);
        let (version, packed) = match (self.form, rest) {
            (Form::Unversioned, [packed]) => (0, packed),
            (Form::Packed(scale), [version, packed]) => (scale.unpack(*version), packed),
            (Form::Whole, [high, low, packed]) => (version(*high, *low), packed),
            _ => return None,
        };
        let hash = u128::from(upper) << 64 | u128::from(lower.rotate_right(self.turned));
        Some(Entry::unpack(hash, version, *packed))
    }

    /// Forgets every key outside the range.
    fn retain(&mut self, range: HashRange) {
        self.len = match self.form {
            Form::Unversioned => retain::<3>(self.words.as_chunks_mut().0, range),
            Form::Packed(_) => retain::<4>(self.words.as_chunks_mut().0, range),
            Form::Whole => retain::<5>(self.words.as_chunks_mut().0, range),
        };
    }

    pub fn clear(&mut self) {
        if self.len > 0 {
            self.words.fill(0);
            self.len = 0;
        }
        if self.needs_whole {
            self.form = Form::Whole;
            self.needs_whole = false;
        }
    }

    /// The positions in ascending order, those of expired tombstones only if they are kept. Takes no memory for
    /// it: afterwards the table is of no use until it is cleared.
    pub fn survivors(&mut self, keep_expired: bool) -> impl Iterator<Item = Position> + '_ {
        let words = self.form.words();
        let mut count = 0;
        for end in (words..=self.words.len()).step_by(words) {
            let packed = self.words[end - 1];
            if packed != 0 && (keep_expired || packed & 1 == 0) {
                self.words[count] = packed;
                count += 1;
            }
        }
        let survivors = &mut self.words[..count];
        survivors.sort_unstable();
        survivors.iter().map(|packed| Position::from_number(packed >> 1))
    }
}

#[derive(PartialEq)]
enum Found {
    New,
    Known,
    Refused,
}

/// Where a hash is looked for first. By its lower half: a pass has all its keys from a small range of the upper half.
fn home(lower: u64, slots: usize) -> usize {
    ((u128::from(lower) * slots as u128) >> 64) as usize
}

/// Puts a slot in its place if it is newer than what is there. The last word is never zero where one is taken.
fn put<const WORDS: usize>(slots: &mut [[u64; WORDS]], new: [u64; WORDS], room: bool) -> Found {
    let home = home(new[0], slots.len());
    let (before, from) = slots.split_at_mut(home);
    for slot in from.iter_mut().chain(before) {
        if slot[WORDS - 1] == 0 {
            if room {
                *slot = new;
                return Found::New;
            }
            return Found::Refused;
        }
        if slot[..2] == new[..2] {
            if new[2..] > slot[2..] {
                *slot = new;
            }
            return Found::Known;
        }
    }
    Found::Refused
}

/// Returns how many keys are left. Each slot is put anew, from one that was free on: so those before it are in their
/// places already, and it finds one that is no further from where it belongs than its own was.
fn retain<const WORDS: usize>(slots: &mut [[u64; WORDS]], range: HashRange) -> usize {
    let free = slots.iter().position(|slot| slot[WORDS - 1] == 0).unwrap_or(0);
    let mut left = 0;
    for at in (free..slots.len()).chain(0..free) {
        let slot = std::mem::replace(&mut slots[at], [0; WORDS]);
        if slot[WORDS - 1] != 0 && range.contains(u128::from(slot[1]) << 64) {
            put(slots, slot, true);
            left += 1;
        }
    }
    left
}

/// The halves of a version, the order of whose words is its own.
fn ordered(version: i128) -> [u64; 2] {
    let bits = version as u128 ^ (1 << 127);
    [(bits >> 64) as u64, bits as u64]
}

fn version(high: u64, low: u64) -> i128 {
    let bits = u128::from(high) << 64 | u128::from(low);
    (bits ^ (1 << 127)) as i128
}
