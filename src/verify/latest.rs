//! Says whether the outputs hold the latest record of each key, and no other.
//!
//! By sorting: the records of a share of all keys, of sources and of outputs, are put side by side. There are
//! as many shares as keep a share small; each reads everything again. Where a key's latest record is a tombstone,
//! it may be there or not. What came later of records from different jobs without a version nobody can tell
//! afterwards: any of them passes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::{Deduplicate, Tombstone};

/// Records of sources in one share.
const SHARE: u64 = 2_000_000;
/// Versions are compared in units of 10^-18.
const UNITS: i128 = 1_000_000_000_000_000_000;

/// A record as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    key: u128,
    version: i128,
    /// Of its object, and in it.
    place: (u64, u64),
    record: u128,
    group: u32,
    keyed: bool,
    tombstone: bool,
}

/// Which keys are looked at now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    number: u64,
    of: u64,
}

impl Share {
    pub(super) fn all(records: u64) -> impl Iterator<Item = Self> {
        let of = records.div_ceil(SHARE).max(1);
        (0..of).map(move |number| Self { number, of })
    }
}

/// Marks the records of one object.
#[derive(Debug, Clone)]
pub(super) struct Marker {
    rules: Deduplicate,
    share: Share,
    group: u32,
    object: u64,
    records: u64,
    pub(super) marks: Vec<Mark>,
}

impl Marker {
    pub(super) fn new(rules: &Deduplicate, share: Share, group: u32, object: u64) -> Self {
        let (rules, marks) = (rules.clone(), Vec::new());
        Self {
            rules,
            share,
            group,
            object,
            records: 0,
            marks,
        }
    }

    pub(super) fn take(&mut self, record: &[u8]) {
        self.records += 1;
        let json = parse(record);
        let found = json.as_ref().and_then(|json| self.key_and_version(json));
        let keyed = found.is_some();
        let (key, version) = found.unwrap_or_else(|| (String::from_utf8_lossy(record).into_owned(), 0));
        let key = digest(&[&self.group.to_le_bytes(), &[u8::from(keyed)], key.as_bytes()]);
        if key % u128::from(self.share.of) != u128::from(self.share.number) {
            return;
        }
        let tombstone = self.rules.tombstone.as_ref();
        self.marks.push(Mark {
            key,
            version,
            place: (self.object, self.records),
            record: digest(&[record]),
            group: self.group,
            keyed,
            tombstone: keyed
                && tombstone
                    .zip(json.as_ref())
                    .is_some_and(|(rule, json)| is_tombstone(rule, json)),
        });
    }

    fn key_and_version(&self, json: &Value) -> Option<(String, i128)> {
        let parts = self
            .rules
            .key
            .iter()
            .map(|pointer| key_part(json.pointer(pointer)?));
        let key: Vec<String> = parts.collect::<Option<_>>()?;
        let version = match &self.rules.version {
            Some(pointer) => version(json.pointer(pointer)?)?,
            None => 0,
        };
        Some((serde_json::to_string(&key).ok()?, version))
    }
}

fn digest(parts: &[&[u8]]) -> u128 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(16)
        .fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// A record whatever is wrong inside strings that are no part of a key.
fn parse(record: &[u8]) -> Option<Value> {
    if let Ok(json) = serde_json::from_slice(record) {
        return Some(json);
    }
    let mut text = String::from_utf8_lossy(record).replace(|c: char| c < ' ', " ");
    // Halves of surrogates make no text.
    for half in ["\\ud", "\\uD"] {
        text = text.replace(half, "\\u0");
    }
    serde_json::from_str(&text).ok()
}

fn key_part(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(format!("s{text}")),
        Value::Bool(bool) => Some(bool.to_string()),
        Value::Number(number) => match (number.as_i128(), number.as_f64()?) {
            (Some(integer), _) => Some(format!("n{integer}")),
            (None, float) if float.fract() == 0.0 && float.abs() < 1e30 => {
                Some(format!("n{}", float as i128))
            }
            (None, float) => Some(format!("n{float}")),
        },
        _ => None,
    }
}

fn version(value: &Value) -> Option<i128> {
    match value {
        Value::String(time) => time
            .parse::<Timestamp>()
            .ok()?
            .as_nanosecond()
            .checked_mul(UNITS / 1_000_000_000),
        Value::Number(number) => match number.as_i128() {
            Some(integer) => integer.checked_mul(UNITS),
            None => number
                .as_f64()
                .filter(|float| float.abs() < 1e20)
                .map(|float| (float * 1e18) as i128),
        },
        _ => None,
    }
}

fn is_tombstone(rule: &Tombstone, json: &Value) -> bool {
    match json.pointer(&rule.pointer) {
        Some(Value::String(text)) => *text == rule.equals,
        // By its text, whatever it is.
        Some(other) => {
            let text = other.to_string();
            text == rule.equals
        }
        None => false,
    }
}

/// What is wrong with the keys of a group.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Keys of which there is no record, though there should be one.
    pub missing: u64,
    /// Keys of which there is another than the latest record.
    pub stale: u64,
    /// Records more than one of a key, or of keys that no source has.
    pub superfluous: u64,
}

