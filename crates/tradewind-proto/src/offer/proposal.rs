//! What to ask for a unit: as the market asks for its like, and never less than its electricity costs.
//!
//! ```text
//! accelerators:  median of (price ÷ their number) over live offers of the same model and maker × their number
//! else:          median of (price ÷ weight) over live offers without accelerators × weight;  weight = CPUs + GiB of memory ÷ 4
//! ```
//!
//! The weight is how clouds' general machines are cut: four GiB go with a CPU. Rounded up to a base unit.

use super::{Asked, Offer, Prices, Resources};
use alloy_primitives::Address;

use crate::ids::ProviderId;
use crate::units::{Bytes, Money};

/// A thousandth of a CPU weighs as much as this many bytes: four GiB a CPU.
const BYTES_PER_MILLI: u64 = Bytes::gib(4).get() / 1_000;
/// What power supply, fans, memory and disk add to a machine's parts, in percent of those.
const OVERHEAD: u128 = 125;

/// What a unit could cost, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// An hour of the unit.
    pub hourly: Money,
    /// Live offers that it was taken from; none where electricity alone says it.
    pub compared: usize,
    /// What an hour of its electricity costs.
    pub power: Money,
}

/// Proposes a price for a `unit` of `own`, from the `offers` in the same token; `power` is what an hour of its
/// electricity costs. Nothing where neither says a price.
#[must_use]
pub fn propose<'a>(
    unit: &Resources,
    own: ProviderId,
    offers: impl IntoIterator<Item = &'a Offer>,
    power: Money,
) -> Option<Proposal> {
    let others = offers.into_iter().filter(|offer| offer.provider != own);
    let mut prices: Vec<(u128, u64)> = others
        .filter_map(|offer| {
            let alike = measure(&offer.unit, unit)?;
            Some((offer.prices.on_demand.hourly().base_units(), alike))
        })
        .collect();
    // By price per measure: a/x < b/y where a·y < b·x. Prices have fewer than 96 bits.
    prices.sort_by(|(a, x), (b, y)| (a * u128::from(*y)).cmp(&(b * u128::from(*x))));
    let compared = prices.len();
    let market = prices.get(compared / 2).and_then(|(price, measured)| {
        let own = measure(unit, unit)?;
        Money::new(price.checked_mul(own.into())?.div_ceil((*measured).into())).ok()
    });
    let hourly = market.unwrap_or(Money::ZERO).max(power);
    (!hourly.is_zero()).then_some(Proposal { hourly, compared, power })
}

/// How a price follows the market's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follow {
    /// Of the middle price of a unit's like, in percent.
    pub percent: u32,
    /// Never less.
    pub floor: Money,
    /// Never more; asked too where nobody sells a unit's like.
    pub ceiling: Money,
    /// What is asked beside it.
    pub asked: Asked,
}

impl Follow {
    /// What is asked for `unit` in `token`, as the `offers` of others are now.
    #[must_use]
    pub fn prices<'a>(
        &self,
        token: Address,
        unit: &Resources,
        own: ProviderId,
        offers: impl IntoIterator<Item = &'a Offer>,
    ) -> Prices {
        self.asked.prices(token, self.price(unit, own, offers))
    }

    /// The price of an hour of `unit`, as the `offers` of others are now.
    #[must_use]
    pub fn price<'a>(
        &self,
        unit: &Resources,
        own: ProviderId,
        offers: impl IntoIterator<Item = &'a Offer>,
    ) -> Money {
        let market = propose(unit, own, offers, Money::ZERO);
        let price = market.and_then(|market| market.hourly.fraction(self.percent, 100).ok());
        price.unwrap_or(self.ceiling).min(self.ceiling).max(self.floor)
    }
}

/// How much of what `like` is a price of `unit` buys; nothing where they do not compare.
fn measure(unit: &Resources, like: &Resources) -> Option<u64> {
    let measured = match (&unit.gpus, &like.gpus) {
        (None, None) => u64::from(unit.cpu_millis).saturating_add(unit.memory.get() / BYTES_PER_MILLI),
        (Some(one), Some(other)) if (one.vendor, &one.model) == (other.vendor, &other.model) => {
            one.count.into()
        }
        (None, Some(_)) | (Some(_), _) => return None,
    };
    (measured > 0).then_some(measured)
}

