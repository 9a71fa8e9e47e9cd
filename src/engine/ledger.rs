//! The ledger: immutable, uniquely named objects of one job under `<statePrefix>/<cluster-id>/<job-uid>/`.
//!
//! Names carry the epoch and the holder that wrote them, so that a late worker never touches what
//! another one wrote. Nothing here is true by existing: the job's status says what counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::body::{Bitmaps, BodyRef, RunOfEntries};
use super::{Body, Error};
use crate::deduplicate::{Layout, Survivors};
use crate::plan::{JobName, Plan, Segment};
use crate::store::{Put, Store};

/// Bounds on what is read back, so that an altered object cannot make a worker run out of memory.
const MAX_PLAN_BYTES: u64 = 64 << 20;
const MAX_SEGMENT_BYTES: u64 = 8 << 20;
const MAX_BODY_BYTES: u64 = 16 << 20;
const MAX_UPLOAD_RECORD_BYTES: u64 = 64 << 10;
const MAX_BITMAPS_BYTES: u64 = 8 << 20;
const MAX_BITMAPS_LIST_BYTES: u64 = 64 << 20;

/// Who writes: part of every name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    pub shard: usize,
    pub epoch: i64,
    pub holder: String,
}

#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
    /// Ends with a slash.
    directory: String,
    writer: Writer,
    /// Uploads that this writer has recorded.
    uploads: Arc<AtomicU64>,
}

/// An upload that may be open, recorded before its first part (I10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UploadRecord {
    pub key: String,
    /// Absent in the record that is made before the upload is.
    pub id: Option<String>,
}

impl Ledger {
    pub fn new(
        store: Arc<dyn Store>,
        state_prefix: &str,
        cluster: &str,
        job_uid: &str,
        writer: Writer,
    ) -> Self {
        Self {
            store,
            directory: format!("{state_prefix}{cluster}/{job_uid}/"),
            writer,
            uploads: Arc::default(),
        }
    }

    pub(crate) fn in_store(&self, store: Arc<dyn Store>) -> Self {
        Self {
            store,
            ..self.clone()
        }
    }

    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    /// Whether a job may have written an object of this name.
    pub(crate) fn knows(name: &str) -> bool {
        let Some((kind, _)) = name.split_once('/') else {
            return false;
        };
        let is_shard = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        matches!(kind, "probe" | "plan" | "uploads") || kind.strip_prefix("shard-").is_some_and(is_shard)
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.directory)
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<String, Error> {
        self.create(name, bytes.into()).await
    }

    /// Names are unique, so nothing is ever replaced; the hash recognises our own after a lost answer.
    async fn create(&self, name: &str, bytes: Bytes) -> Result<String, Error> {
        let sha256 = sha256(&bytes);
        let options = Put {
            create_only: true,
            token: Some(&sha256),
            attributes: None,
        };
        self.store.put(&self.path(name), bytes, options).await?;
        Ok(sha256)
    }

    async fn put_json<T: Serialize>(&self, name: &str, value: &T) -> Result<String, Error> {
        let bytes = serde_json::to_vec(value).map_err(|error| damaged(name, error.to_string()))?;
        self.put(name, bytes).await
    }

    /// The object's bytes if they have this hash. Missing or altered is an error that says so.
    async fn get(&self, name: &str, sha256_wanted: &str, limit: u64) -> Result<Bytes, Error> {
        let bytes = self.store.get(&self.path(name), limit).await?;
        let bytes = bytes.ok_or_else(|| damaged(&self.path(name), "it is missing".to_owned()))?;
        if sha256(&bytes) != sha256_wanted {
            return Err(damaged(&self.path(name), "it was altered".to_owned()));
        }
        Ok(bytes)
    }

    async fn get_json<T: DeserializeOwned>(&self, name: &str, sha256: &str, limit: u64) -> Result<T, Error> {
        let bytes = self.get(name, sha256, limit).await?;
        serde_json::from_slice(&bytes).map_err(|error| damaged(&self.path(name), error.to_string()))
    }

    /// Where the objects of a plan are: `location` tells two planners apart.
    pub(crate) fn plan_location(&self) -> String {
        format!("plan/{}-{}", self.writer.epoch, self.writer.holder)
    }

    pub(crate) async fn put_segment(&self, number: u32, segment: &Segment) -> Result<String, Error> {
        let name = segment_name(&self.plan_location(), number);
        let bytes = segment
            .encode()
            .map_err(|error| damaged(&name, error.to_string()))?;
        self.put(&name, bytes).await
    }

    pub(crate) async fn segment(&self, location: &str, number: u32, sha256: &str) -> Result<Segment, Error> {
        let name = segment_name(location, number);
        let bytes = self.get(&name, sha256, MAX_SEGMENT_BYTES).await?;
        Segment::decode(&bytes).map_err(|error| damaged(&self.path(&name), error.to_string()))
    }

