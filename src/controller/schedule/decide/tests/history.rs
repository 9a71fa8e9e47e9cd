//! Runs that are through, and how many of them stay.

use super::*;

fn names(world: &World) -> Vec<String> {
    world.jobs.iter().map(ResourceExt::name_any).collect()
}

#[test]
fn the_oldest_are_deleted_and_each_kind_has_its_limit() {
    let mut world = World::new(json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 2}));
    for hour in 10..16 {
        world.at(&format!("{hour}:00:00"));
        let name = run(&format!("{hour}:00"));
        if hour % 2 == 0 {
            world.succeed(&name);
        } else {
            world.fail(&name);
        }
        world.at(&format!("{hour}:10:00"));
    }
    assert_eq!(names(&world), [run("13:00"), run("14:00"), run("15:00")]);
}

#[test]
fn what_has_still_to_dispose_of_sources_is_not_deleted() {
    let mut world = World::new(json!({"successfulJobsHistoryLimit": 0}));
    world.at("10:00:00");
    world.end_as(&run("10:00"), types::SUCCEEDED, "Succeeded");
    world.at("10:10:00");
    assert_eq!(names(&world), [run("10:00")]);
    world.succeed(&run("10:00"));
    world.at("10:20:00");
    assert_eq!(names(&world), [""; 0]);
    assert_eq!(
        world.condition(types::LAST_RUN_SUCCEEDED).0,
        "True",
        "it is told of all the same"
    );
}

#[test]
fn what_is_already_going_is_not_deleted_again() {
    let mut world = World::new(json!({"failedJobsHistoryLimit": 0}));
    world.at("10:00:00");
    world.fail(&run("10:00"));
    let now = world.now;
    world.job(&run("10:00")).metadata.deletion_timestamp = Some(Time(now));
    assert_eq!(world.at("10:10:00").delete, []);
}

#[test]
fn active_runs_are_no_history() {
    let mut world = World::new(json!({"successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0}));
    assert_eq!(world.at("10:00:00").delete, []);
    assert_eq!(world.at("10:10:00").delete, []);
}
