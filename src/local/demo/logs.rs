//! The demo's log records: services that write a small object every half minute, as agents do. A function
//! of the object's number alone.

use std::fmt::Write as _;

use fastrand::Rng;

pub(super) const SERVICES: [&str; 4] = ["api", "checkout", "search", "worker"];
pub(super) const HOURS: u32 = 6;
pub(super) const OBJECTS_PER_HOUR: u32 = 125;

const DAY: &str = "2026-03-14";
const HOUR_MS: u32 = 3_600_000;

/// The key of an object relative to the prefix, and its records as NDJSON.
pub(super) fn object(service: usize, hour: u32, number: u32) -> (String, String) {
    let name = SERVICES[service];
    let seed = (service as u64) << 40 | u64::from(hour) << 20 | u64::from(number);
    let mut rng = Rng::with_seed(seed);
    let every = HOUR_MS / OBJECTS_PER_HOUR;
    let records = 10 + rng.u32(0..90) * rng.u32(1..3);
    let mut text = String::new();
    for record in 0..records {
        let ms = number * every + record * every / records;
        let _ = write!(text, r#"{{"time":"{}","service":"{name}","#, time(hour, ms));
        event(&mut rng, &mut text);
        text += "}\n";
    }
    (
        format!("service={name}/{DAY}/{hour:02}/{number:06}.json.gz"),
        text,
    )
}

fn time(hour: u32, ms: u32) -> String {
    let (minute, second, ms) = (ms / 60_000, ms / 1000 % 60, ms % 1000);
    format!("{DAY}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Most are requests, some are longer, a few are very long.
fn event(rng: &mut Rng, text: &mut String) {
    let (id, took) = (rng.u64(..), rng.u32(1..20) * rng.u32(1..20));
    let _ = match rng.u32(..40) {
        0 => {
            let frames = 4 + rng.u32(..26);
            let frame = |frame| format!("\\n  at step_{frame} (line {})", rng.u32(1..900));
            let trace: String = (0..frames).map(frame).collect();
            write!(
                text,
                r#""level":"error","request":"{id:016x}","message":"upstream reset{trace}""#
            )
        }
        1..=4 => {
            let retries = rng.u32(1..4);
            write!(
                text,
                r#""level":"warn","request":"{id:016x}","message":"slow answer","retries":{retries}"#
            )
        }
        5..=8 => write!(
            text,
            r#""level":"debug","message":"cache hit","key":"{:x}""#,
            id >> 40
        ),
        _ => {
            let path = ["/v1/orders", "/v1/items", "/v1/sessions", "/healthz"][rng.usize(..4)];
            let (status, bytes) = ([200, 200, 200, 204, 404][rng.usize(..5)], rng.u32(40..40_000));
            let request = format!(
                r#""request":"{id:016x}","method":"GET","path":"{path}/{}""#,
                id % 100_000
            );
            write!(
                text,
                r#""level":"info",{request},"status":{status},"bytes":{bytes}"#
            )
        }
    };
    let _ = write!(text, r#","took_ms":{took}"#);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_json_of_their_hour_in_the_order_of_time() {
        for number in [0, 7, OBJECTS_PER_HOUR - 1] {
            let (key, text) = object(1, 3, number);
            assert_eq!(key, format!("service=checkout/2026-03-14/03/{number:06}.json.gz"));
            assert!(text.ends_with('\n'));
            let mut before = String::new();
            for line in text.lines() {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                let time = record["time"].as_str().unwrap().to_owned();
                assert!(
                    time.starts_with("2026-03-14T03:") && time > before,
                    "{time} after {before}"
                );
                before = time;
            }
        }
    }
}
