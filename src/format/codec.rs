//! The compressions that stored bytes may have: how they are told apart, and the one way in which
//! each is written. Encoding is a function of the raw bytes alone: no encoder outlives a call, so
//! nothing that was merged before can move a byte of a frame (I3).

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::io::Cursor;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use serde::{Deserialize, Serialize};
use zstd::zstd_safe::{CCtx, CParameter, SafeResult, compress_bound};

const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// Deflate, no flags, no time, no extra flags, operating system unknown: the same everywhere.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// How stored bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    None,
    Gzip,
    Zstd,
}

impl Codec {
    pub const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// So many first bytes tell the codec of a source.
    pub(super) const HEAD: usize = 4;

    /// The codec of a source that begins with `head`: [`Self::HEAD`] bytes, or all that it has.
    pub(super) fn of(head: &[u8]) -> Self {
        [Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|codec| codec.begins(head) == Some(true))
            .unwrap_or(Self::None)
    }

    /// Whether a gzip member or zstd frame begins with `head`; `None` while that is too short to tell.
    /// A skippable zstd frame is a frame too.
    pub(super) fn begins(self, head: &[u8]) -> Option<bool> {
        let is = |magic: &[u8]| {
            let common = head.len().min(magic.len());
            (head[..common] != magic[..common])
                .then_some(false)
                .or((common == magic.len()).then_some(true))
        };
        match self {
            Self::None => Some(true),
            Self::Gzip => is(&[0x1f, 0x8b]),
            Self::Zstd => match head.first() {
                Some(first @ 0x50..=0x5f) => is(&[*first, 0x2a, 0x4d, 0x18]),
                _ => is(&[0x28, 0xb5, 0x2f, 0xfd]),
            },
        }
    }

    /// What the name of an output of this codec ends with.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// What made the bytes of [`Self::encode`]. Another text for every change that moves a byte.
    pub(super) fn encoder_version(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip/6/zlib-rs-0.6.8",
            Self::Zstd => "zstd/3/1.5.7",
        }
    }

    /// Appends `raw` as one gzip member or zstd frame.
    pub(super) fn encode(self, raw: &[u8], out: &mut Vec<u8>) {
        let done = match self {
            Self::None => {
                out.extend_from_slice(raw);
                true
            }
            Self::Gzip => encode_gzip(raw, out),
            Self::Zstd => encode_zstd(raw, out).is_ok(),
        };
        // With room for the worst case an encoder fails only where it gets no memory for its state;
        // that ends a Rust program everywhere else too.
        if !done {
            handle_alloc_error(Layout::for_value(raw));
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

fn encode_gzip(raw: &[u8], out: &mut Vec<u8>) -> bool {
    // Incompressible bytes grow by 5 in every 16 KiB.
    out.reserve(raw.len() + raw.len() / 1024 + 64);
    out.extend_from_slice(&GZIP_HEADER);
    let mut deflate = Compress::new(Compression::new(GZIP_LEVEL), false);
    loop {
        let rest = &raw[deflate.total_in() as usize..];
        match deflate.compress_vec(rest, out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => break,
            Ok(_) => out.reserve(1024),
            Err(_) => return false,
        }
    }
    let mut crc = Crc::new();
    crc.update(raw);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
    true
}

fn encode_zstd(raw: &[u8], out: &mut Vec<u8>) -> SafeResult {
    out.reserve(compress_bound(raw.len()));
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL))?;
    context.set_parameter(CParameter::ChecksumFlag(true))?;
    let end = out.len() as u64;
    let mut rest = Cursor::new(out);
    rest.set_position(end);
    context.compress2(&mut rest, raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    const LOCK: &str = include_str!("../../Cargo.lock");

    fn locked(name: &str) -> &'static str {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let (_, rest) = LOCK.split_once(&entry).unwrap();
        rest.split_once('"').unwrap().0
    }

    fn encoded(codec: Codec, raw: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        codec.encode(raw, &mut out);
        assert_eq!(&out[..6], b"before");
        out.split_off(6)
    }

    /// Text that compresses like a log, without a library that may change.
    fn text(len: usize) -> Vec<u8> {
        let words = [
            &b"level=info "[..],
            b"level=error ",
            b"took=",
            b"path=/v1/objects ",
            b"retry\n",
            b"ok\n",
        ];
        let mut state = 1_u32;
        let mut raw = Vec::new();
        while raw.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match state >> 28 {
                0..6 => raw.extend_from_slice(words[state as usize >> 8 & 3]),
                6..9 => raw.extend_from_slice(words[4 + (state as usize >> 8 & 1)]),
                _ => raw.extend_from_slice(format!("{:x} ", state >> 8).as_bytes()),
            }
        }
        raw
    }

    #[test]
    fn the_first_bytes_tell_the_codec() {
        let told = [
            (&b""[..], Codec::None),
            (b"\x1f", Codec::None),
            (b"\x1f\x8b", Codec::Gzip),
            (b"\x1f\x8c\x08\x00", Codec::None),
            (b"\x28\xb5\x2f", Codec::None),
            (b"\x28\xb5\x2f\xfd", Codec::Zstd),
            (b"\x50\x2a\x4d\x18", Codec::Zstd),
            (b"\x5f\x2a\x4d\x18", Codec::Zstd),
            (b"\x60\x2a\x4d\x18", Codec::None),
            (b"{\"a\"", Codec::None),
        ];
        for (head, codec) in told {
            assert_eq!(Codec::of(head), codec, "{head:x?}");
        }
    }

    #[test]
    fn the_encoder_versions_name_the_locked_libraries() {
        assert_eq!(
            Codec::Gzip.encoder_version(),
            format!("gzip/{GZIP_LEVEL}/zlib-rs-{}", locked("zlib-rs"))
        );
        let (_, libzstd) = locked("zstd-sys").split_once("+zstd.").unwrap();
        assert_eq!(
            Codec::Zstd.encoder_version(),
            format!("zstd/{ZSTD_LEVEL}/{libzstd}")
        );
        // It sets zlib-rs up. Where a new version does so otherwise, the next test shows it.
        assert_eq!(locked("flate2"), "1.1.11");
    }

    #[test]
    fn the_encoded_bytes_are_those_of_this_encoder_version() {
        let digest = |codec| hex::encode(&Sha256::digest(encoded(codec, &text(3 << 20)))[..8]);
        assert_eq!(
            digest(Codec::Gzip),
            "2ba2468a6f3d6f36",
            "another encoder_version is due"
        );
        assert_eq!(
            digest(Codec::Zstd),
            "7d57baccbf539dc1",
            "another encoder_version is due"
        );
    }

    #[test]
    fn incompressible_bytes_are_encoded_in_one_go() {
        let mut state = 7_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(1 << 20)
        .collect();
        for raw in [&noise[..], &noise[..1], b""] {
            let gzip = encoded(Codec::Gzip, raw);
            assert!(gzip.len() <= raw.len() + raw.len() / 1024 + 64);
            let mut back = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&gzip[..]), &mut back).unwrap();
            assert_eq!(back, raw);
            assert_eq!(zstd::decode_all(&encoded(Codec::Zstd, raw)[..]).unwrap(), raw);
        }
    }
}
