//! Sources that are bad, odd or empty.

use serde_json::{Value, json};

use super::common::program::Workplace;
use super::{gzip, lines, small, written};

const REMEDY: &str = "repair or remove the object, exclude it, or set onBadSource: Skip";

/// A bad source, between good ones, is named and stops the job; or it is left out and listed.
fn bad(name: &str, bytes: &[u8], problem: &str) {
    let place = Workplace::new();
    let key = format!("in/{name}");
    place.put("in/a", "first\n");
    place.put("in/z", "last\n");
    place.put(&key, bytes);
    place.job(&json!({}));
    let before = place.objects("in/");

    place.run().ends_with(1).names(&[&key, problem, REMEDY]);
    assert!(place.objects("in/") == before, "sources were touched");
    assert_eq!(place.keys("out/_compaction/"), [""; 0], "something was published");

    // The rules are frozen in the plan, so this is a job of its own.
    std::fs::remove_file(place.state_path()).unwrap();
    place.job(&json!({"source": {"onBadSource": "Skip"}}));
    place.run().ends_with(0);
    assert_eq!(place.status()["progress"]["skippedSources"], 1);
    let skipped = &place.manifest()["skipped"];
    assert_eq!(skipped[0]["key"], key.as_str(), "{skipped:#}");
    assert!(
        skipped[0]["reason"].as_str().unwrap().contains(problem),
        "{skipped:#}"
    );
    assert_eq!(skipped.as_array().unwrap().len(), 1);
    // Of the failed job there may be an output that no manifest names.
    let manifest = place.manifest();
    let outputs: Vec<&str> = manifest["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|output| output["key"].as_str().unwrap())
        .collect();
    let records: Vec<u8> = outputs
        .iter()
        .flat_map(|key| place.outputs()[*key].clone())
        .collect();
    assert_eq!(String::from_utf8_lossy(&records), "first\nlast\n");
    assert!(place.objects("in/") == before, "sources were touched");
}

#[test]
fn a_truncated_gzip_source_is_named() {
    let whole = gzip(&lines(1, 10_000));
    bad(
        "m.log.gz",
        &whole[..whole.len() - 5],
        "the gzip stream is cut off",
    );
}

#[test]
fn garbage_after_a_gzip_stream_is_named() {
    let mut bytes = gzip(b"good\n");
    bytes.extend_from_slice(b"and more");
    bad(
        "m.log.gz",
        &bytes,
        "bytes that are not gzip follow the gzip stream",
    );
}

#[test]
fn a_zstd_source_with_a_wrong_checksum_is_named() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::copy(&mut &lines(2, 10_000)[..], &mut encoder).unwrap();
    let mut bytes = encoder.finish().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    bad("m.log.zst", &bytes, "the zstd stream is corrupt");
}

#[test]
fn a_decompression_bomb_is_named() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    for _ in 0..200 {
        std::io::copy(&mut &b"a\n".repeat(512 << 10)[..], &mut encoder).unwrap();
    }
    let bytes = encoder.finish().unwrap();
    bad("m.log.zst", &bytes, "looks like a decompression bomb");
}

#[test]
fn a_record_that_is_too_long_is_named() {
    let mut bytes = b"short\n".to_vec();
    bytes.resize(9 << 20, b'x');
    bad("m.log", &bytes, "a record is longer than 8388608 bytes");
}

#[test]
fn keys_of_every_kind_go_through() {
    let place = Workplace::new();
    let long = format!(
        "in/{}/{}",
        ["d".repeat(239).as_str(); 4].join("/"),
        "f".repeat(37)
    );
    assert_eq!(long.len(), 1000);
    let keys = [
        "in/with space/a b.log",
        "in/per%cent/%41%2F.log",
        "in/pl+us/a+b.log",
        "in/ümläut/日本語 ☃.log",
        "in/q?uery/a&b=c#d.log",
        "in/quote's/\"a\"<b>.log",
        &long,
    ];
    for key in keys {
        place.put(key, format!("{key}\n"));
        place.put(&format!("{key}2"), "2\n");
    }
    place.job(&json!({"sourceDisposition": "Delete", "sourceRetentionSeconds": 0}));
    place.run().ends_with(0);
    let outputs = place.outputs();
    assert_eq!(outputs.len(), keys.len());
    for key in keys {
        let directory = key.rsplit_once('/').unwrap().0.replacen("in/", "out/", 1);
        let (_, bytes) = outputs
            .iter()
            .find(|(output, _)| output.rsplit_once('/').unwrap().0 == directory)
            .unwrap_or_else(|| panic!("no output in {directory}"));
        assert_eq!(String::from_utf8_lossy(bytes), format!("{key}\n2\n"));
    }
    assert_eq!(place.keys("in/"), [""; 0]);
}

