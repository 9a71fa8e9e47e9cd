//! What was measured, as a table for people.

use std::fmt::Write as _;
use std::time::Duration;

use crate::scenario::{Lasts, Measured, Scenario};

const HEAD: &str = "\
| job | fault | begins at | lasts until | known after | goes on after | read again | sent again | memory | workers |
|---|---|---|---|---|---|---|---|---|---|
";

/// Writes it to the file that `FAULTS_TABLE` names, if it does.
pub fn write(mut measured: Vec<(Scenario, Measured)>) {
    let Ok(file) = std::env::var("FAULTS_TABLE") else {
        return;
    };
    measured.sort_by_key(|(scenario, _)| *scenario);
    let mut table = HEAD.to_owned();
    for (scenario, measured) in &measured {
        table.push_str(&row(scenario, measured));
    }
    std::fs::write(file, table).unwrap();
}

fn row(scenario: &Scenario, measured: &Measured) -> String {
    let lasts = match scenario.lasts {
        Lasts::UntilKnown => "known",
        Lasts::UntilGivenUp => "given up",
    };
    let known = measured.known.map_or_else(|| "endured".to_owned(), seconds);
    let mut row = String::new();
    let (job, fault, moment) = (
        scenario.shape.name(),
        scenario.fault.name(),
        scenario.moment.name(),
    );
    write!(
        row,
        "| {job} | {fault} | {moment} | {lasts} | {known} | {} ",
        seconds(measured.goes_on)
    )
    .unwrap();
    let (read, sent) = (mebibytes(measured.read_again), mebibytes(measured.sent_again));
    writeln!(
        row,
        "| {read} | {sent} | {} | {} |",
        mebibytes(measured.memory),
        measured.workers
    )
    .unwrap();
    row
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
