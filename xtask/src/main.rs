//! The repository's own tasks: `cargo xtask <task>`.
//!
//! ```text
//! tidy    rules of the house that no linter knows      (make check)
//! digits  the example workload as one static program   (make demo, make test)
//! picture a terminal's text with its colours as an SVG (scripts/screenshots)
//! ```

#![expect(clippy::print_stdout, reason = "a task's result is what it prints")]

mod digits;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Runs one of the repository's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Checks the rules of the house that no linter knows.
    Tidy,
    /// Builds the digits workload as one static program and prints where it is.
    Digits,
    /// Draws a terminal's text with its colours, from stdin, as an SVG to stdout.
    Picture,
}

fn main() -> anyhow::Result<ExitCode> {
    let root = repository_root()?;
    match Arguments::parse().task {
        Task::Tidy => {
            let tree = tidy::Tree::of_checkout(&root)?;
            let findings = tidy::check(&tree);
            for finding in &findings {
                println!("{finding}");
            }
            if findings.is_empty() {
                println!("tidy: {} files, nothing to say", tree.files().len());
                return Ok(ExitCode::SUCCESS);
            }
            println!("tidy: {} to put right", findings.len());
            Ok(ExitCode::FAILURE)
        }
        Task::Digits => {
            println!("{}", digits::build(&root)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Task::Picture => {
            let text = std::io::read_to_string(std::io::stdin())?;
            println!("{}", anstyle_svg::Term::new().render_svg(text.trim_end()));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn repository_root() -> anyhow::Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .context("xtask stands one level below the repository's root")
}
