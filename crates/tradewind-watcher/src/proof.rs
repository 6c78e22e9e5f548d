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

    /// The epoch's hardware challenge; true once it is done with, whatever it showed.
    pub(crate) async fn challenge(&self, record: &DeviceRecord, epoch: Epoch) -> Result<bool, WatcherError> {
        self.prove_due(record).await?;
        let Some(config) = self.config.challenge else { return Ok(true) };
        let (tribunal, device) = (self.tribunal()?, record.device);
        let Some(beacon) = tribunal.seed(self.setup.start_of(epoch)).await? else { return Ok(false) };
        let Some(signed) = self.roots(device, epoch).await else { return Ok(false) };
        if let Some(both) = self.second_list(record, &signed) {
            return self.prove_lists(record, epoch, both).await;
        }
        let challenge = Challenge { court: self.court, beacon, device, epoch };
        let claim = match Claim::accept(signed, &challenge, record.key, config.size, config.rounds) {
            Ok(claim) => claim,
            Err(error) => {
                tracing::info!(%device, %epoch, %error, "a challenge was not answered as asked");
                return Ok(true);
            }
        };
        match self.check(device, epoch, claim, &config).await {
            Some(wrong) => self.prove_wrong(record, epoch, wrong).await,
            None => Ok(true),
        }
    }

    async fn roots(&self, device: DeviceId, epoch: Epoch) -> Option<Sworn<ProductRoots>> {
        for _ in 0..TRIES {
            match self.ask(Question::Roots { device, epoch }, self.config.window).await? {
                Ok(Response::Roots(signed)) => return Some(signed),
                Ok(Response::Unanswered(why)) if why.is_transient() => {}
                Ok(_) | Err(_) => return None,
            }
            if !self.pause(self.config.tick).await {
                return None;
            }
        }
        None
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
    ) -> Option<WrongElement> {
        let secret = Secret::new(rand::random());
        let mut verifier = Verifier::new(claim, secret, Threads::available());
        for pick in verifier.picks(config.opened, config.rows) {
            let round = u32::try_from(pick.round).ok()?;
            let question = Question::Row { device, epoch, round, row: pick.row };
            let Some(Ok(Response::Row(opening))) = self.ask(question, self.config.window).await else {
                tracing::info!(%device, %epoch, "a device did not open a row");
                return None;
            };
            match verifier.check(pick, &opening) {
                Ok(Answer::Holds) => {}
                Ok(Answer::Wrong(wrong)) => return Some(*wrong),
                Err(error) => {
                    tracing::info!(%device, %epoch, %error, "a row was not opened");
                    return None;
                }
            }
        }
        None
    }

    async fn prove_wrong(
        &self,
        record: &DeviceRecord,
        epoch: Epoch,
        wrong: WrongElement,
    ) -> Result<bool, WatcherError> {
        tracing::info!(device = %record.device, %epoch, row = wrong.row, "an element is wrong; proving it");
        let (provider, key, wrong) = (record.provider.account(), record.key, Box::new(wrong));
        let proof = |reporting| CourtAction::ProveElement { wrong, provider, key, reporting };
        self.report(record.device, element_evidence(record.device, epoch), proof).await
    }

    async fn prove_lists(
        &self,
        record: &DeviceRecord,
        epoch: Epoch,
        both: Equivocation<ProductRoots>,
    ) -> Result<bool, WatcherError> {
        let (provider, key, both) = (record.provider.account(), record.key, Box::new(both));
        let proof = |reporting| CourtAction::ProveRoots { both, provider, key, reporting };
        self.report(record.device, roots_evidence(record.device, epoch), proof).await
    }
}
