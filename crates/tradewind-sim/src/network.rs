//! The mesh of a run: requests and answers that are late, lost, doubled, garbled and repeated by strangers, and lines that are cut.
//!
//! The directory is the mesh's own, shared by every node; who a request comes from is beyond doubt, as on QUIC.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tradewind_mesh::blobs::{
    BlobError, BlobHash, BlobRef, FetchError, FetchOptions, Fetched, Label, Progress,
};
use tradewind_mesh::directory::{Directory, DirectoryWatch, OfferVerifier, PublishError, Record};
use tradewind_mesh::tunnel::{Duplex, TunnelGate, TunnelTarget};
use tradewind_mesh::{
    CallError, DialError, DirectoryLimits, FrameStream, LeaseService, PeerAddr, ProbeService, Probed,
    Refusal, RefusalCode, Transport,
};
use tradewind_proto::conversation::{Answer, Request};
use tradewind_proto::ids::{LeaseId, MeshKey};
use tradewind_proto::units::Money;

use crate::life::Life;
use crate::world::{World, lock};

/// How long a caller waits for an answer, and for a dial.
const CALL: Duration = Duration::from_secs(15);
const DIAL: Duration = Duration::from_secs(5);
/// What a message takes on a good line.
const FAST: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(40));
/// Requests that a stranger remembers.
const OVERHEARD: usize = 64;

/// Says which requests a buyer does not send, or a provider does not answer.
pub type Silence = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// What a node is silent about at the moment.
pub(crate) type Quiet = Arc<Mutex<Option<Silence>>>;

fn is_quiet(quiet: &Quiet, request: &Request) -> bool {
    let silence = lock(quiet).clone();
    silence.is_some_and(|silence| silence(request))
}

/// Every node by its key, and what crossed the wires.
#[derive(Default)]
pub(crate) struct Post {
    nodes: BTreeMap<MeshKey, Node>,
    overheard: Vec<(MeshKey, Bytes)>,
    /// The best voucher that each lease's provider acknowledged.
    pub(crate) acknowledged: BTreeMap<LeaseId, Money>,
    /// The last amount that each lease's buyer sent.
    sent: BTreeMap<LeaseId, Money>,
}

struct Node {
    name: String,
    life: Arc<Life>,
    service: Option<Arc<dyn LeaseService>>,
    quiet: Quiet,
    blobs: BTreeMap<[u8; 32], Bytes>,
}

/// The directory that all nodes share.
#[must_use]
pub(crate) fn directory(world: &Arc<World>) -> Directory {
    let verifier = Arc::new(OfferVerifier::open(world.clock()));
    Directory::new(&DirectoryLimits::default(), verifier, world.clock())
}

/// A node's place in the network, for one life.
pub(crate) struct Wire {
    pub(crate) life: Arc<Life>,
    pub(crate) key: MeshKey,
    pub(crate) directory: Directory,
    /// What this node does not send, and does not answer.
    pub(crate) quiet: Quiet,
}

impl Wire {
    /// Puts the node on the network.
    pub(crate) fn plug(self) -> Arc<Self> {
        let world = self.life.world().clone();
        let mut post = lock(&world.post);
        let blobs = post.nodes.remove(&self.key).map(|node| node.blobs).unwrap_or_default();
        let name = self.life.name().to_owned();
        let node = Node { name, life: self.life.clone(), service: None, quiet: self.quiet.clone(), blobs };
        post.nodes.insert(self.key, node);
        drop(post);
        Arc::new(self)
    }

    fn world(&self) -> &Arc<World> {
        self.life.world()
    }

    /// The way of a message; `false` when it is lost.
    async fn travel(&self, from: &str, to: &str, message: &[u8]) -> bool {
        let (world, weather) = (self.world(), self.world().weather());
        // What a message meets follows from the message, not from the order of those under way.
        let purpose = format!("{from} {to} {}", blake3::hash(message));
        let longest = FAST.1.max(weather.lag);
        world.detail(from, || purpose.clone());
        tokio::time::sleep(world.seed.span(&purpose, FAST.0, longest)).await;
        !world.is_cut(from, to) && !world.seed.chance(&format!("loss {purpose}"), weather.loss)
    }

    async fn deliver(&self, peer: MeshKey, request: Bytes) -> Result<Bytes, CallError> {
        let world = self.world().clone();
        let found = lock(&world.post)
            .nodes
            .get(&peer)
            .map(|node| (node.name.clone(), node.life.clone(), node.service.clone(), node.quiet.clone()));
        let gone = || CallError::Dial(DialError::TimedOut { key: peer, after: DIAL });
        let Some((name, life, Some(service), quiet)) = found.filter(|(_, life, ..)| !life.is_over()) else {
            tokio::time::sleep(DIAL).await;
            return Err(gone());
        };
        let own = self.life.name();
        if !self.travel(own, &name, &request).await {
            tokio::time::sleep(CALL).await;
            return Err(CallError::TimedOut { after: CALL });
        }
        self.disturb(peer, &service, &request);
        let decoded = Request::decode(&request).ok();
        if decoded.as_ref().is_some_and(|request| is_quiet(&quiet, request)) {
            tokio::time::sleep(CALL).await;
            return Err(CallError::TimedOut { after: CALL });
        }
        // A call goes on after its caller left.
        let served = tokio::spawn({
            let (key, request) = (self.key, request.clone());
            async move { service.call(key, request).await }
        });
        let answer = tokio::select! {
            biased;
            answer = served => answer.map_err(|_| CallError::NoAnswer)?,
            () = life.ended() => return Err(CallError::NoAnswer),
        };
        let answer = answer.map_err(CallError::Refused)?;
        self.witness(decoded.as_ref(), &answer);
        if !self.travel(&name, own, &answer).await {
            tokio::time::sleep(CALL).await;
            return Err(CallError::TimedOut { after: CALL });
        }
        Ok(self.garble(answer))
    }

