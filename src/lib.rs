//! Compacts objects in S3-compatible storage.
//!
//! Who imports whom: `api`, `deduplicate` and `store` none of the others; `format` `deduplicate`; `plan` these four; `engine`
//! all five; `worker` `engine`, `plan`, `store` and `api`; `local` these, `worker`, and of `controller` the pure part.
//! `controller` and `plugin` use `api` only, never `store` or `engine`; `verify` uses `api` and `store` only. `deadline`
//! and `disposition` are anybody's.

pub mod api;
pub mod controller;
pub mod deadline;
pub mod deduplicate;
pub mod disposition;
pub mod engine;
pub mod format;
pub mod local;
pub mod plan;
pub mod plugin;
pub mod store;
pub mod verify;
pub mod worker;
