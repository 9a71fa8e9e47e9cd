//! Multipart uploads, from their opening to each of their ends.

use super::*;

conformance! {
    an_object_is_its_parts_in_order_and_the_last_may_be_short
    parts_of_unequal_size_are_fine_as_long_as_each_is_large_enough
    a_small_part_that_is_not_the_last_is_refused_and_leaves_the_upload_as_it_was
    a_stale_or_missing_part_is_refused_and_the_listed_ones_complete
    a_second_complete_is_never_taken_for_one_that_did_nothing
    a_name_that_is_taken_is_refused_where_the_condition_is_made_use_of
    a_wrong_size_is_refused_where_the_guard_is_made_use_of
    more_parts_than_a_page_are_listed_in_order
    an_aborted_upload_is_gone_and_aborting_it_again_is_success
    uploads_are_found_by_exactly_their_key
}

async fn part(world: &World, key: &str, upload: &str, number: u32, body: Bytes) -> Part {
    let size = body.len() as u64;
    let etag = world.store.upload_part(key, upload, number, body).await.unwrap();
    Part { number, size, etag }
}

/// An upload with parts of these sizes; the first has number 1.
async fn uploaded(world: &World, key: &str, sizes: &[usize]) -> (String, Vec<Part>) {
    let upload = world.upload(key).await;
    let mut parts = Vec::new();
    for (number, size) in (1..).zip(sizes) {
        parts.push(part(world, key, &upload, number, bytes(*size, number as u8)).await);
    }
    (upload, parts)
}

fn total(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.size).sum()
}

async fn an_object_is_its_parts_in_order_and_the_last_may_be_short(world: &World) {
    let bodies = [bytes(5 * MIB, 1), bytes(5 * MIB, 2), bytes(1, 3)];
    let options = Put {
        token: Some("token"),
        ..Put::default()
    };
    let upload = world.store.create_upload("dir/a", options).await.unwrap();
    world.check_parts("dir/a", &upload, Some(&[])).await;
    let mut parts = Vec::new();
    for number in [2, 3, 1] {
        parts.push(
            part(
                world,
                "dir/a",
                &upload,
                number,
                bodies[number as usize - 1].clone(),
            )
            .await,
        );
    }
    parts.sort_by_key(|part| part.number);
    world.check_parts("dir/a", &upload, Some(&parts)).await;
    assert_eq!(world.store.head("dir/a").await.unwrap(), None);
    assert_eq!(world.keys("").await, [""; 0]);

    let etag = done(
        world
            .store
            .complete("dir/a", &upload, &parts, total(&parts))
            .await,
    );
    let head = world.store.head("dir/a").await.unwrap().unwrap();
    assert_eq!(
        (head.etag, head.size, head.token.as_deref()),
        (etag, total(&parts), Some("token"))
    );
    assert!(world.content("dir/a").await.unwrap() == bodies.concat());
    world.check_parts("dir/a", &upload, None).await;
    assert_eq!(world.store.list_uploads("dir/a").await.unwrap(), [""; 0]);
}

async fn parts_of_unequal_size_are_fine_as_long_as_each_is_large_enough(world: &World) {
    let (upload, parts) = uploaded(world, "a", &[6 * MIB, 5 * MIB, 7 * MIB, 10]).await;
    done(world.store.complete("a", &upload, &parts, total(&parts)).await);
    assert_eq!(world.store.head("a").await.unwrap().unwrap().size, total(&parts));
}

async fn a_small_part_that_is_not_the_last_is_refused_and_leaves_the_upload_as_it_was(world: &World) {
    let (upload, mut parts) = uploaded(world, "a", &[5 * MIB, 5 * MIB - 1, 10]).await;
    let completed = world.store.complete("a", &upload, &parts, total(&parts)).await;
    assert_eq!(outcome(completed), "Refused(PartTooSmall)");
    assert_eq!(world.store.head("a").await.unwrap(), None);
    world.check_parts("a", &upload, Some(&parts)).await;
    parts[1] = part(world, "a", &upload, 2, bytes(5 * MIB, 9)).await;
    done(world.store.complete("a", &upload, &parts, total(&parts)).await);
}

async fn a_stale_or_missing_part_is_refused_and_the_listed_ones_complete(world: &World) {
    let (upload, stale) = uploaded(world, "a", &[5 * MIB, 10]).await;
    let body = bytes(5 * MIB, 99);
    let fresh = part(world, "a", &upload, 1, body.clone()).await;
    assert_ne!(stale[0].etag, fresh.etag);
    let completed = world.store.complete("a", &upload, &stale, total(&stale)).await;
    assert_eq!(outcome(completed), "Refused(InvalidPart)");
    let missing = Part {
        number: 3,
        ..fresh.clone()
    };
    let with_missing = [fresh, stale[1].clone(), missing];
    let completed = world
        .store
        .complete("a", &upload, &with_missing, total(&with_missing))
        .await;
    assert_eq!(outcome(completed), world.traits.complete_with_missing_part);

    let current = &with_missing[..2];
    world.check_parts("a", &upload, Some(current)).await;
    done(world.store.complete("a", &upload, current, total(current)).await);
    assert!(world.content("a").await.unwrap() == [body, bytes(10, 2)].concat());
}

