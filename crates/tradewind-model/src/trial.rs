//! One run: the same calls in both worlds, compared one by one.

use std::collections::BTreeMap;
use std::io::Write as _;

use alloy::primitives::{Address, B256, Bytes, LogData, U256};
use alloy::sol_types::{SolCall as _, SolValue as _};
use tradewind_chain::client::artifacts;
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::deploy::Timings;
use tradewind_chain::client::wallet::Contracts;
use tradewind_proto::evidence;
use tradewind_proto::signature::SigningKey;

use crate::book::Pot;
use crate::call::{Call, Step, n40, n96};
use crate::chain::{CHAIN_ID, Chain};
use crate::court::CourtVersion;
use crate::court::abi::{self as judges, CourtParameters, TOLD};
use crate::court::cases::Stage;
use crate::draw::{Cast, Draw};
use crate::leases::Phase;
use crate::reference::{Reference, Setting, Setup};
use crate::refusal::Refusal;
use crate::statement::{Auth, Domains, Signed};
use crate::wire::{Scope, Wire};
use crate::{Counts, Reached, invariants, reached, wire};

/// An hour before midnight, so that a run sees two days of the watcher pool.
const START: u64 = 20_834 * 86_400 - 3_600;
/// What each party has of each token.
const COINS: u128 = 1_000_000_000_000;
const SUPPLY: u128 = 1_000_000_000_000_000_000_000_000_000;
/// Calls between two looks at everything that is; what a call changed, and its lease, is looked at after each.
const EVERYTHING: u64 = 20;
/// Steps between two looks at every lease that there ever was.
const SWEEP: u64 = 500;

struct Trial {
    chain: Chain,
    model: Reference,
    parties: Vec<Address>,
    counts: Counts,
    reached: Reached,
    calls: u64,
}

/// The account calls itself.
const DIRECT: Auth = Auth { nonce: U256::ZERO, deadline: 0, signed: Signed::ABSENT };

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

/// The accounts' keys come first, then those of seats and of devices.
const PARTIES: u8 = 14;
const KEYS_OF_SEATS: u8 = PARTIES + 1;
const KEYS_OF_DEVICES: u8 = KEYS_OF_SEATS + 60;
const KEYS: u8 = KEYS_OF_DEVICES + 19;

fn key(at: u8) -> SigningKey {
    SigningKey::from_bytes([at; 32]).expect("a key")
}

/// One run from one seed.
pub(crate) fn run(seed: u64, calls: u64) -> (Counts, Reached) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _rerun = Rerun { seed, calls };
        let keys: BTreeMap<Address, SigningKey> =
            (1..=KEYS).map(key).map(|key| (key.address(), key)).collect();
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
        (trial.counts, trial.reached)
    })
}

