//! One binary with all integration tests of the crate.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test cannot set up has failed it"
)]

mod client_audit;
mod client_court;
mod client_drand;
mod client_durability;
mod client_exits;
mod client_failover;
mod client_faults;
mod client_golden;
mod client_lease;
mod client_market;
mod client_relayer;
mod client_sender;
mod drand_relay;
mod embedded_anvil;
mod embedded_cast;
mod embedded_disk;
mod embedded_http;
mod embedded_kill;
mod embedded_reorg;
mod embedded_rules;
mod fixture;
