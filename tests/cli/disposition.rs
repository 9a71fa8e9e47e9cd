//! What becomes of sources after their compaction, and what later jobs make of those that stay.

use serde_json::json;

use super::common::program::{Said, Workplace};
use super::{small, written};

/// Another job over the same prefixes.
fn next_job(place: &Workplace, state: &str) -> Said {
    let mut command = place.run_command();
    command.arg("--state").arg(place.path(state));
    command.output().unwrap().into()
}

fn delete_after(place: &Workplace, seconds: i64) {
    place.job(&json!({"sourceDisposition": "Delete", "sourceRetentionSeconds": seconds}));
}

#[test]
fn sources_are_kept_by_default() {
    let place = small();
    place.run().ends_with(0);
    assert_eq!(place.keys("in/"), ["in/a.log", "in/b.log"]);
}

#[test]
fn deletion_without_retention_deletes_exactly_the_sources() {
    let place = small();
    place.put("in/c.tmp", "not included");
    place.put("in/alone/d.log", "a group of one");
    place.put("inside/e.log", "another prefix");
    place.job(&json!({
        "source": {"exclude": ["**/*.tmp"]},
        "sourceDisposition": "Delete",
        "sourceRetentionSeconds": 0,
    }));
    place.run().ends_with(0);
    assert_eq!(place.keys("in"), ["in/alone/d.log", "in/c.tmp", "inside/e.log"]);
    let status = place.status();
    assert_eq!(
        status["dispose"],
        json!({"done": 2, "total": 2, "sourcesDone": true, "finished": true})
    );
    assert_eq!(written(&place), b"1\n2\n3\n");
    assert_eq!(place.keys("_compaction/"), [""; 0]);
}

#[test]
fn a_source_that_was_replaced_after_the_publication_is_not_deleted() {
    let place = small();
    delete_after(&place, 86_400);
    place
        .run()
        .ends_with(0)
        .names(&["the sources may be deleted from", "run the same command then"]);
    assert_eq!(place.keys("in/"), ["in/a.log", "in/b.log"]);

    place.put("in/a.log", "newer\n");
    delete_after(&place, 0);
    place.run().ends_with(0);
    assert_eq!(place.keys("in/"), ["in/a.log"]);
    assert_eq!(place.objects("in/")["in/a.log"], b"newer\n");
    assert_eq!(place.status()["dispose"]["changed"], 1);
}

#[test]
fn sources_whose_output_is_not_what_was_published_stay_and_the_job_has_failed() {
    let place = small();
    delete_after(&place, 86_400);
    place.run().ends_with(0);
    let (output, _) = place.outputs().pop_first().unwrap();
    place.put(&output, "damaged\n");

    delete_after(&place, 0);
    for _ in 0..2 {
        let said = place.run().ends_with(1);
        said.names(&["WorkFailed", &output, "change spec.retryToken"]);
        assert_eq!(place.keys("in/"), ["in/a.log", "in/b.log"]);
    }
}

#[test]
fn a_later_job_takes_only_what_is_new_and_at_last_nothing() {
    let place = small();
    place.run().ends_with(0);
    place.put("in/c.log", "4\n");
    place.put("in/d.log", "5\n");
    let first = place.outputs();

    next_job(&place, "second.json")
        .ends_with(0)
        .names(&["2 sources are compacted into 1 outputs"]);
    let mut outputs = place.outputs();
    outputs.retain(|key, _| !first.contains_key(key));
    assert_eq!(outputs.into_values().collect::<Vec<_>>(), [b"4\n5\n"]);

    let before = place.objects("");
    next_job(&place, "third.json")
        .ends_with(0)
        .names(&["NothingToCompact"]);
    assert!(
        place.objects("") == before,
        "a job without work has left something"
    );
}
