//! What Flux, Helm and kpt make of a status: kstatus, as far as it looks at resources that it does not know.
//! <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};

use crate::api::condition;

pub(super) fn kstatus(
    metadata: &ObjectMeta,
    observed_generation: i64,
    conditions: &[Condition],
) -> &'static str {
    let is = |type_: &str, value: &str| condition(conditions, type_).is_some_and(|c| c.status == value);
    if metadata.deletion_timestamp.is_some() {
        "Terminating"
    } else if metadata.generation != Some(observed_generation) || is("Reconciling", "True") {
        "InProgress"
    } else if is("Stalled", "True") {
        "Failed"
    } else if is("Ready", "False") || is("Ready", "Unknown") {
        "InProgress"
    } else {
        "Current"
    }
}
