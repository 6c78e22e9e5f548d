//! What needs no vote: a device that contradicts itself, and an element of a product that is wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use alloy_primitives::B256;
use tradewind_chain::ledger::DeviceRecord;
use tradewind_chain::ledger::court::{
    CourtAction, Reporting, element_evidence, roots_evidence, salt, statements_evidence,
};
use tradewind_challenge::{Answer, Secret, Threads, Verifier};
use tradewind_proto::challenge::{Challenge, Claim, WrongElement};
use tradewind_proto::evidence::{Epoch, Equivocation, ProductRoots, Statement, Sworn, Witness};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::probe::{Entry, Question, Response, Watch};

use crate::watcher::{ChallengeConfig, Inner, WatcherError};

/// Statements of a device that are remembered.
const ROOM: usize = 256;
/// How many times a list or a row is asked for while the device computes.
const TRIES: u32 = 20;

/// What became of an epoch's hardware challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trial {
    /// Nothing is asked, or nobody could tell.
    Unknown,
    /// The device is not ready, it says.
    Unready,
    /// Every row that was picked holds.
    Passed,
    /// It is there and does not show what it has to: a committee's matter.
    Refused,
    /// A proof against it is on chain.
    Proved,
    /// A proof against it waits for the chain.
    Unproved,
}

impl Trial {
    /// What a seat says of it.
    pub(crate) const fn told(self) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Passed => Some(true),
            Self::Unready | Self::Refused | Self::Proved | Self::Unproved => Some(false),
        }
    }

    /// Whether there is nothing left to do in this epoch.
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::Passed | Self::Refused | Self::Proved)
    }
}

/// A list of roots, or why there is none.
enum Listed {
    Signed(Sworn<ProductRoots>),
    Not(Trial),
}

/// What devices said, and what that proves.
#[derive(Default)]
pub(crate) struct Witnesses {
    statements: Mutex<HashMap<DeviceId, Witness<Statement>>>,
    lists: Mutex<HashMap<DeviceId, Witness<ProductRoots>>>,
    due: Mutex<BTreeMap<DeviceId, Equivocation<Statement>>>,
    proved: Mutex<BTreeSet<B256>>,
}

impl Inner {
    /// Remembers what a device said; a contradiction is proved at the next [`Inner::prove_due`].
    pub(crate) fn witness(&self, watch: &Watch, entry: &Entry) {
        let Some(sworn) = entry.statement(watch) else { return };
        let mut statements = self.witnesses.statements.lock().unwrap_or_else(PoisonError::into_inner);
        let witness =
            statements.entry(watch.device).or_insert_with(|| Witness::new(self.court, watch.key, ROOM));
        if let Ok(Some(both)) = witness.hear(sworn) {
            tracing::info!(device = %watch.device, "a device contradicts itself");
            self.witnesses.due.lock().unwrap_or_else(PoisonError::into_inner).insert(watch.device, both);
        }
    }

    fn is_proved(&self, evidence: B256) -> bool {
        self.witnesses.proved.lock().unwrap_or_else(PoisonError::into_inner).contains(&evidence)
    }

    /// Announces a report and, a block later, shows it: whoever copies it on its way gets nothing. True once it is on chain.
    async fn report(
        &self,
        device: DeviceId,
        evidence: B256,
        proof: impl FnOnce(Option<Reporting>) -> CourtAction,
    ) -> Result<bool, WatcherError> {
        // One salt for each piece of evidence.
        let salt = salt(self.secret() ^ evidence, device, Epoch::default());
        let reporting = Reporting { reporter: self.parts.ledger.account(), salt };
        let announcement = CourtAction::Announce { commitment: reporting.commitment(evidence) };
        let is_done = self.act(announcement).await? && self.act(proof(Some(reporting))).await?;
        if is_done {
            self.witnesses.proved.lock().unwrap_or_else(PoisonError::into_inner).insert(evidence);
        }
        Ok(is_done)
    }

    /// Proves what the device said twice; it stays due until that is on chain.
    async fn prove_due(&self, record: &DeviceRecord) -> Result<(), WatcherError> {
        let device = record.device;
        let due = self.witnesses.due.lock().unwrap_or_else(PoisonError::into_inner).get(&device).cloned();
        let Some(both) = due else { return Ok(()) };
        let evidence = statements_evidence(&both.bodies()[0].body);
        let (provider, key, both) = (record.provider.account(), record.key, Box::new(both));
        let proof = |reporting| CourtAction::ProveStatements { both, provider, key, reporting };
        if self.is_proved(evidence) || self.report(device, evidence, proof).await? {
            self.witnesses.due.lock().unwrap_or_else(PoisonError::into_inner).remove(&device);
        }
        Ok(())
    }

