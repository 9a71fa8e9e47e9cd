//! `put`, `head`, `get` and `read`.

use std::collections::BTreeMap;

use compaction_operator::store::{Attributes, Part, Result};

use super::*;

conformance! {
    what_is_put_is_told_by_head_and_listing
    a_whole_object_is_read_up_to_a_limit
    a_range_is_read_exactly
    a_read_of_another_version_is_refused
    a_read_of_no_bytes_looks_at_the_version_too
    create_only_is_honoured_when_it_is_made_use_of
    attributes_are_kept_or_refused
}

fn with_token(token: &str) -> Put<'_> {
    Put {
        token: Some(token),
        ..Put::default()
    }
}

async fn what_is_put_is_told_by_head_and_listing(world: &World) {
    assert_eq!(world.store.head("a").await.unwrap(), None);
    let first = world
        .store
        .put("a", bytes(10, 1), with_token("shard 1, output 2"))
        .await
        .unwrap();
    let head = world.store.head("a").await.unwrap().unwrap();
    assert_eq!(
        (head.size, head.token.as_deref()),
        (10, Some("shard 1, output 2"))
    );
    assert_eq!(head.etag, first);

    let second = world.put("a", &[]).await;
    assert_ne!(first, second);
    let head = world.store.head("a").await.unwrap().unwrap();
    assert_eq!((head.size, head.token, &head.etag), (0, None, &second));
    let page = world.store.list("", None).await.unwrap();
    assert_eq!((page.objects[0].size, &page.objects[0].etag), (0, &second));
}

async fn a_whole_object_is_read_up_to_a_limit(world: &World) {
    assert_eq!(world.store.get("a", 100).await.unwrap(), None);
    let body = bytes(3 * MIB + 1, 7);
    world.put("a", &body).await;
    world.put("empty", &[]).await;
    let size = body.len() as u64;
    for limit in [size, size + 1] {
        assert!(world.store.get("a", limit).await.unwrap().unwrap() == body);
    }
    for limit in [size - 1, 1, 0] {
        let error = world.store.get("a", limit).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
    }
    assert_eq!(world.store.get("empty", 0).await.unwrap().unwrap(), Bytes::new());
}

async fn a_range_is_read_exactly(world: &World) {
    let body = bytes(6 * MIB + 5, 3);
    let etag = world.put("a", &body).await;
    let size = body.len();
    for range in [
        0..1,
        0..size,
        1..2,
        MIB - 3..5 * MIB + 3,
        size - 1..size,
        size - MIB..size,
    ] {
        let (from, to) = (range.start as u64, range.end as u64);
        for etag in [etag.as_str(), etag.trim_matches('"')] {
            let read = world.store.read("a", from..to, etag).await.unwrap();
            assert!(read == body[range.clone()], "{from}..{to}");
        }
    }
    let size = size as u64;
    // What is not there is never made up for by what is.
    let error = world
        .store
        .read("a", size - 1..size + 1, &etag)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadAnswer, "{error}");
    let error = world.store.read("a", size..size + 1, &etag).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PreconditionFailed, "{error}");
}

async fn a_read_of_another_version_is_refused(world: &World) {
    let old = world.put("a", b"first version").await;
    assert_eq!(world.store.read("a", 0..5, &old).await.unwrap(), "first");
    let new = world.put("a", b"other version").await;
    let error = world.store.read("a", 0..5, &old).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PreconditionFailed, "{error}");
    assert_eq!(world.store.read("a", 0..5, &new).await.unwrap(), "other");
    // Shorter than what is asked for.
    world.put("a", b"x").await;
    let error = world.store.read("a", 6..9, &new).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PreconditionFailed, "{error}");
    world.store.delete(&["a".to_owned()]).await.unwrap();
    let error = world.store.read("a", 0..1, &new).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
}

async fn a_read_of_no_bytes_looks_at_the_version_too(world: &World) {
    let old = world.put("a", &[]).await;
    assert_eq!(world.store.read("a", 0..0, &old).await.unwrap(), Bytes::new());
    world.put("a", b"x").await;
    let error = world.store.read("a", 0..0, &old).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PreconditionFailed, "{error}");
    let error = world.store.read("b", 0..0, &old).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
}

