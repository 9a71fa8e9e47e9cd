//! Records that are looked at, and records that are kept, beside lines that are split in memory.

use std::ops::ControlFlow;

use bytes::Bytes;
use compaction_operator::deduplicate::{Position, Selection, Survivors};
use compaction_operator::format::{
    Codec, Compression, Offset, Scanned, Selected, Settings, Step, scan, selected,
};
use proptest::prelude::*;

use crate::model::{Member, Source, decoded, settings};

/// Records with whether they are kept; the last may lack its newline.
#[derive(Debug, Clone)]
struct Lines {
    codec: Codec,
    records: Vec<(Vec<u8>, bool)>,
    newline: bool,
}

impl Lines {
    fn stored(&self) -> Vec<u8> {
        let mut raw: Vec<u8> = self
            .records
            .iter()
            .flat_map(|(record, _)| [record, &b"\n"[..]].concat())
            .collect();
        if !self.newline && self.records.last().is_some_and(|(record, _)| !record.is_empty()) {
            raw.pop();
        }
        let halves = raw.split_at(raw.len() / 2);
        let members = [halves.0, halves.1].map(|raw| Member {
            raw: raw.to_vec(),
            style: 0x20,
        });
        Source {
            codec: self.codec,
            members: members.to_vec(),
        }
        .stored()
    }

    fn selection(&self, source: usize) -> Selection {
        let mut survivors = Survivors::default();
        for (number, _) in (1..).zip(&self.records).filter(|(_, (_, kept))| *kept) {
            survivors.push(Position::new(0, source, number).unwrap());
        }
        let mut selection = Selection::none(0, source);
        survivors.add_to(&mut selection);
        selection
    }
}

/// Where a merge can go on.
#[derive(Debug, Clone, PartialEq)]
struct Cut {
    source: usize,
    offset: Option<Offset>,
    before: u64,
    codec: Option<Codec>,
    out: usize,
}

fn merge(settings: &Settings, sources: &[Lines], start: Option<&Cut>, chunk: usize) -> (Vec<u8>, Vec<Cut>) {
    let mut merge = selected(settings, start.and_then(|cut| cut.codec));
    let (mut out, mut cuts) = (Vec::new(), Vec::new());
    let first = start.map_or(0, |cut| cut.source);
    for (index, source) in sources.iter().enumerate().skip(first) {
        let start = start.filter(|cut| cut.source == index);
        let (at, before) = start.map_or((None, 0), |cut| (cut.offset, cut.before));
        let stored = source.stored();
        let mut chunks = stored[at.map_or(0, |at| at.stored as usize)..].chunks(chunk);
        merge.begin(at);
        merge.select(Selected {
            selection: source.selection(index),
            before,
        });
        loop {
            let (source, offset, before) = match merge.advance(&mut out).unwrap() {
                Step::More => continue,
                Step::NeedInput => {
                    match chunks.next() {
                        Some(chunk) => merge.feed(Bytes::copy_from_slice(chunk)),
                        None => merge.end_source(),
                    }
                    continue;
                }
                Step::Cut => (index, Some(merge.offset()), merge.records_before_offset()),
                Step::SourceEnd { cut: false } => break,
                Step::SourceEnd { cut: true } => (index + 1, None, 0),
            };
            let codec = merge.output_codec();
            cuts.push(Cut {
                source,
                offset,
                before,
                codec,
                out: out.len(),
            });
            if source > index {
                break;
            }
        }
    }
    merge.finish(&mut out);
    let (source, codec) = (sources.len(), merge.output_codec());
    cuts.push(Cut {
        source,
        offset: None,
        before: 0,
        codec,
        out: out.len(),
    });
    (out, cuts)
}

fn looked_at(settings: &Settings, source: &Lines, stop_after: u64, chunk: usize) -> Vec<(u64, Vec<u8>)> {
    let stored = source.stored();
    let mut records = Vec::new();
    let mut at = None;
    let mut before = 0;
    // From the beginning, and again from wherever it was stopped.
    loop {
        let mut scan = scan(settings);
        scan.begin(at, before);
        let mut chunks = stored[at.map_or(0, |at: Offset| at.stored as usize)..].chunks(chunk);
        let scanned = loop {
            let scanned = scan.advance(&mut |number, record| {
                records.push((number, record.to_vec()));
                if number % stop_after == 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            match scanned.unwrap() {
                Scanned::NeedInput => match chunks.next() {
                    Some(chunk) => scan.feed(Bytes::copy_from_slice(chunk)),
                    None => scan.end_source(),
                },
                ended => break ended,
            }
        };
        if scanned == Scanned::SourceEnd {
            return records;
        }
        let (offset, number) = scan.offset();
        (at, before) = (Some(offset), number);
    }
}

fn lines() -> impl Strategy<Value = Lines> {
    let record = (prop::collection::vec(b'a'..=b'c', 0..12), any::<bool>());
    let codec = prop::sample::select(Codec::ALL.to_vec());
    (codec, prop::collection::vec(record, 0..40), any::<bool>()).prop_map(|(codec, records, newline)| Lines {
        codec,
        records,
        newline,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_selected_comes_out_as_it_was_and_again_from_every_cut(
        sources in prop::collection::vec(lines(), 1..6),
        compression in prop::sample::select(vec![Compression::Auto, Compression::None, Compression::Gzip, Compression::Zstd]),
        cut_bytes in 1..40_u64,
        chunk in 1..60_usize,
    ) {
        let settings = settings(compression, cut_bytes);
        let (out, cuts) = merge(&settings, &sources, None, chunk);
        prop_assert_eq!(&merge(&settings, &sources, None, usize::MAX), &(out.clone(), cuts.clone()));
        let codec = cuts.last().and_then(|cut| cut.codec);
        let kept = sources.iter().flat_map(|source| &source.records).filter(|(_, kept)| *kept);
        let expected: Vec<u8> = kept.flat_map(|(record, _)| [record, &b"\n"[..]].concat()).collect();
        prop_assert_eq!(decoded(codec, &out), expected);
        for cut in &cuts {
            let (rest, _) = merge(&settings, &sources, Some(cut), chunk);
            prop_assert_eq!(&out[cut.out..], &rest[..], "from {:?}", cut);
        }
    }

    #[test]
    fn every_record_is_looked_at_once_wherever_one_stops(
        source in lines(), stop_after in 1..10_u64, chunk in 1..60_usize,
    ) {
        let settings = settings(Compression::Auto, 16);
        let expected: Vec<(u64, Vec<u8>)> =
            (1..).zip(&source.records).map(|(number, (record, _))| (number, record.clone())).collect();
        prop_assert_eq!(looked_at(&settings, &source, stop_after, chunk), expected);
    }
}

#[test]
fn where_hardly_anything_is_kept_there_are_cuts_all_the_same() {
    let records = vec![(b"dropped".to_vec(), false); 1000];
    let source = Lines {
        codec: Codec::None,
        records,
        newline: true,
    };
    for compression in [Compression::None, Compression::Gzip] {
        let (out, cuts) = merge(
            &settings(compression, 16),
            std::slice::from_ref(&source),
            None,
            100,
        );
        // 8,000 bytes, and at most 16 times 16 between cuts.
        assert!(out.is_empty() && cuts.len() >= 30, "{} cuts", cuts.len());
    }
}
