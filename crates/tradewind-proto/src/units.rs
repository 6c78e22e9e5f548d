//! Units as types: money, rates, durations, instants and sizes.
//!
//! Every type has a private field and checked arithmetic. Nothing here uses a float. Where a division rounds, the
//! direction stands in the doc comment; amounts that a payer owes always round in the payer's favour.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One whole unit of a rate's fixed-point scale: a rate counts base units per second times this.
pub const RATE_SCALE: u128 = 1_000_000_000_000_000_000;

/// The largest amount the contracts can hold, 2^96 − 1 base units.
pub const MAX_MONEY: u128 = (1 << 96) - 1;

/// Why a unit could not be made or computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The result does not fit.
    #[error("the amount does not fit: it would exceed {limit}")]
    Overflow {
        /// The largest value that fits.
        limit: u128,
    },
    /// A subtraction would fall below zero.
    #[error("the amount would fall below zero")]
    Underflow,
    /// The text is no number of this unit.
    #[error("`{text}` is not {expected}")]
    Syntax {
        /// What was read.
        text: String,
        /// What was expected, with an example.
        expected: &'static str,
    },
}

/// An amount of one token in its base units (a stablecoin with 6 decimals: millionths). At most [`MAX_MONEY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u128", into = "u128")]
pub struct Money(u128);

impl TryFrom<u128> for Money {
    type Error = UnitError;
    fn try_from(base_units: u128) -> Result<Self, UnitError> {
        Self::new(base_units)
    }
}

