//! The watcher role: its money, its seats, and the watching itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use anyhow::{Context, bail};
use tradewind_chain::ledger::{Action, ActionStatus, Ledger, Reference};
use tradewind_mesh::{PeerAddr, Transport};
use tradewind_proto::challenge::Size;
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::{Clock, Money};
use tradewind_store::Store;
use tradewind_watcher::{ChallengeConfig, Parts, Watcher, WatcherConfig, seat_key};

use super::config::WatcherSection;
use super::{keys, ledger};

/// How long the chain may take for a deposit.
const STEP: Duration = Duration::from_secs(120);
/// Rows that a watcher opens of each round that it opens: a tenth of the work skipped is caught at 97 %.
const ROWS: usize = 32;

/// What the role needs of its node.
pub(crate) struct Needs<'a> {
    pub(crate) section: &'a WatcherSection,
    pub(crate) profile: &'a NetworkProfile,
    pub(crate) data_dir: &'a Path,
    pub(crate) password_file: Option<&'a Path>,
    pub(crate) key: SigningKey,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
}

/// Stakes the seats that are not seated yet and starts watching; cases are taken up again.
pub(crate) async fn start(needs: Needs<'_>) -> anyhow::Result<Watcher> {
    let section = needs.section;
    if section.seats == 0 || section.seats > 256 {
        bail!("`watcher.seats` in node.toml: a node holds 1 to 256 seats, not {}", section.seats);
    }
    let master = keys::wallet(&needs.data_dir.join("watcher"), needs.password_file)?;
    let seats = (0..section.seats).map(|number| seat_key(&master, number)).collect::<Result<Vec<_>, _>>()?;
    fund(&needs, &seats.iter().map(|key| key.address()).collect::<Vec<_>>()).await?;
    let challenge = match needs.profile.challenge {
        Some(asked) => {
            let (size, rounds) = (Size::new(asked.size)?, usize::try_from(asked.rounds)?);
            Some(ChallengeConfig { size, rounds, opened: rounds.min(2), rows: ROWS })
        }
        None => None,
    };
    let config = WatcherConfig {
        tick: Duration::from_millis(500),
        interval: Duration::from_secs(section.interval.max(1)),
        window: Duration::from_millis(section.window.max(100)),
        misses: section.misses.max(1),
        challenge,
        walk: needs.profile.walk.clone(),
        start: 0,
    };
    let bootstrap = needs.profile.bootstrap.iter();
    let bootstrap = bootstrap
        .map(|node| node.addresses.iter().fold(PeerAddr::new(node.key), |peer, at| peer.with_direct(*at)));
    let parts = Parts {
        ledger: needs.ledger.clone(),
        transport: needs.transport.clone(),
        store: needs.store.clone(),
        key: needs.key.clone(),
        seats,
        bootstrap: bootstrap.filter(|peer| peer.key != needs.transport.key()).collect(),
        clock: needs.clock.clone(),
        millis: super::millis(),
    };
    Ok(Watcher::start(config, parts).await?)
}

/// Brings the free balance up to what the seats that are missing stake, and to what cases and fees need.
async fn fund(needs: &Needs<'_>, keys: &[Address]) -> anyhow::Result<()> {
    let asset = needs.profile.quote().context("the network's profile names no asset")?;
    let tribunal = needs.ledger.tribunal();
    let tribunal = tribunal.context("this network has no court; its profile names one under [contracts]")?;
    let setup = tribunal.setup().await.context("the court's setup cannot be read")?;
    let mut missing = 0u128;
    for key in keys {
        missing += u128::from(tribunal.seat_of(*key).await?.is_none());
    }
    let stakes = Money::new(setup.seat_stake.base_units().saturating_mul(missing))?;
    let bonds = Money::parse(&needs.section.bonds, asset.decimals).context("`watcher.bonds` in node.toml")?;
    let ledger = needs.ledger.as_ref();
    if setup.stake_token == setup.fee_token {
        return deposit(needs.profile, ledger, setup.fee_token, stakes.checked_add(bonds)?).await;
    }
    deposit(needs.profile, ledger, setup.fee_token, bonds).await?;
    deposit(needs.profile, ledger, setup.stake_token, stakes).await
}

async fn deposit(
    profile: &NetworkProfile,
    ledger: &dyn Ledger,
    token: Address,
    wanted: Money,
) -> anyhow::Result<()> {
    let account = ledger.account();
    let missing = wanted.saturating_sub(ledger.balance(token, account).await?);
    if missing.is_zero() {
        return Ok(());
    }
    if profile.development {
        let held = async || Ok(ledger.holdings(token, account).await?);
        ledger::drip_until(profile, account, token, missing, &held).await?;
    }
    let amount = missing.min(ledger.holdings(token, account).await?);
    if amount < missing {
        bail!("the wallet {account} lacks {} base units of {token}", missing.saturating_sub(amount));
    }
    let reference = Reference(B256::from(rand::random::<[u8; 32]>()));
    let submission = ledger.submit(Action::Deposit { reference, token, amount }).await?;
    let settled = tokio::time::timeout(STEP, ledger.settled(&submission.key)).await;
    match settled.context("the deposit takes too long")?? {
        ActionStatus::Included { .. } | ActionStatus::Final { .. } => Ok(()),
        ActionStatus::Failed { reason } => bail!("the deposit failed: {reason}"),
        ActionStatus::Pending => bail!("the deposit is still pending"),
    }
}
