//! The model's state and the way of a call through it: all of the call counts, or nothing does.
//!
//! ```text
//! call ─► consent ─► may it be? ─► coins move in the book, records change ─► told
//!             └──────────┴─► refusal: the state is what it was
//! ```

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, LogData, U256};
use alloy::sol_types::SolStruct;
use tradewind_chain::client::bindings::abi;
use tradewind_proto::evidence;

use super::book::{Book, Pot};
use super::call::{Call, Step};
use super::court::Docket;
use super::court::cases::{Case, Stage};
use super::leases::Lease;
use super::refusal::{Refusal, refuse, require};
use super::registry::{Account, Device};
use super::statement::{Auth, Domains};

/// Where the contracts are and who rules them.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) leases: Address,
    pub(crate) registry: Address,
    pub(crate) owner: Address,
    pub(crate) stake_token: Address,
    pub(crate) fee_token: Address,
    /// The stablecoin, which alone knows ERC-3009.
    pub(crate) stablecoin: Address,
    /// The registry's arbiter, and the court of every version.
    pub(crate) court: Address,
    pub(crate) bench: Setup,
    pub(crate) domains: Domains,
}

/// What never changes about the court and its beacon, whose round 0 is due when epoch 0 begins.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) domain: evidence::Court,
    pub(crate) beacon: Address,
    pub(crate) genesis: u64,
    pub(crate) epoch_span: u64,
    pub(crate) seat_stake: u128,
    pub(crate) seat_unbonding: u64,
    pub(crate) version_delay: u64,
    /// Between two rounds of the beacon.
    pub(crate) period: u64,
    /// How late a round may be marked.
    pub(crate) expiry: u64,
}

impl Setup {
    pub(crate) const fn court(&self) -> evidence::Court {
        self.domain
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) allowed: bool,
    pub(crate) burnable: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) parameters: abi::Parameters,
    pub(crate) active: bool,
}

/// What a refused call must leave as it was.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) now: u64,
    /// The number of the block that holds the next call.
    pub(crate) block: u64,
    pub(crate) book: Book,
    pub(crate) tokens: BTreeMap<Address, Standing>,
    pub(crate) versions: Vec<Version>,
    pub(crate) allowances: BTreeMap<(Address, Address), U256>,
    pub(crate) permits: BTreeMap<(Address, Address), u64>,
    pub(crate) authorizations: BTreeSet<(Address, B256)>,

    pub(crate) accounts: BTreeMap<Address, Account>,
    pub(crate) devices: BTreeMap<B256, Device>,
    pub(crate) classes: BTreeMap<u16, u128>,
    pub(crate) config: abi::RegistryConfig,

    /// Those that are not closed yet.
    pub(crate) leases: BTreeMap<B256, Lease>,
    /// When a pair's lease last failed: by a default, or as the court ruled.
    pub(crate) failures: BTreeMap<(Address, Address), u64>,

    /// What an account lets another take of its balance: token, account, spender.
    pub(crate) lent: BTreeMap<(Address, Address, Address), U256>,
    /// What a token's watcher pool still pays on a day.
    pub(crate) stipends: BTreeMap<Address, (u64, u128)>,
    pub(crate) court: Docket,

    /// Nonces that the call at hand spent.
    spent: Vec<(Address, Address, U256)>,
    /// Events that the call at hand gave, as far as the model knows them.
    pub(crate) told: Vec<LogData>,
}

#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) setting: Setting,
    pub(crate) state: State,
    pub(crate) closed: BTreeMap<B256, Lease>,
    /// Cases that nothing can happen to.
    pub(crate) done: BTreeMap<B256, Case>,
    pub(crate) spent: BTreeSet<(Address, Address, U256)>,
}

impl Reference {
    pub(crate) fn new(setting: Setting, now: u64, block: u64, config: abi::RegistryConfig) -> Self {
        let state = State {
            now,
            block,
            book: Book::default(),
            tokens: BTreeMap::new(),
            versions: Vec::new(),
            allowances: BTreeMap::new(),
            permits: BTreeMap::new(),
            authorizations: BTreeSet::new(),
            accounts: BTreeMap::new(),
            devices: BTreeMap::new(),
            classes: BTreeMap::new(),
            config,
            leases: BTreeMap::new(),
            failures: BTreeMap::new(),
            lent: BTreeMap::new(),
            stipends: BTreeMap::new(),
            court: Docket::default(),
            spent: Vec::new(),
            told: Vec::new(),
        };
        Self { setting, state, closed: BTreeMap::new(), done: BTreeMap::new(), spent: BTreeSet::new() }
    }

