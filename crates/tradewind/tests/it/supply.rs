//! What owners and absent buyers may do: leave a job alone, take a machine back, refuse, and end what costs too much.

use serde_json::Value;
use tradewind_buyer::job::record::{Attempt, JobState};
use tradewind_chain::ledger::LeaseEvent;
use tradewind_proto::report::Stage;
use tradewind_proto::supervision::{Outcome, StopReason};
use tradewind_proto::units::{Money, Seconds, Timestamp};

use crate::fault::counting;
use crate::market::{BUYER, Job, LEDGER, Market, PROVIDER};

/// A provider of leases of seconds, at a price at which seconds count, that sells spot too and warns for a few seconds.
const SHORT: &str = "[provider]\nprice = \"3.6\"\nspot_price = \"1.8\"\nnotice = 8\nmemory = \"512MiB\"\ndisk = \"1GiB\"\n\
     heartbeat = 2\n[provider.rules]\nmin_duration = 15\n";

fn of(provider: &str) -> Market {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("provider", provider);
    market.start("buyer", BUYER);
    market.hears_of(1);
    market
}

/// A job that goes on until it is told to end, and saves that it was.
fn endless(more: &str) -> String {
    format!(
        "name: endless\n\
         run: |\n\
        \x20 trap 'echo saved > state; exit 3' USR1\n\
        \x20 echo started\n\
        \x20 while true; do sleep 0.2; done\n\
         outputs: [state]\n\
         resources: {{cpus: 1, memory: 128MiB, disk: 64MiB}}\n\
         checkpoint: {{path: state, signal: USR1, grace: 6s}}\n{more}"
    )
}

#[test]
fn earnings_go_to_the_owners_account_and_bonds_stay() {
    let owner = alloy::primitives::Address::repeat_byte(0x77);
    // A hundredth of a token a second: a month's rent was paid from the bonds, and comes back first.
    let dear = PROVIDER.replace("price = \"0.36\"", "price = \"36\"\nspot_price = \"36\"");
    let payout = format!("{dear}[provider.payout]\nto = \"{owner}\"\nleast = \"0.0001\"\nevery = 2\n");
    let market = of(&payout);
    let job = market.submit(&counting(45).replace("max_cost: 1", "max_cost: 5\nmarket: spot"));
    let paid = adds_up(&market.settled(&job));
    let chain = market.chain();
    market.until("the owner was paid", || !chain.money(owner).is_zero());
    let (earned, kept) = (chain.money(owner), chain.money(market.account("provider")));
    assert!(earned <= paid, "{earned} of {paid}");
    assert!(kept >= Money::from_base_units(100_000_000), "bonds stay: {kept}");
}

