//! The controller process: waits for its CRDs and for the Lease, watches jobs, pods and schedules, and makes passes
//! until it is told to stop or loses the Lease.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{FutureExt, TryStreamExt, future};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::{Action, Config as Concurrency};
use kube::runtime::reflector::Store;
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{Controller, WatchStreamExt};
use kube::{Api, Client, Config, Resource};
use kube_lease_manager::LeaseManager;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::cluster::Error as PassError;
use super::context::{Context, Stores};
use super::http::{self, Health, Ready};
use super::lease;
use super::metrics::Metrics;
use super::objects::{JOB_UID, PodSettings};
use super::pod_changes::PodChanges;
use super::reflected::reflected;
use super::{passes, reconcile, schedule};
use crate::api::{CompactionJob, GROUP, VERSION};
use crate::deadline::within;

/// An answer to a call, but for watches.
const ANSWER: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);
const CRDS: [&str; 2] = ["compactionjobs", "compactionschedules"];
const LOOK_FOR_CRDS: Duration = Duration::from_secs(2);
const FORGET: Duration = Duration::from_mins(1);
const CONTROLLER: &str = "compactionjob";

/// What a controller is started with.
pub struct Settings {
    /// Empty: all of them.
    pub namespaces: Vec<String>,
    pub pods: PodSettings,
    /// Where `/metrics`, `/livez` and `/readyz` are served.
    pub listen: SocketAddr,
    pub lease_namespace: String,
    pub lease_name: String,
    /// Passes at one time.
    pub concurrency: u16,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the API server's address and credentials: {0}")]
    Config(#[from] kube::config::InferConfigError),
    #[error("a client of the API server: {0}")]
    Client(#[source] kube::Error),
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("the Lease {0}: {1}")]
    Lease(String, kube_lease_manager::LeaseManagerError),
    #[error("lost the Lease {0}; another controller works now")]
    LeaseLost(String),
}

/// Runs until `stop`. An error ends the process, so that a fresh one begins with a fresh view.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<(), Error> {
    let (watching, calling) = clients().await?;
    let (metrics, ready) = (Metrics::default(), Ready::default());
    let listener = http::listen(settings.listen)
        .await
        .map_err(|source| Error::Listen {
            address: settings.listen,
            source,
        })?;
    let shown = Arc::new(Shown {
        metrics: metrics.clone(),
        context: OnceLock::new(),
    });
    let serving = tokio::spawn(http::serve(listener, ready.clone(), Arc::clone(&shown)));
    let worked = stop
        .run_until_cancelled(wait_for_crds(&calling))
        .await
        .map(|()| ready.set());
    let outcome = match worked {
        Some(()) => lead(&settings, watching, calling, &shown, &stop).await,
        None => Ok(()),
    };
    serving.abort();
    outcome
}

/// Two clients: a watch is silent for minutes, and any other call must be answered.
async fn clients() -> Result<(Client, Client), Error> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(CONNECT);
    let watching = Client::try_from(config.clone()).map_err(Error::Client)?;
    config.read_timeout = Some(ANSWER);
    config.reset_reader_on_write = true;
    let calling = Client::try_from(config).map_err(Error::Client)?;
    Ok((watching, calling))
}

/// A chart may bring the CRDs after the controller, and discovery needs no rights.
async fn wait_for_crds(client: &Client) {
    let version = format!("{GROUP}/{VERSION}");
    let mut told = false;
    loop {
        match within(ANSWER, client.list_api_group_resources(&version)).await {
            Ok(Ok(known))
                if CRDS
                    .iter()
                    .all(|crd| known.resources.iter().any(|r| r.name == *crd)) =>
            {
                return;
            }
            Ok(Err(error)) => tracing::debug!(%error, "the API server does not know {version}"),
            _ => {}
        }
        if !told {
            told = true;
            tracing::warn!(
                "waits for the CustomResourceDefinitions of {} in {version}",
                CRDS.join(" and ")
            );
        }
        tokio::time::sleep(LOOK_FOR_CRDS).await;
    }
}

