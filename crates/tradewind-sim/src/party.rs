//! A buyer or a provider with what outlives its process: keys, disk, outbox, machine. It is started anew after each crash.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::{Address, B256, keccak256};
use tokio::sync::watch;
use tradewind_buyer::buyer::{Buyer, BuyerConfig, Parts as BuyerParts};
use tradewind_buyer::job::record::JobRecord;
use tradewind_chain::client::relayed::RelayedLedger;
use tradewind_chain::client::store::Store as Outbox;
use tradewind_chain::ledger::{Action, Ledger as _, Reference};
use tradewind_mesh::directory::Directory;
use tradewind_proto::attestation::Tees;
use tradewind_proto::conversation::Request;
use tradewind_proto::ids::{DeviceId, MeshKey, ProviderId};
use tradewind_proto::lending::{Lending, Limits, Schedule};
use tradewind_proto::offer::{Conditions, Offer, Prices, Region, Resources, Runtimes, TrustTier};
use tradewind_proto::owner::OwnerRules;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::{Bytes, Money, RatePerSecond, Seconds, Timestamp};
use tradewind_proto::workload::Network;
use tradewind_provider::agent::{Agent, AgentConfig, Parts as AgentParts};
use tradewind_provider::runtime::Runtime;
use tradewind_provider::tee::Attester;
use tradewind_provider::web::SourcePolicy;
use tradewind_tee::Roots;

use crate::chain::{Chain, dollars, outbox};
use crate::disk::Disk;
use crate::host::{Engine, Host};
use crate::life::Life;
use crate::market::Setup;
use crate::network::{Quiet, Wire};
use crate::world::{World, lock};

/// How long the dead stay dead, unless they are kept down.
const DOWN: Duration = Duration::from_secs(4);

/// Of a party, what no crash can take.
pub struct Seat {
    /// Its name in the trace.
    pub name: String,
    world: Arc<World>,
    chain: Arc<Chain>,
    directory: Directory,
    dir: PathBuf,
    /// The account's key.
    pub key: SigningKey,
    /// The node's key.
    pub mesh: MeshKey,
    /// Its records.
    pub disk: Disk,
    outbox: Outbox,
    crashes: Mutex<VecDeque<u64>>,
    lives: watch::Sender<Option<Arc<Life>>>,
    kept_down: watch::Sender<bool>,
    quiet: Quiet,
}

impl Seat {
    pub(crate) fn new(
        name: &str,
        world: &Arc<World>,
        chain: &Arc<Chain>,
        directory: &Directory,
        dir: &Path,
    ) -> Self {
        let outbox = outbox();
        Self {
            name: name.into(),
            world: world.clone(),
            chain: chain.clone(),
            directory: directory.clone(),
            dir: dir.join(name),
            key: key(name),
            mesh: MeshKey::from_bytes(keccak256(format!("mesh of {name}")).0),
            disk: Disk::default(),
            outbox,
            crashes: Mutex::default(),
            lives: watch::Sender::new(None),
            kept_down: watch::Sender::new(false),
            quiet: Quiet::default(),
        }
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> Address {
        self.key.address()
    }

    /// The points at which its lives end, one a life.
    pub(crate) fn plan_crashes(&self, points: &[u64]) {
        *lock(&self.crashes) = points.iter().copied().collect();
    }

    /// From now on: requests that a buyer keeps to itself, or that a provider does not answer.
    pub fn is_silent_about(&self, silence: impl Fn(&Request) -> bool + Send + Sync + 'static) {
        self.world.note(&self.name, "falls silent");
        *lock(&self.quiet) = Some(Arc::new(silence));
    }

    /// Ends its process now. It starts again, unless it is kept down.
    pub fn crash(&self) {
        if let Some(life) = self.lives.borrow().as_ref() {
            life.end();
        }
    }

    /// Keeps the dead dead, or lets them live again.
    pub fn keep_down(&self, down: bool) {
        self.kept_down.send_replace(down);
        if down {
            self.crash();
        }
    }

    /// The points that its present life has passed.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.lives.borrow().as_ref().map_or(0, |life| life.points())
    }

    /// The ledger of its account that nothing disturbs, for deeds beside its node.
    #[must_use]
    pub fn ledger(&self) -> RelayedLedger {
        self.chain.calm(self.key.clone(), outbox())
    }

    async fn born(&self) -> Arc<Life> {
        let mut down = self.kept_down.subscribe();
        // The seat holds the sender.
        let _ = down.wait_for(|down| !down).await;
        let fatal = lock(&self.crashes).pop_front();
        let life = Life::new(&self.name, &self.world, fatal);
        self.lives.send_replace(Some(life.clone()));
        life
    }

