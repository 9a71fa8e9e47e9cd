//! `gc` for people and scripts: what ledgers there are, and what has become of those whose job is gone.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use indicatif::{HumanBytes, HumanDuration};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::state::{self, StateFile};
use crate::disposition::Disposition;
use crate::engine::{self, Directory, Ledgers, PlannedJob, Standing};
use crate::plan::JobName;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    State(#[from] state::Error),
    /// Unlike for `run`, removing it is no way out: it may be all that keeps a ledger.
    #[error(
        "{path} is not the state of a job: {source}; nobody knows which job lives by it, so mend it or move it elsewhere"
    )]
    NotAState {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{0:?} is not the UID of a job")]
    NotAUid(String),
}

/// The UIDs in a text, with spaces, commas or lines between them.
pub fn uids(text: &str) -> Result<BTreeSet<Uuid>, Error> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    words.filter(|word| !word.is_empty()).map(uid).collect()
}

fn uid(text: &str) -> Result<Uuid, Error> {
    Uuid::parse_str(text).map_err(|_| Error::NotAUid(text.to_owned()))
}

/// The UID of the job that a state file keeps; `None` without such a file.
pub fn uid_of_state(path: &Path) -> Result<Option<Uuid>, Error> {
    let job = StateFile::new(path).read().map_err(|error| match error {
        state::Error::NotAState { path, source } => Error::NotAState { path, source },
        other => Error::State(other),
    })?;
    job.and_then(|job| job.metadata.uid)
        .as_deref()
        .map(uid)
        .transpose()
}

/// The UIDs of the jobs whose state files are in the directory of a manifest.
pub fn uids_beside(manifest: &Path) -> Result<BTreeSet<Uuid>, Error> {
    let directory = manifest.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let unreadable = |source| state::Error::Io {
        path: directory.to_owned(),
        source,
    };
    let mut uids = BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().to_string_lossy().ends_with(".state.json") {
            uids.extend(uid_of_state(&entry.path())?);
        }
    }
    Ok(uids)
}

