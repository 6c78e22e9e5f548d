//! What always holds, by the numbers of the protocol's list, over leases and trust together. 11 to 13 are shown by the
//! end of a run, where everyone leaves.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};

use super::book::Pot;
use super::call::{Call, Promise, Step};
use super::court::cases::{Case, GUILTY, Stage};
use super::leases::{Ending, Lease, Phase};
use super::reference::{Reference, Setting, State};

/// Checks the step from `before` to what the model holds now.
pub(crate) fn hold(before: &State, model: &Reference, step: &Step, accepted: bool) {
    for token in model.state.tokens.keys() {
        held_is_accounted_for(model, *token);
    }
    for (id, lease) in &model.state.leases {
        assert!(!model.closed.contains_key(id), "10: {id} opened again after it closed");
        payments_stay_within_bounds(lease);
        let version = &model.state.versions[lease.terms.raw.version as usize - 1];
        assert_eq!(lease.rules, version.parameters, "14: a lease's parameters");
    }
    for (id, was) in &before.leases {
        let is = model.find(*id).expect("10: a lease does not vanish");
        moves_forward(was, is, model.state.now);
        if is.is_closed() {
            closed_accounts_balance(model, is);
        }
    }
    busy_units_are_those_of_live_leases(model);
    if accepted {
        the_step_is_its_signers(before, model, step);
        punishment_touches_one_stake(before, model, &step.call);
    }
}

/// 1 and 18: per token, to the unit; every coin in here is somebody's.
fn held_is_accounted_for(model: &Reference, token: Address) {
    let book = &model.state.book;
    let owned = book.sum(token, |pot| {
        matches!(pot, Pot::Balance(_) | Pot::Stake(_) | Pot::Sink | Pot::Watchers | Pot::Gifts)
    });
    let leases = model.state.leases.iter().filter(|(_, lease)| lease.terms.token() == token);
    let locked: u128 = leases.map(|(id, lease)| locked(model, *id, lease)).sum();
    let lodged = lodged(model, token);
    assert_eq!(book.sum(token, Pot::is_the_courts), lodged, "1: what the court holds of {token}");
    assert_eq!(book.held(token), owned + locked + lodged, "1: what is held of {token}");
    let everything = book.sum(token, |_| true);
    assert_eq!(everything, book.supply(token), "18: coins neither appear nor vanish");
}

/// Seats, and cases that are not closed, by the protocol's formula.
fn lodged(model: &Reference, token: Address) -> u128 {
    let Setting { stake_token, fee_token, bench, .. } = &model.setting;
    let mut lodged = 0;
    if token == *stake_token {
        let stakes = model.state.court.seats.keys().map(|seat| model.seat_stake(*seat));
        let whole = |stake: &u128| *stake == 0 || *stake == bench.seat_stake;
        lodged += stakes.inspect(|stake| assert!(whole(stake), "seats are equal")).sum::<u128>();
    }
    if token == *fee_token {
        let open = model.state.court.cases.values().filter(|case| case.stage != Stage::Closed);
        lodged += open.map(|case| case.bond + case.prepaid + case.appeal_prepaid).sum::<u128>();
    }
    lodged
}

/// What a lease that is not closed holds, by the protocol's formula.
fn locked(model: &Reference, id: B256, lease: &Lease) -> u128 {
    let pots = |pot| model.state.book.of(lease.terms.token(), pot);
    let bonds = lease.terms.bond - lease.compensated + pots(Pot::Challenge(id)) + pots(Pot::Dispute(id));
    if lease.is_live() {
        return bonds + lease.terms.deposit - (lease.paid - lease.fee(lease.paid));
    }
    bonds + if lease.buyer_fee { lease.terms.buyer_break_fee } else { 0 }
}

/// 2, 6 and 7, at every step.
fn payments_stay_within_bounds(lease: &Lease) {
    assert!(lease.paid <= lease.terms.deposit - lease.terms.buyer_break_fee, "2: paid");
    assert_eq!(lease.earned, lease.paid - lease.fee(lease.paid), "6: the fee is on the cumulative alone");
    assert!(lease.compensated <= lease.terms.compensation_cap, "7: compensation");
}

