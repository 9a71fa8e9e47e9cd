//! The demo's objects, compacted by the real program through the embedded server, and verified.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use compaction_operator::local::{demo, manifest, server};
use compaction_operator::store::{CredentialsFrom, S3, Store};
use compaction_operator::verify::{Report, verify};
use compaction_operator::worker::store_settings;

fn run(dir: &Path, job: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compaction-operator"));
    let output = command
        .args(["run", "-f"])
        .arg(job)
        .arg("--store")
        .arg(dir)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn verify_in(dir: &Path, job: &Path) -> Report {
    let job = manifest::read(job, None).unwrap();
    let server = server::start(dir).await.unwrap();
    let mut settings = store_settings(&job.spec, Some(server.endpoint()));
    settings.credentials = CredentialsFrom::Keys(server.keys());
    let store: Arc<dyn Store> = Arc::new(S3::new(&settings).await.unwrap());
    let report = verify(&store, &job, None).await.unwrap();
    server.stop().await;
    report
}

#[tokio::test]
async fn the_demo_is_compacted_into_few_large_objects_and_every_record_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let files = demo::prepare(dir.path()).unwrap();
    run(dir.path(), &files.job);
    let report = verify_in(dir.path(), &files.job).await;
    assert!(report.is_good(), "{report}");
    assert_eq!(
        (report.sources, report.groups, report.unverifiable),
        (files.objects, 24, 0)
    );
    let after = demo::usage(&files.outputs).unwrap();
    assert_eq!(after.total().objects, report.outputs);
    assert!(report.outputs < files.objects / 50, "{report}");
    print!("{}", demo::summary(&demo::usage(&files.sources).unwrap(), &after));

    let hour = files.outputs.join("service=api/2026-03-14/00");
    let output = fs::read_dir(&hour).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(&output).unwrap();
    let report = verify_in(dir.path(), &files.job).await;
    let name = output.file_name().unwrap().to_str().unwrap();
    let missing = format!("output compacted/service=api/2026-03-14/00/{name} is missing");
    assert!(
        report
            .problems
            .first
            .iter()
            .any(|problem| problem.starts_with(&missing)),
        "{report}"
    );
    assert_eq!(report.problems.count, 2, "{report}");
}
