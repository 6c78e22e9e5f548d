//! The `docker` runtime: a container for each lease, on the Docker engine of this machine.
//!
//! ```text
//!  start ─► image (here, pulled, imported) ─┐
//!        ─► egress table in force           ├─► create tw-<lease> ─► program there? ─► start ─► collector, warden
//!        ─► bridge from the pool            ┘        │ 409: same labels and digest? go on; else Conflict
//!
//!  remove ─► container and its volumes ─► bridge back to the pool ─► log, usage and position
//! ```
//!
//! What holds a job: its own bridge behind the egress table (or no network), no capability, no new privileges, the engine's
//! seccomp profile, a read-only root, memory instead of declared volumes, limits on CPU, memory without swap, processes, open
//! files and file size, and a user that is not root. What it may write is `/work`; the warden ends it when that grows past its
//! limit. No port of the host is opened: tunnels go to the container's own address.
//!
//! The container's labels name its lease, its owner (the agent) and its spec's digest, so a restarted agent finds its own and
//! two agents on one engine leave each other's alone. Secrets are in the container's environment only; the engine keeps that in
//! its own directory, which only root reads, until the container is removed. A registry's password is told to the engine with
//! the pull alone.

mod archive;
mod cache;
mod container;
mod egress;
mod engine;
mod exec;
mod image;
mod launch;
mod login;
mod logs;
mod network;
mod pace;
mod pull;
mod readiness;
mod remap;
mod repository;
mod requirement;
mod sandbox;
mod seccomp;
mod signature;
mod signed;
mod usage;
mod warden;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::query_parameters::{
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;
use tradewind_proto::access::Session;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::offer::DriverVersion;
use tradewind_proto::units::Seconds;
use tradewind_proto::workload::{Image, LogChunk, LogCursor, Secrets, Usage, WorkloadSpec, WorkloadStatus};

pub use archive::{ImageLimits, ImportError};
pub use cache::CacheRules;
pub use egress::{EgressError, EgressPolicy, HostPrefixes, installation_mark, is_private, ruleset};
pub use network::PoolSize;
pub use sandbox::{Sandbox, SandboxError, sandboxed_by};
pub use signature::{ImageKey, ImageKeyError, SignedImages};

use crate::inventory::{CudaVersion, Places};
use crate::runtime::{Ask, Fetched, Readiness, Runtime, RuntimeError, SessionEnds, Volumes};
use cache::ImageCache;
use container::{Described, LEASE, OWNER, Phase};
use egress::EgressTable;
use engine::{CallError, Engine};
use logs::Spool;
use network::NetworkPool;
use usage::Meter;

const NAME: &str = "docker";
/// After a workload ended its log is whole within this time.
const LOG_DRAINS_WITHIN: Duration = Duration::from_secs(5);
/// A directory that is not empty when it is removed is soon.
const FORGET_TRIES: u32 = 50;
/// The engine kills within this time after a grace.
const KILL_TAKES: Duration = Duration::from_secs(20);

/// How containers get GPUs. No way was tried on real hardware yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuMode {
    /// None are lent.
    Off,
    /// The Container Device Interface: engine 25 or newer with a specification by `nvidia-ctk cdi generate`.
    Cdi,
    /// The NVIDIA container toolkit's own driver, for older engines.
    Toolkit,
    /// AMD's device files: `/dev/kfd`, which lets a job use only those cards whose render node it has, and the render nodes.
    Rocm,
    /// Intel's device files: the render nodes.
    Render,
}

/// What NVIDIA's driver on this machine is; what is not known refuses no image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Nvidia {
    /// Its version.
    pub driver: Option<DriverVersion>,
    /// The newest CUDA that it runs.
    pub cuda: Option<CudaVersion>,
}

/// The user that jobs run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl JobUser {
    /// `nobody`-like for an agent that is root and can read whatever the job leaves; else the agent's own user, for the same
    /// reason.
    #[must_use]
    pub fn of_agent() -> Self {
        let uid = rustix::process::geteuid();
        if uid.is_root() {
            return Self { uid: 65532, gid: 65532 };
        }
        Self { uid: uid.as_raw(), gid: rustix::process::getegid().as_raw() }
    }
}

