//! From an action to the contract call that does it, signed by the wallet.

use alloy::primitives::{Address, B256, Bytes, U256, Uint, keccak256};
use alloy::sol_types::SolCall;
use tradewind_proto::ids::DeviceId;
use tradewind_proto::signature::Signature;
use tradewind_proto::terms::{LeaseTerms, TermsError};
use tradewind_proto::units::{Money, Timestamp};
use tradewind_proto::voucher::SignedVoucher;

use crate::client::bindings::{self, abi, amount96, amount256, deadline};
use crate::client::wallet::{TokenDomain, Wallet, typed};
use crate::ledger::{Action, Checkpoint, LedgerError, NoticeKind, Reference};

mod audit;
mod court;

/// A call that anyone may submit for the wallet's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCall {
    /// The contract.
    pub target: Address,
    /// The call's data, with every signature that it needs.
    pub input: Bytes,
}

/// How a token lets a contract take a deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DepositForm {
    /// ERC-3009 `receiveWithAuthorization`.
    Authorization(TokenDomain),
    /// ERC-2612, with the owner's next permit nonce.
    Permit(TokenDomain, U256),
    /// An allowance that was given before.
    Allowance,
}

/// What the encoding depends on beside the action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Signatures count until then.
    pub deadline: Timestamp,
    /// The account is in the registry.
    pub registered: bool,
    /// How the token of a deposit is taken.
    pub deposit: DepositForm,
}

impl From<TermsError> for LedgerError {
    fn from(error: TermsError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// The nonce that makes a repeatable intent one intent, whoever submits it and however often.
pub(crate) fn nonce_of(reference: &Reference) -> U256 {
    U256::from_be_bytes(reference.0.0)
}

/// The nonce of adding a device: the registry takes a device once anyway.
pub(crate) fn device_nonce(key: Address) -> U256 {
    U256::from_be_bytes(keccak256([b"add-device".as_slice(), key.as_slice()].concat()).0)
}

/// The signed call that does `action` for the wallet's account.
///
/// # Errors
/// [`LedgerError::Invalid`] for an action that cannot be expressed.
pub fn encode(wallet: &Wallet, action: &Action, facts: &Facts) -> Result<SignedCall, LedgerError> {
    let encoder = Encoder { wallet, facts };
    match action {
        Action::Deposit { reference, token, amount } => Ok(encoder.deposit(*reference, *token, *amount)),
        Action::Withdraw { reference, token, to, amount } => {
            Ok(encoder.withdraw(*reference, *token, *to, *amount))
        }
        Action::Register { reference, mesh_key, metadata } => {
            Ok(encoder.register(nonce_of(reference), B256::from(*mesh_key.as_bytes()), *metadata))
        }
        Action::AddDevice { key, sponsor, class, units } => {
            Ok(encoder.add_device(*key, sponsor.unwrap_or(Address::ZERO), *class, *units))
        }
        Action::Stake { reference, device, amount } => {
            Ok(encoder.stake(nonce_of(reference), *device, *amount))
        }
        Action::Unbond { reference, device } => Ok(encoder.unbond(nonce_of(reference), *device)),
        Action::WithdrawStake { device, .. } => {
            Ok(encoder.at_registry(&abi::Registry::withdrawStakeCall { device: device.get() }))
        }
        Action::Rent { reference, device, span, limit } => {
            encoder.rent(nonce_of(reference), *device, span.get(), *limit)
        }
        Action::Open { terms, buyer, provider } => encoder.open(terms, buyer, provider),
        Action::Settle { terms, voucher } => encoder.settle(terms, voucher),
        Action::Notice { kind, terms, voucher, previous } => {
            encoder.notice(*kind, terms, voucher.as_ref(), *previous)
        }
        Action::Close { terms, voucher } => encoder.close(terms, voucher.as_ref()),
        Action::Extend { terms, voucher, next, buyer, provider } => {
            encoder.extend(terms, voucher, next, buyer, provider)
        }
        Action::RequestClose { terms } => encoder.request_close(terms),
        Action::Finalize { terms } => {
            Ok(encoder.at_leases(&abi::Leases::finalizeCall { terms: bindings::terms(terms)? }))
        }
        Action::Expire { terms } => {
            Ok(encoder.at_leases(&abi::Leases::expireCall { terms: bindings::terms(terms)? }))
        }
        Action::ReleaseBond { terms } => {
            Ok(encoder.at_leases(&abi::Leases::releaseBondCall { terms: bindings::terms(terms)? }))
        }
        Action::Challenge { terms, sequence } => encoder.challenge(terms, *sequence),
        Action::Answer { terms, challenged_at } => encoder.answer(terms, *challenged_at),
        Action::Defaulted { terms } => {
            Ok(encoder.at_leases(&abi::Leases::defaultedCall { terms: bindings::terms(terms)? }))
        }
        Action::Dispute { terms, claim, evidence } => encoder.dispute(terms, *claim, *evidence),
        Action::Resolve { terms } => {
            Ok(encoder.at_leases(&abi::Leases::resolveCall { terms: bindings::terms(terms)? }))
        }
        Action::Acknowledge { terms, checkpoint, provider, buyer } => {
            encoder.acknowledge(terms, checkpoint, provider, buyer)
        }
        Action::Court(action) => court::encode(wallet, action, facts),
        Action::Audit(action) => audit::encode(wallet, action, facts),
    }
}

struct Encoder<'a> {
    wallet: &'a Wallet,
    facts: &'a Facts,
}

impl Encoder<'_> {
    fn at_leases(&self, call: &impl SolCall) -> SignedCall {
        SignedCall { target: self.wallet.contracts().leases, input: call.abi_encode().into() }
    }

