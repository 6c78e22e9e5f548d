//! The buyer: places jobs, supervises their leases, pays for evidence of work, and brings outputs home.
//!
//! [`buyer::Buyer`] is the node's role; [`job::record`] holds what it keeps of a job. [`meter::Meter`] is the role of a node that
//! meters leases of buyers which trust it; [`delegate`] is the buyer's side of that.

pub mod access;
pub mod buyer;
pub mod delegate;
mod image;
mod inputs;
pub mod job;
mod market;
pub mod meter;
mod place;
