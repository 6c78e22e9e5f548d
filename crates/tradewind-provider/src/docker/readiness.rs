//! Whether this machine can hold a lease's container, and what to do where it cannot.

use bollard::models::SystemInfo;

use super::engine::OLDEST_API;
use super::remap::Remap;
use super::sandbox::Listed;
use super::{GpuMode, Shared, cache};
use crate::runtime::{Finding, Readiness};

fn grave(problem: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { grave: true, problem: problem.into(), fix: fix.into() }
}

fn minor(problem: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { grave: false, ..grave(problem, fix) }
}

/// Asks the engine and looks at the egress table.
pub(super) async fn check(shared: &Shared) -> Readiness {
    let mut findings = Vec::new();
    match shared.engine.info().await {
        Ok(info) => {
            findings.extend(of_version(shared).await);
            findings.extend(of_engine(&info));
            findings.extend(of_gpus(&info, shared.config.gpus));
            findings.extend(shared.config.sandbox.finding(&Listed::read(&info)));
        }
        Err(error) => findings.push(grave(
            format!("no Docker engine answers at {}: {error:?}", shared.engine.host()),
            "install one (Debian: apt-get install docker.io), start it, and let the agent's user into the group `docker`",
        )),
    }
    if let Some(problem) = shared.cache.damage().await {
        findings.push(grave(format!("no lease gets an image: {problem}"), cache::MEND));
    }
    if let Err(error) = shared.egress.ensure().await {
        findings.push(grave(
            format!("containers could reach the local network: {error}"),
            "install nftables and run the agent as root, or load the egress table at boot and name its mark in the configuration",
        ));
    }
    Readiness { ready: !findings.iter().any(|finding| finding.grave), findings }
}

async fn of_version(shared: &Shared) -> Option<Finding> {
    let found = shared.engine.api().await.ok()?;
    (found < OLDEST_API).then(|| {
        grave(format!("the engine speaks API {}.{}", found.0, found.1), "update it to 20.10 or newer")
    })
}

fn of_engine(info: &SystemInfo) -> Vec<Finding> {
    let mut checks = Vec::new();
    let security = info.security_options.clone().unwrap_or_default();
    let has = |word: &str| security.iter().any(|option| option.contains(&format!("name={word}")));
    if has("rootless") {
        checks.push(grave(
            "the engine is rootless: its bridges are in a namespace that the egress table does not cover",
            "use an engine that runs as root, or the process runtime",
        ));
    }
    match Remap::read(info) {
        Ok(None) => {}
        Ok(Some(_)) if rustix::process::geteuid().is_root() => {}
        Ok(Some(_)) => checks.push(grave(
            "the engine remaps users: only an agent that is root can give them their work directories",
            "run the agent as root, or remove `userns-remap` from the engine's configuration",
        )),
        Err(error) => checks.push(grave(
            error.to_string(),
            "leave the engine's data directory its name, or remove `userns-remap` from the engine's configuration",
        )),
    }
    if !has("seccomp") {
        checks.push(grave("the engine has no seccomp", "use a kernel and an engine with seccomp"));
    }
    for (what, there) in
        [("memory", info.memory_limit), ("processes", info.pids_limit), ("CPU time", info.cpu_cfs_quota)]
    {
        if there == Some(false) {
            checks.push(grave(
                format!("the engine cannot limit {what}"),
                "enable the cgroup controller in the kernel",
            ));
        }
    }
    if info.swap_limit == Some(false) {
        checks.push(minor(
            "the engine cannot limit swap: a job may use the host's",
            "boot with `swapaccount=1`, or without swap",
        ));
    }
    if info.live_restore_enabled == Some(false) {
        checks.push(minor(
            "restarting the engine ends every lease",
            "set `\"live-restore\": true` in /etc/docker/daemon.json",
        ));
    }
    checks
}

fn of_gpus(info: &SystemInfo, mode: GpuMode) -> Option<Finding> {
    let toolkit = info.runtimes.as_ref().is_some_and(|runtimes| runtimes.contains_key("nvidia"));
    let cdi = info.cdi_spec_dirs.as_ref().is_some_and(|places| !places.is_empty());
    match mode {
        GpuMode::Cdi if !cdi => Some(minor(
            "the engine has no Container Device Interface",
            "update it to 25 or newer and run `nvidia-ctk cdi generate`, or choose the toolkit",
        )),
        GpuMode::Toolkit if !toolkit => Some(minor(
            "the engine does not know NVIDIA's runtime",
            "install nvidia-container-toolkit and run `nvidia-ctk runtime configure --runtime=docker`",
        )),
        GpuMode::Off | GpuMode::Cdi | GpuMode::Toolkit | GpuMode::Rocm | GpuMode::Render => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(options: &[&str]) -> SystemInfo {
        SystemInfo {
            security_options: Some(options.iter().map(ToString::to_string).collect()),
            memory_limit: Some(true),
            pids_limit: Some(true),
            cpu_cfs_quota: Some(true),
            swap_limit: Some(true),
            live_restore_enabled: Some(true),
            ..SystemInfo::default()
        }
    }

    fn graves(info: &SystemInfo) -> Vec<String> {
        of_engine(info).into_iter().filter(|finding| finding.grave).map(|finding| finding.problem).collect()
    }

    #[test]
    fn an_engine_that_cannot_hold_a_job_is_refused() {
        assert_eq!(graves(&info(&["name=seccomp,profile=default"])), Vec::<String>::new());
        assert!(graves(&info(&[])).concat().contains("seccomp"));
        assert!(graves(&info(&["name=seccomp", "name=rootless"])).concat().contains("rootless"));
        assert!(graves(&info(&["name=seccomp", "name=userns"])).concat().contains("does not say to whom"));
        let root = Some("/var/lib/docker/165536.165536".to_owned());
        let remapping = SystemInfo { docker_root_dir: root, ..info(&["name=seccomp", "name=userns"]) };
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(graves(&remapping).concat().contains("only an agent that is root"), !is_root);
        let unlimited = SystemInfo { memory_limit: Some(false), ..info(&["name=seccomp"]) };
        assert!(graves(&unlimited).concat().contains("memory"));
    }

    #[test]
    fn an_engine_that_takes_leases_along_is_told_of() {
        let fragile = SystemInfo { live_restore_enabled: Some(false), ..info(&["name=seccomp"]) };
        let checks = of_engine(&fragile);
        assert!(checks.iter().any(|check| !check.grave && check.fix.contains("live-restore")));
    }
}
