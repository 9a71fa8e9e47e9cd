//! `gc`: what a job that is gone has left is shown, swept on demand, and nothing else is touched.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::common::program::{STATE_PREFIX, Said, Workplace, finish, signal, wait_for};
use super::lines;

/// A job that was killed with an upload open, and its UID.
fn killed() -> (Workplace, String) {
    let spec = json!({"batch": {"size": "256Ki"}, "upload": {"partSize": "5Mi"}});
    killed_with(&spec, &[".opened.json"])
}

/// A job that was killed when such objects were in its ledger, and its UID.
fn killed_with(spec: &Value, objects: &[&str]) -> (Workplace, String) {
    let place = Workplace::new();
    for number in 0..60 {
        place.put(&format!("in/{number:04}.log"), lines(number, 400_000));
    }
    place.job(spec);
    let run = place.start();
    wait_for("its working files", || {
        let keys = place.keys(STATE_PREFIX);
        let all = objects
            .iter()
            .all(|wanted| keys.iter().any(|key| key.contains(wanted)));
        all.then_some(())
    });
    signal(run.id(), "-KILL");
    finish(run);
    let uid = place.state()["metadata"]["uid"].as_str().unwrap().to_owned();
    wait_for("its workers to let go of the store", || {
        let state = place.path("job.state.json.lock");
        fs::File::open(state).unwrap().try_lock().ok()
    });
    (place, uid)
}

fn gc(place: &Workplace, arguments: &[&str]) -> Said {
    let mut command = place.command("gc");
    command
        .arg("--store")
        .arg(place.store())
        .args(["-o", "json"])
        .args(arguments);
    command.output().unwrap().into()
}

fn report(said: &Said) -> Value {
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// UID and state of each ledger.
fn states(said: &Said) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let report = report(said);
    let ledgers = report["ledgers"].as_array().unwrap();
    ledgers
        .iter()
        .map(|ledger| (text(&ledger["jobUid"]), text(&ledger["state"])))
        .collect()
}

/// Somebody deletes the job without its clean-up.
fn forget(place: &Workplace) {
    fs::remove_file(place.state_path()).unwrap();
}

/// The state file beside the manifest becomes that of another job.
fn replace_state(place: &Workplace) {
    let mut state = place.state();
    state["metadata"]["uid"] = json!("a6f7d8a2-4f43-4c5e-9d4d-0a1b2c3d4e5f");
    fs::write(place.state_path(), state.to_string()).unwrap();
}

const OLD: [&str; 2] = ["--min-age-seconds", "0"];
const SWEEP: [&str; 4] = ["--min-age-seconds", "0", "--none-live", "--delete"];

#[test]
fn runs_and_survivors_of_a_lost_job_are_swept() {
    let spec = json!({
        "deduplicate": {"key": ["/id"], "onUnkeyedRecord": "Keep"},
        "batch": {"size": "1Mi"},
    });
    let (place, uid) = killed_with(&spec, &["/runs/", "/survivors/"]);
    forget(&place);
    let swept = gc(&place, &SWEEP).ends_with(0);
    assert_eq!(states(&swept)[&uid], "Swept");
    assert_eq!(place.keys(STATE_PREFIX), [""; 0]);
}

#[test]
fn what_a_lost_job_has_left_is_shown_and_then_swept() {
    let (place, uid) = killed();
    forget(&place);
    let (objects, uploads) = (place.objects(""), place.open_uploads());
    assert_eq!(uploads.len(), 1, "{uploads:?}");

    let recent = gc(&place, &["--none-live", "--delete"]).ends_with(0);
    assert_eq!(states(&recent)[&uid], "Recent");
    let shown = gc(&place, &OLD).ends_with(0);
    assert_eq!(states(&shown)[&uid], "Abandoned");
    let ledger = &report(&shown)["ledgers"][0];
    assert_eq!(ledger["job"], json!({"namespace": "default", "name": "job"}));
    assert_eq!(ledger["openUploads"], 1);
    assert_eq!(ledger["objects"], place.keys(STATE_PREFIX).len());
    let mut text = place.command("gc");
    let text = text.arg("--store").arg(place.store()).output().unwrap();
    Said::from(text)
        .ends_with(0)
        .names(&[&uid, "Recent", "default/job: ", "1 open uploads"]);
    assert!(place.objects("") == objects, "something was changed");
    assert_eq!(place.open_uploads(), uploads);

    let swept = gc(&place, &SWEEP).ends_with(0);
    assert_eq!(states(&swept)[&uid], "Swept");
    assert_eq!(place.keys(STATE_PREFIX), [""; 0]);
    assert_eq!(place.open_uploads(), [""; 0]);
    assert!(
        place.objects("in/") == place.objects(""),
        "sources alone are left"
    );
    assert_eq!(states(&gc(&place, &OLD).ends_with(0)), BTreeMap::new());
}

#[test]
fn nothing_is_swept_before_somebody_has_said_who_lives() {
    let (place, _) = killed();
    forget(&place);
    let objects = place.objects("");
    gc(&place, &["--min-age-seconds", "0", "--delete"])
        .ends_with(2)
        .names(&["nobody says which jobs live", "--live", "--none-live"]);
    gc(&place, &["--min-age-seconds", "0", "--delete", "--live", "job-1"])
        .ends_with(2)
        .names(&["\"job-1\" is not the UID of a job"]);
    assert!(place.objects("") == objects);
}

