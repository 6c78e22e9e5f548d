//! The watcher as its node starts it: seats taken, devices and cases followed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::Address;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tradewind_chain::ledger::court::{CaseStage, CourtAction, CourtSetup, Tribunal, seat_consent};
use tradewind_chain::ledger::{Action, ActionStatus, Ledger, LedgerError};
use tradewind_mesh::blobs::BlobError;
use tradewind_mesh::directory::PublishError;
use tradewind_mesh::{PeerAddr, Transport};
use tradewind_proto::bulletin::{BulletinError, Cast};
use tradewind_proto::challenge::{Size, WalkProfile};
use tradewind_proto::evidence::{Court, Epoch, Level};
use tradewind_proto::ids::{CaseId, DeviceId};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::testimony::PageError;
use tradewind_proto::units::{Clock, MillisClock, Timestamp};
use tradewind_store::{Store, StoreError};

use crate::census::Census;
use crate::line::Lines;
use crate::note::ADDRESSES;
use crate::proof::Witnesses;
use crate::roster::Seats;
use crate::testimony::Desk;

/// How long an action of the court may take before it is left to the next look.
const STEP: Duration = Duration::from_secs(60);
/// The most devices that one node watches.
const MAX_DEVICES: usize = 10_000;

/// What is asked of every device once an epoch.
#[derive(Debug, Clone, Copy)]
pub struct ChallengeConfig {
    /// Rows and columns of the products.
    pub size: Size,
    /// Products in a chain.
    pub rounds: usize,
    /// Rounds that are opened.
    pub opened: usize,
    /// Rows that are opened of each.
    pub rows: usize,
}

/// How the watcher works.
#[derive(Debug, Clone)]
pub struct WatcherConfig {
    /// How often cases are looked at.
    pub tick: Duration,
    /// How often, on average, a sentinel asks a device; each time is drawn anew.
    pub interval: Duration,
    /// How long a device may take to answer.
    pub window: Duration,
    /// So many questions in a row without an answer open a case, and make a panel's seat find "down".
    pub misses: u32,
    /// The hardware challenge; without, nobody computes.
    pub challenge: Option<ChallengeConfig>,
    /// How devices' memory is measured; without, nobody walks.
    pub walk: Option<WalkProfile>,
    /// The first block that may tell of devices and cases.
    pub start: u64,
}

/// The parts that a watcher drives.
pub struct Parts {
    /// The chain.
    pub ledger: Arc<dyn Ledger>,
    /// The mesh.
    pub transport: Arc<dyn Transport>,
    /// What survives.
    pub store: Store,
    /// The account's key, which signs bulletins.
    pub key: SigningKey,
    /// The keys of the node's seats.
    pub seats: Vec<SigningKey>,
    /// Nodes that tell whether this one is cut off.
    pub bootstrap: Vec<PeerAddr>,
    /// The time.
    pub clock: Clock,
    /// The same in milliseconds.
    pub millis: MillisClock,
}

/// Why the watcher cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WatcherError {
    /// The network has no court.
    #[error("this network has no court; hint: its profile names one under [contracts]")]
    NoCourt,
    /// A seat could not be taken.
    #[error("a seat could not be taken: {0}")]
    Seat(String),
    /// The chain did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A page of testimony could not be written.
    #[error("a page of testimony could not be written: {0}")]
    Page(String),
    /// A bulletin could not be signed.
    #[error(transparent)]
    Bulletin(#[from] BulletinError),
    /// The directory did not take a bulletin.
    #[error("the directory did not take the bulletin")]
    Publish(#[from] PublishError),
}

impl From<PageError> for WatcherError {
    fn from(error: PageError) -> Self {
        Self::Page(error.to_string())
    }
}

impl From<BlobError> for WatcherError {
    fn from(error: BlobError) -> Self {
        Self::Page(error.to_string())
    }
}

/// A seat of this node.
#[derive(Debug, Clone, Serialize)]
pub struct SeatStatus {
    /// Its number.
    pub seat: u32,
    /// Its key.
    pub key: Address,
    /// Strikes.
    pub strikes: u8,
    /// What is staked, in base units of the stake token.
    pub stake: u128,
}

/// What the watcher does, for people.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The epoch that the chain is in.
    pub epoch: u64,
    /// Seats of the whole roster.
    pub roster: u32,
    /// How much watchers may do.
    pub level: Level,
    /// This node's.
    pub seats: Vec<SeatStatus>,
    /// Devices that are watched.
    pub devices: usize,
    /// Cases that are not over.
    pub cases: Vec<CaseId>,
}

