//! The hang that this project exists for, and all that a network, a store or a clock may do to a job, one at a
//! time: the program over MinIO, with Toxiproxy between them. Every job ends with the outputs of an undisturbed
//! run, and leaves nothing behind.
//!
//! `FAULTS=all` plays every scenario, any other value those whose name contains it. `FAULTS_TABLE=FILE` gets what
//! was measured. Times are measured, never judged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod catalogue;
#[path = "../common/mod.rs"]
mod common;
mod fault;
mod gate;
mod host;
mod request;
mod run;
mod scenario;
mod server;
mod shape;
mod site;
mod table;
mod toxiproxy;

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use scenario::{Scenario, Undisturbed};
use shape::Shape;

/// Most of them wait for a deadline most of the time.
const AT_ONCE: usize = 14;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_on_the_way_to_the_store_a_job_ends_with_the_same_outputs_and_leaves_nothing() {
    let scenarios = catalogue::chosen();
    assert!(!scenarios.is_empty(), "no scenario has that in its name");
    let undisturbed = async |shape| Arc::new(Undisturbed::run(shape).await);
    let (tails, large_parts, large) = tokio::join!(
        undisturbed(Shape::Tails),
        undisturbed(Shape::LargeParts),
        undisturbed(Shape::Large)
    );
    let plays = scenarios.into_iter().map(|scenario| {
        let undisturbed = Arc::clone(match scenario.shape {
            Shape::Tails => &tails,
            Shape::LargeParts => &large_parts,
            Shape::Large => &large,
        });
        play(scenario, undisturbed)
    });
    let played: Vec<_> = stream::iter(plays).buffer_unordered(AT_ONCE).collect().await;
    let mut measured = Vec::new();
    let mut failed = Vec::new();
    for (scenario, outcome) in played {
        match outcome {
            Ok(what) => measured.push((scenario, what)),
            Err(problem) => failed.push(format!("{}: {problem}", scenario.name())),
        }
    }
    table::write(&measured);
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n\n")
    );
}

/// In a task of its own: one that panics does not end the others.
async fn play(
    scenario: Scenario,
    undisturbed: Arc<Undisturbed>,
) -> (Scenario, Result<scenario::Measured, String>) {
    let played = tokio::spawn(async move { scenario.play(&undisturbed).await }).await;
    let outcome = played.unwrap_or_else(|panic| Err(panic.to_string()));
    let line = outcome.as_ref().map_or("FAILED".to_owned(), table::line);
    println!("{}: {line}", scenario.name());
    (scenario, outcome)
}
