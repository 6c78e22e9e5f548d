//! The market's processes: each node with a directory of its own, and of the others only the network's profile.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::process::{Child, Command};
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::signature::SigningKey;

use super::hostile::Lie;
use crate::client::NodeClient;
use crate::node::config::{MeshSection, NodeConfig, ProviderSection};
use crate::node::keys;

/// How long a node may take to come up.
const START: Duration = Duration::from_secs(90);
/// The profile that the ledger's host writes.
const PROFILE: &str = "network.toml";

/// Nodes that end with this value.
pub(super) struct Market {
    dir: PathBuf,
    /// Where nodes that are started from now on find the profile.
    profile: PathBuf,
    nodes: Vec<(String, Child)>,
}

/// The part of a workload's record that names its process.
#[derive(Deserialize)]
struct Shim {
    pid: i32,
}

/// A seller of sandboxes for this price an hour.
pub(super) fn provider(price: &str) -> ProviderSection {
    ProviderSection {
        price: Some(price.into()),
        country: "DE".into(),
        cpus: Some(1),
        memory: Some("512MiB".into()),
        disk: Some("1GiB".into()),
        heartbeat: 5,
        ..ProviderSection::default()
    }
}

/// Any free port of this machine.
pub(super) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl Market {
    /// Nobody is there yet; everything will lie in `dir`.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { profile: dir.join(PROFILE), dir, nodes: Vec::new() }
    }

    /// A place beside the nodes' own.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Starts a node of its own with the network's profile and nothing else.
    pub(super) fn start(
        &mut self,
        name: &str,
        roles: impl FnOnce(&mut NodeConfig),
    ) -> anyhow::Result<NodeClient> {
        let (config, file) = self.configure(name, roles)?;
        self.spawn(name, &["node", "--config"], &file)?;
        Ok(NodeClient::new(config.socket()))
    }

    /// Writes what the node needs to start.
    fn configure(
        &self,
        name: &str,
        roles: impl FnOnce(&mut NodeConfig),
    ) -> anyhow::Result<(NodeConfig, PathBuf)> {
        let dir = self.path(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let password_file = dir.join("password");
        keys::make_password_file(&password_file)?;
        let mut config = NodeConfig {
            password_file: Some(password_file),
            mesh: MeshSection { bind: loopback(), ..MeshSection::default() },
            ..NodeConfig::new(dir.clone(), self.profile.clone())
        };
        roles(&mut config);
        let file = dir.join("node.toml");
        config.save(&file)?;
        Ok((config, file))
    }

    /// Starts a device that lies to watchers. It has no local API.
    pub(super) fn start_hostile(
        &mut self,
        name: &str,
        lie: Lie,
        roles: impl FnOnce(&mut NodeConfig),
    ) -> anyhow::Result<()> {
        let (_, file) = self.configure(name, roles)?;
        self.spawn(name, &["hostile-device", "--lie", lie.word(), "--config"], &file)
    }

    fn spawn(&mut self, name: &str, arguments: &[&str], file: &Path) -> anyhow::Result<()> {
        let log = std::fs::File::create(self.path(name).join("log"))?;
        let child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("a node cannot be started")?;
        self.nodes.push((name.to_owned(), child));
        Ok(())
    }

    /// Waits until a node answers; a node that ended says why.
    pub(super) async fn up(&mut self, node: &NodeClient) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            if node.status().await.is_ok() {
                return Ok(());
            }
            for (name, child) in &mut self.nodes {
                if let Some(status) = child.try_wait()? {
                    let log = std::fs::read_to_string(self.dir.join(&*name).join("log")).unwrap_or_default();
                    bail!("the node `{name}` ended with {status}:\n{}", log.trim_end());
                }
            }
            if began.elapsed() > START {
                bail!("no node answers on {} after {} s", node.socket().display(), START.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Waits until the buyer hears of so many offers.
    pub(super) async fn offers(&self, buyer: &NodeClient, wanted: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        while buyer.offers().await?.len() < wanted {
            if began.elapsed() > START {
                bail!("the buyer hears of fewer than {wanted} offers");
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }

    /// The profile as the ledger's host wrote it.
    pub(super) fn profile(&self) -> anyhow::Result<NetworkProfile> {
        let path = self.path(PROFILE);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(NetworkProfile::parse(PROFILE, &text)?)
    }

    /// Hands `profile` to every node that is started from now on.
    pub(super) fn publish(&mut self, profile: &NetworkProfile) -> anyhow::Result<()> {
        self.profile = self.path("shared.toml");
        let text = profile.encode()?;
        std::fs::write(&self.profile, text)
            .with_context(|| format!("cannot write {}", self.profile.display()))
    }

    /// A node's wallet: on a development network, the ledger's host has the only gas.
    pub(super) fn key(&self, name: &str) -> anyhow::Result<SigningKey> {
        let dir = self.path(name);
        keys::wallet(&dir, Some(&dir.join("password")))
    }

    /// `kill -9` of a node and of everything that it started: the machine is gone.
    pub(super) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let at = self.nodes.iter().position(|(known, _)| known == name);
        let at = at.with_context(|| format!("there is no node `{name}`"))?;
        let (_, mut child) = self.nodes.remove(at);
        child.kill().await.with_context(|| format!("the node `{name}` cannot be killed"))?;
        self.kill_workloads(name);
        Ok(())
    }

    /// Sandboxes outlive their node, so that its next start adopts them.
    fn kill_workloads(&self, name: &str) {
        let program = std::env::current_exe().ok();
        let jobs = std::fs::read_dir(self.path(name).join("runtime/process/jobs"));
        for job in jobs.into_iter().flatten().flatten() {
            let shim = std::fs::read(job.path().join("shim.json")).ok();
            let shim = shim.and_then(|bytes| serde_json::from_slice::<Shim>(&bytes).ok());
            let Some(pid) = shim.and_then(|shim| Pid::from_raw(shim.pid)) else { continue };
            // Another process may have the number by now.
            let runs = std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).ok();
            if runs.is_some() && runs == program {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// The end of every node's log.
    pub(super) fn last_words(&self) -> String {
        let mut text = String::new();
        for (name, _) in &self.nodes {
            let log = std::fs::read_to_string(self.dir.join(name).join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(8).collect();
            for line in lines.into_iter().rev() {
                text.push_str(&format!("{name}: {line}\n"));
            }
        }
        text
    }

    /// Ends every node, politely first.
    pub(super) async fn end(&mut self) {
        for (name, _) in &self.nodes {
            let node = NodeClient::new(self.dir.join(name).join("node.sock"));
            // A node that does not answer is killed below.
            let _ = tokio::time::timeout(Duration::from_secs(2), node.shutdown()).await;
        }
        for (_, child) in &mut self.nodes {
            if tokio::time::timeout(Duration::from_secs(10), child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
        for (name, _) in &self.nodes {
            self.kill_workloads(name);
        }
    }
}
