//! What the administrator is told.

use tradewind_proto::units::Seconds;
use tradewind_provider::runtime::Runtime;
use tradewind_provider::slurm::SlurmConfig;

use super::{config, fixture, open, state};

#[tokio::test]
async fn a_cluster_that_lends_is_ready_and_told_so() {
    let f = fixture().await;
    let readiness = f.runtime.readiness().await;
    assert!(readiness.ready, "{:?}", readiness.findings);
    assert!(!readiness.findings.iter().any(|finding| finding.problem.contains("empty job")), "{readiness:?}");
    assert!(f.runtime.list().await.expect("list").is_empty(), "the probe leaves nothing");
}

#[tokio::test]
async fn a_partition_that_is_missing_or_gives_too_little_time_is_named_and_nothing_is_edited() {
    let f = fixture().await;
    let conf = std::env::var("SLURM_CONF").expect("scripts/with-slurm sets it");
    let before = std::fs::read(&conf).expect("read slurm.conf");
    let missing = open(SlurmConfig { partition: "nowhere".into(), ..config(&state(&f)) });
    let advice = missing.advice().await.expect("the cluster answers");
    assert!(
        advice.lines.iter().any(|line| line.starts_with("PartitionName=nowhere Nodes=ALL")),
        "{:?}",
        advice.lines
    );
    assert!(!missing.readiness().await.ready);
    let short = open(SlurmConfig { notice: Seconds::new(3_600), ..config(&state(&f)) });
    let readiness = short.readiness().await;
    assert!(!readiness.ready);
    assert!(
        readiness.findings.iter().any(|finding| finding.grave && finding.problem.contains("GraceTime is 6")),
        "{:?}",
        readiness.findings
    );
    assert_eq!(std::fs::read(&conf).expect("read slurm.conf"), before);
}
