//! Runs on one machine without a cluster. Nothing here is needed by a controller or a worker pod.

pub mod server;
