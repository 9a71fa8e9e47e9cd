//! Multipart uploads.

use std::collections::BTreeSet;

use super::*;

conformance! {
    a_multipart_object_is_its_parts_in_order
    a_part_that_is_too_small_is_refused_at_completion
    a_part_that_is_missing_or_another_one_is_refused
    parts_out_of_order_are_refused
    a_completion_may_leave_parts_out
    a_part_uploaded_again_replaces_the_first
    a_completion_with_if_none_match_never_overwrites
    a_completion_of_another_size_is_refused
    an_upload_belongs_to_its_key
    an_unknown_upload_is_told_apart
    an_aborted_upload_is_gone_with_its_parts
    parts_are_listed_in_pages
    uploads_are_listed_by_key
}

async fn a_multipart_object_is_its_parts_in_order(store: &Store) {
    let bodies = [bytes(5 * MIB, 1), bytes(6 * MIB, 2), bytes(7, 3)];
    let id = store.create_upload("dir/a").await;
    let mut parts = Vec::new();
    for number in [2, 3, 1] {
        parts.push(
            store
                .upload_part("dir/a", &id, number, &bodies[number as usize - 1])
                .await,
        );
    }
    parts.sort_by_key(|part| part.part_number);
    assert!(
        !store.exists("dir/a").await,
        "the object is there before its completion"
    );
    assert!(store.keys("").await.is_empty());

    let completed = store
        .complete("dir/a", &id, &parts)
        .mpu_object_size(11 * MIB as i64 + 7)
        .send()
        .await;
    let md5s: Vec<u8> = bodies.iter().flat_map(|body| Md5::checksum(body)).collect();
    let etag = format!("\"{}-3\"", hex::encode(Md5::checksum(&md5s)));
    assert_eq!(completed.unwrap().e_tag.as_ref(), Some(&etag));
    assert!(store.read("dir/a").await == bodies.concat());
    let head = store.head("dir/a").send().await.unwrap();
    assert_eq!(head.e_tag, Some(etag));
    assert_eq!(store.keys("").await, ["dir/a"]);

    let again = store.complete("dir/a", &id, &parts).send().await;
    store.expect(
        "completion of a completed upload",
        "404 NoSuchUpload",
        outcome(&again),
    );
}

async fn a_part_that_is_too_small_is_refused_at_completion(store: &Store) {
    let id = store.create_upload("a").await;
    let parts = [
        store.upload_part("a", &id, 1, &bytes(5 * MIB - 1, 1)).await,
        store.upload_part("a", &id, 2, b"end").await,
    ];
    let completed = store.complete("a", &id, &parts).send().await;
    store.expect(
        "completion with a small part",
        "400 EntityTooSmall",
        outcome(&completed),
    );
    assert!(!store.exists("a").await);
    // The upload is as it was: with a part of the right size it is completed.
    let first = store.upload_part("a", &id, 1, &bytes(5 * MIB, 1)).await;
    store
        .complete("a", &id, &[first, parts[1].clone()])
        .send()
        .await
        .unwrap();
}

async fn a_part_that_is_missing_or_another_one_is_refused(store: &Store) {
    let id = store.create_upload("a").await;
    let part = store.upload_part("a", &id, 1, b"x").await;
    let missing = CompletedPart::builder()
        .part_number(2)
        .e_tag(part.e_tag().unwrap())
        .build();
    let other = CompletedPart::builder()
        .part_number(1)
        .e_tag(format!("\"{}\"", "0".repeat(32)))
        .build();
    for (point, parts) in [
        ("completion with a missing part", vec![missing]),
        ("completion with another ETag", vec![other]),
    ] {
        let completed = store.complete("a", &id, &parts).send().await;
        store.expect(point, "400 InvalidPart", outcome(&completed));
    }
    let none = store.complete("a", &id, &[]).send().await;
    store.expect("completion without parts", "400 MalformedXML", outcome(&none));
    assert!(!store.exists("a").await);
    store.complete("a", &id, &[part]).send().await.unwrap();
}

