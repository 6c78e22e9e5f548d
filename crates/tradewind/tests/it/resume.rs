//! Jobs that lose their provider and go on elsewhere from what they saved.

use serde_json::Value;
use tradewind_buyer::job::record::{Attempt, JobRecord, JobState};
use tradewind_proto::supervision::Outcome;
use tradewind_testbed::cluster::{Made, slurm};

use crate::market::{BUYER, Job, LEDGER, Market, PROVIDER};

/// Saves every step that it takes, and begins where it left off.
fn stepping(steps: u32, more: &str) -> String {
    format!(
        "name: stepping\n\
         run: |\n\
        \x20 n=$(cat state/step 2>/dev/null || echo 0)\n\
        \x20 mkdir -p state; echo \"from $n\"\n\
        \x20 trap 'echo told; exit 9' USR1\n\
        \x20 while [ $n -lt {steps} ]; do\n\
        \x20   n=$((n + 1)); echo $n > draft && mv draft state/step; echo \"step $n\"\n\
        \x20   for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 0.2; done\n\
        \x20 done\n\
        \x20 echo \"$n steps\" > result\n\
         outputs: [result]\n\
         resources: {{cpus: 1, memory: 128MiB, disk: 64MiB}}\n\
         timeout: 5m\n\
         checkpoint: {{path: state, signal: USR1, grace: 5s}}\n{more}"
    )
}

fn impatient() -> String {
    BUYER.replace("patience = 150", "patience = 5")
}

fn record(market: &Market, job: &Job) -> JobRecord {
    market.record(job).expect("the job")
}

/// The newest checkpoint that is with the buyer; zero where there is none.
fn saved(market: &Market, job: &Job) -> u32 {
    record(market, job).checkpoint.map_or(0, |checkpoint| checkpoint.number)
}

/// The lines of an attempt's log.
fn lines(market: &Market, job: &Job, attempt: usize) -> Vec<String> {
    let arguments = ["logs", &job.id, "--attempt", &attempt.to_string()];
    let said = market.command("buyer", &arguments).output().expect("the program starts");
    String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect()
}

/// The second attempt went on from what the first one saved, and came to the job's end.
fn went_on(market: &Market, job: &Job, steps: u32, first: Outcome) -> Vec<Attempt> {
    let last = market.settled(job);
    assert_eq!(last.outcome, Some(Outcome::Finished { code: 0 }), "{last:?}");
    let attempts = record(market, job).attempts;
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(attempts[0].outcome, Some(first), "{:?}", attempts[0]);
    assert_ne!(attempts[0].provider, last.provider, "not on the lost provider first");
    assert!(last.resumed.is_some(), "{last:?}");
    let second = lines(market, job, 1);
    let from: u32 = second[0].strip_prefix("from ").and_then(|n| n.parse().ok()).expect("a step");
    assert!(from >= 1, "{second:?}");
    let steps_taken: Vec<String> = (from + 1..=steps).map(|step| format!("step {step}")).collect();
    assert_eq!(second[1..], steps_taken);
    assert!(
        lines(market, job, 0).contains(&format!("step {from}")),
        "the first attempt took the steps before"
    );
    assert_eq!(
        std::fs::read_to_string(job.output.join("result")).expect("an output"),
        format!("{steps} steps\n")
    );
    println!("from step {from} on; {} checkpoints came", record(market, job).checkpoints);
    attempts
}

#[test]
fn a_job_whose_provider_is_lost_goes_on_elsewhere_from_what_it_saved() {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("cheap", PROVIDER);
    market.start("dear", &PROVIDER.replace("0.36", "0.72"));
    market.start("buyer", &impatient());
    market.hears_of(2);
    let job = market.submit(&stepping(6, "retry: {attempts: 2}\n"));
    market.said(&job, "step 2");
    market.until("a checkpoint is with the buyer", || saved(&market, &job) >= 1);
    let first = market.attempt(&job).expect("a lease").provider;
    assert_eq!(first.account(), market.account("cheap"));
    // The buyer is gone for a moment too: what it keeps it keeps on disk.
    market.kill("buyer");
    market.destroy("cheap");
    market.again("buyer");
    went_on(&market, &job, 6, Outcome::ProviderFailed);
}

