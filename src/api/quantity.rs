//! Sizes as Kubernetes writes them (`256Mi`, `1G`, `1048576`).
//! Grammar: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>,
//! without exponents and fractions, which mean nothing for bytes.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// A number of bytes, kept as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(String);

const SUFFIXES: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl Quantity {
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The size in bytes; `None` when the text is not a whole number of bytes below 2^63.
    pub fn bytes(&self) -> Option<u64> {
        let (digits, factor) = SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| Some((self.0.strip_suffix(suffix)?, *factor)))
            .unwrap_or((&self.0, 1));
        let number: u64 = digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())??;
        number
            .checked_mul(factor)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum IntOrString {
            Int(u64),
            String(String),
        }
        Ok(match IntOrString::deserialize(deserializer)? {
            IntOrString::Int(bytes) => Self(bytes.to_string()),
            IntOrString::String(text) => Self(text),
        })
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": "^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_multiply_and_nonsense_is_refused() {
        let bytes = |text: &str| Quantity::new(text).bytes();
        assert_eq!(bytes("8Mi"), Some(8 << 20));
        assert_eq!(bytes("5M"), Some(5_000_000));
        assert_eq!(bytes("17"), Some(17));
        for bad in [
            "",
            "Mi",
            "-1",
            "+1",
            "1.5Gi",
            "1e3",
            "8 Mi",
            "8MiB",
            "99999999999Ti",
        ] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_and_strings_are_both_read() {
        assert_eq!(
            serde_json::from_str::<Quantity>("1024").unwrap().bytes(),
            Some(1024)
        );
        assert_eq!(
            serde_json::from_str::<Quantity>("\"1Ki\"").unwrap().bytes(),
            Some(1024)
        );
    }
}
