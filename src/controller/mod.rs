//! The controller: observe → decide → status → act. `decide` is pure and shared with the local driver; the
//! rest is the operator on a cluster. Never talks to the store, never reads a Secret.

mod cluster;
mod context;
mod decide;
mod http;
#[cfg(test)]
mod kstatus;
mod lease;
mod memory;
mod metrics;
mod news;
mod objects;
mod observe;
mod overlap;
mod passes;
mod patch;
mod places;
mod pod_changes;
mod reconcile;
mod reflected;
mod run;
mod schedule;
mod superfluous;
mod watch;

pub use decide::{Decision, FinalizerChange, Observed, WorkerEnd, WorkerState, WorkerView, decide};
pub use objects::PodSettings;
pub use observe::view;
pub use run::{Error, Settings, run};
pub use watch::Watch;
