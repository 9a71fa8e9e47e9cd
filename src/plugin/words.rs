//! Times, sizes and tables as people read them. Pure.

use indicatif::HumanBytes;
use jiff::Timestamp;

/// A length of time in its two largest units: 45s, 12m30s, 3h5m, 2d4h. A clock that is behind makes it 0s.
pub(super) fn length(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, large_unit: char, small: i64, small_unit: char| match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => two(minutes, 'm', seconds % 60, 's'),
        (0, hours, _) => two(hours, 'h', minutes % 60, 'm'),
        (days, _, _) => two(days, 'd', hours % 24, 'h'),
    }
}

pub(super) fn since(time: Timestamp, now: Timestamp) -> String {
    length(now.duration_since(time).as_secs())
}

pub(super) fn until(time: Timestamp, now: Timestamp) -> String {
    length(time.duration_since(now).as_secs())
}

pub(super) fn bytes(number: i64) -> String {
    HumanBytes(number.max(0) as u64).to_string()
}

/// `3 batches`, `1 batch`.
pub(super) fn count(number: i64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

const BAR: usize = 20;

/// `[=====>    ]`; full only if everything is done.
pub(super) fn bar(done: i64, total: i64) -> String {
    let full = done >= total;
    let filled = done.max(0).saturating_mul(BAR as i64) / total.max(1);
    let filled = if full { BAR } else { filled as usize };
    let head = if full { "" } else { ">" };
    format!("[{:<BAR$}]", format!("{}{head}", "=".repeat(filled)))
}

/// Columns as wide as their widest cell, two spaces between them, none at a line's end.
pub(super) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A terminal's size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub rows: usize,
    pub columns: usize,
}

impl Screen {
    pub(super) fn holds(self, lines: &[String]) -> bool {
        self.rows_of(lines) <= self.rows
    }

    /// A line that is longer than a row takes several.
    pub(super) fn rows_of(self, lines: &[String]) -> usize {
        let rows = |line: &str| line.chars().count().div_ceil(self.columns).max(1);
        let lines = lines.iter().flat_map(|line| line.split('\n'));
        lines.map(rows).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_their_two_largest_units() {
        let lengths = [-5, 0, 59, 60, 95, 3600, 3660, 86_399, 86_400, 190_000].map(length);
        assert_eq!(
            lengths,
            [
                "0s", "0s", "59s", "1m", "1m35s", "1h", "1h1m", "23h59m", "1d", "2d4h"
            ]
        );
    }

    #[test]
    fn a_bar_is_full_only_when_all_is_done() {
        assert_eq!(bar(0, 8), "[>                   ]");
        assert_eq!(bar(4, 8), "[==========>         ]");
        assert_eq!(bar(999_999, 1_000_000), "[===================>]");
        assert_eq!(bar(8, 8), "[====================]");
        assert_eq!(bar(0, 0), "[====================]");
        assert_eq!(bar(9, 8), "[====================]");
    }

    #[test]
    fn a_line_that_is_longer_than_a_row_takes_several() {
        let screen = Screen { rows: 4, columns: 3 };
        let holds = |lines: &[&str]| screen.holds(&lines.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(holds(&["abc", "", "abcd"]));
        assert!(!holds(&["abc", "", "abcd", ""]));
        assert!(holds(&["a\nb\nc\nd"]));
        assert!(!holds(&["a\nb\nc\nd\ne"]));
    }

    #[test]
    fn a_tables_columns_fit_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let table = table(&[row(["SHARD", "STATE", "POD"]), row(["0", "done", ""])]);
        assert_eq!(table, ["SHARD  STATE  POD", "0      done"]);
    }
}
