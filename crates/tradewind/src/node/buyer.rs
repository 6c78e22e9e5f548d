//! The buyer role: a meter key beside the wallet, and the buyer that runs jobs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tradewind_buyer::buyer::{Buyer, BuyerConfig, Parts, system_entropy};
use tradewind_chain::ledger::Ledger;
use tradewind_mesh::Transport;
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::{Clock, Money, Seconds};
use tradewind_reputation::Reputations;
use tradewind_store::Store;
use tradewind_tee::Roots;

use super::config::BuyerSection;
use super::keys;

/// What the role needs of its node.
pub(crate) struct Needs<'a> {
    pub(crate) section: &'a BuyerSection,
    pub(crate) profile: &'a NetworkProfile,
    pub(crate) data_dir: &'a Path,
    pub(crate) password_file: Option<&'a Path>,
    pub(crate) key: SigningKey,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) reputations: Option<Reputations>,
    /// Jobs are told their place in a trace.
    pub(crate) traces: bool,
}

/// Starts buying; jobs that were under way are taken up again.
pub(crate) async fn start(needs: Needs<'_>) -> anyhow::Result<Buyer> {
    let asset = needs.profile.quote().context("the network's profile names no asset")?;
    if let Some(wanted) = &needs.section.faucet {
        let wanted = Money::parse(wanted, asset.decimals).context("`buyer.faucet` in node.toml")?;
        super::ledger::fill(needs.profile, needs.ledger.as_ref(), asset.address, wanted).await?;
    }
    let version = needs.ledger.current_version().await.context("the chain's parameters cannot be read")?;
    let config = BuyerConfig {
        state_dir: needs.data_dir.join("buyer"),
        token: asset.address,
        decimals: asset.decimals,
        reserve: Money::parse("1", asset.decimals).context("the quote asset has too few decimals")?,
        version,
        slack: Seconds::new(needs.section.slack),
        prepare: Seconds::new(needs.section.prepare),
        default_duration: Seconds::new(3_600),
        patience: Seconds::new(needs.section.patience.max(3)),
        challenge: needs.section.challenge,
        sue: needs.section.sue.then(|| Seconds::new(needs.section.patience.max(3).saturating_mul(2))),
        tick: Duration::from_millis(500),
        meters: needs.section.meters.clone(),
        meter: needs.section.meter.clone(),
        roots: Roots::makers(),
        traces: needs.traces,
    };
    let parts = Parts {
        ledger: needs.ledger,
        transport: needs.transport,
        store: needs.store,
        meter: keys::wallet(&needs.data_dir.join("meter"), needs.password_file)?,
        key: needs.key,
        clock: needs.clock,
        entropy: system_entropy(),
        reputations: needs.reputations,
    };
    Ok(Buyer::start(config, parts).await?)
}
