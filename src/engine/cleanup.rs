//! Clean-up of a job's ledger (I10): uploads that may be open are ended, then everything is deleted.
//!
//! Touches only this job's own directory and the uploads that are recorded there. Safe to repeat.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};

use super::{Context, Error};
use crate::store::Object;

const CONCURRENCY: usize = 16;

/// Ends the uploads that the ledger records and deletes every object of it. Only when the job's workers
/// are gone, or fenced and finished: what a late one writes after this is swept by a later clean-up.
pub async fn clean_up(context: &Context) -> Result<(), Error> {
    let uploads = context.ledger.uploads_directory();
    end_uploads(context, &uploads).await?;
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

async fn end_uploads(context: &Context, directory: &str) -> Result<(), Error> {
    let mut after: Option<String> = None;
    loop {
        let page = context.store.list(directory, after.as_deref()).await?;
        after = page.objects.last().map(|object| object.key.clone());
        let opened: BTreeSet<&str> = page
            .objects
            .iter()
            .filter_map(|o| o.key.strip_suffix(".opened.json"))
            .collect();
        let ends: Vec<_> = page
            .objects
            .iter()
            .map(|record| end_upload(context, record, &opened))
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

/// Ends the upload of one record. An intention whose id was recorded too is left to that record.
async fn end_upload(context: &Context, record: &Object, opened: &BTreeSet<&str>) -> Result<(), Error> {
    let intended = record.key.strip_suffix(".intended.json");
    if intended.is_some_and(|name| opened.contains(name)) {
        return Ok(());
    }
    let record = context.ledger.upload_record(&record.key).await?;
    let ids = match record.id {
        Some(id) => vec![id],
        // Whether it was ever opened nobody knows; the name is this plan's alone, so what is open is ours.
        None => context.store.list_uploads(&record.key).await?,
    };
    for id in ids {
        context.store.abort(&record.key, &id).await?;
    }
    Ok(())
}
