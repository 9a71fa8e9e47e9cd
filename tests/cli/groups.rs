//! Groups that cannot be done, and stores that never come back.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::{Value, json};

use super::common::Embedded;
use super::common::program::{Said, Workplace, finish, signal, wait_for};
use super::{gzip, lines};

/// Three groups; the one in the middle has a source that is cut off.
fn three_groups(spec: &Value) -> Workplace {
    let place = Workplace::new();
    for group in ["a", "m", "z"] {
        for number in 0..3 {
            place.put(
                &format!("in/{group}/{number}.log.gz"),
                gzip(format!("{group}{number}\n").as_bytes()),
            );
        }
    }
    let whole = gzip(&lines(1, 10_000));
    place.put("in/m/1.log.gz", &whole[..whole.len() - 5]);
    place.job(spec);
    place
}

/// Another job over the same prefixes.
fn next_job(place: &Workplace) -> Said {
    let mut command = place.run_command();
    command.arg("--state").arg(place.path("next.json"));
    command.output().unwrap().into()
}

/// Directories in which there are outputs.
fn directories(place: &Workplace) -> Vec<String> {
    let outputs = place.outputs().into_keys();
    outputs
        .map(|key| key.rsplit_once('/').unwrap().0.to_owned())
        .collect()
}

#[test]
fn a_group_that_fails_is_named_and_left_to_the_next_job() {
    let place = three_groups(&json!({
        "maxFailedGroups": 1, "sourceDisposition": "Delete", "sourceRetentionSeconds": 0,
    }));
    place
        .run()
        .ends_with(0)
        .names(&["Succeeded: 6 sources are compacted into 2 outputs; 1 group failed, see the manifest"]);
    assert_eq!(directories(&place), ["out/a", "out/z"]);
    assert_eq!(
        place.keys("in/"),
        ["in/m/0.log.gz", "in/m/1.log.gz", "in/m/2.log.gz"]
    );
    assert_eq!(place.keys("_compaction/"), [""; 0]);
    let failed = &place.manifest()["failed"];
    assert_eq!(
        (&failed[0]["group"], &failed[0]["reason"]),
        (&json!("m/"), &json!("BadSource"))
    );
    let message = failed[0]["message"].as_str().unwrap();
    assert!(
        message.contains("in/m/1.log.gz: the gzip stream is cut off"),
        "{message}"
    );
    assert_eq!(place.status()["shards"][0]["checkpoint"]["failedGroups"], 1);
    let verify = |place: &Workplace| {
        let mut command = place.command("verify");
        command.arg("--store").arg(place.store());
        Said::from(command.output().unwrap())
    };
    verify(&place).ends_with(0).names(&[
        "1 group failed and not in the outputs",
        "group in/m/: BadSource: source in/m/1.log.gz",
    ]);

    place.put("in/m/1.log.gz", gzip(b"mended\n"));
    next_job(&place)
        .ends_with(0)
        .names(&["3 sources are compacted into 1 outputs"]);
    assert_eq!(directories(&place), ["out/a", "out/m", "out/z"]);
    verify(&place).ends_with(0);
}

#[test]
fn one_group_more_than_may_fail_ends_the_job_and_a_raised_limit_lets_it_go_on() {
    let place = three_groups(&json!({"maxFailedGroups": 1}));
    place.put("in/a/2.log.gz", [0x1f, 0x8b, 8, 0, 1]);
    place.run().ends_with(1).names(&[
        "TooManyFailedGroups: 2 groups failed and maxFailedGroups is 1",
        "raise it and change retryToken",
        "in/m/1.log.gz",
    ]);
    assert_eq!(place.keys("out/_compaction/"), [""; 0]);
    place.job(&json!({"maxFailedGroups": 2, "retryToken": "again"}));
    place
        .run()
        .ends_with(0)
        .names(&["3 sources are compacted into 1 outputs; 2 groups failed"]);
    assert_eq!(directories(&place), ["out/z"]);
}

/// Stands before a server and passes on what comes, but for requests that `refuses` by their beginning: those get
/// this answer. It ends with the test process.
fn before(
    server: &str,
    refuses: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
    answer: &'static str,
) -> String {
    let server = server.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let refuses = Arc::new(refuses);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (server, refuses) = (server.clone(), Arc::clone(&refuses));
            std::thread::spawn(move || pass_on(client, &server, refuses.as_ref(), answer));
        }
    });
    url
}