impl Trial {
    async fn begin(keys: &BTreeMap<Address, SigningKey>) -> (Self, Cast) {
        let parties: Vec<Address> = (1..=PARTIES).map(|at| key(at).address()).collect();
        let mut chain = Chain::open(START, keys.clone());
        let setting = deploy(&mut chain, parties[0]).await;
        let cast = Cast {
            owner: parties[0],
            buyers: parties[2..6].to_vec(),
            // One account is both.
            providers: parties[5..9].to_vec(),
            sponsor: parties[9],
            relayer: parties[10],
            meters: parties[11..14].to_vec(),
            watchers: [&parties[1..2], &parties[8..12]].concat(),
            seat_keys: (KEYS_OF_SEATS..KEYS_OF_DEVICES).map(|at| key(at).address()).collect(),
            device_keys: (KEYS_OF_DEVICES..=KEYS).map(|at| key(at).address()).collect(),
            tokens: vec![setting.fee_token, setting.stake_token],
        };
        let block = chain.height().await + 1;
        let mut model = Reference::new(setting, chain.now(), block, registry_config());
        model.state.court.versions.push(CourtVersion { parameters: court_parameters(), usable_at: START });
        let mut trial =
            Self { chain, model, parties, counts: Counts::new(), reached: Reached::new(), calls: 0 };
        trial.hand_out_coins(cast.tokens[0], cast.tokens[1]).await;
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
        let tests = lease_parameters(self.model.setting.court);
        self.owner(Call::AddVersion { parameters: tests }).await;
        for class in 0..2 {
            self.owner(Call::SetClass { class, minimum: 1_000_000 }).await;
        }
        for provider in &cast.providers {
            let call = Call::Register {
                account: *provider,
                mesh_key: B256::repeat_byte(1),
                metadata: B256::ZERO,
                auth: DIRECT,
            };
            assert!(self.make(&Step { sender: *provider, call }).await, "a provider registers");
        }
        for (account, token) in self
            .parties
            .clone()
            .into_iter()
            .flat_map(|party| cast.tokens.iter().map(move |token| (party, *token)))
        {
            let call = Call::Deposit { token, account, amount: COINS / 8, auth: DIRECT };
            // One of them lets the vault take nothing.
            self.make(&Step { sender: account, call }).await;
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
        self.model.state.block = self.chain.height().await + 1;
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
        self.learn_hashes().await;
        invariants::hold(&before, &self.model, step, expected.is_ok());
        if expected.is_ok() {
            reached::note(&before, &self.model, &step.call, &mut self.reached);
        }
        let also: Vec<B256> = step.call.terms().map(|terms| self.model.read(terms).id).into_iter().collect();
        let everything = call.is_multiple_of(EVERYTHING);
        let scope = if everything { Scope::All } else { Scope::Since(&before) };
        let facts = wire::facts(&self.model, &self.parties, scope, &also);
        let differences = self.chain.differences(&facts).await;
        assert!(differences.is_empty(), "after call {call}, {step:#?}:\n{}", differences.join("\n"));
        expected.is_ok()
    }

    /// Nobody foretells the hash of a block that decides a round of the beacon.
    async fn learn_hashes(&mut self) {
        let beacon = &self.model.state.court.beacon;
        let unknown: Vec<u64> =
            beacon.marks.values().filter(|mark| !beacon.hashes.contains_key(mark)).copied().collect();
        for mark in unknown {
            let hash = self.chain.hash(mark).await;
            self.model.state.court.beacon.hashes.insert(mark, hash);
        }
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
        for some in wire::court::facts_of_the_past(&self.model).chunks(200) {
            let differences = self.chain.differences(some).await;
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
        self.no_case_lapses_early(cast.relayer).await;
        self.pass(200_000);
        self.every_case_ends(cast.relayer).await;
        self.every_lease_closes(cast.relayer).await;
        for (device, known) in self.model.state.devices.clone() {
            if self.model.at_stake(device) != 0 && known.unbonding_at.is_none() {
                let call = Call::BeginUnbond { device, account: known.sponsor, auth: DIRECT };
                assert!(self.make(&Step { sender: known.sponsor, call }).await);
            }
        }
        for (seat, known) in self.model.state.court.seats.clone() {
            if known.free_at.is_none() {
                let call = Call::LeaveSeat { seat, auth: DIRECT };
                assert!(self.make(&Step { sender: known.owner, call }).await, "13: seat {seat} leaves");
            }
        }
        self.pass(700_000);
        for seat in self.model.state.court.seats.clone().into_keys() {
            let call = Call::WithdrawSeat { seat };
            assert!(self.make(&Step { sender: cast.relayer, call }).await, "13: seat {seat} is paid out");
        }
        for (device, known) in self.model.state.devices.clone() {
            if known.unbonding_at.is_some() {
                let call = Call::WithdrawStake { device };
                assert!(self.make(&Step { sender: cast.relayer, call }).await);
            }
        }
        for token in cast.tokens.clone() {
            for account in self.parties.clone() {
                let amount = self.model.state.book.of(token, Pot::Balance(account));
                let call = Call::Withdraw { token, account, to: account, amount, auth: DIRECT };
                assert!(self.make(&Step { sender: account, call }).await, "13: {account} leaves");
            }
            let book = &self.model.state.book;
            let gift = Pot::Balance(self.model.setting.court);
            let common =
                book.sum(token, |pot| matches!(pot, Pot::Sink | Pot::Watchers | Pot::Gifts) || *pot == gift);
            assert_eq!(book.held(token), common, "13: only the pools and gifts stay");
        }
        self.sweep().await;
    }

    /// In the last second that a case waits for something, nobody ends it.
    async fn no_case_lapses_early(&mut self, sender: Address) {
        let cases = self.model.state.court.cases.iter();
        let mut waiting: Vec<(u64, B256)> =
            cases.filter_map(|(id, case)| Some((case.until()?, *id))).collect();
        waiting.sort_unstable();
        for (until, case) in waiting {
            let Some(left) = until.checked_sub(self.model.state.now) else { continue };
            self.pass(left);
            let call = Call::Lapse { case };
            assert!(!self.make(&Step { sender, call }).await, "{case} lapses in its last second");
        }
    }

    /// Whatever stage a case is in, anybody ends it.
    async fn every_case_ends(&mut self, sender: Address) {
        for (case, known) in self.model.state.court.cases.clone() {
            if known.until().is_some() {
                assert!(self.make(&Step { sender, call: Call::Lapse { case } }).await, "12: a case lapses");
            }
        }
        self.pass(1_000);
        for (case, known) in self.model.state.court.cases.clone() {
            if known.slash_due {
                assert!(
                    self.make(&Step { sender, call: Call::Execute { case } }).await,
                    "a slash is executed"
                );
            }
            if self.model.find_case(case).is_some_and(|known| known.stage != Stage::Closed) {
                let call = Call::CloseCase { case };
                assert!(self.make(&Step { sender, call }).await, "12: a case closes");
            }
        }
        assert!(self.model.state.court.cases.is_empty(), "12: every case is closed");
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
        self.undisputed_fees_are_credited_or_not(sender).await;
        self.pass(200_000);
        for (_, lease) in self.model.state.leases.clone() {
            let call = Call::ReleaseBond { terms: lease.terms.raw };
            assert!(self.make(&Step { sender, call }).await, "12: anyone closes");
        }
        assert!(self.model.state.leases.is_empty(), "12: every lease is closed");
    }

    /// Whoever asks for a buyer's break fee gets it where the court gives credit, and nowhere else.
    async fn undisputed_fees_are_credited_or_not(&mut self, sender: Address) {
        for (_, lease) in self.model.state.leases.clone() {
            if lease.phase == Phase::Settled && lease.buyer_fee && !lease.disputed {
                self.make(&Step { sender, call: Call::Resolve { terms: lease.terms.raw } }).await;
            }
        }
    }
}

/// A deployment with a court: the leases' contract is made with the address that the court will have.
async fn deploy(chain: &mut Chain, owner: Address) -> Setting {
    let remedies = chain.create(owner, artifacts::remedies(), &[]).await;
    let usd = chain.create(owner, artifacts::test_stablecoin(), &owner.abi_encode()).await;
    let supply = (owner, U256::from(SUPPLY)).abi_encode_params();
    let twd = chain.create(owner, artifacts::network_token(), &supply).await;
    let verdicts = chain.create(owner, artifacts::verdicts(), &[]).await;
    let cases = chain.create(owner, artifacts::cases(), &verdicts.abi_encode()).await;
    let bench = Setup {
        domain: evidence::Court { chain_id: CHAIN_ID, contract: chain.created(owner, 2) },
        beacon: chain.created(owner, 0),
        genesis: chain.now(),
        epoch_span: 40,
        seat_stake: 2_000_003,
        seat_unbonding: 60,
        version_delay: 30,
        period: 3,
        expiry: 1_000,
    };
    let arguments = (bench.genesis, bench.period, bench.expiry, true).abi_encode_params();
    let beacon = chain.create(owner, artifacts::local_beacon(), &arguments).await;
    let expected = bench.domain.contract;
    let arguments = (owner, twd, usd, expected, registry_config(), remedies).abi_encode_params();
    let leases = chain.create(owner, artifacts::leases(), &arguments).await;
    let registry = chain.read(leases, abi::Leases::registryCall {}.abi_encode()).await;
    let registry = Address::abi_decode(&registry).unwrap();
    let setup = judges::Setup {
        leases,
        registry,
        beacon,
        stakeToken: twd,
        feeToken: usd,
        genesis: n40(bench.genesis),
        epochSpan: bench.epoch_span.try_into().unwrap(),
        seatStake: n96(bench.seat_stake),
        seatUnbonding: bench.seat_unbonding.try_into().unwrap(),
        versionDelay: bench.version_delay.try_into().unwrap(),
    };
    let arguments = (owner, setup.clone(), court_parameters(), cases).abi_encode_params();
    let court = chain.create(owner, artifacts::court(), &arguments).await;
    assert_eq!((court, beacon), (expected, bench.beacon), "addresses follow from the deployer's nonce");
    let shown = chain.read(court, judges::Court::setupCall {}.abi_encode()).await;
    assert_eq!(judges::Setup::abi_decode(&shown).unwrap(), setup);
    let contracts = Contracts { chain_id: CHAIN_ID, leases, registry, court: None, attestations: None };
    let names = [(usd, "Tradewind Test Dollar"), (twd, "Tradewind Token")];
    let domains = Domains::new(&contracts, &bench.domain, &names);
    Setting {
        leases,
        registry,
        owner,
        stake_token: twd,
        fee_token: usd,
        stablecoin: usd,
        court,
        bench,
        domains,
    }
}

fn registry_config() -> abi::RegistryConfig {
    abi::RegistryConfig {
        rentPerDay: n96(86_400_000),
        unbonding: 60,
        maxRent: 5_000,
        membership: Address::ZERO,
    }
}

/// Juries small enough for many cases, in the proportions of the real ones.
fn court_parameters() -> CourtParameters {
    CourtParameters {
        jailSeats: 3,
        fullSeats: 6,
        panel: 5,
        committee: 3,
        quorum: 2,
        bench: 3,
        benchQuorum: 2,
        strikes: 2,
        admissible: 3,
        commitWindow: 36,
        voteWindow: 30,
        appealWindow: 20,
        benchWindow: 20,
        freezeSpan: 120,
        deferSpan: 40,
        downBps: 500,
        elementFirstBps: 300,
        elementAgainBps: 5_000,
        equivocationBps: 10_000,
        bondBps: 1_000,
        minBond: n96(1_000),
        transcriptFee: n96(70),
        jail: [20, 40, 80, 160],
    }
}

/// The timings of tests, with spans long enough to meet in the middle.
fn lease_parameters(court: Address) -> abi::Parameters {
    let tests = Timings::Tests.parameters(court);
    abi::Parameters {
        window: 20,
        bondDelay: 40,
        openAhead: 60,
        startAhead: 600,
        maxDuration: 10_000,
        minCapOnDemand: 10,
        minCapSpot: 5,
        minCapReserved: 10,
        feeBps: tests.fee_bps,
        sinkBps: tests.sink_bps,
        answerWindow: 8,
        hardLimit: 150,
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
