//! Sources made of members, a driver for merges, and the naive merge that they are compared with.

use std::io::Write;

use bytes::Bytes;
use compaction_operator::format::{
    BadSource, Codec, Compression, Counts, Kind, Offset, PIECE_BYTES, Settings, Step, merge,
};

pub(crate) fn settings(compression: Compression, cut_bytes: u64) -> Settings {
    Settings {
        format: Kind::Lines,
        compression,
        cut_bytes,
        max_record_bytes: 1 << 20,
    }
}

/// A source before it is stored. A plain one is its members joined.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) codec: Codec,
    pub(crate) members: Vec<Member>,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) raw: Vec<u8>,
    /// Chooses among the many ways in which this may be stored.
    pub(crate) style: u8,
}

impl Source {
    pub(crate) fn new(codec: Codec, members: &[&[u8]]) -> Self {
        let members = members
            .iter()
            .map(|raw| Member {
                raw: raw.to_vec(),
                style: 0,
            })
            .collect();
        Self { codec, members }
    }

    pub(crate) fn stored(&self) -> Vec<u8> {
        let store = match self.codec {
            Codec::None => |member: &Member| member.raw.clone(),
            Codec::Gzip => gzip_member,
            Codec::Zstd => zstd_frame,
        };
        self.members.iter().flat_map(store).collect()
    }

    /// A plain source may happen to begin like a compressed one.
    pub(crate) fn is_what_it_seems(&self) -> bool {
        let stored = self.stored();
        let zstd = stored.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
            || stored.get(1..4) == Some(&[0x2a, 0x4d, 0x18]) && stored[0] >> 4 == 5;
        let codec = match (stored.starts_with(&[0x1f, 0x8b]), zstd) {
            (true, _) => Codec::Gzip,
            (_, true) => Codec::Zstd,
            _ => Codec::None,
        };
        codec == self.codec || stored.is_empty()
    }
}

pub(crate) fn gzip_member(member: &Member) -> Vec<u8> {
    let level = flate2::Compression::new(u32::from(member.style % 10));
    let mut header = flate2::GzBuilder::new().mtime(u32::from(member.style));
    if member.style & 0x20 != 0 {
        header = header.filename("a name").comment("a comment");
    }
    if member.style & 0x40 != 0 {
        header = header.extra("some extra field");
    }
    let mut encoder = header.write(Vec::new(), level);
    encoder.write_all(&member.raw).unwrap();
    encoder.finish().unwrap()
}

/// A frame; without content, in some styles, one that decoders skip.
pub(crate) fn zstd_frame(member: &Member) -> Vec<u8> {
    if member.raw.is_empty() && member.style & 0x80 != 0 {
        let content = vec![b'\n'; usize::from(member.style & 0x0f)];
        let head = [0x50 | member.style & 0x0f, 0x2a, 0x4d, 0x18];
        return [&head[..], &(content.len() as u32).to_le_bytes(), &content].concat();
    }
    let mut encoder = zstd::Encoder::new(Vec::new(), i32::from(member.style % 10)).unwrap();
    encoder.include_checksum(member.style & 0x20 != 0).unwrap();
    if member.style & 0x40 == 0 {
        encoder
            .set_pledged_src_size(Some(member.raw.len() as u64))
            .unwrap();
    }
    encoder.write_all(&member.raw).unwrap();
    encoder.finish().unwrap()
}

/// Decodes as the ordinary decoder of each codec does.
pub(crate) fn decoded(codec: Option<Codec>, stored: &[u8]) -> Vec<u8> {
    match codec {
        // No bytes are no gzip.
        _ if stored.is_empty() => Vec::new(),
        None | Some(Codec::None) => stored.to_vec(),
        Some(Codec::Gzip) => {
            let mut raw = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(stored), &mut raw).unwrap();
            raw
        }
        Some(Codec::Zstd) => zstd::decode_all(stored).unwrap(),
    }
}

/// A cut as a checkpoint would keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The source to go on in, at its beginning without an offset.
    pub(crate) source: usize,
    pub(crate) offset: Option<Offset>,
    pub(crate) codec: Option<Codec>,
    /// Output bytes and counts since the merge was made.
    pub(crate) out: usize,
    pub(crate) counts: Counts,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Merged {
    pub(crate) out: Vec<u8>,
    pub(crate) cuts: Vec<Cut>,
}

