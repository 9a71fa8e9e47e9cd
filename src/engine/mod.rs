//! The batch loop and what surrounds it: plan → read → merge → write → checkpoint → publish → dispose.
//!
//! Knows formats and the store by their traits only, and the API server only as a [`Fence`]. Everything
//! here may be killed at any await and goes on from the last acknowledged checkpoint; no function holds
//! bytes that are neither durable under a name in that checkpoint nor read again after it.

mod bodies;
mod body;
mod cleanup;
mod consumed;
mod dispose;
mod earlier;
mod error;
mod failed;
mod fence;
mod finished;
mod ledger;
mod output;
mod planning;
mod probe;
mod publish;
mod published;
mod reader;
mod shard;
mod sweep;
mod unpublished;
mod window;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use bodies::Finished;
pub use body::{Body, FailedGroup, Manifest, OutputRecord, SkippedSource};
pub use cleanup::{clean_up, end_uploads};
pub use dispose::{Wish, dispose};
pub use error::Error;
pub use fence::{Fence, FenceError};
pub use ledger::{Ledger, Writer};
pub use planning::{PlanInput, Planned, make_plan, preview};
pub use probe::probe_alone;
pub use publish::publish;
pub use published::manifest_directory;
pub use shard::{Ended, ShardInput, run_batches};
pub use sweep::{Directory, Found, Ledgers, PlannedJob, Standing};
pub use unpublished::{Unpublished, remove_unpublished};
pub use window::Window;

use crate::store::{Capabilities, Store};

/// What every duty works with.
#[derive(Clone)]
pub struct Context {
    pub store: Arc<dyn Store>,
    pub ledger: Ledger,
    pub fence: Arc<dyn Fence>,
    pub window: Window,
    /// Cancelled when the process is asked to stop: the batch in hand ends at the next cut.
    pub stop: CancellationToken,
}

impl Context {
    /// With a store that makes use of what the plan's probe has found.
    #[must_use]
    pub fn honouring(&self, capabilities: Capabilities) -> Self {
        let store = self.store.with_capabilities(capabilities);
        Self {
            ledger: self.ledger.in_store(Arc::clone(&store)),
            store,
            ..self.clone()
        }
    }
}
