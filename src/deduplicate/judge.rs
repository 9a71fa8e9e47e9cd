//! What a record says of itself: its key, its version, and whether it is a tombstone that may go.

use sha2::{Digest, Sha256};

use super::json::{NotJson, Pointers};
use super::value::{Version, add_to_key, reads};
use super::{Rules, Tombstone};

/// A record as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyed {
    /// 128 bits of the SHA-256 of group and key.
    pub hash: u128,
    pub version: i128,
    /// A tombstone that has outlived its retention.
    pub expired: bool,
}

/// Why a record is of no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unkeyed {
    #[error("it is not JSON")]
    NotJson,
    #[error("it has no string, number or boolean at {0}, which is part of the key")]
    NoKey(String),
    #[error("it has neither a number nor an RFC 3339 time at {0}, which is the version")]
    NoVersion(String),
}

impl From<NotJson> for Unkeyed {
    fn from(_: NotJson) -> Self {
        Self::NotJson
    }
}

/// Judges the records of one group at a time; what a format has to know for deduplication.
pub trait Judge: Send {
    /// The records that follow are of this group: their keys are none of another group's.
    fn enter_group(&mut self, directory: &str);
    /// Judges one record, without what ends it.
    fn judge(&self, record: &[u8]) -> Result<Keyed, Unkeyed>;
    /// The hash of a record of no key, which is like no other.
    fn unkeyed(&self, position: u64) -> u128;
}

/// A judge of records that are JSON.
pub fn judge(rules: &Rules) -> Box<dyn Judge> {
    let tombstone = rules
        .tombstone
        .as_ref()
        .map(|tombstone| tombstone.pointer.as_str());
    let pointers = rules.key.iter().map(String::as_str);
    let pointers = pointers.chain(rules.version.as_deref()).chain(tombstone);
    Box::new(Json {
        pointers: Pointers::new(pointers),
        rules: rules.clone(),
        group: Sha256::new(),
    })
}

struct Json {
    /// Those of the key, of the version and of the tombstone, in this order.
    pointers: Pointers,
    rules: Rules,
    /// What each key's hash begins with.
    group: Sha256,
}

/// Values found at once without asking for memory: more than the pointers that rules may have.
const FOUND: usize = 16;

impl Judge for Json {
    fn enter_group(&mut self, directory: &str) {
        self.group = Sha256::new();
        self.group.update((directory.len() as u64).to_le_bytes());
        self.group.update(directory);
    }

    fn judge(&self, record: &[u8]) -> Result<Keyed, Unkeyed> {
        let Rules {
            key,
            version,
            tombstone,
            ..
        } = &self.rules;
        let mut few = [None; FOUND];
        let mut many = Vec::new();
        let count = key.len() + 2;
        let found = if count <= FOUND {
            &mut few[..count]
        } else {
            many.resize(count, None);
            &mut many[..]
        };
        self.pointers.find(record, found)?;

        let mut hash = self.group.clone();
        for (pointer, value) in key.iter().zip(found.iter()) {
            let added = value.and_then(|value| add_to_key(value, &mut hash));
            added.ok_or_else(|| Unkeyed::NoKey(pointer.clone()))?;
        }
        let mut rest = found[key.len()..].iter();
        let version = match version {
            Some(pointer) => {
                let value = rest.next().copied().flatten().and_then(Version::of);
                Some(value.ok_or_else(|| Unkeyed::NoVersion(pointer.clone()))?)
            }
            None => None,
        };
        let expired = match (tombstone, rest.next().copied().flatten()) {
            (Some(tombstone), Some(value)) => {
                reads(value, &tombstone.equals) && has_expired(tombstone, version)
            }
            _ => false,
        };
        Ok(Keyed {
            hash: first_128_bits(hash),
            version: version.map_or(0, |version| version.order),
            expired,
        })
    }

    fn unkeyed(&self, position: u64) -> u128 {
        let mut hash = self.group.clone();
        // No value of a key begins so.
        hash.update(b"-");
        hash.update(position.to_le_bytes());
        first_128_bits(hash)
    }
}

/// One without a time has no age: it stays, unless none is asked for.
fn has_expired(tombstone: &Tombstone, version: Option<Version>) -> bool {
    match (
        tombstone.expired_before,
        version.and_then(|version| version.seconds),
    ) {
        (None, _) => true,
        (Some(before), Some(seconds)) => seconds <= before,
        (Some(_), None) => false,
    }
}

fn first_128_bits(hash: Sha256) -> u128 {
    let digest = hash.finalize();
    digest
        .iter()
        .take(16)
        .fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}
