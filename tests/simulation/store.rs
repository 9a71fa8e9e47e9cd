//! An S3 store in memory with AWS's rules, whose answers may be late, lost or errors.

// By its path, as other tests take this file by its own.
#[path = "requests.rs"]
pub mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use compaction_operator::store::*;
use requests::Requests;
use sha2::{Digest, Sha256};

#[derive(Clone)]
pub struct Stored {
    pub bytes: Bytes,
    pub etag: String,
    pub token: Option<String>,
    modified: i64,
}

struct Upload {
    key: String,
    token: Option<String>,
    parts: BTreeMap<u32, (String, Bytes)>,
}

/// How the store misbehaves.
#[derive(Clone, Copy)]
pub struct Habits {
    /// Like SSE-KMS: equal bytes have different ETags.
    pub random_etags: bool,
    pub conditional: bool,
    pub lists_parts: bool,
    /// Of 1,000 requests, so many fail before they take effect.
    pub errors: u32,
    /// Of 1,000 requests, so many take effect and are not answered.
    pub lost_answers: u32,
    pub min_part: u64,
}

impl Habits {
    /// Of a store that can do everything, and whose every answer arrives.
    pub const GOOD: Self = Self {
        random_etags: false,
        conditional: true,
        lists_parts: true,
        errors: 0,
        lost_answers: 0,
        min_part: 1,
    };
}

struct State {
    objects: BTreeMap<String, Stored>,
    uploads: BTreeMap<String, Upload>,
    rng: fastrand::Rng,
    counter: u64,
    /// By its own clock, which stands still.
    now: i64,
    calm: bool,
    away: bool,
    /// Keys that nobody may read.
    denied: BTreeSet<String>,
    /// Uploads of keys that begin so are gone before their first part.
    unlucky: Option<String>,
}

#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    habits: Habits,
    requests: Requests,
}

impl MemoryStore {
    pub fn new(seed: u64, habits: Habits) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(seed),
            counter: 0,
            now: 0,
            calm: false,
            away: false,
            denied: BTreeSet::new(),
            unlucky: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            habits,
            requests: Requests::default(),
        }
    }

    /// The same store, whose requests are counted among these.
    pub fn counting(&self, requests: &Requests) -> Self {
        Self {
            requests: requests.clone(),
            ..self.clone()
        }
    }

    /// From now on nothing goes wrong.
    pub fn calm(&self) {
        let mut state = self.state.lock().unwrap();
        (state.calm, state.away) = (true, false);
    }

    pub fn stir(&self) {
        self.state.lock().unwrap().calm = false;
    }

    pub fn set_away(&self, away: bool) {
        self.state.lock().unwrap().away = away;
    }

    pub fn set_time(&self, now: i64) {
        self.state.lock().unwrap().now = now;
    }

    pub fn set(&self, key: &str, bytes: Vec<u8>) {
        let mut state = self.state.lock().unwrap();
        let etag = state.etag(&bytes, false);
        state.insert(key, bytes.into(), etag, None);
    }

    /// As if somebody had stored it anew, encrypted otherwise: the same bytes under another ETag.
    pub fn store_anew(&self, key: &str) {
        let mut state = self.state.lock().unwrap();
        let etag = state.etag(&[], true);
        state.objects.get_mut(key).unwrap().etag = etag;
    }

    /// Whether an object that is written again is told from the one before, though nothing keeps it from being.
    pub fn may_change_etags(&self) -> bool {
        self.habits.random_etags && !self.habits.conditional
    }

    pub fn deny(&self, key: &str) {
        self.state.lock().unwrap().denied.insert(key.to_owned());
    }

    /// Takes back all that was denied.
    pub fn allow(&self) {
        self.state.lock().unwrap().denied.clear();
    }

    pub fn lose_uploads(&self, prefix: &str) {
        self.state.lock().unwrap().unlucky = Some(prefix.to_owned());
    }

    pub fn remove(&self, key: &str) {
        self.state.lock().unwrap().objects.remove(key);
    }

    pub fn objects(&self) -> BTreeMap<String, Stored> {
        self.state.lock().unwrap().objects.clone()
    }

    pub fn open_uploads(&self) -> Vec<String> {
        self.state
            .lock()
            .unwrap()
            .uploads
            .values()
            .map(|upload| upload.key.clone())
            .collect()
    }

    /// Replaces the bytes of an object behind everybody's back.
    pub fn tamper(&self, key: &str, bytes: Vec<u8>) {
        if let Some(object) = self.state.lock().unwrap().objects.get_mut(key) {
            object.bytes = bytes.into();
        }
    }

    /// One request: it takes its time on the way there and back, and may fail on either.
    async fn request<T>(
        &self,
        operation: &'static str,
        key: &str,
        effect: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        let (there, back, error, lost) = {
            let mut state = self.state.lock().unwrap();
            let error = state.away || (!state.calm && state.rng.u32(..1000) < self.habits.errors);
            let lost = !state.calm && state.rng.u32(..1000) < self.habits.lost_answers;
            (state.rng.u64(1..40), state.rng.u64(1..40), error, lost)
        };
        tokio::time::sleep(Duration::from_millis(there)).await;
        let fail = |kind| Error {
            operation,
            target: key.to_owned(),
            kind,
            detail: "simulated".to_owned(),
        };
        if error {
            return Err(fail(ErrorKind::ServerError));
        }
        let number = self.requests.arrive().await;
        let outcome = effect(&mut self.state.lock().unwrap());
        self.requests.answer(number).await;
        tokio::time::sleep(Duration::from_millis(back)).await;
        if lost {
            Err(fail(ErrorKind::Timeout))
        } else {
            outcome
        }
    }
}

