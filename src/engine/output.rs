//! One output: bytes in, a finished object out, and at the end of any batch nothing in memory only.
//!
//! Whole parts of one size go out as they fill; what does not fill a part is the tail, which the caller
//! stores beside the upload (I2). An output below one part is a single `PutObject`. The outcome of Complete
//! is never guessed (I7).

use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use tokio::task::JoinSet;

use super::body::OpenUpload;
use super::window::Share;
use super::{Context, Error, Fence, Ledger};
use crate::disposition::Disposition;
use crate::format::PIECE_BYTES;
use crate::store::{self, Attributes, Buffers, Completion, ErrorKind, Head, Part, Put, Store};

/// S3's limit: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
const MAX_PARTS: u32 = 10_000;
/// How often a Complete that did not take effect is sent again.
const COMPLETE_ATTEMPTS: usize = 4;

/// Where outputs go and what they share.
#[derive(Clone)]
pub(crate) struct Sink {
    pub store: Arc<dyn Store>,
    pub ledger: Ledger,
    pub fence: Arc<dyn Fence>,
    pub attributes: Attributes,
    pub part_bytes: u64,
    /// Parts in flight, at most.
    pub uploads: usize,
    /// Where bytes on their way to the store take room.
    pub share: Share,
}

impl Sink {
    /// For a file of the job's own, whose parts go one after the other.
    pub(crate) fn of_file(context: &Context, part_bytes: u64) -> Self {
        Self {
            store: Arc::clone(&context.store),
            ledger: context.ledger.clone(),
            fence: Arc::clone(&context.fence),
            attributes: Attributes::default(),
            part_bytes,
            uploads: 1,
            share: Share::new(part_bytes),
        }
    }

    /// Both records come before the first part: the intention so that an upload whose id was never
    /// learned can be found by its key, the id so that it can be ended on stores that do not list.
    pub(crate) async fn open_upload(&self, key: &str, token: &str) -> Result<String, Error> {
        let number = self.ledger.next_upload();
        self.ledger.record_upload(number, key, None).await?;
        let options = Put {
            create_only: false,
            token: Some(token),
            attributes: Some(&self.attributes),
        };
        let id = self.store.create_upload(key, options).await?;
        self.ledger.record_upload(number, key, Some(&id)).await?;
        Ok(id)
    }
}

pub(crate) struct Output {
    sink: Sink,
    key: String,
    token: String,
    upload: Upload,
    /// An upload that is open for it already, which it takes if it needs one.
    ahead: Option<String>,
    /// Bytes handed over in whole parts.
    sent: u64,
    /// Less than a part, unless bytes were appended that are not taken over yet.
    pending: Vec<u8>,
    /// So many of these are taken over.
    taken: usize,
    /// Memory of parts that are stored.
    buffers: Arc<Buffers>,
    crc: Digest,
    /// Dropped with the output: no part outlives the work that sent it.
    in_flight: JoinSet<Result<(u32, String), store::Error>>,
}

enum Upload {
    NotOpened,
    Open {
        id: String,
        /// ETags from number 1 on; `None` while in flight.
        parts: Vec<Option<String>>,
    },
    /// Somebody has completed this very object already; the bytes are only counted.
    Finished(Head),
}

/// What the store says of an open upload.
enum Listed {
    Parts(Vec<Part>),
    Gone,
    /// It does not list parts.
    Untold,
}

/// A finished object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub etag: String,
    pub size: u64,
    pub crc64nvme: String,
}

/// What a body must say of an output that goes on.
pub(crate) struct Saved {
    pub upload: OpenUpload,
    pub sent_bytes: u64,
    pub crc: u64,
    pub tail: Option<Bytes>,
}

impl Output {
    pub(crate) fn new(sink: Sink, key: String, token: String) -> Self {
        let part_bytes = sink.part_bytes as usize;
        let buffers = Buffers::new(part_bytes..=part_bytes + PIECE_BYTES, 0);
        let crc = Digest::new(CrcAlgorithm::Crc64Nvme);
        Self {
            sink,
            key,
            token,
            upload: Upload::NotOpened,
            ahead: None,
            sent: 0,
            pending: Vec::new(),
            taken: 0,
            buffers,
            crc,
            in_flight: JoinSet::new(),
        }
    }

