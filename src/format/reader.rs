//! One source on its way from stored to raw bytes: tells its codec, keeps what is not used yet, and
//! knows where in it a merge could go on. Holds one chunk and one decoded piece, and no records.

use bytes::{Buf, Bytes, BytesMut};

use super::decode::{Gzip, Members, Zstd};
use super::{BadSource, Codec, Offset, PIECE_BYTES};

/// A source is refused when it decodes to more than both of these. The ratio is above 1,032, the
/// most that gzip can reach, so that no gzip source is refused for being monotonous; zstd can reach
/// 30,000. Below the floor nothing is worth refusing.
const BOMB_RATIO: u64 = 1_100;
const BOMB_FLOOR: u64 = 64 << 20;

/// What there is to take next.
#[derive(PartialEq, Eq)]
pub(super) enum Fill {
    /// [`Reader::raw`] is not empty.
    Raw,
    NeedInput,
    End,
}

/// The outcome of one decoding step.
pub(super) enum Piece {
    /// [`Reader::raw`] is what these stored bytes have led to. `end`: a member ends with them.
    Decoded {
        stored: Bytes,
        end: bool,
    },
    NeedInput,
    End,
}

#[derive(Default)]
pub(super) struct Reader {
    gzip: Gzip,
    zstd: Zstd,
    /// Decoded bytes; those before `taken` are used.
    raw: Vec<u8>,
    taken: usize,
    source: Source,
}

/// What is told anew with every source.
#[derive(Default)]
struct Source {
    codec: Option<Codec>,
    /// Stored bytes that are not used yet.
    input: Bytes,
    ended: bool,
    /// Where `input` starts in the source.
    position: u64,
    /// Where the member that is being decoded, or was last, starts; its decoded bytes so far.
    member: u64,
    member_raw: u64,
    in_member: bool,
    /// Decoded bytes still to be passed over.
    skip: u64,
    /// Decoded bytes since the reader began here.
    decoded: u64,
}

impl Reader {
    pub(super) fn begin(&mut self, at: Option<Offset>) {
        self.raw.clear();
        self.taken = 0;
        self.source = at.map_or_else(Source::default, |at| Source {
            codec: Some(at.codec),
            position: at.stored,
            skip: at.skip,
            ..Source::default()
        });
    }

    pub(super) fn feed(&mut self, chunk: Bytes) {
        let source = &mut self.source;
        if source.input.is_empty() {
            source.input = chunk;
        } else {
            // Only a few bytes of a head that could not be told yet are ever left.
            let mut joined = BytesMut::with_capacity(source.input.len() + chunk.len());
            joined.extend_from_slice(&source.input);
            joined.extend_from_slice(&chunk);
            source.input = joined.freeze();
        }
    }

    pub(super) fn end(&mut self) {
        self.source.ended = true;
    }

    /// The codec of the source, once enough of it is seen.
    pub(super) fn codec(&mut self) -> Option<Codec> {
        let source = &mut self.source;
        if source.codec.is_none() && (source.ended || source.input.len() >= Codec::HEAD) {
            source.codec = Some(Codec::of(&source.input));
        }
        source.codec
    }

    /// Whether the source has no bytes, as far as seen.
    pub(super) fn is_empty(&self) -> bool {
        self.source.position == 0 && self.source.input.is_empty()
    }

    /// Whether reading starts inside a member, whose first bytes are merged already.
    pub(super) fn starts_inside_member(&self) -> bool {
        self.source.skip > 0
    }

    /// Raw bytes that are not taken yet.
    pub(super) fn raw(&self) -> &[u8] {
        match self.source.codec {
            Some(Codec::None) => &self.source.input,
            _ => &self.raw[self.taken..],
        }
    }

    pub(super) fn take(&mut self, n: usize) {
        match self.source.codec {
            Some(Codec::None) => {
                self.source.input.advance(n);
                self.source.position += n as u64;
            }
            _ => self.taken += n,
        }
    }

    /// Where the first raw byte that is not taken lies.
    pub(super) fn offset(&self) -> Offset {
        let source = &self.source;
        let (codec, left) = (source.codec.unwrap_or(Codec::None), self.raw.len() - self.taken);
        match codec {
            Codec::None => Offset {
                codec,
                stored: source.position,
                skip: 0,
            },
            _ => Offset {
                codec,
                stored: source.member,
                skip: source.member_raw - left as u64,
            },
        }
    }

    /// Where the next member starts. Only between members.
    pub(super) fn member_start(&self) -> Offset {
        Offset {
            codec: self.source.codec.unwrap_or(Codec::None),
            stored: self.source.position,
            skip: 0,
        }
    }

    /// Makes sure that there are raw bytes, if the source has any left.
    pub(super) fn fill(&mut self) -> Result<Fill, BadSource> {
        while self.raw().is_empty() {
            match self.decode()? {
                Piece::Decoded { .. } => {}
                Piece::NeedInput => return Ok(Fill::NeedInput),
                Piece::End => return Ok(Fill::End),
            }
        }
        Ok(Fill::Raw)
    }

    /// Decodes the next piece, at most to the end of the member. Only when all raw bytes are taken.
    pub(super) fn decode(&mut self) -> Result<Piece, BadSource> {
        let source = &mut self.source;
        let (codec, decoder): (_, &mut dyn Members) = match source.codec {
            Some(Codec::Gzip) => (Codec::Gzip, &mut self.gzip),
            Some(Codec::Zstd) => (Codec::Zstd, &mut self.zstd),
            Some(Codec::None) | None => return source.out_of_input(Codec::None, false),
        };
        self.raw.clear();
        self.raw.reserve(PIECE_BYTES);
        self.taken = 0;

        if source.input.is_empty() {
            return source.out_of_input(codec, source.in_member);
        }
        if !source.in_member {
            if !decoder.begin(&source.input)? {
                return source.out_of_input(codec, true);
            }
            source.in_member = true;
            source.member = source.position;
            source.member_raw = 0;
        }

        let step = decoder.decode(&source.input, &mut self.raw)?;
        source.in_member = !step.end;
        source.position += step.stored as u64;
        source.member_raw += self.raw.len() as u64;
        source.decoded += self.raw.len() as u64;
        source.refuse_bomb()?;
        if step.stored == 0 && self.raw.is_empty() && !step.end {
            // No decoder does so; should one, it may not spin.
            return source.out_of_input(codec, true);
        }
        let skipped = source.skip.min(self.raw.len() as u64);
        source.skip -= skipped;
        self.taken = skipped as usize;
        Ok(Piece::Decoded {
            stored: source.input.split_to(step.stored),
            end: step.end,
        })
    }
}

impl Source {
    /// What it means that there are no bytes, or too few, to go on with.
    fn out_of_input(&self, codec: Codec, in_member: bool) -> Result<Piece, BadSource> {
        match (self.ended, in_member) {
            (false, _) => Ok(Piece::NeedInput),
            (true, true) => Err(BadSource::Truncated(codec)),
            (true, false) if self.skip > 0 => Err(BadSource::Corrupt {
                codec,
                detail: "it ends before the offset to go on at".to_owned(),
            }),
            (true, false) => Ok(Piece::End),
        }
    }

    /// After a resume the stored bytes count from the source's start and the decoded ones from the
    /// offset: so nothing is refused that was accepted before.
    fn refuse_bomb(&self) -> Result<(), BadSource> {
        let most = BOMB_FLOOR.max(self.position.saturating_mul(BOMB_RATIO));
        if self.decoded > most {
            return Err(BadSource::Bomb {
                stored: self.position,
                raw: most,
            });
        }
        Ok(())
    }
}
