//! Compacts objects in S3-compatible storage.
//!
//! Who imports whom: `api` ← `plan`, `format` ← `engine` → `store`; `worker` and `local` use `engine`;
//! `controller` uses `api` and never `store` or `engine`.

pub mod disposition;
pub mod format;
pub mod store;
