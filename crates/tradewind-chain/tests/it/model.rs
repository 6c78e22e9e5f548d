//! A reference model of registry, vault and leases, driven with the deployed contracts by the same random calls.
//!
//! ```text
//!              ┌─► Reference: the protocol's rules on a double-entry book ─► accepted or refused, told ─┐
//! seed ─► Draw ┤                                                                                        ├─► equal
//!              └─► Chain: the contracts on an embedded ledger ─► receipt or revert, every view ─────────┘
//! ```
//!
//! The model is written from the protocol. After every call both have accepted, or both refused with the same error;
//! every balance, pool, device, account and lease that the call could change is equal to the unit; and the numbered
//! invariants hold. Every few calls all others are compared too, so that nothing changes unseen.
//!
//! `TRADEWIND_MODEL_SEED` repeats one run, `TRADEWIND_MODEL_CALLS` makes a longer or a shorter one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use alloy::primitives::{Address, B256, Bytes, LogData, U256};
use alloy::sol_types::{SolCall as _, SolEvent as _, SolValue as _};
use tradewind_chain::client::artifacts;
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::deploy::Timings;
use tradewind_chain::client::wallet::Contracts;
use tradewind_proto::signature::SigningKey;

use crate::fixture;
use book::{Book, Pot};
use call::{Call, Step, n96};
use chain::Chain;
use draw::{Cast, Draw};
use leases::Phase;
use reference::{Reference, Setting};
use refusal::Refusal;
use statement::{Auth, Domains, Signed};
use wire::{Scope, Wire};

mod book;
mod call;
mod chain;
mod draw;
mod invariants;
mod leases;
mod reference;
mod refusal;
mod registry;
mod remedies;
mod statement;
mod terms;
mod vault;
mod wire;

const CALLS: u64 = 10_000;
/// Runs beside each other, each from a seed of its own.
const WORLDS: u64 = 4;
const START: u64 = 1_800_000_000;
/// What each party has of each token.
const COINS: u128 = 1_000_000_000_000;
const SUPPLY: u128 = 1_000_000_000_000_000_000_000_000_000;
/// Every kind of call is accepted and refused at least so often in a full run.
const LEAST: u64 = 5;
/// Calls between two looks at everything that is; what a call changed, and its lease, is looked at after each.
const EVERYTHING: u64 = 20;
/// Steps between two looks at every lease that there ever was.
const SWEEP: u64 = 500;

/// The events that say where money went, which the model tells too.
const TOLD: [B256; 4] = [
    abi::Leases::VoucherSettled::SIGNATURE_HASH,
    abi::Leases::NoticeCured::SIGNATURE_HASH,
    abi::Leases::LeaseDefaulted::SIGNATURE_HASH,
    abi::Leases::LeaseClosed::SIGNATURE_HASH,
];

type Counts = BTreeMap<&'static str, Count>;

#[derive(Default)]
struct Count {
    accepted: u64,
    refused: BTreeMap<String, u64>,
}

impl Count {
    fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        for (reason, times) in other.refused {
            *self.refused.entry(reason).or_default() += times;
        }
    }
}

struct Trial {
    chain: Chain,
    model: Reference,
    parties: Vec<Address>,
    counts: Counts,
    calls: u64,
}

/// Says how to repeat the run, should it fail.
struct Rerun {
    seed: u64,
    calls: u64,
}

impl Drop for Rerun {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, calls } = self;
            let again = format!("TRADEWIND_MODEL_SEED={seed} TRADEWIND_MODEL_CALLS={calls}");
            let _ = writeln!(std::io::stderr(), "repeat with {again}");
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is no number: {value}")))
}

#[test]
fn random_calls_are_accepted_and_refused_alike_and_all_state_agrees_to_the_unit() {
    let calls = number("TRADEWIND_MODEL_CALLS").unwrap_or(CALLS);
    let seeds = number("TRADEWIND_MODEL_SEED").map_or_else(|| (1..=WORLDS).collect(), |seed| vec![seed]);
    let each = calls.div_ceil(seeds.len() as u64);
    let worlds: Vec<_> =
        seeds.into_iter().map(|seed| std::thread::spawn(move || world(seed, each))).collect();
    let mut counts = Counts::new();
    for world in worlds {
        for (name, count) in world.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure)) {
            counts.entry(name).or_default().add(count);
        }
    }
    report(&counts);
    if calls >= CALLS {
        every_kind_was_accepted_and_refused(&counts);
    }
}

