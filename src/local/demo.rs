//! What the demo compacts: a bucket folder with thousands of small log objects and a manifest for them; and
//! the table that shows before and after. Runs nothing, and never touches what is there already.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::HumanBytes;

mod logs;

/// The manifest, which is an example too. The names below are those in it.
const MANIFEST: &str = include_str!("../../examples/job-local.yaml");
const BUCKET: &str = "lake";
const SOURCES: &str = "logs";
const OUTPUTS: &str = "compacted";

/// Objects are made here and moved when all are complete, so that a demo that was killed begins anew.
const UNFINISHED: &str = "unfinished";

#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}: {source}")]
pub struct Error {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Where the demo's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoFiles {
    /// The manifest; its bucket is a folder beside it.
    pub job: PathBuf,
    /// The folder of the source prefix.
    pub sources: PathBuf,
    /// The folder of the output prefix; not there before the first run.
    pub outputs: PathBuf,
    /// Sources.
    pub objects: u64,
    pub bytes: u64,
}

/// Makes sure that the demo's files are in `dir`. Blocks for a second or two the first time.
pub fn prepare(dir: &Path) -> Result<DemoFiles, Error> {
    let job = dir.join("job.yaml");
    let sources = dir.join(BUCKET).join(SOURCES);
    if !sources.exists() {
        make_sources(dir, &sources)?;
    }
    if !job.exists() {
        write(&job, MANIFEST.as_bytes())?;
    }
    let total = usage(&sources)?.total();
    let outputs = dir.join(BUCKET).join(OUTPUTS);
    Ok(DemoFiles {
        job,
        sources,
        outputs,
        objects: total.objects,
        bytes: total.bytes,
    })
}

fn make_sources(dir: &Path, sources: &Path) -> Result<(), Error> {
    let unfinished = dir.join(UNFINISHED);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(at("remove", &unfinished))?;
    }
    for service in 0..logs::SERVICES.len() {
        for hour in 0..logs::HOURS {
            for number in 0..logs::OBJECTS_PER_HOUR {
                let (key, text) = logs::object(service, hour, number);
                let path = unfinished.join(key);
                create_folder_of(&path)?;
                write(&path, &gzip(&text).map_err(at("compress", &path))?)?;
            }
        }
    }
    create_folder_of(sources)?;
    fs::rename(&unfinished, sources).map_err(at("create", sources))
}

fn gzip(text: &str) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

fn create_folder_of(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(at("create", parent)),
        None => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let written = File::create(path).and_then(|mut file| file.write_all(bytes));
    written.map_err(at("write", path))
}

fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error {
        operation,
        path,
        source,
    }
}

/// Objects and their size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Objects {
    pub objects: u64,
    pub bytes: u64,
}

/// What a folder of a bucket holds, by the first directory below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage(BTreeMap<String, Objects>);

impl Usage {
    pub fn total(&self) -> Objects {
        let mut total = Objects::default();
        for part in self.0.values() {
            total.objects += part.objects;
            total.bytes += part.bytes;
        }
        total
    }
}

/// Counts the objects in a folder, but for manifests and what is beside them. A missing folder holds none.
pub fn usage(folder: &Path) -> Result<Usage, Error> {
    let mut usage = Usage::default();
    let mut open = vec![(folder.to_owned(), None::<String>)];
    while let Some((path, top)) = open.pop() {
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(at("read", &path))?,
        };
        for entry in entries {
            let entry = entry.map_err(at("read", &path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = entry.metadata().map_err(at("read", &entry.path()))?;
            if metadata.is_file() {
                let part = usage
                    .0
                    .entry(top.clone().unwrap_or_else(|| "./".to_owned()))
                    .or_default();
                part.objects += 1;
                part.bytes += metadata.len();
            } else if metadata.is_dir() && name != "_compaction" {
                let top = top.clone().unwrap_or_else(|| format!("{name}/"));
                open.push((entry.path(), Some(top)));
            }
        }
    }
    Ok(usage)
}

/// A table: what there was, and what there is instead.
pub fn summary(before: &Usage, after: &Usage) -> String {
    let mut table = Row::heading("", ["", "", "before"], ["", "", "after"]);
    let columns = ["objects", "size", "average"];
    table += &Row::heading("directory", columns, columns);
    let mut parts: BTreeMap<&str, [Objects; 2]> = BTreeMap::new();
    for (side, usage) in [before, after].into_iter().enumerate() {
        for (directory, objects) in &usage.0 {
            parts.entry(directory).or_default()[side] = *objects;
        }
    }
    for (directory, [before, after]) in parts {
        table += &Row::of(directory, before, after);
    }
    table + &Row::of("total", before.total(), after.total())
}

/// A line of the table.
struct Row<'a> {
    name: &'a str,
    before: [String; 3],
    after: [String; 3],
}

