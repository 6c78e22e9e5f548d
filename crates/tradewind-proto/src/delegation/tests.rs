//! A meter's rules: whose leases it takes, and what it signs for them.

use alloy_primitives::Address;
use proptest::prelude::*;

use super::*;
use crate::ids::{BuyerId, MeshKey};
use crate::meter::{exposure, tests::terms};
use crate::signature::SigningKey;
use crate::terms::{Domain, LeaseTerms};
use crate::voucher::Voucher;
use crate::workload::{Exit, Usage};

const DOMAIN: Domain = Domain { chain_id: 1, contract: Address::repeat_byte(9) };
const NODE: MeshKey = MeshKey::from_bytes([5; 32]);
const BUYERS_NODE: MeshKey = MeshKey::from_bytes([6; 32]);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes([seed; 32]).unwrap()
}

fn desk() -> Desk {
    Desk { domain: DOMAIN, node: NODE, signer: key(4).address(), serves: [key(1).address()].into() }
}

fn assignment() -> Assignment {
    let terms = LeaseTerms { buyer: BuyerId::new(key(1).address()), meter: key(4).address(), ..terms() };
    let max_cost = terms.deposit;
    Assignment { domain: DOMAIN, meter: NODE, terms, provider: "somewhere".into(), max_cost, longest: None }
}

fn time(now: u64) -> Timestamp {
    Timestamp::from_unix(now)
}

fn metered() -> Delegation {
    let assignment = assignment();
    Delegation::new(assignment.terms.id(&DOMAIN).unwrap(), &assignment)
}

fn report(lease: LeaseId, revision: u64, stage: Stage, since: u64, exit: Option<u64>) -> Report {
    Report {
        lease,
        revision,
        stage,
        run: Run { since: Some(time(since)), until: exit.map(time) },
        exit: exit.map(|at| Exit { code: 0, out_of_memory: false, at: time(at) }),
        usage: Usage::default(),
        paid: Money::ZERO,
        voucher: None,
        reclaimed: None,
        outputs: Vec::new(),
        statement: None,
        saved: None,
        lent_until: None,
    }
}

fn money(units: u64) -> Money {
    Money::from_base_units(units)
}

fn on_chain(phase: LeasePhase) -> LeaseState {
    LeaseState { phase, ..LeaseState::NONE }
}

#[test]
fn a_meter_takes_what_a_buyer_that_it_serves_signed() {
    let (id, taken) = desk().check(&assignment().sign(&key(1)), time(1_010)).unwrap();
    assert_eq!((id, taken), (assignment().terms.id(&DOMAIN).unwrap(), assignment()));
}

#[test]
fn a_stranger_and_a_forger_assign_nothing() {
    let stranger = desk().check(&assignment().sign(&key(2)), time(1_010));
    assert_eq!(stranger, Err(AssignmentError::NotServed(key(2).address())));
    let mut desk = desk();
    desk.serves.insert(key(2).address());
    let forged = desk.check(&assignment().sign(&key(2)), time(1_010));
    assert!(matches!(forged, Err(AssignmentError::Signature(_))), "{forged:?}");
}

#[test]
fn an_assignment_counts_for_one_chain_one_contract_one_node_and_one_key() {
    type Change = fn(&mut Assignment);
    let changes: [Change; 4] = [
        |a| a.domain.chain_id = 2,
        |a| a.domain.contract = Address::ZERO,
        |a| a.meter = BUYERS_NODE,
        |a| a.terms.meter = Address::ZERO,
    ];
    for change in changes {
        let mut other = assignment();
        change(&mut other);
        let answer = desk().check(&other.sign(&key(1)), time(1_010));
        assert!(
            matches!(
                answer,
                Err(AssignmentError::OtherDomain { .. }
                    | AssignmentError::OtherNode
                    | AssignmentError::OtherKey { .. })
            ),
            "{answer:?}"
        );
    }
}

#[test]
fn an_assignment_is_taken_only_while_its_lease_can_be_opened() {
    let (signed, open_by) = (assignment().sign(&key(1)), assignment().terms.open_by);
    assert!(desk().check(&signed, open_by).is_ok());
    assert_eq!(desk().check(&signed, open_by.after(Seconds::new(1))), Err(AssignmentError::Late));
    assert_eq!(desk().check(&signed, time(900)), Err(AssignmentError::Late));
}

#[test]
fn an_inquiry_counts_from_its_own_node_and_for_a_minute() {
    let ask = |buyer: &SigningKey| {
        let buyer_id = BuyerId::new(buyer.address());
        Inquiry { domain: DOMAIN, buyer: buyer_id, from: BUYERS_NODE, meter: NODE, at: time(1_000) }
            .sign(buyer)
    };
    let desk = desk();
    assert_eq!(desk.hear(&ask(&key(1)), BUYERS_NODE, time(1_060)), Ok(BuyerId::new(key(1).address())));
    assert_eq!(desk.hear(&ask(&key(1)), BUYERS_NODE, time(1_061)), Err(AssignmentError::Late));
    assert_eq!(desk.hear(&ask(&key(1)), NODE, time(1_000)), Err(AssignmentError::OtherNode));
    let stranger = desk.hear(&ask(&key(2)), BUYERS_NODE, time(1_000));
    assert_eq!(stranger, Err(AssignmentError::NotServed(key(2).address())));
}

