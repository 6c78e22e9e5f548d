//! `wallet`: balances, money in and out of the contract, and a copy for a safe place.

use std::path::Path;

use anyhow::{Context, bail};
use tradewind_chain::client::keystore;
use zeroize::Zeroizing;

use super::{funds, node};
use crate::cli::{Cli, WalletVerb};
use crate::node::api::view::{BackedDevice, StakeRequest, Transfer, WalletView};
use crate::node::config::NodeConfig;
use crate::node::{self as nodes, keys};
use crate::paths;
use crate::printer::{Printer, money, table, time};

pub(super) async fn wallet(verb: Option<&WalletVerb>, cli: &Cli, printer: Printer) -> anyhow::Result<u8> {
    match verb {
        None => printer.data(&super::client(cli)?.wallet().await?, show)?,
        Some(WalletVerb::Address) => {
            let account = match cli.socket {
                Some(_) => super::client(cli)?.wallet().await?.account,
                None => account(&configured(cli)?)?.to_string(),
            };
            printer.data(&serde_json::json!({ "account": account }), |_| account.clone())?;
        }
        Some(WalletVerb::Fund { amount }) => return fund(amount.as_deref(), cli, printer).await,
        Some(WalletVerb::Deposit { amount }) => {
            let transfer = Transfer { amount: Some(amount.clone()), to: None };
            let bar = printer.spinner("depositing");
            let moved = super::client(cli)?.deposit(&transfer).await;
            bar.finish_and_clear();
            printer.data(&moved?, show)?;
        }
        Some(WalletVerb::Withdraw { amount, all: _, to }) => {
            let transfer = Transfer { amount: amount.clone(), to: to.clone() };
            let bar = printer.spinner("withdrawing");
            let moved = super::client(cli)?.withdraw(&transfer).await;
            bar.finish_and_clear();
            printer.data(&moved?, show)?;
        }
        Some(WalletVerb::Stake { device, amount }) => {
            let bar = printer.spinner("staking");
            let stake = StakeRequest { device: *device, amount: amount.clone() };
            let staked = super::client(cli)?.stake(&stake).await;
            bar.finish_and_clear();
            printer.data(&staked?, backed)?;
        }
        Some(WalletVerb::Unstake { device }) => {
            let bar = printer.spinner("taking the stake back");
            let left = super::client(cli)?.unstake(*device).await;
            bar.finish_and_clear();
            printer.data(&left?, backed)?;
        }
        Some(WalletVerb::Export { file, password_file }) => {
            export(file, password_file.as_deref(), cli, printer)?;
        }
    }
    Ok(0)
}

fn backed(view: &BackedDevice) -> String {
    let mut rows = vec![
        ["state".to_owned(), view.device.state.clone()],
        ["stake".into(), money(view.device.stake, &view.staked)],
    ];
    rows.extend(view.device.unbonds_at.map(|at| ["stake free at".to_owned(), time(at)]));
    rows.push(["free balance".into(), money(view.free, &view.staked)]);
    table(["device", &view.device.id], rows)
}

/// The configuration of the node whose wallet is meant. A socket may name another node than the configuration does.
fn configured(cli: &Cli) -> anyhow::Result<NodeConfig> {
    let file = paths::config_file()?;
    let config = if file.exists() { Some(node::load(&file)?.1) } else { None };
    let is_meant = |config: &NodeConfig| cli.socket.as_ref().is_none_or(|socket| *socket == config.socket());
    match (config.filter(is_meant), &cli.socket) {
        (Some(config), _) => Ok(config),
        (None, None) => Err(super::not_set_up(&paths::data_dir()?.join("node.sock"))),
        (None, Some(socket)) => {
            let error = format!("{} is not of the node that {} configures", socket.display(), file.display());
            let hint = "this reads the wallet's own file: set TRADEWIND_HOME to the directory of that node's `node.toml`";
            Err(crate::client::Told::error(error, hint))
        }
    }
}

fn account(config: &NodeConfig) -> anyhow::Result<alloy::primitives::Address> {
    let path = config.data_dir.join("wallet.json");
    keystore::address(&path)?.with_context(|| format!("{} does not name its account", path.display()))
}

async fn fund(amount: Option<&str>, cli: &Cli, printer: Printer) -> anyhow::Result<u8> {
    let config = configured(cli)?;
    let profile = nodes::read_profile(&config)?;
    funds::settle(&profile, account(&config)?, amount, true, printer).await
}

fn export(file: &Path, password_file: Option<&Path>, cli: &Cli, printer: Printer) -> anyhow::Result<()> {
    let config = configured(cli)?;
    let own = match (&config.password_file, std::env::var_os(keys::PASSWORD_VARIABLE)) {
        (None, None) if printer.can_ask() => printer.ask_secret("password of the wallet: ")?,
        (path, _) => keys::password(path.as_deref())?,
    };
    let key = keystore::load(&config.data_dir.join("wallet.json"), || Ok(own))?;
    let password = match password_file {
        Some(path) => keys::password(Some(path))?,
        None => new_password("password of the copy: ", printer)?,
    };
    copy(file, &key, &password)?;
    let told = serde_json::json!({ "account": key.address().to_string(), "file": file });
    printer.data(&told, |_| format!("{} holds {}, and was read back", file.display(), key.address()))
}

/// Writes an encrypted copy, and opens it again as somebody would who has nothing else.
pub(super) fn copy(
    file: &Path,
    key: &tradewind_proto::signature::SigningKey,
    password: &Zeroizing<String>,
) -> anyhow::Result<()> {
    keystore::save(file, key, || Ok(password.clone()))?;
    let opened = keystore::load(file, || Ok(password.clone()))?;
    if opened.address() != key.address() {
        bail!("{} holds another account than was written", file.display());
    }
    Ok(())
}

/// A password that was typed twice.
pub(super) fn new_password(question: &str, printer: Printer) -> anyhow::Result<Zeroizing<String>> {
    if !printer.can_ask() {
        let hint = "`--password-file` names a file that only you can read";
        return Err(crate::client::Told::error("nobody is there to ask for a password", hint));
    }
    for _ in 0..3 {
        let first = printer.ask_secret(question)?;
        if first.is_empty() || *first == *printer.ask_secret("the same again: ")? {
            return Ok(first);
        }
        printer.step("they differ");
    }
    bail!("the password was not repeated")
}

fn show(view: &WalletView) -> String {
    let rows = [
        ["in the wallet".to_owned(), money(view.wallet, &view.asset)],
        ["free in the contract".to_owned(), money(view.free, &view.asset)],
    ];
    table(["account", &view.account], rows)
}