async fn a_second_complete_is_never_taken_for_one_that_did_nothing(world: &World) {
    let (upload, parts) = uploaded(world, "a", &[10]).await;
    let etag = done(world.store.complete("a", &upload, &parts, 10).await);
    let again = world.store.complete("a", &upload, &parts, 10).await;
    assert_eq!(outcome(again), world.traits.second_complete);
    let again = world.capable().complete("a", &upload, &parts, 10).await;
    assert_eq!(outcome(again), world.traits.second_conditional_complete);
    assert_eq!(world.store.head("a").await.unwrap().unwrap().etag, etag);
    // The object is gone, and still nobody knows.
    world.store.delete(&["a".to_owned()]).await.unwrap();
    let again = world.store.complete("a", &upload, &parts, 10).await;
    assert_eq!(outcome(again), world.traits.complete_without_object);
    assert_eq!(world.store.head("a").await.unwrap(), None);
}

async fn a_name_that_is_taken_is_refused_where_the_condition_is_made_use_of(world: &World) {
    assert!(world.traits.capabilities.conditional_complete);
    let before = world.put("a", b"here first").await;
    let (upload, parts) = uploaded(world, "a", &[10]).await;
    let completed = world.capable().complete("a", &upload, &parts, 10).await;
    assert_eq!(outcome(completed), "Refused(PreconditionFailed)");
    assert_eq!(world.store.head("a").await.unwrap().unwrap().etag, before);
    world.check_parts("a", &upload, Some(&parts)).await;
    let etag = done(world.store.complete("a", &upload, &parts, 10).await);
    assert_eq!(world.store.head("a").await.unwrap().unwrap().etag, etag);
}

async fn a_wrong_size_is_refused_where_the_guard_is_made_use_of(world: &World) {
    let (upload, parts) = uploaded(world, "a", &[5 * MIB, 10]).await;
    let completed = world
        .capable()
        .complete("a", &upload, &parts, total(&parts) - 1)
        .await;
    if world.traits.capabilities.size_guard {
        assert_eq!(outcome(completed), "Refused(InvalidRequest)");
        assert_eq!(world.store.head("a").await.unwrap(), None);
        done(
            world
                .capable()
                .complete("a", &upload, &parts, total(&parts))
                .await,
        );
    } else {
        done(completed);
    }
    assert_eq!(world.store.head("a").await.unwrap().unwrap().size, total(&parts));
    // Without the capability the size is not sent.
    let (upload, parts) = uploaded(world, "b", &[10]).await;
    done(world.store.complete("b", &upload, &parts, 11).await);
}

async fn more_parts_than_a_page_are_listed_in_order(world: &World) {
    let upload = world.upload("a").await;
    let sends: Vec<_> = (1..=1005)
        .rev()
        .map(|number| {
            world
                .store
                .upload_part("a", &upload, number, bytes(number as usize, 0))
        })
        .collect();
    let sent: Vec<String> = stream::iter(sends).buffered(16).try_collect().await.unwrap();
    let parts: Vec<Part> = (1..)
        .zip(sent.into_iter().rev())
        .map(|(number, etag)| Part {
            number,
            size: u64::from(number),
            etag,
        })
        .collect();
    world.check_parts("a", &upload, Some(&parts)).await;
    world.store.abort("a", &upload).await.unwrap();
}

async fn an_aborted_upload_is_gone_and_aborting_it_again_is_success(world: &World) {
    world.put("a", b"another object").await;
    let (upload, parts) = uploaded(world, "a", &[5 * MIB, 10]).await;
    world.store.abort("a", &upload).await.unwrap();
    world.check_parts("a", &upload, None).await;
    assert_eq!(world.store.list_uploads("a").await.unwrap(), [""; 0]);
    assert_eq!(world.open_uploads(&["a"]).await, [""; 0]);
    world.store.abort("a", &upload).await.unwrap();
    let error = world
        .store
        .upload_part("a", &upload, 3, bytes(1, 1))
        .await
        .unwrap_err();
    assert_eq!(error.kind, world.traits.part_of_gone_upload, "{error}");
    let completed = world.store.complete("a", &upload, &parts, total(&parts)).await;
    assert_eq!(outcome(completed), world.traits.complete_of_gone_upload);
    assert_eq!(world.content("a").await.unwrap(), "another object");
}

async fn uploads_are_found_by_exactly_their_key(world: &World) {
    let keys = [
        "dir/a",
        "dir/a",
        "dir/ab",
        "dir/a/b",
        "dir/a b+c%\u{fc}&",
        "di",
        "a",
    ];
    let mut opened = Vec::new();
    for key in keys {
        opened.push((key, world.upload(key).await));
    }
    world.put("dir/c", b"an object is no upload").await;
    for key in keys.into_iter().chain(["dir", "dir/", "dir/c", "dir/abc"]) {
        let mut expected: Vec<&String> = opened
            .iter()
            .filter(|(of, _)| *of == key)
            .map(|(_, id)| id)
            .collect();
        expected.sort();
        let mut found = world.store.list_uploads(key).await.unwrap();
        found.sort();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{key:?}");
    }
    for (key, upload) in &opened {
        world.store.abort(key, upload).await.unwrap();
    }
    assert_eq!(world.open_uploads(&keys).await, [""; 0]);
}
