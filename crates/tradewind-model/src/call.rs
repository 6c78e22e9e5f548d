//! The calls that anyone can make, before they are bytes.

use alloy::primitives::{Address, B256, U256, Uint};
use tradewind_chain::client::bindings::abi;

use super::court::abi::{CourtParameters, Report, Statement, Vote};
use super::court::cases::Voice;
use super::court::proofs::{Named, Opened, Roots};
use super::statement::{Auth, Signed};

/// Whose calls are relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contract {
    Leases,
    Registry,
    Court,
}

/// A voucher and its signature.
#[derive(Debug, Clone)]
pub(crate) struct Promise {
    pub(crate) voucher: abi::Voucher,
    pub(crate) signed: Signed,
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "most calls carry a lease's terms")]
pub(crate) enum Call {
    Deposit {
        token: Address,
        account: Address,
        amount: u128,
        auth: Auth,
    },
    DepositWithPermit {
        token: Address,
        account: Address,
        amount: u128,
        until: u64,
        permit: Signed,
        auth: Auth,
    },
    DepositWithAuthorization {
        token: Address,
        from: Address,
        amount: u128,
        after: u64,
        before: u64,
        nonce: B256,
        signed: Signed,
    },
    Withdraw {
        token: Address,
        account: Address,
        to: Address,
        amount: u128,
        auth: Auth,
    },
    PayFee {
        fee: abi::FeeAuthorization,
        signed: Signed,
    },
    CancelNonce {
        nonce: U256,
    },
    BurnSink {
        token: Address,
    },
    SetToken {
        token: Address,
        allowed: bool,
        burnable: bool,
    },
    AddVersion {
        parameters: abi::Parameters,
    },
    SetVersionActive {
        version: u32,
        active: bool,
    },

    Register {
        account: Address,
        mesh_key: B256,
        metadata: B256,
        auth: Auth,
    },
    UpdateAccount {
        account: Address,
        mesh_key: B256,
        metadata: B256,
        auth: Auth,
    },
    AddDevice {
        provider: Address,
        key: Address,
        sponsor: Address,
        class: u16,
        units: u8,
        auth: Auth,
    },
    SetSponsor {
        device: B256,
        sponsor: Address,
        auth: Auth,
    },
    Stake {
        device: B256,
        amount: u128,
        auth: Auth,
    },
    PayRent {
        device: B256,
        payer: Address,
        span: u32,
        limit: u128,
        auth: Auth,
    },
    BeginUnbond {
        device: B256,
        account: Address,
        auth: Auth,
    },
    WithdrawStake {
        device: B256,
    },
    Qualify {
        device: B256,
    },
    Slash {
        device: B256,
        amount: u128,
        reporter: Address,
    },
    Jail {
        device: B256,
        until: u64,
    },
    SetClass {
        class: u16,
        minimum: u128,
    },
    SetConfig {
        config: abi::RegistryConfig,
    },

    Open {
        terms: abi::LeaseTerms,
        buyer: Signed,
        provider: Signed,
    },
    Settle {
        terms: abi::LeaseTerms,
        promise: Promise,
    },
    SettleMany {
        items: Vec<(abi::LeaseTerms, Promise)>,
    },
    Notice {
        terms: abi::LeaseTerms,
        reclaim: bool,
        promise: Promise,
        auth: Auth,
    },
    Close {
        terms: abi::LeaseTerms,
        promise: Promise,
        auth: Auth,
    },
    Extend {
        terms: abi::LeaseTerms,
        promise: Promise,
        auth: Auth,
        next: abi::LeaseTerms,
        buyer: Signed,
        provider: Signed,
    },
    RequestClose {
        terms: abi::LeaseTerms,
        auth: Auth,
    },
    Finalize {
        terms: abi::LeaseTerms,
    },
    Expire {
        terms: abi::LeaseTerms,
    },
    ReleaseBond {
        terms: abi::LeaseTerms,
    },
    Challenge {
        terms: abi::LeaseTerms,
        auth: Auth,
    },
    Answer {
        terms: abi::LeaseTerms,
        auth: Auth,
    },
    Defaulted {
        terms: abi::LeaseTerms,
    },
    Acknowledge {
        terms: abi::LeaseTerms,
        record: abi::CheckpointRecord,
        provider: Signed,
        buyer: Signed,
    },
    Dispute {
        terms: abi::LeaseTerms,
        claim: u128,
        evidence: B256,
        auth: Auth,
    },
    Resolve {
        terms: abi::LeaseTerms,
    },

