//! What Slurm's programs print, as values. Times are seconds since the epoch: the programs are run with `SLURM_TIME_FORMAT=%s`.
//!
//! A line that cannot be read is an error, never a job less: what is not listed counts as gone.

use std::collections::BTreeMap;

use tradewind_proto::units::{Seconds, Timestamp};

/// The columns asked of `squeue`, in the order of [`Job`]'s fields. The name is the last, since it may hold anything.
pub(super) const COLUMNS: &str = "JobID:|,State:|,Reason:|,EndTime:|,PreemptTime:|,BatchHost:|,Name:|";
/// The columns asked of `sinfo` for each node.
pub(super) const NODE_COLUMNS: &str = "NodeList:|,CPUs:|,Memory:|,Gres:|,StateCompact:|";

/// Output that is not as documented.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{program} printed what this program cannot read: `{line}`")]
pub(super) struct Unreadable {
    program: &'static str,
    line: String,
}

impl Unreadable {
    fn new(program: &'static str, line: &str) -> Self {
        Self { program, line: line.chars().take(200).collect() }
    }
}

/// A job's number.
pub(super) type JobId = u32;

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It waits for resources.
    Pending,
    /// It has them, or gives them back just now.
    Active,
    /// The owner's administrator froze it.
    Suspended,
    /// It is over.
    Ended(End),
}

/// Why a job is over, as Slurm saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum End {
    /// Its program ended by itself, with whatever code.
    Finished,
    /// Somebody cancelled it.
    Cancelled,
    /// A job of the owner's took its place.
    Preempted,
    /// It used more memory than it had asked for.
    OutOfMemory,
    /// Its time was over.
    TimedOut,
    /// A node failed, or did not start it.
    NodeFailed,
}

impl State {
    fn parse(text: &str) -> Option<Self> {
        // sacct says `CANCELLED by 1000`, and marks names that it cut with `+`.
        let name = text.split_whitespace().next()?.trim_end_matches('+');
        Some(match name {
            "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => {
                Self::Pending
            }
            "RUNNING" | "COMPLETING" | "CONFIGURING" | "STAGE_OUT" | "SIGNALING" | "RESIZING" => Self::Active,
            "SUSPENDED" | "STOPPED" => Self::Suspended,
            "COMPLETED" | "FAILED" => Self::Ended(End::Finished),
            "CANCELLED" | "REVOKED" => Self::Ended(End::Cancelled),
            "PREEMPTED" => Self::Ended(End::Preempted),
            "OUT_OF_MEMORY" => Self::Ended(End::OutOfMemory),
            "TIMEOUT" | "DEADLINE" => Self::Ended(End::TimedOut),
            "NODE_FAIL" | "BOOT_FAIL" | "LAUNCH_FAILED" => Self::Ended(End::NodeFailed),
            _ => return None,
        })
    }
}

/// A job in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) state: State,
    /// Why it waits, in Slurm's words.
    pub(super) reason: String,
    /// When it ends at the latest, or ended.
    pub(super) end: Option<Timestamp>,
    /// When Slurm gave its place to another job.
    pub(super) preempted: Option<Timestamp>,
    /// The node that its program runs on.
    pub(super) node: Option<String>,
    pub(super) name: String,
}

impl Job {
    /// Whether it holds, or may come to hold, any resources.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// Why it is over, where it is: some versions list a preempted job as cancelled.
    pub(super) fn ended(&self) -> Option<End> {
        match self.state {
            State::Ended(End::Cancelled) if self.preempted.is_some() => Some(End::Preempted),
            State::Ended(end) => Some(end),
            State::Pending | State::Active | State::Suspended => None,
        }
    }
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|seconds| *seconds > 0).map(Timestamp::from_unix)
}

/// Reads the lines of `squeue --noheader --Format=COLUMNS`.
pub(super) fn jobs(text: &str) -> Result<Vec<Job>, Unreadable> {
    text.lines().filter(|line| !line.trim().is_empty()).map(job).collect()
}

