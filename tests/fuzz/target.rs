//! The targets: how an input is altered, what is done with it, and how much memory that may take.

use crc_fast::{CrcAlgorithm, checksum as crc};

use crate::{formats, parsed, stored};

/// What became of an input.
pub enum Outcome {
    /// And how, in a few words.
    Accepted(String),
    Refused(String),
}

/// What inputs look like; they are altered accordingly, or as mere bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Bytes,
    /// Plain or in gzip members or zstd frames.
    Stored,
    Json,
    /// Values one after another.
    JsonLines,
    Yaml,
}

pub struct Target {
    /// Also that of its directory in the corpus.
    pub name: &'static str,
    pub form: Form,
    pub run: fn(&[u8]) -> Outcome,
    /// Bytes that it may ask for, and how many more for each byte of the input.
    most: (usize, usize),
}

impl Target {
    pub fn memory(&self, input: usize) -> usize {
        self.most.0 + self.most.1 * input
    }
}

const fn target(name: &'static str, form: Form, run: fn(&[u8]) -> Outcome, most: (usize, usize)) -> Target {
    Target {
        name,
        form,
        run,
        most,
    }
}

/// Of a format: a frame of up to 4 MiB and a record, its encoded bytes, a decoded piece, and what the test keeps to
/// compare.
const FORMAT: (usize, usize) = (48 << 20, 8);
/// Of JSON: the largest value there is for the shortest text, `0,`, in a vector that has just grown.
const JSON: (usize, usize) = (1 << 20, 400);

pub static TARGETS: [Target; 16] = [
    target("merge", Form::Stored, formats::merged, FORMAT),
    target("selected", Form::Stored, formats::selected, FORMAT),
    target("scan", Form::Stored, formats::scanned, FORMAT),
    target("judge", Form::JsonLines, parsed::judge, JSON),
    target("body", Form::Json, parsed::body, JSON),
    target("plan", Form::Json, parsed::plan, JSON),
    target("segment", Form::JsonLines, parsed::segment, JSON),
    target("manifest", Form::Json, parsed::manifest, JSON),
    target("status", Form::Json, parsed::status, JSON),
    target("termination", Form::Json, parsed::termination, JSON),
    target("job", Form::Yaml, parsed::job, (32 << 20, 1000)),
    target("survivors", Form::Bytes, parsed::survivors, (1 << 20, 40)),
    target("run", Form::Bytes, parsed::run, (1 << 20, 10)),
    target("consumed", Form::JsonLines, stored::consumed, JSON),
    target("published", Form::Json, stored::published, JSON),
    target("upload", Form::Json, stored::upload, JSON),
];

pub fn checksum(bytes: &[u8]) -> u64 {
    crc(CrcAlgorithm::Crc64Nvme, bytes)
}

/// Choices that go with an input, the same each time.
pub fn choices(input: &[u8]) -> fastrand::Rng {
    fastrand::Rng::with_seed(checksum(input))
}
