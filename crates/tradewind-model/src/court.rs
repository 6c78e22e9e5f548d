//! The court, after PROTOCOL's section 4: who sits, who is judged, what that costs whom.
//!
//! ```text
//! announce ─► open ─► panel ─► committee ─► Convicted ─► (bench) ─► Decided ─► Closed
//!                       └───────────┴──► nobody answers: Unknown ──────┘
//! announce ─► proof ─► slashed at once
//! ```
//!
//! Its coins lie in pots of their own, all of which are the court's balance in the vault. Draws are those of
//! `tradewind-proto`, which the vectors that it shares with the contracts hold; what moves money is written here again.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, keccak256};
use alloy::sol_types::SolValue as _;
use tradewind_chain::client::bindings::abi as leases_abi;
use tradewind_proto::evidence::Epoch;
use tradewind_proto::ids::{CaseId, DeviceId};

use crate::book::Pot;
use crate::call::{Call, n40, n96};
use crate::reference::Reference;
use crate::refusal::{Refusal, refuse, require};
use crate::statement::Auth;

pub(crate) mod abi;
pub(crate) mod beacon;
pub(crate) mod cases;
pub(crate) mod proofs;
pub(crate) mod seats;
pub(crate) mod verdicts;

use abi::CourtParameters;
use beacon::Beacon;
use cases::Case;
use seats::Seat;
use verdicts::Counted;

const WHOLE: u16 = 10_000;
const MOST_PANEL: u8 = 48;
const MOST_BENCH: u8 = 32;

/// A version of the court's parameters, and from when on it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CourtVersion {
    pub(crate) parameters: CourtParameters,
    pub(crate) usable_at: u64,
}

/// A lease that joined a case, and what its bond pays if the device is guilty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) case: B256,
    pub(crate) award: u128,
    /// The part of it that a pair which fails again does not get.
    pub(crate) bonus: u128,
}

/// What a device's cases hold against it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Convictions {
    /// Those that were not overturned.
    pub(crate) count: usize,
    /// Those of them that are not final yet.
    pub(crate) pending: u32,
    /// Until when the final ones hold its stake.
    pub(crate) frozen_until: u64,
}

/// All that the court remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Docket {
    pub(crate) versions: Vec<CourtVersion>,
    pub(crate) beacon: Beacon,
    /// By number, from 1.
    pub(crate) seats: BTreeMap<u32, Seat>,
    /// Who sits, from an epoch on.
    pub(crate) rosters: BTreeMap<u64, Vec<u32>>,
    /// The block of an announcement, until it is redeemed.
    pub(crate) announced: BTreeMap<B256, Option<u64>>,
    pub(crate) proved: BTreeSet<B256>,
    /// Those that something can still happen to.
    pub(crate) cases: BTreeMap<B256, Case>,
    pub(crate) joined: BTreeMap<B256, Joined>,
    /// By device.
    pub(crate) convictions: BTreeMap<B256, Convictions>,
    pub(crate) guilty: BTreeSet<(B256, u64)>,
    pub(crate) clear: BTreeSet<(B256, u64)>,
    /// Devices in an epoch's census.
    pub(crate) counted: BTreeMap<(u64, B256), Counted>,
    pub(crate) down: BTreeSet<(u64, B256)>,
}

impl Reference {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller sends only what belongs here")]
    pub(crate) fn at_court(&mut self, sender: Address, call: &Call) -> Result<(), Refusal> {
        match call {
            Call::Advance { round } => self.advance(*round),
            Call::Announce { commitment } => {
                let known = self.state.court.announced.contains_key(commitment);
                require(!known, "AlreadyAnnounced", &[commitment])?;
                self.state.court.announced.insert(*commitment, Some(self.state.block));
                Ok(())
            }
            Call::AddCourtVersion { parameters } => {
                self.owner_only(sender)?;
                self.add_court_version(parameters)
            }
            Call::JoinSeat { owner, key, key_signed, auth } => {
                self.join_seat(sender, *owner, *key, key_signed, auth)
            }
            Call::LeaveSeat { seat, auth } => self.leave_seat(sender, *seat, auth),
            Call::WithdrawSeat { seat } => self.withdraw_seat(*seat),
            Call::OpenCase { .. }
            | Call::DrawPanel { .. }
            | Call::CommitFinding { .. }
            | Call::DrawCommittee { .. }
            | Call::Vote { .. }
            | Call::Appeal { .. }
            | Call::DrawBench { .. }
            | Call::VoteBench { .. }
            | Call::Lapse { .. } => self.at_cases(sender, call),
            Call::Execute { case } => self.execute(*case),
            Call::CloseCase { case } => self.close_case(*case),
            Call::JoinCase { case, terms } => self.join_case(*case, terms),
            Call::Count { epoch, leases } => self.count(*epoch, leases),
            Call::ProveElement { proof, report } => self.prove_element(proof, report),
            Call::ProveRoots { device, epoch, one, other, report } => {
                self.prove_roots(*device, *epoch, one, other, report)
            }
            Call::ProveStatements { device, one, other, report } => {
                self.prove_statements(*device, one, other, report)
            }
            Call::ProveVotes { seat, one, other, report } => self.prove_votes(*seat, one, other, report),
            other => unreachable!("{} is not the court's", other.name()),
        }
    }

