//! Listing a bucket in the order of the keys' UTF-8 bytes, from any position, reading only the
//! folders on the way. Never lists what is no object: folders, broken links, names that are not
//! UTF-8 or that XML cannot carry.
//!
//! Key order is not the order of a directory walk: `a-`, `a.b`, `a/b`, `a0`. It is, when a folder
//! counts as its name with the `/` that all keys below it have.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::failure::is_absence;
use super::key::{MAX_KEY, is_listable};
use super::version::{self, Version};

/// A position in the order of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum After {
    /// Just after this key.
    Key(String),
    /// After all keys that begin so.
    Prefix(String),
}

impl After {
    pub(super) fn token(&self) -> String {
        match self {
            Self::Key(key) => format!("6b{}", hex::encode(key)),
            Self::Prefix(prefix) => format!("70{}", hex::encode(prefix)),
        }
    }

    pub(super) fn from_token(token: &str) -> Option<Self> {
        let text = String::from_utf8(hex::decode(token).ok()?).ok()?;
        match text.split_at_checked(1)? {
            ("k", key) => Some(Self::Key(key.to_owned())),
            ("p", prefix) => Some(Self::Prefix(prefix.to_owned())),
            _ => None,
        }
    }

    /// Whether `name`, a key or a folder with its `/`, lies before this position with all below it.
    fn is_past(&self, name: &str) -> bool {
        let folder = name.ends_with('/');
        match self {
            Self::Key(key) => name <= &**key && !(folder && key.starts_with(name)),
            Self::Prefix(prefix) => {
                name.starts_with(prefix) || (name < &**prefix && !(folder && prefix.starts_with(name)))
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<(String, Version)>,
    /// Common prefixes, with their delimiter.
    pub(super) prefixes: Vec<String>,
    /// Where the next page begins, if there is more.
    pub(super) next: Option<After>,
}

pub(super) struct Query<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) after: After,
    pub(super) limit: usize,
}

/// At most `limit` objects and common prefixes of a bucket.
pub(super) fn page(names: &Names, bucket: &Path, query: Query<'_>) -> io::Result<Page> {
    if query.limit == 0 {
        return Ok(Page::default());
    }
    let mut walk = Walk {
        names,
        query,
        page: Page::default(),
    };
    let _ = walk.folder(bucket, &mut String::new())?;
    Ok(walk.page)
}

struct Walk<'a> {
    names: &'a Names,
    /// Its `after` moves along with the walk.
    query: Query<'a>,
    page: Page,
}

