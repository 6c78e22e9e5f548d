//! The same runtime for an agent that is not root: no users of its own to lend, no control groups, the same claims.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::{SHIM, fixture, shim};

/// A user that owns nothing on this host.
const NOBODY: u32 = 1_899_999_999;

#[tokio::test]
async fn this_host_is_ready() {
    let f = fixture().await;
    let readiness = f.runtime.readiness().await;
    assert!(readiness.ready, "{:?}", readiness.findings);
    assert!(f.runtime.list().await.expect("list").is_empty(), "the probe leaves nothing");
    let is_root = rustix::process::geteuid().is_root();
    let own_user =
        readiness.findings.iter().any(|finding| finding.problem.contains("all leases as the same"));
    assert_eq!(own_user, !is_root, "{:?}", readiness.findings);
}

/// Runs the rest of this module's siblings once more as a user without privileges. A run that is that user's already has.
#[tokio::test]
async fn an_agent_without_root_keeps_the_claims() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let root = tempfile::tempdir().expect("make a directory");
    let copy = |from: &Path, name: &str| {
        let to = root.path().join(name);
        std::fs::copy(from, &to).expect("copy a program");
        to
    };
    let tests = copy(&std::env::current_exe().expect("this program"), "it");
    let shim = copy(&shim(), "shim");
    chown(root.path(), Some(NOBODY), Some(NOBODY)).expect("give the directory away");
    let outcome = Command::new(tests)
        .args([
            "process::conformance",
            "process::escape_conformance",
            "process::unprivileged::this_host_is_ready",
            "process::sandbox",
            "process::limits::what_lies_in_a_closed",
        ])
        .args(["--test-threads", "4"])
        .env(SHIM, shim)
        .env("TMPDIR", root.path())
        .current_dir(root.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("run the tests as nobody");
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success(), "{said}\n{}", String::from_utf8_lossy(&outcome.stderr));
    assert!(said.contains(" 0 ignored") && !said.contains(" 0 passed"), "{said}");
}
