//! A reference model of registry, vault, leases and court, driven with the deployed contracts by the same random calls.
//!
//! ```text
//!              ┌─► Reference: the protocol's rules on a double-entry book ─► accepted or refused, told ─┐
//! seed ─► Draw ┤                                                                                        ├─► equal
//!              └─► Chain: the contracts on an embedded ledger ─► receipt or revert, every view ─────────┘
//! ```
//!
//! The model is written from the protocol and the contracts' interfaces. After every call both have accepted, or both
//! refused with the same error; every balance, pool, device, account, lease, seat and case that the call could change is
//! equal to the unit; and the numbered invariants hold. Every few calls all others are compared too, so that nothing
//! changes unseen. At the end everything is paused and everybody takes home what is theirs.
//!
//! Only tests depend on it. The rules of money are code and not tests of their own, so that mutations of them are code
//! too, which the comparison must find.
//!
//! ```no_run
//! let (counts, _) = tradewind_model::run(1, 2_500);
//! assert!(counts["openCase"].accepted > 0);
//! ```

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test cannot set up has failed it"
)]

use std::collections::BTreeMap;

mod book;
mod call;
mod chain;
mod court;
mod draw;
mod invariants;
mod leases;
mod reached;
mod reference;
mod refusal;
mod registry;
mod remedies;
mod statement;
mod terms;
mod trial;
mod vault;
mod wire;

/// What became of the calls of one kind, or how often something came about.
#[derive(Debug, Clone, Default)]
pub struct Count {
    /// How often it was accepted.
    pub accepted: u64,
    /// How often it was refused, by the error.
    pub refused: BTreeMap<String, u64>,
}

impl Count {
    /// How often it was refused for whatever reason.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Adds what another run counted.
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        for (reason, times) in other.refused {
            *self.refused.entry(reason).or_default() += times;
        }
    }
}

/// By the kind of call.
pub type Counts = BTreeMap<&'static str, Count>;

/// What came about, and how often: the states that a run has to have been in.
pub type Reached = BTreeMap<&'static str, u64>;

/// Makes `calls` random calls from `seed` in both worlds.
///
/// # Panics
/// At the first difference, or the first invariant that does not hold; the message says how to repeat it.
#[must_use]
pub fn run(seed: u64, calls: u64) -> (Counts, Reached) {
    trial::run(seed, calls)
}
