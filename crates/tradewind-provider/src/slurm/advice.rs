//! What a cluster's administrator has to add so that it lends, compared with what the cluster says of itself. Edits nothing.
//!
//! ```text
//! scontrol show config ─┐
//! scontrol show partition ├─► compare with what lending needs ─► points (setting, now, wanted, why), and lines for slurm.conf
//! sinfo ────────────────┘
//! ```

use std::collections::BTreeMap;

use serde::Serialize;

use super::SlurmConfig;
use super::desk::Desk;
use super::queue::{self, NODE_COLUMNS, Node, Partition};
use crate::runtime::{Finding, RuntimeError};

/// The tier of the lent partition in proposed lines, and of a partition of the owner's.
const TIERS: (u32, u32) = (1, 10);

/// What a cluster says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) settings: BTreeMap<String, String>,
    pub(super) partitions: Vec<Partition>,
    /// Of the lent partition; all where it does not exist.
    pub(super) nodes: Vec<Node>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Its name in slurm.conf.
    pub setting: String,
    /// What the cluster has.
    pub now: String,
    /// What it should have; the same where all is well.
    pub wanted: String,
    /// It is as it should be.
    pub good: bool,
    /// No lease is taken before it changed.
    pub grave: bool,
    /// What depends on it.
    pub why: String,
}

/// A cluster against what lending needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// Slurm's version.
    pub version: String,
    /// The lent partition.
    pub partition: String,
    /// Each setting.
    pub points: Vec<Point>,
    /// What to add to slurm.conf, line by line; nothing where all is well.
    pub lines: Vec<String>,
}

impl Advice {
    /// What is not as it should be.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let missing = self.points.iter().filter(|point| !point.good);
        let finding = |point: &Point| Finding {
            grave: point.grave,
            problem: format!("{} is {}: {}", point.setting, point.now, point.why),
            fix: format!("{}; see `tradewind provider slurm --dry-run`", point.wanted),
        };
        missing.map(finding).collect()
    }
}

impl Desk {
    /// Asks the cluster about itself.
    pub(super) async fn view(&self) -> Result<View, RuntimeError> {
        let show = |what: &str| ["--oneliner", "show", what].map(str::to_owned);
        let settings = queue::settings(&self.cluster.call("scontrol", &show("config"), None).await?.out);
        let partitions =
            queue::partitions(&self.cluster.call("scontrol", &show("partition"), None).await?.out);
        let mut arguments =
            vec!["--noheader".to_owned(), "--Node".to_owned(), format!("--Format={NODE_COLUMNS}")];
        if partitions.iter().any(|partition| partition.name == self.config.partition) {
            arguments.push(format!("--partition={}", self.config.partition));
        }
        let nodes = queue::nodes(&self.cluster.call("sinfo", &arguments, None).await?.out);
        Ok(View { settings, partitions, nodes: nodes.map_err(super::cluster::ClusterError::from)? })
    }

    /// The cluster against what lending needs.
    pub(super) async fn advice(&self) -> Result<Advice, RuntimeError> {
        Ok(advise(&self.config, &self.view().await?))
    }
}

/// Compares.
pub(super) fn advise(config: &SlurmConfig, view: &View) -> Advice {
    let mut points = of_cluster(view);
    points.extend(of_partition(config, view));
    points.extend(config.gres.as_deref().map(|gres| of_gres(gres, view)));
    Advice {
        version: view.settings.get("SLURM_VERSION").cloned().unwrap_or_default(),
        partition: config.partition.clone(),
        lines: lines(config, view, &points),
        points,
    }
}

fn point(setting: &str, now: &str, good: bool, grave: bool, wanted: String, why: &str) -> Point {
    let now = if matches!(now, "" | "(null)") { "not set" } else { now };
    let wanted = if good { now.to_owned() } else { wanted };
    Point { setting: setting.into(), now: now.into(), wanted, good, grave, why: why.into() }
}

