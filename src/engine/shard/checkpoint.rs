//! The last checkpoint of a shard, and how the pointer follows it.
//!
//! A body is stored at every batch; the pointer moves at its own pace (I11), to the last body there is. What a
//! pointer names, or what one could have named meanwhile, goes only after a later one is acknowledged (I2).

use super::ShardInput;
use super::pace::Pace;
use crate::api::{self, Checkpoint};
use crate::engine::body::{BODY_VERSION, Body, BodyRef, Cursor, GroupState, OpenOutput, Run, Totals};
use crate::engine::{Context, Error};
use crate::plan::{self, Plan};

/// The last checkpoint, and the body it names. Acknowledged, unless its pointer is waiting.
pub(super) struct Last {
    pub checkpoint: Checkpoint,
    pub body: Option<Body>,
    run: Run,
    /// The shard's batches in all, to be told with the pointer that has not moved to `checkpoint` yet.
    waiting: Option<i64>,
    /// The group given up by `checkpoint`, to be told with the pointer.
    failed: Option<api::FailedGroup>,
    /// Tails that are of no use once the pointer stands at `checkpoint`.
    needless: Vec<String>,
    pace: Pace,
}

impl Last {
    pub(super) async fn load(context: &Context, input: &ShardInput) -> Result<Self, Error> {
        let checkpoint = input.checkpoint.clone();
        let body = if checkpoint.body.is_empty() {
            None
        } else {
            let body = context.ledger.body(&checkpoint.body, &checkpoint.sha256).await?;
            if body.version != BODY_VERSION || body.plan != input.plan_sha256 {
                let problem = "it belongs to another plan or version".to_owned();
                return Err(Error::Ledger {
                    name: checkpoint.body,
                    problem,
                });
            }
            Some(body)
        };
        let writer = context.ledger.writer();
        let after = body.as_ref().map(|_| BodyRef {
            name: checkpoint.body.clone(),
            sha256: checkpoint.sha256.clone(),
        });
        let first = checkpoint.sequence + 1;
        let run = Run {
            epoch: writer.epoch,
            holder: writer.holder.clone(),
            first,
            after,
        };
        Ok(Self {
            checkpoint,
            body,
            run,
            waiting: None,
            failed: None,
            needless: Vec::new(),
            pace: Pace::new(input.pointer_interval, &writer.holder),
        })
    }

    /// Stores a body and moves the pointer to it, if it is time. Only then is the batch done (I1).
    pub(super) async fn advance(
        &mut self,
        context: &Context,
        input: &ShardInput,
        body: Body,
        attempts: i32,
    ) -> Result<(), Error> {
        let done = body.cursor.segment >= input.plan.shards[body.shard].count;
        let remaining = remaining(&input.plan, body.shard, Some(&body));
        let total_batches = body.batch + if done { 0 } else { remaining.max(1) as i64 };
        let (name, sha256) = context.ledger.put_body(&body).await?;
        let checkpoint = Checkpoint {
            sequence: body.sequence,
            batch: body.batch,
            body: name,
            sha256,
            bytes_read: body.totals.bytes_read as i64,
            bytes_written: body.totals.bytes_written as i64,
            skipped_sources: body.totals.skipped as i64,
            records_kept: body.totals.kept as i64,
            records_dropped: body.totals.dropped as i64,
            failed_groups: body.totals.failed_groups as i64,
            attempts,
            time: None,
        };
        let needless = self.body.as_ref().and_then(|old| old.open.as_ref()?.tail.clone());
        self.needless.extend(needless.map(|tail| tail.name));
        if let Some(group) = &body.failed {
            self.failed = Some(api::FailedGroup {
                shard: body.shard as i32,
                reason: group.reason.clone(),
                message: api::bounded(&group.message),
            });
        }
        self.checkpoint = checkpoint;
        self.body = Some(body);
        self.waiting = Some(total_batches);
        if done || self.is_due(context) {
            self.point(context).await?;
        }
        Ok(())
    }

    /// Whether a pointer waits that may move now. A worker that is to stop does not wait.
    pub(super) fn is_due(&self, context: &Context) -> bool {
        self.waiting.is_some() && (self.pace.is_due() || context.stop.is_cancelled())
    }