    Transfer {
        token: Address,
        to: Address,
        amount: u128,
    },
    Forfeit {
        token: Address,
        amount: u128,
    },
    Allow {
        spender: Address,
        token: Address,
        amount: U256,
    },
    TakeFrom {
        token: Address,
        account: Address,
        amount: u128,
    },
    RewardWatchers {
        token: Address,
        account: Address,
        amount: u128,
    },

    Advance {
        round: u64,
    },
    Announce {
        commitment: B256,
    },
    AddCourtVersion {
        parameters: CourtParameters,
    },
    JoinSeat {
        owner: Address,
        key: Address,
        key_signed: Signed,
        auth: Auth,
    },
    LeaveSeat {
        seat: u32,
        auth: Auth,
    },
    WithdrawSeat {
        seat: u32,
    },
    OpenCase {
        opener: Address,
        device: B256,
        epoch: u64,
        claim: u128,
        salt: B256,
        auth: Auth,
    },
    DrawPanel {
        case: B256,
    },
    CommitFinding {
        case: B256,
        position: u64,
        commitment: B256,
        signed: Signed,
    },
    DrawCommittee {
        case: B256,
    },
    Vote {
        case: B256,
        ballots: Vec<Voice>,
    },
    Appeal {
        case: B256,
        appellant: Address,
        auth: Auth,
    },
    DrawBench {
        case: B256,
    },
    VoteBench {
        case: B256,
        ballots: Vec<Voice>,
    },
    Lapse {
        case: B256,
    },
    Execute {
        case: B256,
    },
    CloseCase {
        case: B256,
    },
    JoinCase {
        case: B256,
        terms: abi::LeaseTerms,
    },
    Count {
        epoch: u64,
        leases: Vec<abi::LeaseTerms>,
    },
    ProveElement {
        proof: Opened,
        report: Report,
    },
    ProveRoots {
        device: Named,
        epoch: u64,
        one: Roots,
        other: Roots,
        report: Report,
    },
    ProveStatements {
        device: Named,
        one: (Statement, Signed),
        other: (Statement, Signed),
        report: Report,
    },
    ProveVotes {
        seat: u32,
        one: (Vote, Signed),
        other: (Vote, Signed),
        report: Report,
    },

    /// Calls to one contract, the digest of their bytes, and the fee for them.
    Relay {
        at: Contract,
        fee: abi::FeeAuthorization,
        signed: Signed,
        calls: Vec<Call>,
        made: B256,
    },
    /// Coins sent to the leases' contract without a word.
    Donate {
        token: Address,
        amount: u128,
    },
}

