//! The chain's client: one code path for any EVM chain and for the embedded ledger.
//!
//! ```text
//!   Ledger trait ◄── RelayedLedger ── Wallet signs ──► outbox ──┬─► Sender (has gas) ────► JSON-RPC
//!                          │                                    └─► a relayer's HTTP API ─► its Sender
//!                          ├── reads, heads ──────────────────────────────────────────────► JSON-RPC
//!                          └── events: cursor, reorgs, finality ──────────────────────────► (Failover)
//! ```

pub mod bindings;
pub mod failover;
pub mod revert;
pub mod sender;
pub mod store;

mod shape;
