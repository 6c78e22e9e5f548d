//! What the parties ask of the chain, and what becomes of it.

use std::fmt;

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use tradewind_proto::ids::{DeviceId, LeaseId, MeshKey};
use tradewind_proto::lease::NoticeKind;
use tradewind_proto::signature::Signature;
use tradewind_proto::terms::{Domain, LeaseTerms, TermsError};
use tradewind_proto::units::{Money, Seconds, Timestamp};
use tradewind_proto::voucher::SignedVoucher;

use crate::ledger::audit::AuditAction;
use crate::ledger::court::CourtAction;

/// A number that the caller chooses once for an intent that may be repeated (a deposit, a withdrawal), so that trying it
/// again is not doing it twice. It becomes the nonce of the signature, so the chain itself refuses the second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reference(pub B256);

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An intent of the handle's account. Amounts are base units of the named token, or of the deployment's stake or fee token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Moves tokens of the account into its free balance.
    Deposit {
        /// Makes this deposit one deposit.
        reference: Reference,
        /// Which token.
        token: Address,
        /// How much.
        amount: Money,
    },
    /// Moves free balance out.
    Withdraw {
        /// Makes this withdrawal one withdrawal.
        reference: Reference,
        /// Which token.
        token: Address,
        /// Who receives it.
        to: Address,
        /// How much.
        amount: Money,
    },
    /// Enters the account into the registry, or changes its mesh key.
    Register {
        /// Makes this change one change.
        reference: Reference,
        /// Where the mesh finds the account's node.
        mesh_key: MeshKey,
        /// Digest of a self-description, or zero.
        metadata: B256,
    },
    /// Adds a device of the account.
    AddDevice {
        /// The device's own secp256k1 key.
        key: Address,
        /// Who stakes it and gets the stake back; the account itself where `None`.
        sponsor: Option<Address>,
        /// The device's class, as the network profile numbers them.
        class: u16,
        /// How many units it leases out, 1 to 64.
        units: u8,
    },
    /// Stakes free balance for a device. By its sponsor.
    Stake {
        /// Makes this stake one stake.
        reference: Reference,
        /// Which device.
        device: DeviceId,
        /// How much of the stake token.
        amount: Money,
    },
    /// Starts unbonding the whole stake of a device; it opens no lease from then on. By its provider or sponsor.
    Unbond {
        /// Makes this one unbonding.
        reference: Reference,
        /// Which device.
        device: DeviceId,
    },
    /// Returns an unbonded stake to its sponsor's free balance. Anyone may.
    WithdrawStake {
        /// Makes this one withdrawal.
        reference: Reference,
        /// Which device.
        device: DeviceId,
    },
    /// Prepays a device's place in the registry.
    Rent {
        /// Makes this one payment.
        reference: Reference,
        /// Which device.
        device: DeviceId,
        /// For how long, from the end of what is paid.
        span: Seconds,
        /// The most that it may cost, in the fee token.
        limit: Money,
    },
    /// Opens a lease: escrow and bond are locked.
    Open {
        /// What both signed.
        terms: LeaseTerms,
        /// The buyer's signature of the terms.
        buyer: Signature,
        /// The provider's.
        provider: Signature,
    },
    /// Pays what a voucher promises. Anyone may.
    Settle {
        /// The lease.
        terms: LeaseTerms,
        /// Not a last one.
        voucher: SignedVoucher,
    },
    /// Warns the buyer. By the provider.
    Notice {
        /// Why.
        kind: NoticeKind,
        /// The lease.
        terms: LeaseTerms,
        /// The best voucher that the provider holds; settled first.
        voucher: Option<SignedVoucher>,
        /// The lease's `notice_at` before this notice: makes it one notice.
        previous: Timestamp,
    },
    /// Ends the lease. By the provider.
    Close {
        /// The lease.
        terms: LeaseTerms,
        /// The last voucher for a good end; any other is settled first.
        voucher: Option<SignedVoucher>,
    },
    /// Asks for the end and starts the window. By the buyer.
    RequestClose {
        /// The lease.
        terms: LeaseTerms,
    },
    /// Ends a closing lease after its window. Anyone may.
    Finalize {
        /// The lease.
        terms: LeaseTerms,
    },
    /// Ends a lease that ran past its end and window. Anyone may.
    Expire {
        /// The lease.
        terms: LeaseTerms,
    },
    /// Returns what is left of the bond and pays break fees set aside. Anyone may.
    ReleaseBond {
        /// The lease.
        terms: LeaseTerms,
    },
    /// Demands an answer on chain from a provider that looks dead; locks a bond. By the buyer.
    Challenge {
        /// The lease.
        terms: LeaseTerms,
        /// The lease's `challenges` before this one: makes it one challenge.
        sequence: u32,
    },
    /// Answers the pending challenge and keeps its bond. By the provider.
    Answer {
        /// The lease.
        terms: LeaseTerms,
        /// When the challenge was made: names the one that is answered.
        challenged_at: Timestamp,
    },
    /// Reports that the pending challenge was not answered in time: the buyer is compensated. Anyone may.
    Defaulted {
        /// The lease.
        terms: LeaseTerms,
    },
    /// Disputes the lease before the court; locks a bond. By the buyer.
    Dispute {
        /// The lease.
        terms: LeaseTerms,
        /// What the buyer wants from the provider's bond.
        claim: Money,
        /// Digest of what the court shall look at.
        evidence: B256,
    },
    /// Asks the court about an open dispute or a fee set aside. Anyone may.
    Resolve {
        /// The lease.
        terms: LeaseTerms,
    },
    /// Presents a checkpoint that both sides signed: what was paid before it is not lost with the provider. Anyone may.
    Acknowledge {
        /// The lease.
        terms: LeaseTerms,
        /// What was stored.
        checkpoint: Checkpoint,
        /// The provider's signature.
        provider: Signature,
        /// The buyer's, or its meter's.
        buyer: Signature,
    },
    /// Closes a lease with its last voucher and opens another of the same parties, or does neither. Anyone may.
    Extend {
        /// The lease that ends.
        terms: LeaseTerms,
        /// Its last voucher.
        voucher: SignedVoucher,
        /// The lease that begins; it names the other as its parent.
        next: Box<LeaseTerms>,
        /// The buyer's signature of the new terms.
        buyer: Signature,
        /// The provider's, which is its consent to close the old lease too.
        provider: Signature,
    },
    /// Asks something of the court.
    Court(CourtAction),
    /// Attests something, or takes it back.
    Audit(AuditAction),
}

