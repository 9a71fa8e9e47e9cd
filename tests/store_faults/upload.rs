//! Completing, aborting and listing uploads.

use compaction_operator::store::{Capabilities, Completion, ErrorKind, Part, Store};

use crate::server::{ETAG, Reply, Request, Server, kind};

pub(crate) fn part() -> Vec<Part> {
    vec![Part {
        number: 1,
        size: 5,
        etag: ETAG.to_owned(),
    }]
}

async fn complete(server: &Server) -> Completion {
    server.store().await.complete("key", "upload", &part(), 5).await
}

pub(crate) const COMPLETED: &str =
    "<CompleteMultipartUploadResult><ETag>\"e1\"</ETag></CompleteMultipartUploadResult>";

#[tokio::test]
async fn a_complete_whose_answer_is_lost_is_unknown_and_not_repeated() {
    for reply in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<Co",
    ] {
        let server = Server::start(move |_, _| Reply::Raw(reply)).await;
        match complete(&server).await {
            Completion::Unknown(error) => assert_eq!(error.kind, ErrorKind::Unreachable, "{error}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(server.count(), 1, "{reply:?}");
    }
}

#[tokio::test]
async fn a_complete_that_is_never_answered_is_unknown_at_its_deadline() {
    for reply in [
        "",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n \r\n",
    ] {
        let server = Server::start(move |_, _| Reply::Stall(reply)).await;
        let store = server.impatient_store().await;
        match store.complete("key", "upload", &part(), 5).await {
            Completion::Unknown(error) => assert_eq!(error.detail, "no answer within 500ms"),
            other => panic!("{other:?}"),
        }
        assert_eq!(server.count(), 1);
    }
}

#[tokio::test]
async fn answers_to_a_complete_are_sorted_into_refused_and_unknown() {
    for (status, code, kind, refused) in [
        (200, "InternalError", ErrorKind::ServerError, false),
        (200, "InvalidPart", ErrorKind::InvalidPart, true),
        (400, "InvalidPart", ErrorKind::InvalidPart, true),
        (400, "InvalidPartOrder", ErrorKind::InvalidPart, true),
        (400, "EntityTooSmall", ErrorKind::PartTooSmall, true),
        (400, "InvalidRequest", ErrorKind::InvalidRequest, true),
        (403, "AccessDenied", ErrorKind::Denied, true),
        (404, "NoSuchBucket", ErrorKind::NoSuchBucket, true),
        (404, "NoSuchUpload", ErrorKind::NoSuchUpload, false),
        (409, "ConditionalRequestConflict", ErrorKind::ServerError, true),
        (412, "PreconditionFailed", ErrorKind::PreconditionFailed, true),
        (500, "InternalError", ErrorKind::ServerError, false),
        (503, "SlowDown", ErrorKind::Throttled, true),
        (503, "ServiceUnavailable", ErrorKind::Throttled, false),
        (507, "XMinioStorageFull", ErrorKind::StorageFull, false),
    ] {
        let server = Server::start(move |_, _| Reply::error(status, code)).await;
        let (was_refused, error) = match complete(&server).await {
            Completion::Refused(error) => (true, error),
            Completion::Unknown(error) => (false, error),
            Completion::Done(etag) => panic!("{status} {code} is no success: {etag}"),
        };
        assert_eq!((error.kind, was_refused), (kind, refused), "{status} {code}");
        let passing = matches!(kind, ErrorKind::Throttled | ErrorKind::ServerError);
        // What would end a job for good must be said twice.
        let final_ = matches!(kind, ErrorKind::InvalidRequest | ErrorKind::PartTooSmall);
        let attempts = match (refused && passing, final_) {
            (true, _) => 5,
            (false, true) => 2,
            (false, false) => 1,
        };
        assert_eq!(server.count(), attempts, "{status} {code}");
    }
}

#[tokio::test]
async fn a_nonsense_answer_to_a_complete_is_unknown() {
    for body in [
        "",
        "<html>hello</html>",
        "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>",
    ] {
        let server = Server::start(move |_, _| Reply::Answer(200, vec![], body.into())).await;
        match complete(&server).await {
            Completion::Unknown(error) => assert_eq!(error.kind, ErrorKind::NotS3, "{body:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_complete_that_is_turned_away_is_repeated_and_sends_its_conditions_only_where_they_are_honoured() {
    let server = Server::start(|_, before| match before % 2 {
        0 => Reply::error(503, "SlowDown"),
        _ => Reply::ok(COMPLETED),
    })
    .await;
    let capabilities = Capabilities {
        conditional_complete: true,
        size_guard: true,
        ..Capabilities::default()
    };
    let plain = server.store().await;
    let plain: std::sync::Arc<dyn Store> = std::sync::Arc::new(plain);
    for store in [plain.clone(), plain.with_capabilities(capabilities)] {
        match store.complete("key", "upload", &part(), 5).await {
            Completion::Done(etag) => assert_eq!(etag, ETAG),
            other => panic!("{other:?}"),
        }
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(
        requests[0].body.contains("<PartNumber>1</PartNumber>"),
        "{}",
        requests[0].body
    );
    assert_eq!(requests[1].header("if-none-match"), None);
    assert_eq!(requests[1].header("x-amz-mp-object-size"), None);
    assert_eq!(requests[3].header("if-none-match"), Some("*"));
    assert_eq!(requests[3].header("x-amz-mp-object-size"), Some("5"));
}

pub(crate) const NO_PARTS: &str = "<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>";

pub(crate) const A_PART: &str = "<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber>\
    <ETag>\"e1\"</ETag><Size>5</Size></Part></ListPartsResult>";

#[tokio::test]
async fn an_abort_is_repeated_until_no_parts_are_listed() {
    let server = Server::start(|request, before| match (request.method.as_str(), before) {
        ("DELETE", _) => Reply::empty(204),
        ("GET", 0..5) => Reply::ok(A_PART),
        _ => Reply::ok(NO_PARTS),
    })
    .await;
    server.store().await.abort("key", "upload").await.unwrap();
    let methods: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| request.method)
        .collect();
    assert_eq!(methods, ["DELETE", "GET", "DELETE", "GET", "DELETE", "GET"]);

    let server = Server::start(|_, _| Reply::error(404, "NoSuchUpload")).await;
    let store = server.store().await;
    store.abort("key", "upload").await.unwrap();
    assert_eq!(store.list_parts("key", "upload").await.unwrap(), None);

    let server = Server::start(|request, _| match request.method.as_str() {
        "DELETE" => Reply::empty(204),
        _ => Reply::ok(A_PART),
    })
    .await;
    assert_eq!(
        kind(server.store().await.abort("key", "upload").await),
        ErrorKind::ServerError
    );
}

#[tokio::test]
async fn parts_are_listed_over_pages_and_in_ascending_order() {
    let page = |number: u32, more: bool| {
        Reply::ok(format!(
            "<ListPartsResult><IsTruncated>{more}</IsTruncated><Part><PartNumber>{number}</PartNumber>\
             <ETag>\"e{number}\"</ETag><Size>5</Size></Part></ListPartsResult>"
        ))
    };
    let pages = move |request: &Request, _| {
        if request.target.contains("part-number-marker=7") {
            page(9, false)
        } else {
            page(7, true)
        }
    };
    let server = Server::start(pages).await;
    let parts = server
        .store()
        .await
        .list_parts("key", "upload")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(parts.iter().map(|part| part.number).collect::<Vec<_>>(), [7, 9]);

    let server = Server::start(move |_, _| page(7, true)).await;
    let store = server.store().await;
    assert_eq!(
        kind(store.list_parts("key", "upload").await),
        ErrorKind::BadAnswer,
        "the same page for ever"
    );
}

#[tokio::test]
async fn only_uploads_of_exactly_the_key_are_listed_over_all_pages() {
    let upload = |key: &str, id: &str| format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId></Upload>");
    let first = format!(
        "<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
         <NextKeyMarker>a+key</NextKeyMarker><NextUploadIdMarker>u1</NextUploadIdMarker>{}\
         </ListMultipartUploadsResult>",
        upload("a+key", "u1")
    );
    let second = format!(
        "<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
         <NextKeyMarker>a+key2</NextKeyMarker><NextUploadIdMarker>u3</NextUploadIdMarker>{}{}\
         </ListMultipartUploadsResult>",
        upload("a+key", "u2"),
        upload("a+key2", "u3")
    );
    let pages = move |request: &Request, _| {
        Reply::ok(if request.target.contains("upload-id-marker=u1") {
            &second
        } else {
            &first
        })
    };
    let server = Server::start(pages).await;
    assert_eq!(
        server.store().await.list_uploads("a key").await.unwrap(),
        ["u1", "u2"]
    );
    assert_eq!(
        server.count(),
        2,
        "what comes after longer keys is of no interest"
    );
}
