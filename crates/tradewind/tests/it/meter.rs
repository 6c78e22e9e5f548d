//! A buyer that has another node of its choice meter and pay, and goes away.

use std::time::Duration;

use serde_json::Value;
use tradewind_buyer::job::record::{Attempt, JobState};
use tradewind_chain::ledger::LeaseEvent;
use tradewind_mesh::{Mesh, MeshConfig, MeshSecret, PeerAddr, Transport as _};
use tradewind_proto::conversation::{Answer, Request};
use tradewind_proto::delegation::{Assignment, Inquiry, MeterAnswer, MeterRequest};
use tradewind_proto::ids::{BuyerId, LeaseId};
use tradewind_proto::meter::exposure;
use tradewind_proto::negotiation::RefusalCode;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::supervision::{Outcome, StopReason};
use tradewind_proto::terms::Domain;
use tradewind_proto::units::{Money, Seconds, Timestamp};

use crate::fault::{counting, finished_whole};
use crate::market::{BUYER, Job, LEDGER, Market, PROVIDER};

/// A ledger, a provider that closes an unpaid lease after `notice` seconds, a buyer, and a node that meters one lease of it at a
/// time. Returns what the buyer names that node by.
fn market(notice: u32) -> (Market, String) {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("provider", &format!("{PROVIDER}notice = {notice}\n"));
    market.start("buyer", BUYER);
    let served = format!("[meter]\nserves = [\"{}\"]\nassignments = 1\n", market.account("buyer"));
    market.start("meter", &served);
    market.hears_of(1);
    let status: Value = market.ask("meter", "/v1/status").expect("an answer");
    let address = status["mesh_address"].as_str().expect("an address").to_owned();
    (market, address)
}

fn submit(market: &Market, meter: &str, seconds: u32) -> (Job, Attempt) {
    let job = market.submit_with(&counting(seconds), &["--meter", meter]);
    market.said(&job, "tick 3");
    let attempt = market.attempt(&job).expect("a lease");
    let metered = attempt.delegate.as_ref().expect("another node meters");
    assert_ne!(attempt.supervision.terms.meter, market.account("meter"), "the wallet's key signs no voucher");
    assert_eq!(metered.prepayment.voucher.cumulative, attempt.supervision.terms.prepay);
    (job, attempt)
}

/// What the meter says of the lease.
fn metered(market: &Market, lease: LeaseId) -> Option<Value> {
    let view: Value = market.ask("meter", "/v1/meter")?;
    view["leases"].as_array()?.iter().find(|shown| shown["lease"] == lease.to_string()).cloned()
}

/// What a command of the buyer's printed last, as JSON, with its exit code.
fn told(market: &Market, arguments: &[&str]) -> (Option<i32>, Value) {
    let said =
        market.command("buyer", &[&["--json"], arguments].concat()).output().expect("the program starts");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let value = serde_json::from_str(text.lines().last().unwrap_or_default());
    (said.status.code(), value.unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&said.stderr))))
}

#[test]
fn a_job_whose_buyer_is_gone_is_metered_and_paid_to_its_end_by_another_node() {
    const TICKS: u32 = 24;
    let (mut market, meter) = market(3);
    let before = market.chain().money(market.account("buyer"));
    let (job, attempt) = submit(&market, &meter, TICKS);
    let (id, terms) = (attempt.supervision.id, attempt.supervision.terms);
    market.kill("buyer");

    let signed = || metered(&market, id).map_or(0, |lease| lease["signed"].as_u64().expect("an amount"));
    let least = terms.rate.over(Seconds::new(u64::from(TICKS - 1)));
    market.until("the meter signed for all of the work", || u128::from(signed()) >= least.base_units());
    let chain = market.chain();
    market.until("the lease closes without its buyer", || chain.closed(id).is_some());
    let closed = chain.closed(id).expect("closed");
    assert!(closed.paid >= least, "{closed:?}, at least {least} earned");
    assert_eq!((closed.forfeited, closed.buyer_fee), (Money::ZERO, Money::ZERO), "{closed:?}");
    market.until("the meter forgets the lease", || metered(&market, id).is_none());

    market.again("buyer");
    let attempt = finished_whole(&market, &job, TICKS);
    let run = attempt.supervision.report.as_ref().expect("a report").run;
    let owed = run.due(&terms, run.until.expect("it ended"));
    assert!(
        closed.paid <= owed.checked_add(terms.rate.over(Seconds::new(1))).expect("an amount"),
        "{closed:?}"
    );
    let (code, receipt) = told(&market, &["wait", &job.id]);
    assert_eq!((code, &receipt["state"]), (Some(0), &Value::from("closed")), "{receipt}");
    assert_eq!(receipt["paid"].as_u64().map(u128::from), Some(closed.paid.base_units()), "{receipt}");
    assert!(receipt["meter"].as_str().is_some_and(|meter| meter.ends_with('…')), "{receipt}");
    let chain = market.chain();
    let after = chain.money(market.account("buyer"));
    assert_eq!(chain.opened(), 1);
    assert!(after <= before.saturating_sub(closed.paid), "{after} of {before}");
}

