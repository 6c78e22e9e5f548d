//! The court as the ledger keeps it: its setup and rules, seats, cases, and what parties ask of it.
//!
//! ```text
//! None ─openCase─► Opened ─drawPanel─► Panel ─drawCommittee─► Voting ─8 guilty─► Convicted ─(appeal)─► Appealing
//!                    │                   │                      │ 8 clear           │ window passed      │ bench
//!                    └── too late ───────┴──── lapse ───────────┴─────────────► Decided ─closeCase─► Closed
//! ```
//!
//! Everything but joining a seat, opening a case and appealing may be done by anyone: a watcher that is late finds it done.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol_types::SolValue;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tradewind_proto::challenge::WrongElement;
use tradewind_proto::evidence::{Court, Epoch, Equivocation, Finding, Jury, ProductRoots, Statement, Vote};
use tradewind_proto::ids::{CaseId, DeviceId, LeaseId};
use tradewind_proto::reputation::Strike;
use tradewind_proto::signature::Signature;
use tradewind_proto::terms::{Domain, LeaseTerms, TermsError};
use tradewind_proto::units::{Money, Seconds, Timestamp};

pub use tradewind_proto::watching::{CaseStage, Outcome};

use crate::ledger::{LedgerError, Reference};

/// What never changes about a court.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CourtSetup {
    /// Where its lots come from.
    pub beacon: Address,
    /// What seats and devices stake.
    pub stake_token: Address,
    /// What bonds and watchers' fees are paid in.
    pub fee_token: Address,
    /// When epoch 0 began.
    pub genesis: Timestamp,
    /// An epoch's length.
    pub epoch: Seconds,
    /// Every seat's stake, in the stake token.
    pub seat_stake: Money,
    /// From leaving until a seat's stake may be withdrawn.
    pub seat_unbonding: Seconds,
}

impl CourtSetup {
    /// The epoch that `at` lies in; none before the court.
    #[must_use]
    pub const fn epoch_at(&self, at: Timestamp) -> Option<Epoch> {
        Epoch::of(at, self.genesis, self.epoch)
    }

    /// When an epoch begins.
    #[must_use]
    pub const fn start_of(&self, epoch: Epoch) -> Timestamp {
        self.genesis.after(Seconds::new(epoch.get().saturating_mul(self.epoch.get())))
    }
}

/// One version of what the court's owner may tune. Shares are basis points, amounts base units of the fee token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CourtRules {
    /// With fewer seats the court takes no case.
    pub jail_seats: u16,
    /// With fewer seats it jails and freezes, and never slashes.
    pub full_seats: u16,
    /// Seats drawn to watch.
    pub panel: u8,
    /// Seats of those that decide.
    pub committee: u8,
    /// How many of them have to agree.
    pub quorum: u8,
    /// Seats that hear an appeal.
    pub bench: u8,
    /// How many of them have to agree.
    pub bench_quorum: u8,
    /// A seat with this many strikes loses its place.
    pub strikes: u8,
    /// How many epochs after its own a case may be opened.
    pub admissible: u16,
    /// From the opening until the last commitment.
    pub commit_window: Seconds,
    /// From the committee's draw until its last vote; and how long the draw may be late.
    pub vote_window: Seconds,
    /// From a conviction until the last appeal.
    pub appeal_window: Seconds,
    /// From the bench's draw until its last vote; and how long that draw may be late.
    pub bench_window: Seconds,
    /// How long a convicted device's stake is held.
    pub freeze_span: Seconds,
    /// The breaker defers a slash no longer than this.
    pub defer_span: Seconds,
    /// Of a stake, for being down.
    pub down_bps: u16,
    /// For the first wrong element.
    pub element_first_bps: u16,
    /// For every further one.
    pub element_again_bps: u16,
    /// For two statements where there may be one.
    pub equivocation_bps: u16,
    /// A case's bond, of its claim.
    pub bond_bps: u16,
    /// The least bond.
    pub min_bond: Money,
    /// What a drawn seat's vote earns.
    pub transcript_fee: Money,
    /// How long the first, second, third and every further conviction jails.
    pub jail: [Seconds; 4],
}

