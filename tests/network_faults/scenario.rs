//! One job that meets one fault at one moment, and what is measured of it.

use std::time::{Duration, Instant};

use compaction_operator::api::{CompactionJobStatus, condition, conditions};
use serde_json::json;
use tokio::time::timeout;

use crate::fault::Fault;
use crate::request::Moment;
use crate::run::Run;
use crate::server::Server;
use crate::shape::Shape;
use crate::site::{Outputs, Site};

/// Longer than any of them takes; one that hangs is told from one that is slow.
const HANGS: Duration = Duration::from_mins(10);
/// Set in the spec where a request's own deadline is longer: Complete may take 10 minutes.
const DEADLINE_OF_BATCHES: u64 = 12;

/// How long a fault lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lasts {
    /// Until a worker has noticed.
    UntilKnown,
    /// Until a worker has given up, and the job waits for the store.
    UntilGivenUp,
}

impl Lasts {
    /// As the table has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::UntilKnown => "known",
            Self::UntilGivenUp => "given up",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scenario {
    pub shape: Shape,
    pub fault: Fault,
    pub moment: Moment,
    pub lasts: Lasts,
}

/// What an undisturbed run of a shape comes to.
#[derive(Debug, Clone)]
pub struct Undisturbed {
    pub outputs: Outputs,
    pub sent: u64,
}

#[derive(Debug)]
pub struct Measured {
    /// From the begin of the fault until a worker has noticed; `None` where there was nothing to be noticed.
    pub known: Option<Duration>,
    /// From its end until something new is durable.
    pub goes_on: Duration,
    pub read_again: u64,
    pub sent_again: u64,
    pub memory: u64,
    pub workers: i64,
}

impl Undisturbed {
    pub async fn run(shape: Shape) -> Self {
        let host = crate::host::Host::Plain;
        let site = Site::new(shape, Server::shared().await, host, &json!({})).await;
        let mut run = site.start();
        let (status, said) = run.end().await;
        assert!(status.success(), "{said}{}", run.last_words());
        let sent = site.traffic().sent;
        let outputs = site.outputs().await;
        assert!(outputs.len() >= 2, "{outputs:?}");
        assert_eq!(site.left_over().await, [""; 0]);
        site.remove().await;
        Self { outputs, sent }
    }
}

impl Scenario {
    pub fn name(self) -> String {
        let lasts = match self.lasts {
            Lasts::UntilKnown => "",
            Lasts::UntilGivenUp => ", until the worker gives up",
        };
        format!(
            "{}: {}, {}{lasts}",
            self.shape.name(),
            self.fault.name(),
            self.moment.name()
        )
    }

    /// Which request of its kind meets the fault: not the first where that is not yet in the middle of the work.
    fn nth(self) -> usize {
        match (self.moment, self.shape) {
            // The first is the driver's.
            (Moment::Listing, _) | (Moment::Part | Moment::Body, Shape::LargeParts) => 2,
            (Moment::Reading, Shape::Tails) => 30,
            (Moment::Reading, Shape::LargeParts) | (Moment::Part, Shape::Large) => 6,
            (Moment::Reading, Shape::Large) => 12,
            (Moment::Body | Moment::Tail, Shape::Tails) => 5,
            // The first are those of the probe.
            (Moment::Deleting, _) => 3,
            _ => 1,
        }
    }

    pub async fn play(self, undisturbed: &Undisturbed) -> Result<Measured, String> {
        let spec = match (self.moment, self.lasts) {
            (Moment::Complete, Lasts::UntilKnown) => {
                json!({"batch": {"uploadDeadlineSeconds": DEADLINE_OF_BATCHES}})
            }
            // And a store that is away counts no attempt.
            (Moment::Complete, Lasts::UntilGivenUp) => {
                json!({"batch": {"uploadDeadlineSeconds": DEADLINE_OF_BATCHES, "maxAttempts": 1}})
            }
            _ => json!({}),
        };
        let site = Site::new(self.shape, self.fault.server().await, self.fault.host(), &spec).await;
        let mut run = site.start();
        let played = timeout(HANGS, self.meet(&site, &mut run, undisturbed)).await;
        let played = played.unwrap_or_else(|_| Err("it hangs".to_owned()));
        let measured = played.map_err(|problem| format!("{problem}{}", run.last_words()))?;
        site.remove().await;
        Ok(measured)
    }

    async fn meet(&self, site: &Site, run: &mut Run, undisturbed: &Undisturbed) -> Result<Measured, String> {
        let reached = site.gate.arm(self.moment, self.nth(), self.fault.place());
        let stopped = tokio::select! {
            stopped = reached => stopped.map_err(|_| "the gate is gone".to_owned())?,
            (status, said) = run.end() => return Err(format!("ended before the fault began: {status}: {said}")),
        };
        let mark = run.mark();
        self.fault.begin(site, self.moment).await;
        let began = Instant::now();
        drop(stopped);
        let kinds = self.fault.is_known_by();
        let known = if kinds.is_empty() {
            run.goes_on(&mark).await;
            None
        } else {
            Some(run.knows(began, kinds).await?.duration_since(began))
        };
        if self.lasts == Lasts::UntilGivenUp {
            run.waits().await;
        }
        let mark = run.mark();
        self.fault.end(site).await;
        let ended = Instant::now();
        run.goes_on(&mark).await;
        let goes_on = ended.elapsed();
        let (status, said) = run.end().await;
        if !status.success() {
            return Err(format!("{status}: {said}"));
        }
        check(site, run, undisturbed).await?;
        let traffic = site.traffic();
        let sources: u64 = self
            .shape
            .sources()
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum();
        let status = site.job().status.unwrap_or_default();
        Ok(Measured {
            known,
            goes_on,
            read_again: traffic.read - sources,
            sent_again: traffic.sent.saturating_sub(undisturbed.sent),
            memory: run.memory.peak(),
            workers: status.shards.iter().map(|shard| shard.epoch).sum(),
        })
    }
}

/// All that must hold in the end, whatever happened.
async fn check(site: &Site, run: &Run, undisturbed: &Undisturbed) -> Result<(), String> {
    let status = site.job().status.unwrap_or_default();
    if !is(&status, conditions::SUCCEEDED, "True") || is(&status, conditions::STORAGE_ACCESSIBLE, "False") {
        return Err(format!("the status is {:#?}", status.conditions));
    }
    let outputs = site.outputs().await;
    if outputs != undisturbed.outputs {
        return Err(format!(
            "outputs are {outputs:#?}, not {:#?}",
            undisturbed.outputs
        ));
    }
    site.verify().await?;
    let left_over = site.left_over().await;
    if !left_over.is_empty() {
        return Err(format!("left over: {left_over:#?}"));
    }
    site.traffic().reads.check()?;
    run.memory.check()
}

fn is(status: &CompactionJobStatus, type_: &str, value: &str) -> bool {
    condition(&status.conditions, type_).is_some_and(|condition| condition.status == value)
}
