use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SHA: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn plan() -> Plan {
    Plan {
        version: VERSION,
        job: JobName {
            namespace: "ns".to_owned(),
            name: "job".to_owned(),
            uid: "uid".to_owned(),
        },
        source_prefix: "in/".to_owned(),
        output_prefix: "out/".to_owned(),
        frozen: Frozen {
            format: format::Settings {
                format: format::Kind::Lines,
                compression: format::Compression::Auto,
                cut_bytes: 4,
                max_record_bytes: 8,
            },
            part_bytes: 100,
            target_bytes: 1000,
            batch_bytes: 500,
            skip_bad: false,
            skip_missing: false,
            attributes: Attributes::default(),
            deduplicate: None,
        },
        capabilities: Capabilities::default(),
        segments: Vec::new(),
        shards: Vec::new(),
        totals: Totals::default(),
        left_out: BTreeMap::new(),
        folded: Vec::new(),
        superseded: Vec::new(),
        candidates: CandidatesRef::default(),
    }
}

#[test]
fn output_names_and_tokens_are_frozen() {
    assert_eq!(
        plan().output_key(SHA, "d/e/", 7, 42, ".json.gz"),
        "out/d/e/part-0123456789ab-007-00042.json.gz"
    );
    let token = Plan::output_token(SHA, 7, "d/e/", 42, "gzip-1");
    // `printf '%s\n7\nd/e/\n42\ngzip-1' $SHA | sha256sum`
    assert_eq!(
        token,
        "017d1cd90b9283b71b4aad4ab17d0d95e5b97475018630b3c5f168a07dc0b406"
    );
}

#[test]
fn a_short_hash_does_not_panic() {
    assert_eq!(plan().output_key("ab", "", 0, 0, ""), "out/part-ab-000-00000");
}

#[test]
fn batches_are_bounded_by_bytes_and_by_sources() {
    for (sources, bytes, batch_bytes, expected) in [
        (0, 0, 100, 0),
        (1, 0, 100, 1),
        (1, 100, 100, 1),
        (1, 101, 100, 2),
        (4096, 1, 100, 1),
        (4097, 1, 100, 2),
        (4097, 1000, 100, 10),
        (u64::MAX, u64::MAX, 1, u64::MAX),
    ] {
        assert_eq!(
            batches(sources, bytes, batch_bytes),
            expected,
            "{sources} {bytes}"
        );
    }
}

#[test]
fn a_plan_is_read_as_it_was_written_and_unknown_fields_are_refused() {
    let mut plan = plan();
    let count = LeftOutCount {
        objects: 1,
        examples: vec!["in/a".to_owned()],
    };
    plan.left_out.insert(LeftOut::TooYoung, count);
    let mut value = serde_json::to_value(&plan).unwrap();
    assert_eq!(serde_json::from_value::<Plan>(value.clone()).unwrap(), plan);
    value["frozen"]["new"] = 1.into();
    serde_json::from_value::<Plan>(value).unwrap_err();
}

proptest! {
    /// Outputs of different places never share a name or a token.
    #[test]
    fn names_and_tokens_are_distinct(
        places in proptest::collection::btree_set(("([a-b\n0-9-]{0,3}/){0,2}", 0_usize..64, 0_u32..200_000), 2..20)
    ) {
        let plan = plan();
        let keys: BTreeSet<_> = places.iter().map(|(d, s, n)| plan.output_key(SHA, d, *s, *n, ".gz")).collect();
        let tokens: BTreeSet<_> = places.iter().map(|(d, s, n)| Plan::output_token(SHA, *s, d, *n, "gzip")).collect();
        prop_assert_eq!(keys.len(), places.len());
        prop_assert_eq!(tokens.len(), places.len());
        let (directory, shard, number) = places.first().unwrap();
        let token = Plan::output_token(SHA, *shard, directory, *number, "gzip");
        prop_assert!(token != Plan::output_token(SHA, *shard, directory, *number, "zstd"));
        prop_assert!(token != Plan::output_token("other", *shard, directory, *number, "gzip"));
    }
}

#[test]
fn the_name_of_an_output_tells_what_it_was_made_of() {
    let plan = plan();
    for (directory, shard, number, extension) in [
        ("", 0, 0, ""),
        ("a/b/", 63, 123_456, ".json.gz"),
        ("part-x/", 7, 9, ".7z"),
    ] {
        let key = plan.output_key(SHA, directory, shard, number, extension);
        let name = OutputName {
            directory: directory.to_owned(),
            shard,
            number,
        };
        assert_eq!(OutputName::of(&key, "out/", SHA), Some(name), "{key}");
        assert_eq!(
            OutputName::of(&key, "out/", &SHA.replace('0', "f")),
            None,
            "another plan"
        );
        assert_eq!(OutputName::of(&key, "elsewhere/", SHA), None);
    }
    for key in [
        "out/",
        "out/part-",
        "out/part-0123456789ab-",
        "out/part-0123456789ab-1-x",
        "out/a/manifest.json",
    ] {
        assert_eq!(OutputName::of(key, "out/", SHA), None, "{key}");
    }
}
