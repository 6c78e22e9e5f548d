//! What is asked of `sbatch` for a lease.

use std::path::Path;

use signal_hook::consts::SIGUSR2;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::Limits;

use super::SlurmConfig;
use crate::process::ENTRY;

/// Slurm's notice that the place is given to another job.
pub(super) const NOTICE_SIGNAL: i32 = SIGUSR2;
/// What shim and sandbox take beside the job.
const OVERHEAD: u64 = 64 << 20;
/// Time beyond the lease, in which the agent ends it first.
pub(super) const SPARE_MINUTES: u64 = 2;
/// Without a lease's end: for a trial.
pub(super) const TRIAL_MINUTES: u64 = 10;

/// The job's name: the lease's, so that it is found again whatever was written down.
pub(super) fn name(lease: LeaseId) -> String {
    format!("tw-{}", hex::encode(lease.get()))
}

/// What a job takes of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) cpus: u32,
    pub(super) memory_mib: u64,
    pub(super) gpus: usize,
    pub(super) minutes: u64,
}

impl Size {
    pub(super) fn new(cpu_millis: u32, memory: Bytes, gpus: usize, seconds: Option<u64>) -> Self {
        Self {
            cpus: cpu_millis.div_ceil(1000).max(1),
            memory_mib: memory.get().saturating_add(OVERHEAD).div_ceil(1 << 20),
            gpus,
            minutes: seconds.map_or(TRIAL_MINUTES, |seconds| seconds.div_ceil(60) + SPARE_MINUTES),
        }
    }

    pub(super) fn of(limits: &Limits, seconds: Option<u64>) -> Self {
        Self::new(limits.cpu_millis, limits.memory, limits.gpus.len(), seconds)
    }
}

/// The options that say what is taken, and from where.
pub(super) fn place(config: &SlurmConfig, size: &Size) -> Vec<String> {
    let Size { cpus, memory_mib, gpus, minutes } = size;
    let mut options = vec![
        format!("--partition={}", config.partition),
        "--nodes=1".into(),
        "--ntasks=1".into(),
        format!("--cpus-per-task={cpus}"),
        format!("--mem={memory_mib}M"),
        format!("--time={minutes}"),
    ];
    options.extend(config.account.iter().map(|account| format!("--account={account}")));
    options.extend(config.qos.iter().map(|qos| format!("--qos={qos}")));
    if *gpus > 0 {
        options.push(format!("--gres={}:{gpus}", config.gres.as_deref().unwrap_or("gpu")));
    }
    options
}

/// All options of a lease's job. Nothing of it is started a second time by Slurm itself.
pub(super) fn options(config: &SlurmConfig, lease: LeaseId, size: &Size) -> Vec<String> {
    let mut options = place(config, size);
    options.extend(
        [
            "--parsable",
            "--no-requeue",
            // To this program alone, as soon as the place is given away.
            "--signal=B:USR2@1",
            // The programs are run with next to no environment, so this passes nothing on.
            "--export=ALL",
            "--chdir=/",
            "--input=/dev/null",
            "--output=/dev/null",
            "--error=/dev/null",
            "--comment=tradewind",
        ]
        .map(str::to_owned),
    );
    options.push(format!("--job-name={}", name(lease)));
    options
}

/// The batch script: nothing but our program, from the shared directory.
pub(super) fn script(program: &Path, dir: &Path) -> String {
    format!("#!/bin/sh\nexec {} {ENTRY} slurm {}\n", quoted(program), quoted(dir))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SlurmConfig {
        SlurmConfig { account: Some("lab".into()), ..SlurmConfig::new("/shared".into(), "/bin/x".into()) }
    }

    #[test]
    fn a_lease_asks_for_what_it_was_sold_and_for_its_time() {
        let size = Size::new(1_500, Bytes::gib(2), 2, Some(3_601));
        let options = options(&config(), LeaseId::default(), &size).join(" ");
        for wanted in [
            "--partition=lent",
            "--cpus-per-task=2",
            "--mem=2112M",
            "--time=63",
            "--gres=gpu:2",
            "--account=lab",
            "--no-requeue",
            "--signal=B:USR2@1",
        ] {
            assert!(options.contains(wanted), "{wanted} in {options}");
        }
        assert!(!options.contains("--qos"));
    }

    #[test]
    fn a_path_with_spaces_or_quotes_stays_one_word() {
        let script = script(Path::new("/a b/it's"), Path::new("/d"));
        assert!(script.contains(r"exec '/a b/it'\''s' "), "{script}");
    }
}
