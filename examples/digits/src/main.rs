//! Trains a small neural network on the UCI optical-recognition digits: the workload that Tradewind's
//! demo, tests and benchmarks rent machines for.
//!
//! ```text
//! data/digits.bin ─► Dataset ─► train set ──► Trainer ──epoch──► model.bin
//!                            └► held-out set ─────────accuracy─► metrics.json
//!                                             │  ▲
//!                                             ▼  │ resume
//!                                           checkpoint
//! ```
//!
//! A run is a pure function of the data, the seed and the number of epochs: killed and resumed from its
//! checkpoint, it ends with the same bytes as a run that nobody touched. Sent SIGTERM it finishes the
//! epoch, writes a checkpoint and exits with 143.

mod checkpoint;
mod dataset;
mod durable;
mod network;
mod training;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use clap::Parser;
use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::dataset::{Dataset, Split};
use crate::network::Network;
use crate::training::{Settings, Trainer};

/// What a shell reports for a process that SIGTERM ended.
const EXIT_TERMINATED: u8 = 143;

/// Trains a classifier on the UCI optical-recognition digits.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Reads the digits from this file instead of the copy inside the program.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Writes `model.bin` and `metrics.json` into this directory.
    #[arg(long, value_name = "DIR", env = "TRADEWIND_OUTPUT", default_value = "output")]
    output: PathBuf,
    /// Keeps a checkpoint in this directory and resumes from it.
    #[arg(long, value_name = "DIR", env = "TRADEWIND_CHECKPOINT_PATH")]
    checkpoint: Option<PathBuf>,
    /// Writes the checkpoint after every so many epochs.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    checkpoint_every: u32,
    /// Says how far it is after every so many epochs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    log_every: u32,
    /// How often the network sees the training set.
    #[arg(long, value_name = "N", env = "DIGITS_EPOCHS", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    epochs: u32,
    /// Decides the split, the first weights and the order of the images.
    #[arg(long, value_name = "N", env = "DIGITS_SEED", default_value_t = 7)]
    seed: u64,
    /// Width of the hidden layer.
    #[arg(long, value_name = "N", default_value_t = 512)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=4096))]
    hidden: u16,
    /// Instead of training, measures this model on the held-out images of the seed.
    #[arg(long, value_name = "FILE", conflicts_with = "checkpoint")]
    evaluate: Option<PathBuf>,
}

/// What `metrics.json` holds; nothing in it depends on the machine or the clock.
#[derive(Debug, Serialize)]
struct Metrics {
    accuracy: f64,
    correct: u32,
    held_out: u32,
    trained_on: u32,
    loss: f32,
    epochs: u32,
    hidden: u16,
    parameters: u32,
    seed: u64,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let data = match &options.data {
        Some(path) => Dataset::parse(
            &std::fs::read(path).with_context(|| format!("cannot read the digits in {}", path.display()))?,
        )
        .with_context(|| format!("{} does not hold digits", path.display()))?,
        None => Dataset::embedded()?,
    };
    let split = data.split(options.seed);
    match &options.evaluate {
        Some(model) => evaluate(model, &split),
        None => train(&options, &data, &split),
    }
}

fn evaluate(model: &Path, split: &Split) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(model).with_context(|| format!("cannot read {}", model.display()))?;
    let network =
        Network::from_bytes(&bytes).with_context(|| format!("{} is not a model", model.display()))?;
    let score = network.score(&split.held_out);
    say(&format!("accuracy {:.4} ({} of {})", score.accuracy(), score.correct, score.total))?;
    Ok(ExitCode::SUCCESS)
}

