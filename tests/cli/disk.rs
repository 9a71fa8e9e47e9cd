//! A store whose disk is full.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::common::program::{STATE_PREFIX, Workplace, finish, wait_for};
use super::{lines, written};

/// A small file system of its own. It is seen through a process that lives in its own mount namespace, so
/// that it needs no rights and vanishes with that process.
struct SmallDisk {
    keeper: Child,
    _mounted_on: tempfile::TempDir,
    path: PathBuf,
}

impl SmallDisk {
    fn new(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut keeper = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
            .arg("mount -t tmpfs -o size=$1 none \"$2\" && echo mounted && exec cat")
            .args(["sh", size])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(keeper.stdout.take().unwrap());
        stdout.read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n", "no small disk can be mounted here");
        let directory_there = directory.path().strip_prefix("/").unwrap();
        let path = PathBuf::from(format!("/proc/{}/root", keeper.id())).join(directory_there);
        Self {
            keeper,
            _mounted_on: directory,
            path,
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().unwrap();
    }
}

#[test]
fn a_full_disk_is_waited_for_and_nothing_is_lost() {
    let disk = SmallDisk::new("40m");
    let place = Workplace::over(&disk.path);
    let mut all = Vec::new();
    for number in 0..20 {
        let lines = lines(number, 500_000);
        all.extend_from_slice(&lines);
        place.put(&format!("in/{number:04}.log"), lines);
    }
    let sources = place.objects("in/");
    place.job(&json!({
        "batch": {"size": "512Ki", "backoffPeriodSeconds": 1, "maxBackoffPeriodSeconds": 1},
        "upload": {"partSize": "5Mi"},
        "backoffLimit": 0,
    }));
    // Room for the plan and a few batches, not for the output.
    let ballast = disk.path.join("ballast");
    fs::write(&ballast, vec![0; 26 << 20]).unwrap();

    let run = place.start();
    let waiting = wait_for("the run to say that the disk is full", || {
        let status = place.read_state()?["status"].clone();
        let storage = status["conditions"]
            .as_array()?
            .iter()
            .find(|condition| condition["type"] == "StorageAccessible" && condition["status"] == "False")?;
        Some(storage["message"].as_str()?.to_owned())
    });
    for text in ["the store's storage is full", "free some space"] {
        assert!(waiting.contains(text), "{waiting}");
    }
    assert!(place.objects("in/") == sources);

    fs::remove_file(ballast).unwrap();
    finish(run).ends_with(0).names(&["storage is full", "Succeeded"]);
    assert!(
        written(&place) == all,
        "the outputs hold something else than the sources"
    );
    assert!(place.objects("in/") == sources);
    assert_eq!(place.keys(STATE_PREFIX), [""; 0]);
}
