//! Which S3 operation a request is, and what of a job it is about. Read from the request line, and where that does
//! not say it, from the body.

use std::collections::BTreeSet;
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    List,
    Get,
    Head,
    Put,
    Create,
    UploadPart,
    Complete,
    Abort,
    ListParts,
    ListUploads,
    Delete,
}

/// What a key is to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Source,
    Output,
    Manifest,
    Consumed,
    Success,
    Plan,
    Segment,
    Candidates,
    Body,
    Tail,
    Record,
    /// All but the upload records, which only clean-up deletes.
    Ledger,
    Probe,
    Other,
}

#[derive(Debug, Clone)]
pub struct Operation {
    pub verb: Verb,
    pub of: Of,
    pub key: String,
    pub upload: Option<String>,
}

impl Operation {
    /// Of a path-style request for a bucket whose keys need no encoding.
    pub fn of_request(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut segments = path.trim_start_matches('/').splitn(2, '/');
        let key = segments.nth(1).unwrap_or_default();
        let parameter = |name: &str| {
            let mut pairs = query
                .split('&')
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
        };
        let has = |name: &str| parameter(name).is_some();
        let verb = match method {
            "GET" if has("list-type") => Verb::List,
            "GET" if has("uploads") => Verb::ListUploads,
            "GET" if has("uploadId") => Verb::ListParts,
            "GET" => Verb::Get,
            "HEAD" => Verb::Head,
            "PUT" if has("partNumber") => Verb::UploadPart,
            "PUT" => Verb::Put,
            "POST" if has("uploads") => Verb::Create,
            "POST" if has("uploadId") => Verb::Complete,
            "DELETE" if has("uploadId") => Verb::Abort,
            _ => Verb::Delete,
        };
        let key = match verb {
            Verb::List | Verb::ListUploads => parameter("prefix").unwrap_or_default().replace("%2F", "/"),
            _ => key.to_owned(),
        };
        Self {
            verb,
            of: Of::of_key(&key),
            key,
            upload: parameter("uploadId").map(ToOwned::to_owned),
        }
    }

    /// Whether the request line leaves open what it is about: bulk deletes, and records, which the probe has too.
    pub fn is_told_by_its_body(&self) -> bool {
        matches!(
            (self.verb, self.of),
            (Verb::Put, Of::Record) | (Verb::Delete, Of::Other)
        )
    }

    /// `of_probe` are the records of the probe so far.
    pub fn read_body(&mut self, body: &str, of_probe: &mut BTreeSet<String>) {
        if self.verb == Verb::Delete {
            self.of = Of::of_deleted(body, of_probe);
        } else if body.contains("/probe/") {
            of_probe.insert(self.key.clone());
            self.of = Of::Probe;
        }
    }
}

impl Of {
    /// Of the keys of a bulk delete.
    fn of_deleted(body: &str, of_probe: &BTreeSet<String>) -> Self {
        let keys = body.split("<Key>").skip(1);
        let keys = keys.filter_map(|rest| rest.split("</Key>").next());
        let of_key = |key| match Self::of_key(key) {
            Self::Record if of_probe.contains(key) => Self::Probe,
            of => of,
        };
        let of: Vec<Self> = keys.map(of_key).collect();
        if of.contains(&Self::Plan) {
            return Self::Ledger;
        }
        of.into_iter()
            .find(|of| *of != Self::Probe)
            .unwrap_or(Self::Probe)
    }

    fn of_key(key: &str) -> Self {
        let has = |text: &str| key.contains(text);
        match key {
            _ if key.starts_with("in/") => Self::Source,
            _ if key.ends_with("/manifest.json") => Self::Manifest,
            _ if key.ends_with("/consumed.jsonl") => Self::Consumed,
            _ if key.ends_with("/_SUCCESS") => Self::Success,
            _ if key.starts_with("out/") => Self::Output,
            _ if has("/probe/") => Self::Probe,
            _ if has("/bodies/") => Self::Body,
            _ if has("/tails/") => Self::Tail,
            _ if has("/uploads/") => Self::Record,
            _ if key.ends_with("/plan.json") => Self::Plan,
            _ if key.ends_with("/candidates.jsonl") => Self::Candidates,
            _ if has("/segment-") => Self::Segment,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "ListObjectsV2",
            Self::Get => "GetObject",
            Self::Head => "HeadObject",
            Self::Put => "PutObject",
            Self::Create => "CreateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::Complete => "CompleteMultipartUpload",
            Self::Abort => "AbortMultipartUpload",
            Self::ListParts => "ListParts",
            Self::ListUploads => "ListMultipartUploads",
            Self::Delete => "DeleteObjects",
        })
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Output => "output",
            Self::Manifest => "manifest",
            Self::Consumed => "consumed list",
            Self::Success => "`_SUCCESS`",
            Self::Plan => "plan",
            Self::Segment => "segment",
            Self::Candidates => "candidates",
            Self::Body => "body",
            Self::Tail => "tail",
            Self::Record => "upload record",
            Self::Ledger => "ledger",
            Self::Probe => "probe",
            Self::Other => "other",
        })
    }
}
