//! What the chain reports: domain events with their block, and the rollbacks of a reorg.

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use tradewind_proto::ids::{BuyerId, DeviceId, LeaseId, MeshKey, ProviderId};
use tradewind_proto::lease::NoticeKind;
use tradewind_proto::terms::LeaseKind;
use tradewind_proto::units::{Money, RatePerSecond, Timestamp};

/// A block by number and hash: after a reorg the number alone names another block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct BlockRef {
    /// The number.
    pub number: u64,
    /// The hash.
    pub hash: B256,
}

/// How far a consumer has read: every event of the blocks before `block`, and of `block` itself all, or the first `logs`.
/// The default is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct EventCursor {
    /// The last block that was read, by number and hash so that a reorg shows; a zero hash before the first page.
    pub block: BlockRef,
    /// How many of that block's events were read; `None` for all.
    pub logs: Option<u32>,
}

/// Part of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EventPage {
    /// Oldest first.
    pub items: Vec<Feed>,
    /// Where the next page starts. Store it together with what the items changed.
    pub cursor: EventCursor,
}

/// One item of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feed {
    /// This happened.
    Happened(Box<ChainEvent>),
    /// Every event of a block numbered `from` or more did *not* happen: undo them. What replaced them follows.
    Reorged {
        /// The first block that is gone.
        from: u64,
    },
}

/// An event and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEvent {
    /// The block.
    pub block: BlockRef,
    /// The block's time.
    pub at: Timestamp,
    /// The transaction.
    pub tx: B256,
    /// Its position in the block; with the block's hash the event's identity.
    pub log_index: u32,
    /// What happened.
    pub event: LedgerEvent,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LedgerEvent {
    /// Free balance grew.
    Deposited {
        /// Which token.
        token: Address,
        /// Whose balance.
        account: Address,
        /// By how much.
        amount: Money,
    },
    /// Free balance left.
    Withdrawn {
        /// Which token.
        token: Address,
        /// Whose balance.
        account: Address,
        /// Who received it.
        to: Address,
        /// How much.
        amount: Money,
    },
    /// A relayer was paid from free balance.
    FeePaid {
        /// Which token.
        token: Address,
        /// Who paid.
        payer: Address,
        /// Who received it.
        relayer: Address,
        /// How much.
        amount: Money,
    },
    /// An account registered or moved to another mesh key.
    Registered {
        /// Who.
        provider: ProviderId,
        /// Where the mesh finds it.
        mesh_key: MeshKey,
    },
    /// A device was added.
    DeviceAdded {
        /// Its id.
        device: DeviceId,
        /// Whose.
        provider: ProviderId,
        /// Its key.
        key: Address,
        /// Its class.
        class: u16,
        /// How many units it leases out.
        units: u8,
    },
    /// A device's stake, rent, jail or unbonding changed; read the record.
    DeviceChanged {
        /// Its id.
        device: DeviceId,
    },
    /// Something happened to a lease.
    Lease {
        /// Its id.
        lease: LeaseId,
        /// What.
        happened: LeaseEvent,
    },
}

/// What happened to a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseEvent {
    /// It opened; the rest of the terms is with the parties.
    Opened(Opening),
    /// It closed and the lease `next` of the same parties opened with it.
    Extended {
        /// The lease that goes on.
        next: LeaseId,
    },
    /// A voucher was settled.
    Settled {
        /// Paid in all.
        paid: Money,
    },
    /// The provider warned.
    Noticed {
        /// Why.
        kind: NoticeKind,
        /// From then on it may leave without a break fee.
        mature_at: Timestamp,
    },
    /// A settlement cured the unpaid notice.
    Cured,
    /// The buyer asked for the end.
    CloseRequested {
        /// When it may be finalised.
        due_at: Timestamp,
    },
    /// Work and payments are final; the bond waits.
    Ended {
        /// Paid in all, the fee included.
        paid: Money,
        /// Back to the buyer so far.
        refunded: Money,
        /// To the sink, because no voucher ever settled.
        forfeited: Money,
        /// Of `paid`, what the deployment kept.
        fee: Money,
        /// When the bond may be released.
        bond_due: Timestamp,
    },
    /// Everything is paid out: `deposit = paid + refunded + forfeited + buyer_fee`.
    Closed {
        /// Paid in all, the fee included.
        paid: Money,
        /// Back to the buyer.
        refunded: Money,
        /// To the sink, because no voucher ever settled.
        forfeited: Money,
        /// Of `paid`, what the deployment kept.
        fee: Money,
        /// The buyer's break fee that went to the provider.
        buyer_fee: Money,
        /// Of the bond, to the buyer; the provider got the rest.
        bond_to_buyer: Money,
    },
    /// The buyer demands an answer.
    Challenged {
        /// Which challenge of the lease, from 0.
        sequence: u32,
        /// Until when.
        answer_by: Timestamp,
    },
    /// The provider answered.
    Answered,
    /// The lease closed well while a challenge was pending.
    ChallengeDropped,
    /// The provider did not answer.
    Defaulted {
        /// From the bond to the buyer.
        compensation: Money,
    },
    /// A checkpoint was acknowledged.
    Acknowledged {
        /// Paid in all when it was stored.
        paid_at: Money,
        /// When it was stored.
        at: Timestamp,
    },
    /// The buyer disputes.
    Disputed {
        /// How much it wants.
        claim: Money,
    },
    /// The dispute ended: the court spoke, or time ran out.
    DisputeEnded {
        /// From the bond to the buyer.
        award: Money,
    },
    /// The court found that the buyer owes the fee set aside.
    BuyerFeeOwed,
}

/// What the chain says of a new lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Who pays.
    pub buyer: BuyerId,
    /// Who works.
    pub provider: ProviderId,
    /// On which device, or none.
    pub device: DeviceId,
    /// Which of its units.
    pub units: u64,
    /// In which token.
    pub token: Address,
    /// The price.
    pub rate: RatePerSecond,
    /// The buyer's escrow.
    pub deposit: Money,
    /// The provider's bond.
    pub bond: Money,
    /// What kind of promise.
    pub kind: LeaseKind,
    /// Billing starts.
    pub start: Timestamp,
    /// The lease ends.
    pub end: Timestamp,
    /// The parameter version.
    pub version: u32,
}
