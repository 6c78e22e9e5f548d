//! Reputation: what anyone computes from the chain and signed evidence, with the same answer everywhere.
//!
//! ```text
//! probes ─────► Wilson lower bound ─► uptime      ─┐
//! challenges ─► Wilson lower bound ─► challenges  ─┤ product, rounded down once ─► score
//! payments ───► capped, saturating ─► diversity   ─┤
//! strikes ────► 2 / (2 + weight) ───► strikes     ─┘
//! ```
//!
//! Everything weighs less the older it is: half after thirty days of hourly epochs. The Wilson bound is that of E. B. Wilson
//! (Journal of the American Statistical Association 22, 1927, pages 209 to 212) at z = 1.96, with the sum of the weights as the
//! sample size. It is not computed but found: the largest number of billionths `p` with
//! `(s − n p)² ≥ z² n p (1 − p)`, in integers of 256 bits, so that there is no rounding to disagree about. Decay is
//! `d^age` by squaring, rounded down to 10^−18 at each multiplication.
//!
//! **Diversity** is `T / (T + 3 c)`, where `T` sums what each buyer paid, up to the cap `c` for each. Splitting one buyer into many adds
//! nothing below the cap, and above it costs real turnover and its fee: it counts what was paid, not who is said to have paid it.
//! `T` is in one currency; what was paid in another does not count until somebody converts it.
//!
//! Failure paths: evidence from the future does not count; the same evidence twice counts once; too little of a kind is
//! [`Standing::InsufficientData`], with the components as they are; more than [`MAX_EVIDENCE`] pieces are refused.

#[cfg(test)]
mod tests;
mod wilson;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use alloy_primitives::{B256, U256};
use serde::{Deserialize, Serialize};

use crate::evidence::Epoch;
use crate::ids::BuyerId;
use crate::units::Money;
use wilson::lower_bound;

/// The most pieces of evidence about one device.
pub const MAX_EVIDENCE: usize = 1 << 20;

/// The weight of fresh evidence.
const WHOLE: u128 = 1_000_000_000_000_000_000;
/// 2^(−1/720), rounded down: the weight halves in 720 epochs.
const DECAY: u128 = 999_037_758_833_783_388;
/// Buyers' caps that make a diversity of one half.
const HALF_AT: u128 = 3;

/// A part of one, in billionths, rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Share(u32);

impl Share {
    /// All of it.
    pub const ONE: Self = Self(1_000_000_000);

    /// So many billionths.
    #[must_use]
    pub const fn billionths(self) -> u32 {
        self.0
    }

    /// `part / whole`, rounded down; zero of nothing, one at most.
    fn of(part: U256, whole: U256) -> Self {
        if whole.is_zero() {
            return Self(0);
        }
        let billionths = part.saturating_mul(U256::from(Self::ONE.0)) / whole;
        Self(u32::try_from(billionths).unwrap_or(u32::MAX)).min(Self::ONE)
    }
}

impl TryFrom<u32> for Share {
    type Error = &'static str;
    fn try_from(billionths: u32) -> Result<Self, Self::Error> {
        let share = Self(billionths);
        if share <= Self::ONE { Ok(share) } else { Err("a share is at most 1,000,000,000 billionths") }
    }
}

impl From<Share> for u32 {
    fn from(share: Share) -> Self {
        share.0
    }
}

impl fmt::Display for Share {
    /// In percent, with two places, rounded down.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02} %", self.0 / 10_000_000, self.0 / 100_000 % 100)
    }
}

/// What a strike is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strike {
    /// Convicted of being down, or slow.
    Down,
    /// A wrong element of a product.
    WrongElement,
    /// Not the hardware that was promised.
    WrongClass,
    /// Two bodies for one slot.
    Equivocation,
}

impl Strike {
    /// How much it weighs: a fresh one divides the score by `1 + weight / 2`.
    const fn weight(self) -> u128 {
        match self {
            Self::Down => 1,
            Self::WrongElement => 4,
            Self::WrongClass => 16,
            Self::Equivocation => 64,
        }
    }
}

/// What a piece of evidence says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// A sentinel looked. "Unknown" is no fact.
    Probe {
        /// It answered.
        up: bool,
    },
    /// A hardware challenge ended.
    Challenge {
        /// Rightly answered.
        passed: bool,
    },
    /// A lease was paid.
    Payment {
        /// By whom.
        buyer: BuyerId,
        /// How much, in the one currency.
        amount: Money,
    },
    /// A conviction, or an objective proof.
    Strike(Strike),
}

/// A piece of evidence about a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Observation {
    /// When it happened.
    pub epoch: Epoch,
    /// The digest of what was signed, or of the chain's event: the same evidence has the same.
    pub evidence: B256,
    /// What it says.
    pub fact: Fact,
}

/// There is no room for more evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record holds {MAX_EVIDENCE} pieces of evidence; hint: leave out what is older than a year")]
pub struct Full;

/// Evidence about one device: a set, so that neither order nor repetition matters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record(BTreeSet<Observation>);

impl Record {
    /// Takes a piece in.
    ///
    /// # Errors
    /// [`Full`].
    pub fn add(&mut self, observation: Observation) -> Result<(), Full> {
        if self.0.len() >= MAX_EVIDENCE && !self.0.contains(&observation) {
            return Err(Full);
        }
        self.0.insert(observation);
        Ok(())
    }

