//! What a verification found, for people and for programs.

use std::fmt;

use serde::Serialize;

/// So many sentences of a kind are kept.
const KEPT: usize = 100;

/// What was compared, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Consumed sources that are still there as they were, and were read.
    pub sources: u64,
    /// Their records.
    pub records: u64,
    /// Outputs that the manifests name.
    pub outputs: u64,
    pub groups: u64,
    /// Consumed sources that are not there any more as they were: deleted, replaced or archived. What the
    /// outputs hold of them cannot be compared.
    pub unverifiable: u64,
    /// Why not everything could be compared.
    pub remarks: Sentences,
    /// Sources that manifests name as left out.
    pub skipped: Sentences,
    /// Groups that manifests name as failed: nothing of them is published, and nothing consumed.
    pub failed: Sentences,
    pub problems: Sentences,
}

impl Report {
    /// Nothing is wrong, as far as the sources are still there to say so.
    pub fn is_good(&self) -> bool {
        self.problems.count == 0
    }
}

/// How many there are, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sentences {
    pub count: u64,
    pub first: Vec<String>,
}

impl Sentences {
    pub(super) fn add(&mut self, sentence: String) {
        self.count += 1;
        if self.first.len() < KEPT {
            self.first.push(sentence);
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for sentence in &self.first {
            writeln!(f, "  {sentence}")?;
        }
        match self.count - self.first.len() as u64 {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compared = format!(
            "{} and {} compared, {} in {}",
            counted(self.sources, "source"),
            counted(self.outputs, "output"),
            counted(self.records, "record"),
            counted(self.groups, "group"),
        );
        match (self.is_good(), self.unverifiable) {
            (false, _) => {
                writeln!(f, "{}; {compared}", counted(self.problems.count, "problem"))?;
                self.problems.write(f)?;
            }
            (true, 0) => writeln!(f, "good: every record is there exactly once; {compared}")?,
            (true, _) => writeln!(f, "good, as far as the sources are still there; {compared}")?,
        }
        if self.unverifiable > 0 {
            writeln!(
                f,
                "{} could not be compared",
                counted(self.unverifiable, "consumed source")
            )?;
            self.remarks.write(f)?;
        }
        if self.skipped.count > 0 {
            writeln!(
                f,
                "{} left out, as the manifests say",
                counted(self.skipped.count, "source")
            )?;
            self.skipped.write(f)?;
        }
        if self.failed.count > 0 {
            let groups = counted(self.failed.count, "group");
            writeln!(f, "{groups} failed and not in the outputs, as the manifests say")?;
            self.failed.write(f)?;
        }
        Ok(())
    }
}

/// `1 record`, `2 records`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}
