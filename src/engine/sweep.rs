//! Ledgers whose job is gone (I10): found by their directories, judged, and swept.
//!
//! Who lives is for the caller to say. A ledger goes only if its job is not among the living, nothing in it was
//! written lately, and all that is in it is what jobs write. Nothing outside of ledgers is ever touched but the
//! uploads that they record: manifests, outputs and consumed lists stay.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::cleanup::{Leave, end_recorded, remove, uploads_of};
use super::published::{CONSUMED, MANIFEST, manifest_directory};
use super::{Error, Ledger, Writer};
use crate::disposition::Disposition;
use crate::plan::JobName;
use crate::store::{ErrorKind, Object, Pages, Store};

/// Records looked at at the same time.
const CONCURRENCY: usize = 16;

/// The ledgers of one cluster in a bucket.
pub struct Ledgers {
    store: Arc<dyn Store>,
    state_prefix: String,
    cluster: String,
    /// UIDs of the jobs that live.
    living: BTreeSet<Uuid>,
    /// Seconds since the epoch.
    now: i64,
    /// What was written after this is not abandoned yet.
    written_before: i64,
}

/// What is under the directory of one cluster.
#[derive(Debug, Default)]
pub struct Found {
    pub directories: Vec<Directory>,
    /// Objects that are in no job's directory.
    pub strays: u64,
}

/// The ledger of one job, as it was found.
#[derive(Debug)]
pub struct Directory {
    pub job_uid: String,
    pub job: PlannedJob,
    pub objects: u64,
    /// Bytes.
    pub size: u64,
    /// When something in it was last written. Seconds since the epoch, by the store's clock.
    pub written: i64,
    /// Uploads that it records and that are open.
    pub open_uploads: u64,
    pub standing: Standing,
    /// Key of its plan; of the last one, where several workers made one.
    plan: Option<String>,
}

/// Whose a ledger is, as far as its plan tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedJob {
    Named(JobName),
    /// There is no plan in it.
    Unplanned,
    /// Its plan cannot be read, and why.
    Unreadable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its job lives.
    Live,
    /// Its job is not known to live, but something was written lately.
    Recent,
    Abandoned,
    /// Nobody can say whose this is, and why.
    Unclear(String),
}

impl Ledgers {
    /// Asks the store for the time. Where its clock and this machine's, `here`, differ, the earlier one counts: by it,
    /// what was written lately is not too old.
    pub async fn open(
        store: Arc<dyn Store>,
        state_prefix: &str,
        cluster: &str,
        living: BTreeSet<Uuid>,
        here: i64,
        min_age_seconds: u32,
    ) -> Result<Self, Error> {
        let there = store.time(state_prefix).await?;
        let now = there.map_or(here, |there| there.min(here));
        Ok(Self {
            store,
            state_prefix: state_prefix.to_owned(),
            cluster: cluster.to_owned(),
            living,
            now,
            written_before: now - i64::from(min_age_seconds),
        })
    }

    /// The time that ages are measured against. Seconds since the epoch.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Ends with a slash.
    pub fn directory(&self) -> String {
        format!("{}{}/", self.state_prefix, self.cluster)
    }

    /// Looks at all of them; changes nothing.
    pub async fn find(&self) -> Result<Found, Error> {
        let parent = self.directory();
        let mut found = Found::default();
        let mut pages = Pages::of(parent.as_str());
        while let Some(objects) = pages.next(&*self.store).await? {
            for object in &objects {
                self.take(&mut found, &parent, object);
            }
        }
        for directory in &mut found.directories {
            directory.job = self.planned_job(directory).await?;
            match self.open_uploads(&directory.job_uid).await {
                Ok(open) => directory.open_uploads = open.len() as u64,
                Err(error) if error.disposition() == Disposition::Wait => return Err(error),
                // A job that lives may have removed the record meanwhile.
                Err(error) if directory.standing == Standing::Abandoned => {
                    directory.standing = Standing::Unclear(error.to_string());
                }
                Err(_) => {}
            }
        }
        Ok(found)
    }

    /// Objects come in key order, so those of one directory come together.
    fn take(&self, found: &mut Found, parent: &str, object: &Object) {
        let rest = object.key.strip_prefix(parent).unwrap_or_default();
        let Some((uid, name)) = rest.split_once('/') else {
            found.strays += 1;
            return;
        };
        if found.directories.last().is_none_or(|last| last.job_uid != uid) {
            found.directories.push(Directory {
                job_uid: uid.to_owned(),
                job: PlannedJob::Unplanned,
                objects: 0,
                size: 0,
                written: i64::MIN,
                open_uploads: 0,
                standing: self.standing(uid),
                plan: None,
            });
        }
        let Some(directory) = found.directories.last_mut() else {
            return;
        };
        directory.objects += 1;
        directory.size += object.size;
        directory.written = directory.written.max(object.modified);
        if directory.standing == Standing::Abandoned && object.modified > self.written_before {
            directory.standing = Standing::Recent;
        }
        if Ledger::is_plan(name) {
            directory.plan = Some(object.key.clone());
        }
        let may_go = matches!(directory.standing, Standing::Abandoned | Standing::Recent);
        if !Ledger::knows(name) && may_go {
            directory.standing = Standing::Unclear(format!("no job writes {}", object.key));
        }
    }

