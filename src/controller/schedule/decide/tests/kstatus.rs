//! What Flux, Helm and kpt make of a schedule, by the rules of kstatus.
//! <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>

use super::*;

/// kstatus, as far as it looks at resources that it does not know.
fn kstatus(world: &World) -> &'static str {
    let is = |type_: &str, value: &str| world.condition(type_).0 == value;
    if world.schedule.metadata.generation != Some(world.status().observed_generation)
        || is("Reconciling", "True")
    {
        "InProgress"
    } else if is("Stalled", "True") {
        "Failed"
    } else if is("Ready", "False") || is("Ready", "Unknown") {
        "InProgress"
    } else {
        "Current"
    }
}

#[test]
fn a_schedule_is_in_progress_until_it_is_looked_at_and_current_from_then_on() {
    let mut world = World::unseen(json!({}));
    assert_eq!(kstatus(&world), "InProgress");
    world.step();
    assert_eq!(kstatus(&world), "Current");
    world.at("10:00:00");
    assert_eq!((world.state(), kstatus(&world)), ("Running", "Current"));
    world.at("11:00:00");
    assert_eq!((world.state(), kstatus(&world)), ("Waiting", "Current"));
    world.edit(json!({"suspend": true}));
    assert_eq!(kstatus(&world), "InProgress");
    world.step();
    assert_eq!((world.state(), kstatus(&world)), ("Suspended", "Current"));
}

#[test]
fn a_failed_run_does_not_fail_the_schedule_but_one_that_needs_somebody_has_failed() {
    let mut world = World::new(json!({"suspendAfterConsecutiveFailures": 2}));
    world.at("10:00:00");
    world.fail(&run("10:00"));
    world.at("10:10:00");
    assert_eq!(kstatus(&world), "Current");
    world.at("11:00:00");
    world.fail(&run("11:00"));
    world.at("11:10:00");
    assert_eq!((world.state(), kstatus(&world)), ("Halted", "Failed"));
    assert_eq!(kstatus(&World::new(json!({"schedule": "61 * * * *"}))), "Failed");
}
