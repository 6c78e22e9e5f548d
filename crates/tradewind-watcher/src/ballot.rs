//! Votes on their way: shown to the other watchers first, then submitted together with theirs, so that one transaction decides.
//!
//! Nobody has to believe anybody: what others show counts only with the drawn seat's signature, and where the court refuses what was
//! gathered, a node submits its own alone.

use tradewind_chain::ledger::LedgerError;
use tradewind_chain::ledger::court::{Ballot, CaseRecord, CourtAction, positions};
use tradewind_proto::bulletin::Cast;
use tradewind_proto::evidence::{Instance, Sworn, Vote};
use tradewind_proto::ids::CaseId;

use crate::watcher::{Inner, WatcherError};

impl Inner {
    /// Shows own ballots; once they are due, submits them with what others show.
    pub(crate) async fn vote(
        &self,
        id: CaseId,
        case: &CaseRecord,
        instance: Instance,
        own: Vec<Ballot>,
        is_due: bool,
    ) -> Result<(), WatcherError> {
        if !is_due {
            let cast = |it: &Ballot| {
                Cast::new(id, instance, it.position, it.finding, [it.transcript, it.salt], it.signature)
            };
            self.show(own.iter().map(cast).collect());
            return Ok(());
        }
        let others = self.gathered(id, case, instance, positions(&own)).await?;
        if !others.is_empty() {
            let count = others.len();
            let all = [own.clone(), others].concat();
            if self.act(ballot_box(id, instance, all)).await? {
                tracing::info!(case = %id, taken = count, "submitted others' ballots with the own ones");
                return Ok(());
            }
        }
        self.act(ballot_box(id, instance, own)).await?;
        Ok(())
    }

    /// Ballots of other drawn seats that are not in yet, each with its seat's signature.
    async fn gathered(
        &self,
        id: CaseId,
        case: &CaseRecord,
        instance: Instance,
        own: u64,
    ) -> Result<Vec<Ballot>, LedgerError> {
        let (drawn, mut taken) = match instance {
            Instance::Committee => (&case.panel, own | case.revealed | !case.committee),
            Instance::Appeal => (&case.bench, own | u64::from(case.heard)),
        };
        let mut ballots = Vec::new();
        for cast in self.shown(id) {
            let bit = 1u64.checked_shl(cast.position.into()).unwrap_or(0);
            let (Some(place), Some(finding)) = (drawn.get(usize::from(cast.position)), cast.finding()) else {
                continue;
            };
            if bit == 0 || taken & bit != 0 || cast.is_committees() != (instance == Instance::Committee) {
                continue;
            }
            let seat = self.tribunal()?.seat_at(case.epoch, *place).await?;
            let key = self.tribunal()?.seat(seat).await?.key;
            let body = Vote { case: id, instance, finding, transcript: cast.transcript };
            if (Sworn { body, signature: cast.signature }).verify(&self.court, key).is_err() {
                continue;
            }
            taken |= bit;
            let Cast { position, transcript, salt, signature, .. } = cast;
            ballots.push(Ballot { position, finding, transcript, salt, signature });
        }
        Ok(ballots)
    }
}

fn ballot_box(case: CaseId, instance: Instance, ballots: Vec<Ballot>) -> CourtAction {
    match instance {
        Instance::Committee => CourtAction::Vote { case, ballots },
        Instance::Appeal => CourtAction::VoteBench { case, ballots },
    }
}
