//! Conditions: typed names and reasons, and an update that keeps transition times.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The types of conditions.
pub mod types {
    pub const READY: &str = "Ready";
    pub const RECONCILING: &str = "Reconciling";
    pub const STALLED: &str = "Stalled";
    pub const SUCCEEDED: &str = "Succeeded";
    pub const SUSPENDED: &str = "Suspended";
    pub const STORAGE_ACCESSIBLE: &str = "StorageAccessible";
    /// Of a schedule: too many runs in a row have failed.
    pub const HALTED: &str = "Halted";
    /// Of a schedule.
    pub const LAST_RUN_SUCCEEDED: &str = "LastRunSucceeded";
}

/// Names the reasons once, so that no list of them forgets one.
macro_rules! reasons {
    ($(#[$of_all:meta])* pub enum $reasons:ident { $($(#[$about:meta])* $reason:ident,)* }) => {
        $(#[$of_all])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $reasons {
            $($(#[$about])* $reason,)*
        }

        impl $reasons {
            pub const ALL: &[Self] = &[$(Self::$reason,)*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => stringify!($reason),)*
                }
            }
        }
    };
}

pub(super) use reasons;

reasons! {
    /// The closed list of reasons; the reason of `Ready` is the state word that kubectl shows.
    pub enum Reason {
        WaitingForJob,
        /// There is work, and no worker could start on it yet; the message says why.
        Starting,
        Planning,
        Planned,
        Running,
        Requeueing,
        Publishing,
        /// To be suspended or deleted, and workers are still stopping.
        Stopping,
        Suspended,
        Succeeded,
        NothingToCompact,
        /// A worker said that only somebody can help; its message says what.
        WorkFailed,
        UploadDeadlineExceeded,
        BackoffLimitExceeded,
        TooManyFailedGroups,
        DeadlineExceeded,
        PendingDeadlineExceeded,
        Reachable,
        Unreachable,
    }
}

impl Reason {
    /// Whether a job that stopped for this needs somebody before it goes on.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Self::WorkFailed
                | Self::UploadDeadlineExceeded
                | Self::BackoffLimitExceeded
                | Self::TooManyFailedGroups
                | Self::DeadlineExceeded
                | Self::PendingDeadlineExceeded
        )
    }
}

/// The condition of this type, if there is one.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// What was not said anew still holds, for the spec that was looked at: `kubectl wait` takes no notice of a condition
/// that speaks of an earlier one.
pub fn confirm_conditions(conditions: &mut [Condition], generation: i64) {
    for condition in conditions {
        condition.observed_generation = Some(generation);
    }
}

/// Sets a condition; its transition time moves only when its status does. `status`: `None` is Unknown.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: Option<bool>,
    reason: &str,
    message: &str,
    generation: i64,
    now: Timestamp,
) {
    let status = match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let unchanged = condition(conditions, type_).filter(|c| c.status == status);
    let fresh = Condition {
        last_transition_time: unchanged.map_or(Time(now), |c| c.last_transition_time.clone()),
        message: message.to_owned(),
        observed_generation: Some(generation),
        reason: reason.to_owned(),
        status: status.to_owned(),
        type_: type_.to_owned(),
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) => *old = fresh,
        None => conditions.push(fresh),
    }
}
