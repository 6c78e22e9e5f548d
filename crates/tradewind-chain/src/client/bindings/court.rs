//! The court and its beacon as the client calls them.

use alloy::primitives::{B256, Uint};
use alloy::sol_types::SolType;
use tradewind_proto::challenge::WrongElement;
use tradewind_proto::evidence::{ProductRoots, Statement, Sworn, Vote};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::terms::{LeaseTerms, TermsError, sol};
use tradewind_proto::units::Seconds;

use super::{bytes, money, time};
use crate::ledger::LedgerError;
use crate::ledger::court::{
    Ballot, CaseRecord, CaseStage, CourtRules, CourtSetup, Outcome, Reporting, SeatRecord,
};

/// The generated types, named as in Solidity.
#[expect(clippy::too_many_arguments, reason = "the contracts' functions take what they take")]
pub mod abi {
    tradewind_proto::signed_structs!(alloy::sol {
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
        struct CourtParameters {
            uint16 jailSeats;
            uint16 fullSeats;
            uint8 panel;
            uint8 committee;
            uint8 quorum;
            uint8 bench;
            uint8 benchQuorum;
            uint8 strikes;
            uint16 admissible;
            uint32 commitWindow;
            uint32 voteWindow;
            uint32 appealWindow;
            uint32 benchWindow;
            uint32 freezeSpan;
            uint32 deferSpan;
            uint16 downBps;
            uint16 elementFirstBps;
            uint16 elementAgainBps;
            uint16 equivocationBps;
            uint16 bondBps;
            uint96 minBond;
            uint96 transcriptFee;
            uint32[4] jail;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Setup {
            address leases;
            address registry;
            address beacon;
            address stakeToken;
            address feeToken;
            uint40 genesis;
            uint32 epochSpan;
            uint96 seatStake;
            uint32 seatUnbonding;
            uint32 versionDelay;
        }

        // One struct of thirty fields in the contract, which is encoded as these two, one after the other.
        #[derive(Debug, PartialEq, Eq)]
        struct Case {
            Trial trial;
            Decision decision;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Trial {
            address opener;
            uint40 openedAt;
            uint32 version;
            uint8 stage;
            uint16 seats;
            bytes32 device;
            uint64 epoch;
            uint96 claim;
            uint96 bond;
            uint96 prepaid;
            uint64 committed;
            uint64 committee;
            uint64 revealed;
            uint64 downs;
            address appellant;
            uint96 appealPrepaid;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Decision {
            uint40 voteBy;
            uint40 convictedAt;
            uint40 appealedAt;
            uint40 benchBy;
            uint32 heard;
            uint8 guilty;
            uint8 clear;
            uint8 benchGuilty;
            uint8 benchClear;
            uint8 outcome;
            bool slashDue;
            uint40 decidedAt;
            uint256[3] panel;
            uint256[2] bench;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Ballot {
            uint8 position;
            uint8 finding;
            bytes32 transcript;
            bytes32 salt;
            bytes signature;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Joined {
            bytes32 caseId;
            uint96 award;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct SeatView {
            address owner;
            address key;
            uint96 stake;
            uint40 withdrawableAt;
            uint8 strikes;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Statement {
            bytes32 topic;
            bytes32 device;
            uint64 sequence;
            bytes32 body;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Vote {
            bytes32 caseId;
            uint8 instance;
            uint8 finding;
            bytes32 transcript;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct ProductRoots {
            uint32 size;
            bytes32[] roots;
            bytes signature;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Element {
            address provider;
            address key;
            uint64 epoch;
            ProductRoots product;
            uint256 round;
            uint256 row;
            uint256 column;
            bytes leaf;
            bytes32[] path;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Report {
            address reporter;
            bytes32 salt;
        }

        #[sol(rpc)]
        #[derive(Debug)]
        contract Court {
            event Announced(bytes32 indexed commitment);
            event SeatJoined(uint32 indexed seat, address indexed owner, address indexed key, uint64 fromEpoch);
            event SeatSlashed(uint32 indexed seat, uint96 amount, address indexed reporter, uint96 reward, uint96 sunk);
            event CaseOpened(bytes32 indexed caseId, bytes32 indexed device, uint64 indexed epoch, address opener, uint96 bond);
            event Voted(bytes32 indexed caseId, uint32 indexed seat, uint8 instance, uint8 finding);
            event Convicted(bytes32 indexed caseId, bytes32 indexed device, uint40 jailedUntil);
            event CaseDecided(bytes32 indexed caseId, uint8 outcome);
            event CaseSlashed(bytes32 indexed caseId, bytes32 indexed device, uint96 amount);
            event LeaseJoined(bytes32 indexed caseId, bytes32 indexed lease, uint96 award);
            event DeviceCounted(uint64 indexed epoch, bytes32 indexed device, address indexed owner, uint96 stake);
            event ElementProved(bytes32 indexed device, uint64 indexed epoch, uint256 round, int256 claimed, int256 computed);
            event EquivocationProved(bytes32 indexed device, bytes32 indexed evidence);
            event VoteEquivocationProved(uint32 indexed seat, bytes32 indexed caseId, uint8 instance);

            function announce(bytes32 commitment) external;
            function setup() external view returns (Setup memory);
            function epochAt(uint40 time) external view returns (uint64);
            function courtParameters(uint32 version) external view returns (CourtParameters memory parameters, uint40 usableAt);
            function usableVersion() external view returns (uint32);
            function relay(FeeAuthorization fee, bytes signature, bytes[] calls) external;

            function joinSeat(address owner, address key, bytes keySignature, Auth auth) external returns (uint32 seat);
            function leaveSeat(uint32 seat, Auth auth) external;
            function withdrawSeat(uint32 seat) external;
            function seat(uint32 id) external view returns (SeatView memory);
            function seatOf(address key) external view returns (uint32);
            function seatCount(uint64 epoch) external view returns (uint256);
            function seatAt(uint64 epoch, uint256 number) external view returns (uint32);

            function openCase(address opener, bytes32 device, uint64 epoch, uint96 claim, bytes32 salt, Auth auth) external returns (bytes32 caseId);
            function drawPanel(bytes32 caseId) external;
            function commitFinding(bytes32 caseId, uint256 position, bytes32 commitment, bytes signature) external;
            function drawCommittee(bytes32 caseId) external;
            function vote(bytes32 caseId, Ballot[] ballots) external;
            function appeal(bytes32 caseId, address appellant, Auth auth) external;
            function drawBench(bytes32 caseId) external;
            function voteBench(bytes32 caseId, Ballot[] ballots) external;
            function lapse(bytes32 caseId) external;

            function execute(bytes32 caseId) external;
            function closeCase(bytes32 caseId) external;
            function join(bytes32 caseId, LeaseTerms terms) external;
            function count(uint64 epoch, LeaseTerms[] leases) external;
            function caseOf(bytes32 caseId) external view returns (Case memory);
            function joined(bytes32 lease) external view returns (Joined memory);
            function tripped(uint64 epoch) external view returns (bool);

            function proveElement(Element element, Report report_) external;
            function proveRoots(address provider, address key, uint64 epoch, ProductRoots one, ProductRoots other, Report report_) external;
            function proveStatements(address provider, address key, Statement one, bytes signatureOfOne, Statement other, bytes signatureOfOther, Report report_) external;
            function proveVotes(uint32 seat, Vote one, bytes signatureOfOne, Vote other, bytes signatureOfOther, Report report_) external;
        }

        #[sol(rpc)]
        #[derive(Debug)]
        contract Beacon {
            event SeedStored(uint64 indexed round, bytes32 seed);

            function advance(uint64 round) external;
            function seed(uint64 round) external view returns (bytes32);
            function timeOf(uint64 round) external view returns (uint40);
            function roundAt(uint40 time) external view returns (uint64);
            function seedAt(uint40 time) external view returns (bytes32);
        }

        #[sol(rpc)]
        #[derive(Debug)]
        contract DrandBeacon {
            function submit(uint64 round, uint256[2] signature) external;
            function seedFrom(uint64 round, uint256[2] signature) external view returns (bytes32);
            function chainHash() external view returns (bytes32);
            function lag() external view returns (uint32);
        }
    });
}

/// The terms as the court's calls take them.
pub(crate) fn terms(terms: &LeaseTerms) -> Result<abi::LeaseTerms, TermsError> {
    let from = terms.to_sol()?;
    Ok(abi::LeaseTerms::detokenize(sol::LeaseTerms::tokenize(&from)))
}

pub(crate) fn ballot(ballot: &Ballot) -> abi::Ballot {
    abi::Ballot {
        position: ballot.position,
        finding: ballot.finding as u8,
        transcript: ballot.transcript,
        salt: ballot.salt,
        signature: bytes(&ballot.signature),
    }
}

pub(crate) fn report(reporting: Option<&Reporting>) -> abi::Report {
    reporting.map_or(abi::Report { reporter: Default::default(), salt: B256::ZERO }, |by| abi::Report {
        reporter: by.reporter,
        salt: by.salt,
    })
}

pub(crate) fn roots(signed: &Sworn<ProductRoots>) -> abi::ProductRoots {
    abi::ProductRoots {
        size: signed.body.size().get(),
        roots: signed.body.roots().to_vec(),
        signature: bytes(&signed.signature),
    }
}

pub(crate) fn statement(signed: &Statement) -> abi::Statement {
    abi::Statement {
        topic: signed.topic,
        device: signed.device.get(),
        sequence: signed.sequence,
        body: signed.body,
    }
}

pub(crate) fn vote(signed: &Vote) -> abi::Vote {
    abi::Vote {
        caseId: signed.case.get(),
        instance: signed.instance as u8,
        finding: signed.finding as u8,
        transcript: signed.transcript,
    }
}

/// The contract's form of a wrong element of `provider`'s device with `key`.
pub(crate) fn element(
    wrong: &WrongElement,
    provider: alloy::primitives::Address,
    key: alloy::primitives::Address,
) -> abi::Element {
    let number = |number: u32| alloy::primitives::U256::from(number);
    abi::Element {
        provider,
        key,
        epoch: wrong.signed.body.epoch().get(),
        product: roots(&wrong.signed),
        round: alloy::primitives::U256::from(wrong.round),
        row: number(wrong.row),
        column: number(wrong.column),
        leaf: wrong.leaf.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>().into(),
        path: wrong.path.clone(),
    }
}

fn span(seconds: u32) -> Seconds {
    Seconds::new(seconds.into())
}

impl TryFrom<abi::Setup> for CourtSetup {
    type Error = LedgerError;
    fn try_from(from: abi::Setup) -> Result<Self, LedgerError> {
        Ok(Self {
            beacon: from.beacon,
            stake_token: from.stakeToken,
            fee_token: from.feeToken,
            genesis: time(from.genesis),
            epoch: span(from.epochSpan),
            seat_stake: money(from.seatStake)?,
            seat_unbonding: span(from.seatUnbonding),
        })
    }
}

impl TryFrom<abi::CourtParameters> for CourtRules {
    type Error = LedgerError;
    fn try_from(from: abi::CourtParameters) -> Result<Self, LedgerError> {
        Ok(Self {
            jail_seats: from.jailSeats,
            full_seats: from.fullSeats,
            panel: from.panel,
            committee: from.committee,
            quorum: from.quorum,
            bench: from.bench,
            bench_quorum: from.benchQuorum,
            strikes: from.strikes,
            admissible: from.admissible,
            commit_window: span(from.commitWindow),
            vote_window: span(from.voteWindow),
            appeal_window: span(from.appealWindow),
            bench_window: span(from.benchWindow),
            freeze_span: span(from.freezeSpan),
            defer_span: span(from.deferSpan),
            down_bps: from.downBps,
            element_first_bps: from.elementFirstBps,
            element_again_bps: from.elementAgainBps,
            equivocation_bps: from.equivocationBps,
            bond_bps: from.bondBps,
            min_bond: money(from.minBond)?,
            transcript_fee: money(from.transcriptFee)?,
            jail: from.jail.map(span),
        })
    }
}

impl From<&CourtRules> for abi::CourtParameters {
    fn from(from: &CourtRules) -> Self {
        let span = |seconds: Seconds| u32::try_from(seconds.get()).unwrap_or(u32::MAX);
        Self {
            jailSeats: from.jail_seats,
            fullSeats: from.full_seats,
            panel: from.panel,
            committee: from.committee,
            quorum: from.quorum,
            bench: from.bench,
            benchQuorum: from.bench_quorum,
            strikes: from.strikes,
            admissible: from.admissible,
            commitWindow: span(from.commit_window),
            voteWindow: span(from.vote_window),
            appealWindow: span(from.appeal_window),
            benchWindow: span(from.bench_window),
            freezeSpan: span(from.freeze_span),
            deferSpan: span(from.defer_span),
            downBps: from.down_bps,
            elementFirstBps: from.element_first_bps,
            elementAgainBps: from.element_again_bps,
            equivocationBps: from.equivocation_bps,
            bondBps: from.bond_bps,
            minBond: super::amount96(from.min_bond),
            transcriptFee: super::amount96(from.transcript_fee),
            jail: from.jail.map(span),
        }
    }
}

impl TryFrom<abi::SeatView> for SeatRecord {
    type Error = LedgerError;
    fn try_from(from: abi::SeatView) -> Result<Self, LedgerError> {
        Ok(Self {
            owner: from.owner,
            key: from.key,
            stake: money(from.stake)?,
            withdrawable_at: (from.withdrawableAt != Uint::ZERO).then(|| time(from.withdrawableAt)),
            strikes: from.strikes,
        })
    }
}

impl TryFrom<abi::Case> for CaseRecord {
    type Error = LedgerError;
    fn try_from(from: abi::Case) -> Result<Self, LedgerError> {
        let abi::Case { trial, decision } = from;
        let odd = |what: &str, number: u8| {
            LedgerError::Unavailable(format!("the ledger answered {what} {number} of a case"))
        };
        let stage = CaseStage::numbered(trial.stage).ok_or_else(|| odd("stage", trial.stage))?;
        let outcome = Outcome::numbered(decision.outcome).ok_or_else(|| odd("outcome", decision.outcome))?;
        let instant = |at: Uint<40, 1>| (at != Uint::ZERO).then(|| time(at));
        Ok(Self {
            opener: trial.opener,
            opened_at: time(trial.openedAt),
            version: trial.version,
            stage,
            seats: trial.seats.into(),
            device: DeviceId::new(trial.device),
            epoch: tradewind_proto::evidence::Epoch::new(trial.epoch),
            claim: money(trial.claim)?,
            bond: money(trial.bond)?,
            committed: trial.committed,
            committee: trial.committee,
            revealed: trial.revealed,
            vote_by: instant(decision.voteBy),
            convicted_at: instant(decision.convictedAt),
            appealed_at: instant(decision.appealedAt),
            bench_by: instant(decision.benchBy),
            heard: decision.heard,
            guilty: decision.guilty,
            clear: decision.clear,
            outcome,
            slash_due: decision.slashDue,
            decided_at: instant(decision.decidedAt),
            panel: numbers(&decision.panel),
            bench: numbers(&decision.bench),
        })
    }
}

/// Sixteen numbers of 16 bits a word, lowest first.
fn numbers(words: &[alloy::primitives::U256]) -> Vec<u32> {
    words
        .iter()
        .flat_map(|word| {
            let mut bytes = word.to_be_bytes::<32>();
            bytes.reverse();
            bytes
                .chunks_exact(2)
                .map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]])))
                .collect::<Vec<_>>()
        })
        .collect()
}
