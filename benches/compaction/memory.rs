//! The memory of a worker at 1 GiB and 8 GiB of input.

use crate::measure::measure;
use crate::server::{Kind, Server};
use crate::work::{Codec, compaction, fill};

pub fn memory(codecs: &[Codec]) {
    println!("\n| input | compression | peak memory of a worker |");
    println!("|---|---|---|");
    for codec in codecs.iter().copied() {
        for gigabytes in [1_usize, 8] {
            let server = Server::start(Kind::Embedded);
            let work = tempfile::tempdir().unwrap();
            fill(&server, "in", codec, 8 << 20, gigabytes * 128);
            let cost = measure(compaction(&server, work.path(), 0, ""));
            let mebibytes = cost.peak_bytes as f64 / f64::from(1 << 20);
            println!("| {gigabytes} GiB | {} | {mebibytes:.0} MiB |", codec.name());
        }
    }
}
