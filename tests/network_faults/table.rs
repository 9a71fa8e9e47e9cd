//! What was measured, for people: a line for each scenario, and a table of the highest figures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::fault::Fault;
use crate::request::Moment;
use crate::scenario::{Lasts, Measured, Scenario};

const HEAD: &str = "\
| fault | lasts until | scenarios | known after | goes on after | read again | sent again | memory | workers |
|---|---|---|---|---|---|---|---|---|
";

/// Writes the table to the file that `FAULTS_TABLE` names, if it does.
pub fn write(measured: &[(Scenario, Measured)]) {
    let Ok(file) = std::env::var("FAULTS_TABLE") else {
        return;
    };
    let mut rows: BTreeMap<(Fault, Lasts), Vec<&(Scenario, Measured)>> = BTreeMap::new();
    for played in measured {
        let (scenario, _) = played;
        rows.entry((scenario.fault, scenario.lasts))
            .or_default()
            .push(played);
    }
    let mut table = HEAD.to_owned();
    for ((fault, lasts), played) in rows {
        table.push_str(&row(fault, lasts, &played));
    }
    std::fs::write(file, table).unwrap();
}

fn row(fault: Fault, lasts: Lasts, played: &[&(Scenario, Measured)]) -> String {
    let known = highest(played, |measured| measured.known);
    let known = known.map_or_else(
        || "endured".to_owned(),
        |(time, moment)| format!("{} ({})", seconds(time), moment.name()),
    );
    let goes_on = highest(played, |measured| Some(measured.goes_on)).map(|(time, _)| seconds(time));
    let bytes = |of: fn(&Measured) -> u64| {
        let most = highest(played, |measured| Some(of(measured)));
        mebibytes(most.map_or(0, |(bytes, _)| bytes))
    };
    let workers = highest(played, |measured| Some(measured.workers)).map_or(0, |(count, _)| count);
    let mut row = String::new();
    write!(
        row,
        "| {} | {} | {} | {known} | ",
        fault.name(),
        lasts.name(),
        played.len()
    )
    .unwrap();
    write!(
        row,
        "{} | {} | ",
        goes_on.unwrap_or_default(),
        bytes(|m| m.read_again)
    )
    .unwrap();
    writeln!(
        row,
        "{} | {} | {workers} |",
        bytes(|m| m.sent_again),
        bytes(|m| m.memory)
    )
    .unwrap();
    row
}

/// The highest of these figures, and the moment to which it belongs.
fn highest<T: Ord>(
    played: &[&(Scenario, Measured)],
    figure: impl Fn(&Measured) -> Option<T>,
) -> Option<(T, Moment)> {
    let figures = played
        .iter()
        .filter_map(|(scenario, measured)| Some((figure(measured)?, scenario.moment)));
    figures.max()
}

/// One scenario.
pub fn line(measured: &Measured) -> String {
    let known = measured.known.map_or_else(
        || "endured".to_owned(),
        |time| format!("known after {}", seconds(time)),
    );
    format!(
        "{known}, goes on after {}, {} read again, {} sent again, {} in memory, {} workers",
        seconds(measured.goes_on),
        mebibytes(measured.read_again),
        mebibytes(measured.sent_again),
        mebibytes(measured.memory),
        measured.workers
    )
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
