//! Which states a run has been in, so that a test can demand that it was in all of them.

use alloy::primitives::B256;

use crate::Reached;
use crate::book::Pot;
use crate::call::Call;
use crate::court::cases::{CLEAR, Case, GUILTY, Stage, UNKNOWN};
use crate::court::verdicts::Ruling;
use crate::reference::{Reference, State};

/// Notes what an accepted call brought about.
pub(crate) fn note(before: &State, model: &Reference, call: &Call, reached: &mut Reached) {
    let mut note = |what: &'static str, holds: bool| *reached.entry(what).or_default() += u64::from(holds);
    let known = before.court.cases.iter().filter_map(|(id, was)| Some((was, model.find_case(*id)?)));
    for (was, is) in known.filter(|(was, is)| was != is) {
        note_case(was, is, &mut note);
    }
    for (id, was) in &before.court.seats {
        let is = &model.state.court.seats[id];
        note("a seat is struck", is.strikes > was.strikes);
        note("a seat is expelled by strikes", is.strikes > was.strikes && is.free_at != was.free_at);
    }
    note_slashes(before, model, call, &mut note);
    note_money(before, model, call, &mut note);
}

fn note_case(was: &Case, is: &Case, note: &mut impl FnMut(&'static str, bool)) {
    let convicted = was.convicted_at.is_none() && is.convicted_at.is_some();
    let decided = was.outcome == 0 && is.outcome != 0;
    let full = is.roster.len() >= usize::from(is.rules.fullSeats);
    let appealed = is.appellant != alloy::primitives::Address::ZERO;
    note("a device is convicted", convicted);
    note("a device is convicted below full level", convicted && !full);
    note("guilty without an appeal", decided && is.outcome == GUILTY && full && !appealed);
    note("guilty after an appeal", decided && is.outcome == GUILTY && appealed);
    note("cleared by the committee", decided && is.outcome == CLEAR && is.convicted_at.is_none());
    note("cleared by the bench", decided && is.outcome == CLEAR && appealed);
    note("unknown without a conviction", decided && is.outcome == UNKNOWN && is.convicted_at.is_none());
    note("unknown after a silent bench", decided && is.outcome == UNKNOWN && appealed);
    note("a vote after the verdict", is.votes.len() > was.votes.len() && was.stage > Stage::Voting);
    note("a committee below its panel", was.stage < Stage::Voting && is.committee.len() < is.panel.len());
}

fn note_slashes(before: &State, model: &Reference, call: &Call, note: &mut impl FnMut(&'static str, bool)) {
    let token = model.setting.stake_token;
    let lost = |pot: Pot| before.book.of(token, pot).saturating_sub(model.state.book.of(token, pot));
    if let Call::Execute { case } = call {
        let judged = model.find_case(*case).expect("a case");
        note("a slash by verdict", lost(Pot::Stake(judged.device)) != 0);
        note("a slash of nothing", lost(Pot::Stake(judged.device)) == 0);
        let deferred = model.tripped(judged.epoch);
        note("a slash after the breaker deferred it", deferred && lost(Pot::Stake(judged.device)) != 0);
    }
    if let Call::ProveElement { proof, .. } = call {
        let (device, first) = (proof.device.id(), before.devices[&proof.device.id()].faults == 0);
        note("a first wrong element", first && lost(Pot::Stake(device)) != 0);
        note("a further wrong element", !first && lost(Pot::Stake(device)) != 0);
    }
    let equivocal = |device: B256| lost(Pot::Stake(device)) != 0;
    if let Call::ProveRoots { device, .. } | Call::ProveStatements { device, .. } = call {
        note("a slash for equivocation", equivocal(device.id()));
        let leaving = before.devices.get(&device.id()).is_some_and(|known| known.unbonding_at.is_some());
        note("a slash of an unbonding stake", leaving && equivocal(device.id()));
    }
    if let Call::ProveVotes { seat, report, .. } = call {
        let left = before.court.seats[seat].free_at.is_some();
        note("a slashed seat", lost(Pot::Seat(*seat)) != 0);
        note("a slashed seat that had left", left);
        note("a reporter of a seat is paid", report.reporter != alloy::primitives::Address::ZERO);
    }
    if let Call::ProveElement { report, .. }
    | Call::ProveRoots { report, .. }
    | Call::ProveStatements { report, .. } = call
    {
        note("a reporter of a device is paid", report.reporter != alloy::primitives::Address::ZERO);
    }
}

fn note_money(before: &State, model: &Reference, call: &Call, note: &mut impl FnMut(&'static str, bool)) {
    let fees = model.setting.fee_token;
    if let Call::CloseCase { .. } = call {
        let (was, is) = (before.book.of(fees, Pot::Watchers), model.state.book.of(fees, Pot::Watchers));
        note("the watcher pool pays", is < was);
    } else if let Call::Resolve { terms } = call {
        let id = model.read(terms).id;
        let (was, is) = (&before.leases[&id], model.find(id).expect("a lease"));
        note("an award is paid", is.compensated > was.compensated);
        note("a dispute is lost", was.disputed && model.ruling(id) == Ruling::ForProvider);
        note("a buyer's break fee is owed", is.buyer_fee_owed && !was.buyer_fee_owed);
    } else if let Call::ReleaseBond { terms } = call {
        let closed = model.find(model.read(terms).id).and_then(|lease| lease.ending);
        note("a buyer's break fee is paid", closed.is_some_and(|ending| ending.buyer_fee != 0));
    } else if let Call::Count { epoch, .. } = call {
        note("a census trips the breaker", model.tripped(*epoch));
    }
}
