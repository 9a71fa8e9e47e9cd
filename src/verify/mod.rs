//! Says whether every record of every consumed source is in the published outputs exactly once, in the
//! group where it belongs.
//!
//! Shares no code with what it judges: of the engine it knows the documented files beside `_SUCCESS` only,
//! and it lists, reads and decodes by its own means. It writes nothing. Memory grows with groups and
//! outputs, not with sources, records or their sizes.

mod compare;
mod content;
mod lists;
mod published;
mod report;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use self::compare::{Comparison, Found};
use self::content::Unreadable;
use self::lists::{Consumed, Listing};
use self::published::Output;
pub use self::report::{Report, Sentences};
use crate::api::{CompactionJob, FormatType};
use crate::store::{self, ErrorKind, Object, Store};

/// Objects read at the same time.
const CONCURRENCY: usize = 16;

/// What keeps a verification from coming to a result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("{key}: {problem}; without this file nobody can say what was published")]
    Damaged { key: String, problem: String },
    #[error("{0} was taken over by a job that is publishing; verify again")]
    Unsettled(String),
    #[error("the store lists {0} out of order; only stores that list in the order of keys can be verified")]
    ListingOrder(String),
}

/// Compares what the published jobs of `job`'s source and output prefix have written with what they have
/// consumed: all of them, as a job takes over what the jobs before it consumed. `job_uid` names one that
/// must be among them; a job that found nothing to do publishes nothing.
pub async fn verify(
    store: &Arc<dyn Store>,
    job: &CompactionJob,
    job_uid: Option<&str>,
) -> Result<Report, Error> {
    // Another format needs a rule of its own for what a record is.
    let FormatType::Lines = job.spec.format.type_;
    let mut published = published::find(store, &job.spec.output.prefix, &job.spec.source.prefix).await?;
    let lists = published
        .iter_mut()
        .filter_map(|job| job.consumed.take())
        .collect();
    let mut comparison = Comparison::new(job);
    comparison.take_jobs(&published, job_uid);

    let reads: Vec<_> = comparison
        .outputs(published)
        .into_iter()
        .map(|output| read_output(store, output))
        .collect();
    let mut outputs = stream::iter(reads).buffer_unordered(CONCURRENCY);
    while let Some((output, size, found)) = outputs.try_next().await? {
        comparison.take_output(&output, size, found);
    }

    let sources = Sources {
        consumed: Consumed::open(store, lists).await?,
        listing: Listing::new(store, &job.spec.source.prefix),
    };
    let sources = stream::try_unfold(sources, async |mut sources| {
        Ok(sources.next().await?.map(|s| (s, sources)))
    });
    let mut sources = sources
        .map_ok(|source| read_source(store, source))
        .try_buffer_unordered(CONCURRENCY)
        .boxed();
    while let Some((key, found)) = sources.try_next().await? {
        comparison.take_source(&key, found);
    }
    Ok(comparison.conclude())
}

/// The consumed lists, joined with what the source prefix holds now.
struct Sources {
    consumed: Consumed,
    listing: Listing,
}

struct Source {
    key: String,
    /// If it is there as it was consumed.
    object: Option<Object>,
}

impl Sources {
    async fn next(&mut self) -> Result<Option<Source>, Error> {
        let Some(pinned) = self.consumed.next().await? else {
            return Ok(None);
        };
        let object = self.listing.find(&pinned.key).await?;
        let object = object
            .filter(|object| object.etag == pinned.etag && object.readable)
            .cloned();
        Ok(Some(Source {
            key: pinned.key,
            object,
        }))
    }
}

async fn read_source(store: &Arc<dyn Store>, source: Source) -> Result<(String, Found), Error> {
    let found = match source.object {
        Some(object) => read(store, &object.key, &object.etag, object.size).await?,
        None => Found::Gone,
    };
    Ok((source.key, found))
}

/// An output with its present size.
async fn read_output(store: &Arc<dyn Store>, output: Output) -> Result<(Output, u64, Found), Error> {
    match store.head(&output.key).await? {
        Some(head) => {
            let found = read(store, &output.key, &head.etag, head.size).await?;
            Ok((output, head.size, found))
        }
        None => Ok((output, 0, Found::Gone)),
    }
}

async fn read(store: &Arc<dyn Store>, key: &str, etag: &str, size: u64) -> Result<Found, Error> {
    match content::read(store, key, etag, size).await {
        Ok(content) => Ok(Found::Content(content)),
        Err(Unreadable::Store(error)) => match error.kind {
            ErrorKind::NotFound | ErrorKind::PreconditionFailed | ErrorKind::Archived => Ok(Found::Gone),
            _ => Err(error.into()),
        },
        Err(broken) => Ok(Found::Broken(broken.to_string())),
    }
}
