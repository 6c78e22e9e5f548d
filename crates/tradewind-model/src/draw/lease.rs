//! Calls about leases that run, or ran.

use alloy::primitives::B256;
use alloy::sol_types::SolStruct as _;
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::wallet::typed;

use super::super::call::{Call, Promise, Step, n40, n96};
use super::super::court::verdicts::Ruling;
use super::super::leases::{Lease, Phase};
use super::super::reference::Reference;
use super::super::statement::Signed;
use super::super::terms::{RESERVED, SPOT};
use super::{Draw, Drawn, step};

impl<'a> Draw<'a> {
    /// A lease that fits the purpose, mostly; and its terms, now and then with one number changed.
    pub(super) fn lease(
        &mut self,
        model: &Reference,
        fits: impl Fn(&Lease) -> bool,
    ) -> Option<(Lease, abi::LeaseTerms)> {
        let open: Vec<&Lease> = model.state.leases.values().collect();
        let fitting: Vec<&Lease> = open.iter().copied().filter(|lease| fits(lease)).collect();
        let lease = match self.below(12) {
            0 if !model.closed.is_empty() => {
                let closed: Vec<&Lease> = model.closed.values().collect();
                closed[self.index(closed.len())]
            }
            1 | 2 if !open.is_empty() => open[self.index(open.len())],
            _ if !fitting.is_empty() => fitting[self.index(fitting.len())],
            _ => return None,
        };
        let mut terms = lease.terms.raw.clone();
        if self.one_in(60) {
            terms.uptimePromise += 1;
        }
        Some((lease.clone(), terms))
    }

    /// A voucher around what the contract accepts.
    fn promise(&mut self, model: &Reference, lease: &Lease, last: bool) -> Promise {
        let now = model.state.now;
        let moment = lease.moment(now);
        let (terms, cap) = (&lease.terms, lease.terms.cap(moment));
        let floor = terms.prepay.max(lease.paid);
        let within = floor + self.amount(cap.saturating_sub(floor));
        let choice = if lease.phase == Phase::NoticedUnpaid { self.below(18) } else { self.below(24) };
        let cumulative = match choice {
            0 => cap + 1,
            1 => cap,
            2 => lease.paid,
            3 => lease.paid.saturating_sub(1),
            4 => terms.prepay,
            5 => terms.prepay.saturating_sub(1),
            6 => terms.deposit,
            7 | 8 | 13 | 14 => terms.due(lease.notice_at, 0),
            9 => terms.due(lease.notice_at, 0).saturating_sub(1),
            10 => 0,
            11 => cap + self.amount(cap + 1),
            12 => lease.paid + 1,
            _ => within,
        };
        let not_before = match self.below(12) {
            0 => moment + 1,
            1 => moment,
            2 => now + self.below(10),
            _ => 0,
        };
        let id = if self.one_in(30) { self.another(model) } else { terms.id };
        let last = last != self.one_in(30);
        let voucher =
            abi::Voucher { lease: id, cumulative: n96(cumulative), notBefore: n40(not_before), last };
        let signer = if last && (self.one_in(2) || !terms.raw.meterMaySignLast && !self.one_in(8)) {
            terms.buyer()
        } else {
            terms.raw.meter
        };
        let signed = self.signed(signer, model.setting.domains.at_leases(&voucher));
        Promise { voucher, signed }
    }

    fn another(&mut self, model: &Reference) -> B256 {
        let ids: Vec<B256> = model.state.leases.keys().copied().collect();
        if ids.is_empty() { self.word() } else { self.pick(&ids) }
    }

    fn no_voucher(lease: &Lease) -> Promise {
        let voucher =
            abi::Voucher { lease: lease.terms.id, cumulative: n96(0), notBefore: n40(0), last: false };
        Promise { voucher, signed: Signed::ABSENT }
    }

    pub(super) fn settle(&mut self, model: &Reference) -> Option<Step> {
        let (lease, terms) = self.lease(model, Lease::is_live)?;
        let promise = self.promise(model, &lease, false);
        step(self.sender(), Call::Settle { terms, promise })
    }