#[test]
fn what_a_job_saved_is_with_its_outputs_where_it_is_not_placed_again() {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("provider", PROVIDER);
    market.start("buyer", &impatient());
    market.hears_of(1);
    let job = market.submit(&stepping(60, ""));
    market.until("a checkpoint is with the buyer", || saved(&market, &job) >= 1);
    market.destroy("provider");
    market.until("the job is over", || record(&market, &job).is_over());
    let step = std::fs::read_to_string(job.output.join("state/step")).expect("what it saved");
    assert!(step.trim().parse::<u32>().is_ok_and(|step| step >= 1), "{step}");
    let JobState::Ended { reason, .. } = record(&market, &job).state else { panic!("it is over") };
    assert!(reason.ends_with("what it saved last is with its outputs"), "{reason}");
}

/// A provider of a cluster's places, in a partition of the machine's.
fn cluster(market: &Market, partition: &str) -> String {
    let shared = market.path("shared");
    std::fs::create_dir(&shared).expect("made");
    format!(
        "[provider]\nprice = \"0.36\"\nspot_price = \"0.18\"\nnotice = 5\nruntimes = [\"slurm\"]\n\
         cpus = 1\nmemory = \"512MiB\"\ndisk = \"1GiB\"\nstake = \"50\"\nbonds = \"100\"\nheartbeat = 2\n\
         [provider.slurm]\ndirectory = \"{}\"\npartition = \"{partition}\"\n[provider.rules]\nmin_duration = 15\n",
        shared.display()
    )
}

#[test]
fn on_slurm_an_offer_lasts_no_longer_than_the_partition_lets_its_jobs() {
    let words =
        ["Nodes=ALL", "MaxTime=20", "State=UP", "PriorityTier=1", "PreemptMode=CANCEL", "GraceTime=6"];
    let _partition = Made::new("PartitionName=short", &words);
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    let cluster = cluster(&market, "short");
    market.start("cluster", &cluster);
    market.start("buyer", BUYER);
    market.hears_of(1);
    let plans = |timeout: &str| {
        let job = format!(
            "name: spot\nrun: echo hello\nmarket: spot\nresources: {{cpus: 1, memory: 128MiB, disk: 64MiB}}\ntimeout: {timeout}\n"
        );
        let file = market.lay_out(&job, &[]);
        let said = market.command("buyer", &["--json", "plan", &file.display().to_string()]).output();
        let plan: Value = serde_json::from_slice(&said.expect("the program starts").stdout).expect("a plan");
        plan["choices"].as_array().is_some_and(|choices| !choices.is_empty())
    };
    market.until("the offer is bounded", || !plans("19m"));
    assert!(plans("17m"), "two minutes are Slurm's own");
    market.dismiss("cluster");
}

#[test]
fn on_slurm_an_owner_s_job_takes_the_place_and_the_lent_one_goes_on_elsewhere() {
    let mut market = Market::new();
    let cluster = cluster(&market, "lent");
    market.start_ledger(LEDGER);
    market.start("cluster", &cluster);
    market.start("home", PROVIDER);
    market.start("buyer", BUYER);
    market.hears_of(2);
    let job = market.submit(&stepping(8, "market: spot-with-fallback\nretry: {attempts: 2}\n"));
    market.said(&job, "step 2");
    let place =
        ["--parsable", "--partition=owner", "--exclusive", "--output=/dev/null", "--wrap", "sleep 600"];
    let owners = slurm("sbatch", &place);
    let attempts = went_on(&market, &job, 8, Outcome::Reclaimed);
    assert_eq!(attempts[0].provider.account(), market.account("cluster"));
    assert!(lines(&market, &job, 0).contains(&"told".to_owned()), "it was told before its place was taken");
    let number = owners.trim();
    let runs = slurm("squeue", &["--noheader", "--format=%T", "--jobs", number]);
    assert_eq!(runs.trim(), "RUNNING", "the owner's work won");
    slurm("scancel", &[number]);
}