/// One run from one seed.
fn world(seed: u64, calls: u64) -> Counts {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _rerun = Rerun { seed, calls };
        let keys: BTreeMap<Address, SigningKey> = (1..=14u8)
            .map(|at| SigningKey::from_bytes([at; 32]).unwrap())
            .map(|key| (key.address(), key))
            .collect();
        let (mut trial, cast) = Trial::begin(&keys).await;
        let key = |account: Address| keys[&account].clone();
        let mut draw = Draw::new(seed, &cast, &key);
        for at in 1..=calls {
            let seconds = draw.pause(&trial.model);
            trial.pass(seconds);
            let step = draw.step(&trial.model);
            trial.make(&step).await;
            if at.is_multiple_of(SWEEP) {
                trial.sweep().await;
            }
        }
        trial.everyone_leaves(&cast).await;
        trial.counts
    })
}

impl Trial {
    async fn begin(keys: &BTreeMap<Address, SigningKey>) -> (Self, Cast) {
        let parties: Vec<Address> = keys.keys().copied().collect();
        let mut chain = Chain::open(START, keys.clone());
        let (owner, arbiter) = (parties[0], parties[1]);
        let remedies = chain.create(owner, artifacts::remedies(), &[]).await;
        let court = chain.create(owner, artifacts::unknown_court(), &[]).await;
        let usd = chain.create(owner, artifacts::test_stablecoin(), &owner.abi_encode()).await;
        let supply = (owner, U256::from(SUPPLY)).abi_encode_params();
        let twd = chain.create(owner, artifacts::network_token(), &supply).await;
        let config = abi::RegistryConfig {
            rentPerDay: n96(86_400_000),
            unbonding: 60,
            maxRent: 5_000,
            membership: Address::ZERO,
        };
        let arguments = (owner, twd, usd, arbiter, config.clone(), remedies).abi_encode_params();
        let leases = chain.create(owner, artifacts::leases(), &arguments).await;
        let registry = chain.read(leases, abi::Leases::registryCall {}.abi_encode()).await;
        let registry = Address::abi_decode(&registry).unwrap();
        let contracts = Contracts { chain_id: fixture::CHAIN_ID, leases, registry, court: None };
        let names = [(usd, "Tradewind Test Dollar"), (twd, "Tradewind Token")];
        let setting = Setting {
            leases,
            registry,
            owner,
            arbiter,
            stake_token: twd,
            fee_token: usd,
            stablecoin: usd,
            court,
            domains: Domains::new(&contracts, &names),
        };
        let cast = Cast {
            owner,
            arbiter,
            buyers: parties[2..6].to_vec(),
            // One account is both.
            providers: parties[5..9].to_vec(),
            sponsor: parties[9],
            relayer: parties[10],
            meters: parties[11..14].to_vec(),
            tokens: vec![usd, twd],
        };
        let model = Reference::new(setting, chain.now(), Book::default(), config);
        let mut trial = Self { chain, model, parties, counts: Counts::new(), calls: 0 };
        trial.hand_out_coins(usd, twd).await;
        trial.found(&cast).await;
        (trial, cast)
    }

    /// Everybody has coins; most let the contract take them without limit, one to a limit, one not at all.
    async fn hand_out_coins(&mut self, usd: Address, twd: Address) {
        let (owner, leases) = (self.model.setting.owner, self.model.setting.leases);
        self.model.state.book.mint(twd, Pot::Wallet(owner), SUPPLY);
        for (at, account) in self.parties.clone().into_iter().enumerate() {
            let amount = U256::from(COINS);
            self.outside(owner, usd, &abi::Token::mintCall { to: account, amount }).await;
            self.model.state.book.mint(usd, Pot::Wallet(account), COINS);
            self.outside(owner, twd, &abi::Token::transferCall { to: account, amount }).await;
            self.model.state.book.pay(twd, Pot::Wallet(owner), Pot::Wallet(account), COINS);
            let amount = match at {
                2 => continue,
                3 => U256::from(COINS / 4),
                _ => U256::MAX,
            };
            for token in [usd, twd] {
                self.outside(account, token, &abi::Token::approveCall { spender: leases, amount }).await;
                self.model.state.allowances.insert((token, account), amount);
            }
        }
    }

