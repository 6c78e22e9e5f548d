//! What happens around a job that is not its fault.

use tradewind_proto::units::Seconds;
use tradewind_proto::workload::WorkloadStatus;
use tradewind_provider::runtime::{Runtime, RuntimeError};

use super::{config, eventually, fixture, name, open, slurm, state};

fn number(name: &str) -> String {
    slurm("squeue", &["--noheader", "--format=%i", &format!("--name={name}")]).trim().to_owned()
}

#[tokio::test]
async fn a_job_outlives_a_restart_of_the_controller() {
    let f = fixture().await;
    let job = f.job("echo up; while [ ! -e go ]; do ./busybox sleep 0.02; done; echo down; exit 3");
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    let conf = std::env::var("SLURM_CONF").expect("scripts/with-slurm sets it");
    // While it is down the answer is an error, never "gone".
    slurm(&format!("{conf}.d/restart-slurmctld"), &[]);
    eventually("the controller answers again", async || match f.runtime.status(job.lease()).await {
        Ok(WorkloadStatus::Running { .. }) => true,
        Err(RuntimeError::Unavailable(_)) => false,
        other => panic!("{other:?} of a job that runs"),
    })
    .await;
    std::fs::write(job.work().join("go"), "").expect("write");
    assert_eq!(f.exit(job.lease()).await.code, 3);
    assert_eq!(f.log(job.lease()).await, "up\ndown\n");
    f.clear(&job).await;
}

#[tokio::test]
async fn a_controller_that_is_not_there_is_no_lost_job() {
    let f = fixture().await;
    let job = f.job("echo up; ./busybox sleep 60");
    f.start(&job).await.expect("start");
    let nowhere = super::SlurmConfig { programs: Some("/nonexistent".into()), ..config(&state(&f)) };
    let blind = open(nowhere);
    for outcome in [
        blind.status(job.lease()).await.map(drop),
        blind.start(&job.spec, &job.secrets, &job.volumes).await,
        blind.stop(job.lease(), Seconds::ZERO).await,
        blind.remove(job.lease()).await,
    ] {
        assert!(matches!(outcome, Err(RuntimeError::Unavailable(_))), "{outcome:?}");
    }
    f.clear(&job).await;
}

#[tokio::test]
async fn a_job_that_an_administrator_cancels_is_lost_and_the_log_says_so() {
    let f = fixture().await;
    let job = f.job("trap '' TERM; echo up; while :; do ./busybox sleep 0.05; done");
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    slurm("scancel", &["--signal=KILL", "--full", &number(&name(&job))]);
    eventually("it is over", async || {
        !matches!(f.runtime.status(job.lease()).await, Ok(WorkloadStatus::Running { .. }) | Err(_))
    })
    .await;
    assert_eq!(f.runtime.status(job.lease()).await.expect("ask"), WorkloadStatus::Lost);
    let log = f.log(job.lease()).await;
    assert!(log.contains("tradewind: Slurm ended the job"), "{log}");
    assert_eq!(f.runtime.preempted(job.lease()).await.expect("ask"), None, "nobody took its place");
    f.clear(&job).await;
}

#[tokio::test]
async fn a_job_beyond_its_time_has_an_exit() {
    let f = fixture().await;
    let job = f.job("trap '' TERM USR1; echo up; while :; do ./busybox sleep 0.05; done");
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    // The owner cuts it short; Slurm looks at limits every half minute.
    slurm("scontrol", &["update", &format!("JobId={}", number(&name(&job))), "EndTime=now"]);
    eventually("it is over", async || {
        !matches!(f.runtime.status(job.lease()).await, Ok(WorkloadStatus::Running { .. }) | Err(_))
    })
    .await;
    let status = f.runtime.status(job.lease()).await.expect("ask");
    assert!(
        matches!(status, WorkloadStatus::Exited(exit) if exit.code == 128 + 9 && !exit.out_of_memory),
        "{status:?}"
    );
    f.clear(&job).await;
}