/// Works while it holds the Lease, and gives it back at the end.
async fn lead(
    settings: &Settings,
    watching: Client,
    calling: Client,
    shown: &Shown,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let name = settings.lease_name.clone();
    let lease_error = |error| Error::Lease(settings.lease_name.clone(), error);
    shown.metrics.lead(&name, false);
    let identity = lease::identity();
    let elected = lease::elected(&calling, &settings.lease_namespace, &name, &identity);
    let Some(manager) = stop.run_until_cancelled(elected).await else {
        return Ok(());
    };
    let manager = manager.map_err(lease_error)?;
    let (mut leads, renewing): (_, JoinHandle<Result<LeaseManager, _>>) = manager.watch().await;
    tracing::info!(lease = name, "leads");
    shown.metrics.lead(&name, true);
    let outcome = tokio::select! {
        () = work(settings, watching, calling, shown, stop) => Ok(()),
        _ = leads.changed() => Err(Error::LeaseLost(name.clone())),
    };
    drop(leads);
    // Given back at once rather than after it expired; nothing depends on it.
    within(ANSWER, renewing).await.ok();
    outcome
}

async fn work(
    settings: &Settings,
    watching: Client,
    calling: Client,
    shown: &Shown,
    stop: &CancellationToken,
) {
    let scopes: Vec<Option<&str>> = match &settings.namespaces[..] {
        [] => vec![None],
        names => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    let changes = Arc::new(PodChanges::default());
    let mut stores = Stores::default();
    let (mut jobs, mut schedules) = (Vec::new(), Vec::new());
    for namespace in scopes {
        let (ends, ended) = schedule::Ends::new();
        let (store, controller) = watch(namespace, &watching, &changes, ends, settings.concurrency, stop);
        stores.jobs.push(store);
        jobs.push(controller);
        let (store, controller) =
            schedule::watch(api(&watching, namespace), ended, settings.concurrency, stop);
        stores.schedules.push(store);
        schedules.push(controller);
    }
    let context = Arc::new(Context::new(
        calling,
        settings.pods.clone(),
        shown.metrics.clone(),
        stores,
        changes,
    ));
    shown.context.set(Arc::clone(&context)).ok();
    let jobs = jobs.into_iter().map(|controller| {
        passes::told(controller.run(pass, passes::after_error, Arc::clone(&context))).boxed()
    });
    let schedules = schedules.into_iter().map(|controller| {
        passes::told(controller.run(schedule::pass, passes::after_error, Arc::clone(&context))).boxed()
    });
    let working = future::join_all(jobs.chain(schedules));
    let forget = async {
        loop {
            tokio::time::sleep(FORGET).await;
            context.forget();
        }
    };
    tokio::select! {
        _ = working => {}
        () = forget => {}
    }
}

/// Objects of a kind in one namespace, or in all.
fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Jobs and their pods in one namespace, or in all.
fn watch(
    namespace: Option<&str>,
    client: &Client,
    changes: &Arc<PodChanges>,
    ends: schedule::Ends,
    concurrency: u16,
    stop: &CancellationToken,
) -> (Store<CompactionJob>, Controller<CompactionJob>) {
    let (store, jobs) = reflected(api(client, namespace));
    let jobs = jobs.inspect_ok(move |event| ends.tell(event)).applied_objects();
    let pods: Api<Pod> = api(client, namespace);
    let changes = Arc::clone(changes);
    let pods = watcher(pods, watcher::Config::default().labels(JOB_UID))
        .default_backoff()
        .try_filter(move |event| future::ready(changes.take(event)))
        .touched_objects();
    let controller = Controller::for_stream(jobs, store.clone())
        .owns_stream(pods)
        .with_config(Concurrency::default().concurrency(concurrency))
        .graceful_shutdown_on(stop.clone().cancelled_owned());
    (store, controller)
}

async fn pass(job: Arc<CompactionJob>, context: Arc<Context>) -> Result<Action, PassError> {
    let memory = context.memory(&job);
    let mut memory = memory.lock().await;
    let pass = Box::pin(reconcile::pass(&context, &job, &mut memory));
    let wait = passes::make(&context, &*job, CONTROLLER, pass).await?;
    Ok(wait.map_or_else(Action::await_change, Action::requeue))
}

/// What `/metrics` is made of; before this process leads, the metrics alone.
struct Shown {
    metrics: Metrics,
    context: OnceLock<Arc<Context>>,
}

impl Health for Shown {
    fn metrics(&self) -> String {
        self.metrics.text(|| {
            if let Some(context) = self.context.get() {
                context.gauge();
            }
        })
    }
}
