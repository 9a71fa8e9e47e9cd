//! The requests and what becomes of their answers, by an API server that a test plays.

use std::pin::pin;
use std::sync::Arc;

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower_test::mock::{self, Handle, SendResponse};

use super::*;
use crate::engine::{Fence, FenceError};
use crate::worker::{Identity, ShardFence};

type Server = Handle<Request<Body>, Response<Body>>;

const PATH: &str = "/apis/compaction.dev/v1alpha1/namespaces/ns/compactionjobs/job";

fn server() -> (ApiServer, Server) {
    let (service, server) = mock::pair();
    (
        ApiServer::new(kube::Client::new(service, "default"), "ns", "job"),
        server,
    )
}

fn job(holder: &str, sequence: i64) -> Value {
    json!({
        "apiVersion": "compaction.dev/v1alpha1", "kind": "CompactionJob",
        "metadata": {"name": "job", "namespace": "ns", "uid": "uid"},
        "spec": {
            "storage": {"s3": {"bucket": "bucket"}},
            "source": {"prefix": "in/"}, "output": {"prefix": "out/"}
        },
        "status": {"observedGeneration": 1, "shards": [{
            "index": 0, "epoch": 3, "holder": holder, "refused": 0, "totalBatches": 9,
            "checkpoint": {"sequence": sequence, "batch": 0, "bytesRead": 0, "bytesWritten": 0}
        }]},
    })
}

fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, status)
}

fn respond(send: SendResponse<Response<Body>>, (code, body): (u16, Value)) {
    let body = Body::from(serde_json::to_vec(&body).unwrap());
    send.send_response(Response::builder().status(code).body(body).unwrap());
}

/// The next request, with what to answer it by.
async fn next(
    server: &mut Server,
) -> (
    Method,
    String,
    Option<String>,
    Value,
    SendResponse<Response<Body>>,
) {
    let (request, send) = server.next_request().await.expect("a request");
    let (head, body) = request.into_parts();
    let bytes = body.collect_bytes().await.unwrap();
    let kind = head
        .headers
        .get("content-type")
        .map(|kind| kind.to_str().unwrap().to_owned());
    (
        head.method,
        head.uri.to_string(),
        kind,
        serde_json::from_slice(&bytes).unwrap_or_default(),
        send,
    )
}

fn patch() -> Patch {
    serde_json::from_value(json!([{"op": "test", "path": "/metadata/uid", "value": "uid"}])).unwrap()
}

/// What a patch becomes when it is answered so.
async fn answered(answer: (u16, Value)) -> Result<CompactionJob, ApiError> {
    let (api, mut server) = server();
    let patch = patch();
    let (outcome, ()) = tokio::join!(api.patch_status(&patch), async {
        let (.., send) = next(&mut server).await;
        respond(send, answer);
    });
    outcome
}

#[tokio::test]
async fn a_status_is_changed_by_a_json_patch_of_the_subresource_under_one_name() {
    let (api, mut server) = server();
    let patch = patch();
    let (outcome, ()) = tokio::join!(api.patch_status(&patch), async {
        let (method, uri, kind, body, send) = next(&mut server).await;
        assert_eq!(method, Method::PATCH);
        assert_eq!(
            uri,
            format!("{PATH}/status?&fieldManager=compaction-operator-worker")
        );
        assert_eq!(kind.as_deref(), Some("application/json-patch+json"));
        assert_eq!(body, json!(patch));
        respond(send, (200, job("", 0)));
    });
    assert_eq!(outcome.unwrap().metadata.name.as_deref(), Some("job"));
}

#[tokio::test]
async fn a_job_is_read_by_its_name() {
    let (api, mut server) = server();
    let (outcome, ()) = tokio::join!(api.get(), async {
        let (method, uri, .., send) = next(&mut server).await;
        assert_eq!((method, uri), (Method::GET, PATH.to_owned()));
        respond(send, (200, job("pod", 4)));
    });
    assert_eq!(outcome.unwrap().status.unwrap().shards[0].holder, "pod");
}

#[tokio::test]
async fn a_job_that_is_gone_is_not_found() {
    let outcome = answered(failure(404, "NotFound", "no such job")).await;
    assert!(matches!(outcome, Err(ApiError::NotFound)), "{outcome:?}");
}

