//! Answers on `tradewind/lease/1`: what a buyer may ask, and what it may know.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use async_trait::async_trait;
use bytes::Bytes;
use tradewind_mesh::tunnel::{TunnelGate, TunnelTarget};
use tradewind_mesh::{FrameStream, LeaseService, PeerAddr, Refusal as MeshRefusal, RefusalCode as MeshCode};
use tradewind_proto::attestation::Binding;
use tradewind_proto::conversation::{Answer, Begin, MAX_LOG_BYTES, MAX_WAIT, Quote, Request};
use tradewind_proto::hosting::{Event, Hosting};
use tradewind_proto::ids::{LeaseId, MeshKey};
use tradewind_proto::manifest::Share;
use tradewind_proto::negotiation::{
    OPEN_WITHIN, Refusal, RefusalCode, TermsParameters, TermsRequest, pays_for_egress, propose,
};
use tradewind_proto::offer::Offer;
use tradewind_proto::terms::LeaseTerms;
use tradewind_proto::units::Seconds;
use tradewind_proto::voucher::SignedVoucher;
use tradewind_proto::workload::LogCursor;

use super::record::{DELETED, Deleted, Hosted, KIND, Record, first_report};
use super::units::lowest_bits;
use super::{Agent, Inner, access};
use crate::runtime::{Ask, RuntimeError};

/// How soon, and how rarely at last, a held-back log request looks for news.
const LOG_POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// Why a peer may ask about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It began the lease.
    Owner,
    /// The owner named it to pay for the lease.
    Meter,
}

#[async_trait]
impl LeaseService for Agent {
    async fn call(&self, peer: MeshKey, request: Bytes) -> Result<Bytes, MeshRefusal> {
        let request = Request::decode(&request)
            .map_err(|error| MeshRefusal::new(MeshCode::Malformed, error.to_string()))?;
        let answer = self.answer(peer, request).await.unwrap_or_else(Answer::Refused);
        Ok(answer.encode())
    }

    async fn open(&self, peer: MeshKey, header: Bytes, stream: FrameStream) {
        access::serve(&self.inner, peer, header, stream).await;
    }
}

#[async_trait]
impl TunnelGate for Agent {
    async fn allow(&self, peer: MeshKey, target: TunnelTarget) -> Result<SocketAddr, MeshRefusal> {
        let no = |reason: &str| MeshRefusal::new(MeshCode::Forbidden, reason);
        let (hosted, _) =
            self.inner.owned(peer, target.lease).await.map_err(|refusal| no(&refusal.reason))?;
        let runtime = {
            let record = hosted.record.lock().await;
            if !record.manifest.ports.contains(&target.port) {
                return Err(no("the job did not name this port; add it under `ports`"));
            }
            record.manifest.runtime.clone()
        };
        let runtime =
            self.inner.parts.runtimes.get(runtime.as_str()).ok_or_else(|| no("the runtime is gone"))?;
        runtime.address(target.lease, target.port).await.map_err(|error| no(&error.to_string()))
    }
}

impl Agent {
    /// Answers one request of `peer`.
    ///
    /// # Errors
    /// The refusal that the peer gets.
    pub async fn answer(&self, peer: MeshKey, request: Request) -> Result<Answer, Refusal> {
        match request {
            Request::Terms(request) => {
                self.inner.quote(&request).await.map(|quote| Answer::Terms(Box::new(quote)))
            }
            Request::Begin(begin) => self.begin(peer, *begin).await,
            Request::Report { lease, seen, wait } => self.inner.report(peer, lease, seen, wait).await,
            Request::Logs { lease, from, wait } => self.inner.logs(peer, lease, from, wait).await,
            Request::Pay(voucher) => self.inner.pay(peer, voucher).await,
            Request::Stop { lease } => {
                let (hosted, _) = self.inner.owned(peer, lease).await?;
                self.inner.change(&hosted, |record| record.hosting.apply(Event::StopRequested)).await?;
                Ok(Answer::Stopping)
            }
            Request::Attest { nonce } => self.inner.attest(nonce).await,
            Request::Saved { lease } => {
                let (hosted, _) = self.inner.owned(peer, lease).await?;
                let none =
                    || Refusal::new(RefusalCode::Unavailable, "the job saved nothing yet", "ask again later");
                let (saved, files) = hosted.snapshots().tell().ok_or_else(none)?;
                Ok(Answer::Saved(saved, files))
            }
            Request::Deletion { lease } => self.inner.deletion(peer, lease).await,
        }
    }

