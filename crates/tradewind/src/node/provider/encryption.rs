//! Whether what jobs leave on this machine's disk is encrypted: their work directories, and copies of their inputs and outputs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tradewind_provider::at_rest::{self, AtRestError, State};
use tradewind_provider::doctor::{Diagnosis, Verdict};
use tradewind_provider::runtime::Runtime;

use super::SLURM;
use crate::node::config::Encrypt;

/// Blobs, in the data directory.
pub(crate) const BLOBS: &str = "blobs";
/// What to do about a file system that encrypts nothing.
const FIX: &str = "on ext4, `tune2fs -O encrypt DEVICE` turns it on (not on a disk that an old GRUB boots from); else move \
    `data_dir` in node.toml to an ext4 or f2fs that has it";

/// What of jobs is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encrypted {
    /// Work directories.
    pub(super) work: bool,
    /// Everything, so that an offer may say so.
    pub(super) all: bool,
}

/// Has the blobs of a node that only hosts encrypted, before they are opened.
pub(crate) fn keep_blobs(wanted: Encrypt, dir: &Path) -> anyhow::Result<()> {
    if wanted == Encrypt::Off {
        return Ok(());
    }
    match at_rest::keep(dir) {
        Err(error) if wanted == Encrypt::Required => Err(required(anyhow!("{}: {error}", dir.display()))),
        Err(error) => {
            tracing::info!(dir = %dir.display(), %error, "copies of jobs' files are not encrypted");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// What of jobs is encrypted here.
pub(super) fn of(
    wanted: Encrypt,
    data_dir: &Path,
    state_dir: &Path,
    runtimes: &BTreeMap<&'static str, Arc<dyn Runtime>>,
) -> anyhow::Result<Encrypted> {
    if wanted == Encrypt::Off {
        return Ok(Encrypted { work: false, all: false });
    }
    let work = if runtimes.contains_key(SLURM) {
        Err(anyhow!("the runtime `{SLURM}` keeps a job's files in the cluster's shared directory"))
    } else {
        at_rest::probe(state_dir).with_context(|| format!("no directory in {} can be", state_dir.display()))
    };
    let blobs = at_rest::state(&data_dir.join(BLOBS));
    let blobs = match blobs.context("the directory of blobs cannot be read") {
        Ok(State::Open) => Ok(()),
        Ok(State::Plain | State::Locked) => Err(anyhow!(
            "copies of inputs and outputs are not: this node runs jobs of its own too (`[buyer]`), or {} is from before; \
             stop the node once no lease is left, delete it, and start the node again",
            data_dir.join(BLOBS).display()
        )),
        Err(error) => Err(error),
    };
    let found = Encrypted { work: work.is_ok(), all: work.is_ok() && blobs.is_ok() };
    match work.and(blobs) {
        Err(problem) if wanted == Encrypt::Required => Err(required(problem)),
        Err(problem) => {
            tracing::info!(
                problem = format!("{problem:#}"),
                "offers do not say that jobs are encrypted on disk"
            );
            Ok(found)
        }
        Ok(()) => Ok(found),
    }
}

fn required(problem: anyhow::Error) -> anyhow::Error {
    problem.context("`provider.encrypt` in node.toml is `required`, and not everything of a job is encrypted")
}

/// What `provider doctor` says of it.
pub(crate) fn examine(wanted: Encrypt, buys: bool, state_dir: &Path) -> Option<Diagnosis> {
    const AREA: &str = "encryption";
    let found = match at_rest::probe(state_dir) {
        _ if wanted == Encrypt::Off => return None,
        Ok(()) if buys => Diagnosis::weak(
            AREA,
            "work directories are encrypted on disk, copies of inputs and outputs are not: this node runs jobs of its own too",
            "to offer encrypted leases, remove `[buyer]` from node.toml and run your own jobs from another node",
        ),
        Ok(()) => Diagnosis::good(AREA, "what jobs leave on disk is encrypted, with keys in memory alone"),
        Err(AtRestError::Owned) => Diagnosis::weak(
            AREA,
            "the data directory is in one that you encrypt with another key: jobs have no keys of their own",
            "to offer encrypted leases, move `data_dir` in node.toml out of it",
        ),
        Err(error) => {
            Diagnosis::weak(AREA, format!("what jobs leave on disk is not encrypted: {error}"), FIX)
        }
    };
    let is_bad = wanted == Encrypt::Required && found.verdict == Verdict::Weak;
    Some(if is_bad { Diagnosis { verdict: Verdict::Bad, ..found } } else { found })
}
