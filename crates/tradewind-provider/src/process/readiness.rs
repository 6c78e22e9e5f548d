//! Whether the host lets jobs be sandboxed: asked by running an empty one, and explained from the kernel's settings.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::path::Path;

use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::{Bytes, Seconds};
use tradewind_proto::workload::{Command, Limits, Network, Secrets, Stop, WorkloadSpec};

use super::{ProcessRuntime, launch};
use crate::runtime::{Finding, Readiness, Runtime, RuntimeError, Volumes};

/// Runs an empty job, and says what stands in its way or what is weaker than it could be.
pub(super) async fn probe(runtime: &ProcessRuntime, privileged: bool, missing: &[&str]) -> Readiness {
    let mut findings = weaknesses(privileged, missing, launch::landlock_works());
    let place = runtime.workshop.jobs().with_file_name("");
    let failure = run_empty_job(runtime, &place).await.err();
    if let Some(error) = &failure {
        findings.insert(0, explain(error, &|path| fs::read_to_string(path).ok()));
    }
    Readiness { ready: failure.is_none(), findings }
}

/// Starts a job that does nothing, with its work directory in `place`, and leaves nothing of it.
pub(crate) async fn run_empty_job(runtime: &dyn Runtime, place: &Path) -> Result<(), RuntimeError> {
    let lease = LeaseId::new(rand::random::<[u8; 32]>().into());
    let work = place.join(format!("probe-{}", lease.short()));
    let doing = || RuntimeError::io("make a work directory for a probe");
    fs::create_dir(&work).map_err(doing())?;
    let spec = empty_job(lease);
    let volumes = Volumes { work: work.clone(), until: None };
    let outcome = runtime.start(&spec, &Secrets::default(), &volumes).await;
    let cleared = runtime.stop(lease, Seconds::new(0)).await;
    let removed = runtime.remove(lease).await;
    let deleted = fs::remove_dir_all(&work).map_err(doing());
    outcome.and(cleared).and(removed).and(deleted)
}

/// A job that does nothing.
pub(crate) fn empty_job(lease: LeaseId) -> WorkloadSpec {
    WorkloadSpec {
        lease,
        image: None,
        setup: None,
        run: Command::Shell(":".into()),
        envs: BTreeMap::new(),
        limits: Limits {
            cpu_millis: 1000,
            memory: Bytes::mib(64),
            disk: Bytes::mib(1),
            pids: 16,
            log: Bytes::mib(1),
            gpus: Vec::new(),
            egress: None,
        },
        network: Network::None,
        ports: Vec::new(),
        stop: Stop::default(),
        keep: None,
        registry: None,
    }
}

fn weaknesses(privileged: bool, missing: &[&str], landlock: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !missing.is_empty() {
        findings.push(Finding {
            grave: false,
            problem: format!(
                "no control group for {}: limits are rlimits and polling, which a job can exceed for a moment",
                missing.join(", ")
            ),
            fix: "run the node as a systemd service with Delegate=yes, or as root".into(),
        });
    }
    if !landlock {
        findings.push(Finding {
            grave: false,
            problem: "Landlock is off: namespaces and file permissions alone keep jobs in".into(),
            fix: "boot with `landlock` in the kernel's lsm= list (Linux 5.13 or later)".into(),
        });
    }
    if !privileged {
        findings.push(Finding {
            grave: false,
            problem: "jobs run as this user, all leases as the same".into(),
            fix: "run the node as root, so that every lease gets a user of its own".into(),
        });
    }
    findings
}

fn explain(error: &RuntimeError, read: &dyn Fn(&str) -> Option<String>) -> Finding {
    let is = |path, value| read(path).is_some_and(|text| text.trim() == value);
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    let problem = format!("an empty job does not start: {error}{cause}");
    let fix = if is("/proc/sys/user/max_user_namespaces", "0") {
        "allow user namespaces: sysctl -w user.max_user_namespaces=65536".into()
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1".into()
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "let AppArmor allow user namespaces to this program: in /etc/apparmor.d/tradewind write \
         `abi <abi/4.0>, include <tunables/global> profile tradewind /path/to/tradewind flags=(unconfined) { userns, }`, \
         then apparmor_parser -r /etc/apparmor.d/tradewind"
            .into()
    } else {
        "see the message; user, mount, pid and network namespaces must be allowed to this user".into()
    };
    Finding { grave: true, problem, fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_setting_that_forbids_it_has_its_fix() {
        let error = RuntimeError::io("make the sandbox")(std::io::Error::other("unshare() => EPERM"));
        for (setting, value, fix) in [
            ("/proc/sys/user/max_user_namespaces", "0\n", "max_user_namespaces="),
            ("/proc/sys/kernel/unprivileged_userns_clone", "0\n", "unprivileged_userns_clone=1"),
            ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "apparmor_parser"),
            ("/nothing", "", "see the message"),
        ] {
            let finding = explain(&error, &|path| (path == setting).then(|| value.to_owned()));
            assert!(finding.fix.contains(fix), "{finding:?}");
            assert!(finding.problem.contains("EPERM"), "{finding:?}");
        }
    }

    #[test]
    fn what_is_weaker_than_it_could_be_is_said() {
        assert!(weaknesses(true, &[], true).is_empty());
        let all = weaknesses(false, &["memory", "pids"], false);
        assert_eq!(all.len(), 3);
        assert!(all.iter().any(|finding| finding.problem.contains("memory, pids")));
    }
}
