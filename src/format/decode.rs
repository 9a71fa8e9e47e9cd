//! Gzip members and zstd frames, decoded in bounded steps with their ends seen exactly.
//!
//! Nothing is believed: checksums are checked, what follows a member must be another one, and a
//! frame that asks for more memory than [`MAX_WINDOW`] is refused before any is given to it.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{DCtx, DParameter, ErrorCode, InBuffer, OutBuffer, get_error_name};

use super::{BadSource, Codec};

/// The most memory that a zstd frame may ask for, as the zstd format recommends to decoders: all
/// levels but the `--ultra` and `--long` ones stay within it.
const MAX_WINDOW_LOG: u32 = 23;
const MAX_WINDOW: u64 = 1 << MAX_WINDOW_LOG;

const GZIP_WINDOW_BITS: u8 = 15;

/// What one step came to.
pub(super) struct Decoded {
    /// Stored bytes that are used up.
    pub(super) stored: usize,
    /// The member has ended right after these, and its checksums are right.
    pub(super) end: bool,
}

/// Decodes the members of one codec, one after another.
pub(super) trait Members: Send {
    /// Looks at the start of a member in `input`; false as long as more of it must be seen.
    fn begin(&mut self, input: &[u8]) -> Result<bool, BadSource>;
    /// Decodes from `input`, all unused bytes of the member so far, into the spare capacity of `raw`.
    /// Where that is too small for all, the last byte of the member at least is left unused.
    fn decode(&mut self, input: &[u8], raw: &mut Vec<u8>) -> Result<Decoded, BadSource>;
}

pub(super) struct Gzip(Decompress);

impl Default for Gzip {
    fn default() -> Self {
        Self(Decompress::new_gzip(GZIP_WINDOW_BITS))
    }
}

impl Members for Gzip {
    fn begin(&mut self, input: &[u8]) -> Result<bool, BadSource> {
        let seen = has_magic(Codec::Gzip, input)?;
        if seen {
            // A reset would do the same: it does not keep the gzip mode.
            *self = Self::default();
        }
        Ok(seen)
    }

    fn decode(&mut self, input: &[u8], raw: &mut Vec<u8>) -> Result<Decoded, BadSource> {
        let before = self.0.total_in();
        let step = self.0.decompress_vec(input, raw, FlushDecompress::None);
        let status =
            step.map_err(|error| corrupt(Codec::Gzip, error.message().unwrap_or("invalid deflate data")))?;
        Ok(Decoded {
            stored: (self.0.total_in() - before) as usize,
            end: status == Status::StreamEnd,
        })
    }
}

/// The decoder takes a short cut past its own checks where it is given a whole small frame at once.
/// What is refused may not depend on how a source comes in chunks: so the window and the content
/// size that a frame names are looked at here, and no frame is begun before its header is whole.
#[derive(Default)]
pub(super) struct Zstd {
    context: Option<DCtx<'static>>,
    /// What the frame says that it holds, and what it held so far.
    content_size: Option<u64>,
    content: u64,
}

impl Zstd {
    fn context(&mut self) -> Result<&mut DCtx<'static>, ErrorCode> {
        match &mut self.context {
            Some(context) => Ok(context),
            empty => {
                let mut context = DCtx::create();
                context.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
                Ok(empty.insert(context))
            }
        }
    }
}

impl Members for Zstd {
    fn begin(&mut self, input: &[u8]) -> Result<bool, BadSource> {
        if !has_magic(Codec::Zstd, input)? {
            return Ok(false);
        }
        let Some(FrameHeader { window, content_size }) = FrameHeader::of(input) else {
            return Ok(false);
        };
        if window > MAX_WINDOW {
            let detail =
                format!("a frame needs a window of {window} bytes, and at most {MAX_WINDOW} are allowed");
            return Err(corrupt(Codec::Zstd, &detail));
        }
        self.content_size = content_size;
        self.content = 0;
        Ok(true)
    }

    fn decode(&mut self, input: &[u8], raw: &mut Vec<u8>) -> Result<Decoded, BadSource> {
        let at = raw.len();
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around_pos(raw, at);
        let step = self
            .context()
            .and_then(|context| context.decompress_stream(&mut to, &mut from));
        let end = step.map_err(zstd_error)? == 0;
        self.content += (to.pos() - at) as u64;
        if end && self.content_size.is_some_and(|size| size != self.content) {
            return Err(corrupt(Codec::Zstd, "a frame does not hold as much as it says"));
        }
        Ok(Decoded {
            stored: from.pos(),
            end,
        })
    }
}

/// What a frame asks for and promises (RFC 8878, 3.1.1.1). A skippable one does neither.
#[derive(Default)]
struct FrameHeader {
    window: u64,
    content_size: Option<u64>,
}

impl FrameHeader {
    /// `None` until the header is whole.
    fn of(frame: &[u8]) -> Option<Self> {
        let descriptor = *frame.get(4)?;
        if frame[0] != 0x28 {
            return Some(Self::default());
        }
        let single_segment = descriptor >> 5 & 1 == 1;
        let dictionary = 5 + usize::from(!single_segment);
        let content = dictionary + [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content_len = [usize::from(single_segment), 2, 4, 8][usize::from(descriptor >> 6)];
        let header = frame.get(..content + content_len)?;

        let size = header[content..]
            .iter()
            .rev()
            .fold(0, |size, byte| size << 8 | u64::from(*byte));
        let content_size = match content_len {
            0 => None,
            2 => Some(size + 256),
            _ => Some(size),
        };
        let window = if single_segment {
            content_size.unwrap_or(0)
        } else {
            let base = 1 << (10 + (header[5] >> 3));
            base + base / 8 * u64::from(header[5] & 7)
        };
        Some(Self { window, content_size })
    }
}

/// Whether a member begins here; false as long as too little of it is seen.
fn has_magic(codec: Codec, input: &[u8]) -> Result<bool, BadSource> {
    match codec.begins(input) {
        Some(false) => Err(BadSource::TrailingGarbage(codec)),
        told => Ok(told.is_some()),
    }
}

fn corrupt(codec: Codec, detail: &str) -> BadSource {
    BadSource::Corrupt {
        codec,
        detail: detail.to_owned(),
    }
}

fn zstd_error(code: ErrorCode) -> BadSource {
    corrupt(Codec::Zstd, get_error_name(code))
}
