//! One operation as a series of attempts: permit, deadline, keys, pause, again.
//!
//! The one place that decides what is tried again ([`is_tried_again`]). Knows no operation by name.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::S3;
use super::failure::Failure;
use crate::deadline::within;
use crate::store::{Error, ErrorKind, Result};

/// What an operation is to the loop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) operation: &'static str,
    /// `None` for the bucket itself.
    pub(super) key: Option<&'a str>,
    /// For one attempt.
    pub(super) limit: Duration,
    pub(super) effect: Effect,
}

/// Whether a request may be sent again when nobody knows what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Twice is as good as once.
    Repeatable,
    /// Only when the first one certainly did nothing.
    Once,
}

impl S3 {
    /// Attempts until one succeeds or there is no point in another.
    pub(super) async fn call<T, F, A>(&self, call: Call<'_>, attempt: F) -> Result<T>
    where
        F: Fn() -> A,
        A: Future<Output = Result<T, Failure>>,
    {
        self.attempts(call, attempt)
            .await
            .map_err(|failure| self.error(call, failure))
    }

    /// As [`S3::call`], for those who must know whether the store was left untouched.
    pub(super) async fn attempts<T, F, A>(&self, call: Call<'_>, attempt: F) -> Result<T, Failure>
    where
        F: Fn() -> A,
        A: Future<Output = Result<T, Failure>>,
    {
        let mut delays = self.retries.delays();
        let mut spent = Duration::ZERO;
        let (mut renewed, mut doubted) = (false, false);
        loop {
            let keys = self.keys.current().await.map_err(|failure| Failure {
                untouched: true,
                ..failure
            })?;
            let (outcome, took) = self.attempt(call.limit, attempt()).await;
            let failure = match outcome {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            spent += took;
            if !renewed && refuses_the_keys(&failure, call.effect) {
                renewed = true;
                if self.keys.renew(&keys).await {
                    continue;
                }
            }
            let in_time = spent < self.retries.budget;
            let again =
                is_tried_again(&failure, call.effect) || (!doubted && is_doubted(&failure, call.effect));
            doubted |= is_doubted(&failure, call.effect);
            let delay = delays.next().filter(|_| in_time && again);
            let Call { operation, key, .. } = call;
            // Said of every attempt, since what comes of an operation in the end may hide what it went through.
            tracing::debug!(operation, key, kind = ?failure.kind, detail = failure.detail, again_in = ?delay, "attempt failed");
            let Some(delay) = delay else { return Err(failure) };
            tokio::time::sleep(delay).await;
            spent += delay;
        }
    }

    /// One request, under a permit and a deadline, and how long it took without the wait for the permit.
    async fn attempt<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> (Result<T, Failure>, Duration) {
        let permit = self.limit.acquire().await;
        let began = Instant::now();
        let outcome = within(limit, request)
            .await
            .unwrap_or_else(|elapsed| Err(elapsed.into()));
        match &outcome {
            Ok(_) => permit.succeeded(),
            Err(failure) if failure.kind == ErrorKind::Throttled => permit.throttled(),
            Err(_) => {}
        }
        (outcome, began.elapsed())
    }

    /// The error that a caller sees.
    pub(super) fn error(&self, call: Call<'_>, failure: Failure) -> Error {
        let target = match call.key {
            Some(key) => format!("{}/{key}", self.bucket),
            None => self.bucket.clone(),
        };
        Error {
            operation: call.operation,
            target,
            kind: failure.kind,
            detail: failure.detail,
        }
    }
}

/// Whether other keys, if there are any, may fare better.
fn refuses_the_keys(failure: &Failure, effect: Effect) -> bool {
    matches!(failure.kind, ErrorKind::CredentialsInvalid | ErrorKind::Denied)
        && may_be_repeated(failure, effect)
}

/// Whether another attempt may end better, and may be made at all.
fn is_tried_again(failure: &Failure, effect: Effect) -> bool {
    let passing = matches!(
        failure.kind,
        ErrorKind::Throttled
            | ErrorKind::Timeout
            | ErrorKind::Unreachable
            | ErrorKind::ServerError
            | ErrorKind::BadAnswer
            | ErrorKind::Unordered
    );
    passing && may_be_repeated(failure, effect)
}

/// Whether the answer would end the job for good: it must be given twice.
fn is_doubted(failure: &Failure, effect: Effect) -> bool {
    matches!(failure.kind, ErrorKind::InvalidRequest | ErrorKind::PartTooSmall)
        && may_be_repeated(failure, effect)
}

fn may_be_repeated(failure: &Failure, effect: Effect) -> bool {
    effect == Effect::Repeatable || failure.untouched
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind::*;

    const ALL: [ErrorKind; 22] = [
        NotFound,
        NoSuchBucket,
        NoSuchUpload,
        PreconditionFailed,
        InvalidPart,
        PartTooSmall,
        InvalidRequest,
        Unsupported,
        Denied,
        CredentialsInvalid,
        CredentialsMissing,
        WrongRegion,
        Archived,
        Throttled,
        Timeout,
        Unreachable,
        ServerError,
        StorageFull,
        NotS3,
        BadAnswer,
        Unordered,
        TooLarge,
    ];

    #[test]
    fn only_what_may_pass_by_itself_is_tried_again() {
        let again: Vec<_> = ALL
            .into_iter()
            .filter(|&kind| is_tried_again(&Failure::new(kind, ""), Effect::Repeatable))
            .collect();
        assert_eq!(
            again,
            [Throttled, Timeout, Unreachable, ServerError, BadAnswer, Unordered]
        );
    }

    #[test]
    fn a_refusal_that_nothing_can_mend_is_doubted_once() {
        let doubted: Vec<_> = ALL
            .into_iter()
            .filter(|&kind| is_doubted(&Failure::new(kind, ""), Effect::Repeatable))
            .collect();
        assert_eq!(doubted, [PartTooSmall, InvalidRequest]);
        assert!(!is_doubted(&Failure::new(InvalidRequest, ""), Effect::Once));
    }

    #[test]
    fn what_must_happen_once_is_tried_again_only_when_it_surely_did_not() {
        for kind in ALL {
            let unknown = Failure::new(kind, "");
            assert!(!is_tried_again(&unknown, Effect::Once), "{kind:?}");
            let untouched = Failure {
                untouched: true,
                ..unknown
            };
            let expected = is_tried_again(&untouched, Effect::Repeatable);
            assert_eq!(is_tried_again(&untouched, Effect::Once), expected, "{kind:?}");
        }
    }

    #[test]
    fn keys_are_looked_up_again_only_after_a_refusal_that_may_be_theirs() {
        let renewing: Vec<_> = ALL
            .into_iter()
            .filter(|&kind| refuses_the_keys(&Failure::new(kind, ""), Effect::Repeatable))
            .collect();
        assert_eq!(renewing, [Denied, CredentialsInvalid]);
        assert!(!refuses_the_keys(&Failure::new(Denied, ""), Effect::Once));
    }
}
