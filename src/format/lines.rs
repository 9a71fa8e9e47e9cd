//! Records that end with a newline. Their content is never looked at: what is counted, cut and
//! mended is newlines only.
//!
//! A source goes one of two ways. Its **stored** bytes are handed out as they are where the output
//! has the same compression; they are decoded all the same, to be checked and counted. Else its
//! **raw** bytes are, directly or in frames of our own.

use bytes::Bytes;

use super::output::Output;
use super::reader::{Fill, Piece, Reader};
use super::{BadSource, Codec, Counts, Merge, Offset, Settings, Step};

pub(super) struct Lines {
    reader: Reader,
    output: Output,
    way: Option<Way>,
    /// Where the last cut was.
    offset: Offset,
}

/// How the bytes of the current source get to the output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Stored,
    Raw,
}

impl Lines {
    pub(super) fn new(settings: &Settings, codec: Option<Codec>) -> Self {
        Self {
            reader: Reader::default(),
            output: Output::new(settings, codec),
            way: None,
            offset: Offset {
                codec: Codec::None,
                stored: 0,
                skip: 0,
            },
        }
    }

    /// The way of a source whose codec has just been told.
    fn choose(&mut self, codec: Codec) -> Way {
        if codec != Codec::None || !self.reader.is_empty() {
            self.output.settle(codec);
        }
        let same = codec != Codec::None && self.output.codec() == Some(codec);
        if same && !self.reader.starts_inside_member() {
            Way::Stored
        } else {
            Way::Raw
        }
    }

    fn advance_stored(&mut self, out: &mut Vec<u8>) -> Result<Step, BadSource> {
        match self.reader.decode()? {
            Piece::NeedInput => Ok(Step::NeedInput),
            Piece::End => Ok(self.end_source(Way::Stored, out)),
            Piece::Decoded { stored, end } => {
                self.output.put_stored(&stored, self.reader.raw(), out)?;
                if end && self.output.may_cut_at_member_end() {
                    self.output.cut(out);
                    self.offset = self.reader.member_start();
                    return Ok(Step::Cut);
                }
                Ok(Step::More)
            }
        }
    }

    fn advance_raw(&mut self, out: &mut Vec<u8>) -> Result<Step, BadSource> {
        match self.reader.fill()? {
            Fill::NeedInput => return Ok(Step::NeedInput),
            Fill::End => return Ok(self.end_source(Way::Raw, out)),
            Fill::Raw => {}
        }
        let (used, cut) = self.output.put_raw(self.reader.raw(), out)?;
        self.reader.take(used);
        if cut {
            self.offset = self.reader.offset();
            return Ok(Step::Cut);
        }
        Ok(Step::More)
    }

    fn end_source(&mut self, way: Way, out: &mut Vec<u8>) -> Step {
        Step::SourceEnd {
            cut: self.output.end_source(way == Way::Stored, out),
        }
    }
}

impl Merge for Lines {
    fn begin(&mut self, at: Option<Offset>) {
        self.reader.begin(at);
        self.way = None;
    }

    fn feed(&mut self, chunk: Bytes) {
        self.reader.feed(chunk);
    }

    fn end_source(&mut self) {
        self.reader.end();
    }

    fn advance(&mut self, out: &mut Vec<u8>) -> Result<Step, BadSource> {
        let way = match (self.way, self.reader.codec()) {
            (Some(way), _) => way,
            (None, None) => return Ok(Step::NeedInput),
            (None, Some(codec)) => self.choose(codec),
        };
        self.way = Some(way);
        if way == Way::Stored && self.output.is_open() {
            // The frame of the sources before must be handed out before these bytes are.
            self.output.cut(out);
            self.offset = self.reader.member_start();
            return Ok(Step::Cut);
        }
        match way {
            Way::Stored => self.advance_stored(out),
            Way::Raw => self.advance_raw(out),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.output.cut(out);
    }

    fn offset(&self) -> Offset {
        self.offset
    }

    fn output_codec(&self) -> Option<Codec> {
        self.output.codec()
    }

    fn counts(&self) -> Counts {
        self.output.counts()
    }
}
