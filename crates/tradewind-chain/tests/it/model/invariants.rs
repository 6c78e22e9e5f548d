//! What always holds, by the numbers of the protocol's list. 11 to 13 are shown by the end of a run, where everyone
//! leaves; 20 belongs to an arbiter that judges by committee.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};

use super::book::Pot;
use super::call::{Call, Promise, Step};
use super::leases::{Lease, Phase};
use super::reference::{Reference, State};

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
    assert_eq!(book.held(token), owned + locked, "1: what is held of {token}");
    let everything = book.sum(token, |_| true);
    assert_eq!(everything, book.supply(token), "18: coins neither appear nor vanish");
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
    assert_eq!(terms.deposit, lease.paid + ending.refunded + ending.forfeited, "4: the deposit");
    assert_eq!(lease.paid, lease.earned + ending.fee, "4: what was paid");
    assert!(ending.forfeited == 0 || lease.paid == 0, "5: forfeited although a voucher settled");
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

/// 15, 16, 17 and 19.
#[expect(clippy::wildcard_enum_match_arm, reason = "the invariants speak of these calls")]
fn punishment_touches_one_stake(before: &State, model: &Reference, call: &Call) {
    match call {
        Call::Slash { device, amount, reporter } => {
            let token = model.setting.stake_token;
            let (was, is) = (&before.book, &model.state.book);
            let lost = was.of(token, Pot::Stake(*device)) - is.of(token, Pot::Stake(*device));
            assert_eq!(lost, (*amount).min(was.of(token, Pot::Stake(*device))), "16: all stake is slashable");
            let stakes = |pot: &Pot| matches!(pot, Pot::Stake(_));
            assert_eq!(was.sum(token, stakes) - is.sum(token, stakes), lost, "15: one device's stake");
            let reward = is.of(token, Pot::Balance(*reporter)) - was.of(token, Pot::Balance(*reporter));
            let sunk = is.of(token, Pot::Sink) - was.of(token, Pot::Sink);
            assert_eq!(lost, reward + sunk, "17: slashed");
            assert!(reward * 10 <= lost, "17: the reporter's share");
        }
        Call::BurnSink { token } => {
            let burned = before.book.of(*token, Pot::Sink);
            assert_eq!(before.book.supply(*token), model.state.book.supply(*token) + burned, "17: burned");
        }
        Call::Defaulted { terms } => {
            let id = model.read(terms).id;
            let others = before.leases.iter().filter(|(other, _)| **other != id);
            for (other, was) in others {
                assert_eq!(Some(was), model.find(*other), "15: compensation is one bond's");
            }
        }
        Call::Jail { .. } | Call::BeginUnbond { .. } | Call::SetClass { .. } | Call::SetConfig { .. } => {}
        _ => return,
    }
    if !matches!(call, Call::Defaulted { .. }) {
        assert_eq!(before.leases, model.state.leases, "19: {} altered a lease", call.name());
    }
}
