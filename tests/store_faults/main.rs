//! The S3 store against a server that misbehaves on purpose: silence, broken connections, truncated
//! and nonsensical answers, errors inside successes. What it does with a store that works is tested
//! elsewhere.
#![expect(clippy::unwrap_used, reason = "these are tests")]

mod change;
mod connection;
mod list;
mod probe;
mod read;
mod server;
mod tls;
mod upload;