    /// Goes on where a body left off. `OutputLost` when that cannot be.
    pub(crate) async fn resume(sink: Sink, key: String, token: String, saved: Saved) -> Result<Self, Error> {
        let mut output = Self::new(sink, key, token);
        output.sent = saved.sent_bytes;
        output.crc = Digest::new_with_init_state(CrcAlgorithm::Crc64Nvme, saved.crc);
        if let Some(tail) = saved.tail {
            output.pending.extend_from_slice(&tail);
            output.taken = tail.len();
        }
        match saved.upload {
            OpenUpload::NotOpened => {}
            OpenUpload::Finished { .. } => output.adopt("its finished object is gone").await?,
            OpenUpload::Open { id, parts } => match output.listed(&id).await? {
                Listed::Gone => output.adopt("its upload is gone").await?,
                Listed::Parts(listed) => {
                    let parts = output.current_parts(parts.len() as u32, &listed)?;
                    let parts = parts.into_iter().map(|p| Some(p.etag)).collect();
                    output.upload = Upload::Open { id, parts };
                }
                // What the store acknowledged is there. Complete looks at each part's ETag in any case.
                Listed::Untold => {
                    let parts = parts.into_iter().map(Some).collect();
                    output.upload = Upload::Open { id, parts };
                }
            },
        }
        Ok(output)
    }

    /// With an upload of this very output that was opened before. If it is not needed, clean-up ends it.
    pub(crate) fn with_upload(mut self, id: Option<String>) -> Self {
        self.ahead = id;
        self
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn has_upload(&self) -> bool {
        !matches!(self.upload, Upload::NotOpened)
    }

    pub(crate) fn len(&self) -> u64 {
        self.sent + self.pending.len() as u64
    }

    /// Where bytes are appended, a piece and a frame at most before [`Self::take_over`] is told. Has room for a piece.
    pub(crate) fn pending(&mut self) -> &mut Vec<u8> {
        reserve(&mut self.pending, self.sink.part_bytes as usize);
        &mut self.pending
    }

    /// Takes over what was appended; waits while as many parts are in flight as may be.
    pub(crate) async fn take_over(&mut self) -> Result<(), Error> {
        self.crc.update(&self.pending[self.taken..]);
        self.taken = self.pending.len();
        let part_bytes = self.sink.part_bytes as usize;
        while self.pending.len() >= part_bytes {
            let rest = &self.pending[part_bytes..];
            let mut next = Vec::new();
            if !rest.is_empty() {
                next = self.buffers.take(rest.len().max(part_bytes + PIECE_BYTES));
                next.extend_from_slice(rest);
            }
            let mut part = std::mem::replace(&mut self.pending, next);
            part.truncate(part_bytes);
            self.taken = self.pending.len();
            let part = self.buffers.share(part);
            self.send_part(part).await?;
        }
        Ok(())
    }

    pub(crate) async fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(PIECE_BYTES) {
            self.pending().extend_from_slice(piece);
            self.take_over().await?;
        }
        Ok(())
    }

    async fn send_part(&mut self, part: Bytes) -> Result<(), Error> {
        self.sent += part.len() as u64;
        if matches!(self.upload, Upload::NotOpened) {
            self.open_upload().await?;
        }
        while self.in_flight.len() >= self.sink.uploads {
            self.join_one().await?;
        }
        let room = self.sink.share.take(part.len() as u64).await;
        self.keep_parts(self.sink.uploads);
        let Upload::Open { id, parts } = &mut self.upload else {
            return Ok(());
        };
        parts.push(None);
        let number = parts.len() as u32;
        if number > MAX_PARTS {
            return Err(Error::TooManyParts(self.key.clone()));
        }
        let (store, key, id) = (Arc::clone(&self.sink.store), self.key.clone(), id.clone());
        self.in_flight.spawn(async move {
            let etag = store.upload_part(&key, &id, number, part).await;
            drop(room);
            Ok((number, etag?))
        });
        Ok(())
    }

    async fn open_upload(&mut self) -> Result<(), Error> {
        let id = match self.ahead.take() {
            Some(id) => id,
            None => self.sink.open_upload(&self.key, &self.token).await?,
        };
        self.upload = Upload::Open {
            id,
            parts: Vec::new(),
        };
        Ok(())
    }

    async fn join_one(&mut self) -> Result<(), Error> {
        let Some(joined) = self.in_flight.join_next().await else {
            return Ok(());
        };
        // A panic in a part's task is a bug in the store; the batch is dropped like any other.
        let outcome = joined.map_err(|error| Error::OutputLost {
            key: self.key.clone(),
            why: error.to_string(),
        })?;
        match outcome {
            Ok((number, etag)) => {
                if let Upload::Open { parts, .. } = &mut self.upload
                    && let Some(part) = parts.get_mut(number as usize - 1)
                {
                    *part = Some(etag);
                }
                Ok(())
            }
            Err(error) if error.kind == ErrorKind::NoSuchUpload => {
                self.in_flight = JoinSet::new();
                self.adopt(&error.to_string()).await
            }
            Err(error) => Err(error.into()),
        }
    }

