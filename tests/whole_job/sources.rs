//! Objects to be compacted, and what must come out of them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use bytes::Bytes;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Plain,
    Gzip,
    Zstd,
}

impl Codec {
    fn extension(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    fn encode(self, raw: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => raw.to_vec(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(raw).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zstd => zstd::encode_all(raw, 1).unwrap(),
        }
    }
}

/// The records in an object, by what its name says of its codec.
pub fn decoded(key: &str, stored: &[u8]) -> Vec<u8> {
    match key.rsplit('.').next() {
        Some("gz") => {
            let mut raw = Vec::new();
            let mut decoder = flate2::read::MultiGzDecoder::new(stored);
            decoder.read_to_end(&mut raw).unwrap();
            raw
        }
        Some("zst") => zstd::decode_all(stored).unwrap(),
        _ => stored.to_vec(),
    }
}

/// Objects by key, and the records of each in its bytes' order.
#[derive(Default)]
pub struct Sources {
    pub stored: BTreeMap<String, Bytes>,
    raw: BTreeMap<String, Vec<u8>>,
    made: u64,
}

impl Sources {
    /// Adds an object of about `size` raw bytes. One in seven does not end its last record.
    pub fn add(&mut self, directory: &str, codec: Codec, size: usize) -> String {
        let key = format!("in/{directory}{:06}.log{}", self.made, codec.extension());
        let mut random = fastrand::Rng::with_seed(self.made);
        let mut raw = Vec::with_capacity(size + 200);
        let mut record = 0;
        while raw.len() < size {
            let padding = random.u64(..);
            let more = "x".repeat(random.usize(..100));
            writeln!(
                raw,
                r#"{{"source":{},"record":{record},"padding":"{padding:016x}{more}"}}"#,
                self.made
            )
            .unwrap();
            record += 1;
        }
        if self.made % 7 == 3 {
            raw.pop();
        }
        let stored = if raw.is_empty() {
            Vec::new()
        } else {
            codec.encode(&raw)
        };
        self.stored.insert(key.clone(), stored.into());
        if raw.last().is_some_and(|last| *last != b'\n') {
            raw.push(b'\n');
        }
        self.raw.insert(key.clone(), raw);
        self.made += 1;
        key
    }

    pub fn add_many(&mut self, count: usize, directory: &str, codec: Codec, size: usize) {
        for _ in 0..count {
            self.add(directory, codec, size);
        }
    }

    pub fn keys(&self) -> Vec<String> {
        self.stored.keys().cloned().collect()
    }

    /// By directory, all records of these sources in key order.
    pub fn records<'a>(&self, keys: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, Vec<u8>> {
        let mut groups: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for key in keys {
            let directory = &key["in/".len()..=key.rfind('/').unwrap()];
            groups
                .entry(directory.to_owned())
                .or_default()
                .extend_from_slice(&self.raw[key]);
        }
        groups
    }
}
