//! Bodies that break off, stall, or are not what was asked for.

use std::ops::Range;

use compaction_operator::store::{ErrorKind, Store};

use crate::server::{ETAG, Reply, Request, Script, Server, kind};

#[tokio::test]
async fn a_body_that_stalls_is_read_again_from_a_new_connection() {
    const HALF: &str =
        "HTTP/1.1 206 OK\r\netag: \"e1\"\r\ncontent-range: bytes 3-12/100\r\ncontent-length: 10\r\n\r\n01234";
    let server = Server::start(|_, before| match before {
        0 => Reply::Stall(HALF),
        _ => Reply::range("3-12", "0123456789"),
    })
    .await;
    let store = server.impatient_store().await;
    let body = store.read("key", 3..13, ETAG).await.unwrap();
    assert_eq!(body, "0123456789");
    assert_eq!(server.connections(), 2);
    let request = &server.requests()[1];
    assert_eq!(request.header("range"), Some("bytes=3-12"));
    assert_eq!(request.header("if-match"), Some(ETAG));

    // Neither a body that stops nor one that never begins uses up the time of a whole transfer.
    for (reply, limit) in [(HALF, "400ms"), ("", "300ms")] {
        let server = Server::start(move |_, _| Reply::Stall(reply)).await;
        let error = server
            .impatient_store()
            .await
            .read("key", 3..13, ETAG)
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout);
        assert_eq!(error.detail, format!("no answer within {limit}"));
        assert_eq!(server.count(), 5);
    }
}

#[tokio::test]
async fn a_truncated_body_is_never_handed_out() {
    const SHORT: &str =
        "HTTP/1.1 206 OK\r\netag: \"e1\"\r\ncontent-range: bytes 0-9/100\r\ncontent-length: 10\r\n\r\n01234";
    let server = Server::start(|_, before| match before {
        0 => Reply::Raw(SHORT),
        _ => Reply::range("0-9", "0123456789"),
    })
    .await;
    assert_eq!(
        server.store().await.read("key", 0..10, ETAG).await.unwrap(),
        "0123456789"
    );

    let server = Server::start(|_, _| Reply::Raw(SHORT)).await;
    let store = server.store().await;
    let error = store.read("key", 0..10, ETAG).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    assert!(error.detail.contains("broken off after 5 bytes"), "{error}");
    assert_eq!(kind(store.get("key", 100).await), ErrorKind::Unreachable);
}

#[tokio::test]
async fn a_body_without_a_length_that_ends_early_is_a_bad_answer() {
    const SHORT: &str =
        "HTTP/1.1 206 OK\r\netag: \"e1\"\r\ncontent-range: bytes 0-9/100\r\nconnection: close\r\n\r\n01234";
    let server = Server::start(|_, _| Reply::Raw(SHORT)).await;
    let error = server.store().await.read("key", 0..10, ETAG).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadAnswer);
    assert!(error.detail.contains("5 bytes instead of 10"), "{error}");
}

#[tokio::test]
async fn a_read_gets_the_pinned_version_and_the_asked_range_or_nothing() {
    let other = |_: &Request, _| Reply::Answer(206, vec![("etag", "\"e2\"".into())], "0123456789".into());
    let whole = |_: &Request, _| Reply::ok("0123456789");
    let elsewhere = |_: &Request, _| Reply::range("1-10", "0123456789");
    let changed = |_: &Request, _| Reply::error(412, "PreconditionFailed");
    let shorter = |_: &Request, _| Reply::error(416, "InvalidRange");
    let missing = |_: &Request, _| Reply::error(404, "NoSuchKey");
    let cases: [(Box<Script>, Range<u64>, ErrorKind); 7] = [
        (Box::new(other), 0..10, ErrorKind::PreconditionFailed),
        (Box::new(whole), 3..13, ErrorKind::BadAnswer),
        (Box::new(whole), 0..9, ErrorKind::BadAnswer),
        (Box::new(elsewhere), 0..10, ErrorKind::BadAnswer),
        (Box::new(changed), 0..10, ErrorKind::PreconditionFailed),
        (Box::new(shorter), 0..10, ErrorKind::PreconditionFailed),
        (Box::new(missing), 0..10, ErrorKind::NotFound),
    ];
    for (script, range, expected) in cases {
        let server = Server::start(script).await;
        let error = server.store().await.read("key", range, ETAG).await.unwrap_err();
        assert_eq!(error.kind, expected, "{error}");
    }
    let server = Server::start(whole).await;
    assert_eq!(
        server.store().await.read("key", 0..10, "e1").await.unwrap(),
        "0123456789"
    );
}

