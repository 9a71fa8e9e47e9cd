//! What every operation does about silence, faults that pass, refused keys and strangers.

use std::time::Duration;

use bytes::Bytes;
use compaction_operator::store::{Completion, CredentialsFrom, ErrorKind, Head, Put, S3, Store};
use futures::future::join_all;

use crate::server::{ETAG, Reply, Server, keys, kind};
use crate::upload::part;

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_after_all_attempts_each_on_a_new_connection() {
    let server = Server::start(|_, _| Reply::Stall("")).await;
    let error = server.impatient_store().await.head("key").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert_eq!(error.operation, "HeadObject");
    assert_eq!(error.target, "bucket/key");
    assert_eq!(server.count(), 5);
    assert_eq!(server.connections(), 5);
}

#[tokio::test]
async fn no_attempt_begins_when_the_budget_is_spent() {
    let server = Server::start(|_, _| Reply::Stall("")).await;
    let mut settings = server.impatient();
    settings.retries.budget = Duration::ZERO;
    let error = S3::new(&settings).await.unwrap().head("key").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_passing_fault_is_retried_until_it_passes() {
    let server = Server::start(|_, before| match before {
        0 => Reply::Raw(""),
        1 => Reply::error(500, "InternalError"),
        2 => Reply::Answer(502, vec![], "<html>bad gateway</html>".into()),
        _ => Reply::head(7, "t"),
    })
    .await;
    let head = server.store().await.head("key").await.unwrap().unwrap();
    assert_eq!(
        head,
        Head {
            size: 7,
            etag: ETAG.to_owned(),
            token: Some("t".to_owned())
        }
    );
    assert_eq!(server.count(), 4);
}

#[tokio::test]
async fn an_error_tells_code_message_and_request_id_once_and_a_refusal_is_doubted_once() {
    let server = Server::start(|_, _| Reply::error(400, "InvalidArgument")).await;
    let store = server.store().await;
    let error = store.put("key", Bytes::new(), Put::default()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!(error.detail, "InvalidArgument: told you, request R1");
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn an_unreachable_endpoint_is_unreachable_and_leaves_a_complete_surely_undone() {
    let server = Server::start(|_, _| Reply::ok("")).await;
    let mut settings = server.settings();
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings.endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let store = S3::new(&settings).await.unwrap();
    assert_eq!(kind(store.head("key").await), ErrorKind::Unreachable);
    match store.complete("key", "upload", &part(), 5).await {
        Completion::Refused(error) => assert_eq!(error.kind, ErrorKind::Unreachable),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_storm_of_slow_down_lowers_the_concurrency_and_everything_gets_through() {
    let server = Server::start(|_, before| match before {
        0..64 => Reply::error(503, "SlowDown"),
        _ => Reply::head(1, ""),
    })
    .await;
    let mut settings = server.settings();
    settings.concurrency = 32;
    settings.retries.attempts = 64;
    let store = S3::new(&settings).await.unwrap();
    let all = async || {
        for outcome in join_all((0..32).map(|_| store.head("key"))).await {
            outcome.unwrap();
        }
    };
    assert_eq!(store.concurrency(), 32);
    all().await;
    assert_eq!(server.count(), 64 + 32);
    let allowed = store.concurrency();
    assert!(allowed <= 16, "{allowed}");

    server.peak();
    all().await;
    // 32 successes raise a limit of one to eight at most, and a higher one by less.
    let peak = server.peak();
    assert!(
        peak <= allowed + 7,
        "{peak} in flight with {allowed} allowed at first"
    );
}

#[tokio::test]
async fn keys_that_the_store_refuses_are_read_again_once() {
    let server = Server::start(|request, _| {
        let new = request
            .header("authorization")
            .unwrap()
            .contains("Credential=new/");
        if new {
            Reply::head(1, "")
        } else {
            Reply::empty(403)
        }
    })
    .await;
    let directory = keys("old");
    let mut settings = server.settings();
    settings.credentials = CredentialsFrom::Directory(directory.path().to_owned());
    let store = S3::new(&settings).await.unwrap();

    let error = store.head("key").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(!error.to_string().contains("hunter2") && !format!("{store:?}").contains("hunter2"));
    assert_eq!(server.count(), 1, "the same keys are not tried again");

    std::fs::write(directory.path().join("accessKeyId"), "new").unwrap();
    store.head("key").await.unwrap();
    store.head("key").await.unwrap();
    assert_eq!(
        server.count(),
        4,
        "once with the old keys, then with the new ones"
    );
}

#[tokio::test]
async fn missing_keys_are_found_missing_before_anything_is_sent() {
    let server = Server::start(|_, _| Reply::ok("")).await;
    let mut settings = server.settings();
    settings.credentials = CredentialsFrom::Directory("/nowhere".into());
    let store = S3::new(&settings).await.unwrap();
    assert_eq!(kind(store.head("key").await), ErrorKind::CredentialsMissing);
    match store.complete("key", "upload", &part(), 5).await {
        Completion::Refused(error) => assert_eq!(error.kind, ErrorKind::CredentialsMissing),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn what_does_not_speak_s3_is_told_apart_from_a_missing_object() {
    let html = || "<html><body>Welcome</body></html>".to_owned();
    let server = Server::start(move |request, _| match request.target.as_str() {
        target if target.contains("garbage") => Reply::Raw("220 smtp ready\r\n\r\n"),
        target if target.contains("page") => Reply::Answer(404, vec![], html()),
        target if target.contains("empty") => Reply::empty(404),
        _ => Reply::Answer(200, vec![], html()),
    })
    .await;
    let store = server.store().await;
    for key in ["garbage", "page", "empty", "portal"] {
        assert_eq!(kind(store.get(key, 100).await), ErrorKind::NotS3, "{key}");
        assert_eq!(kind(store.read(key, 0..1, ETAG).await), ErrorKind::NotS3, "{key}");
    }
    assert_eq!(kind(store.list("", None).await), ErrorKind::NotS3);
    assert_eq!(kind(store.head("key").await), ErrorKind::NotS3);
    assert_eq!(
        kind(store.put("key", Bytes::new(), Put::default()).await),
        ErrorKind::NotS3
    );
    assert_eq!(
        kind(store.create_upload("key", Put::default()).await),
        ErrorKind::NotS3
    );
}