    async fn begin(&self, peer: MeshKey, begin: Begin) -> Result<Answer, Refusal> {
        let inner = &self.inner;
        let id = inner.check_begin(peer, &begin)?;
        // One at a time: a repeated request must find the first one's lease, and no unit is given twice.
        let _one = inner.beginning.lock().await;
        if let Some(hosted) = inner.lease(id) {
            let same = hosted.record.lock().await.owner == peer;
            if !same {
                return Err(unknown_lease());
            }
            hosted.secrets.lock().await.get_or_insert(begin.secrets);
            hosted.bell.notify_one();
            return Ok(Answer::Begun(id));
        }
        if inner.now() > begin.terms.open_by {
            let hint = "ask for new terms";
            return Err(Refusal::new(RefusalCode::Policy, "the terms can no longer be opened", hint));
        }
        if !inner.pays_for_egress(&begin.terms, &begin.manifest.share) {
            let reason = "the terms' price is not that of what the job may send";
            return Err(Refusal::new(RefusalCode::Malformed, reason, "ask for new terms"));
        }
        inner.config.rules.judge(begin.terms.buyer, begin.manifest.image.as_ref())?;
        inner.config.rules.has_room(inner.leases_of(begin.terms.buyer))?;
        let mut hosting = Hosting::new(id, begin.terms);
        hosting.accept(begin.prepayment, &inner.domain, inner.now()).map_err(payment)?;
        begin.ladder.check(&hosting.terms, id, &inner.domain).map_err(|error| {
            let hint = "sign the vouchers ahead anew, for these terms";
            Refusal::new(RefusalCode::Payment, error.to_string(), hint)
        })?;
        hosting.ladder = begin.ladder;
        let units = inner.units_of(hosting.terms.units, &begin.manifest.share)?;
        let gpus = inner.gpus_for(units, begin.manifest.share.gpus);
        let record = Record {
            units,
            hosting,
            manifest: begin.manifest,
            owner: peer,
            owner_address: begin.buyer_address,
            meter: begin.meter,
            gpus,
            buyer_signature: begin.buyer_signature,
            provider_signature: begin.provider_signature,
            outputs: Vec::new(),
            statement: None,
        };
        inner.save(&record).await?;
        tracing::info!(lease = %id, job = %record.manifest.name, "took a job over");
        let report = first_report(&record, inner.now());
        self.adopt(Hosted::new(id, record, Some(begin.secrets), report));
        Ok(Answer::Begun(id))
    }
}