fn job(line: &str) -> Result<Job, Unreadable> {
    let unreadable = || Unreadable::new("squeue", line);
    let fields: Vec<&str> = line.splitn(7, '|').collect();
    let [id, state, reason, end, preempted, node, name] = fields[..] else { return Err(unreadable()) };
    Ok(Job {
        id: id.trim().parse().map_err(|_| unreadable())?,
        state: State::parse(state).ok_or_else(unreadable)?,
        reason: reason.trim().to_owned(),
        end: time(end.trim()),
        preempted: time(preempted.trim()),
        node: Some(node.trim()).filter(|node| !matches!(*node, "" | "n/a" | "N/A")).map(str::to_owned),
        name: name.strip_suffix('|').unwrap_or(name).trim_end().to_owned(),
    })
}

/// Reads the number that `sbatch --parsable` prints: `123`, or `123;cluster`.
pub(super) fn submitted(text: &str) -> Result<JobId, Unreadable> {
    let line = text.lines().last().unwrap_or_default();
    let number = line.split(';').next().unwrap_or_default().trim();
    number.parse().map_err(|_| Unreadable::new("sbatch", line))
}

/// Reads when a job would start from what `sbatch --test-only` prints:
/// `sbatch: Job 2 to start at 1795917532 using 2 processors on nodes n1 in partition lent`.
pub(super) fn would_start(text: &str) -> Result<Timestamp, Unreadable> {
    let line = text.lines().find(|line| line.contains(" to start at ")).unwrap_or_default();
    let after = line.split(" to start at ").nth(1).unwrap_or_default();
    let at = after.split_whitespace().next().and_then(time);
    at.ok_or_else(|| Unreadable::new("sbatch", if line.is_empty() { text.trim() } else { line }))
}

/// Reads how `sacct --noheader --parsable2 --allocations --format=State,End` says that a job ended; `None` where it has no such
/// job, or the job is not over.
pub(super) fn accounted(text: &str) -> Result<Option<(End, Option<Timestamp>)>, Unreadable> {
    let Some(line) = text.lines().rfind(|line| !line.trim().is_empty()) else { return Ok(None) };
    let unreadable = || Unreadable::new("sacct", line);
    let (state, end) = line.split_once('|').ok_or_else(unreadable)?;
    match State::parse(state).ok_or_else(unreadable)? {
        State::Ended(why) => Ok(Some((why, time(end.trim())))),
        State::Pending | State::Active | State::Suspended => Ok(None),
    }
}

/// Reads `Key = value` lines of `scontrol show config`.
pub(super) fn settings(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

/// A partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) name: String,
    fields: BTreeMap<String, String>,
}

impl Partition {
    pub(super) fn get(&self, field: &str) -> &str {
        self.fields.get(field).map(String::as_str).unwrap_or_default()
    }

    pub(super) fn number(&self, field: &str) -> u64 {
        self.get(field).parse().unwrap_or(0)
    }

    /// The longest that one of its jobs may take: `UNLIMITED`, or `[days-]hours:minutes:seconds`.
    pub(super) fn time_limit(&self) -> Result<Option<Seconds>, Unreadable> {
        match self.get("MaxTime") {
            "" | "UNLIMITED" | "INFINITE" => Ok(None),
            text => span(text).map(Some).ok_or_else(|| Unreadable::new("scontrol", text)),
        }
    }
}

fn span(text: &str) -> Option<Seconds> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let parts: Vec<u64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = parts[..] else { return None };
    let hours = days.parse::<u64>().ok()?.checked_mul(24)?.checked_add(hours)?;
    hours.checked_mul(60)?.checked_add(minutes)?.checked_mul(60)?.checked_add(seconds).map(Seconds::new)
}

/// Nodes that are kept for somebody from a time on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) start: Timestamp,
    /// A list such as `n[1-3]`.
    pub(super) nodes: String,
    /// Its processors on all of them.
    pub(super) cpus: u64,
}

/// Reads `scontrol --oneliner show reservation`: one line of `Key=value` words each, or a sentence where there is none.
pub(super) fn reservations(text: &str) -> Result<Vec<Reservation>, Unreadable> {
    let reservation = |line: &str| {
        let words = || line.split_whitespace().filter_map(|word| word.split_once('='));
        let of = |field: &str| words().find(|(key, _)| *key == field).map(|(_, value)| value);
        let unreadable = || Unreadable::new("scontrol", line);
        // `TRES=cpu=8,…`; one of licences alone has none.
        let cpus = of("TRES").and_then(|tres| tres.split(',').find_map(|one| one.strip_prefix("cpu=")));
        Ok(Reservation {
            start: of("StartTime").and_then(time).ok_or_else(unreadable)?,
            nodes: of("Nodes").ok_or_else(unreadable)?.to_owned(),
            cpus: cpus.map_or(Ok(0), str::parse).map_err(|_| unreadable())?,
        })
    };
    text.lines().filter(|line| line.starts_with("ReservationName=")).map(reservation).collect()
}

