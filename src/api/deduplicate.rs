//! `deduplicate`: which records are versions of the same thing, and which of them is the latest.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Only the latest record of each key is kept, for each group. Records are JSON, one a line.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.tombstone) || self.tombstone.retentionSeconds == 0 || has(self.version)")
    .message("deduplicate.tombstone.retentionSeconds needs deduplicate.version, whose time tells the age of a tombstone"))]
pub struct Deduplicate {
    /// JSON pointers whose values together are the key: strings, numbers or booleans.
    #[schemars(
        length(min = 1, max = 8),
        inner(length(max = 256), regex(pattern = r"^(/([^~/]|~[01])*)+$"))
    )]
    pub key: Vec<String>,
    /// JSON pointer of a number or an RFC 3339 time: the record with the greatest is the latest. Absent, or where
    /// they are equal: the later one in the order of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^(/([^~/]|~[01])*)+$"))]
    pub version: Option<String>,
    /// Records that say that their key is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tombstone: Option<Tombstone>,
    /// What to do with a record that is not JSON, or has no key or version.
    #[serde(default)]
    pub on_unkeyed_record: OnUnkeyedRecord,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Tombstone {
    /// JSON pointer of the value that makes a record a tombstone.
    #[schemars(length(max = 256), regex(pattern = r"^(/([^~/]|~[01])*)+$"))]
    pub pointer: String,
    /// That value: the text of a string, or a number, true, false or null as it is written.
    #[schemars(length(max = 256))]
    pub equals: String,
    /// A tombstone that is the latest of its key is dropped so long after the time that its version says.
    #[schemars(range(min = 0, max = 315_360_000))]
    pub retention_seconds: i64,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnkeyedRecord {
    /// The job fails and names the record.
    #[default]
    Fail,
    /// It is kept as it is.
    Keep,
}