#[test]
fn a_request_of_one_kind_is_not_read_as_the_other() {
    let inquiry = Inquiry {
        domain: DOMAIN,
        buyer: BuyerId::new(key(1).address()),
        from: BUYERS_NODE,
        meter: NODE,
        at: time(1_000),
    };
    let frame = MeterRequest::Ask(inquiry.sign(&key(1))).encode();
    let mut other = frame.to_vec();
    other[0] = 1;
    let Ok(MeterRequest::Assign(assignment)) = MeterRequest::decode(&other) else { panic!("the same shape") };
    assert!(desk().check(&assignment, time(1_000)).is_err());
}

#[test]
fn a_meter_pays_as_the_buyer_itself_would() {
    let mut meter = metered();
    let mut buyer = Supervision::new(meter.lease.id, meter.lease.terms.clone(), meter.lease.limits);
    buyer.begun = true;
    for now in (1_000..1_400).step_by(7) {
        let report = report(meter.lease.id, now, Stage::Running, 1_010, None);
        meter.observe(report.clone(), time(now));
        buyer.observe(report, time(now));
        let open = on_chain(LeasePhase::Open);
        let seen = crate::supervision::Seen { now: time(now), chain: Some(open) };
        let paid = match meter.next(time(now), Some(&open)) {
            Step::Pay(amount) => vec![crate::supervision::Action::Pay(amount)],
            Step::Wait | Step::End(_) => Vec::new(),
        };
        assert_eq!(paid, buyer.next(&seen));
        if let [crate::supervision::Action::Pay(amount)] = paid[..] {
            meter.sign(amount, time(now));
            meter.acknowledge(amount);
            (buyer.signed, buyer.signed_at) = (amount, time(now));
        }
    }
    assert!(meter.vouchers > 10);
}

#[test]
fn a_silent_or_lying_provider_gets_from_a_meter_what_the_rules_give() {
    let mut meter = metered();
    let id = meter.lease.id;
    meter.observe(report(id, 1, Stage::Running, 1, None), time(1_050));
    assert_eq!(meter.due(time(1_050)), money(50_000), "nothing before the lease's start");
    assert_eq!(meter.due(time(1_200)), money(50_000), "nothing for time without an answer");
    meter.observe(report(id, 2, Stage::Finished, 1, Some(9_000)), time(1_060));
    assert_eq!(meter.due(time(1_060)), money(60_000), "no end in the future");
}

#[test]
fn the_end_of_the_job_is_paid_at_once_and_until_it_is_acknowledged() {
    let mut meter = metered();
    let (id, open) = (meter.lease.id, on_chain(LeasePhase::Open));
    meter.observe(report(id, 1, Stage::Running, 1_010, None), time(1_060));
    meter.sign(money(50_000), time(1_060));
    meter.observe(report(id, 2, Stage::Finished, 1_010, Some(1_061)), time(1_062));
    assert_eq!(meter.next(time(1_062), Some(&open)), Step::Pay(money(51_000)), "no interval is waited for");
    meter.sign(money(51_000), time(1_062));
    assert_eq!(meter.next(time(1_063), None), Step::Pay(money(51_000)), "it may not have arrived");
    assert!(!meter.is_paid_up(time(1_063)));
    meter.acknowledge(money(51_000));
    assert_eq!(meter.next(time(1_064), Some(&open)), Step::Wait);
    assert!(meter.is_paid_up(time(1_064)));
}

#[test]
fn a_failed_job_is_not_paid_on() {
    let mut meter = metered();
    let failed = Stage::Failed { reason: "lost".into() };
    meter.observe(report(meter.lease.id, 1, failed, 1_010, Some(1_090)), time(1_100));
    assert_eq!(meter.next(time(1_100), Some(&on_chain(LeasePhase::Open))), Step::Wait);
}

#[test]
fn nothing_is_signed_once_the_buyer_closes_and_a_lease_that_is_over_is_let_go() {
    let mut meter = metered();
    meter.observe(report(meter.lease.id, 1, Stage::Running, 1_010, None), time(1_060));
    assert_eq!(meter.next(time(1_060), Some(&on_chain(LeasePhase::Closing))), Step::Wait);
    for phase in [LeasePhase::Settled, LeasePhase::Closed] {
        assert_eq!(meter.next(time(1_060), Some(&on_chain(phase))), Step::End(End::Settled));
    }
    let open_by = meter.lease.terms.open_by;
    let unseen = open_by.after(LAG);
    assert!(matches!(meter.next(unseen, Some(&LeaseState::NONE)), Step::Pay(_)), "the RPC may lag");
    let never = unseen.after(Seconds::new(1));
    assert_eq!(meter.next(never, Some(&LeaseState::NONE)), Step::End(End::NeverOpened));
    assert_eq!(meter.next(time(1_060), None), Step::Pay(money(50_000)), "a silent chain ends nothing");
    let lapsed = meter.lease.terms.end.after(AFTER_END).after(Seconds::new(1));
    assert_eq!(meter.next(lapsed, None), Step::End(End::Lapsed));
}

