//! A node that outlives the command which started it: a process of its own, or its service where [one is installed](Unit).
//!
//! ```text
//! none runs ──spawn, own session──► starting ──socket answers──► up ──shutdown by API, or SIGTERM──► none runs
//!     ▲                                 │ the process ends: the end of its log says why
//!     └─────────────────────────────────┘ two starts at once: the lock lets one through, both find it
//! ```

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use zeroize::Zeroizing;

use crate::client::NodeClient;
use crate::node::config::NodeConfig;
use crate::node::lock::Lock;
use crate::node::{keys, log};
use crate::paths;
use crate::service::Unit;

/// How long a node may take to answer.
pub(crate) const START: Duration = Duration::from_secs(90);
/// How long a node may take to end.
const END: Duration = Duration::from_secs(40);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(25);
/// The pause between two questions to the service manager.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Lines of the log that an error shows.
const LAST_LINES: usize = 6;

/// Where the background node of a configuration logs: the state directory, or beside data that is elsewhere.
pub(crate) fn log_file(config: &NodeConfig) -> anyhow::Result<PathBuf> {
    let usual = paths::data_dir()? == config.data_dir;
    Ok(if usual { paths::state_dir()? } else { config.data_dir.clone() }.join("node.log"))
}

/// A node that was told to start and has not answered yet.
pub(crate) enum Starting {
    /// By its service.
    Service(Unit),
    /// As a process of its own, which logs from this byte on.
    Process { child: Child, log_file: PathBuf, from: u64 },
}

impl Starting {
    /// Tells the node of `file` to start: by its service where one is installed, else `program` in the background.
    /// `password` opens a wallet without a password file.
    pub(crate) async fn begin(
        program: &Path,
        file: &Path,
        config: &NodeConfig,
        password: Option<&Zeroizing<String>>,
    ) -> anyhow::Result<Self> {
        if let Some(unit) = Unit::of(file) {
            unit.start().await?;
            return Ok(Self::Service(unit));
        }
        let log_file = log_file(config)?;
        let stderr =
            log::append(&log_file).with_context(|| format!("cannot write {}", log_file.display()))?;
        let from = stderr.metadata()?.len();
        let mut command = Command::new(program);
        command.arg("node").arg("--background").arg("--config").arg(file);
        if let Some(password) = password {
            command.env(keys::PASSWORD_VARIABLE, password.as_str());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).current_dir("/");
        let child = command.spawn().context("a node cannot be started")?;
        Ok(Self::Process { child, log_file, from })
    }

    /// Waits until the node answers, for so long at most.
    pub(crate) async fn answers(
        &mut self,
        config: &NodeConfig,
        within: Duration,
    ) -> anyhow::Result<NodeClient> {
        let node = NodeClient::new(config.socket());
        let (began, mut asked) = (Instant::now(), Instant::now());
        while began.elapsed() < within {
            let left = within.saturating_sub(began.elapsed());
            if let Ok(Ok(_)) = tokio::time::timeout(left, node.status()).await {
                return Ok(node);
            }
            match self {
                // Another start may have been first: its node is as good as ours.
                Self::Process { child, log_file, from } => {
                    if let Some(status) = child.try_wait()?
                        && Lock::holder(&config.data_dir)?.is_none()
                    {
                        let last = last_lines(log_file, *from);
                        bail!("the node ended at once ({status})\n{last}\n  its log: {}", log_file.display());
                    }
                }
                Self::Service(unit) if asked.elapsed() > ASK_AGAIN => {
                    asked = Instant::now();
                    if unit.state().await == "failed" {
                        bail!("the node's service failed; its log: {}", unit.scope.journal());
                    }
                }
                Self::Service(_) => {}
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(anyhow!("the node does not answer after {} s; its log: {}", within.as_secs(), self.log()))
    }

    /// Ends a node that was tried and is not wanted.
    pub(crate) async fn give_up(mut self, file: &Path, config: &NodeConfig) -> anyhow::Result<()> {
        if let Self::Process { child, .. } = &mut self {
            child.kill().context("the process that was started cannot be ended")?;
            child.wait()?;
        }
        stop(file, config).await.map(drop)
    }

    fn log(&self) -> String {
        match self {
            Self::Service(unit) => unit.scope.journal().into(),
            Self::Process { log_file, .. } => log_file.display().to_string(),
        }
    }
}

/// Starts the node of `file`, unless it runs, and waits until it answers. `password` opens a wallet without a password file.
pub(crate) async fn start(
    file: &Path,
    config: &NodeConfig,
    password: Option<Zeroizing<String>>,
) -> anyhow::Result<NodeClient> {
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let mut starting = Starting::begin(&program, file, config, password.as_ref()).await?;
    starting.answers(config, START).await
}

/// Ends the node of `file`, its service's where one is installed, and waits until its directory is free. False where none ran.
pub(crate) async fn stop(file: &Path, config: &NodeConfig) -> anyhow::Result<bool> {
    let ran = Lock::holder(&config.data_dir)?.is_some();
    if let Some(unit) = Unit::of(file) {
        // Also where it is between two tries.
        unit.stop().await?;
    }
    // One that somebody started beside the service is in its way.
    let Some(pid) = Lock::holder(&config.data_dir)? else { return Ok(ran) };
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
