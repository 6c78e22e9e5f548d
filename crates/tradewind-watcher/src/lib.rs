//! The watcher: seats that probe devices, sit in the court, and bring proofs.
//!
//! ```text
//!            ┌─ Beat (a device) ── pings, roots, rows, walks ──► silent? open a case · contradicts itself? wrong? prove it
//! Watcher ───┤                                                       │
//!            └─ Hearing (a case) ─ panel probes ─► Note stored ─► commit ─► vote ─► lapse, execute, close
//! ```
//!
//! One node holds any number of seats of one account; each seat has a key of its own. Rules are proto's
//! ([`tradewind_proto::watching`], [`tradewind_proto::probe`], [`tradewind_proto::challenge`]), money moves by the chain's client.
//!
//! What a seat finds is stored before it is committed to, so a node that is killed says the same again. Everything else follows from
//! the chain: a step that another watcher took is found done.
//!
//! Failure paths: a device whose address is not known, or a watcher that reaches nobody, accuses nobody; a chain that does not answer
//! delays steps, and the windows decide; a beacon that stalls leaves a case undecided.

mod ballot;
mod beat;
mod census;
mod gazette;
mod hearing;
mod line;
mod note;
mod proof;
mod roster;
mod testimony;
mod walk;
mod watcher;

pub use roster::seat_key;
pub use watcher::{ChallengeConfig, Parts, SeatStatus, Status, Watcher, WatcherConfig, WatcherError};
