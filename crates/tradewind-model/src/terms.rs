//! What the terms of a lease say, in numbers.

use alloy::primitives::{Address, B256, U256};
use tradewind_chain::client::bindings::abi;

use super::statement::Domains;

pub(crate) const SPOT: u8 = 1;
pub(crate) const RESERVED: u8 = 2;
const RATE_SCALE: u128 = 1_000_000_000_000_000_000;
const BASIS_POINTS: u128 = 10_000;
const MOST: u128 = (1 << 96) - 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) id: B256,
    pub(crate) raw: abi::LeaseTerms,
    pub(crate) deposit: u128,
    pub(crate) prepay: u128,
    pub(crate) bond: u128,
    pub(crate) compensation_cap: u128,
    pub(crate) provider_break_fee: u128,
    pub(crate) buyer_break_fee: u128,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) open_by: u64,
    pub(crate) prepare: u64,
    pub(crate) notice: u64,
    pub(crate) slack: u64,
}

impl Terms {
    pub(crate) fn read(raw: &abi::LeaseTerms, domains: &Domains) -> Self {
        Self {
            id: domains.at_leases(raw),
            deposit: raw.deposit.to(),
            prepay: raw.prepay.to(),
            bond: raw.bond.to(),
            compensation_cap: raw.compensationCap.to(),
            provider_break_fee: raw.providerBreakFee.to(),
            buyer_break_fee: raw.buyerBreakFee.to(),
            start: raw.schedule.start.to(),
            end: raw.schedule.end.to(),
            open_by: raw.schedule.openBy.to(),
            prepare: raw.schedule.prepare.into(),
            notice: raw.schedule.notice.into(),
            slack: raw.schedule.slack.into(),
            raw: raw.clone(),
        }
    }

    pub(crate) fn buyer(&self) -> Address {
        self.raw.buyer
    }

    pub(crate) fn provider(&self) -> Address {
        self.raw.provider
    }

    pub(crate) fn token(&self) -> Address {
        self.raw.token
    }

    /// What a span of the rate is worth, rounded for the payer.
    pub(crate) fn worth(&self, span: u64) -> u128 {
        (self.product(span) / U256::from(RATE_SCALE)).to()
    }

    /// The same for a bond, rounded up; no bond is more than an amount can be.
    pub(crate) fn bond_of(&self, span: u64) -> u128 {
        self.product(span).div_ceil(U256::from(RATE_SCALE)).min(U256::from(MOST)).to()
    }

    /// min(deposit − buyerBreakFee, rate × (min(moment, end) − start + slack) / 1e18 + 1).
    pub(crate) fn cap(&self, moment: u64) -> u128 {
        let elapsed = moment.min(self.end).saturating_sub(self.start);
        let earned = self.worth(elapsed + self.slack) + 1;
        earned.min(self.deposit - self.buyer_break_fee)
    }

    /// What must be paid at `moment`, when payment may lag by `lag`.
    pub(crate) fn due(&self, moment: u64, lag: u64) -> u128 {
        self.worth(moment.min(self.end).saturating_sub(self.start + self.prepare + lag))
    }

    fn product(&self, span: u64) -> U256 {
        U256::from(self.raw.rate) * U256::from(span)
    }
}

/// A share in basis points, rounded down.
pub(crate) fn share(amount: u128, basis_points: u16) -> u128 {
    amount * u128::from(basis_points) / BASIS_POINTS
}

/// A share in basis points, rounded up.
pub(crate) fn share_up(amount: u128, basis_points: u16) -> u128 {
    (amount * u128::from(basis_points)).div_ceil(BASIS_POINTS)
}
