//! The agent's side of the runtime: a state directory, and one job directory per lease in it.
//!
//! ```text
//! <state>/jobs/<lease>/   one workload
//! <state>/users/<uid>     host users lent to leases; a file's name is taken while it is there
//! <state>/locks/<n>       held while a lease is started or removed, by this or another agent
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::Signal;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::workload::{LogChunk, LogCursor, Network, Secrets, Usage, WorkloadSpec};

use super::cgroup::host::Host;
use super::control::PACKET_MAX;
use super::job_dir::{Failure, Fate, JobDir, Live, Order, ShimRecord, open_lock};
use super::shim::{self, Assignment, Report};
use super::{ENTRY, ProcessConfig, ProcessRuntime, disk, launch, log, tree};
use crate::inventory::Places;
use crate::runtime::{RuntimeError, Volumes, refuse_environment};

/// Host users that leases are run as. Above those that distributions, systemd and containers hand out.
const USERS: std::ops::Range<u32> = 1_900_000_000..2_100_000_000;
/// How often a user may be taken already before something else is wrong.
const USER_TRIES: usize = 32;
/// Lock files; leases share them.
const LOCKS: u8 = 64;
/// How long a shim may take to say that the job was executed.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a shim may take to leave after it wrote its last file.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
/// Forwarded ports of one job.
const PORTS_MAX: usize = 32;
/// Room in the launch packet for all but environment and commands.
const PACKET_RESERVE: usize = 16 << 10;
/// The smallest memory in which the sandbox itself fits.
const MEMORY_MIN: u64 = 8 << 20;
/// The smallest number of processes: the sandbox's own and one of the job.
const PIDS_MIN: u32 = 8;

#[derive(Debug)]
pub(super) struct Workshop {
    jobs: PathBuf,
    users: PathBuf,
    locks: PathBuf,
    shim: PathBuf,
    host: Host,
    places: Places,
    /// Those that this agent started itself.
    shims: Mutex<Vec<Child>>,
}

