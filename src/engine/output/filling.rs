//! The part that is being filled: bytes are appended in place, and whole parts come out. Knows nothing of uploads.

use std::sync::Arc;

use bytes::Bytes;

use crate::format::PIECE_BYTES;
use crate::store::Buffers;

pub(super) struct Filling {
    part_bytes: usize,
    /// Less than a part, unless bytes were appended that are not taken over yet.
    bytes: Vec<u8>,
    /// So many of these are taken over.
    taken: usize,
    /// Memory of parts that are stored.
    buffers: Arc<Buffers>,
}

impl Filling {
    pub(super) fn new(part_bytes: usize) -> Self {
        Self {
            part_bytes,
            bytes: Vec::new(),
            taken: 0,
            buffers: Buffers::new(part_bytes..=part_bytes + PIECE_BYTES, 0),
        }
    }

    /// Goes on with bytes that were taken over before.
    pub(super) fn go_on(&mut self, tail: &[u8]) {
        self.bytes.extend_from_slice(tail);
        self.taken = self.bytes.len();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where bytes are appended. Has room for a piece: little at first, as most outputs may be small, and never much
    /// more than a part.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        let (bytes, most) = (&mut self.bytes, self.part_bytes + PIECE_BYTES);
        if bytes.capacity() - bytes.len() < PIECE_BYTES && bytes.len() < most {
            let capacity = (2 * bytes.capacity()).max(4 * PIECE_BYTES).min(most);
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes
    }

    /// What was appended since the last time.
    pub(super) fn take_over(&mut self) -> &[u8] {
        let appended = &self.bytes[self.taken..];
        self.taken = self.bytes.len();
        appended
    }

    /// A whole part, if there is one.
    pub(super) fn part(&mut self) -> Option<Bytes> {
        if self.bytes.len() < self.part_bytes {
            return None;
        }
        let rest = &self.bytes[self.part_bytes..];
        let mut next = Vec::new();
        if !rest.is_empty() {
            next = self.buffers.take(rest.len().max(self.part_bytes + PIECE_BYTES));
            next.extend_from_slice(rest);
        }
        let mut part = std::mem::replace(&mut self.bytes, next);
        part.truncate(self.part_bytes);
        self.taken = self.bytes.len();
        Some(self.buffers.share(part))
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> Bytes {
        self.taken = 0;
        std::mem::take(&mut self.bytes).into()
    }

    /// Memory of so many parts is kept, at most.
    pub(super) fn keep_parts(&self, parts: usize) {
        self.buffers.keep_at_most(parts * (self.part_bytes + PIECE_BYTES));
    }
}
