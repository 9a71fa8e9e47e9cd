//! How the rules of both resources are asked: a manifest with one field set, and what is said to it.

use serde_json::{Value, json};

/// The manifest with one field set.
pub fn set(mut manifest: Value, path: &str, value: Value) -> Value {
    let mut at = &mut manifest;
    for name in path.split('.') {
        if at.is_null() {
            *at = json!({});
        }
        at = &mut at[name];
    }
    *at = value;
    manifest
}

#[track_caller]
pub fn assert_accepted(problems: &[String], text: &str) {
    assert!(problems.is_empty(), "{text}: {problems:#?}");
}

/// Refused for one reason, which says this.
#[track_caller]
pub fn assert_refused(problems: &[String], text: &str, message: &str) {
    assert!(
        problems.len() == 1 && problems[0].contains(message),
        "{text}: {problems:#?}"
    );
}