#[test]
fn the_limits_of_the_assignment_are_hard() {
    let limited = Assignment { max_cost: money(70_000), longest: Some(Seconds::new(60)), ..assignment() };
    let mut meter = Delegation::new(LeaseId::default(), &limited);
    meter.observe(report(LeaseId::default(), 1, Stage::Running, 1_000, None), time(1_300));
    assert_eq!(meter.due(time(1_300)), money(60_000));
    meter.longest = None;
    assert_eq!(meter.due(time(1_300)), money(70_000));
}

#[test]
fn a_provider_proves_with_the_meters_voucher_what_it_was_paid() {
    let (lease, terms) = (metered().lease.id, assignment().terms);
    let voucher = |key: &SigningKey, cumulative, last| {
        let voucher = Voucher { lease, cumulative: money(cumulative), not_before: time(0), last };
        Some(voucher.sign(&DOMAIN, key).unwrap())
    };
    let shows = |voucher| {
        let report = Report { voucher, ..report(lease, 1, Stage::Running, 1_010, None) };
        proven(&report, &terms, lease, &DOMAIN, time(1_050))
    };
    assert_eq!(shows(voucher(&key(4), 40_000, false)), Some(money(40_000)));
    assert_eq!(shows(voucher(&key(2), 40_000, false)), None, "somebody else's");
    assert_eq!(shows(voucher(&key(4), 400_000, false)), None, "more than the contract pays");
    assert_eq!(shows(voucher(&key(4), 40_000, true)), None, "a last word that the meter has not");
    assert_eq!(shows(None), None);
}

#[test]
fn a_buyer_that_delegates_signs_nothing_but_the_end() {
    let mut buyer = Supervision::new(LeaseId::default(), terms(), metered().lease.limits).delegated();
    buyer.begun = true;
    buyer.observe(report(buyer.id, 1, Stage::Running, 1_010, None), time(1_060));
    let seen = |now| crate::supervision::Seen { now: time(now), chain: Some(on_chain(LeasePhase::Open)) };
    assert_eq!(buyer.next(&seen(1_060)), []);
    assert!(buyer.learn(money(60_000), time(1_070)) && !buyer.learn(money(50_000), time(1_071)));
    buyer.observe(report(buyer.id, 2, Stage::Finished, 1_010, Some(1_069)), time(1_070));
    buyer.fetched = true;
    let last = crate::supervision::Action::PayLast(money(60_000));
    assert_eq!(buyer.next(&seen(1_070)), [last], "never less than the meter signed");
}

#[test]
fn a_buyer_that_gives_a_metered_lease_up_counts_what_its_meter_may_still_sign() {
    let limits = Limits { patience: Seconds::new(60), ..metered().lease.limits };
    let mut buyer = Supervision::new(LeaseId::default(), terms(), limits).delegated();
    buyer.begun = true;
    buyer.judge(time(1_061));
    assert!(buyer.gave_up);
    let slack = buyer.terms.slack;
    assert_eq!(buyer.committed(), buyer.terms.cap(time(1_061).after(slack)));
}

proptest! {
    #[test]
    fn whatever_a_provider_reports_a_meter_signs_no_more_than_time_and_limits_allow(
        reports in proptest::collection::vec((0u64..20, 0u64..5_000, proptest::option::of(0u64..9_000), 0u8..4), 1..40),
        max_cost in 0u64..4_000_000,
        longest in proptest::option::of(0u64..4_000),
    ) {
        let assignment =
            Assignment { max_cost: money(max_cost), longest: longest.map(Seconds::new), ..assignment() };
        let mut meter = Delegation::new(LeaseId::default(), &assignment);
        let terms = &assignment.terms;
        let (mut now, mut before) = (1_000, terms.prepay);
        for (revision, (pause, since, exit, stage)) in reports.into_iter().enumerate() {
            now += pause;
            let stage = match stage {
                0 => Stage::Opening,
                1 => Stage::Running,
                2 => Stage::Finished,
                _ => Stage::Stopping,
            };
            meter.observe(report(LeaseId::default(), revision as u64, stage, since, exit), time(now));
            if let Step::Pay(amount) = meter.next(time(now), None) {
                meter.sign(amount, time(now));
                prop_assert!(amount >= before, "a voucher never shrinks");
                prop_assert!(amount <= terms.cap(time(now)));
                prop_assert!(amount <= money(max_cost).max(terms.prepay));
                let worked = terms.rate.over(time(now).since(terms.start)).max(terms.prepay);
                prop_assert!(amount <= worked.checked_add(exposure(terms)).unwrap());
                before = amount;
            }
        }
    }

    #[test]
    fn a_hostile_frame_is_refused_and_nothing_worse(frame in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(MeterRequest::Assign(assignment)) = MeterRequest::decode(&frame) {
            prop_assert!(desk().check(&assignment, time(1_010)).is_err());
        }
    }
}
