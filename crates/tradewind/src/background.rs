//! A node that outlives the command which started it.
//!
//! ```text
//! none runs ──spawn, own session──► starting ──socket answers──► up ──shutdown by API, or SIGTERM──► none runs
//!     ▲                                 │ the process ends: the end of its log says why
//!     └─────────────────────────────────┘ two starts at once: the lock lets one through, both find it
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use zeroize::Zeroizing;

use crate::client::NodeClient;
use crate::node::config::NodeConfig;
use crate::node::lock::Lock;
use crate::node::{keys, log};
use crate::paths;

/// How long a node may take to answer.
const START: Duration = Duration::from_secs(90);
/// How long a node may take to end.
const END: Duration = Duration::from_secs(40);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(25);
/// Lines of the log that an error shows.
const LAST_LINES: usize = 6;

/// Where the background node of a configuration logs: the state directory, or beside data that is elsewhere.
pub(crate) fn log_file(config: &NodeConfig) -> anyhow::Result<PathBuf> {
    let usual = paths::data_dir()? == config.data_dir;
    Ok(if usual { paths::state_dir()? } else { config.data_dir.clone() }.join("node.log"))
}

/// Starts the node of `file`, unless it runs, and waits until it answers. `password` opens a wallet without a password file.
pub(crate) async fn start(
    file: &Path,
    config: &NodeConfig,
    password: Option<Zeroizing<String>>,
) -> anyhow::Result<NodeClient> {
    let node = NodeClient::new(config.socket());
    let log_file = log_file(config)?;
    let stderr = log::append(&log_file).with_context(|| format!("cannot write {}", log_file.display()))?;
    let from = stderr.metadata()?.len();
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let mut command = Command::new(program);
    command.arg("node").arg("--background").arg("--config").arg(file);
    if let Some(password) = &password {
        command.env(keys::PASSWORD_VARIABLE, password.as_str());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).current_dir("/");
    let mut child = command.spawn().context("a node cannot be started")?;
    let began = Instant::now();
    while began.elapsed() < START {
        if node.status().await.is_ok() {
            return Ok(node);
        }
        // Another start may have been first: its node is as good as ours.
        if let Some(status) = child.try_wait()?
            && Lock::holder(&config.data_dir)?.is_none()
        {
            let last = last_lines(&log_file, from);
            bail!("the node ended at once ({status})\n{last}\n  its log: {}", log_file.display());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(anyhow!("the node does not answer after {} s; its log: {}", START.as_secs(), log_file.display()))
}

/// Ends the node of `config` and waits until its directory is free. False where none ran.
pub(crate) async fn stop(config: &NodeConfig) -> anyhow::Result<bool> {
    let Some(pid) = Lock::holder(&config.data_dir)? else { return Ok(false) };
    if NodeClient::new(config.socket()).shutdown().await.is_err() {
        let process = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let process = process.with_context(|| format!("the lock names no process but {pid}"))?;
        rustix::process::kill_process(process, rustix::process::Signal::TERM)
            .with_context(|| format!("the process {pid} cannot be ended"))?;
    }
    let began = Instant::now();
    while Lock::holder(&config.data_dir)?.is_some() {
        if began.elapsed() > END {
            bail!(
                "the node (process {pid}) does not end; everything acknowledged is stored: `kill -9 {pid}` is safe"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(true)
}

/// Leaves the terminal that started this process.
pub(crate) fn detach() -> anyhow::Result<()> {
    rustix::process::setsid().map(drop).context("the terminal cannot be left")
}

/// The end of what was logged since byte `from`.
fn last_lines(path: &Path, from: u64) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let start = usize::try_from(from).unwrap_or(0).min(bytes.len());
    let text = String::from_utf8_lossy(bytes.get(start..).unwrap_or_default());
    let lines: Vec<&str> = text.lines().collect();
    let shown: Vec<String> =
        lines.iter().skip(lines.len().saturating_sub(LAST_LINES)).map(|line| format!("  {line}")).collect();
    shown.join("\n")
}
