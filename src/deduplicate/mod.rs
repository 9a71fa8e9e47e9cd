//! Which records of a group are the latest of their keys. Pure: no I/O, no clock, and of a format only what a
//! [`Judge`] says of one record.
//!
//! **Mark.** Each record gives an [`Entry`]: hash of its key, version, position. [`Latest`] keeps the newest
//! entry of each key in a fixed number of bytes; when it is full it is handed out as a *run*, and is empty
//! again. Nothing is remembered between runs, so a mark that is interrupted goes on at any of their ends.
//!
//! **Settle.** The runs are read together, one range of hashes ([`Passes`]) at a time, as many keys as fit. What
//! is left of a range are the survivors, as bitmaps of positions ([`Survivors`]).
//!
//! **Write.** A [`Selection`] says of each record of a source whether it survived.
//!
//! The result is a function of the records, their order and the rules alone: neither the ends of runs nor the
//! number of passes change it.

mod entry;
mod json;
mod judge;
mod latest;
mod passes;
mod scale;
mod survivors;
mod value;

use serde::{Deserialize, Serialize};

pub use entry::{Entry, Layout, MalformedRun, Position};
pub use judge::{Judge, Keyed, Unkeyed, judge};
pub use latest::{Latest, Unfit};
pub use passes::{HashRange, Passes};
pub use survivors::{Selection, Survivors};

/// What makes a record the latest of its key; frozen in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rules {
    /// JSON pointers whose values together are the key.
    pub key: Vec<String>,
    /// JSON pointer of the version; without it the later position is the newer one.
    pub version: Option<String>,
    pub tombstone: Option<Tombstone>,
    /// A record without key or version is kept; otherwise it stops the job.
    pub keep_unkeyed: bool,
}

/// A record that says that its key is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tombstone {
    pub pointer: String,
    /// The text of the value there, a string's without its quotes.
    pub equals: String,
    /// One whose version is a time up to this has outlived its retention. Seconds since the epoch; absent: every
    /// one has.
    pub expired_before: Option<i64>,
}

impl Rules {
    pub fn layout(&self) -> Layout {
        Layout {
            versioned: self.version.is_some(),
        }
    }
}

#[cfg(test)]
mod tests;