/// A job that is planned; then something happens to `in/a.log`; then it runs with this spec.
fn planned_then(happens: fn(&Workplace), spec: &Value) -> Workplace {
    let place = small();
    let mut plan_only = spec.clone();
    plan_only["mode"] = json!("PlanOnly");
    place.job(&plan_only);
    place.run().ends_with(0).names(&["Planned"]);
    happens(&place);
    place.job(spec);
    place
}

fn change(place: &Workplace) {
    place.put("in/a.log", "1\n2\nand one more\n");
}

fn vanish(place: &Workplace) {
    std::fs::remove_file(place.object("in/a.log")).unwrap();
}

#[test]
fn a_source_that_changed_after_planning_stops_the_job() {
    for spec in [
        json!({}),
        json!({"source": {"onMissingSource": "Skip", "onBadSource": "Skip"}}),
    ] {
        let place = planned_then(change, &spec);
        place.run().ends_with(1).names(&[
            "source in/a.log has changed since the plan was made",
            "create a new job",
        ]);
        assert_eq!(place.keys("out/_compaction/"), [""; 0]);
    }
}

#[test]
fn a_source_that_vanished_after_planning_stops_the_job() {
    let place = planned_then(vanish, &json!({}));
    place.run().ends_with(1).names(&[
        "source in/a.log is gone since the plan was made",
        "set onMissingSource: Skip, or create a new job",
    ]);
    assert_eq!(place.keys("out/_compaction/"), [""; 0]);
}

#[test]
fn a_source_that_vanished_after_planning_is_left_out_if_that_is_wished() {
    let place = planned_then(vanish, &json!({"source": {"onMissingSource": "Skip"}}));
    place.run().ends_with(0);
    assert_eq!(place.status()["progress"]["skippedSources"], 1);
    let skipped = json!([{"key": "in/a.log", "reason": "missing"}]);
    assert_eq!(place.manifest()["skipped"], skipped);
    assert_eq!(written(&place), b"3\n");
}

#[test]
fn an_empty_prefix_has_nothing_to_compact() {
    let place = Workplace::new();
    place.job(&json!({}));
    place.run().ends_with(0).names(&["NothingToCompact"]);
    assert_eq!(place.keys(""), [""; 0]);
}

#[test]
fn a_group_of_one_source_is_left_alone_unless_it_is_wished() {
    let place = Workplace::new();
    place.put("in/one/a.log", "1\n");
    place.job(&json!({}));
    place.run().ends_with(0).names(&["NothingToCompact"]);
    assert_eq!(place.keys(""), ["in/one/a.log"]);

    std::fs::remove_file(place.state_path()).unwrap();
    place.job(&json!({"source": {"minSourcesPerGroup": 1}}));
    place
        .run()
        .ends_with(0)
        .names(&["1 sources are compacted into 1 outputs"]);
    assert_eq!(written(&place), b"1\n");
}

#[test]
fn empty_sources_add_nothing() {
    let place = Workplace::new();
    place.put("in/all-empty/a.log", "");
    place.put("in/all-empty/b.log", "");
    place.put("in/some-empty/a.log", "");
    place.put("in/some-empty/b.log", "1\n");
    place.put("in/some-empty/c.log", "");
    place.job(&json!({}));
    place
        .run()
        .ends_with(0)
        .names(&["5 sources are compacted into 1 outputs"]);
    assert_eq!(written(&place), b"1\n");
}
