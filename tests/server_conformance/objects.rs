//! Objects in one request: put, get, head, delete.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::*;

conformance! {
    a_put_object_is_read_back_whole
    an_object_has_the_md5_of_its_content_as_etag_everywhere
    a_put_with_if_none_match_never_overwrites
    a_put_with_if_match_overwrites_only_that_version
    one_of_many_racing_create_only_puts_wins
    a_read_with_if_match_is_refused_for_another_version
    a_range_is_exact
    a_reader_of_a_version_is_not_disturbed_by_the_next_one
    metadata_given_at_upload_comes_back
    a_damaged_body_is_not_stored
    a_deletion_with_if_match_spares_another_version
    objects_are_deleted_in_bulk
    what_is_missing_is_named
    only_the_right_keys_get_in
}

async fn a_put_object_is_read_back_whole(store: &Store) {
    for (key, size) in [("empty", 0), ("small", 17), ("large", 3 * MIB + 1)] {
        let body = bytes(size, 1);
        store.put(key, &body).await;
        assert!(store.read(key).await == body, "{key} came back different");
        let head = store.head(key).send().await.unwrap();
        assert_eq!(head.content_length, Some(size as i64));
    }
    // A body of a length that is only known as it comes, with its checksum in a trailer.
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&path, bytes(2 * MIB, 2)).unwrap();
    let body = ByteStream::from_path(&path).await.unwrap();
    store.putting("streamed").body(body).send().await.unwrap();
    assert!(store.read("streamed").await == bytes(2 * MIB, 2));
}

async fn an_object_has_the_md5_of_its_content_as_etag_everywhere(store: &Store) {
    let body = bytes(2 * MIB, 3);
    let md5 = format!("\"{}\"", hex::encode(Md5::checksum(&body)));
    assert_eq!(store.put("a", &body).await, md5);
    let head = store.head("a").send().await.unwrap();
    assert_eq!(head.e_tag.as_ref(), Some(&md5));
    let get = store.get("a").send().await.unwrap();
    assert_eq!(get.e_tag.as_ref(), Some(&md5));
    let listed = store.list().send().await.unwrap();
    let object = &listed.contents()[0];
    assert_eq!(
        (object.e_tag.as_ref(), object.size),
        (Some(&md5), Some(body.len() as i64))
    );
    assert_eq!(
        object.last_modified.unwrap().secs(),
        head.last_modified.unwrap().secs()
    );
}

async fn a_put_with_if_none_match_never_overwrites(store: &Store) {
    let put = |body: &'static [u8]| {
        let put = store.putting("a").if_none_match("*");
        put.body(ByteStream::from_static(body)).send()
    };
    store.expect(
        "create-only put of a new key",
        "ok",
        outcome(&put(b"first").await),
    );
    let second = put(b"second").await;
    store.expect(
        "create-only put of an existing key",
        "412 PreconditionFailed",
        outcome(&second),
    );
    assert_eq!(store.read("a").await, b"first");
}

async fn a_put_with_if_match_overwrites_only_that_version(store: &Store) {
    let etag = store.put("a", b"first").await;
    let put = |key: &'static str, etag: &str| {
        let put = store.putting(key).if_match(etag);
        put.body(ByteStream::from_static(b"next")).send()
    };
    store.expect(
        "put over the version named",
        "ok",
        outcome(&put("a", &etag).await),
    );
    let stale = put("a", &etag).await;
    store.expect(
        "put over another version",
        "412 PreconditionFailed",
        outcome(&stale),
    );
    store.expect(
        "conditional put of a missing key",
        "404 NoSuchKey",
        outcome(&put("b", &etag).await),
    );
}

async fn one_of_many_racing_create_only_puts_wins(store: &Store) {
    let puts = (0..8).map(|i| {
        let put = store.putting("a").if_none_match("*");
        put.body(bytes(100_000, i).into()).send()
    });
    let results = futures::future::join_all(puts).await;
    let winners: Vec<_> = (0..8).filter(|i| results[usize::from(*i)].is_ok()).collect();
    assert_eq!(
        winners.len(),
        1,
        "{:?}",
        results.iter().map(outcome).collect::<Vec<_>>()
    );
    assert!(store.read("a").await == bytes(100_000, winners[0]));
}

async fn a_read_with_if_match_is_refused_for_another_version(store: &Store) {
    let old = store.put("a", b"old").await;
    let new = store.put("a", b"new").await;
    let get = |etag: &str| store.get("a").if_match(etag).send();
    let head = |etag: &str| store.head("a").if_match(etag).send();
    store.expect(
        "get of another version",
        "412 PreconditionFailed",
        outcome(&get(&old).await),
    );
    store.expect("get of this version", "ok", outcome(&get(&new).await));
    store.expect("head of another version", "412 -", outcome(&head(&old).await));
    store.expect("head of this version", "ok", outcome(&head(&new).await));
    let ranged = store.get("a").if_match(&old).range("bytes=0-0");
    store.expect(
        "ranged get of another version",
        "412 PreconditionFailed",
        outcome(&ranged.send().await),
    );
    let unchanged = store.get("a").if_none_match(&new).send().await;
    store.expect("get unless it is this version", "304 -", outcome(&unchanged));
}

