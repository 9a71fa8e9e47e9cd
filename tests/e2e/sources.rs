//! Objects to be compacted, and whether their records came out exactly once.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::store::Bucket;

const RECORDS: usize = 20;

/// Puts `objects` objects of 20 records each under `in/`, in several directories, every other one of these gzipped.
pub fn put(bucket: &Bucket, objects: usize) {
    put_named(bucket, "first", objects);
}

/// With names of their own, so that several calls make different objects.
pub fn put_named(bucket: &Bucket, name: &str, objects: usize) {
    let objects: BTreeMap<String, Vec<u8>> = (0..objects).map(|number| object(name, number)).collect();
    bucket.put(&objects);
}

/// Puts `objects` plain objects of 256 KiB each that are all one group.
pub fn put_large(bucket: &Bucket, objects: usize) {
    put_plain(bucket, "in/large/", objects, 256 << 10);
}

/// Puts `objects` plain objects of `size` bytes or a little more under `prefix`.
pub fn put_plain(bucket: &Bucket, prefix: &str, objects: usize, size: usize) {
    let object = |number: usize| {
        let mut raw = Vec::new();
        for record in 0.. {
            if raw.len() >= size {
                break;
            }
            let noise = "n".repeat(900);
            writeln!(raw, "{{\"id\":\"{number}-{record}\",\"noise\":\"{noise}\"}}").unwrap();
        }
        (format!("{prefix}{number:06}.json"), raw)
    };
    bucket.put(&(0..objects).map(object).collect());
}

fn object(name: &str, number: usize) -> (String, Vec<u8>) {
    let directory = number % 6;
    let mut raw = Vec::new();
    for record in 0..RECORDS {
        let id = format!("{name}-{number}-{record}");
        let noise = fastrand::Rng::with_seed((number * RECORDS + record) as u64).u128(..);
        writeln!(raw, "{{\"id\":\"{id}\",\"noise\":\"{noise:032x}\"}}").unwrap();
    }
    let key = format!("in/service={directory}/{name}-{number:06}.json");
    if directory.is_multiple_of(2) {
        return (key, raw);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&raw).unwrap();
    (format!("{key}.gz"), encoder.finish().unwrap())
}

/// Ends the test unless the outputs under `out/` are those that manifests name, and hold every record of every
/// source under `in/` exactly once.
#[track_caller]
pub fn assert_compacted(bucket: &Bucket) {
    assert_compacted_to(bucket, "in/", "out/");
}

#[track_caller]
pub fn assert_compacted_to(bucket: &Bucket, sources: &str, outputs: &str) {
    let own = format!("{outputs}_compaction/");
    let (files, mut found): (Vec<_>, Vec<_>) = bucket
        .keys(outputs)
        .into_iter()
        .partition(|key| key.starts_with(&own));
    let manifests: Vec<String> = files
        .into_iter()
        .filter(|key| key.ends_with("/manifest.json"))
        .collect();
    let mut named: Vec<String> = bucket
        .get(&manifests)
        .values()
        .flat_map(|bytes| outputs_of(bytes))
        .collect();
    found.sort_unstable();
    named.sort_unstable();
    assert_eq!(found, named, "outputs are those that are published");

    let mut wanted = records(bucket, &bucket.keys(sources));
    assert!(!wanted.is_empty() && wanted.values().all(|count| *count == 1));
    for (record, count) in records(bucket, &found) {
        assert_eq!(
            (count, wanted.remove(&record)),
            (1, Some(1)),
            "{record} is there once"
        );
    }
    assert!(
        wanted.is_empty(),
        "{} records are lost, such as {:?}",
        wanted.len(),
        wanted.keys().next()
    );
}

fn outputs_of(manifest: &[u8]) -> Vec<String> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    let outputs = manifest["outputs"].as_array().unwrap().iter();
    outputs
        .map(|output| output["key"].as_str().unwrap().to_owned())
        .collect()
}

/// How often each record is in these objects.
pub fn records(bucket: &Bucket, keys: &[String]) -> HashMap<String, u32> {
    let mut records = HashMap::new();
    for bytes in bucket.get(keys).into_values() {
        let mut text = String::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            MultiGzDecoder::new(bytes.as_slice())
                .read_to_string(&mut text)
                .unwrap();
        } else {
            text = String::from_utf8(bytes).unwrap();
        }
        for line in text.lines() {
            *records.entry(line.to_owned()).or_default() += 1;
        }
    }
    records
}
