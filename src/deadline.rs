//! The one place where the network is awaited: a timer outside the future, and how long it runs.
//!
//! Nothing else in the program waits for a peer without passing through [`within`]. A future that is
//! cut off is dropped, which closes its connection: the next attempt gets a new one.

use std::future::Future;
use std::time::Duration;

/// Nothing came of a future within its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {0:?}")]
pub struct Elapsed(pub Duration);

/// Awaits `future` for at most `limit`.
pub async fn within<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(limit, future)
        .await
        .map_err(|_| Elapsed(limit))
}

/// How long each kind of wait on the object store may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    /// Until a connection stands, name resolution and TLS included.
    pub connect: Duration,
    /// Until the head of an answer is there.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
    /// Until credentials are found; the machine's own sources have several places to ask.
    pub credentials: Duration,
    /// The least that a transfer gets, however short.
    pub transfer_floor: Duration,
    /// Bytes a second that a transfer must reach.
    pub transfer_rate: u64,
    /// Until a multipart upload is completed.
    pub complete: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(10),
            stall: Duration::from_secs(20),
            credentials: Duration::from_secs(15),
            transfer_floor: Duration::from_secs(10),
            transfer_rate: 2_000_000,
            complete: Duration::from_mins(10),
        }
    }
}

impl Deadlines {
    /// One attempt at moving `len` bytes: a part, a put, a ranged read.
    pub fn transfer(&self, len: u64) -> Duration {
        let millis = len.saturating_mul(1000) / self.transfer_rate.max(1);
        Duration::from_millis(millis).max(self.transfer_floor)
    }

    /// One attempt at a request whose work or answer grows with what it names: lists, bulk deletes.
    pub fn answer(&self) -> Duration {
        self.first_byte + self.stall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_future_that_never_ends_is_cut_off_at_its_limit() {
        let limit = Duration::from_secs(7);
        let before = tokio::time::Instant::now();
        let outcome = within(limit, std::future::pending::<()>()).await;
        assert_eq!(outcome, Err(Elapsed(limit)));
        assert_eq!(before.elapsed().as_secs(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_that_ends_in_time_keeps_its_output() {
        let answer = async {
            tokio::time::sleep(Duration::from_secs(6)).await;
            42
        };
        assert_eq!(within(Duration::from_secs(7), answer).await, Ok(42));
    }

    #[test]
    fn a_transfer_gets_the_floor_or_the_time_its_length_needs() {
        let deadlines = Deadlines::default();
        assert_eq!(deadlines.transfer(0), Duration::from_secs(10));
        assert_eq!(deadlines.transfer(20_000_000), Duration::from_secs(10));
        assert_eq!(deadlines.transfer(64_000_000), Duration::from_secs(32));
        assert!(deadlines.transfer(u64::MAX) > Duration::from_secs(10));
    }
}