fn train(options: &Options, data: &Dataset, split: &Split) -> anyhow::Result<ExitCode> {
    let terminated = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&terminated))
            .context("cannot listen for the signal to stop")?;
    }
    std::fs::create_dir_all(&options.output)
        .with_context(|| format!("cannot make the output directory {}", options.output.display()))?;
    let settings = Settings { seed: options.seed, hidden: options.hidden, data: data.digest() };
    let mut trainer = restore(options.checkpoint.as_deref(), settings)?;
    say(&format!(
        "{} digits to learn from, {} held out, network 64-{}-10, seed {}",
        split.train.len(),
        split.held_out.len(),
        options.hidden,
        options.seed
    ))?;
    if trainer.epoch() > options.epochs {
        bail!(
            "the checkpoint is at epoch {}, past --epochs {}; ask for more or name another directory",
            trainer.epoch(),
            options.epochs
        );
    }
    if trainer.epoch() > 0 {
        say(&format!("resumed after epoch {}", trainer.epoch()))?;
    }
    while trainer.epoch() < options.epochs {
        if terminated.load(Ordering::Relaxed) {
            save(options.checkpoint.as_deref(), &trainer)?;
            let kept = if options.checkpoint.is_some() { "checkpoint written" } else { "nothing kept" };
            say(&format!("stopped after epoch {}, {kept}", trainer.epoch()))?;
            return Ok(ExitCode::from(EXIT_TERMINATED));
        }
        let loss = trainer.run_epoch(&split.train);
        let accuracy = trainer.network().score(&split.held_out).accuracy();
        if trainer.epoch().is_multiple_of(options.log_every) {
            let (epoch, epochs) = (trainer.epoch(), options.epochs);
            say(&format!("epoch {epoch}/{epochs} loss {loss:.4} accuracy {accuracy:.4}"))?;
        }
        if trainer.epoch().is_multiple_of(options.checkpoint_every) {
            save(options.checkpoint.as_deref(), &trainer)?;
        }
    }
    save(options.checkpoint.as_deref(), &trainer)?;
    write_results(options, &trainer, split)?;
    Ok(ExitCode::SUCCESS)
}

fn restore(directory: Option<&Path>, settings: Settings) -> anyhow::Result<Trainer> {
    let Some(directory) = directory else { return Ok(Trainer::new(settings)) };
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the checkpoint directory {}", directory.display()))?;
    match Checkpoint::load(directory) {
        Ok(None) => Ok(Trainer::new(settings)),
        Ok(Some(checkpoint)) => Trainer::resume(checkpoint, settings)
            .with_context(|| format!("cannot resume from {}", directory.display())),
        Err(error) if error.is_damage() => {
            writeln!(std::io::stderr(), "starting again: {error}")?;
            Ok(Trainer::new(settings))
        }
        Err(error) => Err(error.into()),
    }
}

fn save(directory: Option<&Path>, trainer: &Trainer) -> anyhow::Result<()> {
    let Some(directory) = directory else { return Ok(()) };
    trainer
        .checkpoint()
        .save(directory)
        .with_context(|| format!("cannot write the checkpoint in {}", directory.display()))
}

fn write_results(options: &Options, trainer: &Trainer, split: &Split) -> anyhow::Result<()> {
    let score = trainer.network().score(&split.held_out);
    let metrics = Metrics {
        accuracy: score.accuracy(),
        correct: score.correct,
        held_out: score.total,
        trained_on: u32::try_from(split.train.len())?,
        loss: trainer.network().loss(&split.train),
        epochs: trainer.epoch(),
        hidden: options.hidden,
        parameters: u32::try_from(trainer.network().parameters().len())?,
        seed: options.seed,
    };
    let mut json = serde_json::to_vec_pretty(&metrics)?;
    json.push(b'\n');
    for (name, bytes) in [("model.bin", trainer.network().to_bytes()), ("metrics.json", json)] {
        let path = options.output.join(name);
        durable::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    say(&format!("accuracy {:.4} ({} of {})", metrics.accuracy, metrics.correct, metrics.held_out))
}

/// Writes one line and flushes it, so that whoever follows the log sees it now.
fn say(line: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(())
}
