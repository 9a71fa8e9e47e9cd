//! What a schema cannot say: sizes that parse and fit together.

use kube::CustomResourceExt;
use kube::core::cel;
use serde::Serialize;

use super::{CompactionJob, CompactionJobSpec, CompactionSchedule, Quantity, crd};

/// S3's smallest part that is not the last one, and its largest.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
pub const MIN_PART_BYTES: u64 = 5 << 20;
pub const MAX_PART_BYTES: u64 = 5 << 30;

/// A spec that the schema lets pass but that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.{field}: {problem}")]
pub struct InvalidSpec {
    pub field: &'static str,
    pub problem: String,
}

/// The sizes of a spec, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub part: u64,
    pub batch: u64,
    pub target: u64,
    pub max_source: u64,
    /// Raw bytes between two cuts.
    pub cut: u64,
    /// The longest record.
    pub max_record: u64,
    /// What the keys that are deduplicated at one time may take.
    pub table: u64,
}

/// Raw bytes between two cuts, and the raw size of an encoded frame.
pub const CUT_BYTES: u64 = 4 << 20;
/// The longest record that a source may have. Bytes.
pub const MAX_RECORD_BYTES: u64 = 8 << 20;

/// What the keys that are deduplicated at one time may take, where the worker's memory allows it. Bytes.
pub const MAX_TABLE_BYTES: u64 = 4 << 30;

impl Limits {
    pub fn of(spec: &CompactionJobSpec) -> Result<Self, InvalidSpec> {
        let limits = Self {
            part: bytes("upload.partSize", &spec.upload.part_size)?,
            batch: bytes("batch.size", &spec.batch.size)?,
            target: bytes("output.targetObjectSize", &spec.output.target_object_size)?,
            max_source: bytes("source.maxObjectSize", &spec.source.max_object_size)?,
            cut: CUT_BYTES,
            max_record: MAX_RECORD_BYTES,
            table: MAX_TABLE_BYTES,
        };
        if !(MIN_PART_BYTES..=MAX_PART_BYTES).contains(&limits.part) {
            return Err(InvalidSpec {
                field: "upload.partSize",
                problem: format!(
                    "{} is not between 5Mi and 5Gi, which S3 demands of parts",
                    spec.upload.part_size
                ),
            });
        }
        Ok(limits)
    }
}

fn bytes(field: &'static str, quantity: &Quantity) -> Result<u64, InvalidSpec> {
    quantity.bytes().filter(|bytes| *bytes > 0).ok_or_else(|| InvalidSpec {
        field,
        problem: format!("{quantity:?} is not a size; write a number of bytes, or one with Ki, Mi, Gi, Ti, k, M, G or T"),
    })
}

impl CompactionJob {
    /// Everything that an API server would refuse, by the schema and the rules of the CRD itself, and
    /// what only a worker would find. `old`: the object that this one replaces, for the immutable fields.
    pub fn check(&self, old: Option<&Self>) -> Result<Limits, Vec<String>> {
        let mut problems = refusals(self, old);
        match Limits::of(&self.spec) {
            Ok(limits) if problems.is_empty() => Ok(limits),
            Ok(_) => Err(problems),
            Err(error) => {
                problems.push(error.to_string());
                Err(problems)
            }
        }
    }
}

impl CompactionSchedule {
    /// Everything that an API server would refuse. `old`: the object that this one replaces.
    pub fn check(&self, old: Option<&Self>) -> Result<(), Vec<String>> {
        match refusals(self, old) {
            problems if problems.is_empty() => Ok(()),
            problems => Err(problems),
        }
    }
}

/// By the schema and the rules of the CRD.
fn refusals<K: CustomResourceExt + Serialize>(object: &K, old: Option<&K>) -> Vec<String> {
    broken_rules(object, old).unwrap_or_else(|error| vec![error.to_string()])
}

fn broken_rules<K: CustomResourceExt + Serialize>(
    object: &K,
    old: Option<&K>,
) -> Result<Vec<String>, serde_json::Error> {
    let schema = crd::schema::<K>()?;
    let (object, old) = (serde_json::to_value(object)?, old.map(serde_json::to_value));
    let mut problems = crd::bounds(&schema, &object);
    let rules = cel::Validator::new().validate(&schema, &object, old.transpose()?.as_ref());
    let broken = rules.err().into_iter().flat_map(cel::ValidationErrors::into_vec);
    problems.extend(broken.map(|error| error.to_string()));
    Ok(problems)
}

#[cfg(test)]
mod ask;
#[cfg(test)]
mod schedule_tests;
#[cfg(test)]
mod tests;
