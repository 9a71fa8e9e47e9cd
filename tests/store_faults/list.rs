//! Listings that are encoded, empty, archived or out of order.

use compaction_operator::disposition::Disposition;
use compaction_operator::store::{ErrorKind, Store};

use crate::server::{Reply, Server};

/// Keys with what else is said of them.
fn listing(objects: &[(&str, &str)], more: &str) -> String {
    let object = |(key, class): &(&str, &str)| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>\
             <ETag>\"e1\"</ETag><Size>5</Size>{class}</Contents>"
        )
    };
    let contents = objects.iter().map(object).collect::<Vec<_>>().concat();
    format!(
        "<ListBucketResult><EncodingType>url</EncodingType>{contents}<IsTruncated>{}</IsTruncated>{more}\
         </ListBucketResult>",
        !more.is_empty()
    )
}

#[tokio::test]
async fn a_page_has_decoded_keys_and_follows_empty_pages() {
    let server = Server::start(|_, before| match before {
        0 => Reply::ok(listing(&[], "<NextContinuationToken>t1</NextContinuationToken>")),
        _ => Reply::ok(listing(
            &[("p/a%01%25", ""), ("p/b+c", ""), ("p/%C3%BC", "")],
            "<NextContinuationToken>t2</NextContinuationToken>",
        )),
    })
    .await;
    let page = server.store().await.list("p/", Some("p/A")).await.unwrap();
    let keys: Vec<_> = page.objects.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["p/a\u{1}%", "p/b c", "p/ü"]);
    assert!(page.more);
    assert_eq!(page.objects[0].modified, 1_767_323_045);
    let targets: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| request.target)
        .collect();
    assert_eq!(targets.len(), 2);
    assert!(targets[0].contains("start-after=p%2FA"), "{targets:?}");
    assert!(targets[1].contains("continuation-token=t1"), "{targets:?}");
}

#[tokio::test]
async fn archived_objects_are_asked_about_and_stay_unreadable_when_the_store_does_not_say() {
    const ARCHIVED: &str = "<StorageClass>GLACIER</StorageClass>";
    const RESTORED: &str = "<StorageClass>GLACIER</StorageClass><RestoreStatus>\
        <IsRestoreInProgress>false</IsRestoreInProgress>\
        <RestoreExpiryDate>2027-01-02T03:04:05.000Z</RestoreExpiryDate></RestoreStatus>";
    let server = Server::start(|request, _| {
        let knows = request.target.contains("prefix=knows");
        let key = if knows { "knows" } else { "other" };
        match request.header("x-amz-optional-object-attributes") {
            None => Reply::ok(listing(&[(key, ARCHIVED)], "")),
            Some(_) if knows => Reply::ok(listing(&[(key, RESTORED)], "")),
            Some(_) => Reply::error(501, "NotImplemented"),
        }
    })
    .await;
    let store = server.store().await;
    assert!(store.list("knows", None).await.unwrap().objects[0].readable);
    assert!(!store.list("other", None).await.unwrap().objects[0].readable);
}

#[tokio::test]
async fn a_listing_in_another_order_is_asked_for_again_and_then_given_up() {
    let server = Server::start(|_, _| Reply::ok(listing(&[("b", ""), ("a", "")], ""))).await;
    let error = server.store().await.list("", None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unordered);
    assert_eq!(error.disposition(), Disposition::GiveUp);
    assert!(server.requests().len() > 1, "one odd answer ends a job");
}

#[tokio::test]
async fn the_stores_clock_is_told_by_the_head_of_an_answer_if_it_has_the_date() {
    let server = Server::start(|request, _| {
        let date = ("date", "Fri, 02 Jan 2026 03:04:05 GMT".to_owned());
        let dated = request.target.contains("prefix=dated").then_some(date);
        Reply::Answer(200, dated.into_iter().collect(), listing(&[], ""))
    })
    .await;
    let store = server.store().await;
    assert_eq!(store.time("dated").await.unwrap(), Some(1_767_323_045));
    assert_eq!(store.time("undated").await.unwrap(), None);
}
