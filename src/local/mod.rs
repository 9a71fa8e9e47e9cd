//! Runs on one machine without a cluster: a state file for the API server, child processes for pods, an
//! embedded server for a store. Nothing here is needed by a controller or a worker pod.

pub mod demo;
mod ledgers;
pub mod manifest;
mod plan;
mod probe;
mod process;
mod progress;
mod run;
pub mod server;
mod state;
mod worker;

/// The name of this machine in a ledger's path, in place of a cluster's.
pub const LOCAL_CLUSTER: &str = "local";

pub use ledgers::{Error as LedgersError, LedgersReport, uid_of_state, uids, uids_beside};
pub use plan::PlanSummary;
pub use probe::ProbeReport;
pub use process::{Endpoint, Recipe};
pub use run::{Error, Outcome, Run};
pub use state::StateFile;
pub use worker::{WorkerArguments, run_worker};