async fn parts_out_of_order_are_refused(store: &Store) {
    let id = store.create_upload("a").await;
    let first = store.upload_part("a", &id, 1, &bytes(5 * MIB, 1)).await;
    let second = store.upload_part("a", &id, 2, &bytes(5 * MIB, 2)).await;
    let swapped = store
        .complete("a", &id, &[second.clone(), first.clone()])
        .send()
        .await;
    store.expect(
        "completion out of order",
        "400 InvalidPartOrder",
        outcome(&swapped),
    );
    let twice = store.complete("a", &id, &[first.clone(), first]).send().await;
    store.expect(
        "completion with a part twice",
        "400 InvalidPartOrder",
        outcome(&twice),
    );
    let id = store.create_upload("b").await;
    let upload = |number| {
        let part = store.uploading("b").upload_id(&id);
        part.part_number(number)
            .body(ByteStream::from_static(b"x"))
            .send()
    };
    store.expect("part number 0", "400 InvalidArgument", outcome(&upload(0).await));
    store.expect(
        "part number 10001",
        "400 InvalidArgument",
        outcome(&upload(10_001).await),
    );
    store.expect("part number 10000", "ok", outcome(&upload(10_000).await));
}

async fn a_completion_may_leave_parts_out(store: &Store) {
    let id = store.create_upload("a").await;
    let bodies = [bytes(5 * MIB, 1), bytes(5 * MIB, 2), bytes(100, 3)];
    let mut parts = Vec::new();
    for (number, body) in [10, 20, 30].into_iter().zip(&bodies) {
        parts.push(store.upload_part("a", &id, number, body).await);
    }
    parts.remove(1);
    store.complete("a", &id, &parts).send().await.unwrap();
    assert!(store.read("a").await == [&*bodies[0], &*bodies[2]].concat());
}

async fn a_part_uploaded_again_replaces_the_first(store: &Store) {
    let id = store.create_upload("a").await;
    let first = store.upload_part("a", &id, 1, b"first").await;
    let second = store.upload_part("a", &id, 1, b"second").await;
    assert_eq!(store.parts("a", &id).await[0].e_tag, second.e_tag);
    let stale = store.complete("a", &id, &[first]).send().await;
    store.expect(
        "completion with a replaced part",
        "400 InvalidPart",
        outcome(&stale),
    );
    store.complete("a", &id, &[second]).send().await.unwrap();
    assert_eq!(store.read("a").await, b"second");
}

async fn a_completion_with_if_none_match_never_overwrites(store: &Store) {
    store.put("a", b"there").await;
    let id = store.create_upload("a").await;
    let part = store.upload_part("a", &id, 1, b"x").await;
    let completed = store
        .complete("a", &id, std::slice::from_ref(&part))
        .if_none_match("*")
        .send()
        .await;
    store.expect(
        "create-only completion of an existing key",
        "412 PreconditionFailed",
        outcome(&completed),
    );
    assert_eq!(store.read("a").await, b"there");
    assert_eq!(store.parts("a", &id).await.len(), 1, "the upload is gone");
    store.deleting("a").send().await.unwrap();
    store
        .complete("a", &id, &[part])
        .if_none_match("*")
        .send()
        .await
        .unwrap();
    assert_eq!(store.read("a").await, b"x");
}

async fn a_completion_of_another_size_is_refused(store: &Store) {
    let id = store.create_upload("a").await;
    let part = store.upload_part("a", &id, 1, b"12345").await;
    let completed = store
        .complete("a", &id, std::slice::from_ref(&part))
        .mpu_object_size(6)
        .send()
        .await;
    store.expect(
        "completion of another size",
        "400 InvalidRequest",
        outcome(&completed),
    );
    if completed.is_err() {
        assert!(!store.exists("a").await);
        store
            .complete("a", &id, &[part])
            .mpu_object_size(5)
            .send()
            .await
            .unwrap();
    }
}

async fn an_upload_belongs_to_its_key(store: &Store) {
    let id = store.create_upload("a").await;
    let part = store.upload_part("a", &id, 1, b"x").await;
    let foreign = store.uploading("b").upload_id(&id).part_number(1);
    let foreign = foreign.body(ByteStream::from_static(b"x")).send().await;
    store.expect(
        "part of another key's upload",
        "404 NoSuchUpload",
        outcome(&foreign),
    );
    let completed = store.complete("b", &id, std::slice::from_ref(&part)).send().await;
    store.expect(
        "completion of another key's upload",
        "404 NoSuchUpload",
        outcome(&completed),
    );
    let listed = store.listing_parts("b").upload_id(&id).send().await;
    store.expect(
        "parts of another key's upload",
        "404 NoSuchUpload",
        outcome(&listed),
    );
    let aborted = store.aborting("b").upload_id(&id);
    store.expect(
        "abort of another key's upload",
        "404 NoSuchUpload",
        outcome(&aborted.send().await),
    );
    store.complete("a", &id, &[part]).send().await.unwrap();
}

