//! What was measured, as a table for `docs/reliability.md`.

use std::fmt::Write as _;
use std::time::Duration;

use crate::Undisturbed;
use crate::cases::Case;
use crate::shape::Shape;
use crate::site::Site;

pub struct Row {
    name: String,
    fails: bool,
    pub struck: usize,
    attempts: usize,
    workers: i64,
    written_again: i64,
    read_again: i64,
    went_on: Option<Duration>,
}

/// Operation, fault, how often, shape.
pub fn name(case: &Case, shape: Shape) -> String {
    let rule = case.fault();
    let behind = match case.rules.len() {
        1 => String::new(),
        _ => format!(", after {}: {}", case.rules[0].on, case.rules[0].fault),
    };
    let (on, fault, often) = (rule.on, rule.fault, rule.often);
    format!("{on} | {fault}{behind} | {often} | {}", shape.name())
}

impl Row {
    pub fn new(case: &Case, undisturbed: &Undisturbed, site: &Site) -> Self {
        let seen = site.proxy.seen();
        let last = case.rules.len() - 1;
        Self {
            name: name(case, undisturbed.shape),
            fails: case.fails.is_some(),
            struck: seen.struck[last],
            attempts: seen.matched[last],
            workers: site.state("job")["status"]["shards"][0]["epoch"]
                .as_i64()
                .unwrap(),
            written_again: seen.written as i64 - undisturbed.written as i64,
            read_again: seen.read as i64 - undisturbed.read as i64,
            went_on: seen.went_on,
        }
    }
}

/// Into the file that `FAULTS_TABLE` names.
pub fn write(rows: &[Row]) {
    let Some(path) = std::env::var_os("FAULTS_TABLE") else {
        return;
    };
    let mut table = String::from(
        "| operation | fault | how often | shape | ends | struck | requests | workers | written again | read again | went on after |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let ends = if row.fails {
            "failed, then retried"
        } else {
            "succeeded"
        };
        let went_on = row
            .went_on
            .map_or(String::new(), |time| format!("{:.1} s", time.as_secs_f64()));
        let (written, read) = (kibibytes(row.written_again), kibibytes(row.read_again));
        let Row {
            name,
            struck,
            attempts,
            workers,
            ..
        } = row;
        writeln!(
            table,
            "| {name} | {ends} | {struck} | {attempts} | {workers} | {written} | {read} | {went_on} |"
        )
        .unwrap();
    }
    std::fs::write(path, table).unwrap();
}

fn kibibytes(bytes: i64) -> String {
    format!("{} KiB", bytes.max(0) / 1024)
}