#[test]
fn a_meter_killed_under_a_job_goes_on_where_it_stopped() {
    const TICKS: u32 = 20;
    let (mut market, meter) = market(120);
    let (job, attempt) = submit(&market, &meter, TICKS);
    let id = attempt.supervision.id;
    market
        .until("it pays", || metered(&market, id).is_some_and(|lease| lease["vouchers"].as_u64() > Some(2)));
    let before = metered(&market, id).expect("a lease");
    market.kill("meter");
    std::thread::sleep(Duration::from_secs(2));
    market.again("meter");
    let after = metered(&market, id).expect("the lease is taken up again");
    assert!(after["signed"].as_u64() >= before["signed"].as_u64(), "{before} then {after}");

    let attempt = finished_whole(&market, &job, TICKS);
    let chain = market.chain();
    market.until("the lease is closed", || chain.closed(id).is_some());
    let closed = chain.closed(id).expect("closed");
    let report = attempt.supervision.report.as_ref().expect("a report");
    let owed = report.run.due(&attempt.supervision.terms, report.run.until.expect("it ended"));
    assert!(closed.paid >= owed, "{closed:?}, {owed} owed");
    assert!(closed.paid <= owed.checked_add(exposure(&attempt.supervision.terms)).expect("an amount"));
    assert_eq!(chain.opened(), 1);
}

#[test]
fn a_meter_that_is_gone_ends_the_job_with_its_name() {
    let (mut market, meter) = market(3);
    let (job, attempt) = submit(&market, &meter, 200);
    let terms = &attempt.supervision.terms;
    market.kill("meter");
    let settled = market.settled(&job);
    assert_eq!(settled.outcome, Some(Outcome::Unpaid), "{settled:?}");
    let Some(JobState::Ended { code: None, reason }) = market.record(&job).map(|record| record.state) else {
        panic!("{settled:?}")
    };
    let key = &meter[..10];
    assert!(
        reason.contains(&format!("the meter {key}… did not pay")) && reason.contains("--meter own"),
        "{reason}"
    );
    let paid = settled.settled.expect("settled").paid;
    assert!(paid <= settled.supervision.signed.max(terms.prepay), "{settled:?}");
    assert!(market.chain().history().iter().any(|(_, event)| matches!(event, LeaseEvent::Noticed { .. })));
}

#[test]
fn a_metered_job_is_stopped_by_its_buyer_and_closed_with_its_last_voucher() {
    let (market, meter) = market(120);
    let (job, attempt) = submit(&market, &meter, 200);
    let (code, shown) = told(&market, &["lease", "show", &attempt.supervision.id.to_string()]);
    assert_eq!(code, Some(0));
    assert!(
        shown["meter"].as_str().is_some_and(|name| meter.starts_with(name.trim_end_matches('…'))),
        "{shown}"
    );
    let (code, _) = told(&market, &["stop", &job.id]);
    assert_eq!(code, Some(0));
    let settled = market.settled(&job);
    assert_eq!(settled.outcome, Some(Outcome::Stopped(StopReason::Asked)), "{settled:?}");
    let chain = market.chain();
    market.until("the lease is closed", || chain.closed(settled.supervision.id).is_some());
    let noticed =
        |event: &LeaseEvent| matches!(event, LeaseEvent::Noticed { .. } | LeaseEvent::CloseRequested { .. });
    assert!(!chain.history().iter().any(|(_, event)| noticed(event)), "a good end");
}

