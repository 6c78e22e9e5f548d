//! The kernel, and what it runs in.

use super::{Diagnosis, Host};

/// The first kernel with everything that sandboxes use: Landlock came with 5.13.
const KERNEL: (u32, u32) = (5, 13);
/// Controllers that limits are made of.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

pub(super) fn examine(host: &Host) -> Vec<Diagnosis> {
    let release = host.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut findings = vec![kernel(&release)];
    if release.to_ascii_lowercase().contains("microsoft") {
        findings.extend(wsl(host));
    }
    if host.has("/.dockerenv") || host.has("/run/.containerenv") {
        findings.push(Diagnosis::weak(
            "platform",
            "the node runs inside a container: what it measures and limits is the container's",
            "run the node on the machine itself",
        ));
    }
    findings.push(control_groups(host));
    findings
}

fn kernel(release: &str) -> Diagnosis {
    let mut numbers = release.split(|sign: char| !sign.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= KERNEL => {
            Diagnosis::good("kernel", format!("Linux {release}"))
        }
        (Some(Ok(_)), Some(Ok(_))) => Diagnosis::weak(
            "kernel",
            format!("Linux {release}: too old for Landlock, which keeps jobs off your files"),
            format!("update to Linux {}.{} or newer", KERNEL.0, KERNEL.1),
        ),
        _ => Diagnosis::weak("kernel", "its release cannot be read", "mount /proc"),
    }
}

/// What the Windows Subsystem for Linux lacks.
fn wsl(host: &Host) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    if !host.has("/run/systemd/system") {
        findings.push(Diagnosis::weak(
            "wsl",
            "WSL runs without systemd: nothing starts the node again, and jobs get no control groups",
            "write `[boot]` and `systemd=true` into /etc/wsl.conf, then run `wsl --shutdown` in Windows",
        ));
    }
    let card = host.has("/dev/dxg");
    if card && !host.has("/usr/lib/wsl/lib/libnvidia-ml.so.1") {
        findings.push(Diagnosis::weak(
            "wsl",
            "Windows lends its GPU, and NVIDIA's library is not there",
            "install NVIDIA's driver in Windows, and none inside WSL; then run `wsl --shutdown`",
        ));
    }
    findings.push(Diagnosis::weak(
        "wsl",
        "WSL stands behind Windows' own address translation, and sleeps when Windows does",
        "write `[wsl2]` and `networkingMode=mirrored` into %UserProfile%\\.wslconfig, and switch sleep off",
    ));
    findings
}

fn control_groups(host: &Host) -> Diagnosis {
    let Some(controllers) = host.text("/sys/fs/cgroup/cgroup.controllers") else {
        return if host.has("/sys/fs/cgroup/memory") {
            Diagnosis::good("control groups", "version 1")
        } else {
            Diagnosis::bad(
                "control groups",
                "none are mounted: a job could take the whole machine",
                "mount them, as systemd does: mount -t cgroup2 none /sys/fs/cgroup",
            )
        };
    };
    let there: Vec<&str> = controllers.split_whitespace().collect();
    let missing: Vec<&str> = CONTROLLERS.into_iter().filter(|name| !there.contains(name)).collect();
    if missing.is_empty() {
        return Diagnosis::good("control groups", "version 2");
    }
    Diagnosis::weak(
        "control groups",
        format!("version 2 without {}", missing.join(", ")),
        "boot without `cgroup_disable=`, and delegate them to the node: Delegate=yes in its unit",
    )
}
