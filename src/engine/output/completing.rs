//! The end of an output: its object under the final name, made once, or found made (I7). Never sends a part but the last.

use bytes::Bytes;

use super::{Finished, Listed, Output, Upload};
use crate::disposition::Disposition;
use crate::engine::Error;
use crate::store::{Completion, ErrorKind, Part, Put};

/// How often a Complete that did not take effect is sent again.
const COMPLETE_ATTEMPTS: usize = 4;

impl Output {
    /// Makes the object under its final name, or finds it made.
    pub(crate) async fn close(mut self) -> Result<Finished, Error> {
        let size = self.len();
        if matches!(self.upload, Upload::Open { .. }) && !self.filling.bytes().is_empty() {
            let last = self.filling.rest();
            self.send_part(last).await?;
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
        let body = self.filling.rest();
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
