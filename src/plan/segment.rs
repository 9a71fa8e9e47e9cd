//! A run of a plan's sources, as JSON lines: a line names a group, the lines after it its sources.

use serde::{Deserialize, Serialize};

/// An object to be merged, pinned to its version (I6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub key: String,
    pub etag: String,
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// The sources that follow go to outputs in this directory of the output prefix.
    Group {
        /// Its number among the candidates.
        ordinal: u64,
        directory: String,
        /// Of the outputs' names, without that of the compression: `.json`.
        extension: String,
    },
    Source(Source),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    pub entries: Vec<Entry>,
}

impl Segment {
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut lines = Vec::new();
        for entry in &self.entries {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
        }
        Ok(lines)
    }

    pub fn decode(lines: &[u8]) -> Result<Self, serde_json::Error> {
        let entries = serde_json::Deserializer::from_slice(lines)
            .into_iter()
            .collect::<Result<Vec<Entry>, _>>()?;
        Ok(Self { entries })
    }
}

#[cfg(test)]
mod tests;
