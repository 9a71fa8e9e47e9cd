//! Inputs made of others: bytes altered, values of JSON replaced, records stored in other ways. A function of the
//! seed.

use std::io::{Read as _, Write as _};

use serde_json::{Map, Value, json};

use crate::target::Form;

/// No input is longer. Bytes.
const LONGEST: usize = 256 << 10;
/// Texts and bytes that mean something to one parser or another.
const WORDS: [&[u8]; 32] = [
    b"\n",
    b"\r\n",
    b"\0",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"-0",
    b"1e400",
    b"1e-400",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"0.1",
    b"{}",
    b"[]",
    b"&a [*a, *a]",
    b"<<: *a",
    b"\x1f\x8b\x08\x00",
    b"\x28\xb5\x2f\xfd",
    b"\x50\x2a\x4d\x18",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"~1",
    b"~0",
];
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    1 << 16,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 33,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

pub struct Mutation {
    rng: fastrand::Rng,
    form: Form,
}

impl Mutation {
    pub fn new(seed: u64, form: Form) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { rng, form }
    }

    /// One of `inputs`, altered.
    pub fn of(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = inputs[self.rng.usize(..inputs.len())].clone();
        let structured = self.rng.u32(..3) > 0;
        if structured && let Some(altered) = self.structure(&bytes) {
            bytes = altered;
        }
        if !structured || self.rng.u32(..4) == 0 {
            for _ in 0..self.rng.usize(1..=5) {
                self.alter(&mut bytes, inputs);
            }
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn structure(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self.form {
            Form::Bytes => None,
            Form::Stored => self.store_anew(bytes),
            Form::Json => Some(self.alter_value(serde_json::from_slice(bytes).ok()?)),
            Form::Yaml => {
                let value = serde_saphyr::from_str(std::str::from_utf8(bytes).ok()?).ok()?;
                Some(self.alter_value(value))
            }
            Form::JsonLines => {
                let values = serde_json::Deserializer::from_slice(bytes).into_iter();
                let mut values: Vec<Value> = values.collect::<Result<_, _>>().ok()?;
                let at = self.rng.usize(..values.len().max(1));
                let other = values.get(self.rng.usize(..values.len().max(1)))?.clone();
                match self.rng.u32(..4) {
                    0 => values.insert(at, other),
                    1 => drop(values.remove(at)),
                    2 => values.swap(0, at),
                    _ => {}
                }
                let mut lines = Vec::new();
                for value in values {
                    lines.extend(self.alter_value(value));
                    lines.push(b'\n');
                }
                Some(lines)
            }
        }
    }

    /// The text of a value in which a few nodes are others.
    fn alter_value(&mut self, mut value: Value) -> Vec<u8> {
        for _ in 0..self.rng.usize(0..=3) {
            let whole = value.clone();
            let steps = self.rng.usize(0..6);
            let node = self.node(&mut value, steps);
            self.alter_node(node, whole);
        }
        serde_json::to_vec(&value).unwrap()
    }

    /// A node so many steps inside, or less where there is no more.
    fn node<'v>(&mut self, value: &'v mut Value, steps: usize) -> &'v mut Value {
        let children = match value {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        };
        if steps == 0 || children == 0 {
            return value;
        }
        let at = self.rng.usize(..children);
        let child = match value {
            Value::Array(items) => &mut items[at],
            Value::Object(fields) => fields.values_mut().nth(at).unwrap(),
            leaf => return leaf,
        };
        self.node(child, steps - 1)
    }

    fn alter_node(&mut self, node: &mut Value, whole: Value) {
        match (self.rng.u32(..9), &mut *node) {
            (0, Value::Object(fields)) if !fields.is_empty() => {
                let name = fields.keys().nth(self.rng.usize(..fields.len())).unwrap().clone();
                fields.remove(&name);
            }
            (1, Value::Object(fields)) => {
                fields.insert(self.word(), whole);
            }
            (2, Value::Array(items)) if !items.is_empty() => {
                let item = items[self.rng.usize(..items.len())].clone();
                items.extend(std::iter::repeat_n(item, self.rng.usize(1..200)));
            }
            (0 | 1, Value::Number(number)) => {
                let near = number
                    .as_i64()
                    .unwrap_or_default()
                    .wrapping_add(self.rng.i64(-2..=2));
                *node = json!(near);
            }
            (0 | 1, Value::String(text)) => text.push_str(&self.word()),
            (2, Value::String(text)) => *text = text.repeat(self.rng.usize(0..50)),
            (3, _) => *node = whole,
            (4, _) => *node = json!(self.word()),
            (5, _) => *node = json!(self.number()),
            (6, _) => *node = json!(self.rng.f64() * 10_f64.powi(self.rng.i32(-300..300))),
            (7, _) => *node = self.nested(),
            _ => {
                let others = [
                    Value::Null,
                    json!(true),
                    json!(-1),
                    json!([]),
                    Value::Object(Map::new()),
                ];
                *node = others[self.rng.usize(..others.len())].clone();
            }
        }
    }

    fn nested(&mut self) -> Value {
        let depth = self.rng.usize(1..140);
        (0..depth).fold(json!(1), |inner, _| {
            if self.rng.bool() {
                json!([inner])
            } else {
                json!({"a": inner})
            }
        })
    }

    fn word(&mut self) -> String {
        String::from_utf8_lossy(WORDS[self.rng.usize(..WORDS.len())]).into_owned()
    }

    fn number(&mut self) -> u64 {
        let near = NUMBERS[self.rng.usize(..NUMBERS.len())];
        near.wrapping_add(self.rng.u64(..3)).wrapping_sub(1)
    }

    /// The same text, or some of it, or altered, as it may also be stored.
    fn store_anew(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut raw = raw(bytes)?;
        for _ in 0..self.rng.usize(0..3) {
            self.alter(&mut raw, &[]);
        }
        let mut stored = Vec::new();
        let (gzip, mut rest) = (self.rng.bool(), &raw[..]);
        loop {
            let length = self.rng.usize(..=rest.len());
            let (member, later) = rest.split_at(if self.rng.u32(..3) == 0 {
                rest.len()
            } else {
                length
            });
            if gzip {
                self.gzip(member, &mut stored);
            } else {
                self.zstd(member, &mut stored);
            }
            if later.is_empty() || stored.len() > LONGEST {
                return Some(stored);
            }
            rest = later;
        }
    }

    fn gzip(&mut self, raw: &[u8], stored: &mut Vec<u8>) {
        let mut header = flate2::GzBuilder::new().mtime(self.rng.u32(..));
        if self.rng.u32(..4) == 0 {
            header = header.filename("a name").comment("a comment").extra("extra");
        }
        let level = flate2::Compression::new(self.rng.u32(..10));
        let mut encoder = header.write(stored, level);
        encoder.write_all(raw).unwrap();
        encoder.finish().unwrap();
    }

    fn zstd(&mut self, raw: &[u8], stored: &mut Vec<u8>) {
        if self.rng.u32(..4) == 0 {
            let length = self.rng.u32(..40);
            stored.extend_from_slice(&[0x50 | self.rng.u8(..16), 0x2a, 0x4d, 0x18]);
            stored.extend_from_slice(&length.to_le_bytes());
            stored.extend(std::iter::repeat_n(b'\n', length as usize));
        }
        let mut encoder = zstd::Encoder::new(&mut *stored, self.rng.i32(-3..=19)).unwrap();
        encoder.include_checksum(self.rng.bool()).unwrap();
        encoder.include_contentsize(self.rng.bool()).unwrap();
        if self.rng.bool() {
            encoder.set_pledged_src_size(Some(raw.len() as u64)).unwrap();
        }
        encoder.write_all(raw).unwrap();
        encoder.finish().unwrap();
    }

    /// One change of mere bytes.
    fn alter(&mut self, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let length = bytes.len();
        let at = self.rng.usize(..=length);
        let to = (at + self.rng.usize(..=64)).min(length);
        match self.rng.u32(..12) {
            0 if at < length => bytes[at] ^= 1 << self.rng.u32(..8),
            1 if at < length => bytes[at] = self.rng.u8(..),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..to)),
            4 => {
                let times = self.rng.usize(1..40);
                let piece = bytes[at..to].repeat(times);
                bytes.splice(at..at, piece);
            }
            5 => {
                let word = WORDS[self.rng.usize(..WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            6 => {
                let (number, width) = (self.number(), 1 << self.rng.u32(..4));
                let mut number = number.to_le_bytes()[..width].to_vec();
                if self.rng.bool() {
                    number.reverse();
                }
                let end = (at + width).min(length);
                bytes.splice(at..end, number);
            }
            7 => self.alter_digits(bytes),
            8 => {
                let open: &[u8] = [&b"["[..], b"{\"a\":", b"- ", b"\"", b" "][self.rng.usize(..5)];
                let nested = open.repeat(1 << self.rng.u32(..14));
                bytes.splice(at..at, nested);
            }
            9 => {
                let long = vec![self.rng.u8(..); 1 << self.rng.u32(..17)];
                bytes.splice(at..at, long);
            }
            10 if !inputs.is_empty() => {
                let other = &inputs[self.rng.usize(..inputs.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[self.rng.usize(..=other.len())..]);
            }
            _ => bytes[at..to].reverse(),
        }
        bytes.truncate(LONGEST);
    }

    /// Makes another number of one that is written in digits.
    fn alter_digits(&mut self, bytes: &mut Vec<u8>) {
        let from = self.rng.usize(..=bytes.len());
        let Some(begin) = bytes[from..]
            .iter()
            .position(u8::is_ascii_digit)
            .map(|at| from + at)
        else {
            return;
        };
        let digits = bytes[begin..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let number = match self.rng.u32(..4) {
            0 => format!("-{}", self.number()),
            1 => "9".repeat(self.rng.usize(1..400)),
            2 => format!("{}e{}", self.rng.u32(..), self.rng.i32(-999..999)),
            _ => self.number().to_string(),
        };
        bytes.splice(begin..begin + digits, number.into_bytes());
    }
}

/// The decoded bytes, some of them if they are many.
fn raw(stored: &[u8]) -> Option<Vec<u8>> {
    let mut raw = Vec::new();
    if stored.starts_with(&[0x1f, 0x8b]) {
        let decoder = flate2::read::MultiGzDecoder::new(stored);
        decoder.take(LONGEST as u64).read_to_end(&mut raw).ok()?;
    } else if stored.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = zstd::Decoder::new(stored).unwrap();
        decoder.take(LONGEST as u64).read_to_end(&mut raw).ok()?;
    } else {
        raw.extend_from_slice(stored);
    }
    Some(raw)
}