    fn keep_parts(&self, parts: usize) {
        self.buffers
            .keep_at_most(parts * (self.sink.part_bytes as usize + PIECE_BYTES));
    }

    /// Waits until every part sent so far is stored. Meanwhile all room but that of one part may be lent to reads.
    async fn settle(&mut self) -> Result<(), Error> {
        self.keep_parts(1);
        while !self.in_flight.is_empty() {
            self.join_one().await?;
        }
        Ok(())
    }

    /// Everything handed over so far becomes durable, but for the tail, which the caller stores.
    pub(crate) async fn save(&mut self) -> Result<Saved, Error> {
        self.settle().await?;
        let crc = self.crc.get_state();
        Ok(match &self.upload {
            Upload::Finished(head) => Saved {
                upload: OpenUpload::Finished {
                    etag: head.etag.clone(),
                    size: head.size,
                },
                sent_bytes: self.len(),
                crc,
                tail: None,
            },
            Upload::NotOpened => self.saved(OpenUpload::NotOpened, crc),
            Upload::Open { id, parts } => {
                let parts = parts.iter().flatten().cloned().collect();
                let id = id.clone();
                self.saved(OpenUpload::Open { id, parts }, crc)
            }
        })
    }

    fn saved(&self, upload: OpenUpload, crc: u64) -> Saved {
        let tail = (!self.pending.is_empty()).then(|| Bytes::copy_from_slice(&self.pending));
        Saved {
            upload,
            sent_bytes: self.sent,
            crc,
            tail,
        }
    }

    /// Makes the object under its final name, or finds it made.
    pub(crate) async fn close(mut self) -> Result<Finished, Error> {
        let size = self.len();
        if matches!(self.upload, Upload::Open { .. }) && !self.pending.is_empty() {
            let last = std::mem::take(&mut self.pending);
            self.send_part(last.into()).await?;
        }
        self.settle().await?;
        let etag = match &self.upload {
            Upload::NotOpened => self.put_whole().await?,
            Upload::Open { .. } => self.complete(size).await?,
            Upload::Finished(head) if head.size == size => head.etag.clone(),
            Upload::Finished(_) => return Err(self.lost("a finished object of another size has its name")),
        };
        Ok(Finished {
            etag,
            size,
            crc64nvme: format!("{:016x}", self.crc.finalize()),
        })
    }

    /// Where the store can, an object that has the name already is not written again by a late worker, whose bytes
    /// would be the same under another ETag than the manifest says. Any other object gives way to this one.
    async fn put_whole(&mut self) -> Result<String, Error> {
        let body = Bytes::from(std::mem::take(&mut self.pending));
        match self.put(body.clone(), true).await {
            Err(Error::Store(error)) if error.kind == ErrorKind::PreconditionFailed => {
                self.put(body, false).await
            }
            stored => stored,
        }
    }

    async fn put(&self, body: Bytes, create_only: bool) -> Result<String, Error> {
        self.sink.fence.look().await?;
        let options = Put {
            create_only,
            token: Some(&self.token),
            attributes: Some(&self.sink.attributes),
        };
        Ok(self.sink.store.put(&self.key, body, options).await?)
    }

    /// Built again only if the upload is of no use any more. While the store is away the upload stays as it
    /// is, for whoever goes on.
    async fn complete(&mut self, size: u64) -> Result<String, Error> {
        let mut last = None;
        for _ in 0..COMPLETE_ATTEMPTS {
            let Upload::Open { id, parts } = &self.upload else {
                break;
            };
            let (id, count) = (id.clone(), parts.len() as u32);
            let parts = numbered(parts, self.sink.part_bytes, size);
            self.sink.fence.look().await?;
            match self.sink.store.complete(&self.key, &id, &parts, size).await {
                Completion::Done(etag) => return Ok(etag),
                Completion::Refused(error) => match error.kind {
                    // Another worker of this shard has sent a part again: same bytes, maybe another ETag.
                    ErrorKind::InvalidPart => {
                        self.refresh_parts(&id, count).await?;
                        last = Some(error);
                    }
                    ErrorKind::PreconditionFailed => self.take_name(size).await?,
                    _ => return Err(error.into()),
                },
                Completion::Unknown(error) => {
                    if let Some(head) = self.own_object().await? {
                        self.upload = Upload::Finished(head);
                        break;
                    }
                    if matches!(self.listed(&id).await?, Listed::Gone) {
                        self.adopt(&error.to_string()).await?;
                        break;
                    }
                    tracing::debug!(key = self.key, %error, "complete did not take effect");
                    last = Some(error);
                }
            }
        }
        match (&self.upload, last) {
            (Upload::Finished(head), _) if head.size == size => Ok(head.etag.clone()),
            (Upload::Open { .. }, Some(error)) if error.disposition() == Disposition::Wait => {
                Err(error.into())
            }
            (_, Some(error)) => Err(self.lost(&error.to_string())),
            (_, None) => Err(self.lost("an object of another size has its name")),
        }
    }

