//! The program that the tests' process runtime re-executes.

use std::process::ExitCode;

fn main() -> ExitCode {
    tradewind_provider::process::dispatch().unwrap_or(ExitCode::FAILURE)
}
