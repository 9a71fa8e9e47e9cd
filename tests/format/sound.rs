//! Sound sources: what comes out, where it is cut, and that a merge can go on at every cut.

use std::io::Write;
use std::process::{Command, Stdio};

use compaction_operator::api::CUT_BYTES;
use compaction_operator::format::{Codec, Compression, Counts, Offset, Settings};
use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{Cut, Member, Merged, Source, decoded, naive, run, settings};

const COMPRESSIONS: [Compression; 4] = [
    Compression::Auto,
    Compression::None,
    Compression::Gzip,
    Compression::Zstd,
];
const CODECS: [Codec; 3] = [Codec::None, Codec::Gzip, Codec::Zstd];

fn any_member() -> impl Strategy<Value = Member> {
    let byte = prop_oneof![3 => Just(b'\n'), 1 => Just(b'\r'), 12 => b'a'..=b'd', 2 => any::<u8>()];
    let raw = prop_oneof![1 => Just(Vec::new()), 4 => vec(byte.clone(), 0..40), 1 => vec(byte, 0..700)];
    (raw, any::<u8>()).prop_map(|(raw, style)| Member { raw, style })
}

fn any_source() -> impl Strategy<Value = Source> {
    let codec = proptest::sample::select(&CODECS[..]);
    (codec, vec(any_member(), 0..5))
        .prop_map(|(codec, members)| Source { codec, members })
        .prop_filter("begins like another codec", Source::is_what_it_seems)
}

fn any_sources() -> impl Strategy<Value = Vec<Source>> {
    vec(any_source(), 0..6)
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let cut_bytes = proptest::sample::select(&[0, 1, 2, 64, 64, 64, 300, CUT_BYTES][..]);
    (proptest::sample::select(&COMPRESSIONS[..]), cut_bytes)
        .prop_map(|(compression, cut_bytes)| settings(compression, cut_bytes))
}

fn stored(sources: &[Source]) -> Vec<Vec<u8>> {
    sources.iter().map(Source::stored).collect()
}

/// Chunk lengths of all sizes, the same for the same seed.
fn chunks(seed: u64) -> impl FnMut() -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    move || {
        let most = 1 << random.u8(0..12);
        random.usize(1..=most)
    }
}

fn assert_like_naive(settings: &Settings, sources: &[Source], merged: &Merged) {
    let naive = naive(settings, sources);
    assert_eq!(
        merged
            .cuts
            .iter()
            .map(|cut| cut.counts.raw_bytes as usize)
            .collect::<Vec<_>>(),
        naive.cuts
    );
    assert_eq!(merged.cuts.last().unwrap().codec, naive.codec);
    for cut in &merged.cuts {
        let raw = decoded(cut.codec, &merged.out[..cut.out]);
        assert_eq!(raw, naive.raw[..cut.counts.raw_bytes as usize]);
        assert!(raw.is_empty() || raw.ends_with(b"\n"));
        assert_eq!(
            cut.counts.records,
            raw.iter().filter(|byte| **byte == b'\n').count() as u64
        );
    }
}

/// What a merge that goes on at `cut` has to come to.
fn rest_after(merged: &Merged, index: usize) -> Merged {
    let from = &merged.cuts[index];
    let cuts = merged.cuts[index + 1..].iter().map(|cut| Cut {
        out: cut.out - from.out,
        counts: Counts {
            records: cut.counts.records - from.counts.records,
            raw_bytes: cut.counts.raw_bytes - from.counts.raw_bytes,
        },
        ..cut.clone()
    });
    Merged {
        out: merged.out[from.out..].to_vec(),
        cuts: cuts.collect(),
    }
}

fn assert_resumable(settings: &Settings, stored: &[Vec<u8>], merged: &Merged, seed: u64) {
    // The last one is the end of the group.
    for (index, cut) in merged.cuts.split_last().unwrap().1.iter().enumerate() {
        let resumed = run(settings, stored, Some(cut), chunks(seed)).unwrap();
        assert_eq!(resumed, rest_after(merged, index), "from {cut:?}");
    }
}

