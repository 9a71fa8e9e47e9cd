//! Formats: sources of any bytes, beside the ordinary decoders.

use std::io::Read;
use std::ops::ControlFlow;

use bytes::Bytes;
use compaction_operator::deduplicate::{Position, Selection, Survivors};
use compaction_operator::format::{
    BadSource, Codec, Compression, Counts, Kind, Merge, Offset, Scanned, Selected, Settings, Step, merge,
    scan, selected as merge_selected,
};
use crc_fast::{CrcAlgorithm, Digest};
use fastrand::Rng;

use crate::target::{Outcome, choices};

/// As the documentation says: nothing decodes to more than both of these.
const BOMB_RATIO: u64 = 1_100;
const BOMB_FLOOR: u64 = 64 << 20;
/// A decoded piece: so much may go beyond.
const PIECE: u64 = 256 << 10;
/// Outputs up to this are decoded again.
const DECODED_AGAIN: usize = 1 << 20;
/// Records that a selection knows of.
const KNOWN: u64 = 500;

fn settings(rng: &mut Rng) -> Settings {
    let compressions = [
        Compression::Auto,
        Compression::None,
        Compression::Gzip,
        Compression::Zstd,
    ];
    Settings {
        format: Kind::Lines,
        compression: compressions[rng.usize(..4)],
        cut_bytes: [1, 40, 1000, 64 << 10, 4 << 20][rng.usize(..5)],
        max_record_bytes: [10, 1000, 64 << 10, 8 << 20][rng.usize(..4)],
    }
}

/// Bytes told apart without being kept.
struct Bits {
    crc: Digest,
    length: u64,
    /// Not in the checksum yet: many small pieces at once are faster.
    open: Vec<u8>,
}

impl Bits {
    fn new() -> Self {
        Self {
            crc: Digest::new(CrcAlgorithm::Crc64Nvme),
            length: 0,
            open: Vec::new(),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.open.extend_from_slice(bytes);
        if self.open.len() >= 64 << 10 {
            self.crc.update(&self.open);
            self.open.clear();
        }
    }

    fn sum(mut self) -> (u64, u64) {
        self.crc.update(&self.open);
        (self.length, self.crc.finalize())
    }
}

/// Where a merge may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    source: usize,
    offset: Option<Offset>,
    codec: Option<Codec>,
    before: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Merged {
    out: (u64, u64),
    cuts: u64,
    counts: Counts,
    codec: Option<Codec>,
    /// One of the cuts, and what came after it.
    cut: Option<(Place, (u64, u64))>,
    /// All of it, if that is not much.
    whole: Option<Vec<u8>>,
}

/// How sources are merged.
struct Way<'a> {
    settings: &'a Settings,
    /// Of which records are kept, of all if there is none.
    kept: Option<&'a Selection>,
    /// The cut to remember.
    cut: u64,
}

