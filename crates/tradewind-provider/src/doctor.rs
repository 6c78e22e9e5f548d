//! What keeps a machine from lending, or makes it a worse provider than it could be, each with its fix.
//!
//! ```text
//! the files that a kernel and its programs keep (Host) ─┐
//! Inventory, runtimes' readiness, measured speed ───────┴─► Diagnosis: area, verdict, what was found, what to do
//! ```
//!
//! Everything is read below a root directory, so that a test can have a machine of its own. What only a running program can
//! tell (an engine, a chain, the mesh) is examined by whoever has it, and put beside these.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::inventory::Inventory;
use crate::runtime::Readiness;

mod accelerators;
mod clock;
mod platform;
mod storage;

/// How grave something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, and could be better or safer.
    Weak,
    /// Leases would fail, or are refused.
    Bad,
}

/// One thing that was examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// What it is about: `kernel`, `accelerators`, `docker`.
    pub area: String,
    /// How grave it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; nothing where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Diagnosis {
    /// All is well.
    pub fn good(area: &str, found: impl Into<String>) -> Self {
        Self { area: area.into(), verdict: Verdict::Good, found: found.into(), fix: None }
    }

    /// It could be better.
    pub fn weak(area: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        let fix = Some(fix.into());
        Self { area: area.into(), verdict: Verdict::Weak, found: found.into(), fix }
    }

    /// It has to change.
    pub fn bad(area: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, ..Self::weak(area, found, fix) }
    }
}

/// A machine's files.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Host {
    /// The machine whose files lie below `root`.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A file's text without the white space around it.
    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    /// Names in a directory, in order; none where it is not there.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Examines platform, clock, disk and accelerators. `state_dir` is where work directories lie, on this very machine.
    #[must_use]
    pub fn examine(&self, inventory: &Inventory, state_dir: &Path) -> Vec<Diagnosis> {
        let mut findings = platform::examine(self);
        findings.push(clock::examine(self));
        findings.extend(storage::examine(self, inventory, state_dir));
        findings.extend(accelerators::examine(self, inventory));
        findings
    }
}

/// What a runtime says of itself.
#[must_use]
pub fn of_runtime(name: &str, readiness: &Readiness) -> Vec<Diagnosis> {
    let says = |finding: &crate::runtime::Finding| {
        let make = if finding.grave { Diagnosis::bad } else { Diagnosis::weak };
        make(name, &finding.problem, &finding.fix)
    };
    let mut findings: Vec<Diagnosis> = readiness.findings.iter().map(says).collect();
    if readiness.ready {
        findings.insert(0, Diagnosis::good(name, "starts workloads"));
    }
    findings
}

#[cfg(test)]
mod tests;
