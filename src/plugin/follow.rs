//! Following objects by a watch that is begun again when it breaks. Never asks again and again.

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};

use super::Error;
use super::cluster::Cluster;
use crate::api::CompactionJob;

/// The server ends a watch after so long, so that a connection that is dead is noticed soon.
const WATCH_SECONDS: u32 = 30;

/// What a watch tells; its end is never reached.
pub(super) type Events<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

pub(super) fn events<K>(api: Api<K>, only: watcher::Config) -> Events<K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    watcher(api, only.timeout(WATCH_SECONDS))
        .default_backoff()
        .boxed()
}

/// A job each time that it changes; `None`: it is gone.
pub(super) fn job(
    cluster: &Cluster,
    name: &str,
) -> impl Stream<Item = Result<Option<CompactionJob>, watcher::Error>> + use<> {
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let seen = events(cluster.jobs(), only).scan(false, |is_there, event| {
        let change = match event {
            Ok(Event::Init) => {
                *is_there = false;
                None
            }
            Ok(Event::InitApply(job) | Event::Apply(job)) => {
                *is_there = true;
                Some(Ok(Some(job)))
            }
            Ok(Event::InitDone) => (!*is_there).then_some(Ok(None)),
            Ok(Event::Delete(_)) => Some(Ok(None)),
            Err(error) => Some(Err(error)),
        };
        std::future::ready(Some(change))
    });
    seen.filter_map(std::future::ready)
}

/// Whether a watch that broke will never be better: then why. Anything else is waited for.
pub(super) fn for_good(cluster: &Cluster, call: &str, error: watcher::Error) -> Result<String, Error> {
    let error = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error,
        watcher::Error::WatchError(status) => kube::Error::Api(status),
        error @ watcher::Error::NoResourceVersion => return Ok(error.to_string()),
    };
    match cluster.meaning(call, error) {
        error @ (Error::Forbidden { .. } | Error::Unauthorized { .. } | Error::Unreadable { .. }) => {
            Err(error)
        }
        error => Ok(error.to_string()),
    }
}
