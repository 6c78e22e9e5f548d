//! A lease at its provider, from its agreement to its end.

use super::*;
use crate::meter::tests::terms;
use crate::signature::SigningKey;
use crate::voucher::Voucher;
use alloy_primitives::Address;

const POLICY: SettlementPolicy = SettlementPolicy {
    amount: Money::from_base_units(1_000_000),
    age: Seconds::new(1_200),
    window: Seconds::new(3_600),
    keep: Seconds::new(600),
};
const DOMAIN: Domain = Domain { chain_id: 1, contract: Address::repeat_byte(9) };

fn meter() -> SigningKey {
    SigningKey::from_bytes([4; 32]).unwrap()
}

fn hosting() -> Hosting {
    let terms = LeaseTerms { meter: meter().address(), ..terms() };
    Hosting::new(terms.id(&DOMAIN).unwrap(), terms)
}

fn chain(phase: LeasePhase) -> Option<LeaseState> {
    Some(LeaseState { phase, opened_at: Timestamp::from_unix(1_000), ..LeaseState::NONE })
}

fn seen(now: u64, chain: Option<LeaseState>, workload: WorkloadStatus) -> Seen {
    Seen { now: Timestamp::from_unix(now), chain, workload: Some(workload) }
}

fn running(paused: bool) -> WorkloadStatus {
    WorkloadStatus::Running { since: Timestamp::from_unix(1_010), paused }
}

fn voucher(hosting: &Hosting, cumulative: u64, last: bool) -> SignedVoucher {
    let voucher = Voucher {
        lease: hosting.id,
        cumulative: Money::from_base_units(cumulative),
        not_before: Timestamp::from_unix(0),
        last,
    };
    voucher.sign(&DOMAIN, &meter()).unwrap()
}

#[test]
fn nothing_runs_before_the_chain_shows_the_lease_open() {
    let mut lease = hosting();
    let absent = WorkloadStatus::Absent;
    assert_eq!(lease.next(&seen(1_001, chain(LeasePhase::None), absent), &POLICY), [Action::Open]);
    assert_eq!(lease.next(&seen(1_001, None, absent), &POLICY), []);
    assert_eq!(lease.next(&seen(1_002, chain(LeasePhase::Open), absent), &POLICY), [Action::Prepare]);
    lease.apply(Event::Prepared);
    assert_eq!(lease.next(&seen(1_003, chain(LeasePhase::Open), absent), &POLICY), [Action::Start]);
}

#[test]
fn terms_that_never_opened_are_forgotten() {
    let late = seen(1_031, chain(LeasePhase::None), WorkloadStatus::Absent);
    assert_eq!(hosting().next(&late, &POLICY), [Action::Forget]);
}

#[test]
fn a_silent_chain_ends_no_healthy_lease() {
    let mut lease = hosting();
    lease.accept(voucher(&lease, 100_000, false), &DOMAIN, Timestamp::from_unix(1_100)).unwrap();
    lease.observe(running(false), Timestamp::from_unix(1_010));
    assert_eq!(lease.next(&seen(1_110, None, running(false)), &POLICY), []);
}

#[test]
fn an_unpaid_workload_is_frozen_noticed_and_closed_when_the_notice_matured() {
    let mut lease = hosting();
    lease.observe(running(false), Timestamp::from_unix(1_010));
    let open = seen(1_052, chain(LeasePhase::Open), running(false));
    assert_eq!(lease.next(&open, &POLICY), [Action::Pause, Action::NoticeUnpaid(None)]);
    let noticed = LeaseState {
        notice_at: Timestamp::from_unix(1_052),
        ..chain(LeasePhase::Noticed(NoticeKind::Unpaid)).unwrap()
    };
    assert_eq!(lease.next(&seen(1_061, Some(noticed), running(true)), &POLICY), []);
    assert_eq!(lease.next(&seen(1_062, Some(noticed), running(true)), &POLICY), [Action::Close(None)]);
    lease.accept(voucher(&lease, 60_000, false), &DOMAIN, Timestamp::from_unix(1_062)).unwrap();
    let cured = lease.next(&seen(1_062, Some(noticed), running(true)), &POLICY);
    assert_eq!(cured, [Action::Resume, Action::Settle(lease.best.unwrap())]);
}

