//! Leases in a sandboxed runtime, on the one that `scripts/with-dockerd` registers as `runsc`: gVisor where this machine has it
//! (Debian's package `runsc`), on the host's network stack inside the container's namespace, as that release cannot use its own on
//! kernels of today. Where the machine has none it is runc under that name: then these tests hold the choice, its staying and the
//! signals from inside, and say nothing of gVisor. Kata, which needs virtual machines, is not tried.

use std::time::Duration;

use tempfile::TempDir;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::manifest::Share;
use tradewind_proto::terms::LeaseKind;
use tradewind_proto::units::{Bytes, Seconds};
use tradewind_proto::workload::{Network, WorkloadStatus};
use tradewind_provider::docker::{DockerConfig, Sandbox, sandboxed_by};
use tradewind_provider::runtime::{Ask, Runtime as _, RuntimeError};

use super::busybox::Recipe;
use super::topology::run;
use super::{bare_engine, config, connect, fixture_of, told};
use crate::conformance::Fixture;

// Without the claims about one kernel's refusals and its count of processes, which gVisor answers in its own way; and without the
// one whose `wget` its old network stack interrupts.
crate::conformance_suite!(conformance, crate::docker::sandboxed::fixture:
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
    cpu_is_bounded_and_metered,
    a_port_is_reachable_by_the_tunnel,
    a_kept_sandbox_outlives_its_job_until_it_is_stopped,
    what_is_kept_ends_when_its_time_is_over,
    a_job_that_is_stopped_is_not_kept,
    a_restarted_agent_adopts_it,
    an_exit_while_no_agent_runs_is_kept,
    a_running_job_is_not_removed
);
crate::conformance_suite!(escape_conformance, crate::docker::sandboxed::fixture:
    processes_of_the_host_cannot_be_touched,
    no_socket_of_the_host_answers,
    a_scan_of_the_network_finds_no_route,
    mounts_and_devices_are_not_made,
    proc_and_sys_give_nothing_of_the_host,
    variables_that_steer_programs_steer_the_job_alone
);
crate::session_suite!(crate::docker::sandboxed::fixture);

/// What the engine of these tests has.
const RUNTIME: &str = "runsc";

fn settings(root: &TempDir, sandbox: Sandbox) -> DockerConfig {
    DockerConfig { sandbox, ..config(root) }
}

async fn with(sandbox: Sandbox) -> Fixture {
    let root = TempDir::new().expect("a directory");
    let settings = settings(&root, sandbox);
    let there =
        sandboxed_by(&DockerConfig { sandbox: Sandbox::Named(RUNTIME.into()), ..settings.clone() }).await;
    there.unwrap_or_else(|error| {
        panic!("{error}\nhint: scripts/with-dockerd starts an engine with `{RUNTIME}`")
    });
    Fixture { has_own_kernel: true, ..fixture_of(root, settings, &Recipe::with_shell()).await }
}

async fn fixture() -> Fixture {
    with(Sandbox::Auto).await
}

/// What a buyer is told before terms are signed.
async fn admitted(f: &Fixture, gpus: u8) -> Result<(), RuntimeError> {
    let share = Share { cpu_millis: 1000, memory: Bytes::mib(64), disk: Bytes::mib(64), gpus, egress: None };
    f.runtime.admit(&Ask { kind: LeaseKind::OnDemand, duration: Seconds::new(60), share }).await
}

/// The runtime of the lease's container.
async fn runtime_of(lease: LeaseId) -> String {
    let found = bare_engine().await.inspect_container(&format!("tw-{lease}"), None).await.expect("inspect");
    found.host_config.and_then(|config| config.runtime).expect("a runtime")
}

#[tokio::test]
async fn a_lease_gets_the_sandbox_that_is_there_and_keeps_it_over_a_restart() {
    let f = fixture().await;
    assert_eq!(
        sandboxed_by(&settings(&f.root, Sandbox::Auto)).await.expect("an answer").as_deref(),
        Some(RUNTIME)
    );
    let job = f.job("echo up; while [ ! -e go ]; do ./busybox sleep 0.05; done; exit 5");
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    assert_eq!(runtime_of(job.lease()).await, RUNTIME);

    let agent = connect(&settings(&f.root, Sandbox::Off));
    let status = agent.status(job.lease()).await.expect("a status");
    assert!(matches!(status, WorkloadStatus::Running { paused: false, .. }), "{status:?}");
    agent.start(&job.spec, &job.secrets, &job.volumes).await.expect("what runs is not made anew");
    assert_eq!(runtime_of(job.lease()).await, RUNTIME);
    let other = f.job("./busybox sleep 60");
    agent.start(&other.spec, &other.secrets, &other.volumes).await.expect("start");
    assert_ne!(runtime_of(other.lease()).await, RUNTIME, "the next lease goes by the new choice");
    f.clear(&other).await;

    std::fs::write(job.work().join("go"), "").expect("write");
    assert_eq!(f.exit(job.lease()).await.code, 5);
    f.clear(&job).await;
}

