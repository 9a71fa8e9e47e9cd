//! `probe` and `with_capabilities`.

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus, LifecycleRule,
    LifecycleRuleFilter,
};

use super::*;

conformance! {
    a_probe_finds_what_the_server_honours_and_leaves_nothing
    a_store_with_capabilities_is_the_same_store
    a_rule_that_aborts_uploads_is_told_where_the_server_has_such_rules
}

async fn a_rule_that_aborts_uploads_is_told_where_the_server_has_such_rules(world: &World) {
    let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(3);
    let rule = LifecycleRule::builder()
        .id("uploads")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("out/").build())
        .abort_incomplete_multipart_upload(abort.build())
        .build();
    let rules = BucketLifecycleConfiguration::builder()
        .rules(rule.unwrap())
        .build();
    let put = world.client.put_bucket_lifecycle_configuration();
    let put = put.bucket(&world.bucket).lifecycle_configuration(rules.unwrap());
    let is_kept = put.send().await.is_ok();
    let told = world.store.upload_days(&["out/logs/"]).await;
    let told = told.map_err(|error| error.kind);
    assert_eq!(told, world.traits.upload_days);
    assert_eq!(is_kept, matches!(told, Ok(Some(_))));
    if is_kept {
        assert_eq!(world.store.upload_days(&["elsewhere/"]).await.unwrap(), None);
    }
}

async fn a_probe_finds_what_the_server_honours_and_leaves_nothing(world: &World) {
    let keys = ["state/job/probe/a", "state/job/probe/b"];
    world.put("state/kept", b"x").await;
    // Whatever the store makes use of itself.
    for store in [Arc::clone(&world.store), world.capable()] {
        let found = store.probe(&keys.map(ToOwned::to_owned)).await.unwrap();
        assert_eq!(found, world.traits.capabilities);
    }
    assert_eq!(world.keys("").await, ["state/kept"]);
    assert_eq!(world.open_uploads(&keys).await, [""; 0]);
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
