//! One case, from its opening to its close: own seats probe, store what they found, commit and vote; what anyone may do is done.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use tradewind_chain::ledger::court::{Ballot, CaseRecord, CaseStage, CourtAction, commitment_digest};
use tradewind_chain::ledger::{DeviceRecord, LedgerError};
use tradewind_proto::evidence::{Finding, Instance, Seat, Sworn, Vote, commitment};
use tradewind_proto::ids::CaseId;
use tradewind_proto::probe::Transcript;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::{Seconds, Timestamp};
use tradewind_proto::watching::{Docket, Step, Windows, judge};

use crate::note::{NOTES, Note, key, salt};
use crate::proof::Trial;
use crate::watcher::{Inner, WatcherError};

/// What is left of the commit window when a seat stops asking.
const MARGIN: Seconds = Seconds::new(3);

/// An own seat that is drawn.
struct Place<'a> {
    position: u8,
    /// In the roster.
    place: u32,
    seat: u32,
    key: &'a SigningKey,
}

impl Inner {
    /// Hears a case until it is closed.
    pub(crate) async fn hear(self: Arc<Self>, id: CaseId) {
        let mut probing = false;
        while self.pause(self.config.tick).await {
            match self.look(id, &mut probing).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => tracing::debug!(case = %id, %error, "a case waits"),
            }
        }
        self.withdraw(id);
        self.hearings.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// One look; true once the case is over.
    async fn look(self: &Arc<Self>, id: CaseId, probing: &mut bool) -> Result<bool, WatcherError> {
        let tribunal = self.tribunal()?;
        let case = tribunal.case(id).await?;
        if case.stage == CaseStage::Closed && !case.slash_due {
            return Ok(true);
        }
        let rules = tribunal.rules(Some(case.version)).await?;
        let panel = self.own(&case, &case.panel, rules.panel, CaseStage::Panel).await?;
        let bench = if case.bench_by.is_some() {
            self.own(&case, &case.bench, rules.bench, CaseStage::Appealing).await?
        } else {
            Vec::new()
        };
        let commit_by = case.opened_at.after(rules.commit_window);
        if !*probing && case.stage == CaseStage::Panel && self.now() <= commit_by {
            *probing = true;
            for place in &panel {
                let (inner, case) = (self.clone(), case.clone());
                let (position, seat, key) = (place.position, place.seat, place.key.clone());
                self.tasks.spawn(async move {
                    if let Err(error) = inner.probe(id, &case, position, seat, &key, commit_by).await {
                        tracing::warn!(case = %id, %error, "a seat has no finding");
                    }
                });
            }
        }
        let mut found = BTreeSet::new();
        for place in &panel {
            if self.note(id, place.position).await?.is_some() {
                found.insert(place.position);
            }
        }
        let windows = Windows {
            commit: rules.commit_window,
            vote: rules.vote_window,
            appeal: rules.appeal_window,
            bench: rules.bench_window,
            committee: rules.committee.into(),
        };
        let docket = docket(&case, &panel, &bench);
        for step in docket.steps(self.now(), &windows, self.patience(&case), &found) {
            self.take(id, &case, step, &panel, &bench).await?;
        }
        Ok(false)
    }

    /// The opener does what anyone may do at once, the others in turns.
    fn patience(&self, case: &CaseRecord) -> Seconds {
        let account = self.parts.ledger.account();
        if case.opener == account {
            return Seconds::ZERO;
        }
        let turn = account.as_slice().last().copied().unwrap_or_default() % 4;
        Seconds::new(2 + u64::from(turn))
    }

