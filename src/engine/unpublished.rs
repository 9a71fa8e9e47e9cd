//! What a job that is deleted before its publication has put under its output prefix is removed.
//!
//! Never touches what it does not know for its own: an output goes only if both its name and the token in its
//! metadata are those that the job's plan gives. Safe to repeat.

use futures::{StreamExt, TryStreamExt, stream};

use super::fence::Heartbeat;
use super::publish::{SUCCESS, manifest_directory};
use super::{Context, Error};
use crate::format::{self, Codec};
use crate::plan::{OutputName, Plan};

const CONCURRENCY: usize = 32;

/// A plan of which nothing is published, and where its outputs are.
pub struct Unpublished<'a> {
    pub plan_sha256: &'a str,
    pub output_prefix: &'a str,
    pub job_uid: &'a str,
}

/// Removes the outputs, finished ones included, and a manifest that nobody was told of. Only while the status
/// of the job shows no decision to publish, under an epoch that this worker holds: then no other worker can
/// make one any more, so that readers are never told of an output that is gone. The job's uploads must be
/// ended before, or one of them may still become an object.
pub async fn remove_unpublished(context: &Context, of: &Unpublished<'_>) -> Result<(), Error> {
    let manifests = format!("{}{}/", manifest_directory(of.output_prefix), of.job_uid);
    if context
        .store
        .head(&format!("{manifests}{SUCCESS}"))
        .await?
        .is_some()
    {
        tracing::warn!("readers were told of outputs that the status knows nothing of: they stay");
        return Ok(());
    }
    let mut heartbeat = Heartbeat::new(&context.fence);
    let mut after: Option<String> = None;
    loop {
        let page = context.store.list(of.output_prefix, after.as_deref()).await?;
        after = page.objects.last().map(|object| object.key.clone());
        let keys: Vec<String> = page.objects.into_iter().map(|object| object.key).collect();
        let looks: Vec<_> = keys.iter().map(|key| own(context, of, &manifests, key)).collect();
        let own: Vec<Option<String>> = stream::iter(looks)
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        let own: Vec<String> = own.into_iter().flatten().collect();
        if !own.is_empty() {
            context.fence.look().await?;
            context.store.delete(&own).await?;
        }
        heartbeat.step().await?;
        if !page.more || after.is_none() {
            return Ok(());
        }
    }
}

/// The key, if the object is this job's.
async fn own(
    context: &Context,
    of: &Unpublished<'_>,
    manifests: &str,
    key: &str,
) -> Result<Option<String>, Error> {
    if key.starts_with(manifests) {
        return Ok(Some(key.to_owned()));
    }
    let Some(name) = OutputName::of(key, of.output_prefix, of.plan_sha256) else {
        return Ok(None);
    };
    let head = context.store.head(key).await?;
    let token = head.and_then(|head| head.token);
    let is_own = Codec::ALL.iter().any(|codec| {
        let encoder = format::encoder_version(*codec);
        token
            == Some(Plan::output_token(
                of.plan_sha256,
                name.shard,
                &name.directory,
                name.number,
                encoder,
            ))
    });
    Ok(is_own.then(|| key.to_owned()))
}
