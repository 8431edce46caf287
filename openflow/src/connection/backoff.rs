//! How long to wait before the next attempt to connect. Randomness is an argument.

use std::time::Duration;

/// Waiting times that double up to a limit, each shortened by a random part so that many agents do not come together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first`, never waits longer than `limit`.
    pub fn new(first: Duration, limit: Duration) -> Backoff {
        Backoff { first, limit, next: first }
    }

    /// The next waiting time: between half of the current step and the whole. `random` is any random number.
    pub fn next(&mut self, random: u64) -> Duration {
        let step = self.next.min(self.limit);
        self.next = step.saturating_mul(2).min(self.limit);
        let half = step / 2;
        half + half.mul_f64(random as f64 / u64::MAX as f64)
    }

    /// It worked: start over.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..6).map(|_| backoff.next(u64::MAX).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next(0), Duration::from_millis(50));
    }
}
