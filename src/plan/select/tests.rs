use serde_json::{Value, json};

use super::*;
use crate::api::{CUT_BYTES, MAX_RECORD_BYTES};

const NOW: i64 = 1_000_000;

fn selector(source: &Value, group_by: GroupBy) -> Result<Selector, InvalidGlob> {
    let mut spec = json!({"prefix": "in/"});
    spec.as_object_mut()
        .unwrap()
        .extend(source.as_object().unwrap().clone());
    let source: SourceSpec = serde_json::from_value(spec).unwrap();
    let limits = Limits {
        part: 5 << 20,
        batch: 100,
        target: 100,
        max_source: source.max_object_size.bytes().unwrap(),
        cut: CUT_BYTES,
        max_record: MAX_RECORD_BYTES,
        table: 1 << 20,
    };
    Selector::new(&source, "in/state/", group_by, &limits, NOW)
}

/// An old, small, readable object.
fn object(key: &str) -> Object {
    Object {
        key: key.to_owned(),
        etag: "\"e\"".to_owned(),
        size: 1,
        modified: 0,
        readable: true,
    }
}

fn judge(source: &Value, object: &Object) -> Verdict {
    selector(source, GroupBy::Directory).unwrap().judge(object, false)
}

fn taken(source: &Value, key: &str) -> bool {
    matches!(judge(source, &object(key)), Verdict::Take { .. })
}

#[test]
fn globs_are_over_the_key_after_the_prefix() {
    let cases: [(&str, &[&str], &[&str]); 8] = [
        (
            "**/*.json.gz",
            &["a.json.gz", "d/a.json.gz", "d/e/.json.gz"],
            &["a.json", "a.json.gz.tmp", "d/a.JSON.GZ"],
        ),
        ("*.gz", &["a.gz"], &["d/a.gz"]),
        ("d/**", &["d/a", "d/e/a"], &["a", "e/d/a", "dd/a"]),
        ("d/*", &["d/a"], &["d/e/a"]),
        ("**/d/*", &["d/a", "e/d/a"], &["e/d/f/a"]),
        ("{a,b}/?.log", &["a/1.log", "b/2.log"], &["c/1.log", "a/12.log"]),
        ("[0-9]*", &["7", "7a"], &["a7", "7/a"]),
        ("in/a", &["in/a"], &["a"]),
    ];
    for (glob, matching, others) in cases {
        let include = json!({"include": [glob]});
        for name in matching {
            assert!(taken(&include, &format!("in/{name}")), "{glob} {name}");
        }
        for name in others {
            let verdict = judge(&include, &object(&format!("in/{name}")));
            assert_eq!(verdict, Verdict::Leave(LeftOut::NotIncluded), "{glob} {name}");
        }
    }
}

#[test]
fn without_include_every_object_is_taken_and_any_of_several_globs_suffices() {
    assert!(taken(&json!({}), "in/d/anything"));
    let two = json!({"include": ["*.a", "*.b"]});
    assert!(taken(&two, "in/1.a") && taken(&two, "in/1.b") && !taken(&two, "in/1.c"));
}

#[test]
fn exclude_wins_over_include() {
    let source = json!({"include": ["**/*.gz"], "exclude": ["tmp/**", "**/*.part.gz"]});
    assert!(taken(&source, "in/d/a.gz"));
    for key in ["in/tmp/a.gz", "in/d/a.part.gz"] {
        assert_eq!(judge(&source, &object(key)), Verdict::Leave(LeftOut::Excluded));
    }
}

#[test]
fn a_glob_that_is_none_is_refused_with_its_field() {
    for (field, glob) in [("include", "a["), ("exclude", "{a")] {
        let source = json!({field: ["fine", glob]});
        let error = selector(&source, GroupBy::All).err().unwrap();
        assert_eq!((error.field, error.glob.as_str()), (field, glob));
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("spec.source.{field}: \"{glob}\" is not a glob")),
            "{text}"
        );
    }
}

