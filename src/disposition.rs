//! The one question every error answers: what should happen next.

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Try again from the last checkpoint; counts against the limits.
    Retry,
    /// Not the work's fault: try again, with backoff, for as long as it takes.
    Wait,
    /// Trying again cannot help; somebody has to change something.
    GiveUp,
}
