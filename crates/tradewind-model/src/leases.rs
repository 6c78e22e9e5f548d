//! Leases as PROTOCOL's table has them: who may do what from which phase, and where the coins go.

use alloy::primitives::{Address, B256};
use alloy::sol_types::SolStruct as _;
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::wallet::typed;

use super::book::Pot;
use super::call::{Call, Promise, n40, n96};
use super::reference::Reference;
use super::refusal::{Refusal, refuse, require};
use super::registry::Claim;
use super::statement::{Auth, Signed};
use super::terms::{RESERVED, SPOT, Terms, share};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Open = 1,
    NoticedUnpaid = 2,
    NoticedReclaim = 3,
    Closing = 4,
    Settled = 5,
    Closed = 6,
}

/// Where a lease's deposit went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) refunded: u128,
    pub(crate) forfeited: u128,
    pub(crate) fee: u128,
    /// What a buyer paid for breaking its reservation.
    pub(crate) buyer_fee: u128,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) terms: Terms,
    /// The version's parameters at opening.
    pub(crate) rules: abi::Parameters,
    pub(crate) phase: Phase,
    pub(crate) paid: u128,
    /// What the provider was credited with, fees deducted.
    pub(crate) earned: u128,
    pub(crate) opened_at: u64,
    pub(crate) notice_at: u64,
    pub(crate) due_at: u64,
    pub(crate) challenged: bool,
    pub(crate) challenges: u32,
    pub(crate) challenged_at: u64,
    pub(crate) disputed: bool,
    pub(crate) dispute_used: bool,
    pub(crate) claim: u128,
    pub(crate) disputed_at: u64,
    pub(crate) provider_fee: bool,
    pub(crate) buyer_fee: bool,
    /// The device served well, so that the buyer owes it.
    pub(crate) buyer_fee_owed: bool,
    pub(crate) defaulted: bool,
    pub(crate) compensated: u128,
    pub(crate) checkpoint_paid: u128,
    pub(crate) checkpoint_at: u64,
    pub(crate) ending: Option<Ending>,
    /// What its bond paid the buyer in the end.
    pub(crate) bond_to_buyer: u128,
    /// It closed with a `last` voucher.
    pub(crate) ended_well: bool,
}

