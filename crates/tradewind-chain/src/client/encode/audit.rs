//! Calls of the contract of attestations. The state makes each of them unrepeatable, so that no nonce is spent.

use alloy::primitives::U256;
use alloy::sol_types::{SolCall, SolStruct};

use super::{Facts, SignedCall};
use crate::client::bindings::audit::{abi, attestation};
use crate::client::bindings::{bytes, deadline};
use crate::client::wallet::{Wallet, typed};
use crate::ledger::LedgerError;
use crate::ledger::audit::AuditAction;

pub(super) fn encode(
    wallet: &Wallet,
    action: &AuditAction,
    facts: &Facts,
) -> Result<SignedCall, LedgerError> {
    let target = wallet.contracts().attestations;
    let target =
        target.ok_or_else(|| LedgerError::Invalid("this network has no contract of attestations".into()))?;
    let until = deadline(facts.deadline);
    let input = match action {
        AuditAction::Attest(audit) => {
            let abi::Attestation { issuer, subject, schema, document, expires } = attestation(audit);
            let order = typed::Attest { issuer, subject, schema, document, expires, deadline: until };
            let auth = auth(wallet, target, until, &order);
            abi::Attestations::attestCall { attestation: attestation(audit), auth }.abi_encode()
        }
        AuditAction::Revoke { id } => {
            let auth = auth(wallet, target, until, &typed::Revoke { id: *id, deadline: until });
            abi::Attestations::revokeCall { id: *id, auth }.abi_encode()
        }
    };
    Ok(SignedCall { target, input: input.into() })
}

fn auth(
    wallet: &Wallet,
    target: alloy::primitives::Address,
    until: alloy::primitives::Uint<40, 1>,
    order: &impl SolStruct,
) -> abi::Auth {
    abi::Auth { nonce: U256::ZERO, deadline: until, signature: bytes(&wallet.sign(target, order)) }
}
