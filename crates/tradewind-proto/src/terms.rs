//! Lease terms: what both parties sign, and the digest that is the lease's id.

use std::sync::LazyLock;

use alloy_primitives::{Address, B256, U256, aliases::U40, aliases::U96, keccak256};
use alloy_sol_types::{Eip712Domain, SolStruct, eip712_domain};
use serde::{Deserialize, Serialize};

use crate::ids::{BuyerId, DeviceId, LeaseId, ProviderId};
use crate::units::{Money, RatePerSecond, Seconds, Timestamp};

/// The structs as Solidity and EIP-712 know them, in an expansion of `sol!` beside whatever else is given: a binding has
/// to hold the structs that its functions take. Field order is binding. The times are a struct of their own because a
/// generated binding holds at most 24 members.
#[macro_export]
macro_rules! signed_structs {
    ($($sol:ident)::+ { $($beside:tt)* }) => {
        $($sol)::+! {
            #[derive(Debug, PartialEq, Eq)]
            struct Schedule {
                uint40 start;
                uint40 end;
                uint40 openBy;
                uint32 prepare;
                uint32 notice;
                uint32 slack;
            }

            #[derive(Debug, PartialEq, Eq)]
            struct LeaseTerms {
                address buyer;
                address provider;
                bytes32 device;
                uint64 units;
                bool unstaked;
                address meter;
                bool meterMaySignLast;
                address token;
                uint128 rate;
                uint96 deposit;
                uint96 prepay;
                uint96 bond;
                uint96 compensationCap;
                uint96 providerBreakFee;
                uint96 buyerBreakFee;
                uint8 kind;
                Schedule schedule;
                uint16 uptimePromise;
                uint32 version;
                bytes32 jobDigest;
                bytes32 tosHash;
                bytes32 parent;
            }

            #[derive(Debug, PartialEq, Eq)]
            struct Voucher {
                bytes32 lease;
                uint96 cumulative;
                uint40 notBefore;
                bool last;
            }

            $($beside)*
        }
    };
}

/// The structs that both parties sign.
pub mod sol {
    crate::signed_structs!(alloy_sol_types::sol {});
}

/// The part of an EIP-712 domain's encoding that every deployment shares: the hashes of type, name and version.
static DOMAIN_PREFIX: LazyLock<[u8; 96]> = LazyLock::new(|| {
    let domain = Domain { chain_id: 0, contract: Address::ZERO }.eip712();
    let mut prefix = [0; 96];
    prefix[..32].copy_from_slice(domain.type_hash().as_slice());
    prefix[32..].copy_from_slice(&domain.encode_data()[..64]);
    prefix
});

/// Where a signature counts: one chain and one contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Domain {
    /// The chain's id.
    pub chain_id: u64,
    /// The `Leases` contract.
    pub contract: Address,
}

impl Domain {
    /// The EIP-712 domain of leases and vouchers.
    #[must_use]
    pub fn eip712(&self) -> Eip712Domain {
        eip712_domain! {
            name: "Tradewind",
            version: "1",
            chain_id: self.chain_id,
            verifying_contract: self.contract,
        }
    }

    /// What is signed for a struct with the hash `of`: [`SolStruct::eip712_signing_hash`] without hashing again what never
    /// changes. A provider does this for every voucher.
    #[must_use]
    pub fn signing_hash(&self, of: B256) -> B256 {
        let mut domain = [0; 160];
        domain[..96].copy_from_slice(&*DOMAIN_PREFIX);
        domain[120..128].copy_from_slice(&self.chain_id.to_be_bytes());
        domain[140..].copy_from_slice(self.contract.as_slice());
        let mut signed = [0; 66];
        signed[..2].copy_from_slice(&[0x19, 0x01]);
        signed[2..34].copy_from_slice(keccak256(domain).as_slice());
        signed[34..].copy_from_slice(of.as_slice());
        keccak256(signed)
    }
}

/// What kind of promise a lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum LeaseKind {
    /// Runs until either side ends it; an early close by the provider costs a break fee.
    OnDemand = 0,
    /// Cheaper, and reclaimable after `notice`.
    Spot = 1,
    /// A committed term at a discount: both sides owe a break fee.
    Reserved = 2,
}

