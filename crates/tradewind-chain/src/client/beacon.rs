//! The keeper of a beacon: brings the rounds that somebody waits for, by its own account's gas.
//!
//! ```text
//! start of the epoch, every open case's next draw ─► due? known? ─┬─ local: advance (marks a block) ─► advance (stores its hash)
//!                                                                 └─ drand: relays ─► the contract's check ─► submit
//! ```
//!
//! A development network's ledger has one keeper, its host, who makes the blocks and so has to be trusted anyway. drand's rounds
//! anyone brings, and nobody can bring a wrong one: keepers take turns, so that a round is paid for once. A round that nobody
//! brought in time stays unknown: what waits for it ends undecided.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, B256};
use tokio_util::sync::CancellationToken;
use tradewind_proto::ids::CaseId;
use tradewind_proto::units::{Seconds, Timestamp};

use crate::client::bindings::deadline;
use crate::client::drand::Relays;
use crate::client::reader::Reader;
use crate::client::sender::{Sender, SenderError};
use crate::client::store::StoreError;
use crate::ledger::LedgerError;
use crate::ledger::court::{CaseRecord, CaseStage, CourtSetup, Tribunal};

use self::bring::{Resting, turn};

mod bring;
mod kind;

pub use self::kind::BeaconKind;

/// Between two looks at least.
const PAUSE: Duration = Duration::from_millis(400);

/// How a keeper comes by a round.
#[derive(Debug, Clone)]
pub enum Maker {
    /// From blocks: a development network's.
    Blocks,
    /// From drand's relays.
    Drand {
        /// Whom to ask.
        relays: Relays,
        /// How long keepers wait for one another at most: each has a turn of its own for each round.
        turns: Duration,
    },
}

impl Maker {
    /// Between two looks: a public chain's endpoints are asked as seldom as turns allow.
    fn pause(&self) -> Duration {
        match self {
            Self::Blocks => PAUSE,
            Self::Drand { turns, .. } => PAUSE.max(*turns / 4),
        }
    }
}

/// Why a round was not brought.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Sender(#[from] SenderError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "round {round} of drand is not to be had: {why}; hint: name relays that answer under `drand` in [watcher]"
    )]
    Unknown { round: u64, why: String },
    #[error(
        "{account} has no gas for the beacon's rounds; hint: send it some of the chain's coin, or leave them to others"
    )]
    NoGas { account: Address },
    #[error("round {round} was not stored: {reason}")]
    Refused { round: u64, reason: String },
}

struct Keeper<'a> {
    sender: &'a Sender,
    reader: &'a Reader,
    maker: &'a Maker,
    setup: CourtSetup,
    kind: BeaconKind,
    /// Cases that may draw again.
    open: BTreeMap<CaseId, Timestamp>,
    seen: u64,
    resting: Resting,
}

/// Brings the rounds of the deployment's beacon until `stop`.
pub async fn keep(sender: Sender, reader: Reader, maker: Maker, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match begin(&reader).await {
            Ok((setup, kind)) => {
                let (open, resting) = (BTreeMap::new(), Resting::default());
                let (sender, reader, maker) = (&sender, &reader, &maker);
                let mut keeper = Keeper { sender, reader, maker, setup, kind, open, seen: 0, resting };
                while !stop.is_cancelled() {
                    let step = tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        step = keeper.step() => step,
                    };
                    if let Err(error) = step {
                        tracing::warn!(%error, "a round of the beacon waits");
                    }
                    pause(maker, &stop).await;
                }
            }
            Err(error) => tracing::warn!(%error, "the court or its beacon does not answer"),
        }
        pause(&maker, &stop).await;
    }
}

async fn begin(reader: &Reader) -> Result<(CourtSetup, BeaconKind), LedgerError> {
    let setup = reader.setup().await?;
    Ok((setup, reader.beacon_kind(setup.beacon).await?))
}

async fn pause(maker: &Maker, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(maker.pause()) => {}
    }
}

fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Timestamp::from_unix(since)
}

impl Keeper<'_> {
    /// Brings what is due; a round that fails holds up no other.
    async fn step(&mut self) -> Result<(), KeepError> {
        let now = clock();
        let mut outcome = Ok(());
        for at in self.wanted(now).await? {
            if at <= now
                && let Err(error) = self.bring(at, now).await
            {
                outcome = Err(error);
            }
        }
        outcome
    }

    /// The instants whose first round somebody waits for.
    async fn wanted(&mut self, now: Timestamp) -> Result<Vec<Timestamp>, KeepError> {
        let Some(epoch) = self.setup.epoch_at(now) else { return Ok(Vec::new()) };
        if self.reader.seats(epoch).await? == 0 {
            return Ok(Vec::new());
        }
        let head = self.reader.head().await?.block;
        for opened in self.reader.cases_since(self.seen).await? {
            self.open.insert(opened.case, now);
        }
        self.seen = head + 1;
        let mut wanted = vec![self.setup.start_of(epoch)];
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            let case = self.reader.case(id).await?;
            if case.stage >= CaseStage::Decided {
                self.open.remove(&id);
            } else {
                wanted.extend(self.next_draw(&case, now).await?);
            }
        }
        Ok(wanted)
    }

    /// None where the draw's window has passed: the case can only lapse.
    async fn next_draw(&self, case: &CaseRecord, now: Timestamp) -> Result<Option<Timestamp>, KeepError> {
        let rules = self.reader.rules(Some(case.version)).await?;
        let (from, until) = if case.stage == CaseStage::Opened {
            (case.opened_at, case.opened_at.after(rules.commit_window))
        } else if case.stage == CaseStage::Panel {
            let commit_by = case.opened_at.after(rules.commit_window);
            (commit_by, commit_by.after(rules.vote_window))
        } else if case.stage == CaseStage::Appealing
            && let Some(appealed_at) = case.appealed_at
        {
            (appealed_at, appealed_at.after(rules.bench_window))
        } else {
            return Ok(None);
        };
        Ok((now <= until).then(|| from.after(Seconds::new(1))))
    }

    async fn bring(&mut self, at: Timestamp, now: Timestamp) -> Result<(), KeepError> {
        let (beacon, reader) = (self.reader.beacon(self.setup.beacon), self.reader);
        let round = reader.ask(beacon.roundAt(deadline(at))).await?;
        if self.resting.holds(round) {
            return Ok(());
        }
        let lag = match self.kind {
            BeaconKind::Local => Seconds::ZERO,
            BeaconKind::Drand { lag, .. } => lag,
        };
        let due = Timestamp::from_unix(reader.ask(beacon.timeOf(round)).await?.to()).after(lag);
        if due > now || reader.ask(beacon.seed(round)).await? != B256::ZERO {
            return Ok(());
        }
        let brought = match (self.kind, self.maker) {
            (BeaconKind::Local, Maker::Blocks) => self.make(round).await,
            (BeaconKind::Drand { chain, .. }, Maker::Drand { relays, turns }) => {
                if now < due.after(turn(self.sender.account(), round, *turns)) {
                    return Ok(());
                }
                self.fetch(relays, chain, round).await
            }
            (BeaconKind::Local, Maker::Drand { .. }) | (BeaconKind::Drand { .. }, Maker::Blocks) => Ok(()),
        };
        match &brought {
            Ok(()) => self.resting.forget(round),
            Err(_) => self.resting.failed(round),
        }
        brought
    }
}