fn of_cluster(view: &View) -> Vec<Point> {
    let of = |setting: &str| view.settings.get(setting).map(String::as_str).unwrap_or_default();
    let check = |setting: &str, has: &[&str], grave, wanted: &str, why| {
        let now = of(setting);
        let good = has.iter().any(|has| now.to_ascii_lowercase().contains(has));
        point(setting, now, good, grave, wanted.to_owned(), why)
    };
    vec![
        check(
            "PreemptType",
            &["preempt/partition_prio"],
            true,
            "set it to preempt/partition_prio and restart slurmctld",
            "the owner's jobs take the place of lent ones by their partition",
        ),
        check(
            "PreemptMode",
            &["cancel", "requeue"],
            true,
            "set it to CANCEL",
            "a lent job has to leave, not only to stand still",
        ),
        check(
            "SlurmctldParameters",
            &["preempt_send_user_signal"],
            false,
            "add preempt_send_user_signal",
            "without it a lent job is told by the agent only, seconds later, and not while the agent is down",
        ),
        check(
            "SelectType",
            &["select/cons_tres", "select/cons_res"],
            false,
            "set it to select/cons_tres",
            "otherwise a lease takes whole nodes",
        ),
        check(
            "TaskPlugin",
            &["task/cgroup"],
            false,
            "set it to task/cgroup,task/affinity, with ConstrainRAMSpace=yes in cgroup.conf",
            "no control group for jobs: limits are the sandbox's rlimits and polling, which a job can exceed for a moment",
        ),
        check(
            "ProctrackType",
            &["proctrack/cgroup"],
            false,
            "set it to proctrack/cgroup",
            "what a job leaves behind is found by its parents alone",
        ),
    ]
}

fn of_partition(config: &SlurmConfig, view: &View) -> Vec<Point> {
    let name = &config.partition;
    let setting = |field: &str| format!("PartitionName={name} {field}");
    let Some(lent) = view.partitions.iter().find(|partition| partition.name == *name) else {
        let wanted = "add the partition".to_owned();
        return vec![point(&format!("PartitionName={name}"), "", false, true, wanted, "leases run in it")];
    };
    let (mode, grace, tier) =
        (lent.get("PreemptMode"), lent.number("GraceTime"), lent.number("PriorityTier"));
    let above = view.partitions.iter().any(|other| other.number("PriorityTier") > tier);
    let state = lent.get("State");
    vec![
        point(
            &setting("State"),
            state,
            state == "UP",
            true,
            "scontrol update it to UP".into(),
            "leases run in it",
        ),
        point(
            &setting("PreemptMode"),
            mode,
            matches!(mode, "CANCEL" | "REQUEUE"),
            true,
            "set it to CANCEL".into(),
            "the owner's jobs end lent ones",
        ),
        point(
            &setting("GraceTime"),
            &grace.to_string(),
            grace >= config.notice.get(),
            true,
            format!("set it to {} or more, or lower `provider.notice`", config.notice.get()),
            "spot leases promise their notice, and Slurm must leave them that time",
        ),
        point(
            &setting("PriorityTier"),
            &tier.to_string(),
            above,
            true,
            format!("give the owner's partitions more, such as {}", TIERS.1),
            "only a partition of a higher tier takes a lent job's place",
        ),
    ]
}

fn of_gres(gres: &str, view: &View) -> Point {
    let has = |node: &&Node| node.gres.split(',').any(|one| one.starts_with(gres));
    let with = view.nodes.iter().filter(has).count();
    let now = format!("{gres} on {with} of {} nodes", view.nodes.len());
    let wanted = format!("set GresTypes, Gres={gres}:N on the nodes, and gres.conf");
    point("Gres", &now, with > 0, true, wanted, "accelerators are sold")
}

