//! Terms that could open, and terms that could not.

use alloy::primitives::{Address, B256};
use tradewind_chain::client::bindings::abi;

use super::super::call::{Call, Step, n40, n96};
use super::super::reference::Reference;
use super::super::registry::Device;
use super::super::statement::Signed;
use super::super::terms::{RESERVED, Terms};
use super::{Draw, step};

/// Unclosed leases beyond which few more open.
const MANY: usize = 22;

impl Draw<'_> {
    pub(super) fn open(&mut self, model: &Reference) -> Option<Step> {
        if model.state.leases.len() >= MANY && !self.one_in(8) {
            return None;
        }
        let (buyers, providers) = (self.cast.buyers.clone(), self.cast.providers.clone());
        let (buyer, provider) = (self.pick(&buyers), self.pick(&providers));
        let parent = if self.one_in(50) { self.word() } else { B256::ZERO };
        let terms = self.terms(model, buyer, provider, parent);
        let (buyer, provider) = self.both_sign(model, &terms);
        step(self.sender(), Call::Open { terms, buyer, provider })
    }

    /// The parties' signatures; now and then of terms that were changed afterwards.
    pub(super) fn both_sign(&mut self, model: &Reference, terms: &abi::LeaseTerms) -> (Signed, Signed) {
        let mut said = terms.clone();
        if self.one_in(40) {
            said.deposit = n96(terms.deposit.to::<u128>() / 2);
        }
        let id = model.read(&said).id;
        (self.signed(terms.buyer, id), self.signed(terms.provider, id))
    }

    pub(super) fn terms(
        &mut self,
        model: &Reference,
        buyer: Address,
        provider: Address,
        parent: B256,
    ) -> abi::LeaseTerms {
        let mut terms = self.priced(model, buyer, provider, parent);
        self.choose_device(model, &mut terms);
        if self.one_in(6) {
            self.spoil(model, &mut terms);
        }
        terms
    }

    /// Numbers that hold together, device aside.
    fn priced(
        &mut self,
        model: &Reference,
        buyer: Address,
        provider: Address,
        parent: B256,
    ) -> abi::LeaseTerms {
        let now = model.state.now;
        let version = self.version(model);
        let rules = version.checked_sub(1).and_then(|at| model.state.versions.get(at as usize));
        let rules = rules.unwrap_or(&model.state.versions[0]).parameters.clone();
        let scale = self.below(9);
        let start = now - self.below(5) + self.below(10);
        let kind = u8::try_from(self.below(3)).expect("a kind");
        let meters = self.cast.meters.clone();
        let job = self.word();
        let mut raw = abi::LeaseTerms {
            buyer,
            provider,
            device: B256::ZERO,
            units: 0,
            unstaked: self.one_in(4),
            meter: self.pick(&meters),
            meterMaySignLast: self.one_in(2),
            token: self.token(),
            rate: self.amount(10u128.pow(15 + u32::try_from(scale).expect("small"))) + 1,
            deposit: n96(0),
            prepay: n96(0),
            bond: n96(0),
            compensationCap: n96(0),
            providerBreakFee: n96(0),
            buyerBreakFee: n96(0),
            kind,
            schedule: abi::Schedule {
                start: n40(start),
                end: n40(now.max(start) + 5 + self.below(150)),
                openBy: n40(now + self.below(30)),
                prepare: u32::try_from(self.below(8)).expect("small"),
                notice: u32::try_from(self.below(20)).expect("small"),
                slack: u32::try_from(1 + self.below(20)).expect("small"),
            },
            uptimePromise: 9_900,
            version,
            jobDigest: job,
            tosHash: B256::ZERO,
            parent,
        };
        let seen = Terms::read(&raw, &model.setting.domains);
        let prepay = if self.one_in(3) { 0 } else { self.amount(seen.worth(seen.slack)) };
        let whole = seen.worth(seen.end - seen.start + seen.slack) + 1;
        let buyer_fee = if kind == RESERVED && !self.one_in(3) { self.amount(whole / 4) } else { 0 };
        let work = if self.one_in(4) { self.amount(whole) } else { whole };
        let least = [rules.minCapOnDemand, rules.minCapSpot, rules.minCapReserved][usize::from(kind)];
        let cap = seen.worth(least.into()) + self.amount(seen.worth(20));
        let provider_fee = if self.one_in(3) { 0 } else { self.amount(seen.worth(30)) };
        raw.prepay = n96(prepay);
        raw.buyerBreakFee = n96(buyer_fee);
        raw.deposit = n96(work.max(prepay) + buyer_fee);
        raw.compensationCap = n96(cap);
        raw.providerBreakFee = n96(provider_fee);
        raw.bond = n96(cap + provider_fee + if self.one_in(2) { 0 } else { self.amount(50) });
        raw
    }

    fn version(&mut self, model: &Reference) -> u32 {
        let latest = u32::try_from(model.state.versions.len()).expect("few");
        if self.one_in(40) {
            return u32::try_from(self.below(2)).expect("small") * (latest + 1);
        }
        u32::try_from(self.below(latest.into())).expect("few") + 1
    }

    /// Units of a device that can open, where there is one; else the unstaked tier.
    fn choose_device(&mut self, model: &Reference, terms: &mut abi::LeaseTerms) {
        let now = model.state.now;
        let can = |device: &Device| {
            device.provider == terms.provider
                && device.rent_until >= now
                && device.unbonding_at.is_none()
                && device.jailed_until <= now
                && (device.qualified || terms.unstaked)
        };
        let (able, all): (Vec<_>, Vec<_>) = model.state.devices.iter().partition(|(_, device)| can(device));
        let from = if self.one_in(25) { all } else { able };
        if from.is_empty() || (terms.unstaked && self.one_in(2)) {
            terms.unstaked = true;
            return;
        }
        let (id, device) = from[self.index(from.len())];
        let free: Vec<u64> =
            (0..device.units).map(|unit| 1 << unit).filter(|unit| device.busy & unit == 0).collect();
        terms.device = *id;
        terms.units = if free.is_empty() || self.one_in(25) {
            1 << self.below(u64::from(device.units) + 1).min(63)
        } else {
            self.pick(&free) | self.pick(&free)
        };
    }

    /// One thing about the terms is wrong, mostly by one.
    fn spoil(&mut self, model: &Reference, terms: &mut abi::LeaseTerms) {
        let now = model.state.now;
        let seen = model.read(terms);
        match self.below(16) {
            0 => terms.buyer = terms.provider,
            1 => terms.meter = Address::ZERO,
            2 => terms.kind = 3,
            3 => terms.units = 0,
            4 => terms.schedule.openBy = n40(now - 1),
            5 => terms.schedule.openBy = n40(now + 10_000),
            6 => terms.schedule.start = n40(now - 1_000),
            7 => terms.schedule.start = n40(now + 100_000),
            8 => terms.schedule.end = terms.schedule.start,
            9 => terms.schedule.end = n40(seen.start + 1_000_000),
            10 => terms.prepay = n96(seen.worth(seen.slack) + 1),
            11 => terms.deposit = n96((seen.prepay + seen.buyer_break_fee).saturating_sub(1)),
            12 => terms.bond = n96(terms.bond.to::<u128>().saturating_sub(1)),
            13 => terms.compensationCap = n96(terms.compensationCap.to::<u128>() / 2),
            14 => terms.buyerBreakFee = n96(1),
            _ => terms.deposit = n96(u128::MAX >> 33),
        }
    }
}
