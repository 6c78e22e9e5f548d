//! The rules of the market: what a job, an offer, a lease, a voucher and a workload are, and what each party may do next.
//!
//! Nothing here performs I/O, reads a clock or draws randomness. State machines take `now`, an input and a seed, and return
//! actions; the shells (`tradewind-chain`, `-mesh`, `-provider`, `-buyer`) execute them, and the simulator drives the same code.
//!
//! ```
//! use tradewind_proto::units::{Money, RatePerSecond, Seconds};
//!
//! let price = RatePerSecond::per_hour(Money::parse("0.36", 6)?);
//! assert_eq!(price.over(Seconds::new(60)).display(6), "0.006");
//! # Ok::<(), tradewind_proto::units::UnitError>(())
//! ```

pub mod access;
pub mod attestation;
pub mod book;
pub mod bulletin;
pub mod challenge;
pub mod claim;
pub mod conversation;
pub mod delegation;
pub mod egress;
pub mod evidence;
pub mod git;
pub mod hosting;
pub mod idle;
pub mod ids;
pub mod job;
pub mod ladder;
pub mod lease;
pub mod lending;
pub mod manifest;
pub mod meter;
pub mod negotiation;
pub mod odds;
pub mod offer;
pub mod owner;
pub mod place;
pub mod plan;
pub mod probe;
pub mod profile;
pub mod report;
pub mod reputation;
pub mod saving;
pub mod signature;
pub mod sponsorship;
pub mod statement;
pub mod supervision;
pub mod terms;
pub mod testimony;
pub mod trace;
pub mod units;
pub mod voucher;
pub mod watching;
pub mod workload;
