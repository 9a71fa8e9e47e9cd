//! The brain: what a job needs next, from what is known of it. Never talks to the store.

mod decide;
mod overlap;
mod patch;
mod watch;

pub use decide::{Decision, FinalizerChange, Observed, WorkerEnd, WorkerState, WorkerView, decide};
pub use watch::Watch;
