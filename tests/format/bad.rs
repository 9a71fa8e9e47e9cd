//! Sources that are not what they should be: each gets its error, whatever the chunks, and none gets
//! more memory than a sound one.

use bytes::Bytes;
use compaction_operator::format::{BadSource, Codec, Compression, Counts, Offset, Settings, Step, merge};

use super::model::{Cut, Member, Source, decoded, gzip_member, run, settings, zstd_frame};

const TEXT: &[u8] = b"{\"id\":1,\"text\":\"some text\"}\n{\"id\":2,\"text\":\"some other text\"}\n";

/// Small chunks, and all at once.
const CHUNKS: [usize; 3] = [1, 7, usize::MAX];

fn member(raw: &[u8]) -> Member {
    // With the checksum and without the content size.
    Member {
        raw: raw.to_vec(),
        style: 0x66,
    }
}

fn compressed(codec: Codec, raw: &[u8]) -> Vec<u8> {
    if codec == Codec::Gzip {
        gzip_member(&member(raw))
    } else {
        zstd_frame(&member(raw))
    }
}

/// Merges one source into every kind of output in several ways of chunking.
fn outcomes(stored: &[u8]) -> Vec<Result<Vec<u8>, BadSource>> {
    let mut outcomes = Vec::new();
    for compression in [
        Compression::Auto,
        Compression::None,
        Compression::Gzip,
        Compression::Zstd,
    ] {
        for chunk in CHUNKS {
            let merged = run(&settings(compression, 16), &[stored.to_vec()], None, || chunk);
            outcomes.push(merged.map(|merged| decoded(merged.cuts.last().unwrap().codec, &merged.out)));
        }
    }
    outcomes
}

fn assert_refused(stored: &[u8], why: &BadSource) {
    for outcome in outcomes(stored) {
        assert_eq!(outcome.as_ref(), Err(why), "{stored:x?}");
    }
}

fn detail(stored: &[u8]) -> String {
    let mut details = outcomes(stored).into_iter().map(|outcome| match outcome {
        Err(BadSource::Corrupt { detail, .. }) => detail,
        other => panic!("{other:?}"),
    });
    let first = details.next().unwrap();
    assert!(details.all(|detail| detail == first));
    first
}

#[test]
fn a_source_cut_off_anywhere_is_truncated() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let whole = compressed(codec, TEXT);
        let magic = if codec == Codec::Gzip { 2 } else { 4 };
        for len in magic..whole.len() {
            assert_refused(&whole[..len], &BadSource::Truncated(codec));
            let second = [&whole[..], &whole[..len]].concat();
            assert_refused(&second, &BadSource::Truncated(codec));
        }
        for len in 1..magic {
            assert_refused(
                &[&whole[..], &whole[..len]].concat(),
                &BadSource::Truncated(codec),
            );
        }
    }
    assert_refused(
        b"\x50\x2a\x4d\x18\x05\0\0\0cut",
        &BadSource::Truncated(Codec::Zstd),
    );
}

#[test]
fn a_flipped_bit_is_an_error_or_changes_no_record() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let whole = compressed(codec, TEXT);
        let magic = if codec == Codec::Gzip { 2 } else { 4 };
        let mut refused = 0;
        for bit in magic * 8..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let outcomes = outcomes(&flipped);
            if outcomes[0].is_err() {
                refused += 1;
                assert!(outcomes.iter().all(Result::is_err), "bit {bit}: {outcomes:?}");
            } else {
                assert!(outcomes.iter().all(|raw| raw.as_deref() == Ok(TEXT)), "bit {bit}");
            }
        }
        assert!(refused > whole.len() * 4, "{refused} of {} bits", whole.len() * 8);
    }
}

#[test]
fn a_wrong_checksum_or_length_is_corrupt() {
    for (codec, from_end, text) in [
        (Codec::Gzip, 8, "incorrect data check"),
        (Codec::Gzip, 1, "incorrect length check"),
        (Codec::Zstd, 1, "checksum"),
    ] {
        let mut stored = compressed(codec, TEXT);
        let at = stored.len() - from_end;
        stored[at] ^= 1;
        assert!(detail(&stored).contains(text), "{}", detail(&stored));
    }
}

