//! The two jobs that meet every fault: one whose batches are all below a part, and one of large parts. A third one,
//! which meets a few, has more sources than a worker may have in memory.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// Batches below 5 MiB, outputs that span many of them: every checkpoint has a tail.
    Tails,
    /// Batches of several parts.
    LargeParts,
    /// One batch of more bytes than a worker may have in memory.
    Large,
}

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tails => "tails",
            Self::LargeParts => "large parts",
            Self::Large => "large",
        }
    }

    /// What differs from a job's defaults.
    pub fn spec(self) -> Value {
        let (batch, target) = match self {
            Self::Tails => ("700Ki", "9Mi"),
            Self::LargeParts => ("11Mi", "22Mi"),
            Self::Large => ("1Gi", "64Mi"),
        };
        json!({
            "source": {"prefix": "in/", "minObjectAgeSeconds": 0},
            "output": {"prefix": "out/", "targetObjectSize": target},
            "statePrefix": "state/",
            "batch": {"size": batch, "backoffPeriodSeconds": 1, "maxBackoffPeriodSeconds": 2},
            "upload": {"partSize": "5Mi"},
        })
    }

    /// The sources, in the order in which they are merged.
    pub fn sources(self) -> Arc<Vec<(String, Bytes)>> {
        static TAILS: OnceLock<Arc<Vec<(String, Bytes)>>> = OnceLock::new();
        static LARGE_PARTS: OnceLock<Arc<Vec<(String, Bytes)>>> = OnceLock::new();
        static LARGE: OnceLock<Arc<Vec<(String, Bytes)>>> = OnceLock::new();
        let (made, count, size) = match self {
            Self::Tails => (&TAILS, 110, 150_000),
            Self::LargeParts => (&LARGE_PARTS, 17, 2 << 20),
            Self::Large => (&LARGE, 20, 7 << 20),
        };
        let make = || Arc::new((0..count).map(|number| source(number, size)).collect());
        Arc::clone(made.get_or_init(make))
    }
}

fn source(number: u64, size: usize) -> (String, Bytes) {
    let mut random = fastrand::Rng::with_seed(number);
    let filling: String = std::iter::repeat_with(|| random.alphanumeric())
        .take(4096)
        .collect();
    let mut text = String::with_capacity(size + 2048);
    let mut record = 0;
    while text.len() < size {
        let from = random.usize(..2048);
        let filling = &filling[from..from + random.usize(100..2000)];
        writeln!(text, "{number:03} {record:06} {filling}").unwrap();
        record += 1;
    }
    (format!("in/group/{number:03}.log"), text.into())
}