    // --- time -------------------------------------------------------------------------------------------------

    pub(crate) fn epoch(&self) -> u64 {
        let setup = &self.setting.bench;
        (self.state.now - setup.genesis) / setup.epoch_span
    }

    pub(crate) fn epoch_start(&self, epoch: u64) -> Result<u64, Refusal> {
        let setup = &self.setting.bench;
        let start = u128::from(setup.genesis) + u128::from(epoch) * u128::from(setup.epoch_span);
        match u64::try_from(start) {
            Ok(start) if start < 1 << 40 => Ok(start),
            _ => refuse("EpochUnknown", &[&epoch]),
        }
    }

    pub(crate) fn case_id(&self, device: B256, epoch: u64) -> B256 {
        let court = self.setting.bench.court();
        court.case(DeviceId::new(device), Epoch::new(epoch)).get()
    }

    // --- parameters -------------------------------------------------------------------------------------------

    /// The newest version that counts already, by its number.
    pub(crate) fn usable_version(&self) -> (u32, &CourtParameters) {
        let usable = |version: &&CourtVersion| self.state.now >= version.usable_at;
        let at = self.state.court.versions.iter().filter(usable).count();
        let number = u32::try_from(at).expect("few versions");
        (number, &self.state.court.versions[at - 1].parameters)
    }

    fn add_court_version(&mut self, parameters: &CourtParameters) -> Result<(), Refusal> {
        let now = self.state.now;
        let latest = u32::try_from(self.state.court.versions.len()).expect("few versions");
        let waits_until = self.state.court.versions.last().map_or(0, |version| version.usable_at);
        require(now >= waits_until, "VersionPending", &[&latest, &waits_until])?;
        require(is_sound(parameters), "InvalidCourtParameters", &[])?;
        let usable_at = now + self.setting.bench.version_delay;
        self.state.court.versions.push(CourtVersion { parameters: parameters.clone(), usable_at });
        Ok(())
    }

    // --- reports ----------------------------------------------------------------------------------------------

    /// An announcement counts once, from the next block on.
    pub(crate) fn redeem(&mut self, commitment: B256) -> Result<(), Refusal> {
        let block = self.state.block;
        match self.state.court.announced.get_mut(&commitment) {
            Some(made @ Some(_)) if made.is_some_and(|made| made < block) => {
                *made = None;
                Ok(())
            }
            _ => refuse("NotAnnounced", &[&commitment]),
        }
    }

    // --- money ------------------------------------------------------------------------------------------------

    /// Takes coins of an account's balance, as far as it allowed the court so much, or signed for just this.
    pub(crate) fn collect(
        &mut self,
        sender: Address,
        (token, account, amount): (Address, Address, u128),
        action: B256,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        let court = self.setting.court;
        if sender == account && !auth.signed.given() {
            return self.take_from(court, token, account, amount);
        }
        let fee = leases_abi::FeeAuthorization {
            payer: account,
            relayer: court,
            token,
            amount: n96(amount),
            calls: keccak256((court, action).abi_encode_params()),
            nonce: auth.nonce,
            deadline: n40(auth.deadline),
        };
        self.pay_fee(&fee, &auth.signed)
    }

    /// The rest of a part of a stake that was taken: a tenth is the reporter's, if there is one.
    pub(crate) fn punish(&mut self, pot: Pot, amount: u128, reporter: Address) -> (u128, u128) {
        let token = self.setting.stake_token;
        let reward = if reporter == Address::ZERO { 0 } else { amount / 10 };
        self.pay(token, pot, Pot::Balance(reporter), reward);
        self.pay(token, pot, Pot::Sink, amount - reward);
        (reward, amount - reward)
    }
}

/// A case by its id, as `tradewind-proto` names it.
pub(crate) const fn case_of(id: B256) -> CaseId {
    CaseId::new(id)
}

fn is_sound(p: &CourtParameters) -> bool {
    let juries = p.committee != 0
        && p.quorum <= p.committee
        && u16::from(p.quorum) * 2 > u16::from(p.committee)
        && (p.committee..=MOST_PANEL).contains(&p.panel)
        && p.bench <= MOST_BENCH
        && p.benchQuorum <= p.bench
        && u16::from(p.benchQuorum) * 2 > u16::from(p.bench);
    let levels = p.jailSeats >= u16::from(p.committee)
        && p.fullSeats >= u16::from(p.committee) + u16::from(p.bench)
        && p.fullSeats >= p.jailSeats;
    let windows = [p.commitWindow, p.voteWindow, p.appealWindow, p.benchWindow];
    let appeal = [p.appealWindow, p.benchWindow, p.benchWindow, p.deferSpan].map(u64::from).iter().sum();
    let spans = !windows.contains(&0) && u64::from(p.freezeSpan) >= appeal;
    let shares = [p.downBps, p.elementFirstBps, p.elementAgainBps, p.equivocationBps, p.bondBps];
    juries && levels && spans && p.strikes != 0 && shares.iter().all(|share| *share <= WHOLE)
}
