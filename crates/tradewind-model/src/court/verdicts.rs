//! What follows from a decision: the slash, fees and bonds, harmed leases, the breaker.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256};
use tradewind_chain::client::bindings::abi as leases_abi;

use super::Joined;
use super::abi::{Beside, Census, Court};
use super::cases::{CLEAR, Case, GUILTY, Stage};
use crate::book::Pot;
use crate::call::n96;
use crate::leases::{Lease, Phase};
use crate::reference::Reference;
use crate::refusal::{Refusal, refuse, require};
use crate::terms::share;

/// An owner counts for the breaker while a device of its was paid this recently.
const WEEK: u64 = 7 * 86_400;
/// One part in this many may look down.
const PARTS: u32 = 5;
/// So many owners may in any case.
const LEAST: u32 = 2;
const DAY: u64 = 86_400;
/// In a day the watcher pool pays one part in this many.
const STIPEND: u128 = 10;

/// A device in a census: whose it is, and its stake when it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) owner: Address,
    pub(crate) stake: u128,
}

/// What a ruling says of a dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ruling {
    Unknown,
    ForBuyer(u128),
    ForProvider,
}

impl Reference {
    pub(crate) fn execute(&mut self, id: B256) -> Result<(), Refusal> {
        let due = self.find_case(id).filter(|case| case.slash_due);
        let Some(case) = due.cloned() else { return refuse("NothingDue", &[&id]) };
        let until = case.decided_at + u64::from(case.rules.deferSpan);
        let waits = self.state.now < until && self.tripped(case.epoch);
        require(!waits, "BreakerTripped", &[&case.epoch, &until])?;
        let amount = self.slash_share(case.device, case.rules.downBps, case.opener);
        self.tell(&Court::CaseSlashed { caseId: id, device: case.device, amount: n96(amount) });
        self.state.court.cases.get_mut(&id).expect("a slash is due").slash_due = false;
        Ok(())
    }

    /// A share of what a device has at stake, as far as it is not withdrawn.
    pub(crate) fn slash_share(&mut self, device: B256, bps: u16, reporter: Address) -> u128 {
        let amount = share(self.at_stake(device), bps);
        let (reward, sunk) = self.punish(Pot::Stake(device), amount, reporter);
        self.qualify(device);
        self.tell(&leases_abi::Registry::Slashed {
            device,
            amount: n96(amount),
            reporter,
            reward: n96(reward),
            sunk: n96(sunk),
        });
        amount
    }

    // --- fees and bonds ---------------------------------------------------------------------------------------

    pub(crate) fn close_case(&mut self, id: B256) -> Result<(), Refusal> {
        let case = self.at_stage(id, Stage::Decided)?;
        let (now, last) = (self.state.now, case.vote_by.max(case.bench_by));
        require(now > last, "CaseTooEarly", &[&(last + 1), &now])?;
        let token = self.setting.fee_token;
        let provider = self.state.devices[&case.device].provider;
        let cost = self.pay_committee(id, &case);
        let bench_cost = self.pay_bench(id, &case);
        let from_pool = if case.outcome == GUILTY { self.draw_on_pool(id, cost) } else { 0 };
        let to_provider = if case.outcome == CLEAR { case.bond } else { 0 };
        self.pay(token, Pot::CaseBond(id), Pot::Balance(provider), to_provider);
        self.pay(token, Pot::CaseBond(id), Pot::Balance(case.opener), case.bond - to_provider);
        let unspent = self.state.book.of(token, Pot::Transcripts(id));
        self.pay(token, Pot::Transcripts(id), Pot::Balance(case.opener), unspent);
        let unheard = self.state.book.of(token, Pot::Appeal(id));
        self.pay(token, Pot::Appeal(id), Pot::Balance(case.appellant), unheard);
        self.tell(&Beside::CaseClosed {
            caseId: id,
            paid: alloy::primitives::U256::from(cost + bench_cost),
            fromPool: alloy::primitives::U256::from(from_pool),
            toOpener: alloy::primitives::U256::from(unspent + case.bond - to_provider),
            toProvider: alloy::primitives::U256::from(to_provider),
        });
        self.state.court.cases.get_mut(&id).expect("a decided case").stage = Stage::Closed;
        Ok(())
    }

