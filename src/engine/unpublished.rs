//! What a job has put under its output prefix and will never publish is removed: everything, if it is deleted
//! before its publication, or what groups that failed have left.
//!
//! Never touches what it does not know for its own: an output goes only if both its name and the token in its
//! metadata are those that the job's plan gives. Safe to repeat.

use futures::{StreamExt, TryStreamExt, stream};

use super::fence::Heartbeat;
use super::published::{SUCCESS, manifest_directory};
use super::{Context, Error};
use crate::format::{self, Codec};
use crate::plan::{OutputName, Plan};
use crate::store::Pages;

const CONCURRENCY: usize = 32;

/// A plan of which nothing is published, and where its outputs are.
pub struct Unpublished<'a> {
    pub plan_sha256: &'a str,
    pub output_prefix: &'a str,
    pub job_uid: &'a str,
}

impl Unpublished<'_> {
    fn manifests(&self) -> String {
        format!("{}{}/", manifest_directory(self.output_prefix), self.job_uid)
    }
}

/// Removes the outputs, finished ones included, and a manifest that nobody was told of. Only while the status
/// of the job shows no decision to publish, under an epoch that this worker holds: then no other worker can
/// make one any more, so that readers are never told of an output that is gone. The job's uploads must be
/// ended before, or one of them may still become an object.
pub async fn remove_unpublished(context: &Context, of: &Unpublished<'_>) -> Result<(), Error> {
    let success = format!("{}{SUCCESS}", of.manifests());
    if context.store.head(&success).await?.is_some() {
        tracing::warn!("readers were told of outputs that the status knows nothing of: they stay");
        return Ok(());
    }
    remove(context, of, of.output_prefix).await
}

/// Removes what this plan has put into a directory of which nothing is published, or will be. The plan's uploads
/// must be ended before, as above.
pub(crate) async fn remove_outputs(
    context: &Context,
    plan: &Plan,
    plan_sha256: &str,
    directory: &str,
) -> Result<(), Error> {
    let of = Unpublished {
        plan_sha256,
        output_prefix: &plan.output_prefix,
        job_uid: &plan.job.uid,
    };
    remove(context, &of, &plan.outputs_prefix(plan_sha256, directory)).await
}

/// Removes this job's own objects whose keys begin with `prefix`.
async fn remove(context: &Context, of: &Unpublished<'_>, prefix: &str) -> Result<(), Error> {
    let mut heartbeat = Heartbeat::new(&context.fence);
    let mut pages = Pages::of(prefix);
    while let Some(objects) = pages.next(&*context.store).await? {
        let looks: Vec<_> = objects
            .iter()
            .map(|object| own(context, of, &object.key))
            .collect();
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
    }
    Ok(())
}

/// The key, if the object is this job's.
async fn own(context: &Context, of: &Unpublished<'_>, key: &str) -> Result<Option<String>, Error> {
    if key.starts_with(&of.manifests()) {
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
