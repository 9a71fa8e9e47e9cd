//! Runs on one machine without a cluster: a state file for the API server, child processes for pods, an
//! embedded server for a store. Nothing here is needed by a controller or a worker pod.

pub mod demo;
pub mod manifest;
mod plan;
mod process;
mod progress;
mod run;
pub mod server;
mod state;
mod worker;

pub use plan::PlanSummary;
pub use process::{Endpoint, Recipe};
pub use run::{Error, Outcome, Run};
pub use state::StateFile;
pub use worker::{WorkerArguments, run_worker};