impl Lease {
    fn opened(terms: Terms, rules: abi::Parameters, now: u64) -> Self {
        Self {
            terms,
            rules,
            phase: Phase::Open,
            paid: 0,
            earned: 0,
            opened_at: now,
            notice_at: 0,
            due_at: 0,
            challenged: false,
            challenges: 0,
            challenged_at: 0,
            disputed: false,
            dispute_used: false,
            claim: 0,
            disputed_at: 0,
            provider_fee: false,
            buyer_fee: false,
            buyer_fee_owed: false,
            defaulted: false,
            compensated: 0,
            checkpoint_paid: 0,
            checkpoint_at: 0,
            ending: None,
            bond_to_buyer: 0,
            ended_well: false,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.phase < Phase::Settled
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The fee on a cumulative amount.
    pub(crate) fn fee(&self, paid: u128) -> u128 {
        share(paid, self.rules.feeBps)
    }

    /// The instant that counts: the buyer's wish to close stops the clock.
    pub(crate) fn moment(&self, now: u64) -> u64 {
        if self.phase == Phase::Closing { now.min(self.due_at - u64::from(self.rules.window)) } else { now }
    }

    pub(crate) fn view(&self) -> abi::LeaseView {
        abi::LeaseView {
            state: self.phase as u8,
            paid: n96(self.paid),
            openedAt: n40(self.opened_at),
            noticeAt: n40(self.notice_at),
            dueAt: n40(self.due_at),
            challenged: self.challenged,
            disputed: self.disputed,
            disputeUsed: self.dispute_used,
            providerFeeAside: self.provider_fee,
            buyerFeeAside: self.buyer_fee,
            buyerFeeOwed: self.buyer_fee_owed,
            defaulted: self.defaulted,
            challenges: self.challenges,
            challengedAt: n40(self.challenged_at),
            checkpointPaid: n96(self.checkpoint_paid),
            checkpointAt: n40(self.checkpoint_at),
            compensated: n96(self.compensated),
            claim: n96(self.claim),
            disputedAt: n40(self.disputed_at),
        }
    }
}

impl Reference {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller sends only what belongs here")]
    pub(crate) fn at_leases(&mut self, sender: Address, call: &Call) -> Result<(), Refusal> {
        match call {
            Call::Open { terms, buyer, provider } => {
                let terms = self.read(terms);
                require(terms.raw.parent.is_zero(), "InvalidTerms", &[&terms.id, &PARENT])?;
                self.open(terms, buyer, provider)
            }
            Call::Settle { terms, promise } => self.settle(terms, promise),
            Call::SettleMany { items } => {
                for (terms, promise) in items {
                    // What fails is skipped, and has changed nothing.
                    let _skipped = self.settle(terms, promise);
                }
                Ok(())
            }
            Call::Notice { terms, reclaim, promise, auth } => {
                self.notice(sender, terms, *reclaim, promise, auth)
            }
            Call::Close { terms, promise, auth } => self.close(sender, terms, promise, auth).map(drop),
            Call::Extend { terms, promise, auth, next, buyer, provider } => {
                let well = promise.voucher.last && promise.signed.given();
                require(well, "UnexpectedLast", &[&false])?;
                let parent = self.close(sender, terms, promise, auth)?;
                let next = self.read(next);
                let related = next.raw.parent == parent
                    && (next.buyer(), next.provider()) == (terms.buyer, terms.provider);
                require(related, "InvalidTerms", &[&next.id, &PARENT])?;
                self.open(next, buyer, provider)
            }
            Call::RequestClose { terms, auth } => self.request_close(sender, terms, auth),
            Call::Finalize { terms } => {
                let (id, lease) = self.live(terms)?;
                require(lease.phase == Phase::Closing, "WrongState", &[&id, &(lease.phase as u8)])?;
                self.end_after(id, lease.due_at)
            }
            Call::Expire { terms } => {
                let (id, lease) = self.live(terms)?;
                require(lease.phase != Phase::Closing, "WrongState", &[&id, &(lease.phase as u8)])?;
                let from = lease.terms.end + u64::from(lease.rules.window);
                self.end_after(id, from)
            }
            Call::ReleaseBond { terms } => self.release_bond(terms),
            other => unreachable!("{} is not about leases", other.name()),
        }
    }

    pub(crate) fn read(&self, terms: &abi::LeaseTerms) -> Terms {
        Terms::read(terms, &self.setting.domains)
    }

    /// The lease with these terms, in whatever phase it is.
    pub(crate) fn find(&self, id: B256) -> Option<&Lease> {
        self.state.leases.get(&id).or_else(|| self.closed.get(&id))
    }

    fn lease(&mut self, id: B256) -> &mut Lease {
        self.state.leases.get_mut(&id).expect("a lease that is not closed")
    }

    /// The lease, if its phase is one of those that `which` picks.
    pub(crate) fn in_phase(
        &self,
        terms: &abi::LeaseTerms,
        which: impl Fn(Phase) -> bool,
    ) -> Result<(B256, Lease), Refusal> {
        let id = self.setting.domains.at_leases(terms);
        match self.find(id) {
            Some(lease) if which(lease.phase) => Ok((id, lease.clone())),
            Some(lease) => refuse("WrongState", &[&id, &(lease.phase as u8)]),
            None => refuse("WrongState", &[&id, &0]),
        }
    }

    pub(crate) fn live(&self, terms: &abi::LeaseTerms) -> Result<(B256, Lease), Refusal> {
        self.in_phase(terms, |phase| phase < Phase::Settled)
    }

    fn open(&mut self, terms: Terms, buyer: &Signed, provider: &Signed) -> Result<(), Refusal> {
        let (id, now) = (terms.id, self.state.now);
        if let Some(found) = self.find(id) {
            return refuse("WrongState", &[&id, &(found.phase as u8)]);
        }
        let (token, number) = (terms.token(), terms.raw.version);
        require(self.allowed(token), "TokenNotAllowed", &[&token])?;
        let version = number.checked_sub(1).and_then(|at| self.state.versions.get(at as usize));
        let Some(version) = version.filter(|version| version.active) else {
            return refuse("VersionInactive", &[&number]);
        };
        let rules = version.parameters.clone();
        if let Some(fault) = fault(&terms, &rules, now) {
            return refuse("InvalidTerms", &[&id, &fault]);
        }
        require(buyer.counts(terms.buyer(), id), "InvalidSignature", &[&terms.buyer(), &id])?;
        require(provider.counts(terms.provider(), id), "InvalidSignature", &[&terms.provider(), &id])?;
        self.debit(token, terms.buyer(), Pot::Escrow(id), terms.deposit)?;
        self.debit(token, terms.provider(), Pot::Bond(id), terms.bond)?;
        if !terms.raw.device.is_zero() {
            let tail = u64::from(rules.window) + u64::from(rules.bondDelay) + u64::from(rules.hardLimit);
            self.assign(Claim {
                device: terms.raw.device,
                provider: terms.provider(),
                units: terms.raw.units,
                staked: !terms.raw.unstaked,
                until: terms.end + tail,
            })?;
        }
        self.state.leases.insert(id, Lease::opened(terms, rules, now));
        Ok(())
    }

    fn settle(&mut self, terms: &abi::LeaseTerms, promise: &Promise) -> Result<(), Refusal> {
        let (id, _) = self.live(terms)?;
        self.apply(id, promise)
    }

    /// A meter's voucher raises what is paid; a stale one does nothing.
    fn apply(&mut self, id: B256, promise: &Promise) -> Result<(), Refusal> {
        let Promise { voucher, signed } = promise;
        let lease = self.lease(id).clone();
        require(!voucher.last, "UnexpectedLast", &[&true])?;
        require(voucher.lease == id, "WrongLease", &[&id, &voucher.lease])?;
        let cumulative = voucher.cumulative.to::<u128>();
        if cumulative <= lease.paid {
            return Ok(());
        }
        let digest = self.check_voucher(&lease, voucher)?;
        let meter = lease.terms.raw.meter;
        require(signed.counts(meter, digest), "InvalidSignature", &[&meter, &digest])?;
        self.raise(id, cumulative);
        self.tell(&abi::Leases::VoucherSettled { id, paid: n96(cumulative) });
        let covers = cumulative >= lease.terms.due(lease.notice_at, 0);
        if lease.phase == Phase::NoticedUnpaid && covers {
            self.lease(id).phase = Phase::Open;
            self.tell(&abi::Leases::NoticeCured { id });
        }
        Ok(())
    }

    fn check_voucher(&self, lease: &Lease, voucher: &abi::Voucher) -> Result<B256, Refusal> {
        let moment = lease.moment(self.state.now);
        let (not_before, cumulative) = (voucher.notBefore.to::<u64>(), voucher.cumulative.to::<u128>());
        require(not_before <= moment, "VoucherNotYetValid", &[&not_before, &moment])?;
        let (prepay, cap) = (lease.terms.prepay, lease.terms.cap(moment));
        let within = (prepay..=cap).contains(&cumulative);
        require(within, "CumulativeOutOfRange", &[&cumulative, &prepay, &cap])?;
        Ok(self.setting.domains.at_leases(voucher))
    }

    /// The provider gets the difference, less the difference of the fees on both amounts.
    fn raise(&mut self, id: B256, cumulative: u128) {
        let lease = self.lease(id);
        if cumulative <= lease.paid {
            return;
        }
        let net = |paid: u128| paid - lease.fee(paid);
        let earned = net(cumulative) - net(lease.paid);
        lease.paid = cumulative;
        lease.earned += earned;
        let (token, provider) = (lease.terms.token(), lease.terms.provider());
        self.pay(token, Pot::Escrow(id), Pot::Balance(provider), earned);
    }

    fn notice(
        &mut self,
        sender: Address,
        terms: &abi::LeaseTerms,
        reclaim: bool,
        promise: &Promise,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        let (id, lease) = self.in_phase(terms, |phase| phase == Phase::Open)?;
        let (now, previous) = (self.state.now, lease.notice_at);
        let statement = typed::Notice {
            lease: id,
            reason: u8::from(reclaim),
            previous: n40(previous),
            deadline: n40(auth.deadline),
        };
        let digest = self.setting.domains.at_leases(&statement);
        self.consent(sender, lease.terms.provider(), digest, auth)?;
        if reclaim {
            require(lease.terms.raw.kind == SPOT, "InvalidTerms", &[&id, &KIND])?;
        } else {
            let again = previous + lease.terms.slack;
            require(previous == 0 || now >= again, "TooEarly", &[&again, &now])?;
            if promise.signed.given() {
                self.apply(id, promise)?;
            }
            let (paid, due) = (self.lease(id).paid, lease.terms.due(now, lease.terms.slack));
            require(paid < due, "NotOwed", &[&paid, &due])?;
        }
        let lease = self.lease(id);
        lease.phase = if reclaim { Phase::NoticedReclaim } else { Phase::NoticedUnpaid };
        lease.notice_at = now;
        Ok(())
    }

    fn request_close(
        &mut self,
        sender: Address,
        terms: &abi::LeaseTerms,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        let (id, lease) = self.in_phase(terms, |phase| phase < Phase::Closing)?;
        let now = self.state.now;
        let statement = typed::RequestClose { lease: id, deadline: n40(auth.deadline) };
        let digest = self.setting.domains.at_leases(&statement);
        self.consent(sender, lease.terms.buyer(), digest, auth)?;
        let breaks = lease.terms.raw.kind == RESERVED && lease.terms.buyer_break_fee != 0;
        let lease = self.lease(id);
        lease.phase = Phase::Closing;
        lease.due_at = now + u64::from(lease.rules.window);
        lease.buyer_fee = breaks && now < lease.terms.end;
        Ok(())
    }

    fn close(
        &mut self,
        sender: Address,
        terms: &abi::LeaseTerms,
        promise: &Promise,
        auth: &Auth,
    ) -> Result<B256, Refusal> {
        let (id, lease) = self.live(terms)?;
        let given = promise.signed.given();
        let voucher = if given { promise.voucher.eip712_hash_struct() } else { B256::ZERO };
        let statement = typed::Close { lease: id, voucher, deadline: n40(auth.deadline) };
        let digest = self.setting.domains.at_leases(&statement);
        self.consent(sender, lease.terms.provider(), digest, auth)?;
        if given && promise.voucher.last {
            self.close_well(id, &lease, promise)?;
            return Ok(id);
        }
        require(!lease.challenged, "ChallengePending", &[&id])?;
        if given {
            self.apply(id, promise)?;
        }
        let now = self.state.now;
        let lease = self.lease(id);
        lease.provider_fee = lease.terms.provider_break_fee != 0 && leaves_early(lease, now);
        self.end_work(id);
        Ok(id)
    }

    /// Both sides are content: no break fee, no quarrel but an open dispute, which keeps the bond.
    fn close_well(&mut self, id: B256, lease: &Lease, promise: &Promise) -> Result<(), Refusal> {
        let Promise { voucher, signed } = promise;
        require(voucher.lease == id, "WrongLease", &[&id, &voucher.lease])?;
        let digest = self.check_voucher(lease, voucher)?;
        let (buyer, raw) = (lease.terms.buyer(), &lease.terms.raw);
        let by_meter = raw.meterMaySignLast && signed.counts(raw.meter, digest);
        require(by_meter || signed.counts(buyer, digest), "InvalidSignature", &[&buyer, &digest])?;
        self.raise(id, voucher.cumulative.to());
        let token = lease.terms.token();
        if lease.challenged {
            let bond = self.state.book.of(token, Pot::Challenge(id));
            self.pay(token, Pot::Challenge(id), Pot::Balance(buyer), bond);
        }
        let known = self.lease(id);
        known.challenged = false;
        known.buyer_fee = false;
        let due_at = known.due_at;
        self.end_work(id);
        if !lease.disputed {
            let known = self.lease(id);
            known.due_at = due_at;
            known.ended_well = true;
            self.return_bond(id);
        }
        Ok(())
    }

    fn end_after(&mut self, id: B256, from: u64) -> Result<(), Refusal> {
        let now = self.state.now;
        require(now >= from, "TooEarly", &[&from, &now])?;
        require(!self.lease(id).challenged, "ChallengePending", &[&id])?;
        self.end_work(id);
        Ok(())
    }

    /// Payments are final: fees and a forfeited prepayment leave the escrow, the buyer has the rest.
    pub(crate) fn end_work(&mut self, id: B256) {
        let now = self.state.now;
        let lease = self.lease(id).clone();
        let (terms, token) = (&lease.terms, lease.terms.token());
        let fee = lease.fee(lease.paid);
        let to_sink = share(fee, lease.rules.sinkBps);
        let forfeited = if lease.paid == 0 && !lease.defaulted { terms.prepay } else { 0 };
        let aside = if lease.buyer_fee { terms.buyer_break_fee } else { 0 };
        self.pay(token, Pot::Escrow(id), Pot::Sink, to_sink + forfeited);
        self.pay(token, Pot::Escrow(id), Pot::Watchers, fee - to_sink);
        self.pay(token, Pot::Escrow(id), Pot::Aside(id), aside);
        let refunded = self.state.book.of(token, Pot::Escrow(id));
        self.pay(token, Pot::Escrow(id), Pot::Balance(terms.buyer()), refunded);
        self.release(terms.raw.device, terms.raw.units);
        let known = self.lease(id);
        known.phase = Phase::Settled;
        known.due_at = now + u64::from(known.rules.bondDelay);
        known.ending = Some(Ending { refunded, forfeited, fee, buyer_fee: 0 });
    }

    fn release_bond(&mut self, terms: &abi::LeaseTerms) -> Result<(), Refusal> {
        let (id, lease) = self.in_phase(terms, |phase| phase == Phase::Settled)?;
        let now = self.state.now;
        require(now >= lease.due_at, "TooEarly", &[&lease.due_at, &now])?;
        let (token, buyer) = (lease.terms.token(), lease.terms.buyer());
        if lease.disputed {
            let held_until = lease.disputed_at + u64::from(lease.rules.hardLimit);
            require(now >= held_until, "DisputePending", &[&id])?;
            let bond = self.state.book.of(token, Pot::Dispute(id));
            self.pay(token, Pot::Dispute(id), Pot::Balance(buyer), bond);
            self.lease(id).disputed = false;
            self.tell(&abi::Leases::DisputeEnded { id, verdict: 0, award: n96(0), bondToBuyer: n96(bond) });
        }
        let aside = self.state.book.of(token, Pot::Aside(id));
        let owed = if lease.buyer_fee_owed { aside } else { 0 };
        self.pay(token, Pot::Aside(id), Pot::Balance(lease.terms.provider()), owed);
        self.pay(token, Pot::Aside(id), Pot::Balance(buyer), aside - owed);
        if let Some(ending) = &mut self.lease(id).ending {
            ending.refunded += aside - owed;
            ending.buyer_fee = owed;
        }
        let fee = if lease.provider_fee { lease.terms.provider_break_fee } else { 0 };
        self.pay(token, Pot::Bond(id), Pot::Balance(buyer), fee);
        self.lease(id).bond_to_buyer += fee;
        self.return_bond(id);
        Ok(())
    }

    /// What the bond did not pay goes back, and the lease is over.
    fn return_bond(&mut self, id: B256) {
        let lease = self.lease(id);
        lease.phase = Phase::Closed;
        let (token, provider) = (lease.terms.token(), lease.terms.provider());
        let left = self.state.book.of(token, Pot::Bond(id));
        self.pay(token, Pot::Bond(id), Pot::Balance(provider), left);
        self.tell_closed(id);
    }

    fn tell_closed(&mut self, id: B256) {
        let lease = self.lease(id);
        let Ending { refunded, forfeited, fee, buyer_fee } = lease.ending.expect("a settled lease");
        let told = abi::Leases::LeaseClosed {
            id,
            paid: n96(lease.paid),
            refunded: n96(refunded),
            forfeited: n96(forfeited),
            fee: n96(fee),
            buyerFee: n96(buyer_fee),
            bondToBuyer: n96(lease.bond_to_buyer),
        };
        self.tell(&told);
    }

    pub(crate) fn tell(&mut self, event: &impl alloy::sol_types::SolEvent) {
        self.state.told.push(event.encode_log_data());
    }
}

const PARENT: u8 = 11;
const KIND: u8 = 1;

/// The provider leaves before the end, unwarned and unasked.
fn leaves_early(lease: &Lease, now: u64) -> bool {
    let matured = now >= lease.notice_at + lease.terms.notice;
    let excused = match lease.phase {
        Phase::Closing => true,
        Phase::NoticedUnpaid | Phase::NoticedReclaim => matured,
        Phase::Open | Phase::Settled | Phase::Closed => false,
    };
    now < lease.terms.end && !excused
}

/// The first thing that is wrong with terms by themselves, as the contract numbers it.
fn fault(terms: &Terms, rules: &abi::Parameters, now: u64) -> Option<u8> {
    let raw = &terms.raw;
    let ahead = u64::from(rules.openAhead);
    let listed = !raw.device.is_zero();
    let least_cap = match raw.kind {
        0 => rules.minCapOnDemand,
        SPOT => rules.minCapSpot,
        RESERVED => rules.minCapReserved,
        _ => 0,
    };
    let wrong = [
        (0, terms.buyer() == terms.provider() || raw.meter == Address::ZERO),
        (KIND, raw.kind > RESERVED),
        (5, listed != (raw.units != 0) || (!listed && !raw.unstaked)),
        (2, now > terms.open_by || terms.open_by > now + ahead),
        (3, terms.start + ahead < now || terms.start > now + u64::from(rules.startAhead)),
        (4, terms.end <= terms.start || terms.end <= now),
        (4, terms.end.saturating_sub(terms.start) > u64::from(rules.maxDuration)),
        (6, terms.prepay > terms.deposit.min(terms.worth(terms.slack))),
        (7, terms.deposit < terms.prepay + terms.buyer_break_fee),
        (8, terms.bond < terms.compensation_cap + terms.provider_break_fee),
        (9, terms.compensation_cap < terms.worth(u64::from(least_cap))),
        (10, terms.buyer_break_fee != 0 && raw.kind != RESERVED),
    ];
    wrong.into_iter().find(|(_, holds)| *holds).map(|(fault, _)| fault)
}
