//! The meter's node: signs vouchers for leases of buyers that trust it and may be away.
//!
//! ```text
//! mesh ── meter/1 ──► Desk: whose, which lease, which key ──► store (commit) ──► first voucher
//!                                                              │
//!                                       worker: reports ─► Delegation::next ─► store ─► voucher ─► provider
//! ```
//!
//! The store is the truth: a lease is stored before it is acknowledged and an amount before it is sent, so a meter that is killed
//! and started again goes on where it stopped and never signs less. It serves nobody whom its owner did not name.

mod record;
mod worker;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alloy_primitives::Address;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tradewind_chain::ledger::Ledger;
use tradewind_mesh::{
    FrameStream, LeaseService, PeerAddr, Refusal as MeshRefusal, RefusalCode as MeshCode, Transport,
};
use tradewind_proto::delegation::{
    AssignmentError, Delegation, Desk, MeterAnswer, MeterRequest, SignedAssignment,
};
use tradewind_proto::ids::{LeaseId, MeshKey};
use tradewind_proto::negotiation::{Refusal, RefusalCode};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::{Clock, Money, Timestamp};
use tradewind_proto::voucher::{SignedVoucher, Voucher};
use tradewind_store::{Store, StoreError};

use self::record::{KIND, Record};
use crate::market::Market;

pub use self::record::Metered;

/// How the meter works.
#[derive(Debug, Clone)]
pub struct MeterConfig {
    /// The accounts that it meters for; nobody else.
    pub serves: BTreeSet<Address>,
    /// The most leases of one of them at once.
    pub assignments: usize,
    /// How often a lease is looked at.
    pub tick: Duration,
}

/// The parts that a meter drives.
pub struct Parts {
    /// The chain; only read.
    pub ledger: Arc<dyn Ledger>,
    /// The mesh.
    pub transport: Arc<dyn Transport>,
    /// What survives.
    pub store: Store,
    /// Signs vouchers.
    pub key: SigningKey,
    /// The time.
    pub clock: Clock,
}

/// A running meter; clones share it.
#[derive(Clone)]
pub struct Meter {
    inner: Arc<Inner>,
}

struct Inner {
    config: MeterConfig,
    parts: Parts,
    desk: Desk,
    market: Market,
    leases: RwLock<HashMap<LeaseId, Arc<Lease>>>,
    /// Held while a lease is taken over.
    taking: Mutex<()>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

/// A lease in memory.
struct Lease {
    id: LeaseId,
    record: Mutex<Record>,
}

impl Meter {
    /// Starts the meter: takes every stored lease up again and answers on the mesh.
    ///
    /// # Errors
    /// [`StoreError`]; nothing runs then.
    pub async fn start(config: MeterConfig, parts: Parts) -> Result<Self, StoreError> {
        let stored: Vec<(String, Record)> = parts.store.all(KIND).await?;
        let cancel = CancellationToken::new();
        let market = Market::follow(parts.transport.clone(), parts.clock.clone(), cancel.clone());
        let desk = Desk {
            domain: parts.ledger.domain(),
            node: parts.transport.key(),
            signer: parts.key.address(),
            serves: config.serves.clone(),
        };
        let (leases, taking, tasks) = (RwLock::default(), Mutex::default(), TaskTracker::new());
        let inner = Arc::new(Inner { config, parts, desk, market, leases, taking, cancel, tasks });
        for (_, record) in stored {
            tracing::info!(lease = %record.delegation.lease.id, "metering a lease again");
            inner.follow(record);
        }
        let meter = Self { inner };
        meter.inner.parts.transport.serve_meters(Arc::new(meter.clone()));
        Ok(meter)
    }

    /// The key that terms have to name for this meter.
    #[must_use]
    pub fn signer(&self) -> Address {
        self.inner.desk.signer
    }

    /// The accounts that it meters for.
    #[must_use]
    pub fn serves(&self) -> Vec<Address> {
        self.inner.desk.serves.iter().copied().collect()
    }

    /// Every lease that it meters, in the order in which they began.
    pub async fn leases(&self) -> Vec<Metered> {
        let mut metered = Vec::new();
        for lease in self.inner.known() {
            metered.push(lease.record.lock().await.shown());
        }
        metered.sort_by_key(|lease| (lease.start, lease.lease));
        metered
    }

    /// Ends the workers. Leases are taken up by the next start.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    async fn answer(&self, peer: MeshKey, request: MeterRequest) -> Result<MeterAnswer, Refusal> {
        let inner = &self.inner;
        match request {
            MeterRequest::Ask(inquiry) => {
                let buyer = inner.desk.hear(&inquiry, peer, inner.now()).map_err(refused)?;
                inner.has_room(buyer.account()).await?;
                Ok(MeterAnswer::Willing { signer: inner.desk.signer })
            }
            MeterRequest::Assign(assignment) => inner.take(*assignment).await,
        }
    }
}

