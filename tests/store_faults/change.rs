//! Putting and deleting.

use bytes::Bytes;
use compaction_operator::store::{Capabilities, Deleted, ErrorKind, Put, Store};

use crate::server::{ETAG, Reply, Request, Server, kind};

pub(crate) const NOTHING_WRONG: &str = "<DeleteResult></DeleteResult>";

#[tokio::test]
async fn a_put_that_took_effect_unanswered_is_recognised_by_its_token() {
    let server = Server::start(|request, before| match (request.method.as_str(), before) {
        ("PUT", 0) => Reply::Raw(""),
        ("PUT", _) => Reply::error(412, "PreconditionFailed"),
        _ => Reply::head(5, "mine"),
    })
    .await;
    let capabilities = Capabilities {
        create_only: true,
        ..Capabilities::default()
    };
    let store = server.store().await.with_capabilities(capabilities);
    let put = |token, body: &'static str| {
        let options = Put {
            create_only: true,
            token: Some(token),
            attributes: None,
        };
        store.put("key", Bytes::from_static(body.as_bytes()), options)
    };
    assert_eq!(put("mine", "12345").await.unwrap(), ETAG);
    assert_eq!(kind(put("other", "12345").await), ErrorKind::PreconditionFailed);
    assert_eq!(kind(put("mine", "123").await), ErrorKind::PreconditionFailed);
    let request = &server.requests()[1];
    assert_eq!(request.header("if-none-match"), Some("*"));
    assert_eq!(request.header("x-amz-meta-compaction-token"), Some("mine"));
}

#[tokio::test]
async fn create_only_is_not_sent_to_a_store_that_does_not_honour_it() {
    let server = Server::start(|_, _| Reply::ok("")).await;
    let options = Put {
        create_only: true,
        ..Put::default()
    };
    server
        .store()
        .await
        .put("key", Bytes::new(), options)
        .await
        .unwrap();
    assert_eq!(server.requests()[0].header("if-none-match"), None);
}

#[tokio::test]
async fn deletes_go_in_chunks_with_a_checksum_and_odd_keys_alone() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "POST" => Reply::ok(NOTHING_WRONG),
        _ => Reply::empty(204),
    })
    .await;
    let mut keys: Vec<String> = (0..1001).map(|number| format!("k{number}")).collect();
    keys.push("odd\u{1}".to_owned());
    server.store().await.delete(&keys).await.unwrap();
    let requests = server.requests();
    let sent: Vec<_> = requests
        .iter()
        .map(|request| (request.method.as_str(), request.body.matches("<Key>").count()))
        .collect();
    assert_eq!(sent, [("POST", 1000), ("POST", 1), ("DELETE", 0)]);
    assert!(
        requests[0]
            .headers
            .keys()
            .any(|name| name.starts_with("x-amz-checksum-"))
    );
    assert!(
        requests[2].target.starts_with("/bucket/odd%01"),
        "{}",
        requests[2].target
    );
}

#[tokio::test]
async fn a_store_without_bulk_delete_is_asked_twice_and_then_key_by_key() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "POST" => Reply::error(400, "MissingContentMD5"),
        _ if request.target.contains("gone") => Reply::error(404, "NoSuchKey"),
        _ => Reply::empty(204),
    })
    .await;
    let store = server.store().await;
    store.delete(&["a".to_owned(), "gone".to_owned()]).await.unwrap();
    store.delete(&["c".to_owned()]).await.unwrap();
    let posts = server
        .requests()
        .iter()
        .filter(|request| request.method == "POST")
        .count();
    assert_eq!((posts, server.count()), (2, 5));
}

#[tokio::test]
async fn an_error_inside_a_bulk_answer_is_an_error() {
    let answer = |code: &str| {
        Reply::ok(format!(
            "<DeleteResult><Error><Key>a</Key><Code>{code}</Code><Message>m</Message></Error></DeleteResult>"
        ))
    };
    let server = Server::start(move |_, before| match before {
        0 => answer("SlowDown"),
        1 => answer("NoSuchKey"),
        _ => answer("AccessDenied"),
    })
    .await;
    let store = server.store().await;
    store.delete(&["a".to_owned()]).await.unwrap();
    assert_eq!(server.count(), 2, "a key that is turned away is tried again");
    let error = store.delete(&["a".to_owned()]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.detail.starts_with("a: AccessDenied"), "{error}");
}

#[tokio::test]
async fn a_conditional_delete_tells_changed_from_missing() {
    let script = |request: &Request, _| match request.method.as_str() {
        "HEAD" if request.target.contains("changed") => Reply::head(1, ""),
        "HEAD" => Reply::empty(404),
        "GET" => Reply::error(404, "NoSuchKey"),
        _ if request.target.contains("same") => Reply::empty(204),
        _ => Reply::error(412, "PreconditionFailed"),
    };
    let server = Server::start(script).await;
    let store = server.store().await;
    for (key, outcome) in [
        ("same", Deleted::Deleted),
        ("changed", Deleted::Changed),
        ("missing", Deleted::Missing),
    ] {
        assert_eq!(store.delete_if_match(key, "e1").await.unwrap(), outcome, "{key}");
    }
    assert_eq!(server.requests()[0].header("if-match"), Some(ETAG));
}
