//! The agent's side: a directory that it shares with the nodes, one job directory per lease in it, and what becomes of each.
//!
//! ```text
//! <directory>/bin/<hash>     this program, as the nodes execute it
//! <directory>/jobs/<lease>/  one workload; beside what the process runtime keeps there:
//!   job.json                 the number of the lease's job in Slurm     written by the agent, before anything is handed over
//!   hello-N.json, launch-N   the order's way to job N (see `handover`)
//!   commands, obeyed.json    orders, and how many of them are done
//!   verdict.json             how Slurm ended a job that left no exit    written by the agent
//! <directory>/users, locks   as the process runtime's
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::Timestamp;
use tradewind_proto::workload::{Exit, Usage};

use super::SlurmConfig;
use super::cluster::Cluster;
use super::queue::{self, End, Job, JobId, State};
use super::submission;
use crate::process::job_dir::{ExitRecord, JobDir, Order, ShimRecord, open_lock};
use crate::process::{disk, shim};
use crate::runtime::RuntimeError;

/// Lock files; leases share them.
const LOCKS: u8 = 64;
/// How long the last file of a job may take to be seen here after Slurm says that the job is over.
const SETTLE: Duration = Duration::from_secs(5);
/// How long a cancelled job may take to be over.
const END_PATIENCE: Duration = Duration::from_secs(90);
/// How long a shim may take to leave after it wrote its last file.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at something that is about to change.
pub(super) const GLANCE: Duration = Duration::from_millis(20);
/// The code of what signal 9 ended.
const KILLED: u8 = 128 + 9;
/// The number of the lease's job.
pub(super) const JOB: &str = "job.json";
const VERDICT: &str = "verdict.json";

/// How a job ended that left no record of its own; `None` where nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) end: Option<End>,
    pub(super) at: Timestamp,
}

/// What became of a lease's workload.
#[derive(Debug)]
pub(super) enum Fate {
    Absent,
    /// Asked for; nothing was executed.
    Waiting,
    Running {
        record: Box<ShimRecord>,
        job: Job,
    },
    Exited(ExitRecord),
    Lost,
}

/// What a job's directory says.
struct Files {
    exit: Option<ExitRecord>,
    shim: Option<Box<ShimRecord>>,
    job: Option<JobId>,
    verdict: Option<Verdict>,
}

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) config: SlurmConfig,
    pub(super) cluster: Cluster,
    pub(super) users: PathBuf,
    jobs: PathBuf,
    locks: PathBuf,
    bin: PathBuf,
    program: OnceCell<PathBuf>,
}

impl Desk {
    pub(super) fn open(config: SlurmConfig) -> Result<Self, RuntimeError> {
        let below = |name: &str| {
            let dir = config.directory.join(name);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.and_then(|()| dir.canonicalize())
                .map_err(RuntimeError::io(format!("make {}", dir.display())))
        };
        let (jobs, users, locks, bin) = (below("jobs")?, below("users")?, below("locks")?, below("bin")?);
        let cluster = Cluster::new(config.programs.clone());
        Ok(Self { config, cluster, users, jobs, locks, bin, program: OnceCell::new() })
    }

    pub(super) fn dir(&self, lease: LeaseId) -> JobDir {
        JobDir::of(&self.jobs, lease)
    }

