//! `verify` over buckets that are right, and over buckets in which one thing is wrong.

#![allow(clippy::unwrap_used, clippy::panic)]

mod bucket;
#[path = "../simulation/store.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod store;

use bucket::{Bucket, Job, gzip, zstd};
use compaction_operator::verify::Report;

/// Three groups, two of them merged by one job and one by a later job, in every compression.
fn good() -> Bucket {
    let mut bucket = Bucket::default();
    bucket.source("in/a/1.json.gz", gzip(&[b"a1\na2\n"]));
    bucket.source("in/a/2.json.gz", gzip(&[b"a3\n", b"a4\na", b"5\n"]));
    bucket.source("in/a/3.json.gz", gzip(&[b""]));
    bucket.source("in/a/4.json", Vec::new());
    bucket.source("in/a/b/1.json.zst", zstd(&[b"b1\nb", b"2\nb3"]));
    bucket.source(
        "in/a/b/2.json.zst",
        [&b"\x50\x2a\x4d\x18\x03\0\0\0xyz"[..], &zstd(&[b"b1\n"])].concat(),
    );
    bucket.source("in/1.log", b"c1\r\nc2\r\n".to_vec());
    bucket.source("in/2.log", b"c3\n\nc5".to_vec());

    let mut first = Job::new("one");
    first.output("out/a/part-0.json.gz", gzip(&[b"a1\na2\na3\n", b"a4\n"]), 4);
    first.output("out/a/part-1.json.gz", gzip(&[b"a5\n"]), 1);
    first.output("out/a/b/part-0.json.zst", zstd(&[b"b1\nb2\nb3\n", b"b1\n"]), 4);
    first.consumes(&[
        "in/a/1.json.gz",
        "in/a/2.json.gz",
        "in/a/3.json.gz",
        "in/a/4.json",
    ]);
    first.consumes(&["in/a/b/1.json.zst", "in/a/b/2.json.zst"]);
    let mut second = Job::new("two");
    second.output("out/part-0.log", b"c1\r\nc2\r\nc3\n\nc5\n".to_vec(), 5);
    second.consumes(&["in/1.log", "in/2.log"]);
    bucket.jobs = vec![first, second];
    bucket
}

/// The problems of the good bucket with one thing done to it.
fn problems(damage: impl FnOnce(&mut Bucket)) -> Vec<String> {
    let mut bucket = good();
    damage(&mut bucket);
    let report = bucket.verify();
    assert_eq!(report.is_good(), report.problems.first.is_empty());
    assert_eq!(report.problems.count, report.problems.first.len() as u64);
    report.problems.first
}

fn compared(report: &Report) -> (u64, u64, u64, u64) {
    (report.sources, report.outputs, report.records, report.groups)
}

#[test]
fn a_right_result_is_good() {
    let report = good().verify();
    assert!(report.is_good(), "{report}");
    assert_eq!(compared(&report), (8, 4, 14, 3));
    assert_eq!((report.unverifiable, report.skipped.count), (0, 0));
    assert_eq!(
        report.to_string(),
        "good: every record is there exactly once; 8 sources and 4 outputs compared, 14 records in 3 groups\n"
    );
}

#[test]
fn the_order_of_records_does_not_matter() {
    assert_eq!(
        problems(|b| b.jobs[1].outputs[0].bytes = b"c5\n\nc3\nc1\r\nc2\r\n".to_vec()),
        Vec::<String>::new()
    );
}

#[test]
fn a_dropped_record_is_found() {
    assert_eq!(
        problems(|b| b.jobs[0].replace_output(0, gzip(&[b"a1\na3\n", b"a4\n"]), 3)),
        ["group in/a/: 1 record too few in its outputs"]
    );
}

#[test]
fn a_doubled_record_is_found() {
    assert_eq!(
        problems(|b| b.jobs[0].replace_output(2, zstd(&[b"b1\nb2\nb3\nb1\nb1\n"]), 5)),
        ["group in/a/b/: 1 record too many in its outputs"]
    );
}

#[test]
fn a_changed_record_is_found() {
    let found = ["group in/: as many records in its outputs as in its sources, but not the same ones"];
    for changed in [
        &b"c1\nc2\r\nc3\n\nc5\n"[..],
        b"c1\r\nc2\r\nc4\n\nc5\n",
        b"c1\r\nc1\r\nc3\n\nc5\n",
    ] {
        assert_eq!(problems(|b| b.jobs[1].outputs[0].bytes = changed.to_vec()), found);
    }
}

