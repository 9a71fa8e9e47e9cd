use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SHAPE: Shape = Shape {
    min_sources_per_group: 1,
    segment_bytes: 1 << 30,
    target_bytes: 1000,
    parallelism: 4,
};

/// What came of a listing.
struct Built {
    outline: Outline,
    segments: BTreeMap<u32, Segment>,
    /// Numbers of groups by directory, as `take` told them.
    ordinals: BTreeMap<String, BTreeSet<u64>>,
}

fn hash(number: u32) -> String {
    format!("hash {number}")
}

fn source(key: &str, size: u64) -> Source {
    Source {
        key: key.to_owned(),
        etag: format!("etag of {key}"),
        size,
    }
}

fn directory(key: &str) -> &str {
    key.rfind('/').map_or("", |slash| &key[..=slash])
}

/// Casts a listing by directory; `None` is an object that is left out.
fn build(shape: Shape, listing: &BTreeMap<String, Option<u64>>, group: fn(&str) -> &str) -> Built {
    let mut builder = Builder::new(shape);
    let mut full = Vec::new();
    let mut ordinals: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (key, size) in listing {
        let Some(size) = size else {
            builder.leave(LeftOut::Excluded, key);
            continue;
        };
        let ordinal = builder.take(group(key).to_owned(), source(key, *size), &mut full);
        ordinals.entry(group(key).to_owned()).or_default().insert(ordinal);
        let depth = key.matches('/').count();
        assert!(builder.open.len() <= depth + 1, "groups stay open");
    }
    builder.finish(&mut full);
    let hashes = full.iter().map(|(number, _)| (*number, hash(*number))).collect();
    let handed_out = full.len();
    let segments: BTreeMap<u32, Segment> = full.into_iter().collect();
    assert_eq!(segments.len(), handed_out, "two segments of one number");
    Built {
        outline: builder.outline(&hashes),
        segments,
        ordinals,
    }
}

fn sources(segment: &Segment) -> Vec<&Source> {
    let sources = segment.entries.iter().filter_map(|entry| match entry {
        Entry::Source(source) => Some(source),
        Entry::Group { .. } => None,
    });
    sources.collect()
}

/// Directory and keys of each run of sources, in the order of the plan; runs of one group that follow
/// each other over the end of a segment are one.
fn runs(built: &Built) -> Vec<(String, Vec<String>)> {
    let mut runs: Vec<(String, Vec<String>)> = Vec::new();
    for reference in &built.outline.segments {
        let segment = &built.segments[&reference.number];
        assert!(
            matches!(segment.entries.first(), Some(Entry::Group { .. })),
            "a segment begins with its group"
        );
        for entry in &segment.entries {
            match entry {
                Entry::Group { directory, .. } => {
                    if runs.last().is_none_or(|(last, _)| last != directory) {
                        runs.push((directory.clone(), Vec::new()));
                    }
                }
                Entry::Source(source) => {
                    assert_eq!(source.etag, format!("etag of {}", source.key));
                    runs.last_mut().unwrap().1.push(source.key.clone());
                }
            }
        }
    }
    runs
}

/// Keys by group, in their order, as they must come out.
fn expected(
    shape: Shape,
    listing: &BTreeMap<String, Option<u64>>,
    group: fn(&str) -> &str,
) -> (BTreeMap<String, Vec<String>>, BTreeMap<String, Vec<String>>) {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in listing
        .iter()
        .filter(|(_, size)| size.is_some())
        .map(|(key, _)| key)
    {
        groups.entry(group(key).to_owned()).or_default().push(key.clone());
    }
    groups
        .into_iter()
        .partition(|(_, keys)| keys.len() as u64 >= shape.min_sources_per_group)
}

fn check(shape: Shape, listing: &BTreeMap<String, Option<u64>>, group: fn(&str) -> &str) {
    let built = build(shape, listing, group);
    let (kept, small) = expected(shape, listing, group);
    let runs = runs(&built);
    let count = runs.len();
    let by_group: BTreeMap<_, _> = runs.into_iter().collect();
    assert_eq!(by_group.len(), count, "the sources of a group are not contiguous");
    assert_eq!(by_group, kept);
    check_segments(shape, listing, &built);
    check_shards(shape, &built.outline);
    check_totals(shape, listing, &built, &kept, &small);
}

