//! How long to wait before the next attempt to connect; must not know a clock nor a source of randomness.

use std::time::Duration;

/// Waits that double from attempt to attempt, up to a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    /// Beginning with `first`, at most `limit`.
    pub const fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, next: first }
    }

    /// The wait after a failed attempt.
    pub fn failed(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.limit);
        wait
    }

    /// An attempt led to a working connection: begin anew.
    pub fn succeeded(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew() {
        let milliseconds = Duration::from_millis;
        let mut backoff = Backoff::new(milliseconds(50), milliseconds(300));
        let waits: Vec<_> = (0..5).map(|_| backoff.failed().as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 300, 300]);
        backoff.succeeded();
        assert_eq!(backoff.failed(), milliseconds(50));
    }
}
