//! Memory of reads that are over, for those that come. What is new from the system is cleared page by page first, and is
//! in no cache.

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

/// Sizes of the reads that objects are read in. What is smaller costs nothing, and what is larger is rare.
const SIZES: std::ops::RangeInclusive<usize> = (1 << 20)..=(4 << 20);
/// Of a worker that reads in order, one read ends when another begins.
const IDLE: usize = 2;

#[derive(Default)]
pub(super) struct Buffers {
    idle: Mutex<Vec<Vec<u8>>>,
}

/// Without what is in them.
impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Buffers")
    }
}

/// Empty at first, with room for what was asked for. Goes back when all that was made of it is dropped.
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    home: Option<Arc<Buffers>>,
}

impl Buffers {
    pub(super) fn lend(self: &Arc<Self>, size: usize) -> Buffer {
        let returns = SIZES.contains(&size);
        let known = if returns { self.take(size) } else { None };
        Buffer {
            bytes: known.unwrap_or_else(|| Vec::with_capacity(size)),
            home: returns.then(|| Arc::clone(self)),
        }
    }

    /// One that is neither too small nor twice too large.
    fn take(&self, size: usize) -> Option<Vec<u8>> {
        let mut idle = self.idle.lock().ok()?;
        let fits = |bytes: &Vec<u8>| (size..2 * size).contains(&bytes.capacity());
        let at = idle.iter().position(fits)?;
        Some(idle.swap_remove(at))
    }

    fn give_back(&self, mut bytes: Vec<u8>) {
        if let Ok(mut idle) = self.idle.lock()
            && SIZES.contains(&bytes.capacity())
        {
            bytes.clear();
            idle.push(bytes);
            if idle.len() > IDLE {
                // The oldest: sizes that are not asked for any more go.
                idle.remove(0);
            }
        }
    }
}

impl Buffer {
    pub(super) fn freeze(mut self) -> Bytes {
        if self.home.is_none() {
            return std::mem::take(&mut self.bytes).into();
        }
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            home.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn idle(buffers: &Buffers) -> Vec<usize> {
        let idle = buffers.idle.lock().unwrap();
        idle.iter().map(Vec::capacity).collect()
    }

    #[test]
    fn memory_goes_back_with_the_last_piece_and_is_lent_again_empty() {
        let buffers = Arc::<Buffers>::default();
        let mut buffer = buffers.lend(2 * MIB);
        buffer.bytes.extend_from_slice(&vec![7; 2 * MIB]);
        let place = buffer.bytes.as_ptr();
        let mut whole = buffer.freeze();
        let piece = whole.split_to(10);
        drop(whole);
        assert_eq!((&piece[..], idle(&buffers)), (&[7; 10][..], vec![]));
        drop(piece);
        let again = buffers.lend(2 * MIB - 1);
        assert_eq!((again.bytes.as_ptr(), again.bytes.len()), (place, 0));
        assert_eq!(idle(&buffers), [0; 0]);
    }

    #[test]
    fn only_a_few_of_the_usual_sizes_are_kept() {
        let buffers = Arc::<Buffers>::default();
        drop([100, MIB - 1, 4 * MIB + 1].map(|size| buffers.lend(size)));
        assert_eq!(idle(&buffers), [0; 0]);
        drop([1, 4, 2, 3].map(|size| buffers.lend(size * MIB).freeze()));
        assert_eq!(idle(&buffers), [2 * MIB, 3 * MIB]);
        // Too small for one, and twice too large for another.
        assert_eq!(buffers.lend(4 * MIB).bytes.capacity(), 4 * MIB);
        assert_eq!(buffers.lend(MIB).bytes.capacity(), MIB);
    }
}
