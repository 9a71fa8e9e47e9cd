//! Beside a plain model: a map from key to the latest record, and all of it in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a test knows of a record.
#[derive(Debug, Clone, Copy)]
struct Record {
    key: u64,
    version: i128,
    expired: bool,
}

/// Spreads small numbers over all hashes, as the hash of a key does.
fn hash(key: u64) -> u128 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(key.to_le_bytes());
    u128::from_be_bytes(digest[..16].try_into().unwrap())
}

/// Records in sources of `in_source`, with the positions that they have in a shard.
fn positions(count: usize, in_source: usize) -> impl Iterator<Item = Position> {
    (0..count).map(move |at| {
        let (source, record) = (at / in_source, (at % in_source) as u64 + 1);
        Position::new(source / 512, source % 512, record).unwrap()
    })
}

fn entries(records: &[Record], in_source: usize) -> impl Iterator<Item = Entry> {
    records
        .iter()
        .zip(positions(records.len(), in_source))
        .map(|(record, position)| Entry {
            hash: hash(record.key),
            version: record.version,
            position,
            expired: record.expired,
        })
}

fn model(entries: impl Iterator<Item = Entry>, keep_expired: bool) -> Vec<u64> {
    let mut latest = BTreeMap::<u128, Entry>::new();
    for entry in entries {
        let known = latest.entry(entry.hash).or_insert(entry);
        if entry.version >= known.version {
            *known = entry;
        }
    }
    let kept = latest
        .into_values()
        .filter(|entry| keep_expired || !entry.expired);
    let mut kept: Vec<u64> = kept.map(|entry| entry.position.number()).collect();
    kept.sort_unstable();
    kept
}

/// Entries that a table takes in one go.
const AHEAD: usize = 5;

/// Runs of a table of so many bytes; with `interrupted`, a run ends after that many entries, too.
fn mark(
    layout: Layout,
    bytes: u64,
    interrupted: usize,
    entries: impl Iterator<Item = Entry>,
) -> Vec<Vec<u8>> {
    let mut latest = Latest::new(layout, bytes);
    let mut runs = Vec::new();
    let mut fresh = Vec::new();
    for (at, entry) in entries.enumerate() {
        fresh.push(entry);
        let taken = fresh.len() < AHEAD || latest.take_all(&mut fresh);
        if !taken || at % interrupted == interrupted - 1 {
            runs.push(latest.hand_out(&mut fresh));
        }
    }
    runs.push(latest.hand_out(&mut fresh));
    runs
}

struct Settled {
    kept: Vec<u64>,
    passes: Passes,
}

/// All passes over the runs, with a table of so many bytes.
fn settle(layout: Layout, bytes: u64, runs: &[Vec<u8>], keep_expired: bool) -> Settled {
    let mut latest = Latest::of_runs(layout, bytes);
    let mut settled = Settled {
        kept: Vec::new(),
        passes: Passes::default(),
    };
    while let Some(range) = settled.passes.next(latest.capacity()) {
        let range = loop {
            latest.clear();
            if let Some(range) = pass(layout, &mut latest, runs, range) {
                break range;
            }
        };
        settled.passes = settled.passes.after(range, latest.len());
        settled
            .kept
            .extend(latest.survivors(keep_expired).map(Position::number));
    }
    settled.kept.sort_unstable();
    settled
}

/// Of as much of the range as fits; `None` where slots are too narrow.
fn pass(layout: Layout, latest: &mut Latest, runs: &[Vec<u8>], mut range: HashRange) -> Option<HashRange> {
    let entries: Vec<Entry> = runs.iter().flat_map(|run| layout.decode(run).unwrap()).collect();
    for some in entries.chunks(AHEAD) {
        if let Err(unfit) = latest.take_within(some.to_vec(), &mut range) {
            assert_eq!(unfit, Unfit::Version);
            return None;
        }
    }
    Some(range)
}

fn records(versions: impl Strategy<Value = i128>) -> impl Strategy<Value = Vec<Record>> {
    let record = (0..300_u64, versions, any::<bool>()).prop_map(|(key, version, expired)| Record {
        key,
        version,
        expired,
    });
    prop::collection::vec(record, 0..700)
}

