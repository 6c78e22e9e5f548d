//! Slurm, by its own programs: each call has a time limit, and an error or silence says nothing about any job.
//!
//! Many leases ask for their jobs every second; the controller is asked once, and the answer serves them all.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Mutex;

use super::queue::{self, Job, JobId, Unreadable};
use crate::runtime::RuntimeError;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(20);
/// What a program may print.
const OUTPUT_MAX: u64 = 32 << 20;
/// How old an answer may be that is given again.
const FRESH: Duration = Duration::from_secs(1);
/// What Slurm's programs get of this process's environment. Options by environment would override nothing, but might add.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "USER", "SLURM_CONF", "LD_LIBRARY_PATH"];

/// Why Slurm did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterError {
    /// The program is not there, or cannot be executed.
    #[error("{program} cannot be executed: {source}")]
    Missing {
        program: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("{program} does not answer within {} s", CALL.as_secs())]
    Silent { program: &'static str },
    /// It says no, in these words.
    #[error("{program}: {said}")]
    Refused { program: &'static str, said: String },
    /// It printed something else than documented.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl From<ClusterError> for RuntimeError {
    fn from(error: ClusterError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// What a program printed.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) out: String,
    pub(super) err: String,
}

/// A cluster, through the programs that a login node has.
#[derive(Debug)]
pub(super) struct Cluster {
    programs: Option<PathBuf>,
    listing: Mutex<Option<(Instant, Arc<Vec<Job>>)>>,
}

impl Cluster {
    /// With the programs in a directory, or wherever `PATH` has them.
    pub(super) fn new(programs: Option<PathBuf>) -> Self {
        Self { programs, listing: Mutex::default() }
    }

    /// Runs one of Slurm's programs.
    pub(super) async fn call(
        &self,
        program: &'static str,
        arguments: &[String],
        input: Option<&str>,
    ) -> Result<Said, ClusterError> {
        let path = self.programs.as_ref().map_or_else(|| program.into(), |dir| dir.join(program));
        let kept = ENVIRONMENT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let mut child = Command::new(path)
            .args(arguments)
            .env_clear()
            .envs(kept)
            .env("LC_ALL", "C")
            .env("SLURM_TIME_FORMAT", "%s")
            .current_dir("/")
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ClusterError::Missing { program, source })?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let talk = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                stdin.write_all(input.as_bytes()).await?;
            }
            let (out, err) = tokio::try_join!(text(stdout), text(stderr))?;
            std::io::Result::Ok((out, err, child.wait().await?))
        };
        let answer = tokio::time::timeout(CALL, talk).await.map_err(|_| ClusterError::Silent { program })?;
        let (out, err, status) = answer.map_err(|source| ClusterError::Missing { program, source })?;
        if status.success() {
            return Ok(Said { out, err });
        }
        let said = if err.trim().is_empty() { out } else { err };
        Err(ClusterError::Refused { program, said: said.trim().chars().take(500).collect() })
    }

    /// All jobs of this account that the controller knows, as of `after` or later.
    pub(super) async fn jobs(&self, after: Instant) -> Result<Arc<Vec<Job>>, ClusterError> {
        let mut listing = self.listing.lock().await;
        if let Some((at, jobs)) = &*listing
            && *at >= after
        {
            return Ok(Arc::clone(jobs));
        }
        let asked = Instant::now();
        let format = format!("--Format={}", queue::COLUMNS);
        let arguments = ["--noheader", "--me", "--states=all", &format].map(str::to_owned);
        let jobs = Arc::new(queue::jobs(&self.call("squeue", &arguments, None).await?.out)?);
        *listing = Some((asked, Arc::clone(&jobs)));
        Ok(jobs)
    }

    /// All jobs of this account, as they were a moment ago.
    pub(super) async fn recent_jobs(&self) -> Result<Arc<Vec<Job>>, ClusterError> {
        let now = Instant::now();
        self.jobs(now.checked_sub(FRESH).unwrap_or(now)).await
    }

    /// Where a node is reached.
    pub(super) async fn address_of(&self, node: &str) -> Result<String, ClusterError> {
        let arguments = ["--oneliner", "show", "node", node].map(str::to_owned);
        let said = self.call("scontrol", &arguments, None).await?;
        let address = said.out.split_whitespace().find_map(|word| word.strip_prefix("NodeAddr="));
        Ok(address.unwrap_or(node).to_owned())
    }

    /// Ends a job, pending or running. One that is over is no error.
    pub(super) async fn cancel(&self, id: JobId) -> Result<(), ClusterError> {
        self.call("scancel", &["--quiet".into(), id.to_string()], None).await.map(drop)
    }
}

async fn text(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(OUTPUT_MAX).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn cluster_of(program: &str, script: &str) -> (tempfile::TempDir, Cluster) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(program);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let cluster = Cluster::new(Some(dir.path().to_owned()));
        (dir, cluster)
    }

    #[tokio::test]
    async fn many_who_ask_at_once_cost_one_call() {
        let (dir, cluster) = cluster_of("squeue", "echo x >> calls; echo '1|RUNNING|None|9|N/A|n|tw-1|'");
        // The programs run in `/`, so the script is told where to write.
        let script = dir.path().join("squeue");
        let text = std::fs::read_to_string(&script).unwrap();
        std::fs::write(&script, text.replace("calls", &dir.path().join("calls").display().to_string()))
            .unwrap();
        let asked = (0..20).map(|_| cluster.recent_jobs());
        for jobs in futures::future::join_all(asked).await {
            assert_eq!(jobs.unwrap().len(), 1);
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("calls")).unwrap(), "x\n");
        cluster.jobs(Instant::now()).await.unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("calls")).unwrap(), "x\nx\n");
    }

    #[tokio::test]
    async fn a_controller_that_is_down_says_nothing_about_jobs() {
        let (_dir, cluster) = cluster_of(
            "squeue",
            "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
        );
        let error = cluster.recent_jobs().await.unwrap_err();
        assert!(error.to_string().contains("Unable to contact"), "{error}");
        assert!(matches!(RuntimeError::from(error), RuntimeError::Unavailable(_)));
    }
}