    /// Moves the pointer to the last body, if it is not there yet. Cut off in the middle, it can be done again:
    /// a pointer that stands there already is recognised.
    pub(super) async fn point(&mut self, context: &Context) -> Result<(), Error> {
        let Some(total_batches) = self.waiting else {
            return Ok(());
        };
        let checkpoint = self.checkpoint.clone();
        match self.failed.clone() {
            Some(group) => context.fence.give_up(checkpoint, total_batches, group).await?,
            None => context.fence.advance(checkpoint, total_batches).await?,
        }
        (self.waiting, self.failed) = (None, None);
        self.pace.moved();
        // Only now: until the new pointer was acknowledged, an old one named one of these (I2).
        let needless = std::mem::take(&mut self.needless);
        if !needless.is_empty() {
            context.ledger.delete(&needless).await?;
        }
        Ok(())
    }

    pub(super) fn next_body(&self, input: &ShardInput, shard: usize) -> Body {
        let previous = &self.checkpoint.sha256;
        Body {
            version: BODY_VERSION,
            plan: input.plan_sha256.clone(),
            shard,
            sequence: self.checkpoint.sequence + 1,
            batch: self.checkpoint.batch,
            run: self.run.clone(),
            previous: previous.clone(),
            cursor: Cursor::default(),
            finished: Vec::new(),
            skipped: Vec::new(),
            failed: None,
            open: None,
            redone_to: self.body.as_ref().and_then(|body| body.redone_to.clone()),
            totals: self.body.as_ref().map_or(Totals::default(), |body| body.totals),
            deduplicate: self.body.as_ref().and_then(|body| body.deduplicate.clone()),
        }
    }

    /// The attempts that a checkpoint with this body is told with: batches that are only done again, because an
    /// output was lost, are no progress. Otherwise an output that is lost at its end each time would be built
    /// for ever.
    pub(super) fn attempts(&self, body: &mut Body) -> i32 {
        match &body.redone_to {
            Some(lost) if !body.cursor.is_beyond(lost) => self.checkpoint.attempts,
            _ => {
                body.redone_to = None;
                0
            }
        }
    }

    /// The group in the middle of which it is.
    pub(super) fn group(&self) -> Option<GroupState> {
        self.body.as_ref()?.cursor.group.clone()
    }

    /// Gives the open output up: the next work begins where it began.
    pub(super) async fn go_back(&mut self, context: &Context, input: &ShardInput) -> Result<(), Error> {
        let shard = context.ledger.writer().shard;
        let attempts = self.checkpoint.attempts + 1;
        let mut body = self.next_body(input, shard);
        let stood = self
            .body
            .as_ref()
            .map(|old| old.cursor.clone())
            .unwrap_or_default();
        if body.redone_to.as_ref().is_none_or(|lost| stood.is_beyond(lost)) {
            body.redone_to = Some(stood);
        }
        match self.body.as_ref() {
            Some(Body {
                open: Some(OpenOutput { start, .. }),
                ..
            }) => {
                body.cursor = start.cursor.clone();
                body.batch = start.batch;
                body.totals = start.totals;
            }
            Some(old) => body.cursor = old.cursor.clone(),
            None => {}
        }
        self.advance(context, input, body, attempts).await?;
        // What counts attempts is never held back.
        self.point(context).await
    }

    /// A batch passed its deadline: the same checkpoint under a new sequence, with one more attempt. The
    /// pointer must stand there.
    pub(super) async fn record_attempt(&self, context: &Context, input: &ShardInput) -> Result<(), Error> {
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.sequence += 1;
        checkpoint.attempts += 1;
        let shard = context.ledger.writer().shard;
        let remaining = remaining(&input.plan, shard, self.body.as_ref());
        let total = checkpoint.batch + remaining.max(1) as i64;
        Ok(context.fence.advance(checkpoint, total).await?)
    }
}

/// How many batches are left, as far as one can know.
fn remaining(plan: &Plan, shard: usize, body: Option<&Body>) -> u64 {
    let (of, batch_bytes) = (&plan.shards[shard], plan.frozen.batch_bytes);
    let left = |sources: u64, bytes: u64| {
        plan::batches(
            of.sources.saturating_sub(sources),
            of.bytes.saturating_sub(bytes),
            batch_bytes,
        )
    };
    let done = body.map_or(Totals::default(), |body| body.totals);
    let to_write = left(done.sources, done.bytes_read);
    if plan.frozen.deduplicate.is_none() {
        return to_write;
    }
    let marked = body.and_then(|body| body.deduplicate.as_ref());
    let to_mark = marked.map_or_else(
        || left(0, 0),
        |marked| left(marked.marked_sources, marked.marked_bytes),
    );
    to_mark + to_write
}
