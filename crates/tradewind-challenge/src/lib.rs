//! The hardware challenge at speed: a device's engine answers it, a watcher's verifier checks it.
//!
//! ```text
//! device   Engine (CPU here) ─ multiply ─► roots ─ checked by itself, then signed ─┐
//!          Engine ─ open row ─────────────────────────────────────────────┐        │
//! watcher  Secret ─► Verifier ◄────────────────────────────────────────────┴────────┘
//!                       └─ C_i·r = A_i·(B r) mod 2^61 − 1 ─► Holds | Wrong(one element)
//! ```
//!
//! `tradewind-proto` says what a right answer is; nothing here adds to that. The watcher's side and the device's share one
//! expansion of the matrices: eight hashes at a time, on as many threads as given.
//!
//! Failure paths: an engine whose own check fails signs nothing ([`AnswerError::Flipped`]); a row that does not lead to its root is
//! refused; a row that does and is wrong ends in a proof that the contract repeats.
//!
//! ```
//! use alloy_primitives::{Address, B256};
//! use tradewind_challenge::{Answer, CpuEngine, Engine, Secret, SelfCheck, Threads, Verifier, answer};
//! use tradewind_proto::challenge::{Challenge, Claim, Size};
//! use tradewind_proto::evidence::{Court, Epoch};
//! use tradewind_proto::ids::DeviceId;
//! use tradewind_proto::signature::SigningKey;
//!
//! let court = Court { chain_id: 1, contract: Address::repeat_byte(9) };
//! let device = DeviceId::new(B256::repeat_byte(1));
//! let challenge = Challenge { court, beacon: B256::repeat_byte(2), device, epoch: Epoch::new(3) };
//! let (size, key) = (Size::new(256)?, SigningKey::from_bytes([7; 32])?);
//!
//! let mut engine = CpuEngine::new(size, Threads::available(), 1 << 20);
//! let check = SelfCheck { secret: Secret::new([5; 32]), rows: 256 };
//! let signed = answer(&mut engine, &challenge, 2, &check, &key)?;
//!
//! let claim = Claim::accept(signed, &challenge, key.address(), size, 2)?;
//! let mut verifier = Verifier::new(claim, Secret::new([6; 32]), Threads::available());
//! for pick in verifier.picks(1, 32) {
//!     let opening = engine.open(pick.round, pick.row)?;
//!     assert_eq!(verifier.check(pick, &opening)?, Answer::Holds);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod any;
mod cpu;
mod expansion;
mod field;
mod gpu;
mod memory;
mod product;
mod prover;
#[cfg(test)]
mod tests;
mod threads;
mod verifier;
mod wide;

pub use any::{AnyEngine, AnyError};
pub use cpu::{CpuEngine, CpuError};
pub use gpu::{GpuEngine, GpuError, GpuWalker, Pick as GpuPick};
pub use memory::{CpuWalker, RoomError, Walked, Walker};
pub use product::rows;
pub use prover::{AnswerError, Engine, SelfCheck, answer};
pub use threads::Threads;
pub use verifier::{Answer, Pick, Projection, Secret, Verifier, VerifierError};
