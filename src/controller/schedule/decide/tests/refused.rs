//! Jobs that cannot be made.

use super::*;

#[test]
fn a_template_that_cannot_be_rendered_is_told_of_before_its_first_slot() {
    let template = json!({"jobTemplate": {"spec": {"output": {"prefix": "out/${day}/"}}}});
    let mut world = World::new(template);
    assert_eq!(world.condition(types::STALLED), ("True", "InvalidTemplate"));
    assert!(
        world
            .message()
            .contains("${day} is not known; what is known: ${date:FORMAT}"),
        "{}",
        world.message()
    );
    world.at("10:00:00");
    assert_eq!(world.skipped(), ("10:00".to_owned(), "InvalidTemplate", 1));
    world.edit(json!({"jobTemplate": {"spec": {"output": {"prefix": "out/"}}}}));
    world.at("10:10:00");
    assert_eq!((world.state(), world.made.len()), ("Scheduled", 0));
    world.at("11:00:00");
    assert_eq!(world.made, [run("11:00")]);
}

#[test]
fn a_job_that_the_api_server_refuses_is_skipped_and_the_next_slot_tries_again() {
    let mut world = World::new(json!({}));
    world
        .refuses
        .insert("*".to_owned(), NotMade::Refused("spec is odd".to_owned()));
    world.at("10:00:00");
    assert_eq!(world.condition(types::STALLED), ("True", "JobRefused"));
    assert_eq!(
        (world.message(), world.skipped()),
        ("spec is odd", ("10:00".to_owned(), "JobRefused", 1))
    );
    let decision = world.at("10:00:10");
    assert_eq!(
        (decision.patch.0.len(), decision.create),
        (0, None),
        "it is not tried again and again"
    );
    assert_eq!(world.state(), "JobRefused", "and stays told");
    world.refuses.clear();
    world.at("11:00:00");
    assert_eq!(
        (world.made.clone(), world.state()),
        (vec![run("11:00")], "Running")
    );
    assert_eq!(world.condition(types::STALLED).0, "False");
}

#[test]
fn a_change_of_the_spec_lifts_a_refusal() {
    let mut world = World::new(json!({}));
    world
        .refuses
        .insert("*".to_owned(), NotMade::Refused("spec is odd".to_owned()));
    world.at("10:00:00");
    world.edit(json!({"jobTemplate": {"spec": {"parallelism": 2}}}));
    world.at("10:10:00");
    assert_eq!(world.state(), "Scheduled");
}

#[test]
fn a_name_that_belongs_to_somebody_else_costs_one_slot() {
    let mut world = World::new(json!({}));
    world.refuses.insert(run("10:00"), NotMade::Conflict);
    world.at("10:00:00");
    assert_eq!(
        (world.state(), world.skipped()),
        ("NameConflict", ("10:00".to_owned(), "NameConflict", 1))
    );
    assert!(
        world.message().contains("belongs to somebody else"),
        "{}",
        world.message()
    );
    world.at("11:00:00");
    assert_eq!(world.made, [run("11:00")]);
}

#[test]
fn a_job_that_the_cluster_does_not_allow_now_is_tried_again_until_the_next_slot() {
    let mut world = World::new(json!({}));
    world
        .refuses
        .insert("*".to_owned(), NotMade::Denied("exceeded quota".to_owned()));
    world.at("10:00:00");
    assert_eq!(
        (
            world.condition(types::READY),
            world.condition(types::RECONCILING).0
        ),
        (("False", "JobDenied"), "True")
    );
    assert!(world.message().contains("exceeded quota"), "{}", world.message());
    assert_eq!(world.status().missed_runs, 0);
    world.at("11:00:00");
    assert_eq!(world.skipped(), ("10:00".to_owned(), "JobDenied", 1));
    world.refuses.clear();
    world.at("11:00:30");
    assert_eq!(world.made, [run("11:00")]);
}

#[test]
fn a_trigger_whose_job_is_refused_is_not_tried_again_and_again() {
    let mut world = World::new(json!({}));
    world
        .refuses
        .insert("*".to_owned(), NotMade::Refused("spec is odd".to_owned()));
    world.edit(json!({"manualTrigger": "again"}));
    world.at("09:40:00");
    assert_eq!(
        (world.state(), world.status().last_manual_trigger.as_deref()),
        ("JobRefused", Some("again"))
    );
    assert_eq!(
        world.skipped(),
        (String::new(), "JobRefused", 0),
        "a trigger has no slot that is missed"
    );
    assert_eq!(world.look(&[]).create, None);
}
