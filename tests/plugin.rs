//! `kubectl-compaction` where there is no cluster: what it says, and what it completes. On a cluster it is tested in
//! `tests/e2e/plugin.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const PLUGIN: &str = env!("CARGO_BIN_EXE_kubectl-compaction");
const TOKEN: &str = "a-token-that-nobody-may-see";

/// A home without a kubeconfig.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A kubeconfig whose context, cluster and user are called `name`.
    fn kubeconfig(&self, name: &str, server: &str) -> PathBuf {
        let path = self.0.path().join(format!("{name}.yaml"));
        let text = format!(
            "current-context: {name}\n\
             contexts: [{{name: {name}, context: {{cluster: {name}, user: {name}}}}}]\n\
             clusters: [{{name: {name}, cluster: {{server: '{server}'}}}}]\n\
             users: [{{name: {name}, user: {{token: {TOKEN}}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, program: &Path, files: &[PathBuf], arguments: &[&str]) -> (Output, String) {
        let output = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("HOME", self.0.path())
            .env("KUBECONFIG", std::env::join_paths(files).unwrap())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!said.contains(TOKEN), "{said}");
        (output, said)
    }

    /// What is said of a command that cannot be carried out.
    fn refused(&self, files: &[PathBuf], arguments: &[&str]) -> String {
        let (output, said) = self.run(Path::new(PLUGIN), files, arguments);
        assert_eq!(output.status.code(), Some(2), "{said}");
        said
    }

    /// What kubectl would be told, were it to ask for the last of `words`.
    fn completed(&self, files: &[PathBuf], words: &[&str]) -> Vec<String> {
        let completer = self.0.path().join("kubectl_complete-compaction");
        if !completer.exists() {
            std::os::unix::fs::symlink(PLUGIN, &completer).unwrap();
        }
        let (output, said) = self.run(&completer, files, words);
        assert!(output.status.success(), "{said}");
        said.lines().map(str::to_owned).collect()
    }
}

#[test]
fn without_a_kubeconfig_it_is_told_where_one_was_looked_for() {
    let home = Home::new();
    let said = home.refused(&[], &["status", "logs"]);
    assert!(said.contains("no cluster is configured"), "{said}");
    assert!(said.contains(".kube/config"), "{said}");
    let absent = home.0.path().join("absent.yaml");
    let said = home.refused(std::slice::from_ref(&absent), &["status", "logs"]);
    assert!(said.contains("absent.yaml"), "{said}");
    let said = home.refused(&[], &["status", "logs", "--kubeconfig", absent.to_str().unwrap()]);
    assert!(said.contains("absent.yaml"), "{said}");
}

#[test]
fn a_cluster_that_does_not_answer_is_told_with_its_address() {
    let home = Home::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let files = [home.kubeconfig("prod", &server)];
    for arguments in [
        &["status", "logs"][..],
        &["status", "-w", "logs"],
        &["suspend", "logs"],
        &["retry", "logs"],
        &["run", "hourly"],
        &["logs", "-f", "logs"],
    ] {
        let said = home.refused(&files, arguments);
        assert!(
            said.contains("cannot be reached") && said.contains(&server),
            "{said}"
        );
    }
}

#[test]
fn several_kubeconfigs_are_one_and_files_that_are_absent_do_not_matter() {
    let home = Home::new();
    let files = [
        home.kubeconfig("prod", "http://127.0.0.1:1"),
        home.0.path().join("absent.yaml"),
        home.kubeconfig("test", "http://127.0.0.1:2"),
    ];
    let said = home.refused(&files, &["status", "logs"]);
    assert!(said.contains("127.0.0.1:1 "), "the first file's context: {said}");
    let said = home.refused(&files, &["status", "logs", "--context", "test"]);
    assert!(said.contains("127.0.0.1:2 "), "{said}");
    let said = home.refused(&files, &["status", "logs", "--context", "none"]);
    assert!(said.contains("it has prod, test"), "{said}");
    assert_eq!(
        home.completed(&files, &["status", "--context", ""]),
        ["prod", "test", ":4"]
    );
    assert_eq!(home.completed(&files, &["status", "--user", "t"]), ["test", ":4"]);
}

#[test]
fn kubectl_is_told_commands_flags_and_files_and_nothing_where_there_is_no_cluster() {
    let home = Home::new();
    let commands = home.completed(&[], &["s"]);
    assert_eq!(commands.len(), 3, "{commands:?}");
    assert!(commands[0].starts_with("status\tShow what"), "{commands:?}");
    assert!(commands[1].starts_with("suspend\t"), "{commands:?}");
    let flags = home.completed(&[], &["logs", "logs", "--f"]);
    assert!(flags[0].starts_with("--follow\t"), "{flags:?}");
    assert_eq!(home.completed(&[], &["status", "--kubeconfig", ""]), [":0"]);
    assert_eq!(home.completed(&[], &["status", ""]), [":4"]);
}