#[test]
fn a_record_in_the_wrong_group_is_found() {
    let moved = |b: &mut Bucket| {
        b.jobs[0].replace_output(1, gzip(&[b""]), 0);
        b.jobs[0].replace_output(2, zstd(&[b"b1\nb2\nb3\nb1\na5\n"]), 5);
    };
    assert_eq!(
        problems(moved),
        [
            "group in/a/: 1 record too few in its outputs",
            "group in/a/b/: 1 record too many in its outputs"
        ]
    );
    let report = || {
        let mut bucket = good();
        bucket.group_by = "All";
        moved(&mut bucket);
        bucket.verify()
    };
    assert!(report().is_good(), "in one group for all: {}", report());
}

#[test]
fn an_output_outside_its_groups_directory_is_found() {
    assert_eq!(
        problems(|b| b.jobs[0].outputs[1].group = "a/b/".to_owned()),
        ["output out/a/part-1.json.gz is not in the directory of its group, out/a/b/"]
    );
}

#[test]
fn a_missing_output_is_found() {
    assert_eq!(
        problems(|b| b.afterwards("out/a/part-1.json.gz", None)),
        [
            "group in/a/: 1 record too few in its outputs",
            "output out/a/part-1.json.gz is missing, or was replaced while it was read"
        ]
    );
}

#[test]
fn an_altered_output_is_found_even_if_its_records_are_the_same() {
    let same_records = gzip(&[b"a1\n", b"a2\n", b"a3\na4\n"]);
    let found = problems(|b| b.afterwards("out/a/part-0.json.gz", Some(same_records)));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("output out/a/part-0.json.gz was altered: it has "),
        "{found:?}"
    );

    let same_size = b"c1\r\nc2\r\n\nc3\nc5\n".to_vec();
    let found = problems(|b| b.afterwards("out/part-0.log", Some(same_size)));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("output out/part-0.log was altered: its CRC-64/NVME is "),
        "{found:?}"
    );
}

#[test]
fn an_output_that_cannot_be_decoded_is_found() {
    for whole in [gzip(&[b"a5\n"]), zstd(&[b"a5\n"])] {
        let cut_off = whole[..whole.len() - 2].to_vec();
        let found = problems(|b| b.jobs[0].replace_output(1, cut_off, 1));
        assert_eq!(found[0], "group in/a/: 1 record too few in its outputs");
        assert!(
            found[1].starts_with("output out/a/part-1.json.gz cannot be decoded: "),
            "{found:?}"
        );
    }
}

#[test]
fn a_manifest_that_counts_wrong_is_found() {
    assert_eq!(
        problems(|b| b.jobs[0].outputs[2].records = 7),
        ["output out/a/b/part-0.json.zst holds 4 records, and its manifest says 7"]
    );
    assert_eq!(
        problems(|b| b.jobs[0].records_of_sources = Some(8)),
        ["the manifest of job one says 8 records of its sources, but 9 records of its outputs"]
    );
}

#[test]
fn an_output_in_two_manifests_is_found() {
    assert_eq!(
        problems(|b| {
            let twice = b.jobs[0].outputs[0].clone();
            b.jobs[1].outputs.push(twice);
        }),
        ["output out/a/part-0.json.gz is named by two manifests"]
    );
}

#[test]
fn a_superseded_output_counts_no_more() {
    let mut bucket = good();
    bucket.jobs[1].superseded.push("out/a/part-1.json.gz".to_owned());
    bucket.jobs[1].output("out/a/part-9.json.gz", gzip(&[b"a5\n"]), 1);
    let report = bucket.verify();
    assert!(report.is_good(), "{report}");
    assert_eq!(report.outputs, 4);
}

#[test]
fn a_source_that_was_not_consumed_is_not_demanded() {
    assert_eq!(
        problems(|b| b.source("in/a/5.json", b"later\n".to_vec())),
        Vec::<String>::new()
    );
    // An object is consumed as the version that it was.
    let report = {
        let mut bucket = good();
        bucket.afterwards("in/1.log", Some(b"another version\n".to_vec()));
        bucket.verify()
    };
    assert!(report.is_good(), "{report}");
    assert_eq!((report.sources, report.unverifiable), (7, 1));
}

#[test]
fn a_source_that_cannot_be_decoded_is_found() {
    let found = problems(|b| {
        b.source("in/a/5.json.gz", gzip(&[b"cut off\n"])[..20].to_vec());
        b.jobs[0].consumes(&["in/a/5.json.gz"]);
    });
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("source in/a/5.json.gz cannot be decoded: "),
        "{found:?}"
    );
}

