//! The fence against an API server whose answers a test decides.

use std::collections::VecDeque;

use super::*;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// It never arrives.
    Lost,
    /// It has its effect, and the answer is lost.
    AnswerLost,
}

struct State {
    job: Value,
    gone: bool,
    /// Of the next patches; answered when there are none.
    fates: VecDeque<Fate>,
    /// Until when nothing is answered, and until when patches are not.
    away: Option<Instant>,
    mute: Option<Instant>,
    gets: usize,
    /// Patches that were applied.
    applied: Vec<Patch>,
}

#[derive(Clone)]
struct ScriptedApi(Arc<Mutex<State>>);

const UID: &str = "uid-1";

impl ScriptedApi {
    /// A job of one shard in its epoch 3, after sequence 4, which nobody has claimed.
    fn new() -> Self {
        let checkpoint = json!({"sequence": 4, "batch": 2, "body": "b", "sha256": "s", "bytesRead": 10, "bytesWritten": 5});
        let job = json!({
            "apiVersion": "compaction.dev/v1alpha1",
            "kind": "CompactionJob",
            "metadata": {"name": "job", "uid": UID},
            "spec": {
                "storage": {"s3": {"bucket": "bucket"}},
                "source": {"prefix": "in/"}, "output": {"prefix": "out/"},
            },
            "status": {
                "observedGeneration": 1,
                "shards": [{
                    "index": 0, "epoch": 3, "holder": "", "refused": 0, "totalBatches": 9,
                    "checkpoint": checkpoint
                }],
            },
        });
        Self(Arc::new(Mutex::new(State {
            job,
            gone: false,
            fates: VecDeque::new(),
            away: None,
            mute: None,
            gets: 0,
            applied: Vec::new(),
        })))
    }

    fn edit<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn fates(&self, fates: &[Fate]) {
        self.edit(|state| state.fates = fates.iter().copied().collect());
    }

    fn set(&self, path: &str, value: Value) {
        self.edit(|state| *state.job.pointer_mut(path).unwrap() = value);
    }

    fn at(&self, path: &str) -> Value {
        self.edit(|state| state.job.pointer(path).cloned().unwrap_or_default())
    }

    fn applied(&self) -> usize {
        self.edit(|state| state.applied.len())
    }

    async fn claim(&self, holder: &str) -> Result<(ShardFence, CompactionJob), FenceError> {
        let identity = Identity {
            job_uid: UID.to_owned(),
            shard: 0,
            epoch: 3,
            holder: holder.to_owned(),
        };
        ShardFence::claim(Arc::new(self.clone()), identity).await
    }

    /// A fence that holds shard 0.
    async fn held(&self) -> ShardFence {
        self.claim("pod").await.unwrap().0
    }
}

impl State {
    fn answer(&self) -> CompactionJob {
        serde_json::from_value(self.job.clone()).unwrap()
    }

