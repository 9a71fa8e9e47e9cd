//! The machine that the worker is on, as far as a fault concerns it: names and the clock.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

/// The store, to a host that knows it by name.
const NAME: &str = "store.test";

/// In a mount namespace of its own the program sees other files; they may change while it runs.
const MOUNT: &str =
    r#"mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@""#;

#[derive(Debug)]
pub enum Host {
    Plain,
    /// The store has a name that may cease to be.
    Names(TempDir),
    /// The clock of workers may be off.
    Clock {
        files: TempDir,
        library: PathBuf,
    },
}

impl Host {
    /// Needs root.
    pub fn with_names() -> Self {
        Self::Names(tempfile::tempdir().unwrap())
    }

    /// Needs a C compiler.
    pub fn with_clock() -> Self {
        let files = tempfile::tempdir().unwrap();
        let library = files.path().join("clock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/network_faults/clock.c");
        let mut compiler = std::process::Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
        let compiled = compiler.arg(&library).arg(source).status().unwrap();
        assert!(compiled.success(), "cc: {compiled}");
        Self::Clock { files, library }
    }

    /// By what the program knows the store, which is at this address.
    pub fn name(&self, address: IpAddr) -> String {
        match self {
            Self::Names(files) => {
                std::fs::write(files.path().join("hosts"), format!("{address} {NAME}\n")).unwrap();
                // What is not in that file is nowhere: no server of names listens here.
                std::fs::write(files.path().join("resolv.conf"), "nameserver 127.254.254.254\n").unwrap();
                NAME.to_owned()
            }
            Self::Plain | Self::Clock { .. } => address.to_string(),
        }
    }

    pub fn forget_the_name(&self) {
        if let Self::Names(files) = self {
            std::fs::write(files.path().join("hosts"), "").unwrap();
        }
    }

    pub fn set_clock_off_by(&self, seconds: i64) {
        if let Self::Clock { files, .. } = self {
            let new = files.path().join("off-by.new");
            std::fs::write(&new, seconds.to_string()).unwrap();
            std::fs::rename(new, files.path().join("off-by")).unwrap();
        }
    }

    /// A command that starts the program on this host, with nothing of the test's own credentials.
    pub fn command(&self, program: &str) -> Command {
        let mut command = match self {
            Self::Names(files) => {
                let mut unshare = Command::new("unshare");
                unshare.args(["--mount", "--propagation", "private", "sh", "-c", MOUNT, "mount"]);
                unshare
                    .arg(files.path().join("hosts"))
                    .arg(files.path().join("resolv.conf"));
                unshare.arg(program);
                unshare
            }
            Self::Plain | Self::Clock { .. } => Command::new(program),
        };
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        if let Self::Clock { files, library } = self {
            command.env("LD_PRELOAD", library);
            command.env("CLOCK_OFF_BY", files.path().join("off-by"));
        }
        command
    }
}
