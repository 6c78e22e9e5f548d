//! Calls of the court. Payments to it are fees that name the action they are for, so that nobody spends them otherwise.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol_types::{SolCall, SolStruct, SolValue};
use tradewind_proto::units::Money;

use super::{Facts, SignedCall, nonce_of};
use crate::client::bindings::court::{self as bindings, abi};
use crate::client::bindings::{amount96, bytes, deadline};
use crate::client::wallet::{Wallet, typed};
use crate::ledger::LedgerError;
use crate::ledger::court::{CourtAction, reference};

pub(super) fn encode(
    wallet: &Wallet,
    action: &CourtAction,
    facts: &Facts,
) -> Result<SignedCall, LedgerError> {
    let court = wallet.contracts().court;
    let target = court.ok_or_else(|| LedgerError::Invalid("this network has no court".into()))?;
    let nonce = nonce_of(&reference(action, wallet.account(), &wallet.contracts().domain())?);
    let encoder = Encoder { wallet, facts, court: target, nonce };
    let input = match action {
        CourtAction::JoinSeat { .. }
        | CourtAction::LeaveSeat { .. }
        | CourtAction::OpenCase { .. }
        | CourtAction::Appeal { .. } => encoder.consented(action),
        CourtAction::ProveElement { .. }
        | CourtAction::ProveRoots { .. }
        | CourtAction::ProveStatements { .. }
        | CourtAction::ProveVotes { .. } => proof(action),
        CourtAction::WithdrawSeat { seat } => abi::Court::withdrawSeatCall { seat: *seat }.abi_encode(),
        CourtAction::Announce { commitment } => {
            abi::Court::announceCall { commitment: *commitment }.abi_encode()
        }
        CourtAction::DrawPanel(case) => abi::Court::drawPanelCall { caseId: case.get() }.abi_encode(),
        CourtAction::DrawCommittee(case) => abi::Court::drawCommitteeCall { caseId: case.get() }.abi_encode(),
        CourtAction::DrawBench(case) => abi::Court::drawBenchCall { caseId: case.get() }.abi_encode(),
        CourtAction::Lapse { case, .. } => abi::Court::lapseCall { caseId: case.get() }.abi_encode(),
        CourtAction::Execute(case) => abi::Court::executeCall { caseId: case.get() }.abi_encode(),
        CourtAction::CloseCase(case) => abi::Court::closeCaseCall { caseId: case.get() }.abi_encode(),
        CourtAction::Commit { case, position, commitment, signature } => abi::Court::commitFindingCall {
            caseId: case.get(),
            position: U256::from(*position),
            commitment: *commitment,
            signature: bytes(signature),
        }
        .abi_encode(),
        CourtAction::Vote { case, ballots } => {
            let ballots = ballots.iter().map(bindings::ballot).collect();
            abi::Court::voteCall { caseId: case.get(), ballots }.abi_encode()
        }
        CourtAction::VoteBench { case, ballots } => {
            let ballots = ballots.iter().map(bindings::ballot).collect();
            abi::Court::voteBenchCall { caseId: case.get(), ballots }.abi_encode()
        }
        CourtAction::Join { case, terms } => {
            abi::Court::joinCall { caseId: case.get(), terms: bindings::terms(terms)? }.abi_encode()
        }
        CourtAction::Count { epoch, terms } => {
            let leases = vec![bindings::terms(terms)?];
            abi::Court::countCall { epoch: epoch.get(), leases }.abi_encode()
        }
    };
    Ok(SignedCall { target, input: input.into() })
}

struct Encoder<'a> {
    wallet: &'a Wallet,
    facts: &'a Facts,
    court: Address,
    nonce: U256,
}