async fn create_only_is_honoured_when_it_is_made_use_of(world: &World) {
    assert!(world.traits.capabilities.create_only);
    let capable = world.capable();
    let create = |token| Put {
        create_only: true,
        token: Some(token),
        ..Put::default()
    };
    let etag = capable.put("a", bytes(10, 1), create("mine")).await.unwrap();
    // The same once more, as after an answer that was lost.
    assert_eq!(
        capable.put("a", bytes(10, 1), create("mine")).await.unwrap(),
        etag
    );
    for (body, token) in [(bytes(10, 1), "theirs"), (bytes(11, 1), "mine")] {
        let error = capable.put("a", body, create(token)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::PreconditionFailed, "{error}");
    }
    assert_eq!(world.store.head("a").await.unwrap().unwrap().etag, etag);

    // Without the capability it is not asked for, and without the wish neither.
    world
        .store
        .put("a", bytes(12, 1), create("theirs"))
        .await
        .unwrap();
    assert_eq!(world.store.head("a").await.unwrap().unwrap().size, 12);
    capable.put("a", bytes(13, 1), Put::default()).await.unwrap();
    assert_eq!(world.store.head("a").await.unwrap().unwrap().size, 13);
}

fn tags(name: &str, value: &str) -> BTreeMap<String, String> {
    [("team", "a"), (name, value)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn kinds_of_attributes() -> [(&'static str, Attributes); 5] {
    let none = Attributes::default;
    [
        (
            "content type",
            Attributes {
                content_type: Some("application/x-ndjson".to_owned()),
                ..none()
            },
        ),
        (
            "encryption",
            Attributes {
                server_side_encryption: Some("AES256".to_owned()),
                ..none()
            },
        ),
        (
            "storage class",
            Attributes {
                storage_class: Some("REDUCED_REDUNDANCY".to_owned()),
                ..none()
            },
        ),
        (
            "tags",
            Attributes {
                tags: tags("cost-centre", "a+b c"),
                ..none()
            },
        ),
        (
            "tags beyond ASCII",
            Attributes {
                tags: tags("\u{fc}", "1/\u{fc}"),
                ..none()
            },
        ),
    ]
}

/// Stores one object by a put and one by an upload.
async fn store_both(world: &World, attributes: &Attributes) -> Result<()> {
    let options = Put {
        attributes: Some(attributes),
        ..with_token("token")
    };
    let put = world
        .store
        .put("put", Bytes::from_static(b"x"), options)
        .await
        .map(drop);
    let upload = world.store.create_upload("uploaded", options).await;
    assert_eq!(put.is_ok(), upload.is_ok(), "{put:?} {upload:?}");
    put?;
    let upload = upload?;
    let etag = world
        .store
        .upload_part("uploaded", &upload, 1, Bytes::from_static(b"x"))
        .await?;
    let part = Part {
        number: 1,
        size: 1,
        etag,
    };
    done(world.store.complete("uploaded", &upload, &[part], 1).await);
    Ok(())
}

async fn attributes_are_kept_or_refused(world: &World) {
    for (name, attributes) in kinds_of_attributes() {
        let stored = store_both(world, &attributes).await;
        if world.traits.refused_attributes.contains(&name) {
            let error = stored.unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidRequest, "{name}: {error}");
            continue;
        }
        stored.unwrap();
        for key in ["put", "uploaded"] {
            let head = world.store.head(key).await.unwrap().unwrap();
            assert_eq!(head.token.as_deref(), Some("token"), "{key}");
            if world.traits.forgotten_attributes.contains(&name) {
                assert_eq!(found(world, key, &attributes).await, Attributes::default());
                continue;
            }
            assert_eq!(
                found(world, key, &attributes).await,
                attributes,
                "{key} with {name}"
            );
        }
    }
}

/// What the object has of the attributes that were asked for.
async fn found(world: &World, key: &str, asked: &Attributes) -> Attributes {
    let head = world.client.head_object().bucket(&world.bucket).key(key);
    let head = head.send().await.unwrap();
    let mut tags = BTreeMap::new();
    if !asked.tags.is_empty() {
        let tagging = world.client.get_object_tagging().bucket(&world.bucket).key(key);
        let tagging = tagging.send().await.unwrap();
        tags.extend(tagging.tag_set.into_iter().map(|tag| (tag.key, tag.value)));
    }
    Attributes {
        server_side_encryption: head.server_side_encryption.map(|it| it.as_str().to_owned()),
        kms_key_id: head.ssekms_key_id,
        // Some say so where others say nothing.
        storage_class: head
            .storage_class
            .map(|it| it.as_str().to_owned())
            .filter(|class| class != "STANDARD"),
        content_type: asked.content_type.as_ref().and(head.content_type),
        tags,
    }
}
