//! The device's products: computed once an epoch, signed once, opened row by row.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::Instant;
use tradewind_challenge::{AnyEngine, Engine, Secret, SelfCheck, answer};
use tradewind_proto::challenge::{Challenge, RowOpening};
use tradewind_proto::evidence::{Epoch, ProductRoots, Sworn};
use tradewind_proto::probe::Why;
use tradewind_proto::signature::SigningKey;
use tradewind_store::{Batch, Store, StoreError};

use super::beacon::{Beacon, Present};
use super::{AttendantConfig, place};

const KIND: &str = "products";
/// How long a question for a list is held back while it is computed.
const HOLD: Duration = Duration::from_secs(2);
/// When the beacon is asked for a seed again that it did not have.
const SEED_AGAIN: Duration = Duration::from_millis(500);
/// When an engine is tried again that failed.
const ENGINE_AGAIN: Duration = Duration::from_secs(30);

/// A list that was signed, and what it answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    seed: B256,
    signed: Sworn<ProductRoots>,
}

/// Both epochs' engines, and every list that may still be asked for.
pub(super) struct Products {
    config: AttendantConfig,
    key: SigningKey,
    store: Store,
    present: Present,
    /// For even and for odd epochs.
    slots: [Slot; 2],
    /// The newest epoch's and that of the one before it. No older epoch is signed for, so that none can be signed for twice.
    signed: RwLock<BTreeMap<Epoch, Record>>,
    /// Held by the one computation that goes on.
    turn: Mutex<()>,
}

struct Slot {
    bench: Arc<Mutex<Bench>>,
    progress: watch::Sender<Progress>,
}

struct Bench {
    engine: AnyEngine,
    /// Whose products can be opened: their list is stored.
    holds: Option<Epoch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Idle,
    Computing(Epoch),
    Ready(Epoch),
    Failed { epoch: Epoch, setback: Setback, at: Instant },
}

/// Why there are no products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setback {
    why: Why,
    /// When to try again; never, if the device cannot compute again what it signed.
    again: Option<Duration>,
}

impl Products {
    pub(super) async fn resume(
        config: &AttendantConfig,
        key: SigningKey,
        store: Store,
        engines: [AnyEngine; 2],
        beacon: Arc<dyn Beacon>,
    ) -> Result<Self, StoreError> {
        let own = format!("{}/", place(config));
        let stored: Vec<(String, Record)> = store.all(KIND).await?;
        let stored = stored.into_iter().filter(|(place, _)| place.starts_with(&own));
        let signed = stored.map(|(_, record)| (record.signed.body.epoch(), record)).collect();
        let slots = engines.map(|engine| Slot {
            bench: Arc::new(Mutex::new(Bench { engine, holds: None })),
            progress: watch::Sender::new(Progress::Idle),
        });
        Ok(Self {
            config: *config,
            key,
            store,
            present: Present::new(beacon),
            slots,
            signed: RwLock::new(signed),
            turn: Mutex::new(()),
        })
    }

    /// The epoch's list. What was signed is said again without asking the chain.
    pub(super) async fn roots(self: &Arc<Self>, epoch: Epoch) -> Result<Sworn<ProductRoots>, Why> {
        if let Some(record) = self.signed(epoch) {
            self.begin(epoch);
            return Ok(record.signed);
        }
        self.present.check(epoch).await?;
        if self.is_past(epoch) {
            return Err(Why::OtherEpoch);
        }
        self.begin(epoch);
        let mut progress = self.slot(epoch).progress.subscribe();
        let ended = progress.wait_for(|progress| *progress != Progress::Computing(epoch));
        // Whoever waited long enough looks at what there is now.
        let _ = tokio::time::timeout(HOLD, ended).await;
        let record = self.signed(epoch).ok_or_else(|| self.why_not(epoch))?;
        Ok(record.signed)
    }

    /// A row of a product whose list is stored.
    pub(super) async fn row(self: &Arc<Self>, epoch: Epoch, round: u32, row: u32) -> Result<RowOpening, Why> {
        let record = self.signed(epoch).ok_or(Why::Unsigned)?;
        if *self.slot(epoch).progress.borrow() != Progress::Ready(epoch) {
            self.begin(epoch);
            return Err(self.why_not(epoch));
        }
        let round = usize::try_from(round).map_err(|_| Why::NoSuchRow)?;
        if round >= record.signed.body.roots().len() || row >= record.signed.body.size().get() {
            return Err(Why::NoSuchRow);
        }
        let mut bench = self.slot(epoch).bench.clone().lock_owned().await;
        if bench.holds != Some(epoch) {
            return Err(Why::OtherEpoch);
        }
        let opened = tokio::task::spawn_blocking(move || bench.engine.open(round, row)).await;
        match opened {
            Ok(Ok(opening)) => Ok(opening),
            Ok(Err(error)) => {
                tracing::error!(%epoch, round, row, %error, "a row cannot be opened");
                Err(Why::Failed)
            }
            Err(error) => {
                tracing::error!(%epoch, round, row, %error, "the engine ended while it opened a row");
                Err(Why::Failed)
            }
        }
    }

    /// Starts to compute the epoch's products, unless they are there, are being computed, or failed just now.
    fn begin(self: &Arc<Self>, epoch: Epoch) {
        let begun = self.slot(epoch).progress.send_if_modified(|progress| {
            let waits = match *progress {
                Progress::Idle => false,
                Progress::Computing(_) => true,
                Progress::Ready(held) => held >= epoch,
                Progress::Failed { epoch: failed, setback, at } => {
                    failed == epoch && setback.again.is_none_or(|again| at.elapsed() < again)
                }
            };
            if !waits {
                *progress = Progress::Computing(epoch);
            }
            !waits
        });
        if begun {
            tokio::spawn(self.clone().compute(epoch));
        }
    }

