//! How the bytes in memory at one time are divided (I5).

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
    /// The most that one read asks for. Bytes.
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
    pub const DEFAULT_BYTES: u64 = 64 << 20;
    /// The usual size of a read: large enough for throughput, small enough to have several in a window.
    pub const READ_BYTES: u64 = 4 << 20;

    /// The smallest window for parts and reads of these sizes: the merge, two parts and two reads.
    pub const fn least(part_bytes: u64, read_bytes: u64) -> u64 {
        MERGE_BYTES + 2 * part_bytes + 2 * read_bytes
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

#[cfg(test)]
mod tests {
    use super::*;

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
                uploads: 3,
                read_bytes: 16 << 20
            }
        );
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
