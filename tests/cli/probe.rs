//! `probe`: what a store honours, for people and for programs, and nothing left behind.

use serde_json::{Value, json};

use super::common::program::Said;
use super::small;

#[test]
fn what_a_store_honours_is_told_and_nothing_is_left() {
    let place = small();
    let objects = place.objects("");
    let probe = |format: &str| -> Said {
        let mut command = place.command("probe");
        command.arg("--store").arg(place.store()).args(["-o", format]);
        Said::from(command.output().unwrap()).ends_with(0)
    };
    let report: Value = serde_json::from_str(&probe("json").stdout).unwrap();
    let capabilities = report["capabilities"].as_object().unwrap();
    assert_eq!(capabilities.len(), 7);
    assert!(
        capabilities.values().all(|honoured| *honoured == true),
        "{report}"
    );
    assert_eq!(report["without"], json!({}));
    // The embedded server knows no rules.
    assert!(report["uploadRule"]["untold"].is_string(), "{report}");
    probe("text").names(&["conditionalDelete    yes", "rule for uploads     not told"]);
    assert!(place.objects("") == objects, "something was left");
    assert!(!place.state_path().exists());
}

#[test]
fn a_store_that_cannot_be_probed_is_named() {
    let place = small();
    std::fs::remove_dir_all(place.object("")).unwrap();
    let mut command = place.command("probe");
    command.arg("--store").arg(place.store());
    Said::from(command.output().unwrap())
        .ends_with(2)
        .names(&["no such bucket"]);
}
