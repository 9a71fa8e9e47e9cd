//! What is applied again changes nothing, however it is applied: no tool sees a difference between Git and the cluster.

use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::{chart, feed, helm, image, kubectl, run, said, tree};
use crate::site::Site;
use crate::verdict::{examples, files};
use crate::watch;

/// A way to apply manifests.
pub struct Apply {
    arguments: &'static [&'static str],
    /// Who owns what is applied in this way.
    manager: &'static str,
}

impl Apply {
    /// As Flux does, and Argo CD with `ServerSideApply=true`.
    pub fn server_side() -> Self {
        Self {
            arguments: &["--server-side", "--field-manager=kustomize-controller"],
            manager: "kustomize-controller",
        }
    }

    /// As Argo CD does by default, and `kubectl apply`: by a comparison with what was applied last.
    pub fn client_side() -> Self {
        Self {
            arguments: &[],
            manager: "kubectl-client-side-apply",
        }
    }

    fn command(&self, site: &Site, verb: &str, more: &[&str]) -> Command {
        let mut command = site.command(&[verb, "-f", "-"]);
        command.args(self.arguments).args(more);
        command
    }

    #[track_caller]
    pub fn apply(&self, site: &Site, manifest: &Value) {
        self.run(site, manifest, &[]);
    }

    #[track_caller]
    fn run(&self, site: &Site, manifest: &Value, more: &[&str]) -> String {
        let output = feed(&mut self.command(site, "apply", more), manifest);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Applied again, an object is what it was but for its status, which goes on by itself; and everything in the
    /// spec is the user's.
    #[track_caller]
    pub fn assert_nothing_to_do(&self, site: &Site, manifest: &Value) {
        let kind = manifest["kind"].as_str().unwrap().to_lowercase();
        let name = manifest["metadata"]["name"].as_str().unwrap();
        let before = site.get(&kind, name);
        let dry = self.run(site, manifest, &["--dry-run=server", "--output=json"]);
        assert_eq!(wanted(&serde_json::from_str(&dry).unwrap()), wanted(&before));
        self.apply(site, manifest);
        let after = site.kubectl(&["get", &kind, name, "--output=json", "--show-managed-fields"]);
        let after: Value = serde_json::from_str(&after).unwrap();
        assert_eq!(wanted(&after), wanted(&before));
        self.assert_spec_is_the_users(&after);
    }

    #[track_caller]
    fn assert_spec_is_the_users(&self, object: &Value) {
        let managers = object["metadata"]["managedFields"].as_array().unwrap();
        assert!(managers.iter().any(|entry| entry["manager"] == self.manager));
        for entry in managers
            .iter()
            .filter(|entry| entry["fieldsV1"]["f:spec"].is_object())
        {
            // `kubectl patch` is the test's own.
            let users = [self.manager, "kubectl-patch"];
            let manager = entry["manager"].as_str().unwrap();
            assert!(users.contains(&manager), "{entry:#}");
            assert!(entry["subresource"].is_null(), "{entry:#}");
        }
    }

    /// `kubectl diff` shows nothing. Only for what stands still: it would take a new status for a difference.
    #[track_caller]
    pub fn assert_no_difference(&self, site: &Site, manifest: &Value) {
        let output = feed(&mut self.command(site, "diff", &[]), manifest);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
}

/// What users want of an object.
fn wanted(object: &Value) -> Value {
    let mut object = object.clone();
    let status = object.as_object_mut().unwrap();
    status.remove("status");
    let metadata = object["metadata"].as_object_mut().unwrap();
    for changing in ["resourceVersion", "managedFields"] {
        metadata.remove(changing);
    }
    object
}

/// The documents of a text.
fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

/// What `kubectl kustomize` makes of the folder with jobs and schedules.
fn kustomized() -> Vec<Value> {
    documents(&run(kubectl()
        .arg("kustomize")
        .arg(tree().join("examples/gitops/jobs"))))
}

/// Every job and every schedule that is shipped.
fn shipped() -> Vec<Value> {
    let documents = files("examples").into_iter().flat_map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        documents(&text)
    });
    let is_ours = |document: &Value| document["apiVersion"] == "compaction.dev/v1alpha1";
    documents.filter(is_ours).chain(kustomized()).collect()
}

