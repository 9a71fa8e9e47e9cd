//! Compaction beside others on this machine, each pair in one run. Prints the tables of `docs/performance.md`.
//!
//! `cargo bench --bench compaction` (or `make bench`) runs all of it; `-- speed`, `-- memory` or `-- deduplicate` a
//! part, `-- speed minio none` one server and one compression. Server, peer and compaction are processes of their
//! own, so that CPU time is told apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod deduplicate;
mod measure;
mod memory;
mod server;
mod speed;
mod work;

use std::path::Path;

use server::Kind;
use work::Codec;

const SERVERS: [Kind; 2] = [Kind::Minio, Kind::Embedded];
const CODECS: [Codec; 3] = [Codec::None, Codec::Gzip, Codec::Zstd];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", dir] => block_on(server::serve(Path::new(dir))),
        ["copy", from, to] => block_on(speed::copy(from, to)),
        ["table"] => deduplicate::fill_table(),
        ["speed", server, codec] => {
            let server = SERVERS.into_iter().filter(|kind| kind.name() == server);
            let codec: Vec<Codec> = CODECS.into_iter().filter(|kind| kind.name() == codec).collect();
            speed::speed(server, &codec);
        }
        ["speed"] => speed::speed(SERVERS, &CODECS),
        ["memory"] => memory::memory(&CODECS),
        ["deduplicate"] => deduplicate::deduplicate(),
        [_, ..] => panic!("speed [minio|embedded none|gzip|zstd], memory, or deduplicate: {words:?}"),
        [] => {
            speed::speed(SERVERS, &CODECS);
            memory::memory(&CODECS);
            deduplicate::deduplicate();
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}
