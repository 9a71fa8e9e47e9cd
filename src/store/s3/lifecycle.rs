//! Rules of the bucket by which the store itself aborts open uploads.
//!
//! Reads them, and never changes them.

use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule};

use super::S3;
use crate::store::{ErrorKind, Result};

impl S3 {
    pub(super) async fn days_of_open_uploads(&self, prefixes: &[&str]) -> Result<Option<u32>> {
        let call = self.on_bucket("GetBucketLifecycleConfiguration");
        let attempt = || async {
            let request = self
                .client
                .get_bucket_lifecycle_configuration()
                .bucket(&self.bucket);
            Ok(Box::pin(request.send()).await?.rules.unwrap_or_default())
        };
        match self.attempts(call, attempt).await {
            Ok(rules) => Ok(fewest_days(&rules, prefixes)),
            // The bucket has no rules.
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(None),
            Err(failure) => Err(self.error(call, failure)),
        }
    }
}

/// The fewest days that a rule gives to an upload of a key under one of the prefixes.
fn fewest_days(rules: &[LifecycleRule], prefixes: &[&str]) -> Option<u32> {
    let concerned = rules.iter().filter(|rule| {
        let of_rule = prefix(rule);
        let overlaps = |own: &&str| own.starts_with(of_rule) || of_rule.starts_with(*own);
        *rule.status() == ExpirationStatus::Enabled && prefixes.iter().any(overlaps)
    });
    let days = concerned.filter_map(|rule| rule.abort_incomplete_multipart_upload()?.days_after_initiation());
    days.filter_map(|days| u32::try_from(days).ok()).min()
}

/// Where a rule applies; everywhere when it says nothing.
#[expect(deprecated, reason = "older rules say it in this place")]
fn prefix(rule: &LifecycleRule) -> &str {
    let filter = rule.filter();
    let in_filter = filter.and_then(|filter| filter.prefix().or_else(|| filter.and()?.prefix()));
    in_filter.or_else(|| rule.prefix()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{AbortIncompleteMultipartUpload, LifecycleRuleFilter};

    use super::*;

    fn rule(prefix: Option<&str>, days: Option<i32>, status: ExpirationStatus) -> LifecycleRule {
        let filter = LifecycleRuleFilter::builder().set_prefix(prefix.map(str::to_owned));
        let abort = days.map(|days| {
            AbortIncompleteMultipartUpload::builder()
                .days_after_initiation(days)
                .build()
        });
        LifecycleRule::builder()
            .filter(filter.build())
            .set_abort_incomplete_multipart_upload(abort)
            .status(status)
            .build()
            .unwrap()
    }

    #[test]
    fn the_shortest_enabled_rule_that_reaches_the_prefixes_counts() {
        use ExpirationStatus::{Disabled, Enabled};
        let fewest = |rules: &[LifecycleRule]| fewest_days(rules, &["out/logs/", "state/"]);
        assert_eq!(fewest(&[]), None);
        assert_eq!(fewest(&[rule(None, Some(7), Enabled)]), Some(7));
        assert_eq!(fewest(&[rule(Some(""), Some(7), Enabled)]), Some(7));
        assert_eq!(fewest(&[rule(None, None, Enabled)]), None);
        assert_eq!(fewest(&[rule(None, Some(1), Disabled)]), None);
        assert_eq!(fewest(&[rule(Some("in/"), Some(1), Enabled)]), None);
        let rules = [
            rule(None, Some(7), Enabled),
            rule(Some("out/"), Some(3), Enabled),
            rule(Some("out/logs/2026/"), Some(2), Enabled),
            rule(Some("out/other/"), Some(1), Enabled),
        ];
        assert_eq!(fewest(&rules), Some(2));
    }
}