#[tokio::test]
async fn a_failed_test_and_an_invalid_result_are_refused() {
    for (code, reason, message) in [
        (
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        ),
        (422, "Invalid", "CompactionJob is invalid: a sequence never falls"),
        (409, "Conflict", "testing value /metadata/uid failed: test failed"),
        (400, "BadRequest", "not a patch"),
    ] {
        match answered(failure(code, reason, message)).await {
            Err(ApiError::Refused(said)) => assert_eq!(said, message),
            other => panic!("{code}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn every_other_answer_tells_nothing() {
    for (code, reason) in [
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (409, "Conflict"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (504, "Timeout"),
    ] {
        match answered(failure(code, reason, "said")).await {
            Err(ApiError::Unknown(said)) => {
                assert!(
                    said.contains(&code.to_string()) && said.contains("said"),
                    "{said}"
                );
            }
            other => panic!("{code}: {other:?}"),
        }
    }
    let garbled = answered((200, json!("not a job"))).await;
    assert!(matches!(garbled, Err(ApiError::Unknown(_))), "{garbled:?}");
}

#[tokio::test]
async fn a_broken_connection_tells_nothing() {
    let (api, mut server) = server();
    let patch = patch();
    let (outcome, ()) = tokio::join!(api.patch_status(&patch), async {
        let (.., send) = next(&mut server).await;
        send.send_error("connection reset");
    });
    assert!(matches!(outcome, Err(ApiError::Unknown(_))), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_answered_ends_at_its_deadline() {
    let (api, mut server) = server();
    let begin = Instant::now();
    let patch = patch();
    let mut call = pin!(api.patch_status(&patch));
    let held = tokio::select! {
        held = next(&mut server) => held,
        outcome = &mut call => panic!("{outcome:?}"),
    };
    let outcome = call.await;
    assert!(matches!(outcome, Err(ApiError::Unknown(_))), "{outcome:?}");
    assert_eq!(begin.elapsed(), DEADLINE);
    drop(held);
}

fn claim(api: ApiServer) -> impl Future<Output = Result<(ShardFence, CompactionJob), FenceError>> {
    let identity = Identity {
        job_uid: "uid".to_owned(),
        shard: 0,
        epoch: 3,
        holder: "pod".to_owned(),
    };
    ShardFence::claim(Arc::new(api), identity)
}

#[tokio::test]
async fn a_claim_is_one_patch_whose_tests_come_first() {
    let (api, mut server) = server();
    let (outcome, ()) = tokio::join!(claim(api), async {
        let (method, _, _, body, send) = next(&mut server).await;
        assert_eq!(method, Method::PATCH);
        let operations: Vec<_> = body
            .as_array()
            .unwrap()
            .iter()
            .map(|o| (o["op"].as_str().unwrap(), o["path"].as_str().unwrap()))
            .collect();
        let shard = |field: &str| format!("/status/shards/0/{field}");
        assert_eq!(
            operations,
            [
                ("test", "/metadata/uid"),
                ("test", shard("index").as_str()),
                ("test", shard("epoch").as_str()),
                ("test", shard("holder").as_str()),
                ("replace", shard("holder").as_str()),
            ]
        );
        respond(send, (200, job("pod", 4)));
    });
    outcome.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_is_found_by_a_look() {
    let (api, mut server) = server();
    let (outcome, ()) = tokio::join!(claim(api), async {
        let (method, .., send) = next(&mut server).await;
        assert_eq!(method, Method::PATCH);
        send.send_error("connection reset");
        let (method, .., send) = next(&mut server).await;
        assert_eq!(method, Method::GET);
        respond(send, (200, job("pod", 4)));
    });
    outcome.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_refused_is_looked_at_and_counted() {
    let (api, mut server) = server();
    let (outcome, ()) = tokio::join!(claim(api), async {
        let (.., send) = next(&mut server).await;
        respond(send, failure(422, "Invalid", "test failed"));
        let (method, .., send) = next(&mut server).await;
        assert_eq!(method, Method::GET);
        respond(send, (200, job("other", 4)));
        let (method, .., send) = next(&mut server).await;
        assert_eq!(method, Method::GET);
        respond(send, (200, job("other", 4)));
        let (method, _, _, body, send) = next(&mut server).await;
        assert_eq!(method, Method::PATCH);
        assert_eq!(body[3]["path"], "/status/shards/0/refused");
        assert_eq!(body[3]["value"], 1);
        respond(send, (200, job("other", 4)));
    });
    assert!(matches!(outcome, Err(FenceError::Fenced(_))));
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_denied_for_ever_ends_the_worker() {
    let (api, mut server) = server();
    let begin = Instant::now();
    let denies = tokio::spawn(async move {
        while let Some((_, send)) = server.next_request().await {
            respond(send, failure(403, "Forbidden", "no right"));
        }
    });
    match claim(api).await {
        Err(FenceError::Unavailable(said)) => assert!(said.contains("no right"), "{said}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert!(begin.elapsed().as_secs() >= 120);
    denies.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_whose_answer_never_came_is_not_made_twice() {
    let (api, mut server) = server();
    let (outcome, ()) = tokio::join!(
        async {
            let (fence, _) = claim(api).await?;
            fence.show_progress().await
        },
        async {
            let (.., send) = next(&mut server).await;
            respond(send, (200, job("pod", 4)));
            // The first one is applied, and nothing of it is heard.
            let (.., body, held) = next(&mut server).await;
            assert_eq!(body[4]["path"], "/status/shards/0/checkpoint/sequence");
            assert_eq!(body[4]["value"], 4);
            let (method, .., send) = next(&mut server).await;
            assert_eq!(method, Method::GET);
            respond(send, (200, job("pod", 5)));
            drop(held);
        }
    );
    outcome.unwrap();
}