/// What the operator of a node is told by a command that succeeds.
fn told(market: &Market, node: &str, arguments: &[&str]) -> Value {
    let said = market.command(node, &[&["--json"], arguments].concat()).output().expect("the program starts");
    assert!(said.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_slice(&said.stdout).expect("JSON")
}

fn adds_up(attempt: &Attempt) -> Money {
    let settled = attempt.settled.expect("settled");
    let parts = [settled.refunded, settled.forfeited];
    let sum = parts.into_iter().try_fold(settled.paid, Money::checked_add).expect("a sum");
    assert_eq!(sum, settled.deposited, "{settled:?}");
    let (lease, report) = (&attempt.supervision, attempt.supervision.report.as_ref().expect("a report"));
    let statement = report.statement.as_ref().expect("what it consumed, signed");
    let used = statement.verify(lease.id, lease.terms.provider).expect("by its provider");
    assert_eq!((used.cpu_ms, used.since), (report.usage.cpu_ms, report.run.since));
    assert_eq!(report.exit.map(|exit| (exit.code, exit.at)), Some((used.code, used.until)));
    settled.paid
}

fn says(market: &Market, job: &Job) -> String {
    match market.record(job).map(|record| record.state) {
        Some(JobState::Ended { reason, .. }) => reason,
        Some(JobState::Placing { problem }) => problem,
        Some(JobState::Leased) | None => String::new(),
    }
}

#[test]
fn an_unattended_job_goes_on_is_paid_and_closes_while_its_buyer_is_gone() {
    let mut market = of(&PROVIDER.replace("heartbeat", "notice = 2\nheartbeat"));
    let job = market.submit_with(
        "name: alone\n\
         run: |\n\
        \x20 echo started\n\
        \x20 for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1; done\n\
        \x20 echo model > model; echo ended\n\
         outputs: [model]\n\
         resources: {cpus: 1, memory: 128MiB, disk: 64MiB}\n\
         timeout: 2m\n",
        &["--unattended"],
    );
    market.said(&job, "started");
    let attempt = market.attempt(&job).expect("a lease");
    assert_eq!(attempt.supervision.ahead, attempt.supervision.terms.deposit, "all of it is signed ahead");
    market.kill("buyer");

    let lease = attempt.supervision.id;
    let terms = &attempt.supervision.terms;
    let closed = {
        let chain = market.chain();
        market.until("the provider closes the lease by itself", || chain.closed(lease).is_some());
        let noticed =
            |(of, event): &(_, LeaseEvent)| *of == lease && matches!(event, LeaseEvent::Noticed { .. });
        assert!(chain.history().iter().any(noticed));
        chain.closed(lease).expect("closed")
    };
    let least = terms.rate.over(Seconds::new(8));
    assert!(closed.paid >= least, "{closed:?}: the rungs that fell due were paid, {least} and more");
    assert!(closed.bond_to_buyer.is_zero(), "no break fee: {closed:?}");

    market.again("buyer");
    let attempt = market.settled(&job);
    let terms = &attempt.supervision.terms;
    assert_eq!(attempt.outcome, Some(Outcome::Finished { code: 0 }), "{attempt:?}");
    assert_eq!(std::fs::read_to_string(job.output.join("model")).expect("an output"), "model\n");
    assert_eq!(market.log(&job), "started\nended\n", "the log waited too");
    let report = attempt.supervision.report.as_ref().expect("a report");
    let ended = report.run.until.expect("ended");
    let paid = adds_up(&attempt);
    assert_eq!(paid, closed.paid);
    assert!(
        paid <= terms.rate.over(ended.since(terms.start)),
        "nothing is paid beyond the job's end: {paid}"
    );
    println!("paid {paid} of {} without the buyer, for a job of {}", terms.deposit, ended.since(terms.start));
}

#[test]
fn a_spot_lease_is_taken_back_with_notice_and_what_the_job_saved_comes_home() {
    let market = of(SHORT);
    let job = market.submit(&endless("market: spot\ntimeout: 10m\n"));
    market.said(&job, "started");
    let lease = market.attempt(&job).expect("a lease").supervision.id;
    let answer = told(&market, "provider", &["provider", "reclaim"]);
    assert_eq!(answer["reclaiming"][0], lease.to_string());
    let attempt = market.settled(&job);
    assert_eq!(attempt.outcome, Some(Outcome::Reclaimed), "{attempt:?}");
    assert!(says(&market, &job).contains("took the spot lease back"), "{}", says(&market, &job));
    assert_eq!(std::fs::read_to_string(job.output.join("state")).expect("a checkpoint"), "saved\n");
    let report = attempt.supervision.report.as_ref().expect("a report");
    assert_eq!(report.exit.expect("it ended").code, 3, "it ended by itself, in time");
    let (chain, terms) = (market.chain(), &attempt.supervision.terms);
    let noticed = |(_, event): &(_, LeaseEvent)| matches!(event, LeaseEvent::Noticed { .. });
    assert_eq!(chain.history().iter().filter(|event| noticed(event)).count(), 1);
    let ran = report.run.until.expect("ended").since(report.run.since.expect("started"));
    let paid = adds_up(&attempt);
    assert_eq!(paid, terms.rate.over(ran).max(terms.prepay), "what it worked is paid, and no more");
    market.until("the lease is closed", || chain.closed(lease).is_some());
    println!("reclaimed after {ran}, paid {paid} of {}: {}", terms.deposit, says(&market, &job));
}

#[test]
fn a_machine_is_drained_of_what_runs_and_takes_nothing_until_it_resumes() {
    let market = of(SHORT);
    let job = market.submit(&endless("market: spot\ntimeout: 10m\n"));
    market.said(&job, "started");
    let lease = market.attempt(&job).expect("a lease").supervision.id;
    let late = market.command("provider", &["provider", "drain", "--within", "1s"]).output();
    let late = late.expect("the program starts");
    let said = String::from_utf8_lossy(&late.stderr);
    assert_eq!(late.status.code(), Some(125), "{said}");
    assert!(said.contains("still at work here: 1 lease") && said.contains(&lease.to_string()), "{said}");
    let drained = told(&market, "provider", &["provider", "drain", "--reclaim"]);
    assert_eq!(
        (&drained["accepting"], &drained["reclaimed"][0]),
        (&Value::Bool(false), &Value::from(lease.to_string()))
    );
    assert_eq!(market.settled(&job).outcome, Some(Outcome::Reclaimed));
    let view: Value = market.ask("provider", "/v1/provider").expect("an answer");
    assert_eq!((&view["leases"], &view["accepting"]), (&Value::from(0), &Value::Bool(false)), "{view}");
    let _ = told(&market, "provider", &["provider", "resume"]);
    let next = market.submit(&endless(""));
    market.said(&next, "started");
}

#[test]
fn beyond_the_owners_hours_nothing_runs() {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let time = |seconds: i64| {
        now.checked_add(jiff::SignedDuration::from_secs(seconds))
            .expect("a time")
            .strftime("%H:%M:%S")
            .to_string()
    };
    let hours = format!("{}-{}", time(-3_600), time(70));
    let schedule = format!("[provider.schedule]\ntime_zone = \"UTC\"\nlend = [\"{hours}\"]\n");
    let market = of(&format!("{SHORT}{schedule}"));
    let view: Value = market.ask("provider", "/v1/provider").expect("an answer");
    assert!(
        view["kept"].is_null() && view["until"].as_u64().is_some(),
        "it lends until its hours end: {view}"
    );
    let late =
        market.submit("run: echo too long\nresources: {cpus: 1, memory: 64MiB, disk: 64MiB}\ntimeout: 10m\n");
    market.until("what cannot be taken back is refused", || says(&market, &late).contains("duration"));
    println!("{}", says(&market, &late));
    let spot = market.submit(&endless("market: spot\ntimeout: 10m\n"));
    market.said(&spot, "started");
    let end = u64::try_from(now.timestamp().as_second() + 70).expect("a time");
    let announced = |attempt: Attempt| attempt.supervision.report.and_then(|report| report.lent_until);
    market.until("the tenant knows when the owner takes it back", || {
        market.attempt(&spot).and_then(announced).map(Timestamp::unix) == Some(end)
    });
    let shown = market.command("buyer", &["ps"]).output().expect("the program starts");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("running, lent until "), "{shown}");

    let attempt = market.settled(&spot);
    assert_eq!(attempt.outcome, Some(Outcome::Reclaimed), "{attempt:?}");
    assert_eq!(std::fs::read_to_string(spot.output.join("state")).expect("a checkpoint"), "saved\n");
    let ended = attempt.supervision.report.as_ref().and_then(|report| report.run.until).expect("it ended");
    market.until("the hours are over", || {
        let view: Value = market.ask("provider", "/v1/provider").expect("an answer");
        view["kept"] == "the owner's hours"
    });
    assert!(ended.unix() <= end, "with its notice the lease was over: {ended:?}, {end}");
    let full = "all units are taken";
    market.until("nobody is taken on any more", || says(&market, &late).contains(full));
    assert_eq!(market.chain().opened(), 1);
}

