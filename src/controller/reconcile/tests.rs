//! Passes against an API server that a test plays: which calls are made, in which order, and what becomes
//! of every kind of answer.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use json_patch::Patch;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::controller::PodSettings;
use crate::controller::context::Stores;
use crate::controller::memory::PROGRESS;
use crate::controller::metrics::Metrics;

/// A call: its method, the last parts of its path, its body.
type Call = (Method, String, Value);
type Answer = (u16, Value);

/// An API server that keeps one job, and answers by `special` where that has an answer.
struct Server {
    context: Context,
    calls: Arc<Mutex<Vec<Call>>>,
    job: Arc<Mutex<Value>>,
}

fn failure(code: u16, reason: &str, message: &str) -> Answer {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, status)
}

fn new_job() -> Value {
    json!({
        "apiVersion": "compaction.dev/v1alpha1", "kind": "CompactionJob",
        "metadata": {
            "name": "job", "namespace": "ns", "uid": "uid-1", "generation": 1, "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "storage": {"s3": {"bucket": "bucket"}},
            "source": {"prefix": "in/"}, "output": {"prefix": "out/"},
        },
        "status": {"observedGeneration": -1},
    })
}

/// The worker pod of shard 0, as the API server lists it.
fn pod(epoch: i64, owner: &str, state: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("job-uid-1-0-{epoch}"), "namespace": "ns", "uid": format!("pod-{epoch}"),
            "labels": {"compaction.dev/job-uid": "uid-1", "compaction.dev/shard": "0",
                "compaction.dev/epoch": epoch.to_string()},
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "job", "uid": owner}],
        },
        "spec": {"containers": []},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "worker", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state},
        ]},
    })
}

