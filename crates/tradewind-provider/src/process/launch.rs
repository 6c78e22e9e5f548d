//! The launcher: from the agent's user to a sandbox with nothing in it but the job.
//!
//! ```text
//! join the control group
//!   as root: own mounts → a small file system over /tmp → the work directory into it → become the lease's user
//! hakoniwa: new user, mount, pid, net, ipc, uts and cgroup namespaces → read-only userland → landlock → PID 1
//! ```
//!
//! As root the sandbox is made by the lease's own user, not by root: no process on the way from here to the job could be root
//! again, and the files of one lease belong to nobody else.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hakoniwa::landlock::{CompatMode, FsAccess, Resource, Ruleset};
use hakoniwa::{Container, MountOptions, Namespace, Rlimit};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags, open, statvfs};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{
    CpuSet, UnshareFlags, sched_getaffinity, sched_setaffinity, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::control::{self, Event, Launch};
use super::init;

/// The job's user and group inside the sandbox.
pub(super) const SANDBOX_USER: u32 = 1000;
/// The userland that a job sees, where the host has it.
const USERLAND: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// Of the host's `/etc`: what the loader and TLS need, and nothing that names a user or a host.
const ETC: [&str; 5] =
    ["/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/certs", "/etc/localtime", "/etc/nsswitch.conf"];
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Why the sandbox could not be made.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error("{0}")]
    Sandbox(#[from] hakoniwa::Error),
    #[error("{0} cannot be given to a sandbox: its name is not UTF-8")]
    Name(PathBuf),
}

fn io_error<E: Into<io::Error>>(doing: &str) -> impl FnOnce(E) -> LaunchError {
    move |error| LaunchError::Io { doing: doing.into(), source: error.into() }
}

/// The launcher's process. Standard input is the control socket, standard output and error are the workload's log.
pub(super) fn main() -> ExitCode {
    let outcome = match control::receive::<Launch>(rustix::stdio::stdin()) {
        Ok(Some(launch)) => run(launch),
        Ok(None) => return ExitCode::from(init::FAILED),
        Err(error) => Err(io_error("receive the order")(error)),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = control::send(rustix::stdio::stdin(), &Event::NoSandbox { message: error.to_string() });
            ExitCode::from(init::FAILED)
        }
    }
}

fn run(launch: Launch) -> Result<u8, LaunchError> {
    launch.cgroup.join().map_err(io_error("join the control group"))?;
    if launch.cgroup.cpu.is_none() || launch.threads.is_some() {
        confine_to_cpus(&launch).map_err(io_error("confine the job to its CPUs"))?;
    }
    let places = match launch.user {
        Some(user) => stage(&launch.work, user)?,
        None => Places { root: launch.root.clone(), work: launch.work.clone() },
    };
    let container = sandbox(&launch, &places)?;
    if !control::may_go(rustix::stdio::stdin()).map_err(io_error("wait for the shim"))? {
        return Ok(init::FAILED);
    }
    let (spec, secrets) = (launch.spec, launch.secrets);
    let mut command = enter(&container, move || i32::from(init::main(&spec, &secrets)));
    let mut child = command.current_dir("/work").spawn()?;
    drop(command);
    let sandboxed = Event::Sandboxed { pid: child.id() };
    control::send(rustix::stdio::stdin(), &sandboxed).map_err(io_error("report the sandbox"))?;
    let status = child.wait()?;
    if status.exit_code.is_none() && status.code == i32::from(init::FAILED) {
        let message = format!("the sandbox could not be made: {}", status.reason);
        control::send(rustix::stdio::stdin(), &Event::NoSandbox { message })
            .map_err(io_error("report the sandbox"))?;
    }
    Ok(u8::try_from(status.code).unwrap_or(init::FAILED))
}

#[expect(
    unsafe_code,
    reason = "hakoniwa runs the closure after a fork; this process has one thread, so no lock is held"
)]
fn enter(container: &Container, init: impl Fn() -> i32 + Send + Sync + 'static) -> hakoniwa::Command {
    // SAFETY: the launcher is a process of its own that never made a thread.
    unsafe { container.command_from_closure(init) }
}

