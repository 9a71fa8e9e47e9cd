//! The keys that requests are signed with: where they come from, and when they are looked up again.
//!
//! Never shows a key: neither in an error nor in a debug line.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::{error::CredentialsError, future};
use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::s3::failure::{Failure, chain};
use super::{ErrorKind, Result};
use crate::deadline::within;

/// Temporary keys are replaced this long before they expire.
const AHEAD_OF_EXPIRY: Duration = Duration::from_mins(5);

/// Between two lookups in a chain: whoever comes sooner gets what the last one found, be it an error.
/// Otherwise everyone would queue for a source that is away.
const PAUSE: Duration = Duration::from_secs(10);

/// The names that a Secret's entries go by: ours, and the environment's.
const ACCESS_KEY: [&str; 2] = ["accessKeyId", "AWS_ACCESS_KEY_ID"];
const SECRET_KEY: [&str; 2] = ["secretAccessKey", "AWS_SECRET_ACCESS_KEY"];
const SESSION_TOKEN: [&str; 2] = ["sessionToken", "AWS_SESSION_TOKEN"];

/// Where keys come from.
pub(super) enum Source {
    /// One file an entry, as a Secret is mounted.
    Directory(PathBuf),
    /// Environment, profile, web identity, container, instance.
    Chain(SharedCredentialsProvider),
}

/// The keys in use. Looked up when first needed, before they expire, and when the store refuses them.
pub(super) struct Keys {
    source: Source,
    limit: Duration,
    /// Locked during a lookup, so that many requests cause one.
    last: Mutex<Option<Lookup>>,
}

struct Lookup {
    at: Instant,
    /// Of an earlier lookup when this one failed and they are still good.
    found: Result<Credentials, Failure>,
}

impl Keys {
    pub(super) fn new(source: Source, limit: Duration) -> Self {
        Self {
            source,
            limit,
            last: Mutex::new(None),
        }
    }

    /// Keys that have not expired, as far as can be told.
    pub(super) async fn current(&self) -> Result<Credentials, Failure> {
        let mut last = self.last.lock().await;
        match &*last {
            Some(Lookup { found: Ok(keys), .. }) if !expires_within(keys, AHEAD_OF_EXPIRY) => {
                Ok(keys.clone())
            }
            Some(lookup) if !self.is_due(lookup) => lookup.found.clone(),
            _ => self.look_up(&mut last).await,
        }
    }

    /// After the store refused `refused`: whether there are others now.
    pub(super) async fn renew(&self, refused: &Credentials) -> bool {
        let mut last = self.last.lock().await;
        let others = |found: &Result<Credentials, Failure>| found.as_ref().is_ok_and(|keys| keys != refused);
        match &*last {
            Some(lookup) if others(&lookup.found) => true,
            Some(lookup) if !self.is_due(lookup) => false,
            _ => others(&self.look_up(&mut last).await),
        }
    }

    fn is_due(&self, lookup: &Lookup) -> bool {
        match self.source {
            Source::Directory(_) => true,
            Source::Chain(_) => lookup.at.elapsed() >= PAUSE,
        }
    }

    async fn look_up(&self, last: &mut Option<Lookup>) -> Result<Credentials, Failure> {
        let found = match (self.ask().await, last.take()) {
            (Err(failure), Some(Lookup { found: Ok(keys), .. }))
                if !expires_within(&keys, Duration::ZERO) =>
            {
                tracing::warn!(
                    detail = failure.detail,
                    "no new keys; the old ones serve until they expire"
                );
                Ok(keys)
            }
            (found, _) => found,
        };
        last.insert(Lookup {
            at: Instant::now(),
            found,
        })
        .found
        .clone()
    }

    async fn ask(&self) -> Result<Credentials, Failure> {
        match &self.source {
            Source::Directory(directory) => read_directory(directory).await,
            Source::Chain(provider) => within(self.limit, provider.provide_credentials())
                .await
                .map_err(|elapsed| missing(elapsed.to_string()))?
                .map_err(|error| missing(chain(&error))),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Directory(directory) => write!(f, "Keys from {}", directory.display()),
            Source::Chain(_) => f.write_str("Keys from the environment"),
        }
    }
}

/// For the SDK, which asks before every request: [`Keys::current`] has looked them up by then.
#[derive(Debug)]
pub(super) struct Signer(pub(super) Arc<Keys>);

impl ProvideCredentials for Signer {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.0
                .current()
                .await
                .map_err(|failure| CredentialsError::not_loaded(failure.detail))
        })
    }
}

fn expires_within(keys: &Credentials, time: Duration) -> bool {
    keys.expiry()
        .is_some_and(|expiry| expiry <= SystemTime::now() + time)
}

fn missing(detail: String) -> Failure {
    Failure::new(ErrorKind::CredentialsMissing, detail)
}

