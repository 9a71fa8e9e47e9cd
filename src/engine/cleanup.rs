//! Clean-up of a job's ledger (I10): uploads that may be open are ended, then everything is deleted.
//!
//! Touches only this job's own directory and the uploads that are recorded there. Safe to repeat.

use futures::{StreamExt, TryStreamExt, stream};

use super::{Context, Error};
use crate::store::{ErrorKind, Object};

const CONCURRENCY: usize = 16;

/// Ends the uploads that the ledger records and deletes every object of it. Only when the job's workers
/// are gone, or fenced and finished: what a late one writes after this is swept by a later clean-up.
pub async fn clean_up(context: &Context) -> Result<(), Error> {
    end_uploads(context).await?;
    let uploads = context.ledger.uploads_directory();
    let mut after: Option<String> = None;
    loop {
        context.fence.look().await?;
        let page = context
            .store
            .list(context.ledger.directory(), after.as_deref())
            .await?;
        after = page.objects.last().map(|object| object.key.clone());
        // The records go last: as long as anything is left, the next clean-up finds its uploads.
        let keys: Vec<String> = page
            .objects
            .into_iter()
            .map(|object| object.key)
            .filter(|key| !key.starts_with(&uploads))
            .collect();
        context.store.delete(&keys).await?;
        if !page.more || after.is_none() {
            break;
        }
    }
    loop {
        let page = context.store.list(&uploads, None).await?;
        let keys: Vec<String> = page.objects.into_iter().map(|object| object.key).collect();
        context.store.delete(&keys).await?;
        if !page.more {
            return Ok(());
        }
    }
}

/// Ends every upload that the ledger records.
pub async fn end_uploads(context: &Context) -> Result<(), Error> {
    let directory = context.ledger.uploads_directory();
    let mut after: Option<String> = None;
    loop {
        let page = context.store.list(&directory, after.as_deref()).await?;
        after = page.objects.last().map(|object| object.key.clone());
        let ends: Vec<_> = page
            .objects
            .iter()
            .map(|record| end_upload(context, record))
            .collect();
        stream::iter(ends)
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        if !page.more || after.is_none() {
            return Ok(());
        }
    }
}

/// Ends the uploads of one record: the one whose id it has, or, for an intention, all that are found open.
/// The request that opens an upload is repeated when its answer is lost, so there may be one whose id nobody
/// has learned; the key is this job's alone, so what is open is ours.
async fn end_upload(context: &Context, record: &Object) -> Result<(), Error> {
    let record = context.ledger.upload_record(&record.key).await?;
    let ids = match record.id {
        Some(id) => vec![id],
        None => match context.store.list_uploads(&record.key).await {
            // A store that does not list uploads: what nobody has an id of cannot be found there.
            Err(error) if error.kind == ErrorKind::InvalidRequest => Vec::new(),
            found => found?,
        },
    };
    for id in ids {
        context.store.abort(&record.key, &id).await?;
    }
    Ok(())
}
