//! Vouchers: the cumulative, signed promises that pay a lease.
//!
//! ```text
//! meter key ── Voucher{cumulative ↑} ──► provider keeps the best ── settle / close ──► Leases contract
//! ```
//!
//! A voucher that shrinks, exceeds the cap, names another lease, or is signed for another chain or contract is refused;
//! losing one is harmless, because the next one covers it.

use std::sync::LazyLock;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolStruct;
use serde::{Deserialize, Serialize};

use crate::ids::LeaseId;
use crate::signature::{Signature, SignatureError, SigningKey};
use crate::terms::{Domain, LeaseTerms, TermsError, sol, u40, u96};
use crate::units::{Money, Timestamp};

/// A promise that the lease has earned `cumulative` in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// Which lease.
    pub lease: LeaseId,
    /// Everything earned since the start, in base units.
    pub cumulative: Money,
    /// Not valid before this moment: zero, or a rung of an unattended buyer's ladder.
    pub not_before: Timestamp,
    /// A good end: the provider may close with it at once.
    pub last: bool,
}

/// A voucher with its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVoucher {
    /// What was promised.
    pub voucher: Voucher,
    /// By the meter, or the buyer.
    pub signature: Signature,
}

/// Why a voucher was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// It is for another lease.
    #[error("the voucher is for lease {got}, this is {expected}")]
    OtherLease {
        /// The lease in the voucher.
        got: LeaseId,
        /// This lease.
        expected: LeaseId,
    },
    /// It promises less than an earlier one.
    #[error("the voucher shrinks from {had} to {got}")]
    Shrinks {
        /// Promised before.
        had: Money,
        /// Promised now.
        got: Money,
    },
    /// It promises less than the prepayment.
    #[error("the voucher's {got} is below the prepayment of {prepay}")]
    BelowPrepay {
        /// Promised.
        got: Money,
        /// The terms' prepayment.
        prepay: Money,
    },
    /// The contract would not pay that much yet.
    #[error("the voucher's {got} exceeds the cap of {cap} at this moment")]
    AboveCap {
        /// Promised.
        got: Money,
        /// The most that counts now.
        cap: Money,
    },
    /// It is not valid yet.
    #[error("the voucher is not valid before {0:?}")]
    NotYet(Timestamp),
    /// The signature is not by a key that may sign this voucher.
    #[error("the voucher's signature does not count")]
    Signature(#[source] SignatureError),
    /// A field is out of range.
    #[error("the voucher cannot be expressed on chain")]
    Terms(#[from] TermsError),
}

impl Voucher {
    /// Signs the voucher for `domain`.
    ///
    /// # Errors
    /// [`TermsError::Range`] when `not_before` does not fit.
    pub fn sign(self, domain: &Domain, key: &SigningKey) -> Result<SignedVoucher, TermsError> {
        let signature = key.sign(self.digest(domain)?);
        Ok(SignedVoucher { voucher: self, signature })
    }

    /// What is signed.
    fn digest(&self, domain: &Domain) -> Result<B256, TermsError> {
        static TYPE: LazyLock<B256> =
            LazyLock::new(|| keccak256(sol::Voucher::eip712_encode_type().as_bytes()));
        let mut encoded = [0; 160];
        encoded[..32].copy_from_slice(TYPE.as_slice());
        encoded[32..].copy_from_slice(&self.to_sol()?.eip712_encode_data());
        Ok(domain.signing_hash(keccak256(encoded)))
    }

    /// The struct that the contract takes.
    ///
    /// # Errors
    /// [`TermsError::Range`] when `not_before` does not fit.
    pub fn to_sol(&self) -> Result<sol::Voucher, TermsError> {
        Ok(sol::Voucher {
            lease: self.lease.get(),
            cumulative: u96(self.cumulative),
            notBefore: u40(self.not_before, "notBefore")?,
            last: self.last,
        })
    }

    /// The voucher that a contract's struct states.
    ///
    /// # Errors
    /// [`TermsError::Range`] for an amount above [`Money::MAX`].
    pub fn from_sol(voucher: &sol::Voucher) -> Result<Self, TermsError> {
        Ok(Self {
            lease: LeaseId::new(voucher.lease),
            cumulative: Money::new(U256::from(voucher.cumulative).to::<u128>())
                .map_err(|_| TermsError::Range("cumulative"))?,
            not_before: Timestamp::from_unix(voucher.notBefore.to()),
            last: voucher.last,
        })
    }
}

impl SignedVoucher {
    /// Who signed it.
    ///
    /// # Errors
    /// [`VoucherError::Signature`], [`VoucherError::Terms`].
    pub fn signer(&self, domain: &Domain) -> Result<Address, VoucherError> {
        let digest = self.voucher.digest(domain)?;
        self.signature.recover(digest).map_err(VoucherError::Signature)
    }

    /// Checks the voucher against the lease that it claims to pay, as a provider must before it counts on the money.
    /// `best` is the largest cumulative it holds. An equal voucher is accepted: a resent frame is no fault.
    ///
    /// # Errors
    /// The [`VoucherError`] that names the rule.
    pub fn verify(
        &self,
        terms: &LeaseTerms,
        id: LeaseId,
        domain: &Domain,
        best: Money,
        now: Timestamp,
    ) -> Result<(), VoucherError> {
        let Voucher { lease, cumulative, not_before, last } = self.voucher;
        if lease != id {
            return Err(VoucherError::OtherLease { got: lease, expected: id });
        }
        if cumulative < best {
            return Err(VoucherError::Shrinks { had: best, got: cumulative });
        }
        if cumulative < terms.prepay {
            return Err(VoucherError::BelowPrepay { got: cumulative, prepay: terms.prepay });
        }
        if not_before > now {
            return Err(VoucherError::NotYet(not_before));
        }
        let cap = terms.cap(now);
        if cumulative > cap {
            return Err(VoucherError::AboveCap { got: cumulative, cap });
        }
        let signer = self.signer(domain)?;
        let buyer = terms.buyer.account();
        let allowed = if last {
            signer == buyer || (terms.meter_may_sign_last && signer == terms.meter)
        } else {
            signer == terms.meter
        };
        if allowed {
            return Ok(());
        }
        let expected = if last { buyer } else { terms.meter };
        Err(VoucherError::Signature(SignatureError::WrongSigner { signer, expected }))
    }
}