/// 2, 3 and 8.
fn moves_forward(was: &Lease, is: &Lease, now: u64) {
    assert!(is.paid >= was.paid, "3: paid never shrinks");
    if is.paid > was.paid {
        assert!(is.paid <= was.terms.cap(was.moment(now)), "2: paid is within the cap of its moment");
    }
    let back = is.phase < was.phase;
    let cured = was.phase == Phase::NoticedUnpaid && is.phase == Phase::Open;
    assert!(!back || cured, "a lease went from {:?} to {:?}", was.phase, is.phase);
    if is.is_closed() && !was.is_closed() && !is.ended_well {
        assert!(now >= was.due_at && was.phase == Phase::Settled, "8: the bond waits until it is due");
    }
}

/// 4, 5 and 7 at the end.
fn closed_accounts_balance(model: &Reference, lease: &Lease) {
    let (terms, ending) = (&lease.terms, lease.ending.expect("an ending"));
    let Ending { refunded, forfeited, fee, buyer_fee } = ending;
    assert_eq!(terms.deposit, lease.paid + refunded + forfeited + buyer_fee, "4: the deposit");
    assert_eq!(lease.paid, lease.earned + fee, "4: what was paid");
    assert!(forfeited == 0 || lease.paid == 0, "5: forfeited although a voucher settled");
    let most = terms.compensation_cap + terms.provider_break_fee;
    assert!(lease.bond_to_buyer <= most.min(terms.bond), "7: the bond");
    for pot in [Pot::Escrow, Pot::Bond, Pot::Challenge, Pot::Dispute, Pot::Aside] {
        assert_eq!(model.state.book.of(terms.token(), pot(terms.id)), 0, "12: a closed lease holds nothing");
    }
}

/// 9.
fn busy_units_are_those_of_live_leases(model: &Reference) {
    let mut busy: BTreeMap<B256, u64> = BTreeMap::new();
    for lease in model.state.leases.values().filter(|lease| lease.is_live()) {
        let raw = &lease.terms.raw;
        let taken = busy.entry(raw.device).or_default();
        assert_eq!(*taken & raw.units, 0, "9: one unit, two leases");
        *taken |= raw.units;
    }
    for (id, device) in &model.state.devices {
        assert_eq!(device.busy, busy.get(id).copied().unwrap_or(0), "9: the busy units of {id}");
    }
}

/// 21 and 22.
#[expect(clippy::wildcard_enum_match_arm, reason = "the invariants speak of these calls")]
fn the_step_is_its_signers(before: &State, model: &Reference, step: &Step) {
    let signed = |account: Address, by: Address| {
        assert!(step.sender == account || by == account, "22: {} by a stranger", step.call.name());
    };
    match &step.call {
        Call::Settle { terms, promise: Promise { voucher, .. } } => {
            let id = model.read(terms).id;
            let was = before.leases[&id].paid;
            let is = model.find(id).expect("a lease").paid;
            assert_eq!(is, was.max(voucher.cumulative.to()), "21: the maximum counts");
        }
        Call::Close { terms, auth, .. } => signed(terms.provider, auth.signed.by),
        Call::RequestClose { terms, auth } => signed(terms.buyer, auth.signed.by),
        _ => {}
    }
}

/// 15 to 20.
#[expect(clippy::wildcard_enum_match_arm, reason = "the invariants speak of these calls")]
fn punishment_touches_one_stake(before: &State, model: &Reference, call: &Call) {
    match call {
        Call::Execute { case } => {
            let judged = model.find_case(*case).expect("a case");
            slashed_for_good(before, judged);
            let share = judged.rules.downBps;
            one_stake_is_slashed(before, model, Pot::Stake(judged.device), (share, judged.opener));
        }
        Call::ProveElement { proof, report } => {
            let (device, rules) = (proof.device.id(), model.usable_version().1);
            let first = before.devices[&device].faults == 0;
            let share = if first { rules.elementFirstBps } else { rules.elementAgainBps };
            one_stake_is_slashed(before, model, Pot::Stake(device), (share, report.reporter));
        }
        Call::ProveRoots { device, report, .. } | Call::ProveStatements { device, report, .. } => {
            let share = model.usable_version().1.equivocationBps;
            one_stake_is_slashed(before, model, Pot::Stake(device.id()), (share, report.reporter));
        }
        Call::ProveVotes { seat, report, .. } => {
            one_stake_is_slashed(before, model, Pot::Seat(*seat), (10_000, report.reporter));
        }
        Call::BurnSink { token } => {
            let burned = before.book.of(*token, Pot::Sink);
            assert_eq!(before.book.supply(*token), model.state.book.supply(*token) + burned, "17: burned");
        }
        Call::CloseCase { case } => watchers_are_paid_from_fees(before, model, *case),
        Call::Defaulted { terms } | Call::Resolve { terms } => {
            let id = model.read(terms).id;
            for (other, was) in before.leases.iter().filter(|(other, _)| **other != id) {
                assert_eq!(Some(was), model.find(*other), "15: compensation is one bond's");
            }
            return;
        }
        Call::Jail { .. }
        | Call::BeginUnbond { .. }
        | Call::SetClass { .. }
        | Call::SetConfig { .. }
        | Call::AddCourtVersion { .. }
        | Call::Vote { .. }
        | Call::VoteBench { .. }
        | Call::Lapse { .. } => {}
        _ => return nothing_is_slashed(before, model, call),
    }
    assert_eq!(before.leases, model.state.leases, "19: {} altered a lease", call.name());
}