    pub(super) fn leases(&self) -> Result<Vec<LeaseId>, RuntimeError> {
        let entries = fs::read_dir(&self.jobs).map_err(RuntimeError::io("list the jobs"))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| format!("0x{name}").parse().ok()).collect())
    }

    /// This program where the nodes find it, under a name that no other version has.
    pub(super) async fn program(&self) -> Result<&Path, RuntimeError> {
        let copy = || async {
            let (from, bin) = (self.config.shim.clone(), self.bin.clone());
            blocking("copy this program to the shared directory", move || copy_program(&from, &bin)).await
        };
        self.program.get_or_try_init(copy).await.map(PathBuf::as_path)
    }

    /// Held while a lease is started or removed, by this or another agent.
    pub(super) async fn lock(&self, lease: LeaseId) -> Result<File, RuntimeError> {
        let path = self.locks.join((lease.get()[31] % LOCKS).to_string());
        blocking("take a lock", move || {
            let file = open_lock(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        })
        .await
    }

    async fn files(&self, lease: LeaseId) -> Result<Option<Files>, RuntimeError> {
        let dir = self.dir(lease);
        blocking("read the job's directory", move || {
            if !dir.path().exists() {
                return Ok(None);
            }
            let (exit, verdict) = (dir.read("exit.json")?, dir.read(VERDICT)?);
            Ok(Some(Files { exit, verdict, shim: dir.read("shim.json")?, job: dir.read(JOB)? }))
        })
        .await
    }

    pub(super) async fn fate(&self, lease: LeaseId) -> Result<Fate, RuntimeError> {
        let Some(files) = self.files(lease).await? else { return Ok(Fate::Absent) };
        if let Some(exit) = files.exit {
            return Ok(Fate::Exited(exit));
        }
        let Some(record) = files.shim else { return Ok(Fate::Waiting) };
        if let Some(verdict) = files.verdict {
            return Ok(judged(verdict));
        }
        let id = files.job.ok_or_else(|| {
            RuntimeError::Unavailable("the job's directory does not say which job of Slurm's it is".into())
        })?;
        match self.job(id).await? {
            Some(job) if !job.is_over() => Ok(Fate::Running { record, job }),
            found => self.conclude(lease, record, id, found).await,
        }
    }

    /// A job by its number; `None` where the controller does not know it (any more).
    pub(super) async fn job(&self, id: JobId) -> Result<Option<Job>, RuntimeError> {
        let find = |jobs: Arc<Vec<Job>>| jobs.iter().find(|job| job.id == id).cloned();
        match find(self.cluster.recent_jobs().await?) {
            Some(job) => Ok(Some(job)),
            None => Ok(find(self.cluster.jobs(Instant::now()).await?)),
        }
    }

    /// The lease's jobs that are not over, as the controller has them now.
    pub(super) async fn living(&self, lease: LeaseId) -> Result<Vec<Job>, RuntimeError> {
        let name = submission::name(lease);
        let jobs = self.cluster.jobs(Instant::now()).await?;
        Ok(jobs.iter().filter(|job| job.name == name && !job.is_over()).cloned().collect())
    }

    /// A job that is over without an exit: looks for it once more, lets it settle, then judges by what Slurm says.
    async fn conclude(
        &self,
        lease: LeaseId,
        record: Box<ShimRecord>,
        id: JobId,
        job: Option<Job>,
    ) -> Result<Fate, RuntimeError> {
        match self.files(lease).await? {
            None => return Ok(Fate::Absent),
            Some(Files { exit: Some(exit), .. }) => return Ok(Fate::Exited(exit)),
            Some(_) => {}
        }
        let now = shim::now();
        if let Some(job) =
            job.as_ref().filter(|job| job.end.is_some_and(|end| now.since(end).get() < SETTLE.as_secs()))
        {
            let job = Job { state: State::Active, ..job.clone() };
            return Ok(Fate::Running { record, job });
        }
        let (end, at) = match job {
            Some(job) => (job.ended(), job.end),
            None => self.accounted(id).await,
        };
        let (dir, verdict) = (self.dir(lease), Verdict { end, at: at.unwrap_or(now) });
        blocking("write down how the job ended", move || {
            let line = format!("tradewind: Slurm ended the job: {}\n", why(verdict.end));
            OpenOptions::new().append(true).open(dir.file("log"))?.write_all(line.as_bytes())?;
            dir.write(VERDICT, &verdict)
        })
        .await?;
        Ok(judged(verdict))
    }

    /// What the accounting says of a job that the controller has forgotten. Many clusters keep none.
    async fn accounted(&self, id: JobId) -> (Option<End>, Option<Timestamp>) {
        let arguments =
            ["--noheader", "--parsable2", "--allocations", "--format=State,End"].map(str::to_owned);
        let arguments: Vec<String> = arguments.into_iter().chain([format!("--jobs={id}")]).collect();
        let said = self.cluster.call("sacct", &arguments, None).await.ok();
        let found = said.and_then(|said| queue::accounted(&said.out).ok().flatten());
        found.map_or((None, None), |(end, at)| (Some(end), at))
    }

    /// Ends every job of the lease, and returns when none is left.
    pub(super) async fn cancel_all(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        let begin = Instant::now();
        let mut cancelled = Vec::new();
        loop {
            let living = self.living(lease).await?;
            if living.is_empty() {
                return Ok(());
            }
            for job in living.iter().filter(|job| !cancelled.contains(&job.id)) {
                self.cluster.cancel(job.id).await?;
            }
            cancelled = living.into_iter().map(|job| job.id).collect();
            if begin.elapsed() > END_PATIENCE {
                return Err(RuntimeError::Unavailable("Slurm does not end the job".into()));
            }
            tokio::time::sleep(GLANCE * 10).await;
        }
    }

    /// Deletes a workload that does not run. Every step can be done again, and the directory goes last.
    pub(super) async fn clear(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        let begin = Instant::now();
        let _claim = loop {
            let dir = self.dir(lease);
            let claim = blocking("take the job's lock", move || match dir.claim() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(None)),
                claim => claim.map(|claim| claim.map(Some)),
            });
            match claim.await? {
                Some(claim) => break claim,
                None if begin.elapsed() > LEAVE_PATIENCE => return Err(RuntimeError::StillRunning(lease)),
                None => tokio::time::sleep(GLANCE).await,
            }
        };
        let (dir, users) = (self.dir(lease), self.users.clone());
        blocking("remove the job", move || {
            if let Some(Order { work, user: Some(user), .. }) = dir.order()? {
                disk::reclaim(&work)?;
                match fs::remove_file(users.join(user.to_string())) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
            match fs::remove_dir_all(dir.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        })
        .await
    }

    pub(super) async fn verdict(&self, lease: LeaseId) -> Result<Option<Verdict>, RuntimeError> {
        Ok(self.files(lease).await?.and_then(|files| files.verdict))
    }
}

