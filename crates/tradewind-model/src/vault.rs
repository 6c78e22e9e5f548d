//! Balances: coins come in and go out by their owner's word alone; fees are paid with the work they are for.

use alloy::primitives::{Address, B256, U256};
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::wallet::typed;

use super::book::Pot;
use super::call::{Call, n40};
use super::reference::{Reference, Standing, Version};
use super::refusal::{Refusal, refuse, require};
use super::statement::{Auth, Form, Signed};

/// A tenth.
const MOST_FEE_BPS: u16 = 1_000;
/// Spans of the parameters that lie in 24 bits.
const LONGEST_SPAN: u64 = (1 << 24) - 1;

impl Reference {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller sends only what belongs here")]
    pub(crate) fn at_vault(&mut self, sender: Address, call: &Call) -> Result<(), Refusal> {
        match call {
            Call::Deposit { token, account, amount, auth } => {
                self.deposit(sender, *token, *account, *amount, auth)
            }
            Call::DepositWithPermit { token, account, amount, until, permit, auth } => {
                self.permit(*token, *account, *amount, *until, permit);
                self.deposit(sender, *token, *account, *amount, auth)
            }
            Call::DepositWithAuthorization { token, from, amount, after, before, nonce, signed } => {
                self.deposit_authorized(*token, *from, *amount, (*after, *before), *nonce, signed)
            }
            Call::Withdraw { token, account, to, amount, auth } => {
                self.withdraw(sender, *token, *account, *to, *amount, auth)
            }
            Call::PayFee { fee, signed } => {
                require(fee.calls.is_zero(), "FeeBoundToCalls", &[&fee.calls, &B256::ZERO])?;
                self.pay_fee(fee, signed)
            }
            Call::CancelNonce { nonce } => self.spend(self.setting.leases, sender, *nonce),
            Call::BurnSink { token } => {
                let burnable = self.state.tokens.get(token).is_some_and(|standing| standing.burnable);
                require(burnable, "TokenNotBurnable", &[token])?;
                let sunk = self.state.book.of(*token, Pot::Sink);
                self.state.book.burn(*token, Pot::Sink, sunk);
                Ok(())
            }
            Call::Donate { token, amount } => {
                let held = self.state.book.of(*token, Pot::Wallet(sender));
                require(held >= *amount, "ERC20InsufficientBalance", &[&sender, &held, amount])?;
                self.pay(*token, Pot::Wallet(sender), Pot::Gifts, *amount);
                Ok(())
            }
            Call::SetToken { token, allowed, burnable } => {
                self.owner_only(sender)?;
                self.state.tokens.insert(*token, Standing { allowed: *allowed, burnable: *burnable });
                Ok(())
            }
            Call::AddVersion { parameters } => {
                self.owner_only(sender)?;
                require(is_sound(parameters, self.setting.court), "InvalidParameters", &[])?;
                self.state.versions.push(Version { parameters: parameters.clone(), active: true });
                Ok(())
            }
            Call::SetVersionActive { version, active } => {
                self.owner_only(sender)?;
                let found = version.checked_sub(1).and_then(|at| self.state.versions.get_mut(at as usize));
                let Some(found) = found else { return refuse("VersionInactive", &[version]) };
                found.active = *active;
                Ok(())
            }
            Call::Transfer { token, to, amount } => self.transfer(*token, sender, *to, *amount),
            Call::Forfeit { token, amount } => self.debit(*token, sender, Pot::Sink, *amount),
            Call::Allow { spender, token, amount } => {
                self.state.lent.insert((*token, sender, *spender), *amount);
                Ok(())
            }
            Call::TakeFrom { token, account, amount } => self.take_from(sender, *token, *account, *amount),
            // The court alone draws on it.
            Call::RewardWatchers { .. } => refuse("NotAllowed", &[&sender]),
            other => unreachable!("{} is not the vault's", other.name()),
        }
    }

    fn transfer(&mut self, token: Address, from: Address, to: Address, amount: u128) -> Result<(), Refusal> {
        require(to != Address::ZERO, "InvalidReceiver", &[&to])?;
        self.debit(token, from, Pot::Balance(to), amount)
    }

    /// Moves what an account lets `spender` take into the spender's balance.
    pub(crate) fn take_from(
        &mut self,
        spender: Address,
        token: Address,
        account: Address,
        amount: u128,
    ) -> Result<(), Refusal> {
        let wanted = U256::from(amount);
        let allowed = self.state.lent.get(&(token, account, spender)).copied().unwrap_or_default();
        let short: [&dyn std::fmt::Display; 5] = [&token, &account, &spender, &allowed, &amount];
        require(allowed >= wanted, "InsufficientAllowance", &short)?;
        self.state.lent.insert((token, account, spender), allowed - wanted);
        self.transfer(token, account, spender, amount)
    }

