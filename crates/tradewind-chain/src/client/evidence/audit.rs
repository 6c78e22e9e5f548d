//! Proof that something was attested, or taken back.

use super::Trace;
use crate::client::bindings::audit::abi::Attestations::{Attested, Revoked};
use crate::client::reader::Reader;
use crate::ledger::LedgerError;
use crate::ledger::audit::{AuditAction, Auditing as _};

/// What the state alone shows: an attestation that is expired or revoked looks like none.
pub(super) async fn is_done(reader: &Reader, action: &AuditAction) -> Result<bool, LedgerError> {
    match action {
        AuditAction::Attest(audit) => reader.holds(audit.id()).await,
        AuditAction::Revoke { .. } => Ok(false),
    }
}

/// What the actions leave in the logs.
pub(super) fn traces(reader: &Reader, action: &AuditAction) -> Vec<Trace> {
    let Some(contract) = reader.contracts().attestations else { return Vec::new() };
    vec![match action {
        AuditAction::Attest(audit) => Trace::of::<Attested>(contract, audit.id(), |_| true),
        AuditAction::Revoke { id } => Trace::of::<Revoked>(contract, *id, |_| true),
    }]
}
