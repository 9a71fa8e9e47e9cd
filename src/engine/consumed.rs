//! What published jobs have consumed already (I9): lists of key and ETag in key order, beside their
//! manifests, merge-joined with the listing.
//!
//! A job takes the lists that it finds over into its own, as far as their sources still exist, and
//! removes them once it has published. So there is hardly ever more than one to read, and it forgets
//! what is gone. A list counts only when `_SUCCESS` stands beside it: before that, readers have not been
//! told of its outputs.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use serde::{Deserialize, Serialize};

use super::Error;
use super::published::{CONSUMED, CONSUMED_VERSION, Published, unknown_version};
use crate::store::Store;

/// One read of a list. Bytes.
const CHUNK_BYTES: u64 = 1 << 20;
/// A key of 1,024 bytes, escaped, and an ETag fit well. Bytes.
const MAX_LINE_BYTES: usize = 16 << 10;

/// First line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Header {
    pub version: u32,
    pub source_prefix: String,
}

/// A line of a list, or of a plan's candidates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub key: String,
    pub etag: String,
    /// Number of the source's group in this plan; absent when an earlier job consumed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u64>,
    /// Bytes; with `group` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl Line {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// Reads an object line by line in bounded memory.
pub(crate) struct Lines {
    store: Arc<dyn Store>,
    key: String,
    etag: String,
    size: u64,
    at: u64,
    buffer: VecDeque<u8>,
    /// An object of a ledger; otherwise one that a job has published.
    in_ledger: bool,
}

impl Lines {
    /// `None` when there is no such object.
    async fn open(store: Arc<dyn Store>, key: String) -> Result<Option<Self>, Error> {
        let Some(head) = store.head(&key).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            store,
            key,
            etag: head.etag,
            size: head.size,
            at: 0,
            buffer: VecDeque::new(),
            in_ledger: false,
        }))
    }

    /// Of an object of a ledger, of exactly the bytes that have this checksum; else nothing of it is handed out.
    pub(crate) async fn open_checked(
        store: &Arc<dyn Store>,
        key: String,
        crc64nvme: &str,
    ) -> Result<Self, Error> {
        let lines = Self::open(Arc::clone(store), key.clone()).await?;
        let mut lines = lines.ok_or_else(|| Error::Ledger {
            name: key,
            problem: "it is missing".to_owned(),
        })?;
        lines.in_ledger = true;
        let mut crc = Digest::new(CrcAlgorithm::Crc64Nvme);
        let mut at = 0;
        while at < lines.size {
            let to = lines.size.min(at + CHUNK_BYTES);
            crc.update(&store.read(&lines.key, at..to, &lines.etag).await?);
            at = to;
        }
        if format!("{:016x}", crc.finalize()) != crc64nvme {
            return Err(lines.damaged("it was altered"));
        }
        Ok(lines)
    }

    pub(crate) async fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer.iter().skip(searched).position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=searched + end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| self.damaged(&error.to_string()));
            }
            searched = self.buffer.len();
            if searched > MAX_LINE_BYTES {
                return Err(self.damaged("a line is too long"));
            }
            if self.at == self.size {
                return if searched == 0 {
                    Ok(None)
                } else {
                    Err(self.damaged("it is cut off"))
                };
            }
            let to = self.size.min(self.at + CHUNK_BYTES);
            let chunk: Bytes = self.store.read(&self.key, self.at..to, &self.etag).await?;
            self.buffer.extend(chunk);
            self.at = to;
        }
    }

    fn damaged(&self, problem: &str) -> Error {
        let (key, problem) = (self.key.clone(), problem.to_owned());
        if self.in_ledger {
            Error::Ledger { name: key, problem }
        } else {
            Error::Published { key, problem }
        }
    }
}

/// The lists of all published jobs for one source prefix, joined with a listing in key order.
pub(crate) struct Consumed {
    lists: Vec<(Lines, Option<Line>)>,
    /// UIDs of the jobs whose lists these are.
    pub jobs: Vec<String>,
}

impl Consumed {
    pub(crate) async fn open(
        store: &Arc<dyn Store>,
        directory: &str,
        source_prefix: &str,
        published: &[Published],
    ) -> Result<Self, Error> {
        let mut consumed = Self {
            lists: Vec::new(),
            jobs: Vec::new(),
        };
        for job in published.iter().filter(|job| job.has_consumed) {
            let key = format!("{directory}{}/{CONSUMED}", job.uid);
            let Some(mut lines) = Lines::open(Arc::clone(store), key).await? else {
                continue;
            };
            let header: Option<Header> = lines.next().await?;
            let header = header.ok_or_else(|| lines.damaged("it is empty"))?;
            if header.version != CONSUMED_VERSION {
                return Err(lines.damaged(&unknown_version(header.version)));
            }
            if header.source_prefix != source_prefix {
                continue;
            }
            let first = lines.next().await?;
            consumed.lists.push((lines, first));
            consumed.jobs.push(job.uid.clone());
        }
        Ok(consumed)
    }

    /// Whether this version of the object was consumed. Keys are asked for in ascending order.
    pub(crate) async fn contains(&mut self, key: &str, etag: &str) -> Result<bool, Error> {
        let mut found = false;
        for (lines, front) in &mut self.lists {
            while front.as_ref().is_some_and(|line| line.key.as_str() < key) {
                *front = lines.next().await?;
            }
            found |= front
                .as_ref()
                .is_some_and(|line| line.key == key && line.etag == etag);
        }
        Ok(found)
    }
}
