//! The operator on a real cluster, through helm and kubectl as a user would. `make e2e` brings a cluster up and
//! runs this; with `E2E_KUBECONFIG` it runs against another one (docs/testing.md).
//!
//! Each test has a namespace, a bucket and an operator of its own, so that tests run beside each other and may
//! kill what is theirs. Three modules do not: `install` installs for the whole cluster and runs alone, `node` and
//! `chaos` need the node itself and disturb all that runs there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../gitops/moment.rs"]
mod moment;
#[path = "../gitops/schedule_moment.rs"]
mod schedule_moment;
#[path = "../gitops/verdict.rs"]
mod verdict;

mod cluster;
mod site;
mod sources;
mod store;
mod watch;

mod access;
mod chaos;
mod deduplicated;
mod disturbed;
mod drift;
mod ends;
mod gc;
mod gitops;
mod gitops_schedule;
mod install;
mod node;
mod plugin;
mod plugin_schedule;
mod schedule;
mod waiting;