impl CourtRules {
    /// The numbers that draws go by.
    #[must_use]
    pub fn jury(&self) -> Jury {
        Jury {
            predraw: self.panel.into(),
            committee: self.committee.into(),
            quorum: self.quorum.into(),
            appeal: self.bench.into(),
            appeal_quorum: self.bench_quorum.into(),
        }
    }

    /// What opening a case about `claim` costs in advance: the bond and the committee's fees; saturates.
    #[must_use]
    pub fn opening_cost(&self, claim: Money) -> Money {
        let share = claim.base_units().saturating_mul(self.bond_bps.into()).div_ceil(10_000);
        let bond = share.max(self.min_bond.base_units());
        let fees = self.transcript_fee.base_units().saturating_mul(self.committee.into());
        Money::new(bond.saturating_add(fees)).unwrap_or(Money::MAX)
    }
}

/// A watcher's seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatRecord {
    /// Who staked it.
    pub owner: Address,
    /// Whose signatures are its votes.
    pub key: Address,
    /// Zero once slashed or withdrawn.
    pub stake: Money,
    /// It has left, and may be withdrawn then.
    pub withdrawable_at: Option<Timestamp>,
    /// Withheld votes and lazy findings.
    pub strikes: u8,
}

/// A case as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseRecord {
    /// Who pays for it and gets the reporter's share.
    pub opener: Address,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The version of the rules that it keeps.
    pub version: u32,
    /// Where it stands.
    pub stage: CaseStage,
    /// Seats of its frozen roster.
    pub seats: u32,
    /// The accused.
    pub device: DeviceId,
    /// When it is said to have failed.
    pub epoch: Epoch,
    /// The most that the opener's own lease may claim.
    pub claim: Money,
    /// Back unless the device is cleared.
    pub bond: Money,
    /// Who committed, a bit for each of the panel's positions.
    pub committed: u64,
    /// Who decides, the same way.
    pub committee: u64,
    /// Whose vote is in, the same way.
    pub revealed: u64,
    /// The committee's last instant.
    pub vote_by: Option<Timestamp>,
    /// When the committee found it guilty.
    pub convicted_at: Option<Timestamp>,
    /// When it was appealed.
    pub appealed_at: Option<Timestamp>,
    /// The bench's last instant.
    pub bench_by: Option<Timestamp>,
    /// Whose vote on the bench is in, a bit for each position.
    pub heard: u32,
    /// The committee's votes for it.
    pub guilty: u8,
    /// And against.
    pub clear: u8,
    /// How it ended.
    pub outcome: Outcome,
    /// Guilty for good and not slashed yet.
    pub slash_due: bool,
    /// When it was decided.
    pub decided_at: Option<Timestamp>,
    /// The panel's places in the roster, by position; those beyond the panel's size mean nothing.
    pub panel: Vec<u32>,
    /// The bench's, the same way.
    pub bench: Vec<u32>,
}

/// A case that was opened, as its event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedCase {
    /// The case.
    pub case: CaseId,
    /// The accused.
    pub device: DeviceId,
    /// When it is said to have failed.
    pub epoch: Epoch,
    /// In which block.
    pub block: u64,
}

/// A device's guilt, for good: a case that ended so, or a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StrikeRecord {
    /// In which block.
    pub block: u64,
    /// The event: its transaction and place.
    pub event: (B256, u64),
    /// Whose.
    pub device: DeviceId,
    /// When it failed; a device that said two things, when that was proved.
    pub epoch: Epoch,
    /// What for.
    pub strike: Strike,
}

/// A lease that joined a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedLease {
    /// Which case.
    pub case: CaseId,
    /// What its bond pays if the device is guilty.
    pub award: Money,
}

/// A committee's or a bench's vote on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// In the panel or on the bench.
    pub position: u8,
    /// What was found.
    pub finding: Finding,
    /// Digest of what was seen.
    pub transcript: B256,
    /// Of the commitment; zero on a bench.
    pub salt: B256,
    /// By the seat's key.
    pub signature: Signature,
}

