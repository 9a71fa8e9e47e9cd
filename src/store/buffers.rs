//! Memory of bytes that are done with, for those that come. What is new from the system is cleared page by page first, and
//! is in no cache.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

pub(crate) struct Buffers {
    /// Of what is kept. What is smaller costs nothing, and what is larger is rare.
    sizes: RangeInclusive<usize>,
    /// Bytes that are kept at most.
    most: AtomicUsize,
    idle: Mutex<Vec<Vec<u8>>>,
}

/// Without what is in them.
impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Buffers")
    }
}

impl Buffers {
    pub(crate) fn new(sizes: RangeInclusive<usize>, most: usize) -> Arc<Self> {
        Arc::new(Self {
            sizes,
            most: most.into(),
            idle: Mutex::default(),
        })
    }

    /// From now on.
    pub(crate) fn keep_at_most(&self, bytes: usize) {
        self.most.store(bytes, Relaxed);
        if let Ok(mut idle) = self.idle.lock() {
            self.trim(&mut idle);
        }
    }

    fn trim(&self, idle: &mut Vec<Vec<u8>>) {
        let most = self.most.load(Relaxed);
        while idle.iter().map(Vec::capacity).sum::<usize>() > most {
            // The oldest: sizes that are not asked for any more go.
            idle.remove(0);
        }
    }

    /// Empty, with room for `size` bytes and less than twice as many.
    pub(crate) fn take(&self, size: usize) -> Vec<u8> {
        let known = self.idle.lock().ok().and_then(|mut idle| {
            let fits = |bytes: &Vec<u8>| (size..2 * size).contains(&bytes.capacity());
            let at = idle.iter().position(fits)?;
            Some(idle.swap_remove(at))
        });
        known.unwrap_or_else(|| Vec::with_capacity(size))
    }

    /// These bytes, whose memory is kept when the last piece of them is dropped.
    pub(crate) fn share(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        if !self.sizes.contains(&bytes.capacity()) {
            return bytes.into();
        }
        let home = Arc::clone(self);
        Bytes::from_owner(Shared { bytes, home })
    }

    fn keep(&self, mut bytes: Vec<u8>) {
        if let Ok(mut idle) = self.idle.lock() {
            bytes.clear();
            idle.push(bytes);
            self.trim(&mut idle);
        }
    }
}

struct Shared {
    bytes: Vec<u8>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.home.keep(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn buffers() -> Arc<Buffers> {
        Buffers::new(MIB..=4 * MIB, 5 * MIB)
    }

    fn idle(buffers: &Buffers) -> Vec<usize> {
        let idle = buffers.idle.lock().unwrap();
        idle.iter().map(Vec::capacity).collect()
    }

    #[test]
    fn memory_is_kept_with_the_last_piece_and_is_taken_again_empty() {
        let buffers = buffers();
        let mut bytes = buffers.take(2 * MIB);
        bytes.extend_from_slice(&vec![7; 2 * MIB]);
        let place = bytes.as_ptr();
        let mut whole = buffers.share(bytes);
        let piece = whole.split_to(10);
        drop(whole);
        assert_eq!((&piece[..], idle(&buffers)), (&[7; 10][..], vec![]));
        drop(piece);
        let again = buffers.take(2 * MIB - 1);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert_eq!(idle(&buffers), [0; 0]);
    }

    #[test]
    fn only_a_few_of_the_usual_sizes_are_kept() {
        let buffers = buffers();
        drop([100, MIB - 1, 4 * MIB + 1].map(|size| buffers.share(buffers.take(size))));
        assert_eq!(idle(&buffers), [0; 0]);
        drop([1, 4, 2, 3].map(|size| buffers.share(buffers.take(size * MIB))));
        assert_eq!(idle(&buffers), [2 * MIB, 3 * MIB]);
        buffers.keep_at_most(4 * MIB);
        assert_eq!(idle(&buffers), [3 * MIB]);
        // Too small for one, and twice too large for another.
        assert_eq!(buffers.take(4 * MIB).capacity(), 4 * MIB);
        assert_eq!(buffers.take(MIB).capacity(), MIB);
    }
}
