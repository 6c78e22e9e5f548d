//! Machines that stay after their job, and end when nobody uses them.

use tradewind_buyer::job::record::JobState;
use tradewind_proto::supervision::{Outcome, StopReason};

use super::{Standing, text, told};
use crate::market::Market;

const JOB: &str = "name: warm\n\
     run: |\n\
    \x20 echo first > state\n\
    \x20 exit 3\n\
     outputs: [state]\n\
     resources: {cpus: 1, memory: 128MiB, disk: 64MiB}\n\
     max_price: 0.50\nmax_cost: 0.20\ntimeout: 20m\n";

#[test]
fn a_kept_machine_is_worked_in_and_ends_when_nobody_uses_it() {
    let market = Market::of_two();
    let job = market.submit_with(JOB, &["--keep", "10m", "--idle-stop", "10s"]);
    let stays = "tradewind: the job ended, exit 3; its sandbox stays for 10m00s unless it is stopped";
    market.said(&job, stays);
    let standing = Standing { market, job };
    // It does nothing for longer than `idle_stop`, and is in use all the same.
    let held = standing.exec("sleep 16; echo second >> state");
    assert_eq!(held.status.code(), Some(0), "{}", told(&held));
    let again = standing.exec("cat state");
    assert_eq!(text(&again.stdout), "first\nsecond\n", "{}", told(&again));

    let attempt = standing.market.settled(&standing.job);
    assert_eq!(attempt.outcome, Some(Outcome::Stopped(StopReason::Idle)), "{attempt:?}");
    let exit = attempt.supervision.report.as_ref().and_then(|report| report.exit).expect("an exit");
    assert_eq!(exit.code, 3, "the job's own");
    let state = std::fs::read_to_string(standing.job.output.join("state")).expect("an output");
    assert_eq!(state, "first\nsecond\n");
    let is_deleted =
        || standing.market.attempt(&standing.job).is_some_and(|attempt| attempt.deleted.is_some());
    standing.market.until("the provider says that nothing is left", is_deleted);
    let attempt = standing.market.attempt(&standing.job).expect("a lease");
    let (lease, word) = (&attempt.supervision, attempt.deleted.as_ref().expect("a word"));
    word.verify(lease.id, lease.terms.provider).expect("the provider's");
    let record = standing.market.record(&standing.job).expect("a record");
    let JobState::Ended { reason, .. } = record.state else { panic!("{record:?}") };
    assert_eq!(reason, "stopped: nobody used it for idle_stop");
}
