//! The lines of sources that a selection keeps, in their order and byte by byte as they were.
//!
//! Which records are dropped is asked by their numbers; their content is never looked at. What is kept goes out
//! raw, directly or in frames of our own.

use bytes::Bytes;
use memchr::memchr_iter;

use super::output::Output;
use super::reader::{Fill, Reader};
use super::{BadSource, Codec, Counts, Merge, Offset, PIECE_BYTES, Selected, Settings, Step};

/// Where little is kept, a cut is made after so many times the bytes between cuts were read: otherwise a batch
/// could end nowhere.
const READ_PER_CUT: u64 = 16;

pub(super) struct SelectedLines {
    reader: Reader,
    output: Output,
    selected: Option<Selected>,
    /// The record that the next byte belongs to was begun, and whether it is kept.
    inside: Option<bool>,
    /// Where the last cut was, and how many records of its source came before it.
    offset: Offset,
    records_at_cut: u64,
    /// Raw bytes read since the last cut, and the most there may be.
    read: u64,
    most_read: u64,
}

/// Raw bytes of records that are all kept or all dropped.
struct Stretch {
    length: usize,
    kept: bool,
    records: u64,
}

impl SelectedLines {
    pub(super) fn new(settings: &Settings, codec: Option<Codec>) -> Self {
        Self {
            reader: Reader::default(),
            output: Output::new(settings, codec),
            selected: None,
            inside: None,
            offset: Offset {
                codec: Codec::None,
                stored: 0,
                skip: 0,
            },
            records_at_cut: 0,
            read: 0,
            most_read: settings.cut_bytes.saturating_mul(READ_PER_CUT),
        }
    }

    fn records(&self) -> u64 {
        self.selected.as_ref().map_or(0, |selected| selected.before)
    }

    fn keeps(&self, record: u64) -> bool {
        let selected = self.selected.as_ref();
        selected.is_some_and(|selected| selected.selection.keeps(record))
    }

    /// As much of `raw` as has one fate, up to where a cut is due at the latest.
    fn stretch(&self, raw: &[u8]) -> Stretch {
        let raw = &raw[..raw.len().min(PIECE_BYTES)];
        let before = self.records();
        let kept = self.inside.unwrap_or_else(|| self.keeps(before + 1));
        let mut records = 0;
        for newline in memchr_iter(b'\n', raw) {
            records += 1;
            let length = newline + 1;
            if self.read + length as u64 >= self.most_read || self.keeps(before + records + 1) != kept {
                return Stretch {
                    length,
                    kept,
                    records,
                };
            }
        }
        Stretch {
            length: raw.len(),
            kept,
            records,
        }
    }

    /// So many bytes, with so many ends of records, are done with.
    fn take(&mut self, length: usize, kept: bool, records: u64) {
        let ended = self.reader.raw()[length - 1] == b'\n';
        self.inside = (!ended).then_some(kept);
        self.reader.take(length);
        self.read += length as u64;
        if let Some(selected) = &mut self.selected {
            selected.before += records;
        }
    }

    fn cut_here(&mut self) -> Step {
        self.read = 0;
        self.offset = self.reader.offset();
        self.records_at_cut = self.records();
        Step::Cut
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Step {
        let cut = self.output.end_source(false, out);
        if cut {
            self.read = 0;
        }
        Step::SourceEnd { cut }
    }
}

impl Merge for SelectedLines {
    fn begin(&mut self, at: Option<Offset>) {
        self.reader.begin(at);
        self.selected = None;
        self.inside = None;
    }

    fn select(&mut self, selected: Selected) {
        self.selected = Some(selected);
    }

    fn feed(&mut self, chunk: Bytes) {
        self.reader.feed(chunk);
    }

    fn end_source(&mut self) {
        self.reader.end();
    }

    fn advance(&mut self, out: &mut Vec<u8>) -> Result<Step, BadSource> {
        let Some(codec) = self.reader.codec() else {
            return Ok(Step::NeedInput);
        };
        if codec != Codec::None || !self.reader.is_empty() {
            self.output.settle(codec);
        }
        let most = out.len() + PIECE_BYTES;
        while out.len() < most {
            match self.reader.fill()? {
                Fill::NeedInput => return Ok(Step::NeedInput),
                Fill::End => return Ok(self.end(out)),
                Fill::Raw => {}
            }
            let Stretch {
                length,
                kept,
                records,
            } = self.stretch(self.reader.raw());
            if kept {
                let counted = self.output.counts().records;
                let (used, cut) = self.output.put_raw(&self.reader.raw()[..length], out)?;
                self.take(used, kept, self.output.counts().records - counted);
                if cut {
                    return Ok(self.cut_here());
                }
            } else {
                self.take(length, kept, records);
            }
            if self.inside.is_none() && self.read >= self.most_read {
                self.output.cut(out);
                return Ok(self.cut_here());
            }
        }
        Ok(Step::More)
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.output.cut(out);
    }

    fn offset(&self) -> Offset {
        self.offset
    }

    fn records_before_offset(&self) -> u64 {
        self.records_at_cut
    }

    fn output_codec(&self) -> Option<Codec> {
        self.output.codec()
    }

    fn counts(&self) -> Counts {
        self.output.counts()
    }
}
