//! What a buyer signs to have a lease metered, and what the meter checks of it.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use crate::conversation::{FrameError, decode, encode};
use crate::ids::{BuyerId, LeaseId, MeshKey};
use crate::report::Report;
use crate::signature::{SignatureError, Signed, SigningKey};
use crate::terms::{Domain, LeaseTerms, TermsError};
use crate::units::{Money, Seconds, Timestamp};

const INQUIRY: &str = "meter-inquiry";
const ASSIGNMENT: &str = "meter-assignment";
/// How old, or how far ahead, an inquiry may be.
const MAX_SKEW: Seconds = Seconds::new(60);
/// The longest address of a provider's node.
const MAX_ADDRESS: usize = 2_048;

/// Why a meter does not take a lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// Not a record of this kind, or bytes follow it.
    #[error("the request is malformed")]
    Frame(#[from] FrameError),
    /// The signature is none.
    #[error("the request's signature does not count")]
    Signature(#[source] SignatureError),
    /// The account is not one of those that the meter's owner named.
    #[error("this node does not meter for {0}")]
    NotServed(Address),
    /// It is for another network.
    #[error("the request is for contract {} on chain {}, this node meters on {} on chain {}", .got.contract, .got.chain_id, .expected.contract, .expected.chain_id)]
    OtherDomain {
        /// The request's.
        got: Domain,
        /// The meter's.
        expected: Domain,
    },
    /// It is for another node, or from another node than the one that sent it.
    #[error("the request names another node than this one, or than its sender")]
    OtherNode,
    /// The terms name another key.
    #[error("the terms let {got} sign vouchers, this node signs as {expected}")]
    OtherKey {
        /// In the terms.
        got: Address,
        /// The meter's.
        expected: Address,
    },
    /// It was made too long ago, or the lease can no longer be opened.
    #[error("the request is too old, or the clocks of the two nodes differ")]
    Late,
    /// The contract would refuse the terms.
    #[error("the contract would refuse the terms")]
    Terms(#[from] TermsError),
}

/// A buyer's question before any terms: would you meter for me?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inquiry {
    /// Where its vouchers would count.
    pub domain: Domain,
    /// Who asks.
    pub buyer: BuyerId,
    /// From which node.
    pub from: MeshKey,
    /// The node that is asked.
    pub meter: MeshKey,
    /// When.
    pub at: Timestamp,
}

/// An inquiry with its buyer's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedInquiry(Signed);

impl Inquiry {
    /// Signs it as its buyer.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> SignedInquiry {
        SignedInquiry(Signed::new(INQUIRY, encode(self).to_vec(), key))
    }
}

/// One lease, handed to a meter. It can be taken until the terms' `open_by`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Where the vouchers count.
    pub domain: Domain,
    /// The meter's node.
    pub meter: MeshKey,
    /// As both parties sign them; neither signature is given away.
    pub terms: LeaseTerms,
    /// Where the provider's node is.
    pub provider: String,
    /// Nothing above this is signed.
    pub max_cost: Money,
    /// The longest run that is paid.
    pub longest: Option<Seconds>,
}

/// An assignment with its buyer's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedAssignment(Signed);

impl Assignment {
    /// Signs it as the terms' buyer.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> SignedAssignment {
        SignedAssignment(Signed::new(ASSIGNMENT, encode(self).to_vec(), key))
    }
}

/// A meter as it receives buyers: who it is, and for whom it works.
#[derive(Debug, Clone)]
pub struct Desk {
    /// Where its vouchers count.
    pub domain: Domain,
    /// Its node.
    pub node: MeshKey,
    /// The key that signs vouchers.
    pub signer: Address,
    /// The accounts that it meters for.
    pub serves: BTreeSet<Address>,
}

impl Desk {
    /// Checks an inquiry that `peer` sent; says for whom it is.
    ///
    /// # Errors
    /// The [`AssignmentError`] that names what is wrong.
    pub fn hear(
        &self,
        inquiry: &SignedInquiry,
        peer: MeshKey,
        now: Timestamp,
    ) -> Result<BuyerId, AssignmentError> {
        let signer = self.served(&inquiry.0, INQUIRY)?;
        let Inquiry { domain, buyer, from, meter, at } = decode(&inquiry.0.bytes)?;
        self.is_own(domain, meter)?;
        if from != peer {
            return Err(AssignmentError::OtherNode);
        }
        if now.since(at).max(at.since(now)) > MAX_SKEW {
            return Err(AssignmentError::Late);
        }
        is_by(signer, buyer).map(|()| buyer)
    }

    /// Checks an assignment, whoever brought it.
    ///
    /// # Errors
    /// The [`AssignmentError`] that names what is wrong.
    pub fn check(
        &self,
        assignment: &SignedAssignment,
        now: Timestamp,
    ) -> Result<(LeaseId, Assignment), AssignmentError> {
        let signer = self.served(&assignment.0, ASSIGNMENT)?;
        let assignment: Assignment = decode(&assignment.0.bytes)?;
        self.is_own(assignment.domain, assignment.meter)?;
        let terms = &assignment.terms;
        is_by(signer, terms.buyer)?;
        if terms.meter != self.signer {
            return Err(AssignmentError::OtherKey { got: terms.meter, expected: self.signer });
        }
        if assignment.provider.len() > MAX_ADDRESS {
            return Err(FrameError::Malformed.into());
        }
        terms.check()?;
        if now > terms.open_by || terms.start.since(now) > MAX_SKEW {
            return Err(AssignmentError::Late);
        }
        Ok((terms.id(&self.domain)?, assignment))
    }

    /// Who signed, if the meter works for them: nobody else's bytes are even decoded.
    fn served(&self, signed: &Signed, kind: &'static str) -> Result<Address, AssignmentError> {
        let signer = signed.signer(kind).map_err(AssignmentError::Signature)?;
        if self.serves.contains(&signer) { Ok(signer) } else { Err(AssignmentError::NotServed(signer)) }
    }

    fn is_own(&self, domain: Domain, node: MeshKey) -> Result<(), AssignmentError> {
        if domain != self.domain {
            return Err(AssignmentError::OtherDomain { got: domain, expected: self.domain });
        }
        if node == self.node { Ok(()) } else { Err(AssignmentError::OtherNode) }
    }
}

fn is_by(signer: Address, buyer: BuyerId) -> Result<(), AssignmentError> {
    let expected = buyer.account();
    if signer == expected {
        return Ok(());
    }
    Err(AssignmentError::Signature(SignatureError::WrongSigner { signer, expected }))
}

/// What a meter is proven to have signed: the report's voucher, where it is one that the provider can be paid with.
#[must_use]
pub fn proven(
    report: &Report,
    terms: &LeaseTerms,
    id: LeaseId,
    domain: &Domain,
    now: Timestamp,
) -> Option<Money> {
    let voucher = report.voucher.filter(|held| !held.voucher.last)?;
    voucher.verify(terms, id, domain, Money::ZERO, now).ok()?;
    Some(voucher.voucher.cumulative)
}
