//! Listing keys.

use aws_sdk_s3::types::EncodingType;

use super::*;

conformance! {
    keys_are_listed_in_byte_order_in_pages
    a_listing_starts_after_any_key
    a_prefix_need_not_end_at_a_slash
    a_delimiter_rolls_keys_up
    a_listing_is_url_encoded_on_request
}

/// In the order of their bytes, which is not that of any directory walk.
const ORDERED: [&str; 11] = [
    "B", "a!/x", "a-", "a-b/c", "a.b", "a/b", "a/b0", "a0", "ab", "b/ä", "日本",
];

async fn put_ordered(store: &Store) {
    for key in ORDERED.iter().rev() {
        store.put(key, key.as_bytes()).await;
    }
}

async fn keys_are_listed_in_byte_order_in_pages(store: &Store) {
    put_ordered(store).await;
    for size in [1, 2, 5, 1000] {
        let mut seen = Vec::new();
        let mut token = None;
        loop {
            let page = store.list().max_keys(size);
            let page = page.set_continuation_token(token).send().await.unwrap();
            assert!(page.contents().len() <= size as usize);
            assert_eq!(page.key_count, Some(page.contents().len() as i32));
            seen.extend(page.contents().iter().map(|object| object.key.clone().unwrap()));
            token = page.next_continuation_token;
            assert_eq!(page.is_truncated, Some(token.is_some()));
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, ORDERED, "in pages of {size}");
    }
    let none = store.list().max_keys(0).send().await.unwrap();
    assert_eq!((none.contents().len(), none.is_truncated), (0, Some(false)));
    let wrong = store.list().continuation_token("?").send().await;
    store.expect(
        "listing with a token of nobody's",
        "400 InvalidArgument",
        outcome(&wrong),
    );
}

async fn a_listing_starts_after_any_key(store: &Store) {
    put_ordered(store).await;
    for after in ORDERED
        .into_iter()
        .chain(["", "0", "a-b", "a-b/", "a/", "a/b!", "a/zz", "~", "日本/"])
    {
        let listed = store.list().start_after(after).send().await.unwrap();
        let seen: Vec<_> = listed
            .contents()
            .iter()
            .map(|object| object.key().unwrap())
            .collect();
        let expected: Vec<_> = ORDERED.into_iter().filter(|key| *key > after).collect();
        assert_eq!(seen, expected, "after {after}");
    }
}

async fn a_prefix_need_not_end_at_a_slash(store: &Store) {
    put_ordered(store).await;
    for prefix in [
        "a", "a-", "a/", "a/b", "a/b0", "a!", "日", "b/ä", "nothing", "a/b/c",
    ] {
        let expected: Vec<_> = ORDERED
            .into_iter()
            .filter(|key| key.starts_with(prefix))
            .collect();
        assert_eq!(store.keys(prefix).await, expected, "prefix {prefix}");
    }
    let list = store.list().prefix("a/").start_after("a-");
    assert_eq!(list.send().await.unwrap().contents().len(), 2);
}

async fn a_delimiter_rolls_keys_up(store: &Store) {
    for key in ["a/1", "a/2", "a/b/3", "b", "c/1", "d-1", "d-2"] {
        store.put(key, b"").await;
    }
    for size in [1, 2, 1000] {
        let list = |prefix, delimiter| list_rolled_up(store, prefix, delimiter, size);
        assert_eq!(list("", "/").await, ["a/", "b", "c/", "d-1", "d-2"]);
        assert_eq!(list("a/", "/").await, ["a/1", "a/2", "a/b/"]);
        assert_eq!(list("a", "/").await, ["a/"]);
        let others = if list("", "-").await == ["a/1", "a/2", "a/b/3", "b", "c/1", "d-"] {
            "each once"
        } else {
            "some twice"
        };
        if size == 1 {
            store.expect("pages with another delimiter than a slash", "each once", others);
        }
    }
}

/// Keys and common prefixes of all pages, sorted.
async fn list_rolled_up(store: &Store, prefix: &str, delimiter: &str, size: i32) -> Vec<String> {
    let mut pages = store
        .list()
        .prefix(prefix)
        .delimiter(delimiter)
        .max_keys(size)
        .into_paginator()
        .send();
    let mut seen = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        seen.extend(page.contents().iter().map(|object| object.key.clone().unwrap()));
        seen.extend(
            page.common_prefixes()
                .iter()
                .map(|common| common.prefix.clone().unwrap()),
        );
    }
    seen.sort_unstable();
    seen
}

async fn a_listing_is_url_encoded_on_request(store: &Store) {
    store.put("a b/ü+%~(1)*_.x", b"").await;
    let list = store.list().prefix("a b/");
    let listed = list.encoding_type(EncodingType::Url).send().await.unwrap();
    assert_eq!(listed.encoding_type, Some(EncodingType::Url));
    store.expect(
        "encoded key",
        "a+b/%C3%BC%2B%25%7E%281%29*_.x",
        listed.contents()[0].key().unwrap(),
    );
    store.expect("encoded prefix", "a+b/", listed.prefix().unwrap());
}
