//! The bytes of an output as they grow: raw ones directly or in frames, stored ones as they are.
//! Counts records, refuses long ones, and says where a cut is. Holds at most one frame.

use memchr::{memchr, memchr_iter, memrchr};

use super::{BadSource, Codec, Compression, Counts, PIECE_BYTES, Settings};

pub(super) struct Output {
    /// `None` as long as [`Compression::Auto`] has seen no bytes.
    codec: Option<Codec>,
    cut_bytes: u64,
    max_record_bytes: u64,
    /// At most [`PIECE_BYTES`], and no longer than a record may be: see [`Self::count`].
    stride: usize,
    /// Raw bytes of the frame that is open. Always empty where raw bytes go out directly.
    frame: Vec<u8>,
    /// The member or frame that holds one newline, made when it is first needed.
    newline: Vec<u8>,
    /// Raw bytes since the last cut.
    since_cut: u64,
    /// Raw bytes since the last record ended.
    open_record: u64,
    counts: Counts,
}

impl Output {
    pub(super) fn new(settings: &Settings, codec: Option<Codec>) -> Self {
        let demanded = match settings.compression {
            Compression::Auto => codec,
            Compression::None => Some(Codec::None),
            Compression::Gzip => Some(Codec::Gzip),
            Compression::Zstd => Some(Codec::Zstd),
        };
        Self {
            codec: demanded,
            cut_bytes: settings.cut_bytes,
            max_record_bytes: settings.max_record_bytes,
            stride: settings.max_record_bytes.clamp(1, PIECE_BYTES as u64) as usize,
            frame: Vec::new(),
            newline: Vec::new(),
            since_cut: 0,
            open_record: 0,
            counts: Counts::default(),
        }
    }

    pub(super) fn codec(&self) -> Option<Codec> {
        self.codec
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether a frame is open.
    pub(super) fn is_open(&self) -> bool {
        !self.frame.is_empty()
    }

    /// The first source with any bytes has this codec.
    pub(super) fn settle(&mut self, codec: Codec) {
        self.codec.get_or_insert(codec);
    }

    /// Takes raw bytes up to the next cut, or as many as suit it. Returns how many, and whether they
    /// end at a cut.
    pub(super) fn put_raw(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(usize, bool), BadSource> {
        let piece = &raw[..raw.len().min(self.stride)];
        let cut = self.cut_in(piece);
        let piece = &piece[..cut.unwrap_or(piece.len())];
        self.count(piece)?;
        let to = if self.in_frames() {
            &mut self.frame
        } else {
            &mut *out
        };
        to.extend_from_slice(piece);
        if cut.is_some() {
            self.cut(out);
        }
        Ok((piece.len(), cut.is_some()))
    }

    /// Hands out stored bytes, of which `raw` is what they decode to. Never while a frame is open.
    pub(super) fn put_stored(
        &mut self,
        stored: &[u8],
        raw: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BadSource> {
        out.extend_from_slice(stored);
        raw.chunks(self.stride).try_for_each(|piece| self.count(piece))
    }

    /// Whether the end of a member is far enough from the last cut, and at a record's end.
    pub(super) fn may_cut_at_member_end(&self) -> bool {
        self.open_record == 0 && self.since_cut >= self.cut_bytes
    }

    /// Ends the last record of a source, if the source did not. Says whether its end is a cut.
    pub(super) fn end_source(&mut self, as_stored: bool, out: &mut Vec<u8>) -> bool {
        if self.open_record > 0 {
            self.mend(as_stored, out);
        }
        if as_stored || !self.is_open() || self.since_cut >= self.cut_bytes {
            self.cut(out);
            return true;
        }
        false
    }

    /// Hands out the open frame: whatever comes next starts anew.
    pub(super) fn cut(&mut self, out: &mut Vec<u8>) {
        if let (Some(codec), true) = (self.codec, self.is_open()) {
            codec.encode(&self.frame, out);
            self.frame.clear();
        }
        self.since_cut = 0;
    }

    fn mend(&mut self, as_stored: bool, out: &mut Vec<u8>) {
        match self.codec {
            Some(codec) if as_stored => {
                if self.newline.is_empty() {
                    codec.encode(b"\n", &mut self.newline);
                }
                out.extend_from_slice(&self.newline);
            }
            _ if self.in_frames() => self.frame.push(b'\n'),
            _ => out.push(b'\n'),
        }
        self.since_cut += 1;
        self.open_record = 0;
        self.counts.raw_bytes += 1;
        self.counts.records += 1;
    }

    fn in_frames(&self) -> bool {
        matches!(self.codec, Some(Codec::Gzip | Codec::Zstd))
    }

    /// The end of the first record in `piece` that ends `cut_bytes` or more after the last cut.
    fn cut_in(&self, piece: &[u8]) -> Option<usize> {
        let newline_from =
            usize::try_from(self.cut_bytes.saturating_sub(self.since_cut).saturating_sub(1)).ok()?;
        memchr(b'\n', piece.get(newline_from..)?).map(|i| newline_from + i + 1)
    }

    /// Counts the records in `piece`. As that is no longer than a record may be, only a record that
    /// began before it or that goes on after it can be too long: none between is measured.
    fn count(&mut self, piece: &[u8]) -> Result<(), BadSource> {
        let len = piece.len() as u64;
        let (first, rest) = match (memchr(b'\n', piece), memrchr(b'\n', piece)) {
            (Some(first), Some(last)) => {
                self.counts.records += memchr_iter(b'\n', &piece[first..=last]).count() as u64;
                (self.open_record + first as u64, len - 1 - last as u64)
            }
            _ => (0, self.open_record + len),
        };
        if first.max(rest) > self.max_record_bytes {
            return Err(BadSource::RecordTooLong {
                limit: self.max_record_bytes,
            });
        }
        self.open_record = rest;
        self.since_cut += len;
        self.counts.raw_bytes += len;
        Ok(())
    }
}