impl State {
    fn etag(&mut self, bytes: &[u8], random: bool) -> String {
        self.counter += 1;
        if random {
            format!("\"r{}\"", self.counter)
        } else {
            format!("\"{}\"", &hex::encode(Sha256::digest(bytes))[..12])
        }
    }

    fn insert(&mut self, key: &str, bytes: Bytes, etag: String, token: Option<String>) {
        let stored = Stored {
            bytes,
            etag,
            token,
            modified: self.now,
        };
        self.objects.insert(key.to_owned(), stored);
    }

    fn open_upload(&mut self, key: &str, token: Option<&str>) -> String {
        self.counter += 1;
        let id = format!("upload-{}", self.counter);
        // A client repeats a request whose answer was lost: the first upload stays open, without parts.
        let repeated = self.counter.is_multiple_of(8);
        for id in [Some(id.clone()), repeated.then(|| format!("{id}-lost"))] {
            let Some(id) = id else { continue };
            self.uploads.insert(
                id,
                Upload {
                    key: key.to_owned(),
                    token: token.map(ToOwned::to_owned),
                    parts: BTreeMap::new(),
                },
            );
        }
        id
    }
}

fn error(operation: &'static str, key: &str, kind: ErrorKind) -> Error {
    Error {
        operation,
        target: key.to_owned(),
        kind,
        detail: String::new(),
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn with_capabilities(&self, _: Capabilities) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        self.request("ListObjectsV2", prefix, |state| {
            let from = after.map_or(prefix.to_owned(), |after| format!("{after}\0"));
            let mut objects: Vec<Object> = state
                .objects
                .range(from..)
                .take_while(|(key, _)| key.starts_with(prefix))
                .take(8)
                .map(|(key, stored)| Object {
                    key: key.clone(),
                    etag: stored.etag.clone(),
                    size: stored.bytes.len() as u64,
                    modified: stored.modified,
                    readable: true,
                })
                .collect();
            let more = objects.len() == 8;
            objects.truncate(7);
            Ok(Page { objects, more })
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<Option<Head>> {
        self.request("HeadObject", key, |state| {
            Ok(state.objects.get(key).map(|stored| Head {
                etag: stored.etag.clone(),
                size: stored.bytes.len() as u64,
                token: stored.token.clone(),
            }))
        })
        .await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>> {
        self.request("GetObject", key, |state| match state.objects.get(key) {
            Some(stored) if stored.bytes.len() as u64 > limit => {
                Err(error("GetObject", key, ErrorKind::TooLarge))
            }
            Some(stored) => Ok(Some(stored.bytes.clone())),
            None => Ok(None),
        })
        .await
    }

    async fn read(&self, key: &str, range: Range<u64>, etag: &str) -> Result<Bytes> {
        self.request("GetObject", key, |state| match state.objects.get(key) {
            _ if state.denied.contains(key) => Err(error("GetObject", key, ErrorKind::Denied)),
            None => Err(error("GetObject", key, ErrorKind::NotFound)),
            Some(stored) if stored.etag != etag => {
                Err(error("GetObject", key, ErrorKind::PreconditionFailed))
            }
            Some(stored) => Ok(stored.bytes.slice(range.start as usize..range.end as usize)),
        })
        .await
    }

    async fn put(&self, key: &str, body: Bytes, options: Put<'_>) -> Result<String> {
        let (token, random) = (options.token.map(ToOwned::to_owned), self.habits.random_etags);
        let create_only = options.create_only && self.habits.conditional;
        self.request("PutObject", key, |state| {
            if let Some(stored) = state.objects.get(key).filter(|_| create_only) {
                // The client takes for its own what an earlier attempt of it would have written.
                let own = token.is_some() && stored.token == token && stored.bytes.len() == body.len();
                let refused = error("PutObject", key, ErrorKind::PreconditionFailed);
                return own.then(|| stored.etag.clone()).ok_or(refused);
            }
            let etag = state.etag(&body, random);
            state.insert(key, body, etag.clone(), token);
            Ok(etag)
        })
        .await
    }

    async fn create_upload(&self, key: &str, options: Put<'_>) -> Result<String> {
        let open = |state: &mut State| Ok(state.open_upload(key, options.token));
        self.request("CreateMultipartUpload", key, open).await
    }

    async fn upload_part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> Result<String> {
        let random = self.habits.random_etags;
        self.request("UploadPart", key, |state| {
            let etag = state.etag(&body, random);
            if state
                .unlucky
                .as_ref()
                .is_some_and(|prefix| key.starts_with(prefix))
            {
                state.uploads.remove(upload);
            }
            let upload =
                state
                    .uploads
                    .get_mut(upload)
                    .ok_or(error("UploadPart", key, ErrorKind::NoSuchUpload))?;
            upload.parts.insert(number, (etag.clone(), body));
            Ok(etag)
        })
        .await
    }

    async fn list_parts(&self, key: &str, upload: &str) -> Result<Option<Vec<Part>>> {
        let lists_parts = self.habits.lists_parts;
        self.request("ListParts", key, |state| {
            if !lists_parts {
                return Err(error("ListParts", key, ErrorKind::Unsupported));
            }
            Ok(state.uploads.get(upload).map(|upload| {
                let part = |(number, (etag, bytes)): (&u32, &(String, Bytes))| Part {
                    number: *number,
                    size: bytes.len() as u64,
                    etag: etag.clone(),
                };
                upload.parts.iter().map(part).collect()
            }))
        })
        .await
    }

    async fn complete(&self, key: &str, upload: &str, parts: &[Part], size: u64) -> Completion {
        let habits = self.habits;
        let outcome = self
            .request("CompleteMultipartUpload", key, |state| {
                let refuse = |kind| Err(error("CompleteMultipartUpload", key, kind));
                let Some(open) = state.uploads.get(upload) else {
                    return refuse(ErrorKind::NoSuchUpload);
                };
                let mut bytes = Vec::new();
                for (index, part) in parts.iter().enumerate() {
                    let Some((_, body)) = open
                        .parts
                        .get(&part.number)
                        .filter(|(etag, _)| *etag == part.etag)
                    else {
                        return refuse(ErrorKind::InvalidPart);
                    };
                    if (body.len() as u64) < habits.min_part && index + 1 < parts.len() {
                        return refuse(ErrorKind::PartTooSmall);
                    }
                    bytes.extend_from_slice(body);
                }
                if habits.conditional && state.objects.contains_key(key) {
                    return refuse(ErrorKind::PreconditionFailed);
                }
                if habits.conditional && bytes.len() as u64 != size {
                    return refuse(ErrorKind::InvalidRequest);
                }
                let token = open.token.clone();
                state.uploads.remove(upload);
                let etag = state.etag(&bytes, habits.random_etags);
                state.insert(key, bytes.into(), etag.clone(), token);
                Ok(etag)
            })
            .await;
        match outcome {
            Ok(etag) => Completion::Done(etag),
            Err(error) => match error.kind {
                ErrorKind::Timeout | ErrorKind::ServerError | ErrorKind::NoSuchUpload => {
                    Completion::Unknown(error)
                }
                _ => Completion::Refused(error),
            },
        }
    }

    async fn abort(&self, key: &str, upload: &str) -> Result<()> {
        self.request("AbortMultipartUpload", key, |state| {
            state.uploads.remove(upload);
            Ok(())
        })
        .await
    }

    async fn list_uploads(&self, key: &str) -> Result<Vec<String>> {
        self.request("ListMultipartUploads", key, |state| {
            let own = |(_, upload): &(&String, &Upload)| upload.key == key;
            Ok(state
                .uploads
                .iter()
                .filter(own)
                .map(|(id, _)| id.clone())
                .collect())
        })
        .await
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        self.request("DeleteObjects", keys.first().map_or("", |key| key), |state| {
            for key in keys {
                state.objects.remove(key);
            }
            Ok(())
        })
        .await
    }

    async fn delete_if_match(&self, key: &str, etag: &str) -> Result<Deleted> {
        self.request("DeleteObject", key, |state| match state.objects.get(key) {
            None => Ok(Deleted::Missing),
            Some(stored) if stored.etag != etag => Ok(Deleted::Changed),
            Some(_) => {
                state.objects.remove(key);
                Ok(Deleted::Deleted)
            }
        })
        .await
    }

    async fn upload_days(&self, _: &[&str]) -> Result<Option<u32>> {
        Ok(None)
    }

    async fn time(&self, prefix: &str) -> Result<Option<i64>> {
        self.request("ListObjectsV2", prefix, |state| Ok(Some(state.now)))
            .await
    }

    async fn probe(&self, keys: &[String; 2]) -> Result<Capabilities> {
        let habits = self.habits;
        self.request("probe", &keys[0], |state| {
            for key in keys {
                let id = state.open_upload(key, None);
                state.uploads.remove(&id);
            }
            Ok(Capabilities {
                create_only: habits.conditional,
                if_match_read: true,
                conditional_complete: habits.conditional,
                size_guard: habits.conditional,
                conditional_delete: habits.conditional,
                list_parts: habits.lists_parts,
                list_uploads: true,
            })
        })
        .await
    }
}
