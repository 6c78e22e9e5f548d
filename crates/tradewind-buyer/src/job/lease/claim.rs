//! A lost provider's bond: the steps that [`tradewind_proto::claim`] says, taken on chain.

use std::time::Duration;

use alloy_primitives::{B256, keccak256};
use tokio::time::Instant;
use tradewind_chain::ledger::court::{self, CaseRecord, CourtAction, Outcome as Ruled, Tribunal};
use tradewind_chain::ledger::{Action as ChainAction, LeaseRecord, LedgerError};
use tradewind_proto::claim::{Case, Claim, Docket, Ruling, Seen, Standing, Step};
use tradewind_proto::evidence::Epoch;
use tradewind_proto::supervision::Supervision;
use tradewind_proto::units::{Money, Seconds};

use super::super::place::fund;
use super::super::record::Attempt;
use super::Lease;

/// The most epochs that are looked at in one look; a case about an earlier one was decided long ago.
const MAX_EPOCHS: u64 = 64;

/// When the court is asked next: a sixtieth of the time that it has.
pub(super) struct Pace {
    next: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { next: Instant::now() }
    }

    /// The time until the next look.
    pub(super) fn left(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }
}

impl Lease {
    /// One step of the claim that follows from a provider that fell silent. `true` when nothing will come of it any more.
    pub(super) async fn pursue(&self, record: &LeaseRecord, pace: &mut Pace) -> Result<bool, String> {
        let parts = &self.inner.parts;
        let Some(tribunal) = parts.ledger.tribunal() else { return Ok(true) };
        let attempt = self.attempt().await;
        if !attempt.supervision.is_lost() || attempt.claim.as_ref().is_some_and(Claim::is_over) {
            return Ok(true);
        }
        if pace.left() > Duration::ZERO {
            return Ok(false);
        }
        let hard_limit = self.inner.parameters.hard_limit;
        pace.next = Instant::now() + Duration::from_secs((hard_limit.get() / 60).clamp(1, 60));
        let sue_after = self.inner.config.sue;
        let fresh = || Claim::new(attempt.supervision.heard_at, sue_after);
        let claim = attempt.claim.clone().unwrap_or_else(fresh);
        let docket = self.docket(tribunal, &claim, &attempt.supervision).await;
        let docket = docket.map_err(|error| error.to_string())?;
        let seen = Seen {
            now: self.inner.now(),
            lease: standing(record),
            court: Some(&docket),
            bond_delay: self.inner.parameters.bond_delay,
            hard_limit,
        };
        let step = claim.next(&attempt.supervision.terms, &seen);
        let observed = |attempt: &mut Attempt| {
            let claim = attempt.claim.get_or_insert(claim);
            claim.observe(&seen);
            if let Step::Finish(ending) = step {
                claim.stage = tradewind_proto::claim::Stage::Over(ending);
            }
            if let Some(settled) = &mut attempt.settled {
                settled.compensated = settled.compensated.max(record.compensated);
            }
        };
        let attempt = self.update(observed).await?;
        self.take(step, &attempt, tribunal).await.map(|()| matches!(step, Step::Finish(_)))
    }

    async fn take(&self, step: Step, attempt: &Attempt, tribunal: &dyn Tribunal) -> Result<(), String> {
        let supervision = &attempt.supervision;
        let terms = supervision.terms.clone();
        match step {
            Step::Wait | Step::Finish(_) => Ok(()),
            Step::Dispute(claim) => {
                let evidence = last_heard(supervision);
                let bond = claim.fraction(self.inner.parameters.dispute_bps.into(), 10_000).unwrap_or(claim);
                fund(&self.inner, terms.token, bond, evidence).await?;
                self.submit(ChainAction::Dispute { terms, claim, evidence }).await
            }
            Step::Join(case) => {
                let terms = Box::new(terms);
                self.submit(ChainAction::Court(CourtAction::Join { case, terms })).await
            }
            Step::Sue(epoch) => self.sue(epoch, attempt, tribunal).await,
            Step::Resolve => self.submit(ChainAction::Resolve { terms }).await,
            Step::Release => self.submit(ChainAction::ReleaseBond { terms }).await,
        }
    }

