//! A price list: what an hour of each resource costs, and from it what a unit costs.

use super::{Resources, range};
use crate::offer::OfferError;
use crate::units::{Bytes, Money, UnitError};

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
    fn a_price_that_does_not_fit_is_an_error() {
        let list = PriceList { memory: Money::MAX, ..PriceList::default() };
        assert!(list.unit(&unit()).is_err());
    }
}