    fn at_registry(&self, call: &impl SolCall) -> SignedCall {
        SignedCall { target: self.wallet.contracts().registry, input: call.abi_encode().into() }
    }

    fn until(&self) -> Uint<40, 1> {
        deadline(self.facts.deadline)
    }

    fn leases_auth<T: alloy::sol_types::SolStruct>(&self, nonce: U256, action: &T) -> abi::Auth {
        let signature = self.wallet.sign(self.wallet.contracts().leases, action);
        abi::Auth { nonce, deadline: self.until(), signature: bindings::bytes(&signature) }
    }

    fn registry_auth<T: alloy::sol_types::SolStruct>(&self, nonce: U256, action: &T) -> abi::Auth {
        let signature = self.wallet.sign(self.wallet.contracts().registry, action);
        abi::Auth { nonce, deadline: self.until(), signature: bindings::bytes(&signature) }
    }

    fn id(&self, terms: &LeaseTerms) -> Result<B256, TermsError> {
        Ok(terms.id(&self.wallet.contracts().domain())?.get())
    }

    fn deposit(&self, reference: Reference, token: Address, amount: Money) -> SignedCall {
        let (account, leases) = (self.wallet.account(), self.wallet.contracts().leases);
        let (amount, nonce) = (amount256(amount), nonce_of(&reference));
        let until = U256::from(self.facts.deadline.unix());
        let order = typed::Deposit { token, account, amount, nonce, deadline: self.until() };
        match &self.facts.deposit {
            DepositForm::Authorization(domain) => {
                let nonce = reference.0;
                let authorization = typed::ReceiveWithAuthorization {
                    from: account,
                    to: leases,
                    value: amount,
                    validAfter: U256::ZERO,
                    validBefore: until,
                    nonce,
                };
                let signature = bindings::bytes(&self.wallet.sign_for_token(domain, &authorization));
                self.at_leases(&abi::Leases::depositWithAuthorizationCall {
                    token,
                    from: account,
                    amount,
                    validAfter: U256::ZERO,
                    validBefore: until,
                    nonce,
                    signature,
                })
            }
            DepositForm::Permit(domain, permit_nonce) => {
                let permit = typed::Permit {
                    owner: account,
                    spender: leases,
                    value: amount,
                    nonce: *permit_nonce,
                    deadline: until,
                };
                self.at_leases(&abi::Leases::depositWithPermitCall {
                    token,
                    account,
                    amount,
                    permitDeadline: until,
                    permitSignature: bindings::bytes(&self.wallet.sign_for_token(domain, &permit)),
                    auth: self.leases_auth(nonce, &order),
                })
            }
            DepositForm::Allowance => self.at_leases(&abi::Leases::depositCall {
                token,
                account,
                amount,
                auth: self.leases_auth(nonce, &order),
            }),
        }
    }

