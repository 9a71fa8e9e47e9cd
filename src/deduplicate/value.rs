//! When two JSON values are the same key, and in what order versions are.

use std::borrow::Cow;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Digits after the decimal point of a [`Version`].
const VERSION_DIGITS: i64 = 18;
/// All powers of ten that are versions.
const TENS: [i128; 39] = {
    let mut tens = [1; 39];
    let mut power = 1;
    while power < tens.len() {
        tens[power] = tens[power - 1] * 10;
        power += 1;
    }
    tens
};

/// A number as its digits and a power of ten, in the one form that all ways of writing it have in common.
struct Decimal<'t> {
    negative: bool,
    /// Neither with zeros in front nor at the end; empty for zero.
    digits: Cow<'t, [u8]>,
    exponent: i64,
}

impl<'t> Decimal<'t> {
    /// Of a JSON number. `None` where its exponent is beyond all use.
    fn of(text: &'t [u8]) -> Option<Self> {
        let negative = text.first() == Some(&b'-');
        let text = &text[usize::from(negative)..];
        let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (
                &text[..at],
                std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i32>().ok()?,
            ),
            None => (text, 0),
        };
        let (digits, after_point) = match mantissa.iter().position(|byte| *byte == b'.') {
            Some(point) => {
                let joined = [&mantissa[..point], &mantissa[point + 1..]].concat();
                (Cow::Owned(joined), mantissa.len() - point - 1)
            }
            None => (Cow::Borrowed(mantissa), 0),
        };
        let begin = digits.iter().take_while(|digit| **digit == b'0').count();
        let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
        if begin == digits.len() {
            let (negative, digits, exponent) = (false, Cow::Borrowed(&b""[..]), 0);
            return Some(Self {
                negative,
                digits,
                exponent,
            });
        }
        let end = digits.len() - zeros;
        let digits = match digits {
            Cow::Borrowed(digits) => Cow::Borrowed(&digits[begin..end]),
            Cow::Owned(digits) => Cow::Owned(digits[begin..end].to_vec()),
        };
        let exponent = i64::from(exponent) + zeros as i64 - after_point as i64;
        Some(Self {
            negative,
            digits,
            exponent,
        })
    }

    /// In units of 10^-18, what is smaller cut off.
    fn version(&self) -> Option<i128> {
        let shift = self.exponent + VERSION_DIGITS;
        let kept = (self.digits.len() as i64 + shift.min(0)).max(0) as usize;
        // As many digits at once as 64 bits hold: numbers of 128 bits take a record's time.
        let parts = self.digits[..kept].chunks(18);
        let mut value = parts.into_iter().try_fold(0_i128, |value, part| {
            let number = part
                .iter()
                .fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
            value
                .checked_mul(TENS[part.len()])?
                .checked_add(i128::from(number))
        })?;
        if value != 0 && shift > 0 {
            value = value.checked_mul(*TENS.get(usize::try_from(shift).ok()?)?)?;
        }
        Some(if self.negative { -value } else { value })
    }
}

/// The text of a JSON string with its quotes. `None` where its escapes or bytes make no text.
fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    let inner = value.get(1..value.len() - 1)?;
    if inner.contains(&b'\\') || inner.iter().any(|byte| *byte < b' ') {
        return serde_json::from_slice::<String>(value).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// Adds one value of a key to a hash: a string by its text, a number by its value, true or false. Anything
/// else is no key.
#[must_use]
pub(super) fn add_to_key(value: &[u8], hash: &mut Sha256) -> Option<()> {
    // With its length, so that the end of one value is never the beginning of the next.
    let mut add = |kind: u8, parts: &[&[u8]]| {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        hash.update([kind]);
        hash.update((length as u64).to_le_bytes());
        for part in parts {
            hash.update(part);
        }
    };
    match value.first()? {
        b'"' => add(b's', &[text(value)?.as_bytes()]),
        b't' => add(b't', &[]),
        b'f' => add(b'f', &[]),
        b'-' | b'0'..=b'9' => {
            let number = Decimal::of(value)?;
            let sign = if number.negative { b"-" } else { b"+" };
            add(b'n', &[sign, &number.exponent.to_le_bytes(), &number.digits]);
        }
        _ => return None,
    }
    Some(())
}

/// What records of a key are ordered by: numbers by their value, times as seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) order: i128,
    /// Where it is a time.
    pub(super) seconds: Option<i64>,
}

impl Version {
    /// Of a number below 10^20, or of a string with a time as in RFC 3339.
    pub(super) fn of(value: &[u8]) -> Option<Self> {
        match value.first()? {
            b'"' => {
                let time: Timestamp = text(value)?.parse().ok()?;
                let (order, seconds) = (time.as_nanosecond().checked_mul(1_000_000_000)?, time.as_second());
                Some(Self {
                    order,
                    seconds: Some(seconds),
                })
            }
            b'-' | b'0'..=b'9' => {
                let order = Decimal::of(value)?.version()?;
                Some(Self { order, seconds: None })
            }
            _ => None,
        }
    }
}

