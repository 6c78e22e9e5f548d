//! Amounts as a person writes them, before anybody knows the token's decimals.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::units::{MAX_MONEY, Money, UnitError};

const PLACES: u8 = 18;

/// A decimal amount of whole tokens with at most 18 places, such as `2.50`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Amount(Money);

impl Amount {
    /// The amount in base units of a token with `decimals`, rounded down: a limit is never stretched.
    ///
    /// # Errors
    /// [`UnitError::Overflow`] when it does not fit.
    pub fn to_money(self, decimals: u8) -> Result<Money, UnitError> {
        let overflow = || UnitError::Overflow { limit: MAX_MONEY };
        let power = |exponent: u8| 10u128.checked_pow(u32::from(exponent)).ok_or_else(overflow);
        let atto = self.0.base_units();
        if decimals <= PLACES {
            return Money::new(atto / power(PLACES - decimals)?);
        }
        atto.checked_mul(power(decimals - PLACES)?).ok_or_else(overflow).and_then(Money::new)
    }
}

impl FromStr for Amount {
    type Err = UnitError;

    /// Reads `2.5` or `$2.5`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        Money::parse(text, PLACES).map(Self)
    }
}

impl TryFrom<String> for Amount {
    type Error = UnitError;
    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl From<Amount> for String {
    fn from(amount: Amount) -> Self {
        amount.to_string()
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.display(PLACES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_rounded_down_to_what_the_token_can_express() {
        let amount: Amount = "$1.2345678".parse().unwrap();
        assert_eq!(amount.to_money(6).unwrap().base_units(), 1_234_567);
        assert_eq!(amount.to_money(0).unwrap().base_units(), 1);
        assert_eq!(amount.to_money(18).unwrap().base_units(), 1_234_567_800_000_000_000);
        assert_eq!(amount.to_money(20).unwrap().base_units(), 123_456_780_000_000_000_000);
        assert!("79228162515".parse::<Amount>().is_err(), "2^96 of atto is the largest");
        assert!("-1".parse::<Amount>().is_err());
        assert!("1e6".parse::<Amount>().is_err());
    }
}
