//! Finding out what a store honours, by trying.
//!
//! Touches only objects and uploads of the two keys it is given, and removes them whatever happens on the
//! way, unless the process ends.

use bytes::Bytes;

use super::S3;
use super::quoted;
use crate::disposition::Disposition;
use crate::store::{Capabilities, Completion, Deleted, Error, ErrorKind, Part, Put, Result};

/// The ETag of no version.
const OTHER: &str = "00000000000000000000000000000000";

impl S3 {
    pub(super) async fn try_capabilities(&self, [object, assembled]: &[String; 2]) -> Result<Capabilities> {
        let mut trial = Trial {
            store: self.clone(),
            object: object.clone(),
            assembled: assembled.clone(),
            uploads: Vec::new(),
        };
        let found = trial.run().await;
        let cleaned = trial.clean_up().await;
        let found = found?;
        cleaned?;
        Ok(found)
    }
}

/// What is tried with, and what is to be removed.
struct Trial {
    store: S3,
    /// Stored in one request.
    object: String,
    /// Stored by an upload.
    assembled: String,
    /// Key and id of every upload that was opened.
    uploads: Vec<(String, String)>,
}

impl Trial {
    async fn run(&mut self) -> Result<Capabilities> {
        self.store
            .put_object(&self.object, body(), Put::default())
            .await?;
        let create_only = self.create_only().await?;
        let if_match_read = self.if_match_read().await?;
        let (upload, parts) = self.upload(self.object.clone()).await?;
        let list_parts = self.list_parts(&upload, &parts).await?;
        let list_uploads = self.list_uploads(&upload).await?;
        let conditional_complete = self.conditional_complete(&upload, &parts).await?;
        let size_guard = self.size_guard().await?;
        // Last, since a store without it deletes the object.
        let conditional_delete = self.conditional_delete().await?;
        Ok(Capabilities {
            create_only,
            if_match_read,
            conditional_complete,
            size_guard,
            conditional_delete,
            list_parts,
            list_uploads,
        })
    }

    async fn clean_up(&self) -> Result<()> {
        let mut outcome = Ok(());
        for (key, upload) in &self.uploads {
            outcome = outcome.and(self.store.abort_upload(key, upload).await);
        }
        outcome.and(
            self.store
                .delete_all(&[self.object.clone(), self.assembled.clone()])
                .await,
        )
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
                    &self.object,
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
                .key(&self.object)
                .if_match(quoted(OTHER));
            Box::pin(request.send()).await?;
            Ok(())
        };
        refused(store.call(store.on("GetObject", &self.object), attempt).await)
    }

    /// Opens an upload and sends its only part.
    async fn upload(&mut self, key: String) -> Result<(String, [Part; 1])> {
        let upload = self.store.open_upload(&key, Put::default()).await?;
        self.uploads.push((key.clone(), upload.clone()));
        let etag = self.store.send_part(&key, &upload, 1, body()).await?;
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
        match self.store.parts(&self.object, upload).await {
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
        match self.store.uploads(&self.object).await {
            Ok(listed) => Ok(listed.iter().any(|id| id == upload)),
            Err(error) => unsupported(error),
        }
    }

    async fn conditional_complete(&self, upload: &str, parts: &[Part]) -> Result<bool> {
        let store = self.store_with(|can| can.conditional_complete = true);
        match store
            .complete_upload(&self.object, upload, parts, body().len() as u64)
            .await
        {
            Completion::Done(_) => Ok(false),
            Completion::Refused(error) if error.kind == ErrorKind::PreconditionFailed => Ok(true),
            Completion::Refused(error) | Completion::Unknown(error) => unsupported(error),
        }
    }

    /// A wrong size must be refused and the right one accepted: a store may refuse the header as such.
    async fn size_guard(&mut self) -> Result<bool> {
        let key = self.assembled.clone();
        let (upload, parts) = self.upload(key.clone()).await?;
        let store = self.store_with(|can| can.size_guard = true);
        let size = body().len() as u64;
        match store.complete_upload(&key, &upload, &parts, size + 1).await {
            Completion::Done(_) => return Ok(false),
            Completion::Refused(error) | Completion::Unknown(error) => unsupported(error)?,
        };
        match store.complete_upload(&key, &upload, &parts, size).await {
            Completion::Done(_) => Ok(true),
            Completion::Refused(error) | Completion::Unknown(error) => unsupported(error),
        }
    }

    async fn conditional_delete(&self) -> Result<bool> {
        match self.store.delete_version(&self.object, OTHER).await {
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