#[test]
fn a_meter_that_does_not_serve_a_buyer_says_so_and_nothing_is_spent() {
    let mut market = Market::of_two();
    market.start("meter", "[meter]\n");
    let status: Value = market.ask("meter", "/v1/status").expect("an answer");
    let meter = status["mesh_address"].as_str().expect("an address").to_owned();
    let before = market.chain().money(market.account("buyer"));
    let file = market.lay_out(&counting(3), &[]);
    let job = file.to_str().expect("a path");
    let run = |meter: &str| {
        let said = market.command("buyer", &["run", "--yes", "--detach", "--meter", meter, job]).output();
        let said = said.expect("the program starts");
        assert_eq!(said.status.code(), Some(125));
        String::from_utf8_lossy(&said.stderr).into_owned()
    };
    let refused = run(&meter);
    let buyer = market.account("buyer");
    assert!(
        refused.contains(&format!("does not meter for {buyer}")) && refused.contains("`serves`"),
        "{refused}"
    );
    let nobody = format!("{}@127.0.0.1:1", hex::encode([7; 32]));
    let silent = run(&nobody);
    assert!(silent.contains("the meter 0707070707… does not answer"), "{silent}");
    assert!(silent.contains("hint:") && silent.contains("--meter own"), "{silent}");
    let provider: Value = market.ask("provider", "/v1/status").expect("an answer");
    let none = run(provider["mesh_address"].as_str().expect("an address"));
    assert!(none.contains("this node meters nothing"), "{none}");
    let unknown = run("nobody");
    assert!(unknown.contains("`nobody` is no meter"), "{unknown}");
    assert_eq!(market.ask::<Vec<Value>>("buyer", "/v1/jobs").expect("an answer").len(), 0);
    assert_eq!((market.chain().opened(), market.chain().money(buyer)), (0, before));
}

#[test]
fn a_meter_takes_no_more_leases_of_a_buyer_than_its_owner_allows() {
    let (market, meter) = market(120);
    let (job, _) = submit(&market, &meter, 200);
    let file = market.lay_out(&counting(3), &[]);
    let job_file = file.to_str().expect("a path");
    let said = market.command("buyer", &["run", "--dry-run", "--meter", &meter, job_file]).output();
    let said = said.expect("the program starts");
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(125), "{text}");
    assert!(text.contains("meters 1 leases of") && text.contains("`assignments` under [meter]"), "{text}");
    told(&market, &["stop", &job.id]);
    market.settled(&job);
    let (key, _) = meter.split_once('@').expect("an address");
    market.until("the meter has room again", || {
        let again = market.command("buyer", &["run", "--dry-run", "--meter", &meter, job_file]).output();
        let again = again.expect("the program starts");
        let text = String::from_utf8_lossy(&again.stderr).into_owned();
        again.status.success()
            && text.contains(&format!("metered by {key}: it signs"))
            && text.contains("at most price")
    });
}

#[test]
fn a_meter_reads_reports_without_outputs_and_pays_and_nothing_else() {
    let (mut market, meter) = market(120);
    let (job, attempt) = submit(&market, &meter, 12);
    let (lease, voucher) = (attempt.supervision.id, attempt.delegate.as_ref().expect("a meter").prepayment);
    market.kill("buyer");
    let outputs = || {
        let reports: Vec<Value> = market.ask("provider", "/v1/leases").unwrap_or_default();
        reports.iter().any(|report| report["outputs"].as_array().is_some_and(|files| files.len() == 2))
    };
    market.until("the job left its outputs", outputs);
    market.kill("meter");

    // Who stole the meter's key, in its place.
    let secret = MeshSecret::load_or_create(&market.path("meter").join("mesh.key")).expect("the meter's key");
    let answers = market.block_on(async {
        let thief = Stranger::with(secret).await;
        let wait = Seconds::ZERO;
        let mut answers = Vec::new();
        let cursor = Default::default();
        for request in [
            Request::Report { lease, seen: 0, wait },
            Request::Logs { lease, from: cursor, wait },
            Request::Stop { lease },
            Request::Pay(voucher),
        ] {
            answers.push(thief.asks_provider(&attempt.address, request).await);
        }
        thief.mesh.close().await;
        answers
    });
    let [Answer::Report(report), Answer::Refused(logs), Answer::Refused(stop), Answer::Refused(pay)] =
        &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert!(report.exit.is_some() && report.outputs.is_empty(), "{report:?}");
    assert_eq!([logs.code, stop.code], [RefusalCode::UnknownLease; 2]);
    assert_eq!(pay.code, RefusalCode::Payment, "an old voucher shrinks: {pay}");
    market.again("buyer");
    finished_whole(&market, &job, 12);
}

