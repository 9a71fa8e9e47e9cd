//! The records of one object: read in ranges, decoded, split at newlines and summed up, in memory that
//! grows neither with the object nor with its longest record.

use std::io::{self, Write};
use std::ops::AddAssign;
use std::sync::Arc;

use crc_fast::{CrcAlgorithm, Digest as Crc};
use flate2::write::MultiGzDecoder;
use sha2::{Digest, Sha256};
use tokio::task::{self, JoinError};
use zstd::stream::{raw, zio};

use super::latest::{Mark, Marker};
use crate::store::{self, Store};

/// One ranged read. Bytes.
const READ_BYTES: u64 = 4 << 20;

/// What a number of records have in common whatever their order: how many they are, and the sum of 128
/// bits of their SHA-256 each. Equal for the same records only, as far as chance goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub count: u64,
    sum: u128,
}

impl AddAssign for Records {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// What an object turned out to hold.
#[derive(Debug)]
pub(super) struct Content {
    pub records: Records,
    /// Of the stored bytes.
    pub crc64nvme: u64,
    /// What was found out about records, where that was asked for.
    pub marks: Vec<Mark>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("{0}")]
    Undecodable(#[from] io::Error),
    #[error("its decoder broke down: {0}")]
    Decoder(#[from] JoinError),
}

/// Reads one version of an object from beginning to end. No thread waits for the store.
pub(super) async fn read(
    store: &Arc<dyn Store>,
    key: &str,
    etag: &str,
    size: u64,
    marker: Option<Marker>,
) -> Result<Content, Unreadable> {
    let mut crc = Crc::new(CrcAlgorithm::Crc64Nvme);
    let mut decoder = Decoder::None(Splitter::with(marker.clone()));
    let mut at = 0;
    while at < size {
        let to = size.min(at + READ_BYTES);
        let chunk = store.read(key, at..to, etag).await?;
        crc.update(&chunk);
        if at == 0 {
            decoder = Decoder::of(&chunk, marker.clone())?;
        }
        decoder = task::spawn_blocking(move || decoder.push(&chunk)).await??;
        at = to;
    }
    let (records, marks) = decoder.finish()?;
    Ok(Content {
        records,
        crc64nvme: crc.finalize(),
        marks,
    })
}

/// Decodes stored bytes into records.
enum Decoder {
    None(Splitter),
    Gzip(Box<MultiGzDecoder<Splitter>>),
    Zstd(Box<zio::Writer<Splitter, raw::Decoder<'static>>>),
}

impl Decoder {
    /// For an object that begins so. A zstd stream may begin with a skippable frame.
    fn of(head: &[u8], marker: Option<Marker>) -> io::Result<Self> {
        let records = Splitter::with(marker);
        Ok(match head {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(records))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Self::Zstd(Box::new(zio::Writer::new(records, raw::Decoder::new()?)))
            }
            _ => Self::None(records),
        })
    }

    fn push(mut self, stored: &[u8]) -> io::Result<Self> {
        match &mut self {
            Self::None(records) => records.write_all(stored)?,
            Self::Gzip(gzip) => gzip.write_all(stored)?,
            Self::Zstd(zstd) => zstd.write_all(stored)?,
        }
        Ok(self)
    }

    /// An object that ends inside a member or frame is an error.
    fn finish(self) -> io::Result<(Records, Vec<Mark>)> {
        let records = match self {
            Self::None(records) => records,
            Self::Gzip(gzip) => gzip.finish()?,
            Self::Zstd(mut zstd) => {
                zstd.finish()?;
                zstd.into_inner().0
            }
        };
        Ok(records.finish())
    }
}

/// Splits raw bytes into records: what a newline ends, or the end of the object. The newline does not
/// belong to the record; a carriage return does.
#[derive(Default)]
struct Splitter {
    records: Records,
    /// Hash of the record so far.
    record: Sha256,
    inside: bool,
    /// With the record so far.
    marker: Option<Box<(Marker, Vec<u8>)>>,
}

impl Write for Splitter {
    fn write(&mut self, raw: &[u8]) -> io::Result<usize> {
        let mut rest = raw;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.update(&rest[..end]);
            self.end_record();
            rest = &rest[end + 1..];
        }
        self.update(rest);
        self.inside |= !rest.is_empty();
        Ok(raw.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Splitter {
    fn with(marker: Option<Marker>) -> Self {
        Self {
            marker: marker.map(|marker| Box::new((marker, Vec::new()))),
            ..Self::default()
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.record.update(bytes);
        if let Some(marked) = &mut self.marker {
            marked.1.extend_from_slice(bytes);
        }
    }

    fn end_record(&mut self) {
        if let Some((marker, record)) = self.marker.as_deref_mut() {
            marker.take(record);
            record.clear();
        }
        let hash = self.record.finalize_reset();
        let sum = hash
            .iter()
            .take(16)
            .fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        self.records += Records { count: 1, sum };
        self.inside = false;
    }

    fn finish(mut self) -> (Records, Vec<Mark>) {
        if self.inside {
            self.end_record();
        }
        (
            self.records,
            self.marker.map_or_else(Vec::new, |marked| marked.0.marks),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(pieces: &[&[u8]]) -> Records {
        let mut records = Splitter::default();
        for piece in pieces {
            records.write_all(piece).unwrap();
        }
        records.finish().0
    }

    #[test]
    fn records_are_what_newlines_end_or_the_end_of_the_object() {
        let counts: [(&[u8], u64); 7] = [
            (b"", 0),
            (b"\n", 1),
            (b"a", 1),
            (b"a\n", 1),
            (b"a\n\n", 2),
            (b"a\nb", 2),
            (b"a\r\nb\r\n", 2),
        ];
        for (raw, count) in counts {
            assert_eq!(records(&[raw]).count, count, "{raw:?}");
        }
    }

    #[test]
    fn the_pieces_in_which_bytes_come_do_not_matter() {
        let raw = b"a\n\nbc\r\n\nd";
        for first in 0..=raw.len() {
            for second in first..=raw.len() {
                let pieces = [&raw[..first], &raw[first..second], &raw[second..]];
                assert_eq!(records(&pieces), records(&[raw]), "{pieces:?}");
            }
        }
    }

    #[test]
    fn only_the_same_records_have_the_same_sum() {
        let sum = records(&[b"a\nb\nb\n"]);
        assert_eq!(records(&[b"b\na\nb"]), sum);
        for other in [
            &b"a\nb\n"[..],
            b"a\na\nb\n",
            b"a\nb\nc\n",
            b"ab\nb\n\n",
            b"a\nb\nb\r\n",
        ] {
            assert_ne!(records(&[other]), sum, "{other:?}");
        }
    }
}