async fn a_range_is_exact(store: &Store) {
    let body = bytes(3 * MIB, 5);
    store.put("a", &body).await;
    store.put("empty", b"").await;
    let get = |key: &'static str, range: &str| store.get(key).range(range).send();
    let end = body.len();
    for (range, from, to) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=1000-2097151".to_owned(), 1000, 2 * MIB),
        (format!("bytes={}-", end - 3), end - 3, end),
        (format!("bytes={}-{}", end - 3, end + 100), end - 3, end),
        ("bytes=-5".to_owned(), end - 5, end),
    ] {
        let object = get("a", &range).await.unwrap();
        assert_eq!(object.content_length, Some((to - from) as i64), "{range}");
        assert_eq!(
            object.content_range,
            Some(format!("bytes {from}-{}/{end}", to - 1)),
            "{range}"
        );
        assert!(
            object.body.collect().await.unwrap().to_vec() == body[from..to],
            "{range}"
        );
    }
    let beyond = get("a", &format!("bytes={end}-")).await;
    store.expect("range beyond the end", "416 InvalidRange", outcome(&beyond));
    store.expect(
        "range of an empty object",
        "416 InvalidRange",
        outcome(&get("empty", "bytes=0-0").await),
    );
}

async fn a_reader_of_a_version_is_not_disturbed_by_the_next_one(store: &Store) {
    let (old, new) = (bytes(32 * MIB, 6), bytes(32 * MIB, 7));
    store.put("a", &old).await;
    let mut object = store.get("a").send().await.unwrap();
    let mut read = object.body.next().await.unwrap().unwrap().to_vec();
    store.put("a", &new).await;
    let end = loop {
        match object.body.next().await {
            Some(Ok(chunk)) => read.extend_from_slice(&chunk),
            Some(Err(_)) => break "broken off",
            None => break "whole",
        }
    };
    store.expect("read that goes on after the next put", "whole", end);
    assert!(old.starts_with(&read), "the reader saw bytes of another version");
    assert!(end != "whole" || read.len() == old.len());
    assert!(store.read("a").await == new);
}

async fn metadata_given_at_upload_comes_back(store: &Store) {
    let put = store.putting("put").body(ByteStream::from_static(b"x"));
    put.content_type("text/plain")
        .metadata("token", "T 1")
        .cache_control("no-store")
        .send()
        .await
        .unwrap();

    let create = store.creating("parts");
    let create = create
        .content_type("text/plain")
        .metadata("token", "T 1")
        .cache_control("no-store");
    let id = create.send().await.unwrap().upload_id.unwrap();
    let part = store.upload_part("parts", &id, 1, b"x").await;
    store.complete("parts", &id, &[part]).send().await.unwrap();

    for key in ["put", "parts"] {
        let head = store.head(key).send().await.unwrap();
        assert_eq!(head.content_type.as_deref(), Some("text/plain"), "{key}");
        assert_eq!(head.cache_control.as_deref(), Some("no-store"), "{key}");
        assert_eq!(
            head.metadata.unwrap().get("token").map(String::as_str),
            Some("T 1"),
            "{key}"
        );
    }
    store.put("put", b"without").await;
    let head = store.head("put").send().await.unwrap();
    assert_eq!(
        head.metadata.unwrap_or_default().len(),
        0,
        "metadata of the version before was kept"
    );

    let large = store.putting("large").metadata("k", "v".repeat(9000));
    store.expect(
        "metadata beyond 2 KB",
        "400 MetadataTooLarge",
        outcome(&large.send().await),
    );
    assert!(!store.exists("large").await);
}

async fn a_damaged_body_is_not_stored(store: &Store) {
    let put = |key: &'static str| store.putting(key).body(ByteStream::from_static(b"content"));
    let md5 = put("a").content_md5("XrY7u+Ae7tCTyyK7j1rNww==").send().await; // that of "hello world"
    store.expect("put with another MD5", "400 BadDigest", outcome(&md5));
    let crc = put("a").checksum_crc32("AAAAAA==").send().await;
    store.expect("put with another CRC32", "400 BadDigest", outcome(&crc));
    assert!(!store.exists("a").await);

    let id = store.create_upload("b").await;
    let part = store.uploading("b").upload_id(&id).part_number(1);
    let part = part
        .body(ByteStream::from_static(b"content"))
        .content_md5("XrY7u+Ae7tCTyyK7j1rNww==");
    store.expect(
        "part with another MD5",
        "400 BadDigest",
        outcome(&part.send().await),
    );
    assert!(store.parts("b", &id).await.is_empty());
}

