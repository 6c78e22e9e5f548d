//! What every runtime must do, written once against `&dyn Runtime`.
//!
//! A runtime's test module gives a [`Fixture`] and names it in [`conformance_suite!`]; the macro makes one test per claim, so
//! that a name reads `process::conformance::a_job_leaves_its_exit_code`. Jobs are scripts of a static busybox: it is copied to
//! `/work/busybox`, and an image, where there is one, is built `FROM scratch` with it as `/bin/sh`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tradewind_proto::access::{Input, Output, Session, Size, Tty};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::{Bytes, Seconds};
use tradewind_proto::workload::{
    Command, Exit, Image, Limits, LogCursor, Network, Secrets, Stop, WorkloadSpec, WorkloadStatus,
};
use tradewind_provider::runtime::{Runtime, RuntimeError, SessionEnds, Volumes};

mod escapes;
mod sessions;

pub(crate) use escapes::*;
pub(crate) use sessions::*;

/// The static busybox of Debian's package `busybox-static`.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// No claim may take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens the runtime over the same state once more, as a restarted agent does.
type Reopen = Box<dyn Fn() -> Arc<dyn Runtime> + Send + Sync>;

/// One runtime under test.
pub(crate) struct Fixture {
    /// The runtime.
    pub(crate) runtime: Arc<dyn Runtime>,
    /// The same state, opened by another agent.
    pub(crate) reopen: Reopen,
    /// What jobs run in; `None` is the host's userland.
    pub(crate) image: Option<Image>,
    /// The reach that a job needs so that a tunnel can reach its ports.
    pub(crate) network_of_ports: Network,
    /// Jobs have a kernel of their own, which may lack calls.
    pub(crate) has_own_kernel: bool,
    /// Holds the work directories; give it back last.
    pub(crate) root: TempDir,
}

/// A job of a test: its spec and its work directory.
pub(crate) struct Job {
    pub(crate) spec: WorkloadSpec,
    pub(crate) secrets: Secrets,
    pub(crate) volumes: Volumes,
}

impl Job {
    pub(crate) fn lease(&self) -> LeaseId {
        self.spec.lease
    }

    pub(crate) fn work(&self) -> &Path {
        &self.volumes.work
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.work().join(name)).unwrap_or_default()
    }
}

impl Fixture {
    /// A job that runs `script` in a shell, with a fresh lease and work directory.
    pub(crate) fn job(&self, script: &str) -> Job {
        let lease = LeaseId::new(rand::random::<[u8; 32]>().into());
        let work: PathBuf = self.root.path().join(lease.short());
        std::fs::create_dir(&work).expect("make a work directory");
        std::fs::copy(BUSYBOX, work.join("busybox"))
            .expect("install busybox-static: it is what test jobs run");
        Job {
            spec: WorkloadSpec {
                lease,
                image: self.image.clone(),
                setup: None,
                run: Command::Shell(script.into()),
                envs: BTreeMap::new(),
                limits: Limits {
                    cpu_millis: 1000,
                    memory: Bytes::mib(256),
                    disk: Bytes::mib(256),
                    pids: 64,
                    log: Bytes::mib(1),
                    gpus: Vec::new(),
                    egress: None,
                },
                network: Network::None,
                ports: Vec::new(),
                stop: Stop { signal: 15, grace: Seconds::new(5) },
                keep: None,
                registry: None,
            },
            secrets: Secrets::default(),
            volumes: Volumes { work, until: None },
        }
    }

    pub(crate) async fn start(&self, job: &Job) -> Result<(), RuntimeError> {
        self.runtime.start(&job.spec, &job.secrets, &job.volumes).await
    }

