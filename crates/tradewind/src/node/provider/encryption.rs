//! Whether what jobs leave on this machine's disk is encrypted: their work directories, and copies of their inputs and outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tradewind_provider::at_rest::{self, AtRestError};
use tradewind_provider::doctor::{Diagnosis, Verdict};
use tradewind_provider::runtime::Runtime;

use super::SLURM;
use crate::node::config::Encrypt;

/// Blobs that have to outlive the machine's run, in the data directory.
const BLOBS: &str = "blobs";
/// Blobs of a node that only hosts, where they can be encrypted. A directory of its own: what it holds ends with the machine's run,
/// and no other node may keep its blobs there.
const LEASE_BLOBS: &str = "lease-blobs";
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

/// Where a node keeps its blobs. Those of a node that only hosts are its leases', which need not outlive the machine, and are encrypted;
/// `hosting` is what its owner wants of that.
pub(crate) fn blobs(hosting: Option<Encrypt>, data_dir: &Path) -> anyhow::Result<PathBuf> {
    let (plain, sealed) = (data_dir.join(BLOBS), data_dir.join(LEASE_BLOBS));
    let Some(wanted) = hosting.filter(|wanted| *wanted != Encrypt::Off) else {
        // From when this node did nothing but host. What leases that go on have left is shared anew.
        at_rest::end(&sealed).with_context(|| format!("cannot delete {}", sealed.display()))?;
        return Ok(plain);
    };
    match at_rest::keep(&sealed) {
        Ok(()) => Ok(sealed),
        Err(error) if wanted == Encrypt::Required => Err(required(anyhow!("{}: {error}", sealed.display()))),
        Err(error) => {
            tracing::info!(dir = %sealed.display(), %error, "copies of jobs' files are not encrypted");
            at_rest::end(&sealed).with_context(|| format!("cannot delete {}", sealed.display()))?;
            Ok(plain)
        }
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
    let blobs = if data_dir.join(LEASE_BLOBS).exists() {
        Ok(())
    } else {
        Err(anyhow!("copies of inputs and outputs are not: this node runs jobs of its own too (`[buyer]`)"))
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
    if wanted == Encrypt::Off {
        return None;
    }
    let found = match at_rest::probe(state_dir) {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use tradewind_provider::at_rest::State;
    use tradewind_testbed::disk::Disk;

    use super::*;

    #[test]
    fn blobs_that_have_to_last_are_found_again_whatever_a_node_was_in_between() {
        let disk = Disk::encrypting(32);
        let buyers = blobs(None, disk.path()).unwrap();
        fs::create_dir(&buyers).unwrap();
        fs::write(buyers.join("checkpoint"), "a week's work").unwrap();
        for hosting in [Encrypt::Auto, Encrypt::Required] {
            let leases = blobs(Some(hosting), disk.path()).unwrap();
            assert_eq!(at_rest::state(&leases).unwrap(), State::Open);
            fs::write(leases.join("output"), "a tenant's").unwrap();
            disk.restart();
            let leases = blobs(Some(hosting), disk.path()).unwrap();
            assert_eq!(at_rest::state(&leases).unwrap(), State::Open);
            assert!(!leases.join("output").exists(), "it ended with the machine's run");
            disk.restart();
            for lasting in [Some(Encrypt::Off), None] {
                let dir = blobs(lasting, disk.path()).unwrap();
                assert_eq!(fs::read_to_string(dir.join("checkpoint")).unwrap(), "a week's work");
                assert!(!leases.exists(), "nothing of a lease is left behind");
                disk.restart();
            }
        }
    }

    #[test]
    fn where_nothing_can_be_encrypted_blobs_are_kept_as_they_are_unless_that_is_required() {
        let shared = tempfile::tempdir_in("/dev/shm").unwrap();
        assert_eq!(blobs(Some(Encrypt::Auto), shared.path()).unwrap(), shared.path().join(BLOBS));
        assert!(!shared.path().join(LEASE_BLOBS).exists());
        let refused = blobs(Some(Encrypt::Required), shared.path()).unwrap_err();
        assert!(format!("{refused:#}").contains("its file system encrypts nothing"), "{refused:#}");
    }
}
