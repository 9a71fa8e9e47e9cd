//! Groups that were given up: nothing of them is published, and their sources are not consumed.
//!
//! A group fails as a whole. Where several shards have a piece of it, one that fails takes the outputs of the
//! others along, so that readers find either all records of a group or none.

use std::collections::BTreeMap;

use futures::TryStreamExt;

use super::bodies::{Finished, ShardRun, bodies};
use super::body::{FailedGroup, GroupState};
use super::{Context, Error};

/// Of a message in the ledger and the manifest: the longest key and some words. Bytes.
const MAX_MESSAGE_BYTES: usize = 2048;

impl FailedGroup {
    pub(super) fn new(group: &GroupState, error: &Error) -> Self {
        let mut message = error.to_string();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        Self {
            group: group.directory.clone(),
            ordinal: Some(group.ordinal),
            reason: error.reason().to_owned(),
            message,
        }
    }
}

/// The groups that all shards have given up, by their directories.
#[derive(Default)]
pub(crate) struct FailedGroups(BTreeMap<String, FailedGroup>);

impl FailedGroups {
    /// Of bodies that lead to the checkpoints; reads none when the checkpoints count no such group.
    pub(crate) async fn read(
        context: &Context,
        finished: &Finished<'_>,
        runs: &[ShardRun],
    ) -> Result<Self, Error> {
        let mut groups = BTreeMap::new();
        if finished.checkpoints.iter().any(|shard| shard.failed_groups > 0) {
            let mut bodies = bodies(&context.ledger, runs);
            while let Some(body) = bodies.try_next().await? {
                if let Some(failed) = body.failed {
                    groups.entry(failed.group.clone()).or_insert(failed);
                }
            }
        }
        Ok(Self(groups))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, directory: &str) -> bool {
        self.0.contains_key(directory)
    }

    pub(crate) fn directories(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Their numbers among the candidates.
    pub(crate) fn ordinals(&self) -> impl Iterator<Item = u64> {
        self.0.values().filter_map(|group| group.ordinal)
    }

    /// As the manifest names them.
    pub(crate) fn listed(&self) -> Vec<FailedGroup> {
        let groups = self.0.values().cloned();
        groups
            .map(|group| FailedGroup {
                ordinal: None,
                ..group
            })
            .collect()
    }
}
