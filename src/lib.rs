//! Compacts objects in S3-compatible storage.
//!
//! Who imports whom: `api` ← `plan`, `format` ← `engine` → `store`; `worker` and `local` use `engine`;
//! `controller` uses `api` and never `store` or `engine`; `verify` uses `api` and `store` only, `plugin` `api` only.

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