/// Who gets a proof's reward: it announced itself a block before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reporting {
    /// Who.
    pub reporter: Address,
    /// Makes the announcement say nothing to others.
    pub salt: B256,
}

impl Reporting {
    /// What to announce before `evidence` is shown.
    #[must_use]
    pub fn commitment(&self, evidence: B256) -> B256 {
        keccak256((self.reporter, evidence, self.salt).abi_encode_params())
    }
}

/// What a proof is about, as its announcement names it.
#[must_use]
pub fn element_evidence(device: DeviceId, epoch: Epoch) -> B256 {
    keccak256((device.get(), "element", epoch.get()).abi_encode_params())
}

/// The same for two lists of roots.
#[must_use]
pub fn roots_evidence(device: DeviceId, epoch: Epoch) -> B256 {
    keccak256((device.get(), "roots", epoch.get()).abi_encode_params())
}

/// The same for two statements.
#[must_use]
pub fn statements_evidence(statement: &Statement) -> B256 {
    keccak256((statement.device.get(), statement.topic, statement.sequence).abi_encode_params())
}

/// The same for two votes.
#[must_use]
pub fn votes_evidence(seat: u32, vote: &Vote) -> B256 {
    keccak256((seat, vote.case.get(), U256::from(vote.instance as u8)).abi_encode_params())
}

/// An intent that is about the court.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CourtAction {
    /// Stakes a seat of the account.
    JoinSeat {
        /// Whose signatures will be its votes.
        key: Address,
        /// The key's own consent: [`seat_consent`].
        consent: Signature,
        /// What a seat stakes, and
        stake: Money,
        /// in which token.
        token: Address,
    },
    /// Gives a seat up. By its owner.
    LeaveSeat {
        /// Which.
        seat: u32,
    },
    /// Returns the stake of a seat that has left. Anyone may.
    WithdrawSeat {
        /// Which.
        seat: u32,
    },
    /// Announces a report without saying which. Anyone may.
    Announce {
        /// See [`opening_commitment`] and [`Reporting::commitment`].
        commitment: B256,
    },
    /// Accuses a device of having been down; locks a bond. Announced before.
    OpenCase {
        /// The accused.
        device: DeviceId,
        /// When it failed.
        epoch: Epoch,
        /// The most that the account's own lease may claim.
        claim: Money,
        /// Of the announcement.
        salt: B256,
        /// [`CourtRules::opening_cost`], and
        cost: Money,
        /// in which token.
        token: Address,
    },
    /// Draws who watches. Anyone may.
    DrawPanel(CaseId),
    /// Commits a seat to its finding. Anyone may submit.
    Commit {
        /// Which case.
        case: CaseId,
        /// The seat's position in the panel.
        position: u8,
        /// What it commits to.
        commitment: B256,
        /// By the seat's key: [`commitment_digest`].
        signature: Signature,
    },
    /// Draws who decides. Anyone may.
    DrawCommittee(CaseId),
    /// Votes of drawn seats. Anyone may submit.
    Vote {
        /// Which case.
        case: CaseId,
        /// The votes.
        ballots: Vec<Ballot>,
    },
    /// Appeals a conviction; prepays the bench.
    Appeal {
        /// Which case.
        case: CaseId,
        /// What the bench costs, and
        cost: Money,
        /// in which token.
        token: Address,
    },
    /// Draws who hears the appeal. Anyone may.
    DrawBench(CaseId),
    /// Votes of the bench. Anyone may submit.
    VoteBench {
        /// Which case.
        case: CaseId,
        /// The votes.
        ballots: Vec<Ballot>,
    },
    /// Moves a case on whose time is over. Anyone may.
    Lapse {
        /// Which case.
        case: CaseId,
        /// The stage that ran out: makes it one lapse.
        stage: CaseStage,
    },
    /// Slashes whom a case found guilty for good. Anyone may.
    Execute(CaseId),
    /// Pays fees and bonds out. Anyone may.
    CloseCase(CaseId),
    /// Ties a disputed lease to a case. Anyone may.
    Join {
        /// Which case.
        case: CaseId,
        /// The lease.
        terms: Box<LeaseTerms>,
    },
    /// Counts paid leases' devices into an epoch's census. Anyone may.
    Count {
        /// Which epoch.
        epoch: Epoch,
        /// The lease.
        terms: Box<LeaseTerms>,
    },
    /// Proves a wrong element of a product.
    ProveElement {
        /// The proof.
        wrong: Box<WrongElement>,
        /// The device's provider.
        provider: Address,
        /// The device's key.
        key: Address,
        /// Who gets the reward; nobody without.
        reporting: Option<Reporting>,
    },
    /// Proves that a device signed two lists of roots.
    ProveRoots {
        /// Both.
        both: Box<Equivocation<ProductRoots>>,
        /// The device's provider.
        provider: Address,
        /// The device's key.
        key: Address,
        /// Who gets the reward; nobody without.
        reporting: Option<Reporting>,
    },
    /// Proves that a device said two things under one number.
    ProveStatements {
        /// Both.
        both: Box<Equivocation<Statement>>,
        /// The device's provider.
        provider: Address,
        /// The device's key.
        key: Address,
        /// Who gets the reward; nobody without.
        reporting: Option<Reporting>,
    },
    /// Proves that a seat voted twice.
    ProveVotes {
        /// The seat.
        seat: u32,
        /// Both.
        both: Box<Equivocation<Vote>>,
        /// Who gets the reward; nobody without.
        reporting: Option<Reporting>,
    },
}

