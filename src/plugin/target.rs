//! What a command is about: a job or a schedule, as people name it. Pure.

use std::fmt;
use std::str::FromStr;

use kube::core::{ApiResource, GroupVersionKind};

use crate::api::{GROUP, VERSION};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Job,
    Schedule,
}

impl Kind {
    pub fn singular(self) -> &'static str {
        match self {
            Self::Job => "compactionjob",
            Self::Schedule => "compactionschedule",
        }
    }

    /// As sentences have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Schedule => "schedule",
        }
    }

    pub(super) fn resource(self) -> ApiResource {
        let kind = match self {
            Self::Job => "CompactionJob",
            Self::Schedule => "CompactionSchedule",
        };
        let kind = GroupVersionKind::gvk(GROUP, VERSION, kind);
        ApiResource::from_gvk_with_plural(&kind, &format!("{}s", self.singular()))
    }

    /// By any name that kubectl takes, and by the word.
    fn named(text: &str) -> Option<Self> {
        let text = text.strip_suffix(&format!(".{GROUP}")).unwrap_or(text);
        let is = |kind: &Self| {
            let singular = kind.singular();
            text == singular || text.strip_suffix('s') == Some(singular) || text == kind.word()
        };
        let short = match text {
            "cptj" => Some(Self::Job),
            "cpts" => Some(Self::Schedule),
            _ => None,
        };
        [Self::Job, Self::Schedule].into_iter().find(is).or(short)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    pub name: String,
}

/// What is meant by text that says no kind.
fn target(text: &str, otherwise: Kind) -> Result<Target, String> {
    let (kind, name) = match text.split_once('/') {
        None => (Some(otherwise), text),
        Some((kind, name)) => (Kind::named(kind), name),
    };
    let kind =
        kind.ok_or_else(|| format!("{text} is neither a job nor a schedule; say NAME or schedule/NAME"))?;
    if name.is_empty() || name.contains('/') {
        return Err(format!("{text} names no {}", kind.word()));
    }
    let name = name.to_owned();
    Ok(Target { kind, name })
}

/// As kubectl prints what it has changed.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{GROUP}/{}", self.kind.singular(), self.name)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        target(text, Kind::Job)
    }
}

/// `NAME` or `job/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobName(pub String);

impl FromStr for JobName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let target = target(text, Kind::Job)?;
        match target.kind {
            Kind::Job => Ok(Self(target.name)),
            Kind::Schedule => Err(format!("{text} is no job; name one of the schedule's jobs")),
        }
    }
}

/// `NAME` or `schedule/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleName(pub String);

impl FromStr for ScheduleName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let target = target(text, Kind::Schedule)?;
        match target.kind {
            Kind::Schedule => Ok(Self(target.name)),
            Kind::Job => Err(format!(
                "{text} is no schedule; a job that failed goes on with retry"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_kind_is_understood() {
        for text in [
            "logs",
            "job/logs",
            "cptj/logs",
            "compactionjob/logs",
            "compactionjobs/logs",
            "compactionjob.compaction.dev/logs",
            "compactionjobs.compaction.dev/logs",
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(
                target.to_string(),
                "compactionjob.compaction.dev/logs",
                "{text} as it is printed"
            );
        }
        for text in ["schedule/logs", "cpts/logs", "compactionschedules/logs"] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), "compactionschedule.compaction.dev/logs");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["", "job/", "job/a/b", "pods/a", "/a", "jobs/a"] {
            assert!(text.parse::<Target>().is_err(), "{text:?} is refused");
        }
    }
}
