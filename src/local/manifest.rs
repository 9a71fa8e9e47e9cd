//! Reads a `CompactionJob` manifest as an API server would take it: strict about fields, with defaults.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::api::{CompactionJob, GROUP, VERSION};
use crate::plan::Selector;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not YAML: {problem}")]
    NotYaml { path: PathBuf, problem: String },
    #[error(
        "{path} is not a CompactionJob of {GROUP}/{VERSION}: it says apiVersion: {api_version}, kind: {kind}"
    )]
    NotAJob {
        path: PathBuf,
        api_version: String,
        kind: String,
    },
    #[error("{path}: {problem}")]
    Field { path: PathBuf, problem: String },
    #[error("{path}: unknown field{} {}; remove or correct {}", if fields.len() > 1 {"s"} else {""}, fields.join(", "), if fields.len() > 1 {"them"} else {"it"})]
    UnknownFields { path: PathBuf, fields: Vec<String> },
    #[error("{path} is not valid:\n  {}", problems.join("\n  "))]
    Invalid { path: PathBuf, problems: Vec<String> },
}

/// The job in `path`. `old`: the one that it is to replace, whose immutable fields must be the same.
pub fn read(path: &Path, old: Option<&CompactionJob>) -> Result<CompactionJob, Error> {
    let owned = || path.to_owned();
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: owned(),
        source,
    })?;
    let value: Value = serde_saphyr::from_str(&text).map_err(|error| Error::NotYaml {
        path: owned(),
        problem: first_line(&error.to_string()),
    })?;
    let text_of = |field: &str| {
        value
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or("nothing")
            .to_owned()
    };
    let (api_version, kind) = (text_of("apiVersion"), text_of("kind"));
    if api_version != format!("{GROUP}/{VERSION}") || kind != "CompactionJob" {
        return Err(Error::NotAJob {
            path: owned(),
            api_version,
            kind,
        });
    }
    let mut fields = Vec::new();
    let mut job: CompactionJob = serde_ignored::deserialize(&value, |field| fields.push(field.to_string()))
        .map_err(|error| Error::Field {
        path: owned(),
        problem: error.to_string(),
    })?;
    // Checked above; the type implies them and does not read them.
    fields.retain(|field| !matches!(field.as_str(), "apiVersion" | "kind"));
    if !fields.is_empty() {
        return Err(Error::UnknownFields {
            path: owned(),
            fields,
        });
    }
    if job.metadata.name.as_deref().unwrap_or_default().is_empty() {
        return Err(Error::Field {
            path: owned(),
            problem: "metadata.name is missing".to_owned(),
        });
    }
    job.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    job.status = None;
    let invalid = |problems| Error::Invalid {
        path: owned(),
        problems,
    };
    let limits = job.check(old).map_err(invalid)?;
    let spec = &job.spec;
    Selector::new(&spec.source, &spec.state_prefix, spec.output.group_by, &limits, 0)
        .map_err(|glob| invalid(vec![glob.to_string()]))?;
    Ok(job)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
