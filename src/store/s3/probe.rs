//! Finding out what a store honours, by trying.
//!
//! Touches only objects and uploads of the two keys it is given, and removes them whatever happens on the
//! way, unless the process ends. Only an upload whose id never arrived is left to the caller, who knows the keys.

use bytes::Bytes;

use super::S3;
use super::quoted;
use crate::disposition::Disposition;
use crate::store::{Capabilities, Completion, Deleted, Error, ErrorKind, Part, Put, Result};

/// The ETag of no version.
const OTHER: &str = "00000000000000000000000000000000";

impl S3 {
    pub(super) async fn try_capabilities(&self, keys: &[String; 2]) -> Result<Capabilities> {
        let [object, assembled] = keys;
        let (mut object, mut assembled) = (Trial::new(self, object), Trial::new(self, assembled));
        // Both to their ends, so that each knows of all that it has made.
        let (found, size_guard) = tokio::join!(object.run(), assembled.size_guard());
        let ended = tokio::join!(object.end_uploads(), assembled.end_uploads());
        let deleted = self.delete_all(keys).await;
        let (found, size_guard) = (found?, size_guard?);
        ended.0.and(ended.1).and(deleted)?;
        Ok(Capabilities { size_guard, ..found })
    }
}

/// What is tried with one key, and what is to be removed.
struct Trial {
    store: S3,
    key: String,
    /// Every upload that was opened.
    uploads: Vec<String>,
}

impl Trial {
    fn new(store: &S3, key: &str) -> Self {
        Self {
            store: store.clone(),
            key: key.to_owned(),
            uploads: Vec::new(),
        }
    }

    /// All but the size guard.
    async fn run(&mut self) -> Result<Capabilities> {
        self.store.put_object(&self.key, body(), Put::default()).await?;
        // To its end, so that nothing is stored after the clean-up.
        let (create_only, if_match_read) = tokio::join!(self.create_only(), self.if_match_read());
        let (create_only, if_match_read) = (create_only?, if_match_read?);
        let (upload, parts) = self.upload().await?;
        let (list_parts, list_uploads) =
            tokio::try_join!(self.list_parts(&upload, &parts), self.list_uploads(&upload))?;
        let conditional_complete = self.conditional_complete(&upload, &parts).await?;
        // Last, since a store without it deletes the object.
        let conditional_delete = self.conditional_delete().await?;
        Ok(Capabilities {
            create_only,
            if_match_read,
            conditional_complete,
            conditional_delete,
            list_parts,
            list_uploads,
            ..Capabilities::default()
        })
    }

    async fn end_uploads(&self) -> Result<()> {
        let mut outcome = Ok(());
        for upload in &self.uploads {
            outcome = outcome.and(self.store.abort_upload(&self.key, upload).await);
        }
        outcome
    }

    /// The store, using one capability alone.
    fn store_with(&self, set: impl FnOnce(&mut Capabilities)) -> S3 {
        let mut capabilities = Capabilities::default();
        set(&mut capabilities);
        self.store.clone().using(capabilities)
    }

    async fn create_only(&self) -> Result<bool> {
        let store = self.store_with(|can| can.create_only = true);
        refused(
            store
                .put_object(
                    &self.key,
                    body(),
                    Put {
                        create_only: true,
                        ..Put::default()
                    },
                )
                .await,
        )
    }

    async fn if_match_read(&self) -> Result<bool> {
        let store = &self.store;
        let attempt = || async {
            let request = store
                .client
                .get_object()
                .bucket(&store.bucket)
                .key(&self.key)
                .if_match(quoted(OTHER));
            Box::pin(request.send()).await?;
            Ok(())
        };
        refused(store.call(store.on("GetObject", &self.key), attempt).await)
    }

    /// Opens an upload and sends its only part.
    async fn upload(&mut self) -> Result<(String, [Part; 1])> {
        let upload = self.store.open_upload(&self.key, Put::default()).await?;
        self.uploads.push(upload.clone());
        let etag = self.store.send_part(&self.key, &upload, 1, body()).await?;
        Ok((
            upload,
            [Part {
                number: 1,
                size: body().len() as u64,
                etag,
            }],
        ))
    }

    async fn list_parts(&self, upload: &str, parts: &[Part]) -> Result<bool> {
        match self.store.parts(&self.key, upload).await {
            Ok(listed) => Ok(listed.is_some_and(|listed| {
                listed
                    .iter()
                    .map(|part| (part.number, part.size))
                    .eq(parts.iter().map(|part| (part.number, part.size)))
            })),
            Err(error) => unsupported(error),
        }
    }

    async fn list_uploads(&self, upload: &str) -> Result<bool> {
        match self.store.uploads(&self.key).await {
            Ok(listed) => Ok(listed.iter().any(|id| id == upload)),
            Err(error) => unsupported(error),
        }
    }

    async fn conditional_complete(&self, upload: &str, parts: &[Part]) -> Result<bool> {
        let store = self.store_with(|can| can.conditional_complete = true);
        match store
            .complete_upload(&self.key, upload, parts, body().len() as u64)
            .await
        {
            Completion::Done(_) => Ok(false),
            Completion::Refused(error) if error.kind == ErrorKind::PreconditionFailed => Ok(true),
            Completion::Refused(error) | Completion::Unknown(error) => unsupported(error),
        }
    }

    /// A wrong size must be refused and the right one accepted: a store may refuse the header as such.
    async fn size_guard(&mut self) -> Result<bool> {
        let (upload, parts) = self.upload().await?;
        let store = self.store_with(|can| can.size_guard = true);
        let size = body().len() as u64;
        match store.complete_upload(&self.key, &upload, &parts, size + 1).await {
            Completion::Done(_) => return Ok(false),
            Completion::Refused(error) | Completion::Unknown(error) => unsupported(error)?,
        };
        match store.complete_upload(&self.key, &upload, &parts, size).await {
            Completion::Done(_) => Ok(true),
            Completion::Refused(error) | Completion::Unknown(error) => unsupported(error),
        }
    }

    async fn conditional_delete(&self) -> Result<bool> {
        match self.store.delete_version(&self.key, OTHER).await {
            Ok(outcome) => Ok(outcome == Deleted::Changed),
            Err(error) => unsupported(error),
        }
    }
}

fn body() -> Bytes {
    Bytes::from_static(b"probe")
}

/// Whether a request was refused for its condition.
fn refused<T>(outcome: Result<T>) -> Result<bool> {
    match outcome {
        Ok(_) => Ok(false),
        Err(error) if error.kind == ErrorKind::PreconditionFailed => Ok(true),
        Err(error) => unsupported(error),
    }
}

/// A store that is there and says no does not have the capability; one that is away says nothing.
fn unsupported(error: Error) -> Result<bool> {
    match error.disposition() {
        Disposition::Wait => Err(error),
        Disposition::Retry | Disposition::GiveUp => Ok(false),
    }
}