/// What to write, in slurm.conf's own words.
fn lines(config: &SlurmConfig, view: &View, points: &[Point]) -> Vec<String> {
    let lacks = |setting: &str| points.iter().any(|point| point.setting.ends_with(setting) && !point.good);
    let mut lines = Vec::new();
    let mut add = |lacking: bool, line: String| lines.extend(lacking.then_some(line));
    let set = |setting: &str| points.iter().find(|point| point.setting == setting);
    let kept = |setting: &str| set(setting).map(|point| point.now.as_str()).filter(|now| *now != "not set");
    add(lacks("PreemptType"), "PreemptType=preempt/partition_prio".into());
    add(set("PreemptMode").is_some_and(|point| !point.good), "PreemptMode=CANCEL".into());
    let parameters = kept("SlurmctldParameters").map(|now| format!("{now},")).unwrap_or_default();
    add(lacks("SlurmctldParameters"), format!("SlurmctldParameters={parameters}preempt_send_user_signal"));
    add(lacks("SelectType"), "SelectType=select/cons_tres".into());
    add(lacks("TaskPlugin"), "TaskPlugin=task/cgroup,task/affinity".into());
    add(lacks("ProctrackType"), "ProctrackType=proctrack/cgroup".into());
    let lent = view.partitions.iter().find(|partition| partition.name == config.partition);
    let of_partition = points.iter().any(|point| point.setting.starts_with("PartitionName=") && !point.good);
    let grace = config.notice.get().max(lent.map_or(0, |lent| lent.number("GraceTime")));
    let nodes = lent.map_or("ALL", |lent| lent.get("Nodes"));
    let (tier, name) = (TIERS.0, &config.partition);
    add(
        of_partition,
        format!(
            "PartitionName={name} Nodes={nodes} PriorityTier={tier} PreemptMode=CANCEL GraceTime={grace} State=UP"
        ),
    );
    let low = |partition: &&Partition| {
        partition.name != config.partition && partition.number("PriorityTier") <= u64::from(TIERS.0)
    };
    let owners = view.partitions.iter().filter(low);
    for owner in owners.filter(|_| of_partition) {
        let (name, nodes) = (&owner.name, owner.get("Nodes"));
        add(true, format!("PartitionName={name} Nodes={nodes} PriorityTier={} PreemptMode=OFF", TIERS.1));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use tradewind_proto::units::Seconds;

    fn config() -> SlurmConfig {
        SlurmConfig { notice: Seconds::new(120), ..SlurmConfig::new("/shared".into(), "/bin/x".into()) }
    }

    fn view(settings: &str, partitions: &str) -> View {
        let nodes = queue::nodes("n1|64|257000|gpu:a100:4(S:0-1)|idle|\n").unwrap();
        View { settings: queue::settings(settings), partitions: queue::partitions(partitions), nodes }
    }

    #[test]
    fn a_cluster_that_never_lent_is_told_every_line() {
        let bare = view(
            "PreemptType = preempt/none\nPreemptMode = OFF\nSelectType = select/cons_tres\nSlurmctldParameters = (null)\n\
             TaskPlugin = task/affinity,task/cgroup\nProctrackType = proctrack/cgroup\nSLURM_VERSION = 23.11.4\n",
            "PartitionName=main PriorityTier=1 PreemptMode=OFF Nodes=n[1-8] State=UP\n",
        );
        let advice = advise(&config(), &bare);
        assert_eq!(
            advice.lines,
            [
                "PreemptType=preempt/partition_prio",
                "PreemptMode=CANCEL",
                "SlurmctldParameters=preempt_send_user_signal",
                "PartitionName=lent Nodes=ALL PriorityTier=1 PreemptMode=CANCEL GraceTime=120 State=UP",
                "PartitionName=main Nodes=n[1-8] PriorityTier=10 PreemptMode=OFF",
            ]
        );
        assert_eq!(advice.version, "23.11.4");
        assert!(advice.findings().iter().any(|finding| finding.grave));
    }

    const SOUND: &str = "PreemptType = preempt/partition_prio\nPreemptMode = CANCEL\nSelectType = select/cons_tres\n\
        SlurmctldParameters = idle_on_node_suspend,preempt_send_user_signal\nTaskPlugin = task/cgroup\n\
        ProctrackType = proctrack/cgroup\n";
    const LENT: &str = "PartitionName=main PriorityTier=10 State=UP Nodes=n1\n\
        PartitionName=lent PriorityTier=1 PreemptMode=CANCEL GraceTime=120 State=UP Nodes=n1\n";

    #[test]
    fn a_cluster_that_lends_is_told_nothing() {
        let advice = advise(&config(), &view(SOUND, LENT));
        assert!(advice.lines.is_empty() && advice.findings().is_empty(), "{advice:?}");
    }

    #[test]
    fn a_grace_shorter_than_the_notice_is_grave_and_names_its_setting() {
        let short = LENT.replace("GraceTime=120", "GraceTime=30");
        let advice = advise(&config(), &view(SOUND, &short));
        let [finding] = &advice.findings()[..] else { panic!("{advice:?}") };
        assert!(
            finding.grave && finding.problem.contains("PartitionName=lent GraceTime is 30"),
            "{finding:?}"
        );
        assert!(advice.lines[0].contains("GraceTime=120"), "{:?}", advice.lines);
    }

    #[test]
    fn accelerators_that_no_node_has_are_not_sold() {
        for (gres, good) in [("gpu:a100", true), ("gpu", true), ("gpu:h100", false)] {
            let config = SlurmConfig { gres: Some(gres.into()), ..config() };
            assert_eq!(advise(&config, &view(SOUND, LENT)).findings().is_empty(), good, "{gres}");
        }
    }
}
