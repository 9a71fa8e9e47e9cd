//! The requests of workers, counted, and the one at which they all stand still until they have been killed.

use std::sync::{Arc, Mutex};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    BeforeItArrives,
    BeforeItsAnswer,
}

/// Nobody is killed by default.
#[derive(Clone, Default)]
pub struct Requests(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    count: u64,
    kill_at: Option<(u64, Moment)>,
    stand_still: bool,
}

impl Requests {
    pub fn kill_at(number: u64, moment: Moment) -> Self {
        Self(Arc::new(Mutex::new(State {
            kill_at: Some((number, moment)),
            ..State::default()
        })))
    }

    pub fn count(&self) -> u64 {
        self.0.lock().unwrap().count
    }

    /// Whether workers are to be killed now; those that come after them go on.
    pub fn take_kill(&self) -> bool {
        std::mem::take(&mut self.0.lock().unwrap().stand_still)
    }

    async fn reach(&self, number: u64, moment: Moment) {
        let stands_still = {
            let mut state = self.0.lock().unwrap();
            state.stand_still |= state.kill_at == Some((number, moment));
            state.stand_still
        };
        if stands_still {
            std::future::pending::<()>().await;
        }
    }

    pub async fn arrive(&self) -> u64 {
        let number = {
            let mut state = self.0.lock().unwrap();
            state.count += 1;
            state.count
        };
        self.reach(number, Moment::BeforeItArrives).await;
        number
    }

    pub async fn answer(&self, number: u64) {
        self.reach(number, Moment::BeforeItsAnswer).await;
    }
}
