//! What a job's workers may do in the cluster: read this job and patch its status. Nothing else.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};

use super::names::{account_name, owned};
use crate::api::{CompactionJob, GROUP};

/// The objects, in the order in which they are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    /// Absent when the job's template names an account of the user's.
    pub account: Option<ServiceAccount>,
    pub role: Role,
    pub binding: RoleBinding,
}

pub fn access(job: &CompactionJob) -> Access {
    let name = account_name(job);
    let named = named_account(job);
    let account = named.is_none().then(|| ServiceAccount {
        metadata: owned(job, name.clone()),
        // Its token is mounted where the pod asks for it, and nowhere else.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    });
    let subject = Subject {
        kind: "ServiceAccount".to_owned(),
        name: named.unwrap_or(name.clone()),
        namespace: job.metadata.namespace.clone(),
        ..Subject::default()
    };
    let binding = RoleBinding {
        metadata: owned(job, name.clone()),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "Role".to_owned(),
            name: name.clone(),
        },
        subjects: Some(vec![subject]),
    };
    let role = Role {
        metadata: owned(job, name),
        rules: Some(vec![
            rule(job, "compactionjobs", &["get"]),
            rule(job, "compactionjobs/status", &["get", "patch"]),
        ]),
    };
    Access {
        account,
        role,
        binding,
    }
}

fn rule(job: &CompactionJob, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![GROUP.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: job.metadata.name.clone().map(|name| vec![name]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

/// The account that the user wants the workers to run under.
pub(super) fn named_account(job: &CompactionJob) -> Option<String> {
    job.spec
        .template
        .as_ref()?
        .spec
        .as_ref()?
        .service_account_name
        .clone()
}