impl Server {
    /// `special` may answer a call; else it is answered as a sound API server would.
    fn new(job: Value, special: impl Fn(&Call) -> Option<Answer> + Send + 'static) -> Self {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let job = Arc::new(Mutex::new(job));
        let (log, kept) = (Arc::clone(&calls), Arc::clone(&job));
        tokio::spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let path = head
                    .uri
                    .path()
                    .rsplit("/namespaces/ns/")
                    .next()
                    .unwrap()
                    .to_owned();
                let call = (
                    head.method,
                    path,
                    serde_json::from_slice(&body).unwrap_or_default(),
                );
                let special = special(&call);
                // An answer that never comes.
                if special.as_ref().is_some_and(|(code, _)| *code == 0) {
                    log.lock().unwrap().push(call);
                    std::mem::forget(send);
                    continue;
                }
                let (code, answer) = special.unwrap_or_else(|| sound(&call, &mut kept.lock().unwrap()));
                log.lock().unwrap().push(call);
                let body = Body::from(serde_json::to_vec(&answer).unwrap());
                send.send_response(Response::builder().status(code).body(body).unwrap());
            }
        });
        let client = kube::Client::new(service, "ns");
        let context = Context::new(
            client,
            PodSettings::default(),
            Metrics::default(),
            Stores::default(),
            Arc::default(),
        );
        Self { context, calls, job }
    }

    fn job(&self) -> CompactionJob {
        serde_json::from_value(self.job.lock().unwrap().clone()).unwrap()
    }

    async fn pass(&self, memory: &mut Memory) -> Result<Option<Duration>, Error> {
        self.pass_over(&self.job(), memory).await
    }

    async fn pass_over(&self, job: &CompactionJob, memory: &mut Memory) -> Result<Option<Duration>, Error> {
        Box::pin(pass(&self.context, job, memory)).await
    }

    /// The calls so far, but for events, which may be lost.
    fn calls(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        let calls = calls.iter().filter(|(_, path, _)| !path.starts_with("events"));
        calls
            .map(|(method, path, _)| format!("{method} {path}"))
            .collect()
    }

    fn events(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        let events = calls.iter().filter(|(_, path, _)| path.starts_with("events"));
        events
            .map(|(_, _, body)| body["reason"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn body(&self, of: &str) -> Value {
        let calls = self.calls.lock().unwrap();
        let found = calls
            .iter()
            .find(|(method, path, _)| format!("{method} {path}") == of);
        found.unwrap_or_else(|| panic!("{of} was not called")).2.clone()
    }
}

fn sound((method, path, body): &Call, job: &mut Value) -> Answer {
    match (method.as_str(), path.as_str()) {
        ("GET", "pods") => (
            200,
            json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": []}),
        ),
        ("PATCH", "compactionjobs/job/status") => {
            let patch: Patch = serde_json::from_value(body.clone()).unwrap();
            match json_patch::patch(job, &patch) {
                Ok(()) => {
                    touch(job);
                    (200, job.clone())
                }
                Err(error) => failure(422, "Invalid", &error.to_string()),
            }
        }
        ("POST", _) => (201, body.clone()),
        _ => (
            200,
            json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"}),
        ),
    }
}

/// The job is another one now.
fn touch(job: &mut Value) {
    let version = job["metadata"]["resourceVersion"].as_str().unwrap();
    let version = version.parse::<u64>().unwrap() + 1;
    job["metadata"]["resourceVersion"] = json!(version.to_string());
}

const FIRST_WORKER: [&str; 5] = [
    "PATCH compactionjobs/job/status",
    "POST serviceaccounts",
    "POST roles",
    "POST rolebindings",
    "POST pods",
];

#[tokio::test]
async fn an_epoch_stands_in_the_status_before_its_pod_is_made() {
    let server = Server::new(new_job(), |_| None);
    server.pass(&mut Memory::default()).await.unwrap();
    assert_eq!(server.calls(), FIRST_WORKER);
    assert_eq!(server.job().status.unwrap().shards[0].epoch, 1);
    assert_eq!(server.body("POST pods")["metadata"]["name"], "job-uid-1-0-1");
    assert_eq!(server.events(), ["WorkerStarted"]);
    let role = server.body("POST roles");
    for rule in role["rules"].as_array().unwrap() {
        assert_eq!(rule["resourceNames"], json!(["job"]), "no other job");
    }
}

#[tokio::test]
async fn a_refused_patch_is_followed_by_no_act() {
    for (code, reason) in [(422, "Invalid"), (409, "Conflict"), (404, "NotFound")] {
        let refuse = move |call: &Call| (call.0 == Method::PATCH).then(|| failure(code, reason, "no"));
        let server = Server::new(new_job(), refuse);
        let wait = server.pass(&mut Memory::default()).await.unwrap();
        assert_eq!(wait, Some(AGAIN), "{reason}: look again soon");
        assert_eq!(server.calls(), FIRST_WORKER[..1]);
        assert_eq!(server.events(), [""; 0], "no worker is started");
    }
}

#[tokio::test]
async fn an_error_of_the_server_is_an_error_of_the_pass_and_followed_by_no_act() {
    for (code, reason) in [(403, "Forbidden"), (500, "InternalError")] {
        let refuse = move |call: &Call| (call.0 == Method::PATCH).then(|| failure(code, reason, "no"));
        let server = Server::new(new_job(), refuse);
        assert!(matches!(
            server.pass(&mut Memory::default()).await,
            Err(Error::Api { .. })
        ));
        assert_eq!(server.calls(), FIRST_WORKER[..1]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_is_not_waited_for_and_what_it_did_is_found() {
    let lost = Arc::new(Mutex::new(true));
    let lose = Arc::clone(&lost);
    let server = Server::new(new_job(), move |call| {
        (call.0 == Method::PATCH && *lose.lock().unwrap()).then_some((0, Value::Null))
    });
    let mut memory = Memory::default();
    assert!(matches!(server.pass(&mut memory).await, Err(Error::Late { .. })));
    assert_eq!(server.calls(), FIRST_WORKER[..1]);
    // The patch had been applied: the view from before is refused, and no second first epoch begins.
    *lost.lock().unwrap() = false;
    let stale = server.job();
    server.job.lock().unwrap()["status"]["shards"] = json!([{"index": 0, "epoch": 1}]);
    server.job.lock().unwrap()["metadata"]["resourceVersion"] = json!("2");
    let wait = server.pass_over(&stale, &mut memory).await.unwrap();
    assert_eq!(wait, Some(AGAIN));
    assert!(!server.calls().contains(&"POST pods".to_owned()));
}

fn exists(call: &Call, owner: &str) -> Option<Answer> {
    match (call.0.as_str(), call.1.as_str()) {
        ("POST", "pods") => Some(failure(409, "AlreadyExists", "it is there")),
        ("GET", "pods/job-uid-1-0-1") => Some((200, pod(1, owner, json!({})))),
        _ => None,
    }
}

#[tokio::test]
async fn a_pod_that_is_there_already_is_adopted_only_from_this_very_job() {
    let server = Server::new(new_job(), |call| exists(call, "uid-1"));
    server.pass(&mut Memory::default()).await.unwrap();
    let server = Server::new(new_job(), |call| exists(call, "uid-0"));
    let error = server.pass(&mut Memory::default()).await.unwrap_err();
    assert!(
        matches!(&error, Error::NotOurs { name, .. } if name == "job-uid-1-0-1"),
        "{error}"
    );
}

#[tokio::test]
async fn a_worker_that_may_not_be_made_is_waited_for_and_the_reason_told() {
    for (what, refusal) in [
        ("pods", failure(403, "Forbidden", "exceeded quota: none")),
        ("roles", failure(403, "Forbidden", "exceeded quota: none")),
        (
            "serviceaccounts",
            failure(
                400,
                "",
                "admission webhook \"a\" denied the request: exceeded quota: none",
            ),
        ),
    ] {
        let denied = move |call: &Call| (call.1 == what && call.0 == Method::POST).then(|| refusal.clone());
        let server = Server::new(new_job(), denied);
        let mut memory = Memory::default();
        let wait = server.pass(&mut memory).await.unwrap();
        assert_eq!(
            wait,
            Some(Duration::ZERO),
            "{what}: its end is to be accounted for"
        );
        assert_eq!(server.events(), [""; 0], "{what}: no worker has started");
        let wait = server.pass(&mut memory).await.unwrap();
        assert!(wait > Some(Duration::ZERO), "{what}: once is enough");
        let status = server.job().status.unwrap();
        let shard = &status.shards[0];
        assert_eq!((shard.lost, shard.waits), (0, 1), "{what}: nobody's fault");
        assert!(shard.retry_time.is_some());
        let told = serde_json::to_string(&status.conditions).unwrap();
        assert!(told.contains("exceeded quota: none"), "{told}");
    }
}

#[tokio::test]
async fn pods_that_cannot_be_listed_stop_the_pass() {
    let server = Server::new(running_job(), |call| {
        (call.1 == "pods").then(|| failure(500, "InternalError", "no"))
    });
    let mut memory = Memory::default();
    for _ in 0..2 {
        assert!(server.pass(&mut memory).await.is_err());
    }
    assert_eq!(server.calls(), ["GET pods", "GET pods"]);
}

/// A planned job whose worker runs.
fn running_job() -> Value {
    let mut job = new_job();
    job["status"] = json!({
        "observedGeneration": 1, "startTime": "2026-01-01T00:00:00Z",
        "plan": {"sha256": "s", "location": "l", "shards": 1, "batches": 9, "sourceObjects": 9,
            "sourceBytes": 90, "skippedObjects": 0, "estimatedOutputObjects": 1},
        "shards": [{"index": 0, "epoch": 3, "holder": "h", "totalBatches": 9,
            "checkpoint": {"sequence": 4, "batch": 2}, "startSequence": 1}],
    });
    job
}

fn lists(pods: Vec<Value>) -> impl Fn(&Call) -> Option<Answer> + Send + 'static {
    move |call| {
        let is_list = call.0 == Method::GET && call.1 == "pods";
        is_list.then(|| {
            let items = pods.clone();
            (
                200,
                json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}),
            )
        })
    }
}

#[tokio::test]
async fn a_suspended_jobs_worker_is_deleted_under_its_uid_and_the_status_comes_first() {
    let mut job = running_job();
    job["spec"]["suspend"] = json!(true);
    let server = Server::new(job, lists(vec![pod(3, "uid-1", json!({"running": {}}))]));
    server.pass(&mut Memory::default()).await.unwrap();
    assert_eq!(
        server.calls(),
        [
            "GET pods",
            "PATCH compactionjobs/job/status",
            "DELETE pods/job-uid-1-0-3"
        ]
    );
    let body = server.body("DELETE pods/job-uid-1-0-3");
    assert_eq!(
        body["preconditions"]["uid"], "pod-3",
        "not one that came after it"
    );
}

#[tokio::test]
async fn a_pod_that_is_gone_or_another_one_by_now_needs_no_deleting() {
    for (code, reason) in [(404, "NotFound"), (409, "Conflict")] {
        let mut job = running_job();
        job["spec"]["suspend"] = json!(true);
        let list = lists(vec![pod(3, "uid-1", json!({"running": {}}))]);
        let server = Server::new(job, move |call| {
            let delete = || (call.0 == Method::DELETE).then(|| failure(code, reason, "no"));
            list(call).or_else(delete)
        });
        server.pass(&mut Memory::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_pod_of_another_owner_is_none_of_ours_whatever_its_labels_say() {
    let mut job = running_job();
    job["spec"]["suspend"] = json!(true);
    let server = Server::new(job, lists(vec![pod(3, "uid-0", json!({"running": {}}))]));
    server.pass(&mut Memory::default()).await.unwrap();
    assert!(
        !server.calls().iter().any(|call| call.starts_with("DELETE")),
        "{:?}",
        server.calls()
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_end_no_node_confirms_is_taken_for_lost() {
    let mut ending = pod(3, "uid-1", json!({"running": {}}));
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    ending["metadata"]["deletionGracePeriodSeconds"] = json!(60);
    let server = Server::new(running_job(), lists(vec![ending]));
    let mut memory = Memory::default();
    server.pass(&mut memory).await.unwrap();
    tokio::time::advance(Duration::from_secs(119)).await;
    let wait = server.pass(&mut memory).await.unwrap();
    assert_eq!(wait, Some(LOOK));
    assert_eq!(
        server.job().status.unwrap().shards[0].waits,
        0,
        "it may still end"
    );
    tokio::time::advance(LOOK).await;
    server.pass(&mut memory).await.unwrap();
    assert_eq!(server.job().status.unwrap().shards[0].waits, 1);
}

#[tokio::test]
async fn a_pod_that_waits_is_made_again_from_an_edited_template_and_one_that_runs_is_left() {
    for (state, again) in [
        (json!({"waiting": {"reason": "ErrImagePull"}}), true),
        (json!({"running": {}}), false),
    ] {
        let server = Server::new(running_job(), lists(vec![pod(3, "uid-1", state)]));
        server.pass(&mut Memory::default()).await.unwrap();
        let deleted = server.calls().contains(&"DELETE pods/job-uid-1-0-3".to_owned());
        let shard = server.job().status.unwrap().shards[0].clone();
        assert_eq!((deleted, shard.waits, shard.lost), (again, i32::from(again), 0));
    }
}

#[tokio::test]
async fn ended_pods_of_earlier_epochs_go_but_for_the_last_failed_one() {
    let ended = |epoch, code: i32| pod(epoch, "uid-1", json!({"terminated": {"exitCode": code}}));
    let pods = vec![
        ended(1, 75),
        ended(2, 75),
        pod(3, "uid-1", json!({"running": {}})),
    ];
    let server = Server::new(running_job(), lists(pods));
    server.pass(&mut Memory::default()).await.unwrap();
    let deleted: Vec<_> = server
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("DELETE"))
        .collect();
    assert_eq!(deleted, ["DELETE pods/job-uid-1-0-1"]);
}

#[tokio::test(start_paused = true)]
async fn progress_alone_is_written_only_so_often() {
    let server = Server::new(
        running_job(),
        lists(vec![pod(3, "uid-1", json!({"running": {}}))]),
    );
    let mut memory = Memory::default();
    server.pass(&mut memory).await.unwrap();
    let patches = || {
        server
            .calls()
            .iter()
            .filter(|call| call.starts_with("PATCH"))
            .count()
    };
    let before = patches();
    tokio::time::advance(PROGRESS).await;
    advance(&server, 5);
    server.pass(&mut memory).await.unwrap();
    assert_eq!(patches(), before + 1, "the last one is old");
    advance(&server, 6);
    let calls = server.calls().len();
    let wait = server.pass(&mut memory).await.unwrap();
    assert_eq!(server.calls().len(), calls, "the next not yet");
    assert!(wait.unwrap() <= PROGRESS);
    tokio::time::advance(PROGRESS).await;
    server.pass(&mut memory).await.unwrap();
    assert_eq!(patches(), before + 2);
}

/// The worker moves its checkpoint.
fn advance(server: &Server, sequence: i64) {
    let mut job = server.job.lock().unwrap();
    let checkpoint = json!({"sequence": sequence, "batch": sequence - 2, "bytesRead": sequence});
    job["status"]["shards"][0]["checkpoint"] = checkpoint;
    touch(&mut job);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_for_until_something_has_happened() {
    let server = Server::new(
        running_job(),
        lists(vec![pod(3, "uid-1", json!({"running": {}}))]),
    );
    let mut memory = Memory::default();
    let before = server.job();
    assert_eq!(server.pass(&mut memory).await.unwrap(), Some(LOOK));
    assert_eq!(server.calls(), ["GET pods", "PATCH compactionjobs/job/status"]);
    for (job, what) in [
        (before, "as it was before the patch"),
        (server.job(), "as the patch made it"),
    ] {
        let wait = server.pass_over(&job, &mut memory).await.unwrap();
        assert_eq!((wait, server.calls().len()), (Some(LOOK), 2), "{what}");
    }
    tokio::time::advance(LOOK).await;
    server.pass(&mut memory).await.unwrap();
    assert_eq!(server.calls().len(), 3, "its time has come");
}

#[tokio::test(start_paused = true)]
async fn what_a_decision_rests_on_is_looked_at_at_once() {
    let edit: fn(&mut Value) = |job| job["metadata"]["generation"] = json!(2);
    let shard_done: fn(&mut Value) = |job| {
        job["status"]["shards"][0]["checkpoint"] = json!({"sequence": 9, "batch": 9});
    };
    let published: fn(&mut Value) = |job| job["status"]["publish"] = json!({"announced": true});
    for change in [edit, shard_done, published] {
        let server = Server::new(
            running_job(),
            lists(vec![pod(3, "uid-1", json!({"running": {}}))]),
        );
        let mut memory = Memory::default();
        server.pass(&mut memory).await.unwrap();
        let calls = server.calls().len();
        {
            let mut job = server.job.lock().unwrap();
            change(&mut job);
            touch(&mut job);
        }
        server.pass(&mut memory).await.unwrap();
        assert_eq!(server.calls()[calls], "GET pods");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_pod_is_looked_at_once_the_watch_shows_what_was_written_last() {
    let running = || pod(3, "uid-1", json!({"running": {}}));
    let server = Server::new(running_job(), lists(vec![running()]));
    let mut memory = Memory::default();
    let before = server.job();
    server.pass(&mut memory).await.unwrap();
    let running = serde_json::from_value(running()).unwrap();
    let changed = kube::runtime::watcher::Event::Apply(running);
    assert!(server.context.pod_changes.take(&changed));
    let wait = server.pass_over(&before, &mut memory).await.unwrap();
    assert_eq!((wait, server.calls().len()), (Some(AGAIN), 2));
    server.pass(&mut memory).await.unwrap();
    assert_eq!(server.calls().len(), 3);
    server.pass(&mut memory).await.unwrap();
    assert_eq!(server.calls().len(), 3, "once");
}

#[tokio::test]
async fn a_job_at_its_end_is_left_alone() {
    let mut job = running_job();
    job["status"]["publish"] = json!({"outputs": 1, "announced": true});
    job["status"]["dispose"] = json!({"finished": true});
    job["status"]["shards"][0]["checkpoint"] = json!({"sequence": 9, "batch": 9});
    let ended = pod(3, "uid-1", json!({"terminated": {"exitCode": 0}}));
    let server = Server::new(job, lists(vec![ended]));
    let mut memory = Memory::default();
    for _ in 0..2 {
        assert_eq!(server.pass(&mut memory).await.unwrap(), None);
        let all = [
            "GET pods",
            "PATCH compactionjobs/job/status",
            "DELETE pods/job-uid-1-0-3",
        ];
        assert_eq!(server.calls(), all);
    }
    assert!(memory.seen.is_none(), "its status need not be kept");
}

#[tokio::test]
async fn an_expired_job_is_deleted_as_it_was_seen() {
    let mut job = new_job();
    job["spec"]["ttlSecondsAfterFinished"] = json!(0);
    job["status"] = json!({"observedGeneration": 1, "startTime": "2026-01-01T00:00:00Z",
        "completionTime": "2026-01-01T00:00:00Z",
        "plan": {"sha256": "s", "location": "l", "shards": 1, "batches": 0, "sourceObjects": 0,
            "sourceBytes": 0, "skippedObjects": 0, "estimatedOutputObjects": 0},
        "shards": [{"index": 0, "epoch": 1}]});
    let server = Server::new(job, |_| None);
    server.pass(&mut Memory::default()).await.unwrap();
    let body = server.body("DELETE compactionjobs/job");
    assert_eq!(body["preconditions"]["uid"], "uid-1");
}

#[tokio::test]
async fn a_finalizer_is_acknowledged_before_the_first_epoch_begins() {
    let mut job = new_job();
    job["spec"]["deletionPolicy"] = json!("Cleanup");
    let server = Server::new(job, |call| {
        (call.1 == "compactionjobs/job").then(|| (200, new_job()))
    });
    server.pass(&mut Memory::default()).await.unwrap();
    assert!(
        server.calls().contains(&"PATCH compactionjobs/job".to_owned()),
        "{:?}",
        server.calls()
    );
    let patch = server.body("PATCH compactionjobs/job");
    assert_eq!(patch["metadata"]["finalizers"], json!(["compaction.dev/cleanup"]));
    assert_eq!(
        patch["metadata"]["resourceVersion"], "2",
        "as the status's patch left it"
    );
    assert!(!server.calls().contains(&"POST pods".to_owned()));
}
