//! What stops a duty, and what to do about it.

use super::FenceError;
use crate::api::InvalidSpec;
use crate::deduplicate::Unkeyed;
use crate::disposition::Disposition;
use crate::format::BadSource;
use crate::{plan, store};

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Fence(#[from] FenceError),
    #[error(transparent)]
    Glob(#[from] plan::InvalidGlob),
    #[error(transparent)]
    Spec(#[from] InvalidSpec),
    #[error("source {key}: {problem}; repair or remove the object, exclude it, or set onBadSource: Skip")]
    BadSource { key: String, problem: BadSource },
    #[error(
        "source {0} must be restored from its archive before it can be read; restore it, exclude it, or set onBadSource: Skip"
    )]
    Archived(String),
    #[error("source {0} is gone since the plan was made; set onMissingSource: Skip, or create a new job")]
    Missing(String),
    #[error("source {0} has changed since the plan was made; create a new job")]
    Changed(String),
    /// The store does not hand out this one source.
    #[error("source cannot be read: {0}")]
    SourceRefused(store::Error),
    /// The group that was given up last is told in the status.
    #[error("{0} groups of this shard failed, more than maxFailedGroups; raise it to go on without them")]
    TooManyFailedGroups(u64),
    #[error("ledger object {name}: {problem}; create a new job, the sources are untouched")]
    Ledger { name: String, problem: String },
    /// Of a job that has published.
    #[error("{key}: {problem}; restore it: without it nobody knows what was compacted already")]
    Published { key: String, problem: String },
    /// Of a ledger that was taken for abandoned.
    #[error("{0} was written lately: a worker is still there; let the ledger be, and look again later")]
    LedgerInUse(String),
    #[error(
        "the name of an output in {0} would be longer than the 1,024 bytes that S3 allows; shorten output.prefix"
    )]
    NameTooLong(String),
    #[error(
        "a window of {window} bytes is too small for parts of {part} bytes: it must hold at least {least}; give the worker more memory or lower upload.partSize"
    )]
    WindowTooSmall { window: u64, part: u64, least: u64 },
    #[error(
        "output {0} would need more than 10,000 parts; raise upload.partSize or lower output.targetObjectSize"
    )]
    TooManyParts(String),
    /// The open output can neither be gone on with nor found finished: it is built again from its start.
    #[error("output {key} was lost: {why}")]
    OutputLost { key: String, why: String },
    /// A published or finished output is not what was written.
    #[error("output {key} {problem}; it was removed or replaced by somebody else: create a new job")]
    OutputAltered { key: String, problem: String },
    #[error(
        "record {record} of source {key}: {why}; repair or remove the object, exclude it, or set deduplicate.onUnkeyedRecord: Keep"
    )]
    UnkeyedRecord { key: String, record: u64, why: Unkeyed },
    #[error(
        "source {0} has more records, or a shard more sources, than can be deduplicated; lower source.maxObjectSize or raise parallelism"
    )]
    TooManyRecords(String),
    #[error(
        "{keys} keys of one group do not fit the passes that are made at most; give the worker more memory or use output.groupBy: Directory"
    )]
    TooManyKeys { keys: u64 },
    #[error(
        "the state of a batch would have {0} bytes, which is too much: so many sources of one group cannot be left out; \
         find out why they are missing or bad, or use output.groupBy: Directory"
    )]
    BodyTooLarge(usize),
    /// It panicked, or was ended from outside.
    #[error(
        "{doing}: the task ended in the middle ({why}); it is done again; please report it with the worker's log"
    )]
    TaskFailed { doing: String, why: String },
    #[error("a batch did not end within {0} s (batch.uploadDeadlineSeconds)")]
    Deadline(u64),
    #[error(
        "the store does not honour conditional deletes; set allowUnconditionalDelete: true to delete sources all the same"
    )]
    UnconditionalDelete,
}

impl Error {
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Store(error) | Self::SourceRefused(error) => error.disposition(),
            Self::Fence(error) => error.disposition(),
            Self::OutputLost { .. } | Self::TaskFailed { .. } | Self::Deadline(_) => Disposition::Retry,
            Self::Glob(_)
            | Self::Spec(_)
            | Self::BadSource { .. }
            | Self::Archived(_)
            | Self::Missing(_)
            | Self::Changed(_)
            | Self::TooManyFailedGroups(_)
            | Self::Ledger { .. }
            | Self::Published { .. }
            | Self::LedgerInUse(_)
            | Self::NameTooLong(_)
            | Self::WindowTooSmall { .. }
            | Self::TooManyParts(_)
            | Self::OutputAltered { .. }
            | Self::UnkeyedRecord { .. }
            | Self::TooManyRecords(_)
            | Self::TooManyKeys { .. }
            | Self::BodyTooLarge(_)
            | Self::UnconditionalDelete => Disposition::GiveUp,
        }
    }

    /// Whether the group in hand alone is to blame, so that others can go on without it.
    pub(super) fn is_the_groups_own(&self) -> bool {
        matches!(
            self,
            Self::BadSource { .. }
                | Self::Archived(_)
                | Self::Missing(_)
                | Self::Changed(_)
                | Self::SourceRefused(_)
                | Self::OutputLost { .. }
        )
    }

    /// A word for status and logs, from a closed list.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Store(error) if error.kind == store::ErrorKind::Unordered => "ListingOutOfOrder",
            Self::Store(_) => "StorageError",
            Self::Fence(FenceError::Fenced(_)) => "Fenced",
            Self::Fence(_) => "ApiServerError",
            Self::Glob(_)
            | Self::Spec(_)
            | Self::WindowTooSmall { .. }
            | Self::NameTooLong(_)
            | Self::TooManyParts(_)
            | Self::TooManyRecords(_)
            | Self::TooManyKeys { .. }
            | Self::BodyTooLarge(_) => "InvalidSpec",
            Self::BadSource { .. } | Self::Archived(_) => "BadSource",
            Self::UnkeyedRecord { .. } => "UnkeyedRecord",
            Self::Missing(_) => "SourceMissing",
            Self::Changed(_) => "SourceChanged",
            Self::SourceRefused(_) => "SourceRefused",
            Self::TooManyFailedGroups(_) => "TooManyFailedGroups",
            Self::Ledger { .. } => "LedgerDamaged",
            Self::Published { .. } => "ManifestDamaged",
            Self::LedgerInUse(_) => "LedgerInUse",
            Self::OutputLost { .. } => "OutputLost",
            Self::TaskFailed { .. } => "TaskFailed",
            Self::OutputAltered { .. } => "OutputAltered",
            Self::Deadline(_) => "UploadDeadlineExceeded",
            Self::UnconditionalDelete => "ConditionalDeleteUnsupported",
        }
    }
}
