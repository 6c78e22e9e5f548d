//! Whom a network's sponsor gives a test job.
//!
//! ```text
//! a staked device that is free ─► tested within 90 days? ─► its owner's share of the day ─► the day's money ─► one job, once
//! ```
//!
//! Whoever joins sees a whole lease go through, paid, and the market a device that has served one. A device costs a stake and rent, so
//! nobody makes many for the money; where somebody does, the day's limits hold.

use serde::{Deserialize, Serialize};

use crate::ids::{DeviceId, ProviderId};
use crate::offer::{Offer, TrustTier};
use crate::units::{Money, Seconds, Timestamp};

/// How long a device that passed is left alone.
pub const AGAIN: Seconds = Seconds::new(90 * 86_400);
/// How long one that did not.
pub const RETRY: Seconds = Seconds::new(86_400);
/// Tests at a time.
pub const ABREAST: usize = 4;
const DAY: Seconds = Seconds::new(86_400);

/// What the sponsor spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purse {
    /// On a test at most.
    pub each: Money,
    /// On all tests of any 24 hours.
    pub daily: Money,
    /// Tests of one account's devices in 24 hours.
    pub per_owner: u16,
}

/// The newest test of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// Of which.
    pub device: DeviceId,
    /// Whose it is.
    pub owner: ProviderId,
    /// When it was decided on.
    pub at: Timestamp,
    /// What it cost, or may still cost.
    pub cost: Money,
    /// How it went.
    pub state: State,
}

/// How a test went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not over.
    UnderWay,
    /// The job ended well.
    Passed,
    /// It did not, or found no place.
    Failed,
}

impl Test {
    /// It says nothing any more about whom to test and what may be spent.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        match self.state {
            State::UnderWay => false,
            State::Passed => now >= self.at.after(AGAIN),
            State::Failed => now >= self.at.after(RETRY),
        }
    }

    fn is_of_this_day(&self, now: Timestamp) -> bool {
        now < self.at.after(DAY)
    }
}

impl Purse {
    /// The offer of the device to test next, if any: `past` holds the newest test of each device.
    #[must_use]
    pub fn next<'a>(&self, past: &[Test], offers: &'a [Offer], now: Timestamp) -> Option<&'a Offer> {
        let under_way = past.iter().filter(|test| test.state == State::UnderWay).count();
        let spent = past.iter().filter(|test| test.is_of_this_day(now)).map(|test| test.cost);
        let spent = spent.chain([self.each]).try_fold(Money::ZERO, Money::checked_add).ok()?;
        if under_way >= ABREAST || spent > self.daily {
            return None;
        }
        offers.iter().find(|offer| {
            let owners = past.iter().filter(|test| test.owner == offer.provider && test.is_of_this_day(now));
            is_testable(offer, now)
                && !past.iter().any(|test| test.device == offer.device && !test.is_stale(now))
                && owners.count() < usize::from(self.per_owner)
        })
    }
}

