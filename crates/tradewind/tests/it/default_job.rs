//! What an owner's machine does while nobody leases it.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tradewind_proto::supervision::Outcome;

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
    let runs = |market: &Market| {
        market.ask::<Value>("provider", "/v1/provider").is_some_and(|view| view["default_job"] == true)
    };
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
