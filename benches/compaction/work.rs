//! The objects that are compacted, and the job that does it.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use compaction_operator::store::Put;
use futures::{StreamExt, stream};

use crate::block_on;
use crate::server::{BUCKET, Server, store};

#[derive(Clone, Copy)]
pub enum Codec {
    None,
    Gzip,
    Zstd,
}

impl Codec {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// A source of about `size` stored bytes.
    fn source(self, size: usize, rng: &mut fastrand::Rng) -> Vec<u8> {
        let raw_size = match self {
            Self::None => size,
            Self::Gzip => size * 13 / 4,
            Self::Zstd => size * 3,
        };
        let mut raw = Vec::with_capacity(raw_size + 400);
        while raw.len() < raw_size {
            let (id, user) = (rng.u64(..), rng.u32(..5000));
            let path = "abcdefgh".chars().nth(rng.usize(..8)).unwrap();
            writeln!(
                raw,
                r#"{{"time":"2026-11-24T09:00:00Z","level":"info","request":"{id:016x}","user":{user},"path":"/api/v1/{path}/items","status":200,"duration_ms":{},"message":"request finished"}}"#,
                rng.u32(..900)
            )
            .unwrap();
        }
        match self {
            Self::None => raw,
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
                encoder.write_all(&raw).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zstd => zstd::encode_all(&raw[..], 3).unwrap(),
        }
    }
}

/// Fills `prefix`; a few different contents are repeated, as making them is slower than moving them.
pub fn fill(server: &Server, prefix: &str, codec: Codec, size: usize, count: usize) -> u64 {
    let mut rng = fastrand::Rng::with_seed(1);
    let contents: Vec<Bytes> = (0..8).map(|_| codec.source(size, &mut rng).into()).collect();
    let content = |number: usize| contents[number % contents.len()].clone();
    block_on(async {
        let store = store(&server.endpoint).await;
        stream::iter(0..count)
            .map(|number| {
                let (store, content) = (&store, content(number));
                async move {
                    let key = format!("{prefix}/{number:07}.json");
                    store.put(&key, content, Put::default()).await.unwrap();
                }
            })
            .buffer_unordered(16)
            .collect::<()>()
            .await;
    });
    (0..count).map(|number| content(number).len() as u64).sum()
}

/// The job that compacts `in/` into `out<number>/`, with what `more` says of it.
pub fn compaction(server: &Server, directory: &Path, number: usize, more: &str) -> Command {
    let manifest = directory.join(format!("job-{number}.yaml"));
    let endpoint = &server.endpoint.url;
    let text = format!(
        "apiVersion: compaction.dev/v1alpha1\nkind: CompactionJob\nmetadata: {{name: bench}}\nspec:\n  \
         storage: {{s3: {{bucket: {BUCKET}, endpoint: \"{endpoint}\"}}}}\n  \
         source: {{prefix: in/, minObjectAgeSeconds: 0}}\n  output: {{prefix: out{number}/}}\n{more}"
    );
    std::fs::write(&manifest, text).unwrap();
    let mut command = server.command(Path::new(env!("CARGO_BIN_EXE_compaction-operator")));
    command.arg("run").arg("-f").arg(manifest);
    command
}