/// What a [`DockerRuntime`] is made of.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// The engine's socket, as in `DOCKER_HOST`; it must be on this machine.
    pub host: String,
    /// Names this agent on the engine: another one's containers and networks are left alone.
    pub owner: String,
    /// Holds logs and usage of leases, and which images were brought for them.
    pub state_dir: PathBuf,
    /// Who keeps the egress table.
    pub egress: EgressPolicy,
    /// The egress table's name.
    pub egress_table: String,
    /// The most that a lease may send, and receive, in Mbit/s; only where the agent itself keeps the table.
    pub bandwidth: Option<u32>,
    /// How GPUs reach a container.
    pub gpus: GpuMode,
    /// Where jobs with accelerators run.
    pub places: Places,
    /// The driver that images for them have to suit.
    pub nvidia: Nvidia,
    /// Resolvers for leases with the Internet. Public ones: the local network's are behind the egress table.
    pub dns: Vec<IpAddr>,
    /// How many bridges wait ready.
    pub pool: PoolSize,
    /// The user that jobs run as.
    pub user: JobUser,
    /// Which leases get a kernel of their own.
    pub sandbox: Sandbox,
    /// Images that run with a signature only.
    pub signed: Vec<SignedImages>,
    /// Bounds of images.
    pub images: ImageLimits,
    /// How many of them are kept for later leases.
    pub cache: CacheRules,
    /// Bounds every call to the engine.
    pub call_within: Duration,
    /// Bounds a pull.
    pub pull_within: Duration,
}

impl DockerConfig {
    /// The usual settings.
    #[must_use]
    pub fn new(owner: impl Into<String>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            host: std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into()),
            owner: owner.into(),
            state_dir: state_dir.into(),
            egress: EgressPolicy::Managed,
            egress_table: "tradewind".into(),
            bandwidth: None,
            gpus: GpuMode::Off,
            places: Places::default(),
            nvidia: Nvidia::default(),
            dns: vec![Ipv4Addr::new(9, 9, 9, 9).into(), Ipv4Addr::new(1, 1, 1, 1).into()],
            pool: PoolSize { open: 2, closed: 1 },
            user: JobUser::of_agent(),
            sandbox: Sandbox::Off,
            signed: Vec::new(),
            images: ImageLimits::default(),
            cache: CacheRules::default(),
            call_within: Duration::from_secs(20),
            pull_within: Duration::from_secs(30 * 60),
        }
    }
}

/// The runtime. Dropping it leaves every workload running.
#[derive(Debug)]
pub struct DockerRuntime {
    shared: Arc<Shared>,
    warden: tokio::task::JoinHandle<()>,
    keeper: tokio::task::JoinHandle<()>,
}

/// What calls, collectors and the warden have in common.
#[derive(Debug)]
struct Shared {
    config: DockerConfig,
    engine: Engine,
    egress: EgressTable,
    pool: NetworkPool,
    cache: ImageCache,
    boot: String,
    /// What a restarted agent found was put in order.
    adopted: OnceCell<()>,
    /// And is looked after.
    taken_over: OnceCell<()>,
    /// One start, stop or removal of a lease at a time.
    doors: Mutex<HashMap<LeaseId, Arc<Mutex<()>>>>,
    /// Leases whose log is being taken and whose directory is being measured.
    watched: Mutex<BTreeMap<LeaseId, warden::Watched>>,
    /// Programs known to exist: (image id, path).
    programs: Mutex<BTreeSet<(String, String)>>,
}

impl Drop for DockerRuntime {
    fn drop(&mut self) {
        self.warden.abort();
        self.keeper.abort();
        if let Ok(watched) = self.shared.watched.try_lock() {
            watched.values().for_each(warden::Watched::let_go);
        }
    }
}

impl DockerRuntime {
    /// The runtime on an engine, which need not answer yet; [`Runtime::readiness`] says whether it does. Call it within a tokio
    /// runtime: it looks after its leases there.
    pub fn connect(config: DockerConfig) -> Result<Self, RuntimeError> {
        if let Some(local) = config.dns.iter().find(|address| is_private(**address)) {
            let what = format!("the resolver {local}: it is behind the egress table; name a public one");
            return Err(RuntimeError::Unsupported { runtime: NAME, what });
        }
        std::fs::create_dir_all(config.state_dir.join("leases"))
            .map_err(RuntimeError::io(format!("make {}", config.state_dir.display())))?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(RuntimeError::io("read this boot's id"))?;
        let shared = Arc::new(Shared {
            engine: Engine::new(config.host.clone(), config.call_within),
            egress: EgressTable::new(config.egress_table.clone(), config.egress.clone(), config.bandwidth),
            pool: NetworkPool::new(config.owner.clone(), config.pool),
            cache: ImageCache::new(config.cache.clone(), config.state_dir.clone()),
            boot: boot.trim().to_owned(),
            adopted: OnceCell::new(),
            taken_over: OnceCell::new(),
            doors: Mutex::default(),
            watched: Mutex::default(),
            programs: Mutex::default(),
            config,
        });
        let warden = tokio::spawn(warden::watch(Arc::downgrade(&shared)));
        let keeper = tokio::spawn(cache::keep(Arc::downgrade(&shared), shared.cache.bell()));
        Ok(Self { shared, warden, keeper })
    }

