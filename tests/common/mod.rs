//! Stores for tests: the embedded server over a temporary folder, and MinIO as a process.

// Each test program uses the part of this that it needs.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

pub mod goals;
pub mod program;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Config, Credentials, Region};
use compaction_operator::local::server::{self, Server};
use tempfile::TempDir;

/// Where a store is and how to get in.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub url: String,
    pub access_key: String,
    pub secret_key: String,
}

impl Endpoint {
    /// A client that never tries again, so that a test sees each answer.
    pub fn client(&self) -> Client {
        let credentials = Credentials::new(&self.access_key, &self.secret_key, None, None, "test");
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.url)
            .credentials_provider(credentials)
            .force_path_style(true)
            .retry_config(RetryConfig::disabled())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Client::from_conf(config)
    }
}

/// The embedded server over a folder that vanishes with it.
pub struct Embedded {
    pub endpoint: Endpoint,
    pub folder: TempDir,
    pub server: Server,
}

impl Embedded {
    pub async fn start() -> Self {
        Self::over(tempfile::tempdir().unwrap()).await
    }

    /// Serves a folder until the server is stopped.
    pub async fn serve(folder: &Path) -> (Endpoint, Server) {
        let server = server::start(folder).await.unwrap();
        let endpoint = Endpoint {
            url: server.endpoint(),
            access_key: server.keys().access_key,
            secret_key: server.keys().secret_key,
        };
        (endpoint, server)
    }

    pub async fn over(folder: TempDir) -> Self {
        let (endpoint, server) = Self::serve(folder.path()).await;
        Self {
            endpoint,
            folder,
            server,
        }
    }

    /// Stops the server and starts another one over the same folder.
    pub async fn restart(self) -> Self {
        self.server.stop().await;
        Self::over(self.folder).await
    }

    /// Makes a bucket in the way a user does.
    pub fn bucket(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}

/// Runs the program, writes down its pid, kills it by that once standard input closes, and removes its data. So it
/// ends with this process, however that ends.
const GUARD: &str = r#"
data=$1; shift
exec 3<&0 # a command in the background would get an empty standard input
"$@" 3<&- & pid=$!
echo $pid >"$data.pid"
(cat <&3 >/dev/null; kill -9 $pid 2>/dev/null) &
wait $pid
rm -rf -- "$data" "$data.pid"
"#;

/// A server program as a process. It is killed when this is dropped.
pub struct Guarded {
    guard: Child,
    data: PathBuf,
}

impl Guarded {
    /// `command` is given the path of a directory of the program's own, which goes with it.
    pub fn start(command: impl FnOnce(&Path) -> Vec<String>, environment: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().unwrap().keep();
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(&data)
            .args(command(&data))
            .env("HOME", &data)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { guard, data }
    }

    /// Its directory as the program itself sees it, with what is mounted there for it alone.
    fn own_data(&self) -> PathBuf {
        let pid = std::fs::read_to_string(self.data.with_extension("pid")).unwrap();
        let root = PathBuf::from(format!("/proc/{}/root", pid.trim()));
        root.join(self.data.strip_prefix("/").unwrap())
    }

    pub fn has_ended(&mut self) -> bool {
        self.guard.try_wait().unwrap().is_some()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        self.guard.wait().unwrap();
    }
}

const MOUNT: &str =
    r#"size=$1 at=$2; shift 2; mkdir "$at" && mount -t tmpfs -o "$size" none "$at" && exec "$@""#;

#[derive(Clone, Copy)]
enum Disk<'a> {
    OwnDirectory,
    Directory(&'a Path),
    /// MiB.
    Memory(u32),
}

/// A MinIO process of one disk. It is killed when this is dropped.
pub struct Minio {
    pub endpoint: Endpoint,
    server: Guarded,
}

impl Minio {
    /// One process for all tests of a test program.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Minio> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn start() -> Self {
        Self::serve(Disk::OwnDirectory, free_address(), (random(), random()))
    }

    /// Over a disk that outlives the process, at an address of one's own.
    pub fn over(disk: &Path, address: SocketAddr, keys: (String, String)) -> Self {
        Self::serve(Disk::Directory(disk), address, keys)
    }

    /// Over so many MiB of memory, which nothing else fills. Needs root.
    pub fn in_memory(mebibytes: u32) -> Self {
        Self::serve(Disk::Memory(mebibytes), free_address(), (random(), random()))
    }

    /// The disk of one that was started in memory, for those who fill it without asking the server.
    pub fn memory(&self) -> PathBuf {
        self.server.own_data().join("disk")
    }

