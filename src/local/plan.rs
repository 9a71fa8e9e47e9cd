//! A plan for people and scripts: what would be done, and why objects are left out.

use std::collections::BTreeMap;
use std::fmt;

use indicatif::HumanBytes;
use serde::Serialize;

use crate::plan::{LeftOut, LeftOutCount, Plan};

/// What `plan` shows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanSummary {
    pub source_objects: u64,
    pub source_bytes: u64,
    pub groups: u64,
    pub estimated_output_objects: u64,
    pub shards: usize,
    pub batches: u64,
    /// GET and LIST requests, and PUT and the like.
    pub estimated_reads: u64,
    pub estimated_writes: u64,
    /// Outputs of earlier jobs among the objects: read again, and replaced.
    pub superseded_objects: usize,
    pub left_out_objects: u64,
    pub left_out: BTreeMap<LeftOut, LeftOutCount>,
}

impl PlanSummary {
    pub fn of(plan: &Plan) -> Self {
        let (estimated_reads, estimated_writes) = plan.estimated_requests();
        Self {
            source_objects: plan.totals.sources,
            source_bytes: plan.totals.bytes,
            groups: plan.totals.groups,
            estimated_output_objects: plan.totals.estimated_outputs,
            shards: plan.shards.len(),
            batches: plan.shards.iter().map(|shard| plan.frozen.batches(shard)).sum(),
            estimated_reads,
            estimated_writes,
            superseded_objects: plan.superseded.len(),
            left_out_objects: plan.totals.left_out,
            left_out: plan.left_out.clone(),
        }
    }
}

impl fmt::Display for PlanSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "objects   {} in {} groups, {} -> about {}",
            self.source_objects,
            self.groups,
            HumanBytes(self.source_bytes),
            self.estimated_output_objects
        )?;
        writeln!(f, "work      {} batches in {} shards", self.batches, self.shards)?;
        writeln!(
            f,
            "requests  about {} reads and {} writes",
            self.estimated_reads, self.estimated_writes
        )?;
        if self.superseded_objects > 0 {
            writeln!(f, "replaced  {} outputs of earlier jobs", self.superseded_objects)?;
        }
        writeln!(f, "left out  {} objects", self.left_out_objects)?;
        for (reason, count) in &self.left_out {
            writeln!(
                f,
                "          {} {}, e.g. {}",
                count.objects,
                explain(*reason),
                count.examples.join(", ")
            )?;
        }
        Ok(())
    }
}

fn explain(reason: LeftOut) -> &'static str {
    match reason {
        LeftOut::Own => "working files of compactions",
        LeftOut::FolderMarker => "folder markers",
        LeftOut::NotIncluded => "not matched by source.include",
        LeftOut::Excluded => "matched by source.exclude",
        LeftOut::TooYoung => "younger than source.minObjectAgeSeconds",
        LeftOut::TooLarge => "larger than source.maxObjectSize",
        LeftOut::Consumed => "compacted by an earlier job",
        LeftOut::Archived => "archived",
        LeftOut::GroupTooSmall => "in groups smaller than source.minSourcesPerGroup",
    }
}