#[test]
fn no_example_that_is_applied_again_shows_a_difference() {
    let site = Site::bare("drift");
    let tools = [("server", Apply::server_side()), ("client", Apply::client_side())];
    let applied = tools.map(|(by, tool)| {
        let mut objects = shipped();
        for kind in ["CompactionJob", "CompactionSchedule"] {
            assert!(
                objects.iter().filter(|object| object["kind"] == kind).count() > 2,
                "{kind}"
            );
        }
        for (number, object) in objects.iter_mut().enumerate() {
            object["metadata"]["name"] = json!(format!("{by}-{number}"));
            // No worker is to look for their stores, and no run to be made.
            object["spec"]["suspend"] = json!(true);
        }
        let list = list(&objects);
        tool.apply(&site, &list);
        tool.assert_no_difference(&site, &list);
        (tool, objects)
    });
    site.install(&[]);
    for (tool, objects) in applied {
        for object in &objects {
            let kind = object["kind"].as_str().unwrap().to_lowercase();
            let name = object["metadata"]["name"].as_str().unwrap();
            let cleans_up = object["spec"]["deletionPolicy"] == "Cleanup";
            watch::ask("the operator to have looked at it", || {
                let object = site.get(&kind, name);
                let held = object["metadata"]["finalizers"].is_array();
                (object["status"]["observedGeneration"] == 1 && held == cleans_up).then_some(())
            });
            tool.assert_nothing_to_do(&site, object);
        }
        tool.assert_no_difference(&site, &list(&objects));
    }
}

fn list(objects: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": objects})
}

#[test]
fn what_kustomize_builds_is_labelled_and_otherwise_what_the_files_say() {
    let labelled = ["logs.yaml", "events.yaml"].map(|name| {
        let path = tree().join("examples/gitops/jobs").join(name);
        let mut object = documents(&std::fs::read_to_string(path).unwrap()).remove(0);
        object["metadata"]["labels"] = json!({"app.kubernetes.io/part-of": "lake"});
        object
    });
    assert_eq!(kustomized(), labelled);
}

#[test]
fn the_chart_takes_the_values_of_the_examples_and_applied_again_shows_no_difference() {
    let values: Vec<Value> = examples()
        .iter()
        .flat_map(|path| documents(&std::fs::read_to_string(path).unwrap()))
        .filter_map(|document| match document["kind"].as_str() {
            Some("HelmRelease") => Some(document["spec"]["values"].clone()),
            Some("Application") => Some(document["spec"]["source"]["helm"]["valuesObject"].clone()),
            _ => None,
        })
        .filter(|values| !values.is_null())
        .collect();
    assert_eq!(values.len(), 3, "by Flux in two ways, and by Argo CD");
    let site = Site::bare("drift-chart");
    let mut objects = Vec::new();
    for values in values {
        objects = render(&site, &values);
    }
    let list = list(&objects);
    for tool in [Apply::server_side(), Apply::client_side()] {
        tool.apply(&site, &list);
        site.kubectl(&["rollout", "status", "deployment", "--timeout=2m"]);
        tool.assert_no_difference(&site, &list);
        let output = feed(&mut site.command(&["delete", "-f", "-"]), &list);
        assert!(output.status.success(), "{}", said(&output));
    }
}

/// What Argo CD would apply of the chart in a test's own namespace.
fn render(site: &Site, values: &Value) -> Vec<Value> {
    let (repository, tag) = image();
    let mut command = helm();
    command
        .args(["template", "by-argo-cd"])
        .arg(chart())
        .args(["--namespace", &site.namespace, "--values", "-"])
        .args(["--set", &format!("watch.namespaces={{{}}}", site.namespace)])
        .args(["--set", "crds.install=false"])
        .args(["--set", &format!("image.repository={repository},image.tag={tag}")]);
    let rendered = feed(&mut command, values);
    assert!(rendered.status.success(), "{}", said(&rendered));
    // The chart's test is a hook, and only run when it is asked for.
    documents(&String::from_utf8(rendered.stdout).unwrap())
        .into_iter()
        .filter(|object| object["metadata"]["annotations"]["helm.sh/hook"].is_null())
        .collect()
}