/// Versions of one or two kinds: whole numbers, times, fractions, such as one word holds and such as it does not.
fn versions() -> impl Strategy<Value = Vec<Record>> {
    const WHOLE: i128 = 1_000_000_000_000_000_000;
    let few = |first: i128, unit: i128| {
        (-5..=5_i128)
            .prop_map(move |number| first + number * unit)
            .boxed()
    };
    let kinds = vec![
        few(0, 1),
        few(0, WHOLE),
        few(1_700_000_000_123 * WHOLE, WHOLE),
        few(1_700_000_000 * WHOLE, 1_000_000_000),
        few(1_700_000_000 * WHOLE, WHOLE / 100),
        few(0, i128::from(u64::MAX) / 8 * WHOLE),
        few(0, i128::MAX / 5),
        any::<i64>().prop_map(|number| i128::from(number) * WHOLE).boxed(),
        any::<i128>().boxed(),
    ];
    prop::sample::subsequence(kinds, 1..=2).prop_flat_map(|kinds| records(prop::strategy::Union::new(kinds)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_survives_is_what_a_plain_map_would_keep(
        records in versions(),
        mark_bytes in 320..20_000_u64,
        settle_bytes in 1_000..20_000_u64,
        interrupted in 1..900_usize,
        in_source in 1..100_usize,
        keep_expired in any::<bool>(),
    ) {
        let layout = Layout { versioned: true };
        let runs = mark(layout, mark_bytes, interrupted, entries(&records, in_source));
        let settled = settle(layout, settle_bytes, &runs, keep_expired);
        prop_assert_eq!(settled.kept, model(entries(&records, in_source), keep_expired));
    }

    #[test]
    fn without_a_version_the_last_position_survives(records in records(Just(0)), bytes in 200..9_000_u64) {
        let layout = Layout { versioned: false };
        let runs = mark(layout, bytes, usize::MAX, entries(&records, 7));
        let settled = settle(layout, bytes, &runs, true);
        prop_assert_eq!(settled.kept, model(entries(&records, 7), true));
    }

    #[test]
    fn runs_of_runs_change_nothing(first in records(-3..=3_i128), second in records(-3..=3_i128)) {
        // What survived is read again with what is new, as a schedule's next job does.
        let layout = Layout { versioned: true };
        let all: Vec<Record> = first.iter().chain(&second).copied().collect();
        let kept = model(entries(&first, 10), true);
        let again = entries(&all, 10).enumerate()
            .filter(|(at, entry)| *at >= first.len() || kept.contains(&entry.position.number()))
            .map(|(_, entry)| entry);
        let runs = mark(layout, 4_000, 500, again);
        let settled = settle(layout, 4_000, &runs, true);
        prop_assert_eq!(settled.kept, model(entries(&all, 10), true));
    }

    #[test]
    fn an_entry_is_in_a_run_what_it_was(
        hash in any::<u128>(), version in any::<i128>(), segment in 0..65_536_usize, entry in 0..16_384_usize,
        record in 1..(1_u64 << 33), expired in any::<bool>(),
    ) {
        let position = Position::new(segment, entry, record).unwrap();
        let entry = Entry { hash, version, position, expired };
        for layout in [Layout { versioned: true }, Layout { versioned: false }] {
            let mut run = Vec::new();
            layout.encode(&entry, &mut run);
            prop_assert_eq!(run.len(), layout.entry_bytes());
            let back: Vec<Entry> = layout.decode(&run).unwrap().collect();
            let version = if layout.versioned { version } else { 0 };
            prop_assert_eq!(back, vec![Entry { version, ..entry }]);
            prop_assert!(layout.decode(&run[1..]).is_err());
        }
    }

    #[test]
    fn a_selection_keeps_what_survived_of_its_source_alone(
        kept in prop::collection::btree_set((0..4_usize, 1..4_usize, 1..200_u64), 0..300),
        split in 0..4_u64,
    ) {
        // In the chunks of several passes.
        let mut chunks = vec![Survivors::default(); 4];
        for (segment, entry, record) in &kept {
            let position = Position::new(*segment, *entry, *record).unwrap();
            chunks[((record + split) % 4) as usize].push(position);
        }
        for (segment, entry) in (0..4).flat_map(|segment| (1..4).map(move |entry| (segment, entry))) {
            let mut selection = Selection::none(segment, entry);
            for chunk in &chunks {
                Survivors::decode(&chunk.encode()).unwrap().add_to(&mut selection);
            }
            for record in 1..200 {
                prop_assert_eq!(selection.keeps(record), kept.contains(&(segment, entry, record)));
            }
        }
    }
}

/// The greatest version comes early and late, and is never the last one.
#[test]
fn one_key_of_ten_million_versions_is_one_entry_and_one_pass() {
    const RECORDS: usize = 10_000_000;
    let layout = Layout { versioned: true };
    let one = hash(1);
    let all = positions(RECORDS, 1000).enumerate().map(|(at, position)| Entry {
        hash: one,
        version: 1_700_000_000_000_000_000_000_000_000 + (at as i128 * 7919 % 1_000_003) * 1_000_000_000,
        position,
        expired: false,
    });
    let runs = mark(layout, 320, usize::MAX, all);
    assert_eq!(runs.len(), 1);
    let settled = settle(layout, 320, &runs, true);
    assert_eq!((settled.passes.done, settled.passes.keys), (1, 1));
    let greatest = (0..RECORDS).rfind(|at| at * 7919 % 1_000_003 == 1_000_002);
    let winner = positions(RECORDS, 1000).nth(greatest.unwrap());
    assert_eq!(settled.kept, [winner.unwrap().number()]);
}

#[test]
fn a_gibibyte_holds_thirty_million_keys_with_versions_of_one_kind() {
    // Of a table a thousandth as large.
    let layout = Layout { versioned: true };
    let mut latest = Latest::new(layout, (1 << 30) / 1000);
    let kinds = [1_000_000_000_000_000_000, 1_000_000_000, 10_000_000_000_000_000];
    for unit in kinds {
        let records = (0..40_000).map(|key| Record {
            key,
            version: 1_700_000_000_000_000_000_000_000_000 + i128::from(key * key) * unit,
            expired: false,
        });
        let records: Vec<Record> = records.collect();
        latest.take_all(&mut entries(&records, 100).collect());
        assert!(latest.len() >= 30_000, "{} keys", latest.len());
        latest.clear();
    }
}

#[test]
fn a_version_that_one_word_cannot_hold_exactly_is_refused_once_and_kept_exactly() {
    let layout = Layout { versioned: true };
    // Not even as far apart as the numbers of 64 bits tell apart, beside one that is far away.
    let versions = [1 << 100, (1 << 100) + 1, i128::MIN, i128::MAX, i128::MAX - 1];
    let records = versions.map(|version| Record {
        key: 1,
        version,
        expired: false,
    });
    let mut latest = Latest::new(layout, 4000);
    let narrow = latest.capacity();
    let mut rest: Vec<Entry> = entries(&records, 10).collect();
    assert!(!latest.take_all(&mut rest) && latest.is_full());
    assert_eq!(rest.len(), 3);
    // It stays in the run that is handed out next, whole.
    let run = latest.hand_out(&mut rest);
    let handed: Vec<i128> = layout.decode(&run).unwrap().map(|entry| entry.version).collect();
    assert_eq!(handed, [(1 << 100) + 1, i128::MIN, i128::MAX, i128::MAX - 1]);
    assert!(latest.capacity() < narrow && latest.is_empty() && !latest.is_full());
    assert!(latest.take_all(&mut layout.decode(&run).unwrap().collect()));
    let entry: Vec<Entry> = layout.decode(&latest.hand_out(&mut rest)).unwrap().collect();
    assert_eq!((entry.len(), entry[0].version), (1, i128::MAX));
}

#[test]
fn many_keys_in_a_small_table_take_as_many_passes_as_they_need_and_no_more() {
    let layout = Layout { versioned: false };
    let distinct = |key| Record {
        key,
        version: 0,
        expired: false,
    };
    let records: Vec<Record> = (0..50_000).map(distinct).collect();
    let bytes = 24 * 2223; // 2,000 keys
    assert_eq!(Latest::new(layout, bytes).capacity(), 2000);
    let runs = mark(layout, bytes, usize::MAX, entries(&records, 100));
    let settled = settle(layout, bytes, &runs, true);
    assert_eq!(settled.kept.len(), 50_000);
    assert!(
        (26..32).contains(&settled.passes.done),
        "{} passes",
        settled.passes.done
    );

    // Each key again in every run: the passes go by keys.
    let records: Vec<Record> = (0..40_000).map(|at| distinct(at % 4_000)).collect();
    let runs = mark(layout, bytes, usize::MAX, entries(&records, 100));
    let settled = settle(layout, bytes, &runs, true);
    assert_eq!(settled.kept.len(), 4_000);
    assert!(settled.passes.done <= 3, "{} passes", settled.passes.done);

    let records: Vec<Record> = (0..40_000).map(|at| distinct(at % 2_000)).collect();
    let runs = mark(layout, bytes, 1_500, entries(&records, 100));
    let settled = settle(layout, bytes, &runs, true);
    assert_eq!((settled.kept.len(), settled.passes.done), (2_000, 1));
}

/// Otherwise a table that is smaller than a run would be searched from one end to the other for each of its keys.
#[test]
fn what_one_table_hands_out_is_in_no_order_of_the_slots_of_another() {
    let layout = Layout { versioned: false };
    let entry = |(key, position)| Entry {
        hash: hash(key),
        version: 0,
        position,
        expired: false,
    };
    let mut all: Vec<Entry> = (0..1000).zip(positions(1000, 100)).map(entry).collect();
    // Of a table with much room, so by the lower halves of their hashes.
    let by_slot = |mut table: Latest, entries: &mut Vec<Entry>| -> Vec<Entry> {
        assert!(table.take_all(entries));
        layout.decode(&table.hand_out(entries)).unwrap().collect()
    };
    let handed = by_slot(Latest::new(layout, 24 << 20), &mut all);
    assert!(handed.is_sorted_by_key(|entry| entry.hash as u64));
    let again = by_slot(Latest::of_runs(layout, 24 << 20), &mut handed.clone());
    let ascents = again
        .windows(2)
        .filter(|two| two[0].hash as u64 <= two[1].hash as u64);
    assert!((400..600).contains(&ascents.count()));
}

#[test]
fn more_keys_than_all_passes_have_room_for_are_told_after_the_first() {
    let layout = Layout { versioned: false };
    let latest = Latest::new(layout, 24 * 100);
    let first = HashRange {
        first: 0,
        last: u64::MAX / 10_000,
    };
    let passes = Passes::default().after(first, latest.capacity());
    assert!(!Passes::default().too_many(latest.capacity()));
    assert!(passes.too_many(latest.capacity()));
    assert!(!passes.too_many(100_000));
}

#[test]
fn ranges_cover_every_hash_once_and_end() {
    for narrowings in [0, 1, 5, 60] {
        let (mut passes, mut next, capacity) = (Passes::default(), 0_u128, 7);
        while let Some(mut range) = passes.next(capacity)
            && passes.done < 1000
        {
            for _ in 0..narrowings {
                range = range.narrowed().unwrap_or(range);
            }
            assert_eq!(u128::from(range.first), next);
            next = u128::from(range.last) + 1;
            passes = passes.after(range, capacity);
        }
        assert!(next == 1 << 64 || passes.done == 1000);
    }
    let mut range = HashRange {
        first: 5,
        last: u64::MAX,
    };
    while let Some(narrower) = range.narrowed() {
        assert!(narrower.first == 5 && narrower.last < range.last);
        range = narrower;
    }
    assert_eq!(range, HashRange { first: 5, last: 5 });
}

#[test]
fn a_full_table_refuses_new_keys_and_still_takes_newer_entries_of_its_own() {
    let layout = Layout { versioned: false };
    let mut latest = Latest::new(layout, 0);
    let all: Vec<Record> = (0..20)
        .map(|key| Record {
            key,
            version: 0,
            expired: false,
        })
        .collect();
    let mut refused: Vec<Entry> = entries(&all, 1).collect();
    assert!(!latest.take_all(&mut refused));
    assert_eq!(latest.len(), latest.capacity());
    assert_eq!(refused.len(), all.len() - latest.capacity());
    assert_eq!(refused[0].hash, hash(latest.capacity() as u64));
    assert!(latest.is_full());
    let newer = Entry {
        hash: hash(0),
        version: 0,
        position: Position::new(9, 9, 9).unwrap(),
        expired: false,
    };
    assert!(latest.take_all(&mut vec![newer]));
    let kept: Vec<Position> = latest.survivors(true).collect();
    assert_eq!(kept.last(), Some(&newer.position));
    assert_eq!(kept.len(), latest.capacity());
}

#[test]
fn positions_that_cannot_be_told_apart_are_refused() {
    for (segment, entry, record) in [(1 << 16, 0, 1), (0, 1 << 14, 1), (0, 0, 1 << 33), (0, 0, 0)] {
        assert_eq!(Position::new(segment, entry, record), None);
    }
    let ascending = [
        (0, 0, 1),
        (0, 0, 2),
        (0, 1, 1),
        (1, 0, 1),
        (65_535, 16_383, (1 << 33) - 1),
    ];
    let numbers = ascending.map(|(segment, entry, record)| Position::new(segment, entry, record).unwrap());
    assert!(numbers.is_sorted());
}

mod records {
    use super::*;

    fn rules() -> Rules {
        Rules {
            key: vec!["/user/id".to_owned(), "/region".to_owned()],
            version: Some("/at".to_owned()),
            tombstone: Some(Tombstone {
                pointer: "/op".to_owned(),
                equals: "delete".to_owned(),
                expired_before: Some(1_772_366_400),
            }),
            keep_unkeyed: true,
        }
    }

    fn judged(record: &str) -> Result<Keyed, Unkeyed> {
        judge(&rules()).judge(record.as_bytes())
    }

    #[test]
    fn the_same_key_has_the_same_hash_however_the_record_is_written() {
        let one = judged(r#"{"user":{"id":7,"name":"x"},"region":"eu","at":1}"#).unwrap();
        let other = judged(
            " {\"z\":[{}, [1e5,-0.1, \"\\\"]\"]], \"at\" : 2, \"r\\u0065gion\":\"e\\u0075\",\r\t\"user\": {\"id\": 7.0}} ",
        )
        .unwrap();
        assert_eq!(one.hash, other.hash);
        assert!(one.version < other.version);
    }

    #[test]
    fn parts_of_a_key_are_not_mixed_up() {
        let hash = |id: &str, region: &str| {
            judged(&format!(
                r#"{{"user":{{"id":"{id}"}},"region":"{region}","at":1}}"#
            ))
            .unwrap()
            .hash
        };
        assert_ne!(hash("ab", "c"), hash("a", "bc"));
        assert_ne!(hash("", "a"), hash("a", ""));
        assert_ne!(hash("a", "b"), hash("b", "a"));
    }

    #[test]
    fn the_same_key_in_another_group_is_another_key() {
        let record = br#"{"user":{"id":7},"region":"eu","at":1}"#;
        let mut judge = judge(&rules());
        judge.enter_group("a/");
        let first = judge.judge(record).unwrap().hash;
        judge.enter_group("b/");
        assert_ne!(judge.judge(record).unwrap().hash, first);
        judge.enter_group("a/");
        assert_eq!(judge.judge(record).unwrap().hash, first);
    }

    #[test]
    fn keys_of_no_bytes_and_of_a_megabyte_are_keys() {
        let record = |id: &str| format!(r#"{{"user":{{"id":"{id}"}},"region":1,"at":1}}"#);
        let long = "x".repeat(1 << 20);
        let longer = format!("{long}x");
        let hashes = ["", &long, &longer].map(|id| judged(&record(id)).unwrap().hash);
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2]);
    }

    #[test]
    fn records_of_no_key_say_why() {
        let unkeyed = [
            ("", Unkeyed::NotJson),
            ("{", Unkeyed::NotJson),
            (r#"{"user":{"id":1},"region":2,"at":3} x"#, Unkeyed::NotJson),
            (r#"{"user":{"id":1},"region":2,"at":03}"#, Unkeyed::NotJson),
            (
                r#"{"user":{},"region":2,"at":3}"#,
                Unkeyed::NoKey("/user/id".to_owned()),
            ),
            (
                r#"{"user":1,"region":2,"at":3}"#,
                Unkeyed::NoKey("/user/id".to_owned()),
            ),
            (
                r#"{"user":{"id":1},"region":null,"at":3}"#,
                Unkeyed::NoKey("/region".to_owned()),
            ),
            (
                r#"{"user":{"id":1},"user":{},"region":1,"at":3}"#,
                Unkeyed::NoKey("/user/id".to_owned()),
            ),
            (
                r#"{"user":{"id":1},"region":2,"at":"soon"}"#,
                Unkeyed::NoVersion("/at".to_owned()),
            ),
            ("[1,2]", Unkeyed::NoKey("/user/id".to_owned())),
        ];
        for (record, why) in unkeyed {
            assert_eq!(judged(record), Err(why), "{record}");
        }
        let judge = judge(&rules());
        assert_ne!(judge.unkeyed(1), judge.unkeyed(2));
    }

    #[test]
    fn only_a_tombstone_older_than_its_retention_has_expired() {
        let expired = |op: &str, at: &str| {
            judged(&format!(
                r#"{{"user":{{"id":1}},"region":1,"op":{op},"at":{at}}}"#
            ))
            .unwrap()
            .expired
        };
        assert!(expired(r#""delete""#, r#""2026-03-01T12:00:00Z""#));
        assert!(!expired(r#""delete""#, r#""2026-03-01T12:00:01Z""#));
        assert!(!expired(r#""update""#, r#""2026-03-01T12:00:00Z""#));
        assert!(!expired(r#""delete""#, "1"), "a number has no age");
    }

    #[test]
    fn elements_of_arrays_and_names_with_slashes_can_be_a_key() {
        let rules = Rules {
            key: vec!["/ids/1".to_owned(), "/a~1b/~0".to_owned()],
            version: None,
            tombstone: None,
            keep_unkeyed: false,
        };
        let hash = |record: &str| judge(&rules).judge(record.as_bytes()).map(|keyed| keyed.hash);
        let one = hash(r#"{"ids":[1,2,3],"a/b":{"~":true}}"#);
        assert!(one.is_ok());
        assert_eq!(hash(r#"{"a/b":{"~":true},"ids":[9,2]}"#), one);
        assert!(hash(r#"{"ids":[1],"a/b":{"~":true}}"#).is_err());
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::{Value, json};
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|quarters| json!(f64::from(quarters) / 4.0)),
            "[a-c\"\\\\\u{e9}\n]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c/~]{0,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn pointers_find_what_a_whole_parser_finds(
            value in json(), pretty in any::<bool>(), pointers in prop::collection::vec("(/([a-c]{0,2}|~0|~1|[0-2])){0,3}", 1..4),
        ) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let mut found = vec![None; pointers.len()];
            let tree = json::Pointers::new(pointers.iter().map(String::as_str));
            prop_assert_eq!(tree.find(&text, &mut found), Ok(()));
            for (pointer, found) in pointers.iter().zip(found) {
                let found = found.map(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).unwrap());
                prop_assert_eq!(found.as_ref(), value.pointer(pointer));
            }
        }

        #[test]
        fn what_is_cut_or_altered_is_refused_or_valid_all_the_same(
            value in json(), at in any::<prop::sample::Index>(), byte in prop::sample::select(b"{}[]\",:\\ue01.-+ tx".to_vec()),
        ) {
            let mut text = serde_json::to_vec(&value).unwrap();
            let at = at.index(text.len());
            text[at] = byte;
            let valid = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).is_ok();
            let tree = json::Pointers::new([""]);
            for text in [&text[..], &text[..at]] {
                let ours = tree.find(text, &mut [None]).is_ok();
                // Numbers beyond all use and what is no text are not looked at here.
                let lenient =
                    text.contains(&b'e') || text.contains(&b'u') || std::str::from_utf8(text).is_err();
                prop_assert!(ours == valid(text) || ours && lenient, "{}", String::from_utf8_lossy(text));
            }
        }
    }
}
