//! The bodies of a job whose batches are all done, read from those that the checkpoints name back to the first ones.
//!
//! Writes nothing, and does not know what they add up to.

use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::body::Run;
use super::ledger::Ledger;
use super::{Body, Error};
use crate::api::Checkpoint;
use crate::plan::Plan;

/// Bodies read at the same time.
const CONCURRENCY: usize = 32;

/// A plan with what the status says of its shards.
pub struct Finished<'a> {
    pub plan: &'a Plan,
    pub sha256: &'a str,
    pub location: &'a str,
    /// Of every shard, in order.
    pub checkpoints: Vec<Checkpoint>,
}

/// The runs of bodies that lead to the checkpoints, shard by shard, in order. One hop per worker that a
/// shard has had; the bodies of a run have computable names and are read side by side.
pub(crate) struct ShardRun {
    shard: usize,
    run: Run,
    /// Sequence of its last body that counts.
    last: i64,
    /// Hash of that body.
    sha256: String,
}

pub(crate) async fn runs(ledger: &Ledger, finished: &Finished<'_>) -> Result<Vec<ShardRun>, Error> {
    let mut all = Vec::new();
    for (shard, checkpoint) in finished.checkpoints.iter().enumerate() {
        let mut of_shard = Vec::new();
        let mut next = (checkpoint.body.clone(), checkpoint.sha256.clone());
        while !next.0.is_empty() {
            let body = ledger.body(&next.0, &next.1).await?;
            let after = body.run.after.clone();
            of_shard.push(ShardRun {
                shard,
                run: body.run,
                last: body.sequence,
                sha256: next.1,
            });
            next = after.map(|after| (after.name, after.sha256)).unwrap_or_default();
        }
        all.extend(of_shard.into_iter().rev());
    }
    Ok(all)
}

/// Every body that counts, in order. Each is checked against the hash that its successor names.
pub(crate) fn bodies<'a>(ledger: &'a Ledger, runs: &'a [ShardRun]) -> BoxStream<'a, Result<Body, Error>> {
    let of_run = move |run: &'a ShardRun| {
        let names = (run.run.first..=run.last)
            .map(move |sequence| Ledger::body_name(run.shard, sequence, run.run.epoch, &run.run.holder));
        let mut before: Option<String> = None;
        stream::iter(names)
            .map(move |name| async move {
                ledger
                    .body_unchecked(&name)
                    .await
                    .map(|(body, hash)| (name, body, hash))
            })
            .buffered(CONCURRENCY)
            .map(move |read| {
                let (name, body, sha256) = read?;
                let chained = before.as_ref().is_none_or(|before| *before == body.previous);
                let ends = body.sequence != run.last || sha256 == run.sha256;
                if !chained || !ends {
                    return Err(Error::Ledger {
                        name,
                        problem: "it was altered".to_owned(),
                    });
                }
                before = Some(sha256);
                Ok(body)
            })
    };
    stream::iter(runs).flat_map(of_run).boxed()
}