proptest! {

    #[test]
    fn records_and_cuts_are_those_of_a_naive_merge(sources in any_sources(), settings in any_settings()) {
        let merged = run(&settings, &stored(&sources), None, || usize::MAX).unwrap();
        assert_like_naive(&settings, &sources, &merged);
    }

    #[test]
    fn no_chunking_moves_a_byte_or_a_cut(
        sources in any_sources(), settings in any_settings(), seed in any::<u64>()
    ) {
        let stored = stored(&sources);
        let whole = run(&settings, &stored, None, || usize::MAX).unwrap();
        prop_assert_eq!(&run(&settings, &stored, None, chunks(seed)).unwrap(), &whole);
        prop_assert_eq!(&run(&settings, &stored, None, || 1).unwrap(), &whole);
    }

    #[test]
    fn every_cut_yields_the_same_remaining_bytes_and_cuts(
        sources in any_sources(), settings in any_settings(), seed in any::<u64>()
    ) {
        let stored = stored(&sources);
        let merged = run(&settings, &stored, None, || usize::MAX).unwrap();
        assert_resumable(&settings, &stored, &merged, seed);
    }

    #[test]
    fn no_chunking_changes_what_is_refused(
        sources in any_sources(),
        settings in any_settings(),
        edits in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..3, any::<u8>()), 1..4),
        seed in any::<u64>(),
    ) {
        let mut stored = stored(&sources);
        for (source, at, edit, byte) in edits {
            if let Some(source) = (!stored.is_empty()).then(|| source.get_mut(&mut stored[..]))
                && !source.is_empty()
            {
                let at = at.index(source.len());
                match edit {
                    0 => source[at] ^= byte,
                    1 => source.truncate(at),
                    _ => source.insert(at, byte),
                }
            }
        }
        // The decoders' words for the same fault differ.
        let whole = run(&settings, &stored, None, || usize::MAX).ok();
        prop_assert_eq!(&run(&settings, &stored, None, chunks(seed)).ok(), &whole);
        prop_assert_eq!(&run(&settings, &stored, None, || 1).ok(), &whole);
    }
}

/// Some MiB of lines of all lengths up to a few KiB.
fn long_raw(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut raw = Vec::new();
    while raw.len() < len {
        let most = 1 << random.u8(1..12);
        raw.extend((0..random.usize(0..most)).map(|_| random.u8(b'a'..b'q')));
        raw.push(b'\n');
    }
    raw.pop();
    raw
}

#[test]
fn sources_far_longer_than_any_buffer_are_merged_between_all_codecs() {
    let sources: Vec<Source> = (0..7)
        .map(|i| {
            let raw = long_raw(i, 1_500_000);
            let (first, second) = raw.split_at(700_000);
            Source::new(CODECS[i as usize % 3], &[first, b"", second])
        })
        .collect();
    let stored = stored(&sources);
    for compression in COMPRESSIONS {
        let settings = settings(compression, 1 << 20);
        let merged = run(&settings, &stored, None, || 1 << 20).unwrap();
        assert_like_naive(&settings, &sources, &merged);
        assert!(merged.cuts.len() > sources.len());
        assert_eq!(run(&settings, &stored, None, || 70_001).unwrap(), merged);
        assert_resumable(&settings, &stored, &merged, 1);
    }
}

#[test]
fn tiny_sources_are_merged() {
    for compression in COMPRESSIONS {
        let settings = settings(compression, 64);
        let sources = [&b""[..], b"a", b"\n", b"", b"ab\n", b"\x1f", b"\x28\xb5\x2f"]
            .map(|raw| Source::new(Codec::None, &[raw]));
        let merged = run(&settings, &stored(&sources), None, || 1).unwrap();
        assert_like_naive(&settings, &sources, &merged);
        let raw = decoded(merged.cuts.last().unwrap().codec, &merged.out);
        assert_eq!(raw, b"a\n\nab\n\x1f\n\x28\xb5\x2f\n");
    }
}

#[test]
fn sources_without_any_bytes_leave_the_codec_open_and_the_output_empty() {
    let sources = [vec![], vec![]];
    let merged = run(&settings(Compression::Auto, 64), &sources, None, || 1).unwrap();
    assert_eq!(merged.out, b"");
    assert!(merged.cuts.iter().all(|cut| cut.codec.is_none()));
}

