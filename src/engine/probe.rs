//! What a store honours, found out by trying: by the plan duty for its plan, and for people who ask.
//!
//! Uploads are opened for it, so they are on record: the request that opens one is repeated when its answer is
//! lost, and clean-up finds the one whose id nobody has learned by its key.

use std::sync::Arc;

use uuid::Uuid;

use super::cleanup::{Leave, end_recorded, remove};
use super::{Error, Ledger, Writer};
use crate::store::{Capabilities, Store};

/// Tries within a job's ledger. The records go with the ledger, and so does what a failure leaves there.
pub(super) async fn probe(store: &dyn Store, ledger: &Ledger) -> Result<Capabilities, Error> {
    let keys = ledger.probe_keys();
    let mut records = Vec::new();
    for key in &keys {
        records.push(ledger.record_upload(ledger.next_upload(), key, None).await?);
    }
    let capabilities = store.probe(&keys).await?;
    if !capabilities.list_uploads {
        // Nothing is found by them there.
        ledger.delete(&records).await?;
    }
    Ok(capabilities)
}

/// Tries within a ledger made for it, as a job of this state prefix would. Only a process that ends on the way
/// leaves it, and then `gc` sweeps it.
pub async fn probe_alone(
    store: &Arc<dyn Store>,
    state_prefix: &str,
    cluster: &str,
) -> Result<Capabilities, Error> {
    let writer = Writer {
        shard: 0,
        epoch: 0,
        holder: "probe".to_owned(),
    };
    let uid = Uuid::new_v4().to_string();
    let ledger = Ledger::new(Arc::clone(store), state_prefix, cluster, &uid, writer);
    let found = probe(&**store, &ledger).await;
    end_recorded(&**store, &ledger, &mut Leave::Alone).await?;
    remove(&**store, &ledger, &mut Leave::Alone).await?;
    found
}