    /// Waits for the end.
    pub(crate) async fn exit(&self, lease: LeaseId) -> Exit {
        let begin = Instant::now();
        loop {
            match self.runtime.status(lease).await.expect("ask for the status") {
                WorkloadStatus::Exited(exit) => return exit,
                WorkloadStatus::Running { .. } => {}
                status @ (WorkloadStatus::Absent | WorkloadStatus::Lost) => {
                    panic!("{status:?} instead of an exit")
                }
            }
            assert!(begin.elapsed() < PATIENCE, "it never ends; its log: {}", self.log(lease).await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether this host gives the runtime no control groups: memory is then refused by an rlimit instead of a kill, and CPU
    /// lent by whole ones.
    async fn approximates(&self) -> bool {
        let findings = self.runtime.readiness().await.findings;
        findings.iter().any(|finding| finding.problem.contains("no control group"))
    }

    /// Starts it and waits for its end.
    pub(crate) async fn run(&self, job: &Job) -> Exit {
        self.start(job).await.expect("start");
        self.exit(job.lease()).await
    }

    /// The log so far.
    pub(crate) async fn log(&self, lease: LeaseId) -> String {
        let (mut from, mut text) = (LogCursor::default(), Vec::new());
        loop {
            let chunk = self.runtime.logs(lease, from, 1 << 20).await.expect("read the log");
            if chunk.bytes.is_empty() {
                return String::from_utf8_lossy(&text).into_owned();
            }
            text.extend_from_slice(&chunk.bytes);
            from = chunk.next;
        }
    }

    /// Waits until the log contains `text`.
    pub(crate) async fn log_says(&self, lease: LeaseId, text: &str) {
        let begin = Instant::now();
        loop {
            let log = self.log(lease).await;
            if log.contains(text) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "no `{text}` in the log: {log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops and removes it; nothing may be left.
    pub(crate) async fn clear(&self, job: &Job) {
        self.runtime.stop(job.lease(), Seconds::new(0)).await.expect("stop");
        self.runtime.remove(job.lease()).await.expect("remove");
        let status = self.runtime.status(job.lease()).await.expect("ask for the status");
        assert_eq!(status, WorkloadStatus::Absent, "remove leaves nothing");
    }
}

/// Makes a module `conformance` with one test for every claim; `$fixture` is an async function that returns a [`Fixture`].
#[macro_export]
macro_rules! conformance_suite {
    ($fixture:path) => {
        $crate::conformance_suite!(conformance, $fixture:
            a_job_leaves_its_exit_code,
            a_signal_is_128_plus_its_number,
            a_missing_program_does_not_start,
            setup_runs_first_in_the_same_sandbox,
            a_failed_setup_ends_it_with_its_code,
            environment_and_secrets_reach_the_job,
            inputs_are_read_and_outputs_are_left,
            concurrent_starts_run_it_once,
            another_spec_is_a_conflict,
            an_ended_job_is_not_run_again,
            the_log_goes_on_from_any_cursor,
            a_log_flood_is_capped_and_counted,
            a_stop_signal_lets_it_end_by_itself,
            a_stop_signal_reaches_every_process_of_the_job,
            what_ignores_the_stop_signal_is_killed,
            the_whole_tree_ends_with_its_job,
            a_paused_job_stands_still,
            a_signal_reaches_the_job,
            memory_is_bounded_and_reported,
            processes_are_bounded,
            cpu_is_bounded_and_metered,
            without_network_only_loopback_answers,
            a_port_is_reachable_by_the_tunnel,
            a_kept_sandbox_outlives_its_job_until_it_is_stopped,
            what_is_kept_ends_when_its_time_is_over,
            a_job_that_is_stopped_is_not_kept,
            a_restarted_agent_adopts_it,
            an_exit_while_no_agent_runs_is_kept,
            a_running_job_is_not_removed,
            an_unknown_lease_is_absent
        );
    };
    ($suite:ident, $fixture:path: $($claim:ident),+) => {
        mod $suite {
            $(
                #[tokio::test]
                async fn $claim() {
                    let fixture: $crate::conformance::Fixture = $fixture().await;
                    $crate::conformance::$claim(&fixture).await;
                }
            )+
        }
    };
}

/// The claims about sessions, for runtimes that begin some.
#[macro_export]
macro_rules! session_suite {
    ($fixture:path) => {
        $crate::conformance_suite!(session_conformance, $fixture:
            a_command_beside_the_job_sees_what_the_job_sees,
            a_kept_sandbox_is_worked_in_after_its_job,
            a_command_leaves_its_own_exit_code,
            a_command_reads_its_input_to_the_end,
            output_that_nobody_takes_waits,
            a_terminal_has_its_size_and_its_signals,
            what_a_session_left_behind_is_killed,
            a_session_ends_with_its_job,
            a_session_reaches_a_port_that_the_job_did_not_name,
            nothing_is_begun_where_no_job_runs
        );
    };
}

/// The claims about what a job tries against its host.
#[macro_export]
macro_rules! escape_suite {
    ($fixture:path) => {
        $crate::conformance_suite!(escape_conformance, $fixture:
            calls_that_reach_out_are_refused,
            processes_of_the_host_cannot_be_touched,
            no_socket_of_the_host_answers,
            a_scan_of_the_network_finds_no_route,
            mounts_and_devices_are_not_made,
            proc_and_sys_give_nothing_of_the_host,
            a_variable_that_is_none_is_refused_before_anything_is_made,
            variables_that_steer_programs_steer_the_job_alone
        );
    };
}

pub(crate) async fn a_job_leaves_its_exit_code(f: &Fixture) {
    let job = f.job("echo working; exit 7");
    let exit = f.run(&job).await;
    assert_eq!((exit.code, exit.out_of_memory), (7, false));
    assert_eq!(f.log(job.lease()).await, "working\n");
    f.clear(&job).await;
}

pub(crate) async fn a_signal_is_128_plus_its_number(f: &Fixture) {
    let job = f.job("echo up; ./busybox sleep 60");
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    f.runtime.signal(job.lease(), 9).await.expect("signal");
    assert_eq!(f.exit(job.lease()).await.code, 128 + 9);
    f.clear(&job).await;
}

pub(crate) async fn a_missing_program_does_not_start(f: &Fixture) {
    let mut job = f.job("");
    job.spec.run = Command::Exec(vec!["/no/such/program".into()]);
    let error = f.start(&job).await.expect_err("there is no such program");
    assert!(matches!(&error, RuntimeError::Start(why) if why.contains("/no/such/program")), "{error:?}");
    let status = f.runtime.status(job.lease()).await.expect("ask for the status");
    assert!(!matches!(status, WorkloadStatus::Running { .. }), "{status:?}");
    f.clear(&job).await;
}

pub(crate) async fn setup_runs_first_in_the_same_sandbox(f: &Fixture) {
    let mut job = f.job("./busybox cat /tmp/made made");
    job.spec.setup = Some(Command::Shell("echo one > /tmp/made; echo two > made; echo setup".into()));
    assert_eq!(f.run(&job).await.code, 0);
    assert_eq!(f.log(job.lease()).await, "setup\none\ntwo\n");
    f.clear(&job).await;
}

pub(crate) async fn a_failed_setup_ends_it_with_its_code(f: &Fixture) {
    let mut job = f.job("echo never");
    job.spec.setup = Some(Command::Shell("exit 3".into()));
    assert_eq!(f.run(&job).await.code, 3);
    assert!(!f.log(job.lease()).await.contains("never"));
    f.clear(&job).await;
}

pub(crate) async fn environment_and_secrets_reach_the_job(f: &Fixture) {
    let mut job = f.job("echo $PLAIN $TOKEN; pwd");
    job.spec.envs.insert("PLAIN".into(), "with spaces 'and' quotes".into());
    job.secrets.0.insert("TOKEN".into(), "hunter2".into());
    assert_eq!(f.run(&job).await.code, 0);
    assert_eq!(f.log(job.lease()).await, "with spaces 'and' quotes hunter2\n/work\n");
    f.clear(&job).await;
}

pub(crate) async fn inputs_are_read_and_outputs_are_left(f: &Fixture) {
    let job = f.job("./busybox mkdir out && ./busybox tr a-z A-Z < in/text > out/text");
    std::fs::create_dir(job.work().join("in")).expect("mkdir");
    std::fs::write(job.work().join("in/text"), "a tale\n").expect("write an input");
    assert_eq!(f.run(&job).await.code, 0, "{}", f.log(job.lease()).await);
    f.clear(&job).await;
    assert_eq!(job.read("out/text"), "A TALE\n", "remove leaves the volumes alone");
    std::fs::remove_dir_all(job.work()).expect("the agent can delete what the job left");
}

pub(crate) async fn concurrent_starts_run_it_once(f: &Fixture) {
    let job = f.job("echo run >> runs; ./busybox sleep 60");
    let starts = (0..5).map(|_| f.start(&job));
    for outcome in futures::future::join_all(starts).await {
        outcome.expect("each start succeeds");
    }
    let begin = Instant::now();
    while job.read("runs").is_empty() && begin.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(job.read("runs"), "run\n");
    f.clear(&job).await;
}

pub(crate) async fn another_spec_is_a_conflict(f: &Fixture) {
    let job = f.job("./busybox sleep 60");
    f.start(&job).await.expect("start");
    let mut other = job.spec.clone();
    other.run = Command::Shell("echo other".into());
    let error = f.runtime.start(&other, &job.secrets, &job.volumes).await.expect_err("another spec");
    assert!(matches!(error, RuntimeError::Conflict(lease) if lease == job.lease()), "{error:?}");
    f.clear(&job).await;
}

pub(crate) async fn an_ended_job_is_not_run_again(f: &Fixture) {
    let job = f.job("echo run >> runs");
    f.run(&job).await;
    f.start(&job).await.expect("the same start again");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(f.exit(job.lease()).await.code, 0);
    assert_eq!(job.read("runs"), "run\n");
    f.clear(&job).await;
}

pub(crate) async fn the_log_goes_on_from_any_cursor(f: &Fixture) {
    let job = f.job("i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done; echo oops >&2");
    f.run(&job).await;
    let whole = f.log(job.lease()).await;
    assert!(whole.starts_with("line 0\nline 1\n") && whole.contains("oops"), "{whole}");
    let (mut from, mut pieces) = (LogCursor::default(), Vec::new());
    loop {
        let chunk = f.runtime.logs(job.lease(), from, 100).await.expect("read the log");
        assert!(chunk.bytes.len() <= 100, "the limit holds");
        pieces.extend_from_slice(&chunk.bytes);
        assert!(chunk.end || chunk.next > from, "it advances");
        from = chunk.next;
        if chunk.end {
            break;
        }
    }
    assert_eq!(String::from_utf8_lossy(&pieces), whole, "no byte is lost or repeated");
    let rest = f.runtime.logs(job.lease(), from, 100).await.expect("read the log");
    assert!(rest.bytes.is_empty() && rest.end);
    f.clear(&job).await;
}

pub(crate) async fn a_log_flood_is_capped_and_counted(f: &Fixture) {
    let mut job = f.job("./busybox yes 0123456789abcde | ./busybox head -c 4194304");
    job.spec.limits.log = Bytes::mib(1);
    f.run(&job).await;
    let kept = f.log(job.lease()).await.len();
    assert!(kept <= (1 << 20) + 4096, "{kept} bytes of log were kept");
    let chunk = f.runtime.logs(job.lease(), LogCursor::default(), 16).await.expect("read the log");
    assert!(chunk.dropped >= 2 << 20, "{} bytes are said to be dropped", chunk.dropped);
    f.clear(&job).await;
}

pub(crate) async fn a_stop_signal_lets_it_end_by_itself(f: &Fixture) {
    let job = f.job(
        "trap 'echo saved > checkpoint; exit 4' TERM; echo ready; while :; do ./busybox sleep 0.05; done",
    );
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "ready").await;
    f.runtime.stop(job.lease(), Seconds::new(10)).await.expect("stop");
    assert_eq!(f.exit(job.lease()).await.code, 4);
    assert_eq!(job.read("checkpoint"), "saved\n");
    f.runtime.stop(job.lease(), Seconds::new(10)).await.expect("stopping twice is no error");
    f.clear(&job).await;
}

pub(crate) async fn a_kept_sandbox_outlives_its_job_until_it_is_stopped(f: &Fixture) {
    let mut job = f.job("echo made > made; exit 3");
    (job.spec.keep, job.spec.setup) = (Some(Seconds::new(600)), Some(Command::Shell("echo ready".into())));
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "the job ended, exit 3; its sandbox stays for 10m").await;
    assert!(f.log(job.lease()).await.starts_with("ready\n"));
    let status = f.runtime.status(job.lease()).await.expect("a status");
    assert!(matches!(status, WorkloadStatus::Running { paused: false, .. }), "{status:?}");
    f.runtime.stop(job.lease(), Seconds::new(10)).await.expect("stop");
    assert_eq!(f.exit(job.lease()).await.code, 3, "the job's own code");
    assert_eq!(job.read("made"), "made\n");
    f.clear(&job).await;
}

pub(crate) async fn what_is_kept_ends_when_its_time_is_over(f: &Fixture) {
    let mut job = f.job("./busybox sleep 600 & exit 4");
    job.spec.keep = Some(Seconds::new(1));
    assert_eq!(f.run(&job).await.code, 4);
    f.clear(&job).await;
    let mut failed = f.job("echo never; exit 4");
    (failed.spec.keep, failed.spec.setup) = (Some(Seconds::new(1)), Some(Command::Shell("exit 9".into())));
    assert_eq!(f.run(&failed).await.code, 9);
    assert!(!f.log(failed.lease()).await.contains("never"));
    f.clear(&failed).await;
}

pub(crate) async fn a_job_that_is_stopped_is_not_kept(f: &Fixture) {
    let mut job = f.job("trap 'exit 6' TERM; echo up; while :; do ./busybox sleep 0.05; done");
    job.spec.keep = Some(Seconds::new(600));
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    f.runtime.stop(job.lease(), Seconds::new(10)).await.expect("stop");
    assert_eq!(f.exit(job.lease()).await.code, 6);
    assert!(!f.log(job.lease()).await.contains("stays"));
    f.clear(&job).await;
}

pub(crate) async fn a_stop_signal_reaches_every_process_of_the_job(f: &Fixture) {
    let job = f.job(
        "trap 'wait; echo parent >> saved; exit 5' TERM; \
         (trap 'echo child >> saved; exit 0' TERM; echo up; while :; do ./busybox sleep 0.05; done) & \
         while :; do ./busybox sleep 0.05; done",
    );
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    f.runtime.stop(job.lease(), Seconds::new(10)).await.expect("stop");
    assert_eq!(f.exit(job.lease()).await.code, 5);
    assert_eq!(job.read("saved"), "child\nparent\n");
    f.clear(&job).await;
}

pub(crate) async fn what_ignores_the_stop_signal_is_killed(f: &Fixture) {
    let job = f.job("trap '' TERM; echo ready; while :; do ./busybox sleep 0.05; done");
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "ready").await;
    let begin = Instant::now();
    f.runtime.stop(job.lease(), Seconds::new(1)).await.expect("stop");
    assert!(begin.elapsed() >= Duration::from_secs(1), "it had its grace");
    assert!(begin.elapsed() < Duration::from_secs(10), "and no more");
    assert_eq!(f.exit(job.lease()).await.code, 128 + 9);
    f.clear(&job).await;
}

pub(crate) async fn the_whole_tree_ends_with_its_job(f: &Fixture) {
    let job = f.job(
        "(trap '' TERM HUP; while :; do echo . >> beat; ./busybox sleep 0.02; done) & \
         while [ ! -s beat ]; do ./busybox sleep 0.02; done; exit 0",
    );
    f.run(&job).await;
    let beats = job.read("beat").len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(job.read("beat").len(), beats, "a child outlived its job");
    f.clear(&job).await;
}

pub(crate) async fn a_paused_job_stands_still(f: &Fixture) {
    let job = f.job("echo up; while :; do echo . >> beat; ./busybox sleep 0.02; done");
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    f.runtime.pause(job.lease()).await.expect("pause");
    f.runtime.pause(job.lease()).await.expect("pausing twice is no error");
    let status = f.runtime.status(job.lease()).await.expect("ask for the status");
    assert!(matches!(status, WorkloadStatus::Running { paused: true, .. }), "{status:?}");
    let beats = job.read("beat").len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(job.read("beat").len(), beats, "it moved while paused");
    f.runtime.resume(job.lease()).await.expect("resume");
    f.runtime.resume(job.lease()).await.expect("resuming twice is no error");
    let status = f.runtime.status(job.lease()).await.expect("ask for the status");
    assert!(matches!(status, WorkloadStatus::Running { paused: false, .. }), "{status:?}");
    let begin = Instant::now();
    while job.read("beat").len() == beats {
        assert!(begin.elapsed() < PATIENCE, "it never went on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    f.runtime.pause(job.lease()).await.expect("pause");
    f.runtime.stop(job.lease(), Seconds::new(1)).await.expect("a paused job can be stopped");
    f.clear(&job).await;
}

pub(crate) async fn a_signal_reaches_the_job(f: &Fixture) {
    let job = f.job("trap 'echo checkpoint' USR1; echo ready; while :; do ./busybox sleep 0.02; done");
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "ready").await;
    f.runtime.signal(job.lease(), 10).await.expect("signal");
    f.log_says(job.lease(), "checkpoint").await;
    f.clear(&job).await;
}

pub(crate) async fn memory_is_bounded_and_reported(f: &Fixture) {
    let mut job = f.job("./busybox dd if=/dev/zero of=/dev/null bs=512M count=1; echo survived");
    job.spec.limits.memory = Bytes::mib(64);
    let exit = f.run(&job).await;
    if f.approximates().await {
        assert!(!f.log(job.lease()).await.contains("records out"), "it got more than its limit");
        return f.clear(&job).await;
    }
    assert!(exit.out_of_memory, "the job may exit with any code ({}), the kill is told", exit.code);
    f.clear(&job).await;
}

pub(crate) async fn processes_are_bounded(f: &Fixture) {
    let mut job =
        f.job("i=0; while [ $i -lt 200 ]; do ./busybox sleep 30 & i=$((i+1)); echo $i > forks; done; echo unbounded");
    job.spec.limits.pids = 32;
    f.start(&job).await.expect("start");
    let begin = Instant::now();
    let mut last = String::new();
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = job.read("forks");
        let ended = matches!(f.runtime.status(job.lease()).await, Ok(WorkloadStatus::Exited(_)));
        if ended || (now == last && !now.is_empty()) {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "it forks for ever");
        last = now;
    }
    let forks: u32 = job.read("forks").trim().parse().expect("a number");
    assert!(forks < 32, "{forks} processes with a limit of 32");
    let log = f.log(job.lease()).await;
    assert!(!log.contains("unbounded"));
    assert!(log.to_lowercase().contains("fork"), "the kernel's refusal is in the log: {log}");
    f.clear(&job).await;
}

pub(crate) async fn cpu_is_bounded_and_metered(f: &Fixture) {
    let mut job = f.job("echo up; while :; do :; done");
    job.spec.limits.cpu_millis = 250;
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    let (begin, before) = (Instant::now(), f.runtime.usage(job.lease()).await.expect("usage").cpu_ms);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let usage = f.runtime.usage(job.lease()).await.expect("usage");
    let used = u128::from(usage.cpu_ms - before);
    let elapsed = begin.elapsed().as_millis();
    assert!(used >= 50, "{used} ms of CPU were metered in {elapsed} ms");
    let share = if f.approximates().await { elapsed + elapsed / 10 } else { elapsed / 2 };
    assert!(used <= share, "{used} ms of CPU in {elapsed} ms with a quarter of a CPU");
    assert!(usage.memory > Bytes::ZERO && usage.memory_peak >= usage.memory);
    assert!(usage.disk > Bytes::mib(1), "busybox alone is more: {}", usage.disk);
    f.clear(&job).await;
}

pub(crate) async fn without_network_only_loopback_answers(f: &Fixture) {
    let job = f.job(
        "echo hello > index.html; ./busybox httpd -p 127.0.0.1:8099 -h /work; \
         ./busybox wget -q -O - http://127.0.0.1:8099/; \
         for a in 169.254.169.254 10.0.0.1 192.168.0.1 1.1.1.1; do \
           ./busybox timeout 2 ./busybox wget -q -O - http://$a/ && echo reached $a; done; exit 0",
    );
    let exit = f.run(&job).await;
    let log = f.log(job.lease()).await;
    assert_eq!(exit.code, 0, "{log}");
    assert!(log.starts_with("hello\n"), "{log}");
    assert!(!log.contains("reached"), "{log}");
    f.clear(&job).await;
}

pub(crate) async fn a_port_is_reachable_by_the_tunnel(f: &Fixture) {
    let mut job = f.job("echo hello > index.html; echo up; exec ./busybox httpd -f -p 8080 -h /work");
    job.spec.network = f.network_of_ports;
    job.spec.ports = vec![8080];
    f.start(&job).await.expect("start");
    let address = f.runtime.address(job.lease(), 8080).await.expect("an address");
    let begin = Instant::now();
    let answer = loop {
        let attempt = async {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        match attempt.await {
            Ok(answer) if !answer.is_empty() => break answer,
            _ => assert!(begin.elapsed() < PATIENCE, "nothing answers at {address}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(answer.ends_with("hello\n"), "{answer}");
    let unlisted = f.runtime.address(job.lease(), 9).await.expect_err("a port that the spec does not name");
    assert!(matches!(unlisted, RuntimeError::Unsupported { .. }), "{unlisted:?}");
    f.clear(&job).await;
}

pub(crate) async fn a_restarted_agent_adopts_it(f: &Fixture) {
    let job = f.job("echo up; while [ ! -e go ]; do ./busybox sleep 0.02; done; echo down; exit 5");
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    let agent = (f.reopen)();
    let status = agent.status(job.lease()).await.expect("ask for the status");
    assert!(matches!(status, WorkloadStatus::Running { paused: false, .. }), "{status:?}");
    assert!(agent.list().await.expect("list").contains(&job.lease()));
    agent.start(&job.spec, &job.secrets, &job.volumes).await.expect("starting what runs is no error");
    std::fs::write(job.work().join("go"), "").expect("write");
    assert_eq!(f.exit(job.lease()).await.code, 5);
    assert_eq!(f.log(job.lease()).await, "up\ndown\n");
    f.clear(&job).await;
}

pub(crate) async fn an_exit_while_no_agent_runs_is_kept(f: &Fixture) {
    let job = f.job("echo up; ./busybox sleep 0.3; echo down; exit 6");
    f.start(&job).await.expect("start");
    tokio::time::sleep(Duration::from_millis(800)).await;
    let agent = (f.reopen)();
    let status = agent.status(job.lease()).await.expect("ask for the status");
    assert!(matches!(status, WorkloadStatus::Exited(Exit { code: 6, .. })), "{status:?}");
    assert_eq!(f.log(job.lease()).await, "up\ndown\n");
    f.clear(&job).await;
}

pub(crate) async fn a_running_job_is_not_removed(f: &Fixture) {
    let job = f.job("./busybox sleep 60");
    f.start(&job).await.expect("start");
    let error = f.runtime.remove(job.lease()).await.expect_err("it runs");
    assert!(matches!(error, RuntimeError::StillRunning(_)), "{error:?}");
    f.clear(&job).await;
    assert!(!f.runtime.list().await.expect("list").contains(&job.lease()));
    f.runtime.remove(job.lease()).await.expect("removing twice is no error");
}

pub(crate) async fn an_unknown_lease_is_absent(f: &Fixture) {
    let lease = f.job("").lease();
    assert_eq!(f.runtime.status(lease).await.expect("ask for the status"), WorkloadStatus::Absent);
    let absent = [
        f.runtime.logs(lease, LogCursor::default(), 10).await.err(),
        f.runtime.usage(lease).await.err(),
        f.runtime.pause(lease).await.err(),
        f.runtime.resume(lease).await.err(),
        f.runtime.signal(lease, 15).await.err(),
        f.runtime.address(lease, 80).await.err(),
    ];
    for error in absent {
        assert!(matches!(error, Some(RuntimeError::Absent(_))), "{error:?}");
    }
    f.runtime.stop(lease, Seconds::new(0)).await.expect("nothing of it runs");
    f.runtime.remove(lease).await.expect("nothing of it is left");
}
