//! The fields of the CRDs as a page for people. Reads nothing but the CRDs, so the page cannot say more than an API
//! server knows.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::crds_yaml;

/// Whose fields are explained elsewhere, or are Kubernetes' own.
const ELSEWHERE: [(&str, &str); 3] = [
    (
        "spec.template",
        "a [PodTemplateSpec](https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-template-v1/)",
    ),
    (
        "spec.jobTemplate.spec",
        "the [spec of a CompactionJob](#spec-of-compactionjob)",
    ),
    (
        "status.conditions",
        "[conditions](operations.md#condition-reasons)",
    ),
];

const HEAD: &str = "# Field reference

Generated from the [CRDs](../crds/compaction.dev.yaml) by `make crds`; a test compares it. Do not edit. What the fields mean for a
job as a whole is in [job.md](job.md).
";

/// Every field of every CRD, as committed in `docs/reference.md`.
pub fn reference() -> Result<String, Box<dyn std::error::Error>> {
    let mut page = HEAD.to_owned();
    for document in crds_yaml()?.split("\n---\n") {
        let crd: Value = serde_saphyr::from_str(document)?;
        kind(&crd, &mut page)?;
    }
    Ok(page)
}

fn kind(crd: &Value, page: &mut String) -> Result<(), std::fmt::Error> {
    let names = &crd["spec"]["names"];
    let (kind, group) = (text(&names["kind"]), text(&crd["spec"]["group"]));
    for version in crd["spec"]["versions"].as_array().into_iter().flatten() {
        let schema = &version["schema"]["openAPIV3Schema"];
        let version = text(&version["name"]);
        let short = listed(&names["shortNames"]);
        writeln!(
            page,
            "\n## {kind}\n\n`{group}/{version}`, short name {short}. {}",
            about(schema)
        )?;
        for part in ["spec", "status"] {
            let fields = &schema["properties"][part];
            writeln!(page, "\n### {} of {kind}\n", capitalised(part))?;
            writeln!(page, "| field | type | default | meaning |\n|---|---|---|---|")?;
            rows(part, part, fields, page)?;
        }
        let mut rules = Vec::new();
        collect_rules("", schema, &mut rules);
        writeln!(
            page,
            "\n### Rules of {kind}\n\nBeyond the types, the API server refuses:\n"
        )?;
        for (path, message) in rules {
            let of = if path.is_empty() {
                String::new()
            } else {
                format!("`{path}`: ")
            };
            writeln!(page, "- {of}{message}")?;
        }
    }
    Ok(())
}

/// A row for each field below `schema`, and for what these hold.
fn rows(part: &str, path: &str, schema: &Value, page: &mut String) -> std::fmt::Result {
    for (name, field) in fields(schema) {
        let path = format!("{path}.{name}");
        let shown = path.strip_prefix(part).unwrap_or(&path).trim_start_matches('.');
        let elsewhere = ELSEWHERE.iter().find(|(known, _)| *known == path);
        let required = listed_names(&schema["required"]).contains(&name.as_str());
        let type_ = elsewhere.map_or_else(|| type_of(field), |(_, link)| (*link).to_owned());
        let type_ = if required {
            format!("{type_}, required")
        } else {
            type_
        };
        let default = match &field["default"] {
            Value::Null | Value::Object(_) => String::new(),
            default => format!("`{}`", default.to_string().trim_matches('"')),
        };
        let meaning = [about(field), limits(field)]
            .into_iter()
            .filter(|text| !text.is_empty());
        let meaning = meaning.collect::<Vec<_>>().join(" ");
        writeln!(page, "| `{shown}` | {type_} | {default} | {meaning} |")?;
        if elsewhere.is_none() {
            rows(part, &path, field, page)?;
            rows(part, &format!("{path}[]"), &field["items"], page)?;
        }
    }
    Ok(())
}

/// What the rules of `schema` say to one who breaks them.
fn collect_rules(path: &str, schema: &Value, rules: &mut Vec<(String, String)>) {
    if ELSEWHERE.iter().any(|(known, _)| *known == path) {
        return;
    }
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        rules.push((path.to_owned(), words(&rule["message"])));
    }
    for (name, field) in fields(schema) {
        let below = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        collect_rules(&below, field, rules);
    }
    if schema["items"].is_object() {
        collect_rules(&format!("{path}[]"), &schema["items"], rules);
    }
}

fn fields(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flat_map(Map::iter)
}

fn type_of(schema: &Value) -> String {
    if schema["x-kubernetes-int-or-string"] == true {
        return "integer or string".to_owned();
    }
    if schema["enum"].is_array() {
        return listed(&schema["enum"]);
    }
    match text(&schema["type"]) {
        "array" => format!("list of {}s", type_of(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}s", type_of(&schema["additionalProperties"]))
        }
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        other => other.to_owned(),
    }
}

/// What a value must keep to, in words.
fn limits(schema: &Value) -> String {
    let number = |name: &str| schema[name].as_f64();
    let range = |least: Option<f64>, most: Option<f64>, what: &str| match (least, most) {
        (None, None) => None,
        (Some(least), Some(most)) => Some(format!("{least} to {most}{what}")),
        (None, Some(most)) => Some(format!("At most {most}{what}")),
        (Some(least), None) => Some(format!("At least {least}{what}")),
    };
    let all = [
        range(number("minimum"), number("maximum"), ""),
        range(number("minLength"), number("maxLength"), " characters"),
        range(number("minItems"), number("maxItems"), " of them"),
        schema["pattern"]
            .as_str()
            .map(|pattern| format!("`{}`", pattern.replace('|', "\\|"))),
    ];
    let all: Vec<_> = all
        .into_iter()
        .flatten()
        .map(|limit| format!("{limit}."))
        .collect();
    all.join(" ")
}

fn about(schema: &Value) -> String {
    words(&schema["description"])
}

/// In one line, and without what would end a cell of a table.
fn words(value: &Value) -> String {
    let words: Vec<_> = text(value).split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn listed_names(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn listed(value: &Value) -> String {
    let names: Vec<_> = listed_names(value)
        .into_iter()
        .map(|name| format!("`{name}`"))
        .collect();
    names.join(", ")
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(word.len().min(1));
    first.to_uppercase() + rest
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_reference_is_the_generated_one() {
        let committed = std::fs::read_to_string("docs/reference.md").unwrap_or_default();
        let drifted = committed != super::reference().unwrap();
        assert!(!drifted, "docs/reference.md has drifted; run `make crds`");
    }
}
