//! Keys that are hard on a file system.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::*;

conformance! {
    unusual_keys_are_stored_listed_and_deleted
    keys_that_are_no_file_names
    a_key_that_is_also_a_prefix
    a_key_of_1024_bytes_is_the_longest
}

async fn delete_all(store: &Store, keys: &[&str]) {
    let objects = keys
        .iter()
        .map(|key| ObjectIdentifier::builder().key(*key).build().unwrap())
        .collect();
    let delete = Delete::builder().set_objects(Some(objects)).build().unwrap();
    let deleted = store.deleting_all().delete(delete).send().await.unwrap();
    assert_eq!(deleted.errors(), []);
}

async fn unusual_keys_are_stored_listed_and_deleted(store: &Store) {
    let keys = [
        " leading and trailing ",
        "100%",
        "a%2Fb",
        "a+b",
        "a&b<c>'d\"",
        "back\\slash",
        "dots...and..more",
        "q?x=1#f",
        "tab-free;semi:colon,comma=$@!",
        "ünïcödé/日本語/🦀",
        "~tilde/.hidden",
    ];
    for key in keys {
        store.put(key, key.as_bytes()).await;
    }
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    assert_eq!(store.keys("").await, sorted);
    for key in keys {
        assert_eq!(store.read(key).await, key.as_bytes(), "{key}");
    }
    let (one, rest) = sorted.split_first().unwrap();
    store.deleting(one).send().await.unwrap();
    delete_all(store, rest).await;
    assert!(store.keys("").await.is_empty());
}

async fn keys_that_are_no_file_names(store: &Store) {
    for (key, what) in [
        ("..", "a key with a dot segment"),
        ("../a", "a key with a dot segment"),
        ("a/../b", "a key with a dot segment"),
        ("a/..", "a key with a dot segment"),
        (".", "a key with a dot segment"),
        ("./a", "a key with a dot segment"),
        ("a/./b", "a key with a dot segment"),
        ("a//b", "a key with an empty segment"),
        ("/a", "a key that begins with a slash"),
        ("a/", "a key that ends with a slash"),
        ("a\u{1}b", "a key with a control character"),
    ] {
        let put = store
            .putting(key)
            .body(ByteStream::from_static(b"x"))
            .send()
            .await;
        store.expect(&format!("put of {what}"), "ok", outcome(&put));
        if put.is_ok() {
            assert_eq!(store.read(key).await, b"x");
            continue;
        }
        let head = store.head(key).send().await;
        store.expect(&format!("head of {what}"), "404 NotFound", outcome(&head));
        let deleted = store.deleting(key).send().await;
        store.expect(&format!("delete of {what}"), "ok", outcome(&deleted));
    }
}

async fn a_key_that_is_also_a_prefix(store: &Store) {
    store.put("a", b"object").await;
    let below = store.putting("a/b");
    let below = below.body(ByteStream::from_static(b"x")).send().await;
    store.expect("put below an object", "ok", outcome(&below));
    assert_eq!(store.read("a").await, b"object");
    let listed = format!("{:?}", store.keys("").await);
    store.expect(
        "list of an object and what is below it",
        r#"["a", "a/b"]"#,
        listed,
    );

    store.put("c/d", b"object").await;
    let above = store.putting("c");
    let above = above.body(ByteStream::from_static(b"x")).send().await;
    store.expect("put of a prefix of an object", "ok", outcome(&above));
    assert_eq!(store.read("c/d").await, b"object");

    let id = store.create_upload("c").await;
    let part = store.upload_part("c", &id, 1, b"x").await;
    let completed = store.complete("c", &id, &[part]).send().await;
    store.expect("completion of a prefix of an object", "ok", outcome(&completed));

    // A prefix ends with its last object, and is free to be a key.
    delete_all(store, &["c", "c/d"]).await;
    store.put("c", b"now an object").await;
    assert_eq!(store.read("c").await, b"now an object");
}

async fn a_key_of_1024_bytes_is_the_longest(store: &Store) {
    let put = |key: String| store.putting(&key).body(ByteStream::from_static(b"x")).send();
    let longest = "k".repeat(199) + &"/kkkkkkkkkk".repeat(75);
    assert_eq!(longest.len(), 1024);
    store.expect(
        "put of a key of 1024 bytes",
        "ok",
        outcome(&put(longest.clone()).await),
    );
    assert_eq!(store.keys("").await, std::slice::from_ref(&longest));
    store.expect(
        "put of a key of 1025 bytes",
        "400 KeyTooLongError",
        outcome(&put(longest + "k").await),
    );
    store.expect(
        "put of a segment of 256 bytes",
        "ok",
        outcome(&put("k".repeat(256)).await),
    );
}
