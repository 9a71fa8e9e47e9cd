//! `delete` and `delete_if_match`.

use super::*;

conformance! {
    more_keys_than_a_request_takes_are_deleted_and_missing_ones_are_success
    a_version_is_deleted_only_while_it_is_the_one_where_the_server_honours_that
}

async fn more_keys_than_a_request_takes_are_deleted_and_missing_ones_are_success(world: &World) {
    let keys: Vec<String> = (0..1500).map(|n| format!("bulk/{n:04} & <more>")).collect();
    world.put_all(&keys).await;
    world
        .put_all(&["bulk".to_owned() + "/kept", "other".to_owned()])
        .await;
    assert_eq!(world.keys("").await.len(), 1502);

    world.store.delete(&[]).await.unwrap();
    let with_missing: Vec<String> = keys
        .into_iter()
        .chain((0..100).map(|n| format!("bulk/missing {n}")))
        .collect();
    world.store.delete(&with_missing).await.unwrap();
    assert_eq!(world.keys("").await, ["bulk/kept", "other"]);
    world.store.delete(&with_missing).await.unwrap();
    assert_eq!(world.keys("").await, ["bulk/kept", "other"]);
}

async fn a_version_is_deleted_only_while_it_is_the_one_where_the_server_honours_that(world: &World) {
    let [of_another, of_missing] = world.traits.deleted_otherwise;
    for bare in [false, true] {
        let etag = world.put("a", b"one").await;
        let etag = if bare {
            etag.trim_matches('"').to_owned()
        } else {
            etag
        };
        assert_eq!(
            world.store.delete_if_match("a", &etag).await.unwrap(),
            Deleted::Deleted
        );
        assert_eq!(world.store.head("a").await.unwrap(), None);
        assert_eq!(world.store.delete_if_match("a", &etag).await.unwrap(), of_missing);

        world.put("a", b"two").await;
        assert_eq!(world.store.delete_if_match("a", &etag).await.unwrap(), of_another);
        let left = world.store.head("a").await.unwrap().is_some();
        assert_eq!(left, of_another == Deleted::Changed);
    }
    let honoured = of_another == Deleted::Changed;
    assert_eq!(world.traits.capabilities.conditional_delete, honoured);
}
