//! One device, watched: pings at times that nobody can know, the epoch's challenge, and a case when it falls silent at work.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use alloy_primitives::{B256, keccak256};
use tradewind_chain::ledger::court::{CaseStage, CourtAction, opening_commitment, salt};
use tradewind_chain::ledger::{DeviceRecord, LedgerError};
use tradewind_proto::evidence::{Epoch, sentinels};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::probe::Answer;
use tradewind_proto::testimony::{Sighting, Sign};
use tradewind_proto::units::{Money, Seconds};
use tradewind_proto::watching::Suspicion;

use crate::note::{SIGHTS, Sight};
use crate::proof::Trial;
use crate::walk::Walking;
use crate::watcher::{Inner, WatcherError};

/// Between two turns of sentinels who would open the same case.
const TURN: Duration = Duration::from_millis(1_500);

/// A seat of this node that is sentinel for a device.
struct Duty {
    epoch: Epoch,
    seat: u32,
    /// Which of the sentinels it is.
    turn: u32,
}

impl Inner {
    /// Watches a device while the watcher runs.
    pub(crate) async fn beat(self: Arc<Self>, device: DeviceId) {
        let (mut suspicion, mut challenged, mut measured) = (Suspicion::default(), None, None);
        while self.pause(self.next_question()).await {
            let beat = async {
                let Some(duty) = self.duty(device).await? else { return Ok(()) };
                let Some(record) = self.parts.ledger.device(device).await? else { return Ok(()) };
                self.question(&record, &duty, &mut suspicion).await?;
                if challenged != Some(duty.epoch) && self.try_device(&record, &duty).await? {
                    challenged = Some(duty.epoch);
                }
                if challenged == Some(duty.epoch)
                    && measured != Some(duty.epoch)
                    && self.try_memory(&record, &duty).await?
                {
                    measured = Some(duty.epoch);
                }
                Ok::<_, WatcherError>(())
            };
            if let Err(error) = beat.await {
                tracing::debug!(%device, %error, "a device could not be watched");
            }
        }
    }

    /// Between half and one and a half of the interval, drawn anew.
    fn next_question(&self) -> Duration {
        self.config.interval.mul_f64(0.5 + rand::random::<f64>())
    }

    /// A seat of this node that is drawn to watch the device in this epoch.
    async fn duty(&self, device: DeviceId) -> Result<Option<Duty>, LedgerError> {
        let tribunal = self.tribunal()?;
        let Some(epoch) = self.epoch() else { return Ok(None) };
        let roster = self.seats.roster(tribunal, epoch).await?;
        let Some(seed) = tribunal.seed(self.setup.start_of(epoch)).await? else { return Ok(None) };
        let drawn = sentinels(seed, self.court.case(device, epoch), roster.seats());
        for (turn, place) in (0..).zip(drawn) {
            let Some(seat) = roster.seat_at(place.get()) else { continue };
            if self.seats.own(tribunal, seat).await?.is_some() {
                return Ok(Some(Duty { epoch, seat, turn }));
            }
        }
        Ok(None)
    }

    async fn question(
        &self,
        record: &DeviceRecord,
        duty: &Duty,
        suspicion: &mut Suspicion,
    ) -> Result<(), WatcherError> {
        let Some((_, entry)) = self.ping(record.device, record.key, duty.seat).await else { return Ok(()) };
        if let Some(answer) = entry.answer {
            suspicion.heard();
            let Answer { unix_millis, sequence, signature, .. } = answer;
            let sign = Sign { nonce: entry.nonce, unix_millis, sequence, signature };
            self.testify(duty.seat, duty.epoch, record.device, |saw| saw.heard(sign)).await?;
            return self.note_sight(record.device, duty.epoch, true).await;
        }
        if !self.is_connected(record.device).await {
            return Ok(());
        }
        suspicion.missed();
        self.testify(duty.seat, duty.epoch, record.device, Sighting::silent).await?;
        self.note_sight(record.device, duty.epoch, false).await?;
        if suspicion.is_due(self.config.misses) && self.may_accuse(record) {
            self.accuse(record.device, duty).await?;
        }
        Ok(())
    }

    /// A device without a lease promised nobody anything, and one outage is one accusation.
    fn may_accuse(&self, record: &DeviceRecord) -> bool {
        let hearings = self.hearings.lock().unwrap_or_else(PoisonError::into_inner);
        let is_accused = hearings.values().any(|device| *device == record.device);
        record.busy_units != 0 && record.jailed_until <= self.now() && !is_accused
    }