    /// What a stranger and a bad line make of a request.
    fn disturb(&self, peer: MeshKey, service: &Arc<dyn LeaseService>, request: &Bytes) {
        let (world, weather) = (self.world().clone(), self.world().weather());
        if world.seed.chance("duplicates", weather.duplicates) {
            let late = world.seed.span("duplicate's delay", Duration::ZERO, Duration::from_secs(20));
            let (service, key, request) = (service.clone(), self.key, request.clone());
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                // Nobody waits for a duplicate's answer.
                let _ = service.call(key, request).await;
            });
            world.count("duplicates");
        }
        let mut post = lock(&world.post);
        if post.overheard.len() < OVERHEARD {
            post.overheard.push((peer, request.clone()));
        }
        if !world.seed.chance("replays", weather.replays) {
            return;
        }
        let picked = world.seed.below("which replay", post.overheard.len() as u64);
        let Some((_, old)) = usize::try_from(picked).ok().and_then(|at| post.overheard.get(at)).cloned()
        else {
            return;
        };
        drop(post);
        let mut forged = old.to_vec();
        if world.seed.chance("is forged", 500) && !forged.is_empty() {
            let at = usize::try_from(world.seed.below("forged byte", forged.len() as u64)).unwrap_or(0);
            forged[at] ^= 1 << world.seed.below("forged bit", 8);
        }
        let (service, key) = (service.clone(), MeshKey::from_bytes(world.seed.bytes("a stranger")));
        let seen = world.clone();
        tokio::spawn(async move {
            let answer = service.call(key, forged.into()).await;
            let said_yes = answer.ok().and_then(|bytes| Answer::decode(&bytes).ok());
            if let Some(Answer::Paid { .. } | Answer::Report(_) | Answer::Logs(_) | Answer::Stopping) =
                said_yes
            {
                seen.broke("a stranger was answered about a lease that is not its own".into());
            }
        });
        world.count("replays");
    }

    fn garble(&self, answer: Bytes) -> Bytes {
        let world = self.world();
        if !world.seed.chance("garbled", world.weather().garbled) {
            return answer;
        }
        world.count("garbled");
        let mut other = answer.to_vec();
        let cut = usize::try_from(world.seed.below("garbled length", other.len() as u64 + 1)).unwrap_or(0);
        other.truncate(cut);
        other.push(0xff);
        other.into()
    }

    /// Remembers what a provider put its name to.
    fn witness(&self, request: Option<&Request>, answer: &Bytes) {
        let world = self.world();
        let Ok(answer) = Answer::decode(answer) else { return };
        let acknowledged = match (request, answer) {
            (Some(Request::Pay(voucher)), Answer::Paid { .. }) => {
                Some((voucher.voucher.lease, voucher.voucher.cumulative))
            }
            (Some(Request::Begin(begin)), Answer::Begun(lease)) => {
                Some((lease, begin.prepayment.voucher.cumulative))
            }
            _ => None,
        };
        if let Some((lease, amount)) = acknowledged {
            let mut post = lock(&world.post);
            let best = post.acknowledged.entry(lease).or_insert(Money::ZERO);
            *best = amount.max(*best);
            drop(post);
            world.note(self.life.name(), &format!("paid {} for {}", amount.base_units(), lease.short()));
        }
    }

    /// Vouchers of a lease only grow.
    fn audit(&self, request: &Request) {
        let Request::Pay(voucher) = request else { return };
        let (lease, amount) = (voucher.voucher.lease, voucher.voucher.cumulative);
        let mut post = lock(&self.world().post);
        let before = post.sent.insert(lease, amount).unwrap_or(Money::ZERO);
        drop(post);
        if amount < before {
            self.world().broke(format!("a voucher shrank from {before} to {amount}"));
        }
    }
}

#[async_trait]
impl Transport for Wire {
    fn key(&self) -> MeshKey {
        self.key
    }

    fn address(&self) -> PeerAddr {
        PeerAddr::new(self.key)
    }

    fn serve_leases(&self, service: Arc<dyn LeaseService>) {
        if let Some(node) = lock(&self.world().post).nodes.get_mut(&self.key) {
            node.service = Some(service);
        }
    }

    fn serve_meters(&self, _: Arc<dyn LeaseService>) {}

    fn serve_tunnels(&self, _: Arc<dyn TunnelGate>) {}