impl Encoder<'_> {
    /// The actions that need the account's own word. The rest say nothing here.
    fn consented(&self, action: &CourtAction) -> Vec<u8> {
        let (account, until) = (self.wallet.account(), deadline(self.facts.deadline));
        if let CourtAction::JoinSeat { key, consent, stake, token } = action {
            let order = typed::JoinSeat { owner: account, key: *key };
            let auth = self.payment(*token, *stake, order.eip712_hash_struct());
            let key_signature = bytes(consent);
            abi::Court::joinSeatCall { owner: account, key: *key, keySignature: key_signature, auth }
                .abi_encode()
        } else if let CourtAction::LeaveSeat { seat } = action {
            let order = typed::LeaveSeat { seat: *seat, nonce: self.nonce, deadline: until };
            let signature = bytes(&self.wallet.sign(self.court, &order));
            let auth = abi::Auth { nonce: self.nonce, deadline: until, signature };
            abi::Court::leaveSeatCall { seat: *seat, auth }.abi_encode()
        } else if let CourtAction::OpenCase { device, epoch, claim, salt, cost, token } = action {
            let (device, epoch, claim) = (device.get(), epoch.get(), amount96(*claim));
            let order = typed::OpenCase { opener: account, device, epoch, claim, salt: *salt };
            let auth = self.payment(*token, *cost, order.eip712_hash_struct());
            abi::Court::openCaseCall { opener: account, device, epoch, claim, salt: *salt, auth }.abi_encode()
        } else if let CourtAction::Appeal { case, cost, token } = action {
            let order = typed::Appeal { caseId: case.get(), appellant: account };
            let auth = self.payment(*token, *cost, order.eip712_hash_struct());
            abi::Court::appealCall { caseId: case.get(), appellant: account, auth }.abi_encode()
        } else {
            Vec::new()
        }
    }

    /// A fee to the court for exactly this action, which only the court may take.
    fn payment(&self, token: Address, amount: Money, action: B256) -> abi::Auth {
        let until = deadline(self.facts.deadline);
        let fee = crate::client::bindings::abi::FeeAuthorization {
            payer: self.wallet.account(),
            relayer: self.court,
            token,
            amount: amount96(amount),
            calls: keccak256((self.court, action).abi_encode_params()),
            nonce: self.nonce,
            deadline: until,
        };
        abi::Auth { nonce: self.nonce, deadline: until, signature: bytes(&self.wallet.sign_fee(&fee)) }
    }
}

/// The proofs. The rest say nothing here.
fn proof(action: &CourtAction) -> Vec<u8> {
    if let CourtAction::ProveElement { wrong, provider, key, reporting } = action {
        let element = bindings::element(wrong, *provider, *key);
        abi::Court::proveElementCall { element, report_: bindings::report(reporting.as_ref()) }.abi_encode()
    } else if let CourtAction::ProveRoots { both, provider, key, reporting } = action {
        let [one, other] = both.bodies();
        abi::Court::proveRootsCall {
            provider: *provider,
            key: *key,
            epoch: one.body.epoch().get(),
            one: bindings::roots(one),
            other: bindings::roots(other),
            report_: bindings::report(reporting.as_ref()),
        }
        .abi_encode()
    } else if let CourtAction::ProveStatements { both, provider, key, reporting } = action {
        let [one, other] = both.bodies();
        abi::Court::proveStatementsCall {
            provider: *provider,
            key: *key,
            one: bindings::statement(&one.body),
            signatureOfOne: bytes(&one.signature),
            other: bindings::statement(&other.body),
            signatureOfOther: bytes(&other.signature),
            report_: bindings::report(reporting.as_ref()),
        }
        .abi_encode()
    } else if let CourtAction::ProveVotes { seat, both, reporting } = action {
        let [one, other] = both.bodies();
        abi::Court::proveVotesCall {
            seat: *seat,
            one: bindings::vote(&one.body),
            signatureOfOne: bytes(&one.signature),
            other: bindings::vote(&other.body),
            signatureOfOther: bytes(&other.signature),
            report_: bindings::report(reporting.as_ref()),
        }
        .abi_encode()
    } else {
        Vec::new()
    }
}
