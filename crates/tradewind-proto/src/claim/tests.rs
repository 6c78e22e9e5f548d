use alloy_primitives::B256;

use super::*;
use crate::meter::tests::terms;

const LOST: Timestamp = Timestamp::from_unix(1_100);
const BOND_DELAY: Seconds = Seconds::new(60);
const HARD_LIMIT: Seconds = Seconds::new(300);
const PAID: Money = Money::from_base_units(60_000);

fn claim() -> Claim {
    Claim::new(LOST, None)
}

fn at(phase: LeasePhase) -> Standing {
    Standing {
        phase,
        paid: PAID,
        due_at: Timestamp::from_unix(1_400),
        defaulted: false,
        compensated: Money::ZERO,
        disputed: false,
        dispute_used: false,
        disputed_at: Timestamp::default(),
        claimed: Money::ZERO,
    }
}

fn disputed(phase: LeasePhase) -> Standing {
    let disputed_at = Timestamp::from_unix(1_200);
    Standing { disputed: true, dispute_used: true, disputed_at, claimed: cap(), ..at(phase) }
}

fn cap() -> Money {
    terms().compensation_cap
}

/// The case about the hundred seconds from `from` on.
fn case(from: u64, ruling: Option<Ruling>) -> Case {
    let [from, until] = [from, from + 100].map(Timestamp::from_unix);
    Case { id: CaseId::new(B256::from(alloy_primitives::U256::from(from.unix()))), from, until, ruling }
}

fn docket(cases: &[Case]) -> Docket {
    let newest = (Epoch::new(12), Timestamp::from_unix(1_200));
    Docket { sits: true, cases: cases.to_vec(), joined: None, newest }
}

fn step(claim: &Claim, now: u64, lease: Standing, court: Option<&Docket>) -> Step {
    let now = Timestamp::from_unix(now);
    claim.next(&terms(), &Seen { now, lease, court, bond_delay: BOND_DELAY, hard_limit: HARD_LIMIT })
}

#[test]
fn a_lost_provider_is_disputed_before_its_bond_is_released() {
    let court = docket(&[]);
    assert_eq!(step(&claim(), 1_150, at(LeasePhase::Open), Some(&court)), Step::Wait, "it is left first");
    assert_eq!(step(&claim(), 1_150, at(LeasePhase::Closing), Some(&court)), Step::Dispute(cap()));
    assert_eq!(step(&claim(), 1_399, at(LeasePhase::Settled), Some(&court)), Step::Dispute(cap()));
    let late = step(&claim(), 1_400, at(LeasePhase::Settled), Some(&court));
    assert_eq!(late, Step::Finish(Ending::Nothing));
}

#[test]
fn a_challenge_that_paid_leaves_nothing_to_dispute() {
    let paid = Standing { defaulted: true, compensated: PAID, ..at(LeasePhase::Settled) };
    assert_eq!(step(&claim(), 1_300, paid, Some(&docket(&[]))), Step::Finish(Ending::Compensated));
}

#[test]
fn nothing_is_disputed_where_nothing_was_paid_or_nobody_judges() {
    let unpaid = |phase| Standing { paid: Money::ZERO, ..at(phase) };
    let court = docket(&[]);
    assert_eq!(step(&claim(), 1_200, unpaid(LeasePhase::Closing), Some(&court)), Step::Wait);
    let settled = step(&claim(), 1_300, unpaid(LeasePhase::Settled), Some(&court));
    assert_eq!(settled, Step::Finish(Ending::Nothing));
    let settled = step(&claim(), 1_300, at(LeasePhase::Settled), None);
    assert_eq!(settled, Step::Finish(Ending::Nothing));
    let few = Docket { sits: false, ..docket(&[]) };
    assert_eq!(step(&claim(), 1_300, at(LeasePhase::Settled), Some(&few)), Step::Wait);
    let tried = Docket { sits: false, ..docket(&[case(1_100, None)]) };
    assert_eq!(step(&claim(), 1_300, at(LeasePhase::Settled), Some(&tried)), Step::Dispute(cap()));
}

#[test]
fn a_case_that_is_won_is_joined_before_one_that_may_be_and_a_lost_one_never() {
    let lease = disputed(LeasePhase::Closing);
    let join = |cases: &[Case]| step(&claim(), 1_300, lease, Some(&docket(cases)));
    let (open, won) = (case(1_100, None), case(1_200, Some(Ruling::Guilty)));
    assert_eq!(join(&[open]), Step::Join(open.id));
    assert_eq!(join(&[open, won]), Step::Join(won.id));
    assert_eq!(join(&[case(1_100, Some(Ruling::Clear)), case(1_200, Some(Ruling::Unknown))]), Step::Wait);
    assert_eq!(join(&[case(1_000, Some(Ruling::Guilty))]), Step::Wait, "it served this buyer well then");
}