    /// Before anything in it was looked at.
    fn standing(&self, uid: &str) -> Standing {
        match Uuid::parse_str(uid) {
            Ok(uid) if self.living.contains(&uid) => Standing::Live,
            Ok(_) => Standing::Abandoned,
            Err(_) => Standing::Unclear(format!("{uid:?} is not the UID of a job")),
        }
    }

    async fn planned_job(&self, directory: &Directory) -> Result<PlannedJob, Error> {
        let Some(plan) = &directory.plan else {
            return Ok(PlannedJob::Unplanned);
        };
        match self.ledger(&directory.job_uid).job_of_plan(plan).await {
            Ok(job) => Ok(job.map_or(PlannedJob::Unplanned, PlannedJob::Named)),
            Err(error) if error.disposition() == Disposition::Wait => Err(error),
            Err(Error::Ledger { problem, .. }) => Ok(PlannedJob::Unreadable(problem)),
            Err(error) => Ok(PlannedJob::Unreadable(error.to_string())),
        }
    }

    /// Keys and ids of the open uploads that a ledger records. An error when a record cannot be one of that job.
    async fn open_uploads(&self, uid: &str) -> Result<BTreeSet<(String, String)>, Error> {
        let ledger = self.ledger(uid);
        let mut open = BTreeSet::new();
        let mut pages = Pages::of(ledger.uploads_directory());
        while let Some(records) = pages.next(&*self.store).await? {
            let looks: Vec<_> = records
                .iter()
                .map(|record| self.recorded(&ledger, &record.key))
                .collect();
            let found: Vec<Vec<(String, String)>> = stream::iter(looks)
                .buffer_unordered(CONCURRENCY)
                .try_collect()
                .await?;
            open.extend(found.into_iter().flatten());
        }
        Ok(open)
    }

    async fn recorded(&self, ledger: &Ledger, name: &str) -> Result<Vec<(String, String)>, Error> {
        let Some(record) = ledger.upload_record(name).await? else {
            return Ok(Vec::new());
        };
        let key = record.key;
        if !is_uploaded_by(ledger.directory(), &key) {
            return Err(Error::Ledger {
                name: name.to_owned(),
                problem: format!("this job does not upload {key}"),
            });
        }
        let ids = match record.id {
            None => uploads_of(&*self.store, &key).await?,
            Some(id) => match self.store.list_parts(&key, &id).await {
                Ok(parts) => parts.map(|_| id).into_iter().collect(),
                // A store that does not list parts: the intention beside this record finds it.
                Err(error) if error.kind == ErrorKind::Unsupported => Vec::new(),
                Err(error) => return Err(error.into()),
            },
        };
        Ok(ids.into_iter().map(|id| (key.clone(), id)).collect())
    }

    fn ledger(&self, uid: &str) -> Ledger {
        let writer = Writer {
            shard: 0,
            epoch: 0,
            holder: "gc".to_owned(),
        };
        Ledger::new(
            Arc::clone(&self.store),
            &self.state_prefix,
            &self.cluster,
            uid,
            writer,
        )
    }

    /// Ends the uploads of an abandoned ledger and deletes it. Stops when anything in it was written lately.
    pub async fn sweep(&self, uid: &str) -> Result<(), Error> {
        let ledger = self.ledger(uid);
        self.is_unwritten(&ledger).await?;
        let mut leave = Leave::UnwrittenSince(self.written_before);
        end_recorded(&*self.store, &ledger, &mut leave).await?;
        remove(&*self.store, &ledger, &mut leave).await
    }

    async fn is_unwritten(&self, ledger: &Ledger) -> Result<(), Error> {
        let mut leave = Leave::UnwrittenSince(self.written_before);
        let mut pages = Pages::of(ledger.directory());
        while let Some(objects) = pages.next(&*self.store).await? {
            leave.check(&objects).await?;
        }
        Ok(())
    }
}

/// Whether the job of this ledger may have opened an upload of a key: of an output, of a file beside its manifest, or
/// of a list in the ledger itself.
fn is_uploaded_by(directory: &str, key: &str) -> bool {
    let uid = directory
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let is_published = |name: &&str| key.ends_with(&format!("{}{uid}/{name}", manifest_directory("")));
    let is_output = key
        .rsplit('/')
        .next()
        .is_some_and(|file| file.starts_with("part-"));
    is_output || key.starts_with(directory) || [MANIFEST, CONSUMED].iter().any(is_published)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_uploads_outputs_lists_of_its_own_and_what_it_publishes() {
        let directory = "_compaction/default/uid-1/";
        for key in [
            "out/2026/part-00aa-000-00000.json",
            "_compaction/default/uid-1/plan-1/candidates.jsonl",
            "out/_compaction/uid-1/manifest.json",
            "out/_compaction/uid-1/consumed.jsonl",
        ] {
            assert!(is_uploaded_by(directory, key), "{key}");
        }
        for key in [
            "in/2026/log.json",
            "_compaction/default/uid-2/plan-1/candidates.jsonl",
            "out/_compaction/uid-2/manifest.json",
            "out/_compaction/uid-1/_SUCCESS",
        ] {
            assert!(!is_uploaded_by(directory, key), "{key}");
        }
    }
}
