//! What people are shown of a job: lines from its status and a clock. Pure; says verbatim what the operator says.

use jiff::Timestamp;
use kube::ResourceExt;

use super::words::{Screen, bar, bytes, count, length, since, table, until};
use crate::api::names::pod_name;
use crate::api::{CompactionJob, CompactionJobStatus, Mode, ShardStatus, condition, conditions};

/// So many of the latest failures are shown.
const FAILURES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
}

/// How a job has ended, if it has. What was said of an earlier spec may be over; what is published stays so.
pub(super) fn end(job: &CompactionJob) -> Option<End> {
    let status = job.status.as_ref()?;
    if status.is(conditions::SUCCEEDED) {
        return Some(End::Succeeded);
    }
    (has_failed(job) && is_seen(job)).then_some(End::Failed)
}

/// Whether it had failed when the operator looked last; perhaps after its outputs were published, at deleting sources.
pub(super) fn has_failed(job: &CompactionJob) -> bool {
    job.status.as_ref().is_some_and(CompactionJobStatus::has_failed)
}

/// Whether the operator has seen the job as it is now.
fn is_seen(job: &CompactionJob) -> bool {
    let status = job.status.as_ref();
    status.is_some_and(|status| Some(status.observed_generation) >= job.metadata.generation)
}

/// The state's word and message, as the operator has it.
pub(super) fn state(job: &CompactionJob) -> String {
    let conditions = job.status.as_ref().map(|status| &status.conditions[..]);
    match condition(conditions.unwrap_or_default(), conditions::READY) {
        Some(ready) if ready.message.is_empty() => ready.reason.clone(),
        Some(ready) => format!("{}: {}", ready.reason, ready.message),
        None => {
            "the operator has not looked at it yet; does it run, and does it watch this namespace?".to_owned()
        }
    }
}

/// All of it.
pub(super) fn lines(job: &CompactionJob, now: Timestamp) -> Vec<String> {
    lines_with(usize::MAX, job, now)
}

/// With as many shards as a screen has room for, and how many more there are.
pub(super) fn lines_on(screen: Screen, job: &CompactionJob, now: Timestamp) -> Vec<String> {
    let shards = job.status.as_ref().map_or(0, |status| status.shards.len());
    let fewer = (0..=shards).rev();
    let mut fewer = fewer.map(|shown| lines_with(shown, job, now));
    let fits = fewer.find(|lines| screen.holds(lines));
    fits.unwrap_or_else(|| lines_with(0, job, now))
}

/// With no more than so many shards.
fn lines_with(limit: usize, job: &CompactionJob, now: Timestamp) -> Vec<String> {
    let nothing = CompactionJobStatus::default();
    let status = job.status.as_ref().unwrap_or(&nothing);
    let mut lines = table(&facts(job, status, now));
    if !status.shards.is_empty() {
        let shown = at_most(limit, &status.shards);
        lines.push(String::new());
        lines.extend(table(&shards(&shown, job, status, now)));
        lines.extend(not_shown(status.shards.len() - shown.len(), job));
    }
    if !status.failures.is_empty() {
        lines.push(String::new());
        lines.extend(failures(status, now));
    }
    if let Some(advice) = advice(job) {
        lines.push(String::new());
        lines.push(advice);
    }
    lines
}

fn facts(job: &CompactionJob, status: &CompactionJobStatus, now: Timestamp) -> Vec<Vec<String>> {
    let mut facts = Vec::new();
    let mut add = |name: &str, text: Option<String>| {
        facts.extend(text.map(|text| vec![name.to_owned(), text]));
    };
    let created = job.creation_timestamp().map(|time| since(time.0, now));
    let namespace = job.namespace().unwrap_or_default();
    let age = created.map_or_else(String::new, |age| format!(", created {age} ago"));
    add("Job", Some(format!("{} in {namespace}{age}", job.name_any())));
    add("State", Some(state(job)));
    let unseen = "the operator has not seen the last change of the spec yet".to_owned();
    add(
        "",
        (status.observed_generation >= 0 && !is_seen(job)).then_some(unseen),
    );
    add("Storage", storage(status));
    add("Plan", plan(status));
    add("Progress", progress(status));
    add("Eta", eta(status, now));
    add("Workers ran", work(status, now));
    add("Left out", left_out(status));
    add("Published", published(status, now));
    add("Disposed", disposed(status));
    facts
}

/// Told only if there is something to tell.
fn storage(status: &CompactionJobStatus) -> Option<String> {
    let storage = condition(&status.conditions, conditions::STORAGE_ACCESSIBLE)?;
    let fine = storage.status == "True" && storage.message == "every worker reached it";
    (!fine).then(|| format!("{}: {}", storage.reason, storage.message))
}