    /// What the model does not speak of.
    async fn outside(&mut self, by: Address, to: Address, call: &impl alloy::sol_types::SolCall) {
        let input = Bytes::from(call.abi_encode());
        self.chain.send(by, to, input).await.expect("the ground is laid");
    }

    /// The owner's first acts.
    async fn found(&mut self, cast: &Cast) {
        for (token, burnable) in [(cast.tokens[0], false), (cast.tokens[1], true)] {
            self.owner(Call::SetToken { token, allowed: true, burnable }).await;
        }
        let tests = tradewind_parameters(self.model.setting.court);
        self.owner(Call::AddVersion { parameters: tests }).await;
        for class in 0..2 {
            self.owner(Call::SetClass { class, minimum: 1_000_000 }).await;
        }
    }

    async fn owner(&mut self, call: Call) {
        let sender = self.model.setting.owner;
        let accepted = self.make(&Step { sender, call }).await;
        assert!(accepted, "the owner rules");
    }

    fn pass(&mut self, seconds: u64) {
        self.chain.pass(seconds);
        self.model.state.now += seconds;
    }

    /// Makes the call in both worlds and compares them; answers whether it was accepted.
    async fn make(&mut self, step: &Step) -> bool {
        assert_eq!(self.chain.now(), self.model.state.now, "one clock");
        self.calls += 1;
        let (to, input) =
            Wire { setting: &self.model.setting, key: |account| self.chain.key(account) }.encode(&step.call);
        let before = self.model.state.clone();
        let expected = self.model.call(step);
        let given = self.chain.send(step.sender, to, input).await;
        let call = self.calls;
        match (&expected, &given) {
            (Ok(told), Ok(logs)) => {
                let logs: Vec<LogData> =
                    logs.iter().filter(|log| TOLD.contains(&log.topics()[0])).cloned().collect();
                assert_eq!(told, &logs, "call {call} told something else: {step:#?}");
            }
            (Err(expected), Err(given)) if expected.agrees_with(given) => {}
            _ => panic!(
                "call {call}: the model says {expected:?}, the contracts {given:?}\nat {} of {step:#?}\n{:#?}",
                before.now,
                step.call.terms().and_then(|terms| self.model.find(self.model.read(terms).id))
            ),
        }
        self.count(step, expected.as_ref().err());
        invariants::hold(&before, &self.model, step, expected.is_ok());
        let also: Vec<B256> = step.call.terms().map(|terms| self.model.read(terms).id).into_iter().collect();
        let everything = call.is_multiple_of(EVERYTHING);
        let scope = if everything { Scope::All } else { Scope::Since(&before) };
        let facts = wire::facts(&self.model, &self.parties, scope, &also);
        let differences = self.chain.differences(&facts).await;
        assert!(differences.is_empty(), "after call {call}, {step:#?}:\n{}", differences.join("\n"));
        expected.is_ok()
    }

    fn count(&mut self, step: &Step, refusal: Option<&Refusal>) {
        let count = self.counts.entry(step.call.name()).or_default();
        match refusal {
            None => count.accepted += 1,
            Some(refusal) => *count.refused.entry(refusal.name.clone()).or_default() += 1,
        }
    }

    /// Closed leases stay as they ended, and versions as they were added.
    async fn sweep(&self) {
        let closed: Vec<B256> = self.model.closed.keys().copied().collect();
        for some in closed.chunks(200) {
            let mut facts = wire::facts(&self.model, &self.parties, Scope::All, some);
            facts.extend(wire::facts_of_versions(&self.model));
            let differences = self.chain.differences(&facts).await;
            assert!(differences.is_empty(), "in hindsight:\n{}", differences.join("\n"));
        }
    }