    pub(super) fn settle_many(&mut self, model: &Reference) -> Option<Step> {
        let mut items = Vec::new();
        for _ in 0..=self.below(3) {
            let (lease, terms) = self.lease(model, Lease::is_live)?;
            items.push((terms, self.promise(model, &lease, false)));
        }
        step(self.sender(), Call::SettleMany { items })
    }

    pub(super) fn notice(&mut self, model: &Reference) -> Option<Step> {
        let now = model.state.now;
        let owed = |lease: &Lease| lease.paid < lease.terms.due(now, lease.terms.slack);
        let (lease, terms) = self.lease(model, |lease| {
            lease.phase == Phase::Open && (lease.terms.raw.kind == SPOT || owed(lease))
        })?;
        let reclaim = if owed(&lease) { self.one_in(6) } else { !self.one_in(6) };
        let promise =
            if self.one_in(3) { self.promise(model, &lease, false) } else { Self::no_voucher(&lease) };
        let id = lease.terms.id;
        let previous = if self.one_in(30) { lease.notice_at + 1 } else { lease.notice_at };
        let (sender, auth) = self.at_leases(model, lease.terms.provider(), |_, deadline| typed::Notice {
            lease: id,
            reason: u8::from(reclaim),
            previous: n40(previous),
            deadline,
        });
        step(sender, Call::Notice { terms, reclaim, promise, auth })
    }

