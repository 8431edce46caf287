//! The time since the machine has booted. Nobody sets it, and it is the same for every agent until the machine boots again:
//! for durations that are written down, such as the rest of an address.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// The time since boot, as if that had been 1970. A machine that does not tell it counts from the agent's start.
pub fn steady() -> SystemTime {
    static BEGAN: OnceLock<Began> = OnceLock::new();
    let began = BEGAN.get_or_init(|| {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        Began { since_boot: since_boot(&uptime).unwrap_or_default(), monotonic: Instant::now() }
    });
    began.at(Instant::now())
}

struct Began {
    since_boot: Duration,
    monotonic: Instant,
}

impl Began {
    fn at(&self, now: Instant) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.since_boot + now.saturating_duration_since(self.monotonic)
    }
}

/// proc(5): seconds since boot, with two decimals, then something else.
fn since_boot(uptime: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(uptime.split_whitespace().next()?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_as_time_does_from_what_the_machine_says() {
        assert_eq!(since_boot("3723.25 7000.10\n"), Some(Duration::from_millis(3_723_250)));
        assert_eq!((since_boot(""), since_boot("-1 0"), since_boot("x")), (None, None, None));
        let began = Began { since_boot: Duration::from_secs(100), monotonic: Instant::now() };
        let later = began.monotonic + Duration::from_secs(7);
        assert_eq!(began.at(later), SystemTime::UNIX_EPOCH + Duration::from_secs(107));
        let first = steady();
        assert!(first > SystemTime::UNIX_EPOCH && steady() >= first);
    }
}
