//! Calls about balances, fees and what the owner rules.

use alloy::primitives::{Address, B256, U256};
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::wallet::{calls_digest, typed};

use super::super::book::Pot;
use super::super::call::{Call, Contract, Step, n40, n96};
use super::super::reference::{Reference, Version};
use super::super::wire::Wire;
use super::{Draw, step};

/// Versions that a run adds.
const VERSIONS: usize = 5;

impl Draw<'_> {
    /// A part of what is there; now and then a little more than all.
    fn part(&mut self, of: u128) -> u128 {
        match self.below(12) {
            0 => of + 1 + self.amount(of),
            1 => of,
            _ => self.amount(of / 3),
        }
    }

    pub(super) fn trader(&mut self) -> Address {
        let all = [&self.cast.buyers[..], &self.cast.providers, &self.cast.watchers].concat();
        self.pick(&all)
    }

    pub(super) fn deposit(&mut self, model: &Reference) -> Option<Step> {
        let (token, account) = (self.token(), self.trader());
        let amount = self.part(model.state.book.of(token, Pot::Wallet(account)));
        let (sender, auth) = self.deposit_auth(model, token, account, amount);
        step(sender, Call::Deposit { token, account, amount, auth })
    }

    fn deposit_auth(
        &mut self,
        model: &Reference,
        token: Address,
        account: Address,
        amount: u128,
    ) -> (Address, super::Auth) {
        let amount = U256::from(amount);
        self.at_leases(model, account, |nonce, deadline| typed::Deposit {
            token,
            account,
            amount,
            nonce,
            deadline,
        })
    }

    pub(super) fn deposit_with_permit(&mut self, model: &Reference) -> Option<Step> {
        let (token, account) = (self.token(), self.trader());
        let amount = self.part(model.state.book.of(token, Pot::Wallet(account)));
        let now = model.state.now;
        let until = if self.one_in(8) { now - 1 } else { now + self.below(20) };
        let nonce = model.state.permits.get(&(token, account)).copied().unwrap_or(0);
        let said = typed::Permit {
            owner: account,
            spender: model.setting.leases,
            value: U256::from(amount),
            nonce: U256::from(if self.one_in(8) { nonce + 1 } else { nonce }),
            deadline: U256::from(until),
        };
        let permit = self.signed(account, model.setting.domains.at_token(token, &said));
        let (sender, auth) = self.deposit_auth(model, token, account, amount);
        step(sender, Call::DepositWithPermit { token, account, amount, until, permit, auth })
    }

    pub(super) fn deposit_with_authorization(&mut self, model: &Reference) -> Option<Step> {
        let token = if self.one_in(8) { self.cast.tokens[1] } else { self.cast.tokens[0] };
        let from = self.trader();
        let amount = self.part(model.state.book.of(token, Pot::Wallet(from)));
        let now = model.state.now;
        let after = if self.one_in(8) { now } else { 0 };
        let before = if self.one_in(8) { now } else { now + 1 + self.below(20) };
        let used: Vec<B256> = model.state.authorizations.iter().map(|(_, nonce)| *nonce).collect();
        let nonce = if !used.is_empty() && self.one_in(6) { self.pick(&used) } else { self.word() };
        let to = if self.one_in(20) { self.anyone() } else { model.setting.leases };
        let said = typed::ReceiveWithAuthorization {
            from,
            to,
            value: U256::from(amount),
            validAfter: U256::from(after),
            validBefore: U256::from(before),
            nonce,
        };
        let signed = self.signed(from, model.setting.domains.at_token(token, &said));
        step(
            self.sender(),
            Call::DepositWithAuthorization { token, from, amount, after, before, nonce, signed },
        )
    }

    pub(super) fn withdraw(&mut self, model: &Reference) -> Option<Step> {
        let (token, account) = (self.token(), self.trader());
        let amount = self.part(model.state.book.of(token, Pot::Balance(account)));
        let to = match self.below(12) {
            0 => Address::ZERO,
            1 => model.setting.leases,
            2 => self.anyone(),
            _ => account,
        };
        let (sender, auth) = self.at_leases(model, account, |nonce, deadline| typed::Withdraw {
            token,
            account,
            to,
            amount: U256::from(amount),
            nonce,
            deadline,
        });
        step(sender, Call::Withdraw { token, account, to, amount, auth })
    }

    pub(super) fn pay_fee(&mut self, model: &Reference) -> Option<Step> {
        let calls = if self.one_in(6) { self.word() } else { B256::ZERO };
        let fee = self.fee(model, calls);
        let signed = self.signed(fee.payer, model.setting.domains.at_leases(&fee));
        step(self.sender(), Call::PayFee { fee, signed })
    }

    fn fee(&mut self, model: &Reference, calls: B256) -> abi::FeeAuthorization {
        let (token, payer, now) = (self.token(), self.trader(), model.state.now);
        let balance = model.state.book.of(token, Pot::Balance(payer));
        let amount = if self.one_in(12) { balance + 1 } else { self.amount(balance.min(10_000)) };
        abi::FeeAuthorization {
            payer,
            relayer: if self.one_in(4) { self.anyone() } else { self.cast.relayer },
            token,
            amount: n96(amount),
            calls,
            nonce: self.nonce(),
            deadline: n40(if self.one_in(12) { now - 1 } else { now + self.below(60) }),
        }
    }

    pub(super) fn relay(&mut self, model: &Reference) -> Option<Step> {
        let at = [Contract::Leases, Contract::Leases, Contract::Registry, Contract::Court][self.index(4)];
        self.via = Some(self.cast.relayer);
        let calls = self.relayed(model, at);
        self.via = None;
        if calls.is_empty() {
            return None;
        }
        let wire = Wire { setting: &model.setting, key: self.key };
        let contract = wire.contract(at);
        let bytes: Vec<_> = calls.iter().map(|call| wire.encode(call).1).collect();
        let made = calls_digest(contract, &bytes);
        let bound = if self.one_in(20) { self.word() } else { made };
        let fee = self.fee(model, bound);
        let signed = self.signed(fee.payer, model.setting.domains.at_leases(&fee));
        step(self.cast.relayer, Call::Relay { at, fee, signed, calls, made })
    }

    fn relayed(&mut self, model: &Reference, at: Contract) -> Vec<Call> {
        if at == Contract::Court && self.one_in(6) {
            return self.at_once(model);
        }
        let mut calls = Vec::new();
        for _ in 0..=self.below(2) {
            let drawn = match at {
                Contract::Registry => match self.below(5) {
                    0 => self.add_device(model),
                    1 => self.stake(model),
                    2 => self.pay_rent(model),
                    3 => self.update_account(model),
                    _ => self.begin_unbond(model),
                },
                Contract::Leases => match self.below(7) {
                    0 | 1 => self.open(model),
                    2 | 3 => self.settle(model),
                    4 => self.close(model),
                    5 => self.deposit_with_authorization(model),
                    _ => self.withdraw(model),
                },
                Contract::Court => match self.below(6) {
                    0 => self.join_seat(model),
                    1 => self.withdraw_seat(model),
                    2 | 3 => self.announce(model),
                    _ => self.case(model).filter(|step| !matches!(step.call, Call::Advance { .. })),
                },
            };
            calls.extend(drawn.map(|step| step.call));
        }
        calls
    }

    pub(super) fn cancel_nonce(&mut self, model: &Reference) -> Option<Step> {
        let spent: Vec<_> = model.spent.iter().filter(|spent| spent.0 == model.setting.leases).collect();
        if !spent.is_empty() && self.one_in(3) {
            let (_, sender, nonce) = *self.pick(&spent);
            return step(sender, Call::CancelNonce { nonce });
        }
        // One that was drawn before, or comes soon.
        let nonce = U256::from(self.below(self.nonces + 20));
        step(self.trader(), Call::CancelNonce { nonce })
    }

    pub(super) fn burn_sink(&mut self, _: &Reference) -> Option<Step> {
        let token = if self.one_in(3) { self.cast.tokens[0] } else { self.cast.tokens[1] };
        step(self.anyone(), Call::BurnSink { token })
    }

    pub(super) fn donate(&mut self, model: &Reference) -> Option<Step> {
        let (token, sender) = (self.token(), self.trader());
        let held = model.state.book.of(token, Pot::Wallet(sender));
        let amount = if self.one_in(2) { held + 1 } else { self.amount(held.min(1_000)) };
        step(sender, Call::Donate { token, amount })
    }

    // --- the owner ---------------------------------------------------------------------------------------------

    pub(super) fn ruler(&mut self) -> Address {
        if self.one_in(4) { self.anyone() } else { self.cast.owner }
    }

    pub(super) fn set_token(&mut self, model: &Reference) -> Option<Step> {
        let tokens = self.cast.tokens.clone();
        let delisted = tokens.iter().find(|token| !model.state.tokens[*token].allowed);
        let token = delisted.copied().unwrap_or_else(|| self.pick(&tokens));
        let allowed = delisted.is_some() || !self.one_in(3);
        step(self.ruler(), Call::SetToken { token, allowed, burnable: token == tokens[1] })
    }

    pub(super) fn set_version_active(&mut self, model: &Reference) -> Option<Step> {
        let paused = model.state.versions.iter().position(|version| !version.active);
        let latest = u64::try_from(model.state.versions.len()).expect("few");
        let (at, active) = match paused {
            Some(at) => (u64::try_from(at).expect("few") + 1, true),
            None => (self.below(latest + 2), !self.one_in(3)),
        };
        let version = u32::try_from(at).expect("few");
        step(self.ruler(), Call::SetVersionActive { version, active })
    }

    pub(super) fn add_version(&mut self, model: &Reference) -> Option<Step> {
        let Version { mut parameters, .. } = self.pick(&model.state.versions);
        parameters.feeBps = u16::try_from(self.below(1_000)).expect("small");
        parameters.sinkBps = u16::try_from(self.below(10_001)).expect("small");
        parameters.disputeBps = u16::try_from(self.below(5_000)).expect("small");
        parameters.window = u32::try_from(1 + self.below(40)).expect("small");
        parameters.repeatWindow = u32::try_from(self.below(400)).expect("small");
        let full = model.state.versions.len() >= VERSIONS;
        if full || self.one_in(4) {
            match self.below(5) {
                0 => parameters.feeBps = 1_001,
                1 => parameters.sinkBps = 10_001,
                2 => parameters.openAhead = 0,
                3 => parameters.hardLimit = 1 << 24,
                _ => parameters.court = self.cast.relayer,
            }
        }
        step(self.ruler(), Call::AddVersion { parameters })
    }
}