/// A running watcher; clones share it.
#[derive(Clone)]
pub struct Watcher {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: WatcherConfig,
    pub(crate) parts: Parts,
    pub(crate) court: Court,
    pub(crate) setup: CourtSetup,
    pub(crate) seats: Seats,
    pub(crate) lines: Lines,
    pub(crate) witnesses: Witnesses,
    /// What seats saw, on its way into pages.
    pub(crate) desk: tokio::sync::Mutex<Desk>,
    /// Ballots that others may take along, the newest first.
    pub(crate) casts: Mutex<Vec<Cast>>,
    /// The bulletin says something else now.
    pub(crate) changed: AtomicBool,
    pub(crate) news: Notify,
    /// Whose devices were paid.
    pub(crate) census: tokio::sync::Mutex<Census>,
    /// Held while a count of what was seen is changed.
    pub(crate) sights: tokio::sync::Mutex<()>,
    /// Devices that are watched.
    devices: Mutex<BTreeSet<DeviceId>>,
    /// Cases that are heard, and who is accused.
    pub(crate) hearings: Mutex<BTreeMap<CaseId, DeviceId>>,
    /// Actions that failed, and when they may be tried again.
    resting: Mutex<HashMap<String, tokio::time::Instant>>,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Watcher {
    /// Takes the seats that are not taken yet, and starts watching.
    ///
    /// # Errors
    /// [`WatcherError`].
    pub async fn start(config: WatcherConfig, mut parts: Parts) -> Result<Self, WatcherError> {
        let ledger = parts.ledger.clone();
        let tribunal = ledger.tribunal().ok_or(WatcherError::NoCourt)?;
        let (court, setup) = (tribunal.court(), tribunal.setup().await?);
        let seats = Seats::new(std::mem::take(&mut parts.seats));
        let inner = Arc::new(Inner {
            config,
            parts,
            court,
            setup,
            seats,
            lines: Lines::default(),
            witnesses: Witnesses::default(),
            desk: tokio::sync::Mutex::default(),
            casts: Mutex::default(),
            changed: AtomicBool::default(),
            news: Notify::new(),
            census: tokio::sync::Mutex::default(),
            sights: tokio::sync::Mutex::default(),
            devices: Mutex::default(),
            hearings: Mutex::default(),
            resting: Mutex::default(),
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        inner.join().await?;
        inner.take_up_desk().await?;
        for (device, address) in inner.parts.store.all::<PeerAddr>(ADDRESSES).await? {
            if let Ok(device) = device.parse() {
                inner.remember(device, address);
            }
        }
        let (followed, offers) = (inner.clone(), inner.clone());
        inner.tasks.spawn(async move { followed.follow().await });
        inner.tasks.spawn(async move { offers.follow_offers().await });
        inner.tasks.spawn(inner.clone().follow_gazette());
        Ok(Self { inner })
    }

    /// What it does now.
    ///
    /// # Errors
    /// [`LedgerError`] when the chain does not answer.
    pub async fn status(&self) -> Result<Status, LedgerError> {
        let inner = &self.inner;
        let tribunal = inner.tribunal()?;
        let epoch = inner.epoch().unwrap_or_default();
        let (roster, rules) = (tribunal.seats(epoch).await?, tribunal.rules(None).await?);
        let mut seats = Vec::new();
        for key in inner.seats.keys() {
            let Some(seat) = tribunal.seat_of(key.address()).await? else { continue };
            let record = tribunal.seat(seat).await?;
            let (strikes, stake) = (record.strikes, record.stake.base_units());
            seats.push(SeatStatus { seat, key: record.key, strikes, stake });
        }
        let devices = inner.devices.lock().unwrap_or_else(PoisonError::into_inner).len();
        let cases = inner.hearings.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        let level = rules.jury().level(roster);
        Ok(Status { epoch: epoch.get(), roster, level, seats, devices, cases })
    }

    /// Ends watching. Cases are taken up by the next start.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Inner {
    pub(crate) fn tribunal(&self) -> Result<&dyn Tribunal, LedgerError> {
        let tribunal = self.parts.ledger.tribunal();
        tribunal.ok_or_else(|| LedgerError::Invalid("this network has no court".into()))
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.parts.clock)()
    }

    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.setup.epoch_at(self.now())
    }

    /// Sleeps; false once the watcher ends.
    pub(crate) async fn pause(&self, span: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => false,
            () = tokio::time::sleep(span) => true,
        }
    }

