//! Challenges, checkpoints and disputes, and what the court says about them.

use alloy::primitives::{Address, B256};
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::wallet::typed;

use super::book::Pot;
use super::call::{Call, n40, n96};
use super::court::verdicts::Ruling;
use super::leases::{Lease, Phase};
use super::reference::Reference;
use super::refusal::{Refusal, refuse, require};
use super::statement::{Auth, Signed};
use super::terms::share_up;

impl Reference {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller sends only what belongs here")]
    pub(crate) fn at_remedies(&mut self, sender: Address, call: &Call) -> Result<(), Refusal> {
        match call {
            Call::Challenge { terms, auth } => self.challenge(sender, terms, auth),
            Call::Answer { terms, auth } => self.answer(sender, terms, auth),
            Call::Defaulted { terms } => self.defaulted(terms),
            Call::Acknowledge { terms, record, provider, buyer } => {
                self.acknowledge(terms, record, provider, buyer)
            }
            Call::Dispute { terms, claim, evidence, auth } => {
                self.dispute(sender, terms, *claim, *evidence, auth)
            }
            Call::Resolve { terms } => self.resolve(terms),
            other => unreachable!("{} is no remedy", other.name()),
        }
    }

    fn with_lease(&mut self, id: B256, change: impl FnOnce(&mut Lease)) {
        change(self.state.leases.get_mut(&id).expect("a lease that is not closed"));
    }

    fn challenge(&mut self, sender: Address, terms: &abi::LeaseTerms, auth: &Auth) -> Result<(), Refusal> {
        let (id, lease) = self.live(terms)?;
        let (now, sequence) = (self.state.now, lease.challenges);
        let statement = typed::Challenge { lease: id, sequence, deadline: n40(auth.deadline) };
        let digest = self.setting.domains.at_leases(&statement);
        let (buyer, token) = (lease.terms.buyer(), lease.terms.token());
        self.consent(sender, buyer, digest, auth)?;
        require(!lease.challenged, "ChallengePending", &[&id])?;
        require(now >= lease.terms.start, "TooEarly", &[&lease.terms.start, &now])?;
        let until = if lease.phase == Phase::Closing {
            lease.due_at
        } else {
            lease.terms.end + u64::from(lease.rules.window)
        };
        require(now < until, "TooLate", &[&until, &now])?;
        let bond = lease.terms.bond_of(lease.rules.challengeSpan.into());
        self.debit(token, buyer, Pot::Challenge(id), bond)?;
        self.with_lease(id, |lease| {
            lease.challenged = true;
            lease.challenged_at = now;
            lease.challenges += 1;
        });
        Ok(())
    }

    fn challenged(&self, terms: &abi::LeaseTerms) -> Result<(B256, Lease), Refusal> {
        let id = self.setting.domains.at_leases(terms);
        match self.find(id).filter(|lease| lease.challenged) {
            Some(lease) => Ok((id, lease.clone())),
            None => refuse("NoChallenge", &[&id]),
        }
    }

    fn answer(&mut self, sender: Address, terms: &abi::LeaseTerms, auth: &Auth) -> Result<(), Refusal> {
        let (id, lease) = self.challenged(terms)?;
        let now = self.state.now;
        let statement =
            typed::Answer { lease: id, challengedAt: n40(lease.challenged_at), deadline: n40(auth.deadline) };
        let digest = self.setting.domains.at_leases(&statement);
        let (provider, token) = (lease.terms.provider(), lease.terms.token());
        self.consent(sender, provider, digest, auth)?;
        let until = lease.challenged_at + u64::from(lease.rules.answerWindow);
        require(now <= until, "TooLate", &[&until, &now])?;
        let bond = self.state.book.of(token, Pot::Challenge(id));
        self.pay(token, Pot::Challenge(id), Pot::Balance(provider), bond);
        self.with_lease(id, |lease| lease.challenged = false);
        Ok(())
    }

    fn defaulted(&mut self, terms: &abi::LeaseTerms) -> Result<(), Refusal> {
        let (id, lease) = self.challenged(terms)?;
        let now = self.state.now;
        let from = lease.challenged_at + u64::from(lease.rules.answerWindow) + 1;
        require(now >= from, "TooEarly", &[&from, &now])?;
        let (buyer, provider, token) = (lease.terms.buyer(), lease.terms.provider(), lease.terms.token());
        let repeated = self.failed_lately(id);
        self.state.failures.insert((buyer, provider), now);

        let room = lease.terms.compensation_cap - lease.compensated;
        let compensation = compensation(&lease, repeated).min(room);
        self.pay(token, Pot::Bond(id), Pot::Balance(buyer), compensation);
        let bond = self.state.book.of(token, Pot::Challenge(id));
        self.pay(token, Pot::Challenge(id), Pot::Balance(buyer), bond);
        self.tell(&abi::Leases::LeaseDefaulted { id, compensation: n96(compensation), repeated });
        self.with_lease(id, |lease| {
            lease.challenged = false;
            lease.buyer_fee = false;
            lease.defaulted = true;
            lease.compensated += compensation;
            lease.bond_to_buyer += compensation;
        });
        self.end_work(id);
        Ok(())
    }