impl TryFrom<u8> for LeaseKind {
    type Error = TermsError;
    fn try_from(kind: u8) -> Result<Self, TermsError> {
        match kind {
            0 => Ok(Self::OnDemand),
            1 => Ok(Self::Spot),
            2 => Ok(Self::Reserved),
            other => Err(TermsError::Kind(other)),
        }
    }
}

impl std::fmt::Display for LeaseKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OnDemand => "on-demand",
            Self::Spot => "spot",
            Self::Reserved => "reserved",
        })
    }
}

/// Why terms cannot be a lease on any provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// No such kind.
    #[error("{0} is no lease kind: 0 is on-demand, 1 spot, 2 reserved")]
    Kind(u8),
    /// A number does not fit its field.
    #[error("{0} does not fit its field")]
    Range(&'static str),
    /// Two numbers contradict each other; the contract would refuse them.
    #[error("{0}")]
    Rule(&'static str),
}

/// The terms of one lease. Amounts in base units of `token`; instants in Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTerms {
    /// Who pays.
    pub buyer: BuyerId,
    /// Who works.
    pub provider: ProviderId,
    /// The staked device, or [`DeviceId::NONE`] on the unstaked tier.
    pub device: DeviceId,
    /// Which of the device's units, as a bit mask.
    pub units: u64,
    /// The buyer accepts a provider without stake.
    pub unstaked: bool,
    /// The key that signs vouchers.
    pub meter: Address,
    /// The meter may also sign the last voucher.
    pub meter_may_sign_last: bool,
    /// The payment token.
    pub token: Address,
    /// The price.
    pub rate: RatePerSecond,
    /// The buyer's escrow.
    pub deposit: Money,
    /// No voucher below this counts.
    pub prepay: Money,
    /// The provider's bond.
    pub bond: Money,
    /// The most that the bond pays the buyer as compensation.
    pub compensation_cap: Money,
    /// Owed by a provider that closes early.
    pub provider_break_fee: Money,
    /// Owed by a buyer that closes a reserved lease early.
    pub buyer_break_fee: Money,
    /// What kind of promise.
    pub kind: LeaseKind,
    /// Billing starts.
    pub start: Timestamp,
    /// The lease ends.
    pub end: Timestamp,
    /// The last moment to open it.
    pub open_by: Timestamp,
    /// Time for pulling data before the unpaid clock runs.
    pub prepare: Seconds,
    /// Warning before a spot lease is reclaimed.
    pub notice: Seconds,
    /// How far payment may run ahead or lag behind.
    pub slack: Seconds,
    /// Promised uptime in basis points (9,990 is 99.9 %).
    pub uptime_promise: u16,
    /// The parameter version on chain.
    pub version: u32,
    /// The digest of the salted job manifest.
    pub job: B256,
    /// The digest of the provider's terms of service.
    pub terms_of_service: B256,
    /// The lease that this one extends, or zero.
    pub parent: B256,
}

impl LeaseTerms {
    /// The lease's id in `domain`: the EIP-712 digest that both parties sign.
    ///
    /// # Errors
    /// [`TermsError::Range`] when a number does not fit the contract's field.
    pub fn id(&self, domain: &Domain) -> Result<LeaseId, TermsError> {
        Ok(LeaseId::new(self.to_sol()?.eip712_signing_hash(&domain.eip712())))
    }

    /// The struct that the contract takes.
    ///
    /// # Errors
    /// [`TermsError::Range`] when a number does not fit the contract's field.
    pub fn to_sol(&self) -> Result<sol::LeaseTerms, TermsError> {
        Ok(sol::LeaseTerms {
            buyer: self.buyer.account(),
            provider: self.provider.account(),
            device: self.device.get(),
            units: self.units,
            unstaked: self.unstaked,
            meter: self.meter,
            meterMaySignLast: self.meter_may_sign_last,
            token: self.token,
            rate: self.rate.scaled(),
            deposit: u96(self.deposit),
            prepay: u96(self.prepay),
            bond: u96(self.bond),
            compensationCap: u96(self.compensation_cap),
            providerBreakFee: u96(self.provider_break_fee),
            buyerBreakFee: u96(self.buyer_break_fee),
            kind: self.kind as u8,
            schedule: sol::Schedule {
                start: u40(self.start, "start")?,
                end: u40(self.end, "end")?,
                openBy: u40(self.open_by, "openBy")?,
                prepare: u32_of(self.prepare, "prepare")?,
                notice: u32_of(self.notice, "notice")?,
                slack: u32_of(self.slack, "slack")?,
            },
            uptimePromise: self.uptime_promise,
            version: self.version,
            jobDigest: self.job,
            tosHash: self.terms_of_service,
            parent: self.parent,
        })
    }

