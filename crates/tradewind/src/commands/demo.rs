//! `tradewind demo`: a whole market on this machine, of separate processes that know only the network's profile.
//!
//! ```text
//! ledger + relayer + faucet ─ writes network.toml ─► three providers, a buyer, an explorer ─► digits on the best offer
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::run;
use crate::cli::Demo;
use crate::client::NodeClient;
use crate::node::config::{
    BuyerSection, ExplorerSection, LedgerSection, MeshSection, NodeConfig, ProviderSection,
};
use crate::node::keys;
use crate::printer::Printer;

/// How long a node may take to come up.
const START: Duration = Duration::from_secs(90);
/// How long the demonstration's job may take.
const JOB: Duration = Duration::from_secs(600);
/// What the three providers ask an hour.
const PRICES: [&str; 3] = ["0.30", "0.18", "0.24"];
/// The digits' data, as the repository carries it.
const DATA: &[u8] = include_bytes!("../../../../examples/digits/data/digits.bin");
/// The demonstration's job.
const JOB_FILE: &str = include_str!("../../../../examples/digits/job.yaml");

/// Nodes that end with this value.
struct Market {
    dir: PathBuf,
    nodes: Vec<(String, Child)>,
}

pub(super) async fn demo(options: &Demo, printer: Printer) -> anyhow::Result<u8> {
    let digits = find_digits(options.digits.as_deref())?;
    let (dir, temporary) = match &options.dir {
        Some(dir) => (std::path::absolute(dir)?, None),
        None => {
            let temporary = tempfile::Builder::new().prefix("tradewind-demo-").tempdir()?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut market = Market { dir: dir.clone(), nodes: Vec::new() };
    let shown = show(printer, &mut market, &digits).await;
    let kept = match &shown {
        Ok(_) if !options.exit => {
            printer.step("the market stays up; Ctrl-C ends it");
            tokio::signal::ctrl_c().await.map_err(anyhow::Error::from)
        }
        Ok(_) | Err(_) => Ok(()),
    };
    if shown.is_err() {
        printer.step(&market.last_words());
    }
    market.end().await;
    drop(temporary);
    kept?;
    shown
}

async fn show(printer: Printer, market: &mut Market, digits: &Path) -> anyhow::Result<u8> {
    let began = Instant::now();
    let bar = printer.spinner("starting the ledger, its contracts, relayer and faucet");
    let ledger = market.start("ledger", |config| {
        config.ledger = Some(LedgerSection::default());
    })?;
    market.up(&ledger).await?;
    bar.finish_and_clear();
    let bar = printer.spinner("starting three providers, a buyer and an explorer");
    let mut waiting = Vec::new();
    for (index, price) in PRICES.iter().enumerate() {
        let node = market.start(&format!("provider-{}", index + 1), |config| {
            config.provider = Some(provider(price));
        })?;
        waiting.push(node);
    }
    let buyer = market.start("buyer", |config| {
        config.buyer = Some(BuyerSection {
            slack: 6,
            patience: 20,
            faucet: Some("100".into()),
            ..BuyerSection::default()
        });
    })?;
    let explorer = market.start("explorer", |config| {
        config.explorer = Some(ExplorerSection { listen: loopback() });
    })?;
    for node in waiting.iter().chain([&buyer, &explorer]) {
        market.up(node).await?;
    }
    market.offers(&buyer, PRICES.len()).await?;
    bar.finish_and_clear();
    printer.step(&format!("the market is up after {:.1} s", began.elapsed().as_secs_f64()));

    let job = market.job(digits)?;
    let (_, new) = run::read(&job, &market.dir.join("outputs"))?;
    if !printer.is_json() {
        run::show_plan(&new, &buyer, printer).await?;
    }
    let id = buyer.submit(&new).await?;
    let record = tokio::time::timeout(JOB, run::follow(id, &buyer, printer))
        .await
        .context("the job takes too long")??;
    let status = ledger.status().await?;
    let explorer = explorer.status().await?;
    let mut receipt = run::receipt(&record);
    receipt["accuracy"] = accuracy(&new.output_dir)?;
    receipt["explorer"] = explorer.explorer.clone().into();
    receipt["rpc"] = status.rpc.clone().into();
    check(&receipt)?;
    let explorer = explorer.explorer.unwrap_or_else(|| "none".into());
    printer.data(&receipt, |receipt| {
        let text = run::receipt_text(&record, &status.asset);
        let rpc = status.rpc.as_deref().unwrap_or("none");
        format!("{text}\naccuracy  {}\nexplorer  {explorer}\nRPC       {rpc}", receipt["accuracy"])
    })?;
    Ok(0)
}

/// The demonstration claims nothing that does not hold.
fn check(receipt: &Value) -> anyhow::Result<()> {
    let amount =
        |field: &str| receipt[field].as_u64().with_context(|| format!("the receipt has no `{field}`"));
    let (deposited, paid) = (amount("deposited")?, amount("paid")?);
    if deposited != paid + amount("refunded")? + amount("forfeited")? {
        bail!("the receipt does not add up: {receipt}");
    }
    if receipt["state"] != "closed" || paid == 0 {
        bail!("the lease did not close well: {receipt}");
    }
    if receipt["accuracy"].as_f64().is_none_or(|accuracy| accuracy < 0.95) {
        bail!("the classifier is worse than it must be: {receipt}");
    }
    Ok(())
}

fn accuracy(outputs: &Path) -> anyhow::Result<Value> {
    let path = outputs.join("output/metrics.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(serde_json::from_str::<Value>(&text)?["accuracy"].clone())
}

fn provider(price: &str) -> ProviderSection {
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

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The static digits program: named, beside this one, or where `cargo xtask digits` puts it.
fn find_digits(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        return std::path::absolute(path).map_err(Into::into);
    }
    let here = std::env::current_exe().context("this program's own path is unknown")?;
    let beside = here.parent().context("this program has no directory")?;
    let target = beside.parent().unwrap_or(beside);
    let candidates = [target.join("digits"), beside.join("tradewind-digits")];
    candidates.into_iter().find(|path| path.is_file()).context(
        "the digits program is not beside this one; `cargo xtask digits` builds it, `--digits` names it",
    )
}

impl Market {
    /// Starts a node of its own with the network's profile and nothing else.
    fn start(&mut self, name: &str, roles: impl FnOnce(&mut NodeConfig)) -> anyhow::Result<NodeClient> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let password_file = dir.join("password");
        keys::make_password_file(&password_file)?;
        let mut config = NodeConfig {
            password_file: Some(password_file),
            mesh: MeshSection { bind: loopback(), external: Vec::new() },
            ..NodeConfig::new(dir.clone(), self.dir.join("network.toml"))
        };
        roles(&mut config);
        let file = dir.join("node.toml");
        config.save(&file)?;
        let log = std::fs::File::create(dir.join("log"))?;
        let child = Command::new(std::env::current_exe()?)
            .arg("node")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("a node cannot be started")?;
        self.nodes.push((name.to_owned(), child));
        Ok(NodeClient::new(config.socket()))
    }

    /// Waits until a node answers; a node that ended says why.
    async fn up(&mut self, node: &NodeClient) -> anyhow::Result<()> {
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

    async fn offers(&self, buyer: &NodeClient, wanted: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        while buyer.offers().await?.len() < wanted {
            if began.elapsed() > START {
                bail!("the buyer hears of fewer than {wanted} offers");
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }

    /// Lays the job out: the file, the program and its data.
    fn job(&self, digits: &Path) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join("job");
        std::fs::create_dir_all(dir.join("data"))?;
        std::fs::write(dir.join("data/digits.bin"), DATA)?;
        std::fs::copy(digits, dir.join("digits"))
            .with_context(|| format!("cannot copy {}", digits.display()))?;
        let file = dir.join("job.yaml");
        std::fs::write(&file, JOB_FILE)?;
        Ok(file)
    }

    /// The end of every node's log.
    fn last_words(&self) -> String {
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
    async fn end(&mut self) {
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
    }
}