#[test]
fn a_job_that_starts_at_once_gets_no_more_unpaid_work_than_the_slack() {
    let mut lease = hosting();
    lease.observe(running(false), Timestamp::from_unix(1_001));
    let at = |now| lease.next(&seen(now, chain(LeasePhase::Open), running(false)), &POLICY);
    assert_eq!((at(1_040), at(1_041)), (vec![], vec![Action::Pause]));
}

#[test]
fn a_reorg_of_open_stops_no_work_while_it_may_be_opened_again() {
    let mut lease = hosting();
    lease.observe(running(false), Timestamp::from_unix(1_010));
    let gone = |now| lease.next(&seen(now, chain(LeasePhase::None), running(false)), &POLICY);
    assert_eq!(gone(1_030), [Action::Open]);
    assert_eq!(gone(1_031), [Action::Stop]);
}

#[test]
fn a_workload_that_was_started_is_never_started_twice() {
    let mut lease = hosting();
    lease.apply(Event::Prepared);
    lease.apply(Event::Started { at: Timestamp::from_unix(1_010) });
    lease.observe(WorkloadStatus::Absent, Timestamp::from_unix(1_020));
    let actions = lease.next(&seen(1_020, chain(LeasePhase::Open), WorkloadStatus::Absent), &POLICY);
    assert_eq!(actions, []);
    assert!(lease.failure.is_some());
}

#[test]
fn a_living_provider_answers_a_challenge() {
    let challenged = LeaseState {
        challenged_until: Some(Timestamp::from_unix(1_100)),
        ..chain(LeasePhase::Open).unwrap()
    };
    let mut lease = hosting();
    lease.observe(running(false), Timestamp::from_unix(1_010));
    assert_eq!(lease.next(&seen(1_040, Some(challenged), running(false)), &POLICY), [Action::Answer]);
}

#[test]
fn the_last_voucher_closes_and_a_closed_lease_is_forgotten_only_when_nothing_runs() {
    let mut lease = hosting();
    let buyer = meter();
    lease.terms.buyer = crate::ids::BuyerId::new(buyer.address());
    lease.id = lease.terms.id(&DOMAIN).unwrap();
    let exit = Exit { code: 0, out_of_memory: false, at: Timestamp::from_unix(1_100) };
    lease.observe(WorkloadStatus::Exited(exit), Timestamp::from_unix(1_100));
    lease.apply(Event::Collected);
    lease.accept(voucher(&lease, 90_000, true), &DOMAIN, Timestamp::from_unix(1_101)).unwrap();
    let exited = WorkloadStatus::Exited(exit);
    let open = seen(1_101, chain(LeasePhase::Open), exited);
    assert_eq!(lease.next(&open, &POLICY), [Action::Close(lease.last)]);
    assert_eq!(lease.next(&seen(1_102, chain(LeasePhase::Closed), exited), &POLICY), [Action::Forget]);
    let still = seen(1_102, chain(LeasePhase::Closed), running(false));
    assert_eq!(lease.next(&still, &POLICY), [Action::Stop]);
}

#[test]
fn a_voucher_that_shrinks_or_promises_too_much_changes_nothing() {
    let mut lease = hosting();
    lease.accept(voucher(&lease, 100_000, false), &DOMAIN, Timestamp::from_unix(1_100)).unwrap();
    let before = lease.clone();
    let now = Timestamp::from_unix(1_100);
    assert!(matches!(
        lease.accept(voucher(&before, 90_000, false), &DOMAIN, now),
        Err(VoucherError::Shrinks { .. })
    ));
    assert!(matches!(
        lease.accept(voucher(&before, 900_000, false), &DOMAIN, now),
        Err(VoucherError::AboveCap { .. })
    ));
    assert!(matches!(
        lease.accept(voucher(&before, 100_000, true), &DOMAIN, now),
        Err(VoucherError::Signature(_))
    ));
    assert_eq!(lease, before);
}

#[test]
fn vouchers_are_settled_by_amount_by_age_and_when_the_buyer_closes() {
    let mut lease = hosting();
    lease.accept(voucher(&lease, 100_000, false), &DOMAIN, Timestamp::from_unix(1_100)).unwrap();
    let best = lease.best.unwrap();
    let young = seen(1_105, chain(LeasePhase::Open), running(false));
    assert_eq!(lease.next(&young, &POLICY), []);
    let small = SettlementPolicy { amount: Money::from_base_units(100_000), ..POLICY };
    assert_eq!(lease.next(&young, &small), [Action::Settle(best)]);
    let old = SettlementPolicy { age: Seconds::new(105), ..POLICY };
    assert_eq!(lease.next(&young, &old), [Action::Settle(best)]);
    let closing = seen(1_105, chain(LeasePhase::Closing), WorkloadStatus::Absent);
    assert!(lease.next(&closing, &POLICY).contains(&Action::Settle(best)));
}

