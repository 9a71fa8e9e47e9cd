//! Lists in the order of keys, read piece by piece: what a prefix holds, and what published jobs have
//! consumed.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Error;
use crate::store::{ErrorKind, Object, Pages, Store};

/// One read of a list. Bytes.
const READ_BYTES: u64 = 1 << 20;
/// A key has at most 1,024 bytes, an ETag is short. Bytes.
const MAX_LINE_BYTES: usize = 64 << 10;

pub(super) fn unknown_version(version: u32) -> String {
    format!("its version {version} is not known; use a newer compaction-operator")
}

/// The objects under a prefix, one by one.
pub(super) struct Listing {
    store: Arc<dyn Store>,
    pages: Pages,
    page: VecDeque<Object>,
}

impl Listing {
    pub(super) fn new(store: &Arc<dyn Store>, prefix: &str) -> Self {
        Self {
            store: Arc::clone(store),
            pages: Pages::of(prefix),
            page: VecDeque::new(),
        }
    }

    async fn front(&mut self) -> Result<Option<&Object>, Error> {
        while self.page.is_empty() {
            match self.pages.next(&*self.store).await? {
                Some(objects) => self.page = objects.into(),
                None => break,
            }
        }
        Ok(self.page.front())
    }

    pub(super) async fn next(&mut self) -> Result<Option<Object>, Error> {
        self.front().await?;
        Ok(self.page.pop_front())
    }

    /// The object of this key. Keys are asked for in ascending order.
    pub(super) async fn find(&mut self, key: &str) -> Result<Option<&Object>, Error> {
        while self
            .front()
            .await?
            .is_some_and(|object| object.key.as_str() < key)
        {
            self.page.pop_front();
        }
        Ok(self.page.front().filter(|object| object.key == key))
    }
}

/// First line of a `consumed.jsonl`.
#[derive(Deserialize)]
struct Header {
    version: u32,
}

/// A version of an object that a job has consumed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Pinned {
    pub key: String,
    pub etag: String,
}

/// The `consumed.jsonl` of several jobs as one list, without repetitions.
pub(super) struct Consumed {
    lists: Vec<(Lines, Option<Pinned>)>,
}

impl Consumed {
    pub(super) async fn open(store: &Arc<dyn Store>, objects: Vec<Object>) -> Result<Self, Error> {
        let mut lists = Vec::with_capacity(objects.len());
        for object in objects {
            let mut lines = Lines::new(store, object);
            match lines.next().await? {
                Some(Header { version: 1 }) => {}
                Some(Header { version }) => return Err(lines.damaged(&unknown_version(version))),
                None => return Err(lines.damaged("it is empty")),
            }
            let first = lines.next().await?;
            lists.push((lines, first));
        }
        Ok(Self { lists })
    }

    pub(super) async fn next(&mut self) -> Result<Option<Pinned>, Error> {
        let Some(next) = self
            .lists
            .iter()
            .filter_map(|(_, front)| front.as_ref())
            .min()
            .cloned()
        else {
            return Ok(None);
        };
        for (lines, front) in &mut self.lists {
            if *front == Some(next.clone()) {
                *front = lines.next().await?;
                if front.as_ref().is_some_and(|following| following.key <= next.key) {
                    return Err(lines.damaged("its keys are out of order"));
                }
            }
        }
        Ok(Some(next))
    }
}

/// The lines of an object of JSON lines.
struct Lines {
    store: Arc<dyn Store>,
    object: Object,
    at: u64,
    buffer: BytesMut,
}

impl Lines {
    fn new(store: &Arc<dyn Store>, object: Object) -> Self {
        Self {
            store: Arc::clone(store),
            object,
            at: 0,
            buffer: BytesMut::new(),
        }
    }

    async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| self.damaged(&error.to_string()));
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(self.damaged("a line is too long"));
            }
            if self.at == self.object.size {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(self.damaged("it is cut off"))
                };
            }
            let to = self.object.size.min(self.at + READ_BYTES);
            let Object { key, etag, .. } = &self.object;
            let read = self
                .store
                .read(key, self.at..to, etag)
                .await
                .map_err(|error| match error.kind {
                    ErrorKind::NotFound | ErrorKind::PreconditionFailed => Error::Unsettled(key.clone()),
                    _ => error.into(),
                });
            self.buffer.extend_from_slice(&read?);
            self.at = to;
        }
    }

    fn damaged(&self, problem: &str) -> Error {
        Error::Damaged {
            key: self.object.key.clone(),
            problem: problem.to_owned(),
        }
    }
}
