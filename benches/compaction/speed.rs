//! Compaction beside a plain concurrent copy with the same client, on the same server, in one run.

use std::sync::Arc;

use compaction_operator::store::Put;
use futures::{StreamExt, TryStreamExt, stream};

use crate::common::Endpoint;
use crate::measure::{Cost, measure, median};
use crate::server::{Kind, Server, list, store};
use crate::work::{Codec, compaction, fill};

const PAIRS: usize = 3;
const COPY_CONCURRENCY: usize = 64;

pub async fn copy(from: &str, to: &str) {
    let variable = |name| std::env::var(name).unwrap();
    let endpoint = Endpoint {
        url: variable("BENCH_ENDPOINT"),
        access_key: variable("AWS_ACCESS_KEY_ID"),
        secret_key: variable("AWS_SECRET_ACCESS_KEY"),
    };
    let store = store(&endpoint).await;
    let objects = list(&*store, from).await;
    let concurrency = if objects[0].size > 1 << 20 {
        8
    } else {
        COPY_CONCURRENCY
    };
    stream::iter(objects)
        .map(|object| {
            let (store, key) = (Arc::clone(&store), format!("{to}{}", &object.key[from.len()..]));
            let copy = async move {
                let bytes = store.read(&object.key, 0..object.size, &object.etag).await?;
                store.put(&key, bytes, Put::default()).await
            };
            async { tokio::spawn(copy).await.unwrap() }
        })
        .buffer_unordered(concurrency)
        .try_for_each(|_| async { Ok(()) })
        .await
        .unwrap();
}

pub fn speed(servers: impl IntoIterator<Item = Kind>, codecs: &[Codec]) {
    println!(
        "| server | objects | compression | copy MB/s | compaction MB/s | speed ratio | copy CPU s/GB | compaction CPU s/GB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    // The second one shows what of the first is the start and the end of a job.
    let cases = [
        (8_000_000, 128),
        (8_000_000, 512),
        (100_000, 5_000),
        (10_000, 20_000),
    ];
    let kinds = servers
        .into_iter()
        .flat_map(|kind| codecs.iter().map(move |codec| (kind, *codec)));
    for (kind, codec) in kinds {
        for (size, count) in cases {
            let server = Server::start(kind);
            let work = tempfile::tempdir().unwrap();
            let gigabytes = fill(&server, "in", codec, size, count) as f64 / 1e9;
            let mut pairs = Vec::new();
            for number in 0..=PAIRS {
                let mut command = server.command(&std::env::current_exe().unwrap());
                command.args(["copy", "in/", &format!("copy{number}/")]);
                let copied = measure(command);
                server.clear(&format!("copy{number}/"));
                let compacted = measure(compaction(&server, work.path(), number, ""));
                server.clear(&format!("out{number}/"));
                // The first pair warms the page cache.
                if number > 0 {
                    pairs.push((copied, compacted));
                }
            }
            let of = |f: &dyn Fn(&(Cost, Cost)) -> f64| median(pairs.iter().map(f).collect());
            println!(
                "| {} | {count} x {} | {} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} |",
                kind.name(),
                if size < 1_000_000 {
                    format!("{} KB", size / 1000)
                } else {
                    format!("{} MB", size / 1_000_000)
                },
                codec.name(),
                of(&|(copy, _)| gigabytes * 1e3 / copy.wall),
                of(&|(_, job)| gigabytes * 1e3 / job.wall),
                of(&|(copy, job)| copy.wall / job.wall),
                of(&|(copy, _)| copy.cpu / gigabytes),
                of(&|(_, job)| job.cpu / gigabytes),
            );
        }
    }
}