#[tokio::test]
async fn without_the_sandbox_that_must_be_no_lease_is_taken() {
    let named = Sandbox::Named("no-such-runtime".into());
    let f = with(named.clone()).await;
    let job = f.job("echo never");
    let error = f.start(&job).await.expect_err("there is no such runtime");
    assert!(
        matches!(&error, RuntimeError::Unsupported { what, .. } if what.contains("`no-such-runtime`")),
        "{error:?}"
    );
    assert_eq!(f.runtime.list().await.expect("list"), [], "nothing was made");
    assert!(matches!(admitted(&f, 0).await, Err(RuntimeError::Unsupported { .. })));
    let readiness = f.runtime.readiness().await;
    let finding = readiness.findings.iter().find(|found| found.problem.contains("no-such-runtime"));
    assert!(!readiness.ready && finding.is_some_and(|found| found.grave && found.fix.contains(RUNTIME)));
    let refused = sandboxed_by(&settings(&f.root, named)).await.expect_err("at the start").to_string();
    assert!(refused.contains("no-such-runtime") && refused.contains("daemon.json"), "{refused}");
    f.clear(&job).await;
}

#[tokio::test]
async fn accelerators_are_refused_where_a_sandbox_must_be() {
    let f = with(Sandbox::Required).await;
    assert!(f.runtime.readiness().await.ready);
    admitted(&f, 0).await.expect("without accelerators");
    assert!(matches!(admitted(&f, 1).await, Err(RuntimeError::Unsupported { .. })));
    let mut job = f.job("echo ran");
    job.spec.limits.gpus = vec![0];
    let error = f.start(&job).await.expect_err("nobody said that it can");
    assert!(
        matches!(&error, RuntimeError::Unsupported { what, .. } if what.contains("provider.sandbox")),
        "{error:?}"
    );
    f.clear(&job).await;
    assert_eq!(told(&f, &f.job("echo ran")).await, "ran\n");
}

/// A sandbox counts no processes of the job; the host counts the sandbox's.
#[tokio::test]
async fn a_fork_bomb_stays_in_its_sandbox() {
    let f = fixture().await;
    let mut job = f.job("echo lit; (b() { b | b & b; }; b) 2>/dev/null; while :; do :; done");
    job.spec.limits.pids = 40;
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "lit").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let name = format!("tw-{}", job.lease());
    let found = bare_engine().await.inspect_container(&name, None).await.expect("inspect");
    let most = found.host_config.and_then(|config| config.pids_limit);
    assert_eq!(most, Some(40 + 1 + 512), "the job's, the init process, the sandbox's own");
    f.runtime.stop(job.lease(), Seconds::new(0)).await.expect("it is stopped all the same");
    f.clear(&job).await;
}

#[tokio::test]
async fn files_without_a_name_count_against_the_disk_limit() {
    let f = fixture().await;
    let mut job = f.job(
        "for n in 3 4 5 6 7 8 9; do eval \"exec $n>hidden\"; ./busybox rm hidden; \
         dd if=/dev/zero bs=1M count=8 >&$n 2>/dev/null; done; echo full; ./busybox sleep 60",
    );
    job.spec.limits.disk = Bytes::mib(16);
    assert_eq!(f.run(&job).await.code, 128 + 9);
    assert!(f.log(job.lease()).await.contains("passed its limit"));
    f.clear(&job).await;
}

#[tokio::test]
async fn a_file_above_the_disk_limit_is_cut() {
    let f = fixture().await;
    let mut job = f.job("dd if=/dev/zero of=huge bs=1M count=64; ls -l huge");
    job.spec.limits.disk = Bytes::mib(16);
    let log = told(&f, &job).await;
    let size = std::fs::metadata(job.work().join("huge")).expect("stat").len();
    assert!(size <= 16 << 20, "{size} bytes were written: {log}");
}

/// The egress table is the bridge's, whatever is behind it.
#[tokio::test]
async fn the_egress_table_holds_a_sandbox_back() {
    let f = fixture().await;
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", 0)).await.expect("listen");
    let port = listener.local_addr().expect("an address").port();
    let _answers = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let mut job = f.job(&format!(
        "gateway=$(ip route | ./busybox awk '/default/ {{print $3}}'); echo at ${{gateway:-none}}; \
         while :; do timeout 1 nc ${{gateway:-169.254.1.1}} {port} </dev/null >/dev/null 2>&1 && echo reached || echo refused; \
         ./busybox sleep 0.1; done"
    ));
    job.spec.network = Network::Internet;
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "refused").await;
    let log = f.log(job.lease()).await;
    assert!(!log.contains("at none") && !log.contains("reached"), "{log}");
    run("nft delete table inet tradewind");
    f.log_says(job.lease(), "reached").await;
    assert!(f.runtime.readiness().await.ready, "whoever asks has the table put back");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let usage = f.runtime.usage(job.lease()).await.expect("usage");
    assert!(usage.egress > Bytes::ZERO, "what it sends is counted: {usage:?}");
    f.clear(&job).await;
}