    fn withdraw(&self, reference: Reference, token: Address, to: Address, amount: Money) -> SignedCall {
        let account = self.wallet.account();
        let (amount, nonce) = (amount256(amount), nonce_of(&reference));
        let order = typed::Withdraw { token, account, to, amount, nonce, deadline: self.until() };
        let auth = self.leases_auth(nonce, &order);
        self.at_leases(&abi::Leases::withdrawCall { token, account, to, amount, auth })
    }

    fn add_device(&self, key: Address, sponsor: Address, class: u16, units: u8) -> SignedCall {
        let (provider, nonce) = (self.wallet.account(), device_nonce(key));
        let order = typed::AddDevice { provider, key, sponsor, class, units, nonce, deadline: self.until() };
        let auth = self.registry_auth(nonce, &order);
        self.at_registry(&abi::Registry::addDeviceCall { provider, key, sponsor, class, units, auth })
    }

    fn stake(&self, nonce: U256, device: DeviceId, amount: Money) -> SignedCall {
        let (device, amount) = (device.get(), amount96(amount));
        let order = typed::Stake { device, amount, nonce, deadline: self.until() };
        let auth = self.registry_auth(nonce, &order);
        self.at_registry(&abi::Registry::stakeCall { device, amount, auth })
    }

    fn unbond(&self, nonce: U256, device: DeviceId) -> SignedCall {
        let (device, account) = (device.get(), self.wallet.account());
        let order = typed::BeginUnbond { device, account, nonce, deadline: self.until() };
        let auth = self.registry_auth(nonce, &order);
        self.at_registry(&abi::Registry::beginUnbondCall { device, account, auth })
    }

    fn register(&self, nonce: U256, mesh_key: B256, metadata: B256) -> SignedCall {
        let (account, until) = (self.wallet.account(), self.until());
        if self.facts.registered {
            let order = typed::UpdateAccount { account, meshKey: mesh_key, metadata, nonce, deadline: until };
            let auth = self.registry_auth(nonce, &order);
            return self.at_registry(&abi::Registry::updateAccountCall {
                account,
                meshKey: mesh_key,
                metadata,
                auth,
            });
        }
        let order = typed::Register { account, meshKey: mesh_key, metadata, nonce, deadline: until };
        let auth = self.registry_auth(nonce, &order);
        self.at_registry(&abi::Registry::registerCall { account, meshKey: mesh_key, metadata, auth })
    }

    fn rent(
        &self,
        nonce: U256,
        device: DeviceId,
        span: u64,
        limit: Money,
    ) -> Result<SignedCall, LedgerError> {
        let span = u32::try_from(span)
            .map_err(|_| LedgerError::Invalid(format!("rent cannot be paid {span} seconds ahead")))?;
        let (device, payer, limit) = (device.get(), self.wallet.account(), amount256(limit));
        let order = typed::PayRent { device, payer, span, limit, nonce, deadline: self.until() };
        let auth = self.registry_auth(nonce, &order);
        Ok(self.at_registry(&abi::Registry::payRentCall { device, payer, span, limit, auth }))
    }

    fn open(
        &self,
        terms: &LeaseTerms,
        buyer: &Signature,
        provider: &Signature,
    ) -> Result<SignedCall, LedgerError> {
        Ok(self.at_leases(&abi::Leases::openCall {
            terms: bindings::terms(terms)?,
            buyerSignature: bindings::bytes(buyer),
            providerSignature: bindings::bytes(provider),
        }))
    }

    fn settle(&self, terms: &LeaseTerms, signed: &SignedVoucher) -> Result<SignedCall, LedgerError> {
        let (voucher, signature) = self.voucher(terms, Some(signed))?;
        let terms = bindings::terms(terms)?;
        Ok(self.at_leases(&abi::Leases::settleCall { terms, voucher, signature }))
    }

    fn notice(
        &self,
        kind: NoticeKind,
        terms: &LeaseTerms,
        signed: Option<&SignedVoucher>,
        previous: Timestamp,
    ) -> Result<SignedCall, LedgerError> {
        let reason = kind as u8;
        let (lease, previous) = (self.id(terms)?, deadline(previous));
        let order = typed::Notice { lease, reason, previous, deadline: self.until() };
        let (voucher, signature) = self.voucher(terms, signed)?;
        Ok(self.at_leases(&abi::Leases::noticeCall {
            terms: bindings::terms(terms)?,
            reason,
            voucher,
            voucherSignature: signature,
            auth: self.leases_auth(U256::ZERO, &order),
        }))
    }

