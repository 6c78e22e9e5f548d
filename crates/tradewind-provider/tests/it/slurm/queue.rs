//! One job for each lease, whatever is killed in between.

use std::time::Duration;

use tradewind_proto::workload::WorkloadStatus;
use tradewind_provider::runtime::{Runtime, RuntimeError};

use super::{config, eventually, fixture, job_dir, living, name, open, owners_job, slurm, state, state_of};

#[tokio::test]
async fn a_job_whose_number_was_never_written_down_is_found_by_its_name() {
    let f = fixture().await;
    let owners = owners_job(120);
    eventually("the owner's job begins", async || state_of(&owners) == "RUNNING").await;
    let brief = super::SlurmConfig { start_within: Duration::from_secs(1), ..config(&state(&f)) };
    let job = f.job("echo ran >> runs; while [ ! -e go ]; do ./busybox sleep 0.02; done");
    let pending = open(brief.clone()).start(&job.spec, &job.secrets, &job.volumes).await;
    assert!(matches!(pending, Err(RuntimeError::Unavailable(_))), "{pending:?}");
    // As an agent leaves it that is killed between `sbatch` and its record.
    std::fs::remove_file(job_dir(&f, &job).join("job.json")).expect("it was written");
    let again = open(brief).start(&job.spec, &job.secrets, &job.volumes).await;
    assert!(matches!(again, Err(RuntimeError::Unavailable(_))), "{again:?}");
    assert_eq!(living(&name(&job)), 1, "nothing is submitted twice");
    slurm("scancel", &[&owners]);
    f.start(&job).await.expect("start");
    std::fs::write(job.work().join("go"), "").expect("write");
    assert_eq!(f.exit(job.lease()).await.code, 0);
    assert_eq!(job.read("runs"), "ran\n");
    f.clear(&job).await;
}

#[tokio::test]
async fn a_second_job_of_the_same_lease_never_runs() {
    let f = fixture().await;
    let job = f.job("echo ran >> runs; while [ ! -e go ]; do ./busybox sleep 0.02; done");
    f.start(&job).await.expect("start");
    // As a submission does whose answer was lost, and that arrives late.
    let dir = job_dir(&f, &job);
    let bin =
        std::fs::read_dir(state(&f).join("bin")).expect("list").next().expect("a program").expect("list");
    let line = format!("exec {} __tradewind-process slurm {}", bin.path().display(), dir.display());
    let named = format!("--job-name={}", name(&job));
    let late = slurm(
        "sbatch",
        &["--parsable", "--partition=lent", "--mem=64M", "--output=/dev/null", &named, "--wrap", &line],
    );
    eventually("the late job leaves", async || state_of(late.trim()) == "COMPLETED").await;
    std::fs::write(job.work().join("go"), "").expect("write");
    assert_eq!(f.exit(job.lease()).await.code, 0);
    assert_eq!(job.read("runs"), "ran\n");
    f.clear(&job).await;
}

#[tokio::test]
async fn a_pending_job_that_nobody_wants_any_more_leaves_the_queue() {
    let f = fixture().await;
    let owners = owners_job(120);
    eventually("the owner's job begins", async || state_of(&owners) == "RUNNING").await;
    let brief = super::SlurmConfig { start_within: Duration::from_secs(1), ..config(&state(&f)) };
    let job = f.job("echo ran >> runs");
    let pending = open(brief).start(&job.spec, &job.secrets, &job.volumes).await;
    assert!(matches!(pending, Err(RuntimeError::Unavailable(_))), "{pending:?}");
    f.runtime.remove(job.lease()).await.expect("remove");
    assert_eq!(living(&name(&job)), 0);
    assert_eq!(f.runtime.status(job.lease()).await.expect("ask"), WorkloadStatus::Absent);
    assert!(!job_dir(&f, &job).exists());
    slurm("scancel", &[&owners]);
    eventually("the owner's job ends", async || state_of(&owners) != "COMPLETING").await;
    assert_eq!(job.read("runs"), "");
}

#[tokio::test]
async fn no_secret_lies_in_the_directory_or_with_slurm() {
    let f = fixture().await;
    let mut job = f.job("echo up; while [ ! -e go ]; do ./busybox sleep 0.02; done; echo $TOKEN");
    job.secrets.0.insert("TOKEN".into(), "correct-horse-battery".into());
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    let files = walk(&state(&f));
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let found = bytes.windows(21).any(|window| window == b"correct-horse-battery");
        assert!(!found, "{} holds a secret", file.display());
    }
    let id = slurm("squeue", &["--noheader", "--format=%i", &format!("--name={}", name(&job))]);
    let script = slurm("scontrol", &["write", "batch_script", id.trim(), "-"]);
    assert!(script.contains("__tradewind-process") && !script.contains("correct-horse"), "{script}");
    std::fs::write(job.work().join("go"), "").expect("write");
    assert_eq!(f.exit(job.lease()).await.code, 0);
    assert!(f.log(job.lease()).await.contains("correct-horse-battery"), "the job itself has it");
    f.clear(&job).await;
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("list").map(|entry| entry.expect("list").path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(dirs.iter().flat_map(|dir| walk(dir))).collect()
}