    /// Who judged is paid, but for a vote of guilty on whom a quorum saw well: that earns a strike, as silence does.
    fn pay_committee(&mut self, id: B256, case: &Case) -> u128 {
        let (token, fee) = (self.setting.fee_token, case.rules.transcriptFee.to::<u128>());
        let mut cost = 0;
        for position in &case.committee {
            let seat = case.panelist(*position);
            let vote = case.votes.get(position).copied();
            let against_the_evidence = case.outcome == CLEAR && vote == Some(GUILTY);
            if vote.is_none() || against_the_evidence {
                self.strike(seat, case.rules.strikes);
                continue;
            }
            let owner = self.state.court.seats[&seat].owner;
            self.pay(token, Pot::Transcripts(id), Pot::Balance(owner), fee);
            cost += fee;
        }
        cost
    }

    fn pay_bench(&mut self, id: B256, case: &Case) -> u128 {
        let (token, fee) = (self.setting.fee_token, case.rules.transcriptFee.to::<u128>());
        let mut cost = 0;
        for position in &case.heard {
            let owner = self.state.court.seats[&case.judge(*position)].owner;
            self.pay(token, Pot::Appeal(id), Pot::Balance(owner), fee);
            cost += fee;
        }
        cost
    }

    /// The watcher pool gives back what a rightful accusation cost, as far as the day's tenth goes.
    fn draw_on_pool(&mut self, id: B256, cost: u128) -> u128 {
        let (token, day) = (self.setting.fee_token, self.state.now / DAY);
        let tenth = self.state.book.of(token, Pot::Watchers) / STIPEND;
        let stipend = self.state.stipends.entry(token).or_insert((day, tenth));
        if stipend.0 != day {
            *stipend = (day, tenth);
        }
        let paid = cost.min(stipend.1);
        stipend.1 -= paid;
        self.pay(token, Pot::Watchers, Pot::Transcripts(id), paid);
        let (account, amount) = (self.setting.court, alloy::primitives::U256::from(paid));
        self.tell(&Beside::WatchersPaid { token, account, amount });
        paid
    }

    // --- harmed leases ----------------------------------------------------------------------------------------

    pub(crate) fn join_case(&mut self, id: B256, terms: &leases_abi::LeaseTerms) -> Result<(), Refusal> {
        let Some(case) = self.find_case(id) else { return refuse("WrongStage", &[&id, &0]) };
        let start = self.epoch_start(case.epoch)?;
        let lease_id = self.read(terms).id;
        let harmed = self.find(lease_id).filter(|lease| self.is_harmed(lease, case, start));
        let Some(lease) = harmed.filter(|_| !self.state.court.joined.contains_key(&lease_id)) else {
            return refuse("NotHarmed", &[&lease_id]);
        };
        let (lost, bonus) = award(lease, start);
        let award = lost + bonus;
        self.state.court.joined.insert(lease_id, Joined { case: id, award, bonus });
        self.tell(&Court::LeaseJoined { caseId: id, lease: lease_id, award: n96(award) });
        Ok(())
    }

    /// Of this device, disputed, at work in the epoch, and no more than the case's bond covers.
    fn is_harmed(&self, lease: &Lease, case: &Case, start: u64) -> bool {
        let at_work = self.was_at_work(lease, start);
        let own = lease.terms.buyer() == case.opener && lease.terms.token() == self.setting.fee_token;
        let covered = !own || lease.claim <= case.claim;
        lease.disputed && lease.terms.raw.device == case.device && at_work && covered
    }

    /// Whether the lease ran in the epoch that began at `start`.
    pub(crate) fn was_at_work(&self, lease: &Lease, start: u64) -> bool {
        let ended = lease.due_at.saturating_sub(u64::from(lease.rules.bondDelay));
        lease.opened_at < start + self.setting.bench.epoch_span
            && lease.terms.end > start
            && (lease.phase != Phase::Settled || ended > start)
    }

