//! Random calls: mostly plausible, a good share hostile, all from one seed.
//!
//! A draw looks at the model to find what could succeed, and then may twist one thing about it.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, U256, Uint};
use alloy::sol_types::SolStruct;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tradewind_proto::signature::SigningKey;

use self::cases::{Charge, Plan};
use super::call::{Call, Step, n40};
use super::leases::Lease;
use super::reference::Reference;
use super::registry::Device;
use super::statement::{Auth, Form, Signed};

mod cases;
mod lease;
mod money;
mod proofs;
mod registry;
mod seats;
mod terms;

/// Steps that may be sent again.
const HISTORY: usize = 300;

/// Who acts.
#[derive(Debug, Clone)]
pub(crate) struct Cast {
    pub(crate) owner: Address,
    pub(crate) buyers: Vec<Address>,
    pub(crate) providers: Vec<Address>,
    pub(crate) sponsor: Address,
    pub(crate) relayer: Address,
    pub(crate) meters: Vec<Address>,
    /// Who takes seats.
    pub(crate) watchers: Vec<Address>,
    pub(crate) seat_keys: Vec<Address>,
    pub(crate) device_keys: Vec<Address>,
    pub(crate) tokens: Vec<Address>,
}

impl Cast {
    pub(crate) fn everyone(&self) -> Vec<Address> {
        let named = [self.owner, self.sponsor, self.relayer];
        [&named[..], &self.buyers, &self.providers, &self.meters, &self.watchers].concat()
    }
}

pub(crate) struct Draw<'a> {
    random: ChaCha8Rng,
    cast: &'a Cast,
    key: &'a dyn Fn(Address) -> SigningKey,
    /// A relayer that sends everything, while calls are drawn for it.
    via: Option<Address>,
    nonces: u64,
    history: Vec<Step>,
    /// Accusations that are announced, or about to be.
    charges: Vec<Charge>,
    /// How cases are to go, and what seats committed to in them.
    plans: BTreeMap<B256, Plan>,
    /// Proofs whose reporters announced them.
    proofs: Vec<(B256, Call)>,
}

type Drawn<'a> = fn(&mut Draw<'a>, &Reference) -> Option<Step>;