fn spot() -> Hosting {
    let terms = LeaseTerms {
        kind: LeaseKind::Spot,
        notice: Seconds::new(60),
        slack: Seconds::new(90),
        ..hosting().terms
    };
    let mut lease = Hosting::new(terms.id(&DOMAIN).unwrap(), terms);
    lease.observe(running(false), Timestamp::from_unix(1_010));
    lease
}

fn reclaimed_at(notice: u64) -> LeaseState {
    let phase = LeasePhase::Noticed(NoticeKind::Reclaim);
    LeaseState { notice_at: Timestamp::from_unix(notice), ..chain(phase).unwrap() }
}

fn told(lease: &mut Hosting, now: u64, chain: &LeaseState) -> Vec<Action> {
    let at = Timestamp::from_unix(now);
    lease.observe_chain(chain, at);
    lease.advance(at, Some(chain), &POLICY);
    lease.next(&seen(now, Some(*chain), running(false)), &POLICY)
}

#[test]
fn a_reclaimed_job_works_until_it_needs_its_grace_and_ends_with_the_notice() {
    let mut lease = spot();
    lease.apply(Event::ReclaimRequested { lead: Seconds::new(20) });
    let open = seen(1_020, chain(LeasePhase::Open), running(false));
    assert_eq!(lease.next(&open, &POLICY), [Action::NoticeReclaim]);
    let noticed = reclaimed_at(1_021);
    assert_eq!(told(&mut lease, 1_060, &noticed), []);
    assert_eq!(told(&mut lease, 1_061, &noticed), [Action::Stop]);
    assert_eq!(lease.grace(Seconds::new(10), Timestamp::from_unix(1_061)), Seconds::new(20));
    assert_eq!(lease.grace(Seconds::new(10), Timestamp::from_unix(1_081)), Seconds::ZERO);
}

#[test]
fn a_job_that_saves_its_progress_is_told_with_the_notice() {
    let mut lease = spot();
    lease.apply(Event::ReclaimRequested { lead: Seconds::new(3_600) });
    assert_eq!(told(&mut lease, 1_022, &reclaimed_at(1_021)), [Action::Stop]);
    assert_eq!(lease.grace(Seconds::new(10), Timestamp::from_unix(1_022)), Seconds::new(59));
}

#[test]
fn a_job_whose_place_was_taken_ends_as_taken_back_even_before_its_notice_is_on_chain() {
    let mut lease = spot();
    let (at, until) = (Timestamp::from_unix(1_050), Timestamp::from_unix(1_080));
    lease.apply(Event::Preempted { at, until });
    let open = chain(LeasePhase::Open);
    let now = seen(1_051, open, running(false));
    assert_eq!(lease.next(&now, &POLICY), [Action::Stop, Action::NoticeReclaim]);
    assert_eq!(lease.grace(Seconds::new(10), now.now), Seconds::new(29), "and no more than its place lasts");
    let exit = Exit { code: 143, out_of_memory: false, at: Timestamp::from_unix(1_052) };
    lease.observe(WorkloadStatus::Exited(exit), Timestamp::from_unix(1_053));
    let over = seen(1_053, open, WorkloadStatus::Exited(exit));
    assert_eq!(lease.next(&over, &POLICY), [Action::Collect, Action::NoticeReclaim]);
    assert!(lease.reclaim.unwrap().told.unwrap() <= exit.at, "so that the buyer reads it as taken back");
    lease.observe_chain(&reclaimed_at(1_054), Timestamp::from_unix(1_055));
    assert_eq!(lease.reclaim.unwrap().by, Some(until));
}