#[test]
fn compressed_sources_without_records_are_kept_as_they_are() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let sources = [Source::new(codec, &[b"", b""]), Source::new(codec, &[b"a\n"])];
        let merged = run(&settings(Compression::Auto, 64), &stored(&sources), None, || 1).unwrap();
        assert_eq!(merged.out, stored(&sources).concat());
        assert_eq!(
            merged.cuts.last().unwrap().counts,
            Counts {
                records: 1,
                raw_bytes: 2
            }
        );
    }
}

#[test]
fn carriage_returns_are_content() {
    for compression in COMPRESSIONS {
        let sources = [
            Source::new(Codec::None, &[b"a\r\nb\r\n\r"]),
            Source::new(Codec::Gzip, &[b"\r\nc\r"]),
        ];
        let merged = run(&settings(compression, 64), &stored(&sources), None, || 2).unwrap();
        let last = merged.cuts.last().unwrap();
        assert_eq!(decoded(last.codec, &merged.out), b"a\r\nb\r\n\r\n\r\nc\r\n");
        assert_eq!(last.counts.records, 5);
    }
}

#[test]
fn an_open_frame_is_handed_out_before_stored_bytes_follow() {
    let sources = [
        Source::new(Codec::None, &[b"a\n"]),
        Source::new(Codec::Gzip, &[b"b\n"]),
    ];
    let merged = run(
        &settings(Compression::Gzip, CUT_BYTES),
        &stored(&sources),
        None,
        || 3,
    )
    .unwrap();
    let cut = &merged.cuts[0];
    let offset = cut.offset.unwrap();
    assert_eq!(
        (cut.source, offset.codec, offset.stored, offset.skip),
        (1, Codec::Gzip, 0, 0)
    );
    assert_eq!(decoded(Some(Codec::Gzip), &merged.out[..cut.out]), b"a\n");
    assert_eq!(merged.out[cut.out..], sources[1].stored());
}

#[test]
fn a_start_inside_a_member_never_hands_out_its_stored_bytes() {
    let start = Cut {
        source: 0,
        offset: Some(Offset {
            codec: Codec::Gzip,
            stored: 0,
            skip: 2,
        }),
        codec: Some(Codec::Gzip),
        out: 0,
        counts: Counts::default(),
    };
    let sources = [Source::new(Codec::Gzip, &[b"a\nb\n", b"c\n"])];
    let merged = run(
        &settings(Compression::Gzip, 64),
        &stored(&sources),
        Some(&start),
        || 9,
    )
    .unwrap();
    assert_eq!(decoded(Some(Codec::Gzip), &merged.out), b"b\nc\n");
}

fn gunzip(stored: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    gzip.stdin.take().unwrap().write_all(stored).unwrap();
    let read = gzip.wait_with_output().unwrap();
    assert!(read.status.success());
    read.stdout
}

#[test]
fn the_gzip_of_the_system_reads_the_outputs() {
    let mixed = [
        Source::new(Codec::Gzip, &[b"a\nb", b"", b"c"]),
        Source::new(Codec::None, &[b"d\ne\n"]),
        Source::new(Codec::Zstd, &[b"f"]),
    ];
    let merged = run(&settings(Compression::Gzip, 4), &stored(&mixed), None, || 5).unwrap();
    assert_eq!(gunzip(&merged.out), b"a\nbc\nd\ne\nf\n");
}

/// RFC 1952 does not limit them, and a header may come in many chunks.
#[test]
fn a_gzip_member_may_have_a_name_of_any_length() {
    let name = vec![b'n'; 70_000];
    let mut member = flate2::GzBuilder::new()
        .filename(name)
        .write(Vec::new(), flate2::Compression::fast());
    member.write_all(b"a\nb").unwrap();
    let sources = [member.finish().unwrap(), b"c\n".to_vec()];
    for compression in COMPRESSIONS {
        let merged = run(&settings(compression, 4), &sources, None, || 1000).unwrap();
        let counts = merged.cuts.last().unwrap().counts;
        assert_eq!((counts.records, counts.raw_bytes), (3, 6), "{compression:?}");
        if matches!(compression, Compression::Auto | Compression::Gzip) {
            assert_eq!(gunzip(&merged.out), b"a\nb\nc\n");
        }
    }
}
