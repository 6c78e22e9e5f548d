//! The provider: inventory, runtimes, owner policy, metering, and one worker per lease.

pub mod runtime;
