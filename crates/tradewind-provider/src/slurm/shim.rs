//! On the node: the job's program, which becomes the workload's shim once the agent hands it the order.
//!
//! ```text
//! slurmstepd ─► this ─ hello ─► (waits) ─ order ─► the process runtime's shim ─► launcher ─► sandbox
//! ```
//!
//! It makes no control group of its own: what Slurm set up around the allocation stays around the job. Slurm's notice that the
//! place is given to another job comes as `SIGUSR2`, and the job gets its stop signal at once, whether or not an agent runs.

use std::fs;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tradewind_proto::workload::{Exit, Usage};

use super::handover::{Launch, Lock, hello_name, launch_name};
use super::queue::{JobId, indices};
use super::submission::NOTICE_SIGNAL;
use crate::process::cgroup::Cgroup;
use crate::process::job_dir::{ExitRecord, Failure, JobDir};
use crate::process::reins::{Mailbox, Reins};
use crate::process::shim::{self, Assignment};

/// Our own failures.
const FAILED: u8 = 125;
/// How long a job that has its place waits for its order. A longer wait would keep the place from others.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(50);

/// The job's program. Its argument is the job's directory.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let [path] = arguments else { return ExitCode::from(FAILED) };
    match serve(&JobDir::at(path.into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

fn serve(dir: &JobDir) -> io::Result<()> {
    let notice = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(NOTICE_SIGNAL, Arc::clone(&notice))?;
    let job: JobId = variable("SLURM_JOB_ID").parse().map_err(io::Error::other)?;
    let Some(_lock) = dir.claim()? else { return Ok(()) };
    if dir.file("shim.json").exists() || dir.file("exit.json").exists() {
        return Ok(());
    }
    let lock = Lock::new().map_err(io::Error::other)?;
    dir.write(&hello_name(job), &lock.hello())?;
    let Some(launch) = wait(dir, job, lock, &notice)? else { return Ok(()) };
    let outcome = run(dir, launch, notice);
    if let Err(error) = &outcome {
        // Without this record the agent would have to guess.
        dir.write("exit.json", &failed(error.to_string()))?;
    }
    outcome
}

/// Waits for the order; `None` when the place is taken back, or nobody hands one over.
fn wait(dir: &JobDir, job: JobId, lock: Lock, notice: &AtomicBool) -> io::Result<Option<Launch>> {
    let (begin, path) = (Instant::now(), dir.file(&launch_name(job)));
    let sealed = loop {
        match fs::read(&path) {
            Ok(sealed) => break sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if begin.elapsed() > PATIENCE || notice.load(Ordering::Relaxed) || !dir.path().exists() {
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    };
    fs::remove_file(&path)?;
    lock.open(job, &sealed).map(Some).map_err(io::Error::other)
}

fn run(dir: &JobDir, launch: Launch, notice: Arc<AtomicBool>) -> io::Result<()> {
    let Launch { mut order, secrets } = launch;
    order.spec.limits.gpus = given(order.spec.limits.gpus.len(), &variable("SLURM_JOB_GPUS"))?;
    let mailbox = Mailbox::new(dir.clone(), notice, order.spec.stop.signal);
    let (dir_path, cgroup) = (dir.path().to_owned(), Cgroup::default());
    let assignment = Assignment { order, secrets, dir: dir_path, cgroup, threads: None };
    shim::run(dir.clone(), assignment, Reins::Mailbox(mailbox))
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// The node's numbers of the accelerators that Slurm gave the job.
fn given(wanted: usize, list: &str) -> io::Result<Vec<u32>> {
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let given = indices(list).filter(|given| given.len() == wanted);
    given.ok_or_else(|| {
        io::Error::other(format!("Slurm gave the accelerators `{list}`, {wanted} were asked for"))
    })
}

fn failed(why: String) -> ExitRecord {
    let exit = Exit { code: FAILED, out_of_memory: false, at: shim::now() };
    ExitRecord { exit, usage: Usage::default(), failure: Some(Failure::Host(why)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_gets_the_accelerators_that_slurm_gave_it_or_does_not_run() {
        assert_eq!(given(0, "").unwrap(), Vec::<u32>::new());
        assert_eq!(given(2, "1,3").unwrap(), [1, 3]);
        assert!(given(2, "1").is_err() && given(1, "").is_err());
    }
}
