//! Integration tests of the provider's runtimes, in one binary.
#![expect(clippy::expect_used, clippy::panic, reason = "a test says what it expected")]

mod attest;
mod conformance;
mod docker;
mod process;
mod slurm;