    /// The life's ledger, once it has met its endpoint; a life may end before.
    async fn connect(&self, life: &Arc<Life>) -> Option<Arc<RelayedLedger>> {
        let ledger = Arc::new(self.chain.stormy(self.key.clone(), &self.outbox, life));
        tokio::select! {
            biased;
            () = life.ended() => return None,
            // A chain that does not answer now is for the node to deal with.
            _ = ledger.head() => {}
        }
        Some(ledger)
    }

    fn wire(&self, life: &Arc<Life>) -> Wire {
        Wire {
            life: life.clone(),
            key: self.mesh,
            directory: self.directory.clone(),
            quiet: self.quiet.clone(),
        }
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat")
            .field("name", &self.name)
            .field("account", &self.account())
            .finish_non_exhaustive()
    }
}

/// The key of a name.
#[must_use]
pub fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(keccak256(name).0).expect("hardly any digest is no key")
}

/// A provider.
#[derive(Debug)]
pub struct ProviderSeat {
    /// What no crash takes.
    pub seat: Seat,
    /// Its machine.
    pub host: Arc<Host>,
    offer: Offer,
    attester: Option<Arc<dyn Attester>>,
}

impl ProviderSeat {
    pub(crate) fn new(seat: Seat, price: Money, attester: Option<Arc<dyn Attester>>) -> Self {
        let host = Host::new(&seat.world, &seat.name);
        let device = DeviceId::derive(seat.account(), key(&format!("device of {}", seat.name)).address());
        let offer = Offer {
            provider: ProviderId::new(seat.account()),
            device,
            mesh_key: seat.mesh,
            sequence: 0,
            issued_at: Timestamp::default(),
            expires_at: Timestamp::default(),
            runtimes: Runtimes::NONE.with(Runtimes::PROCESS),
            unit: Resources { cpu_millis: 4_000, memory: Bytes::gib(8), disk: Bytes::gib(20), gpus: None },
            units: 2,
            free_units: 2,
            region: Region { country: "DE".into(), label: None },
            prices: Prices {
                egress: None,
                token: seat.chain.token(),
                on_demand: RatePerSecond::per_hour(price),
                spot: Some(RatePerSecond::per_hour(price)),
                reserved_discount: Some(1_000),
            },
            conditions: Conditions {
                min_duration: Seconds::new(10),
                notice: Seconds::new(10),
                min_slack: Seconds::new(5),
                prepay: Seconds::new(6),
                compensation: Seconds::new(600),
                spot_compensation: Seconds::new(60),
                break_fee: Seconds::new(300),
                ..Conditions::standard()
            },
            network: Network::None,
            ports: Vec::new(),
            trust: TrustTier::Staked,
            terms_of_service: B256::ZERO,
            version: 1,
            address: None,
            tees: Tees::NONE,
            encrypted: false,
            attested: Vec::new(),
        };
        Self { seat, host, offer, attester }
    }

    /// What it leases out.
    #[must_use]
    pub const fn device(&self) -> DeviceId {
        self.offer.device
    }

    /// Registers, stakes and pays rent, in calm weather.
    pub(crate) async fn join(&self) {
        let (seat, token) = (&self.seat, self.seat.chain.token());
        seat.chain.drip(seat.account()).await;
        let ledger = seat.ledger();
        let reference = |what: &str| Reference(keccak256(format!("{what} of {}", seat.name)));
        let device = self.offer.device;
        let actions = [
            Action::Deposit { reference: reference("deposit"), token, amount: dollars(900) },
            Action::Register { reference: reference("register"), mesh_key: seat.mesh, metadata: B256::ZERO },
            Action::AddDevice {
                key: key(&format!("device of {}", seat.name)).address(),
                sponsor: None,
                class: 0,
                units: 2,
            },
            Action::Stake { reference: reference("stake"), device, amount: dollars(100) },
            Action::Rent {
                reference: reference("rent"),
                device,
                span: Seconds::new(30 * 86_400),
                limit: dollars(10),
            },
        ];
        let mut keys = Vec::new();
        for action in actions {
            keys.push(ledger.submit(action).await.expect("an action that is taken").key);
        }
        for key in keys {
            let status = ledger.settled(&key).await.expect("an outbox");
            assert!(status.is_included(), "{} cannot join: {key} is {status:?}", seat.name);
        }
    }