fn check_segments(shape: Shape, listing: &BTreeMap<String, Option<u64>>, built: &Built) {
    let references = &built.outline.segments;
    let numbers: BTreeSet<u32> = references.iter().map(|r| r.number).collect();
    assert_eq!(
        numbers,
        built.segments.keys().copied().collect(),
        "every segment is named"
    );
    assert_eq!(numbers.len(), references.len());
    let largest = listing.values().flatten().max().copied().unwrap_or_default();
    // A segment ends after the source that fills it. Two that are not full may become one. And a group
    // is not begun before it is known to be large enough.
    let bytes = (2 * shape.segment_bytes).max(shape.segment_bytes + largest);
    let bytes = bytes.max(shape.min_sources_per_group * largest);
    for reference in references {
        let sources = sources(&built.segments[&reference.number]);
        assert_eq!(reference.sources, sources.len() as u64);
        assert_eq!(reference.bytes, sources.iter().map(|s| s.size).sum::<u64>());
        assert_eq!(reference.sha256, hash(reference.number));
        assert!(!sources.is_empty());
        assert!(
            reference.sources < 2 * SEGMENT_SOURCES as u64,
            "{} sources",
            reference.sources
        );
        assert!(reference.bytes <= bytes, "{} bytes", reference.bytes);
    }
}

fn check_shards(shape: Shape, outline: &Outline) {
    let Outline { segments, shards, .. } = outline;
    assert!(shards.len() <= shape.parallelism);
    assert_eq!(shards.is_empty(), segments.is_empty());
    let mut next = 0;
    for shard in shards {
        assert_eq!(shard.first, next, "shards follow each other");
        assert!(shard.count > 0, "an empty shard");
        next += shard.count;
        let own = &segments[shard.first..next];
        assert_eq!(shard.sources, own.iter().map(|s| s.sources).sum::<u64>());
        assert_eq!(shard.bytes, own.iter().map(|s| s.bytes).sum::<u64>());
    }
    assert_eq!(next, segments.len());
}

fn check_totals(
    shape: Shape,
    listing: &BTreeMap<String, Option<u64>>,
    built: &Built,
    kept: &BTreeMap<String, Vec<String>>,
    small: &BTreeMap<String, Vec<String>>,
) {
    let bytes = |keys: &Vec<String>| keys.iter().filter_map(|key| listing[key]).sum::<u64>();
    let totals = built.outline.totals;
    let excluded = listing.values().filter(|size| size.is_none()).count() as u64;
    let too_small = small.values().map(Vec::len).sum::<usize>() as u64;
    let outputs = |keys| bytes(keys).div_ceil(shape.target_bytes).max(1);
    let expected = Totals {
        sources: kept.values().map(Vec::len).sum::<usize>() as u64,
        bytes: kept.values().map(bytes).sum(),
        groups: kept.len() as u64,
        left_out: excluded + too_small,
        estimated_outputs: kept.values().map(outputs).sum(),
    };
    assert_eq!(totals, expected);
    for (reason, objects) in [(LeftOut::Excluded, excluded), (LeftOut::GroupTooSmall, too_small)] {
        let count = built.outline.left_out.get(&reason).cloned().unwrap_or_default();
        assert_eq!(count.objects, objects, "{reason:?}");
        assert_eq!(count.examples.len() as u64, objects.min(3));
    }
    let dropped: Vec<u64> = built.outline.dropped.clone();
    assert!(dropped.is_sorted());
    let expected: BTreeSet<u64> = small.keys().flat_map(|d| built.ordinals[d].clone()).collect();
    assert_eq!(dropped.into_iter().collect::<BTreeSet<_>>(), expected);
    let all: BTreeSet<u64> = built.ordinals.values().flatten().copied().collect();
    assert_eq!(
        all.len(),
        built.ordinals.len(),
        "every group has one number of its own"
    );
}

