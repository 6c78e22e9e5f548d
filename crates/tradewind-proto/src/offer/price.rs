//! A price list: what an hour of each resource costs, and from it what a unit costs; and what is asked under each kind of lease.

use alloy_primitives::Address;

use super::{BASIS_POINTS, Prices, Resources, range};
use crate::offer::OfferError;
use crate::units::{Bytes, Money, RatePerSecond, UnitError};

/// Prices an hour. What is not priced costs nothing by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PriceList {
    /// Of a CPU.
    pub cpu: Money,
    /// Of a GiB of memory.
    pub memory: Money,
    /// Of a GiB of disk.
    pub disk: Money,
    /// Of an accelerator.
    pub gpu: Money,
    /// No unit is cheaper, under any kind of lease.
    pub least: Money,
}

impl PriceList {
    /// What an hour of `unit` costs, rounded up to a base unit for each resource.
    ///
    /// # Errors
    /// [`OfferError::Range`] when it does not fit, or is nothing.
    pub fn unit(&self, unit: &Resources) -> Result<Money, OfferError> {
        let gib = Bytes::gib(1).get();
        let gpus = unit.gpus.as_ref().map_or(0, |gpus| u64::from(gpus.count));
        let parts = [
            (self.cpu, u64::from(unit.cpu_millis), 1_000),
            (self.memory, unit.memory.get(), gib),
            (self.disk, unit.disk.get(), gib),
            (self.gpu, gpus, 1),
        ];
        let sum = parts.into_iter().try_fold(Money::ZERO, |sum, (price, amount, per)| {
            let product = price.base_units().checked_mul(amount.into());
            let part = product.ok_or(UnitError::Underflow)?.div_ceil(per.into());
            sum.checked_add(Money::new(part)?)
        });
        let sum = sum.map_err(|_| OfferError::Range { field: "price", problem: "is too large" })?;
        let price = sum.max(self.least);
        range(!price.is_zero(), "price", "is nothing: the price list has no price for what a unit has")?;
        Ok(price)
    }
}

/// What a spot lease costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// An hour of a unit.
    Fixed(Money),
    /// In percent of the price on demand, as that is at the time.
    Percent(u32),
}

/// What an owner asks beside the price on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Of spot leases; none are sold where absent.
    pub spot: Option<Spot>,
    /// Off the price on demand for a committed term, in basis points; no such leases are sold where absent.
    pub reserved_discount: Option<u16>,
    /// Of each GiB that a workload sends; it is not counted where absent.
    pub egress: Option<Money>,
    /// An hour of a unit is never cheaper, under any kind of lease.
    pub least: Money,
}

impl Asked {
    /// The prices of a unit that costs `hourly` on demand. What would be below the least is raised to it, and spot is never dearer
    /// than on demand.
    #[must_use]
    pub fn prices(&self, token: Address, hourly: Money) -> Prices {
        let hourly = hourly.max(self.least);
        let spot = self.spot.map(|spot| match spot {
            Spot::Fixed(price) => price,
            Spot::Percent(percent) => hourly.fraction(percent, 100).unwrap_or(hourly),
        });
        let spot = spot.map(|spot| spot.max(self.least).min(hourly));
        Prices {
            token,
            on_demand: RatePerSecond::per_hour(hourly),
            spot: spot.map(RatePerSecond::per_hour),
            reserved_discount: self.reserved_discount.map(|discount| discount.min(self.most_off(hourly))),
            egress: self.egress,
        }
    }

    /// The largest discount that does not go below the least.
    fn most_off(&self, hourly: Money) -> u16 {
        let above = hourly.saturating_sub(self.least).base_units();
        let share = (above * u128::from(BASIS_POINTS)).checked_div(hourly.base_units());
        share.and_then(|share| u16::try_from(share).ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offer::tests::sample;

    fn cents(cents: u64) -> Money {
        Money::from_base_units(cents * 10_000)
    }

    fn unit() -> Resources {
        Resources { cpu_millis: 1_500, memory: Bytes::gib(4), disk: Bytes::gib(100), ..sample().unit }
    }

    #[test]
    fn a_unit_costs_what_its_resources_cost() {
        let gpus = u64::from(unit().gpus.unwrap().count);
        let list = PriceList { cpu: cents(2), memory: cents(1), gpu: cents(150), ..PriceList::default() };
        assert_eq!(list.unit(&unit()), Ok(cents(3 + 4 + 150 * gpus)));
    }

    #[test]
    fn no_unit_is_cheaper_than_the_owner_allows_and_none_is_free() {
        let list = PriceList { cpu: cents(2), least: cents(50), ..PriceList::default() };
        assert_eq!(list.unit(&unit()), Ok(cents(50)));
        assert!(PriceList::default().unit(&unit()).is_err());
    }

    #[test]
    fn nothing_is_asked_below_the_least_under_any_kind_of_lease() {
        let asked = Asked {
            spot: Some(Spot::Percent(40)),
            reserved_discount: Some(2_000),
            egress: Some(cents(1)),
            least: cents(30),
        };
        let hourly = |price| {
            let prices = asked.prices(Address::repeat_byte(1), cents(price));
            assert_eq!(prices.egress, Some(cents(1)));
            (prices.on_demand.hourly(), prices.spot.unwrap().hourly(), prices.reserved_discount)
        };
        assert_eq!(hourly(100), (cents(100), cents(40), Some(2_000)));
        assert_eq!(hourly(60), (cents(60), cents(30), Some(2_000)));
        assert_eq!(hourly(32), (cents(32), cents(30), Some(625)));
        assert_eq!(hourly(20), (cents(30), cents(30), Some(0)));
    }

    #[test]
    fn spot_is_never_dearer_than_on_demand() {
        let asked = Asked { spot: Some(Spot::Fixed(cents(50))), ..Asked::default() };
        let prices = asked.prices(Address::repeat_byte(1), cents(20));
        assert_eq!(prices.spot, Some(prices.on_demand));
        let free = Asked { reserved_discount: Some(1), ..asked }.prices(Address::repeat_byte(1), Money::ZERO);
        assert_eq!((free.on_demand, free.reserved_discount), (RatePerSecond::ZERO, Some(0)));
    }

    #[test]
    fn a_price_that_does_not_fit_is_an_error() {
        let list = PriceList { memory: Money::MAX, ..PriceList::default() };
        assert!(list.unit(&unit()).is_err());
    }
}
