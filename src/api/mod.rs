//! The Kubernetes contract: the custom resources of `compaction.dev/v1alpha1`, their validation and
//! their CRDs. Depends on nothing else of this crate, does no I/O and reads no clock.

mod condition;
mod crd;
mod deduplicate;
mod job;
mod message;
pub mod names;
mod quantity;
mod reference;
mod schedule;
mod status;
mod validate;

pub use condition::{Reason, condition, confirm_conditions, set_condition, types as conditions};
pub use crd::{crds, crds_yaml};
pub use deduplicate::{Deduplicate, OnUnkeyedRecord, Tombstone};
pub use job::*;
pub use message::{MAX_MESSAGE_BYTES, bounded};
pub use quantity::Quantity;
pub use reference::reference;
pub use schedule::*;
pub use status::*;
pub use validate::{CUT_BYTES, InvalidSpec, Limits, MAX_RECORD_BYTES};

/// What the C library of a worker is told by a variable: memory that is freed goes back to the system at once, from this
/// many bytes on. Left to itself it keeps more and more of it, up to half of the window.
/// <https://man7.org/linux/man-pages/man3/mallopt.3.html>
pub const ALLOCATOR: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "1048576");

/// A worker's exit codes: the contract between the worker and `decide`.
pub mod exit {
    /// The open duties are done, or SIGTERM was obeyed at a checkpoint.
    pub const DONE: i32 = 0;
    /// Nobody but the user can help: a bad source, an invalid spec, a changed source.
    pub const GIVE_UP: i32 = 64;
    /// The batch in hand passed its deadline; the attempt is recorded.
    pub const DEADLINE: i32 = 74;
    /// Failed in a way that may not happen again.
    pub const RETRY: i32 = 75;
    /// The store is away, throttles or refuses: not the work's fault.
    pub const STORAGE: i32 = 76;
    /// Another worker holds the shard, or the job is another one.
    pub const FENCED: i32 = 78;
}