    /// What the court says about a lease's dispute.
    pub(crate) fn ruling(&self, lease: B256) -> Ruling {
        let Some(joined) = self.state.court.joined.get(&lease) else { return Ruling::Unknown };
        match self.find_case(joined.case).map(|case| case.outcome) {
            Some(GUILTY) if self.failed_lately(lease) => Ruling::ForBuyer(joined.award - joined.bonus),
            Some(GUILTY) => Ruling::ForBuyer(joined.award),
            Some(CLEAR) => Ruling::ForProvider,
            _ => Ruling::Unknown,
        }
    }

    /// The pair of this lease had another failure not long ago, by whatever judgement.
    pub(crate) fn failed_lately(&self, lease: B256) -> bool {
        let lease = self.find(lease).expect("a lease");
        let pair = (lease.terms.buyer(), lease.terms.provider());
        let last = self.state.failures.get(&pair);
        last.is_some_and(|last| self.state.now < last + u64::from(lease.rules.repeatWindow))
    }

    /// A case of the span was cleared, and none found guilty.
    pub(crate) fn uptime_credit(&self, device: B256, from: u64, to: u64) -> bool {
        let setup = &self.setting.bench;
        if to < from || from < setup.genesis {
            return false;
        }
        let epochs = (from - setup.genesis) / setup.epoch_span..=(to - setup.genesis) / setup.epoch_span;
        let any = |set: &BTreeSet<(B256, u64)>| {
            set.iter().any(|(of, epoch)| *of == device && epochs.contains(epoch))
        };
        any(&self.state.court.clear) && !any(&self.state.court.guilty)
    }

    // --- the breaker ------------------------------------------------------------------------------------------

    pub(crate) fn count(&mut self, epoch: u64, leases: &[leases_abi::LeaseTerms]) -> Result<(), Refusal> {
        let start = self.epoch_start(epoch)?;
        for terms in leases {
            let id = self.read(terms).id;
            let end = start + self.setting.bench.epoch_span;
            let paid = self.find(id).is_some_and(|lease| {
                lease.paid != 0
                    && !terms.device.is_zero()
                    && lease.terms.end + WEEK > start
                    && lease.opened_at < end
            });
            require(paid, "NotHarmed", &[&id])?;
            let counted = Counted { owner: terms.provider, stake: self.at_stake(terms.device) };
            self.state.court.counted.entry((epoch, terms.device)).or_insert(counted);
        }
        Ok(())
    }

    pub(crate) fn census(&self, epoch: u64) -> Census {
        let court = &self.state.court;
        let all = || court.counted.range((epoch, B256::ZERO)..=(epoch, B256::repeat_byte(0xff)));
        let down = || all().filter(|(key, _)| court.down.contains(key));
        let owners = |devices: &mut dyn Iterator<Item = &Counted>| {
            let owners: BTreeSet<Address> = devices.map(|counted| counted.owner).collect();
            u32::try_from(owners.len()).expect("few owners")
        };
        Census {
            owners: owners(&mut all().map(|(_, counted)| counted)),
            downOwners: owners(&mut down().map(|(_, counted)| counted)),
            stake: n96(all().map(|(_, counted)| counted.stake).sum()),
            downStake: n96(down().map(|(_, counted)| counted.stake).sum()),
        }
    }

    pub(crate) fn tripped(&self, epoch: u64) -> bool {
        let Census { owners, downOwners: down, stake, downStake: down_stake } = self.census(epoch);
        let few = down <= (owners / PARTS).max(LEAST);
        let light = down_stake.to::<u128>() * u128::from(PARTS) <= stake.to::<u128>();
        !few && !light
    }
}

/// What was lost since the last checkpoint, at most a span's worth, and a bonus; all that was paid, and none, where the epoch
/// began before the lease had settled in.
fn award(lease: &Lease, start: u64) -> (u128, u128) {
    let (terms, rules) = (&lease.terms, &lease.rules);
    let began = terms.start.max(lease.opened_at);
    if start < began + u64::from(rules.refundWindow) {
        return (lease.paid, 0);
    }
    let lost = lease.paid.saturating_sub(lease.checkpoint_paid);
    (lost.min(terms.worth(rules.compensationSpan.into())), terms.worth(rules.bonusSpan.into()))
}