/// Something stands behind it, and a test takes nobody's place.
fn is_testable(offer: &Offer, now: Timestamp) -> bool {
    offer.device != DeviceId::NONE
        && offer.trust >= TrustTier::Staked
        && offer.free_units == offer.units
        && offer.expires_at > now
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn money(amount: u64) -> Money {
        Money::from_base_units(amount)
    }

    fn purse() -> Purse {
        Purse { each: money(10), daily: money(25), per_owner: 2 }
    }

    fn owner(n: u8) -> ProviderId {
        ProviderId::new(Address::repeat_byte(n))
    }

    fn offer(device: u8, of: u8) -> Offer {
        Offer {
            provider: owner(of),
            device: DeviceId::new(B256::repeat_byte(device)),
            expires_at: NOW.after(Seconds::new(60)),
            ..crate::offer::tests::sample()
        }
    }

    fn test(device: u8, of: u8, cost: u64, state: State) -> Test {
        let device = DeviceId::new(B256::repeat_byte(device));
        Test { device, owner: owner(of), at: NOW, cost: money(cost), state }
    }

    fn next(past: &[Test], offers: &[Offer], now: Timestamp) -> Option<u8> {
        purse().next(past, offers, now).map(|offer| offer.device.get()[0])
    }

    #[test]
    fn a_device_is_tested_once_and_again_after_a_while() {
        let offers = [offer(1, 1)];
        assert_eq!(next(&[], &offers, NOW), Some(1));
        for (state, pause) in [(State::Passed, AGAIN), (State::Failed, RETRY)] {
            let past = [test(1, 1, 1, state)];
            let live = |now: Timestamp| [Offer { expires_at: now.after(Seconds::new(1)), ..offer(1, 1) }];
            let before = NOW.after(Seconds::new(pause.get() - 1));
            assert_eq!(next(&past, &live(before), before), None, "{state:?}");
            let then = NOW.after(pause);
            assert_eq!(next(&past, &live(then), then), Some(1), "{state:?}");
        }
    }

    #[test]
    fn only_what_is_staked_free_and_there_is_tested() {
        let whole = offer(1, 1);
        for bad in [
            Offer { device: DeviceId::NONE, ..whole.clone() },
            Offer { trust: TrustTier::Unstaked, ..whole.clone() },
            Offer { units: 2, free_units: 1, ..whole.clone() },
            Offer { expires_at: NOW, ..whole },
        ] {
            let offers = [bad];
            assert_eq!(next(&[], &offers, NOW), None, "{offers:?}");
        }
    }

    #[test]
    fn an_owner_has_a_share_of_the_day_and_the_day_has_its_money() {
        let past = [test(1, 1, 1, State::Passed), test(2, 1, 1, State::Passed)];
        assert_eq!(next(&past, &[offer(3, 1), offer(4, 2)], NOW), Some(4), "its owner has had two");
        let dear = [test(1, 1, 16, State::Failed)];
        assert_eq!(next(&dear, &[offer(4, 2)], NOW), None, "16 and 10 are more than 25");
        let then = NOW.after(DAY);
        let live = [Offer { expires_at: then.after(Seconds::new(1)), ..offer(4, 2) }];
        assert_eq!(next(&dear, &live, then), Some(4), "another day");
    }

    #[test]
    fn few_are_under_way_at_a_time() {
        let rich = Purse { daily: money(1_000), ..purse() };
        let past: Vec<Test> = (1..=4).map(|n| test(n, n, 10, State::UnderWay)).collect();
        assert_eq!(rich.next(&past[..3], &[offer(9, 9)], NOW).map(|offer| offer.device.get()[0]), Some(9));
        assert_eq!(rich.next(&past, &[offer(9, 9)], NOW), None);
        assert!(!past[0].is_stale(NOW.after(AGAIN)), "what is under way counts until it is over");
    }

    proptest! {
        #[test]
        fn whoever_offers_whatever_a_day_costs_no_more_than_it_may(
            offers in proptest::collection::vec((1u8..40, 1u8..6), 1..60),
            costs in proptest::collection::vec(0u64..=10, 60),
        ) {
            let offers: Vec<Offer> = offers.into_iter().map(|(device, of)| offer(device, of)).collect();
            let (purse, mut past) = (purse(), Vec::<Test>::new());
            for cost in costs {
                let Some(offer) = purse.next(&past, &offers, NOW) else { break };
                prop_assert!(past.iter().all(|test| test.device != offer.device));
                let state = State::Passed;
                past.push(Test { device: offer.device, owner: offer.provider, at: NOW, cost: money(cost), state });
            }
            let spent: u128 = past.iter().map(|test| test.cost.base_units()).sum();
            prop_assert!(spent <= purse.daily.base_units());
            for of in 1..6 {
                prop_assert!(past.iter().filter(|test| test.owner == owner(of)).count() <= 2);
            }
        }
    }
}
