//! What documents and chart say of each other and of the code: every value, reason and alert is explained, and no link
//! leads nowhere.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use compaction_operator::api::{Reason, ScheduleReason, SkipReason, exit};
use serde_json::Value;

fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(tree().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

const CHART: &str = "charts/compaction-operator";

fn values() -> Value {
    serde_saphyr::from_str(&read(&format!("{CHART}/values.yaml"))).unwrap()
}

/// Every value that holds no others, by its path.
fn leaves(path: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    match value.as_object().filter(|fields| !fields.is_empty()) {
        Some(fields) => {
            for (name, field) in fields {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                leaves(&path, field, found);
            }
        }
        None => drop(found.insert(path.to_owned(), value.clone())),
    }
}

/// The table of the chart's README: what each row says of a value's default.
fn rows() -> BTreeMap<String, String> {
    let readme = read(&format!("{CHART}/README.md"));
    let cells = readme.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((
            cells.next()?.strip_suffix('`')?.to_owned(),
            cells.next()?.to_owned(),
        ))
    });
    cells.collect()
}

#[test]
fn every_value_of_the_chart_has_a_row_with_its_default_and_every_row_a_value() {
    let (values, rows) = (values(), rows());
    let mut found = BTreeMap::new();
    leaves("", &values, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for path in found.keys() {
        let ancestors = std::iter::successors(Some(path.as_str()), |path| Some(path.rsplit_once('.')?.0));
        assert!(
            ancestors.into_iter().any(|path| rows.contains_key(path)),
            "no row for {path}"
        );
    }
    for (path, default) in rows {
        let value = values.pointer(&format!("/{}", path.replace('.', "/")));
        let value = value.unwrap_or_else(|| panic!("the row `{path}` is of no value"));
        if value.as_object().is_none_or(serde_json::Map::is_empty) {
            let is = value
                .as_str()
                .filter(|text| !text.is_empty())
                .map_or(value.to_string(), str::to_owned);
            let same = |text: &str| text.replace(' ', "") == is.replace(' ', "");
            assert!(
                same(default.trim_matches('`')),
                "{path} is {is}, and its row says {default}"
            );
        }
    }
}

#[test]
fn the_schema_of_the_chart_knows_every_value_by_its_type_and_no_other() {
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).unwrap();
    let values = values();
    let mut found = BTreeMap::new();
    leaves("", &values, &mut found);
    for path in found.keys() {
        let mut node = &schema;
        for name in path.split('.') {
            let open = node["additionalProperties"] != false && node["properties"].get(name).is_none();
            if open {
                break; // Kubernetes' own, such as a SecurityContext.
            }
            node = followed(&schema, &node["properties"][name]);
        }
        let known = ["type", "enum"].iter().any(|keyword| node.get(keyword).is_some());
        assert!(known, "the schema says nothing of {path}");
    }
    known_values("", &schema, &schema, &values);
}

fn followed<'a>(schema: &'a Value, node: &'a Value) -> &'a Value {
    let reference = node["$ref"]
        .as_str()
        .and_then(|reference| reference.strip_prefix('#'));
    reference.map_or(node, |pointer| schema.pointer(pointer).unwrap())
}

/// What the schema closes has the fields of `values.yaml`, and none that nobody can find there.
fn known_values(path: &str, schema: &Value, node: &Value, values: &Value) {
    if node["additionalProperties"] != false {
        return;
    }
    for (name, field) in node["properties"].as_object().unwrap() {
        // Helm's own.
        if path.is_empty() && name == "global" {
            continue;
        }
        let below = format!("{path}.{name}");
        let value = values
            .get(name)
            .unwrap_or_else(|| panic!("values.yaml lacks {below}"));
        known_values(&below, schema, followed(schema, field), value);
    }
}

/// Headings of a page, as links name them.
fn anchors(page: &str) -> Vec<String> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in page.lines() {
        in_code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#').trim();
        if !in_code && line.starts_with('#') {
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            found.push(kept.collect::<String>().to_lowercase().replace(' ', "-"));
        }
    }
    found
}

fn alerts() -> Vec<String> {
    let rules = read(&format!("{CHART}/templates/prometheusrule.yaml"));
    let named = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    named.map(str::to_owned).collect()
}

#[test]
fn every_alert_has_an_entry_in_the_runbook_and_links_to_it() {
    let (rules, runbook) = (
        read(&format!("{CHART}/templates/prometheusrule.yaml")),
        anchors(&read("docs/operations.md")),
    );
    assert!(alerts().len() > 5);
    for alert in alerts() {
        let anchor = alert.to_lowercase();
        assert!(
            runbook.contains(&anchor),
            "docs/operations.md has no heading {alert}"
        );
        assert!(
            rules.contains(&format!(".runbookUrl }}}}#{anchor}\n")),
            "{alert} links elsewhere"
        );
    }
}

