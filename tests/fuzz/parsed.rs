//! What is parsed in one piece: whatever is accepted can be written, and read again equal.

use std::fmt::Debug;
use std::io::Write as _;

use compaction_operator::api::{CompactionJobStatus, exit};
use compaction_operator::controller::{self, WorkerState};
use compaction_operator::deduplicate::{
    self, Entry, Layout, Rules, Selection, Survivors, Tombstone, Unkeyed,
};
use compaction_operator::engine::{Body, Manifest};
use compaction_operator::local;
use compaction_operator::plan::{Plan, Segment};
use compaction_operator::worker::End;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::target::{Outcome, choices};

fn refused(error: impl ToString) -> Outcome {
    Outcome::Refused(error.to_string())
}

fn accepted() -> Outcome {
    Outcome::Accepted(String::new())
}

fn written_again<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_vec(value).expect("what was read can be written");
    serde_json::from_slice(&text).expect("what was written can be read")
}

fn json<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &[u8]) -> Outcome {
    match serde_json::from_slice::<T>(text) {
        Err(error) => refused(error),
        Ok(value) => {
            assert_eq!(written_again(&value), value);
            accepted()
        }
    }
}

pub fn body(text: &[u8]) -> Outcome {
    json::<Body>(text)
}

pub fn plan(text: &[u8]) -> Outcome {
    json::<Plan>(text)
}

pub fn manifest(text: &[u8]) -> Outcome {
    json::<Manifest>(text)
}

/// Times are written in whole seconds: equal from the first writing on.
pub fn status(text: &[u8]) -> Outcome {
    match serde_json::from_slice::<CompactionJobStatus>(text) {
        Err(error) => refused(error),
        Ok(status) => {
            let written = written_again(&status);
            assert_eq!(written_again(&written), written);
            accepted()
        }
    }
}

pub fn segment(lines: &[u8]) -> Outcome {
    match Segment::decode(lines) {
        Err(error) => refused(error),
        Ok(segment) => {
            let lines = segment.encode().unwrap();
            assert_eq!(Segment::decode(&lines).unwrap(), segment);
            accepted()
        }
    }
}

/// A manifest of a user, in a file.
pub fn job(text: &[u8]) -> Outcome {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text).unwrap();
    let job = match local::manifest::read(file.path(), None) {
        Err(error) => return refused(error.to_string().replace(&file.path().display().to_string(), "")),
        Ok(job) => job,
    };
    let mut written = tempfile::NamedTempFile::new().unwrap();
    serde_json::to_writer(&mut written, &job).unwrap();
    let again = local::manifest::read(written.path(), Some(&job)).expect("it changes nothing");
    assert_eq!(
        serde_json::to_value(&again).unwrap(),
        serde_json::to_value(&job).unwrap()
    );
    accepted()
}

pub fn survivors(bytes: &[u8]) -> Outcome {
    let survivors = match Survivors::decode(bytes) {
        Err(error) => return refused(error),
        Ok(survivors) => survivors,
    };
    let written = survivors.encode();
    assert_eq!(Survivors::decode(&written).unwrap(), survivors);
    assert_eq!(survivors.is_empty(), survivors.last().is_none());
    // What a source takes of them lies within its own positions.
    let mut selection = Selection::none(0, 1);
    survivors.add_to(&mut selection);
    assert!(selection.len() <= survivors.len());
    accepted()
}

pub fn run(bytes: &[u8]) -> Outcome {
    let layout = Layout {
        versioned: choices(bytes).bool(),
    };
    match layout.decode(bytes) {
        Err(error) => refused(error),
        Ok(entries) => {
            let mut written = Vec::new();
            let mut count = 0;
            for entry in entries {
                let Entry { position, .. } = entry;
                assert!(position.number() < 1 << 63);
                layout.encode(&entry, &mut written);
                count += 1;
            }
            assert_eq!(written, bytes);
            assert_eq!(count * layout.entry_bytes(), bytes.len());
            accepted()
        }
    }
}

/// A worker's termination message. Counts only if it has the code that the container has ended with, and a word for
/// the reason: whatever runs there may have written it.
pub fn termination(text: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(text) else {
        return refused("not UTF-8");
    };
    let code = exit::GIVE_UP;
    let terminated = json!({"exitCode": code, "reason": "Error", "message": text});
    let container = json!({
        "name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": terminated},
    });
    let pod = json!({
        "metadata": {"labels": {"compaction.dev/shard": "0", "compaction.dev/epoch": "1"}},
        "status": {"phase": "Failed", "containerStatuses": [container]},
    });
    let view = controller::view(&serde_json::from_value(pod).unwrap()).unwrap();
    let WorkerState::Ended(end) = view.state else {
        panic!("it ended: {view:?}")
    };
    assert_eq!(end.code, Some(code));
    let (reason, message) = (end.reason, end.message);
    match serde_json::from_str::<End>(text.trim()) {
        Ok(said) if said.code == code && is_word(&said.reason) => {
            let line = said.line(usize::MAX).unwrap();
            assert_eq!(serde_json::from_str::<End>(&line).unwrap(), said);
            assert_eq!((reason, message), (said.reason, said.message));
            accepted()
        }
        said => {
            assert_eq!(reason, "WorkerLost");
            refused(said.map_or_else(
                |error| error.to_string(),
                |_| "another code, or no word".to_owned(),
            ))
        }
    }
}

fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn rules() -> Rules {
    let text = str::to_owned;
    Rules {
        key: vec![text("/id"), text("/a~1b/0"), text("/nested/deep/name")],
        version: Some(text("/time")),
        tombstone: Some(Tombstone {
            pointer: text("/op"),
            equals: text("delete"),
            expired_before: Some(1_800_000_000),
        }),
        keep_unkeyed: true,
    }
}

/// Records, beside another parser of JSON.
pub fn judge(input: &[u8]) -> Outcome {
    let mut judge = deduplicate::judge(&rules());
    judge.enter_group("group/");
    let mut keyed = 0;
    let mut why = String::new();
    for record in input.split(|byte| *byte == b'\n') {
        let judged = judge.judge(record);
        let spaced = [b" \t", record, b"\r "].concat();
        assert_eq!(judge.judge(&spaced), judged, "space changes it");
        let parsed = serde_json::from_slice::<serde_json::Value>(record);
        match (&judged, &parsed) {
            (Ok(_), Err(error)) => assert!(is_passed_over(error), "{error}"),
            (Err(Unkeyed::NotJson), Ok(value)) => panic!("refused, and it is {value}"),
            _ => {}
        }
        match judged {
            Ok(found) => {
                assert_eq!(judge.judge(record), Ok(found));
                keyed += 1;
            }
            Err(unkeyed) => why = unkeyed.to_string(),
        }
    }
    if keyed == 0 {
        Outcome::Refused(why)
    } else {
        Outcome::Accepted(why)
    }
}

/// What is never looked at inside strings, and numbers that no `f64` holds, are nobody's business here.
fn is_passed_over(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    [
        "control character",
        "invalid unicode",
        "lone leading surrogate",
        "unexpected end of hex",
        "number out of range",
        "recursion limit",
    ]
    .iter()
    .any(|known| text.contains(known))
}