#[test]
fn an_owner_who_refuses_a_buyer_or_pauses_is_heard_and_remembered() {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("buyer", BUYER);
    let buyer = market.account("buyer");
    let rules = format!("{PROVIDER}[provider.rules]\ndeny_buyers = [\"{buyer}\"]\n");
    market.start("provider", &rules);
    market.hears_of(1);
    let job = market.submit("run: echo hello\nresources: {cpus: 1, memory: 128MiB, disk: 64MiB}\n");
    market.until("the buyer hears the reason", || {
        let said = says(&market, &job);
        said.contains("does not lease to the account") && said.contains("try another provider")
    });
    println!("{}", says(&market, &job));
    assert_eq!(market.chain().opened(), 0);

    let _ = told(&market, "provider", &["provider", "pause"]);
    market.kill("provider");
    market.again("provider");
    let view: Value = market.ask("provider", "/v1/provider").expect("an answer");
    assert_eq!(view["accepting"], false, "a restart changes nothing: {view}");
    let _ = told(&market, "provider", &["provider", "resume"]);
    let view: Value = market.ask("provider", "/v1/provider").expect("an answer");
    assert_eq!(view["accepting"], true);
}

#[test]
fn an_account_gets_no_more_leases_at_a_time_than_the_owner_gives() {
    let market = of(&SHORT
        .replace("[provider]\n", "[provider]\nunits = 2\ncpus = 1\n")
        .replace("[provider.rules]\n", "[provider.rules]\nleases_per_buyer = 1\n"));
    let first = market.submit(&endless(""));
    market.said(&first, "started");
    let second = market.submit(&endless(""));
    market.until("the buyer hears the reason", || {
        says(&market, &second).contains("gives an account 1 lease at a time")
    });
    let stopped = told(&market, "buyer", &["stop", &first.id]);
    assert_eq!(stopped["stopping"], true);
    market.said(&second, "started");
}