impl<'a> Draw<'a> {
    pub(crate) fn new(seed: u64, cast: &'a Cast, key: &'a dyn Fn(Address) -> SigningKey) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self {
            random,
            cast,
            key,
            via: None,
            nonces: 0,
            history: Vec::new(),
            charges: Vec::new(),
            plans: BTreeMap::new(),
            proofs: Vec::new(),
        }
    }

    /// The next call. A draw that finds nothing to do gives way to another.
    pub(crate) fn step(&mut self, model: &Reference) -> Step {
        if !self.history.is_empty() && self.one_in(25) {
            let mut step = self.pick(&self.history.clone());
            if self.one_in(2) {
                step.sender = self.anyone();
            }
            return step;
        }
        let step = loop {
            let drawn = self.kind(model);
            if let Some(step) = drawn(self, model) {
                break step;
            }
        };
        if self.history.len() == HISTORY {
            let at = self.below(HISTORY as u64);
            self.history.swap_remove(usize::try_from(at).expect("an index"));
        }
        self.history.push(step.clone());
        step
    }

    /// Seconds that pass before the next call; often up to the very second at which something becomes possible.
    pub(crate) fn pause(&mut self, model: &Reference) -> u64 {
        let now = model.state.now;
        // Cases are short: while one can go on, time mostly stands.
        match self.next_wake(model) {
            Some(at) if at <= now && !self.one_in(14) => return 0,
            Some(at) if self.one_in(3) => return at.saturating_sub(now).min(50),
            _ => {}
        }
        let edge = Self::edges(model).map(|(at, _)| at).filter(|at| *at >= now).min();
        if let Some(at) = edge.filter(|at| *at <= now + 50)
            && self.one_in(12)
        {
            return at - now;
        }
        match self.below(40) {
            0..=21 => 0,
            22..=33 => self.below(4),
            34 => self.below(60),
            _ => {
                let now = model.state.now;
                let moments = self.moments(model);
                let at = moments.get(self.index(moments.len().max(1))).copied().unwrap_or(now);
                let at = if self.one_in(3) { at.saturating_sub(1) } else { at };
                at.saturating_sub(now).min(50)
            }
        }
    }

    fn moments(&mut self, model: &Reference) -> Vec<u64> {
        let leases: Vec<_> = model.state.leases.values().collect();
        if leases.is_empty() {
            return Vec::new();
        }
        let lease = leases[self.index(leases.len())];
        let (terms, rules) = (&lease.terms, &lease.rules);
        let all = [
            terms.start,
            terms.end,
            terms.end + u64::from(rules.window),
            lease.due_at,
            lease.notice_at + terms.notice,
            lease.notice_at + terms.slack,
            lease.challenged_at + u64::from(rules.answerWindow),
            lease.challenged_at + u64::from(rules.answerWindow) + 1,
            lease.disputed_at + u64::from(rules.hardLimit),
            terms.start + u64::from(rules.refundWindow),
        ];
        all.into_iter().filter(|at| *at > model.state.now).collect()
    }

    /// What anyone does in the market, and how often beside other things.
    const fn market() -> [(u64, Drawn<'a>); 40] {
        [
            (20, Self::open),
            (16, Self::settle),
            (2, Self::settle_many),
            (6, Self::notice),
            (8, Self::close),
            (4, Self::extend),
            (8, Self::request_close),
            (5, Self::finalize),
            (3, Self::expire),
            (8, Self::release_bond),
            (6, Self::challenge),
            (5, Self::answer),
            (3, Self::defaulted),
            (3, Self::acknowledge),
            (4, Self::dispute),
            (8, Self::resolve),
            (3, Self::deposit),
            (2, Self::deposit_with_permit),
            (2, Self::deposit_with_authorization),
            (3, Self::withdraw),
            (2, Self::pay_fee),
            (1, Self::cancel_nonce),
            (1, Self::burn_sink),
            (2, Self::donate),
            (2, Self::set_token),
            (1, Self::add_version),
            (1, Self::set_version_active),
            (4, Self::relay),
            (1, Self::register),
            (1, Self::update_account),
            (2, Self::add_device),
            (2, Self::set_sponsor),
            (4, Self::stake),
            (4, Self::pay_rent),
            (2, Self::begin_unbond),
            (2, Self::withdraw_stake),
            (1, Self::qualify),
            (1, Self::slash),
            (1, Self::jail),
            (4, Self::rule),
        ]
    }

    /// What is done about trust.
    const fn trust() -> [(u64, Drawn<'a>); 19] {
        [
            (190, Self::case),
            (12, Self::stray),
            (60, Self::harm),
            (8, Self::census),
            (14, Self::join_seat),
            (2, Self::leave_seat),
            (3, Self::withdraw_seat),
            (4, Self::advance),
            (1, Self::announce),
            (2, Self::add_court_version),
            (2, Self::transfer),
            (1, Self::forfeit),
            (3, Self::allow),
            (2, Self::take_from),
            (1, Self::reward_watchers),
            (6, Self::prove_element),
            (1, Self::prove_roots),
            (2, Self::prove_statements),
            (1, Self::prove_votes),
        ]
    }

    /// What a market needs before anything can befall it.
    const fn ground() -> [(u64, Drawn<'a>); 5] {
        [(3, Self::add_device), (3, Self::stake), (2, Self::pay_rent), (2, Self::join_seat), (4, Self::open)]
    }

    /// Not every provider has a device at work, with something at stake.
    fn is_bare(&self, model: &Reference) -> bool {
        let works = |(id, device): (&B256, &Device)| {
            let at_work = |lease: &Lease| lease.is_live() && lease.terms.raw.device == *id;
            let lent = device.jailed_until <= model.state.now && model.state.leases.values().any(at_work);
            (lent && model.at_stake(*id) != 0).then_some(device.provider)
        };
        let owners: BTreeSet<Address> = model.state.devices.iter().filter_map(works).collect();
        owners.len() < self.cast.providers.len()
    }

    fn kind(&mut self, model: &Reference) -> Drawn<'a> {
        let now = model.state.now;
        let edge = Self::edges(model).find(|(at, _)| *at == now);
        if let Some((_, drawn)) = edge.filter(|_| self.one_in(3)) {
            return drawn;
        }
        let ground = self.is_bare(model) && self.one_in(6);
        let kinds = || {
            let all = Self::market().into_iter().chain(Self::trust());
            all.filter(move |_| !ground).chain(Self::ground().into_iter().filter(move |_| ground))
        };
        let total = kinds().map(|(weight, _)| weight).sum();
        let mut at = self.below(total);
        for (weight, drawn) in kinds() {
            if at < weight {
                return drawn;
            }
            at -= weight;
        }
        Self::settle
    }

    // --- chance -----------------------------------------------------------------------------------------------

    fn below(&mut self, limit: u64) -> u64 {
        self.random.next_u64() % limit
    }

    fn amount(&mut self, most: u128) -> u128 {
        let drawn = u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64());
        drawn % (most + 1)
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("an index")
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())].clone()
    }

    fn word(&mut self) -> B256 {
        let mut word = B256::ZERO;
        self.random.fill_bytes(word.as_mut_slice());
        word
    }

    fn anyone(&mut self) -> Address {
        let everyone = self.cast.everyone();
        self.pick(&everyone)
    }

    fn sender(&mut self) -> Address {
        self.via.unwrap_or_else(|| self.anyone())
    }

    fn token(&mut self) -> Address {
        // Mostly the first, so that balances meet.
        if self.one_in(4) { self.cast.tokens[1] } else { self.cast.tokens[0] }
    }

    // --- consent ----------------------------------------------------------------------------------------------

    fn nonce(&mut self) -> U256 {
        self.nonces += 1;
        let nonce = if self.one_in(12) { self.below(self.nonces) } else { self.nonces };
        U256::from(nonce)
    }

    fn form(&mut self) -> Form {
        match self.below(60) {
            0 => Form::Twin,
            1 => Form::Cut,
            2 => Form::Absent,
            _ => Form::Plain,
        }
    }

    /// A signature by `by` under `digest`, mostly.
    fn signed(&mut self, by: Address, digest: B256) -> Signed {
        let by = if self.one_in(40) { self.anyone() } else { by };
        let digest = if self.one_in(60) { self.word() } else { digest };
        Signed { by, digest, form: self.form() }
    }

    /// The account sends its action itself, or somebody sends what it signed.
    fn consent<T: SolStruct>(
        &mut self,
        model: &Reference,
        account: Address,
        digest: impl Fn(&Reference, &T) -> B256,
        statement: impl Fn(U256, Uint<40, 1>) -> T,
    ) -> (Address, Auth) {
        let now = model.state.now;
        let nonce = self.nonce();
        if self.via.is_none() && self.one_in(3) {
            return (account, Auth { nonce, deadline: 0, signed: Signed::ABSENT });
        }
        let deadline = if self.one_in(20) { now - 1 } else { now + self.below(60) };
        let said = if self.one_in(40) { deadline + 1 } else { deadline };
        let signed = self.signed(account, digest(model, &statement(nonce, n40(said))));
        (self.sender(), Auth { nonce, deadline, signed })
    }

    fn at_leases<T: SolStruct>(
        &mut self,
        model: &Reference,
        account: Address,
        statement: impl Fn(U256, Uint<40, 1>) -> T,
    ) -> (Address, Auth) {
        let elsewhere = self.one_in(60);
        let digest = move |model: &Reference, said: &T| {
            let domains = &model.setting.domains;
            if elsewhere { domains.at_registry(said) } else { domains.at_leases(said) }
        };
        self.consent(model, account, digest, statement)
    }

    fn at_registry<T: SolStruct>(
        &mut self,
        model: &Reference,
        account: Address,
        statement: impl Fn(U256, Uint<40, 1>) -> T,
    ) -> (Address, Auth) {
        let elsewhere = self.one_in(60);
        let digest = move |model: &Reference, said: &T| {
            let domains = &model.setting.domains;
            if elsewhere { domains.at_leases(said) } else { domains.at_registry(said) }
        };
        self.consent(model, account, digest, statement)
    }
}

fn step(sender: Address, call: Call) -> Option<Step> {
    Some(Step { sender, call })
}
