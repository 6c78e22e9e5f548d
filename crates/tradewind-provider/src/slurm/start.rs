//! From an order to a running job: find or submit, wait for the place, hand over, see it begin.
//!
//! ```text
//! order on disk ─► a job of this name in the queue? ─no─► sbatch ─► job.json ─► (pending) ─► hello ─► launch ─► started
//!                                └──────────yes──────────────────────┘             └─ too long: try again later
//! ```
//!
//! An agent that dies anywhere on the way finds the job by its name, or by `job.json`, and goes on from there. Nothing is executed
//! before the order is handed over, and it is handed to one job only: a second one, from a submission whose answer was lost,
//! is cancelled, or leaves by itself.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::Timestamp;
use tradewind_proto::workload::{Secrets, WorkloadSpec};

use super::SlurmRuntime;
use super::cluster::ClusterError;
use super::desk::{Desk, Fate, GLANCE, JOB, blocking};
use super::handover::{self, Hello, Launch, hello_name, launch_name};
use super::queue::{self, JobId, State};
use super::submission::{self, Size};
use crate::process::job_dir::{ExitRecord, Failure, JobDir, Order};
use crate::process::reins::{self, STARTED};
use crate::process::{disk, shim, workshop};
use crate::runtime::{RuntimeError, Volumes};

/// How long a job that got the order may take to begin.
const BEGIN_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the queue.
const QUEUE_LOOK: Duration = Duration::from_secs(1);

/// How far a job has come.
enum Step {
    Nothing,
    Hello(Hello),
    Started,
    Over(ExitRecord),
}

impl Desk {
    pub(super) async fn start(
        &self,
        spec: &WorkloadSpec,
        secrets: &Secrets,
        volumes: &Volumes,
    ) -> Result<(), RuntimeError> {
        workshop::refuse(SlurmRuntime::NAME, spec, secrets)?;
        let lease = spec.lease;
        let _lock = self.lock(lease).await?;
        let known = self.dir(lease).order().map_err(RuntimeError::io("read the job's order"))?;
        if known.as_ref().is_some_and(|order| order.spec != *spec) {
            return Err(RuntimeError::Conflict(lease));
        }
        let known = match self.fate(lease).await? {
            Fate::Running { .. } | Fate::Lost => return Ok(()),
            Fate::Exited(record) => match record.failure {
                None => return Ok(()),
                Some(Failure::Job(why)) => return Err(RuntimeError::Start(why)),
                Some(Failure::Host(_)) => {
                    self.clear(lease).await?;
                    None
                }
            },
            Fate::Absent | Fate::Waiting => known,
        };
        let order = self.prepare(known, spec, volumes).await?;
        let job = self.find_or_submit(&order, volumes.until).await?;
        self.employ(job, Launch { order, secrets: secrets.clone() }).await
    }

    /// Makes the job's directory and lends a user, both once, and the work directory to that user.
    async fn prepare(
        &self,
        known: Option<Order>,
        spec: &WorkloadSpec,
        volumes: &Volumes,
    ) -> Result<Order, RuntimeError> {
        let (dir, users) = (self.dir(spec.lease), self.users.clone());
        let (spec, work) = (spec.clone(), volumes.work.clone());
        let prepared = tokio::task::spawn_blocking(move || {
            dir.create().map_err(RuntimeError::io("make the job's directory"))?;
            let order = match known {
                Some(order) => order,
                None => {
                    let work = work.canonicalize().map_err(RuntimeError::io("find the work directory"))?;
                    let root = rustix::process::geteuid().is_root();
                    let user = if root { Some(workshop::lend_user(&users)?) } else { None };
                    let order = Order { spec, work, user };
                    reins::lock_door(dir.path(), &rand::random())
                        .and_then(|()| dir.write("spec.json", &order))
                        .map_err(RuntimeError::io("write the job's order"))?;
                    order
                }
            };
            if let Some(user) = order.user {
                disk::lend(&order.work, user).map_err(RuntimeError::io("lend the work directory"))?;
            }
            Ok(order)
        });
        prepared.await.map_err(|error| RuntimeError::io("run a blocking step")(error.into()))?
    }

    /// The lease's one job.
    async fn find_or_submit(&self, order: &Order, until: Option<Timestamp>) -> Result<JobId, RuntimeError> {
        let lease = order.spec.lease;
        let living = self.living(lease).await?;
        let recorded: Option<JobId> =
            self.dir(lease).read(JOB).map_err(RuntimeError::io("read the job's number"))?;
        let ours = living.iter().find(|job| Some(job.id) == recorded).or(living.first());
        let id = match ours {
            Some(job) => job.id,
            None => self.submit(order, until).await?,
        };
        for other in living.iter().filter(|job| job.id != id) {
            self.cluster.cancel(other.id).await?;
        }
        if recorded != Some(id) {
            let dir = self.dir(lease);
            blocking("write the job's number", move || dir.write(JOB, &id)).await?;
        }
        Ok(id)
    }