    /// Does an action of the court and says whether it is on chain. One that was refused rests for a while.
    pub(crate) async fn act(&self, action: CourtAction) -> Result<bool, LedgerError> {
        let (action, domain) = (Action::Court(action), self.parts.ledger.domain());
        let key = action.key(&domain)?.to_string();
        {
            let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
            resting.retain(|_, until| *until > tokio::time::Instant::now());
            if resting.contains_key(&key) {
                return Ok(false);
            }
        }
        let submission = self.parts.ledger.submit(action).await?;
        let settled = tokio::time::timeout(STEP, self.parts.ledger.settled(&submission.key));
        let status = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Ok(false),
            settled = settled => match settled {
                Ok(status) => status?,
                Err(_) => return Ok(false),
            },
        };
        if let ActionStatus::Failed { reason } = &status {
            tracing::debug!(%key, reason, "the court refused");
            let until = tokio::time::Instant::now() + self.config.tick.saturating_mul(4);
            self.resting.lock().unwrap_or_else(PoisonError::into_inner).insert(key, until);
        }
        Ok(status.is_included())
    }

    /// Stakes the seats that are not seated yet.
    async fn join(&self) -> Result<(), WatcherError> {
        let tribunal = self.tribunal()?;
        for key in self.seats.keys() {
            if tribunal.seat_of(key.address()).await?.is_some() {
                continue;
            }
            let digest = seat_consent(&self.court, self.parts.ledger.account(), key.address());
            let action = CourtAction::JoinSeat {
                key: key.address(),
                consent: key.sign(digest),
                stake: self.setup.seat_stake,
                token: self.setup.stake_token,
            };
            let submission = self.parts.ledger.submit(Action::Court(action)).await?;
            let settled = tokio::time::timeout(STEP, self.parts.ledger.settled(&submission.key)).await;
            match settled.map_err(|_| WatcherError::Seat("the chain takes too long".into()))?? {
                ActionStatus::Included { .. } | ActionStatus::Final { .. } => {}
                ActionStatus::Failed { reason } => return Err(WatcherError::Seat(reason)),
                ActionStatus::Pending => return Err(WatcherError::Seat("still pending".into())),
            }
        }
        Ok(())
    }

    /// Looks for devices and cases until the watcher ends.
    async fn follow(self: Arc<Self>) {
        let (mut devices_from, mut cases_from) = (self.config.start, self.config.start);
        while self.pause(self.config.tick).await {
            let looked = async {
                let head = self.parts.ledger.head().await?.block;
                self.clone().follow_devices(devices_from).await?;
                self.clone().follow_cases(cases_from).await?;
                Ok::<_, WatcherError>(head + 1)
            };
            match looked.await {
                Ok(next) => (devices_from, cases_from) = (next, next),
                Err(error) => tracing::warn!(%error, "a look at the chain failed"),
            }
        }
    }

    async fn follow_devices(self: Arc<Self>, from: u64) -> Result<(), WatcherError> {
        for device in self.tribunal()?.devices_since(from).await? {
            let is_new = {
                let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
                devices.len() < MAX_DEVICES && devices.insert(device)
            };
            if is_new {
                let beat = self.clone();
                self.tasks.spawn(async move { beat.beat(device).await });
            }
        }
        Ok(())
    }

    async fn follow_cases(self: Arc<Self>, from: u64) -> Result<(), WatcherError> {
        for opened in self.tribunal()?.cases_since(from).await? {
            let is_new = {
                let mut hearings = self.hearings.lock().unwrap_or_else(PoisonError::into_inner);
                hearings.insert(opened.case, opened.device).is_none()
            };
            let is_over = is_new && self.tribunal()?.case(opened.case).await?.stage == CaseStage::Closed;
            if is_over {
                self.hearings.lock().unwrap_or_else(PoisonError::into_inner).remove(&opened.case);
            } else if is_new {
                let heard = self.clone();
                self.tasks.spawn(async move { heard.hear(opened.case).await });
            }
        }
        Ok(())
    }
}
