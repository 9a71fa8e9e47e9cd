//! How the bytes in memory at one time are divided (I5).

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::Error;
use crate::api::{CUT_BYTES, MAX_RECORD_BYTES};

/// What the merge itself may hold: a frame, a record, and the frame encoded.
const MERGE_BYTES: u64 = CUT_BYTES + MAX_RECORD_BYTES + CUT_BYTES;

/// Bytes in memory at one time. Independent of the batch size: a small window makes a worker slow, it
/// cannot stop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub bytes: u64,
    /// Parts in flight, at most.
    pub uploads: usize,
    /// Reads in flight, at most.
    pub reads: usize,
    /// What one read asks for, and where there is room for three, up to twice as much. Bytes.
    pub read_bytes: u64,
}

/// The window of one worker, divided for parts of a certain size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Parts in flight beside the one that is being filled.
    pub uploads: usize,
    /// Bytes of reads that are in flight or waiting to be merged.
    pub read_bytes: u64,
}

impl Window {
    /// The default, which keeps a worker below 128 MiB of memory.
    pub const DEFAULT_BYTES: u64 = 80 << 20;
    /// The usual size of a read: large enough for throughput, small enough to have several in a window.
    pub const READ_BYTES: u64 = 4 << 20;

    /// The smallest window for parts and reads of these sizes: the merge, two parts and two reads.
    pub const fn least(part_bytes: u64, read_bytes: u64) -> u64 {
        MERGE_BYTES + 2 * part_bytes + 2 * read_bytes
    }

    /// What one read asks for at most, where reads have so many bytes together. A request costs a store as much as
    /// megabytes do; too few at a time would wait for each other.
    pub(crate) fn read_bytes_of(self, share_bytes: u64) -> u64 {
        (share_bytes / 3).clamp(self.read_bytes, 2 * self.read_bytes)
    }

    pub(crate) fn shares(self, part_bytes: u64) -> Result<Shares, Error> {
        let least = Self::least(part_bytes, self.read_bytes);
        if self.bytes < least {
            return Err(Error::WindowTooSmall {
                window: self.bytes,
                part: part_bytes,
                least,
            });
        }
        let free = self.bytes - MERGE_BYTES;
        // Two thirds for the part being filled and those in flight; the rest reads ahead.
        let parts = (free * 2 / 3 / part_bytes).clamp(2, self.uploads as u64 + 1);
        Ok(Shares {
            uploads: parts as usize - 1,
            read_bytes: free - parts * part_bytes,
        })
    }
}

/// Room is counted in units of this many bytes, so that the largest part fits a semaphore's numbers.
const UNIT: u64 = 64;

/// A share of the window: bytes take room in it before they are there.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    free: Arc<Semaphore>,
    given_back: Arc<Notify>,
}

/// Given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    taken: Option<OwnedSemaphorePermit>,
    given_back: Arc<Notify>,
}

impl Share {
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            free: Arc::new(Semaphore::new(units(bytes) as usize)),
            given_back: Arc::default(),
        }
    }

    fn room(&self, taken: Option<OwnedSemaphorePermit>) -> Room {
        let given_back = Arc::clone(&self.given_back);
        Room { taken, given_back }
    }

    pub(crate) fn try_take(&self, bytes: u64) -> Option<Room> {
        let taken = Arc::clone(&self.free).try_acquire_many_owned(units(bytes));
        taken.ok().map(|taken| self.room(Some(taken)))
    }

    /// Waits for room; first come, first served. For more than the share it waits for ever.
    pub(crate) async fn take(&self, bytes: u64) -> Room {
        // Nobody closes the semaphore.
        let taken = Arc::clone(&self.free).acquire_many_owned(units(bytes)).await;
        self.room(taken.ok())
    }

    /// Waits until there is room for `spare` bytes as well, which stay free. Nobody waits behind this one: it may
    /// wait for ever.
    pub(crate) async fn take_beside(&self, spare: u64, bytes: u64) -> Room {
        let all = units(bytes) + units(spare);
        loop {
            if let Ok(mut taken) = Arc::clone(&self.free).try_acquire_many_owned(all) {
                drop(taken.split(units(spare) as usize));
                return self.room(Some(taken));
            }
            self.given_back.notified().await;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken = None;
        self.given_back.notify_one();
    }
}

fn units(bytes: u64) -> u32 {
    bytes.div_ceil(UNIT) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_lent_leaves_the_spare_room_free() {
        let share = Share::new(24 << 20);
        let (part, read) = (8 << 20, 4 << 20);
        let mut lent = Vec::new();
        let second = std::time::Duration::from_secs(1);
        while let Ok(room) = tokio::time::timeout(second, share.take_beside(part, read)).await {
            lent.push(room);
        }
        assert_eq!(lent.len(), 4);
        let sent = share.try_take(part).unwrap();
        assert!(share.try_take(1).is_none());
        let again = tokio::spawn({
            let share = share.clone();
            async move { share.take_beside(part, read).await }
        });
        tokio::task::yield_now().await;
        drop(lent.pop());
        assert!(!again.is_finished());
        // A part does not wait behind a read.
        drop(sent);
        let sent = share.take(part).await;
        drop((sent, lent));
        drop(again.await.unwrap());
        assert!(share.try_take(24 << 20).is_some());
    }

    #[test]
    fn the_default_window_holds_the_default_parts_and_reads() {
        let window = Window {
            bytes: Window::DEFAULT_BYTES,
            uploads: 4,
            reads: 64,
            read_bytes: Window::READ_BYTES,
        };
        let shares = window.shares(8 << 20).unwrap();
        assert_eq!(
            shares,
            Shares {
                uploads: 4,
                read_bytes: 24 << 20
            }
        );
        assert_eq!(window.read_bytes_of(shares.read_bytes), 8 << 20);
        assert_eq!(window.read_bytes_of(9 << 20), 4 << 20);
    }

    #[test]
    fn shares_never_exceed_the_window_and_always_allow_one_step() {
        for bytes in (1..400).map(|m| m << 20) {
            for part in [5 << 20, 8 << 20, 64 << 20] {
                let window = Window {
                    bytes,
                    uploads: 4,
                    reads: 64,
                    read_bytes: Window::READ_BYTES,
                };
                if let Ok(shares) = window.shares(part) {
                    assert!(MERGE_BYTES + (shares.uploads as u64 + 1) * part + shares.read_bytes <= bytes);
                    assert!(shares.uploads >= 1 && shares.read_bytes >= Window::READ_BYTES);
                }
            }
        }
    }
}
