//! What the meter keeps of a lease, so that a restart changes nothing.

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use tradewind_mesh::PeerAddr;
use tradewind_proto::delegation::{Delegation, End, SignedAssignment};
use tradewind_proto::ids::{LeaseId, ProviderId};
use tradewind_proto::units::{Money, Timestamp};

/// The kind of the meter's records in the store.
pub(super) const KIND: &str = "metering";

/// One lease, durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The pure state.
    pub(super) delegation: Delegation,
    /// As its buyer signed it.
    pub(super) assignment: SignedAssignment,
    /// Where the provider's node was when it was assigned.
    pub(super) provider: PeerAddr,
}

/// A lease that is metered, for its meter's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metered {
    /// Which lease.
    pub lease: LeaseId,
    /// For whom.
    pub buyer: Address,
    /// Who is paid.
    pub provider: ProviderId,
    /// When it began.
    pub start: Timestamp,
    /// The largest amount that was signed.
    pub signed: Money,
    /// The largest amount that the provider acknowledged.
    pub acknowledged: Money,
    /// How many vouchers were signed.
    pub vouchers: u32,
    /// When the provider last answered.
    pub heard_at: Timestamp,
    /// Why there is nothing left to sign.
    pub over: Option<End>,
}

impl Record {
    pub(super) fn shown(&self) -> Metered {
        let lease = &self.delegation.lease;
        Metered {
            lease: lease.id,
            buyer: lease.terms.buyer.account(),
            provider: lease.terms.provider,
            start: lease.terms.start,
            signed: lease.signed,
            acknowledged: self.delegation.acknowledged,
            vouchers: self.delegation.vouchers,
            heard_at: lease.heard_at,
            over: self.delegation.over,
        }
    }
}