    /// The seconds at which a rule turns for a lease, each with the call that shows it.
    pub(super) fn edges(model: &Reference) -> impl Iterator<Item = (u64, Drawn<'a>)> + use<'_, 'a> {
        model
            .state
            .leases
            .values()
            .filter(|lease| lease.is_live())
            .flat_map(|lease| {
                let terms = &lease.terms;
                let began = terms.start.max(lease.opened_at);
                let refunded = began + u64::from(lease.rules.refundWindow);
                let paid_early = lease.paid != 0 && !lease.challenged && lease.phase < Phase::Closing;
                let leaves = (terms.provider_break_fee != 0).then_some((terms.end, Self::close as Drawn<'a>));
                [
                    breaks_at_its_end(lease).then_some((terms.end, Self::request_close as Drawn<'a>)),
                    matures_at(lease).map(|at| (at, Self::close as Drawn<'a>)),
                    leaves,
                    paid_early.then_some((refunded, Self::challenge as Drawn<'a>)),
                    Some((terms.end + u64::from(lease.rules.window), Self::challenge as Drawn<'a>)),
                ]
            })
            .flatten()
    }

    pub(super) fn close(&mut self, model: &Reference) -> Option<Step> {
        let now = model.state.now;
        let ripe = |lease: &Lease| {
            let fee = lease.terms.provider_break_fee != 0 && lease.is_live();
            fee && (lease.terms.end == now
                || matures_at(lease).is_some_and(|at| now >= at && now < lease.terms.end))
        };
        let ripe = self.lease(model, ripe).filter(|(lease, _)| lease.is_live());
        let (lease, terms) = match ripe {
            Some(found) => found,
            None => self.lease(model, Lease::is_live)?,
        };
        let promise = match self.below(5) {
            0 => Self::no_voucher(&lease),
            1 => self.promise(model, &lease, false),
            _ => self.promise(model, &lease, true),
        };
        let (sender, auth) = self.close_auth(model, &lease, &promise);
        step(sender, Call::Close { terms, promise, auth })
    }

    fn close_auth(
        &mut self,
        model: &Reference,
        lease: &Lease,
        promise: &Promise,
    ) -> (alloy::primitives::Address, super::Auth) {
        let id = lease.terms.id;
        let given = promise.signed.given() && !self.one_in(40);
        let voucher = if given { promise.voucher.eip712_hash_struct() } else { B256::ZERO };
        self.at_leases(model, lease.terms.provider(), |_, deadline| typed::Close {
            lease: id,
            voucher,
            deadline,
        })
    }

    pub(super) fn extend(&mut self, model: &Reference) -> Option<Step> {
        let (lease, terms) = self.lease(model, Lease::is_live)?;
        let mut promise = self.promise(model, &lease, true);
        if self.one_in(12) {
            promise.signed = Signed::ABSENT;
        }
        let (sender, auth) = self.close_auth(model, &lease, &promise);
        let (mut buyer, mut provider) = (lease.terms.buyer(), lease.terms.provider());
        if self.one_in(20) {
            (buyer, provider) = (provider, buyer);
        }
        let parent = if self.one_in(20) { self.another(model) } else { lease.terms.id };
        let mut next = self.terms(model, buyer, provider, parent);
        // Most go on with the same units of the same device.
        if self.one_in(2) {
            let raw = &lease.terms.raw;
            (next.device, next.units, next.unstaked) = (raw.device, raw.units, raw.unstaked);
        }
        let (buyer, provider) = self.both_sign(model, &next);
        step(sender, Call::Extend { terms, promise, auth, next, buyer, provider })
    }

    pub(super) fn request_close(&mut self, model: &Reference) -> Option<Step> {
        let (reserved, now) = (self.one_in(2), model.state.now);
        let last =
            model.state.leases.values().any(|lease| breaks_at_its_end(lease) && lease.terms.end == now);
        let (lease, terms) = self.lease(model, |lease| {
            if last {
                return breaks_at_its_end(lease) && lease.terms.end == now;
            }
            let costs = lease.terms.buyer_break_fee != 0 && !lease.terms.raw.device.is_zero();
            lease.phase < Phase::Closing && (costs || !reserved)
        })?;
        let id = lease.terms.id;
        let (sender, auth) = self
            .at_leases(model, lease.terms.buyer(), |_, deadline| typed::RequestClose { lease: id, deadline });
        step(sender, Call::RequestClose { terms, auth })
    }

    pub(super) fn finalize(&mut self, model: &Reference) -> Option<Step> {
        let (_, terms) = self.lease(model, |lease| lease.phase == Phase::Closing)?;
        step(self.sender(), Call::Finalize { terms })
    }

    pub(super) fn expire(&mut self, model: &Reference) -> Option<Step> {
        let now = model.state.now;
        let (_, terms) = self.lease(model, |lease| lease.phase < Phase::Closing && lease.terms.end <= now)?;
        step(self.sender(), Call::Expire { terms })
    }

    pub(super) fn release_bond(&mut self, model: &Reference) -> Option<Step> {
        // The court may still say that a broken reservation is to be paid for.
        let patient = !self.one_in(4);
        let (_, terms) = self.lease(model, |lease| {
            let waits = lease.buyer_fee && !lease.buyer_fee_owed && patient;
            lease.phase == Phase::Settled && !waits
        })?;
        step(self.sender(), Call::ReleaseBond { terms })
    }

    pub(super) fn challenge(&mut self, model: &Reference) -> Option<Step> {
        let now = model.state.now;
        let at_the_edge = |lease: &Lease| {
            let began = lease.terms.start.max(lease.opened_at);
            let refunded = began + u64::from(lease.rules.refundWindow);
            let last = lease.terms.end + u64::from(lease.rules.window);
            let due = refunded == now || last == now || compensated(lease);
            lease.is_live() && !lease.challenged && due
        };
        let edge = model.state.leases.values().any(at_the_edge);
        let (lease, terms) =
            self.lease(
                model,
                |lease| {
                    if edge { at_the_edge(lease) } else { lease.is_live() && !lease.challenged }
                },
            )?;
        let id = lease.terms.id;
        let sequence = if self.one_in(25) { lease.challenges + 1 } else { lease.challenges };
        let (sender, auth) = self.at_leases(model, lease.terms.buyer(), |_, deadline| typed::Challenge {
            lease: id,
            sequence,
            deadline,
        });
        step(sender, Call::Challenge { terms, auth })
    }

    pub(super) fn answer(&mut self, model: &Reference) -> Option<Step> {
        let (lease, terms) = self.lease(model, |lease| lease.challenged)?;
        let (id, challenged_at) = (lease.terms.id, lease.challenged_at);
        let at = if self.one_in(25) { challenged_at + 1 } else { challenged_at };
        let (sender, auth) = self.at_leases(model, lease.terms.provider(), |_, deadline| typed::Answer {
            lease: id,
            challengedAt: n40(at),
            deadline,
        });
        step(sender, Call::Answer { terms, auth })
    }

    pub(super) fn defaulted(&mut self, model: &Reference) -> Option<Step> {
        let (_, terms) = self.lease(model, |lease| lease.challenged)?;
        step(self.sender(), Call::Defaulted { terms })
    }

    pub(super) fn acknowledge(&mut self, model: &Reference) -> Option<Step> {
        let (lease, terms) = self.lease(model, Lease::is_live)?;
        let now = model.state.now;
        let paid_at = match self.below(8) {
            0 => lease.checkpoint_paid.saturating_sub(1),
            1 => lease.terms.deposit + 1,
            2 => lease.terms.deposit,
            _ => lease.paid.max(lease.checkpoint_paid),
        };
        let at = match self.below(8) {
            0 => lease.checkpoint_at,
            1 => now + 1,
            _ => now,
        };
        let id = if self.one_in(30) { self.another(model) } else { lease.terms.id };
        let record =
            abi::CheckpointRecord { lease: id, paidAt: n96(paid_at), root: self.word(), at: n40(at) };
        let digest = model.setting.domains.at_leases(&record);
        let provider = self.signed(lease.terms.provider(), digest);
        let signer = if self.one_in(2) { lease.terms.raw.meter } else { lease.terms.buyer() };
        let buyer = self.signed(signer, digest);
        step(self.sender(), Call::Acknowledge { terms, record, provider, buyer })
    }

    pub(super) fn dispute(&mut self, model: &Reference) -> Option<Step> {
        let again = self.one_in(2)
            && model.state.leases.values().any(|lease| compensated(lease) && !lease.dispute_used);
        let (lease, terms) =
            self.lease(model, |lease| !lease.dispute_used && (compensated(lease) || !again))?;
        self.dispute_about(model, &lease, terms)
    }

    pub(super) fn dispute_about(
        &mut self,
        model: &Reference,
        lease: &Lease,
        terms: abi::LeaseTerms,
    ) -> Option<Step> {
        let room = lease.terms.compensation_cap - lease.compensated;
        let claim = match self.below(8) {
            0 => 0,
            1 => room + 1,
            2 => room,
            _ => self.amount(room),
        };
        let (id, evidence) = (lease.terms.id, self.word());
        let (sender, auth) = self.at_leases(model, lease.terms.buyer(), |_, deadline| typed::Dispute {
            lease: id,
            claim: n96(claim),
            evidence,
            deadline,
        });
        step(sender, Call::Dispute { terms, claim, evidence, auth })
    }

    pub(super) fn resolve(&mut self, model: &Reference) -> Option<Step> {
        let (_, terms) = self.lease(model, |lease| {
            let ruled = lease.disputed && model.ruling(lease.terms.id) != Ruling::Unknown;
            let terms = &lease.terms;
            let ended = lease.due_at.saturating_sub(lease.rules.bondDelay.into());
            let broken = lease.phase == Phase::Settled && lease.buyer_fee && !lease.buyer_fee_owed;
            ruled || (broken && model.uptime_credit(terms.raw.device, terms.start, ended))
        })?;
        step(self.sender(), Call::Resolve { terms })
    }
}

/// It paid its buyer something already.
const fn compensated(lease: &Lease) -> bool {
    lease.compensated != 0
}

/// A reservation whose buyer owes a fee for leaving before its end.
fn breaks_at_its_end(lease: &Lease) -> bool {
    let terms = &lease.terms;
    lease.phase < Phase::Closing && terms.raw.kind == RESERVED && terms.buyer_break_fee != 0
}

/// From when on the provider may leave without its fee.
fn matures_at(lease: &Lease) -> Option<u64> {
    let noticed = matches!(lease.phase, Phase::NoticedUnpaid | Phase::NoticedReclaim);
    (noticed && lease.terms.provider_break_fee != 0).then(|| lease.notice_at + lease.terms.notice)
}