#[test]
fn skipped_sources_are_named_and_are_no_problem() {
    let mut bucket = good();
    bucket.source("in/a/bad.json.gz", gzip(&[b"cut off\n"])[..20].to_vec());
    bucket.jobs[0]
        .skipped
        .push(("in/a/bad.json.gz", "the gzip stream is cut off"));
    bucket.jobs[0].skipped.push(("in/a/gone.json.gz", "missing"));
    let report = bucket.verify();
    assert!(report.is_good(), "{report}");
    assert_eq!(compared(&report), (8, 4, 14, 3));
    let text = report.to_string();
    for line in [
        "2 sources left out, as the manifests say",
        "  source in/a/bad.json.gz: the gzip stream is cut off",
        "  source in/a/gone.json.gz: missing",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} in {text}");
    }
}

#[test]
fn groups_that_failed_are_named_and_are_no_problem() {
    let mut bucket = good();
    bucket.source("in/x/1.json", b"x1\n".to_vec());
    bucket.jobs[0].failed.push("x/");
    let report = bucket.verify();
    assert!(report.is_good(), "{report}");
    assert_eq!(compared(&report), (8, 4, 14, 3));
    let said = "1 group failed and not in the outputs, as the manifests say\n  \
                group in/x/: SourceChanged: in/x has changed\n";
    assert!(report.to_string().ends_with(said), "{report}");
}

#[test]
fn an_output_of_a_group_that_failed_is_found() {
    let found = problems(|b| b.jobs[0].failed.push("a/b/"));
    assert_eq!(
        found,
        ["group in/a/b/ failed, but output out/a/b/part-0.json.zst of it is published"]
    );
}

#[test]
fn records_of_a_group_that_failed_are_found_in_other_outputs() {
    let found = problems(|b| {
        b.source("in/x/1.json", b"x1\n".to_vec());
        b.jobs[0].failed.push("x/");
        b.jobs[0].replace_output(1, gzip(&[b"a5\nx1\n"]), 2);
    });
    assert_eq!(found, ["group in/a/: 1 record too many in its outputs"]);
}

#[test]
fn sources_of_a_group_that_failed_may_not_be_called_consumed() {
    let found = problems(|b| {
        b.source("in/x/1.json", b"x1\n".to_vec());
        b.jobs[0].failed.push("x/");
        b.jobs[0].consumes(&["in/x/1.json"]);
    });
    assert_eq!(found, ["group in/x/: 1 record too few in its outputs"]);
}

#[test]
fn deleted_sources_cannot_be_compared_and_are_no_problem() {
    let mut bucket = good();
    bucket.afterwards("in/a/1.json.gz", None);
    bucket.afterwards("in/a/3.json.gz", None);
    let report = bucket.verify();
    assert!(report.is_good(), "{report}");
    assert_eq!((report.sources, report.records, report.unverifiable), (6, 12, 2));
    assert!(
        report
            .to_string()
            .starts_with("good, as far as the sources are still there; 6 sources"),
        "{report}"
    );
    assert_eq!(
        report.remarks.first,
        [
            "group in/a/: 2 sources deleted, replaced or archived since; its outputs hold 2 records \
             beyond those of the others"
        ]
    );
}

#[test]
fn what_is_missing_beyond_deleted_sources_is_found() {
    assert_eq!(
        problems(|b| {
            b.afterwards("in/a/2.json.gz", None);
            b.jobs[0].replace_output(0, gzip(&[b"a1\n"]), 1);
            b.jobs[0].replace_output(1, gzip(&[b""]), 0);
        }),
        ["group in/a/: 1 record too few in its outputs"]
    );
    assert_eq!(
        problems(|b| {
            b.afterwards("in/1.log", None);
            b.jobs[1].replace_output(0, b"c1\r\nc2\r\n".to_vec(), 2);
        })
        .len(),
        1,
        "two lost and two of a deleted source"
    );
}

#[test]
fn sources_that_no_list_names_any_more_cannot_be_compared() {
    let mut bucket = good();
    let deleted = ["in/a/1.json.gz", "in/a/2.json.gz"];
    for key in deleted {
        bucket.afterwards(key, None);
    }
    bucket.take_over_lists(&deleted);
    let report = bucket.verify();
    assert!(report.is_good(), "{report}");
    assert_eq!((report.sources, report.unverifiable), (6, 2));
    assert_eq!(
        report.remarks.first,
        [
            "group in/a/: its outputs hold 5 records beyond those of its sources",
            "2 consumed sources in no list any more, being gone when a later job was planned"
        ]
    );
}

#[test]
fn a_later_job_takes_over_the_list_of_an_earlier_one() {
    let mut bucket = good();
    bucket.take_over_lists(&[]);
    let report = bucket.verify();
    assert!(report.is_good(), "{report}");
    assert_eq!((compared(&report), report.unverifiable), ((8, 4, 14, 3), 0));
    // It was killed before it removed that list.
    bucket.keep_lists = true;
    let again = bucket.verify();
    assert_eq!(again, report);
}