    /// Key of the list of candidates: every source, and what earlier jobs consumed, in key order.
    pub(crate) fn candidates_key(&self, location: &str) -> String {
        self.path(&format!("{location}/candidates.jsonl"))
    }

    /// Returns its hash.
    pub(crate) async fn put_dropped(&self, groups: &[u64]) -> Result<String, Error> {
        self.put_json(&dropped_name(&self.plan_location()), &groups).await
    }

    /// Groups that the plan left out after their sources had been listed as candidates. Ascending.
    pub(crate) async fn dropped(&self, location: &str, sha256: &str) -> Result<Vec<u64>, Error> {
        self.get_json(&dropped_name(location), sha256, MAX_PLAN_BYTES)
            .await
    }

    pub(crate) async fn put_plan(&self, plan: &Plan) -> Result<String, Error> {
        self.put_json(&format!("{}/plan.json", self.plan_location()), plan)
            .await
    }

    pub async fn plan(&self, location: &str, sha256: &str) -> Result<Plan, Error> {
        self.get_json(&format!("{location}/plan.json"), sha256, MAX_PLAN_BYTES)
            .await
    }

    /// Whether an object of this name is a plan.
    pub(crate) fn is_plan(name: &str) -> bool {
        name.starts_with("plan/") && name.ends_with("/plan.json")
    }

    /// Whose the plan under this key is, whatever version it has; `None` when it is gone.
    pub(crate) async fn job_of_plan(&self, key: &str) -> Result<Option<JobName>, Error> {
        #[derive(serde::Deserialize)]
        struct Header {
            job: JobName,
        }
        let Some(bytes) = self.store.get(key, MAX_PLAN_BYTES).await? else {
            return Ok(None);
        };
        match serde_json::from_slice::<Header>(&bytes) {
            Ok(header) => Ok(Some(header.job)),
            Err(error) => Err(damaged(key, error.to_string())),
        }
    }

    /// Name of the body that `writer` wrote with `sequence`, relative to the ledger.
    pub(crate) fn body_name(shard: usize, sequence: i64, epoch: i64, holder: &str) -> String {
        format!("shard-{shard:03}/bodies/{sequence:012}-{epoch}-{holder}.json")
    }

    /// Stores a body of this writer; returns its name and hash.
    /// Refuses one that would be too large to be read again.
    pub(crate) async fn put_body(&self, body: &Body) -> Result<(String, String), Error> {
        let Writer { shard, epoch, holder } = &self.writer;
        let name = Self::body_name(*shard, body.sequence, *epoch, holder);
        let bytes = serde_json::to_vec(body).map_err(|error| damaged(&name, error.to_string()))?;
        if bytes.len() as u64 > MAX_BODY_BYTES {
            return Err(Error::BodyTooLarge(bytes.len()));
        }
        let sha256 = self.put(&name, bytes).await?;
        Ok((name, sha256))
    }

    /// A body and the hash that it really has.
    pub(crate) async fn body_unchecked(&self, name: &str) -> Result<(Body, String), Error> {
        let bytes = self.store.get(&self.path(name), MAX_BODY_BYTES).await?;
        let bytes = bytes.ok_or_else(|| damaged(&self.path(name), "it is missing".to_owned()))?;
        let body =
            serde_json::from_slice(&bytes).map_err(|error| damaged(&self.path(name), error.to_string()))?;
        Ok((body, sha256(&bytes)))
    }

    pub(crate) async fn body(&self, name: &str, sha256: &str) -> Result<Body, Error> {
        self.get_json(name, sha256, MAX_BODY_BYTES).await
    }

    /// Name of the tail that goes with the body of `sequence`.
    pub(crate) fn tail_name(&self, sequence: i64) -> String {
        let Writer { shard, epoch, holder } = &self.writer;
        format!("shard-{shard:03}/tails/{sequence:012}-{epoch}-{holder}")
    }

    pub(crate) async fn put_tail(&self, name: &str, bytes: Bytes) -> Result<String, Error> {
        self.create(name, bytes).await
    }

    /// `None` when it is missing or altered: then its output must be built again.
    pub(crate) async fn tail(
        &self,
        name: &str,
        sha256_wanted: &str,
        size: u64,
    ) -> Result<Option<Bytes>, Error> {
        let bytes = self.store.get(&self.path(name), size).await;
        let bytes = match bytes {
            Err(error) if error.kind == crate::store::ErrorKind::TooLarge => None,
            other => other?,
        };
        Ok(bytes.filter(|bytes| sha256(bytes) == sha256_wanted))
    }