/// The files of a folder and of those in it, but for tests.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("tests") || path.ends_with("tests.rs") {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Every reason that the code gives to a failure: those of the engine's errors, those of ends that no worker told, and
/// that of workers that were lost.
fn failure_reasons() -> Vec<String> {
    let errors = read("src/engine/error.rs");
    let (_, errors) = errors.split_once("pub fn reason(&self)").unwrap();
    let of_errors = errors.split(" => \"").skip(1);
    let mut files = Vec::new();
    sources(&tree().join("src"), &mut files);
    let of_ends = files
        .iter()
        .flat_map(|file| file.split("    reason: \"").chain(file.split(" LOST: &str = \"")))
        .filter(|rest| rest.starts_with(char::is_uppercase));
    let reasons = of_errors.chain(of_ends).filter_map(|rest| rest.split('"').next());
    // Not of failures: a worker that ends as it should or makes way for another one, and a ledger that `gc` leaves alone.
    let reasons = reasons.filter(|reason| !["Done", "Stopped", "Fenced", "LedgerInUse"].contains(reason));
    let reasons: Vec<String> = reasons.map(str::to_owned).collect();
    for known in ["BadSource", "OOMKilled", "CannotStart", "Stuck", "Lost"] {
        assert!(
            reasons.iter().any(|reason| reason == known),
            "{known} was not found: {reasons:?}"
        );
    }
    reasons
}

#[test]
fn every_reason_and_exit_code_has_an_entry_in_the_runbook() {
    let runbook = read("docs/operations.md");
    let (jobs, schedules) = runbook.split_once("## Reasons of schedules").unwrap();
    let row_in = |text: &str, of: &str| {
        let firsts = text
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        firsts
            .into_iter()
            .any(|cell| cell.split(", ").any(|name| name == format!("`{of}`")))
    };
    let row = |of: &str| row_in(&runbook, of);
    let (of_state, of_skips) = schedules.split_once("status.lastSkip").unwrap();
    let reasons = Reason::ALL.iter().map(|reason| (jobs, reason.as_str()));
    let states = ScheduleReason::ALL
        .iter()
        .map(|reason| (of_state, reason.as_str()));
    let skips = SkipReason::ALL.iter().map(|reason| (of_skips, reason.as_str()));
    for (part, reason) in reasons.chain(states).chain(skips) {
        assert!(row_in(part, reason), "docs/operations.md has no row for {reason}");
    }
    let (_, failures) = jobs.split_once("### Reasons of failures").unwrap();
    for reason in failure_reasons() {
        assert!(
            row_in(failures, &reason),
            "docs/operations.md has no row for a failure's {reason}"
        );
    }
    for code in [
        exit::DONE,
        exit::GIVE_UP,
        exit::DEADLINE,
        exit::RETRY,
        exit::STORAGE,
        exit::FENCED,
    ] {
        assert!(
            row(&code.to_string()),
            "docs/operations.md has no row for the exit code {code}"
        );
    }
}

/// The rules of the chart's template, which holds nothing but YAML.
fn rules() -> Vec<Value> {
    let template = read(&format!("{CHART}/templates/rbac.yaml"));
    let (_, rules) = template
        .split_once("{{- define \"compaction-operator.rules\" -}}\n")
        .unwrap();
    let rules: Value = serde_saphyr::from_str(rules.split("{{").next().unwrap()).unwrap();
    rules["rules"].as_array().unwrap().clone()
}

#[test]
fn the_rights_of_the_operator_are_told_as_they_are_granted_and_no_others() {
    let page = read("docs/security.md");
    let (_, section) = page.split_once("### Rights of the operator\n").unwrap();
    let told = section.lines().filter(|line| line.starts_with("| `"));
    let told: Vec<String> = told
        .map(|line| line.split(" | ").take(2).collect::<Vec<_>>().join(" | "))
        .collect();
    let list = |names: &Value| {
        let names = names
            .as_array()
            .unwrap()
            .iter()
            .map(|name| format!("`{}`", name.as_str().unwrap()));
        names.collect::<Vec<_>>().join(", ")
    };
    let granted = rules();
    let granted = granted
        .iter()
        .map(|rule| format!("| {} | {}", list(&rule["resources"]), list(&rule["verbs"])));
    assert_eq!(told, granted.collect::<Vec<_>>());
}

/// Pages for people.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![
        "README.md".into(),
        "CONTRIBUTING.md".into(),
        format!("{CHART}/README.md").into(),
    ];
    for directory in ["docs", "docs/adr"] {
        let entries = std::fs::read_dir(tree().join(directory)).unwrap();
        let names = entries.map(|entry| Path::new(directory).join(entry.unwrap().file_name()));
        pages.extend(names.filter(|name| name.extension().is_some_and(|extension| extension == "md")));
    }
    pages
}

/// Where the links of a page lead, but for those to other sites.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.contains(' '))
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(page.to_str().unwrap());
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            let target = tree().join(target);
            let found = target.exists()
                && (anchor.is_empty()
                    || anchors(&std::fs::read_to_string(&target).unwrap_or_default())
                        .contains(&anchor.to_owned()));
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_is_in_the_index() {
    let index = read("docs/README.md");
    for page in pages() {
        let name = page.strip_prefix("docs").ok().and_then(Path::to_str);
        if let Some(name) = name.filter(|name| !name.contains('/') && *name != "README.md") {
            assert!(
                index.contains(&format!("]({name})")),
                "docs/README.md has no link to {name}"
            );
        }
    }
}