impl Inner {
    async fn attest(&self, nonce: B256) -> Result<Answer, Refusal> {
        let Some(attester) = &self.parts.attester else {
            let reason = "this machine shows no evidence of trusted execution";
            return Err(Refusal::new(RefusalCode::NotOffered, reason, "try a provider that claims it"));
        };
        let hint = "ask again in a few seconds";
        let Ok(_one) = self.attesting.try_lock() else {
            return Err(Refusal::new(RefusalCode::Busy, "somebody else is asking for evidence", hint));
        };
        let binding = Binding {
            chain_id: self.domain.chain_id,
            device: self.config.offer.device,
            mesh_key: self.parts.transport.key(),
            nonce,
        };
        match attester.attest(&binding).await {
            Ok(attestation) => Ok(Answer::Attestation(Box::new(attestation))),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no evidence of trusted execution");
                Err(Refusal::new(RefusalCode::Unavailable, "the hardware gave no evidence", hint))
            }
        }
    }

    async fn quote(&self, request: &TermsRequest) -> Result<Quote, Refusal> {
        let offer = self.offered(Some(request.kind))?;
        self.config.rules.judge(request.buyer, request.image.as_ref())?;
        self.config.rules.has_room(self.leases_of(request.buyer))?;
        self.admit(request).await?;
        let now = self.now();
        let unheld = self.unheld_units();
        let picked =
            self.promised.read().unwrap_or_else(PoisonError::into_inner).pick(unheld, request.units, now);
        let mask = picked.ok_or_else(|| {
            let reason = format!("{} of {} units are free", unheld.count_ones(), self.config.offer.units);
            Refusal::new(RefusalCode::Busy, reason, "try another provider, or later")
        })?;
        let parameters = TermsParameters {
            version: self.config.offer.version,
            max_duration: self.parameters.max_duration,
            min_cap_on_demand: self.parameters.min_cap_on_demand,
            min_cap_spot: self.parameters.min_cap_spot,
            min_cap_reserved: self.parameters.min_cap_reserved,
        };
        let terms = propose(&offer, request, &parameters, mask, now)?;
        let free_balance = self.parts.ledger.balance(terms.token, self.parts.key.address()).await;
        if free_balance.is_ok_and(|free| free < terms.bond) {
            let reason = "the provider's free balance does not cover the bond";
            return Err(Refusal::new(RefusalCode::Busy, reason, "try another provider, or a shorter lease"));
        }
        let id = terms.id(&self.domain).map_err(|error| malformed(&error))?;
        let signature = self.parts.key.sign(id.get());
        let until = now.after(OPEN_WITHIN);
        self.promised.write().unwrap_or_else(PoisonError::into_inner).promise(mask, until);
        Ok(Quote { terms, signature })
    }

    /// Asks the runtime whether a lease like this could begin now.
    async fn admit(&self, request: &TermsRequest) -> Result<(), Refusal> {
        // One that is not here is refused with the job.
        let Some(runtime) = self.parts.runtimes.get(request.runtime.as_str()) else { return Ok(()) };
        let duration = request.duration.plus(request.prepare);
        let ask = Ask { kind: request.kind, duration, share: request.share.clone() };
        runtime.admit(&ask).await.map_err(|error| {
            let code = match error {
                RuntimeError::Unsupported { .. } => RefusalCode::NotOffered,
                RuntimeError::Conflict(_)
                | RuntimeError::Absent(_)
                | RuntimeError::StillRunning(_)
                | RuntimeError::Start(_)
                | RuntimeError::Unavailable(_)
                | RuntimeError::Io { .. } => RefusalCode::Busy,
            };
            Refusal::new(code, error.to_string(), "try another provider, or later")
        })
    }

    fn check_begin(&self, peer: MeshKey, begin: &Begin) -> Result<LeaseId, Refusal> {
        begin.manifest.check().map_err(|error| malformed(&error))?;
        let id = begin.terms.id(&self.domain).map_err(|error| malformed(&error))?;
        let wrong = |what: &str| Refusal::new(RefusalCode::Malformed, what, "ask for new terms");
        if begin.manifest.digest() != begin.terms.job {
            return Err(wrong("the manifest is not the one in the terms"));
        }
        let us = self.parts.key.address();
        begin.provider_signature.verify(id.get(), us).map_err(|_| wrong("we did not sign these terms"))?;
        let buyer = begin.terms.buyer.account();
        begin
            .buyer_signature
            .verify(id.get(), buyer)
            .map_err(|_| wrong("the buyer did not sign these terms"))?;
        let address: PeerAddr =
            begin.buyer_address.parse().map_err(|_| wrong("the buyer's address is malformed"))?;
        if address.key != peer {
            return Err(wrong("the buyer's address has another key than its connection"));
        }
        let (share, unit) = (&begin.manifest.share, &self.config.offer.unit);
        let units = u64::from(begin.terms.units.count_ones().max(1));
        let fits = u64::from(share.cpu_millis) <= u64::from(unit.cpu_millis) * units
            && share.memory.get() <= unit.memory.get().saturating_mul(units)
            && share.disk.get() <= unit.disk.get().saturating_mul(units);
        if !fits {
            return Err(wrong("the job takes more than its units"));
        }
        if !self.parts.runtimes.contains_key(begin.manifest.runtime.as_str()) {
            return Err(wrong("the job needs another runtime"));
        }
        Ok(id)
    }

    async fn report(&self, peer: MeshKey, id: LeaseId, seen: u64, wait: Seconds) -> Result<Answer, Refusal> {
        let (hosted, role) = self.paying(peer, id).await?;
        let mut reports = hosted.report.subscribe();
        let news = reports.wait_for(|report| report.revision > seen);
        let wait = Duration::from_secs(wait.min(MAX_WAIT).get());
        // Without news the answer is the report that the buyer has already: a sign of life.
        let _ = tokio::time::timeout(wait, news).await;
        let mut report = hosted.report.borrow().clone();
        if role == Role::Meter {
            // What the job left is none of its business.
            (report.outputs, report.saved) = (Vec::new(), None);
        }
        Ok(Answer::Report(Box::new(report)))
    }

    async fn logs(
        &self,
        peer: MeshKey,
        id: LeaseId,
        from: LogCursor,
        wait: Seconds,
    ) -> Result<Answer, Refusal> {
        let (hosted, runtime) = self.owned(peer, id).await?;
        let runtime = self.parts.runtimes.get(runtime.as_str()).ok_or_else(unknown_lease)?;
        let (mut reports, mut pause) = (hosted.report.subscribe(), LOG_POLL.0);
        let until = tokio::time::Instant::now() + Duration::from_secs(wait.min(MAX_WAIT).get());
        loop {
            let chunk = runtime.logs(id, from, MAX_LOG_BYTES).await;
            let now = tokio::time::Instant::now();
            match chunk {
                Ok(chunk) if !chunk.bytes.is_empty() || chunk.end || now >= until => {
                    return Ok(Answer::Logs(chunk));
                }
                Err(error) if now >= until => {
                    return Err(Refusal::new(
                        RefusalCode::Unavailable,
                        error.to_string(),
                        "the job may not have started",
                    ));
                }
                // A job that just started is about to say something.
                Ok(_) | Err(_) => tokio::select! {
                    _ = reports.changed() => pause = LOG_POLL.0,
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(LOG_POLL.1),
                },
            }
        }
    }

    async fn pay(&self, peer: MeshKey, voucher: SignedVoucher) -> Result<Answer, Refusal> {
        let (hosted, _) = self.paying(peer, voucher.voucher.lease).await?;
        let now = self.now();
        let mut record = hosted.record.lock().await;
        let mut next = record.clone();
        next.hosting.accept(voucher, &self.domain, now).map_err(payment)?;
        self.save(&next).await?;
        let cumulative = next.hosting.held();
        *record = next;
        drop(record);
        hosted.bell.notify_one();
        Ok(Answer::Paid { cumulative })
    }

    /// The lease, if `peer` may speak about it, and its runtime's name.
    pub(super) async fn owned(&self, peer: MeshKey, id: LeaseId) -> Result<(Arc<Hosted>, String), Refusal> {
        let hosted = self.lease(id).ok_or_else(unknown_lease)?;
        let runtime = {
            let record = hosted.record.lock().await;
            (record.owner == peer).then(|| record.manifest.runtime.clone())
        };
        Ok((hosted, runtime.ok_or_else(unknown_lease)?))
    }

    /// The word that a lease's data were deleted, for its owner.
    async fn deletion(&self, peer: MeshKey, id: LeaseId) -> Result<Answer, Refusal> {
        if self.lease(id).is_some() {
            self.owned(peer, id).await?;
            let hint = "ask again when the lease is closed";
            return Err(Refusal::new(RefusalCode::Unavailable, "the lease's data are still here", hint));
        }
        let found = self.parts.store.get::<Deleted>(DELETED, &id.to_string()).await;
        let found = found.map_err(|error| {
            tracing::warn!(lease = %id, %error, "what was deleted cannot be read");
            Refusal::new(RefusalCode::Unavailable, "the provider's records cannot be read", "ask again later")
        })?;
        let own = found.filter(|deleted| deleted.owner == peer).ok_or_else(unknown_lease)?;
        Ok(Answer::Deleted(own.word))
    }

    /// The lease, if `peer` may read its reports and pay it: its owner, or the meter that the owner named.
    async fn paying(&self, peer: MeshKey, id: LeaseId) -> Result<(Arc<Hosted>, Role), Refusal> {
        let hosted = self.lease(id).ok_or_else(unknown_lease)?;
        let role = {
            let record = hosted.record.lock().await;
            if record.owner == peer {
                Some(Role::Owner)
            } else {
                (record.meter == Some(peer)).then_some(Role::Meter)
            }
        };
        Ok((hosted, role.ok_or_else(unknown_lease)?))
    }

    /// Changes a record, durably, and rings its worker.
    pub(super) async fn change(
        &self,
        hosted: &Hosted,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), Refusal> {
        let mut record = hosted.record.lock().await;
        let mut next = record.clone();
        change(&mut next);
        self.save(&next).await?;
        *record = next;
        drop(record);
        hosted.bell.notify_one();
        Ok(())
    }

    async fn save(&self, record: &Record) -> Result<(), Refusal> {
        self.parts.store.put(KIND, record.hosting.id.to_string(), record).await.map_err(|error| {
            tracing::error!(%error, "a lease could not be stored");
            Refusal::new(RefusalCode::Unavailable, "the provider cannot store this now", "try again")
        })
    }

    /// Whether the terms were made of prices that were asked lately, and have in theirs what the job may send.
    fn pays_for_egress(&self, terms: &LeaseTerms, share: &Share) -> bool {
        let asking = self.prices.read().unwrap_or_else(PoisonError::into_inner).clone();
        asking.lately().any(|prices| {
            let offer = Offer { prices: prices.clone(), ..self.config.offer.clone() };
            pays_for_egress(&offer, terms, share, self.needed(share))
        })
    }

    /// How many units hold so much.
    fn needed(&self, share: &Share) -> u64 {
        let unit = &self.config.offer.unit;
        u64::from(share.cpu_millis.div_ceil(unit.cpu_millis.max(1)))
            .max(share.memory.get().div_ceil(unit.memory.get().max(1)))
            .max(1)
    }

    /// The units that a lease holds: those in its terms, or on the unstaked tier, whose terms name none, free ones.
    fn units_of(&self, in_terms: u64, share: &Share) -> Result<u64, Refusal> {
        let free = self.unheld_units();
        if in_terms != 0 {
            return if in_terms & !free == 0 { Ok(in_terms) } else { Err(taken()) };
        }
        match u8::try_from(self.needed(share)) {
            Ok(needed) if free.count_ones() >= u32::from(needed) => Ok(lowest_bits(free, needed)),
            Ok(_) | Err(_) => Err(taken()),
        }
    }

    fn gpus_for(&self, units: u64, count: u8) -> Vec<u32> {
        let per_unit = usize::from(self.config.offer.unit.gpus.as_ref().map_or(0, |gpus| gpus.count));
        let of_units = (0..64usize)
            .filter(|unit| units >> unit & 1 == 1)
            .flat_map(|unit| self.config.gpus.iter().copied().skip(unit * per_unit).take(per_unit));
        of_units.take(usize::from(count)).collect()
    }
}

fn taken() -> Refusal {
    Refusal::new(RefusalCode::Busy, "no unit is free any more", "ask for new terms, or try another provider")
}

fn unknown_lease() -> Refusal {
    Refusal::new(RefusalCode::UnknownLease, "no such lease of yours is here", "")
}

fn malformed(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(RefusalCode::Malformed, error.to_string(), "")
}

fn payment(error: tradewind_proto::voucher::VoucherError) -> Refusal {
    Refusal::new(RefusalCode::Payment, error.to_string(), "sign a voucher that the lease's rules allow")
}