    /// Imports an image archive (docker's or OCI's, an uncompressed tar) whose BLAKE3 hash is `archive`; a spec that names this
    /// hash then runs in it. The archive's own tags are ignored. The image is not removed while `lease` is not. Returns the
    /// image's digest.
    pub async fn import(
        &self,
        lease: Option<LeaseId>,
        path: &Path,
        archive: [u8; 32],
    ) -> Result<String, ImportError> {
        self.shared.import(lease, path, archive).await
    }

    /// Removes what no lease owns: the images that leases brought, except pinned ones, the bridges that wait ready and, where no
    /// agent has a bridge any more, the egress table that this one keeps. When the provider leaves the market.
    pub async fn leave(&self) -> Result<(), RuntimeError> {
        self.shared.adopt().await?;
        self.shared.cache.empty(&self.shared.engine).await?;
        self.shared.pool.drain(&self.shared.engine).await?;
        let removed = self.shared.egress.remove_unused().await;
        removed.map_err(|error| RuntimeError::io("remove the egress table")(std::io::Error::other(error)))
    }
}

impl Shared {
    fn directory(&self, lease: LeaseId) -> PathBuf {
        self.config.state_dir.join("leases").join(lease.to_string())
    }

    fn spool(&self, lease: LeaseId) -> Spool {
        Spool::new(self.directory(lease))
    }

    /// Held while a lease is started, stopped or removed.
    async fn door(&self, lease: LeaseId) -> tokio::sync::OwnedMutexGuard<()> {
        let mut doors = self.doors.lock().await;
        doors.retain(|_, door| Arc::strong_count(door) > 1);
        let door = Arc::clone(doors.entry(lease).or_default());
        drop(doors);
        door.lock_owned().await
    }