impl Workshop {
    pub(super) fn open(config: ProcessConfig) -> Result<Self, RuntimeError> {
        let below = |name| config.state_dir.join(name);
        let (jobs, users, locks) = (below("jobs"), below("users"), below("locks"));
        for dir in [&jobs, &users, &locks] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(RuntimeError::io(format!("make {}", dir.display())))?;
        }
        let jobs = jobs.canonicalize().map_err(RuntimeError::io("find the state directory"))?;
        let host = Host::discover().map_err(RuntimeError::io("look for control groups"))?;
        Ok(Self {
            jobs,
            users,
            locks,
            shim: config.shim,
            host,
            places: config.places,
            shims: Mutex::default(),
        })
    }

    /// Whether this agent is root, and so lends each lease a user of its own.
    pub(super) fn privileged(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    pub(super) fn missing_controllers(&self) -> Vec<&'static str> {
        self.host.missing()
    }

    pub(super) fn jobs(&self) -> &Path {
        &self.jobs
    }

    pub(super) fn dir(&self, lease: LeaseId) -> JobDir {
        JobDir::of(&self.jobs, lease)
    }

    pub(super) fn fate(&self, lease: LeaseId) -> Result<Fate, RuntimeError> {
        // Shims that ended would stay zombies for as long as this agent lives.
        let mut shims = self.shims.lock().unwrap_or_else(PoisonError::into_inner);
        shims.retain_mut(|shim| matches!(shim.try_wait(), Ok(None)));
        drop(shims);
        self.dir(lease).fate().map_err(RuntimeError::io("read the job's directory"))
    }

    pub(super) fn leases(&self) -> Result<Vec<LeaseId>, RuntimeError> {
        let entries = fs::read_dir(&self.jobs).map_err(RuntimeError::io("list the jobs"))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| format!("0x{name}").parse().ok()).collect())
    }

    fn lock(&self, lease: LeaseId) -> Result<File, RuntimeError> {
        let stripe = lease.get()[31] % LOCKS;
        let file =
            open_lock(&self.locks.join(stripe.to_string())).map_err(RuntimeError::io("open a lock"))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| RuntimeError::io("take a lock")(error.into()))?;
        Ok(file)
    }

    pub(super) fn start(
        &self,
        spec: &WorkloadSpec,
        secrets: Secrets,
        volumes: &Volumes,
    ) -> Result<(), RuntimeError> {
        refuse(ProcessRuntime::NAME, spec, &secrets)?;
        refuse_missing_gpus(spec)?;
        let lease = spec.lease;
        let _lock = self.lock(lease)?;
        let dir = self.dir(lease);
        let known = dir.order().map_err(RuntimeError::io("read the job's order"))?;
        if known.as_ref().is_some_and(|order| order.spec != *spec) {
            return Err(RuntimeError::Conflict(lease));
        }
        let known = match self.fate(lease)? {
            Fate::Running(_) | Fate::Lost => return Ok(()),
            Fate::Exited(record) => match record.failure {
                None => return Ok(()),
                Some(Failure::Job(why)) => return Err(RuntimeError::Start(why)),
                Some(Failure::Host(_)) => {
                    self.clear(lease)?;
                    None
                }
            },
            Fate::Absent | Fate::Unstarted => known,
        };
        let order = self.prepare(&dir, known, spec, volumes)?;
        let cgroup = self.host.of(lease);
        let threads = self.places.threads(&spec.limits);
        let assignment = Assignment { order, secrets, dir: dir.path().to_owned(), cgroup, threads };
        match self.employ(&assignment)? {
            Report::Started | Report::Taken => Ok(()),
            Report::Failed(Failure::Job(why)) => Err(RuntimeError::Start(why)),
            Report::Failed(Failure::Host(why)) => {
                self.clear(lease)?;
                Err(RuntimeError::Io { doing: "make the sandbox".into(), source: io::Error::other(why) })
            }
        }
    }

    /// Makes the job's directory and lends a user, both once, and the work directory to that user.
    fn prepare(
        &self,
        dir: &JobDir,
        known: Option<Order>,
        spec: &WorkloadSpec,
        volumes: &Volumes,
    ) -> Result<Order, RuntimeError> {
        dir.create().map_err(RuntimeError::io("make the job's directory"))?;
        let order = match known {
            Some(order) => order,
            None => {
                let work =
                    volumes.work.canonicalize().map_err(RuntimeError::io("find the work directory"))?;
                let user = if self.privileged() { Some(lend_user(&self.users)?) } else { None };
                let order = Order { spec: spec.clone(), work, user };
                dir.note("spec.json", &order).map_err(RuntimeError::io("write the job's order"))?;
                order
            }
        };
        if let Some(user) = order.user {
            disk::lend(&order.work, user).map_err(RuntimeError::io("lend the work directory"))?;
        }
        Ok(order)
    }

    /// Executes a shim, hands it its assignment, and waits for its answer.
    fn employ(&self, assignment: &Assignment) -> Result<Report, RuntimeError> {
        let doing = || RuntimeError::io("start the shim");
        let packet = postcard::to_stdvec(assignment).map_err(|error| doing()(io::Error::other(error)))?;
        let mut child = Command::new(&self.shim)
            .args([ENTRY, "shim", &assignment.order.spec.lease.to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(doing())?;
        let answer = hand_over(&mut child, &packet, &assignment.dir).map_err(doing());
        self.shims.lock().unwrap_or_else(PoisonError::into_inner).push(child);
        answer
    }

    pub(super) fn logs(
        &self,
        lease: LeaseId,
        from: LogCursor,
        limit: usize,
    ) -> Result<LogChunk, RuntimeError> {
        let over = match self.fate(lease)? {
            Fate::Absent | Fate::Unstarted => return Err(RuntimeError::Absent(lease)),
            Fate::Running(_) => false,
            Fate::Exited(_) | Fate::Lost => true,
        };
        log::read(&self.dir(lease), from, limit, over).map_err(RuntimeError::io("read the log"))
    }

    pub(super) fn usage(&self, lease: LeaseId) -> Result<Usage, RuntimeError> {
        let noted = || {
            let noted = self.dir(lease).read::<Usage>("usage.json");
            noted.map(Option::unwrap_or_default).map_err(RuntimeError::io("read the noted usage"))
        };
        match self.fate(lease)? {
            Fate::Absent | Fate::Unstarted => Err(RuntimeError::Absent(lease)),
            Fate::Exited(record) => Ok(record.usage),
            Fate::Lost => noted(),
            Fate::Running(live) => {
                let (noted, cgroup) = (noted()?, live.record.cgroup);
                let memory = cgroup.memory().unwrap_or(noted.memory);
                Ok(Usage {
                    cpu_ms: cgroup.cpu_ms().unwrap_or(noted.cpu_ms),
                    memory,
                    memory_peak: cgroup.memory_peak().unwrap_or(noted.memory_peak).max(memory),
                    ..noted
                })
            }
        }
    }

    fn live(&self, lease: LeaseId) -> Result<Live, RuntimeError> {
        match self.fate(lease)? {
            Fate::Running(live) => Ok(live),
            Fate::Absent | Fate::Unstarted | Fate::Exited(_) | Fate::Lost => Err(RuntimeError::Absent(lease)),
        }
    }

    pub(super) fn freeze(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        let live = self.live(lease)?;
        let doing = || RuntimeError::io("freeze the job");
        File::create(self.dir(lease).file("paused")).map_err(doing())?;
        if !live.record.cgroup.freeze().map_err(doing())? {
            tree::signal_below(live.record.pid, Signal::STOP);
        }
        Ok(())
    }

    pub(super) fn thaw(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        let live = self.live(lease)?;
        let doing = || RuntimeError::io("thaw the job");
        if !live.record.cgroup.thaw().map_err(doing())? {
            tree::signal_below(live.record.pid, Signal::CONT);
        }
        match fs::remove_file(self.dir(lease).file("paused")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(doing()(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Sends the spec's stop signal; a frozen job is thawed so that it can act on it.
    pub(super) fn ask_to_stop(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        let order = self.dir(lease).order().map_err(RuntimeError::io("read the job's order"))?;
        let signal = order.map_or(15, |order| order.spec.stop.signal);
        self.command(lease, [shim::SIGNAL, signal])?;
        match self.thaw(lease) {
            Err(RuntimeError::Absent(_)) => Ok(()),
            other => other,
        }
    }

    /// Writes a command for the shim. One whose shim has ended is not an error.
    pub(super) fn command(&self, lease: LeaseId, command: [u8; 2]) -> Result<(), RuntimeError> {
        self.live(lease)?;
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let pipe =
            OpenOptions::new().write(true).custom_flags(nonblocking).open(self.dir(lease).file("control"));
        match pipe.and_then(|mut pipe| pipe.write_all(&command)) {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
            Err(error) => Err(RuntimeError::io("tell the shim")(error)),
        }
    }

    /// The last resort: the tree goes with its shim.
    pub(super) fn kill_shim(&self, record: &ShimRecord) -> Result<(), RuntimeError> {
        record.cgroup.kill().map_err(RuntimeError::io("kill the job"))?;
        tree::send(record.pid, Signal::KILL);
        Ok(())
    }

    pub(super) fn remove(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        let _lock = self.lock(lease)?;
        match self.fate(lease)? {
            Fate::Absent => Ok(()),
            Fate::Running(_) => Err(RuntimeError::StillRunning(lease)),
            Fate::Unstarted | Fate::Exited(_) | Fate::Lost => self.clear(lease),
        }
    }

    /// Deletes a workload that does not run. Every step can be done again, and the directory goes last.
    fn clear(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        let dir = self.dir(lease);
        let begin = Instant::now();
        let _claim = loop {
            match dir.claim() {
                Ok(Some(claim)) => break Some(claim),
                Ok(None) if begin.elapsed() > LEAVE_PATIENCE => {
                    return Err(RuntimeError::StillRunning(lease));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break None,
                Err(error) => return Err(RuntimeError::io("take the job's lock")(error)),
            }
        };
        let doing = || RuntimeError::io("remove the job");
        let record = dir.read::<ShimRecord>("shim.json").map_err(doing())?;
        let groups = record.map(|record| record.cgroup).into_iter().chain([self.host.of(lease)]);
        groups.into_iter().try_for_each(|group| group.remove()).map_err(doing())?;
        if let Some(Order { work, user: Some(user), .. }) = dir.order().map_err(doing())? {
            disk::reclaim(&work).map_err(doing())?;
            match fs::remove_file(self.users.join(user.to_string())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(doing()(error)),
                Ok(()) | Err(_) => {}
            }
        }
        fs::remove_dir_all(dir.path()).map_err(doing())
    }
}

/// Takes a host user that no lease below `users` has.
pub(crate) fn lend_user(users: &Path) -> Result<u32, RuntimeError> {
    for _ in 0..USER_TRIES {
        let user = rand::random_range(USERS);
        let path = users.join(user.to_string());
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => return Ok(user),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(RuntimeError::Io { doing: "lend a user".into(), source }),
        }
    }
    Err(RuntimeError::Unavailable("no user is left to lend".into()))
}

/// Writes the assignment and reads the answer.
fn hand_over(child: &mut Child, packet: &[u8], dir: &Path) -> io::Result<Report> {
    let mut input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    input.write_all(packet)?;
    drop(input);
    // While the shim gets ready, this reaches the disk.
    JobDir::at(dir.to_owned()).settle("spec.json")?;
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let timeout = Timespec::try_from(START_PATIENCE).map_err(io::Error::other)?;
    let mut fds = [PollFd::new(&output, PollFlags::IN)];
    if poll(&mut fds, Some(&timeout))? == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the shim does not answer"));
    }
    let mut line = String::new();
    BufReader::new(output.as_fd().try_clone_to_owned().map(File::from)?)
        .take(64 << 10)
        .read_line(&mut line)?;
    serde_json::from_str(&line).map_err(|_| io::Error::new(io::ErrorKind::UnexpectedEof, "the shim died"))
}

/// Whether `signal` is one that a job can be sent: those with names, 1 to 31.
pub(crate) fn can_send(signal: u8) -> bool {
    Signal::from_named_raw(i32::from(signal)).is_some()
}

/// Refuses what the sandbox cannot do, before anything is made.
pub(crate) fn refuse(
    runtime: &'static str,
    spec: &WorkloadSpec,
    secrets: &Secrets,
) -> Result<(), RuntimeError> {
    let refusal = |what: String| Err(RuntimeError::Unsupported { runtime, what });
    let limits = &spec.limits;
    if let Some(image) = &spec.image {
        return refusal(format!(
            "run the image {}: jobs here run in the host's own userland",
            image.reference
        ));
    }
    if spec.registry.is_some() {
        return refusal("log in to a registry: jobs here run in no image".into());
    }
    if spec.network == Network::Internet {
        return refusal("reach the Internet: jobs here have no network".into());
    }
    if spec.ports.len() > PORTS_MAX {
        return refusal(format!("forward more than {PORTS_MAX} ports"));
    }
    if limits.memory.get() < MEMORY_MIN || limits.pids < PIDS_MIN {
        return refusal(format!(
            "run in less than {MEMORY_MIN} bytes of memory or with fewer than {PIDS_MIN} processes"
        ));
    }
    if !can_send(spec.stop.signal) {
        return refusal(format!("stop with signal {}", spec.stop.signal));
    }
    refuse_environment(runtime, spec, secrets)?;
    let commands: Vec<String> =
        spec.setup.iter().chain([&spec.run]).flat_map(|command| command.argv()).collect();
    let variables = || spec.envs.iter().chain(&secrets.0).flat_map(|(name, value)| [name, value]);
    if variables().chain(&commands).map(|word| word.len() + 8).sum::<usize>() > PACKET_MAX - PACKET_RESERVE {
        return refusal(format!(
            "take more than {} bytes of environment and commands",
            PACKET_MAX - PACKET_RESERVE
        ));
    }
    if spec.setup.iter().chain([&spec.run]).any(|command| command.argv().first().is_none_or(String::is_empty))
    {
        return refusal("run an empty command".into());
    }
    Ok(())
}

/// Refuses accelerators that this machine has no device file of.
fn refuse_missing_gpus(spec: &WorkloadSpec) -> Result<(), RuntimeError> {
    let gpus = &spec.limits.gpus;
    if launch::has_gpus(gpus) {
        return Ok(());
    }
    let what = "give GPUs that have no device file".into();
    Err(RuntimeError::Unsupported { runtime: ProcessRuntime::NAME, what })
}