/// What `gc` shows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgersReport {
    /// Where the ledgers are.
    pub directory: String,
    pub ledgers: Vec<LedgerReport>,
    /// Objects that are in no ledger. They are left alone.
    pub other_objects: u64,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerReport {
    pub job_uid: String,
    /// As its plan names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<NamespacedName>,
    /// Why its plan cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_problem: Option<String>,
    pub state: LedgerState,
    pub objects: u64,
    pub bytes: u64,
    pub open_uploads: u64,
    /// When something in it was last written, by the store's clock.
    pub last_written: Option<Timestamp>,
    #[serde(skip)]
    age_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct NamespacedName {
    pub namespace: String,
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum LedgerState {
    /// Its job lives.
    Live,
    /// Its job is not among those that live, but something was written lately.
    Recent,
    /// Nothing but to be swept.
    Abandoned,
    Swept,
    /// Nobody can say whose it is. It is left alone.
    Unclear,
    /// The sweep was begun and did not come to its end.
    Failed,
}

impl LedgersReport {
    /// Looks at the ledgers, and sweeps those that are abandoned if that is wanted.
    pub async fn make(ledgers: &Ledgers, sweep: bool) -> Result<Self, engine::Error> {
        let found = ledgers.find().await?;
        let mut report = Self {
            directory: ledgers.directory(),
            ledgers: found
                .directories
                .iter()
                .map(|d| LedgerReport::of(d, ledgers.now()))
                .collect(),
            other_objects: found.strays,
        };
        let abandoned = |ledger: &&mut LedgerReport| ledger.state == LedgerState::Abandoned;
        for ledger in report.ledgers.iter_mut().filter(abandoned).filter(|_| sweep) {
            match ledgers.sweep(&ledger.job_uid).await {
                Ok(()) => ledger.state = LedgerState::Swept,
                // The others would fare no better.
                Err(error) if error.disposition() == Disposition::Wait => return Err(error),
                Err(error) => {
                    ledger.state = LedgerState::Failed;
                    ledger.problem = Some(error.to_string());
                }
            }
        }
        Ok(report)
    }

    /// Nothing is there that somebody must look at.
    pub fn is_good(&self) -> bool {
        let bad = |ledger: &LedgerReport| matches!(ledger.state, LedgerState::Unclear | LedgerState::Failed);
        !self.ledgers.iter().any(bad)
    }
}

impl LedgerReport {
    fn of(directory: &Directory, now: i64) -> Self {
        let (state, problem) = match &directory.standing {
            Standing::Live => (LedgerState::Live, None),
            Standing::Recent => (LedgerState::Recent, None),
            Standing::Abandoned => (LedgerState::Abandoned, None),
            Standing::Unclear(why) => (LedgerState::Unclear, Some(why.clone())),
        };
        let (job, plan_problem) = match &directory.job {
            PlannedJob::Named(JobName { namespace, name, .. }) => {
                let (namespace, name) = (namespace.clone(), name.clone());
                (Some(NamespacedName { namespace, name }), None)
            }
            PlannedJob::Unplanned => (None, None),
            PlannedJob::Unreadable(why) => (None, Some(why.clone())),
        };
        Self {
            job_uid: directory.job_uid.clone(),
            job,
            plan_problem,
            state,
            objects: directory.objects,
            bytes: directory.size,
            open_uploads: directory.open_uploads,
            last_written: Timestamp::from_second(directory.written).ok(),
            age_seconds: now.saturating_sub(directory.written).max(0) as u64,
            problem,
        }
    }

    fn whose(&self) -> String {
        match (&self.job, &self.plan_problem) {
            (Some(NamespacedName { namespace, name }), _) => format!("{namespace}/{name}"),
            (None, Some(_)) => "unreadable plan".to_owned(),
            (None, None) => "not planned".to_owned(),
        }
    }
}

impl fmt::Display for LedgersReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ledgers under {}", self.ledgers.len(), self.directory)?;
        for ledger in &self.ledgers {
            let age = std::time::Duration::from_secs(ledger.age_seconds);
            writeln!(
                f,
                "{:36}  {:9}  {}: {} objects, {}, {} open uploads, written {} ago",
                ledger.job_uid,
                format!("{:?}", ledger.state),
                ledger.whose(),
                ledger.objects,
                HumanBytes(ledger.bytes),
                ledger.open_uploads,
                HumanDuration(age),
            )?;
            if let Some(problem) = &ledger.plan_problem {
                writeln!(f, "  its plan cannot be read: {problem}")?;
            }
            if let Some(problem) = &ledger.problem {
                writeln!(f, "  {problem}")?;
            }
        }
        if self.other_objects > 0 {
            writeln!(f, "{} objects are in no ledger, and stay", self.other_objects)?;
        }
        let abandoned = self.ledgers.iter().filter(|l| l.state == LedgerState::Abandoned);
        match abandoned.count() {
            0 => Ok(()),
            count => writeln!(f, "{count} abandoned; --delete sweeps what is abandoned"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_taken_from_a_line_a_list_or_lines_and_nothing_else_passes_for_one() {
        let [a, b] = [
            "0b5e5e0a-8a4f-4d65-9a6c-0f3f1c0f7a11",
            "a6f7d8a2-4f43-4c5e-9d4d-0a1b2c3d4e5f",
        ];
        for text in [format!("{a} {b}"), format!("{a},{b}"), format!("{a}\n{b}\n")] {
            let found = uids(&text).unwrap().into_iter();
            assert_eq!(found.map(|uid| uid.to_string()).collect::<Vec<_>>(), [a, b]);
        }
        assert!(uids(" \n").unwrap().is_empty());
        assert!(matches!(uids("job-1"), Err(Error::NotAUid(word)) if word == "job-1"));
    }

    #[test]
    fn a_uid_is_the_same_however_it_is_written() {
        let uid = "a6f7d8a2-4f43-4c5e-9d4d-0a1b2c3d4e5f";
        for text in [
            uid.to_uppercase(),
            format!("{{{uid}}}"),
            format!("urn:uuid:{uid}"),
        ] {
            assert_eq!(uids(&text).unwrap(), uids(uid).unwrap(), "{text}");
        }
    }
}