#[async_trait]
impl LeaseService for Meter {
    async fn call(&self, peer: MeshKey, request: Bytes) -> Result<Bytes, MeshRefusal> {
        let request = MeterRequest::decode(&request)
            .map_err(|error| MeshRefusal::new(MeshCode::Malformed, error.to_string()))?;
        let answer = self.answer(peer, request).await.unwrap_or_else(|refusal| {
            tracing::info!(%peer, %refusal, "a request to meter was refused");
            MeterAnswer::Refused(refusal)
        });
        Ok(answer.encode())
    }

    async fn open(&self, _peer: MeshKey, _header: Bytes, stream: FrameStream) {
        let refusal = MeshRefusal::new(MeshCode::Malformed, "this version of the protocol has no streams");
        if let Err(error) = stream.refuse(&refusal).await {
            tracing::debug!(%error, "a refusal did not arrive");
        }
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        (self.parts.clock)()
    }

    fn known(&self) -> Vec<Arc<Lease>> {
        self.leases.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Takes a lease over: stored before it is acknowledged. The same assignment again is acknowledged again.
    async fn take(self: &Arc<Self>, signed: SignedAssignment) -> Result<MeterAnswer, Refusal> {
        let (id, assignment) = self.desk.check(&signed, self.now()).map_err(refused)?;
        let _one = self.taking.lock().await;
        let known = self.leases.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(known) = known {
            let record = known.record.lock().await;
            if record.assignment != signed || record.delegation.over.is_some() {
                let reason = "this lease was assigned before, and differently or to its end";
                return Err(Refusal::new(RefusalCode::Policy, reason, "ask for new terms"));
            }
        } else {
            self.has_room(assignment.terms.buyer.account()).await?;
            let provider: PeerAddr = assignment.provider.parse().map_err(|_| {
                Refusal::new(RefusalCode::Malformed, "the provider's address is malformed", "")
            })?;
            let record =
                Record { delegation: Delegation::new(id, &assignment), assignment: signed, provider };
            self.parts.store.put(KIND, id.to_string(), &record).await.map_err(|error| {
                tracing::error!(%error, "a lease could not be stored");
                Refusal::new(RefusalCode::Unavailable, "the meter cannot store this now", "try again")
            })?;
            tracing::info!(lease = %id, buyer = %assignment.terms.buyer, "metering a lease");
            self.follow(record);
        }
        let prepayment = self
            .voucher(id, assignment.terms.prepay)
            .map_err(|error| Refusal::new(RefusalCode::Malformed, error, "ask for new terms"))?;
        Ok(MeterAnswer::Taken { prepayment })
    }

    /// Whether one more lease of `buyer` would be metered.
    async fn has_room(&self, buyer: Address) -> Result<(), Refusal> {
        let mut held = 0;
        for lease in self.known() {
            let record = lease.record.lock().await;
            let live = record.delegation.over.is_none();
            held += usize::from(live && record.delegation.lease.terms.buyer.account() == buyer);
        }
        if held < self.config.assignments {
            return Ok(());
        }
        let reason = format!("this node meters {held} leases of {buyer} already, and no more");
        let hint = "wait until one is over, or ask its owner to raise `assignments` under [meter]";
        Err(Refusal::new(RefusalCode::Busy, reason, hint))
    }

    fn follow(self: &Arc<Self>, record: Record) {
        let id = record.delegation.lease.id;
        let lease = Arc::new(Lease { id, record: Mutex::new(record) });
        self.leases.write().unwrap_or_else(PoisonError::into_inner).insert(id, lease.clone());
        self.tasks.spawn(worker::run(self.clone(), lease));
    }

    fn voucher(&self, lease: LeaseId, cumulative: Money) -> Result<SignedVoucher, String> {
        let voucher = Voucher { lease, cumulative, not_before: Timestamp::default(), last: false };
        voucher.sign(&self.desk.domain, &self.parts.key).map_err(|error| error.to_string())
    }
}

fn refused(error: AssignmentError) -> Refusal {
    let (code, hint) = match &error {
        AssignmentError::NotServed(_) => (
            RefusalCode::Policy,
            "ask its owner to add the account to `serves` under [meter] in its node.toml",
        ),
        AssignmentError::OtherDomain { .. } => {
            (RefusalCode::Policy, "both nodes need the same network's profile")
        }
        AssignmentError::OtherKey { .. } => (RefusalCode::Policy, "ask for its key again, and for new terms"),
        AssignmentError::Late => (RefusalCode::Policy, "set the clocks right, or ask for new terms"),
        AssignmentError::Frame(_)
        | AssignmentError::Signature(_)
        | AssignmentError::OtherNode
        | AssignmentError::Terms(_) => (RefusalCode::Malformed, ""),
    };
    Refusal::new(code, error.to_string(), hint)
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("signer", &self.inner.desk.signer).finish_non_exhaustive()
    }
}
