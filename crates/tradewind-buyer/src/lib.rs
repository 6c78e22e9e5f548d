//! The buyer: places jobs, supervises their leases, pays for evidence of work, and brings outputs home.
//!
//! [`buyer::Buyer`] is the node's role; [`job::record`] holds what it keeps of a job.

pub mod buyer;
mod image;
mod inputs;
pub mod job;
mod market;
