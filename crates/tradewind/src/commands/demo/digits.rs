//! The market's good case: digits are trained on the best of three offers.
//!
//! ```text
//! ledger + relayer + faucet ─ writes network.toml ─► three providers, a buyer, an explorer ─► digits on the best offer
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::super::run;
use super::market::{Market, loopback, provider};
use crate::node::config::{BuyerSection, ExplorerSection, LedgerSection};
use crate::printer::Printer;

/// How long the demonstration's job may take.
const JOB: Duration = Duration::from_secs(600);
/// What the three providers ask an hour.
const PRICES: [&str; 3] = ["0.30", "0.18", "0.24"];
/// The digits' data, as the repository carries it.
const DATA: &[u8] = include_bytes!("../../../../../examples/digits/data/digits.bin");
/// The demonstration's job.
const JOB_FILE: &str = include_str!("../../../../../examples/digits/job.yaml");

pub(super) async fn show(printer: Printer, market: &mut Market, digits: &Path) -> anyhow::Result<()> {
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

    let job = lay_out(market, digits)?;
    let (_, new) = run::read(&job, &market.path("outputs"))?;
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
    })
}

/// Lays the job out: the file, the program and its data.
fn lay_out(market: &Market, digits: &Path) -> anyhow::Result<PathBuf> {
    let dir = market.path("job");
    std::fs::create_dir_all(dir.join("data"))?;
    std::fs::write(dir.join("data/digits.bin"), DATA)?;
    std::fs::copy(digits, dir.join("digits")).with_context(|| format!("cannot copy {}", digits.display()))?;
    let file = dir.join("job.yaml");
    std::fs::write(&file, JOB_FILE)?;
    Ok(file)
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

/// The static digits program: named, beside this one, or where `cargo xtask digits` puts it.
pub(super) fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
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
