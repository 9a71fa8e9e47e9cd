//! How often the pointer of a shard moves: each move costs the API server the whole status (I11).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

pub(super) struct Pace {
    /// Zero: it moves at every batch.
    interval: Duration,
    /// Of this worker alone, so that workers that began together do not go on together.
    jitter: fastrand::Rng,
    due: Instant,
}

impl Pace {
    pub(super) fn new(interval: Duration, holder: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        holder.hash(&mut hasher);
        let mut jitter = fastrand::Rng::with_seed(hasher.finish());
        let due = Instant::now() + interval.mul_f64(jitter.f64());
        Self {
            interval,
            jitter,
            due,
        }
    }

    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// The pointer has just been acknowledged.
    pub(super) fn moved(&mut self) {
        self.due = Instant::now() + self.interval.mul_f64(1.0 + self.jitter.f64() / 4.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pointer_waits_at_least_the_interval_and_at_most_a_quarter_more() {
        let (before, quarter) = (Duration::from_millis(7999), Duration::from_millis(2001));
        let mut pace = Pace::new(Duration::from_secs(8), "pod");
        for _ in 0..50 {
            pace.moved();
            tokio::time::advance(before).await;
            assert!(!pace.is_due());
            tokio::time::advance(quarter).await;
            assert!(pace.is_due());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_interval_it_is_always_time() {
        let mut pace = Pace::new(Duration::ZERO, "pod");
        assert!(pace.is_due());
        pace.moved();
        assert!(pace.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn workers_that_began_together_are_due_at_different_times() {
        let due = |holder: &str| Pace::new(Duration::from_secs(16), holder).due;
        assert_eq!(due("a"), due("a"));
        assert!(due("a") != due("b") && due("b") != due("c"));
    }
}