#[test]
fn a_job_without_success_has_published_nothing() {
    let mut bucket = good();
    let mut unfinished = Job::new("three");
    unfinished.success = false;
    unfinished.output("out/a/part-0-again.json.gz", gzip(&[b"a1\na2\n"]), 17);
    unfinished.consumes(&["in/a/5.json"]);
    bucket.source("in/a/5.json", b"not yet\n".to_vec());
    bucket.jobs.push(unfinished);
    assert_eq!(bucket.verify(), good().verify());

    bucket.job_uid = Some("three");
    assert_eq!(
        bucket.verify().problems.first,
        ["job three has published nothing under out/"]
    );
    bucket.job_uid = Some("two");
    assert!(bucket.verify().is_good());
}

#[test]
fn where_nothing_is_published_nothing_is_good() {
    let mut bucket = good();
    bucket.jobs.clear();
    assert_eq!(
        bucket.verify().problems.first,
        ["nothing that comes from in/ is published under out/"]
    );
}

#[test]
fn jobs_of_another_source_prefix_are_none_of_its_business() {
    let mut bucket = good();
    let mut other = Job::new("three");
    other.source_prefix = "elsewhere/";
    other.output("out/a/part-7.json.gz", gzip(&[b"x\n"]), 3);
    bucket.jobs.push(other);
    assert_eq!(bucket.verify(), good().verify());
}

#[test]
fn files_that_cannot_be_understood_are_errors_that_name_them() {
    let fails = |key: &str, bytes: Option<&str>| {
        let mut bucket = good();
        bucket.afterwards(key, bytes.map(|bytes| bytes.as_bytes().to_vec()));
        bucket.try_verify().unwrap_err().to_string()
    };
    let manifest = "out/_compaction/one/manifest.json";
    let consumed = "out/_compaction/one/consumed.jsonl";
    let header = r#"{"version": 1, "sourcePrefix": "in/"}"#;
    let line = |key: &str| format!("{{\"key\": \"{key}\", \"etag\": \"e\"}}\n");
    for (key, bytes, problem) in [
        (manifest, None, "it is missing, though _SUCCESS stands beside it"),
        (manifest, Some("{}".to_owned()), "missing field"),
        (consumed, Some(String::new()), "it is empty"),
        (
            consumed,
            Some("{\"version\": 2}\n".to_owned()),
            "its version 2 is not known",
        ),
        (consumed, Some(header.to_owned()), "it is cut off"),
        (
            consumed,
            Some(format!("{header}\n{}{}", line("in/b"), line("in/a"))),
            "its keys are out of order",
        ),
    ] {
        let error = fails(key, bytes.as_deref());
        assert!(error.starts_with(&format!("{key}: {problem}")), "{error}");
    }
}

#[test]
fn records_and_objects_may_be_larger_than_what_is_read_at_once() {
    let mut bucket = Bucket::default();
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        b' ' + (state >> 58) as u8
    });
    let long: Vec<u8> = noise.take(9 << 20).collect();
    bucket.source("in/1.json", [&long[..], b"\nshort"].concat());
    bucket.source("in/2.json.gz", gzip(&[&long[..5 << 20], &long[5 << 20..]]));
    let mut job = Job::new("one");
    job.output("out/part-0.json", [b"short\n", &long[..], b"\n"].concat(), 2);
    job.output("out/part-1.json.zst", zstd(&[&long, b"\n"]), 1);
    job.consumes(&["in/1.json", "in/2.json.gz"]);
    bucket.jobs.push(job);
    let report = bucket.verify();
    assert!(report.is_good(), "{report}");
    assert_eq!(compared(&report), (2, 2, 3, 1));
}

#[test]
fn no_more_sentences_are_kept_than_anybody_reads() {
    let mut bucket = good();
    for number in 0..250 {
        bucket.jobs[0].output(&format!("out/a/lost-{number:03}"), b"x\n".to_vec(), 1);
        bucket.afterwards(&format!("out/a/lost-{number:03}"), None);
    }
    let report = bucket.verify();
    assert_eq!((report.problems.count, report.problems.first.len()), (250, 100));
    assert!(report.to_string().ends_with("  and 150 more\n"), "{report}");
    assert_eq!(serde_json::to_value(&report).unwrap()["problems"]["count"], 250);
}

#[test]
fn a_failing_store_is_an_error_and_no_verdict() {
    let bucket = good();
    let error = bucket.verify_while_away().unwrap_err().to_string();
    assert!(error.contains("the store failed inside"), "{error}");
}
