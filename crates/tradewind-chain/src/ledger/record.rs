//! What the chain stores, in domain types.

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use tradewind_proto::ids::{DeviceId, MeshKey, ProviderId};
use tradewind_proto::lease::{LeasePhase, LeaseState, NoticeKind};
use tradewind_proto::terms::LeaseKind;
use tradewind_proto::units::{Money, Seconds, Timestamp};

/// The latest block, and how much of the chain counts as final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChainHead {
    /// The block's number.
    pub block: u64,
    /// Its hash.
    pub hash: B256,
    /// Its time. The next block's is what the contracts compare against; where blocks are made on demand it may be much later.
    pub timestamp: Timestamp,
    /// Blocks up to this number are final by the configured depth. Money decisions wait for it.
    pub finalized: u64,
}

/// One version of the deployment's parameters. Versions are only ever added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// False: running leases keep it, new ones may not name it.
    pub active: bool,
    /// After `requestClose` and after the end: how long the other side may still settle.
    pub window: Seconds,
    /// From Settled until the bond may be released.
    pub bond_delay: Seconds,
    /// How far ahead `open_by` may lie, and how far back `start`.
    pub open_ahead: Seconds,
    /// How far ahead `start` may lie.
    pub start_ahead: Seconds,
    /// The longest lease.
    pub max_duration: Seconds,
    /// The compensation cap covers at least this long of an on-demand lease's rate.
    pub min_cap_on_demand: Seconds,
    /// The same for spot.
    pub min_cap_spot: Seconds,
    /// The same for reserved.
    pub min_cap_reserved: Seconds,
    /// The fee on what is finally paid, in basis points, borne by the provider.
    pub fee_bps: u16,
    /// The sink's share of the fee, in basis points.
    pub sink_bps: u16,
    /// How long a challenged provider may take to answer.
    pub answer_window: Seconds,
    /// After this an open dispute no longer holds the bond.
    pub hard_limit: Seconds,
    /// A failure this early refunds everything, without bonus.
    pub refund_window: Seconds,
    /// A second failure of the same pair this soon earns no bonus.
    pub repeat_window: Seconds,
    /// Compensation looks back at most this long.
    pub compensation_span: Seconds,
    /// Compensation adds this long.
    pub bonus_span: Seconds,
    /// A challenge's bond is worth this long of the lease's rate.
    pub challenge_span: Seconds,
    /// A dispute's bond, in basis points of the claim.
    pub dispute_bps: u16,
    /// Who decides disputes.
    pub court: Address,
    /// Who decides membership; zero where nobody does.
    pub membership: Address,
}

impl Parameters {
    /// The shortest time that the compensation cap of a lease of `kind` must cover.
    #[must_use]
    pub const fn min_cap(&self, kind: LeaseKind) -> Seconds {
        match kind {
            LeaseKind::OnDemand => self.min_cap_on_demand,
            LeaseKind::Spot => self.min_cap_spot,
            LeaseKind::Reserved => self.min_cap_reserved,
        }
    }
}

/// An account in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// The account.
    pub account: Address,
    /// Where the mesh finds its node.
    pub mesh_key: MeshKey,
    /// Digest of a self-description, or zero.
    pub metadata: B256,
    /// The latest end of any of its devices' rent.
    pub rent_paid_until: Timestamp,
}

/// A provider of the rendezvous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRecord {
    /// Who.
    pub provider: ProviderId,
    /// Where the mesh finds it.
    pub mesh_key: MeshKey,
    /// The latest end of any of its devices' rent: once past, its entries are dead.
    pub rent_paid_until: Timestamp,
}

/// A part of the list of providers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderPage {
    /// In order of registration.
    pub providers: Vec<ProviderRecord>,
    /// Where the next part starts; `None` at the end.
    pub next: Option<u64>,
}

/// A device in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Its id.
    pub device: DeviceId,
    /// Whose it is.
    pub provider: ProviderId,
    /// Its own key.
    pub key: Address,
    /// Who stakes it and gets the stake back.
    pub sponsor: Address,
    /// Its class, as the network profile numbers them.
    pub class: u16,
    /// How many units it leases out.
    pub units: u8,
    /// Its stake, in the stake token. Slashable until withdrawn.
    pub stake: Money,
    /// The units that live leases hold, as a bit mask.
    pub busy_units: u64,
    /// Jailed until then; opens no lease before.
    pub jailed_until: Timestamp,
    /// When the last dispute about its latest lease can still be open.
    pub last_end: Timestamp,
    /// Its stake is on its way out and may be withdrawn then; such a device opens no lease.
    pub unbonding_at: Option<Timestamp>,
    /// Its place in the registry is paid until then.
    pub rent_paid_until: Timestamp,
}

