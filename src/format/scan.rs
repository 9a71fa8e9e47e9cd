//! The records of sources one by one, each in one piece, without any output: for looking at what is in them.
//!
//! Holds one decoded piece and one record.

use std::ops::ControlFlow;

use bytes::Bytes;
use memchr::memchr;

use super::reader::{Fill, Reader};
use super::{BadSource, Offset, Scan, Scanned, Settings};

pub(super) struct Lines {
    reader: Reader,
    max_record_bytes: u64,
    /// The beginning of a record that goes on in the next piece.
    begun: Vec<u8>,
    records: u64,
}

impl Lines {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            reader: Reader::default(),
            max_record_bytes: settings.max_record_bytes,
            begun: Vec::new(),
            records: 0,
        }
    }

    fn check(&self, length: usize) -> Result<(), BadSource> {
        if length as u64 > self.max_record_bytes {
            return Err(BadSource::RecordTooLong {
                limit: self.max_record_bytes,
            });
        }
        Ok(())
    }
}

impl Scan for Lines {
    fn begin(&mut self, at: Option<Offset>, records: u64) {
        self.reader.begin(at);
        self.begun.clear();
        self.records = records;
    }

    fn feed(&mut self, chunk: Bytes) {
        self.reader.feed(chunk);
    }

    fn end_source(&mut self) {
        self.reader.end();
    }

    fn advance(&mut self, look: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>) -> Result<Scanned, BadSource> {
        if self.reader.codec().is_none() {
            return Ok(Scanned::NeedInput);
        }
        loop {
            match self.reader.fill()? {
                Fill::NeedInput => return Ok(Scanned::NeedInput),
                Fill::End => {
                    if !self.begun.is_empty() {
                        self.records += 1;
                        // Where the source ends, nobody can stop any sooner.
                        let _ = look(self.records, &self.begun);
                        self.begun.clear();
                    }
                    return Ok(Scanned::SourceEnd);
                }
                Fill::Raw => {}
            }
            let raw = self.reader.raw();
            let end = memchr(b'\n', raw);
            let piece = &raw[..end.unwrap_or(raw.len())];
            self.check(self.begun.len() + piece.len())?;
            let Some(end) = end else {
                self.begun.extend_from_slice(piece);
                self.reader.take(piece.len());
                continue;
            };
            self.records += 1;
            let flow = if self.begun.is_empty() {
                look(self.records, piece)
            } else {
                self.begun.extend_from_slice(piece);
                look(self.records, &self.begun)
            };
            self.begun.clear();
            self.reader.take(end + 1);
            if flow.is_break() {
                return Ok(Scanned::Stopped);
            }
        }
    }

    fn offset(&self) -> (Offset, u64) {
        (self.reader.offset(), self.records)
    }
}
