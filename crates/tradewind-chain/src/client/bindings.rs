//! The contracts as the client calls them, and the conversions to and from domain types.
//!
//! Only what the client uses is here; a test compares every signature with the compiled artifacts.

use alloy::primitives::{B256, U256, Uint};
use alloy::sol_types::{SolStruct, SolType};
use tradewind_proto::ids::{DeviceId, LeaseId, MeshKey, ProviderId};
use tradewind_proto::signature::Signature;
use tradewind_proto::terms::{LeaseTerms, TermsError, sol};
use tradewind_proto::units::{Money, Seconds, Timestamp};
use tradewind_proto::voucher::SignedVoucher;

use crate::ledger::{
    AccountRecord, Checkpoint, DeviceRecord, LeaseFlags, LeaseRecord, LeaseStage, LedgerError, Parameters,
};

pub mod audit;
pub mod court;

/// The generated types, named as in Solidity.
#[expect(clippy::too_many_arguments, reason = "the contracts' functions take what they take")]
pub mod abi {
    tradewind_proto::signed_structs!(alloy::sol {
        #[derive(Debug, PartialEq, Eq)]
        struct CheckpointRecord {
            bytes32 lease;
            uint96 paidAt;
            bytes32 root;
            uint40 at;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Auth {
            uint256 nonce;
            uint40 deadline;
            bytes signature;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct FeeAuthorization {
            address payer;
            address relayer;
            address token;
            uint96 amount;
            bytes32 calls;
            uint256 nonce;
            uint40 deadline;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Parameters {
            uint32 window;
            uint32 bondDelay;
            uint32 openAhead;
            uint32 startAhead;
            uint32 maxDuration;
            uint32 minCapOnDemand;
            uint32 minCapSpot;
            uint32 minCapReserved;
            uint16 feeBps;
            uint16 sinkBps;
            uint32 answerWindow;
            uint32 hardLimit;
            uint32 refundWindow;
            uint32 repeatWindow;
            uint32 compensationSpan;
            uint32 bonusSpan;
            uint32 challengeSpan;
            uint16 disputeBps;
            address court;
            address membership;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct RegistryConfig {
            uint96 rentPerDay;
            uint32 unbonding;
            uint32 maxRent;
            address membership;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct AccountView {
            address account;
            bytes32 meshKey;
            bytes32 metadata;
            uint40 rentUntil;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct DeviceView {
            bytes32 id;
            address provider;
            address key;
            address sponsor;
            uint16 class;
            uint8 units;
            uint96 stake;
            uint64 busyUnits;
            uint40 jailedUntil;
            uint40 lastEnd;
            uint40 rentUntil;
            uint40 unbondingAt;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct LeaseView {
            uint8 state;
            uint96 paid;
            uint40 openedAt;
            uint40 noticeAt;
            uint40 dueAt;
            bool challenged;
            bool disputed;
            bool disputeUsed;
            bool providerFeeAside;
            bool buyerFeeAside;
            bool buyerFeeOwed;
            bool defaulted;
            uint32 challenges;
            uint40 challengedAt;
            uint96 checkpointPaid;
            uint40 checkpointAt;
            uint96 compensated;
            uint96 claim;
            uint40 disputedAt;
        }

        #[sol(rpc)]
        #[derive(Debug)]
        contract Leases {
            event Deposited(address indexed token, address indexed account, uint256 amount);
            event Withdrawn(address indexed token, address indexed account, address indexed to, uint256 amount);
            event FeePaid(address indexed payer, address indexed relayer, address indexed token, uint256 amount);
            event NonceUsed(address indexed account, uint256 nonce);
            event LeaseOpened(bytes32 indexed id, address indexed buyer, address indexed provider, bytes32 device, uint64 units, address token, uint128 rate, uint96 deposit, uint96 bond, uint8 kind, uint40 start, uint40 end, uint32 version);
            event LeaseExtended(bytes32 indexed parent, bytes32 indexed id);
            event VoucherSettled(bytes32 indexed id, uint96 paid);
            event LeaseNoticed(bytes32 indexed id, uint8 reason, uint40 matureAt);
            event NoticeCured(bytes32 indexed id);
            event CloseRequested(bytes32 indexed id, uint40 dueAt, bool feeAside);
            event LeaseSettled(bytes32 indexed id, uint96 paid, uint96 refunded, uint96 forfeited, uint96 fee, uint40 bondDue);
            event LeaseClosed(bytes32 indexed id, uint96 paid, uint96 refunded, uint96 forfeited, uint96 fee, uint96 buyerFee, uint96 bondToBuyer);
            event Challenged(bytes32 indexed id, uint32 sequence, uint96 bond, uint40 answerBy);
            event ChallengeAnswered(bytes32 indexed id, uint96 bondToProvider);
            event ChallengeDropped(bytes32 indexed id, uint96 bondToBuyer);
            event LeaseDefaulted(bytes32 indexed id, uint96 compensation, bool repeated);
            event CheckpointAcknowledged(bytes32 indexed id, uint96 paidAt, bytes32 root, uint40 storedAt);
            event Disputed(bytes32 indexed id, uint96 claim, uint96 bond, bytes32 evidence);
            event DisputeEnded(bytes32 indexed id, uint8 verdict, uint96 award, uint96 bondToBuyer);
            event BuyerFeeOwed(bytes32 indexed id);
            event SinkBurned(address indexed token, uint256 amount);

            function balanceOf(address token, address account) external view returns (uint256);
            function staked(address token) external view returns (uint256);
            function burnSink(address token) external;
            function nonceUsed(address account, uint256 nonce) external view returns (bool);
            function setToken(address token, bool allowed, bool burnable) external;
            function deposit(address token, address account, uint256 amount, Auth auth) external returns (uint256 credited);
            function depositWithAuthorization(address token, address from, uint256 amount, uint256 validAfter, uint256 validBefore, bytes32 nonce, bytes signature) external returns (uint256 credited);
            function depositWithPermit(address token, address account, uint256 amount, uint256 permitDeadline, bytes permitSignature, Auth auth) external returns (uint256 credited);
            function withdraw(address token, address account, address to, uint256 amount, Auth auth) external;
            function payFee(FeeAuthorization fee, bytes signature) external;
            function relay(FeeAuthorization fee, bytes signature, bytes[] calls) external;

            function open(LeaseTerms terms, bytes buyerSignature, bytes providerSignature) external returns (bytes32 id);
            function settle(LeaseTerms terms, Voucher voucher, bytes signature) external;
            function notice(LeaseTerms terms, uint8 reason, Voucher voucher, bytes voucherSignature, Auth auth) external;
            function close(LeaseTerms terms, Voucher voucher, bytes voucherSignature, Auth auth) external;
            function extend(LeaseTerms terms, Voucher voucher, bytes voucherSignature, Auth auth, LeaseTerms next, bytes buyerSignature, bytes providerSignature) external returns (bytes32 id);
            function requestClose(LeaseTerms terms, Auth auth) external;
            function finalize(LeaseTerms terms) external;
            function expire(LeaseTerms terms) external;
            function releaseBond(LeaseTerms terms) external;
            function challenge(LeaseTerms terms, Auth auth) external;
            function answer(LeaseTerms terms, Auth auth) external;
            function defaulted(LeaseTerms terms) external;
            function acknowledge(LeaseTerms terms, CheckpointRecord record, bytes providerSignature, bytes buyerSignature) external;
            function dispute(LeaseTerms terms, uint96 claim, bytes32 evidence, Auth auth) external;
            function resolve(LeaseTerms terms) external;

            function addVersion(Parameters parameters_) external returns (uint32 version);
            function lease(bytes32 id) external view returns (LeaseView memory);
            function leaseId(LeaseTerms terms) external view returns (bytes32);
            function voucherDigest(Voucher voucher) external view returns (bytes32);
            function parameters(uint32 version) external view returns (Parameters memory parameters_, bool active);
            function latestVersion() external view returns (uint32);
            function registry() external view returns (address);
        }

        #[sol(rpc)]
        #[derive(Debug)]
        contract Registry {
            event NonceUsed(address indexed account, uint256 nonce);
            event AccountRegistered(address indexed account, bytes32 meshKey, bytes32 metadata);
            event AccountUpdated(address indexed account, bytes32 meshKey, bytes32 metadata);
            event DeviceAdded(bytes32 indexed device, address indexed provider, address key, address sponsor, uint16 class, uint8 units);
            event SponsorSet(bytes32 indexed device, address indexed sponsor);
            event StakeAdded(bytes32 indexed device, address indexed sponsor, uint96 amount, uint96 stake);
            event UnbondBegun(bytes32 indexed device, uint40 withdrawableAt);
            event StakeWithdrawn(bytes32 indexed device, address indexed sponsor, uint96 amount);
            event RentExtended(bytes32 indexed device, address indexed payer, uint40 rentUntil, uint256 cost);
            event Slashed(bytes32 indexed device, uint96 amount, address indexed reporter, uint96 reward, uint96 sunk);
            event Jailed(bytes32 indexed device, uint40 until);

            function nonceUsed(address account, uint256 nonce) external view returns (bool);
            function register(address account, bytes32 meshKey, bytes32 metadata, Auth auth) external;
            function updateAccount(address account, bytes32 meshKey, bytes32 metadata, Auth auth) external;
            function addDevice(address provider, address key, address sponsor, uint16 class, uint8 units, Auth auth) external returns (bytes32 device);
            function stake(bytes32 device, uint96 amount, Auth auth) external;
            function payRent(bytes32 device, address payer, uint32 span, uint256 limit, Auth auth) external;
            function beginUnbond(bytes32 device, address account, Auth auth) external;
            function withdrawStake(bytes32 device) external;
            function relay(FeeAuthorization fee, bytes signature, bytes[] calls) external;
            function setClass(uint16 class, uint96 minimumPerUnit) external;

            function deviceId(address provider, address key) external pure returns (bytes32);
            function account(address account_) external view returns (AccountView memory);
            function device(bytes32 id) external view returns (DeviceView memory);
            function accountsPage(uint256 from, uint256 count) external view returns (AccountView[] memory page);
            function minimumStake(uint16 class, uint8 units) external view returns (uint256);
            function config() external view returns (RegistryConfig memory);
            function stakeToken() external view returns (address);
            function feeToken() external view returns (address);
        }

        #[sol(rpc)]
        #[derive(Debug)]
        contract Token {
            event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);

            function balanceOf(address account) external view returns (uint256);
            function totalSupply() external view returns (uint256);
            function allowance(address owner, address spender) external view returns (uint256);
            function approve(address spender, uint256 amount) external returns (bool);
            function transfer(address to, uint256 amount) external returns (bool);
            function mint(address to, uint256 amount) external;
            function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
            function nonces(address owner) external view returns (uint256);
            function eip712Domain() external view returns (bytes1 fields, string name, string version, uint256 chainId, address verifyingContract, bytes32 salt, uint256[] extensions);
        }
    });
}

/// An amount that a contract stated.
pub(crate) fn money<const BITS: usize, const LIMBS: usize>(
    amount: Uint<BITS, LIMBS>,
) -> Result<Money, LedgerError> {
    u128::try_from(amount).ok().and_then(|amount| Money::new(amount).ok()).ok_or_else(|| {
        LedgerError::Unavailable(format!("the ledger answered an impossible amount, {amount}"))
    })
}

pub(crate) fn time(at: Uint<40, 1>) -> Timestamp {
    Timestamp::from_unix(at.to())
}

/// A time as the contracts take it; beyond their range it never comes.
pub fn deadline(at: Timestamp) -> Uint<40, 1> {
    Uint::<40, 1>::saturating_from(at.unix())
}

pub(crate) fn amount96(amount: Money) -> Uint<96, 2> {
    Uint::<96, 2>::saturating_from(amount.base_units())
}

pub(crate) fn amount256(amount: Money) -> U256 {
    U256::from(amount.base_units())
}

/// The terms as the contract's calls take them. Both structs are generated from one definition, so that the fields of
/// one are those of the other.
pub(crate) fn terms(terms: &LeaseTerms) -> Result<abi::LeaseTerms, TermsError> {
    let from = terms.to_sol()?;
    Ok(abi::LeaseTerms::detokenize(sol::LeaseTerms::tokenize(&from)))
}

/// A voucher and its signature as the contract's calls take them; for no voucher an empty signature.
pub(crate) fn voucher(
    lease: LeaseId,
    signed: Option<&SignedVoucher>,
) -> Result<(abi::Voucher, alloy::primitives::Bytes), TermsError> {
    let Some(signed) = signed else {
        let none =
            abi::Voucher { lease: lease.get(), cumulative: Uint::ZERO, notBefore: Uint::ZERO, last: false };
        return Ok((none, alloy::primitives::Bytes::new()));
    };
    let from = signed.voucher.to_sol()?;
    Ok((abi::Voucher::detokenize(sol::Voucher::tokenize(&from)), bytes(&signed.signature)))
}

/// The struct hash of a voucher, as `Close` signs it; zero for none.
pub(crate) fn voucher_hash(signed: Option<&SignedVoucher>) -> Result<B256, TermsError> {
    signed.map_or(Ok(B256::ZERO), |signed| Ok(signed.voucher.to_sol()?.eip712_hash_struct()))
}

pub(crate) fn checkpoint(record: &Checkpoint) -> abi::CheckpointRecord {
    abi::CheckpointRecord {
        lease: record.lease.get(),
        paidAt: amount96(record.paid_at),
        root: record.root,
        at: deadline(record.at),
    }
}

pub(crate) fn bytes(signature: &Signature) -> alloy::primitives::Bytes {
    alloy::primitives::Bytes::copy_from_slice(signature.as_bytes())
}

impl TryFrom<abi::LeaseView> for LeaseRecord {
    type Error = LedgerError;
    fn try_from(view: abi::LeaseView) -> Result<Self, LedgerError> {
        let stage = match view.state {
            0 => LeaseStage::None,
            1 => LeaseStage::Open,
            2 => LeaseStage::NoticedUnpaid,
            3 => LeaseStage::NoticedReclaim,
            4 => LeaseStage::Closing,
            5 => LeaseStage::Settled,
            6 => LeaseStage::Closed,
            other => {
                return Err(LedgerError::Unavailable(format!("the ledger answered lease state {other}")));
            }
        };
        Ok(Self {
            stage,
            paid: money(view.paid)?,
            opened_at: time(view.openedAt),
            notice_at: time(view.noticeAt),
            due_at: time(view.dueAt),
            flags: LeaseFlags {
                challenged: view.challenged,
                disputed: view.disputed,
                dispute_used: view.disputeUsed,
                provider_fee: view.providerFeeAside,
                buyer_fee: view.buyerFeeAside,
                buyer_fee_owed: view.buyerFeeOwed,
                defaulted: view.defaulted,
            },
            challenges: view.challenges,
            challenged_at: time(view.challengedAt),
            checkpoint_paid: money(view.checkpointPaid)?,
            checkpoint_at: time(view.checkpointAt),
            compensated: money(view.compensated)?,
            claim: money(view.claim)?,
            disputed_at: time(view.disputedAt),
        })
    }
}

impl TryFrom<abi::DeviceView> for DeviceRecord {
    type Error = LedgerError;
    fn try_from(view: abi::DeviceView) -> Result<Self, LedgerError> {
        Ok(Self {
            device: DeviceId::new(view.id),
            provider: ProviderId::new(view.provider),
            key: view.key,
            sponsor: view.sponsor,
            class: view.class,
            units: view.units,
            stake: money(view.stake)?,
            busy_units: view.busyUnits,
            jailed_until: time(view.jailedUntil),
            last_end: time(view.lastEnd),
            unbonding_at: (view.unbondingAt != Uint::ZERO).then(|| time(view.unbondingAt)),
            rent_paid_until: time(view.rentUntil),
        })
    }
}

impl From<abi::AccountView> for AccountRecord {
    fn from(view: abi::AccountView) -> Self {
        Self {
            account: view.account,
            mesh_key: MeshKey::from_bytes(view.meshKey.0),
            metadata: view.metadata,
            rent_paid_until: time(view.rentUntil),
        }
    }
}

/// The domain form of a parameter version.
pub(crate) fn parameters(from: &abi::Parameters, active: bool) -> Parameters {
    let span = |seconds: u32| Seconds::new(seconds.into());
    Parameters {
        active,
        window: span(from.window),
        bond_delay: span(from.bondDelay),
        open_ahead: span(from.openAhead),
        start_ahead: span(from.startAhead),
        max_duration: span(from.maxDuration),
        min_cap_on_demand: span(from.minCapOnDemand),
        min_cap_spot: span(from.minCapSpot),
        min_cap_reserved: span(from.minCapReserved),
        fee_bps: from.feeBps,
        sink_bps: from.sinkBps,
        answer_window: span(from.answerWindow),
        hard_limit: span(from.hardLimit),
        refund_window: span(from.refundWindow),
        repeat_window: span(from.repeatWindow),
        compensation_span: span(from.compensationSpan),
        bonus_span: span(from.bonusSpan),
        challenge_span: span(from.challengeSpan),
        dispute_bps: from.disputeBps,
        court: from.court,
        membership: from.membership,
    }
}

/// The contract's form of a parameter version; spans beyond its fields saturate.
pub(crate) fn parameters_to_abi(from: &Parameters) -> abi::Parameters {
    let span = |seconds: Seconds| u32::try_from(seconds.get()).unwrap_or(u32::MAX);
    abi::Parameters {
        window: span(from.window),
        bondDelay: span(from.bond_delay),
        openAhead: span(from.open_ahead),
        startAhead: span(from.start_ahead),
        maxDuration: span(from.max_duration),
        minCapOnDemand: span(from.min_cap_on_demand),
        minCapSpot: span(from.min_cap_spot),
        minCapReserved: span(from.min_cap_reserved),
        feeBps: from.fee_bps,
        sinkBps: from.sink_bps,
        answerWindow: span(from.answer_window),
        hardLimit: span(from.hard_limit),
        refundWindow: span(from.refund_window),
        repeatWindow: span(from.repeat_window),
        compensationSpan: span(from.compensation_span),
        bonusSpan: span(from.bonus_span),
        challengeSpan: span(from.challenge_span),
        disputeBps: from.dispute_bps,
        court: from.court,
        membership: from.membership,
    }
}
