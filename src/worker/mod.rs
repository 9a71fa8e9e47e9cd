//! One worker: claim the shard, read the job, do the duty that its status shows open, until none is.
//!
//! Never decides about retries: it ends with a code that says what happened, and the controller decides.

mod api;
mod api_server;
mod connect;
mod end;
mod fence;
mod memory;
mod pod;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use crate::api::pointer_interval;
pub use api::{ApiError, JobApi};
pub use api_server::ApiServer;
pub use connect::store_settings;
pub use end::End;
pub use fence::{Identity, ShardFence};
pub use pod::{PodArguments, run_pod};

use crate::api::{CompactionJob, CompactionJobSpec, Duty, InvalidSpec, Limits, SourceDisposition};
use crate::engine::{
    self, Context, Ended, Error, Finished, Ledger, PlanInput, ShardInput, Unpublished, Window, Wish, Writer,
};
use crate::plan;
use crate::store::Store;

/// What a worker is started with.
pub struct Start {
    pub identity: Identity,
    pub api: Arc<dyn JobApi>,
    pub store: Arc<dyn Store>,
    /// Names the cluster in the ledger's path.
    pub cluster: String,
    /// Bytes in memory at one time.
    pub window_bytes: u64,
    /// The most that one read asks for. Bytes.
    pub read_bytes: u64,
    pub stop: CancellationToken,
    /// How often a shard's pointer may move in a job of so many shards: [`pointer_interval`], or
    /// [`at_every_batch`] where that costs nothing.
    pub pointer_interval: fn(i32) -> Duration,
    /// Seconds since the epoch, asked for when a plan is made.
    pub now: fn() -> i64,
    /// The sizes of a spec: [`Limits::of`], but for tests with small ones.
    pub limits: fn(&CompactionJobSpec) -> Result<Limits, InvalidSpec>,
}

pub fn at_every_batch(_shards: i32) -> Duration {
    Duration::ZERO
}

/// Runs a worker to its end.
pub async fn run(start: Start) -> End {
    match Box::pin(work(&start)).await {
        Ok(()) if start.stop.is_cancelled() => End::stopped(""),
        Ok(()) => End::done(),
        Err(error) => End::failed(&error),
    }
}

async fn work(start: &Start) -> Result<(), Error> {
    let (fence, mut job) = ShardFence::claim(Arc::clone(&start.api), start.identity.clone()).await?;
    let fence = Arc::new(fence);
    let Identity {
        job_uid,
        shard,
        epoch,
        holder,
    } = start.identity.clone();
    let writer = Writer {
        shard: shard as usize,
        epoch,
        holder,
    };
    let ledger = Ledger::new(
        Arc::clone(&start.store),
        &job.spec.state_prefix,
        &start.cluster,
        &job_uid,
        writer,
    );
    let window = Window {
        bytes: start.window_bytes,
        uploads: job.spec.upload.concurrency as usize,
        reads: job.spec.read.concurrency as usize,
        read_bytes: start.read_bytes,
    };
    let context = Context {
        store: Arc::clone(&start.store),
        ledger,
        fence: fence.clone(),
        window,
        stop: start.stop.clone(),
    };
    while let Some(duty) = job.duty(shard).filter(|_| !start.stop.is_cancelled()) {
        tracing::info!(shard, epoch, ?duty, "duty begins");
        let done = do_duty(&context, start, &job, duty).await?;
        if !done || matches!(duty, Duty::Dispose | Duty::CleanUp) {
            break;
        }
        job = fence.job().await?;
    }
    Ok(())
}

/// Returns whether the duty is done; false when the worker was asked to stop.
async fn do_duty(context: &Context, start: &Start, job: &CompactionJob, duty: Duty) -> Result<bool, Error> {
    match duty {
        Duty::Plan => plan_duty(context, start, job).await.map(|()| true),
        Duty::Batches => batches_duty(context, start, job).await,
        Duty::Publish => publish_duty(context, job).await.map(|()| true),
        Duty::Dispose => dispose_duty(context, job).await.map(|()| true),
        Duty::CleanUp => clean_up_duty(context, job).await.map(|()| true),
    }
}

async fn plan_duty(context: &Context, start: &Start, job: &CompactionJob) -> Result<(), Error> {
    let limits = (start.limits)(&job.spec)?;
    let input = PlanInput {
        job,
        limits,
        now: (start.now)(),
    };
    let planned = engine::make_plan(context, &input).await?;
    Ok(context
        .fence
        .set_plan(planned.status, planned.total_batches)
        .await?)
}