#[test]
fn bytes_after_the_last_member_are_garbage() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let other = compressed(
            if codec == Codec::Gzip {
                Codec::Zstd
            } else {
                Codec::Gzip
            },
            TEXT,
        );
        for garbage in [
            &b"\0"[..],
            b"\0\0\0\0\0\0\0\0\0\0\0\0",
            b"x",
            b"{\"id\":3}\n",
            b"\x1f\x8c",
            b"\x28\xb6",
            &other,
        ] {
            assert_refused(
                &[&compressed(codec, TEXT), garbage].concat(),
                &BadSource::TrailingGarbage(codec),
            );
        }
    }
}

#[test]
fn a_source_that_only_begins_like_gzip_or_zstd_is_corrupt() {
    assert!(!detail(b"\x1f\x8b is how this text begins\n").is_empty());
    assert!(!detail(b"\x28\xb5\x2f\xfd\xff\xff\xff\xff is how this text begins\n").is_empty());
}

#[test]
fn a_record_may_be_as_long_as_the_limit_and_no_longer() {
    let limit = 100_000;
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            for (len, tail) in [
                (limit, &b"\nb\n"[..]),
                (limit, b""),
                (limit + 1, b"\nb\n"),
                (limit + 1, b""),
            ] {
                let raw = [b"a\n", &b"x".repeat(len)[..], tail].concat();
                let stored = Source::new(codec, &[&raw]).stored();
                let settings = Settings {
                    max_record_bytes: limit as u64,
                    ..settings(compression, 64)
                };
                for chunk in [999, usize::MAX] {
                    let merged = run(&settings, std::slice::from_ref(&stored), None, || chunk);
                    let refused = Err(BadSource::RecordTooLong { limit: limit as u64 });
                    assert_eq!(merged.map(drop), if len > limit { refused } else { Ok(()) });
                }
            }
        }
    }
}

#[test]
fn records_are_measured_however_short_the_limit_is() {
    let raw = b"abc\n\nab\nabc\nabcd\n";
    for limit in 0..6 {
        let settings = Settings {
            max_record_bytes: limit,
            ..settings(Compression::None, 1000)
        };
        let merged = run(&settings, &[raw.to_vec()], None, || usize::MAX);
        assert_eq!(merged.is_ok(), limit >= 4, "{limit}");
    }
}

/// A zstd frame of 128 KiB blocks that are one byte repeated.
fn zstd_bomb(byte: u8, blocks: usize) -> Vec<u8> {
    let mut stored = b"\x28\xb5\x2f\xfd\x00\x38".to_vec();
    for block in 1..=blocks {
        let header = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
        stored.extend(&header.to_le_bytes()[..3]);
        stored.push(byte);
    }
    stored
}

/// Merges one source in one chunk; the error, and the most bytes that any call appended.
fn merged_to_the_end(settings: &Settings, stored: Vec<u8>) -> (Option<BadSource>, usize) {
    let mut merge = merge(settings, None);
    merge.begin(None);
    merge.feed(Bytes::from(stored));
    let mut most = 0;
    loop {
        let mut out = Vec::new();
        let step = merge.advance(&mut out);
        most = most.max(out.len());
        match step {
            Ok(Step::More | Step::Cut) => {}
            Ok(Step::NeedInput) => merge.end_source(),
            Ok(Step::SourceEnd { .. }) => return (None, most),
            Err(error) => return (Some(error), most),
        }
    }
}

#[test]
fn a_decompression_bomb_is_refused_in_bounded_steps() {
    let bomb = zstd_bomb(b'\n', 1 << 16);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (error, most) = merged_to_the_end(&settings(compression, 1 << 20), bomb.clone());
        assert!(matches!(error, Some(BadSource::Bomb { .. })), "{error:?}");
        assert!(most <= 3 << 20, "{most}");
    }
    // Half the floor is not worth refusing.
    assert_eq!(
        merged_to_the_end(&settings(Compression::None, 1 << 20), zstd_bomb(b'\n', 256)).0,
        None
    );
}

