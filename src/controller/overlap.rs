//! Which of two jobs over the same objects goes first. Pure.
//!
//! One that has started precedes all that have not; those go by their creation, then by their name: times
//! of Kubernetes are whole seconds, and the jobs of one `kubectl apply` often share one. A suspended or
//! waiting job holds its place, a published or failed one does not: what it has consumed is in its list,
//! and a later plan leaves that out.

use crate::api::CompactionJob;

/// The job that `job` has to wait for, if there is one among `others`.
pub(super) fn predecessor<'a>(job: &CompactionJob, others: &'a [CompactionJob]) -> Option<&'a CompactionJob> {
    if has_started(job) {
        return None;
    }
    others
        .iter()
        .filter(|other| is_rival(job, other))
        .filter(|other| has_started(other) || place(other) < place(job))
        .min_by_key(|other| (!has_started(other), place(other)))
}

/// Whether `other` is another job, over the same objects, that is not through with them.
pub(super) fn is_rival(job: &CompactionJob, other: &CompactionJob) -> bool {
    other.metadata.uid != job.metadata.uid && holds_its_place(other) && overlap(job, other)
}

pub(super) fn has_started(job: &CompactionJob) -> bool {
    job.status
        .as_ref()
        .is_some_and(|status| status.start_time.is_some())
}

fn holds_its_place(job: &CompactionJob) -> bool {
    let Some(status) = &job.status else { return true };
    !status.is_announced() && !status.is_at_its_end()
}

fn place(job: &CompactionJob) -> impl Ord {
    let metadata = &job.metadata;
    (
        metadata.creation_timestamp.as_ref().map(|time| time.0),
        &metadata.namespace,
        &metadata.name,
    )
}

/// Whether one of them reads what the other one reads or writes.
fn overlap(a: &CompactionJob, b: &CompactionJob) -> bool {
    let (a, b) = (&a.spec, &b.spec);
    let same_bucket =
        a.storage.s3.bucket == b.storage.s3.bucket && a.storage.s3.endpoint == b.storage.s3.endpoint;
    let touch = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
    same_bucket
        && (touch(&a.source.prefix, &b.source.prefix)
            || touch(&a.source.prefix, &b.output.prefix)
            || touch(&a.output.prefix, &b.source.prefix))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(name: &str, created: &str, source: &str, output: &str, status: Value) -> CompactionJob {
        // Names and UIDs sort differently: no order follows from a UID.
        let uid = format!("{:02x}", 255 - name.as_bytes()[0]);
        serde_json::from_value(json!({
            "apiVersion": "compaction.dev/v1alpha1",
            "kind": "CompactionJob",
            "metadata": {"name": name, "uid": uid, "creationTimestamp": format!("2026-01-01T00:00:{created}Z")},
            "spec": {
                "storage": {"s3": {"bucket": "bucket"}},
                "source": {"prefix": source},
                "output": {"prefix": output},
            },
            "status": status,
        }))
        .unwrap()
    }

    fn waits(job: &CompactionJob, other: &CompactionJob) -> bool {
        predecessor(job, std::slice::from_ref(other)).is_some()
    }

    #[test]
    fn the_older_of_two_that_have_not_started_goes_first() {
        let (older, younger) = (
            job("b", "01", "in/", "out/", json!({})),
            job("a", "02", "in/x/", "other/", json!({})),
        );
        assert!(waits(&younger, &older) && !waits(&older, &younger));
        let twin = job("a", "01", "in/", "out/", json!({}));
        assert!(
            waits(&older, &twin) && !waits(&twin, &older),
            "the name decides between equals"
        );
    }

    #[test]
    fn one_that_has_started_goes_first_whatever_its_age() {
        let started = job(
            "a",
            "09",
            "in/",
            "out/",
            json!({"startTime": "2026-01-01T00:01:00Z"}),
        );
        let older = job("b", "01", "in/", "out/", json!({}));
        assert!(waits(&older, &started) && !waits(&started, &older));
    }

    #[test]
    fn prefixes_that_do_not_touch_do_not_wait_and_outputs_of_one_are_not_read_by_another() {
        let first = job("a", "01", "in/", "out/", json!({}));
        assert!(
            !waits(&job("b", "02", "else/", "out/", json!({})), &first),
            "outputs may share a prefix"
        );
        assert!(waits(&job("b", "02", "out/x/", "else/", json!({})), &first));
        assert!(waits(&job("b", "02", "else/", "in/x/", json!({})), &first));
    }

    #[test]
    fn a_published_or_failed_job_holds_nothing_and_a_suspended_one_does() {
        let younger = job("b", "02", "in/", "out/", json!({}));
        let published = job(
            "a",
            "01",
            "in/",
            "out/",
            json!({"publish": {"outputs": 1, "announced": true}}),
        );
        let failed = json!({"conditions": [{
            "type": "Stalled", "status": "True", "reason": "WorkFailed", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"
        }]});
        assert!(!waits(&younger, &published));
        let unannounced = job("a", "01", "in/", "out/", json!({"publish": {"outputs": 1}}));
        assert!(
            waits(&younger, &unannounced),
            "its consumed list does not count yet"
        );
        assert!(!waits(&younger, &job("a", "01", "in/", "out/", failed)));
        let mut suspended = job("a", "01", "in/", "out/", json!({}));
        suspended.spec.suspend = true;
        assert!(waits(&younger, &suspended));
    }
}
