//! `probe` and `with_capabilities`.

use super::*;

conformance! {
    a_probe_finds_what_the_server_honours_and_leaves_nothing
    a_store_with_capabilities_is_the_same_store
}

async fn a_probe_finds_what_the_server_honours_and_leaves_nothing(world: &World) {
    world.put("state/kept", b"x").await;
    // Whatever the store makes use of itself.
    for store in [Arc::clone(&world.store), world.capable()] {
        let found = store
            .probe(&["state/job/probe/a", "state/job/probe/b"].map(ToOwned::to_owned))
            .await
            .unwrap();
        assert_eq!(found, world.traits.capabilities);
    }
    assert_eq!(world.keys("").await, ["state/kept"]);
    assert_eq!(world.open_uploads().await, [""; 0]);
}

async fn a_store_with_capabilities_is_the_same_store(world: &World) {
    let capable = world.capable();
    let etag = capable
        .put("a", Bytes::from_static(b"x"), Put::default())
        .await
        .unwrap();
    assert_eq!(world.store.head("a").await.unwrap().unwrap().etag, etag);
    let incapable = capable.with_capabilities(Capabilities::default());
    let create = Put {
        create_only: true,
        ..Put::default()
    };
    incapable
        .put("a", Bytes::from_static(b"yy"), create)
        .await
        .unwrap();
    assert_eq!(capable.head("a").await.unwrap().unwrap().size, 2);
}
