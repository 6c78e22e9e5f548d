//! A run's randomness: every draw follows from the seed, the purpose, and how often that purpose drew before.
//!
//! Streams apart by purpose keep a run the same when two parties draw at one instant in another order.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The randomness of one run.
#[derive(Debug)]
pub struct Seed {
    value: u64,
    drawn: Mutex<BTreeMap<String, u64>>,
}

impl Seed {
    /// The run of this number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self { value, drawn: Mutex::new(BTreeMap::new()) }
    }

    /// Which run it is.
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.value
    }

    /// The next 32 bytes for a purpose.
    #[must_use]
    pub fn bytes(&self, purpose: &str) -> [u8; 32] {
        let count = {
            let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
            let count = drawn.entry(purpose.to_owned()).or_default();
            *count += 1;
            *count
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.value.to_be_bytes()).update(&count.to_be_bytes()).update(purpose.as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// A number below `limit`, which is not zero.
    #[must_use]
    pub fn below(&self, purpose: &str, limit: u64) -> u64 {
        let bytes = self.bytes(purpose);
        let number = u64::from_be_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
        ]);
        number % limit.max(1)
    }

    /// True that many times in a thousand.
    #[must_use]
    pub fn chance(&self, purpose: &str, per_mille: u64) -> bool {
        per_mille > 0 && self.below(purpose, 1_000) < per_mille
    }

    /// A span between two others, to the microsecond: two events hardly ever share an instant.
    #[must_use]
    pub fn span(&self, purpose: &str, shortest: Duration, longest: Duration) -> Duration {
        let width = longest.saturating_sub(shortest).as_micros().max(1);
        shortest + Duration::from_micros(self.below(purpose, u64::try_from(width).unwrap_or(u64::MAX)))
    }
}
