//! The commands: each takes its arguments, calls the library, prints, and returns an exit code. Here those that people
//! give; what the operator's pods run is in `pods`.

mod pods;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use compaction_operator::api::{CompactionJob, Limits, condition, conditions};
use compaction_operator::engine::{self, Ledgers, PlanInput, Window, preview};
use compaction_operator::local::{
    self, Endpoint, LedgersReport, Outcome, ProbeReport, Recipe, Run, WorkerArguments, demo, manifest,
    run_worker, server, uid_of_state, uids, uids_beside,
};
use compaction_operator::store::{CredentialsFrom, S3, Store};
use compaction_operator::verify;
use compaction_operator::worker::store_settings;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use pods::{controller, ready, worker};

use crate::cli;
use crate::cli::Format;

/// A `run`'s exit codes; part of the command's contract.
const FAILED: u8 = 1;
const UNUSABLE: u8 = 2;
const INTERRUPTED: u8 = 130;

/// What ends a command before its work: said to the user, exit code 2.
pub(crate) struct Unusable(String);

impl<E: Display> From<E> for Unusable {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

pub(crate) type Answer = Result<ExitCode, Unusable>;

pub(crate) fn exit(answer: Answer) -> ExitCode {
    answer.unwrap_or_else(|Unusable(problem)| {
        eprintln!("error: {problem}");
        ExitCode::from(UNUSABLE)
    })
}

/// What is generated from the types.
pub(crate) fn print(generated: Result<String, Box<dyn std::error::Error>>) -> Answer {
    let text = generated.map_err(|error| Unusable(error.to_string()))?;
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// Lends the job's store to `work`, whose own errors are in what it returns. Where that store is a directory it is served
/// meanwhile, and given back whatever came of it; others reach it at the endpoint.
async fn with_store<T>(
    job: &CompactionJob,
    directory: Option<&Path>,
    work: impl AsyncFnOnce(Arc<dyn Store>, Option<Endpoint>) -> T,
) -> Result<T, Unusable> {
    let server = match directory {
        Some(directory) => Some(server::start(directory).await?),
        None => None,
    };
    let endpoint = server.as_ref().map(|server| Endpoint {
        url: server.endpoint(),
        keys: server.keys(),
    });
    let mut settings = store_settings(&job.spec, endpoint.as_ref().map(|endpoint| endpoint.url.clone()));
    if let Some(endpoint) = &endpoint {
        settings.credentials = CredentialsFrom::Keys(endpoint.keys.clone());
    }
    let store: Arc<dyn Store> = Arc::new(S3::new(&settings).await?);
    let done = work(store, endpoint).await;
    if let Some(server) = server {
        server.stop().await;
    }
    Ok(done)
}

pub(crate) async fn run(arguments: cli::RunArguments) -> Answer {
    let cli::JobArguments {
        manifest,
        store,
        output,
    } = &arguments.job;
    let state = arguments.state.clone().unwrap_or_else(|| state_beside(manifest));
    let run = Run::prepare(manifest, &state)?;
    let outcome = drive(
        &run,
        store.as_deref(),
        &state,
        arguments.window.0,
        *output == Format::Json,
    )
    .await?;
    report(&run.job()?, outcome, run.ended_before, *output)
}

async fn drive(
    run: &Run,
    directory: Option<&Path>,
    state: &Path,
    window_bytes: u64,
    quiet: bool,
) -> Result<Outcome, Unusable> {
    let program = std::env::current_exe()?;
    let job = run.job()?;
    let outcome = with_store(&job, directory, async |store, endpoint| {
        let interrupt = CancellationToken::new();
        on_interrupt(interrupt.clone());
        let recipe = Recipe {
            program,
            state: state.to_owned(),
            endpoint,
            window_bytes,
        };
        run.drive(&recipe, store, quiet, interrupt).await
    });
    Ok(outcome.await??)
}

/// The first signal stops at the next checkpoints, the second at once.
fn on_interrupt(interrupt: CancellationToken) {
    tokio::spawn(async move {
        for _ in 0..2 {
            if wait_for_signal().await.is_err() {
                return;
            }
            if interrupt.is_cancelled() {
                std::process::exit(INTERRUPTED.into());
            }
            eprintln!("stopping at the next checkpoint; interrupt again to stop at once");
            interrupt.cancel();
        }
    });
}

async fn wait_for_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

fn report(job: &CompactionJob, outcome: Outcome, ended_before: bool, format: Format) -> Answer {
    let code = match outcome {
        Outcome::Succeeded => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::from(FAILED),
        Outcome::Interrupted => ExitCode::from(INTERRUPTED),
    };
    if format == Format::Json {
        println!("{}", serde_json::to_string_pretty(job)?);
        return Ok(code);
    }
    let status = job.status.clone().unwrap_or_default();
    let ready = condition(&status.conditions, conditions::READY);
    let (reason, message) = ready.map_or(("", ""), |ready| (&ready.reason, &ready.message));
    if outcome == Outcome::Interrupted {
        println!("interrupted; run the same command again to go on from the last checkpoint");
        return Ok(code);
    }
    let already = if ended_before {
        " (had ended before; nothing was done)"
    } else {
        ""
    };
    println!("{reason}: {message}{already}");
    if outcome == Outcome::Failed {
        println!("change spec.retryToken to go on from the last checkpoint once the cause is mended");
    }
    if let Some(due) = job
        .dispose_time()
        .filter(|_| status.is_announced() && status.dispose.is_none())
    {
        println!("the sources may be deleted from {due} on; run the same command then");
    }
    Ok(code)
}

pub(crate) async fn plan(arguments: cli::JobArguments) -> Answer {
    let job = manifest::read(&arguments.manifest, None)?;
    let input = PlanInput {
        job: &job,
        limits: Limits::of(&job.spec)?,
        now: jiff::Timestamp::now().as_second(),
    };
    let plan = with_store(&job, arguments.store.as_deref(), async |store, _| {
        preview(&store, &input).await
    });
    show(&local::PlanSummary::of(&plan.await??), arguments.output)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn probe(arguments: cli::JobArguments) -> Answer {
    let job = manifest::read(&arguments.manifest, None)?;
    let report = with_store(&job, arguments.store.as_deref(), async |store, _| {
        ProbeReport::make(&store, &job).await
    });
    show(&report.await??, arguments.output)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn gc(arguments: cli::GcArguments) -> Answer {
    let cli::JobArguments {
        manifest,
        store,
        output,
    } = &arguments.job;
    let job = manifest::read(manifest, None)?;
    let mut living = named_living(&arguments)?;
    if arguments.delete && living.is_empty() && !arguments.none_live {
        return Err(Unusable(
            "nobody says which jobs live; name them with --live, or say --none-live".to_owned(),
        ));
    }
    // They protect their jobs, and say nothing of others: one stays after its job has succeeded.
    living.extend(uids_beside(manifest)?);
    let report = with_store(&job, store.as_deref(), async |store, _| {
        look_at_ledgers(store, &job, &arguments, living).await
    });
    let report = report.await??;
    show(&report, *output)?;
    Ok(judged(report.is_good()))
}

async fn look_at_ledgers(
    store: Arc<dyn Store>,
    job: &CompactionJob,
    arguments: &cli::GcArguments,
    living: BTreeSet<Uuid>,
) -> Result<LedgersReport, engine::Error> {
    let now = jiff::Timestamp::now().as_second();
    let (state_prefix, cluster) = (&job.spec.state_prefix, &arguments.cluster_id);
    let age = arguments.min_age_seconds;
    let ledgers = Ledgers::open(store, state_prefix, cluster, living, now, age).await?;
    LedgersReport::make(&ledgers, arguments.delete).await
}

/// UIDs of the jobs that somebody says live. One who means to name some and names none is told so: a command that
/// failed prints nothing.
fn named_living(arguments: &cli::GcArguments) -> Result<BTreeSet<Uuid>, Unusable> {
    let mut living = BTreeSet::new();
    for text in &arguments.live {
        let named = match text.as_str() {
            "-" => uids(&std::io::read_to_string(std::io::stdin())?)?,
            text => uids(text)?,
        };
        if named.is_empty() {
            return Err(Unusable(
                "--live names no job; where none lives, say --none-live in its place".to_owned(),
            ));
        }
        living.extend(named);
    }
    for path in &arguments.state {
        let uid = uid_of_state(path)?;
        living.insert(uid.ok_or_else(|| Unusable(format!("{} keeps no job", path.display())))?);
    }
    Ok(living)
}

fn judged(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

fn state_beside(manifest: &Path) -> PathBuf {
    manifest.with_extension("state.json")
}

fn show(report: &(impl Display + Serialize), format: Format) -> Result<(), Unusable> {
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(report)?),
        Format::Text => print!("{report}"),
    }
    Ok(())
}

pub(crate) async fn local_worker(arguments: cli::LocalWorkerArguments) -> Answer {
    let cli::LocalWorkerArguments {
        state,
        shard,
        epoch,
        endpoint,
        window,
    } = arguments;
    let end = run_worker(WorkerArguments {
        state,
        shard,
        epoch,
        endpoint,
        window_bytes: window,
    })
    .await;
    println!("{}", serde_json::to_string(&end)?);
    Ok(ExitCode::from(u8::try_from(end.code)?))
}

pub(crate) async fn verify(arguments: cli::JobArguments) -> Answer {
    let job = manifest::read(&arguments.manifest, None)?;
    let report = with_store(&job, arguments.store.as_deref(), async |store, _| {
        verify::verify(&store, &job, None).await
    });
    let report = report.await??;
    show(&report, arguments.output)?;
    Ok(judged(report.is_good()))
}

/// The job of every other command, on objects of its own.
pub(crate) async fn demo(directory: Option<PathBuf>) -> Answer {
    let directory = directory.unwrap_or_else(|| std::env::temp_dir().join("compaction-demo"));
    std::fs::create_dir_all(&directory)?;
    let files = demo::prepare(&directory)?;
    println!("{} objects are in {}", files.objects, files.sources.display());
    println!(
        "$ compaction-operator run -f {} --store {}",
        files.job.display(),
        directory.display()
    );
    let job = cli::JobArguments {
        manifest: files.job,
        store: Some(directory),
        output: Format::Text,
    };
    let arguments = cli::RunArguments {
        job: job.clone(),
        state: None,
        window: cli::Size(Window::DEFAULT_BYTES),
    };
    let code = run(arguments).await?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    println!(
        "\n{}",
        demo::summary(&demo::usage(&files.sources)?, &demo::usage(&files.outputs)?)
    );
    println!(
        "$ compaction-operator verify -f {} --store {}",
        job.manifest.display(),
        directory_of(&job)
    );
    verify(job).await
}

fn directory_of(job: &cli::JobArguments) -> String {
    job.store
        .as_ref()
        .map_or(String::new(), |store| store.display().to_string())
}