fn pass_on(mut client: TcpStream, server: &str, refuses: &dyn Fn(&[u8]) -> bool, answer: &str) -> Option<()> {
    let mut server = TcpStream::connect(server).ok()?;
    let (mut back, mut to) = (server.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || {
        std::io::copy(&mut back, &mut to).ok();
        to.shutdown(Shutdown::Both).ok();
    });
    let mut bytes = vec![0; 64 << 10];
    loop {
        // A request comes after the answer to the one before, so what arrives begins with it.
        let count = client.read(&mut bytes).ok().filter(|count| *count > 0)?;
        if refuses(&bytes[..count]) {
            client.write_all(answer.as_bytes()).ok()?;
            return client.shutdown(Shutdown::Both).ok();
        }
        server.write_all(&bytes[..count]).ok()?;
    }
}

const DENIED: &str = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: 70\r\nConnection: close\r\n\r\n\
    <Error><Code>AccessDenied</Code><Message>not this one</Message></Error>";
const AWAY: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\nContent-Length: 69\r\nConnection: close\r\n\r\n\
    <Error><Code>InternalError</Code><Message>for ever</Message></Error>\n";

/// A job over a server that something stands before.
struct Remote {
    place: Workplace,
    embedded: Embedded,
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Remote {
    fn new(refuses: impl Fn(&[u8]) -> bool + Send + Sync + 'static, answer: &'static str) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let embedded = runtime.block_on(Embedded::start());
        let bucket = embedded.bucket("data");
        for key in ["in/a/1", "in/a/2", "in/m/1", "in/m/2", "in/z/1", "in/z/2"] {
            let path = bucket.join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{key}\n")).unwrap();
        }
        let url = before(&embedded.endpoint.url, refuses, answer);
        Self {
            place: Workplace::new(),
            embedded,
            url,
            _runtime: runtime,
        }
    }

    fn start(&self, mut spec: Value) -> std::process::Child {
        spec["storage"] = json!({"s3": {"endpoint": self.url}});
        self.place.job(&spec);
        let mut command = self.place.command("run");
        command.env("AWS_ACCESS_KEY_ID", &self.embedded.endpoint.access_key);
        command.env("AWS_SECRET_ACCESS_KEY", &self.embedded.endpoint.secret_key);
        command.stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped()).spawn().unwrap()
    }

    /// Status and message of a condition.
    fn condition(&self, type_: &str) -> Option<(String, String)> {
        let state = self.place.read_state()?;
        let conditions = state["status"]["conditions"].as_array()?.clone();
        let condition = conditions.into_iter().find(|c| c["type"] == type_)?;
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        Some((text("status"), text("message")))
    }
}

fn reads_a_denied_source(request: &[u8]) -> bool {
    request.starts_with(b"GET /data/in/m/")
}

#[test]
fn a_group_whose_prefix_is_denied_does_not_stop_the_others() {
    let remote = Remote::new(reads_a_denied_source, DENIED);
    finish(remote.start(json!({"maxFailedGroups": 1})))
        .ends_with(0)
        .names(&["4 sources are compacted into 2 outputs; 1 group failed"]);
    let failed = remote.place.status()["lastFailedGroup"].clone();
    assert_eq!(failed["reason"], "SourceRefused");
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("data/in/m/1: access denied"), "{message}");
}

/// The job waits for the store until a limit that it is given then ends it.
#[track_caller]
fn is_waited_for_until_its_deadline(remote: &Remote, cause: &str) {
    let spec =
        |seconds: i64| json!({"totalActiveDeadlineSeconds": seconds, "batch": {"backoffPeriodSeconds": 0}});
    let run = remote.start(spec(86_400));
    wait_for("a worker that has ended for the store", || {
        let (status, message) = remote.condition("StorageAccessible")?;
        (status == "False" && message.contains(cause)).then_some(())
    });
    // So that no less than a second counts.
    wait_for("a second of work", || {
        let seconds = remote.place.read_state()?["status"]["activeSeconds"].as_i64()?;
        (seconds >= 1).then_some(())
    });
    signal(run.id(), "-INT");
    finish(run).ends_with(130);
    finish(remote.start(spec(1))).ends_with(1).names(&[
        "DeadlineExceeded: workers have run for 1 s",
        "the store: ",
        cause,
    ]);
}

#[test]
fn a_denied_prefix_is_waited_for_where_no_group_may_fail_and_named_at_the_deadline() {
    let remote = Remote::new(reads_a_denied_source, DENIED);
    is_waited_for_until_its_deadline(&remote, "data/in/m/1: access denied");
}

#[test]
fn a_store_that_never_comes_back_ends_the_job_at_its_deadline_with_the_cause() {
    let reads_a_source = |request: &[u8]| request.starts_with(b"GET /data/in/");
    let remote = Remote::new(reads_a_source, AWAY);
    is_waited_for_until_its_deadline(&remote, "for ever");
}