/// A stranger of the mesh, with a key and an account that nobody knows.
struct Stranger {
    mesh: Mesh,
    key: SigningKey,
}

impl Stranger {
    async fn join() -> Self {
        Self::with(MeshSecret::generate()).await
    }

    async fn with(secret: MeshSecret) -> Self {
        let config = MeshConfig { bind: ([127, 0, 0, 1], 0).into(), ..MeshConfig::new(secret) };
        let key = SigningKey::from_bytes([3; 32]).expect("a key");
        Self { mesh: Mesh::bind(config).await.expect("a mesh"), key }
    }

    async fn asks_meter(&self, meter: &PeerAddr, request: MeterRequest) -> MeterAnswer {
        let frame = self.mesh.ask_meter(meter, request.encode()).await.expect("an answer");
        MeterAnswer::decode(&frame).expect("an answer")
    }

    async fn asks_provider(&self, provider: &PeerAddr, request: Request) -> Answer {
        let frame = self.mesh.call(provider, request.encode()).await.expect("an answer");
        Answer::decode(&frame).expect("an answer")
    }
}

#[test]
fn a_stranger_gets_nothing_of_a_meter_nor_of_the_lease_that_it_meters() {
    let (market, meter) = market(120);
    let (job, attempt) = submit(&market, &meter, 200);
    let meter: PeerAddr = meter.parse().expect("an address");
    let (profile, lease) = (market.profile(), attempt.supervision.id);
    let domain = Domain { chain_id: profile.chain.id, contract: profile.contracts.leases };
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
        Timestamp::from_unix(since.as_secs())
    };
    let refusals = market.block_on(async {
        let stranger = Stranger::join().await;
        let inquiry = |buyer: BuyerId| Inquiry {
            domain,
            buyer,
            from: stranger.mesh.key(),
            meter: meter.key,
            at: now(),
        };
        let mut terms = attempt.supervision.terms.clone();
        let real = terms.buyer;
        terms.buyer = BuyerId::new(stranger.key.address());
        (terms.start, terms.open_by) = (now(), now().after(Seconds::new(30)));
        let assignment = |terms| Assignment {
            domain,
            meter: meter.key,
            terms,
            provider: attempt.address.to_string(),
            max_cost: Money::MAX,
            longest: None,
        };
        let own = assignment(terms.clone());
        terms.buyer = real;
        let forged = assignment(terms);
        let requests = [
            MeterRequest::Ask(inquiry(BuyerId::new(stranger.key.address())).sign(&stranger.key)),
            MeterRequest::Ask(inquiry(real).sign(&stranger.key)),
            MeterRequest::Assign(Box::new(own.sign(&stranger.key))),
            MeterRequest::Assign(Box::new(forged.sign(&stranger.key))),
        ];
        let mut refusals = Vec::new();
        for request in requests {
            let MeterAnswer::Refused(refusal) = stranger.asks_meter(&meter, request).await else {
                panic!("a stranger is served")
            };
            refusals.push(refusal.code);
        }
        let wait = Seconds::ZERO;
        let voucher = attempt.delegate.as_ref().expect("a meter").prepayment;
        let asked =
            [Request::Report { lease, seen: 0, wait }, Request::Pay(voucher), Request::Stop { lease }];
        for request in asked {
            let Answer::Refused(refusal) = stranger.asks_provider(&attempt.address, request).await else {
                panic!("a stranger is answered")
            };
            refusals.push(refusal.code);
        }
        stranger.mesh.close().await;
        refusals
    });
    use RefusalCode::{Policy, UnknownLease};
    let (by_meter, by_provider) = ([Policy; 4], [UnknownLease; 3]);
    assert_eq!(refusals, [&by_meter[..], &by_provider[..]].concat());
    let view: Value = market.ask("meter", "/v1/meter").expect("an answer");
    assert_eq!(view["leases"].as_array().map(Vec::len), Some(1), "one lease, the buyer's: {view}");
    told(&market, &["stop", &job.id]);
    market.settled(&job);
}
