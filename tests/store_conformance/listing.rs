//! `list`: pages, places to start from, and the order of keys.

use compaction_operator::store::Object;

use super::*;

conformance! {
    more_than_two_pages_are_listed_in_key_order
    a_listing_starts_after_any_key_there_or_not
    a_prefix_is_one_of_the_key_and_not_of_the_path
    odd_keys_are_stored_listed_read_and_deleted_as_they_are
}

async fn more_than_two_pages_are_listed_in_key_order(world: &World) {
    let keys: Vec<String> = (0..2100).map(|n| format!("many/{:02}/{n:05}", n % 7)).collect();
    world.put_all(&keys).await;
    world.put_all(&["man", "many0", "n"].map(str::to_owned)).await;
    let etag = world.put("many/06/last", b"0123456789").await;

    let mut sorted = keys;
    sorted.push("many/06/last".to_owned());
    sorted.sort();
    let mut listed: Vec<Object> = Vec::new();
    for (count, more) in [(1000, true), (1000, true), (101, false)] {
        let after = listed.last().map(|last| last.key.as_str());
        let page = world.store.list("many/", after).await.unwrap();
        assert_eq!((page.objects.len(), page.more), (count, more));
        listed.extend(page.objects);
    }
    let keys: Vec<&str> = listed.iter().map(|object| object.key.as_str()).collect();
    assert!(keys == sorted, "other keys, or in another order");
    for object in &listed[..2100] {
        assert_eq!(
            (object.size, object.readable),
            (object.key.len() as u64, true),
            "{}",
            object.key
        );
        assert!(object.modified > 1_600_000_000, "{object:?}");
    }
    let last = listed.last().unwrap();
    assert_eq!((last.size, &last.etag), (10, &etag));
}

async fn a_listing_starts_after_any_key_there_or_not(world: &World) {
    let all = ["a/1", "a/2", "a/2/x", "a/3", "b/1"].map(str::to_owned);
    let keys: Vec<String> = all.into_iter().filter(|key| key != "a/2").collect();
    world.put_all(&keys).await;
    for (after, rest) in [
        (None, &keys[..3]),
        (Some("A"), &keys[..3]),
        (Some("a/"), &keys[..3]),
        (Some("a/0"), &keys[..3]),
        (Some("a/1"), &keys[1..3]),
        (Some("a/1a"), &keys[1..3]),
        (Some("a/2"), &keys[1..3]),
        (Some("a/2/x"), &keys[2..3]),
        (Some("a/3"), &[]),
        (Some("a/zz"), &[]),
        (Some("b/1"), &[]),
    ] {
        let page = world.store.list("a/", after).await.unwrap();
        let listed: Vec<&str> = page.objects.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(listed, rest, "after {after:?}");
        assert!(!page.more);
    }
}

async fn a_prefix_is_one_of_the_key_and_not_of_the_path(world: &World) {
    let keys = ["dir-a/x", "dir/a1", "dir/ab/c", "dir/b", "dir0"].map(str::to_owned);
    world.put_all(&keys).await;
    for (prefix, expected) in [
        ("", &keys[..]),
        ("dir", &keys[..]),
        ("dir/", &keys[1..4]),
        ("dir/a", &keys[1..3]),
        ("dir/ab/c", &keys[2..3]),
        ("dir/c", &[]),
        ("e", &[]),
    ] {
        assert_eq!(world.keys(prefix).await, expected, "{prefix:?}");
    }
}

const ODD: [&str; 19] = [
    "odd/ leading and trailing ",
    "odd/\u{1}control",
    "odd/100%",
    "odd/a%2Fb",
    "odd/a+b",
    "odd/a&b<c>'d\"",
    "odd/a//b",
    "odd/back\\slash",
    "odd/brackets[0]{1}",
    "odd/dots...and..more",
    "odd/folder/",
    "odd/hash#f",
    "odd/q?x=1&y=2",
    "odd/semi:colon,comma;=$@!*()",
    "odd/~tilde/.hidden",
    "odd/\u{fc}n\u{ef}c\u{f6}d\u{e9}/\u{65e5}\u{672c}\u{8a9e}",
    "odd/u\u{308}",
    // In UTF-16 these two are the other way round.
    "odd/\u{ff5e}",
    "odd/\u{1f980}",
];

async fn odd_keys_are_stored_listed_read_and_deleted_as_they_are(world: &World) {
    let mut kept = Vec::new();
    let unlistable = world.traits.unlistable_keys;
    for key in ODD.into_iter().filter(|key| !unlistable.contains(key)) {
        let stored = world
            .store
            .put(key, Bytes::from_static(key.as_bytes()), Put::default())
            .await;
        match stored {
            Ok(etag) => kept.push((key, etag)),
            Err(error) => {
                assert!(world.traits.refused_keys.contains(&key), "{error}");
                assert_eq!(error.kind, ErrorKind::InvalidRequest, "{error}");
            }
        }
    }
    let left_out = world.traits.refused_keys.len() + unlistable.len();
    assert_eq!(kept.len() + left_out, ODD.len());
    kept.sort_unstable();
    let keys: Vec<&str> = kept.iter().map(|(key, _)| *key).collect();
    assert_eq!(world.keys("odd/").await, keys);
    for (index, (key, etag)) in kept.iter().enumerate() {
        let page = world.store.list("odd/", Some(key)).await.unwrap();
        let after: Vec<&str> = page.objects.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(after, keys[index + 1..], "after {key:?}");
        assert_eq!(world.keys(key).await, [*key]);
        assert_eq!(
            world.store.head(key).await.unwrap().unwrap().etag,
            *etag,
            "{key:?}"
        );
        assert_eq!(world.content(key).await.unwrap(), key, "{key:?}");
        let read = world.store.read(key, 1..key.len() as u64, etag).await.unwrap();
        assert_eq!(read, key[1..], "{key:?}");
    }
    let owned: Vec<String> = keys.into_iter().map(str::to_owned).collect();
    world.store.delete(&owned).await.unwrap();
    assert_eq!(world.keys("").await, [""; 0]);
}