    /// Puts the epoch's challenge to the device and writes down what became of it; true once it is done with.
    async fn try_device(&self, record: &DeviceRecord, duty: &Duty) -> Result<bool, WatcherError> {
        let Duty { epoch, seat, .. } = *duty;
        let trial = self.challenge(record, epoch, seat).await?;
        // The first half of the epoch is for computing.
        let half = self.setup.start_of(epoch).after(Seconds::new(self.setup.epoch.get() / 2));
        if let Some(passed) = trial.told().filter(|_| trial != Trial::Unready || self.now() >= half) {
            self.testify(seat, epoch, record.device, |saw| saw.challenge = Some(passed)).await?;
        }
        if trial == Trial::Refused {
            tracing::info!(device = %record.device, %epoch, "a device at work does not show its products");
            self.note_refusal(record.device, epoch).await?;
            if self.may_accuse(record) {
                self.accuse(record.device, duty).await?;
            }
        }
        Ok(trial.is_over())
    }

    /// Has the device's memory measured, and writes down what came of it; true once nothing more comes in this epoch.
    async fn try_memory(&self, record: &DeviceRecord, duty: &Duty) -> Result<bool, WatcherError> {
        let Duty { epoch, seat, .. } = *duty;
        let walking = self.measure(record, epoch, seat).await?;
        if let Walking::Measured(measured) = walking {
            self.testify(seat, epoch, record.device, |saw| saw.memory = Some(measured)).await?;
        }
        Ok(walking != Walking::Later)
    }

    pub(crate) async fn sight(&self, device: DeviceId, epoch: Epoch) -> Result<Sight, WatcherError> {
        Ok(self.parts.store.get(SIGHTS, &format!("{device}/{epoch}")).await?.unwrap_or_default())
    }

    pub(crate) async fn note_sight(
        &self,
        device: DeviceId,
        epoch: Epoch,
        answered: bool,
    ) -> Result<(), WatcherError> {
        let _alone = self.sights.lock().await;
        let mut sight = self.sight(device, epoch).await?;
        let count = if answered { &mut sight.answered } else { &mut sight.missed };
        *count = count.saturating_add(1);
        self.parts.store.put(SIGHTS, format!("{device}/{epoch}"), &sight).await?;
        Ok(())
    }

    pub(crate) async fn note_refusal(&self, device: DeviceId, epoch: Epoch) -> Result<(), WatcherError> {
        let _alone = self.sights.lock().await;
        let sight = Sight { refused: true, ..self.sight(device, epoch).await? };
        self.parts.store.put(SIGHTS, format!("{device}/{epoch}"), &sight).await?;
        Ok(())
    }

    /// Opens a case, unless another sentinel was first or too few seats could judge it.
    async fn accuse(&self, device: DeviceId, duty: &Duty) -> Result<(), WatcherError> {
        if !self.pause(TURN.saturating_mul(duty.turn)).await {
            return Ok(());
        }
        let (tribunal, epoch) = (self.tribunal()?, duty.epoch);
        let rules = tribunal.rules(None).await?;
        if self.seats.roster(tribunal, epoch).await?.seats() < u32::from(rules.jail_seats) {
            return Ok(());
        }
        // Somebody else's case about the same outage may have begun just before the epoch did.
        let before = Epoch::new(epoch.get().saturating_sub(1));
        for epoch in [epoch, before] {
            let stage = tribunal.case(self.court.case(device, epoch)).await?.stage;
            if stage != CaseStage::None {
                return Ok(());
            }
        }
        let account = self.parts.ledger.account();
        let salt = salt(self.secret(), device, epoch);
        tracing::info!(%device, %epoch, "a device at work does not answer for itself; opening a case");
        let commitment = opening_commitment(account, device, epoch, salt);
        if self.act(CourtAction::Announce { commitment }).await? {
            let (claim, cost) = (Money::ZERO, rules.opening_cost(Money::ZERO));
            let token = self.setup.fee_token;
            self.act(CourtAction::OpenCase { device, epoch, claim, salt, cost, token }).await?;
        }
        Ok(())
    }

    /// What only this node knows, for salts.
    pub(crate) fn secret(&self) -> B256 {
        let keys: Vec<u8> = self.seats.keys().flat_map(|key| key.secret_bytes()).collect();
        keccak256([b"tradewind/watcher".as_slice(), &keys].concat())
    }
}