/// What an hour of so many watts costs at `per_kwh`, with what the rest of the machine draws; rounded up.
#[must_use]
pub fn power_cost(watts: u32, per_kwh: Money) -> Option<Money> {
    let cost = per_kwh.base_units().checked_mul(watts.into())?.checked_mul(OVERHEAD)?;
    Money::new(cost.div_ceil(100_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offer::tests::sample;
    use crate::units::RatePerSecond;

    const OWN: ProviderId = ProviderId::new(Address::ZERO);

    fn dollars(text: &str) -> Money {
        Money::parse(text, 6).unwrap()
    }

    fn of(gpus: u16, price: &str) -> Offer {
        let mut offer = sample();
        offer.unit.gpus.as_mut().unwrap().count = gpus;
        offer.prices.on_demand = RatePerSecond::per_hour(dollars(price));
        offer
    }

    fn plain(cpus: u32, gib: u64, price: &str) -> Offer {
        let mut offer = of(1, price);
        offer.unit =
            Resources { cpu_millis: cpus * 1_000, memory: Bytes::gib(gib), gpus: None, ..offer.unit };
        offer
    }

    fn proposed(unit: &Resources, offers: &[Offer], power: &str) -> Option<(Money, usize)> {
        propose(unit, OWN, offers, dollars(power)).map(|proposal| (proposal.hourly, proposal.compared))
    }

    #[test]
    fn accelerators_cost_what_the_middle_of_their_like_costs_a_piece() {
        let offers = [of(8, "16"), of(1, "2.2"), of(2, "6"), plain(4, 16, "0.2")];
        assert_eq!(proposed(&of(4, "1").unit, &offers, "0"), Some((dollars("8.8"), 3)));
        let mut other = of(4, "1").unit;
        other.gpus.as_mut().unwrap().model = "B200".into();
        assert_eq!(proposed(&other, &offers, "0"), None, "nobody sells such");
    }

    #[test]
    fn a_plain_unit_is_weighed_by_its_cpus_and_its_memory() {
        let offers = [plain(4, 16, "0.2"), plain(8, 32, "0.4"), of(1, "2")];
        let (price, compared) = proposed(&plain(2, 24, "1").unit, &offers, "0").unwrap();
        assert_eq!(compared, 2);
        assert!(
            price >= dollars("0.2") && price < dollars("0.2001"),
            "2 CPUs and 24 GiB weigh as 8: {price:?}"
        );
    }

    #[test]
    fn nothing_is_proposed_below_what_electricity_costs() {
        let offers = [plain(4, 16, "0.01")];
        assert_eq!(proposed(&offers[0].unit, &offers, "0.03"), Some((dollars("0.03"), 1)));
        assert_eq!(proposed(&offers[0].unit, &[], "0.03"), Some((dollars("0.03"), 0)));
        assert_eq!(proposed(&offers[0].unit, &[], "0"), None);
        assert_eq!(power_cost(400, dollars("0.30")), Some(dollars("0.15")));
        assert_eq!(power_cost(1, Money::from_base_units(1)), Some(Money::from_base_units(1)), "rounded up");
    }

    #[test]
    fn a_price_that_follows_stays_between_its_ends() {
        let follow =
            Follow { percent: 90, floor: dollars("0.5"), ceiling: dollars("3"), asked: Asked::default() };
        let unit = of(1, "1").unit;
        for (market, price) in [("2", "1.8"), ("0.1", "0.5"), ("9", "3")] {
            assert_eq!(follow.price(&unit, OWN, &[of(1, market)]), dollars(price), "{market}");
        }
        assert_eq!(follow.price(&unit, OWN, &[]), dollars("3"), "nobody else sells such");
    }

    #[test]
    fn one_s_own_offer_is_no_market() {
        let mut own = of(1, "9");
        own.provider = OWN;
        assert_eq!(proposed(&own.unit, &[own.clone(), of(1, "2")], "0"), Some((dollars("2"), 1)));
    }
}