async fn read_directory(directory: &Path) -> Result<Credentials, Failure> {
    let entry = async |names: [&str; 2]| {
        for name in names {
            let path = directory.join(name);
            match tokio::fs::read_to_string(&path).await {
                Ok(text) if !text.trim().is_empty() => return Ok(Some(text.trim().to_owned())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(missing(format!("{}: {error}", path.display()))),
            }
        }
        Ok(None)
    };
    let required = |value: Option<String>, name: &str| {
        value.ok_or_else(|| missing(format!("{} has no entry {name}", directory.display())))
    };
    let access_key = required(entry(ACCESS_KEY).await?, ACCESS_KEY[0])?;
    let secret_key = required(entry(SECRET_KEY).await?, SECRET_KEY[0])?;
    let session_token = entry(SESSION_TOKEN).await?;
    Ok(Credentials::new(
        access_key,
        secret_key,
        session_token,
        None,
        "directory",
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn directory(entries: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, value) in entries {
            std::fs::write(directory.path().join(name), value).unwrap();
        }
        directory
    }

    fn keys(directory: &tempfile::TempDir) -> Keys {
        Keys::new(
            Source::Directory(directory.path().to_owned()),
            Duration::from_secs(1),
        )
    }

    #[tokio::test]
    async fn entries_go_by_either_name_and_lose_their_line_ends() {
        let ours = directory(&[
            ("accessKeyId", "id\n"),
            ("secretAccessKey", " key \n"),
            ("sessionToken", "t\n"),
        ]);
        let found = keys(&ours).current().await.unwrap();
        assert_eq!((found.access_key_id(), found.secret_access_key()), ("id", "key"));
        assert_eq!(found.session_token(), Some("t"));

        let theirs = directory(&[("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key")]);
        let found = keys(&theirs).current().await.unwrap();
        assert_eq!((found.access_key_id(), found.secret_access_key()), ("id", "key"));
        assert_eq!(found.session_token(), None);
    }

    #[tokio::test]
    async fn a_missing_entry_is_named_and_a_present_one_is_not_shown() {
        let half = directory(&[("accessKeyId", "AKIAVISIBLE"), ("secretAccessKey", "\n")]);
        let failure = keys(&half).current().await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::CredentialsMissing);
        assert!(failure.detail.contains("secretAccessKey"), "{}", failure.detail);
        assert!(!format!("{failure:?}").contains("AKIAVISIBLE"));
    }

    #[tokio::test]
    async fn keys_show_where_they_come_from_and_nothing_else() {
        let directory = directory(&[("accessKeyId", "AKIAVISIBLE"), ("secretAccessKey", "hunter2")]);
        let keys = Arc::new(keys(&directory));
        keys.current().await.unwrap();
        let shown = format!("{keys:?} {:?}", Signer(Arc::clone(&keys)));
        assert!(
            !shown.contains("AKIAVISIBLE") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn refused_keys_are_replaced_only_when_there_are_others() {
        let directory = directory(&[("accessKeyId", "old"), ("secretAccessKey", "key")]);
        let keys = keys(&directory);
        let old = keys.current().await.unwrap();
        assert!(!keys.renew(&old).await);
        std::fs::write(directory.path().join("accessKeyId"), "new").unwrap();
        assert_eq!(
            keys.current().await.unwrap().access_key_id(),
            "old",
            "nobody refused them yet"
        );
        assert!(keys.renew(&old).await);
        assert_eq!(keys.current().await.unwrap().access_key_id(), "new");
        assert!(keys.renew(&old).await, "another request has renewed them already");
    }

    /// Gives keys that expire soon, and none at all at odd turns.
    #[derive(Debug)]
    struct Moody {
        turn: Arc<AtomicUsize>,
        lifetime: Duration,
    }

    impl ProvideCredentials for Moody {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let turn = self.turn.fetch_add(1, Ordering::SeqCst);
            let expiry = Some(SystemTime::now() + self.lifetime);
            future::ProvideCredentials::ready(match turn % 2 {
                0 => Ok(Credentials::new(
                    format!("turn {turn}"),
                    "key",
                    None,
                    expiry,
                    "test",
                )),
                _ => Err(CredentialsError::not_loaded("away")),
            })
        }
    }

    fn moody(first: usize, lifetime: Duration) -> (Keys, Arc<AtomicUsize>) {
        let turn = Arc::new(AtomicUsize::new(first));
        let provider = Moody {
            turn: Arc::clone(&turn),
            lifetime,
        };
        (
            Keys::new(
                Source::Chain(SharedCredentialsProvider::new(provider)),
                Duration::from_secs(1),
            ),
            turn,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn keys_near_their_expiry_are_replaced_but_serve_until_others_are_found() {
        let (keys, turn) = moody(0, AHEAD_OF_EXPIRY / 2);
        for (expected, turns) in [("turn 0", 1), ("turn 0", 2), ("turn 2", 3)] {
            assert_eq!(keys.current().await.unwrap().access_key_id(), expected);
            assert_eq!(keys.current().await.unwrap().access_key_id(), expected);
            assert_eq!(turn.load(Ordering::SeqCst), turns, "asked once a pause");
            tokio::time::advance(PAUSE).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_is_away_is_asked_once_a_pause_and_not_by_everyone() {
        let (keys, turn) = moody(1, Duration::ZERO);
        for _ in 0..9 {
            assert_eq!(
                keys.current().await.unwrap_err().kind,
                ErrorKind::CredentialsMissing
            );
        }
        assert_eq!(turn.load(Ordering::SeqCst), 2);
        tokio::time::advance(PAUSE).await;
        let refused = keys.current().await.unwrap();
        assert!(!keys.renew(&refused).await && !keys.renew(&refused).await);
        assert_eq!(turn.load(Ordering::SeqCst), 3);
        tokio::time::advance(PAUSE * 2).await;
        assert_eq!(
            keys.current().await.unwrap_err().kind,
            ErrorKind::CredentialsMissing,
            "these have expired"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_never_answers_is_cut_off() {
        #[derive(Debug)]
        struct Silent;
        impl ProvideCredentials for Silent {
            fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
            where
                Self: 'a,
            {
                future::ProvideCredentials::new(std::future::pending())
            }
        }
        let keys = Keys::new(
            Source::Chain(SharedCredentialsProvider::new(Silent)),
            Duration::from_secs(15),
        );
        assert_eq!(
            keys.current().await.unwrap_err().kind,
            ErrorKind::CredentialsMissing
        );
    }
}