fn plan(status: &CompactionJobStatus) -> Option<String> {
    let plan = status.plan.as_ref()?;
    let skipped = match plan.skipped_objects {
        0 => String::new(),
        skipped => format!("; {} left out", count(skipped, "object", "objects")),
    };
    Some(format!(
        "{} ({}) in {} of {}, about {}{skipped}",
        count(plan.source_objects, "source", "sources"),
        bytes(plan.source_bytes),
        count(plan.batches, "batch", "batches"),
        count(plan.shards.into(), "shard", "shards"),
        count(plan.estimated_output_objects, "output", "outputs"),
    ))
}

fn progress(status: &CompactionJobStatus) -> Option<String> {
    let progress = status.progress.as_ref()?;
    let (read, written) = (bytes(progress.bytes_read), bytes(progress.bytes_written));
    Some(format!(
        "{} {}%, {} batches, {read} read, {written} written",
        bar(progress.percent.into(), 100),
        progress.percent,
        progress.summary
    ))
}

fn eta(status: &CompactionJobStatus, now: Timestamp) -> Option<String> {
    let time = status.progress.as_ref()?.estimated_completion_time.as_ref()?.0;
    Some(format!("in about {} ({time})", until(time, now)))
}

fn work(status: &CompactionJobStatus, now: Timestamp) -> Option<String> {
    let seconds = status.active_seconds_at(now);
    (seconds > 0).then(|| length(seconds))
}