    fn close(&self, terms: &LeaseTerms, signed: Option<&SignedVoucher>) -> Result<SignedCall, LedgerError> {
        let (voucher, signature) = self.voucher(terms, signed)?;
        Ok(self.at_leases(&abi::Leases::closeCall {
            terms: bindings::terms(terms)?,
            voucher,
            voucherSignature: signature,
            auth: self.close_auth(terms, signed)?,
        }))
    }

    fn extend(
        &self,
        terms: &LeaseTerms,
        last: &SignedVoucher,
        next: &LeaseTerms,
        buyer: &Signature,
        provider: &Signature,
    ) -> Result<SignedCall, LedgerError> {
        let (voucher, signature) = self.voucher(terms, Some(last))?;
        Ok(self.at_leases(&abi::Leases::extendCall {
            terms: bindings::terms(terms)?,
            voucher,
            voucherSignature: signature,
            auth: self.close_auth(terms, Some(last))?,
            next: bindings::terms(next)?,
            buyerSignature: bindings::bytes(buyer),
            providerSignature: bindings::bytes(provider),
        }))
    }

    fn request_close(&self, terms: &LeaseTerms) -> Result<SignedCall, LedgerError> {
        let order = typed::RequestClose { lease: self.id(terms)?, deadline: self.until() };
        let auth = self.leases_auth(U256::ZERO, &order);
        Ok(self.at_leases(&abi::Leases::requestCloseCall { terms: bindings::terms(terms)?, auth }))
    }

    fn voucher(
        &self,
        terms: &LeaseTerms,
        signed: Option<&SignedVoucher>,
    ) -> Result<(abi::Voucher, Bytes), LedgerError> {
        let id = terms.id(&self.wallet.contracts().domain())?;
        Ok(bindings::voucher(id, signed)?)
    }

    fn close_auth(
        &self,
        terms: &LeaseTerms,
        voucher: Option<&SignedVoucher>,
    ) -> Result<abi::Auth, LedgerError> {
        let order = typed::Close {
            lease: self.id(terms)?,
            voucher: bindings::voucher_hash(voucher)?,
            deadline: self.until(),
        };
        Ok(self.leases_auth(U256::ZERO, &order))
    }

    fn challenge(&self, terms: &LeaseTerms, sequence: u32) -> Result<SignedCall, LedgerError> {
        let order = typed::Challenge { lease: self.id(terms)?, sequence, deadline: self.until() };
        let auth = self.leases_auth(U256::ZERO, &order);
        Ok(self.at_leases(&abi::Leases::challengeCall { terms: bindings::terms(terms)?, auth }))
    }

    fn answer(&self, terms: &LeaseTerms, challenged_at: Timestamp) -> Result<SignedCall, LedgerError> {
        let challenged_at = deadline(challenged_at);
        let order =
            typed::Answer { lease: self.id(terms)?, challengedAt: challenged_at, deadline: self.until() };
        let auth = self.leases_auth(U256::ZERO, &order);
        Ok(self.at_leases(&abi::Leases::answerCall { terms: bindings::terms(terms)?, auth }))
    }

    fn dispute(&self, terms: &LeaseTerms, claim: Money, evidence: B256) -> Result<SignedCall, LedgerError> {
        let claim = amount96(claim);
        let order = typed::Dispute { lease: self.id(terms)?, claim, evidence, deadline: self.until() };
        let auth = self.leases_auth(U256::ZERO, &order);
        let terms = bindings::terms(terms)?;
        Ok(self.at_leases(&abi::Leases::disputeCall { terms, claim, evidence, auth }))
    }

    fn acknowledge(
        &self,
        terms: &LeaseTerms,
        checkpoint: &Checkpoint,
        provider: &Signature,
        buyer: &Signature,
    ) -> Result<SignedCall, LedgerError> {
        Ok(self.at_leases(&abi::Leases::acknowledgeCall {
            terms: bindings::terms(terms)?,
            record: bindings::checkpoint(checkpoint),
            providerSignature: bindings::bytes(provider),
            buyerSignature: bindings::bytes(buyer),
        }))
    }
}