    fn unanswered(until: Option<Instant>) -> Result<(), ApiError> {
        match until {
            Some(until) if Instant::now() < until => Err(ApiError::Unknown("away".to_owned())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl JobApi for ScriptedApi {
    async fn get(&self) -> Result<CompactionJob, ApiError> {
        self.edit(|state| {
            state.gets += 1;
            State::unanswered(state.away)?;
            if state.gone {
                return Err(ApiError::NotFound);
            }
            Ok(state.answer())
        })
    }

    async fn patch_status(&self, patch: &Patch) -> Result<CompactionJob, ApiError> {
        self.edit(|state| {
            State::unanswered(state.away)?;
            State::unanswered(state.mute)?;
            if state.gone {
                return Err(ApiError::NotFound);
            }
            let fate = state.fates.pop_front().unwrap_or(Fate::Answered);
            let lost = || Err(ApiError::Unknown(format!("{fate:?}")));
            if fate == Fate::Lost {
                return lost();
            }
            let outcome = json_patch::patch(&mut state.job, patch);
            if outcome.is_ok() {
                state.applied.push(patch.clone());
            }
            match (fate, outcome) {
                (Fate::AnswerLost, _) => lost(),
                (_, Err(error)) => Err(ApiError::Refused(error.to_string())),
                (_, Ok(())) => Ok(state.answer()),
            }
        })
    }
}

fn next(fence: &ShardFence, sha256: &str) -> Checkpoint {
    let mut checkpoint = fence.next();
    checkpoint.batch += 1;
    sha256.clone_into(&mut checkpoint.sha256);
    checkpoint
}

const SEQUENCE: &str = "/status/shards/0/checkpoint/sequence";
const HOLDER: &str = "/status/shards/0/holder";
const EPOCH: &str = "/status/shards/0/epoch";
const REFUSED: &str = "/status/shards/0/refused";

#[track_caller]
fn assert_fenced<T>(outcome: Result<T, FenceError>, why: &str) {
    match outcome.err() {
        Some(FenceError::Fenced(said)) if said.contains(why) => {}
        other => panic!("not fenced because {why}: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_free_shard_is_claimed_and_its_checkpoint_known() {
    let api = ScriptedApi::new();
    let (fence, job) = api.claim("pod").await.unwrap();
    assert_eq!(api.at(HOLDER), json!("pod"));
    assert_eq!(job.status.unwrap().shards[0].holder, "pod");
    assert_eq!(fence.next().sequence, 5);
    assert_eq!(api.at(SEQUENCE), json!(4), "a claim is no checkpoint");
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_is_a_claim() {
    let api = ScriptedApi::new();
    api.fates(&[Fate::AnswerLost]);
    let (fence, job) = api.claim("pod").await.unwrap();
    assert_eq!(job.status.unwrap().shards[0].holder, "pod");
    assert_eq!((fence.next().sequence, api.applied()), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_did_not_arrive_is_made_again() {
    let api = ScriptedApi::new();
    api.fates(&[Fate::Lost, Fate::Lost, Fate::AnswerLost]);
    api.claim("pod").await.unwrap();
    assert_eq!((api.at(HOLDER), api.applied()), (json!("pod"), 1));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_started_again_finds_its_own_claim() {
    let api = ScriptedApi::new();
    api.held().await;
    let fence = api.held().await;
    assert_eq!((fence.next().sequence, api.at(REFUSED)), (5, json!(0)));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_another_worker_holds_is_not_claimed() {
    for fates in [&[][..], &[Fate::Lost], &[Fate::AnswerLost]] {
        let api = ScriptedApi::new();
        api.claim("first").await.unwrap();
        api.fates(fates);
        assert_fenced(api.claim("second").await, "another worker");
        assert_eq!((api.at(HOLDER), api.at(REFUSED)), (json!("first"), json!(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_of_another_epoch_is_not_claimed() {
    let api = ScriptedApi::new();
    api.set(EPOCH, json!(4));
    assert_fenced(api.claim("pod").await, "epoch 4 has begun");
    assert_eq!((api.at(HOLDER), api.at(REFUSED)), (json!(""), json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_created_anew_is_left_untouched() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    api.set("/metadata/uid", json!("uid-2"));
    let before = api.at("");
    assert_fenced(api.claim("pod").await, "created anew");
    assert_fenced(fence.advance(next(&fence, "n"), 9).await, "created anew");
    assert_fenced(fence.job().await.map(|_| ()), "created anew");
    assert_eq!(api.at(""), before);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_gone_ends_the_worker() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    api.edit(|state| state.gone = true);
    assert_fenced(fence.advance(next(&fence, "n"), 9).await, "gone");
    assert_fenced(fence.look().await, "gone");
    assert_fenced(api.claim("pod").await, "gone");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_gone_ends_the_worker() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    api.set("/status/shards", json!([]));
    assert_fenced(fence.advance(next(&fence, "n"), 9).await, "the shard is gone");
}

#[tokio::test(start_paused = true)]
async fn an_advance_writes_the_checkpoint_and_the_total() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    let checkpoint = next(&fence, "n");
    fence.advance(checkpoint.clone(), 7).await.unwrap();
    let mut written = api.at("/status/shards/0/checkpoint");
    assert!(written.as_object_mut().unwrap().remove("time").is_some());
    assert_eq!(written, json!(checkpoint));
    assert_eq!(api.at("/status/shards/0/totalBatches"), json!(7));
    let patch = api.edit(|state| json!(state.applied.last()));
    let tested: Vec<_> = patch
        .as_array()
        .unwrap()
        .iter()
        .filter(|o| o["op"] == "test")
        .collect();
    let paths: Vec<_> = tested.iter().map(|o| o["path"].as_str().unwrap()).collect();
    let index = "/status/shards/0/index";
    assert_eq!(paths, ["/metadata/uid", index, EPOCH, HOLDER, SEQUENCE]);
}

#[tokio::test(start_paused = true)]
async fn an_advance_may_pass_over_sequences_and_be_made_again() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    let mut checkpoint = next(&fence, "n");
    checkpoint.sequence += 3;
    fence.advance(checkpoint.clone(), 9).await.unwrap();
    assert_eq!(api.at(SEQUENCE), json!(8));
    // Whoever was cut off before it heard of it.
    let fence = api.held().await;
    fence.remember(Checkpoint {
        sequence: 4,
        ..Checkpoint::default()
    });
    fence.advance(checkpoint, 9).await.unwrap();
    assert_eq!((api.at(SEQUENCE), fence.next().sequence), (json!(8), 9));
}

#[tokio::test(start_paused = true)]
async fn an_advance_is_made_once_whichever_message_was_lost() {
    for fates in [
        &[Fate::Lost][..],
        &[Fate::AnswerLost],
        &[Fate::Lost, Fate::AnswerLost],
    ] {
        let api = ScriptedApi::new();
        let fence = api.held().await;
        api.fates(fates);
        fence.advance(next(&fence, "n"), 9).await.unwrap();
        assert_eq!((api.at(SEQUENCE), api.applied()), (json!(5), 2), "{fates:?}");
        fence.advance(next(&fence, "m"), 9).await.unwrap();
        assert_eq!(api.at(SEQUENCE), json!(6), "and the next one fits");
    }
}

#[tokio::test(start_paused = true)]
async fn an_advance_under_a_newer_epoch_is_fenced_and_counted_once() {
    for fates in [&[][..], &[Fate::Lost], &[Fate::AnswerLost]] {
        let api = ScriptedApi::new();
        let fence = api.held().await;
        api.set(EPOCH, json!(4));
        api.set(HOLDER, json!(""));
        api.fates(fates);
        assert_fenced(fence.advance(next(&fence, "n"), 9).await, "epoch 4 has begun");
        assert_eq!((api.at(SEQUENCE), api.at(REFUSED)), (json!(4), json!(1)));
        assert_eq!(fence.next().sequence, 5, "it was not taken for done");
    }
}

#[tokio::test(start_paused = true)]
async fn an_advance_under_another_holder_is_fenced() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    api.set(HOLDER, json!("twin"));
    assert_fenced(fence.advance(next(&fence, "n"), 9).await, "another worker");
    assert_eq!((api.at(SEQUENCE), api.at(REFUSED)), (json!(4), json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_the_holder_did_not_leave_there_is_a_contradiction() {
    for (sequence, sha256) in [(5, "other"), (6, "n"), (3, "n")] {
        let api = ScriptedApi::new();
        let fence = api.held().await;
        api.set(SEQUENCE, json!(sequence));
        api.set("/status/shards/0/checkpoint/sha256", json!(sha256));
        let outcome = fence.advance(next(&fence, "n"), 9).await;
        assert!(
            matches!(outcome, Err(FenceError::Contradiction(_))),
            "{sequence} {sha256}: {outcome:?}"
        );
        assert_eq!((api.at(SEQUENCE), api.at(REFUSED)), (json!(sequence), json!(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_within_the_patience_is_waited_out() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    let end = Instant::now() + PATIENCE - Duration::from_secs(2);
    api.edit(|state| state.away = Some(end));
    fence.advance(next(&fence, "n"), 9).await.unwrap();
    assert_eq!(api.at(SEQUENCE), json!(5));
    assert!(Instant::now() >= end);
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_patience_ends_the_worker() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    let begin = Instant::now();
    api.edit(|state| state.away = Some(begin + Duration::from_hours(1)));
    let outcome = fence.advance(next(&fence, "n"), 9).await;
    assert!(matches!(outcome, Err(FenceError::Unavailable(_))), "{outcome:?}");
    let waited = begin.elapsed();
    assert!(waited >= PATIENCE && waited <= PATIENCE + 2 * PAUSE, "{waited:?}");
    let outcome = fence.job().await;
    assert!(matches!(outcome, Err(FenceError::Unavailable(_))), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn patches_that_are_never_answered_end_the_worker_though_reads_are() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    let begin = Instant::now();
    api.edit(|state| state.mute = Some(begin + Duration::from_hours(1)));
    let outcome = fence.advance(next(&fence, "n"), 9).await;
    assert!(matches!(outcome, Err(FenceError::Unavailable(_))), "{outcome:?}");
    let waited = begin.elapsed();
    assert!(waited >= PATIENCE && waited <= PATIENCE + 2 * PAUSE, "{waited:?}");
    assert_eq!(api.at(SEQUENCE), json!(4));
}

#[tokio::test(start_paused = true)]
async fn a_plan_comes_with_the_entries_of_its_shards() {
    for fates in [&[][..], &[Fate::Lost], &[Fate::AnswerLost]] {
        let api = ScriptedApi::new();
        let fence = api.held().await;
        api.fates(fates);
        let plan = PlanStatus {
            sha256: "plan".to_owned(),
            shards: 3,
            ..PlanStatus::default()
        };
        fence.set_plan(plan.clone(), vec![7, 8, 9]).await.unwrap();
        assert_eq!(api.at("/status/plan"), json!(plan));
        let job = api.get().await.unwrap();
        let shards = job.status.unwrap().shards;
        let entries: Vec<_> = shards
            .iter()
            .map(|s| (s.index, s.epoch, s.total_batches, s.checkpoint.sequence))
            .collect();
        assert_eq!(entries, [(0, 3, 7, 5), (1, 0, 8, 0), (2, 0, 9, 0)]);
        assert_eq!(shards[0].holder, "pod");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_of_nothing_leaves_no_batch_open() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    fence.set_plan(PlanStatus::default(), Vec::new()).await.unwrap();
    assert_eq!(api.at("/status/shards/0/totalBatches"), json!(0));
    assert_eq!(api.at("/status/shards").as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_change_raises_the_sequence_by_one_and_keeps_the_checkpoint() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    fence.show_progress().await.unwrap();
    assert_eq!(api.at(SEQUENCE), json!(5));
    fence.set_plan(PlanStatus::default(), vec![9]).await.unwrap();
    assert_eq!(api.at(SEQUENCE), json!(6));
    let publish = PublishStatus {
        sha256: "manifest".to_owned(),
        ..PublishStatus::default()
    };
    fence.set_publish(publish.clone()).await.unwrap();
    let mut published = api.at("/status/publish");
    assert!(published.as_object_mut().unwrap().remove("time").is_some());
    assert_eq!((api.at(SEQUENCE), published), (json!(7), json!(publish)));
    let dispose = DisposeStatus {
        done: 3,
        ..DisposeStatus::default()
    };
    fence.set_dispose(dispose.clone()).await.unwrap();
    assert_eq!(
        (api.at(SEQUENCE), api.at("/status/dispose")),
        (json!(8), json!(dispose))
    );
    fence.advance(next(&fence, "n"), 9).await.unwrap();
    assert_eq!(api.at(SEQUENCE), json!(9));
    let group = FailedGroup {
        shard: 0,
        reason: "BadSource".to_owned(),
        message: "source in/a".to_owned(),
    };
    fence.give_up(next(&fence, "o"), 8, group.clone()).await.unwrap();
    assert_eq!(
        (api.at(SEQUENCE), api.at("/status/lastFailedGroup")),
        (json!(10), json!(group))
    );
    fence.show_progress().await.unwrap();
    assert_eq!(api.at("/status/shards/0/checkpoint/sha256"), json!("o"));
    assert_eq!(api.at("/status/shards/0/checkpoint/batch"), json!(4));
}

#[tokio::test(start_paused = true)]
async fn a_look_is_fresh_for_a_second_and_then_asks_again() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    fence.look().await.unwrap();
    let asked = api.edit(|state| state.gets);
    fence.look().await.unwrap();
    assert_eq!(api.edit(|state| state.gets), asked);
    api.set(EPOCH, json!(4));
    tokio::time::advance(FRESH).await;
    assert_fenced(fence.look().await, "epoch 4 has begun");
    assert_fenced(fence.look().await, "epoch 4 has begun");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_does_not_stand_in_for_a_look() {
    let api = ScriptedApi::new();
    let fence = api.held().await;
    fence.advance(next(&fence, "n"), 9).await.unwrap();
    let asked = api.edit(|state| state.gets);
    fence.look().await.unwrap();
    assert_eq!(api.edit(|state| state.gets), asked + 1);
}