async fn an_unknown_upload_is_told_apart(store: &Store) {
    let gone = store.create_upload("a").await;
    let abort = |id: &str| store.aborting("a").upload_id(id).send();
    abort(&gone).await.unwrap();
    for (what, id) in [
        ("an ended", gone.as_str()),
        ("a malformed", "../a"),
        ("an empty", "x"),
    ] {
        let point = |operation: &str| format!("{operation} {what} upload");
        let part = store.uploading("a").upload_id(id).part_number(1);
        let part = part.body(bytes(3 * MIB, 1).into()).send().await;
        store.expect(&point("part of"), "404 NoSuchUpload", outcome(&part));
        let listed = store.listing_parts("a").upload_id(id).send().await;
        store.expect(&point("list"), "404 NoSuchUpload", outcome(&listed));
        let part = CompletedPart::builder()
            .part_number(1)
            .e_tag(format!("\"{}\"", "0".repeat(32)))
            .build();
        let completed = store.complete("a", id, &[part]).send().await;
        store.expect(&point("complete"), "404 NoSuchUpload", outcome(&completed));
        store.expect(&point("abort"), "404 NoSuchUpload", outcome(&abort(id).await));
    }
}

async fn an_aborted_upload_is_gone_with_its_parts(store: &Store) {
    let id = store.create_upload("a").await;
    let part = store.upload_part("a", &id, 1, b"x").await;
    store.aborting("a").upload_id(&id).send().await.unwrap();
    let listed = store.listing_parts("a").upload_id(&id).send().await;
    store.expect("parts of an aborted upload", "404 NoSuchUpload", outcome(&listed));
    let completed = store.complete("a", &id, &[part]).send().await;
    store.expect(
        "completion of an aborted upload",
        "404 NoSuchUpload",
        outcome(&completed),
    );
    let uploads = store.listing_uploads().prefix("a").send().await;
    assert!(uploads.unwrap().uploads().is_empty());
    assert!(!store.exists("a").await);
}

async fn parts_are_listed_in_pages(store: &Store) {
    let id = store.create_upload("a").await;
    assert!(store.parts("a", &id).await.is_empty());
    for number in [5, 1, 30, 200] {
        store
            .upload_part("a", &id, number, &bytes(number as usize, 1))
            .await;
    }
    let list = store.listing_parts("a").upload_id(&id);
    let first = list.clone().max_parts(3).send().await.unwrap();
    assert_eq!(first.is_truncated, Some(true));
    let marker = first.next_part_number_marker.clone().unwrap();
    let second = list.max_parts(3).part_number_marker(marker).send().await.unwrap();
    assert_eq!(second.is_truncated, Some(false));
    let parts: Vec<_> = first.parts().iter().chain(second.parts()).collect();
    let numbers: Vec<_> = parts.iter().map(|part| part.part_number.unwrap()).collect();
    assert_eq!(numbers, [1, 5, 30, 200]);
    for part in parts {
        let number = part.part_number.unwrap();
        assert_eq!(part.size, Some(i64::from(number)));
        let md5 = Md5::checksum(&bytes(number as usize, 1));
        assert_eq!(part.e_tag, Some(format!("\"{}\"", hex::encode(md5))));
    }
}

async fn uploads_are_listed_by_key(store: &Store) {
    let mut ids = BTreeSet::new();
    for key in ["dir/a", "dir/a", "dir/ab", "other"] {
        ids.insert((key.to_owned(), store.create_upload(key).await));
    }
    let list = |prefix: &'static str| async move {
        let list = store.listing_uploads().prefix(prefix).send().await;
        let uploads = list.unwrap().uploads.unwrap_or_default().into_iter();
        uploads
            .map(|u| (u.key.unwrap(), u.upload_id.unwrap()))
            .collect::<BTreeSet<_>>()
    };
    let having = |prefix: &str| {
        ids.iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .cloned()
            .collect()
    };
    assert_eq!(list("other").await, having("other"));
    for prefix in ["dir/a", "dir/", "dir", ""] {
        let complete = if list(prefix).await == having(prefix) {
            "all"
        } else {
            "some missing"
        };
        store.expect(&format!("uploads with the prefix `{prefix}`"), "all", complete);
    }
    let page = store.listing_uploads().prefix("other").max_uploads(1);
    assert_eq!(page.send().await.unwrap().is_truncated, Some(false));
}