    fn serve_probes(&self, _: Arc<dyn ProbeService>) {}

    async fn call(&self, peer: &PeerAddr, request: Bytes) -> Result<Bytes, CallError> {
        self.life.point("before a call").await;
        if let Ok(decoded) = Request::decode(&request) {
            if is_quiet(&self.quiet, &decoded) {
                return Err(CallError::NoAnswer);
            }
            self.audit(&decoded);
        }
        let answer = self.deliver(peer.key, request).await;
        self.life.point("after a call").await;
        answer
    }

    async fn ask_meter(&self, _: &PeerAddr, _: Bytes) -> Result<Bytes, CallError> {
        Err(nothing())
    }

    async fn open(&self, _: &PeerAddr, _: Bytes) -> Result<FrameStream, CallError> {
        Err(nothing())
    }

    async fn probe(&self, _: &PeerAddr, _: Bytes) -> Result<Probed, CallError> {
        Err(nothing())
    }

    async fn open_tunnel(&self, _: &PeerAddr, _: TunnelTarget) -> Result<Box<dyn Duplex>, CallError> {
        Err(nothing())
    }

    async fn publish(&self, record: Record) -> Result<(), PublishError> {
        self.life.alive().await;
        let accepted = self.directory.accept(vec![record]);
        match (accepted.forged, accepted.refused) {
            (Some(refusal), _) => Err(PublishError::Unverified(refusal)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        }
    }

    fn records(&self) -> Vec<Arc<Record>> {
        self.directory.snapshot()
    }

    fn watch(&self) -> DirectoryWatch {
        self.directory.watch()
    }

    async fn add_file(&self, path: &Path, label: &Label) -> Result<BlobRef, BlobError> {
        let content = std::fs::read(path);
        let content = content.map_err(|source| BlobError::Path { path: path.to_owned(), source })?;
        self.add_bytes(content.into(), label).await
    }

    async fn add_bytes(&self, content: Bytes, _: &Label) -> Result<BlobRef, BlobError> {
        self.life.alive().await;
        let (hash, size) = (BlobHash::of(&content), content.len() as u64);
        if let Some(node) = lock(&self.world().post).nodes.get_mut(&self.key) {
            node.blobs.insert(*hash.as_bytes(), content);
        }
        Ok(BlobRef { hash, size })
    }

    fn grant(&self, _: &Label, _: BlobHash, _: MeshKey) -> Result<(), BlobError> {
        Ok(())
    }

    fn share(&self, _: &Label, _: BlobHash) -> Result<(), BlobError> {
        Ok(())
    }

    async fn release(&self, _: &Label) -> Result<(), BlobError> {
        self.life.alive().await;
        Ok(())
    }

    async fn fetch(
        &self,
        peer: &PeerAddr,
        hash: BlobHash,
        options: &FetchOptions,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Fetched, FetchError> {
        self.life.point("before a fetch").await;
        let found = {
            let post = lock(&self.world().post);
            let node = post.nodes.get(&peer.key).filter(|node| !node.life.is_over());
            node.and_then(|node| Some((node.name.clone(), node.blobs.get(hash.as_bytes())?.clone())))
        };
        let Some((name, content)) = found else { return Err(FetchError::NotGranted(hash)) };
        if !self.travel(self.life.name(), &name, hash.as_bytes()).await {
            return Err(FetchError::Stalled { after: options.stall });
        }
        let size = content.len() as u64;
        if size > options.max_size {
            return Err(FetchError::TooLarge { size, limit: options.max_size });
        }
        progress(Progress { done: size, size });
        self.add_bytes(content, &options.label).await?;
        Ok(Fetched { size, transferred: size })
    }

    async fn read(&self, hash: BlobHash, limit: u64) -> Result<Bytes, BlobError> {
        self.life.alive().await;
        let content = {
            let post = lock(&self.world().post);
            post.nodes.get(&self.key).and_then(|node| node.blobs.get(hash.as_bytes()).cloned())
        };
        let content = content.ok_or(BlobError::Incomplete(hash))?;
        let size = content.len() as u64;
        if size > limit { Err(BlobError::TooLarge { size, limit }) } else { Ok(content) }
    }

    async fn export(&self, hash: BlobHash, target: &Path) -> Result<u64, BlobError> {
        let content = self.read(hash, u64::MAX).await?;
        let written = std::fs::write(target, &content);
        written.map_err(|source| BlobError::Path { path: target.to_owned(), source })?;
        Ok(content.len() as u64)
    }
}

/// Asks a node as another does, past lines and faults; `None` when it is down or refuses the frame.
pub(crate) async fn ask(world: &World, from: MeshKey, to: MeshKey, request: &Request) -> Option<Answer> {
    let service = lock(&world.post).nodes.get(&to)?.service.clone()?;
    let answer = service.call(from, request.encode()).await.ok()?;
    Answer::decode(&answer).ok()
}

/// The simulated network carries no streams, and has no meters.
fn nothing() -> CallError {
    CallError::Refused(Refusal::new(
        RefusalCode::Unavailable,
        "the simulated network has requests of leases only",
    ))
}
