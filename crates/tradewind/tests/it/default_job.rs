//! What an owner's machine does while nobody leases it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::Value;
use tradewind_proto::supervision::Outcome;

use crate::digits::{docker, engine, sweep};
use crate::market::{BUYER, LEDGER, Market, PROVIDER};

/// Notes its start, the time again and again, and that it was told to end.
const FOLDING: &str = "name: folding\n\
    run: |\n\
    \x20 trap 'echo told >> ends; exit 0' TERM\n\
    \x20 echo started >> starts\n\
    \x20 while true; do date +%s%N > beat.new; mv beat.new beat; sleep 0.1; done\n";

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

fn time(text: &str) -> u64 {
    text.trim().parse().expect("a time")
}

fn runs(market: &Market) -> bool {
    market.ask::<Value>("provider", "/v1/provider").is_some_and(|view| view["default_job"] == true)
}

/// A provider with both runtimes, and this as its default job.
fn lending(market: &Market, host: &str, job: &str) -> String {
    let file = market.path("fold.yaml");
    std::fs::write(&file, job).expect("written");
    format!(
        "{PROVIDER}runtimes = [\"process\", \"docker\"]\ndocker_host = \"{host}\"\n\
         [provider.default_job]\nfile = \"{}\"\nafter = 1\n",
        file.display()
    )
}

/// A registry that never says what its images are, and how often it was asked. The engine speaks plain HTTP with loopback.
async fn silent_registry() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let never = async |State(asked): State<Arc<AtomicUsize>>| {
        asked.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    };
    let router = Router::new()
        .route("/v2/", get(async || ""))
        .route("/v2/{name}/manifests/{tag}", get(never))
        .with_state(asked.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address.to_string(), asked)
}

#[test]
fn docker_an_image_that_never_comes_keeps_no_lease_from_its_start() {
    let mut market = Market::new();
    let (registry, asked) = market.block_on(silent_registry());
    let job = format!("name: folding\nimage: {registry}/fold:1\nrun: fold\n");
    let roles = lending(&market, &engine(), &job);
    market.start_ledger(LEDGER);
    market.start("provider", &roles);
    market.start("buyer", BUYER);
    market.hears_of(1);
    market.until("the engine waits for the image", || asked.load(Ordering::SeqCst) > 0);
    let job = market.submit(
        "name: leasing\nrun: echo begun; sleep 2\nresources: {cpus: 1, memory: 64MiB, disk: 64MiB}\n",
    );
    let attempt = market.settled(&job);
    assert_eq!(attempt.outcome, Some(Outcome::Finished { code: 0 }), "{attempt:?}");
    assert!(!runs(&market));
    sweep(market);
}

/// An image with a shell, under a tag of its own.
fn image(market: &Market) -> String {
    let context = market.path("image");
    std::fs::create_dir_all(&context).expect("made");
    std::fs::copy("/bin/busybox", context.join("busybox")).expect("install busybox-static");
    std::fs::write(
        context.join("Dockerfile"),
        "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/sleep\n",
    )
    .expect("written");
    let tag = format!("tradewind-test/fold:{}", hex::encode(rand::random::<[u8; 6]>()));
    docker(&["build", "--quiet", "--tag", &tag, context.to_str().expect("a path")]);
    tag
}

#[test]
fn docker_what_is_left_of_a_default_job_ends_once_its_engine_answers_again() {
    let mut market = Market::new();
    let image = image(&market);
    let door = market.path("engine.sock");
    let open = |door: &PathBuf| {
        let socket = engine();
        let socket = socket.strip_prefix("unix://").expect("an engine on this machine");
        std::os::unix::fs::symlink(socket, door).expect("linked");
    };
    open(&door);
    let host = format!("unix://{}", door.display());
    let roles = lending(&market, &host, &format!("name: folding\nimage: {image}\nrun: sleep 600\n"));
    market.start_ledger(LEDGER);
    market.start("provider", &roles);
    market.until("nobody leases the machine", || runs(&market));
    let owner = format!("label=tradewind.owner={}", market.account("provider"));
    let containers = || docker(&["container", "ls", "--all", "--quiet", "--filter", &owner]);
    assert_eq!(containers().lines().count(), 1);
    market.kill("provider");
    std::fs::remove_file(&door).expect("removed");
    let (without, _) = roles.split_once("[provider.default_job]").expect("a section");
    market.start("provider", without);
    market.until("the engine is asked in vain", || {
        market.logged("provider", "cannot tell whether a default job of before is over")
    });
    assert_eq!(containers().lines().count(), 1, "it goes on");
    open(&door);
    market.until("it is ended", || containers().is_empty());
    assert!(!runs(&market));
    sweep(market);
    docker(&["rmi", &image]);
}

#[test]
fn the_default_job_runs_while_nobody_leases_and_ends_before_a_lease_s_job_starts() {
    let mut market = Market::new();
    let file = market.path("fold.yaml");
    std::fs::write(&file, FOLDING).expect("written");
    let section = format!("[provider.default_job]\nfile = \"{}\"\nafter = 1\n", file.display());
    market.start_ledger(LEDGER);
    market.start("provider", &format!("{PROVIDER}{section}"));
    market.start("buyer", BUYER);
    market.hears_of(1);
    let dir = market.path("provider").join("provider/default-job");
    let (starts, ends, beat) = (dir.join("starts"), dir.join("ends"), dir.join("beat"));
    market.until("nobody leases the machine", || beat.exists() && runs(&market));
    market.kill("provider");
    let before = time(&std::fs::read_to_string(&beat).expect("a beat"));
    market.again("provider");
    market.until("the agent found it again", || runs(&market));
    market.until("it went on", || time(&std::fs::read_to_string(&beat).expect("a beat")) > before);
    assert_eq!((lines(&starts), lines(&ends)), (1, 0), "once, and never told to end");

    let job = market.submit(
        "name: leasing\nrun: date +%s%N > begun; sleep 2\noutputs: [begun]\n\
         resources: {cpus: 1, memory: 64MiB, disk: 64MiB}\n",
    );
    let attempt = market.settled(&job);
    assert_eq!(attempt.outcome, Some(Outcome::Finished { code: 0 }), "{attempt:?}");
    let begun = time(&std::fs::read_to_string(job.output.join("begun")).expect("an output"));
    market.until("it runs again", || lines(&starts) == 2 && runs(&market));
    assert_eq!(lines(&ends), 1, "it was told");
    let told = std::fs::metadata(&ends).and_then(|file| file.modified()).expect("a time");
    let told = told.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    assert!(told < Duration::from_nanos(begun), "{told:?}, and the lease's job began at {begun}");

    let paused = market.command("provider", &["provider", "pause"]).status().expect("the program starts");
    assert!(paused.success());
    market.until("a paused machine is left alone", || lines(&ends) == 2 && !runs(&market));
    let last = time(&std::fs::read_to_string(&beat).expect("a beat"));
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(time(&std::fs::read_to_string(&beat).expect("a beat")), last, "nothing of it is left");

    let resumed = market.command("provider", &["provider", "resume"]).status().expect("the program starts");
    assert!(resumed.success());
    market.until("it runs once more", || lines(&starts) == 3 && runs(&market));
    market.dismiss("provider");
    market.until("it ends with its node", || lines(&ends) == 3);
}
