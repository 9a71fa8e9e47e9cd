//! What Flux, Helm and kpt make of a schedule, by the rules of kstatus.

use super::*;
use crate::controller::kstatus::kstatus;

fn shown(world: &World) -> &'static str {
    let status = world.status();
    kstatus(
        &world.schedule.metadata,
        status.observed_generation,
        &status.conditions,
    )
}

#[test]
fn a_schedule_is_in_progress_until_it_is_looked_at_and_current_from_then_on() {
    let mut world = World::unseen(json!({}));
    assert_eq!(shown(&world), "InProgress");
    world.step();
    assert_eq!(shown(&world), "Current");
    world.at("10:00:00");
    assert_eq!((world.state(), shown(&world)), ("Running", "Current"));
    world.at("11:00:00");
    assert_eq!((world.state(), shown(&world)), ("Waiting", "Current"));
    world.edit(json!({"suspend": true}));
    assert_eq!(shown(&world), "InProgress");
    world.step();
    assert_eq!((world.state(), shown(&world)), ("Suspended", "Current"));
}

#[test]
fn a_failed_run_does_not_fail_the_schedule_but_one_that_needs_somebody_has_failed() {
    let mut world = World::new(json!({"suspendAfterConsecutiveFailures": 2}));
    world.at("10:00:00");
    world.fail(&run("10:00"));
    world.at("10:10:00");
    assert_eq!(shown(&world), "Current");
    world.at("11:00:00");
    world.fail(&run("11:00"));
    world.at("11:10:00");
    assert_eq!((world.state(), shown(&world)), ("Halted", "Failed"));
    assert_eq!(shown(&World::new(json!({"schedule": "61 * * * *"}))), "Failed");
}
