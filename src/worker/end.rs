//! How a worker ended, as its controller reads it: an exit code, and a line of JSON.

use serde::{Deserialize, Serialize};

use crate::api::exit;
use crate::disposition::Disposition;
use crate::engine::{Error, FenceError};

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// One of [`exit`].
    pub code: i32,
    pub reason: String,
    pub message: String,
}

impl End {
    /// Its duties are done.
    pub(super) fn done() -> Self {
        Self {
            code: exit::DONE,
            reason: "Done".to_owned(),
            message: String::new(),
        }
    }

    /// It was asked to stop, and a duty may be open.
    pub(super) fn stopped(message: &str) -> Self {
        Self {
            reason: "Stopped".to_owned(),
            message: message.to_owned(),
            ..Self::done()
        }
    }

    pub(super) fn failed(error: &Error) -> Self {
        let code = match (error, error.disposition()) {
            (Error::Fence(FenceError::Fenced(_)), _) => exit::FENCED,
            (Error::Deadline(_), _) => exit::DEADLINE,
            (_, Disposition::Retry) => exit::RETRY,
            (_, Disposition::Wait) => exit::STORAGE,
            (_, Disposition::GiveUp) => exit::GIVE_UP,
        };
        Self {
            code,
            reason: error.reason().to_owned(),
            message: error.to_string(),
        }
    }

    /// A line of JSON of at most `limit` bytes; the message is cut where it must be.
    pub fn line(&self, limit: usize) -> Result<String, serde_json::Error> {
        let mut end = self.clone();
        loop {
            let line = serde_json::to_string(&end)?;
            let excess = line.len().saturating_sub(limit);
            if excess == 0 || end.message.is_empty() {
                return Ok(line);
            }
            // An escaped byte takes at most six: so much may go without cutting too deep.
            let keep = end.message.len() - excess.div_ceil(6).min(end.message.len());
            let keep = end.message.floor_char_boundary(keep);
            end.message.truncate(keep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(message: &str) -> End {
        End {
            code: 75,
            reason: "OutputLost".to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_short_end_is_told_whole() {
        let line = end("a \"quoted\" ü").line(4096).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<End>(&line).unwrap(), end("a \"quoted\" ü"));
    }

    #[test]
    fn a_long_message_is_cut_between_characters_so_that_the_line_fits() {
        for unit in ["x", "ü", "\n", "\"", "a€", "\u{1}𝄞"] {
            let whole = unit.repeat(5000);
            for limit in 200..230 {
                let line = end(&whole).line(limit).unwrap();
                assert!(line.len() <= limit, "{unit:?} {limit}");
                let told: End = serde_json::from_str(&line).unwrap();
                assert!(whole.starts_with(&told.message) && !told.message.is_empty());
                assert_eq!((told.code, told.reason.as_str()), (75, "OutputLost"));
            }
        }
    }
}