impl Way<'_> {
    fn begin(&self, merge: &mut dyn Merge, at: Option<Offset>, before: u64) {
        merge.begin(at);
        if let Some(kept) = self.kept {
            let selection = kept.clone();
            merge.select(Selected { selection, before });
        }
    }

    fn merge(
        &self,
        sources: &[&[u8]],
        start: Option<&Place>,
        mut chunk: impl FnMut() -> usize,
    ) -> Result<Merged, BadSource> {
        let codec = start.and_then(|place| place.codec);
        let mut merge = match self.kept {
            None => merge(self.settings, codec),
            Some(_) => merge_selected(self.settings, codec),
        };
        let (mut all, mut since, mut cuts) = (Bits::new(), Bits::new(), 0);
        let (mut cut, mut whole, mut out) = (None, Some(Vec::new()), Vec::new());
        let mut take = |out: &mut Vec<u8>, since: &mut Bits| {
            all.add(out);
            since.add(out);
            whole = whole
                .take()
                .filter(|whole: &Vec<u8>| whole.len() + out.len() <= DECODED_AGAIN);
            if let Some(whole) = &mut whole {
                whole.extend_from_slice(out);
            }
            out.clear();
        };
        for (index, source) in sources
            .iter()
            .enumerate()
            .skip(start.map_or(0, |place| place.source))
        {
            let place = start.filter(|place| place.source == index);
            let at = place.and_then(|place| place.offset);
            let mut rest = &source[at.map_or(0, |at| at.stored as usize)..];
            self.begin(merge.as_mut(), at, place.map_or(0, |place| place.before));
            let mut ended = false;
            loop {
                let step = merge.advance(&mut out)?;
                take(&mut out, &mut since);
                let decoded = merge.counts().raw_bytes;
                let stored: usize = sources.iter().map(|source| source.len()).sum();
                let most = sources.len() as u64 * (BOMB_FLOOR + PIECE) + stored as u64 * BOMB_RATIO;
                assert!(decoded <= most, "{decoded} bytes come out of {stored}");
                let next = match step {
                    Step::More => continue,
                    Step::NeedInput => {
                        assert!(!ended, "input is needed after the last");
                        if rest.is_empty() {
                            merge.end_source();
                            ended = true;
                        }
                        let (now, later) = rest.split_at(chunk().min(rest.len()));
                        if !now.is_empty() {
                            merge.feed(Bytes::copy_from_slice(now));
                        }
                        rest = later;
                        continue;
                    }
                    Step::Cut => (index, Some(merge.offset())),
                    Step::SourceEnd { .. } => (index + 1, None),
                };
                if step != (Step::SourceEnd { cut: false }) {
                    if cuts == self.cut {
                        let (source, offset) = next;
                        let before = offset.map_or(0, |_| merge.records_before_offset());
                        let codec = merge.output_codec();
                        cut = Some(Place {
                            source,
                            offset,
                            codec,
                            before,
                        });
                        since = Bits::new();
                    }
                    cuts += 1;
                }
                if next.0 > index {
                    break;
                }
            }
        }
        merge.finish(&mut out);
        take(&mut out, &mut since);
        Ok(Merged {
            out: all.sum(),
            cuts,
            counts: merge.counts(),
            codec: merge.output_codec(),
            cut: cut.map(|place| (place, since.sum())),
            whole,
        })
    }
}

/// Chunks of all sizes, small ones only where there are few bytes.
fn chunks<'a>(rng: &'a mut Rng, sources: &[&[u8]]) -> impl FnMut() -> usize + 'a {
    let stored: usize = sources.iter().map(|source| source.len()).sum();
    let most = 1 << rng.u32(if stored > 4096 { 8..18 } else { 0..12 });
    move || rng.usize(1..=most)
}

pub fn merged(input: &[u8]) -> Outcome {
    let mut rng = choices(input);
    let at = rng.usize(..=input.len());
    let sources = if rng.bool() {
        vec![input]
    } else {
        vec![&input[..at], &input[at..]]
    };
    let settings = settings(&mut rng);
    let way = Way {
        settings: &settings,
        kept: None,
        cut: rng.u64(..5),
    };
    compare(&way, &sources, &mut rng, |_| true)
}

pub fn selected(input: &[u8]) -> Outcome {
    let mut rng = choices(input);
    let settings = settings(&mut rng);
    let (mut survivors, mut selection) = (Survivors::default(), Selection::none(0, 0));
    let odds = rng.u32(1..8);
    for record in 1..=KNOWN {
        if rng.u32(..8) < odds {
            survivors.push(Position::new(0, 0, record).unwrap());
        }
    }
    survivors.add_to(&mut selection);
    let way = Way {
        settings: &settings,
        kept: Some(&selection),
        cut: rng.u64(..5),
    };
    compare(&way, &[input], &mut rng, |record| selection.keeps(record))
}

