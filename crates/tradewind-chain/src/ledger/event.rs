//! What the chain reports: domain events with their block, and the rollbacks of a reorg.

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use tradewind_proto::ids::{BuyerId, DeviceId, LeaseId, MeshKey, ProviderId};
use tradewind_proto::terms::LeaseTerms;
use tradewind_proto::units::{Money, Timestamp};

use crate::ledger::action::NoticeKind;

/// A block by number and hash: after a reorg the number alone names another block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct BlockRef {
    /// The number.
    pub number: u64,
    /// The hash.
    pub hash: B256,
}

/// How far a consumer has read: everything up to and with `block`, and of the block after it the first `logs` events.
/// The default is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct EventCursor {
    /// The last block read whole; number 0 with a zero hash before the first page.
    pub block: BlockRef,
    /// How many events of the next block were read too.
    pub logs: u32,
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
#[serde(rename_all = "kebab-case", tag = "event")]
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
#[serde(rename_all = "kebab-case", tag = "lease_event")]
pub enum LeaseEvent {
    /// It opened.
    Opened {
        /// Who pays.
        buyer: BuyerId,
        /// Who works.
        provider: ProviderId,
        /// The terms, where the chain publishes them.
        terms: Option<Box<LeaseTerms>>,
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
    },
    /// A settlement cured the unpaid notice.
    Cured,
    /// The buyer asked for the end.
    CloseRequested {
        /// When it may be finalised.
        due_at: Timestamp,
    },
    /// It is over; the deposit is divided, the bond waits.
    Ended {
        /// Paid in all.
        paid: Money,
        /// Back to the buyer.
        refunded: Money,
        /// To the sink, because no voucher ever settled.
        forfeited: Money,
    },
    /// Everything is paid out.
    Closed {
        /// Of the bond and fees set aside, to the buyer.
        to_buyer: Money,
        /// Back to the provider.
        to_provider: Money,
    },
    /// The buyer demands an answer.
    Challenged {
        /// Until when.
        answer_by: Timestamp,
    },
    /// The provider answered.
    Answered,
    /// The provider did not answer.
    Defaulted,
    /// The bond compensated the buyer.
    Compensated {
        /// How much.
        amount: Money,
    },
    /// The buyer disputes.
    Disputed {
        /// How much it wants.
        claim: Money,
    },
    /// The court spoke, or the dispute ran out.
    Resolved,
}