    /// Opens the buyer's own case: announced a block before, so that nobody takes the reporter's share from it.
    async fn sue(&self, epoch: Epoch, attempt: &Attempt, tribunal: &dyn Tribunal) -> Result<(), String> {
        let told = |error: LedgerError| error.to_string();
        let ledger = &self.inner.parts.ledger;
        let (device, opener) = (attempt.supervision.terms.device, ledger.account());
        let chosen = |attempt: &mut Attempt| {
            if let Some(claim) = &mut attempt.claim {
                claim.sued.get_or_insert(epoch);
            }
        };
        self.update(chosen).await?;
        let seed = keccak256(self.inner.parts.key.sign(keccak256("the salt of cases")).as_bytes());
        let salt = court::salt(seed, device, epoch);
        let commitment = court::opening_commitment(opener, device, epoch, salt);
        let announce = ChainAction::Court(CourtAction::Announce { commitment });
        let key = announce.key(&self.inner.domain).map_err(|error| error.to_string())?;
        if !ledger.status(&key).await.map_err(told)?.is_some_and(|status| status.is_included()) {
            return self.submit(announce).await;
        }
        let (setup, rules) =
            (tribunal.setup().await.map_err(told)?, tribunal.rules(None).await.map_err(told)?);
        let claim = attempt.claim.as_ref().map_or(Money::ZERO, |claim| claim.amount);
        let (cost, token) = (rules.opening_cost(claim), setup.fee_token);
        fund(&self.inner, token, cost, commitment).await?;
        let open = CourtAction::OpenCase { device, epoch, claim, salt, cost, token };
        self.submit(ChainAction::Court(open)).await
    }

    /// What the court shows of the device since the provider was lost.
    async fn docket(
        &self,
        tribunal: &dyn Tribunal,
        claim: &Claim,
        lease: &Supervision,
    ) -> Result<Docket, LedgerError> {
        let (setup, rules) = (tribunal.setup().await?, tribunal.rules(None).await?);
        let now = self.inner.now();
        let current = setup.epoch_at(now).unwrap_or_default();
        let lost = setup.epoch_at(claim.lost_at).unwrap_or_default();
        let sits = tribunal.seats(current).await? >= rules.jail_seats.into();
        let joined = tribunal.joined(lease.id).await?.map(|joined| joined.case);
        let mut cases = Vec::new();
        if let Some(case) = joined {
            cases.extend(shown(case, &tribunal.case(case).await?, &setup));
        } else {
            let first = lost.get().max(current.get().saturating_sub(MAX_EPOCHS));
            for number in first..=current.get() {
                let case = tribunal.court().case(lease.terms.device, Epoch::new(number));
                cases.extend(shown(case, &tribunal.case(case).await?, &setup));
            }
        }
        Ok(Docket { sits, cases, joined, newest: (current, setup.start_of(current)) })
    }
}

fn shown(id: tradewind_proto::ids::CaseId, record: &CaseRecord, setup: &court::CourtSetup) -> Option<Case> {
    let from = setup.start_of(record.epoch);
    let ruling = match record.outcome {
        Ruled::Open => None,
        Ruled::Guilty => Some(Ruling::Guilty),
        Ruled::Clear => Some(Ruling::Clear),
        Ruled::Unknown => Some(Ruling::Unknown),
    };
    (record.stage != court::CaseStage::None).then(|| Case {
        id,
        from,
        until: from.after(setup.epoch),
        ruling,
    })
}

fn standing(record: &LeaseRecord) -> Standing {
    Standing {
        phase: record.state(Seconds::ZERO).phase,
        paid: record.paid,
        due_at: record.due_at,
        defaulted: record.flags.defaulted,
        compensated: record.compensated,
        disputed: record.flags.disputed,
        dispute_used: record.flags.dispute_used,
        disputed_at: record.disputed_at,
        claimed: record.claim,
    }
}

/// What the buyer saw last, and when: the court's seats look for themselves.
fn last_heard(lease: &Supervision) -> B256 {
    let revision = lease.report.as_ref().map_or(0, |report| report.revision);
    let heard = lease.heard_at.unix();
    keccak256([lease.id.get().as_slice(), &heard.to_be_bytes(), &revision.to_be_bytes()].concat())
}
