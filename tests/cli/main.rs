//! What a user of `run`, `plan`, `probe` and `gc` sees: exit codes, what is said of each kind of bad input, and that it
//! names the object and the remedy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod contract;
mod disk;
mod disposition;
mod endpoint;
mod gc;
mod groups;
mod ledger;
mod manifest;
mod probe;
mod sources;

use std::io::Write as _;

use common::program::Workplace;
use serde_json::json;

/// Two sources of three records, and a job over them.
fn small() -> Workplace {
    let place = Workplace::new();
    place.put("in/a.log", "1\n2\n");
    place.put("in/b.log", "3\n");
    place.job(&json!({}));
    place
}

/// What all outputs hold together.
fn written(place: &Workplace) -> Vec<u8> {
    place.outputs().into_values().flatten().collect()
}

fn gzip(raw: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(raw).unwrap();
    encoder.finish().unwrap()
}

/// At least so many bytes of lines that do not compress well.
fn lines(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut lines = Vec::with_capacity(bytes + 64);
    while lines.len() < bytes {
        writeln!(lines, "{:016x}{:016x}", random.u64(..), random.u64(..)).unwrap();
    }
    lines
}
