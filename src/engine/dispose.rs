//! The dispose duty: sources that the user no longer wants are deleted (I8).

use futures::{StreamExt, TryStreamExt, stream};

use super::bodies::{Finished, runs};
use super::consumed::Line;
use super::failed::FailedGroups;
use super::fence::Heartbeat;
use super::finished::{Candidates, Skipped, outputs};
use super::{Context, Error};
use crate::api::DisposeStatus;
use crate::store::Deleted;

/// Sources deleted at the same time, and between two looks at the fence.
const CONCURRENCY: usize = 32;
const CHUNK: usize = 1000;

/// What the user wants done with the sources.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    pub delete: bool,
    pub unconditionally: bool,
}

/// Deletes the sources if that is wished. Goes on from `progress`; after this only the ledger remains to
/// be cleaned up.
pub async fn dispose(
    context: &Context,
    finished: &Finished<'_>,
    wish: Wish,
    progress: DisposeStatus,
) -> Result<DisposeStatus, Error> {
    let mut progress = progress;
    if wish.delete {
        delete_sources(context, finished, wish, &mut progress).await?;
    }
    progress.sources_done = true;
    context.fence.set_dispose(progress.clone()).await?;
    Ok(progress)
}

async fn delete_sources(
    context: &Context,
    finished: &Finished<'_>,
    wish: Wish,
    progress: &mut DisposeStatus,
) -> Result<(), Error> {
    let conditional = finished.plan.capabilities.conditional_delete;
    if !conditional && !wish.unconditionally {
        return Err(Error::UnconditionalDelete);
    }
    let mut heartbeat = Heartbeat::new(&context.fence);
    // Each output is looked at again just before the sources in it go.
    let runs = runs(&context.ledger, finished).await?;
    let failed = FailedGroups::read(context, finished, &runs).await?;
    let mut skipped = Skipped::default();
    {
        let mut outputs = outputs(context, &runs, &failed, &mut skipped);
        while outputs.try_next().await?.is_some() {
            heartbeat.step().await?;
        }
    }

    let skipped = skipped.sources();
    let mut candidates = Candidates::open(context, finished, &failed, &skipped).await?;
    // What is superseded goes like a source, and after all of them.
    let mut superseded = finished.plan.superseded.iter().map(|output| Line {
        key: output.key.clone(),
        etag: output.etag.clone(),
        group: Some(0),
        size: Some(output.size),
    });
    let mut passed = 0;
    loop {
        let mut chunk: Vec<Line> = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            match candidates.next().await?.or_else(|| superseded.next()) {
                Some(line) if line.group.is_none() => {}
                Some(_) if passed < progress.done => passed += 1,
                Some(line) => chunk.push(line),
                None => break,
            }
        }
        if chunk.is_empty() {
            return Ok(());
        }
        context.fence.look().await?;
        let count = chunk.len() as i64;
        let deletes: Vec<_> = chunk
            .into_iter()
            .map(|line| delete_source(context, line, conditional))
            .collect();
        let outcomes: Vec<Deleted> = stream::iter(deletes)
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        progress.done += count;
        passed += count;
        progress.changed += outcomes
            .iter()
            .filter(|outcome| **outcome == Deleted::Changed)
            .count() as i64;
        if heartbeat.is_due() {
            context.fence.set_dispose(progress.clone()).await?;
        }
    }
}

async fn delete_source(context: &Context, source: Line, conditional: bool) -> Result<Deleted, Error> {
    if conditional {
        return Ok(context.store.delete_if_match(&source.key, &source.etag).await?);
    }
    match context.store.head(&source.key).await? {
        None => Ok(Deleted::Missing),
        Some(head) if head.etag != source.etag => Ok(Deleted::Changed),
        Some(_) => {
            context.store.delete(&[source.key]).await?;
            Ok(Deleted::Deleted)
        }
    }
}