/// Reads and writes that may wait for a file server.
pub(super) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RuntimeError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.map_err(io::Error::from).and_then(|outcome| outcome).map_err(RuntimeError::io(doing))
}

fn copy_program(from: &Path, bin: &Path) -> io::Result<PathBuf> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(from)?)?;
    let to = bin.join(&hasher.finalize().to_hex()[..32]);
    if to.exists() {
        return Ok(to);
    }
    let draft = bin.join(format!(".{:016x}", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&draft)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&draft, &to)?;
    Ok(to)
}

fn judged(verdict: Verdict) -> Fate {
    let killed = |out_of_memory| {
        let exit = Exit { code: KILLED, out_of_memory, at: verdict.at };
        Fate::Exited(ExitRecord { exit, usage: Usage::default(), failure: None })
    };
    match verdict.end {
        Some(End::OutOfMemory) => killed(true),
        Some(End::TimedOut) => killed(false),
        // Its shim would have left an exit, had it ended by itself.
        Some(End::Finished | End::Cancelled | End::Preempted | End::NodeFailed) | None => Fate::Lost,
    }
}

fn why(end: Option<End>) -> &'static str {
    match end {
        Some(End::OutOfMemory) => "it used more memory than its lease has",
        Some(End::TimedOut) => "its time was over",
        Some(End::Cancelled) => "it was cancelled",
        Some(End::Preempted) => "its place was given to a job of the owner's",
        Some(End::NodeFailed) => "its node failed",
        Some(End::Finished) | None => "it left no exit",
    }
}
