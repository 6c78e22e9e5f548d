//! The court's bindings, and what the client has none for, written from the interfaces.

use alloy::sol_types::SolEvent as _;
use tradewind_chain::client::bindings::abi;
pub(crate) use tradewind_chain::client::bindings::court::abi::{
    Auth as Consent, Ballot, Beacon, Case as CaseView, Court, CourtParameters, Decision, Element, Joined,
    ProductRoots, Report, SeatView, Setup, Statement, Trial, Vote,
};

alloy::sol! {
    #[derive(Debug, PartialEq, Eq)]
    struct Census { uint32 owners; uint32 downOwners; uint96 stake; uint96 downStake; }

    contract Beside {
        event CaseClosed(bytes32 indexed caseId, uint256 paid, uint256 fromPool, uint256 toOpener, uint256 toProvider);
        event SeatWithdrawn(uint32 indexed seat, address indexed owner, uint96 amount);
        event SeatStruck(uint32 indexed seat, uint8 strikes);
        event WatchersPaid(address indexed token, address indexed account, uint256 amount);

        function census(uint64 epoch) returns (Census);
        function transfer(address token, address to, uint256 amount);
        function forfeit(address token, uint256 amount);
        function allow(address spender, address token, uint256 amount);
        function takeFrom(address token, address account, uint256 amount);
        function rewardWatchers(address token, address account, uint256 amount) returns (uint256);
        function allowanceOf(address token, address account, address spender) returns (uint256);
        function frozenUntil(bytes32 device) returns (uint40);
        function ruling(bytes32 lease) returns (uint8, uint96);
        function uptimeCredit(bytes32 device, uint40 from, uint40 to) returns (bool);
    }
}

/// What is signed in the court's domain, beside what `tradewind-proto` knows.
pub(crate) mod said {
    alloy::sol! {
        struct JoinSeat { address owner; address key; }
        struct LeaveSeat { uint32 seat; uint256 nonce; uint40 deadline; }
        struct OpenCase { address opener; bytes32 device; uint64 epoch; uint96 claim; bytes32 salt; }
        struct Commitment { bytes32 caseId; bytes32 commitment; }
        struct Appeal { bytes32 caseId; address appellant; }
        struct ProductRoots { bytes32 device; uint64 epoch; uint32 size; bytes32[] roots; }
    }
}

/// The events that say where money went, and who was judged; the model tells them too.
pub(crate) const TOLD: [alloy::primitives::B256; 19] = [
    abi::Leases::VoucherSettled::SIGNATURE_HASH,
    abi::Leases::NoticeCured::SIGNATURE_HASH,
    abi::Leases::LeaseDefaulted::SIGNATURE_HASH,
    abi::Leases::LeaseClosed::SIGNATURE_HASH,
    abi::Leases::DisputeEnded::SIGNATURE_HASH,
    abi::Leases::BuyerFeeOwed::SIGNATURE_HASH,
    abi::Registry::Slashed::SIGNATURE_HASH,
    Court::CaseOpened::SIGNATURE_HASH,
    Court::Convicted::SIGNATURE_HASH,
    Court::CaseDecided::SIGNATURE_HASH,
    Court::CaseSlashed::SIGNATURE_HASH,
    Court::LeaseJoined::SIGNATURE_HASH,
    Beside::CaseClosed::SIGNATURE_HASH,
    Court::SeatJoined::SIGNATURE_HASH,
    Beside::SeatWithdrawn::SIGNATURE_HASH,
    Beside::SeatStruck::SIGNATURE_HASH,
    Court::SeatSlashed::SIGNATURE_HASH,
    Court::ElementProved::SIGNATURE_HASH,
    Beside::WatchersPaid::SIGNATURE_HASH,
];
