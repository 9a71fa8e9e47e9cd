//! Clean-up of a job's ledger (I10): uploads that may be open are ended, then everything is deleted.
//!
//! Touches only this job's own directory and the uploads that are recorded there. Safe to repeat.

use futures::{StreamExt, TryStreamExt, stream};

use super::fence::Heartbeat;
use super::{Context, Error, Ledger};
use crate::store::{ErrorKind, Object, Pages, Store};

const CONCURRENCY: usize = 16;

/// What must hold whenever uploads of a ledger are about to be ended, or objects of it deleted.
pub(super) enum Leave {
    /// This worker still holds its shard, and shows that it is at work.
    Fence(Heartbeat),
    /// Nothing of the ledger was written after this. Seconds since the epoch, by the store's clock.
    UnwrittenSince(i64),
    /// Nobody else knows of this ledger.
    Alone,
}

impl Leave {
    fn of(context: &Context) -> Self {
        Self::Fence(Heartbeat::new(&context.fence))
    }

    pub(super) async fn check(&mut self, page: &[Object]) -> Result<(), Error> {
        match self {
            Self::Fence(heartbeat) => {
                heartbeat.step().await?;
                Ok(heartbeat.look().await?)
            }
            Self::UnwrittenSince(time) => match page.iter().find(|object| object.modified > *time) {
                Some(object) => Err(Error::LedgerInUse(object.key.clone())),
                None => Ok(()),
            },
            Self::Alone => Ok(()),
        }
    }
}

/// Ends the uploads that the ledger records and deletes every object of it. Only when the job's workers
/// are gone, or fenced and finished: what a late one writes after this is swept by `gc`.
pub async fn clean_up(context: &Context) -> Result<(), Error> {
    let mut leave = Leave::of(context);
    end_recorded(&*context.store, &context.ledger, &mut leave).await?;
    remove(&*context.store, &context.ledger, &mut leave).await
}

/// Ends every upload that the job's ledger records.
pub async fn end_uploads(context: &Context) -> Result<(), Error> {
    end_recorded(&*context.store, &context.ledger, &mut Leave::of(context)).await
}

/// Deletes every object of a ledger whose uploads are ended.
pub(super) async fn remove(store: &dyn Store, ledger: &Ledger, leave: &mut Leave) -> Result<(), Error> {
    let uploads = ledger.uploads_directory();
    // The records go last: as long as anything is left, the next clean-up finds its uploads.
    let is_record = |key: &str| key.starts_with(&uploads);
    delete(store, ledger.directory(), leave, |key| !is_record(key)).await?;
    delete(store, &uploads, leave, is_record).await
}

async fn delete(
    store: &dyn Store,
    directory: &str,
    leave: &mut Leave,
    goes: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let mut pages = Pages::of(directory);
    while let Some(objects) = pages.next(store).await? {
        leave.check(&objects).await?;
        let keys = objects.into_iter().map(|object| object.key);
        let keys: Vec<String> = keys.filter(|key| goes(key)).collect();
        store.delete(&keys).await?;
    }
    Ok(())
}

/// Ends every upload that the ledger records.
pub(super) async fn end_recorded(store: &dyn Store, ledger: &Ledger, leave: &mut Leave) -> Result<(), Error> {
    let mut pages = Pages::of(ledger.uploads_directory());
    while let Some(records) = pages.next(store).await? {
        leave.check(&records).await?;
        let ends: Vec<_> = records
            .iter()
            .map(|record| end_upload(store, ledger, record))
            .collect();
        stream::iter(ends)
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
    }
    Ok(())
}

/// Ends the uploads of one record: the one whose id it has, or, for an intention, all that are found open.
/// The request that opens an upload is repeated when its answer is lost, so there may be one whose id nobody
/// has learned; the key is this job's alone, so what is open is ours. Records go last, so one that is gone since
/// it was listed was deleted by the clean-up of a late worker, which had ended its uploads before.
async fn end_upload(store: &dyn Store, ledger: &Ledger, record: &Object) -> Result<(), Error> {
    let Some(record) = ledger.upload_record(&record.key).await? else {
        return Ok(());
    };
    let ids = match record.id {
        Some(id) => vec![id],
        None => uploads_of(store, &record.key).await?,
    };
    for id in ids {
        store.abort(&record.key, &id).await?;
    }
    Ok(())
}

/// The open uploads of a key. On a store that does not list them, what nobody has an id of is not found.
pub(super) async fn uploads_of(store: &dyn Store, key: &str) -> Result<Vec<String>, Error> {
    match store.list_uploads(key).await {
        Err(error) if error.kind == ErrorKind::Unsupported => Ok(Vec::new()),
        found => Ok(found?),
    }
}
