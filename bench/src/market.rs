//! A market of separate `tradewind node` processes: a ledger, a provider and a buyer, that know only a profile.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::process::{Child, Command};

const START: Duration = Duration::from_secs(60);

/// The `tradewind` that was built with this program.
pub(crate) fn beside() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path is unknown")?;
    let program = own.with_file_name("tradewind");
    ensure!(program.is_file(), "{} is missing; `make bench` builds it", program.display());
    Ok(program)
}

/// What a provider's leases run in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Runtime {
    Process,
    /// The engine's usual runtime, that of a bare `docker run`.
    Docker,
    /// gVisor, by the name that `scripts/with-dockerd` gives it.
    Gvisor,
    Slurm,
}

pub(crate) const GVISOR: &str = "runsc";

impl Runtime {
    /// The lines of the provider's section, the last of them with tables of their own.
    fn lines(self, dir: &Path) -> std::io::Result<String> {
        Ok(match self {
            Self::Process => "runtimes = [\"process\"]\n".into(),
            Self::Docker => "runtimes = [\"docker\"]\nsandbox = \"off\"\n".into(),
            Self::Gvisor => format!("runtimes = [\"docker\"]\nsandbox = \"{GVISOR}\"\n"),
            Self::Slurm => {
                let shared = dir.join("shared");
                std::fs::create_dir(&shared)?;
                format!("runtimes = [\"slurm\"]\n[provider.slurm]\ndirectory = \"{}\"\n", shared.display())
            }
        })
    }
}

/// Nodes that end with this value.
pub(crate) struct Market {
    program: PathBuf,
    dir: tempfile::TempDir,
    nodes: Vec<(&'static str, Child)>,
}

impl Market {
    /// Starts the ledger, then a provider with one runtime, then a buyer, and waits until the buyer sees the offer.
    pub(crate) async fn start(program: &Path, runtime: Runtime) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("tradewind-bench-").tempdir()?;
        let mut market = Self { program: program.to_owned(), dir, nodes: Vec::new() };
        market.node("ledger", "[ledger]\n").await?;
        let provider = format!(
            "[provider]\nprice = \"0.20\"\nspot_price = \"0.10\"\nnotice = 5\ncpus = 1\nunits = 2\nmemory = \"64MiB\"\ndisk = \"64MiB\"\n\
             heartbeat = 15\nbonds = \"1000\"\nreserve = {{cpus = 0}}\n{}",
            runtime.lines(market.dir())?
        );
        market.node("provider", &provider).await?;
        market.node("buyer", "[buyer]\nfaucet = \"500\"\n").await?;
        let began = Instant::now();
        while market.ask("buyer", &["--json", "offers"]).await?.trim().len() < 3 {
            ensure!(began.elapsed() < START, "the buyer hears of no offer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(market)
    }

    /// Where this market's files are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process of a node.
    pub(crate) fn pid(&self, name: &str) -> anyhow::Result<u32> {
        let node = self.nodes.iter().find(|(known, _)| *known == name);
        node.and_then(|(_, child)| child.id()).with_context(|| format!("the node `{name}` is gone"))
    }

    /// A command at one of the nodes.
    pub(crate) fn command(&self, node: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--socket").arg(self.dir().join(node).join("node.sock")).args(arguments);
        command.current_dir(self.dir()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// What a command prints.
    pub(crate) async fn ask(&self, node: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(node, arguments).output().await?;
        ensure!(
            output.status.success(),
            "`tradewind {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn node(&mut self, name: &'static str, roles: &str) -> anyhow::Result<()> {
        let home = self.dir().join(name);
        std::fs::create_dir_all(&home)?;
        secret(&home.join("password"))?;
        let config = format!(
            "data_dir = \".\"\nprofile = \"../network.toml\"\npassword_file = \"password\"\n\
             [mesh]\nbind = \"127.0.0.1:0\"\n{roles}"
        );
        let file = home.join("node.toml");
        std::fs::write(&file, config)?;
        let child = Command::new(&self.program)
            .arg("node")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(home.join("log"))?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        self.nodes.push((name, child));
        let began = Instant::now();
        while self.ask(name, &["--json", "status"]).await.is_err() {
            let ended = self.nodes.last_mut().and_then(|(_, child)| child.try_wait().ok().flatten());
            if ended.is_some() || began.elapsed() > START {
                let log = std::fs::read_to_string(home.join("log")).unwrap_or_default();
                bail!("the node `{name}` does not come up:\n{}", log.trim_end());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Ends every node, politely first.
    pub(crate) async fn end(mut self) {
        while let Some((_, mut child)) = self.nodes.pop() {
            if let Some(id) = child.id() {
                // What the signal does not end is killed below.
                let _ = Command::new("kill").arg("-TERM").arg(id.to_string()).status().await;
            }
            if tokio::time::timeout(Duration::from_secs(10), child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }
}

/// A password file that only its owner reads.
fn secret(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut text = String::new();
    for byte in tradewind_mesh::MeshSecret::generate().key().as_bytes() {
        write!(text, "{byte:02x}")?;
    }
    let mut file =
        std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(())
}
