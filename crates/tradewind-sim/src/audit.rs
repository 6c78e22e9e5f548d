//! What must hold at the end of every run, seen from outside: from the chain's events, the accounts, and the machines.

use std::collections::BTreeMap;
use std::time::Duration;

use tradewind_buyer::job::record::Attempt;
use tradewind_chain::ledger::{EventCursor, Feed, LeaseEvent, Ledger as _, LedgerEvent, Opening};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::meter::exposure;
use tradewind_proto::supervision::Outcome;
use tradewind_proto::units::{Money, Seconds};

use crate::chain::dollars;
use crate::market::Market;
use crate::world::lock;

/// What the chain says of one lease.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Its terms, as far as they are on chain.
    pub opening: Opening,
    /// How it closed.
    pub closing: Option<Closing>,
    /// It was settled, closed or not.
    pub ended: bool,
}

/// The money of a closed lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Paid in all.
    pub paid: Money,
    /// Back to the buyer.
    pub refunded: Money,
    /// To the sink.
    pub forfeited: Money,
    /// Of what was paid, to the deployment.
    pub fee: Money,
    /// The buyer's break fee.
    pub buyer_fee: Money,
    /// Of the bond, to the buyer.
    pub bond_to_buyer: Money,
}

/// The bounds that a run is held to.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Every lease is closed, bond and all, not merely settled.
    pub all_closed: bool,
    /// Vouchers that a provider acknowledged are paid, and its work is. Not so for one that slept through the window.
    pub provider_is_paid: bool,
    /// Nothing is paid but what the buyer's own meter signed.
    pub only_signed_is_paid: bool,
    /// What one side may lose to the other beyond the exposure, in seconds of the rate: a block, and the time until a fault is seen.
    pub grace: Seconds,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { all_closed: true, provider_is_paid: true, only_signed_is_paid: true, grace: Seconds::new(6) }
    }
}

impl Market {
    /// Every lease that the chain opened.
    pub async fn leases(&self) -> BTreeMap<LeaseId, Lease> {
        let (mut leases, mut cursor) = (BTreeMap::<LeaseId, Lease>::new(), EventCursor::default());
        loop {
            let page = self.observer.events(cursor, 1_000).await.expect("the chain's events");
            if page.items.is_empty() && page.cursor == cursor {
                return leases;
            }
            cursor = page.cursor;
            for item in page.items {
                let Feed::Happened(event) = item else { continue };
                let LedgerEvent::Lease { lease, happened } = event.event else { continue };
                match happened {
                    LeaseEvent::Opened(opening) => {
                        leases.insert(lease, Lease { opening, closing: None, ended: false });
                    }
                    LeaseEvent::Ended { .. } => {
                        leases.entry(lease).and_modify(|lease| lease.ended = true);
                    }
                    LeaseEvent::Closed { paid, refunded, forfeited, fee, buyer_fee, bond_to_buyer } => {
                        let closing = Closing { paid, refunded, forfeited, fee, buyer_fee, bond_to_buyer };
                        leases.entry(lease).and_modify(|lease| lease.closing = Some(closing));
                    }
                    LeaseEvent::Extended { .. }
                    | LeaseEvent::Settled { .. }
                    | LeaseEvent::Noticed { .. }
                    | LeaseEvent::Cured
                    | LeaseEvent::CloseRequested { .. }
                    | LeaseEvent::Challenged { .. }
                    | LeaseEvent::Answered
                    | LeaseEvent::ChallengeDropped
                    | LeaseEvent::Defaulted { .. }
                    | LeaseEvent::Acknowledged { .. }
                    | LeaseEvent::Disputed { .. }
                    | LeaseEvent::DisputeEnded { .. }
                    | LeaseEvent::BuyerFeeOwed => {}
                }
            }
        }
    }

    /// Waits until every lease is closed, then checks everything. The problems, if any.
    pub async fn audit(&self, bounds: Bounds) -> Vec<String> {
        let mut leases = self.leases().await;
        for _ in 0..60 {
            let over = |lease: &Lease| lease.closing.is_some() || (lease.ended && !bounds.all_closed);
            if leases.values().all(over) && self.providers.iter().all(|provider| !provider.host.is_busy()) {
                break;
            }
            self.pass(10).await;
            leases = self.leases().await;
        }
        let mut problems = self.world.broken();
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let attempts: BTreeMap<LeaseId, Attempt> = self
            .buyer
            .jobs()
            .into_iter()
            .flat_map(|job| job.attempts)
            .map(|attempt| (attempt.supervision.id, attempt))
            .collect();
        for (id, lease) in &leases {
            let short = id.short();
            let Some(attempt) = attempts.get(id) else {
                check(false, format!("{short} was opened and its buyer does not know it"));
                continue;
            };
            check(
                lease.closing.is_some() || (lease.ended && !bounds.all_closed),
                format!("{short} is not closed in time"),
            );
            check(attempt.outcome != Some(Outcome::NeverOpened), format!("{short} was opened after all"));
            if let Some(closing) = lease.closing {
                self.audit_lease(*id, lease, closing, attempt, bounds, &mut check);
            }
        }
        for (id, attempt) in &attempts {
            let known = leases.contains_key(id) || attempt.outcome == Some(Outcome::NeverOpened);
            check(known, format!("{} was never opened and its buyer does not know", id.short()));
        }
        for provider in &self.providers {
            check(!provider.host.is_busy(), format!("a workload still runs at {}", provider.seat.name));
        }
        if leases.values().all(|lease| lease.closing.is_some()) {
            self.audit_wealth(&leases, &mut check).await;
        }
        problems
    }

