//! The steps from an unknown account to one that may lend. Each looks first, so a restart repeats none.
//!
//! ```text
//! own stake      money for bonds and stake ─► register ─► add the device ─► stake it ─► rent
//! a sponsor's    money for bonds           ─► register ─► add the device, for the sponsor to stake ─► rent
//! none           money for bonds           ─► register ─► add the device ─► rent, and offers that name no device
//! ```

use std::time::Duration;

use alloy::primitives::{Address, B256, keccak256};
use anyhow::{Context, bail};
use tradewind_chain::ledger::{Action, ActionStatus, Ledger, LedgerError, Reference};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::profile::Asset;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::{Money, Seconds, Timestamp};

use super::Needs;
use crate::node::ledger;

/// How long one step may take.
const STEP: Duration = Duration::from_secs(120);
/// How much rent is paid ahead.
const RENT: Seconds = Seconds::new(30 * 86_400);
/// How soon before its end rent is paid again.
const RENT_AHEAD: Seconds = Seconds::new(3 * 86_400);

/// What joining needs.
pub(super) struct Join<'a> {
    ledger: &'a dyn Ledger,
    account: Address,
    device: DeviceId,
    device_key: Address,
    /// What bonds and rent are paid in.
    token: Address,
    stake_token: Address,
    units: u8,
    stake: Money,
    /// Who stakes the device instead of this account.
    sponsor: Option<Address>,
    pub(super) bonds: Money,
}

fn amount(text: &str, of: &Asset, field: &str) -> anyhow::Result<Money> {
    Money::parse(text, of.decimals).with_context(|| format!("`provider.{field}` in node.toml"))
}

impl<'a> Join<'a> {
    pub(super) fn read(
        needs: &'a Needs<'_>,
        asset: &Asset,
        staked: &Asset,
        key: &SigningKey,
    ) -> anyhow::Result<Self> {
        let (section, account) = (needs.section, needs.key.address());
        let sponsor = section.sponsor.as_deref().map(|text| {
            let named = text.parse::<Address>().ok().filter(|sponsor| *sponsor != Address::ZERO);
            named.with_context(|| {
                format!("`provider.sponsor` in node.toml: `{text}` is no account (0x and 40 hex digits)")
            })
        });
        let sponsor = sponsor.transpose()?.filter(|sponsor| *sponsor != account);
        let stake = amount(&section.stake, staked, "stake")?;
        if sponsor.is_some() && stake.is_zero() {
            bail!("`provider.sponsor` in node.toml has nothing to stake: `provider.stake` is 0");
        }
        Ok(Self {
            ledger: needs.ledger.as_ref(),
            account,
            device: DeviceId::derive(account, key.address()),
            device_key: key.address(),
            token: asset.address,
            stake_token: staked.address,
            units: section.units,
            stake,
            sponsor,
            bonds: amount(&section.bonds, asset, "bonds")?,
        })
    }

    /// Whether somebody stakes the device; else it is only a place in the registry, and offers do not name it.
    pub(super) const fn is_staked(&self) -> bool {
        !self.stake.is_zero()
    }