#[expect(unsafe_code, reason = "unshare is unsafe only for file descriptor tables, which stay shared here")]
fn own_mounts() -> io::Result<()> {
    // SAFETY: the flags do not contain FILES.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// Where the sandbox's root is built and its work directory lies, as the lease's user sees them.
struct Places {
    root: PathBuf,
    work: PathBuf,
}

/// As root: puts root and work directory where any user may go, and becomes `user`. The mounts end with the last process.
fn stage(work: &Path, user: u32) -> Result<Places, LaunchError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    own_mounts().map_err(io_error("make a mount namespace"))?;
    let work = open(work, flags, Mode::empty()).map_err(io_error("open the work directory"))?;
    let options = c"mode=0755,size=1m,nr_inodes=512";
    mount("tradewind", "/tmp", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options)
        .map_err(io_error("mount the staging directory"))?;
    let places = Places { root: "/tmp/root".into(), work: "/tmp/work".into() };
    for dir in [&places.root, &places.work] {
        fs::DirBuilder::new().mode(0o755).create(dir).map_err(io_error("make the staging directory"))?;
    }
    chown(&places.root, Some(user), Some(user)).map_err(io_error("lend the sandbox's root"))?;
    mount_bind(format!("/proc/self/fd/{}", work.as_raw_fd()), &places.work)
        .map_err(io_error("mount the work directory"))?;
    drop(work);
    become_user(user).map_err(io_error("become the lease's user"))?;
    Ok(places)
}

fn become_user(user: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    // A changed user makes a process undumpable and its /proc files root's; the user map must be written through them.
    Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)
}

/// Keeps the job on the hardware threads that were chosen for it. Also stands in for the CPU controller: as many whole CPUs as the limit
/// needs, other ones for other leases.
fn confine_to_cpus(launch: &Launch) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let is_near = |cpu: usize| launch.threads.as_ref().is_none_or(|threads| threads.contains(cpu));
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu) && is_near(cpu)).collect();
    let limit = launch.spec.limits.cpu_millis.div_ceil(1000);
    let wanted = match launch.cgroup.cpu {
        Some(_) => cpus.len(),
        None => usize::try_from(limit).unwrap_or(usize::MAX).clamp(1, cpus.len().max(1)),
    };
    let mut lent = CpuSet::new();
    let first = usize::from(launch.spec.lease.get()[0]);
    cpus.iter().cycle().skip(first % cpus.len().max(1)).take(wanted).for_each(|&cpu| lent.set(cpu));
    // None is left where this machine gives the agent others than when it chose.
    if lent.count() == 0 { Ok(()) } else { Ok(sched_setaffinity(None, &lent)?) }
}

fn sandbox(launch: &Launch, places: &Places) -> Result<Container, LaunchError> {
    let limits = &launch.spec.limits;
    let mut container = Container::new();
    for namespace in [Namespace::Network, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup] {
        container.unshare(namespace);
    }
    container.uidmap(SANDBOX_USER).gidmap(SANDBOX_USER).hostname("tradewind").rootdir(&places.root);
    for dir in USERLAND {
        match fs::symlink_metadata(dir) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(dir).map_err(io_error("read a link of the userland"))?;
                container.symlink(name(&target)?, dir);
            }
            Ok(_) => bind(&mut container, Path::new(dir), dir, MountOptions::RDONLY)?,
            Err(_) => {}
        }
    }
    synthetic_etc(&mut container)?;
    container.devfsmount("/dev");
    let memory = limits.memory.get();
    let scratch = MountOptions::NOSUID | MountOptions::NODEV;
    for dir in ["/dev/shm", "/tmp"] {
        container.mount("tmpfs", dir, "tmpfs", scratch, Some(format!("mode=1777,size={memory}")));
    }
    let gpus = gpu_devices(&limits.gpus);
    for device in &gpus {
        container.mount(device, device, "", MountOptions::BIND | MountOptions::NOSUID, None);
    }
    bind(&mut container, &places.work, "/work", MountOptions::empty())?;
    container.setrlimit(Rlimit::Core, 0, 0);
    container.setrlimit(Rlimit::Fsize, limits.disk.get(), limits.disk.get());
    if launch.cgroup.memory.is_none() {
        container.setrlimit(Rlimit::Data, memory, memory);
    }
    if launch.cgroup.pids.is_none() {
        container.setrlimit(Rlimit::Nproc, limits.pids.into(), limits.pids.into());
    }
    if landlock_works() {
        container.landlock_ruleset(landlock_rules(&gpus));
    }
    Ok(container)
}