/// The same in one chunk and in many, from the beginning and from a cut, and what ordinary decoders see.
fn compare(way: &Way<'_>, sources: &[&[u8]], rng: &mut Rng, keeps: impl Fn(u64) -> bool) -> Outcome {
    let whole = way.merge(sources, None, || usize::MAX);
    let pieces = way.merge(sources, None, chunks(rng, sources));
    let merged = match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => {
            assert_eq!(whole, pieces, "the size of chunks changes the output");
            whole
        }
        (Err(why), Err(_)) => return Outcome::Refused(why.to_string()),
        (whole, pieces) => panic!("the size of chunks changes what is refused: {whole:?}, {pieces:?}"),
    };
    if let Some((place, rest)) = &merged.cut {
        let again = way.merge(sources, Some(place), chunks(rng, sources));
        assert_eq!(again.map(|again| again.out).as_ref(), Ok(rest), "from {place:?}");
    }
    let (mut raw, mut records) = (Bits::new(), 0_u64);
    for source in sources {
        let mut number = 0;
        each_record(source, &mut |record| {
            number += 1;
            if keeps(number) {
                records += 1;
                raw.add(record);
                raw.add(b"\n");
            }
        });
    }
    let raw = raw.sum();
    assert_eq!((merged.counts.records, merged.counts.raw_bytes), (records, raw.0));
    if let Some(out) = &merged.whole {
        let mut found = Bits::new();
        decoder(merged.codec.unwrap_or(Codec::None), out, |bytes| found.add(bytes));
        assert_eq!(found.sum(), raw, "other records come out");
    }
    let cuts = merged.cuts.min(4);
    let (codec, format) = (merged.codec, way.settings.compression);
    Outcome::Accepted(format!("{codec:?} {format:?} {cuts}"))
}

/// As the first bytes tell it.
fn codec(stored: &[u8]) -> Codec {
    let skippable = stored.len() >= 4 && stored[0] >> 4 == 5 && stored[1..4] == [0x2a, 0x4d, 0x18];
    if stored.starts_with(&[0x1f, 0x8b]) {
        Codec::Gzip
    } else if stored.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable {
        Codec::Zstd
    } else {
        Codec::None
    }
}

/// Reads with the ordinary decoder, of gzip the ordinary inflater, which must not refuse what was accepted.
fn decoder(codec: Codec, stored: &[u8], mut take: impl FnMut(&[u8])) {
    let mut reader: Box<dyn Read + '_> = match codec {
        _ if stored.is_empty() => return,
        Codec::None => Box::new(stored),
        Codec::Gzip => return gzip_decoder(stored, take),
        Codec::Zstd => Box::new(zstd::Decoder::new(stored).unwrap()),
    };
    let mut piece = vec![0; 64 << 10];
    loop {
        match reader.read(&mut piece).unwrap() {
            0 => return,
            length => take(&piece[..length]),
        }
    }
}

/// Not flate2's own: that refuses names and comments from 64 KiB on, which RFC 1952 and `gzip` do not limit.
fn gzip_decoder(mut stored: &[u8], mut take: impl FnMut(&[u8])) {
    let mut piece = vec![0; 64 << 10];
    while !stored.is_empty() {
        let mut member = flate2::bufread::DeflateDecoder::new(&stored[gzip_header(stored)..]);
        let mut crc = flate2::Crc::new();
        loop {
            match member.read(&mut piece).unwrap() {
                0 => break,
                length => {
                    crc.update(&piece[..length]);
                    take(&piece[..length]);
                }
            }
        }
        let trailer = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
        stored = member.into_inner().strip_prefix(&trailer[..]).unwrap();
    }
}