#[tokio::test]
async fn reading_no_bytes_still_looks_at_the_version() {
    let server = Server::start(|_, before| match before {
        0 | 1 => Reply::head(9, ""),
        _ => Reply::error(404, "NoSuchKey"),
    })
    .await;
    let store = server.store().await;
    assert_eq!(store.read("key", 0..0, ETAG).await.unwrap(), "");
    assert_eq!(
        kind(store.read("key", 4..4, "\"e2\"").await),
        ErrorKind::PreconditionFailed
    );
    assert_eq!(kind(store.read("key", 0..0, ETAG).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_object_above_the_limit_is_refused_before_and_while_it_is_read() {
    const ENDLESS: &str = "HTTP/1.1 200 OK\r\netag: \"e1\"\r\nconnection: close\r\n\r\n0123456789";
    const LARGE: &str = "HTTP/1.1 200 OK\r\netag: \"e1\"\r\ncontent-length: 10\r\n\r\n";
    let script = |request: &Request, _| {
        if request.is("GET", "large") {
            Reply::Stall(LARGE)
        } else {
            Reply::Raw(ENDLESS)
        }
    };
    let server = Server::start(script).await;
    let store = server.store().await;
    assert_eq!(kind(store.get("large", 9).await), ErrorKind::TooLarge);
    assert_eq!(kind(store.get("endless", 9).await), ErrorKind::TooLarge);
    assert_eq!(store.get("endless", 10).await.unwrap().unwrap(), "0123456789");
    assert_eq!(server.count(), 3, "none of it is retried");
}

#[tokio::test]
async fn a_missing_object_is_none_and_a_missing_bucket_an_error() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "HEAD" => Reply::empty(404),
        _ if request.target.contains("elsewhere") => Reply::error(404, "NoSuchBucket"),
        _ => Reply::error(404, "NoSuchKey"),
    })
    .await;
    let store = server.store().await;
    assert_eq!(store.head("key").await.unwrap(), None);
    assert_eq!(store.get("key", 1).await.unwrap(), None);
    assert_eq!(kind(store.get("elsewhere", 1).await), ErrorKind::NoSuchBucket);
}

/// A job ends for good over a source that is missing or another version.
#[tokio::test]
async fn what_a_read_does_not_find_but_a_head_does_is_read_again() {
    for (status, code) in [
        (404, "NoSuchKey"),
        (412, "PreconditionFailed"),
        (416, "InvalidRange"),
    ] {
        let server = Server::start(move |request, before| match (request.method.as_str(), before) {
            ("GET", 0) => Reply::error(status, code),
            ("HEAD", _) => Reply::head(100, ""),
            _ => Reply::range("0-9", "0123456789"),
        })
        .await;
        let body = server.store().await.read("key", 0..10, ETAG).await.unwrap();
        assert_eq!(body, "0123456789", "{code}");
        assert_eq!(server.count(), 3, "{code}");
    }
    let server = Server::start(|request, before| match (request.method.as_str(), before) {
        ("GET", 0) => Reply::error(404, "NoSuchKey"),
        ("HEAD", _) => Reply::head(3, ""),
        _ => Reply::ok("abc"),
    })
    .await;
    let body = server.store().await.get("key", 10).await.unwrap();
    assert_eq!(body.unwrap(), "abc");
}

/// Anything on the way can answer a HEAD with an empty 404.
#[tokio::test]
async fn a_head_that_finds_nothing_counts_only_when_the_store_says_so_in_words() {
    let server = Server::start(|request, before| match (request.method.as_str(), before) {
        ("HEAD", 0) => Reply::empty(404),
        ("HEAD", _) => Reply::head(3, "mine"),
        _ => Reply::ok("abc"),
    })
    .await;
    let head = server.store().await.head("key").await.unwrap().unwrap();
    assert_eq!((head.size, head.token.as_deref()), (3, Some("mine")));

    let gateway = Reply::empty;
    let server = Server::start(move |_, _| gateway(404)).await;
    assert_eq!(kind(server.store().await.head("key").await), ErrorKind::NotS3);
    let server = Server::start(|request, _| match request.method.as_str() {
        "HEAD" => Reply::empty(404),
        _ => Reply::error(404, "NoSuchBucket"),
    })
    .await;
    assert_eq!(
        kind(server.store().await.head("key").await),
        ErrorKind::NoSuchBucket
    );
}