    async fn submit(&self, order: &Order, until: Option<Timestamp>) -> Result<JobId, RuntimeError> {
        let (lease, dir) = (order.spec.lease, self.dir(order.spec.lease));
        let seconds = until.map(|until| until.since(shim::now()).get());
        let options = submission::options(&self.config, lease, &Size::of(&order.spec.limits, seconds));
        let script = submission::script(self.program().await?, dir.path());
        let said = self.cluster.call("sbatch", &options, Some(&script)).await.map_err(refused)?;
        Ok(queue::submitted(&said.out).map_err(ClusterError::from)?)
    }

    /// Waits for the job's place, hands the order over, and sees it begin.
    async fn employ(&self, job: JobId, launch: Launch) -> Result<(), RuntimeError> {
        let lease = launch.order.spec.lease;
        let mut deadline = Instant::now() + self.config.start_within;
        let (mut launch, mut looked, mut waits_for) = (Some(launch), Instant::now(), String::new());
        loop {
            match self.step(lease, job).await? {
                Step::Started => return Ok(()),
                Step::Over(record) => return self.over(lease, record).await,
                Step::Hello(hello) => {
                    if let Some(launch) = launch.take() {
                        hand_over(self.dir(lease), job, &hello, &launch).await?;
                        deadline = Instant::now() + BEGIN_PATIENCE;
                        waits_for = "the sandbox to begin".into();
                    }
                }
                Step::Nothing => {}
            }
            if looked.elapsed() >= QUEUE_LOOK || Instant::now() >= deadline {
                looked = Instant::now();
                match self.job(job).await? {
                    Some(found) if found.state == State::Pending => waits_for = found.reason,
                    Some(found) if !found.is_over() => {}
                    _ => {
                        if let Step::Over(record) = self.step(lease, job).await? {
                            return self.over(lease, record).await;
                        }
                        return Err(RuntimeError::Unavailable("Slurm ended the job before it began".into()));
                    }
                }
            }
            if Instant::now() >= deadline {
                let why = format!("Slurm has not begun the job {job}; it waits for {waits_for}");
                return Err(RuntimeError::Unavailable(why));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    async fn step(&self, lease: LeaseId, job: JobId) -> Result<Step, RuntimeError> {
        let dir = self.dir(lease);
        blocking("read the job's directory", move || {
            if let Some(exit) = dir.read("exit.json")? {
                return Ok(Step::Over(exit));
            }
            if dir.file(STARTED).exists() {
                return Ok(Step::Started);
            }
            Ok(dir.read(&hello_name(job))?.map_or(Step::Nothing, Step::Hello))
        })
        .await
    }

    async fn over(&self, lease: LeaseId, record: ExitRecord) -> Result<(), RuntimeError> {
        match record.failure {
            None => Ok(()),
            Some(Failure::Job(why)) => Err(RuntimeError::Start(why)),
            Some(Failure::Host(why)) => {
                self.clear(lease).await?;
                Err(RuntimeError::Io { doing: "make the sandbox".into(), source: io::Error::other(why) })
            }
        }
    }
}

async fn hand_over(dir: JobDir, job: JobId, hello: &Hello, launch: &Launch) -> Result<(), RuntimeError> {
    let sealed = handover::seal(launch, job, hello)
        .map_err(|error| RuntimeError::io("seal the order")(io::Error::other(error)))?;
    blocking("hand the order over", move || {
        let (draft, path) = (dir.file("launch.new"), dir.file(&launch_name(job)));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&sealed)?;
        file.sync_all()?;
        fs::rename(draft, path)
    })
    .await
}

/// What Slurm will never take is told apart from what it does not take now.
pub(super) fn refused(error: ClusterError) -> RuntimeError {
    const NEVER: [&str; 4] = ["configuration is not available", "Invalid", "invalid partition", "exceeds"];
    match error {
        ClusterError::Refused { program, said } if NEVER.iter().any(|words| said.contains(words)) => {
            RuntimeError::Unsupported {
                runtime: SlurmRuntime::NAME,
                what: format!("place the job; {program}: {said}"),
            }
        }
        other @ (ClusterError::Missing { .. }
        | ClusterError::Silent { .. }
        | ClusterError::Refused { .. }
        | ClusterError::Unreadable(_)) => other.into(),
    }
}