    /// What it comes to in epoch `now`, where one buyer counts with `cap` at most: a day at the highest price that a lease of the device
    /// was opened at. A lower cap would make it cheap to look diverse, and a provider cannot lower its highest price.
    #[must_use]
    pub fn reputation(&self, now: Epoch, cap: Money) -> Reputation {
        let mut sums = Sums::default();
        for observation in self.0.iter().filter(|observation| observation.epoch <= now) {
            sums.add(observation, weight(observation.epoch.age(now)));
        }
        sums.reputation(cap)
    }
}

/// `DECAY^age`, by squaring.
fn weight(age: u64) -> u128 {
    let (mut result, mut base, mut left) = (WHOLE, DECAY, age);
    while left > 0 && result > 0 {
        if left & 1 == 1 {
            result = result * base / WHOLE;
        }
        base = base * base / WHOLE;
        left >>= 1;
    }
    result
}

/// Weighted evidence, kind by kind. Sums of integers: their order does not matter.
#[derive(Default)]
struct Sums {
    /// Good ones, and all.
    probes: [u128; 2],
    challenges: [u128; 2],
    strikes: u128,
    paid: BTreeMap<BuyerId, U256>,
}

impl Sums {
    fn add(&mut self, observation: &Observation, weight: u128) {
        let count = |[good, all]: &mut [u128; 2], is_good: bool| {
            *good += if is_good { weight } else { 0 };
            *all += weight;
        };
        match observation.fact {
            Fact::Probe { up } => count(&mut self.probes, up),
            Fact::Challenge { passed } => count(&mut self.challenges, passed),
            Fact::Payment { buyer, amount } => {
                let paid = self.paid.entry(buyer).or_default();
                *paid += U256::from(amount.base_units()) * U256::from(weight);
            }
            Fact::Strike(strike) => self.strikes += strike.weight() * weight,
        }
    }

    fn reputation(self, cap: Money) -> Reputation {
        let cap = U256::from(cap.base_units()) * U256::from(WHOLE);
        let turnover = self.paid.values().fold(U256::ZERO, |sum, paid| sum + *paid.min(&cap));
        let components = Components {
            uptime: lower_bound(self.probes[0], self.probes[1]),
            challenges: lower_bound(self.challenges[0], self.challenges[1]),
            diversity: Share::of(turnover, turnover + cap * U256::from(HALF_AT)),
            strikes: Share::of(U256::from(2 * WHOLE), U256::from(2 * WHOLE + self.strikes)),
        };
        let buyers = u128::try_from(self.paid.len()).unwrap_or(u128::MAX);
        let lacks = [
            (self.probes[1] < Lack::PROBES * WHOLE, Lack::Probes),
            (self.challenges[1] < Lack::CHALLENGES * WHOLE, Lack::Challenges),
            (buyers < Lack::BUYERS, Lack::Buyers),
        ];
        let lacks: Vec<Lack> =
            lacks.into_iter().filter_map(|(is_short, lack)| is_short.then_some(lack)).collect();
        let standing = if lacks.is_empty() {
            Standing::Rated(components.score())
        } else {
            Standing::InsufficientData(lacks)
        };
        Reputation { standing, components }
    }
}

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lack {
    /// Fewer than a day's probes of three sentinels, weighted.
    Probes,
    /// Fewer than eight challenges, weighted.
    Challenges,
    /// Fewer than three buyers paid.
    Buyers,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probes => "probes",
            Self::Challenges => "challenges",
            Self::Buyers => "paying buyers",
        })
    }
}

impl Lack {
    const PROBES: u128 = 72;
    const CHALLENGES: u128 = 8;
    const BUYERS: u128 = 3;
}

/// The four factors, each between nothing and one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Components {
    /// What the share of answered probes is at least.
    pub uptime: Share,
    /// What the share of passed challenges is at least.
    pub challenges: Share,
    /// How much was paid by how many.
    pub diversity: Share,
    /// One without strikes.
    pub strikes: Share,
}

impl Components {
    /// The product of all four, rounded down once.
    #[must_use]
    pub fn score(&self) -> Share {
        let factors = [self.uptime, self.challenges, self.diversity, self.strikes];
        let one = U256::from(Share::ONE.0);
        let product = factors.into_iter().fold(U256::from(1), |product, share| product * U256::from(share.0));
        Share::of(product, one * one * one * one)
    }
}

/// Whether there is enough to go by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// A newcomer, or one that nobody looks at.
    InsufficientData(Vec<Lack>),
    /// The score.
    Rated(Share),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsufficientData(_) => f.write_str("insufficient data"),
            Self::Rated(score) => score.fmt(f),
        }
    }
}

impl Reputation {
    /// What the share of answered probes is at least, in basis points; none while too few were made.
    #[must_use]
    pub fn reliability(&self) -> Option<u16> {
        let lacks =
            matches!(&self.standing, Standing::InsufficientData(lacks) if lacks.contains(&Lack::Probes));
        (!lacks).then(|| u16::try_from(self.components.uptime.billionths() / 100_000).unwrap_or(u16::MAX))
    }
}

/// A device's reputation, with what it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reputation {
    /// The score, or why there is none.
    pub standing: Standing,
    /// What it is made of, whatever the standing.
    pub components: Components,
}