    /// The terms that a contract's struct states.
    ///
    /// # Errors
    /// [`TermsError::Kind`] for an unknown kind.
    pub fn from_sol(terms: &sol::LeaseTerms) -> Result<Self, TermsError> {
        Ok(Self {
            buyer: BuyerId::new(terms.buyer),
            provider: ProviderId::new(terms.provider),
            device: DeviceId::new(terms.device),
            units: terms.units,
            unstaked: terms.unstaked,
            meter: terms.meter,
            meter_may_sign_last: terms.meterMaySignLast,
            token: terms.token,
            rate: RatePerSecond::from_scaled(terms.rate),
            deposit: money(terms.deposit)?,
            prepay: money(terms.prepay)?,
            bond: money(terms.bond)?,
            compensation_cap: money(terms.compensationCap)?,
            provider_break_fee: money(terms.providerBreakFee)?,
            buyer_break_fee: money(terms.buyerBreakFee)?,
            kind: LeaseKind::try_from(terms.kind)?,
            start: Timestamp::from_unix(terms.schedule.start.to()),
            end: Timestamp::from_unix(terms.schedule.end.to()),
            open_by: Timestamp::from_unix(terms.schedule.openBy.to()),
            prepare: Seconds::new(terms.schedule.prepare.into()),
            notice: Seconds::new(terms.schedule.notice.into()),
            slack: Seconds::new(terms.schedule.slack.into()),
            uptime_promise: terms.uptimePromise,
            version: terms.version,
            job: terms.jobDigest,
            terms_of_service: terms.tosHash,
            parent: terms.parent,
        })
    }

    /// Checks what the contract's `open` checks of the numbers themselves, so that nobody signs terms that cannot open.
    ///
    /// # Errors
    /// [`TermsError::Rule`] naming the rule.
    pub fn check(&self) -> Result<(), TermsError> {
        let rule = |holds: bool, message| if holds { Ok(()) } else { Err(TermsError::Rule(message)) };
        rule(self.buyer.account() != self.provider.account(), "buyer and provider are the same account")?;
        rule(self.end > self.start, "the lease ends before it starts")?;
        rule(self.uptime_promise <= 10_000, "the uptime promise exceeds 10,000 basis points")?;
        rule(
            (self.device == DeviceId::NONE) == self.unstaked,
            "no device means the unstaked tier, and only that",
        )?;
        rule(self.unstaked || self.units != 0, "the lease names no unit of the device")?;
        rule(
            self.prepay <= self.deposit.min(self.rate.over(self.slack)),
            "the prepayment exceeds a slack's worth",
        )?;
        let floor = self.prepay.checked_add(self.buyer_break_fee);
        rule(
            floor.is_ok_and(|f| self.deposit >= f),
            "the deposit is below prepayment plus the buyer's break fee",
        )?;
        let floor = self.compensation_cap.checked_add(self.provider_break_fee);
        rule(
            floor.is_ok_and(|f| self.bond >= f),
            "the bond is below compensation cap plus the provider's break fee",
        )
    }

    /// The most that vouchers may claim at `at`:
    /// `min(deposit − buyerBreakFee, rate × (min(at, end) − start + slack) / 1e18 + 1)`.
    #[must_use]
    pub fn cap(&self, at: Timestamp) -> Money {
        let elapsed = at.min(self.end).since(self.start).plus(self.slack);
        let earned = self.rate.over(elapsed).checked_add(Money::from_base_units(1)).unwrap_or(Money::MAX);
        earned.min(self.deposit.saturating_sub(self.buyer_break_fee))
    }
}

pub(crate) fn u96(money: Money) -> U96 {
    U96::from(money.base_units())
}

pub(crate) fn u40(at: Timestamp, field: &'static str) -> Result<U40, TermsError> {
    U40::try_from(at.unix()).map_err(|_| TermsError::Range(field))
}

fn u32_of(seconds: Seconds, field: &'static str) -> Result<u32, TermsError> {
    u32::try_from(seconds.get()).map_err(|_| TermsError::Range(field))
}

fn money(amount: U96) -> Result<Money, TermsError> {
    Money::new(U256::from(amount).to::<u128>()).map_err(|_| TermsError::Range("amount"))
}