#[test]
fn gzip_of_one_byte_repeated_is_no_bomb() {
    let stored = gzip_member(&Member {
        raw: b"\n".repeat(80 << 20),
        style: 9,
    });
    assert!(stored.len() < 90_000);
    let (error, most) = merged_to_the_end(&settings(Compression::None, 1 << 20), stored);
    assert_eq!(error, None);
    assert!(most <= 3 << 20, "{most}");
}

#[test]
fn a_record_without_end_is_refused_before_it_is_held() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (error, most) = merged_to_the_end(&settings(compression, 1 << 20), zstd_bomb(b'x', 4096));
        assert_eq!(error, Some(BadSource::RecordTooLong { limit: 1 << 20 }));
        assert!(most <= 3 << 20, "{most}");
    }
}

#[test]
fn a_zstd_frame_that_asks_for_more_than_8_mib_is_refused_however_small_it_is() {
    // A raw block "ab\n" in a frame with the window of its second to last header byte.
    let frame = |header: &[u8]| [b"\x28\xb5\x2f\xfd", header, b"\x19\0\0ab\n"].concat();
    // 8 MiB, without and with the content size; a single segment of 3 bytes.
    for sound in [&b"\x00\x68"[..], b"\x80\x68\x03\0\0\0", b"\x20\x03"] {
        let stored = frame(sound);
        assert!(
            outcomes(&stored).iter().all(|raw| raw.as_deref() == Ok(b"ab\n")),
            "{stored:x?}"
        );
    }
    // One eighth more; 128 MiB with a content size that fits; a single segment of 8 MiB and a byte.
    for (greedy, window) in [
        (&b"\x00\x69"[..], 9 << 20),
        (b"\x80\x88\x03\0\0\0", 128 << 20),
        (b"\xa0\x01\0\x80\0", (8 << 20) + 1),
        (b"\xe0\x01\0\x80\0\0\0\0\0", (8 << 20) + 1),
    ] {
        let refused = format!("a frame needs a window of {window} bytes, and at most 8388608 are allowed");
        assert_eq!(detail(&frame(greedy)), refused);
    }
}

#[test]
fn a_zstd_frame_that_holds_less_or_more_than_it_says_is_corrupt() {
    // An empty last block where one byte is promised, three bytes where two are.
    for frame in [
        &b"\x28\xb5\x2f\xfd\x20\x01\x01\0\0"[..],
        b"\x28\xb5\x2f\xfd\x20\x02\x19\0\0ab\n",
    ] {
        assert!(
            outcomes(frame)
                .iter()
                .all(|outcome| matches!(outcome, Err(BadSource::Corrupt { .. })))
        );
    }
}

#[test]
fn a_zstd_frame_that_needs_a_dictionary_is_corrupt() {
    assert_eq!(
        detail(b"\x28\xb5\x2f\xfd\x01\x68\x07\x19\0\0ab\n"),
        "Dictionary mismatch"
    );
}

#[test]
fn an_offset_past_the_end_of_a_source_is_an_error() {
    let start = |skip| Cut {
        source: 0,
        offset: Some(Offset {
            codec: Codec::Gzip,
            stored: 0,
            skip,
        }),
        codec: Some(Codec::None),
        out: 0,
        counts: Counts::default(),
    };
    let stored = [compressed(Codec::Gzip, TEXT)];
    let all = TEXT.len() as u64;
    let merged = run(&settings(Compression::None, 16), &stored, Some(&start(all)), || 9).unwrap();
    assert_eq!(merged.out, b"");
    let merged = run(
        &settings(Compression::None, 16),
        &stored,
        Some(&start(all + 1)),
        || 9,
    );
    assert!(matches!(merged, Err(BadSource::Corrupt { .. })), "{merged:?}");
}
