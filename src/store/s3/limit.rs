//! How many requests may be in flight: halved when the store asks to slow down, raised by one after
//! as many successes as are allowed at a time.
//!
//! Holds nothing but a number and who waits for it; knows neither requests nor time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The permits of one store.
#[derive(Debug)]
pub(super) struct Limit {
    permits: Semaphore,
    state: Mutex<State>,
    max: usize,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// Permits that are out and will not be given back.
    owed: usize,
    successes: usize,
    /// Rises with every cut. Requests that began before the last cut do not cause another one: a burst
    /// that is turned away together says "slow down" once, not once a request.
    epoch: u64,
}

/// The right to have one request in flight.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    of: &'a Limit,
    /// `None` only when the semaphore is closed, which it never is.
    held: Option<SemaphorePermit<'a>>,
    epoch: u64,
}

impl Limit {
    pub(super) fn new(max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        let state = State {
            limit: max,
            owed: 0,
            successes: 0,
            epoch: 0,
        };
        Self {
            permits: Semaphore::new(max),
            state: Mutex::new(state),
            max,
        }
    }

    /// Waits for a permit, first come, first served.
    pub(super) async fn acquire(&self) -> Permit<'_> {
        let held = self.permits.acquire().await.ok();
        Permit {
            of: self,
            held,
            epoch: self.state().epoch,
        }
    }

    pub(super) fn now(&self) -> usize {
        self.state().limit
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The store asked to slow down.
    pub(super) fn throttled(&self) {
        let mut state = self.of.state();
        if self.epoch != state.epoch {
            return;
        }
        let limit = (state.limit / 2).max(1);
        let cut = state.limit - limit;
        state.owed += cut - self.of.permits.forget_permits(cut);
        state.limit = limit;
        state.successes = 0;
        state.epoch += 1;
        tracing::debug!(limit, "the store asks to slow down");
    }

    pub(super) fn succeeded(&self) {
        let mut state = self.of.state();
        if state.limit == self.of.max {
            return;
        }
        state.successes += 1;
        if state.successes >= state.limit {
            state.successes = 0;
            state.limit += 1;
            if state.owed > 0 {
                state.owed -= 1;
            } else {
                self.of.permits.add_permits(1);
            }
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.of.state();
        if state.owed > 0
            && let Some(held) = self.held.take()
        {
            state.owed -= 1;
            held.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn take(limit: &Limit) -> Option<Permit<'_>> {
        limit.acquire().now_or_never()
    }

    /// How many permits can be held at one time.
    fn capacity(limit: &Limit) -> usize {
        std::iter::from_fn(|| take(limit)).collect::<Vec<_>>().len()
    }

    #[test]
    fn no_more_permits_are_out_than_the_limit_says() {
        let limit = Limit::new(3);
        assert_eq!(capacity(&limit), 3);
        assert_eq!(capacity(&limit), 3, "all came back");
        assert_eq!(capacity(&Limit::new(0)), 1);
    }

    #[test]
    fn each_burst_that_is_turned_away_halves_the_limit_once_and_never_below_one() {
        let limit = Limit::new(8);
        for expected in [4, 2, 1, 1] {
            let burst: Vec<_> = std::iter::from_fn(|| take(&limit)).collect();
            burst.iter().for_each(Permit::throttled);
            assert_eq!(limit.now(), expected);
            drop(burst);
            assert_eq!(capacity(&limit), expected);
        }
    }

    #[test]
    fn permits_that_are_out_are_not_given_back_above_the_limit() {
        let limit = Limit::new(4);
        let mut burst: Vec<_> = std::iter::from_fn(|| take(&limit)).collect();
        burst[0].throttled();
        burst.truncate(2);
        assert_eq!(capacity(&limit), 0, "two are out and two are allowed");
        burst.clear();
        assert_eq!(capacity(&limit), 2);
    }

    #[test]
    fn the_limit_rises_by_one_after_as_many_successes_up_to_the_maximum() {
        let limit = Limit::new(4);
        take(&limit).unwrap().throttled();
        assert_eq!(limit.now(), 2);
        for expected in [2, 3, 3, 3, 4, 4, 4, 4, 4, 4] {
            take(&limit).unwrap().succeeded();
            assert_eq!(limit.now(), expected);
        }
        assert_eq!(capacity(&limit), 4);
    }

    #[test]
    fn a_raise_while_permits_are_owed_lets_one_of_them_live() {
        let limit = Limit::new(4);
        let burst: Vec<_> = std::iter::from_fn(|| take(&limit)).collect();
        burst[0].throttled();
        burst[1].succeeded();
        burst[2].succeeded();
        assert_eq!(limit.now(), 3);
        drop(burst);
        assert_eq!(capacity(&limit), 3);
    }
}