    /// The lease's container, whoever owns it.
    async fn describe(&self, lease: LeaseId) -> Result<Option<Described>, CallError> {
        let name = container::name(lease);
        let found = self
            .engine
            .call("inspect a container", |docker| async move { docker.inspect_container(&name, None).await })
            .await;
        match found {
            Ok(response) => Ok(Some(Described::read(response, &self.boot))),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The lease's container, if it is ours.
    async fn ours(&self, lease: LeaseId) -> Result<Option<Described>, RuntimeError> {
        Ok(self.describe(lease).await?.filter(|found| found.owner == self.config.owner))
    }

    async fn expect(&self, lease: LeaseId) -> Result<Described, RuntimeError> {
        self.ours(lease).await?.ok_or(RuntimeError::Absent(lease))
    }

    /// Our containers: their leases and the networks that they name.
    async fn containers(&self) -> Result<(BTreeSet<LeaseId>, BTreeSet<String>), CallError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{OWNER}={}", self.config.owner)])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let found = self
            .engine
            .call("list containers", |docker| async move { docker.list_containers(Some(options)).await })
            .await?;
        let (mut leases, mut networks) = (BTreeSet::new(), BTreeSet::new());
        for summary in found {
            let lease = summary.labels.as_ref().and_then(|labels| labels.get(LEASE));
            leases.extend(lease.and_then(|text| text.parse::<LeaseId>().ok()));
            networks.extend(summary.host_config.and_then(|config| config.network_mode));
        }
        Ok((leases, networks))
    }

    /// Once in a runtime's life: takes over what an earlier agent left.
    async fn adopt(&self) -> Result<(), CallError> {
        let adopting = async || {
            let (_, networks) = self.containers().await?;
            self.pool.adopt(&self.engine, &networks).await
        };
        self.adopted.get_or_try_init(adopting).await?;
        Ok(())
    }

    /// Makes sure that someone takes the lease's log and measures its directory.
    async fn watch(self: &Arc<Self>, lease: LeaseId, found: &Described) -> Result<(), RuntimeError> {
        let Some(kept) = &found.kept else { return Ok(()) };
        let directory = self.directory(lease);
        std::fs::create_dir_all(&directory).map_err(RuntimeError::io("make the lease's directory"))?;
        let mut watched = self.watched.lock().await;
        let watched = watched.entry(lease).or_insert_with(|| warden::Watched::new(kept));
        watched.see(found.runs());
        watched.collect(self, lease);
        Ok(())
    }

    async fn destroy(&self, lease: LeaseId, force: bool) -> Result<(), CallError> {
        let name = container::name(lease);
        let options = RemoveContainerOptionsBuilder::default().v(true).force(force).build();
        let outcome = self
            .engine
            .call("remove a container", |docker| async move {
                docker.remove_container(&name, Some(options)).await
            })
            .await;
        match outcome {
            Err(error) if !error.is_missing() => Err(error),
            _ => Ok(()),
        }
    }

    async fn resume(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        let name = container::name(lease);
        let outcome = self
            .engine
            .call("resume a container", |docker| async move { docker.unpause_container(&name).await })
            .await;
        self.settle(lease, outcome, false).await
    }

    /// A refused pause or resume is no failure where the container already is as it was to be, or is over.
    async fn settle(
        &self,
        lease: LeaseId,
        outcome: Result<(), CallError>,
        pause: bool,
    ) -> Result<(), RuntimeError> {
        let Err(error) = outcome else { return Ok(()) };
        if matches!(error, CallError::Unavailable(_)) {
            return Err(error.into());
        }
        match self.expect(lease).await?.phase {
            Phase::Known(WorkloadStatus::Running { paused, .. }) if paused != pause => {
                Err(error.about(lease))
            }
            Phase::Known(_) => Ok(()),
            Phase::Created => Err(RuntimeError::Absent(lease)),
        }
    }

    async fn stop(&self, lease: LeaseId, grace: Seconds) -> Result<(), RuntimeError> {
        let Some(found) = self.ours(lease).await? else { return Ok(()) };
        if !found.runs() {
            return Ok(());
        }
        if matches!(found.phase, Phase::Known(WorkloadStatus::Running { paused: true, .. })) {
            // A frozen job hears no signal.
            self.resume(lease).await?;
        }
        let name = container::name(lease);
        let seconds = i32::try_from(grace.get()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let limit = Duration::from_secs(grace.get()).saturating_add(KILL_TAKES);
        let outcome = self
            .engine
            .call_within(limit, "stop a container", |docker| async move {
                docker.stop_container(&name, Some(options)).await
            })
            .await;
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if error.is_missing() || error.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn remove(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        self.adopt().await?;
        let mut image = None;
        if let Some(found) = self.ours(lease).await? {
            if found.runs() {
                return Err(RuntimeError::StillRunning(lease));
            }
            self.destroy(lease, false).await?;
            self.pool.give_back(&self.engine, &found.network).await?;
            image = found.image;
        }
        self.cache.release(lease, image).await?;
        if let Some(watched) = self.watched.lock().await.remove(&lease) {
            watched.abandon().await;
        }
        self.forget(lease).await.map_err(RuntimeError::io("remove the lease's directory"))
    }

    /// Removes the lease's directory, into which a sample may just be written.
    async fn forget(&self, lease: LeaseId) -> std::io::Result<()> {
        let mut tries = 0;
        loop {
            match tokio::fs::remove_dir_all(self.directory(lease)).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && tries < FORGET_TRIES => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                outcome => return outcome,
            }
        }
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn readiness(&self) -> Readiness {
        readiness::check(&self.shared).await
    }

    async fn admit(&self, ask: &Ask) -> Result<(), RuntimeError> {
        if self.shared.config.sandbox.may_refuse() {
            launch::sandbox(&self.shared, ask.share.gpus > 0).await?;
        }
        Ok(())
    }

    async fn import(&self, lease: LeaseId, archive: &Path, image: &Image) -> Result<(), RuntimeError> {
        let missing = || RuntimeError::Start("the image names no archive".into());
        let hash = image.archive.ok_or_else(missing)?;
        match Self::import(self, Some(lease), archive, hash).await {
            Ok(_) => Ok(()),
            Err(ImportError::Engine(error)) => Err(error),
            Err(ImportError::Io(source)) => Err(RuntimeError::io("read the image archive")(source)),
            Err(error) => Err(RuntimeError::Start(error.to_string())),
        }
    }

    async fn fetch(&self, spec: &WorkloadSpec, secrets: &Secrets) -> Result<Fetched, RuntimeError> {
        let (_, held) = self.shared.image(spec, secrets).await?;
        Ok(Fetched::by(held))
    }

    async fn start(
        &self,
        spec: &WorkloadSpec,
        secrets: &Secrets,
        volumes: &Volumes,
    ) -> Result<(), RuntimeError> {
        let _door = self.shared.door(spec.lease).await;
        launch::start(&self.shared, spec, secrets, volumes).await
    }

    async fn status(&self, lease: LeaseId) -> Result<WorkloadStatus, RuntimeError> {
        Ok(match self.shared.ours(lease).await?.map(|found| found.phase) {
            None | Some(Phase::Created) => WorkloadStatus::Absent,
            Some(Phase::Known(status)) => status,
        })
    }

    async fn list(&self) -> Result<Vec<LeaseId>, RuntimeError> {
        let (mut leases, _) = self.shared.containers().await?;
        let directory = self.shared.config.state_dir.join("leases");
        let entries =
            std::fs::read_dir(&directory).map_err(RuntimeError::io("list the leases' directories"))?;
        leases.extend(
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<LeaseId>().ok()),
        );
        Ok(leases.into_iter().collect())
    }

    async fn logs(&self, lease: LeaseId, from: LogCursor, limit: usize) -> Result<LogChunk, RuntimeError> {
        let shared = &self.shared;
        let spool = shared.spool(lease);
        let read = || spool.read(from, limit).map_err(RuntimeError::io("read the log"));
        let chunk = read()?;
        let is_current =
            async || shared.watched.lock().await.get(&lease).is_some_and(warden::Watched::is_current);
        if !chunk.bytes.is_empty() || chunk.end || is_current().await {
            return Ok(chunk);
        }
        let found = shared.expect(lease).await?;
        if found.phase == Phase::Created {
            return Err(RuntimeError::Absent(lease));
        }
        shared.watch(lease, &found).await?;
        let patience = if found.runs() { Duration::ZERO } else { LOG_DRAINS_WITHIN };
        let begin = Instant::now();
        while begin.elapsed() < patience && !spool.has_ended() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        read()
    }

    async fn usage(&self, lease: LeaseId) -> Result<Usage, RuntimeError> {
        let found = self.shared.expect(lease).await?;
        self.shared.measure(lease, &found).await
    }

    async fn pause(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        let name = container::name(lease);
        self.shared.expect(lease).await?;
        let outcome = self
            .shared
            .engine
            .call("pause a container", |docker| async move { docker.pause_container(&name).await })
            .await;
        self.shared.settle(lease, outcome, true).await
    }

    async fn resume(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        self.shared.expect(lease).await?;
        self.shared.resume(lease).await
    }

    async fn signal(&self, lease: LeaseId, signal: u8) -> Result<(), RuntimeError> {
        let name = container::name(lease);
        self.shared.expect(lease).await?;
        let options = KillContainerOptionsBuilder::default().signal(&signal.to_string()).build();
        let outcome =
            self.shared
                .engine
                .call("signal a container", |docker| async move {
                    docker.kill_container(&name, Some(options)).await
                })
                .await;
        match outcome {
            Err(error) if error.is_conflict() && !self.shared.expect(lease).await?.runs() => Ok(()),
            outcome => outcome.map_err(|error| error.about(lease)),
        }
    }

    async fn stop(&self, lease: LeaseId, grace: Seconds) -> Result<(), RuntimeError> {
        let _door = self.shared.door(lease).await;
        self.shared.stop(lease, grace).await
    }

    async fn exec(&self, lease: LeaseId, session: &Session) -> Result<SessionEnds, RuntimeError> {
        let found = self.shared.expect(lease).await?;
        if !found.runs() {
            return Err(RuntimeError::Absent(lease));
        }
        exec::begin(&self.shared, lease, &found, session).await
    }

    async fn address(&self, lease: LeaseId, port: u16) -> Result<SocketAddr, RuntimeError> {
        let found = self.shared.expect(lease).await?;
        if !found.kept.as_ref().is_some_and(|kept| kept.ports.contains(&port)) {
            return Err(RuntimeError::Unsupported {
                runtime: NAME,
                what: format!("port {port}: the job does not name it"),
            });
        }
        let address = found.address.as_deref().and_then(|text| text.parse::<IpAddr>().ok());
        address
            .filter(|_| found.runs())
            .map(|ip| SocketAddr::new(ip, port))
            .ok_or(RuntimeError::Absent(lease))
    }

    async fn remove(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        let _door = self.shared.door(lease).await;
        self.shared.remove(lease).await
    }
}