/// A checkpoint that both sides acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The lease.
    pub lease: LeaseId,
    /// What was paid in all when it was stored.
    pub paid_at: Money,
    /// Digest of its contents.
    pub root: B256,
    /// When it was stored.
    pub at: Timestamp,
}

impl Action {
    /// The action's natural key: two actions with one key are one action.
    ///
    /// # Errors
    /// [`TermsError::Range`] when the lease's id cannot be computed.
    pub fn key(&self, domain: &Domain) -> Result<ActionKey, TermsError> {
        let id = |terms: &LeaseTerms| terms.id(domain);
        Ok(ActionKey(match self {
            Self::Deposit { reference, .. } => format!("deposit:{reference}"),
            Self::Withdraw { reference, .. } => format!("withdraw:{reference}"),
            Self::Register { reference, .. } => format!("register:{reference}"),
            Self::AddDevice { key, .. } => format!("add-device:{key}"),
            Self::Stake { reference, .. } => format!("stake:{reference}"),
            Self::Unbond { reference, .. } => format!("unbond:{reference}"),
            Self::WithdrawStake { reference, .. } => format!("withdraw-stake:{reference}"),
            Self::Rent { reference, .. } => format!("rent:{reference}"),
            Self::Open { terms, .. } => format!("open:{}", id(terms)?),
            Self::Settle { terms, voucher } => {
                format!("settle:{}:{}", id(terms)?, voucher.voucher.cumulative)
            }
            Self::Notice { kind, terms, previous, .. } => {
                format!("notice:{}:{kind}:{}", id(terms)?, previous.unix())
            }
            Self::Close { terms, voucher } => {
                let last = voucher.as_ref().is_some_and(|v| v.voucher.last);
                format!("close:{}:{}", id(terms)?, if last { "last" } else { "early" })
            }
            Self::RequestClose { terms } => format!("request-close:{}", id(terms)?),
            Self::Finalize { terms } => format!("finalize:{}", id(terms)?),
            Self::Expire { terms } => format!("expire:{}", id(terms)?),
            Self::ReleaseBond { terms } => format!("release-bond:{}", id(terms)?),
            Self::Challenge { terms, sequence } => format!("challenge:{}:{sequence}", id(terms)?),
            Self::Answer { terms, challenged_at } => {
                format!("answer:{}:{}", id(terms)?, challenged_at.unix())
            }
            Self::Defaulted { terms } => format!("defaulted:{}", id(terms)?),
            Self::Dispute { terms, .. } => format!("dispute:{}", id(terms)?),
            Self::Resolve { terms } => format!("resolve:{}", id(terms)?),
            Self::Acknowledge { terms, checkpoint, .. } => {
                format!("acknowledge:{}:{}", id(terms)?, checkpoint.at.unix())
            }
            Self::Extend { terms, .. } => format!("extend:{}", id(terms)?),
            Self::Court(action) => action.key(domain)?,
            Self::Audit(action) => action.key(),
        }))
    }