#[test]
fn a_reclaimed_lease_is_closed_when_its_buyer_does_not_end_it_and_never_while_the_job_runs() {
    let mut lease = spot();
    lease.apply(Event::ReclaimRequested { lead: Seconds::new(20) });
    let noticed = reclaimed_at(1_021);
    let exit = Exit { code: 143, out_of_memory: false, at: Timestamp::from_unix(1_070) };
    assert_eq!(told(&mut lease, 1_171, &noticed), [Action::Stop]);
    lease.observe(WorkloadStatus::Exited(exit), Timestamp::from_unix(1_071));
    lease.apply(Event::Collected);
    let exited = WorkloadStatus::Exited(exit);
    assert_eq!(lease.next(&seen(1_170, Some(noticed), exited), &POLICY), []);
    assert_eq!(lease.next(&seen(1_171, Some(noticed), exited), &POLICY), [Action::Close(None)]);
}

#[test]
fn only_spot_leases_can_be_taken_back() {
    let mut lease = hosting();
    lease.observe(running(false), Timestamp::from_unix(1_010));
    assert!(!lease.is_reclaimable() && spot().is_reclaimable());
    lease.apply(Event::ReclaimRequested { lead: Seconds::ZERO });
    assert_eq!(lease.next(&seen(1_020, chain(LeasePhase::Open), running(false)), &POLICY), []);
}

fn unattended() -> Hosting {
    let terms = LeaseTerms { prepare: Seconds::ZERO, ..hosting().terms };
    let mut lease = Hosting::new(terms.id(&DOMAIN).unwrap(), terms);
    lease.ladder = Ladder::sign(&lease.terms, lease.id, &DOMAIN, &meter()).unwrap();
    lease.accept(voucher(&lease, 30_000, false), &DOMAIN, Timestamp::from_unix(1_001)).unwrap();
    lease.observe(running(false), Timestamp::from_unix(1_010));
    lease
}

#[test]
fn an_unattended_job_climbs_its_ladder_and_is_never_paused() {
    let mut lease = unattended();
    for now in 1_010..1_400 {
        lease.advance(Timestamp::from_unix(now), chain(LeasePhase::Open).as_ref(), &POLICY);
        assert_eq!(lease.next(&seen(now, chain(LeasePhase::Open), running(false)), &POLICY), [], "{now}");
    }
    assert_eq!(lease.held(), Money::from_base_units(390_000));
}

#[test]
fn rungs_count_neither_after_the_job_ended_nor_after_the_buyer_asked_to_close() {
    let mut ended = unattended();
    let exit = Exit { code: 0, out_of_memory: false, at: Timestamp::from_unix(1_105) };
    ended.observe(WorkloadStatus::Exited(exit), Timestamp::from_unix(1_105));
    ended.advance(Timestamp::from_unix(2_000), chain(LeasePhase::Open).as_ref(), &POLICY);
    assert_eq!(ended.held(), Money::from_base_units(100_000));

    let mut asked = unattended();
    let due_at = Timestamp::from_unix(1_205 + 3_600);
    let closing = LeaseState { due_at, ..chain(LeasePhase::Closing).unwrap() };
    asked.advance(Timestamp::from_unix(2_000), Some(&closing), &POLICY);
    assert_eq!(asked.held(), Money::from_base_units(200_000));
}

#[test]
fn a_finished_unattended_lease_closes_without_a_break_fee_and_waits_for_its_buyer() {
    let mut lease = unattended();
    let exit = Exit { code: 0, out_of_memory: false, at: Timestamp::from_unix(1_105) };
    let exited = WorkloadStatus::Exited(exit);
    lease.observe(exited, Timestamp::from_unix(1_105));
    lease.apply(Event::Collected);
    let open = chain(LeasePhase::Open);
    lease.advance(Timestamp::from_unix(1_131), open.as_ref(), &POLICY);
    let rung = lease.best.unwrap();
    assert_eq!(lease.next(&seen(1_131, open, exited), &POLICY), [Action::NoticeUnpaid(Some(rung))]);
    let noticed = LeaseState {
        notice_at: Timestamp::from_unix(1_131),
        paid: rung.voucher.cumulative,
        ..chain(LeasePhase::Noticed(NoticeKind::Unpaid)).unwrap()
    };
    assert_eq!(lease.next(&seen(1_141, Some(noticed), exited), &POLICY), [Action::Close(None)]);
    let closed = chain(LeasePhase::Closed);
    lease.observe_chain(closed.as_ref().unwrap(), Timestamp::from_unix(1_200));
    assert_eq!(lease.next(&seen(1_799, closed, exited), &POLICY), []);
    assert_eq!(lease.next(&seen(1_800, closed, exited), &POLICY), [Action::Forget]);
}