    fn acknowledge(
        &mut self,
        terms: &abi::LeaseTerms,
        record: &abi::CheckpointRecord,
        provider: &Signed,
        buyer: &Signed,
    ) -> Result<(), Refusal> {
        let (id, lease) = self.live(terms)?;
        require(record.lease == id, "WrongLease", &[&id, &record.lease])?;
        let (at, paid_at) = (record.at.to::<u64>(), record.paidAt.to::<u128>());
        let newer = at > lease.checkpoint_at && at <= self.state.now;
        let grows = (lease.checkpoint_paid..=lease.terms.deposit).contains(&paid_at);
        require(newer && grows, "StaleCheckpoint", &[&at, &paid_at])?;
        let digest = self.setting.domains.at_leases(record);
        let parties = (lease.terms.provider(), lease.terms.buyer());
        require(provider.counts(parties.0, digest), "InvalidSignature", &[&parties.0, &digest])?;
        let agreed = buyer.counts(lease.terms.raw.meter, digest) || buyer.counts(parties.1, digest);
        require(agreed, "InvalidSignature", &[&parties.1, &digest])?;
        self.with_lease(id, |lease| {
            lease.checkpoint_at = at;
            lease.checkpoint_paid = paid_at;
        });
        Ok(())
    }

    fn dispute(
        &mut self,
        sender: Address,
        terms: &abi::LeaseTerms,
        claim: u128,
        evidence: B256,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        let (id, lease) = self.in_phase(terms, |phase| phase != Phase::Closed)?;
        let now = self.state.now;
        let statement =
            typed::Dispute { lease: id, claim: n96(claim), evidence, deadline: n40(auth.deadline) };
        let digest = self.setting.domains.at_leases(&statement);
        let (buyer, token) = (lease.terms.buyer(), lease.terms.token());
        self.consent(sender, buyer, digest, auth)?;
        require(!lease.dispute_used, "DisputeAlreadyUsed", &[&id])?;
        let late = lease.phase == Phase::Settled && now >= lease.due_at;
        require(!late, "TooLate", &[&lease.due_at, &now])?;
        let room = lease.terms.compensation_cap - lease.compensated;
        require((1..=room).contains(&claim), "ClaimOutOfRange", &[&claim, &room])?;
        let bond = share_up(claim, lease.rules.disputeBps);
        self.debit(token, buyer, Pot::Dispute(id), bond)?;
        self.with_lease(id, |lease| {
            lease.disputed = true;
            lease.dispute_used = true;
            lease.claim = claim;
            lease.disputed_at = now;
        });
        Ok(())
    }

    /// The court's ruling on a dispute, and its credit for a broken reservation; without either, nothing.
    fn resolve(&mut self, terms: &abi::LeaseTerms) -> Result<(), Refusal> {
        let (id, lease) = self.in_phase(terms, |phase| phase != Phase::Closed)?;
        let ruling = if lease.disputed { self.ruling(id) } else { Ruling::Unknown };
        let ended = lease.due_at.saturating_sub(u64::from(lease.rules.bondDelay));
        let owed = lease.phase == Phase::Settled
            && lease.buyer_fee
            && !lease.buyer_fee_owed
            && self.uptime_credit(lease.terms.raw.device, lease.terms.start, ended);
        require(ruling != Ruling::Unknown || owed, "NoRuling", &[&id])?;
        self.end_dispute(id, &lease, ruling);
        if owed {
            self.with_lease(id, |lease| lease.buyer_fee_owed = true);
            self.tell(&abi::Leases::BuyerFeeOwed { id });
        }
        Ok(())
    }

    /// The buyer's claim comes out of this lease's bond; a provider in the right gets the buyer's.
    fn end_dispute(&mut self, id: B256, lease: &Lease, ruling: Ruling) {
        let (token, bond) = (lease.terms.token(), self.state.book.of(lease.terms.token(), Pot::Dispute(id)));
        let (buyer, provider) = (lease.terms.buyer(), lease.terms.provider());
        let (verdict, award, to_buyer) = match ruling {
            Ruling::Unknown => return,
            Ruling::ForProvider => (2, 0, 0),
            Ruling::ForBuyer(award) => {
                let room = lease.terms.compensation_cap - lease.compensated;
                (1, award.min(lease.claim).min(room), bond)
            }
        };
        self.pay(token, Pot::Dispute(id), Pot::Balance(buyer), to_buyer);
        self.pay(token, Pot::Dispute(id), Pot::Balance(provider), bond - to_buyer);
        self.pay(token, Pot::Bond(id), Pot::Balance(buyer), award);
        if verdict == 1 {
            self.state.failures.insert((buyer, provider), self.state.now);
        }
        self.with_lease(id, |lease| {
            lease.disputed = false;
            lease.compensated += award;
            lease.bond_to_buyer += award;
        });
        let (award, to_buyer) = (n96(award), n96(to_buyer));
        self.tell(&abi::Leases::DisputeEnded { id, verdict, award, bondToBuyer: to_buyer });
    }
}

/// What was lost since the last checkpoint, at most a span's worth, and a bonus; a failure at once returns all that
/// was paid and no more, and a pair that fails again gets no bonus.
fn compensation(lease: &Lease, repeated: bool) -> u128 {
    let (terms, rules) = (&lease.terms, &lease.rules);
    let began = terms.start.max(lease.opened_at);
    if lease.challenged_at < began + u64::from(rules.refundWindow) {
        return lease.paid;
    }
    let lost = lease.paid.saturating_sub(lease.checkpoint_paid);
    let bonus = if repeated { 0 } else { terms.worth(rules.bonusSpan.into()) };
    lost.min(terms.worth(rules.compensationSpan.into())) + bonus
}
