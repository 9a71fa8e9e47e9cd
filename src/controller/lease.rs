//! Waits for the Lease, which keeps one controller at work at a time. It keeps no promise of its own: epochs,
//! names and tests do.

use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use uuid::Uuid;

use crate::deadline::within;

/// Seconds for which the Lease is held, and how long before their end it is renewed.
const LEASE_SECONDS: u64 = 15;
const RENEW_SECONDS: u64 = 5;
/// How often one that waits looks whether the Lease was given back.
const LOOK: Duration = Duration::from_secs(3);

/// Of this process. A container that is started again in the same pod need not wait for its predecessor's
/// Lease to expire: that one is dead.
pub(super) fn identity() -> String {
    std::env::var("POD_NAME").unwrap_or_else(|_| Uuid::new_v4().to_string())
}

/// Returns once the Lease is held.
pub(super) async fn elected(
    client: &Client,
    namespace: &str,
    name: &str,
    identity: &str,
) -> Result<LeaseManager, LeaseManagerError> {
    loop {
        // A manager remembers until when the Lease is held, and looks no sooner; a new one looks.
        let manager = LeaseManagerBuilder::new(client.clone(), name)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(LEASE_SECONDS)
            .with_grace(RENEW_SECONDS)
            .build()
            .await?;
        // Cut off in the middle, it may hold the Lease already. The next one finds that out by the identity.
        match within(LOOK, manager.changed()).await {
            Ok(Ok(true)) => return Ok(manager),
            Ok(Err(error)) => {
                tracing::warn!(%error, lease = name, "the Lease cannot be taken");
                tokio::time::sleep(LOOK).await;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, Response};
    use jiff::Timestamp;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    const LONG: Duration = Duration::from_mins(10);

    /// An API server whose Lease another one holds for an hour, but gives back before the look of this number.
    fn server(given_back: usize) -> Client {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        tokio::spawn(async move {
            let mut spec = json!({
                "holderIdentity": "another", "leaseDurationSeconds": 3600,
                "acquireTime": Timestamp::now(), "renewTime": Timestamp::now(),
            });
            let mut looks = 0;
            while let Some((request, send)) = handle.next_request().await {
                let (head, body) = request.into_parts();
                if head.method == Method::GET {
                    looks += 1;
                    if looks == given_back {
                        spec = json!({});
                    }
                } else {
                    let body = body.collect_bytes().await.unwrap();
                    let patch: Value = serde_json::from_slice(&body).unwrap();
                    json_patch::merge(&mut spec, &patch["spec"]);
                }
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": "lease", "namespace": "ns"}, "spec": spec,
                });
                let body = Body::from(serde_json::to_vec(&lease).unwrap());
                send.send_response(Response::new(body));
            }
        });
        Client::new(service, "ns")
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_given_back_is_taken_long_before_it_would_expire() {
        let client = server(20);
        within(LONG, elected(&client, "ns", "lease", "own"))
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_held_is_not_taken() {
        let client = server(usize::MAX);
        within(LONG, elected(&client, "ns", "lease", "own"))
            .await
            .unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_started_again_takes_its_own_lease_at_once() {
        let client = server(usize::MAX);
        within(LONG, elected(&client, "ns", "lease", "another"))
            .await
            .unwrap()
            .unwrap();
    }
}