    async fn listed(&self, id: &str) -> Result<Listed, Error> {
        match self.sink.store.list_parts(&self.key, id).await {
            Ok(Some(parts)) => Ok(Listed::Parts(parts)),
            Ok(None) => Ok(Listed::Gone),
            Err(error) if error.kind == ErrorKind::Unsupported => Ok(Listed::Untold),
            Err(error) => Err(error.into()),
        }
    }

    async fn refresh_parts(&mut self, id: &str, count: u32) -> Result<(), Error> {
        let listed = match self.listed(id).await? {
            Listed::Parts(listed) => listed,
            Listed::Gone => return self.adopt("its upload is gone").await,
            Listed::Untold => return Err(self.lost("the store does not list the parts of its upload")),
        };
        let current: Vec<Part> = listed.into_iter().filter(|part| part.number <= count).collect();
        let whole = current.iter().enumerate().all(|(index, part)| {
            let last = index as u32 + 1 == count;
            part.number == index as u32 + 1 && (last || part.size == self.sink.part_bytes)
        });
        let total: u64 = current.iter().map(|part| part.size).sum();
        if !whole || current.len() as u32 != count || total != self.len() {
            return Err(self.lost("parts of its upload are missing"));
        }
        let parts = current.into_iter().map(|part| Some(part.etag)).collect();
        self.upload = Upload::Open {
            id: id.to_owned(),
            parts,
        };
        Ok(())
    }

    /// The final name is taken: by this very object, or by one that an older encoder made, which goes.
    async fn take_name(&mut self, size: u64) -> Result<(), Error> {
        match self.own_object().await? {
            Some(head) if head.size == size => self.upload = Upload::Finished(head),
            _ => {
                self.sink.fence.look().await?;
                self.sink.store.delete(std::slice::from_ref(&self.key)).await?;
            }
        }
        Ok(())
    }

    /// The first `count` parts as they are listed now, all whole.
    fn current_parts(&self, count: u32, listed: &[Part]) -> Result<Vec<Part>, Error> {
        let parts: Vec<Part> = listed
            .iter()
            .take_while(|part| part.number <= count)
            .cloned()
            .collect();
        let whole = parts
            .iter()
            .zip(1..)
            .all(|(part, number)| part.number == number && part.size == self.sink.part_bytes);
        if parts.len() as u32 == count && whole {
            Ok(parts)
        } else {
            Err(self.lost("parts of its upload are missing"))
        }
    }

    /// The object under the final name, if it is this very output.
    async fn own_object(&self) -> Result<Option<Head>, Error> {
        let head = self.sink.store.head(&self.key).await?;
        Ok(head.filter(|head| head.token.as_deref() == Some(&self.token)))
    }

    /// The upload cannot be gone on with: either the object is there, finished, or the output is lost.
    async fn adopt(&mut self, why: &str) -> Result<(), Error> {
        match self.own_object().await? {
            Some(head) => {
                self.upload = Upload::Finished(head);
                Ok(())
            }
            None => Err(self.lost(why)),
        }
    }

    fn lost(&self, why: &str) -> Error {
        Error::OutputLost {
            key: self.key.clone(),
            why: why.to_owned(),
        }
    }
}

/// Room for one more piece: little at first, as most outputs may be small, and never much more than a part.
fn reserve(pending: &mut Vec<u8>, part_bytes: usize) {
    let most = part_bytes + PIECE_BYTES;
    if pending.capacity() - pending.len() < PIECE_BYTES && pending.len() < most {
        let capacity = (2 * pending.capacity()).max(4 * PIECE_BYTES).min(most);
        pending.reserve_exact(capacity - pending.len());
    }
}

fn numbered(parts: &[Option<String>], part_bytes: u64, size: u64) -> Vec<Part> {
    let count = parts.len() as u64;
    (1..)
        .zip(parts)
        .map(|(number, etag)| Part {
            number,
            size: if u64::from(number) == count {
                size - (count - 1) * part_bytes
            } else {
                part_bytes
            },
            etag: etag.clone().unwrap_or_default(),
        })
        .collect()
}
