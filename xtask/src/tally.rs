//! Adds up what libtest says. Reads cargo's output line by line; knows nothing of tiers.

/// The counts of one or many `test result:` lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl Tally {
    /// Reads libtest's `test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; …`; `None` for any other line.
    pub fn parse(line: &str) -> Option<Self> {
        let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
        let mut tally = Self::default();
        for part in counts.split("; ") {
            let Some((number, word)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse() else { continue };
            match word {
                "passed" => tally.passed = number,
                "failed" => tally.failed = number,
                "ignored" => tally.ignored = number,
                _ => {}
            }
        }
        Some(tally)
    }

    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_libtest_prints() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.29s";
        assert_eq!(Tally::parse(line), Some(Tally { passed: 12, failed: 3, ignored: 1 }));
        let line =
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(Tally::parse(line), Some(Tally::default()));
        assert_eq!(Tally::parse("test reads ... ok"), None);
        assert_eq!(Tally::parse("test result: "), None);
    }

    #[test]
    fn adds_up() {
        let mut sum = Tally { passed: 1, failed: 0, ignored: 2 };
        sum.add(Tally { passed: 2, failed: 3, ignored: 0 });
        assert_eq!(sum, Tally { passed: 3, failed: 3, ignored: 2 });
    }
}
