//! The cluster that the tests run against, and the programs that a user has: kubectl and helm.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::common::Endpoint;

/// What the environment says of a setting, or what holds in the cluster of `tests/cluster`.
fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// What a test cannot do without.
fn needed(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set; `make e2e` sets it, see docs/testing.md"))
}

/// The operator's image, as `repository:tag`.
pub fn image() -> (String, String) {
    let image = setting("E2E_IMAGE", "localhost/compaction-operator:test");
    let (repository, tag) = image.rsplit_once(':').expect("E2E_IMAGE is repository:tag");
    (repository.to_owned(), tag.to_owned())
}

/// The directory of a cluster of `tests/cluster`.
pub fn node() -> PathBuf {
    needed("E2E_NODE").into()
}

/// The store as it is reached from here.
pub fn store() -> Endpoint {
    Endpoint {
        url: needed("E2E_STORE"),
        access_key: setting("E2E_ACCESS_KEY", "test-access-key"),
        secret_key: setting("E2E_SECRET_KEY", "test-secret-key"),
    }
}

/// The store as pods reach it, by a name, so that names are looked up from the operator's image.
pub fn store_for_pods() -> String {
    setting(
        "E2E_STORE_FOR_PODS",
        "http://minio.storage.svc.cluster.local:9000",
    )
}

pub fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn chart() -> PathBuf {
    tree().join("charts/compaction-operator")
}

pub fn kubectl() -> Command {
    program("kubectl")
}

pub fn helm() -> Command {
    program("helm")
}

fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command
        .env("KUBECONFIG", needed("E2E_KUBECONFIG"))
        .stdin(Stdio::null());
    command
}

/// One of the scripts of `tests/cluster`, for the cluster of [`node`].
pub fn script(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(tree().join("tests/cluster").join(name));
    command.arg(node()).args(arguments).stdin(Stdio::null());
    command
}

/// What a command that must succeed prints.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that must fail says.
#[track_caller]
pub fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        !output.status.success(),
        "{command:?} succeeds: {}",
        said(&output)
    );
    said(&output)
}

pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

/// Gives a manifest to the standard input of a command, such as `kubectl apply -f -`.
pub fn feed(command: &mut Command, manifest: &Value) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(manifest.to_string().as_bytes()).unwrap();
    drop(input);
    child.wait_with_output().unwrap()
}