    /// Makes the call, all of it or nothing, and says what it told.
    pub(crate) fn call(&mut self, step: &Step) -> Result<Vec<LogData>, Refusal> {
        let before = self.state.clone();
        match self.perform(step.sender, &step.call) {
            Ok(()) => {
                self.spent.extend(self.state.spent.drain(..));
                let (closed, open) = std::mem::take(&mut self.state.leases)
                    .into_iter()
                    .partition(|(_, lease)| lease.is_closed());
                self.state.leases = open;
                let closed: BTreeMap<B256, Lease> = closed;
                self.closed.extend(closed);
                let (done, open) = std::mem::take(&mut self.state.court.cases)
                    .into_iter()
                    .partition(|(_, case)| case.stage == Stage::Closed && !case.slash_due);
                self.state.court.cases = open;
                let done: BTreeMap<B256, Case> = done;
                self.done.extend(done);
                Ok(std::mem::take(&mut self.state.told))
            }
            Err(refusal) => {
                self.state = before;
                Err(refusal)
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest are the court's")]
    pub(crate) fn perform(&mut self, sender: Address, call: &Call) -> Result<(), Refusal> {
        match call {
            Call::Deposit { .. }
            | Call::DepositWithPermit { .. }
            | Call::DepositWithAuthorization { .. }
            | Call::Withdraw { .. }
            | Call::PayFee { .. }
            | Call::CancelNonce { .. }
            | Call::BurnSink { .. }
            | Call::Donate { .. }
            | Call::Transfer { .. }
            | Call::Forfeit { .. }
            | Call::Allow { .. }
            | Call::TakeFrom { .. }
            | Call::RewardWatchers { .. }
            | Call::SetToken { .. }
            | Call::AddVersion { .. }
            | Call::SetVersionActive { .. } => self.at_vault(sender, call),
            Call::Register { .. }
            | Call::UpdateAccount { .. }
            | Call::AddDevice { .. }
            | Call::SetSponsor { .. }
            | Call::Stake { .. }
            | Call::PayRent { .. }
            | Call::BeginUnbond { .. }
            | Call::WithdrawStake { .. }
            | Call::Qualify { .. }
            | Call::Slash { .. }
            | Call::Jail { .. }
            | Call::SetClass { .. }
            | Call::SetConfig { .. } => self.at_registry(sender, call),
            Call::Open { .. }
            | Call::Settle { .. }
            | Call::SettleMany { .. }
            | Call::Close { .. }
            | Call::Extend { .. }
            | Call::Finalize { .. }
            | Call::Expire { .. }
            | Call::ReleaseBond { .. }
            | Call::Notice { .. }
            | Call::RequestClose { .. } => self.at_leases(sender, call),
            Call::Challenge { .. }
            | Call::Answer { .. }
            | Call::Defaulted { .. }
            | Call::Acknowledge { .. }
            | Call::Dispute { .. }
            | Call::Resolve { .. } => self.at_remedies(sender, call),
            // The fee is the leases' contract's, whichever contract made the calls.
            Call::Relay { at: _, fee, signed, calls, made } => {
                require(fee.calls == *made, "FeeBoundToCalls", &[&fee.calls, made])?;
                for call in calls {
                    self.perform(sender, call).map_err(in_a_batch)?;
                }
                self.pay_fee(fee, signed)
            }
            _ => self.at_court(sender, call),
        }
    }

    /// The account itself, or its signature in time.
    pub(crate) fn consent(
        &self,
        sender: Address,
        account: Address,
        digest: B256,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        if sender == account {
            return Ok(());
        }
        let now = self.state.now;
        require(now <= auth.deadline, "DeadlinePassed", &[&auth.deadline, &now])?;
        require(auth.signed.counts(account, digest), "InvalidSignature", &[&account, &digest])
    }

    /// The same for what could be repeated: a signature counts once.
    pub(crate) fn consent_once<T: SolStruct>(
        &mut self,
        contract: Address,
        sender: Address,
        account: Address,
        statement: &T,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        if sender == account {
            return Ok(());
        }
        let domains = &self.setting.domains;
        let digest = match contract {
            _ if contract == self.setting.registry => domains.at_registry(statement),
            _ if contract == self.setting.court => domains.at_court(statement),
            _ => domains.at_leases(statement),
        };
        self.consent(sender, account, digest, auth)?;
        self.spend(contract, account, auth.nonce)
    }

    pub(crate) fn spend(&mut self, contract: Address, account: Address, nonce: U256) -> Result<(), Refusal> {
        let key = (contract, account, nonce);
        if self.spent.contains(&key) || self.state.spent.contains(&key) {
            return refuse("NonceAlreadyUsed", &[&account, &nonce]);
        }
        self.state.spent.push(key);
        Ok(())
    }

    /// Moves coins out of somebody's free balance, where there are enough.
    pub(crate) fn debit(
        &mut self,
        token: Address,
        account: Address,
        to: Pot,
        amount: u128,
    ) -> Result<(), Refusal> {
        let held = self.state.book.of(token, Pot::Balance(account));
        require(held >= amount, "InsufficientBalance", &[&token, &account, &held, &amount])?;
        self.state.book.pay(token, Pot::Balance(account), to, amount);
        Ok(())
    }

    pub(crate) fn pay(&mut self, token: Address, from: Pot, to: Pot, amount: u128) {
        self.state.book.pay(token, from, to, amount);
    }

    pub(crate) fn owner_only(&self, sender: Address) -> Result<(), Refusal> {
        require(sender == self.setting.owner, "OwnableUnauthorizedAccount", &[&sender])
    }

    pub(crate) fn allowed(&self, token: Address) -> bool {
        self.state.tokens.get(&token).is_some_and(|standing| standing.allowed)
    }
}

/// A batch gives on what its call said, and has its own word for one that said nothing.
fn in_a_batch(refusal: Refusal) -> Refusal {
    if refusal.name == "reverted" {
        Refusal { name: "FailedCall".to_owned(), values: Some(Vec::new()) }
    } else {
        refusal
    }
}
