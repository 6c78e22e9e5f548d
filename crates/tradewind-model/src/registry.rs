//! Accounts and devices: stake that returns to its sponsor, rent that does not, units that one lease holds at a time.

use alloy::primitives::{Address, B256, U256};
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::wallet::typed;
use tradewind_proto::ids::DeviceId;

use super::book::Pot;
use super::call::{Call, n40, n96};
use super::reference::Reference;
use super::refusal::{Refusal, refuse, require};
use super::statement::{Auth, SetSponsor};

const DAY: u128 = 86_400;
const LONGEST_FREEZE: u64 = 7 * 86_400;
const LONGEST_UNBONDING: u32 = 60 * 86_400;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) mesh_key: B256,
    pub(crate) metadata: B256,
    pub(crate) rent_until: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) provider: Address,
    pub(crate) key: Address,
    pub(crate) sponsor: Address,
    pub(crate) class: u16,
    pub(crate) units: u8,
    pub(crate) busy: u64,
    pub(crate) jailed_until: u64,
    pub(crate) last_end: u64,
    pub(crate) rent_until: u64,
    pub(crate) unbonding_at: Option<u64>,
    /// Its stake reached its class's minimum when anyone last looked.
    pub(crate) qualified: bool,
    /// Its last freeze.
    pub(crate) frozen_since: u64,
    pub(crate) frozen_until: u64,
    /// The first epoch whose faults are not punished yet.
    pub(crate) fault_epoch: u64,
    pub(crate) faults: u32,
}

/// What a lease asks a device for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) device: B256,
    pub(crate) provider: Address,
    pub(crate) units: u64,
    pub(crate) staked: bool,
    pub(crate) until: u64,
}

impl Reference {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller sends only what belongs here")]
    pub(crate) fn at_registry(&mut self, sender: Address, call: &Call) -> Result<(), Refusal> {
        match call {
            Call::Register { account, mesh_key, metadata, auth } => {
                self.register(sender, *account, *mesh_key, *metadata, auth)
            }
            Call::UpdateAccount { account, mesh_key, metadata, auth } => {
                self.update(sender, *account, *mesh_key, *metadata, auth)
            }
            Call::AddDevice { provider, key, sponsor, class, units, auth } => {
                let device = Device {
                    provider: *provider,
                    key: *key,
                    sponsor: *sponsor,
                    class: *class,
                    units: *units,
                    busy: 0,
                    jailed_until: 0,
                    last_end: 0,
                    rent_until: 0,
                    unbonding_at: None,
                    qualified: false,
                    frozen_since: 0,
                    frozen_until: 0,
                    fault_epoch: 0,
                    faults: 0,
                };
                self.add_device(sender, device, auth)
            }
            Call::SetSponsor { device, sponsor, auth } => self.set_sponsor(sender, *device, *sponsor, auth),
            Call::Stake { device, amount, auth } => self.stake(sender, *device, *amount, auth),
            Call::PayRent { device, payer, span, limit, auth } => {
                self.pay_rent(sender, *device, *payer, (*span, *limit), auth)
            }
            Call::BeginUnbond { device, account, auth } => self.unbond(sender, *device, *account, auth),
            Call::WithdrawStake { device } => self.withdraw_stake(*device),
            Call::Qualify { device } => {
                self.known(*device)?;
                self.qualify(*device);
                Ok(())
            }
            // The court's powers are nobody else's.
            Call::Slash { .. } | Call::Jail { .. } => refuse("NotAllowed", &[&sender]),
            Call::SetClass { class, minimum } => {
                self.owner_only(sender)?;
                self.state.classes.insert(*class, *minimum);
                Ok(())
            }
            Call::SetConfig { config } => {
                self.owner_only(sender)?;
                let short = config.unbonding <= LONGEST_UNBONDING;
                require(short, "UnbondingTooLong", &[&config.unbonding, &LONGEST_UNBONDING])?;
                self.state.config = config.clone();
                Ok(())
            }
            other => unreachable!("{} is not the registry's", other.name()),
        }
    }

    /// What the device has at stake.
    pub(crate) fn at_stake(&self, device: B256) -> u128 {
        self.state.book.of(self.setting.stake_token, Pot::Stake(device))
    }

    /// A class without a minimum is the unstaked tier.
    fn minimum(&self, device: &Device) -> u128 {
        self.state.classes.get(&device.class).copied().unwrap_or(0) * u128::from(device.units)
    }

    pub(crate) fn known(&mut self, device: B256) -> Result<&mut Device, Refusal> {
        match self.state.devices.get_mut(&device) {
            Some(found) => Ok(found),
            None => refuse("UnknownDevice", &[&device]),
        }
    }