#[test]
fn an_object_of_exactly_the_minimal_age_is_old_enough() {
    let source = json!({"minObjectAgeSeconds": 60});
    let aged = |modified| Object {
        modified,
        ..object("in/a")
    };
    assert!(matches!(judge(&source, &aged(NOW - 60)), Verdict::Take { .. }));
    for modified in [NOW - 59, NOW, NOW + 1000] {
        assert_eq!(judge(&source, &aged(modified)), Verdict::Leave(LeftOut::TooYoung));
    }
}

#[test]
fn an_object_of_exactly_the_maximal_size_is_taken_and_so_is_an_empty_one() {
    let source = json!({"maxObjectSize": 1000});
    let sized = |size| Object {
        size,
        ..object("in/a")
    };
    for size in [0, 1000] {
        assert!(matches!(judge(&source, &sized(size)), Verdict::Take { .. }));
    }
    assert_eq!(judge(&source, &sized(1001)), Verdict::Leave(LeftOut::TooLarge));
}

#[test]
fn folder_markers_are_left_out() {
    for key in ["in/", "in/d/", "in/d/e/"] {
        assert_eq!(
            judge(&json!({}), &object(key)),
            Verdict::Leave(LeftOut::FolderMarker)
        );
    }
}

#[test]
fn what_is_this_projects_own_is_never_a_source() {
    for key in [
        "in/state/cluster/job/plan",
        "in/_compaction/job/manifest.json",
        "in/d/_compaction/a",
        "in/_compaction",
        "elsewhere/a",
    ] {
        let verdict = judge(&json!({"include": ["**"]}), &object(key));
        assert_eq!(verdict, Verdict::Leave(LeftOut::Own), "{key}");
    }
    for key in [
        "in/statement",
        "in/d/state/a",
        "in/_compaction.log",
        "in/my_compaction/a",
    ] {
        assert!(taken(&json!({}), key), "{key}");
    }
}

#[test]
fn what_was_consumed_is_left_out_even_if_it_could_no_longer_be_taken() {
    let selector = selector(&json!({}), GroupBy::All).unwrap();
    let archived = Object {
        readable: false,
        ..object("in/a")
    };
    for object in [&object("in/a"), &archived] {
        assert_eq!(selector.judge(object, true), Verdict::Leave(LeftOut::Consumed));
    }
}

#[test]
fn what_was_consumed_stays_so_for_a_job_that_would_not_take_it() {
    for spec in [
        json!({"include": ["*.txt"]}),
        json!({"exclude": ["a"]}),
        json!({"maxObjectSize": 1}),
    ] {
        let selector = selector(&spec, GroupBy::All).unwrap();
        let verdict = selector.judge(&object("in/a"), true);
        assert_eq!(
            verdict,
            Verdict::Leave(LeftOut::Consumed),
            "or its list would lose it"
        );
    }
}

#[test]
fn an_archived_object_fails_the_job_or_is_left_out_as_it_says() {
    let archived = |key| Object {
        readable: false,
        ..object(key)
    };
    assert_eq!(judge(&json!({}), &archived("in/a")), Verdict::Fail);
    let skip = json!({"onBadSource": "Skip"});
    assert_eq!(judge(&skip, &archived("in/a")), Verdict::Leave(LeftOut::Archived));
    let exclude = json!({"exclude": ["a"]});
    assert_eq!(
        judge(&exclude, &archived("in/a")),
        Verdict::Leave(LeftOut::Excluded)
    );
}

#[test]
fn a_group_is_a_directory_or_all() {
    for (key, directory) in [("in/a", ""), ("in/d/a", "d/"), ("in/d/e//a", "d/e//")] {
        let directory = directory.to_owned();
        assert_eq!(judge(&json!({}), &object(key)), Verdict::Take { directory });
        let all = selector(&json!({}), GroupBy::All).unwrap();
        let directory = String::new();
        assert_eq!(all.judge(&object(key), false), Verdict::Take { directory });
    }
}