impl Call {
    #[expect(clippy::too_many_lines, reason = "a line for each call")]
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Deposit { .. } => "deposit",
            Self::DepositWithPermit { .. } => "depositWithPermit",
            Self::DepositWithAuthorization { .. } => "depositWithAuthorization",
            Self::Withdraw { .. } => "withdraw",
            Self::PayFee { .. } => "payFee",
            Self::CancelNonce { .. } => "cancelNonce",
            Self::BurnSink { .. } => "burnSink",
            Self::SetToken { .. } => "setToken",
            Self::AddVersion { .. } => "addVersion",
            Self::SetVersionActive { .. } => "setVersionActive",
            Self::Register { .. } => "register",
            Self::UpdateAccount { .. } => "updateAccount",
            Self::AddDevice { .. } => "addDevice",
            Self::SetSponsor { .. } => "setSponsor",
            Self::Stake { .. } => "stake",
            Self::PayRent { .. } => "payRent",
            Self::BeginUnbond { .. } => "beginUnbond",
            Self::WithdrawStake { .. } => "withdrawStake",
            Self::Qualify { .. } => "qualify",
            Self::Slash { .. } => "slash",
            Self::Jail { .. } => "jail",
            Self::SetClass { .. } => "setClass",
            Self::SetConfig { .. } => "setConfig",
            Self::Open { .. } => "open",
            Self::Settle { .. } => "settle",
            Self::SettleMany { .. } => "settleMany",
            Self::Notice { .. } => "notice",
            Self::Close { .. } => "close",
            Self::Extend { .. } => "extend",
            Self::RequestClose { .. } => "requestClose",
            Self::Finalize { .. } => "finalize",
            Self::Expire { .. } => "expire",
            Self::ReleaseBond { .. } => "releaseBond",
            Self::Challenge { .. } => "challenge",
            Self::Answer { .. } => "answer",
            Self::Defaulted { .. } => "defaulted",
            Self::Acknowledge { .. } => "acknowledge",
            Self::Dispute { .. } => "dispute",
            Self::Resolve { .. } => "resolve",
            Self::Transfer { .. } => "transfer",
            Self::Forfeit { .. } => "forfeit",
            Self::Allow { .. } => "allow",
            Self::TakeFrom { .. } => "takeFrom",
            Self::RewardWatchers { .. } => "rewardWatchers",
            Self::Advance { .. } => "advance",
            Self::Announce { .. } => "announce",
            Self::AddCourtVersion { .. } => "addCourtVersion",
            Self::JoinSeat { .. } => "joinSeat",
            Self::LeaveSeat { .. } => "leaveSeat",
            Self::WithdrawSeat { .. } => "withdrawSeat",
            Self::OpenCase { .. } => "openCase",
            Self::DrawPanel { .. } => "drawPanel",
            Self::CommitFinding { .. } => "commitFinding",
            Self::DrawCommittee { .. } => "drawCommittee",
            Self::Vote { .. } => "vote",
            Self::Appeal { .. } => "appeal",
            Self::DrawBench { .. } => "drawBench",
            Self::VoteBench { .. } => "voteBench",
            Self::Lapse { .. } => "lapse",
            Self::Execute { .. } => "execute",
            Self::CloseCase { .. } => "closeCase",
            Self::JoinCase { .. } => "join",
            Self::Count { .. } => "count",
            Self::ProveElement { .. } => "proveElement",
            Self::ProveRoots { .. } => "proveRoots",
            Self::ProveStatements { .. } => "proveStatements",
            Self::ProveVotes { .. } => "proveVotes",
            Self::Relay { at: Contract::Leases, .. } => "relay at leases",
            Self::Relay { at: Contract::Registry, .. } => "relay at registry",
            Self::Relay { at: Contract::Court, .. } => "relay at court",
            Self::Donate { .. } => "donate",
        }
    }

    /// The lease that the call is about.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are about no lease")]
    pub(crate) const fn terms(&self) -> Option<&abi::LeaseTerms> {
        match self {
            Self::Open { terms, .. }
            | Self::Settle { terms, .. }
            | Self::Notice { terms, .. }
            | Self::Close { terms, .. }
            | Self::Extend { terms, .. }
            | Self::RequestClose { terms, .. }
            | Self::Finalize { terms }
            | Self::Expire { terms }
            | Self::ReleaseBond { terms }
            | Self::Challenge { terms, .. }
            | Self::Answer { terms, .. }
            | Self::Defaulted { terms }
            | Self::Acknowledge { terms, .. }
            | Self::Dispute { terms, .. }
            | Self::Resolve { terms }
            | Self::JoinCase { terms, .. } => Some(terms),
            _ => None,
        }
    }
}

/// A call and who sends it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) sender: Address,
    pub(crate) call: Call,
}

pub(crate) fn n96(amount: u128) -> Uint<96, 2> {
    Uint::from(amount)
}

pub(crate) fn n40(at: u64) -> Uint<40, 1> {
    Uint::from(at)
}