/// Whether a value is written so, a string without its quotes.
pub(super) fn reads(value: &[u8], wanted: &str) -> bool {
    if value.first() == Some(&b'"') {
        return text(value).is_some_and(|text| text == wanted);
    }
    value == wanted.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &str) -> Option<Vec<u8>> {
        let mut hash = Sha256::new();
        add_to_key(value.as_bytes(), &mut hash)?;
        Some(hash.finalize().to_vec())
    }

    #[test]
    fn values_that_are_equal_in_json_are_one_key() {
        let equal: [&[&str]; 7] = [
            &["1", "1.0", "1e0", "10e-1", "0.1E+1", "100.00e-2"],
            &["0", "-0", "0.0", "0e9", "-0.00e-7"],
            &["-12.5", "-125e-1", "-0.125e2"],
            &["12345678901234567890123", "12345678901234567890123.0"],
            &[r#""a/b""#, r#""a\/b""#, r#""\u0061/b""#],
            &[r#""\ud83d\ude00""#, "\"\u{1f600}\""],
            &[r#""""#],
        ];
        for same in equal {
            for value in same {
                assert_eq!(key(value), key(same[0]), "{value}");
                assert!(key(value).is_some());
            }
        }
    }

    #[test]
    fn values_that_differ_are_different_keys() {
        let values = [
            "1",
            "-1",
            "10",
            "0",
            "0.1",
            "1.5",
            "12345678901234567890123",
            "12345678901234567890124",
            "true",
            "false",
            r#""1""#,
            r#""true""#,
            r#""""#,
            r#"" ""#,
            r#""A""#,
            r#""a""#,
            r#""a\n""#,
        ];
        for (at, one) in values.iter().enumerate() {
            for other in &values[at + 1..] {
                assert_ne!(key(one), key(other), "{one} and {other}");
            }
        }
    }

    #[test]
    fn null_objects_arrays_and_broken_text_are_no_keys() {
        for value in ["null", "{}", "[1]", r#""\ud800""#, "1e99999999999"] {
            assert_eq!(key(value), None, "{value}");
        }
        assert_eq!(add_to_key(b"\"\xff\"", &mut Sha256::new()), None);
    }

    #[test]
    fn versions_are_in_the_order_of_their_values() {
        let ascending = [
            "-100000000000000000000",
            "-1.5",
            "-1",
            "-0.000000000000000001",
            "0",
            "1e-18",
            "0.5",
            "1",
            "1700000000123456788",
            "1700000000123456789",
            "1.700000000123456790e18",
            "18446744073709551615",
            "1e20",
        ];
        let orders: Vec<i128> = ascending
            .iter()
            .map(|v| Version::of(v.as_bytes()).unwrap().order)
            .collect();
        assert!(
            orders.is_sorted() && orders.windows(2).all(|pair| pair[0] < pair[1]),
            "{orders:?}"
        );
    }

    #[test]
    fn times_are_compared_whatever_their_offset_and_precision() {
        let order = |text: &str| Version::of(format!("\"{text}\"").as_bytes()).unwrap().order;
        assert_eq!(
            order("2026-03-01T12:00:00Z"),
            order("2026-03-01T13:30:00.000+01:30")
        );
        assert!(order("2026-03-01T12:00:00.000000001Z") > order("2026-03-01T12:00:00Z"));
        assert!(order("1969-12-31T23:59:59Z") < order("1970-01-01T00:00:00Z"));
        assert_eq!(
            order("2026-03-01T12:00:00Z"),
            Version::of(b"1772366400").unwrap().order
        );
        assert_eq!(
            Version::of(b"\"2026-03-01T12:00:00Z\"").unwrap().seconds,
            Some(1_772_366_400)
        );
    }

    #[test]
    fn what_is_neither_number_nor_time_is_no_version() {
        for value in [
            "null",
            "true",
            "{}",
            "[]",
            r#""""#,
            r#""soon""#,
            r#""2026-03-01""#,
            r#""7""#,
            "1e30",
            "1e400",
        ] {
            assert_eq!(Version::of(value.as_bytes()), None, "{value}");
        }
        assert_eq!(Version::of(b"1e-400").unwrap().order, 0);
    }

    #[test]
    fn a_value_reads_as_its_text() {
        assert!(reads(br#""delete""#, "delete") && reads(br#""de\u006cete""#, "delete"));
        assert!(reads(b"true", "true") && reads(b"null", "null") && reads(b"1", "1"));
        assert!(!reads(br#""deleted""#, "delete") && !reads(b"1.0", "1"));
    }
}
