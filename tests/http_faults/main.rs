//! Whole jobs by the program, over MinIO behind a proxy that gives some answers of its own. Two rounds each:
//! with the fault, then with a store that works; the job goes on by itself, and another one after it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;
#[path = "../common/mod.rs"]
mod common;
mod fault;
mod operation;
mod proxy;
mod shape;
mod site;
mod table;

use std::sync::Arc;
use std::time::Duration;

use cases::Case;
use common::goals::Memory;
use fault::{Often, Rule};
use serde_json::{Value, json};
use shape::Shape;
use site::{HANGS, Outputs, Said, Site, end};
use table::Row;
use tokio::process::Child;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Jobs at the same time: most of the time is spent in backoffs.
const AT_A_TIME: usize = 16;

/// A run that nothing disturbs.
struct Undisturbed {
    shape: Shape,
    outputs: Outputs,
    written: u64,
    read: u64,
}

impl Undisturbed {
    async fn run(shape: Shape) -> Self {
        Site::put_sources(shape).await;
        let site = Site::new(shape, &[]).await;
        let said = site.run("job", &json!({})).await;
        assert_eq!(said.code, Some(0), "{}", said.text);
        let seen = site.proxy.seen();
        let outputs = site.outputs("job").await;
        let state = site.state("job");
        let batches = state["status"]["shards"][0]["checkpoint"]["batch"]
            .as_i64()
            .unwrap();
        match shape {
            Shape::Tails => assert!(batches > 15 && outputs.len() == 3, "{batches} {outputs:?}"),
            Shape::Parts => assert!(batches == 1 && outputs.len() == 3, "{batches} {outputs:?}"),
        }
        Self {
            shape,
            outputs,
            written: seen.written,
            read: seen.read,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_store_answers_the_job_ends_right_and_leaves_nothing_behind() {
    tokio::task::spawn_blocking(common::Minio::shared).await.unwrap();
    // A part of a name: these cases alone.
    let only = std::env::var("FAULTS_ONLY").unwrap_or_default();
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let mut runs = Vec::new();
    for shape in Shape::ALL {
        let undisturbed = Arc::new(Undisturbed::run(shape).await);
        for case in cases::all() {
            let name = format!("{} | {}", table::name(&case), shape.name());
            if case.only.is_some_and(|only| only != shape) || !name.contains(&only) {
                continue;
            }
            let (turns, undisturbed) = (Arc::clone(&turns), Arc::clone(&undisturbed));
            let run = async move {
                let _turn = turns.acquire().await.unwrap();
                let row = tokio::spawn(async move { two_rounds(&case, &undisturbed).await }).await;
                println!("{name}: {}", if row.is_ok() { "right" } else { "wrong" });
                row.map_err(|panic| format!("{name}: {panic}"))
            };
            runs.push(tokio::spawn(run));
        }
    }
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for run in runs {
        match run.await.unwrap() {
            Ok(row) => rows.push(row),
            Err(panic) => wrong.push(panic),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(!rows.is_empty(), "no case has {only:?} in its name");
    table::write(&rows);
}

async fn two_rounds(case: &Case, undisturbed: &Undisturbed) -> Row {
    let mut site = Site::new(undisturbed.shape, &case.rules).await;
    let (mut said, memory) = first_round(case, &site).await;
    site.proxy.heal();
    let known = known_after(case, &site);
    if let Some(names) = case.fails {
        assert_eq!(said.code, Some(1), "it does not fail: {}", said.text);
        let message = site.condition("job", "Succeeded");
        let told = names.iter().all(|name| message.contains(name));
        assert!(told, "{names:?} are not in {message:?}");
        said = site.run("job", &json!({"retryToken": "again"})).await;
    }
    assert_eq!(
        said.code,
        Some(0),
        "{}\n{:#}",
        said.text,
        site.state("job")["status"]
    );
    let row = Row::new(case, undisturbed, &site, known, memory.peak());
    assert_all_struck(case, &site);
    assert_eq!(memory.check(), Ok(()));
    assert_eq!(site.proxy.reads().check(), Ok(()));
    assert_eq!(site.outputs("job").await, undisturbed.outputs);
    assert_eq!(site.leaks(&["job"]).await, [""; 0]);

    site.put(Shape::more_sources()).await;
    let said = site.run("next", &json!({})).await;
    assert_eq!(said.code, Some(0), "the next job: {}", said.text);
    let taken = &site.manifest("next").await["sources"]["objects"];
    assert_eq!(*taken, Shape::more_sources().len(), "taken by the next job");
    assert_eq!(site.leaks(&["job", "next"]).await, [""; 0]);
    let said = site.verify("next").await;
    assert_eq!(said.code, Some(0), "{}", said.text);
    site.empty().await;
    row
}

/// The run with the fault, healed when that is due.
async fn first_round(case: &Case, site: &Site) -> (Said, Memory) {
    let mut run = site.start("job", &json!({}));
    let memory = Memory::watch(run.id().unwrap());
    if case.fault().often == Often::UntilKnown {
        let known = until_known(case, site, &mut run);
        let known = timeout(HANGS, known).await.expect("nobody ever knows");
        assert!(
            known,
            "it ended before anybody knew: {}",
            site.with_log("job", end(run).await).text
        );
        nothing_is_claimed_in_vain(site).await;
        site.proxy.heal();
    }
    (site.with_log("job", end(run).await), memory)
}

/// False when the run has ended before.
async fn until_known(case: &Case, site: &Site, run: &mut Child) -> bool {
    while !is_known(case, site) {
        if run.try_wait().unwrap().is_some() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// From the first fault until a worker's attempt has failed; `None` where the answer is believed.
fn known_after(case: &Case, site: &Site) -> Option<Duration> {
    let began = site.proxy.seen().first_fault.expect("the fault fell on nothing");
    let failed = site.failed_attempt("job", case.fault().on.verb(), began)?;
    Some(failed.duration_since(began).try_into().unwrap())
}

fn assert_all_struck(case: &Case, site: &Site) {
    for (rule, struck) in case.rules.iter().zip(site.proxy.seen().struck) {
        match rule.often {
            Often::Times(times) => assert_eq!(struck, times, "{}: {}", rule.on, rule.fault),
            Often::UntilKnown | Often::ForEver => assert!(struck > 0),
        }
    }
}

/// Whether the status says which operation failed, and why.
fn is_known(case: &Case, site: &Site) -> bool {
    let state = site.state("job");
    let failures = state["status"]["failures"].as_array();
    let failures = failures.map_or(&[][..], Vec::as_slice);
    let Rule { on, fault, .. } = case.fault();
    let operation = on.verb().map_or(String::new(), |verb| verb.to_string());
    let cause = fault.is_told_as();
    let says = |failure: &Value| {
        let message = failure["message"].as_str().unwrap();
        message.contains(&operation) && message.contains(&cause)
    };
    failures.iter().any(says)
}

/// What is reported as flushed is in the store, while the fault goes on.
async fn nothing_is_claimed_in_vain(site: &Site) {
    loop {
        let state = site.state("job");
        // From there on the ledger may be cleaned up.
        if state["status"].get("publish").is_some() {
            return;
        }
        let untrue = site.untrue_claims("job").await;
        if site.state("job")["status"]["shards"] == state["status"]["shards"] {
            assert_eq!(untrue, [""; 0], "{state:#}");
            return;
        }
    }
}
