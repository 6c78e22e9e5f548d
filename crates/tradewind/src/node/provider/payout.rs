//! What the provider earns, moved to an account of the owner's choice, so that the key on this machine holds no more than its bonds need.
//!
//! There is one payout an interval at most, whatever dies in between: the interval names its reference, and so its nonce on chain.
//! A chain that does not answer delays it.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, keccak256};
use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;
use tradewind_chain::ledger::{Action, ActionStatus, Ledger, LedgerError, Reference};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::profile::Asset;
use tradewind_proto::units::{Clock, Money, Timestamp};

use crate::node::config::PayoutSection;

/// How long the chain may take.
const STEP: Duration = Duration::from_secs(120);
/// Seconds after which a payout is tried again that failed.
const AGAIN: u64 = 60;
/// What stays for a relayer's fee: a hundredth of a token.
const FEE: &str = "0.01";

/// Where earnings go, and when.
#[derive(Debug)]
pub(super) struct Payout {
    to: Address,
    token: Address,
    /// What stays for bonds, and a relayer's fee.
    kept: Money,
    /// Less than this waits.
    least: Money,
    every: u64,
    device: DeviceId,
}

impl Payout {
    /// As the owner says it; `bonds` stay.
    pub(super) fn of(
        section: &PayoutSection,
        asset: &Asset,
        bonds: Money,
        device: DeviceId,
    ) -> anyhow::Result<Self> {
        let to = section.to.parse::<Address>().ok().filter(|to| *to != Address::ZERO);
        let to = to.with_context(|| {
            format!(
                "`provider.payout.to` in node.toml: `{}` is no account (0x and 40 hex digits)",
                section.to
            )
        })?;
        let amount = |text: &str| Money::parse(text, asset.decimals);
        let least = amount(&section.least).context("`provider.payout.least` in node.toml")?;
        if section.every == 0 || least.is_zero() {
            bail!("`provider.payout` in node.toml: `every` and `least` are more than zero");
        }
        let kept = bonds.checked_add(amount(FEE).unwrap_or(Money::ZERO))?;
        Ok(Self { to, token: asset.address, kept, least, every: section.every, device })
    }

    /// Pays out until the node ends.
    pub(super) async fn follow(self, ledger: Arc<dyn Ledger>, clock: Clock, shutdown: CancellationToken) {
        let mut paid_in = None;
        loop {
            let slot = clock().unix() / self.every;
            if paid_in != Some(slot) {
                match self.pay(ledger.as_ref(), slot).await {
                    Ok(()) => paid_in = Some(slot),
                    Err(error) => tracing::warn!(%error, to = %self.to, "earnings are not paid out yet"),
                }
            }
            let next = Timestamp::from_unix((slot + 1).saturating_mul(self.every));
            let again = if paid_in == Some(slot) { self.every } else { AGAIN.min(self.every) };
            let wait = next.since(clock()).get().clamp(1, again);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(wait)) => {}
            }
        }
    }

    /// The interval's payout, if there is enough.
    async fn pay(&self, ledger: &dyn Ledger, slot: u64) -> Result<(), LedgerError> {
        let free = ledger.balance(self.token, ledger.account()).await?;
        let amount = free.saturating_sub(self.kept);
        if amount < self.least {
            return Ok(());
        }
        let name = [self.device.get().as_slice(), self.to.as_slice(), &slot.to_be_bytes()].concat();
        let reference = Reference(keccak256([b"payout".as_slice(), &name].concat()));
        let action = Action::Withdraw { reference, token: self.token, to: self.to, amount };
        let submission = ledger.submit(action).await?;
        let settled = tokio::time::timeout(STEP, ledger.settled(&submission.key)).await;
        match settled.map_err(|_| LedgerError::Unavailable("the chain takes too long".into()))?? {
            ActionStatus::Included { .. } | ActionStatus::Final { .. } => {
                tracing::info!(%amount, to = %self.to, "earnings paid out, in base units");
                Ok(())
            }
            ActionStatus::Failed { reason } => Err(LedgerError::Invalid(reason)),
            ActionStatus::Pending => Err(LedgerError::Unavailable("it is still pending".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tradewind_proto::profile::AssetKind;

    use super::*;

    fn section() -> PayoutSection {
        PayoutSection { to: format!("0x{}", "07".repeat(20)), least: "5".into(), every: 3_600 }
    }

    fn of(section: &PayoutSection) -> anyhow::Result<Payout> {
        let (address, kind) = (Address::repeat_byte(1), AssetKind::Erc3009);
        let asset = Asset { symbol: "tUSD".into(), address, decimals: 6, kind };
        Payout::of(section, &asset, Money::from_base_units(100_000_000), DeviceId::NONE)
    }

    #[test]
    fn bonds_and_a_fee_stay() {
        let payout = of(&section()).unwrap();
        assert_eq!(payout.kept, Money::from_base_units(100_010_000));
        assert_eq!((payout.to, payout.least), (Address::repeat_byte(7), Money::from_base_units(5_000_000)));
    }

    #[test]
    fn an_account_that_is_none_and_an_interval_without_length_are_refused() {
        let said = |section: &PayoutSection| of(section).unwrap_err().to_string();
        for to in ["", "0x07", "alice.eth", "0x0000000000000000000000000000000000000000"] {
            let section = PayoutSection { to: to.into(), ..section() };
            assert!(said(&section).contains("is no account"), "{to}");
        }
        for section in
            [PayoutSection { every: 0, ..section() }, PayoutSection { least: "0".into(), ..section() }]
        {
            assert!(said(&section).contains("more than zero"));
        }
        assert!(said(&PayoutSection { least: "much".into(), ..section() }).contains("payout.least"));
    }
}