async fn a_deletion_with_if_match_spares_another_version(store: &Store) {
    let old = store.put("a", b"old").await;
    let new = store.put("a", b"new").await;
    let delete = |key: &'static str, etag: &str| store.deleting(key).if_match(etag).send();
    let stale = delete("a", &old).await;
    store.expect(
        "deletion of another version",
        "412 PreconditionFailed",
        outcome(&stale),
    );
    if stale.is_err() {
        assert!(store.exists("a").await);
    }
    store.expect(
        "deletion of this version",
        "ok",
        outcome(&delete("a", &new).await),
    );
    assert!(!store.exists("a").await);
    store.expect(
        "conditional deletion of a missing key",
        "404 NoSuchKey",
        outcome(&delete("a", &new).await),
    );
    let missing = store.deleting("a").send().await;
    store.expect("deletion of a missing key", "ok", outcome(&missing));
}

async fn objects_are_deleted_in_bulk(store: &Store) {
    let etag = store.put("a", b"a").await;
    store.put("b", b"b").await;
    store.put("dir/c", b"c").await;
    let object = |key: &str| ObjectIdentifier::builder().key(key);
    let delete = |objects: Vec<ObjectIdentifier>, quiet| {
        let delete = Delete::builder()
            .set_objects(Some(objects))
            .quiet(quiet)
            .build()
            .unwrap();
        store.deleting_all().delete(delete).send()
    };
    let other = "\"00000000000000000000000000000000\"";
    let objects = vec![
        object("a").e_tag(etag).build().unwrap(),
        object("b").e_tag(other).build().unwrap(),
        object("dir/c").build().unwrap(),
        object("missing").build().unwrap(),
    ];
    let answer = delete(objects, false).await.unwrap();
    let codes: Vec<_> = answer
        .errors()
        .iter()
        .map(|e| (e.key().unwrap(), e.code().unwrap()))
        .collect();
    store.expect(
        "bulk deletion of another version",
        r#"[("b", "PreconditionFailed")]"#,
        format!("{codes:?}"),
    );
    let left = store.keys("").await;
    store.expect("keys left by a bulk deletion", r#"["b"]"#, format!("{left:?}"));
    let quiet = delete(vec![object("b").build().unwrap()], true).await.unwrap();
    assert_eq!((quiet.deleted().len(), quiet.errors().len()), (0, 0));
    assert!(store.keys("").await.is_empty());
    let many = (0..1001)
        .map(|i| object(&format!("k{i}")).build().unwrap())
        .collect();
    store.expect(
        "bulk deletion of 1001 keys",
        "400 MalformedXML",
        outcome(&delete(many, true).await),
    );
}

async fn what_is_missing_is_named(store: &Store) {
    let client = &store.client;
    let get = client
        .get_object()
        .bucket(&store.bucket)
        .key("nothing")
        .send()
        .await;
    store.expect("get of a missing key", "404 NoSuchKey", outcome(&get));
    let head = client
        .head_object()
        .bucket(&store.bucket)
        .key("nothing")
        .send()
        .await;
    store.expect("head of a missing key", "404 NotFound", outcome(&head));

    let bucket = format!("missing-{}", random());
    let list = client.list_objects_v2().bucket(&bucket).send().await;
    store.expect("list of a missing bucket", "404 NoSuchBucket", outcome(&list));
    let get = client.get_object().bucket(&bucket).key("a").send().await;
    store.expect("get from a missing bucket", "404 NoSuchBucket", outcome(&get));
    let put = client
        .put_object()
        .bucket(&bucket)
        .key("a")
        .body(bytes(3 * MIB, 1).into())
        .send()
        .await;
    store.expect("put to a missing bucket", "404 NoSuchBucket", outcome(&put));
    let create = client
        .create_multipart_upload()
        .bucket(&bucket)
        .key("a")
        .send()
        .await;
    store.expect("upload to a missing bucket", "404 NoSuchBucket", outcome(&create));
    let delete = client.delete_object().bucket(&bucket).key("a").send().await;
    store.expect(
        "deletion from a missing bucket",
        "404 NoSuchBucket",
        outcome(&delete),
    );
    let head = client.head_bucket().bucket(&bucket).send().await;
    store.expect("head of a missing bucket", "404 NotFound", outcome(&head));
    let again = client.create_bucket().bucket(&store.bucket).send().await;
    store.expect(
        "creation of an existing bucket",
        "409 BucketAlreadyOwnedByYou",
        outcome(&again),
    );
}

async fn only_the_right_keys_get_in(store: &Store) {
    let access = match &store.embedded {
        Some(embedded) => embedded.endpoint.clone(),
        None => Minio::shared().endpoint.clone(),
    };
    let list = |access: Endpoint| {
        let bucket = store.bucket.clone();
        async move { access.client().list_objects_v2().bucket(bucket).send().await }
    };
    let secret = Endpoint {
        secret_key: random(),
        ..access.clone()
    };
    store.expect(
        "wrong secret key",
        "403 SignatureDoesNotMatch",
        outcome(&list(secret).await),
    );
    let unknown = Endpoint {
        access_key: random(),
        ..access
    };
    store.expect(
        "unknown access key",
        "403 InvalidAccessKeyId",
        outcome(&list(unknown).await),
    );
}
