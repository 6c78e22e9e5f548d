//! What integration tests of several crates stand on: [`anvil`], another chain than our own, [`cluster`], Slurm's, [`net`],
//! machines that cannot reach each other, [`disk`], one that can be taken out, [`maker`], of trusted hardware that nobody built, [`web`],
//! sites that inputs come from, and [`git`], repositories on one. Only tests depend on it.
//!
//! ```no_run
//! let net = tradewind_testbed::net::Net::new();
//! assert!(!net.reaches("left", "10.71.2.2"));
//! ```

#![expect(clippy::expect_used, clippy::panic, reason = "what a test cannot set up has failed it")]

pub mod anvil;
pub mod cluster;
pub mod disk;
pub mod git;
pub mod maker;
pub mod net;
pub mod web;
