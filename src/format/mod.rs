//! How stored bytes become records, and how records become the bytes of outputs.
//!
//! A format sees the sources of one group one after another, in the plan's order, as chunks of
//! stored bytes of any size, and appends output bytes to a buffer. It does no I/O, reads no clock
//! and holds at most one frame and one record in memory, whatever the sources contain.
//!
//! **Cuts.** A cut is a position where everything merged so far has been handed out and a record
//! has just ended, so that a merge that starts anew there yields the same bytes (I3). Where cuts
//! lie is a function of the settings and of the content since the last start of an output; neither
//! the chunk sizes nor the ends of batches or processes move them.

use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

mod codec;
mod decode;
mod lines;
mod output;
mod reader;
mod scan;
mod selected;

pub use codec::Codec;

use crate::deduplicate::Selection;

/// All that the output bytes depend on beside the content; frozen in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    pub format: Kind,
    pub compression: Compression,
    /// A content cut is at the first record end after this many raw bytes. Bytes.
    pub cut_bytes: u64,
    /// A record longer than this, its newline not counted, makes its source bad. Bytes.
    pub max_record_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Records that end with a newline: NDJSON, text logs.
    Lines,
}

/// Compression of the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// That of the group's first source that is not empty.
    Auto,
    None,
    Gzip,
    Zstd,
}

/// Where inside a source a merge goes on. Always at a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Offset {
    /// The codec of this source, as its first bytes said.
    pub codec: Codec,
    /// Reading starts at this stored byte. For a compressed source, the start of a member or frame.
    pub stored: u64,
    /// So many decoded bytes after `stored` are already merged and are passed over.
    pub skip: u64,
}

/// Bytes that are handed out, looked at or decoded in one go: they stay in the cache meanwhile, and are far above a
/// deflate window.
pub const PIECE_BYTES: usize = 256 << 10;

/// What [`Merge::advance`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Bytes were handed out, and more may follow at once.
    More,
    /// All fed bytes are used, or too few to go on with; feed more, or say that the source has ended.
    NeedInput,
    /// A cut inside the current source, at [`Merge::offset`].
    Cut,
    /// The current source is merged. `cut`: whether this is a cut too (an encoded frame may go on
    /// over the end of a source).
    SourceEnd { cut: bool },
}

/// What has been merged since the merge was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub records: u64,
    /// Decoded bytes, with mended newlines.
    pub raw_bytes: u64,
}

/// A source whose bytes are not what its format demands. Nobody but its owner can mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSource {
    #[error("the {0} stream is cut off")]
    Truncated(Codec),
    #[error("the {codec} stream is corrupt: {detail}")]
    Corrupt { codec: Codec, detail: String },
    #[error("bytes that are not {0} follow the {0} stream")]
    TrailingGarbage(Codec),
    #[error("a record is longer than {limit} bytes, the most that the window allows")]
    RecordTooLong { limit: u64 },
    #[error("{stored} stored bytes decode to more than {raw} bytes, which looks like a decompression bomb")]
    Bomb { stored: u64, raw: u64 },
}

/// Merges the sources of one group, from the start of an output or from a cut.
///
/// Per source: `begin`, then `feed` and `advance` in turns, the latter until it needs input; after the last bytes
/// `end_source`, and `advance` until it says `SourceEnd`. `advance` appends to `out` and returns at every cut.
pub trait Merge: Send {
    /// Starts the next source: at its beginning, or going on inside it.
    fn begin(&mut self, at: Option<Offset>);
    /// Says which records of the source that has just begun are kept. Only a merge of [`selected`] asks.
    fn select(&mut self, _selected: Selected) {}
    /// Hands over the next stored bytes of the source. Only after `begin` or `NeedInput`.
    fn feed(&mut self, chunk: Bytes);
    /// Says that the source has no more bytes.
    fn end_source(&mut self);
    /// Merges on until it needs input, a cut or the source's end, or [`PIECE_BYTES`] were appended: at most as
    /// many and one frame more per call. After an error the merge is to be dropped.
    fn advance(&mut self, out: &mut Vec<u8>) -> Result<Step, BadSource>;
    /// Hands out an open frame. Called at the end of a group; a cut by definition.
    fn finish(&mut self, out: &mut Vec<u8>);
    /// Where the current source stands; meaningful right after [`Step::Cut`].
    fn offset(&self) -> Offset;
    /// How many records of the source come before that; zero where nobody asks for numbers.
    fn records_before_offset(&self) -> u64 {
        0
    }
    /// The codec of the output, once known (with `Auto`: after the first source that is not empty).
    fn output_codec(&self) -> Option<Codec>;
    fn counts(&self) -> Counts;
}

/// A merge for a new output, or one that goes on at a cut; in both, `codec` is what
/// [`Merge::output_codec`] said before in the same group, if anything. A group whose sources have no
/// bytes at all yields no bytes: that is no valid gzip, and not worth an output.
pub fn merge(settings: &Settings, codec: Option<Codec>) -> Box<dyn Merge> {
    match settings.format {
        Kind::Lines => Box::new(lines::Lines::new(settings, codec)),
    }
}

/// As [`merge`], of the records that a selection keeps; without one, of none.
pub fn selected(settings: &Settings, codec: Option<Codec>) -> Box<dyn Merge> {
    match settings.format {
        Kind::Lines => Box::new(selected::SelectedLines::new(settings, codec)),
    }
}

/// What is kept of a source, from where its merge begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected {
    pub selection: Selection,
    /// Records of the source that come before.
    pub before: u64,
}

/// What [`Scan::advance`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scanned {
    /// As in [`Step::NeedInput`].
    NeedInput,
    /// After a record, as was asked for.
    Stopped,
    SourceEnd,
}

/// Looks at the records of sources. Used as [`Merge`] is.
pub trait Scan: Send {
    /// Starts the next source, of which so many records come before `at`.
    fn begin(&mut self, at: Option<Offset>, records: u64);
    fn feed(&mut self, chunk: Bytes);
    fn end_source(&mut self);
    /// Hands records to `look`, with their numbers from 1 on, until it breaks off or there is none.
    fn advance(&mut self, look: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>) -> Result<Scanned, BadSource>;
    /// Where the source goes on after the last record, and how many came before; right after
    /// [`Scanned::Stopped`].
    fn offset(&self) -> (Offset, u64);
}

/// A scan of sources in this format.
pub fn scan(settings: &Settings) -> Box<dyn Scan> {
    match settings.format {
        Kind::Lines => Box::new(scan::Lines::new(settings)),
    }
}

/// Which encoder makes the bytes of `codec`: what a resumed output must have been begun with.
pub fn encoder_version(codec: Codec) -> &'static str {
    codec.encoder_version()
}
