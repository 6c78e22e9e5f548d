//! The owner's jobs come first.

use std::time::Instant;

use tradewind_proto::manifest::Share;
use tradewind_proto::terms::LeaseKind;
use tradewind_proto::units::{Bytes, Seconds};
use tradewind_proto::workload::WorkloadStatus;
use tradewind_provider::runtime::{Ask, Runtime, RuntimeError};

use super::{GRACE, PATIENCE, config, eventually, fixture, open, owners_job, slurm, state, state_of};

#[tokio::test]
async fn an_owner_s_job_takes_the_place_within_its_grace_and_the_job_saves_its_progress() {
    let f = fixture().await;
    let mut job = f.job(
        "trap 'echo saved > checkpoint; echo told; exit 9' USR1; echo ready; \
         while :; do ./busybox sleep 0.05; done",
    );
    job.spec.stop.signal = 10;
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "ready").await;
    assert_eq!(f.runtime.preempted(job.lease()).await.expect("ask"), None);

    let begin = Instant::now();
    let owners = owners_job(1);
    let exit = f.exit(job.lease()).await;
    assert_eq!(exit.code, 9, "{}", f.log(job.lease()).await);
    assert_eq!(job.read("checkpoint"), "saved\n");
    eventually("the owner's job begins", async || state_of(&owners) != "PENDING").await;
    assert!(begin.elapsed() < GRACE, "{:?} until the owner's job had the place", begin.elapsed());

    let preemption = f.runtime.preempted(job.lease()).await.expect("ask").expect("it was preempted");
    assert!(exit.at >= preemption.at && preemption.until >= preemption.at);
    f.clear(&job).await;
    eventually("the owner's job ends", async || state_of(&owners) != "RUNNING").await;
}

#[tokio::test]
async fn a_job_that_ignores_the_notice_is_told_of_by_the_agent_and_killed_in_time() {
    let f = fixture().await;
    let job = f.job("trap '' TERM; echo ready; while :; do ./busybox sleep 0.05; done");
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "ready").await;
    let begin = Instant::now();
    let owners = owners_job(1);
    eventually("the agent hears of it", async || {
        f.runtime.preempted(job.lease()).await.expect("ask").is_some()
    })
    .await;
    let told = f.runtime.preempted(job.lease()).await.expect("ask").expect("it was preempted");
    let grace = told.until.since(told.at);
    assert!(grace > Seconds::ZERO && grace.get() <= GRACE.as_secs(), "{told:?}");
    f.runtime.stop(job.lease(), Seconds::new(2)).await.expect("stop");
    assert_eq!(f.exit(job.lease()).await.code, 128 + 9);
    eventually("the owner's job begins", async || state_of(&owners) != "PENDING").await;
    assert!(begin.elapsed() < GRACE + std::time::Duration::from_secs(4), "{:?}", begin.elapsed());
    f.clear(&job).await;
    eventually("the owner's job ends", async || state_of(&owners) != "RUNNING").await;
}

fn ask(kind: LeaseKind, cpu_millis: u32) -> Ask {
    let share = Share { cpu_millis, memory: Bytes::mib(64), disk: Bytes::mib(64), gpus: 0, egress: None };
    Ask { kind, duration: Seconds::new(3_600), share }
}

#[tokio::test]
async fn only_spot_leases_are_sold_and_only_while_there_is_a_place() {
    let f = fixture().await;
    let promised = f.runtime.admit(&ask(LeaseKind::OnDemand, 1_000)).await.expect_err("it may be preempted");
    assert!(matches!(promised, RuntimeError::Unsupported { .. }), "{promised:?}");
    f.runtime.admit(&ask(LeaseKind::Spot, 1_000)).await.expect("a free cluster takes it");
    let huge = f.runtime.admit(&ask(LeaseKind::Spot, 4_000_000)).await.expect_err("no node is that large");
    assert!(matches!(huge, RuntimeError::Unsupported { .. }), "{huge:?}");

    let owners = owners_job(120);
    eventually("the owner's job begins", async || state_of(&owners) == "RUNNING").await;
    let full = f.runtime.admit(&ask(LeaseKind::Spot, 1_001)).await.expect_err("the cluster is full");
    assert!(matches!(&full, RuntimeError::Unavailable(_)), "{full:?}");

    let fresh = super::SlurmConfig { start_within: std::time::Duration::from_secs(3), ..config(&state(&f)) };
    let (impatient, job) = (open(fresh), f.job("echo ran >> runs"));
    let begin = Instant::now();
    let pending = impatient.start(&job.spec, &job.secrets, &job.volumes).await.expect_err("no place");
    assert!(matches!(&pending, RuntimeError::Unavailable(why) if why.contains("waits for")), "{pending:?}");
    assert!(begin.elapsed() < PATIENCE / 2, "a start that waits for its place gives up");
    assert_eq!(impatient.status(job.lease()).await.expect("ask"), WorkloadStatus::Absent);
    assert!(impatient.list().await.expect("list").contains(&job.lease()));
    slurm("scancel", &[&owners]);
    f.start(&job).await.expect("the same start, once there is a place");
    assert_eq!(f.exit(job.lease()).await.code, 0);
    assert_eq!(job.read("runs"), "ran\n");
    f.clear(&job).await;
}