/// Compares the marks of a share of all keys, by group. `one_job`: the order of sources is the order in which
/// they were read.
pub(super) fn compare(mut sources: Vec<Mark>, mut outputs: Vec<Mark>, one_job: bool) -> BTreeMap<u32, Wrong> {
    sources.sort_unstable();
    outputs.sort_unstable();
    let mut wrong: BTreeMap<u32, Wrong> = BTreeMap::new();
    let mut there = outputs.as_slice();
    for of_key in sources.chunk_by(|one, other| one.key == other.key) {
        let Some(latest) = of_key.last() else { continue };
        let before = there.partition_point(|mark| mark.key < latest.key);
        for superfluous in &there[..before] {
            wrong.entry(superfluous.group).or_default().superfluous += 1;
        }
        there = &there[before..];
        let found = there.partition_point(|mark| mark.key == latest.key);
        judge(
            of_key,
            latest,
            &there[..found],
            one_job,
            wrong.entry(latest.group).or_default(),
        );
        there = &there[found..];
    }
    for superfluous in there {
        wrong.entry(superfluous.group).or_default().superfluous += 1;
    }
    wrong.retain(|_, wrong| *wrong != Wrong::default());
    wrong
}

fn judge(of_key: &[Mark], latest: &Mark, found: &[Mark], one_job: bool, wrong: &mut Wrong) {
    let (all, there) = (of_key.len() as u64, found.len() as u64);
    if !latest.keyed {
        wrong.missing += all.saturating_sub(there);
        wrong.superfluous += there.saturating_sub(all);
        return;
    }
    wrong.superfluous += there.saturating_sub(1);
    let passes = |mark: &Mark| {
        let mut same = of_key.iter().filter(|source| source.record == mark.record);
        if latest.tombstone {
            return same.next().is_some();
        }
        if one_job {
            return mark.record == latest.record;
        }
        same.any(|source| source.version == latest.version)
    };
    match found.first() {
        None if !latest.tombstone => wrong.missing += 1,
        Some(mark) if !passes(mark) => wrong.stale += 1,
        _ => {}
    }
}

/// Names of groups by number.
#[derive(Debug, Default)]
pub(super) struct Groups {
    numbers: BTreeMap<String, u32>,
}

impl Groups {
    pub(super) fn number(&mut self, name: &str) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry(name.to_owned()).or_insert(next)
    }

    pub(super) fn name(&self, number: u32) -> &str {
        let found = self.numbers.iter().find(|(_, known)| **known == number);
        found.map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Deduplicate {
        serde_json::from_value(serde_json::json!({
            "key": ["/id"], "version": "/at",
            "tombstone": {"pointer": "/op", "equals": "delete", "retentionSeconds": 0},
        }))
        .unwrap()
    }

    fn marks(records: &[&str]) -> Vec<Mark> {
        let share = Share::all(0).next().unwrap();
        let mut marker = Marker::new(&rules(), share, 0, 0);
        for record in records {
            marker.take(record.as_bytes());
        }
        marker.marks
    }

    fn wrong(sources: &[&str], outputs: &[&str]) -> Wrong {
        let mut wrong = compare(marks(sources), marks(outputs), true);
        wrong.remove(&0).unwrap_or_default()
    }

    #[test]
    fn the_latest_of_each_key_and_every_record_without_one_is_right() {
        let sources = [
            r#"{"id":1,"at":2}"#,
            r#"{"id":1.0,"at":1}"#,
            "x",
            "x",
            r#"{"id":"1","at":"2026-01-01T00:00:00Z"}"#,
        ];
        assert_eq!(
            wrong(&sources, &[sources[4], "x", sources[0], "x"]),
            Wrong::default()
        );
    }

    #[test]
    fn what_is_missing_stale_or_superfluous_is_found() {
        let sources = [
            r#"{"id":1,"at":1}"#,
            r#"{"id":1,"at":2}"#,
            r#"{"id":2,"at":1}"#,
            "x",
        ];
        assert_eq!(
            wrong(&sources, &[sources[1], sources[2]]),
            Wrong {
                missing: 1,
                ..Wrong::default()
            }
        );
        assert_eq!(
            wrong(&sources, &[sources[1], "x"]),
            Wrong {
                missing: 1,
                ..Wrong::default()
            }
        );
        assert_eq!(
            wrong(&sources, &[sources[0], sources[2], "x"]),
            Wrong {
                stale: 1,
                ..Wrong::default()
            }
        );
        let more = [sources[0], sources[1], sources[2], "x", r#"{"id":3,"at":1}"#];
        assert_eq!(
            wrong(&sources, &more),
            Wrong {
                superfluous: 2,
                stale: 1,
                ..Wrong::default()
            }
        );
    }

    #[test]
    fn a_tombstone_may_be_there_or_not() {
        let sources = [r#"{"id":1,"at":1}"#, r#"{"id":1,"at":2,"op":"delete"}"#];
        assert_eq!(wrong(&sources, &[]), Wrong::default());
        assert_eq!(wrong(&sources, &[sources[1]]), Wrong::default());
    }

    #[test]
    fn shares_are_of_all_keys_together() {
        let records: Vec<String> = (0..100).map(|id| format!(r#"{{"id":{id},"at":1}}"#)).collect();
        let counts = (0..3).map(|number| {
            let mut marker = Marker::new(&rules(), Share { number, of: 3 }, 0, 0);
            for record in &records {
                marker.take(record.as_bytes());
            }
            marker.marks.len()
        });
        assert_eq!(counts.sum::<usize>(), 100);
        assert_eq!(Share::all(SHARE * 2 + 1).count(), 3);
    }
}