/// Reads `scontrol --oneliner show partition`: one line of `Key=value` words each.
pub(super) fn partitions(text: &str) -> Vec<Partition> {
    let partition = |line: &str| {
        let pairs = line.split_whitespace().filter_map(|word| word.split_once('='));
        let fields: BTreeMap<String, String> =
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Some(Partition { name: fields.get("PartitionName")?.clone(), fields })
    };
    text.lines().filter_map(partition).collect()
}

/// A node of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) cpus: u32,
    pub(super) memory_mib: u64,
    /// Such as `gpu:a100:4(S:0-1)`; `(null)` where there are none.
    pub(super) gres: String,
    pub(super) state: String,
}

/// Reads the lines of `sinfo --Node --noheader --Format=NODE_COLUMNS`.
pub(super) fn nodes(text: &str) -> Result<Vec<Node>, Unreadable> {
    let node = |line: &str| {
        let unreadable = || Unreadable::new("sinfo", line);
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [name, cpus, memory, gres, state, ..] = fields[..] else { return Err(unreadable()) };
        Ok(Node {
            name: name.to_owned(),
            cpus: cpus.parse().map_err(|_| unreadable())?,
            memory_mib: memory.parse().map_err(|_| unreadable())?,
            gres: gres.to_owned(),
            state: state.trim_end_matches(['*', '~', '#', '%', '$', '@', '^', '!', '+', '-']).to_owned(),
        })
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(node).collect()
}

/// The numbers in a list such as `0,2-3`, as Slurm writes the accelerators that a job was given.
pub(super) fn indices(list: &str) -> Option<Vec<u32>> {
    /// More than one node can have.
    const MOST: usize = 64;
    let mut found = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        found.extend((first..=last).take(MOST));
    }
    (found.len() <= MOST).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_read_column_by_column() {
        let text = "\
12|RUNNING|None|1795917532|N/A|node-1|tw-00ff|
13|PENDING|Resources|N/A|N/A|n/a|tw-01|
14|COMPLETING|None|1795917243|1795917233|node-2|a | name|
15|CANCELLED|None|1795917243|1795917233||tw-02|
";
        let jobs = jobs(text).unwrap();
        let states: Vec<State> = jobs.iter().map(|job| job.state).collect();
        assert_eq!(states, [State::Active, State::Pending, State::Active, State::Ended(End::Cancelled)]);
        assert_eq!(jobs[0].end, Some(Timestamp::from_unix(1_795_917_532)));
        assert_eq!((jobs[0].node.as_deref(), jobs[0].name.as_str()), (Some("node-1"), "tw-00ff"));
        assert_eq!(
            (jobs[1].node.as_deref(), jobs[1].end, jobs[1].reason.as_str()),
            (None, None, "Resources")
        );
        assert_eq!(jobs[2].name, "a | name");
        assert_eq!(jobs[3].ended(), Some(End::Preempted), "a preempted job is listed as cancelled");
        assert!(super::jobs("").unwrap().is_empty());
    }

    #[test]
    fn a_line_that_cannot_be_read_is_no_job_less() {
        for text in ["slurm_load_jobs error", "x|RUNNING|None|1|N/A|n|tw-1|", "1|NOVEL|None|1|N/A|n|tw-1|"] {
            assert!(jobs(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_end_is_told_apart() {
        for (text, end) in [
            ("COMPLETED", End::Finished),
            ("FAILED", End::Finished),
            ("CANCELLED by 1000", End::Cancelled),
            ("CANCELLED+", End::Cancelled),
            ("PREEMPTED", End::Preempted),
            ("OUT_OF_MEMORY", End::OutOfMemory),
            ("TIMEOUT", End::TimedOut),
            ("DEADLINE", End::TimedOut),
            ("NODE_FAIL", End::NodeFailed),
            ("BOOT_FAIL", End::NodeFailed),
        ] {
            assert_eq!(State::parse(text), Some(State::Ended(end)), "{text}");
            let line = format!("{text}|1795917243\n");
            assert_eq!(accounted(&line).unwrap(), Some((end, Some(Timestamp::from_unix(1_795_917_243)))));
        }
        assert_eq!(accounted("RUNNING|Unknown\n").unwrap(), None);
        assert_eq!(accounted("\n").unwrap(), None);
        assert!(accounted("Slurm accounting storage is disabled").is_err());
    }

    #[test]
    fn a_submission_answers_with_its_number() {
        assert_eq!(submitted("77\n").unwrap(), 77);
        assert_eq!(submitted("77;west\n").unwrap(), 77);
        assert!(submitted("sbatch: error").is_err());
    }

    #[test]
    fn a_trial_says_when_the_job_would_start() {
        let text = "sbatch: Job 2 to start at 1795917532 using 2 processors on nodes vm in partition owner\n\
                    sbatch:   Preempts: 1\n";
        assert_eq!(would_start(text).unwrap(), Timestamp::from_unix(1_795_917_532));
        assert!(would_start("allocation failure: Invalid partition name specified").is_err());
    }

    #[test]
    fn partitions_settings_and_nodes_are_read() {
        let found = partitions(
            "PartitionName=owner AllowGroups=ALL PriorityTier=10 PreemptMode=OFF Nodes=n[1-2] State=UP\n\
             PartitionName=lent GraceTime=120 PriorityTier=1 PreemptMode=CANCEL State=UP\n",
        );
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].name.as_str(), found[1].number("GraceTime")), ("lent", 120));
        let read = settings("PreemptType             = preempt/partition_prio\nKillWait = 30 sec\n");
        assert_eq!(read.get("PreemptType").map(String::as_str), Some("preempt/partition_prio"));
        let nodes = nodes("n1|64|257000|gpu:a100:4(S:0-1)|idle|\nn2|8|16000|(null)|drain*|\n").unwrap();
        assert_eq!((nodes[0].cpus, nodes[0].gres.as_str()), (64, "gpu:a100:4(S:0-1)"));
        assert_eq!((nodes[1].memory_mib, nodes[1].state.as_str()), (16_000, "drain"));
    }

    #[test]
    fn a_partitions_time_limit_is_read() {
        let limit =
            |text: &str| partitions(&format!("PartitionName=lent MaxTime={text} State=UP\n"))[0].time_limit();
        assert_eq!(limit("UNLIMITED").unwrap(), None);
        assert_eq!(limit("01:00:00").unwrap(), Some(Seconds::new(3600)));
        assert_eq!(limit("3-04:05:06").unwrap(), Some(Seconds::new(3 * 86_400 + 4 * 3600 + 5 * 60 + 6)));
        for text in ["soon", "1:2", "-1:00:00", "99999999999999999999-00:00:00", "213503982334602-00:00:00"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reservations_are_read_and_a_sentence_is_none() {
        let text = "\
ReservationName=maint StartTime=1796876539 EndTime=1796880139 Duration=01:00:00 Nodes=n[1-2] NodeCnt=2 CoreCnt=4 \
Features=(null) PartitionName=(null) Flags=MAINT,SPEC_NODES TRES=cpu=8,mem=1G Users=root State=INACTIVE
ReservationName=soft StartTime=1796876540 EndTime=1796880139 Nodes=(null) NodeCnt=0 Licenses=matlab:1 TRES=(null)
";
        let found = reservations(text).unwrap();
        let first =
            Reservation { start: Timestamp::from_unix(1_796_876_539), nodes: "n[1-2]".into(), cpus: 8 };
        assert_eq!((&found[0], found[1].cpus), (&first, 0));
        assert_eq!(reservations("No reservations in the system\n").unwrap(), []);
        assert!(reservations("ReservationName=odd StartTime=tomorrow Nodes=n1\n").is_err());
    }

    #[test]
    fn accelerators_are_named_by_numbers_and_ranges() {
        assert_eq!(indices("0,2-4"), Some(vec![0, 2, 3, 4]));
        assert_eq!(indices(""), Some(vec![]));
        assert_eq!(indices("MIG-x"), None);
        assert_eq!(indices("0-4294967295,0-4294967295"), None, "no list is that long");
    }
}