fn listing() -> impl Strategy<Value = BTreeMap<String, Option<u64>>> {
    // Characters on both sides of the slash, so that directories and their siblings mix.
    let key = "([a!~é-]{0,2}/){0,4}[a!~é-]{1,2}";
    let size = proptest::option::weighted(0.9, 0_u64..100);
    proptest::collection::btree_map(key, size, 0..120)
}

fn shape() -> impl Strategy<Value = Shape> {
    (1_u64..5, 1_u64..400, 1_u64..300, 1_usize..6).prop_map(
        |(min_sources_per_group, segment_bytes, target_bytes, parallelism)| Shape {
            min_sources_per_group,
            segment_bytes,
            target_bytes,
            parallelism,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_listing_is_cast_into_a_plan(shape in shape(), listing in listing()) {
        check(shape, &listing, directory);
    }

    #[test]
    fn any_listing_is_cast_into_one_group(shape in shape(), listing in listing()) {
        check(shape, &listing, |_| "");
    }
}

/// `count` keys in each of the directories.
fn many(directories: usize, count: usize) -> BTreeMap<String, Option<u64>> {
    (0..directories)
        .flat_map(|d| (0..count).map(move |n| (format!("{d:04}/{n:06}.json"), Some(10))))
        .collect()
}

#[test]
fn a_large_group_is_cut_into_segments_while_it_is_listed() {
    let listing = many(1, 5 * SEGMENT_SOURCES + 1);
    check(SHAPE, &listing, directory);
    let segments = build(SHAPE, &listing, directory).outline.segments;
    let sizes: Vec<u64> = segments.iter().map(|s| s.sources).collect();
    assert_eq!(sizes, [512, 512, 512, 512, 512, 1]);
}

#[test]
fn many_small_groups_share_segments() {
    let listing = many(3000, 2);
    check(SHAPE, &listing, directory);
    let segments = build(SHAPE, &listing, directory).outline.segments;
    assert_eq!(segments.len(), 6000_usize.div_ceil(SEGMENT_SOURCES));
}

#[test]
fn groups_just_below_a_segment_stay_within_twice_its_limit() {
    check(SHAPE, &many(9, SEGMENT_SOURCES - 1), directory);
    check(SHAPE, &many(9, SEGMENT_SOURCES / 2 + 1), directory);
}

#[test]
fn sources_of_a_directory_are_put_together_though_its_subdirectories_lie_between() {
    let keys = ["a/1", "a/b/2", "a/b/3", "a/c", "a/d/4", "a/e", "b"];
    let listing = keys.iter().map(|key| ((*key).to_owned(), Some(1))).collect();
    let found = runs(&build(SHAPE, &listing, directory));
    let a = found.iter().find(|(directory, _)| directory == "a/").unwrap();
    assert_eq!(a.1, ["a/1", "a/c", "a/e"]);
    check(SHAPE, &listing, directory);
}

#[test]
fn even_segments_are_shared_out_evenly() {
    let outline = build(SHAPE, &many(1, 100 * SEGMENT_SOURCES), directory).outline;
    let counts: Vec<usize> = outline.shards.iter().map(|s| s.count).collect();
    assert_eq!(counts, [25, 25, 25, 25]);
}

#[test]
fn one_heavy_segment_does_not_leave_a_shard_empty() {
    let mut listing = many(5, 1);
    for (key, size) in [("0000/000000.json", 1 << 40), ("0004/000000.json", 1 << 35)] {
        listing.insert(key.to_owned(), Some(size));
    }
    let shape = Shape {
        segment_bytes: 1,
        ..SHAPE
    };
    check(shape, &listing, directory);
    let outline = build(shape, &listing, directory).outline;
    assert_eq!(outline.segments.len(), 5);
    assert_eq!(outline.shards[0].count, 1, "the heavy one has a shard of its own");
}

#[test]
fn an_empty_listing_gives_an_empty_plan() {
    check(SHAPE, &BTreeMap::new(), directory);
}

#[test]
fn a_group_has_the_extension_of_its_first_source() {
    let keys = ["d/1.json.gz", "d/2.log"];
    let listing = keys.iter().map(|key| ((*key).to_owned(), Some(1))).collect();
    let built = build(SHAPE, &listing, directory);
    let extension = ".json".to_owned();
    let directory = "d/".to_owned();
    assert_eq!(
        built.segments[&0].entries[0],
        Entry::Group {
            ordinal: 0,
            directory,
            extension
        }
    );
}

#[test]
fn extensions_are_those_below_the_compression() {
    for (key, expected) in [
        ("logs/a.json.gz", ".json"),
        ("a.json", ".json"),
        ("a.JSON.zst", ".JSON"),
        ("a.b.ndjson.gzip", ".ndjson"),
        ("a.gz", ""),
        ("a", ""),
        ("d.d/a", ""),
        (".hidden", ""),
        (".gz", ""),
        ("a.", ""),
        ("a.json.gz.gz", ".gz"),
        ("a.elevenchars", ""),
        ("a.tencharact", ".tencharact"),
        ("a.js on", ""),
        ("a.é", ""),
    ] {
        assert_eq!(extension(key), expected, "{key}");
    }
}

/// A listing of two directories, with what earlier jobs made of the second.
fn with_earlier(shape: Shape, sources: usize, outputs: usize) -> (Outline, BTreeMap<u32, Segment>) {
    let earlier: Vec<Source> = (0..outputs)
        .map(|number| source(&format!("out/b/part-{number:05}"), 10))
        .collect();
    let mut builder = Builder::new(shape).with_earlier(BTreeMap::from([("b/".to_owned(), earlier)]));
    let mut full = Vec::new();
    for directory in ["a/", "b/"] {
        for number in 0..sources {
            let source = source(&format!("in/{directory}{number:05}"), 10);
            builder.take(directory.to_owned(), source, &mut full);
        }
    }
    builder.finish(&mut full);
    let hashes = full.iter().map(|(number, _)| (*number, hash(*number))).collect();
    (builder.outline(&hashes), full.into_iter().collect())
}

#[test]
fn earlier_outputs_come_before_everything_new_of_their_group() {
    let (outline, segments) = with_earlier(SHAPE, 2, 3);
    let entries = outline
        .segments
        .iter()
        .flat_map(|segment| &segments[&segment.number].entries);
    let keys: Vec<&str> = entries
        .filter_map(|entry| match entry {
            Entry::Source(source) => Some(source.key.as_str()),
            Entry::Group { .. } => None,
        })
        .collect();
    let of_b = [
        "out/b/part-00000",
        "out/b/part-00001",
        "out/b/part-00002",
        "in/b/00000",
        "in/b/00001",
    ];
    assert_eq!(keys[..2], ["in/a/00000", "in/a/00001"]);
    assert_eq!(keys[2..], of_b);
    assert_eq!(outline.superseded.len(), 3);
    assert_eq!((outline.totals.sources, outline.totals.bytes), (7, 70));
}

#[test]
fn earlier_outputs_do_not_make_a_group_large_enough() {
    let shape = Shape {
        min_sources_per_group: 3,
        ..SHAPE
    };
    let (outline, segments) = with_earlier(shape, 2, 600);
    assert!(segments.is_empty() && outline.superseded.is_empty());
    assert_eq!(outline.totals.left_out, 4);
    assert_eq!(outline.left_out[&LeftOut::GroupTooSmall].objects, 4);
}

#[test]
fn a_group_that_is_to_be_whole_lies_in_one_shard() {
    let shape = Shape {
        segment_bytes: 50,
        parallelism: 7,
        ..SHAPE
    };
    let (outline, segments) = with_earlier(shape, 40, 40);
    assert!(outline.segments.len() > 10);
    let mut shards_of: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (number, shard) in outline.shards.iter().enumerate() {
        for segment in &outline.segments[shard.first..shard.first + shard.count] {
            for entry in &segments[&segment.number].entries {
                if let Entry::Group { directory, .. } = entry {
                    shards_of.entry(directory.clone()).or_default().insert(number);
                }
            }
        }
    }
    assert_eq!(outline.shards.len(), 2);
    assert!(
        shards_of.values().all(|shards| shards.len() == 1),
        "{shards_of:?}"
    );
    let together: usize = outline.shards.iter().map(|shard| shard.count).sum();
    assert_eq!(together, outline.segments.len());
}
