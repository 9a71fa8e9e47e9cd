//! What a pass has around it, over whatever it is made: its deadline, its counts, and a pause after errors.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::runtime::controller::{self, Action};
use kube::{Resource, ResourceExt};

use super::cluster::Error;
use super::context::Context;
use crate::deadline::within;

/// A whole pass: every call in it has a deadline of its own.
const PASS: Duration = Duration::from_mins(2);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Makes a pass of the named controller over an object, and sees that it ends.
pub(super) async fn make<T>(
    context: &Context,
    object: &impl ResourceExt,
    controller: &'static str,
    pass: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let under_way = context.metrics.pass(controller);
    let passed = within(PASS, pass).await;
    let passed = passed.unwrap_or(Err(Error::Late { call: "a pass" }));
    under_way.end(passed.is_ok());
    if passed.is_ok() {
        context.passed(object);
    }
    passed
}

/// Longer with every error in a row.
pub(super) fn after_error<K: Resource<DynamicType = ()>>(
    object: Arc<K>,
    error: &Error,
    context: Arc<Context>,
) -> Action {
    let errors = context.erred(&*object);
    tracing::warn!(
        kind = %K::kind(&()),
        namespace = object.namespace(),
        name = object.name_any(),
        %error,
        "a pass is repeated"
    );
    let pause = FIRST_PAUSE * 2_u32.saturating_pow(errors.min(9).saturating_sub(1));
    let pause = pause.min(LONGEST_PAUSE);
    Action::requeue(pause.mul_f64(0.5 + fastrand::f64() / 2.0))
}

/// Says which passes failed, until there are no more.
pub(super) async fn told<K, E: std::error::Error + 'static>(
    passes: impl Stream<Item = Result<K, controller::Error<Error, E>>>,
) {
    passes
        .for_each(|passed| async {
            match passed {
                // Normal after a deletion: a pod of a job that is gone, a job of a schedule.
                Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
                Err(error) => tracing::warn!(%error, "a pass failed"),
            }
        })
        .await;
}
