//! The chain's client: one code path for any EVM chain and for the embedded ledger.
//!
//! ```text
//!   Ledger trait ◄── RelayedLedger ── Wallet signs ──► outbox ──┬─► Sender (has gas) ────► JSON-RPC
//!                          │                                    └─► a relayer's HTTP API ─► its Sender
//!                          ├── reads, heads ──────────────────────────────────────────────► JSON-RPC
//!                          └── events: cursor, reorgs, finality ──────────────────────────► (Failover)
//! ```

pub mod artifacts;
pub mod beacon;
pub mod bindings;
pub mod deploy;
pub mod drand;
pub mod encode;
pub mod events;
pub mod failover;
pub mod faucet;
pub mod keystore;
pub mod reader;
pub mod relayed;
pub mod relayer;
pub mod revert;
pub mod sender;
pub mod store;
pub mod wallet;

mod evidence;
mod shape;
