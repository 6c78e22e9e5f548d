//! A token bucket in whole numbers: so much at once, so much a second.

/// Grants at most `burst` at once and `per_second` over time.
#[derive(Debug, Clone)]
pub struct Bucket {
    burst: u32,
    per_second: u32,
    /// Thousandths of a token.
    level: u64,
    /// Milliseconds on the caller's clock.
    filled_at: u64,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub const fn new(burst: u32, per_second: u32) -> Self {
        Self { burst, per_second, level: burst as u64 * 1000, filled_at: 0 }
    }

    /// Whether less than half of the burst was left at the last [`Bucket::take`].
    #[must_use]
    pub const fn is_low(&self) -> bool {
        self.level < self.burst as u64 * 500
    }

    /// Takes one token at `now` (milliseconds on any clock that does not run backwards), if there is one.
    pub fn take(&mut self, now: u64) -> bool {
        let passed = now.saturating_sub(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        let gained = passed.saturating_mul(u64::from(self.per_second));
        self.level = self.level.saturating_add(gained).min(u64::from(self.burst) * 1000);
        if self.level < 1000 {
            return false;
        }
        self.level -= 1000;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_grants_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(3, 2);
        assert_eq!((0..10).filter(|_| bucket.take(1_000_000)).count(), 3);
        assert_eq!((0..10).filter(|_| bucket.take(1_001_000)).count(), 2);
        assert_eq!((0..10).filter(|_| bucket.take(9_000_000)).count(), 3, "never more than the burst");
    }

    #[test]
    fn a_clock_that_steps_back_grants_nothing() {
        let mut bucket = Bucket::new(1, 1);
        assert!(bucket.take(5_000));
        assert!(!bucket.take(1_000));
        assert!(!bucket.take(5_500));
        assert!(bucket.take(6_000));
    }
}
