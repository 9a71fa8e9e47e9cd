//! What a worker left behind, on a cluster as on one machine.

use serde::Deserialize;

const MAX_REASON_BYTES: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerEnd {
    /// `None` when it was killed.
    pub code: Option<i32>,
    pub reason: String,
    pub message: String,
}

/// What a worker says beside its exit code.
#[derive(Deserialize)]
struct Said {
    code: i32,
    reason: String,
    message: String,
}

impl WorkerEnd {
    /// As a line of JSON tells it. Whatever runs in a pod may have written that: `None` where it does not fit the code, or
    /// its reason is not a word.
    pub(crate) fn said(code: i32, line: &str) -> Option<Self> {
        let said: Said = serde_json::from_str(line.trim()).ok()?;
        (said.code == code && is_word(&said.reason)).then_some(Self {
            code: Some(code),
            reason: said.reason,
            message: said.message,
        })
    }

    /// Of one that has said nothing.
    pub(crate) fn unsaid(code: Option<i32>) -> Self {
        let message = code.map_or("it was killed".to_owned(), |code| {
            format!("it ended with code {code}")
        });
        Self {
            code,
            reason: "WorkerLost".to_owned(),
            message,
        }
    }
}

fn is_word(reason: &str) -> bool {
    (1..=MAX_REASON_BYTES).contains(&reason.len()) && reason.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
