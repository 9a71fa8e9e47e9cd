//! Ledgers without a job: what `probe` makes for itself.

use std::sync::Arc;

use compaction_operator::engine::probe_alone;
use compaction_operator::store::Store;

use crate::scenario::STATE;
use crate::simulate;
use crate::store::{Habits, MemoryStore};

const CLUSTER: &str = "sim";

/// A store whose every answer arrives.
fn store() -> MemoryStore {
    let habits = Habits {
        random_etags: false,
        conditional: true,
        lists_parts: true,
        errors: 0,
        lost_answers: 0,
        min_part: 1,
    };
    MemoryStore::new(1, habits)
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