    /// Own seats among those drawn.
    async fn own<'a>(
        &'a self,
        case: &CaseRecord,
        drawn: &[u32],
        most: u8,
        from: CaseStage,
    ) -> Result<Vec<Place<'a>>, LedgerError> {
        let mut own = Vec::new();
        if case.stage < from {
            return Ok(own);
        }
        let tribunal = self.tribunal()?;
        let roster = self.seats.roster(tribunal, case.epoch).await?;
        let count = usize::from(most).min(roster.seats() as usize);
        for (position, place) in (0u8..).zip(drawn.iter().take(count)) {
            let Some(seat) = roster.seat_at(*place) else { continue };
            if let Some(key) = self.seats.own(tribunal, seat).await? {
                own.push(Place { position, place: *place, seat, key });
            }
        }
        Ok(own)
    }

    async fn note(&self, id: CaseId, position: u8) -> Result<Option<Note>, WatcherError> {
        Ok(self.parts.store.get(NOTES, &key(id, position)).await?)
    }

    /// Asks at random moments of the window, and stores what that shows. An answer settles it; silence needs the whole number of
    /// questions, and a watcher that reaches somebody.
    async fn probe(
        &self,
        id: CaseId,
        case: &CaseRecord,
        position: u8,
        seat: u32,
        own: &SigningKey,
        commit_by: Timestamp,
    ) -> Result<(), WatcherError> {
        if self.note(id, position).await?.is_some() {
            return Ok(());
        }
        let Some(record) = self.parts.ledger.device(case.device).await? else { return Ok(()) };
        let (mut transcript, mut written) = (Transcript::new(id), Vec::new());
        let mut seen = Finding::Unknown;
        let least = usize::try_from(self.config.misses).unwrap_or(usize::MAX);
        while seen == Finding::Unknown && self.now().after(MARGIN) < commit_by {
            let left = commit_by.unix().saturating_sub(self.now().unix()).saturating_sub(MARGIN.get());
            let spread = Duration::from_secs(left).div_f64(f64::from(self.config.misses + 1));
            if !self.pause(spread.min(self.config.interval).mul_f64(rand::random())).await {
                return Ok(());
            }
            let Some((watch, entry)) = self.ping(case.device, record.key, seat).await else { continue };
            let Ok(bytes) = transcript.push(entry) else { break };
            written.extend(bytes);
            seen = transcript.finding(&watch, least);
        }
        let promised = self.promised(case, &record);
        let mut finding = judge(seen, promised, self.is_connected(case.device).await);
        if finding == Finding::Clear && promised && self.refuses(case, &record, seat, commit_by).await {
            finding = Finding::Guilty;
        }
        let note = Note { finding, digest: transcript.digest(), salt: salt(own, id), transcript: written };
        tracing::info!(case = %id, seat, ?finding, asked = transcript.entries().len(), "a seat made its finding");
        self.parts.store.put(NOTES, key(id, position), &note).await?;
        if finding == Finding::Unknown {
            return Ok(());
        }
        self.note_sight(case.device, case.epoch, finding == Finding::Clear).await
    }

    /// Whether the device answers pings and does not show its products of the case's epoch, as far as there is time to find out.
    async fn refuses(
        &self,
        case: &CaseRecord,
        record: &DeviceRecord,
        seat: u32,
        commit_by: Timestamp,
    ) -> bool {
        let left = commit_by.since(self.now()).minus(MARGIN).get();
        let trial = self.challenge(record, case.epoch, seat);
        match tokio::time::timeout(Duration::from_secs(left), trial).await {
            Ok(Ok(trial)) => trial == Trial::Refused,
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Whether the device held a lease in the epoch: it holds one, or one ended since it began.
    fn promised(&self, case: &CaseRecord, record: &DeviceRecord) -> bool {
        record.busy_units != 0 || record.last_end >= self.setup.start_of(case.epoch)
    }

    async fn take(
        &self,
        id: CaseId,
        case: &CaseRecord,
        step: Step,
        panel: &[Place<'_>],
        bench: &[Place<'_>],
    ) -> Result<(), WatcherError> {
        let at =
            |places: &[Place<'_>], position: u8| places.iter().position(|place| place.position == position);
        let is_due = matches!(step, Step::Vote(_) | Step::VoteBench(_));
        let action = match step {
            Step::DrawPanel => CourtAction::DrawPanel(id),
            Step::DrawCommittee => CourtAction::DrawCommittee(id),
            Step::DrawBench => CourtAction::DrawBench(id),
            Step::Lapse(stage) => CourtAction::Lapse { case: id, stage },
            Step::Execute => {
                self.count_healthy(case.epoch).await?;
                CourtAction::Execute(id)
            }
            Step::Close => CourtAction::CloseCase(id),
            Step::Commit(position) => {
                let (Some(index), Some(note)) = (at(panel, position), self.note(id, position).await?) else {
                    return Ok(());
                };
                let place = &panel[index];
                let bound = commitment(id, Seat::new(place.place), note.finding, note.digest, note.salt);
                let signature = place.key.sign(commitment_digest(&self.court, id, bound));
                CourtAction::Commit { case: id, position, commitment: bound, signature }
            }
            Step::Cast(positions) | Step::Vote(positions) => {
                let ballots = self.ballots(id, panel, &positions).await?;
                return self.vote(id, case, Instance::Committee, ballots, is_due).await;
            }
            Step::CastBench(positions) | Step::VoteBench(positions) => {
                let note = self.hindsight(case).await?;
                let drawn = positions.into_iter().filter_map(|position| at(bench, position));
                let ballots =
                    drawn.map(|index| self.ballot(id, Instance::Appeal, &bench[index], &note)).collect();
                return self.vote(id, case, Instance::Appeal, ballots, is_due).await;
            }
        };
        self.act(action).await?;
        Ok(())
    }

    async fn ballots(
        &self,
        id: CaseId,
        panel: &[Place<'_>],
        positions: &[u8],
    ) -> Result<Vec<Ballot>, WatcherError> {
        let mut ballots = Vec::new();
        for place in panel.iter().filter(|place| positions.contains(&place.position)) {
            if let Some(note) = self.note(id, place.position).await? {
                ballots.push(self.ballot(id, Instance::Committee, place, &note));
            }
        }
        Ok(ballots)
    }

    fn ballot(&self, id: CaseId, instance: Instance, place: &Place<'_>, note: &Note) -> Ballot {
        let vote = Vote { case: id, instance, finding: note.finding, transcript: note.digest };
        Ballot {
            position: place.position,
            finding: note.finding,
            transcript: note.digest,
            salt: note.salt,
            signature: Sworn::sign(vote, &self.court, place.key).signature,
        }
    }

    /// What this node saw of the device in the case's epoch, for an appeal: by then the device may be up again.
    async fn hindsight(&self, case: &CaseRecord) -> Result<Note, WatcherError> {
        let sight = self.sight(case.device, case.epoch).await?;
        let record = self.parts.ledger.device(case.device).await?;
        let seen = if sight.refused {
            Finding::Guilty
        } else if sight.answered > 0 {
            Finding::Clear
        } else if sight.missed > 0 {
            Finding::Guilty
        } else {
            Finding::Unknown
        };
        let promised = record.is_some_and(|record| self.promised(case, &record));
        let finding = judge(seen, promised, true);
        Ok(Note { finding, digest: B256::ZERO, salt: B256::ZERO, transcript: Vec::new() })
    }
}

fn docket(case: &CaseRecord, panel: &[Place<'_>], bench: &[Place<'_>]) -> Docket {
    let positions = |places: &[Place<'_>]| places.iter().map(|place| place.position).collect();
    Docket {
        stage: case.stage,
        slash_due: case.slash_due,
        opened_at: case.opened_at,
        vote_by: case.vote_by,
        convicted_at: case.convicted_at,
        appealed_at: case.appealed_at,
        bench_by: case.bench_by,
        committed: case.committed,
        committee: case.committee,
        revealed: case.revealed,
        heard: case.heard,
        panel: positions(panel),
        bench: positions(bench),
    }
}
