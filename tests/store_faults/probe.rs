//! Finding out what a store honours.

use compaction_operator::store::{Capabilities, ErrorKind, Store};

use crate::change::NOTHING_WRONG;
use crate::server::{Reply, Request, Server};
use crate::upload::{A_PART, COMPLETED, NO_PARTS};

fn keys() -> [String; 2] {
    ["state/probe-object", "state/probe-assembled"].map(ToOwned::to_owned)
}

/// Says yes to everything.
fn agreeable(request: &Request) -> Reply {
    match request.method.as_str() {
        "POST" if request.target.contains("uploads") => Reply::ok(
            "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>",
        ),
        "POST" if request.target.contains("uploadId") => Reply::ok(COMPLETED),
        "POST" => Reply::ok(NOTHING_WRONG),
        "GET" if request.target.contains("uploadId") => Reply::ok(NO_PARTS),
        "GET" if request.target.contains("uploads") => Reply::ok(
            "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>",
        ),
        "DELETE" => Reply::empty(204),
        _ => Reply::ok("probe"),
    }
}

#[tokio::test]
async fn a_probe_of_a_store_that_ignores_every_condition_finds_nothing_and_cleans_up() {
    let server = Server::start(|request, _| agreeable(request)).await;
    let found = server.store().await.probe(&keys()).await.unwrap();
    assert_eq!(found, Capabilities::default());
    let requests = server.requests();
    let aborts = requests
        .iter()
        .filter(|request| request.is("DELETE", "uploadId"))
        .count();
    assert_eq!(aborts, 2);
    let delete = &requests.last().unwrap();
    assert!(
        delete.is("POST", "delete") && delete.body.matches("<Key>state/probe-").count() == 2,
        "{delete:?}"
    );
}

#[tokio::test]
async fn a_probe_that_fails_on_the_way_cleans_up_too() {
    let script = |request: &Request, _| {
        if request.is("PUT", "partNumber") {
            Reply::error(403, "AccessDenied")
        } else {
            agreeable(request)
        }
    };
    let server = Server::start(script).await;
    let error = server.store().await.probe(&keys()).await.unwrap_err();
    assert_eq!((error.operation, error.kind), ("UploadPart", ErrorKind::Denied));
    let requests = server.requests();
    assert!(requests.iter().any(|request| request.is("DELETE", "uploadId=u1")));
    assert!(requests.last().unwrap().is("POST", "delete"));
}

/// As the store lists an upload of the key that is asked for.
fn listed_upload(request: &Request) -> String {
    let key = request
        .target
        .split("prefix=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    format!(
        "<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>\
         <Upload><Key>{key}</Key><UploadId>u1</UploadId></Upload></ListMultipartUploadsResult>"
    )
}

#[tokio::test]
async fn a_probe_of_a_store_that_honours_every_condition_finds_all_of_them() {
    let server = Server::start(|request, _| {
        let conditional = ["if-none-match", "if-match"]
            .iter()
            .any(|name| request.header(name).is_some());
        let wrong_size = request
            .header("x-amz-mp-object-size")
            .is_some_and(|size| size != "5");
        match request.method.as_str() {
            "GET" if request.target.contains("uploadId") => Reply::ok(A_PART),
            "GET" if request.target.contains("uploads") => Reply::ok(listed_upload(request)),
            "HEAD" => Reply::head(5, ""),
            "DELETE" if request.target.contains("uploadId") => Reply::error(404, "NoSuchUpload"),
            _ if conditional => Reply::error(412, "PreconditionFailed"),
            _ if wrong_size => Reply::error(400, "InvalidRequest"),
            _ => agreeable(request),
        }
    })
    .await;
    let found = server.store().await.probe(&keys()).await.unwrap();
    let all = Capabilities {
        create_only: true,
        if_match_read: true,
        conditional_complete: true,
        size_guard: true,
        conditional_delete: true,
        list_parts: true,
        list_uploads: true,
    };
    assert_eq!(found, all);
}
