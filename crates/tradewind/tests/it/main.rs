//! The binary, as a person uses it.
#![cfg(test)]

mod access;
mod at_rest;
mod backing;
mod default_job;
mod demo;
mod digits;
mod errors;
mod fault;
mod inputs;
mod kill;
mod market;
mod meter;
mod metrics;
mod node;
mod page;
mod place;
mod receipt;
mod relay;
mod resume;
mod rounds;
mod screens;
mod service;
mod setup;
mod stake;
mod supply;
mod traces;
mod upgrade;
mod watch;

use std::process::{Command, Output};

/// Runs the program with a home of its own.
fn tradewind(home: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tradewind"))
        .args(arguments)
        .env("TRADEWIND_HOME", home)
        .env_remove("TRADEWIND_SOCKET")
        .env_remove("TRADEWIND_PASSWORD")
        .env_remove("COLUMNS")
        .output()
        .expect("the program starts")
}