#[test]
fn the_state_file_beside_the_manifest_does_not_say_that_no_other_job_lives() {
    let (place, _) = killed();
    replace_state(&place);
    let objects = place.objects("");
    gc(&place, &["--min-age-seconds", "0", "--delete"])
        .ends_with(2)
        .names(&["nobody says which jobs live"]);
    assert!(place.objects("") == objects);
}

#[test]
fn a_list_of_the_living_that_names_nobody_is_an_error_whatever_else_is_said() {
    let (place, uid) = killed();
    replace_state(&place);
    let objects = place.objects("");
    // As from a kubectl that failed: in place of its output there is nothing.
    for live in ["-", "", "\n"] {
        for more in [&[][..], &["--none-live"], &["--live", &uid]] {
            let live = ["--min-age-seconds", "0", "--delete", "--live", live];
            gc(&place, &[&live, more].concat())
                .ends_with(2)
                .names(&["--live names no job", "--none-live"]);
        }
    }
    assert!(place.objects("") == objects);
}

#[test]
fn jobs_whose_state_files_are_in_the_directory_of_the_manifest_are_let_be() {
    let (place, uid) = killed();
    fs::copy(place.state_path(), place.path("other.state.json")).unwrap();
    replace_state(&place);
    let objects = place.objects("");
    assert_eq!(states(&gc(&place, &SWEEP).ends_with(0))[&uid], "Live");
    // Nobody knows which job this was.
    fs::write(place.path("other.state.json"), "{").unwrap();
    gc(&place, &SWEEP)
        .ends_with(2)
        .names(&["other.state.json is not the state of a job", "move it elsewhere"]);
    assert!(place.objects("") == objects);
}

#[test]
fn a_job_that_lives_is_let_be_and_goes_on() {
    let (place, uid) = killed();
    let objects = place.objects("");
    // Its state file stands beside the manifest.
    assert_eq!(states(&gc(&place, &SWEEP).ends_with(0))[&uid], "Live");
    let state = place.path("elsewhere.json");
    fs::rename(place.state_path(), &state).unwrap();
    let elsewhere = ["--state", state.to_str().unwrap()];
    let (upper, braced) = (uid.to_uppercase(), format!("{{{uid}}}"));
    for live in [
        ["--live", &uid],
        ["--live", &upper],
        ["--live", &braced],
        elsewhere,
    ] {
        let said = gc(&place, &[&SWEEP[..], &live].concat()).ends_with(0);
        assert_eq!(states(&said)[&uid], "Live");
    }
    // As kubectl prints them.
    let mut command = place.command("gc");
    command
        .arg("--store")
        .arg(place.store())
        .args(["-o", "json", "--min-age-seconds", "0", "--delete", "--live", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    write!(input, "a6f7d8a2-4f43-4c5e-9d4d-0a1b2c3d4e5f {uid}").unwrap();
    drop(input);
    assert_eq!(states(&finish(child).ends_with(0))[&uid], "Live");
    assert!(place.objects("") == objects);

    fs::rename(state, place.state_path()).unwrap();
    place.run().ends_with(0);
}

#[test]
fn what_no_job_can_have_written_is_reported_and_kept() {
    let lost = "0b5e5e0a-8a4f-4d65-9a6c-0f3f1c0f7a11";
    for (key, content, problem) in [
        ("notes/readme/a.txt", "mine", "is not the UID of a job"),
        ("LOST/thesis.txt", "mine", "no job writes"),
        (
            "LOST/uploads/000-1-h-1.opened.json",
            "{\"key",
            "EOF while parsing",
        ),
        (
            "LOST/uploads/000-1-h-1.opened.json",
            r#"{"key":"in/video.bin","id":"u"}"#,
            "this job does not upload in/video.bin",
        ),
    ] {
        let place = super::small();
        let key = format!("{STATE_PREFIX}local/{}", key.replace("LOST", lost));
        place.put(&key, content);
        place.put(&format!("{STATE_PREFIX}local/{lost}/plan/1-h/plan.json"), "{}");
        let objects = place.objects("");
        let said = gc(&place, &SWEEP).ends_with(1);
        let report = report(&said);
        let ledgers = report["ledgers"].as_array().unwrap();
        let unclear = ledgers
            .iter()
            .find(|ledger| ledger["state"] == "Unclear")
            .unwrap();
        let of_lost = ledgers.iter().find(|ledger| ledger["jobUid"] == lost).unwrap();
        let plan_problem = of_lost["planProblem"].as_str().unwrap();
        assert!(plan_problem.contains("missing field `job`"), "{report}");
        assert!(unclear["problem"].as_str().unwrap().contains(problem), "{report}");
        let kept = place.keys("");
        assert!(kept.contains(&key), "{kept:?}");
        if key.contains(lost) {
            assert!(place.objects("") == objects);
        }
    }
}

#[test]
fn what_is_published_stays() {
    let place = super::small();
    place.run().ends_with(0);
    let objects = place.objects("");
    forget(&place);
    place.put(&format!("{STATE_PREFIX}stray"), "x");
    place.put(&format!("{STATE_PREFIX}local/stray"), "x");
    let said = gc(&place, &SWEEP).ends_with(0);
    assert_eq!(states(&said), BTreeMap::new());
    assert_eq!(report(&said)["otherObjects"], 1);
    let kept = place.objects("");
    assert!(objects.iter().all(|(key, bytes)| kept[key] == *bytes));
    assert_eq!(kept.len(), objects.len() + 2);
}