#[test]
fn the_timeout_ends_a_job_that_would_go_on() {
    let market = of(SHORT);
    let job = market.submit(&endless("timeout: 6s\n"));
    let attempt = market.settled(&job);
    assert_eq!(attempt.outcome, Some(Outcome::Stopped(StopReason::Timeout)), "{attempt:?}");
    let stage = &attempt.supervision.report.as_ref().expect("a report").stage;
    assert_eq!(*stage, Stage::Finished);
    let terms = &attempt.supervision.terms;
    let paid = adds_up(&attempt);
    assert!(paid <= terms.rate.over(Seconds::new(6 + 4)), "{paid}");
    println!("paid {paid} of {}: {}", terms.deposit, says(&market, &job));
}

#[test]
fn saving_its_progress_is_part_of_what_max_cost_pays_for() {
    let market = of(SHORT);
    let job = market.submit(&endless("max_cost: 0.020\non_max_cost: checkpoint-and-stop\n"));
    let attempt = market.settled(&job);
    assert_eq!(attempt.outcome, Some(Outcome::Stopped(StopReason::MaxCost)), "{attempt:?}");
    let terms = &attempt.supervision.terms;
    let report = attempt.supervision.report.as_ref().expect("a report");
    assert_eq!(report.exit.expect("it ended").code, 3, "it saved and ended by itself");
    assert!(report.exit.expect("it ended").at < terms.end, "within what was paid for");
    assert_eq!(std::fs::read_to_string(job.output.join("state")).expect("a checkpoint"), "saved\n");
    let paid = adds_up(&attempt);
    assert!(paid <= Money::from_base_units(20_000), "{paid}");
    println!("paid {paid} of {}: {}", terms.deposit, says(&market, &job));
}
