//! Is the switch still there? Silence is answered with an echo request, and silence after that with the end.

use std::time::{Duration, Instant};

use super::Config;

#[derive(Debug)]
pub(super) struct Keepalive {
    heard: Instant,
    /// When the unanswered echo request went out, and until when an answer counts.
    asked: Option<(Instant, Instant)>,
    excused: bool,
}

pub(super) enum Verdict {
    Alive,
    Ask,
    Dead(Duration),
}

impl Keepalive {
    pub(super) fn new(now: Instant) -> Keepalive {
        Keepalive { heard: now, asked: None, excused: false }
    }

    /// Any byte is a sign of life.
    pub(super) fn heard(&mut self, now: Instant) {
        *self = Keepalive::new(now);
    }

    pub(super) fn deadline(&self, config: &Config) -> Instant {
        self.asked.map_or(self.heard + config.echo_interval, |(_, until)| until)
    }

    pub(super) fn check(&mut self, config: &Config, now: Instant) -> Verdict {
        match self.asked {
            None if now >= self.heard + config.echo_interval => {
                self.asked = Some((now, now + config.echo_timeout));
                Verdict::Ask
            }
            Some((asked, until)) if now >= until => {
                // Coming here long after the deadline means that *we* did not run: the answer may lie unread in the
                // socket. Once, the switch gets the benefit of the doubt.
                if !self.excused && now - until > config.echo_timeout / 2 {
                    self.excused = true;
                    self.asked = Some((asked, now + config.echo_timeout));
                    return Verdict::Alive;
                }
                Verdict::Dead(now - self.heard)
            }
            _ => Verdict::Alive,
        }
    }
}