fn left_out(status: &CompactionJobStatus) -> Option<String> {
    let progress = status.progress.as_ref()?;
    let of = |number: i64, one: &str, many: &str| (number > 0).then(|| count(number, one, many));
    let parts = [
        of(
            progress.skipped_sources,
            "bad or missing source",
            "bad or missing sources",
        ),
        of(
            progress.records_dropped,
            "record that was not the latest of its key",
            "records that were not the latest of their key",
        ),
        of(status.failed_groups(), "failed group", "failed groups"),
    ];
    let mut parts: Vec<String> = parts.into_iter().flatten().collect();
    if let Some(last) = &status.last_failed_group {
        parts.push(format!(
            "the last failed group: {}: {}",
            last.reason, last.message
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn published(status: &CompactionJobStatus, now: Timestamp) -> Option<String> {
    let publish = status.publish.as_ref().filter(|publish| publish.announced)?;
    let outputs = count(publish.outputs, "output", "outputs");
    let sources = count(publish.sources, "source", "sources");
    let time = status.publish_time.as_ref().or(publish.time.as_ref());
    let age = time.map_or_else(String::new, |time| format!(", {} ago", since(time.0, now)));
    Some(format!("{outputs} of {sources}{age}"))
}

fn disposed(status: &CompactionJobStatus) -> Option<String> {
    let dispose = status.dispose.as_ref().filter(|dispose| dispose.total > 0)?;
    let changed = match dispose.changed {
        0 => String::new(),
        changed => format!("; {changed} had changed and were left alone"),
    };
    Some(format!(
        "{} of {} sources deleted{changed}",
        dispose.done, dispose.total
    ))
}

/// Those that are done are left out first.
fn at_most(limit: usize, shards: &[ShardStatus]) -> Vec<&ShardStatus> {
    let mut shown: Vec<&ShardStatus> = shards.iter().collect();
    shown.sort_by_key(|shard| (shard.is_done(), shard.index));
    shown.truncate(limit);
    shown.sort_by_key(|shard| shard.index);
    shown
}

fn not_shown(shards: usize, job: &CompactionJob) -> Option<String> {
    let shards = (shards > 0).then(|| count(shards as i64, "more shard", "more shards"))?;
    let name = job.name_any();
    Some(format!(
        "and {shards}; all of them: kubectl compaction status {name}"
    ))
}

fn shards(
    shown: &[&ShardStatus],
    job: &CompactionJob,
    status: &CompactionJobStatus,
    now: Timestamp,
) -> Vec<Vec<String>> {
    let head = [
        "SHARD",
        "STATE",
        "BATCHES",
        "",
        "READ",
        "WRITTEN",
        "CHECKPOINT",
        "EPOCH",
        "POD",
        "REFUSED",
    ];
    let head = head.map(str::to_owned).to_vec();
    let rows = shown.iter().map(|shard| {
        let checkpoint = &shard.checkpoint;
        let age = checkpoint.time.as_ref().filter(|_| checkpoint.sequence > 0);
        vec![
            shard.index.to_string(),
            shard_state(job, status, shard, now),
            bar(checkpoint.batch, shard.total_batches),
            format!("{}/{}", checkpoint.batch, shard.total_batches),
            bytes(checkpoint.bytes_read),
            bytes(checkpoint.bytes_written),
            age.map_or_else(dash, |time| format!("{} ago", since(time.0, now))),
            shard.epoch.to_string(),
            holder(job, shard),
            shard.refused.to_string(),
        ]
    });
    std::iter::once(head).chain(rows).collect()
}

fn dash() -> String {
    "-".to_owned()
}

/// The pod that claimed the epoch; its name tells the epoch, so it is known from it.
fn holder(job: &CompactionJob, shard: &ShardStatus) -> String {
    if shard.holder.is_empty() {
        return dash();
    }
    pod_name(job, shard.index, shard.epoch)
}

fn shard_state(
    job: &CompactionJob,
    status: &CompactionJobStatus,
    shard: &ShardStatus,
    now: Timestamp,
) -> String {
    let end = end(job);
    if shard.is_done() && (end.is_some() || job.duty(shard.index).is_none()) {
        return "done".to_owned();
    }
    if end.is_some() || status.is(conditions::SUSPENDED) {
        return "stopped".to_owned();
    }
    match &shard.retry_time {
        Some(time) if time.0 > now => format!("retries in {}", until(time.0, now)),
        Some(_) => "waits".to_owned(),
        None if shard.epoch == 0 => "waits".to_owned(),
        None if shard.holder.is_empty() => "starts".to_owned(),
        None => "runs".to_owned(),
    }
}

fn failures(status: &CompactionJobStatus, now: Timestamp) -> Vec<String> {
    let head = ["LAST FAILURE", "SHARD", "BATCH", "TIMES", "WHY"];
    let head = head.map(str::to_owned).to_vec();
    let latest = status.failures.iter().rev().take(FAILURES);
    let rows = latest.map(|failure| {
        vec![
            format!("{} ago", since(failure.time.0, now)),
            failure.shard.to_string(),
            failure.batch.to_string(),
            failure.count.to_string(),
            format!("{}: {}", failure.reason, failure.message),
        ]
    });
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// What somebody may do about a job that does not go on by itself.
fn advice(job: &CompactionJob) -> Option<String> {
    let name = job.name_any();
    let status = job.status.as_ref()?;
    if end(job) == Some(End::Failed) {
        let retry = "once the cause is mended, it goes on from its checkpoints: kubectl compaction retry";
        return Some(format!("{retry} {name}"));
    }
    if job.spec.suspend && end(job).is_none() {
        return Some(format!("to let it go on: kubectl compaction resume {name}"));
    }
    let planned = status.plan.is_some() && job.spec.mode == Mode::PlanOnly;
    planned.then(|| "to run this plan: set spec.mode to Execute".to_owned())
}

/// What is new in a job since it was `old`, a line each.
pub(super) fn news(old: Option<&CompactionJob>, job: &CompactionJob, now: Timestamp) -> Vec<String> {
    let nothing = CompactionJobStatus::default();
    let of = |job: &CompactionJob| job.status.clone().unwrap_or_default();
    let (before, status) = (old.map_or(nothing, of), of(job));
    let mut lines = Vec::new();
    if old.map(state).as_ref() != Some(&state(job)) {
        lines.push(state(job));
    }
    let mut if_new = |name: &str, old: Option<String>, new: Option<String>| {
        let new = new.filter(|new| old.as_ref() != Some(new));
        lines.extend(new.map(|new| format!("{name}: {new}")));
    };
    if_new("storage", storage(&before), storage(&status));
    if_new("plan", plan(&before), plan(&status));
    let progressed = progress(&status).filter(|text| progress(&before).as_ref() != Some(text));
    lines.extend(progressed.map(|text| with_eta(format!("progress: {text}"), &status, now)));
    for shard in &status.shards {
        let earlier = before.shards.iter().find(|old| old.index == shard.index);
        if earlier.is_some_and(|old| old.epoch > 0 && old.epoch < shard.epoch) {
            let (index, epoch, batch) = (shard.index, shard.epoch, shard.checkpoint.batch);
            lines.push(format!(
                "shard {index}: epoch {epoch} goes on after batch {batch}"
            ));
        }
    }
    let new = status
        .failures
        .iter()
        .filter(|failure| !before.failures.contains(failure));
    lines.extend(new.map(|failure| {
        let (shard, batch) = (failure.shard, failure.batch);
        format!(
            "shard {shard}, batch {batch}: {}: {}",
            failure.reason, failure.message
        )
    }));
    lines
}

fn with_eta(progress: String, status: &CompactionJobStatus, now: Timestamp) -> String {
    match eta(status, now) {
        Some(eta) => format!("{progress}, done {eta}"),
        None => progress,
    }
}

#[cfg(test)]
mod tests;