impl CourtAction {
    /// The natural key.
    pub(super) fn key(&self, domain: &Domain) -> Result<String, TermsError> {
        Ok(match self {
            Self::JoinSeat { key, .. } => format!("join-seat:{key}"),
            Self::LeaveSeat { seat } => format!("leave-seat:{seat}"),
            Self::WithdrawSeat { seat } => format!("withdraw-seat:{seat}"),
            Self::Announce { commitment } => format!("announce:{commitment}"),
            Self::OpenCase { device, epoch, .. } => format!("open-case:{device}:{epoch}"),
            Self::DrawPanel(case) => format!("draw-panel:{case}"),
            Self::Commit { case, position, .. } => format!("commit:{case}:{position}"),
            Self::DrawCommittee(case) => format!("draw-committee:{case}"),
            Self::Vote { case, ballots } => format!("vote:{case}:{:x}", positions(ballots)),
            Self::Appeal { case, .. } => format!("appeal:{case}"),
            Self::DrawBench(case) => format!("draw-bench:{case}"),
            Self::VoteBench { case, ballots } => format!("vote-bench:{case}:{:x}", positions(ballots)),
            Self::Lapse { case, stage } => format!("lapse:{case}:{}", *stage as u8),
            Self::Execute(case) => format!("execute:{case}"),
            Self::CloseCase(case) => format!("close-case:{case}"),
            Self::Join { case, terms } => format!("join:{case}:{}", terms.id(domain)?),
            Self::Count { epoch, terms } => format!("count:{epoch}:{}", terms.device),
            Self::ProveElement { wrong, .. } => {
                let list = &wrong.signed.body;
                format!("prove-element:{}:{}", list.device(), list.epoch())
            }
            Self::ProveRoots { both, .. } => {
                let [list, _] = both.bodies();
                format!("prove-roots:{}:{}", list.body.device(), list.body.epoch())
            }
            Self::ProveStatements { both, .. } => {
                let [said, _] = both.bodies();
                format!("prove-statements:{}:{}:{}", said.body.device, said.body.topic, said.body.sequence)
            }
            Self::ProveVotes { seat, both, .. } => {
                let [vote, _] = both.bodies();
                format!("prove-votes:{seat}:{}:{}", vote.body.case, vote.body.instance as u8)
            }
        })
    }
}

/// The ballots' positions as a bit mask.
#[must_use]
pub fn positions(ballots: &[Ballot]) -> u64 {
    ballots.iter().fold(0, |mask, ballot| mask | 1u64.checked_shl(ballot.position.into()).unwrap_or(0))
}

