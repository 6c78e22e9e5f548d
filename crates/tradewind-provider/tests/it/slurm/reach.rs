//! How long a lease can last by what the administrator set.

use tradewind_proto::units::Seconds;
use tradewind_provider::runtime::Runtime;
use tradewind_provider::slurm::SlurmConfig;
use tradewind_testbed::cluster::Made;

use super::{config, fixture, open, slurm, state};

#[tokio::test]
async fn a_partitions_limit_and_a_reservation_of_all_its_nodes_bound_a_lease() {
    const DAY: u64 = 86_400;
    let f = fixture().await;
    assert_eq!(f.runtime.longest().await.expect("the cluster answers"), None);
    let _partition = Made::new("PartitionName=brief", &["Nodes=ALL", "MaxTime=40-00:00:00", "State=UP"]);
    let brief = open(SlurmConfig { partition: "brief".into(), ..config(&state(&f)) });
    let longest = async || brief.longest().await.expect("the cluster answers");
    assert_eq!(longest().await, Some(Seconds::new(40 * DAY - 120)));
    let core = ["StartTime=now+10days", "Duration=60", "CoreCnt=1", "NodeCnt=1", "Users=root"];
    let _core = Made::new("ReservationName=core", &core);
    assert_eq!(longest().await, Some(Seconds::new(40 * DAY - 120)), "a core of two leaves a place");
    let whole = ["StartTime=now+20days", "Duration=60", "Nodes=ALL", "Users=root"];
    let _whole = Made::new("ReservationName=whole", &whole);
    let bound = longest().await.expect("bounded").get();
    assert!((20 * DAY - 400..20 * DAY).contains(&bound), "{bound}");
    assert!(f.runtime.longest().await.is_ok_and(|longest| longest.is_some()), "on every partition");
    slurm("scontrol", &["update", "PartitionName=brief", "State=DOWN"]);
    assert_eq!(longest().await, Some(Seconds::ZERO), "a closed partition takes nothing");
    let nowhere = open(SlurmConfig { partition: "nowhere".into(), ..config(&state(&f)) });
    assert!(nowhere.longest().await.is_err());
}
