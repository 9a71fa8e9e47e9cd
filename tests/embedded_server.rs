//! What is particular to the embedded server: a folder that others put files into, one server at a
//! time, restarts, and nothing left behind.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{ffi::OsStr, fs};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ServerSideEncryption, StorageClass};
use common::Embedded;
use compaction_operator::local::server;

async fn etag(client: &Client, key: &str) -> String {
    client
        .head_object()
        .bucket("data")
        .key(key)
        .send()
        .await
        .unwrap()
        .e_tag
        .unwrap()
}

async fn keys(client: &Client) -> Vec<String> {
    let listed = client.list_objects_v2().bucket("data").send().await.unwrap();
    listed
        .contents()
        .iter()
        .map(|object| object.key.clone().unwrap())
        .collect()
}

fn put(
    client: &Client,
    key: &str,
    body: &'static [u8],
) -> aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder {
    client
        .put_object()
        .bucket("data")
        .key(key)
        .body(ByteStream::from_static(body))
}

/// Regular files below a directory.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test]
async fn what_cannot_be_served_is_said_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = server::start(&missing).await.unwrap_err();
    assert!(
        matches!(error, server::Error::Missing(ref path) if *path == missing),
        "{error}"
    );
    assert!(!missing.exists());

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = server::start(&file).await.unwrap_err();
    assert!(matches!(error, server::Error::NotADirectory(_)), "{error}");
}

#[tokio::test]
async fn a_directory_has_one_server_at_a_time() {
    let first = Embedded::start().await;
    let error = server::start(first.folder.path()).await.unwrap_err();
    assert!(matches!(error, server::Error::InUse(_)), "{error}");
    first.restart().await;
}

#[tokio::test]
async fn keys_are_new_at_each_start_and_never_printed() {
    let first = Embedded::start().await;
    let old = first.endpoint.clone();
    let second = first.restart().await;
    assert_ne!(old.access_key, second.endpoint.access_key);
    assert_ne!(old.secret_key, second.endpoint.secret_key);
    let printed = format!("{:?}", second.server);
    assert!(!printed.contains(&second.endpoint.access_key), "{printed}");
    assert!(!printed.contains(&second.endpoint.secret_key), "{printed}");
}

#[tokio::test]
async fn no_bucket_is_created_by_writing_into_it() {
    let store = Embedded::start().await;
    let client = store.endpoint.client();
    put(&client, "a", b"x").send().await.unwrap_err();
    assert!(!store.folder.path().join("data").exists());
    let buckets = client.list_buckets().send().await.unwrap();
    assert!(
        buckets.buckets().is_empty(),
        "the server's own folder is no bucket"
    );
}

#[tokio::test]
async fn a_file_that_a_user_drops_is_an_object_whose_etag_follows_its_content() {
    let store = Embedded::start().await;
    let (client, data) = (store.endpoint.client(), store.bucket("data"));
    fs::create_dir(data.join("dir")).unwrap();
    let file = data.join("dir/a.json");
    fs::write(&file, b"{}\n").unwrap();

    let first = etag(&client, "dir/a.json").await;
    assert_eq!(etag(&client, "dir/a.json").await, first);
    let listed = client.list_objects_v2().bucket("data").send().await.unwrap();
    assert_eq!(listed.contents()[0].e_tag.as_ref(), Some(&first));
    let got = client
        .get_object()
        .bucket("data")
        .key("dir/a.json")
        .if_match(&first)
        .send()
        .await
        .unwrap();
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"{}\n");

    // As many bytes as before, a moment later.
    fs::write(&file, b"[]\n").unwrap();
    let later = SystemTime::now() + Duration::from_secs(1);
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(later)
        .unwrap();
    assert_ne!(etag(&client, "dir/a.json").await, first);
    let stale = client
        .get_object()
        .bucket("data")
        .key("dir/a.json")
        .if_match(&first)
        .send()
        .await;
    assert_eq!(stale.unwrap_err().code(), Some("PreconditionFailed"));
}