    fn serve(disk: Disk<'_>, address: SocketAddr, (access_key, secret_key): (String, String)) -> Self {
        let program = build("minio");
        let (address, console) = (address.to_string(), free_address().to_string());
        let arguments = |data: &Path| {
            let path = match disk {
                Disk::Directory(path) => path.to_owned(),
                Disk::OwnDirectory | Disk::Memory(_) => data.join("disk"),
            };
            let (path, program) = (path.to_str().unwrap(), program.to_str().unwrap());
            let mut command = Vec::new();
            let size;
            if let Disk::Memory(mebibytes) = disk {
                size = format!("size={mebibytes}m");
                // A mount of a namespace ends with its processes.
                command.extend([
                    "unshare",
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    MOUNT,
                    "mount",
                ]);
                command.extend([size.as_str(), path]);
            }
            command.extend([program, "server", "--quiet", "--address", &address]);
            command.extend(["--console-address", &console, path]);
            command.into_iter().map(str::to_owned).collect()
        };
        let environment = [
            ("MINIO_ROOT_USER", access_key.as_str()),
            ("MINIO_ROOT_PASSWORD", &secret_key),
            ("MINIO_BROWSER", "off"),
            ("MINIO_UPDATE", "off"),
            ("MINIO_API_ROOT_ACCESS", "on"),
        ];
        let mut server = Guarded::start(arguments, &environment);
        let endpoint = Endpoint {
            url: format!("http://{address}"),
            access_key,
            secret_key,
        };
        wait_until_ready(&mut server, &endpoint, "MinIO");
        Self { endpoint, server }
    }
}

/// The uploads that are open in a MinIO over this disk, which lists them only to those who ask for the very key.
pub fn open_uploads(disk: &Path) -> Vec<String> {
    let keys = entries(&disk.join(".minio.sys/multipart"));
    let uploads = keys.into_iter().flat_map(|key| entries(&key));
    uploads.map(|upload| upload.display().to_string()).collect()
}

/// Of a directory that may not be there, or go meanwhile.
pub fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// A server that is a program of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Minio,
    /// Over a folder.
    Versitygw,
    /// In memory.
    Moto,
}

impl Program {
    /// Of one process for all tests of a test program.
    pub fn endpoint(self) -> &'static Endpoint {
        static VERSITYGW: OnceLock<(Endpoint, Guarded)> = OnceLock::new();
        static MOTO: OnceLock<(Endpoint, Guarded)> = OnceLock::new();
        match self {
            Self::Minio => &Minio::shared().endpoint,
            Self::Versitygw => &VERSITYGW.get_or_init(versitygw).0,
            Self::Moto => &MOTO.get_or_init(moto).0,
        }
    }
}

fn versitygw() -> (Endpoint, Guarded) {
    let program = build("versitygw");
    let address = free_address().to_string();
    let (access_key, secret_key) = (random(), random());
    let arguments = |data: &Path| {
        let (program, data) = (program.to_str().unwrap(), data.to_str().unwrap());
        let command = [
            program,
            "--quiet",
            "--keep-alive",
            "--port",
            &address,
            "posix",
            data,
        ];
        command.map(str::to_owned).to_vec()
    };
    let environment = [
        ("ROOT_ACCESS_KEY_ID", access_key.as_str()),
        ("ROOT_SECRET_ACCESS_KEY", &secret_key),
    ];
    let mut server = Guarded::start(arguments, &environment);
    let endpoint = Endpoint {
        url: format!("http://{address}"),
        access_key,
        secret_key,
    };
    wait_until_ready(&mut server, &endpoint, "versitygw");
    (endpoint, server)
}

/// It takes any keys.
fn moto() -> (Endpoint, Guarded) {
    let program = build("moto");
    let address = free_address();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let arguments = |_: &Path| {
        let command = [program.to_str().unwrap(), "--host", &host, "--port", &port];
        command.map(str::to_owned).to_vec()
    };
    let mut server = Guarded::start(arguments, &[]);
    let endpoint = Endpoint {
        url: format!("http://{address}"),
        access_key: random(),
        secret_key: random(),
    };
    wait_until_ready(&mut server, &endpoint, "moto");
    (endpoint, server)
}

/// One listens, and says that it is ready, some time before it makes buckets.
fn wait_until_ready(server: &mut Guarded, endpoint: &Endpoint, name: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !makes_buckets(endpoint) {
        assert!(!server.has_ended(), "{name} ended while starting");
        assert!(Instant::now() < deadline, "{name} is not ready after a minute");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// In a thread of its own, since a runtime may not be started inside another one.
fn makes_buckets(endpoint: &Endpoint) -> bool {
    let endpoint = endpoint.clone();
    let attempt = async move {
        let client = endpoint.client();
        let name = random();
        let made = client.create_bucket().bucket(&name).send().await.is_ok();
        made && client.delete_bucket().bucket(&name).send().await.is_ok()
    };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    std::thread::spawn(move || runtime().unwrap().block_on(attempt))
        .join()
        .unwrap()
}

/// The path of a server program that is built if it is not there yet. That takes minutes; see
/// `tests/servers/build.sh`.
pub fn build(name: &str) -> PathBuf {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/servers/build.sh");
    let output = Command::new(&script)
        .arg(name)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{} {name} failed: {}",
        script.display(),
        output.status
    );
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

/// An address of this machine that nobody listens on.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A name that nothing else has.
pub fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
