//! Calls about accounts and devices.

use alloy::primitives::{Address, B256, U256};
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::wallet::typed;

use super::super::call::{Call, Step, n96};
use super::super::reference::Reference;
use super::super::registry::Device;
use super::super::statement::SetSponsor;
use super::{Draw, step};

/// Devices beyond which none are added.
const MANY: usize = 12;

impl Draw<'_> {
    /// A device that fits the purpose, mostly.
    pub(super) fn device(
        &mut self,
        model: &Reference,
        fits: impl Fn(B256, &Device) -> bool,
    ) -> Option<(B256, Device)> {
        let all: Vec<(B256, Device)> =
            model.state.devices.iter().map(|(id, device)| (*id, device.clone())).collect();
        let fitting: Vec<_> = all.iter().filter(|(id, device)| fits(*id, device)).cloned().collect();
        let (id, device) = match self.below(10) {
            0 if !all.is_empty() => self.pick(&all),
            _ if !fitting.is_empty() => self.pick(&fitting),
            _ => return None,
        };
        let id = if self.one_in(30) { self.word() } else { id };
        Some((id, device))
    }

    fn mesh_key(&mut self) -> B256 {
        if self.one_in(10) { B256::ZERO } else { self.word() }
    }

    pub(super) fn register(&mut self, model: &Reference) -> Option<Step> {
        let account = self.anyone();
        let (mesh_key, metadata) = (self.mesh_key(), self.word());
        let (sender, auth) = self.at_registry(model, account, |nonce, deadline| typed::Register {
            account,
            meshKey: mesh_key,
            metadata,
            nonce,
            deadline,
        });
        step(sender, Call::Register { account, mesh_key, metadata, auth })
    }

    pub(super) fn update_account(&mut self, model: &Reference) -> Option<Step> {
        let account = self.anyone();
        let (mesh_key, metadata) = (self.mesh_key(), self.word());
        let (sender, auth) = self.at_registry(model, account, |nonce, deadline| typed::UpdateAccount {
            account,
            meshKey: mesh_key,
            metadata,
            nonce,
            deadline,
        });
        step(sender, Call::UpdateAccount { account, mesh_key, metadata, auth })
    }

    pub(super) fn add_device(&mut self, model: &Reference) -> Option<Step> {
        let providers = self.cast.providers.clone();
        let provider = if self.one_in(10) { self.anyone() } else { self.pick(&providers) };
        let known = model.state.devices.values().find(|device| device.provider == provider);
        let key = match (self.below(8), known) {
            (0, _) => Address::ZERO,
            (1, Some(device)) => device.key,
            // One of which a proof can be signed.
            _ => self.pick(&self.cast.device_keys.clone()),
        };
        let full = model.state.devices.len() >= MANY;
        if full && key != Address::ZERO && known.is_none_or(|device| device.key != key) {
            return None;
        }
        let sponsor = if self.one_in(2) { Address::ZERO } else { self.cast.sponsor };
        let class = u16::try_from(self.below(3)).expect("small");
        let units = match self.below(12) {
            0 => 0,
            1 => 64,
            2 => 65,
            _ => u8::try_from(1 + self.below(8)).expect("small"),
        };
        let (sender, auth) = self.at_registry(model, provider, |nonce, deadline| typed::AddDevice {
            provider,
            key,
            sponsor,
            class,
            units,
            nonce,
            deadline,
        });
        step(sender, Call::AddDevice { provider, key, sponsor, class, units, auth })
    }

    pub(super) fn set_sponsor(&mut self, model: &Reference) -> Option<Step> {
        let staked = self.one_in(3);
        let (device, known) = self.device(model, |id, _| (model.at_stake(id) != 0) == staked)?;
        let sponsor = if self.one_in(3) { Address::ZERO } else { self.anyone() };
        let (sender, auth) = self.at_registry(model, known.provider, |nonce, deadline| SetSponsor {
            device,
            sponsor,
            nonce,
            deadline,
        });
        step(sender, Call::SetSponsor { device, sponsor, auth })
    }

    pub(super) fn stake(&mut self, model: &Reference) -> Option<Step> {
        let (device, known) =
            self.device(model, |_, device| !device.qualified && device.unbonding_at.is_none())?;
        let minimum = model.state.classes.get(&known.class).copied().unwrap_or(0) * u128::from(known.units);
        let amount = match self.below(10) {
            0 => 0,
            1 => u128::MAX >> 34,
            2 => self.amount(minimum + 1),
            _ => minimum + self.amount(1_000),
        };
        let (sender, auth) = self.at_registry(model, known.sponsor, |nonce, deadline| typed::Stake {
            device,
            amount: n96(amount),
            nonce,
            deadline,
        });
        step(sender, Call::Stake { device, amount, auth })
    }

    pub(super) fn pay_rent(&mut self, model: &Reference) -> Option<Step> {
        let now = model.state.now;
        let (device, known) = self.device(model, |_, device| device.rent_until < now + 300)?;
        let payer = if self.one_in(3) { self.anyone() } else { known.provider };
        let span = match self.below(12) {
            0 => 0,
            1 => 1_000_000,
            _ => u32::try_from(100 + self.below(2_000)).expect("small"),
        };
        let cost = (model.state.config.rentPerDay.to::<u128>() * u128::from(span)).div_ceil(86_400);
        let limit = if self.one_in(10) { cost.saturating_sub(1) } else { cost };
        let (sender, auth) = self.at_registry(model, payer, |nonce, deadline| typed::PayRent {
            device,
            payer,
            span,
            limit: U256::from(limit),
            nonce,
            deadline,
        });
        step(sender, Call::PayRent { device, payer, span, limit, auth })
    }

    pub(super) fn begin_unbond(&mut self, model: &Reference) -> Option<Step> {
        let (device, known) =
            self.device(model, |id, device| device.unbonding_at.is_none() && model.at_stake(id) != 0)?;
        let account = match self.below(10) {
            0 => self.anyone(),
            1..=4 => known.provider,
            _ => known.sponsor,
        };
        let (sender, auth) = self.at_registry(model, account, |nonce, deadline| typed::BeginUnbond {
            device,
            account,
            nonce,
            deadline,
        });
        step(sender, Call::BeginUnbond { device, account, auth })
    }

    pub(super) fn withdraw_stake(&mut self, model: &Reference) -> Option<Step> {
        let (device, _) = self.device(model, |_, device| device.unbonding_at.is_some())?;
        step(self.sender(), Call::WithdrawStake { device })
    }

    pub(super) fn qualify(&mut self, model: &Reference) -> Option<Step> {
        let (device, _) = self.device(model, |_, _| true)?;
        let device = if self.one_in(4) { self.word() } else { device };
        step(self.sender(), Call::Qualify { device })
    }

    /// Only the court may.
    pub(super) fn slash(&mut self, model: &Reference) -> Option<Step> {
        let (device, _) = self.device(model, |id, _| model.at_stake(id) != 0)?;
        let amount = self.amount(model.at_stake(device));
        let (sender, reporter) = (self.sender(), self.anyone());
        step(sender, Call::Slash { device, amount, reporter })
    }

    pub(super) fn jail(&mut self, model: &Reference) -> Option<Step> {
        let (device, _) = self.device(model, |_, _| true)?;
        let until = model.state.now + self.below(60);
        step(self.sender(), Call::Jail { device, until })
    }

    /// The owner tunes the registry.
    pub(super) fn rule(&mut self, model: &Reference) -> Option<Step> {
        if self.one_in(2) {
            let class = u16::try_from(self.below(2)).expect("small");
            let minimum = self.amount(2_000_000);
            return step(self.ruler(), Call::SetClass { class, minimum });
        }
        let days = if self.one_in(4) { 61 * 86_400 } else { 20 + self.below(80) };
        let config = abi::RegistryConfig {
            rentPerDay: n96(self.amount(200_000_000)),
            unbonding: u32::try_from(days).expect("small"),
            maxRent: u32::try_from(3_000 + self.below(3_000)).expect("small"),
            membership: model.state.config.membership,
        };
        step(self.ruler(), Call::SetConfig { config })
    }
}
