//! What was measured, as a table for `docs/reliability.md`.

use std::fmt::Write as _;
use std::time::Duration;

use crate::Undisturbed;
use crate::cases::Case;
use crate::shape::Shape;
use crate::site::Site;

pub struct Row {
    case: String,
    shape: Shape,
    struck: usize,
    requests: usize,
    workers: i64,
    written_again: i64,
    read_again: i64,
    known: Option<Duration>,
    went_on: Option<Duration>,
    /// Bytes.
    memory: u64,
}

/// Operation, fault, how often.
pub fn name(case: &Case) -> String {
    let rule = case.fault();
    let behind = match case.rules.len() {
        1 => String::new(),
        _ => format!(", after {}: {}", case.rules[0].on, case.rules[0].fault),
    };
    let ends = if case.fails.is_some() { ": fails" } else { "" };
    format!("{} | {}{behind} | {}{ends}", rule.on, rule.fault, rule.often)
}

impl Row {
    pub fn new(
        case: &Case,
        undisturbed: &Undisturbed,
        site: &Site,
        known: Option<Duration>,
        memory: u64,
    ) -> Self {
        let seen = site.proxy.seen();
        let last = case.rules.len() - 1;
        Self {
            case: name(case),
            shape: undisturbed.shape,
            struck: seen.struck[last],
            requests: seen.matched[last],
            workers: site.state("job")["status"]["shards"][0]["epoch"]
                .as_i64()
                .unwrap(),
            written_again: seen.written as i64 - undisturbed.written as i64,
            read_again: seen.read as i64 - undisturbed.read as i64,
            known,
            went_on: seen.went_on,
            memory,
        }
    }

    fn cells(&self) -> [String; 8] {
        let kibibytes = |bytes: i64| (bytes.max(0) / 1024).to_string();
        let seconds = |time: Option<Duration>| {
            time.map_or("none".to_owned(), |time| format!("{:.1}", time.as_secs_f64()))
        };
        [
            self.struck.to_string(),
            self.requests.to_string(),
            self.workers.to_string(),
            kibibytes(self.written_again),
            kibibytes(self.read_again),
            seconds(self.known),
            seconds(self.went_on),
            (self.memory >> 20).to_string(),
        ]
    }
}

const HEAD: &str = "\
| operation | fault | how often | struck | requests | workers | written again | read again | known after | went on after | memory |
|---|---|---|---|---|---|---|---|---|---|---|
";

/// Into the file that `FAULTS_TABLE` names. The shapes are beside each other; bytes are in KiB, memory
/// in MiB, times in seconds.
pub fn write(rows: &[Row]) {
    let Some(path) = std::env::var_os("FAULTS_TABLE") else {
        return;
    };
    let mut cases: Vec<&str> = Vec::new();
    for row in rows {
        if !cases.contains(&row.case.as_str()) {
            cases.push(&row.case);
        }
    }
    let mut table = HEAD.to_owned();
    for case in cases {
        let of_shape = |shape| rows.iter().find(|row| row.case == case && row.shape == shape);
        let cells = Shape::ALL.map(|shape| {
            let row = of_shape(shape);
            row.map_or_else(|| std::array::from_fn(|_| "–".to_owned()), Row::cells)
        });
        write!(table, "| {case} |").unwrap();
        for (tails, parts) in cells[0].iter().zip(&cells[1]) {
            write!(table, " {tails} / {parts} |").unwrap();
        }
        table.push('\n');
    }
    std::fs::write(path, table).unwrap();
}