    fn audit_lease(
        &self,
        id: LeaseId,
        lease: &Lease,
        closing: Closing,
        attempt: &Attempt,
        bounds: Bounds,
        check: &mut impl FnMut(bool, String),
    ) {
        let (short, terms, deposit) = (id.short(), &attempt.supervision.terms, lease.opening.deposit);
        let Closing { paid, refunded, forfeited, fee, buyer_fee, .. } = closing;
        let total = [paid, refunded, forfeited, buyer_fee].iter().map(|part| part.base_units()).sum::<u128>();
        check(total == deposit.base_units(), format!("{short}: {deposit} went in and {total} came out"));
        check(forfeited.is_zero() || paid.is_zero(), format!("{short}: both paid and forfeited"));
        check(fee <= paid, format!("{short}: a fee above what was paid"));
        check(
            !bounds.only_signed_is_paid || paid <= attempt.supervision.signed,
            format!("{short}: paid {paid}, signed {}", attempt.supervision.signed),
        );
        let acknowledged = lock(&self.world.post).acknowledged.get(&id).copied().unwrap_or(Money::ZERO);
        check(
            !bounds.provider_is_paid || paid >= acknowledged,
            format!("{short}: {acknowledged} was acknowledged and {paid} paid"),
        );
        if let Some(settled) = attempt.settled {
            check(settled.paid == paid, format!("{short}: the buyer's books say {}", settled.paid));
        }
        let worked =
            self.providers.iter().map(|provider| provider.host.worked(id)).max().unwrap_or(Duration::ZERO);
        let limit = exposure(terms).base_units() + terms.rate.over(bounds.grace).base_units();
        let worth = terms.rate.over(Seconds::new(worked.as_secs())).base_units();
        let paid = paid.base_units();
        self.world
            .note("audit", &format!("{short}: worked {} s, worth {worth}, paid {paid}", worked.as_secs()));
        check(
            !bounds.provider_is_paid || worth <= paid + limit,
            format!("{short}: the provider worked for {worth} and got {paid}"),
        );
        let free = terms.prepay.base_units();
        // What the terms bill of a job's preparation: what it took longer than they leave for it.
        let started = self.providers.iter().find_map(|provider| provider.host.started(id));
        let late = started.map_or(Seconds::ZERO, |at| at.since(terms.start.after(terms.prepare)));
        let billed = worth + terms.rate.over(late).base_units();
        check(paid <= billed.max(free) + limit, format!("{short}: the buyer paid {paid} for {billed}"));
    }

    /// Nobody is richer or poorer than the leases say, and nothing came from air.
    async fn audit_wealth(&self, leases: &BTreeMap<LeaseId, Lease>, check: &mut impl FnMut(bool, String)) {
        let token = self.chain.token();
        let sum = |of: &dyn Fn(&Lease, Closing) -> i128| -> i128 {
            leases.values().filter_map(|lease| Some(of(lease, lease.closing?))).sum()
        };
        let units = |money: Money| i128::try_from(money.base_units()).unwrap_or(i128::MAX);
        let mut accounts = vec![(self.buyer.seat.account(), "the buyer".to_owned(), 0, None)];
        for provider in &self.providers {
            let device = provider.device();
            accounts.push((
                provider.seat.account(),
                provider.seat.name.clone(),
                units(dollars(100)),
                Some(device),
            ));
        }
        for (account, name, stake, device) in accounts {
            let free = self.observer.balance(token, account).await.expect("a balance");
            let held = self.observer.holdings(token, account).await.expect("a balance");
            let mut expected = units(dollars(1_000)) - stake;
            if device.is_some() {
                // Thirty days of rent at a cent a day.
                expected -= 300_000;
            }
            expected += sum(&|lease, closing| {
                let mut change = 0;
                if lease.opening.buyer.account() == account {
                    change += units(closing.refunded) + units(closing.bond_to_buyer);
                    change -= units(lease.opening.deposit);
                }
                if lease.opening.provider.account() == account {
                    change += units(closing.paid) - units(closing.fee) + units(closing.buyer_fee);
                    change -= units(closing.bond_to_buyer);
                }
                change
            });
            let has = units(free) + units(held);
            check(has == expected, format!("{name} has {has} and the leases say {expected}"));
            if let Some(device) = device {
                let record = self.observer.device(device).await.expect("a device").expect("a device");
                check(record.busy_units == 0, format!("{name}'s units stay busy: {:b}", record.busy_units));
            }
        }
    }
}