    fn deposit(
        &mut self,
        sender: Address,
        token: Address,
        account: Address,
        amount: u128,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        let statement = typed::Deposit {
            token,
            account,
            amount: U256::from(amount),
            nonce: auth.nonce,
            deadline: n40(auth.deadline),
        };
        self.consent_once(self.setting.leases, sender, account, &statement, auth)?;
        require(self.allowed(token), "TokenNotAllowed", &[&token])?;
        let allowance = self.state.allowances.get(&(token, account)).copied().unwrap_or_default();
        let (leases, wanted) = (self.setting.leases, U256::from(amount));
        require(allowance >= wanted, "ERC20InsufficientAllowance", &[&leases, &allowance, &amount])?;
        if allowance != U256::MAX {
            self.state.allowances.insert((token, account), allowance - wanted);
        }
        self.bring(token, account, amount)
    }

    /// Coins of a wallet become its owner's balance.
    fn bring(&mut self, token: Address, from: Address, amount: u128) -> Result<(), Refusal> {
        let held = self.state.book.of(token, Pot::Wallet(from));
        require(held >= amount, "ERC20InsufficientBalance", &[&from, &held, &amount])?;
        self.pay(token, Pot::Wallet(from), Pot::Balance(from), amount);
        Ok(())
    }

    /// A permit that does not count is passed over.
    fn permit(&mut self, token: Address, owner: Address, amount: u128, until: u64, permit: &Signed) {
        let nonce = self.state.permits.get(&(token, owner)).copied().unwrap_or(0);
        let statement = typed::Permit {
            owner,
            spender: self.setting.leases,
            value: U256::from(amount),
            nonce: U256::from(nonce),
            deadline: U256::from(until),
        };
        if self.state.now <= until && permit.counts(owner, self.setting.domains.at_token(token, &statement)) {
            self.state.permits.insert((token, owner), nonce + 1);
            self.state.allowances.insert((token, owner), U256::from(amount));
        }
    }

    fn deposit_authorized(
        &mut self,
        token: Address,
        from: Address,
        amount: u128,
        (after, before): (u64, u64),
        nonce: B256,
        signed: &Signed,
    ) -> Result<(), Refusal> {
        require(self.allowed(token), "TokenNotAllowed", &[&token])?;
        if token != self.setting.stablecoin {
            return Err(Refusal::named("reverted"));
        }
        if self.state.authorizations.contains(&(from, nonce)) {
            return Ok(());
        }
        match signed.form {
            Form::Cut | Form::Absent => return Err(Refusal::named("reverted")),
            Form::Twin => return Err(Refusal::named("ECDSAInvalidSignatureS")),
            Form::Plain => {}
        }
        let statement = typed::ReceiveWithAuthorization {
            from,
            to: self.setting.leases,
            value: U256::from(amount),
            validAfter: U256::from(after),
            validBefore: U256::from(before),
            nonce,
        };
        let digest = self.setting.domains.at_token(token, &statement);
        require(signed.counts(from, digest), "ERC3009InvalidSignature", &[])?;
        let now = self.state.now;
        require(now > after && now < before, "ERC3009InvalidAuthorizationTime", &[&after, &before])?;
        self.state.authorizations.insert((from, nonce));
        self.bring(token, from, amount)
    }

    fn withdraw(
        &mut self,
        sender: Address,
        token: Address,
        account: Address,
        to: Address,
        amount: u128,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        let statement = typed::Withdraw {
            token,
            account,
            to,
            amount: U256::from(amount),
            nonce: auth.nonce,
            deadline: n40(auth.deadline),
        };
        self.consent_once(self.setting.leases, sender, account, &statement, auth)?;
        let receivable = to != Address::ZERO && to != self.setting.leases;
        require(receivable, "InvalidReceiver", &[&to])?;
        self.debit(token, account, Pot::Wallet(to), amount)
    }

    pub(crate) fn pay_fee(&mut self, fee: &abi::FeeAuthorization, signed: &Signed) -> Result<(), Refusal> {
        let now = self.state.now;
        let deadline = fee.deadline.to::<u64>();
        require(now <= deadline, "DeadlinePassed", &[&deadline, &now])?;
        let digest = self.setting.domains.at_leases(fee);
        require(signed.counts(fee.payer, digest), "InvalidSignature", &[&fee.payer, &digest])?;
        self.spend(self.setting.leases, fee.payer, fee.nonce)?;
        self.debit(fee.token, fee.payer, Pot::Balance(fee.relayer), fee.amount.to())
    }
}

fn is_sound(p: &abi::Parameters, court: Address) -> bool {
    let tail = u64::from(p.window) + u64::from(p.bondDelay) + u64::from(p.hardLimit);
    let spans = [p.startAhead, p.minCapOnDemand, p.minCapSpot, p.minCapReserved].map(u64::from);
    let short = tail <= LONGEST_SPAN && spans.iter().all(|span| *span <= LONGEST_SPAN);
    let shares = p.feeBps <= MOST_FEE_BPS && p.sinkBps <= 10_000 && p.disputeBps <= 10_000;
    let times = p.openAhead != 0 && p.openAhead <= 0xffff && p.maxDuration != 0 && p.answerWindow != 0;
    short && shares && times && p.court == court
}