/// What keeps a device from opening a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// Nothing.
    Ready,
    /// Jailed.
    Jailed,
    /// Its stake is on its way out.
    Unbonding,
    /// Its rent lapsed.
    Lapsed,
    /// It has no stake.
    Unstaked,
}

impl DeviceRecord {
    /// What keeps the device from opening a lease at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> DeviceState {
        if self.rent_paid_until < now {
            DeviceState::Lapsed
        } else if self.jailed_until > now {
            DeviceState::Jailed
        } else if self.unbonding_at.is_some() {
            DeviceState::Unbonding
        } else if self.stake.is_zero() {
            DeviceState::Unstaked
        } else {
            DeviceState::Ready
        }
    }
}

/// Where a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseStage {
    /// Never opened.
    #[default]
    None,
    /// Running.
    Open,
    /// The provider warned that payment lags.
    NoticedUnpaid,
    /// The provider takes a spot lease back.
    NoticedReclaim,
    /// The buyer asked for the end; the window runs.
    Closing,
    /// Over; the bond waits for its due time.
    Settled,
    /// Over, and everything is paid out.
    Closed,
}

impl LeaseStage {
    /// True while the device's units are busy and vouchers count.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Open | Self::NoticedUnpaid | Self::NoticedReclaim | Self::Closing)
    }

    /// True once the lease is over.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Settled | Self::Closed)
    }
}

/// What stands beside the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct LeaseFlags {
    /// A challenge waits for its answer.
    pub challenged: bool,
    /// A dispute waits for the court.
    pub disputed: bool,
    /// The lease had its one dispute.
    pub dispute_used: bool,
    /// The provider closed early: its break fee goes to the buyer with the bond's release.
    pub provider_fee: bool,
    /// The buyer broke a reserved lease: its fee is set aside.
    pub buyer_fee: bool,
    /// The court found that the fee set aside is owed.
    pub buyer_fee_owed: bool,
    /// The provider failed to answer a challenge.
    pub defaulted: bool,
}

/// A lease's state on chain. The terms are not on chain; their digest is the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Where it stands.
    pub stage: LeaseStage,
    /// Settled so far.
    pub paid: Money,
    /// When it was opened; zero before.
    pub opened_at: Timestamp,
    /// When the latest notice was given; zero without.
    pub notice_at: Timestamp,
    /// When a closing lease may be finalised, or a settled lease's bond be released; zero otherwise.
    pub due_at: Timestamp,
    /// What stands beside.
    pub flags: LeaseFlags,
    /// How many challenges it has seen: the next one's `sequence`.
    pub challenges: u32,
    /// When the latest challenge was made; zero without.
    pub challenged_at: Timestamp,
    /// Paid in all at the last checkpoint that both sides acknowledged.
    pub checkpoint_paid: Money,
    /// When that checkpoint was stored; zero without.
    pub checkpoint_at: Timestamp,
    /// What the bond already paid the buyer as compensation.
    pub compensated: Money,
    /// What the dispute asks for.
    pub claim: Money,
    /// When the dispute was raised; zero without.
    pub disputed_at: Timestamp,
}

impl LeaseRecord {
    /// The record as the pure rules of both parties read it; `answer_window` is the lease's parameter.
    #[must_use]
    pub fn state(&self, answer_window: Seconds) -> LeaseState {
        LeaseState {
            phase: match self.stage {
                LeaseStage::None => LeasePhase::None,
                LeaseStage::Open => LeasePhase::Open,
                LeaseStage::NoticedUnpaid => LeasePhase::Noticed(NoticeKind::Unpaid),
                LeaseStage::NoticedReclaim => LeasePhase::Noticed(NoticeKind::Reclaim),
                LeaseStage::Closing => LeasePhase::Closing,
                LeaseStage::Settled => LeasePhase::Settled,
                LeaseStage::Closed => LeasePhase::Closed,
            },
            paid: self.paid,
            opened_at: self.opened_at,
            notice_at: self.notice_at,
            due_at: self.due_at,
            challenged_until: self.flags.challenged.then(|| self.challenged_at.after(answer_window)),
            challenges: self.challenges,
            disputed: self.flags.disputed,
        }
    }
}

/// What the deployment asks of devices, and in which tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryTerms {
    /// What stakes are paid in.
    pub stake_token: Address,
    /// What rent is paid in.
    pub fee_token: Address,
    /// A device's rent for a day, in the fee token.
    pub rent_per_day: Money,
    /// The farthest ahead that rent may be paid.
    pub max_rent: Seconds,
    /// From the request to the withdrawal of a stake, at least.
    pub unbonding: Seconds,
}