/// Binds `source` with the restrictions that its mount already has; a user namespace may not lift them.
fn bind(
    container: &mut Container,
    source: &Path,
    target: &str,
    options: MountOptions,
) -> Result<(), LaunchError> {
    let mounted = statvfs(source).map_err(io_error("look at a mount"))?.f_flag;
    let mut options = options | MountOptions::BIND | MountOptions::REC | MountOptions::NOSUID;
    for (flag, option) in [
        (StatVfsMountFlags::RDONLY, MountOptions::RDONLY),
        (StatVfsMountFlags::NODEV, MountOptions::NODEV),
        (StatVfsMountFlags::NOEXEC, MountOptions::NOEXEC),
    ] {
        if mounted.contains(flag) {
            options |= option;
        }
    }
    container.mount(name(source)?, target, "", options, None);
    Ok(())
}

fn name(path: &Path) -> Result<&str, LaunchError> {
    path.to_str().ok_or_else(|| LaunchError::Name(path.into()))
}

fn synthetic_etc(container: &mut Container) -> Result<(), LaunchError> {
    for path in ETC.iter().filter(|path| Path::new(path).exists()) {
        bind(container, Path::new(path), path, MountOptions::RDONLY)?;
    }
    container
        .dir("/etc", 0o755)
        .file("/etc/passwd", "root:x:0:0:root:/:/bin/sh\njob:x:1000:1000:job:/work:/bin/sh\n")
        .file("/etc/group", "root:x:0:\njob:x:1000:\n")
        .file("/etc/hosts", "127.0.0.1 localhost tradewind\n::1 localhost\n");
    Ok(())
}

/// The device files of the GPUs with these indices, and of their driver.
pub(super) fn gpu_devices(gpus: &[u32]) -> Vec<String> {
    if gpus.is_empty() {
        return Vec::new();
    }
    let shared = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"].map(str::to_owned);
    let own = gpus.iter().map(|index| format!("/dev/nvidia{index}"));
    own.chain(shared).filter(|path| fs::metadata(path).is_ok_and(|found| found.rdev() != 0)).collect()
}

/// Whether every one of these accelerators has a device file here.
pub(super) fn has_gpus(gpus: &[u32]) -> bool {
    let shared = |path: &&String| path.contains("ctl") || path.contains("uvm");
    gpu_devices(gpus).iter().filter(|path| !shared(path)).count() == gpus.len()
}

/// Whether this kernel has Landlock switched on.
pub(super) fn landlock_works() -> bool {
    use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create)
        .is_ok()
}

fn landlock_rules(gpus: &[String]) -> Ruleset {
    let mut rules = Ruleset::default();
    rules.restrict(Resource::FS, CompatMode::Enforce);
    for dir in USERLAND.iter().filter(|dir| Path::new(dir).exists()) {
        rules.allow_path(dir, FsAccess::R | FsAccess::X);
    }
    for dir in ["/etc", "/proc", "/dev"] {
        rules.allow_path(dir, FsAccess::R);
    }
    for device in DEVICES.into_iter().chain(gpus.iter().map(String::as_str)).chain(["/dev/shm", "/dev/pts"]) {
        rules.allow_path(device, FsAccess::R | FsAccess::W);
    }
    for dir in ["/work", "/tmp"] {
        rules.allow_path(dir, FsAccess::R | FsAccess::W | FsAccess::X);
    }
    rules
}