    /// 11, 12 and 13: with everything paused and delisted, each lease reaches Closed by calls that anyone may make, and
    /// everybody takes home what is theirs.
    async fn everyone_leaves(&mut self, cast: &Cast) {
        for token in cast.tokens.clone() {
            self.owner(Call::SetToken { token, allowed: false, burnable: false }).await;
        }
        for version in 1..=u32::try_from(self.model.state.versions.len()).unwrap() {
            self.owner(Call::SetVersionActive { version, active: false }).await;
        }
        self.pass(200_000);
        self.every_lease_closes(cast.relayer).await;
        for (device, known) in self.model.state.devices.clone() {
            if self.model.at_stake(device) != 0 && known.unbonding_at.is_none() {
                let auth = Auth { nonce: U256::ZERO, deadline: 0, signed: Signed::ABSENT };
                let call = Call::BeginUnbond { device, account: known.sponsor, auth };
                assert!(self.make(&Step { sender: known.sponsor, call }).await);
            }
        }
        self.pass(200_000);
        for (device, known) in self.model.state.devices.clone() {
            if known.unbonding_at.is_some() {
                let call = Call::WithdrawStake { device };
                assert!(self.make(&Step { sender: cast.relayer, call }).await);
            }
        }
        for token in cast.tokens.clone() {
            for account in self.parties.clone() {
                let amount = self.model.state.book.of(token, Pot::Balance(account));
                let auth = Auth { nonce: U256::ZERO, deadline: 0, signed: Signed::ABSENT };
                let call = Call::Withdraw { token, account, to: account, amount, auth };
                assert!(self.make(&Step { sender: account, call }).await, "13: {account} leaves");
            }
            let book = &self.model.state.book;
            let common = book.sum(token, |pot| matches!(pot, Pot::Sink | Pot::Watchers | Pot::Gifts));
            assert_eq!(book.held(token), common, "13: only the pools and gifts stay");
        }
        self.sweep().await;
    }

    async fn every_lease_closes(&mut self, sender: Address) {
        for (_, lease) in self.model.state.leases.clone() {
            let terms = lease.terms.raw.clone();
            let call = match lease.phase {
                _ if lease.challenged => Call::Defaulted { terms },
                Phase::Closing => Call::Finalize { terms },
                Phase::Settled | Phase::Closed => continue,
                Phase::Open | Phase::NoticedUnpaid | Phase::NoticedReclaim => Call::Expire { terms },
            };
            assert!(self.make(&Step { sender, call }).await, "12: anyone settles");
        }
        self.pass(200_000);
        for (_, lease) in self.model.state.leases.clone() {
            let call = Call::ReleaseBond { terms: lease.terms.raw };
            assert!(self.make(&Step { sender, call }).await, "12: anyone closes");
        }
        assert!(self.model.state.leases.is_empty(), "12: every lease is closed");
    }
}

fn report(counts: &Counts) {
    let accepted: u64 = counts.values().map(|count| count.accepted).sum();
    let refused: u64 = counts.values().map(Count::refusals).sum();
    let mut report = format!("{} calls: {accepted} accepted, {refused} refused\n", accepted + refused);
    for (name, count) in counts {
        let reasons: Vec<String> =
            count.refused.iter().map(|(reason, times)| format!("{reason} {times}")).collect();
        let (accepted, refused, reasons) = (count.accepted, count.refusals(), reasons.join(", "));
        let _ = writeln!(report, "{name:>24} accepted {accepted:>5} refused {refused:>5}: {reasons}");
    }
    let _ = std::io::stdout().write_all(report.as_bytes());
}

fn every_kind_was_accepted_and_refused(counts: &Counts) {
    for (name, count) in counts {
        let (least_accepted, least_refused) = match *name {
            // The court never knows.
            "resolve" => (0, LEAST),
            // A batch skips what fails.
            "settleMany" => (LEAST, 0),
            _ => (LEAST, LEAST),
        };
        assert!(count.accepted >= least_accepted, "{name} was accepted only {} times", count.accepted);
        assert!(count.refusals() >= least_refused, "{name} was refused only {} times", count.refusals());
    }
    assert_eq!(counts.len(), KINDS, "every kind of call was made");
}

/// All that [`Call::name`] can answer.
const KINDS: usize = 42;

/// The timings of tests, with spans long enough to meet in the middle.
fn tradewind_parameters(court: Address) -> abi::Parameters {
    let tests = Timings::Tests.parameters(court);
    abi::Parameters {
        window: 20,
        bondDelay: 15,
        openAhead: 60,
        startAhead: 600,
        maxDuration: 10_000,
        minCapOnDemand: 10,
        minCapSpot: 5,
        minCapReserved: 10,
        feeBps: tests.fee_bps,
        sinkBps: tests.sink_bps,
        answerWindow: 8,
        hardLimit: 40,
        refundWindow: 10,
        repeatWindow: 120,
        compensationSpan: 30,
        bonusSpan: 10,
        challengeSpan: 5,
        disputeBps: tests.dispute_bps,
        court,
        membership: Address::ZERO,
    }
}
