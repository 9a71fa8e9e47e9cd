//! Stores that are not there, are none, or let nobody in: exit code 2 at once, for `run` and `plan`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};

use serde_json::json;

use super::common::program::{Said, Workplace};
use super::common::{Embedded, free_address};
use super::small;

/// What both commands say of the store at `url`, with these keys.
fn said(url: &str, bucket: &str, keys: (&str, &str)) -> [Said; 2] {
    ["run", "plan"].map(|command| {
        let place = Workplace::new();
        place.job(&json!({"storage": {"s3": {"endpoint": url, "bucket": bucket}}}));
        let mut command = place.command(command);
        command.env("AWS_ACCESS_KEY_ID", keys.0);
        command.env("AWS_SECRET_ACCESS_KEY", keys.1);
        Said::from(command.output().unwrap())
    })
}

/// A server that answers everything with these bytes. It ends with the test process.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            // A client that is gone already needs no answer.
            if stream.read(&mut request).is_ok() {
                stream.write_all(answer.as_bytes()).ok();
            }
        }
    });
    url
}

#[track_caller]
fn refused(url: &str, texts: &[&str]) {
    for said in said(url, "data", ("key", "secret")) {
        said.ends_with(2).names(texts);
    }
}

#[test]
fn an_endpoint_where_nobody_listens_is_named() {
    let address = free_address();
    refused(
        &format!("http://{address}"),
        &["cannot be reached", "check spec.storage.s3.endpoint"],
    );
}

#[test]
fn an_endpoint_that_does_not_speak_http_is_told_so() {
    refused(
        &answering("220 mail.example.com ESMTP\r\n"),
        &["does not answer like S3", "check spec.storage.s3.endpoint"],
    );
}

#[test]
fn an_endpoint_that_serves_web_pages_is_told_so() {
    refused(
        &answering(
            "HTTP/1.1 200 OK\r\nContent-Length: 21\r\nConnection: close\r\n\r\n<html>welcome</html>\n",
        ),
        &["does not answer like S3", "check spec.storage.s3.endpoint"],
    );
}

#[test]
fn denied_access_is_told_apart_from_wrong_credentials() {
    refused(
        &answering(
            "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: 66\r\nConnection: close\r\n\r\n\
             <Error><Code>AccessDenied</Code><Message>no list</Message></Error>",
        ),
        &["data: access denied", "check the credentials' permissions"],
    );
}

#[test]
fn wrong_credentials_are_told_to_be_renewed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let embedded = runtime.block_on(Embedded::start());
    embedded.bucket("data");
    let (url, right) = (
        embedded.endpoint.url.as_str(),
        embedded.endpoint.access_key.as_str(),
    );
    for keys in [("nobody", "secret"), (right, "another secret")] {
        for said in said(url, "data", keys) {
            said.ends_with(2).names(&["credentials", "renew them"]);
        }
    }
}

#[test]
fn missing_credentials_are_told_where_to_come_from() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let embedded = runtime.block_on(Embedded::start());
    let place = Workplace::new();
    place.job(&json!({"storage": {"s3": {"endpoint": embedded.endpoint.url}}}));
    let said: Said = place.command("run").output().unwrap().into();
    said.ends_with(2)
        .names(&["no credentials found", "AWS environment variables"]);
}

#[test]
fn a_job_runs_against_an_endpoint_with_credentials_from_the_environment() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let embedded = runtime.block_on(Embedded::start());
    let bucket = embedded.bucket("data");
    std::fs::create_dir(bucket.join("in")).unwrap();
    std::fs::write(bucket.join("in/a"), "1\n").unwrap();
    std::fs::write(bucket.join("in/b"), "2\n").unwrap();
    let endpoint = &embedded.endpoint;
    let [run, plan] = said(
        &endpoint.url,
        "data",
        (&endpoint.access_key, &endpoint.secret_key),
    );
    run.ends_with(0)
        .names(&["2 sources are compacted into 1 outputs"]);
    plan.ends_with(0).names(&["2 compacted by an earlier job"]);
}

#[test]
fn a_missing_bucket_is_told_to_be_created() {
    let place = small();
    place.job(&json!({"storage": {"s3": {"bucket": "nowhere"}}}));
    place
        .run()
        .ends_with(2)
        .names(&["no such bucket", "nowhere", "create it"]);
}

#[test]
fn a_store_that_is_no_directory_is_named() {
    let place = small();
    let run = |store: &str| {
        let mut command = place.command("run");
        command.arg("--store").arg(place.path(store));
        Said::from(command.output().unwrap())
    };
    run("nowhere")
        .ends_with(2)
        .names(&["nowhere", "no such directory", "create it"]);
    run("job.yaml")
        .ends_with(2)
        .names(&["job.yaml", "not a directory"]);
}
