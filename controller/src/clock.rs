//! Whether somebody has set the machine's clock: it is compared with the one that only runs. Times are arguments.

use std::time::{Duration, Instant, SystemTime};

/// NTP and suspended machines move a clock by less.
const JUMP: Duration = Duration::from_secs(3600);

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    wall: SystemTime,
    steady: Instant,
}

impl Moment {
    /// This one.
    pub fn new(wall: SystemTime, steady: Instant) -> Self {
        Self { wall, steady }
    }

    /// Whether the time of day at `now` is more than an hour from where it would be had nobody set it since.
    pub fn is_another_time(&self, now: Self) -> bool {
        let expected = self.wall + now.steady.saturating_duration_since(self.steady);
        let ahead = now.wall.duration_since(expected);
        ahead.unwrap_or_else(|error| error.duration()) > JUMP
    }

    /// How long ago it was, whatever the time of day.
    pub fn elapsed(&self, now: Self) -> Duration {
        now.steady.saturating_duration_since(self.steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_runs_is_told_from_one_that_was_set() {
        let (wall, steady) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30), Instant::now());
        let began = Moment::new(wall, steady);
        let day = Duration::from_secs(86_400);
        let now = |wall| Moment::new(wall, steady + day);
        assert!(!began.is_another_time(now(wall + day)));
        assert!(!began.is_another_time(now(wall + day + Duration::from_secs(30))));
        assert!(began.is_another_time(now(wall + day * 2)));
        assert!(began.is_another_time(now(wall)));
        assert_eq!(began.elapsed(now(wall)), day);
    }
}
