//! The two shapes of a job: how its sources fall into batches, parts and outputs.

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Batches far below a part, outputs over many of them: nearly every checkpoint has a tail.
    Tails,
    /// One batch, in which an output has several parts.
    Parts,
}

impl Shape {
    pub const ALL: [Self; 2] = [Self::Tails, Self::Parts];

    pub fn name(self) -> &'static str {
        match self {
            Self::Tails => "tails",
            Self::Parts => "parts",
        }
    }

    /// Key and bytes; a second group is small enough for an output that is put whole.
    pub fn sources(self) -> &'static [(String, Bytes)] {
        static MADE: [OnceLock<Vec<(String, Bytes)>>; 2] = [OnceLock::new(), OnceLock::new()];
        let (made, count, bytes) = match self {
            Self::Tails => (&MADE[0], 19, 400_000),
            Self::Parts => (&MADE[1], 7, 1_060_000),
        };
        made.get_or_init(|| {
            let large = (0..count).map(|number| (format!("in/large/{number:03}.log"), lines(number, bytes)));
            let small = (0..3).map(|number| (format!("in/small/{number}.log"), lines(100 + number, 10_000)));
            large.chain(small).collect()
        })
    }

    /// What another job finds.
    pub fn more_sources() -> Vec<(String, Bytes)> {
        ["in/large/x.log", "in/large/y.log"]
            .into_iter()
            .zip(200..)
            .map(|(key, seed)| (key.to_owned(), lines(seed, 5_000)))
            .collect()
    }

    pub fn spec(self, bucket: &str, endpoint: &str) -> Value {
        let (batch, target) = match self {
            Self::Tails => ("256Ki", "6Mi"),
            Self::Parts => ("256Mi", "6Mi"),
        };
        json!({
            "storage": {"s3": {"bucket": bucket, "endpoint": endpoint}},
            "source": {"prefix": "in/", "minObjectAgeSeconds": 0},
            "output": {"prefix": "out/", "targetObjectSize": target},
            "batch": {"size": batch, "backoffPeriodSeconds": 1, "maxBackoffPeriodSeconds": 1},
            "upload": {"partSize": "5Mi"},
            "backoffLimit": BACKOFF_LIMIT,
        })
    }
}

/// Workers that may be lost in a row by the work's own fault.
pub const BACKOFF_LIMIT: u32 = 3;

/// Numbered records that no other seed has.
fn lines(seed: u64, bytes: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = Vec::with_capacity(bytes + 80);
    let mut number = 0;
    while text.len() < bytes {
        let line = format!(
            "{seed}-{number} {:032x}{:032x}\n",
            random.u128(..),
            random.u128(..)
        );
        text.extend_from_slice(line.as_bytes());
        number += 1;
    }
    text.into()
}