/// Bytes before those of deflate (RFC 1952, 2.3), in which nothing is as it may not be.
fn gzip_header(member: &[u8]) -> usize {
    assert_eq!(member[..3], [0x1f, 0x8b, 8]);
    assert_eq!(member[3] & 0xe0, 0, "reserved flags");
    let [extra, name, comment, crc] = [4, 8, 16, 2].map(|flag| member[3] & flag != 0);
    let mut length = 10;
    if extra {
        length += 2 + usize::from(u16::from_le_bytes([member[10], member[11]]));
    }
    for _ in [name, comment].into_iter().filter(|&has| has) {
        length += memchr::memchr(0, &member[length..]).unwrap() + 1;
    }
    if crc {
        let mut sum = flate2::Crc::new();
        sum.update(&member[..length]);
        assert_eq!(sum.sum().to_le_bytes()[..2], member[length..length + 2]);
        length += 2;
    }
    length
}

fn each_record(stored: &[u8], look: &mut dyn FnMut(&[u8])) {
    let mut open = Vec::new();
    decoder(codec(stored), stored, |bytes| {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            open.extend_from_slice(&rest[..end]);
            look(&open);
            open.clear();
            rest = &rest[end + 1..];
        }
        open.extend_from_slice(rest);
    });
    if !open.is_empty() {
        look(&open);
    }
}

/// What a scan has seen of a source.
type Seen = ((u64, u64), u64);

fn see(
    settings: &Settings,
    source: &[u8],
    start: Option<(Offset, u64)>,
    stop: Option<u64>,
    mut chunk: impl FnMut() -> usize,
) -> Result<(Seen, Option<(Offset, u64)>), BadSource> {
    let mut scan = scan(settings);
    let (at, mut records) = start.map_or((None, 0), |(at, records)| (Some(at), records));
    scan.begin(at, records);
    let mut rest = &source[at.map_or(0, |at| at.stored as usize)..];
    let (mut seen, mut ended) = (Bits::new(), false);
    loop {
        let scanned = scan.advance(&mut |number, record| {
            records += 1;
            assert_eq!(number, records);
            seen.add(record);
            seen.add(b"\n");
            if Some(number) == stop {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        match scanned {
            Scanned::Stopped => return Ok(((seen.sum(), records), Some(scan.offset()))),
            Scanned::SourceEnd => return Ok(((seen.sum(), records), None)),
            Scanned::NeedInput if rest.is_empty() => {
                assert!(!ended, "input is needed after the last");
                scan.end_source();
                ended = true;
            }
            Scanned::NeedInput => {
                let (now, later) = rest.split_at(chunk().min(rest.len()));
                scan.feed(Bytes::copy_from_slice(now));
                rest = later;
            }
        }
    }
}

pub fn scanned(input: &[u8]) -> Outcome {
    let mut rng = choices(input);
    let settings = settings(&mut rng);
    let whole = see(&settings, input, None, None, || usize::MAX);
    let pieces = see(&settings, input, None, None, chunks(&mut rng, &[input]));
    let (sum, records) = match (whole, pieces) {
        (Ok((whole, _)), Ok((pieces, _))) => {
            assert_eq!(whole, pieces, "the size of chunks changes the records");
            whole
        }
        (Err(why), Err(_)) => return Outcome::Refused(why.to_string()),
        (whole, pieces) => panic!("the size of chunks changes what is refused: {whole:?}, {pieces:?}"),
    };
    let mut raw = Bits::new();
    each_record(input, &mut |record| {
        raw.add(record);
        raw.add(b"\n");
    });
    assert_eq!(sum, raw.sum(), "other records are seen");
    if records > 0 {
        let stop = rng.u64(1..=records);
        let first = see(&settings, input, None, Some(stop), chunks(&mut rng, &[input]));
        // A last record without a newline is where the source ends.
        if let (_, Some(place)) = first.unwrap() {
            let ((_, all), _) = see(&settings, input, Some(place), None, || usize::MAX).unwrap();
            assert_eq!(all, records, "from {place:?}");
        }
    }
    Outcome::Accepted(format!("{:?} {}", codec(input), records.min(3)))
}