    fn once<T: alloy::sol_types::SolStruct>(
        &mut self,
        sender: Address,
        account: Address,
        statement: &T,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        self.consent_once(self.setting.registry, sender, account, statement, auth)
    }

    fn register(
        &mut self,
        sender: Address,
        account: Address,
        mesh_key: B256,
        metadata: B256,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        let (nonce, deadline) = (auth.nonce, n40(auth.deadline));
        let statement = typed::Register { account, meshKey: mesh_key, metadata, nonce, deadline };
        self.once(sender, account, &statement, auth)?;
        require(!self.state.accounts.contains_key(&account), "AlreadyRegistered", &[&account])?;
        require(!mesh_key.is_zero(), "InvalidMeshKey", &[])?;
        self.state.accounts.insert(account, Account { mesh_key, metadata, rent_until: 0 });
        Ok(())
    }

    fn update(
        &mut self,
        sender: Address,
        account: Address,
        mesh_key: B256,
        metadata: B256,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        let (nonce, deadline) = (auth.nonce, n40(auth.deadline));
        let statement = typed::UpdateAccount { account, meshKey: mesh_key, metadata, nonce, deadline };
        self.once(sender, account, &statement, auth)?;
        let Some(found) = self.state.accounts.get_mut(&account) else {
            return refuse("NotRegistered", &[&account]);
        };
        require(!mesh_key.is_zero(), "InvalidMeshKey", &[])?;
        found.mesh_key = mesh_key;
        found.metadata = metadata;
        Ok(())
    }

    fn add_device(&mut self, sender: Address, mut device: Device, auth: &Auth) -> Result<(), Refusal> {
        let Device { provider, key, sponsor, class, units, .. } = device;
        let (nonce, deadline) = (auth.nonce, n40(auth.deadline));
        let statement = typed::AddDevice { provider, key, sponsor, class, units, nonce, deadline };
        self.once(sender, provider, &statement, auth)?;
        require(self.state.accounts.contains_key(&provider), "NotRegistered", &[&provider])?;
        require(key != Address::ZERO && (1..=64).contains(&units), "InvalidDevice", &[&key, &units])?;
        let id = DeviceId::derive(provider, key).get();
        require(!self.state.devices.contains_key(&id), "DeviceExists", &[&id])?;
        if sponsor == Address::ZERO {
            device.sponsor = provider;
        }
        self.state.devices.insert(id, device);
        Ok(())
    }

    fn set_sponsor(
        &mut self,
        sender: Address,
        device: B256,
        sponsor: Address,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        let provider = self.known(device)?.provider;
        let statement = SetSponsor { device, sponsor, nonce: auth.nonce, deadline: n40(auth.deadline) };
        self.once(sender, provider, &statement, auth)?;
        let held = self.at_stake(device);
        require(held == 0, "StakeNotEmpty", &[&device, &held])?;
        self.known(device)?.sponsor = if sponsor == Address::ZERO { provider } else { sponsor };
        Ok(())
    }

    fn stake(&mut self, sender: Address, device: B256, amount: u128, auth: &Auth) -> Result<(), Refusal> {
        let (sponsor, unbonding) = {
            let known = self.known(device)?;
            (known.sponsor, known.unbonding_at)
        };
        let (nonce, deadline) = (auth.nonce, n40(auth.deadline));
        let statement = typed::Stake { device, amount: n96(amount), nonce, deadline };
        self.once(sender, sponsor, &statement, auth)?;
        if let Some(at) = unbonding {
            return refuse("DeviceUnbonding", &[&device, &at]);
        }
        require(amount != 0, "InvalidAmount", &[&amount])?;
        self.debit(self.setting.stake_token, sponsor, Pot::Stake(device), amount)?;
        self.qualify(device);
        Ok(())
    }

    fn pay_rent(
        &mut self,
        sender: Address,
        device: B256,
        payer: Address,
        (span, limit): (u32, u128),
        auth: &Auth,
    ) -> Result<(), Refusal> {
        let known = self.known(device)?;
        let (provider, paid_until) = (known.provider, known.rent_until);
        let (nonce, deadline) = (auth.nonce, n40(auth.deadline));
        let statement = typed::PayRent { device, payer, span, limit: U256::from(limit), nonce, deadline };
        self.once(sender, payer, &statement, auth)?;
        let (config, now) = (&self.state.config, self.state.now);
        let cost = (config.rentPerDay.to::<u128>() * u128::from(span)).div_ceil(DAY);
        require(cost <= limit, "RentTooDear", &[&cost, &limit])?;
        let until = paid_until.max(now) + u64::from(span);
        let farthest = now + u64::from(config.maxRent);
        require(until <= farthest, "RentTooFar", &[&until, &farthest])?;
        self.debit(self.setting.fee_token, payer, Pot::Sink, cost)?;
        self.known(device)?.rent_until = until;
        let owner = self.state.accounts.get_mut(&provider).expect("a device's provider is registered");
        owner.rent_until = owner.rent_until.max(until);
        Ok(())
    }

