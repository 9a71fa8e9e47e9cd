//! What a request of the worker is about, by its head alone.

/// What a worker is doing when it sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The sources, for the plan.
    Listing,
    /// A range of a source.
    Reading,
    /// An upload is opened.
    Opening,
    /// A part of an output.
    Part,
    Complete,
    /// A tail.
    Tail,
    /// A body of the ledger.
    Body,
    /// The manifest.
    Manifest,
    /// What the ledger does not need any more.
    Deleting,
}

impl Moment {
    /// As the table has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Listing => "listing",
            Self::Reading => "reading",
            Self::Opening => "opening an upload",
            Self::Part => "a part in flight",
            Self::Complete => "Complete",
            Self::Tail => "writing a tail",
            Self::Body => "writing the ledger",
            Self::Manifest => "publishing",
            Self::Deleting => "deleting",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    method: String,
    /// Empty when it is about the bucket.
    pub key: String,
    query: String,
    /// First and last byte asked for.
    pub range: Option<(u64, u64)>,
    /// Of its body.
    pub length: u64,
}

impl Request {
    pub fn parse(head: &str, bucket: &str) -> Self {
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let of_bucket = path.strip_prefix('/').and_then(|path| path.strip_prefix(bucket));
        let key = of_bucket.unwrap_or_else(|| panic!("a request for another bucket: {target}"));
        let mut request = Self {
            method: method.to_owned(),
            key: key.trim_start_matches('/').to_owned(),
            query: query.to_owned(),
            range: None,
            length: 0,
        };
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => request.length = value.parse().unwrap(),
                "transfer-encoding" => panic!("a body of unknown length: {head}"),
                "range" => {
                    let range = value
                        .strip_prefix("bytes=")
                        .and_then(|range| range.split_once('-'));
                    request.range =
                        range.map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap()));
                }
                _ => {}
            }
        }
        request
    }

    pub fn is_at(&self, moment: Moment) -> bool {
        let Self {
            method, key, query, ..
        } = self;
        let asks = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let output = key.starts_with("out/") && !key.starts_with("out/_compaction/");
        match (moment, method.as_str()) {
            (Moment::Listing, "GET") => key.is_empty() && query.contains("prefix=in%2F"),
            (Moment::Reading, "GET") => key.starts_with("in/"),
            (Moment::Opening, "POST") => output && asks("uploads"),
            (Moment::Part, "PUT") => output && asks("partNumber"),
            (Moment::Complete, "POST") => output && asks("uploadId"),
            (Moment::Tail, "PUT") => key.starts_with("state/") && key.contains("/tails/"),
            (Moment::Body, "PUT") => key.starts_with("state/") && key.contains("/bodies/"),
            (Moment::Manifest, "PUT") => key.ends_with("/manifest.json"),
            (Moment::Deleting, "POST") => key.is_empty() && asks("delete"),
            _ => false,
        }
    }

    pub fn has_long_answer(&self) -> bool {
        self.method == "GET"
    }
}