/// Merges `sources`, stored, from `start` on, in chunks as long as `chunk_len` says.
pub(crate) fn run(
    settings: &Settings,
    sources: &[Vec<u8>],
    start: Option<&Cut>,
    mut chunk_len: impl FnMut() -> usize,
) -> Result<Merged, BadSource> {
    let mut merge = merge(settings, start.and_then(|cut| cut.codec));
    let mut merged = Merged {
        out: Vec::new(),
        cuts: Vec::new(),
    };
    let first = start.map_or(0, |cut| cut.source);
    // A piece, and a frame that encoding makes no smaller.
    let frame = settings.cut_bytes.saturating_add(settings.max_record_bytes);
    let frame = usize::try_from(frame.saturating_add(frame / 100)).unwrap();
    let most = frame.saturating_add(PIECE_BYTES + 1000);
    for (index, stored) in sources.iter().enumerate().skip(first) {
        let at = start.filter(|cut| cut.source == index).and_then(|cut| cut.offset);
        let mut rest = &stored[at.map_or(0, |at| at.stored as usize)..];
        let mut ended = false;
        merge.begin(at);
        loop {
            let before = merged.out.len();
            let step = merge.advance(&mut merged.out)?;
            let appended = merged.out.len() - before;
            assert!(appended <= most, "{appended} bytes at once");
            let (source, offset) = match step {
                Step::More => continue,
                Step::NeedInput => {
                    assert!(!ended, "input is needed after the last");
                    let (chunk, later) = rest.split_at(chunk_len().min(rest.len()));
                    if rest.is_empty() {
                        merge.end_source();
                        ended = true;
                    } else {
                        merge.feed(Bytes::copy_from_slice(chunk));
                    }
                    rest = later;
                    continue;
                }
                Step::Cut => (index, Some(merge.offset())),
                Step::SourceEnd { .. } => (index + 1, None),
            };
            if step != (Step::SourceEnd { cut: false }) {
                let (codec, counts) = (merge.output_codec(), merge.counts());
                merged.cuts.push(Cut {
                    source,
                    offset,
                    codec,
                    out: merged.out.len(),
                    counts,
                });
            }
            if source > index {
                break;
            }
        }
    }
    merge.finish(&mut merged.out);
    let (codec, counts) = (merge.output_codec(), merge.counts());
    merged.cuts.push(Cut {
        source: sources.len(),
        offset: None,
        codec,
        out: merged.out.len(),
        counts,
    });
    Ok(merged)
}

/// What the naive merge comes to: all raw bytes, and how many of them lie before each cut.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Naive {
    pub(crate) codec: Option<Codec>,
    pub(crate) raw: Vec<u8>,
    pub(crate) cuts: Vec<usize>,
}

/// Record after record, as the contract tells it.
pub(crate) fn naive(settings: &Settings, sources: &[Source]) -> Naive {
    let codec = match settings.compression {
        Compression::Auto => sources
            .iter()
            .find(|source| !source.stored().is_empty())
            .map(|source| source.codec),
        Compression::None => Some(Codec::None),
        Compression::Gzip => Some(Codec::Gzip),
        Compression::Zstd => Some(Codec::Zstd),
    };
    let mut naive = Naive {
        codec,
        ..Naive::default()
    };
    let mut last_cut = 0;
    let framed = codec.is_some_and(|codec| codec != Codec::None);
    for source in sources {
        let stored_way = framed && Some(source.codec) == codec && !source.stored().is_empty();
        let open = naive.raw.len() > last_cut;
        if stored_way && open {
            last_cut = naive.raw.len();
            naive.cuts.push(last_cut);
        }
        let start = naive.raw.len();
        for member in &source.members {
            for byte in &member.raw {
                naive.raw.push(*byte);
                let far = (naive.raw.len() - last_cut) as u64 >= settings.cut_bytes;
                if !stored_way && *byte == b'\n' && far {
                    last_cut = naive.raw.len();
                    naive.cuts.push(last_cut);
                }
            }
            let at_end = naive.raw.len() == start || naive.raw.last() == Some(&b'\n');
            let far = (naive.raw.len() - last_cut) as u64 >= settings.cut_bytes;
            if stored_way && at_end && far {
                last_cut = naive.raw.len();
                naive.cuts.push(last_cut);
            }
        }
        if naive.raw.len() > start && naive.raw.last() != Some(&b'\n') {
            naive.raw.push(b'\n');
        }
        let open = (naive.raw.len() - last_cut) as u64;
        if stored_way || !framed || open == 0 || open >= settings.cut_bytes {
            last_cut = naive.raw.len();
            naive.cuts.push(last_cut);
        }
    }
    naive.cuts.push(naive.raw.len());
    naive
}
