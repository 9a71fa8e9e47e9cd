//! What a store honours, for people and scripts, and what each lack means for a job.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::LOCAL_CLUSTER;
use crate::api::CompactionJob;
use crate::engine;
use crate::store::{Capabilities, Store};

/// What `probe` shows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeReport {
    pub capabilities: Capabilities,
    /// What a job does for want of a capability, by its name.
    pub without: BTreeMap<&'static str, &'static str>,
    pub upload_rule: UploadRule,
}

/// The bucket's own rule for uploads that stay open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum UploadRule {
    None,
    /// It aborts them after so many days.
    Days(u32),
    /// The store does not say, and why.
    Untold(String),
}

impl ProbeReport {
    /// Tries within the job's state prefix, and removes what it made.
    pub async fn make(store: &Arc<dyn Store>, job: &CompactionJob) -> Result<Self, engine::Error> {
        let spec = &job.spec;
        let capabilities = engine::probe_alone(store, &spec.state_prefix, LOCAL_CLUSTER).await?;
        let upload_rule = match store
            .upload_days(&[&spec.output.prefix, &spec.state_prefix])
            .await
        {
            Ok(None) => UploadRule::None,
            Ok(Some(days)) => UploadRule::Days(days),
            Err(error) => UploadRule::Untold(error.to_string()),
        };
        let lacks = points(capabilities).into_iter().filter(|point| !point.honoured);
        Ok(Self {
            capabilities,
            without: lacks.map(|point| (point.name, point.without)).collect(),
            upload_rule,
        })
    }
}

struct Point {
    name: &'static str,
    honoured: bool,
    without: &'static str,
}

fn points(can: Capabilities) -> [Point; 7] {
    let point = |name, honoured, without| Point {
        name,
        honoured,
        without,
    };
    [
        point(
            "createOnly",
            can.create_only,
            "objects of the ledger are stored without the condition; their names are unique anyway",
        ),
        point(
            "ifMatchRead",
            can.if_match_read,
            "the ETag of each answer is compared, as it is in any case",
        ),
        point(
            "conditionalComplete",
            can.conditional_complete,
            "an output that is there already is replaced by the same bytes",
        ),
        point(
            "sizeGuard",
            can.size_guard,
            "the size of outputs is checked before publication, as it is in any case",
        ),
        point(
            "conditionalDelete",
            can.conditional_delete,
            "sources are deleted only with allowUnconditionalDelete: true",
        ),
        point(
            "listParts",
            can.list_parts,
            "parts are known by their acknowledgements alone; an output that cannot be completed by them is built again",
        ),
        point(
            "listUploads",
            can.list_uploads,
            "an upload whose opening was not answered stays open; let a rule of the bucket abort it",
        ),
    ]
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Point {
            name,
            honoured,
            without,
        } in points(self.capabilities)
        {
            if honoured {
                writeln!(f, "{name:20} yes")?;
            } else {
                writeln!(f, "{name:20} no   {without}")?;
            }
        }
        match &self.upload_rule {
            UploadRule::None => writeln!(f, "{:20} none", "rule for uploads"),
            UploadRule::Days(days) => writeln!(
                f,
                "{:20} the bucket aborts open uploads after {days} days; an output that takes longer is built again",
                "rule for uploads"
            ),
            UploadRule::Untold(why) => writeln!(f, "{:20} not told: {why}", "rule for uploads"),
        }
    }
}