    pub(super) async fn run(&self, needs: &Needs<'_>) -> anyhow::Result<()> {
        let account = self.ledger.account_record(self.account).await?;
        let mut known = self.ledger.device(self.device).await?;
        let is_new = known.is_none();
        let staked = known.as_ref().map_or(Money::ZERO, |record| record.stake);
        let missing = if self.sponsor.is_some() { Money::ZERO } else { self.stake.saturating_sub(staked) };
        for (token, wanted) in self.needs(missing)? {
            if needs.profile.development && is_new {
                ledger::fill(needs.profile, self.ledger, token, wanted).await?;
            }
            self.fund(token, wanted, is_new).await?;
        }
        let mesh_key = needs.transport.key();
        if account.as_ref().is_none_or(|record| record.mesh_key != mesh_key) {
            let reference = reference("register", self.device.get().as_slice(), mesh_key.as_bytes());
            self.step("register", Action::Register { reference, mesh_key, metadata: B256::ZERO }).await?;
        }
        if known.is_none() {
            let (key, sponsor, units) = (self.device_key, self.sponsor, self.units);
            self.step("add the device", Action::AddDevice { key, sponsor, class: 0, units }).await?;
            known = self.ledger.device(self.device).await?;
        }
        let wanted = self.sponsor.unwrap_or(self.account);
        if let Some(other) = known.as_ref().map(|record| record.sponsor).filter(|sponsor| *sponsor != wanted)
        {
            bail!(
                "the device {} was added for {other} to stake; write `sponsor = \"{other}\"` under `[provider]`",
                self.device
            );
        }
        let rent_until = known.map_or(Timestamp::default(), |record| record.rent_paid_until);
        if !missing.is_zero() {
            let reference =
                stake_reference(self.ledger, self.device, "stake", staked, (needs.clock)()).await?;
            self.step("stake the device", Action::Stake { reference, device: self.device, amount: missing })
                .await?;
        }
        if rent_until < (needs.clock)().after(RENT_AHEAD) {
            let reference = reference("rent", self.device.get().as_slice(), &rent_until.unix().to_be_bytes());
            let action = Action::Rent { reference, device: self.device, span: RENT, limit: self.bonds };
            self.step("pay the rent", action).await?;
        }
        Ok(())
    }

    /// What the free balances have to hold for bonds and this much more stake. The token that relayers are paid in comes first.
    fn needs(&self, stake: Money) -> anyhow::Result<Vec<(Address, Money)>> {
        if self.token == self.stake_token {
            return Ok(vec![(self.token, self.bonds.checked_add(stake)?)]);
        }
        Ok(vec![(self.token, self.bonds), (self.stake_token, stake)])
    }

    /// Brings the free balance of `token` up to `wanted` from the wallet, as far as the wallet goes; a newcomer's has to hold some.
    async fn fund(&self, token: Address, wanted: Money, is_new: bool) -> anyhow::Result<()> {
        let balance = self.ledger.balance(token, self.account).await?;
        let missing = wanted.saturating_sub(balance);
        if missing.is_zero() {
            return Ok(());
        }
        let amount = missing.min(self.ledger.holdings(token, self.account).await?);
        if amount.is_zero() {
            let problem =
                format!("the wallet {} is empty; it needs {missing} base units of {token}", self.account);
            if is_new {
                bail!(problem);
            }
            tracing::warn!(problem, "fewer leases can be bonded");
            return Ok(());
        }
        let reference = Reference(B256::from(rand::random::<[u8; 32]>()));
        self.step("deposit", Action::Deposit { reference, token, amount }).await
    }

    async fn step(&self, what: &str, action: Action) -> anyhow::Result<()> {
        tracing::info!(step = what, "joining the network");
        let submission = self.ledger.submit(action).await.with_context(|| format!("cannot {what}"))?;
        let settled = tokio::time::timeout(STEP, self.ledger.settled(&submission.key)).await;
        match settled.with_context(|| format!("cannot {what}: the chain takes too long"))?? {
            ActionStatus::Included { .. } | ActionStatus::Final { .. } => Ok(()),
            ActionStatus::Failed { reason } => bail!("cannot {what}: {reason}"),
            ActionStatus::Pending => bail!("cannot {what}: still pending"),
        }
    }
}

/// Names a step with a device's stake: asked for twice it is one, and another once a stake went out and came in again, which takes the
/// unbonding time at least.
pub(in crate::node) async fn stake_reference(
    ledger: &dyn Ledger,
    device: DeviceId,
    what: &str,
    stake: Money,
    now: Timestamp,
) -> Result<Reference, LedgerError> {
    let unbonding = ledger.registry_terms().await?.unbonding;
    let round = now.unix() / unbonding.get().max(1);
    let detail = [stake.base_units().to_be_bytes().as_slice(), &round.to_be_bytes()].concat();
    Ok(reference(what, device.get().as_slice(), &detail))
}

/// Names a step: asked for twice, it is one.
pub(in crate::node) fn reference(what: &str, whose: &[u8], detail: &[u8]) -> Reference {
    Reference(keccak256([what.as_bytes(), whose, detail].concat()))
}
