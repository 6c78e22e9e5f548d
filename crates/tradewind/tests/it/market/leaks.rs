//! What is left on this machine of leases that are over: one line for each thing, so that a count is the length of a list.

use std::path::{Path, PathBuf};

use tradewind_proto::ids::LeaseId;

/// Everything of these leases and of the node in `dir` that has no owner any more. `node` is the node's own process.
pub(super) fn left_behind(dir: &Path, node: u32, leases: &[LeaseId]) -> Vec<String> {
    let mut left = Vec::new();
    for kept in ["runtime/process/jobs", "runtime/process/users", "provider/work"] {
        left.extend(entries(&dir.join(kept)).into_iter().map(|path| format!("file {}", path.display())));
    }
    let names: Vec<String> =
        leases.iter().map(|lease| format!("tradewind-{}", hex::encode(&lease.get()[..16]))).collect();
    groups(Path::new("/sys/fs/cgroup"), &names, &mut left);
    for process in entries(Path::new("/proc")) {
        let number = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        if number.is_some_and(|number| number != node) {
            left.extend(of_process(&process, dir));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let of_node = mounts.lines().filter(|line| line.contains(&*dir.to_string_lossy()));
    left.extend(of_node.map(|line| format!("mount {line}")));
    left
}

/// A shim or launcher holds files of the node's, a job has its directory mounted.
fn of_process(process: &Path, dir: &Path) -> Option<String> {
    let holds = entries(&process.join("fd"))
        .iter()
        .any(|file| std::fs::read_link(file).is_ok_and(|target| target.starts_with(dir)));
    let mounts = std::fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    let lives_in = mounts.lines().any(|line| line.contains(&*dir.to_string_lossy()));
    let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    (holds || lives_in).then(|| format!("process {}: {line}", process.display()))
}

/// Control groups of these names, in every hierarchy.
fn groups(within: &Path, names: &[String], left: &mut Vec<String>) {
    for path in entries(within).into_iter().filter(|path| path.is_dir() && !path.is_symlink()) {
        if path.file_name().is_some_and(|name| names.iter().any(|own| *name == **own)) {
            left.push(format!("control group {}", path.display()));
        }
        groups(&path, names, left);
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