#[test]
fn a_case_about_an_epoch_after_the_lease_is_not_joined() {
    let settled = disputed(LeasePhase::Settled);
    let join = |from| step(&claim(), 1_390, settled, Some(&docket(&[case(from, None)])));
    assert_eq!(join(1_339), Step::Join(case(1_339, None).id), "it was settled at 1340");
    assert_eq!(join(1_340), Step::Wait);
}

#[test]
fn a_verdict_is_asked_for_and_a_conviction_pays() {
    let decided = |ruling| {
        let case = case(1_100, ruling);
        let court = Docket { joined: Some(case.id), ..docket(&[case]) };
        step(&claim(), 1_390, disputed(LeasePhase::Settled), Some(&court))
    };
    assert_eq!(decided(None), Step::Wait);
    assert_eq!(decided(Some(Ruling::Guilty)), Step::Resolve);
    assert_eq!(decided(Some(Ruling::Clear)), Step::Resolve, "the provider's due too");
    assert_eq!(decided(Some(Ruling::Unknown)), Step::Wait);
    let resolved = Standing { disputed: false, ..disputed(LeasePhase::Settled) };
    let paid = Standing { compensated: PAID, ..resolved };
    assert_eq!(step(&claim(), 1_391, paid, Some(&docket(&[]))), Step::Finish(Ending::Compensated));
    assert_eq!(step(&claim(), 1_391, resolved, Some(&docket(&[]))), Step::Finish(Ending::Refused));
}

#[test]
fn a_dispute_that_nobody_decides_runs_out_and_lets_the_bond_go() {
    let held = disputed(LeasePhase::Settled);
    assert_eq!(step(&claim(), 1_499, held, Some(&docket(&[]))), Step::Wait);
    assert_eq!(step(&claim(), 1_500, held, Some(&docket(&[]))), Step::Release);
    let closed = Standing { disputed: false, ..disputed(LeasePhase::Closed) };
    assert_eq!(step(&claim(), 1_501, closed, Some(&docket(&[]))), Step::Finish(Ending::Undecided));
}

#[test]
fn a_buyer_that_sues_waits_for_the_watchers_first_and_opens_one_case() {
    let suing = Claim::new(LOST, Some(Seconds::new(150)));
    let (lease, court) = (disputed(LeasePhase::Closing), docket(&[]));
    assert_eq!(step(&claim(), 1_300, lease, Some(&court)), Step::Wait, "only where it is configured");
    assert_eq!(step(&suing, 1_249, lease, Some(&court)), Step::Wait);
    assert_eq!(step(&suing, 1_250, lease, Some(&court)), Step::Sue(Epoch::new(12)));
    let few = Docket { sits: false, ..docket(&[]) };
    assert_eq!(step(&suing, 1_250, lease, Some(&few)), Step::Wait);
    let theirs = case(1_200, None);
    assert_eq!(step(&suing, 1_250, lease, Some(&docket(&[theirs]))), Step::Join(theirs.id));
    let sued = Claim { sued: Some(Epoch::new(11)), ..suing };
    assert_eq!(step(&sued, 1_250, lease, Some(&court)), Step::Wait, "one is on its way");
}

#[test]
fn a_claim_tells_how_far_it_has_come() {
    let mut claim = claim();
    let case = case(1_100, None);
    let mut court = docket(&[case]);
    let mut stage = |lease, court: &Docket| {
        let now = Timestamp::from_unix(1_300);
        let court = Some(court);
        claim.observe(&Seen { now, lease, court, bond_delay: BOND_DELAY, hard_limit: HARD_LIMIT });
        (claim.stage, claim.amount)
    };
    assert_eq!(stage(at(LeasePhase::Closing), &court), (Stage::Leaving, Money::ZERO));
    assert_eq!(stage(disputed(LeasePhase::Closing), &court), (Stage::Disputed, cap()));
    court.joined = Some(case.id);
    assert_eq!(stage(disputed(LeasePhase::Closing), &court), (Stage::Joined(case.id), cap()));
    assert_eq!(claim.stage.to_string(), format!("joined the case {}", case.id));
}