mod typed {
    alloy::sol! {
        struct JoinSeat { address owner; address key; }
        struct Commitment { bytes32 caseId; bytes32 commitment; }
    }
}

/// What a seat's key signs so that `owner` may stake a seat with it.
#[must_use]
pub fn seat_consent(court: &Court, owner: Address, key: Address) -> B256 {
    use alloy::sol_types::SolStruct;
    typed::JoinSeat { owner, key }.eip712_signing_hash(&court.eip712())
}

/// What a seat's key signs to commit.
#[must_use]
pub fn commitment_digest(court: &Court, case: CaseId, commitment: B256) -> B256 {
    use alloy::sol_types::SolStruct;
    typed::Commitment { caseId: case.get(), commitment }.eip712_signing_hash(&court.eip712())
}

/// What to announce before a case is opened.
#[must_use]
pub fn opening_commitment(opener: Address, device: DeviceId, epoch: Epoch, salt: B256) -> B256 {
    keccak256((opener, device.get(), epoch.get(), salt).abi_encode_params())
}

/// A salt that only this account's seed can tell, the same whenever it is asked for.
#[must_use]
pub fn salt(seed: B256, device: DeviceId, epoch: Epoch) -> B256 {
    keccak256((seed, device.get(), epoch.get()).abi_encode_params())
}

/// Reads of the court. An error says nothing about the state.
#[async_trait]
pub trait Tribunal: Send + Sync {
    /// Where sworn bodies count.
    fn court(&self) -> Court;

    /// What never changes.
    async fn setup(&self) -> Result<CourtSetup, LedgerError>;

    /// The rules of `version`, or of a case opened now.
    async fn rules(&self, version: Option<u32>) -> Result<CourtRules, LedgerError>;

    /// The seed of the first beacon round from `at` on; `None` while, or for ever if, it is unknown.
    async fn seed(&self, at: Timestamp) -> Result<Option<B256>, LedgerError>;

    /// How many seats an epoch's roster has.
    async fn seats(&self, epoch: Epoch) -> Result<u32, LedgerError>;

    /// Which seat is at a place of an epoch's roster.
    async fn seat_at(&self, epoch: Epoch, place: u32) -> Result<u32, LedgerError>;

    /// A seat; its owner is zero where there is none.
    async fn seat(&self, seat: u32) -> Result<SeatRecord, LedgerError>;

    /// The seat whose votes `key` signs.
    async fn seat_of(&self, key: Address) -> Result<Option<u32>, LedgerError>;

    /// A case; its stage is [`CaseStage::None`] where there is none.
    async fn case(&self, case: CaseId) -> Result<CaseRecord, LedgerError>;

    /// The cases that were opened in or after `block`, oldest first.
    async fn cases_since(&self, block: u64) -> Result<Vec<OpenedCase>, LedgerError>;

    /// The case that a lease joined.
    async fn joined(&self, lease: LeaseId) -> Result<Option<JoinedLease>, LedgerError>;

    /// Whether slashes of an epoch are deferred.
    async fn tripped(&self, epoch: Epoch) -> Result<bool, LedgerError>;

    /// Devices found guilty in or after `block`, oldest first.
    async fn strikes_since(&self, block: u64) -> Result<Vec<StrikeRecord>, LedgerError>;

    /// The terms of a lease, from the transaction that opened it; `None` where that does not hold them.
    async fn terms_of(&self, lease: LeaseId, opened: B256) -> Result<Option<LeaseTerms>, LedgerError>;

    /// The devices that the registry took in or after `block`, oldest first.
    async fn devices_since(&self, block: u64) -> Result<Vec<DeviceId>, LedgerError>;
}

/// The nonce of an action of the court that an account signs a payment for: the account does each once.
pub(crate) fn reference(
    action: &CourtAction,
    account: Address,
    domain: &Domain,
) -> Result<Reference, TermsError> {
    let key = action.key(domain)?;
    Ok(Reference(keccak256([b"court".as_slice(), account.as_slice(), key.as_bytes()].concat())))
}
