//! One pass over one schedule: observe → decide → make → status → delete. A look at what the watches have told costs
//! no request; before anything is done, the API server is asked how things really are.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::decide::{Decision, Observed, decide};
use super::runs::Run;
use crate::api::{CompactionJob, CompactionSchedule};
use crate::controller::cluster::{Cluster, Error};
use crate::controller::context::Context;

/// A schedule is looked at at least so often: a timer does not notice when the clock is set or the machine slept, and
/// no slot is to be later than that.
const LOOK: Duration = Duration::from_secs(10);
/// How often one is that waits for nothing, in case a watch missed something.
const RESYNC: Duration = Duration::from_mins(10);
/// The schedule was changed meanwhile; the watch will show it.
const AGAIN: Duration = Duration::from_millis(500);
/// Runs that are made in one pass: that of a trigger and that of a slot, and a look after each.
const TURNS: usize = 4;

/// Returns after how long the next pass is due if nothing happens before.
pub(super) async fn pass(context: &Context, schedule: &CompactionSchedule) -> Result<Duration, Error> {
    let jobs = context.jobs_that(|job| Run::of(schedule, job).is_some());
    let known = runs(schedule, jobs.iter().map(AsRef::as_ref));
    let decision = decide(&Observed {
        schedule,
        runs: &known,
        not_made: &[],
        now: Timestamp::now(),
    })?;
    if is_idle(&decision) {
        return Ok(wait(&decision));
    }
    let cluster = Cluster {
        client: context.client.clone(),
        namespace: schedule.namespace().unwrap_or_default(),
    };
    // In this order: a run that is missing here and was made and deleted meanwhile is in the status.
    let jobs = cluster.jobs_of(schedule).await?;
    let Some(schedule) = cluster.live(schedule).await? else {
        return Ok(RESYNC);
    };
    let decision = make(&cluster, &schedule, runs(&schedule, &jobs)).await?;
    if !decision.patch.0.is_empty() && !cluster.patch_schedule(&schedule, &decision.patch).await? {
        return Ok(AGAIN);
    }
    for run in &decision.delete {
        cluster.delete_run(run).await?;
    }
    for notice in &decision.notices {
        context.publish(&schedule, notice.clone()).await;
    }
    Ok(wait(&decision))
}

/// Makes what is to be made, until nothing is; returns what is to be done after that.
async fn make(
    cluster: &Cluster,
    schedule: &CompactionSchedule,
    mut runs: Vec<Run>,
) -> Result<Decision, Error> {
    let mut not_made = Vec::new();
    let mut turn = 0;
    loop {
        let decision = decide(&Observed {
            schedule,
            runs: &runs,
            not_made: &not_made,
            now: Timestamp::now(),
        })?;
        turn += 1;
        let Some(job) = decision.create.as_ref().filter(|_| turn < TURNS) else {
            return Ok(decision);
        };
        match cluster.make_job(schedule, job).await? {
            Ok(made) => runs.extend(Run::of(schedule, &made)),
            Err(why) => not_made.push((job.name_any(), why)),
        }
    }
}

fn runs<'a>(schedule: &CompactionSchedule, jobs: impl IntoIterator<Item = &'a CompactionJob>) -> Vec<Run> {
    let jobs = jobs.into_iter();
    jobs.filter_map(|job| Run::of(schedule, job)).collect()
}

fn is_idle(decision: &Decision) -> bool {
    decision.create.is_none() && decision.patch.0.is_empty() && decision.delete.is_empty()
}

fn wait(decision: &Decision) -> Duration {
    decision.wake.map_or(RESYNC, |wake| wake.min(LOOK))
}
