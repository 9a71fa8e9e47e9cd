//! The placeholders in a template's prefixes, for one moment. Pure.

use jiff::{Span, Timestamp, Zoned};

use crate::api::CompactionJobSpec;

/// What a prefix may hold. People read this in messages.
const KNOWN: &str = "${date:FORMAT}, ${hoursAgo:N}, ${hoursAgo:N:FORMAT} and ${scheduledTime}";
/// Of `${hoursAgo:N}`: a directory for each hour.
const HOUR: &str = "%Y/%m/%d/%H";
/// Of `${scheduledTime}`: sorts by time, and needs no quoting in a key.
const MOMENT: &str = "%Y%m%dT%H%M%SZ";
const MAX_HOURS: i64 = 87_600;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("jobTemplate.spec.{field}: ${{{name}}} is not known; what is known: {KNOWN}")]
    Unknown { field: &'static str, name: String },
    #[error("jobTemplate.spec.{field}: a placeholder has no end; write one of {KNOWN}")]
    Open { field: &'static str },
    #[error("jobTemplate.spec.{field}: hours are a number from 0 to {MAX_HOURS}, not {hours:?}")]
    Hours { field: &'static str, hours: String },
    #[error("jobTemplate.spec.{field}: {format:?} is not a format of strftime: {problem}")]
    Format {
        field: &'static str,
        format: String,
        problem: String,
    },
}

/// The spec of the job that is scheduled for this moment, in the schedule's zone.
pub(super) fn render(template: &CompactionJobSpec, scheduled: &Zoned) -> Result<CompactionJobSpec, Error> {
    let mut spec = template.clone();
    for (field, prefix) in [
        ("source.prefix", &mut spec.source.prefix),
        ("output.prefix", &mut spec.output.prefix),
        ("statePrefix", &mut spec.state_prefix),
    ] {
        *prefix = text(field, prefix, scheduled)?;
    }
    Ok(spec)
}

fn text(field: &'static str, template: &str, scheduled: &Zoned) -> Result<String, Error> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or(Error::Open { field })?;
        text.push_str(before);
        text.push_str(&value(field, name, scheduled)?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

fn value(field: &'static str, name: &str, scheduled: &Zoned) -> Result<String, Error> {
    if name == "scheduledTime" {
        return format(field, MOMENT, &utc(scheduled.timestamp()));
    }
    if let Some(wanted) = name.strip_prefix("date:") {
        return format(field, wanted, scheduled);
    }
    let Some(hours) = name.strip_prefix("hoursAgo:") else {
        return Err(Error::Unknown {
            field,
            name: name.to_owned(),
        });
    };
    let (hours, wanted) = hours.split_once(':').unwrap_or((hours, HOUR));
    let ago = hours.parse().ok().filter(|hours| (0..=MAX_HOURS).contains(hours));
    let ago = ago.and_then(|hours: i64| scheduled.checked_sub(Span::new().hours(hours)).ok());
    let ago = ago.ok_or_else(|| Error::Hours {
        field,
        hours: hours.to_owned(),
    })?;
    format(field, wanted, &ago)
}

fn utc(time: Timestamp) -> Zoned {
    time.to_zoned(jiff::tz::TimeZone::UTC)
}

fn format(field: &'static str, format: &str, time: &Zoned) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, time).map_err(|problem| Error::Format {
        field,
        format: format.to_owned(),
        problem: problem.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scheduled() -> Zoned {
        "2026-11-24T01:15:00[Europe/Berlin]".parse().unwrap()
    }

    fn rendered(prefix: &str) -> Result<String, Error> {
        text("source.prefix", prefix, &scheduled())
    }

    fn refused(prefix: &str) -> String {
        rendered(prefix).unwrap_err().to_string()
    }

    #[test]
    fn a_placeholder_is_the_scheduled_time_in_the_zone() {
        for (prefix, expected) in [
            ("logs/", "logs/"),
            ("logs/date=${date:%Y-%m-%d}/", "logs/date=2026-11-24/"),
            ("${date:%Y}/${date:%m}/", "2026/11/"),
            ("${hoursAgo:2}/", "2026/11/23/23/"),
            ("${hoursAgo:0:%H}/", "01/"),
            ("${hoursAgo:25:%Y-%m-%d %H:%M}/", "2026-11-23 00:15/"),
            ("runs/${scheduledTime}/", "runs/20261124T001500Z/"),
            ("costs$/{}/", "costs$/{}/"),
        ] {
            assert_eq!(rendered(prefix).unwrap(), expected, "{prefix}");
        }
    }

    #[test]
    fn hours_ago_are_hours_that_passed_also_over_a_time_change() {
        let scheduled: Zoned = "2026-03-29T04:00:00[Europe/Berlin]".parse().unwrap();
        let of = |name: &str| value("source.prefix", name, &scheduled).unwrap();
        assert_eq!(of("hoursAgo:2:%H"), "01", "from 2 to 3 there is no hour");
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        for (prefix, words) in [
            (
                "${day}/",
                "${day} is not known; what is known: ${date:FORMAT}, ${hoursAgo:N}, ${hoursAgo:N:FORMAT} and ${scheduledTime}",
            ),
            ("${date}/", "${date} is not known"),
            ("${}/", "${} is not known"),
            ("${scheduledTime:%Y}/", "is not known"),
            ("${date:%Y/", "a placeholder has no end"),
            ("${hoursAgo:x}/", "from 0 to 87600, not \"x\""),
            ("${hoursAgo:-1}/", "not \"-1\""),
            ("${hoursAgo:87601}/", "not \"87601\""),
            ("${date:%!}/", "\"%!\" is not a format of strftime"),
        ] {
            let problem = refused(prefix);
            assert!(
                problem.starts_with("jobTemplate.spec.source.prefix: "),
                "{problem}"
            );
            assert!(problem.contains(words), "{prefix}: {problem}");
        }
    }

    #[test]
    fn the_three_prefixes_are_rendered_and_nothing_else() {
        let template: CompactionJobSpec = serde_json::from_value(json!({
            "storage": {"s3": {"bucket": "bucket"}},
            "source": {"prefix": "in/${date:%d}/", "include": ["${date:%d}"]},
            "output": {"prefix": "out/${date:%d}/"},
            "statePrefix": "state/${date:%d}/",
        }))
        .unwrap();
        let spec = render(&template, &scheduled()).unwrap();
        assert_eq!(spec.source.prefix, "in/24/");
        assert_eq!(spec.output.prefix, "out/24/");
        assert_eq!(spec.state_prefix, "state/24/");
        assert_eq!(spec.source.include, ["${date:%d}"]);
        let mut wrong = template.clone();
        wrong.state_prefix = "${x}/".to_owned();
        let problem = render(&wrong, &scheduled()).unwrap_err().to_string();
        assert!(problem.contains("statePrefix"), "{problem}");
    }
}
