//! The provider: inventory, runtimes, owner policy, metering, and one worker per lease.

pub mod agent;
pub mod at_rest;
pub mod attest;
pub mod docker;
pub mod doctor;
pub mod inventory;
pub mod process;
pub mod runtime;
pub mod senses;
pub mod slurm;
pub mod tee;
pub mod web;