impl Walk<'_> {
    /// Lists what is below the folder whose keys begin with `key`, until the page is full.
    fn folder(&mut self, path: &Path, key: &mut String) -> io::Result<ControlFlow<()>> {
        let base = key.len();
        let names = match self.names.read(path) {
            Err(error) if is_absence(&error) => return Ok(ControlFlow::Continue(())),
            names => names?,
        };
        let first = names.partition_point(|name| {
            extend(key, base, name);
            self.is_past(key)
        });
        for name in &names[first..] {
            if base > 0 && self.query.after.is_past(&key[..base]) {
                break; // a common prefix has swallowed the rest of this folder
            }
            extend(key, base, name);
            if key.len() > MAX_KEY || self.query.after.is_past(key) {
                continue;
            }
            let wanted = key.starts_with(self.query.prefix);
            let leads_there = name.ends_with('/') && self.query.prefix.starts_with(&**key);
            if !wanted && !leads_there {
                break; // the names are sorted, so nothing wanted comes after this one
            }
            let below = path.join(&**name);
            let full = if name.ends_with('/') {
                self.folder(&below, key)?
            } else {
                self.object(&below, key)?
            };
            if full.is_break() {
                return Ok(full);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn is_past(&self, name: &str) -> bool {
        let prefix = self.query.prefix;
        let leads_there = name.ends_with('/') && prefix.starts_with(name);
        self.query.after.is_past(name) || (name < prefix && !leads_there)
    }

    fn object(&mut self, path: &Path, key: &str) -> io::Result<ControlFlow<()>> {
        if self.page.objects.len() + self.page.prefixes.len() == self.query.limit {
            self.page.next = Some(self.query.after.clone());
            return Ok(ControlFlow::Break(()));
        }
        if let Some(common) = self.common_prefix(key) {
            self.page.prefixes.push(common.to_owned());
            self.query.after = After::Prefix(common.to_owned());
            return Ok(ControlFlow::Continue(()));
        }
        match version::look(path) {
            Ok(version) => {
                self.page.objects.push((key.to_owned(), version));
                self.query.after = After::Key(key.to_owned());
            }
            Err(error) if is_absence(&error) => {} // deleted since its folder was read
            Err(error) => return Err(error),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.query.delimiter?;
        let start = self.query.prefix.len();
        let at = key[start..].find(delimiter)?;
        Some(&key[..start + at + delimiter.len()])
    }
}

fn extend(key: &mut String, base: usize, name: &str) {
    key.truncate(base);
    key.push_str(name);
}

/// The sorted names in a folder; folders end with `/`. Those of large folders are remembered, so
/// that not every page of a listing reads and sorts the whole folder again.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Vec<Remembered>>);

#[derive(Debug)]
struct Remembered {
    path: PathBuf,
    modified: SystemTime,
    names: Arc<[Box<str>]>,
}

/// Folders with fewer names are read anew each time.
const LARGE: usize = 1000;
/// So many large folders are remembered.
const REMEMBERED: usize = 8;
/// A folder that was changed less than this ago may be changed again within the same tick of the
/// file system's clock, which its modification time would not show.
const SETTLED: Duration = Duration::from_secs(1);

impl Names {
    fn read(&self, path: &Path) -> io::Result<Arc<[Box<str>]>> {
        let started = SystemTime::now();
        let modified = fs::metadata(path)?.modified()?;
        if let Some(names) = self.recall(path, modified) {
            return Ok(names);
        }
        let names: Arc<[Box<str>]> = read_sorted(path)?.into();
        if names.len() >= LARGE && started.duration_since(modified).is_ok_and(|age| age > SETTLED) {
            self.remember(Remembered {
                path: path.to_owned(),
                modified,
                names: Arc::clone(&names),
            });
        }
        Ok(names)
    }

    fn recall(&self, path: &Path, modified: SystemTime) -> Option<Arc<[Box<str>]>> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered
            .iter()
            .find(|entry| entry.path == path && entry.modified == modified)
            .map(|entry| Arc::clone(&entry.names))
    }

    fn remember(&self, entry: Remembered) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.retain(|other| other.path != entry.path);
        remembered.insert(0, entry);
        remembered.truncate(REMEMBERED);
    }
}

fn read_sorted(path: &Path) -> io::Result<Vec<Box<str>>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(mut name) = entry.file_name().into_string() else {
            continue;
        };
        if !is_listable(&name) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            name.push('/');
        } else if !kind.is_file() {
            // A link counts as the file it leads to. Links to folders are not followed: they may
            // lead in a circle.
            let linked = kind.is_symlink() && fs::metadata(entry.path()).is_ok_and(|to| to.is_file());
            if !linked {
                continue;
            }
        }
        names.push(name.into_boxed_str());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;

    use proptest::prelude::*;

    use super::*;

    /// Makes a file of each key, unless a name would have to be a file and a folder.
    fn bucket_of(keys: &BTreeSet<String>) -> (tempfile::TempDir, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let mut made = Vec::new();
        for key in keys {
            let path = dir.path().join(key);
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && File::create(path).is_ok() {
                made.push(key.clone());
            }
        }
        made.sort_unstable();
        (dir, made)
    }

    /// What S3 lists, from the definition: every key in order, each rolled up on its own.
    fn expected(keys: &[String], prefix: &str, delimiter: Option<&str>, after: &str) -> Vec<String> {
        let keys = keys
            .iter()
            .filter(|key| key.starts_with(prefix) && key.as_str() > after);
        let mut names: Vec<_> = keys
            .map(
                |key| match delimiter.and_then(|d| Some(key[prefix.len()..].find(d)? + d.len())) {
                    Some(end) => key[..prefix.len() + end].to_owned(),
                    None => key.clone(),
                },
            )
            .collect();
        names.dedup();
        names
    }

    /// Objects and common prefixes of all pages.
    fn listed(
        bucket: &Path,
        prefix: &str,
        delimiter: Option<&str>,
        after: &str,
        limit: usize,
    ) -> Vec<String> {
        let names = Names::default();
        let mut found = Vec::new();
        let mut after = After::Key(after.to_owned());
        loop {
            let page = page(
                &names,
                bucket,
                Query {
                    prefix,
                    delimiter,
                    after,
                    limit,
                },
            )
            .unwrap();
            let mut on_page: Vec<_> = page.objects.into_iter().map(|(key, _)| key).collect();
            on_page.extend(page.prefixes);
            assert!(on_page.len() <= limit);
            on_page.sort_unstable();
            found.extend(on_page);
            match page.next {
                Some(next) => after = After::from_token(&next.token()).unwrap(),
                None => return found,
            }
        }
    }

    fn keys() -> impl Strategy<Value = BTreeSet<String>> {
        proptest::collection::btree_set("[ab.!0ä-]{1,2}(/[ab.!0-]{1,2}){0,3}", 0..40).prop_map(|keys| {
            let storable = |key: &String| !key.split('/').any(|name| matches!(name, "." | ".."));
            keys.into_iter().filter(storable).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn pages_together_are_what_s3_lists(
            keys in keys(),
            prefix in "([ab.!0-]{1,2}/)?[ab/-]{0,1}",
            after in "([ab.!0-]{1,2}/)?[ab/-]{0,2}",
            delimiter in proptest::option::of(prop_oneof!["/", "-", "b/"]),
            limit in 1usize..6,
        ) {
            let (dir, keys) = bucket_of(&keys);
            let delimiter = delimiter.as_deref();
            let expected = expected(&keys, &prefix, delimiter, &after);
            prop_assert_eq!(listed(dir.path(), &prefix, delimiter, &after, limit), expected);
        }
    }

    #[test]
    fn a_token_survives_any_key_and_nothing_else_is_a_token() {
        for after in [
            After::Key(String::new()),
            After::Key("a/ü\n".into()),
            After::Prefix("p/".into()),
        ] {
            assert_eq!(After::from_token(&after.token()), Some(after));
        }
        for token in ["", "?", "6", "ff", "00", "6bff"] {
            assert_eq!(After::from_token(token), None, "{token}");
        }
    }

    #[test]
    fn a_large_folder_is_read_once_until_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..LARGE {
            File::create(dir.path().join(format!("{i:05}"))).unwrap();
        }
        let settled = SystemTime::now() - 2 * SETTLED;
        File::open(dir.path()).unwrap().set_modified(settled).unwrap();

        let names = Names::default();
        let first = names.read(dir.path()).unwrap();
        assert!(Arc::ptr_eq(&first, &names.read(dir.path()).unwrap()));
        File::create(dir.path().join("new")).unwrap();
        assert_eq!(names.read(dir.path()).unwrap().len(), LARGE + 1);
        // Just changed: it may change again without another modification time.
        assert!(!Arc::ptr_eq(
            &names.read(dir.path()).unwrap(),
            &names.read(dir.path()).unwrap()
        ));
    }

    #[test]
    fn no_more_than_a_few_large_folders_are_remembered() {
        let names = Names::default();
        for i in 0..2 * REMEMBERED {
            let (path, modified) = (PathBuf::from(i.to_string()), SystemTime::UNIX_EPOCH);
            names.remember(Remembered {
                path,
                modified,
                names: Arc::new([]),
            });
        }
        assert_eq!(names.0.lock().unwrap().len(), REMEMBERED);
    }
}
