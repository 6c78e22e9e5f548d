//! One measured value: beside its budget, and beside what the same work costs at a peer.

use std::fmt;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::{Serialize, Serializer};

/// What a value has to keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Budget {
    AtMost(f64),
    AtLeast(f64),
}

impl Budget {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "≤ {limit}"),
            Self::AtLeast(limit) => write!(f, "≥ {limit}"),
        }
    }
}

impl Serialize for Budget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) budget: Option<Budget>,
    pub(crate) peer: Option<String>,
    pub(crate) peer_value: Option<f64>,
    /// Value over peer's value.
    pub(crate) ratio: Option<f64>,
    pub(crate) machine: String,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value: rounded(value),
            unit,
            budget: None,
            peer: None,
            peer_value: None,
            ratio: None,
            machine: String::new(),
        }
    }

    pub(crate) fn at_most(mut self, limit: f64) -> Self {
        self.budget = Some(Budget::AtMost(limit));
        self
    }

    pub(crate) fn at_least(mut self, limit: f64) -> Self {
        self.budget = Some(Budget::AtLeast(limit));
        self
    }

    pub(crate) fn beside(mut self, peer: impl Into<String>, value: f64) -> Self {
        self.peer = Some(peer.into());
        self.peer_value = Some(rounded(value));
        self.ratio = (value != 0.0).then(|| rounded(self.value / value));
        self
    }

    fn verdict(&self) -> &'static str {
        match self.budget {
            None => "",
            Some(budget) if budget.holds(self.value) => "kept",
            Some(_) => "MISSED",
        }
    }
}

/// Four significant places, which is more than a run repeats.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() || value.abs() >= 1_000.0 {
        return value.round();
    }
    let places = (3.0 - value.abs().log10().floor()).clamp(0.0, 9.0);
    let scale = 10_f64.powf(places);
    (value * scale).round() / scale
}

/// The report for people.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["figure", "value", "unit", "budget", "", "peer", "peer's", "ratio"]);
    for column in [1, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let optional = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for figure in figures {
        table.add_row([
            figure.name.clone(),
            figure.value.to_string(),
            figure.unit.to_owned(),
            figure.budget.map(|budget| budget.to_string()).unwrap_or_default(),
            figure.verdict().to_owned(),
            figure.peer.clone().unwrap_or_default(),
            optional(figure.peer_value),
            optional(figure.ratio),
        ]);
    }
    table.to_string()
}

/// A count as a figure's value.
#[expect(clippy::cast_precision_loss, reason = "counts of a run stay far below 2^53")]
pub(crate) const fn number(count: u64) -> f64 {
    count as f64
}

/// The same of something's length.
pub(crate) fn length(count: usize) -> f64 {
    number(u64::try_from(count).unwrap_or(u64::MAX))
}

pub(crate) fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

/// How often something happens a second, if `count` of it took `span`.
pub(crate) fn per_second(count: u64, span: Duration) -> f64 {
    number(count) / span.as_secs_f64()
}

/// The middle of several rounds; zero of none.
pub(crate) fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    match rounds.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => rounds[odd / 2],
        even => f64::midpoint(rounds[even / 2 - 1], rounds[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_kept_up_to_its_limit_and_missed_beyond() {
        let figure = |value| Figure::new("gas", value, "gas").at_most(100.0);
        assert_eq!((figure(100.0).verdict(), figure(101.0).verdict()), ("kept", "MISSED"));
        let figure = |value| Figure::new("rate", value, "1/s").at_least(0.9);
        assert_eq!((figure(0.9).verdict(), figure(0.89).verdict()), ("kept", "MISSED"));
    }

    #[test]
    fn a_line_of_the_json_has_every_field_and_its_ratio() {
        let figure = Figure::new("settle", 50_490.4, "gas").at_most(52_000.0).beside("Sablier", 100_981.0);
        let json = serde_json::to_value(&figure).unwrap();
        let expected = serde_json::json!({
            "name": "settle", "value": 50_490.0, "unit": "gas", "budget": "≤ 52000", "peer": "Sablier",
            "peer_value": 100_981.0, "ratio": 0.5, "machine": "",
        });
        assert_eq!(json, expected);
        let alone = serde_json::to_value(Figure::new("a", 1.0, "s")).unwrap();
        assert!(alone["budget"].is_null() && alone["peer"].is_null() && alone["ratio"].is_null());
    }

    #[test]
    fn the_median_is_the_middle_round() {
        assert_eq!(median(vec![9.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
    }

    #[test]
    fn values_are_rounded_to_four_places() {
        assert_eq!(
            (rounded(0.000_123_456), rounded(12.345_6), rounded(91_853.4)),
            (0.000_123_5, 12.35, 91_853.0)
        );
    }
}
