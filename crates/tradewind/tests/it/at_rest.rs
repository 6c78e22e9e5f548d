//! What is on a provider's disk of the jobs that it hosts.

use std::os::unix::fs::symlink;
use std::path::Path;

use tradewind_proto::supervision::Outcome;
use tradewind_testbed::disk::Disk;

use crate::market::{BUYER, Job, LEDGER, Market, PROVIDER};

const MARK: &str = "the patients of the year, by name";

/// A job that copies its input, says so, and goes on for a while.
fn copying(input: &Path, more: &str) -> String {
    format!(
        "name: copying\n\
         run: |\n\
        \x20 cp secret copy\n\
        \x20 echo copied\n\
        \x20 sleep 4\n\
         inputs: [{{path: {}, target: secret}}]\n\
         outputs: [copy]\n\
         resources: {{cpus: 1, memory: 128MiB, disk: 64MiB}}\n{more}",
        input.display()
    )
}

fn ends_well(market: &Market, job: &Job) {
    let attempt = market.settled(job);
    assert_eq!(attempt.outcome, Some(Outcome::Finished { code: 0 }), "{attempt:?}");
    assert_eq!(std::fs::read_to_string(job.output.join("copy")).expect("an output"), MARK.repeat(3_000));
}

#[test]
fn what_a_job_has_on_its_providers_disk_is_encrypted_and_outlives_the_agent_alone() {
    let disk = Disk::encrypting(512);
    let mut market = Market::new();
    let input = market.path("secret");
    std::fs::write(&input, MARK.repeat(3_000)).expect("written");
    // Nodes look for the profile beside their directories.
    symlink(market.path("network.toml"), disk.path().join("network.toml")).expect("linked");
    for name in ["provider", "provider-plain"] {
        std::fs::create_dir(disk.path().join(name)).expect("made");
        symlink(disk.path().join(name), market.path(name)).expect("linked");
    }
    market.start_ledger(LEDGER);
    let provider = PROVIDER.replace("1GiB", "128MiB");
    market.start("provider", &provider.replace("heartbeat", "encrypt = \"required\"\nheartbeat"));
    let cheaper = provider.replace("0.36", "0.18");
    market.start("provider-plain", &cheaper.replace("heartbeat", "encrypt = \"off\"\nheartbeat"));
    market.start("buyer", BUYER);
    market.hears_of(2);

    let job = market.submit(&copying(&input, "placement: {encrypted: true}\n"));
    market.said(&job, "copied");
    assert!(!disk.holds(MARK), "in mid-job");
    market.kill("provider");
    market.again("provider");
    ends_well(&market, &job);
    assert!(!disk.holds(MARK), "after it");
    let work = disk.path().join("provider/provider/work");
    market.until("the provider forgets the lease", || {
        std::fs::read_dir(&work).expect("a directory").count() == 0
    });

    let job = market.submit(&copying(&input, ""));
    market.said(&job, "copied");
    assert!(disk.holds(MARK), "the cheaper one encrypts nothing, and this test sees what it leaves");
    ends_well(&market, &job);
}
