//! Says whether every record of every consumed source is in the published outputs exactly once, in the
//! group where it belongs.
//!
//! Shares no code with what it judges: of the engine it knows the documented files beside `_SUCCESS` only,
//! and it lists, reads and decodes by its own means. It writes nothing. Memory grows with groups and
//! outputs, not with sources, records or their sizes.

mod compare;
mod content;
mod latest;
mod lists;
mod published;
mod report;

use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, stream};

use self::compare::{Comparison, Found};
use self::content::Unreadable;
use self::latest::{Groups, Mark, Marker, Share};
use self::lists::{Consumed, Listing};
use self::published::Output;
pub use self::report::{Report, Sentences};
use crate::api::{CompactionJob, Deduplicate, FormatType};
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
    let lists: Vec<Object> = published
        .iter_mut()
        .filter_map(|job| job.consumed.take())
        .collect();
    let mut comparison = Comparison::new(job);
    comparison.take_jobs(&published, job_uid);

    let one_job = published.len() == 1;
    let all = comparison.outputs(published);
    let reads: Vec<_> = all
        .iter()
        .cloned()
        .map(|output| read_output(store, output))
        .collect();
    let mut outputs = stream::iter(reads).buffer_unordered(CONCURRENCY);
    while let Some((output, size, found)) = outputs.try_next().await? {
        comparison.take_output(&output, size, found);
    }

    let mut sources = Sources::open(store, &lists, job)
        .await?
        .stream()
        .map_ok(|source| read_source(store, source))
        .try_buffer_unordered(CONCURRENCY)
        .boxed();
    while let Some((key, found)) = sources.try_next().await? {
        comparison.take_source(&key, found);
    }
    if let Some(rules) = &job.spec.deduplicate {
        for share in Share::all(comparison.records()) {
            let mut looked = Looked {
                rules,
                share,
                groups: Groups::default(),
                comparison: &mut comparison,
            };
            looked
                .compare(store, &all, Sources::open(store, &lists, job).await?, one_job)
                .await?;
        }
    }
    Ok(comparison.conclude())
}

/// A share of all keys, looked at in sources and outputs.
struct Looked<'a, 'j> {
    rules: &'a Deduplicate,
    share: Share,
    groups: Groups,
    comparison: &'a mut Comparison<'j>,
}

impl Looked<'_, '_> {
    async fn compare(
        &mut self,
        store: &Arc<dyn Store>,
        outputs: &[Output],
        sources: Sources,
        one_job: bool,
    ) -> Result<(), Error> {
        let mut in_outputs = Vec::new();
        for output in outputs {
            if let Some(head) = store.head(&output.key).await? {
                in_outputs.extend(self.marks(store, &output.key, &head.etag, head.size, 0).await?);
            }
        }
        let mut in_sources = Vec::new();
        let mut sources = sources.stream().boxed();
        let mut number = 0;
        while let Some(Source { object, .. }) = sources.try_next().await? {
            number += 1;
            if let Some(Object { key, etag, size, .. }) = object {
                in_sources.extend(self.marks(store, &key, &etag, size, number).await?);
            }
        }
        for (group, wrong) in latest::compare(in_sources, in_outputs, one_job) {
            self.comparison.take_wrong(self.groups.name(group), &wrong);
        }
        Ok(())
    }

    /// Of the records of one object; what is wrong with the object itself has been said.
    async fn marks(
        &mut self,
        store: &Arc<dyn Store>,
        key: &str,
        etag: &str,
        size: u64,
        number: u64,
    ) -> Result<Vec<Mark>, Error> {
        let group = self.groups.number(self.comparison.group_of(key));
        let marker = Marker::new(self.rules, self.share, group, number);
        match read(store, key, etag, size, Some(marker)).await? {
            Found::Content(content) => Ok(content.marks),
            Found::Gone | Found::Broken(_) => Ok(Vec::new()),
        }
    }
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
    async fn open(store: &Arc<dyn Store>, lists: &[Object], job: &CompactionJob) -> Result<Self, Error> {
        Ok(Self {
            consumed: Consumed::open(store, lists.to_vec()).await?,
            listing: Listing::new(store, &job.spec.source.prefix),
        })
    }

    fn stream(self) -> impl Stream<Item = Result<Source, Error>> {
        stream::try_unfold(self, async |mut sources| {
            Ok(sources.next().await?.map(|source| (source, sources)))
        })
    }

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
        Some(object) => read(store, &object.key, &object.etag, object.size, None).await?,
        None => Found::Gone,
    };
    Ok((source.key, found))
}

/// An output with its present size.
async fn read_output(store: &Arc<dyn Store>, output: Output) -> Result<(Output, u64, Found), Error> {
    match store.head(&output.key).await? {
        Some(head) => {
            let found = read(store, &output.key, &head.etag, head.size, None).await?;
            Ok((output, head.size, found))
        }
        None => Ok((output, 0, Found::Gone)),
    }
}

async fn read(
    store: &Arc<dyn Store>,
    key: &str,
    etag: &str,
    size: u64,
    marker: Option<Marker>,
) -> Result<Found, Error> {
    match content::read(store, key, etag, size, marker).await {
        Ok(content) => Ok(Found::Content(content)),
        Err(Unreadable::Store(error)) => match error.kind {
            ErrorKind::NotFound | ErrorKind::PreconditionFailed | ErrorKind::Archived => Ok(Found::Gone),
            _ => Err(error.into()),
        },
        Err(broken) => Ok(Found::Broken(broken.to_string())),
    }
}
