//! The chain: contract bindings, transactions out, domain events in, and the embedded ledger.
//!
//! ```text
//! provider, buyer, explorer ──► ledger::Ledger (domain types)
//!                                    │
//!                     simulations ◄──┴──► client: bindings, wallet, outbox, sender, events, relayer
//!                                                        │ JSON-RPC
//!                                            any EVM chain, or the embedded ledger
//! ```

pub mod client;
pub mod embedded;
pub mod ledger;
