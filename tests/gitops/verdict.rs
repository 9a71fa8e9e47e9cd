//! What Flux and Argo CD make of objects: the program in `judge/`, with the manifests of `examples/gitops/`.

// Each test program uses the part of this that it needs.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

/// Of one object.
#[derive(Debug, Deserialize)]
pub struct Verdict {
    /// What Flux's `wait`, Helm and kpt say.
    pub kstatus: String,
    /// What Flux says by the `healthCheckExprs` that wait for success.
    pub expressions: String,
    /// What Argo CD says.
    pub health: Health,
    /// What Argo CD offers to do, each action with the merge patch that it sends.
    pub actions: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
pub struct Health {
    pub status: String,
    pub message: String,
}

fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every manifest in `examples/gitops/`.
pub fn examples() -> Vec<PathBuf> {
    files("examples/gitops")
}

/// Every file in a folder of the tree, beginning there.
pub fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![tree().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The program. It is built the first time, and kept in the cache.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let build = Command::new(tree().join("tests/gitops/judge/build.sh"))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(build.status.success(), "tests/gitops/judge/build.sh failed");
        String::from_utf8(build.stdout).unwrap().trim().into()
    })
}

pub fn verdicts(objects: &[&Value]) -> Vec<Verdict> {
    let of = |folder: &str| {
        let folder = tree().join("examples/gitops").join(folder);
        examples()
            .into_iter()
            .filter(move |path| path.starts_with(&folder))
    };
    let mut judge = Command::new(program())
        .args(of("flux"))
        .arg(tree().join("examples/gitops/argocd/argocd-cm.yaml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut input = judge.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // It answers while it is told.
        scope.spawn(move || {
            for object in objects {
                input.write_all(object.to_string().as_bytes()).unwrap();
            }
        });
        judge.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "the judge failed");
    let verdicts = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    let verdicts: Vec<Verdict> = verdicts.collect::<Result<_, _>>().unwrap();
    assert_eq!(verdicts.len(), objects.len());
    verdicts
}