impl Row<'_> {
    fn heading(name: &str, before: [&str; 3], after: [&str; 3]) -> String {
        let owned = |cells: [&str; 3]| cells.map(ToOwned::to_owned);
        Row {
            name,
            before: owned(before),
            after: owned(after),
        }
        .to_string()
    }

    fn of(name: &str, before: Objects, after: Objects) -> String {
        Row {
            name,
            before: cells(before),
            after: cells(after),
        }
        .to_string()
    }
}

fn cells(Objects { objects, bytes }: Objects) -> [String; 3] {
    let average = bytes
        .checked_div(objects)
        .map_or("-".to_owned(), |average| HumanBytes(average).to_string());
    [objects.to_string(), HumanBytes(bytes).to_string(), average]
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<18}", self.name)?;
        for [objects, size, average] in [&self.before, &self.after] {
            write!(f, "{objects:>10}{size:>12}{average:>12}")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::local::manifest;

    fn content(files: &DemoFiles, key: &str) -> Vec<u8> {
        fs::read(files.sources.join(key)).unwrap()
    }

    #[test]
    fn thousands_of_small_objects_are_made_once_and_the_same_everywhere() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [first, second] = dirs.each_ref().map(|dir| prepare(dir.path()).unwrap());
        assert_eq!(first.objects, 3000);
        assert_eq!((second.objects, second.bytes), (first.objects, first.bytes));
        assert!(
            (1 << 20..64 << 20).contains(&first.bytes),
            "{} bytes",
            first.bytes
        );
        let key = "service=search/2026-03-14/05/000124.json.gz";
        assert_eq!(content(&first, key), content(&second, key));
        let mut text = String::new();
        flate2::read::GzDecoder::new(&content(&first, key)[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, logs::object(2, 5, 124).1);
        assert!(!dirs[0].path().join(UNFINISHED).exists());

        fs::write(first.sources.join(key), "mine").unwrap();
        fs::write(&first.job, "mine").unwrap();
        let again = prepare(dirs[0].path()).unwrap();
        assert_eq!(again.objects, first.objects);
        assert_eq!(content(&first, key), b"mine");
        assert_eq!(fs::read(&first.job).unwrap(), b"mine");
    }

    #[test]
    fn what_was_left_unfinished_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let stray = dir
            .path()
            .join(UNFINISHED)
            .join("service=api/2026-03-14/00/half.json.gz");
        create_folder_of(&stray).unwrap();
        fs::write(&stray, "half").unwrap();
        assert_eq!(prepare(dir.path()).unwrap().objects, 3000);
    }

    #[test]
    fn the_manifest_fits_the_folders() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("job.yaml");
        fs::write(&path, MANIFEST).unwrap();
        let spec = manifest::read(&path, None).unwrap().spec;
        assert_eq!(spec.storage.s3.bucket, BUCKET);
        assert_eq!(spec.source.prefix, format!("{SOURCES}/"));
        assert_eq!(spec.output.prefix, format!("{OUTPUTS}/"));
        assert_eq!(spec.source.min_object_age_seconds, 0);
    }

    #[test]
    fn the_summary_sets_before_beside_after_by_directory() {
        let dir = tempfile::tempdir().unwrap();
        let object = |key: &str, bytes: usize| {
            let path = dir.path().join(key);
            create_folder_of(&path).unwrap();
            fs::write(path, vec![0; bytes]).unwrap();
        };
        object("logs/a/1/x", 1000);
        object("logs/a/2/y", 2072);
        object("logs/top", 5);
        object("out/a/1/part", 3072);
        object("out/_compaction/uid/manifest.json", 99);
        let usage = |folder: &str| usage(&dir.path().join(folder)).unwrap();
        let expected = [
            "                                              before                             after",
            "directory            objects        size     average   objects        size     average",
            "./                         1         5 B         5 B         0         0 B           -",
            "a/                         2    3.00 KiB    1.50 KiB         1    3.00 KiB    3.00 KiB",
            "total                      3    3.00 KiB    1.00 KiB         1    3.00 KiB    3.00 KiB",
        ];
        let summary = summary(&usage("logs"), &usage("out"));
        assert_eq!(summary.lines().collect::<Vec<_>>(), expected);
        assert_eq!(usage("missing"), Usage::default());
    }
}
