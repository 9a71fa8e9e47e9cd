//! Which objects of a listing become sources, and why the others do not.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use crate::api::{GroupBy, Limits, OnFault, Source as SourceSpec};
use crate::store::Object;

/// Why an object is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeftOut {
    /// Under a state prefix, or beside a manifest: this project's own.
    Own,
    /// A placeholder that consoles make for a folder.
    FolderMarker,
    NotIncluded,
    Excluded,
    /// Modified less than `minObjectAgeSeconds` ago.
    TooYoung,
    TooLarge,
    /// An earlier job has published its records already.
    Consumed,
    /// Must be restored before it can be read.
    Archived,
    /// Its group has fewer than `minSourcesPerGroup` objects.
    GroupTooSmall,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A source of the group of this directory, relative to the source prefix.
    Take {
        directory: String,
    },
    Leave(LeftOut),
    /// Cannot be read, and the job says to fail on such.
    Fail,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("spec.source.{field}: {glob:?} is not a glob: {problem}")]
pub struct InvalidGlob {
    pub field: &'static str,
    pub glob: String,
    pub problem: String,
}

/// The rules of `spec.source`, ready to judge a listing.
pub struct Selector {
    prefix: String,
    state_prefix: String,
    include: Option<GlobSet>,
    exclude: GlobSet,
    /// Modified later than this is too young. Seconds since the epoch.
    newest: i64,
    max_size: u64,
    group_by: GroupBy,
    skip_bad: bool,
}

/// Working files live under a path segment of this name, wherever a job may have been told to put them.
const OWN_SEGMENT: &str = "_compaction";

impl Selector {
    /// `now`: seconds since the epoch.
    pub fn new(
        source: &SourceSpec,
        state_prefix: &str,
        group_by: GroupBy,
        limits: &Limits,
        now: i64,
    ) -> Result<Self, InvalidGlob> {
        Ok(Self {
            prefix: source.prefix.clone(),
            state_prefix: state_prefix.to_owned(),
            include: if source.include.is_empty() {
                None
            } else {
                Some(globs("include", &source.include)?)
            },
            exclude: globs("exclude", &source.exclude)?,
            newest: now.saturating_sub(source.min_object_age_seconds),
            max_size: limits.max_source,
            group_by,
            skip_bad: source.on_bad_source == OnFault::Skip,
        })
    }

    /// `consumed`: whether an earlier job has published this version of the object.
    pub fn judge(&self, object: &Object, consumed: bool) -> Verdict {
        let Some(name) = object.key.strip_prefix(&self.prefix) else {
            return Verdict::Leave(LeftOut::Own);
        };
        let own =
            object.key.starts_with(&self.state_prefix) || object.key.split('/').any(|s| s == OWN_SEGMENT);
        let leave = if own {
            LeftOut::Own
        } else if name.ends_with('/') || name.is_empty() {
            LeftOut::FolderMarker
        } else if consumed {
            // Before everything that a job may set otherwise than the one before it: what is taken for
            // consumed goes on to this job's list, and what is left out for another reason does not.
            LeftOut::Consumed
        } else if self.include.as_ref().is_some_and(|globs| !globs.is_match(name)) {
            LeftOut::NotIncluded
        } else if self.exclude.is_match(name) {
            LeftOut::Excluded
        } else if object.modified > self.newest {
            LeftOut::TooYoung
        } else if object.size > self.max_size {
            LeftOut::TooLarge
        } else if !object.readable {
            if !self.skip_bad {
                return Verdict::Fail;
            }
            LeftOut::Archived
        } else {
            let directory = match self.group_by {
                GroupBy::Directory => name.rfind('/').map_or("", |slash| &name[..=slash]),
                GroupBy::All => "",
            };
            return Verdict::Take {
                directory: directory.to_owned(),
            };
        };
        Verdict::Leave(leave)
    }
}

fn globs(field: &'static str, patterns: &[String]) -> Result<GlobSet, InvalidGlob> {
    let mut set = GlobSetBuilder::new();
    for glob in patterns {
        let invalid = |error: globset::Error| InvalidGlob {
            field,
            glob: glob.clone(),
            problem: error.kind().to_string(),
        };
        set.add(
            GlobBuilder::new(glob)
                .literal_separator(true)
                .build()
                .map_err(invalid)?,
        );
    }
    set.build().map_err(|error| InvalidGlob {
        field,
        glob: patterns.join(", "),
        problem: error.kind().to_string(),
    })
}

#[cfg(test)]
mod tests;
