//! Questions to devices over the mesh, and whether the watcher itself is connected.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use tokio::time::Instant;
use tradewind_mesh::directory::{DirectoryEvent, Record};
use tradewind_mesh::{CallError, PeerAddr};
use tradewind_proto::evidence::Seat;
use tradewind_proto::ids::{DeviceId, ProviderId};
use tradewind_proto::offer::SignedOffer;
use tradewind_proto::probe::{Entry, Prober, Question, Response, Watch};
use tradewind_proto::signature::{Signature, Signed};

use crate::note::ADDRESSES;
use crate::watcher::Inner;

/// How long a contact with anybody shows that the watcher is not cut off.
const CONNECTED: Duration = Duration::from_secs(20);

/// Where devices are, and when anybody was last reached.
#[derive(Default)]
pub(crate) struct Lines {
    addresses: Mutex<HashMap<DeviceId, PeerAddr>>,
    /// What their offers say that they are.
    models: Mutex<HashMap<DeviceId, String>>,
    /// The network's first nodes stand under no device's name.
    contacts: Mutex<HashMap<DeviceId, Instant>>,
}

/// An answer, and how long it took once there was a connection.
pub(crate) struct Timed {
    pub(crate) response: Response,
    pub(crate) took: Duration,
}

impl Inner {
    /// Takes in where live offers say that devices are, until the watcher ends.
    pub(crate) async fn follow_offers(self: Arc<Self>) {
        loop {
            let mut watch = self.parts.transport.watch();
            for record in std::mem::take(&mut watch.snapshot) {
                self.learn(&record).await;
            }
            loop {
                let event = tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return,
                    event = watch.next() => event,
                };
                match event {
                    Some(DirectoryEvent::Stored(record)) => self.learn(&record).await,
                    Some(DirectoryEvent::Equivocation { second, .. }) => self.learn(&second).await,
                    // Where a device was it may still be.
                    Some(DirectoryEvent::Ended(_)) => {}
                    Some(DirectoryEvent::Lagged) => break,
                    None => return,
                }
            }
        }
    }

    async fn learn(&self, record: &Record) {
        let Ok(signature) = Signature::from_bytes(&record.signature) else { return };
        let signed = SignedOffer::from_signed(Signed { bytes: record.body.clone(), signature });
        let Ok(offer) = signed.verify(self.now()) else { return };
        let address = offer.address.as_deref().and_then(|text| text.parse::<PeerAddr>().ok());
        let Some(address) = address.filter(|address| address.key == offer.mesh_key) else { return };
        let model = offer.unit.gpus.as_ref().map(|gpus| gpus.model.clone());
        let is_known =
            self.address(offer.device).as_ref() == Some(&address) && self.model(offer.device) == model;
        if offer.device == DeviceId::NONE
            || is_known
            || !self.is_its_owner(offer.device, offer.provider).await
        {
            return;
        }
        match self.parts.store.put(ADDRESSES, offer.device.to_string(), &address).await {
            Ok(()) => {
                self.remember(offer.device, address);
                let mut models = self.lines.models.lock().unwrap_or_else(PoisonError::into_inner);
                match model {
                    Some(model) => models.insert(offer.device, model),
                    None => models.remove(&offer.device),
                };
            }
            Err(error) => tracing::warn!(%error, "where a device is was not stored"),
        }
    }

    /// An offer may name any device; only its provider's counts.
    async fn is_its_owner(&self, device: DeviceId, provider: ProviderId) -> bool {
        let record = self.parts.ledger.device(device).await;
        record.is_ok_and(|record| record.is_some_and(|record| record.provider == provider))
    }

    pub(crate) fn remember(&self, device: DeviceId, address: PeerAddr) {
        self.lines.addresses.lock().unwrap_or_else(PoisonError::into_inner).insert(device, address);
    }

    pub(crate) fn address(&self, device: DeviceId) -> Option<PeerAddr> {
        self.lines.addresses.lock().unwrap_or_else(PoisonError::into_inner).get(&device).cloned()
    }

    /// What the device's offer says that it is.
    pub(crate) fn model(&self, device: DeviceId) -> Option<String> {
        self.lines.models.lock().unwrap_or_else(PoisonError::into_inner).get(&device).cloned()
    }

    /// One question to a device; `None` where its address was never known.
    pub(crate) async fn ask(
        &self,
        question: Question,
        within: Duration,
    ) -> Option<Result<Response, CallError>> {
        Some(self.ask_timed(question, within).await?.map(|timed| timed.response))
    }

    /// The same, and how long the answer took once there was a connection.
    pub(crate) async fn ask_timed(
        &self,
        question: Question,
        within: Duration,
    ) -> Option<Result<Timed, CallError>> {
        let device = question.device();
        let address = self.address(device)?;
        let asked = tokio::time::timeout(within, self.parts.transport.probe(&address, question.encode()));
        let answer = match asked.await {
            Ok(Ok(probed)) => Response::decode(&probed.answer)
                .map(|response| Timed { response, took: probed.round_trip })
                .map_err(|_| CallError::Mismatch("the answer is none of this protocol")),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(CallError::TimedOut { after: within }),
        };
        if answer.is_ok() {
            self.touched(device);
        }
        Some(answer)
    }

    /// Whether anybody but `device` was reached lately; asks the network's first nodes where not.
    pub(crate) async fn is_connected(&self, device: DeviceId) -> bool {
        let reached = {
            let contacts = self.lines.contacts.lock().unwrap_or_else(PoisonError::into_inner);
            contacts.iter().any(|(other, at)| *other != device && at.elapsed() < CONNECTED)
        };
        if reached {
            return true;
        }
        for peer in &self.parts.bootstrap {
            let hello = Question::Roots { device: DeviceId::NONE, epoch: Default::default() };
            let asked = self.parts.transport.probe(peer, hello.encode());
            let answer = tokio::time::timeout(self.config.window, asked).await;
            let refused = |error: &CallError| error.refusal().is_some();
            if answer.is_ok_and(|answer| answer.as_ref().err().is_none_or(refused)) {
                self.touched(DeviceId::NONE);
                return true;
            }
        }
        false
    }

    fn touched(&self, device: DeviceId) {
        self.lines.contacts.lock().unwrap_or_else(PoisonError::into_inner).insert(device, Instant::now());
    }

    /// One ping by a seat; `None` where the device's address was never known. A device that contradicts itself is proved.
    pub(crate) async fn ping(&self, device: DeviceId, key: Address, seat: u32) -> Option<(Watch, Entry)> {
        self.ping_timed(device, key, seat).await.map(|(watch, entry, _)| (watch, entry))
    }

    /// The same, and how long it took.
    pub(crate) async fn ping_timed(
        &self,
        device: DeviceId,
        key: Address,
        seat: u32,
    ) -> Option<(Watch, Entry, Duration)> {
        let watch = Watch { court: self.court, device, key, watcher: Seat::new(seat) };
        let window = u64::try_from(self.config.window.as_millis()).unwrap_or(u64::MAX);
        let mut prober = Prober::new(watch, window, NonZeroUsize::MIN);
        let nonce = B256::from(rand::random::<[u8; 32]>());
        let asked_at = self.millis();
        let ask = prober.ask(asked_at, nonce).ok()?;
        let answer = self.ask_timed(Question::Ping { device, ask }, self.config.window).await?;
        if let Ok(Timed { response: Response::Pong(reply), took }) = answer
            && let Ok(heard) = prober.hear(self.millis(), &reply)
        {
            self.witness(&watch, &heard.entry);
            return Some((watch, heard.entry, took));
        }
        Some((watch, Entry { asked_at, nonce, answer: None }, self.config.window))
    }

    fn millis(&self) -> u64 {
        (self.parts.millis)()
    }
}