/// 20: enough seats, and an appeal that ended or was not made in time.
fn slashed_for_good(before: &State, case: &Case) {
    assert!(case.roster.len() >= usize::from(case.rules.fullSeats), "20: too few seats");
    let until = case.convicted_at.expect("20: a conviction") + u64::from(case.rules.appealWindow);
    let upheld = case.bench_guilty >= case.rules.benchQuorum;
    assert!(upheld || before.now > until, "20: slashed before the appeal ended");
    assert!(case.guilty >= case.rules.quorum, "20: slashed without a quorum");
}

/// 15, 16 and 17: the share of what is not withdrawn, of one stake, to the reporter and the sink.
fn one_stake_is_slashed(before: &State, model: &Reference, pot: Pot, (share, reporter): (u16, Address)) {
    let token = model.setting.stake_token;
    let (was, is) = (&before.book, &model.state.book);
    let lost = was.of(token, pot) - is.of(token, pot);
    assert_eq!(lost, was.of(token, pot) * u128::from(share) / 10_000, "16: all stake is slashable");
    let stakes = |pot: &Pot| matches!(pot, Pot::Stake(_) | Pot::Seat(_));
    assert_eq!(was.sum(token, stakes) - is.sum(token, stakes), lost, "15: one stake");
    let reward = is.of(token, Pot::Balance(reporter)) - was.of(token, Pot::Balance(reporter));
    let sunk = is.of(token, Pot::Sink) - was.of(token, Pot::Sink);
    assert_eq!(lost, reward + sunk, "17: slashed");
    let share_of_reporter = if reporter == Address::ZERO { 0 } else { lost / 10 };
    assert_eq!(reward, share_of_reporter, "17: the reporter's share");
}

/// 18: what watchers get that nobody prepaid comes out of fees, a tenth of them a day at most.
fn watchers_are_paid_from_fees(before: &State, model: &Reference, case: B256) {
    let token = model.setting.fee_token;
    let (was, is) = (before.book.of(token, Pot::Watchers), model.state.book.of(token, Pot::Watchers));
    let judged = model.find_case(case).expect("a case");
    let most = u128::from(judged.rules.committee) * judged.rules.transcriptFee.to::<u128>();
    assert!(was - is <= most.min(was / 10), "18: the pool paid {} of {was}", was - is);
    assert!(is == was || judged.outcome == GUILTY, "18: the pool pays for rightful accusations");
}

/// Nothing else takes a stake, but its owner's own way out.
fn nothing_is_slashed(before: &State, model: &Reference, call: &Call) {
    let leaves = matches!(call, Call::WithdrawStake { .. } | Call::WithdrawSeat { .. } | Call::Relay { .. });
    let token = model.setting.stake_token;
    for device in before.devices.keys().filter(|_| !leaves) {
        let (was, is) = (before.book.of(token, Pot::Stake(*device)), model.at_stake(*device));
        assert!(is >= was, "16: {} took from {device}", call.name());
    }
    for seat in before.court.seats.keys().filter(|_| !leaves) {
        let was = before.book.of(token, Pot::Seat(*seat));
        assert_eq!(model.seat_stake(*seat), was, "16: {} took from seat {seat}", call.name());
    }
}
