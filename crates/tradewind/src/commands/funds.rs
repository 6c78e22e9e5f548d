//! Waits until an account has money: the faucet's on a development network, else whatever somebody sends.

use std::time::Duration;

use alloy::primitives::Address;
use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::units::Money;

use crate::node::ledger;
use crate::printer::{Printer, base_units};

/// The pause between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// What a shell says of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// Shows the account, asks the faucet where there is one, and waits for `amount` where `wait` says so. Ctrl-C ends the wait.
pub(super) async fn settle(
    profile: &NetworkProfile,
    account: Address,
    amount: Option<&str>,
    wait: bool,
    printer: Printer,
) -> anyhow::Result<u8> {
    let asset = profile.quote().context("the network's profile names no asset")?;
    let wanted = match amount {
        Some(text) => Money::parse(text, asset.decimals)?,
        None => Money::from_base_units(1),
    };
    let reader = ledger::reader(profile)?;
    let held = async || -> anyhow::Result<Money> {
        let wallet = reader.holdings(asset.address, account).await?;
        Ok(wallet.checked_add(reader.balance(asset.address, account).await?)?)
    };
    let mut have = held().await;
    if have.as_ref().is_ok_and(|have| *have < wanted) && profile.faucet.is_some() {
        let bar = printer.spinner("asking the faucet");
        let given = ledger::drip_until(profile, account, asset.address, wanted, &held).await;
        bar.finish_and_clear();
        given?;
        have = held().await;
    }
    let tell = |have: Money| {
        let told = serde_json::json!({ "account": account.to_string(), "held": base_units(have), "asset": asset, "enough": have >= wanted });
        printer.data(&told, |_| format!("{account} has {} {}", have.display(asset.decimals), asset.symbol))
    };
    if !wait || have.as_ref().is_ok_and(|have| *have >= wanted) {
        return tell(have?).map(|()| 0);
    }
    // Listened for from before anything says that it can be interrupted.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let bar = printer.spinner(&format!("waiting for {} at {account} on {}", asset.symbol, profile.name));
    let waiting = async {
        loop {
            match held().await {
                Ok(have) if have >= wanted => return have,
                Ok(_) => {}
                Err(error) => bar.suspend(|| printer.step(&format!("{error:#}; trying on"))),
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        have = waiting => {
            bar.finish_and_clear();
            tell(have).map(|()| 0)
        }
        _ = interrupt.recv() => {
            bar.finish_and_clear();
            printer.step("not funded yet; everything else is set up: `tradewind wallet fund` goes on waiting");
            Ok(INTERRUPTED)
        }
    }
}
