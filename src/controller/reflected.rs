//! The objects that a controller is about, as the API server tells of them. Takes no action.

use std::fmt::Debug;

use futures::{Stream, TryStreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// Objects of a kind: what is known of them, and every change once it is known.
pub(super) fn reflected<K>(
    api: Api<DeserializeGuard<K>>,
) -> (
    Store<K>,
    impl Stream<Item = Result<Event<K>, watcher::Error>> + Send,
)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(api, watcher::Config::default())
        .try_filter_map(|event| async move { Ok(understood(event)) })
        .default_backoff()
        .modify(forget_what_is_not_needed)
        .reflect(writer);
    (store, events)
}

/// An object that this version does not understand is left alone, and does not keep the others from being seen.
fn understood<K: Resource<DynamicType = ()>>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
    let sound = |guard: DeserializeGuard<K>| match guard.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let kind = K::kind(&());
            let name = invalid.metadata.name.unwrap_or_default();
            let namespace = invalid.metadata.namespace.unwrap_or_default();
            tracing::error!(
                namespace,
                name,
                error = invalid.error,
                "a {kind} is not understood"
            );
            None
        }
    };
    Some(match event {
        Event::Apply(object) => Event::Apply(sound(object)?),
        Event::InitApply(object) => Event::InitApply(sound(object)?),
        Event::Delete(object) => Event::Delete(sound(object)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// Most of an object's size, and nothing that is looked at.
fn forget_what_is_not_needed(object: &mut impl ResourceExt) {
    object.managed_fields_mut().clear();
    object
        .annotations_mut()
        .remove("kubectl.kubernetes.io/last-applied-configuration");
}