#[tokio::test]
async fn an_object_that_a_user_changes_is_another_version() {
    let store = Embedded::start().await;
    let (client, data) = (store.endpoint.client(), store.bucket("data"));
    let before = put(&client, "a", b"before")
        .metadata("k", "v")
        .send()
        .await
        .unwrap()
        .e_tag
        .unwrap();
    fs::File::options()
        .append(true)
        .open(data.join("a"))
        .unwrap()
        .write_all(b" and after")
        .unwrap();
    let head = client.head_object().bucket("data").key("a").send().await.unwrap();
    assert_ne!(head.e_tag, Some(before));
    assert_eq!(head.content_length, Some(16));
    assert!(head.metadata.unwrap_or_default().is_empty());
}

#[tokio::test]
async fn what_is_no_object_is_not_listed() {
    let store = Embedded::start().await;
    let (client, data) = (store.endpoint.client(), store.bucket("data"));
    fs::write(data.join("file"), "x").unwrap();
    symlink("file", data.join("link")).unwrap();
    symlink("nowhere", data.join("broken")).unwrap();
    symlink(".", data.join("circle")).unwrap();
    fs::create_dir_all(data.join("empty/folder")).unwrap();
    fs::write(data.join("line\nbreak"), "x").unwrap();
    fs::write(data.join(OsStr::from_bytes(b"not\xffutf8")), "x").unwrap();
    let deep = data.join(["d".repeat(250).as_str(); 4].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("a key of more than 1024 bytes"), "x").unwrap();
    let upload = client
        .create_multipart_upload()
        .bucket("data")
        .key("up")
        .send()
        .await
        .unwrap();
    let part = client
        .upload_part()
        .bucket("data")
        .key("up")
        .upload_id(upload.upload_id.unwrap());
    part.part_number(1)
        .body(ByteStream::from_static(b"x"))
        .send()
        .await
        .unwrap();
    assert_eq!(keys(&client).await, ["file", "link"]);
}

#[tokio::test]
async fn empty_folders_are_not_in_the_way_of_keys() {
    let store = Embedded::start().await;
    let (client, data) = (store.endpoint.client(), store.bucket("data"));
    fs::create_dir(data.join("a")).unwrap();
    put(&client, "a", b"x").send().await.unwrap();
    put(&client, "b/c/d", b"x").send().await.unwrap();
    client
        .delete_object()
        .bucket("data")
        .key("b/c/d")
        .send()
        .await
        .unwrap();
    assert!(!data.join("b").exists());
    assert!(data.exists(), "the bucket went with its last object");
    put(&client, "b", b"x").send().await.unwrap();
    assert_eq!(keys(&client).await, ["a", "b"]);
}

#[tokio::test]
async fn objects_and_open_uploads_outlive_a_restart() {
    let store = Embedded::start().await;
    store.bucket("data");
    let client = store.endpoint.client();
    let before = put(&client, "a", b"x")
        .metadata("k", "v")
        .send()
        .await
        .unwrap()
        .e_tag
        .unwrap();
    let create = client
        .create_multipart_upload()
        .bucket("data")
        .key("b")
        .metadata("k", "w");
    let id = create.send().await.unwrap().upload_id.unwrap();
    let part = client
        .upload_part()
        .bucket("data")
        .key("b")
        .upload_id(&id)
        .part_number(3);
    let part = part
        .body(ByteStream::from_static(b"part"))
        .send()
        .await
        .unwrap()
        .e_tag
        .unwrap();

    let store = store.restart().await;
    let client = store.endpoint.client();
    let head = client.head_object().bucket("data").key("a").send().await.unwrap();
    assert_eq!(head.e_tag, Some(before));
    assert_eq!(head.metadata.unwrap()["k"], "v");
    let uploads = client
        .list_multipart_uploads()
        .bucket("data")
        .send()
        .await
        .unwrap();
    assert_eq!(uploads.uploads()[0].upload_id.as_ref(), Some(&id));
    let part = CompletedPart::builder().part_number(3).e_tag(part).build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let complete = client
        .complete_multipart_upload()
        .bucket("data")
        .key("b")
        .upload_id(&id);
    complete.multipart_upload(parts).send().await.unwrap();
    let head = client.head_object().bucket("data").key("b").send().await.unwrap();
    assert_eq!(head.metadata.unwrap()["k"], "w");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_off_leaves_nothing_behind() {
    let store = Embedded::start().await;
    store.bucket("data");
    let client = store.endpoint.client();
    put(&client, "a", b"whole").send().await.unwrap();
    let hour = PresigningConfig::expires_in(Duration::from_hours(1)).unwrap();
    let request = client
        .put_object()
        .bucket("data")
        .key("a")
        .presigned(hour)
        .await
        .unwrap();
    let host = store.endpoint.url.strip_prefix("http://").unwrap();
    let path = request.uri().split_once(host).unwrap().1;
    let temporary = store.folder.path().join(".compaction-operator/tmp");

    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4194304\r\n\r\n"
    )
    .unwrap();
    stream.write_all(&vec![7; 3 << 20]).unwrap();
    until(|| !files(&temporary).is_empty()).await;
    drop(stream);
    until(|| files(&temporary).is_empty()).await;

    let got = client.get_object().bucket("data").key("a").send().await.unwrap();
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"whole");
}