    fn unbond(
        &mut self,
        sender: Address,
        device: B256,
        account: Address,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        let known = self.known(device)?.clone();
        let entitled = account == known.provider || account == known.sponsor;
        require(entitled, "NotAllowed", &[&account])?;
        let (nonce, deadline) = (auth.nonce, n40(auth.deadline));
        self.once(sender, account, &typed::BeginUnbond { device, account, nonce, deadline }, auth)?;
        if let Some(at) = known.unbonding_at {
            return refuse("DeviceUnbonding", &[&device, &at]);
        }
        require(self.at_stake(device) != 0, "InvalidAmount", &[&0])?;
        let soonest = self.state.now + u64::from(self.state.config.unbonding);
        self.known(device)?.unbonding_at = Some(soonest.max(known.last_end));
        Ok(())
    }

    fn withdraw_stake(&mut self, device: B256) -> Result<(), Refusal> {
        let now = self.state.now;
        let known = self.known(device)?;
        let Some(at) = known.unbonding_at else { return refuse("NotUnbonding", &[&device]) };
        let from = at.max(known.frozen_until);
        require(now >= from, "StillBonded", &[&device, &from])?;
        known.unbonding_at = None;
        let sponsor = known.sponsor;
        let all = self.at_stake(device);
        self.pay(self.setting.stake_token, Pot::Stake(device), Pot::Balance(sponsor), all);
        self.qualify(device);
        Ok(())
    }

    /// A sentence never shortens another.
    pub(crate) fn jail(&mut self, device: B256, until: u64) {
        let known = self.state.devices.get_mut(&device).expect("a known device");
        known.jailed_until = known.jailed_until.max(until);
    }

    /// A stake is held for a week at a stretch at most, and again only after it was free for as long.
    pub(crate) fn freeze(&mut self, device: B256, until: u64) {
        let now = self.state.now;
        let known = self.state.devices.get_mut(&device).expect("a known device");
        let (since, last) = (known.frozen_since, known.frozen_until);
        let free_for_as_long = now >= last + (last - since);
        if free_for_as_long {
            known.frozen_since = now;
        }
        let most = known.frozen_since + LONGEST_FREEZE;
        known.frozen_until = until.min(most).max(known.frozen_since);
    }

    pub(crate) fn qualify(&mut self, device: B256) {
        let known = self.state.devices.get(&device).expect("a known device");
        let minimum = self.minimum(known);
        let qualified = minimum != 0 && self.at_stake(device) >= minimum;
        self.state.devices.get_mut(&device).expect("a known device").qualified = qualified;
    }

    /// Gives a device's units to a lease.
    pub(crate) fn assign(&mut self, claim: Claim) -> Result<(), Refusal> {
        let Claim { device, provider, units, staked, until } = claim;
        let now = self.state.now;
        let Some(known) = self.state.devices.get(&device).filter(|known| known.provider == provider) else {
            return refuse("WrongProvider", &[&device, &provider]);
        };
        require(known.rent_until >= now, "RentLapsed", &[&device, &known.rent_until])?;
        if let Some(at) = known.unbonding_at {
            return refuse("DeviceUnbonding", &[&device, &at]);
        }
        require(known.jailed_until <= now, "DeviceJailed", &[&device, &known.jailed_until])?;
        let has = if known.units == 64 { u64::MAX } else { (1 << known.units) - 1 };
        let free = units & !has == 0 && units & known.busy == 0;
        require(free, "UnitsUnavailable", &[&device, &units, &known.busy, &known.units])?;
        if staked && !known.qualified {
            let (stake, minimum) = (self.at_stake(device), self.minimum(known));
            return refuse("StakeTooLow", &[&device, &stake, &minimum]);
        }
        let known = self.known(device)?;
        known.busy |= units;
        known.last_end = known.last_end.max(until);
        Ok(())
    }

    pub(crate) fn release(&mut self, device: B256, units: u64) {
        if !device.is_zero() {
            self.state.devices.get_mut(&device).expect("a lease's device").busy &= !units;
        }
    }
}

impl Device {
    pub(crate) fn view(&self, id: B256, stake: u128) -> abi::DeviceView {
        abi::DeviceView {
            id,
            provider: self.provider,
            key: self.key,
            sponsor: self.sponsor,
            class: self.class,
            units: self.units,
            stake: n96(stake),
            busyUnits: self.busy,
            jailedUntil: n40(self.jailed_until),
            lastEnd: n40(self.last_end),
            rentUntil: n40(self.rent_until),
            unbondingAt: n40(self.unbonding_at.unwrap_or(0)),
        }
    }
}