    /// The epoch's hardware challenge.
    pub(crate) async fn challenge(
        &self,
        record: &DeviceRecord,
        epoch: Epoch,
        seat: u32,
    ) -> Result<Trial, WatcherError> {
        self.prove_due(record).await?;
        let Some(config) = self.config.challenge else { return Ok(Trial::Unknown) };
        let (tribunal, device) = (self.tribunal()?, record.device);
        let Some(beacon) = tribunal.seed(self.setup.start_of(epoch)).await? else {
            return Ok(Trial::Unknown);
        };
        let signed = match self.roots(device, epoch).await {
            Listed::Signed(signed) => signed,
            Listed::Not(trial) => return Ok(trial),
        };
        if let Some(both) = self.second_list(record, &signed) {
            return self.prove_lists(record, epoch, both).await;
        }
        let challenge = Challenge { court: self.court, beacon, device, epoch };
        let claim = match Claim::accept(signed, &challenge, record.key, config.size, config.rounds) {
            Ok(claim) => claim,
            Err(error) => {
                tracing::info!(%device, %epoch, %error, "a challenge was not answered as asked");
                return Ok(Trial::Refused);
            }
        };
        match self.check(device, epoch, claim, &config).await {
            Ok(()) => Ok(Trial::Passed),
            Err(Some(wrong)) => self.prove_wrong(record, epoch, *wrong).await,
            Err(None) => Ok(self.refused(record, seat).await),
        }
    }

    async fn roots(&self, device: DeviceId, epoch: Epoch) -> Listed {
        for _ in 0..TRIES {
            match self.ask(Question::Roots { device, epoch }, self.config.window).await {
                Some(Ok(Response::Roots(signed))) => return Listed::Signed(signed),
                Some(Ok(Response::Unanswered(why))) if why.is_transient() => {}
                Some(Ok(_) | Err(_)) | None => return Listed::Not(Trial::Unknown),
            }
            if !self.pause(self.config.tick).await {
                return Listed::Not(Trial::Unknown);
            }
        }
        Listed::Not(Trial::Unready)
    }

    /// A device that does not open a row and answers a ping refuses; one that is silent may be cut off.
    async fn refused(&self, record: &DeviceRecord, seat: u32) -> Trial {
        match self.ping(record.device, record.key, seat).await {
            Some((_, entry)) if entry.answer.is_some() => Trial::Refused,
            Some(_) | None => Trial::Unknown,
        }
    }

    fn second_list(
        &self,
        record: &DeviceRecord,
        signed: &Sworn<ProductRoots>,
    ) -> Option<Equivocation<ProductRoots>> {
        let mut lists = self.witnesses.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let witness =
            lists.entry(record.device).or_insert_with(|| Witness::new(self.court, record.key, ROOM));
        witness.hear(signed.clone()).ok().flatten()
    }

    /// Opens rows that the device could not foresee.
    async fn check(
        &self,
        device: DeviceId,
        epoch: Epoch,
        claim: Claim,
        config: &ChallengeConfig,
    ) -> Result<(), Option<Box<WrongElement>>> {
        let secret = Secret::new(rand::random());
        let mut verifier = Verifier::new(claim, secret, Threads::available());
        for pick in verifier.picks(config.opened, config.rows) {
            let round = u32::try_from(pick.round).map_err(|_| None)?;
            let question = Question::Row { device, epoch, round, row: pick.row };
            let Some(Ok(Response::Row(opening))) = self.ask(question, self.config.window).await else {
                tracing::info!(%device, %epoch, "a device did not open a row");
                return Err(None);
            };
            match verifier.check(pick, &opening) {
                Ok(Answer::Holds) => {}
                Ok(Answer::Wrong(wrong)) => return Err(Some(wrong)),
                Err(error) => {
                    tracing::info!(%device, %epoch, %error, "a row was not opened");
                    return Err(None);
                }
            }
        }
        Ok(())
    }

    async fn prove_wrong(
        &self,
        record: &DeviceRecord,
        epoch: Epoch,
        wrong: WrongElement,
    ) -> Result<Trial, WatcherError> {
        tracing::info!(device = %record.device, %epoch, row = wrong.row, "an element is wrong; proving it");
        let (provider, key, wrong) = (record.provider.account(), record.key, Box::new(wrong));
        let proof = |reporting| CourtAction::ProveElement { wrong, provider, key, reporting };
        let is_proved = self.report(record.device, element_evidence(record.device, epoch), proof).await?;
        Ok(if is_proved { Trial::Proved } else { Trial::Unproved })
    }

    async fn prove_lists(
        &self,
        record: &DeviceRecord,
        epoch: Epoch,
        both: Equivocation<ProductRoots>,
    ) -> Result<Trial, WatcherError> {
        let (provider, key, both) = (record.provider.account(), record.key, Box::new(both));
        let proof = |reporting| CourtAction::ProveRoots { both, provider, key, reporting };
        let is_proved = self.report(record.device, roots_evidence(record.device, epoch), proof).await?;
        Ok(if is_proved { Trial::Proved } else { Trial::Unproved })
    }
}
