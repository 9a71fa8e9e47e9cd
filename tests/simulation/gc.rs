//! Ledgers without a job: what `probe` makes for itself, and what `gc` sweeps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use compaction_operator::engine::{Error, Ledgers, Standing, probe_alone};
use compaction_operator::store::{Put, Store};
use serde_json::json;

use crate::scenario::STATE;
use crate::simulate;
use crate::store::{Habits, MemoryStore};

const CLUSTER: &str = "sim";
const LOST: &str = "0b5e5e0a-8a4f-4d65-9a6c-0f3f1c0f7a11";
const DAY: i64 = 86_400;
/// When the ledger of [`LOST`] was written.
const WRITTEN: i64 = 1_000_000;

fn store() -> MemoryStore {
    MemoryStore::new(1, Habits::GOOD)
}

fn key(name: &str) -> String {
    format!("{STATE}{CLUSTER}/{LOST}/{name}")
}

/// A store with a ledger whose job is gone: more than a page of objects, and uploads of which every other one has an
/// id that nobody learned.
async fn abandoned() -> MemoryStore {
    let store = store();
    store.set_time(WRITTEN);
    for number in 0..20 {
        store.set(&key(&format!("shard-000/tails/{number:012}-1-h")), b"x".to_vec());
    }
    for number in 0..10 {
        let output = format!("out/part-{number}");
        let id = store.create_upload(&output, Put::default()).await.unwrap();
        let record = |id: Option<&str>| json!({"key": output, "id": id}).to_string().into_bytes();
        store.set(
            &key(&format!("uploads/000-1-h-{number}.intended.json")),
            record(None),
        );
        if number % 2 == 0 {
            store.set(
                &key(&format!("uploads/000-1-h-{number}.opened.json")),
                record(Some(&id)),
            );
        }
    }
    store
}

/// `gc` by a machine whose clock says `here`.
async fn ledgers(store: &MemoryStore, here: i64) -> Ledgers {
    let store: Arc<dyn Store> = Arc::new(store.clone());
    let age = DAY as u32;
    Ledgers::open(store, STATE, CLUSTER, BTreeSet::new(), here, age)
        .await
        .unwrap()
}

async fn standing(ledgers: &Ledgers) -> Standing {
    let found = ledgers.find().await.unwrap();
    assert_eq!(found.directories.len(), 1);
    found.directories[0].standing.clone()
}

#[test]
fn a_probe_leaves_no_upload_behind_though_it_never_learned_the_id_of_one() {
    simulate(async {
        let memory = store();
        let store: Arc<dyn Store> = Arc::new(memory.clone());
        for _ in 0..8 {
            probe_alone(&store, STATE, CLUSTER).await.unwrap();
            assert_eq!(memory.open_uploads(), [""; 0]);
            assert!(memory.objects().is_empty());
        }
    });
}

#[test]
fn a_ledger_that_was_written_since_it_was_looked_at_is_let_be() {
    simulate(async {
        let store = abandoned().await;
        let later = WRITTEN + DAY;
        store.set_time(later);
        let ledgers = ledgers(&store, later).await;
        assert_eq!(standing(&ledgers).await, Standing::Abandoned);
        // Its job goes on after all. This is not on the first page of a listing.
        let body = key("shard-001/bodies/000000000001-1-h.json");
        store.set(&body, b"{}".to_vec());
        let (objects, uploads) = (store.objects(), store.open_uploads());
        let refused = ledgers.sweep(LOST).await.unwrap_err();
        assert!(
            matches!(&refused, Error::LedgerInUse(key) if *key == body),
            "{refused}"
        );
        assert!(store.objects().keys().eq(objects.keys()), "something was deleted");
        assert_eq!(store.open_uploads(), uploads, "an upload was ended");
    });
}

#[test]
fn a_sweep_that_is_killed_anywhere_is_finished_by_the_next_one() {
    let mut halfway = BTreeSet::new();
    for killed_after in (0..).step_by(25) {
        let is_done = simulate(async {
            let store = abandoned().await;
            let later = WRITTEN + DAY;
            store.set_time(later);
            let whole = store.objects().len();
            let ledgers = ledgers(&store, later).await;
            let killed_after = Duration::from_millis(killed_after);
            let is_done = tokio::time::timeout(killed_after, ledgers.sweep(LOST))
                .await
                .is_ok();
            let (left, open) = (store.objects().len(), store.open_uploads().len());
            halfway.insert((left < whole && left > 0, open < 10 && open > 0));
            assert!(
                open == 0 || left == whole,
                "{open} uploads are open, and {left} of {whole} objects left"
            );
            if left > 0 {
                assert_eq!(standing(&ledgers).await, Standing::Abandoned);
                ledgers.sweep(LOST).await.unwrap();
            }
            assert_eq!(store.open_uploads(), [""; 0]);
            assert!(store.objects().is_empty());
            is_done
        });
        if is_done {
            break;
        }
    }
    let expected = [(false, false), (false, true), (true, false)];
    assert_eq!(halfway, expected.into(), "where it was killed");
}

#[test]
fn a_machine_whose_clock_is_wrong_takes_nothing_for_older_than_it_is() {
    simulate(async {
        let store = abandoned().await;
        for (there, here, expected) in [
            (DAY - 1, 3 * DAY, Standing::Recent),
            (3 * DAY, DAY - 1, Standing::Recent),
            (DAY, 3 * DAY, Standing::Abandoned),
            (3 * DAY, DAY, Standing::Abandoned),
        ] {
            store.set_time(WRITTEN + there);
            let ledgers = ledgers(&store, WRITTEN + here).await;
            assert_eq!(standing(&ledgers).await, expected, "{there} there, {here} here");
        }
    });
}