    /// Stores the entries of marked records that go with the body of `sequence`.
    pub(crate) async fn put_run(
        &self,
        sequence: i64,
        entries: u64,
        run: Bytes,
    ) -> Result<RunOfEntries, Error> {
        let Writer { shard, epoch, holder } = &self.writer;
        let name = format!("shard-{shard:03}/runs/{sequence:012}-{epoch}-{holder}");
        let sha256 = self.create(&name, run).await?;
        Ok(RunOfEntries {
            name,
            sha256,
            entries,
        })
    }

    pub(crate) async fn run(&self, run: &RunOfEntries, layout: Layout) -> Result<Bytes, Error> {
        let limit = run.entries * layout.entry_bytes() as u64;
        self.get(&run.name, &run.sha256, limit).await
    }

    /// Stores the bitmaps of this number of the pass that goes with the body of `sequence`.
    pub(crate) async fn put_bitmaps(
        &self,
        sequence: i64,
        number: usize,
        survivors: &Survivors,
    ) -> Result<Bitmaps, Error> {
        let name = format!("{}-{number:06}", self.survivors_name(sequence));
        let sha256 = self.create(&name, survivors.encode().into()).await?;
        let last = survivors.last().unwrap_or_default();
        Ok(Bitmaps { name, sha256, last })
    }

    pub(crate) async fn bitmaps(&self, bitmaps: &Bitmaps) -> Result<Survivors, Error> {
        let bytes = self
            .get(&bitmaps.name, &bitmaps.sha256, MAX_BITMAPS_BYTES)
            .await?;
        Survivors::decode(&bytes).map_err(|error| damaged(&self.path(&bitmaps.name), error.to_string()))
    }

    pub(crate) async fn put_bitmaps_list(&self, sequence: i64, list: &[Bitmaps]) -> Result<BodyRef, Error> {
        let name = format!("{}.json", self.survivors_name(sequence));
        let sha256 = self.put_json(&name, &list).await?;
        Ok(BodyRef { name, sha256 })
    }

    pub(crate) async fn bitmaps_list(&self, list: &BodyRef) -> Result<Vec<Bitmaps>, Error> {
        self.get_json(&list.name, &list.sha256, MAX_BITMAPS_LIST_BYTES)
            .await
    }

    fn survivors_name(&self, sequence: i64) -> String {
        let Writer { shard, epoch, holder } = &self.writer;
        format!("shard-{shard:03}/survivors/{sequence:012}-{epoch}-{holder}")
    }

    /// Deletes objects of this ledger by name. Only what a later checkpoint has made needless.
    pub(crate) async fn delete(&self, names: &[String]) -> Result<(), Error> {
        let keys: Vec<String> = names.iter().map(|name| self.path(name)).collect();
        Ok(self.store.delete(&keys).await?)
    }

    pub(crate) fn uploads_directory(&self) -> String {
        self.path("uploads/")
    }

    /// Of this writer alone.
    pub(crate) fn probe_keys(&self) -> [String; 2] {
        let Writer { epoch, holder, .. } = &self.writer;
        ["object", "assembled"].map(|kind| self.path(&format!("probe/{epoch}-{holder}-{kind}")))
    }

    /// The number of another upload of this writer. Work that is done again opens the same output again, and the
    /// upload of before stays on record.
    pub(crate) fn next_upload(&self) -> u64 {
        self.uploads.fetch_add(1, Ordering::Relaxed)
    }

    /// Records that the upload of this number is about to be opened, and, once it is, its id. Returns the record's
    /// name.
    pub(crate) async fn record_upload(
        &self,
        number: u64,
        key: &str,
        id: Option<&str>,
    ) -> Result<String, Error> {
        let Writer { shard, epoch, holder } = &self.writer;
        let stage = if id.is_some() { "opened" } else { "intended" };
        let name = format!("uploads/{shard:03}-{epoch}-{holder}-{number}.{stage}.json");
        let record = UploadRecord {
            key: key.to_owned(),
            id: id.map(ToOwned::to_owned),
        };
        self.put_json(&name, &record).await?;
        Ok(name)
    }

    pub(crate) async fn upload_record(&self, key: &str) -> Result<Option<UploadRecord>, Error> {
        let Some(bytes) = self.store.get(key, MAX_UPLOAD_RECORD_BYTES).await? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&bytes);
        record.map(Some).map_err(|error| damaged(key, error.to_string()))
    }
}

fn dropped_name(location: &str) -> String {
    format!("{location}/dropped-groups.json")
}

fn segment_name(location: &str, number: u32) -> String {
    format!("{location}/segment-{number:06}.jsonl")
}

fn damaged(name: &str, problem: String) -> Error {
    Error::Ledger {
        name: name.to_owned(),
        problem,
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