    /// The terms of the lease that the action is about.
    #[must_use]
    pub const fn terms(&self) -> Option<&LeaseTerms> {
        match self {
            Self::Open { terms, .. }
            | Self::Settle { terms, .. }
            | Self::Notice { terms, .. }
            | Self::Close { terms, .. }
            | Self::RequestClose { terms }
            | Self::Finalize { terms }
            | Self::Expire { terms }
            | Self::ReleaseBond { terms }
            | Self::Challenge { terms, .. }
            | Self::Answer { terms, .. }
            | Self::Defaulted { terms }
            | Self::Dispute { terms, .. }
            | Self::Resolve { terms }
            | Self::Acknowledge { terms, .. }
            | Self::Extend { terms, .. } => Some(terms),
            Self::Deposit { .. }
            | Self::Withdraw { .. }
            | Self::Register { .. }
            | Self::AddDevice { .. }
            | Self::Stake { .. }
            | Self::Unbond { .. }
            | Self::WithdrawStake { .. }
            | Self::Rent { .. }
            | Self::Audit(_)
            | Self::Court(_) => None,
        }
    }
}

/// The natural key of an action, such as `settle:0x…:125000`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionKey(String);

impl ActionKey {
    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key that was stored as `text`.
    #[must_use]
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key of `open` for a lease.
    #[must_use]
    pub fn open(lease: LeaseId) -> Self {
        Self(format!("open:{lease}"))
    }
}

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The receipt of `submit`: the intent is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// What to ask [`status`](crate::ledger::Ledger::status) for.
    pub key: ActionKey,
}

/// How far an action has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum ActionStatus {
    /// Durable here; not in a block that this handle knows.
    Pending,
    /// In a block that a reorg may still remove.
    Included {
        /// The block's number.
        block: u64,
        /// The transaction.
        tx: B256,
    },
    /// In a block that the configured finality covers.
    Final {
        /// The block's number.
        block: u64,
        /// The transaction.
        tx: B256,
    },
    /// Refused, or too late to count. Submitting it again tries again.
    Failed {
        /// Why, for people: the contract's error with its values where it gave one.
        reason: String,
    },
}

impl ActionStatus {
    /// True for an action whose effect is on chain.
    #[must_use]
    pub const fn is_included(&self) -> bool {
        matches!(self, Self::Included { .. } | Self::Final { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tradewind_proto::ids::{BuyerId, ProviderId};
    use tradewind_proto::signature::SigningKey;
    use tradewind_proto::terms::LeaseKind;
    use tradewind_proto::units::RatePerSecond;
    use tradewind_proto::voucher::Voucher;

    fn domain() -> Domain {
        Domain { chain_id: 1, contract: Address::repeat_byte(1) }
    }

    fn terms() -> LeaseTerms {
        LeaseTerms {
            buyer: BuyerId::new(Address::repeat_byte(2)),
            provider: ProviderId::new(Address::repeat_byte(3)),
            device: DeviceId::NONE,
            units: 0,
            unstaked: true,
            meter: Address::repeat_byte(4),
            meter_may_sign_last: true,
            token: Address::repeat_byte(5),
            rate: RatePerSecond::per_hour(Money::from_base_units(20_000_000)),
            deposit: Money::MAX,
            prepay: Money::ZERO,
            bond: Money::ZERO,
            compensation_cap: Money::ZERO,
            provider_break_fee: Money::ZERO,
            buyer_break_fee: Money::ZERO,
            kind: LeaseKind::OnDemand,
            start: Timestamp::from_unix(10),
            end: Timestamp::from_unix(20),
            open_by: Timestamp::from_unix(15),
            prepare: Seconds::ZERO,
            notice: Seconds::ZERO,
            slack: Seconds::ZERO,
            uptime_promise: 0,
            version: 1,
            job: B256::ZERO,
            terms_of_service: B256::ZERO,
            parent: B256::ZERO,
        }
    }

    fn settle(cumulative: u64) -> Action {
        let voucher = Voucher {
            lease: terms().id(&domain()).unwrap(),
            cumulative: Money::from_base_units(cumulative),
            not_before: Timestamp::default(),
            last: false,
        };
        let key = SigningKey::from_bytes([7; 32]).unwrap();
        Action::Settle { terms: terms(), voucher: voucher.sign(&domain(), &key).unwrap() }
    }

    #[test]
    fn an_action_outlives_a_restart_as_json_whatever_its_amounts() {
        let action = settle(u64::MAX);
        let text = serde_json::to_string(&action).unwrap();
        assert_eq!(serde_json::from_str::<Action>(&text).unwrap(), action);
    }

    #[test]
    fn two_settlements_of_one_amount_are_one_action() {
        let key = |action: Action| action.key(&domain()).unwrap();
        assert_eq!(key(settle(5)), key(settle(5)));
        assert_ne!(key(settle(5)), key(settle(6)));
        let id = terms().id(&domain()).unwrap();
        assert_eq!(key(settle(5)).as_str(), format!("settle:{id}:5"));
    }
}