    async fn compute(self: Arc<Self>, epoch: Epoch) {
        let settled = {
            let _turn = self.turn.lock().await;
            self.settle(epoch).await
        };
        self.slot(epoch).progress.send_replace(match settled {
            Ok(()) => Progress::Ready(epoch),
            Err(setback) => Progress::Failed { epoch, setback, at: Instant::now() },
        });
    }

    /// Computes, and stores the list unless one is stored; only then may rows be opened.
    async fn settle(&self, epoch: Epoch) -> Result<(), Setback> {
        let known = self.signed(epoch);
        let seed = match &known {
            Some(record) => record.seed,
            None if self.is_past(epoch) => return Err(Setback { why: Why::OtherEpoch, again: None }),
            None => {
                let again = Some(SEED_AGAIN);
                self.present.seed(epoch).await.map_err(|why| Setback { why, again })?
            }
        };
        let signed = self.multiply(epoch, seed).await?;
        match known {
            None => self.keep(epoch, Record { seed, signed }).await?,
            Some(record) if record.signed.body == signed.body => {}
            Some(_) => {
                tracing::error!(
                    %epoch,
                    "these products are not those that were signed, and no row of them is opened; hint: was the size, the \
                     number of rounds or the device changed in mid-epoch?"
                );
                return Err(Setback { why: Why::Failed, again: None });
            }
        }
        self.slot(epoch).bench.lock().await.holds = Some(epoch);
        Ok(())
    }

    /// Signs what the engine computed. The thread is not the runtime's, which would wait for it when the node ends.
    async fn multiply(&self, epoch: Epoch, beacon: B256) -> Result<Sworn<ProductRoots>, Setback> {
        let failed = Setback { why: Why::Failed, again: Some(ENGINE_AGAIN) };
        let AttendantConfig { device, court, rounds, self_check } = self.config;
        let challenge = Challenge { court, beacon, device, epoch };
        let check = SelfCheck { secret: Secret::new(rand::random()), rows: self_check };
        let key = self.key.clone();
        let mut bench = self.slot(epoch).bench.clone().lock_owned().await;
        bench.holds = None;
        let (done, answered) = oneshot::channel();
        let work = move || {
            let signed = answer(&mut bench.engine, &challenge, rounds, &check, &key);
            drop(bench);
            // Nobody waits where the node ends.
            let _ = done.send(signed);
        };
        let started = Instant::now();
        let thread = std::thread::Builder::new().name("products".into()).spawn(work);
        thread.map_err(|error| {
            tracing::error!(%epoch, %error, "no thread to compute products on");
            failed
        })?;
        match answered.await {
            Ok(Ok(signed)) => {
                tracing::info!(%epoch, rounds, seconds = started.elapsed().as_secs_f64(), "products computed");
                Ok(signed)
            }
            Ok(Err(error)) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%epoch, %error, source, "nothing is signed for this epoch");
                Err(failed)
            }
            Err(error) => {
                tracing::error!(%epoch, %error, "the engine ended without an answer");
                Err(failed)
            }
        }
    }

    /// Stores a list before anybody sees it, and drops those that nobody may ask for any more.
    async fn keep(&self, epoch: Epoch, record: Record) -> Result<(), Setback> {
        let own = place(&self.config);
        let name = |epoch: Epoch| format!("{own}/{epoch}");
        let old: Vec<Epoch> = self.read().keys().copied().filter(|old| old.age(epoch) > 1).collect();
        let batch = Batch::new().put(KIND, name(epoch), &record);
        let batch = batch.map(|batch| old.iter().fold(batch, |batch, old| batch.remove(KIND, name(*old))));
        let stored = match batch {
            Ok(batch) => self.store.commit(batch).await,
            Err(error) => Err(error),
        };
        if let Err(error) = stored {
            tracing::error!(%epoch, %error, "nothing is shown for this epoch: its list cannot be stored");
            return Err(Setback { why: Why::Failed, again: Some(ENGINE_AGAIN) });
        }
        let mut signed = self.signed.write().unwrap_or_else(PoisonError::into_inner);
        signed.insert(epoch, record);
        signed.retain(|kept, _| !old.contains(kept));
        Ok(())
    }

    fn why_not(&self, epoch: Epoch) -> Why {
        match *self.slot(epoch).progress.borrow() {
            Progress::Failed { epoch: failed, setback, .. } if failed == epoch => setback.why,
            Progress::Idle | Progress::Computing(_) | Progress::Ready(_) | Progress::Failed { .. } => {
                Why::Computing
            }
        }
    }

    /// Whether the epoch lies before those whose lists are kept: it may have been signed for.
    fn is_past(&self, epoch: Epoch) -> bool {
        self.read().last_key_value().is_some_and(|(newest, _)| epoch.age(*newest) > 1)
    }

    fn signed(&self, epoch: Epoch) -> Option<Record> {
        self.read().get(&epoch).cloned()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Epoch, Record>> {
        self.signed.read().unwrap_or_else(PoisonError::into_inner)
    }

    const fn slot(&self, epoch: Epoch) -> &Slot {
        let [even, odd] = &self.slots;
        if epoch.get().is_multiple_of(2) { even } else { odd }
    }
}
