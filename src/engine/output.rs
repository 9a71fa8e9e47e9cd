//! One output: bytes in, a finished object out, and at the end of any batch nothing in memory only.
//!
//! Whole parts of one size go out as they fill; what does not fill a part is the tail, which the caller
//! stores beside the upload (I2). An output below one part is a single `PutObject`. The outcome of Complete
//! is never guessed (I7).

mod completing;
mod filling;

use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use tokio::task::JoinSet;

use self::filling::Filling;
use super::body::OpenUpload;
use super::window::Share;
use super::{Context, Error, Fence, Ledger};
use crate::format::PIECE_BYTES;
use crate::store::{self, Attributes, ErrorKind, Head, Part, Put, Store};

/// S3's limit: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
const MAX_PARTS: u32 = 10_000;

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
    filling: Filling,
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
        let filling = Filling::new(sink.part_bytes as usize);
        let crc = Digest::new(CrcAlgorithm::Crc64Nvme);
        Self {
            sink,
            key,
            token,
            upload: Upload::NotOpened,
            ahead: None,
            sent: 0,
            filling,
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
            output.filling.go_on(&tail);
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
        self.sent + self.filling.bytes().len() as u64
    }

    /// Where bytes are appended, a piece and a frame at most before [`Self::take_over`] is told. Has room for a piece.
    pub(crate) fn pending(&mut self) -> &mut Vec<u8> {
        self.filling.room()
    }

    /// Takes over what was appended; waits while as many parts are in flight as may be.
    pub(crate) async fn take_over(&mut self) -> Result<(), Error> {
        self.crc.update(self.filling.take_over());
        while let Some(part) = self.filling.part() {
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
        self.filling.keep_parts(self.sink.uploads);
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
        let outcome = joined.map_err(|error| Error::TaskFailed {
            doing: format!("sending a part of {}", self.key),
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

    /// Waits until every part sent so far is stored. Meanwhile all room but that of one part may be lent to reads.
    async fn settle(&mut self) -> Result<(), Error> {
        self.filling.keep_parts(1);
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
        let tail = Some(self.filling.bytes()).filter(|bytes| !bytes.is_empty());
        Saved {
            upload,
            sent_bytes: self.sent,
            crc,
            tail: tail.map(Bytes::copy_from_slice),
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