    /// Lives, crashes and lives again.
    pub(crate) async fn live(self: Arc<Self>) {
        let seat = &self.seat;
        loop {
            let life = seat.born().await;
            let Some(ledger) = seat.connect(&life).await else { continue };
            let transport = seat.wire(&life).plug();
            let engine: Arc<dyn Runtime> = Arc::new(Engine { host: self.host.clone(), life: life.clone() });
            let config = AgentConfig {
                auditors: Vec::new(),
                state_dir: seat.dir.clone(),
                offer: self.offer.clone(),
                gpus: Vec::new(),
                settle_amount: dollars(5),
                tick: Duration::from_secs(2),
                heartbeat: Duration::from_secs(10),
                max_input: Bytes::gib(1),
                sources: SourcePolicy::default(),
                input_cache: Bytes::ZERO,
                rules: OwnerRules::default(),
                follow: None,
                lending: Lending::new(Schedule::always(), Limits::default()),
                keep: Seconds::new(30),
                encrypts: false,
                default_job: None,
            };
            let parts = AgentParts {
                ledger,
                transport,
                runtimes: BTreeMap::from([("process", engine)]),
                store: seat.disk.store(&life),
                key: seat.key.clone(),
                clock: seat.world.clock(),
                attester: self.attester.clone(),
                gpus: None,
            };
            let mut agent = None;
            tokio::select! {
                biased;
                () = life.ended() => {}
                () = async {
                    agent = Agent::start(config, parts).await.map_err(|error| life.world().note(life.name(), &error.to_string())).ok();
                    if agent.is_some() { std::future::pending::<()>().await }
                } => life.end(),
            }
            if let Some(agent) = agent {
                tokio::spawn(async move { agent.shutdown().await });
            }
            tokio::time::sleep(DOWN).await;
        }
    }
}

/// The buyer.
#[derive(Debug)]
pub struct BuyerSeat {
    /// What no crash takes.
    pub seat: Seat,
    current: watch::Sender<Option<Buyer>>,
    patience: Seconds,
    /// Challenge silent providers on chain.
    challenge: bool,
    roots: Roots,
}

impl BuyerSeat {
    pub(crate) fn new(seat: Seat, setup: &Setup) -> Self {
        let &Setup { patience, challenge, ref roots, .. } = setup;
        Self { seat, current: watch::Sender::new(None), patience, challenge, roots: roots.clone() }
    }

    /// The meter's key, for thieves.
    #[must_use]
    pub fn meter(&self) -> SigningKey {
        key(&format!("meter of {}", self.seat.name))
    }

    /// The buyer's node, as soon as it runs.
    pub async fn node(&self) -> Buyer {
        let mut current = self.current.subscribe();
        let running = current.wait_for(Option::is_some).await;
        running.ok().and_then(|buyer| buyer.clone()).expect("the seat holds the sender")
    }

    /// What is on its disk of its jobs.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobRecord> {
        self.seat.disk.records("job")
    }

    /// Lives, crashes and lives again.
    pub(crate) async fn live(self: Arc<Self>) {
        let seat = &self.seat;
        loop {
            let life = seat.born().await;
            let Some(ledger) = seat.connect(&life).await else { continue };
            let world = seat.world.clone();
            let config = BuyerConfig {
                state_dir: seat.dir.clone(),
                token: seat.chain.token(),
                decimals: 6,
                reserve: dollars(5),
                version: 1,
                slack: Seconds::new(15),
                prepare: Seconds::new(20),
                default_duration: Seconds::new(300),
                patience: self.patience,
                sue: None,
                challenge: self.challenge,
                tick: Duration::from_secs(2),
                meters: BTreeMap::new(),
                meter: None,
                roots: self.roots.clone(),
                traces: false,
            };
            let parts = BuyerParts {
                ledger,
                transport: seat.wire(&life).plug(),
                store: seat.disk.store(&life),
                key: seat.key.clone(),
                meter: self.meter(),
                clock: world.clock(),
                entropy: Arc::new(move || world.seed.bytes("the buyer's entropy")),
                reputations: None,
            };
            tokio::select! {
                biased;
                () = life.ended() => {}
                () = async {
                    match Buyer::start(config, parts).await {
                        Ok(buyer) => {
                            self.current.send_replace(Some(buyer));
                            std::future::pending::<()>().await;
                        }
                        Err(error) => life.world().note(life.name(), &error.to_string()),
                    }
                } => life.end(),
            }
            if let Some(buyer) = self.current.send_replace(None) {
                tokio::spawn(async move { buyer.shutdown().await });
            }
            tokio::time::sleep(DOWN).await;
        }
    }
}