#[tokio::test]
async fn the_servers_own_folder_is_empty_when_all_is_done() {
    let store = Embedded::start().await;
    store.bucket("data");
    let client = store.endpoint.client();
    for (key, abort) in [("a", true), ("b", false)] {
        let created = client
            .create_multipart_upload()
            .bucket("data")
            .key(key)
            .send()
            .await
            .unwrap();
        let id = created.upload_id.unwrap();
        let part = client
            .upload_part()
            .bucket("data")
            .key(key)
            .upload_id(&id)
            .part_number(1);
        let part = part
            .body(ByteStream::from_static(b"x"))
            .send()
            .await
            .unwrap()
            .e_tag
            .unwrap();
        if abort {
            client
                .abort_multipart_upload()
                .bucket("data")
                .key(key)
                .upload_id(&id)
                .send()
                .await
                .unwrap();
        } else {
            let part = CompletedPart::builder().part_number(1).e_tag(part).build();
            let parts = CompletedMultipartUpload::builder().parts(part).build();
            let complete = client
                .complete_multipart_upload()
                .bucket("data")
                .key(key)
                .upload_id(&id);
            complete.multipart_upload(parts).send().await.unwrap();
        }
    }
    put(&client, "c", b"x").if_none_match("*").send().await.unwrap();
    put(&client, "c", b"x")
        .if_none_match("*")
        .send()
        .await
        .unwrap_err();
    let own = store.folder.path().join(".compaction-operator");
    assert_eq!(files(&own), [own.join("lock")]);
}

#[tokio::test]
async fn what_an_interrupted_server_left_is_removed_at_the_next_start() {
    let store = Embedded::start().await;
    let temporary = store.folder.path().join(".compaction-operator/tmp");
    fs::write(temporary.join("77"), "half an object").unwrap();
    fs::create_dir(temporary.join("78")).unwrap();
    fs::write(temporary.join("78/00001"), "part of an ended upload").unwrap();
    store.restart().await;
    assert!(!temporary.join("77").exists() && !temporary.join("78").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_does_not_do_it_refuses() {
    let store = Embedded::start().await;
    store.bucket("data");
    let client = store.endpoint.client();
    let refused = [
        put(&client, "a", b"x")
            .server_side_encryption(ServerSideEncryption::Aes256)
            .send()
            .await,
        put(&client, "a", b"x").tagging("a=b").send().await,
        put(&client, "a", b"x")
            .storage_class(StorageClass::Glacier)
            .send()
            .await,
        put(&client, "a", b"x").if_none_match("\"etag\"").send().await,
    ];
    let codes = refused.map(|result| result.unwrap_err().code().unwrap().to_owned());
    assert_eq!(
        codes,
        [
            "NotImplemented",
            "NotImplemented",
            "InvalidStorageClass",
            "NotImplemented"
        ]
    );
    let version = client
        .get_object()
        .bucket("data")
        .key("a")
        .version_id("1")
        .send()
        .await;
    assert_eq!(version.unwrap_err().code(), Some("NotImplemented"));
    let unsigned = unsigned_get(&store.endpoint.url, "/data?list-type=2");
    assert!(unsigned.starts_with("HTTP/1.1 403"), "{unsigned}");
    assert!(keys(&client).await.is_empty());
}

fn unsigned_get(endpoint: &str, path: &str) -> String {
    use std::io::Read as _;
    let host = endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Waits for what must come; hangs, and is ended by the harness, if it never does.
async fn until(mut reached: impl FnMut() -> bool) {
    while !reached() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