impl From<Money> for u128 {
    fn from(money: Money) -> Self {
        money.0
    }
}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount that the contracts hold.
    pub const MAX: Self = Self(MAX_MONEY);

    /// An amount of `base_units`.
    ///
    /// # Errors
    /// [`UnitError::Overflow`] above [`MAX_MONEY`].
    pub const fn new(base_units: u128) -> Result<Self, UnitError> {
        if base_units > MAX_MONEY {
            return Err(UnitError::Overflow { limit: MAX_MONEY });
        }
        Ok(Self(base_units))
    }

    /// An amount from a number that always fits.
    #[must_use]
    pub const fn from_base_units(base_units: u64) -> Self {
        Self(base_units as u128)
    }

    /// The amount in base units.
    #[must_use]
    pub const fn base_units(self) -> u128 {
        self.0
    }

    /// True for nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum.
    ///
    /// # Errors
    /// [`UnitError::Overflow`] above [`MAX_MONEY`].
    pub fn checked_add(self, other: Self) -> Result<Self, UnitError> {
        Self::new(self.0.saturating_add(other.0))
    }

    /// The difference.
    ///
    /// # Errors
    /// [`UnitError::Underflow`] when `other` is larger.
    pub fn checked_sub(self, other: Self) -> Result<Self, UnitError> {
        self.0.checked_sub(other.0).map(Self).ok_or(UnitError::Underflow)
    }

    /// The difference, or nothing when `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self × numerator / denominator`, rounded down.
    ///
    /// # Errors
    /// [`UnitError::Overflow`] when the result does not fit or the denominator is zero.
    pub fn fraction(self, numerator: u32, denominator: u32) -> Result<Self, UnitError> {
        self.0
            .checked_mul(u128::from(numerator))
            .and_then(|product| product.checked_div(u128::from(denominator)))
            .ok_or(UnitError::Overflow { limit: MAX_MONEY })
            .and_then(Self::new)
    }

    /// The amount as a decimal of whole tokens, for people: `1234500` at 6 decimals is `1.2345`.
    #[must_use]
    pub fn display(self, decimals: u8) -> String {
        let scale = 10u128.checked_pow(u32::from(decimals.min(36))).unwrap_or(u128::MAX);
        let (whole, part) = (self.0 / scale, self.0 % scale);
        if part == 0 {
            return whole.to_string();
        }
        let digits = format!("{part:0width$}", width = usize::from(decimals));
        format!("{whole}.{}", digits.trim_end_matches('0'))
    }

    /// Reads a decimal of whole tokens, such as `1.25`.
    ///
    /// # Errors
    /// [`UnitError::Syntax`] for anything but digits with at most `decimals` places; [`UnitError::Overflow`].
    pub fn parse(text: &str, decimals: u8) -> Result<Self, UnitError> {
        let syntax = || UnitError::Syntax { text: text.into(), expected: "an amount such as 1.25" };
        let digits = text.trim().trim_start_matches('$');
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && part.is_empty()) || !all_digits(whole) || !all_digits(part) {
            return Err(syntax());
        }
        if part.len() > usize::from(decimals) {
            return Err(syntax());
        }
        let joined = format!("{whole}{part:0<width$}", width = usize::from(decimals));
        joined.parse::<u128>().map_err(|_| UnitError::Overflow { limit: MAX_MONEY }).and_then(Self::new)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A price: base units per second, times [`RATE_SCALE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RatePerSecond(u128);

impl RatePerSecond {
    /// Free of charge.
    pub const ZERO: Self = Self(0);

    /// A rate from its scaled value, as the contracts store it.
    #[must_use]
    pub const fn from_scaled(scaled: u128) -> Self {
        Self(scaled)
    }

    /// The scaled value: base units per second × 1e18.
    #[must_use]
    pub const fn scaled(self) -> u128 {
        self.0
    }

    /// The rate that costs `money` an hour, rounded down (in the payer's favour).
    #[must_use]
    pub const fn per_hour(money: Money) -> Self {
        // 2^96 · 1e18 exceeds u128, so the division by an hour's seconds comes first on the whole part.
        let whole = money.0 / 3600;
        let rest = money.0 % 3600;
        Self(whole.saturating_mul(RATE_SCALE).saturating_add(rest * RATE_SCALE / 3600))
    }

    /// What an hour costs, rounded to the nearest base unit, for people.
    #[must_use]
    pub fn hourly(self) -> Money {
        let whole = (self.0 / RATE_SCALE).saturating_mul(3600);
        let rest = ((self.0 % RATE_SCALE) * 3600 + RATE_SCALE / 2) / RATE_SCALE;
        Money(whole.saturating_add(rest).min(MAX_MONEY))
    }

    /// What `seconds` cost, rounded down (in the payer's favour), saturating at [`Money::MAX`].
    #[must_use]
    pub fn over(self, seconds: Seconds) -> Money {
        let seconds = u128::from(seconds.0);
        let whole = (self.0 / RATE_SCALE).saturating_mul(seconds);
        let (rest, overflowed) = (self.0 % RATE_SCALE).overflowing_mul(seconds);
        if overflowed {
            return Money::MAX;
        }
        Money(whole.saturating_add(rest / RATE_SCALE).min(MAX_MONEY))
    }

    /// The rate times `units`, saturating.
    #[must_use]
    pub const fn times(self, units: u32) -> Self {
        Self(self.0.saturating_mul(units as u128))
    }

    /// How many whole seconds `money` pays for; `None` when the rate is zero.
    #[must_use]
    pub fn seconds_for(self, money: Money) -> Option<Seconds> {
        if self.0 == 0 {
            return None;
        }
        let (mut low, mut high) = (0u64, u64::MAX >> 8);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.over(Seconds(middle)) <= money { low = middle } else { high = middle - 1 }
        }
        Some(Seconds(low))
    }
}

/// A duration in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(u64);

impl Seconds {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// A duration.
    #[must_use]
    pub const fn new(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The number of seconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, zero when `other` is longer.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
            (0, 0, 0, s) => write!(f, "{s}s"),
            (0, 0, m, s) => write!(f, "{m}m{s:02}s"),
            (0, h, m, _) => write!(f, "{h}h{m:02}m"),
            (d, h, _, _) => write!(f, "{d}d{h:02}h"),
        }
    }
}

impl FromStr for Seconds {
    type Err = UnitError;

    /// Reads `90`, `90s`, `10m`, `2h`, `3d` or a sum such as `1h30m`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error =
            || UnitError::Syntax { text: text.into(), expected: "a duration such as 90s, 10m or 1h30m" };
        let (mut total, mut number) = (0u64, String::new());
        for c in text.trim().chars() {
            let unit = match c {
                '0'..='9' => {
                    number.push(c);
                    continue;
                }
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 86_400,
                _ => return Err(error()),
            };
            let value: u64 = number.parse().map_err(|_| error())?;
            total = value.checked_mul(unit).and_then(|v| total.checked_add(v)).ok_or_else(error)?;
            number.clear();
        }
        if number.is_empty() {
            return if total == 0 && !text.contains('0') { Err(error()) } else { Ok(Self(total)) };
        }
        if total != 0 {
            return Err(error());
        }
        number.parse().map(Self).map_err(|_| error())
    }
}

/// A point in time: whole seconds since the Unix epoch, as blocks count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

/// Where a shell takes the time from, injected so that tests and the simulator own it. The rules themselves are told `now`.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The same in milliseconds since the Unix epoch, for what happens between two blocks.
pub type MillisClock = Arc<dyn Fn() -> u64 + Send + Sync>;

impl Timestamp {
    /// A point in time.
    #[must_use]
    pub const fn from_unix(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub const fn unix(self) -> u64 {
        self.0
    }

    /// The time since `earlier`, zero when that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Seconds {
        Seconds(self.0.saturating_sub(earlier.0))
    }

    /// The point `duration` later, saturating.
    #[must_use]
    pub const fn after(self, duration: Seconds) -> Self {
        Self(self.0.saturating_add(duration.0))
    }

    /// The point `duration` earlier, zero at the least.
    #[must_use]
    pub const fn before(self, duration: Seconds) -> Self {
        Self(self.0.saturating_sub(duration.0))
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(u64);

impl Bytes {
    /// No bytes.
    pub const ZERO: Self = Self(0);

    /// A size.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size in mebibytes, saturating.
    #[must_use]
    pub const fn mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// A size in gibibytes, saturating.
    #[must_use]
    pub const fn gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            let size = 1u64 << shift;
            if self.0 >= size {
                let tenths = u128::from(self.0) * 10 / u128::from(size);
                return match tenths % 10 {
                    0 => write!(f, "{} {unit}", tenths / 10),
                    part => write!(f, "{}.{part} {unit}", tenths / 10),
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

impl FromStr for Bytes {
    type Err = UnitError;

    /// Reads `512Mi`, `2GiB`, `10GB`, `4096` or, as the field's job files do, a bare number with `Gi`, `Mi`, `Ki`, `Ti`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError::Syntax { text: text.into(), expected: "a size such as 512MiB or 16GB" };
        let text_trimmed = text.trim();
        let split = text_trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(text_trimmed.len());
        let (number, unit) = text_trimmed.split_at(split);
        let number: u64 = number.parse().map_err(|_| error())?;
        let unit: u64 = match unit.trim().to_ascii_lowercase().trim_end_matches('b') {
            "" => 1,
            "ki" => 1 << 10,
            "mi" => 1 << 20,
            "gi" => 1 << 30,
            "ti" => 1 << 40,
            "k" => 1_000,
            "m" => 1_000_000,
            "g" => 1_000_000_000,
            "t" => 1_000_000_000_000,
            _ => return Err(error()),
        };
        number.checked_mul(unit).map(Self).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn money_reads_what_it_shows() {
        let money = Money::parse("12.000500", 6).unwrap();
        assert_eq!(money.base_units(), 12_000_500);
        assert_eq!(money.display(6), "12.0005");
        assert!(Money::parse("1.0000001", 6).is_err());
        assert!(Money::parse("-1", 6).is_err());
        assert!(Money::parse("", 6).is_err());
    }

    #[test]
    fn durations_and_sizes_read_the_fields_words() {
        assert_eq!("1h30m".parse::<Seconds>().unwrap().get(), 5400);
        assert_eq!("90".parse::<Seconds>().unwrap().get(), 90);
        assert!("1h30".parse::<Seconds>().is_err());
        assert!("".parse::<Seconds>().is_err());
        assert_eq!("512MiB".parse::<Bytes>().unwrap(), Bytes::mib(512));
        assert_eq!("16GB".parse::<Bytes>().unwrap().get(), 16_000_000_000);
        assert!("16 parsecs".parse::<Bytes>().is_err());
    }

    proptest! {
        #[test]
        fn a_rate_never_charges_more_than_its_hourly_price(hourly in 0u64..1 << 50, seconds in 0u64..1 << 30) {
            let rate = RatePerSecond::per_hour(Money::from_base_units(hourly));
            let exact = u128::from(hourly) * u128::from(seconds) / 3600;
            let charged = rate.over(Seconds::new(seconds)).base_units();
            prop_assert!(charged <= exact && exact - charged <= 1);
        }

        #[test]
        fn seconds_for_is_the_longest_time_that_the_money_pays(rate in 1u128..1 << 90, money in 0u64..1 << 60) {
            let (rate, money) = (RatePerSecond::from_scaled(rate), Money::from_base_units(money));
            let seconds = rate.seconds_for(money).unwrap();
            prop_assert!(rate.over(seconds) <= money);
            prop_assume!(seconds.get() < u64::MAX >> 8);
            prop_assert!(rate.over(seconds.plus(Seconds::new(1))) > money);
        }
    }
}
