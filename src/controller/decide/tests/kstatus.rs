//! What Flux, Helm and kpt make of a job: the rules of kstatus over every state that `decide` shows.

use super::*;
use crate::api::ReadyWhen;
use crate::controller::kstatus::kstatus;

/// kstatus of a job in this state under both values of `readyWhen`.
fn shown(bring: impl Fn(&mut World)) -> [&'static str; 2] {
    [ReadyWhen::Accepted, ReadyWhen::Succeeded].map(|ready_when| {
        let mut world = World::new();
        world.job.spec.ready_when = ready_when;
        bring(&mut world);
        let status = world.job.status.as_ref().unwrap();
        kstatus(
            &world.job.metadata,
            status.observed_generation,
            &status.conditions,
        )
    })
}

fn run(world: &mut World) {
    world.step();
    world.plan(&[3]);
    world.step();
}

const IN_PROGRESS: [&str; 2] = ["InProgress"; 2];
const CURRENT_IF_ACCEPTED: [&str; 2] = ["Current", "InProgress"];
const CURRENT: [&str; 2] = ["Current"; 2];
const FAILED: [&str; 2] = ["Failed"; 2];

#[test]
fn a_job_that_nobody_has_looked_at_is_in_progress() {
    assert_eq!(shown(|_| ()), IN_PROGRESS);
}

#[test]
fn a_job_without_a_plan_is_in_progress_whatever_holds_it_up() {
    assert_eq!(shown(|world| drop(world.step())), IN_PROGRESS);
    let starting = |world: &mut World| {
        world.step();
        world.waits(0, "no image");
        world.step();
        assert_eq!(world.condition(types::READY).1, "Starting");
    };
    assert_eq!(shown(starting), IN_PROGRESS);
    let requeueing = |world: &mut World| {
        world.step();
        world.lost(0, "quota");
        world.step();
        assert_eq!(world.condition(types::READY).1, "Requeueing");
    };
    assert_eq!(shown(requeueing), IN_PROGRESS);
}

#[test]
fn a_job_at_work_is_current_unless_its_success_is_waited_for() {
    assert_eq!(shown(run), CURRENT_IF_ACCEPTED);
    let publishing = |world: &mut World| {
        run(world);
        world.checkpoint(0, 3);
        world.end(0, exit::DONE);
        world.step();
        assert_eq!(world.condition(types::READY).1, "Starting");
        world.step();
        assert_eq!(world.condition(types::READY).1, "Publishing");
    };
    assert_eq!(shown(publishing), CURRENT_IF_ACCEPTED);
}

#[test]
fn a_stopping_suspended_or_planned_job_is_like_one_at_work() {
    let stopping = |world: &mut World| {
        run(world);
        world.job.spec.suspend = true;
        world.step();
    };
    assert_eq!(shown(stopping), CURRENT_IF_ACCEPTED);
    let suspended = |world: &mut World| {
        stopping(world);
        world.gone(0);
        world.step();
        assert_eq!(world.condition(types::SUSPENDED).0, "True");
    };
    assert_eq!(shown(suspended), CURRENT_IF_ACCEPTED);
    let planned = |world: &mut World| {
        world.job.spec.mode = Mode::PlanOnly;
        run(world);
        assert_eq!(world.condition(types::READY).1, "Planned");
    };
    assert_eq!(shown(planned), CURRENT_IF_ACCEPTED);
}

#[test]
fn a_published_job_is_current_also_while_it_is_disposed_of_or_that_is_suspended() {
    let published = |world: &mut World| {
        run(world);
        world.checkpoint(0, 3);
        world.publish();
        world.end(0, exit::DONE);
        world.step();
    };
    assert_eq!(shown(published), CURRENT);
    let suspended = |world: &mut World| {
        published(world);
        world.job.spec.suspend = true;
        world.step();
    };
    assert_eq!(shown(suspended), CURRENT);
    let nothing = |world: &mut World| {
        world.step();
        world.plan(&[]);
        world.status_mut().plan.as_mut().unwrap().source_objects = 0;
        world.step();
    };
    assert_eq!(shown(nothing), CURRENT);
}

#[test]
fn a_failed_job_has_failed_with_and_without_a_plan() {
    let early = |world: &mut World| {
        world.step();
        world.end(0, exit::GIVE_UP);
        world.step();
    };
    assert_eq!(shown(early), FAILED);
    let late = |world: &mut World| {
        run(world);
        world.end(0, exit::GIVE_UP);
        world.step();
    };
    assert_eq!(shown(late), FAILED);
}

#[test]
fn an_edit_that_nobody_has_looked_at_is_in_progress() {
    let edited = |world: &mut World| {
        run(world);
        world.job.metadata.generation = Some(2);
    };
    assert_eq!(shown(edited), IN_PROGRESS);
}

/// What nobody may have seen in a real run (`tests/e2e/gitops.rs`), as Flux's and Argo CD's own code judged it.
#[test]
fn states_that_pass_quickly_are_as_they_were_recorded() {
    let planning = |world: &mut World| {
        world.step();
        world.step();
    };
    let publishing = |world: &mut World| {
        run(world);
        world.checkpoint(0, 3);
        world.step();
    };
    for ready_when in [ReadyWhen::Accepted, ReadyWhen::Succeeded] {
        assert_recorded("planning", ready_when, planning);
        assert_recorded("publishing", ready_when, publishing);
    }
}

#[track_caller]
fn assert_recorded(moment: &str, ready_when: ReadyWhen, bring: impl Fn(&mut World)) {
    let mut world = World::new();
    world.job.spec.ready_when = ready_when;
    bring(&mut world);
    let folder = format!("{ready_when:?}").to_lowercase();
    let record = format!(
        "{}/tests/gitops/recorded/{folder}/{moment}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let recorded: CompactionJob = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let says = |job: &CompactionJob| {
        let conditions = job.status.as_ref().unwrap().conditions.iter();
        conditions
            .filter(|c| c.type_ != types::STORAGE_ACCESSIBLE)
            .map(|c| [&c.type_, &c.status, &c.reason].map(String::clone))
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(says(&world.job), says(&recorded), "{moment}, {folder}");
}