async fn batches_duty(context: &Context, start: &Start, job: &CompactionJob) -> Result<bool, Error> {
    let (plan, plan_sha256, plan_location) = load_plan(context, job).await?;
    let context = &context.honouring(plan.capabilities);
    let shard = start.identity.shard;
    let status = job
        .status
        .as_ref()
        .and_then(|status| status.shards.iter().find(|s| s.index == shard));
    let pointer_interval = (start.pointer_interval)(plan.shards.len() as i32);
    let input = ShardInput {
        plan: Arc::new(plan),
        plan_sha256,
        plan_location,
        checkpoint: status.map(|shard| shard.checkpoint.clone()).unwrap_or_default(),
        deadline: Duration::from_secs(job.spec.batch.upload_deadline_seconds as u64),
        max_attempts: job.spec.batch.max_attempts,
        max_failed_groups: job.spec.max_failed_groups as u64,
        pointer_interval,
    };
    Ok(engine::run_batches(context, &input).await? == Ended::Done)
}

async fn publish_duty(context: &Context, job: &CompactionJob) -> Result<(), Error> {
    let (plan, sha256, location) = load_plan(context, job).await?;
    let context = &context.honouring(plan.capabilities);
    let decided = job.status.as_ref().and_then(|status| status.publish.clone());
    engine::publish(context, &finished(job, &plan, &sha256, &location), decided).await
}

async fn dispose_duty(context: &Context, job: &CompactionJob) -> Result<(), Error> {
    let status = job.status.clone().unwrap_or_default();
    let mut progress = status.dispose.unwrap_or_default();
    if !progress.sources_done {
        let (plan, sha256, location) = load_plan(context, job).await?;
        let context = &context.honouring(plan.capabilities);
        let delete = job.spec.source_disposition == SourceDisposition::Delete;
        if delete {
            let sources = status.publish.map_or(0, |publish| publish.sources);
            progress.total = sources + plan.superseded.len() as i64;
        }
        let wish = Wish {
            delete,
            unconditionally: job.spec.allow_unconditional_delete,
        };
        progress =
            engine::dispose(context, &finished(job, &plan, &sha256, &location), wish, progress).await?;
    }
    engine::clean_up(context).await?;
    progress.finished = true;
    Ok(context.fence.set_dispose(progress).await?)
}

/// Of a job that is deleted. A decision to publish is carried out: readers may have been told of it already,
/// or may be by a late worker, and are never told of outputs that are gone. Otherwise the outputs go.
async fn clean_up_duty(context: &Context, job: &CompactionJob) -> Result<(), Error> {
    let status = job.status.clone().unwrap_or_default();
    match (&status.plan, &status.publish) {
        (Some(_), Some(publish)) if !publish.announced => publish_duty(context, job).await?,
        (Some(plan), None) => {
            engine::end_uploads(context).await?;
            let unpublished = Unpublished {
                plan_sha256: &plan.sha256,
                output_prefix: &job.spec.output.prefix,
                job_uid: job.metadata.uid.as_deref().unwrap_or_default(),
            };
            engine::remove_unpublished(context, &unpublished).await?;
        }
        _ => {}
    }
    engine::clean_up(context).await?;
    let mut progress = job
        .status
        .as_ref()
        .and_then(|status| status.dispose.clone())
        .unwrap_or_default();
    progress.finished = true;
    Ok(context.fence.set_dispose(progress).await?)
}

async fn load_plan(context: &Context, job: &CompactionJob) -> Result<(plan::Plan, String, String), Error> {
    let status = job
        .status
        .as_ref()
        .and_then(|status| status.plan.clone())
        .unwrap_or_default();
    let plan = context.ledger.plan(&status.location, &status.sha256).await?;
    if plan.version != plan::VERSION {
        let problem = format!("version {} is not known to this worker", plan.version);
        return Err(Error::Ledger {
            name: status.location,
            problem,
        });
    }
    Ok((plan, status.sha256, status.location))
}

fn finished<'a>(
    job: &CompactionJob,
    plan: &'a plan::Plan,
    sha256: &'a str,
    location: &'a str,
) -> Finished<'a> {
    let shards = job.status.as_ref().map_or(&[][..], |status| &status.shards);
    Finished {
        plan,
        sha256,
        location,
        checkpoints: shards.iter().map(|s| s.checkpoint.clone()).collect(),
    }
}
