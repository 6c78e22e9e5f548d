//! The overview page, and the rows that it shows.

use askama::Template;
use serde::Serialize;
use tradewind_proto::challenge::{MemoryRate, WalkProfile};
use tradewind_proto::ids::{DeviceId, ProviderId};
use tradewind_proto::offer::Offer;
use tradewind_proto::reputation::Standing;
use tradewind_proto::units::{Money, Timestamp};

use crate::index::Overview;
use tradewind_reputation::Rated;

/// A live offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfferRow {
    /// The seller.
    pub provider: String,
    /// What a unit consists of.
    pub unit: String,
    /// Free and all units.
    pub free: String,
    /// Where.
    pub region: String,
    /// What starts workloads.
    pub runtimes: String,
    /// What stands behind it.
    pub trust: String,
    /// The price of a unit for an hour, in base units.
    pub hourly: Money,
    /// When it ends unless it is renewed.
    pub expires_at: Timestamp,
}

impl From<&Offer> for OfferRow {
    fn from(offer: &Offer) -> Self {
        let gpus = offer.unit.gpus.as_ref().map(|gpus| format!("{} × {}, ", gpus.count, gpus.model));
        let cpus = offer.unit.cpu_millis / 1_000;
        Self {
            provider: offer.provider.to_string(),
            unit: format!("{}{cpus} CPU, {}", gpus.unwrap_or_default(), offer.unit.memory),
            free: format!("{} of {}", offer.free_units, offer.units),
            region: offer.region.country.clone(),
            runtimes: offer.runtimes.to_string(),
            trust: offer.trust.to_string(),
            hourly: offer.prices.on_demand.hourly(),
            expires_at: offer.expires_at,
        }
    }
}

/// A device and what chain and watchers say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceRow {
    /// The device.
    pub device: DeviceId,
    /// Whose.
    pub provider: Option<ProviderId>,
    /// What it comes to, and how much it rests on.
    #[serde(flatten)]
    pub rated: Rated,
    /// How fast its memory is, and whether that fits what is offered.
    pub memory_rate: Option<MemoryRate>,
}

impl DeviceRow {
    /// `model` is what its live offer says that it is.
    pub(crate) fn new(
        device: DeviceId,
        provider: Option<ProviderId>,
        rated: Rated,
        profile: Option<&WalkProfile>,
        model: Option<&str>,
    ) -> Self {
        let memory_rate = rated.memory.map(|measured| MemoryRate::new(measured, profile, model));
        Self { device, provider, rated, memory_rate }
    }

    /// Rated ones first, by score; then those with the most evidence.
    pub(crate) fn rank(&self) -> (u32, usize) {
        let score = match &self.rated.reputation.standing {
            Standing::Rated(score) => score.billionths().saturating_add(1),
            Standing::InsufficientData(_) => 0,
        };
        (score, self.rated.evidence)
    }

    /// What there is too little of, for people.
    fn lacks(&self) -> String {
        match &self.rated.reputation.standing {
            Standing::Rated(_) => String::new(),
            Standing::InsufficientData(lacks) => {
                let lacks: Vec<_> = lacks.iter().map(ToString::to_string).collect();
                format!("lacks {}", lacks.join(", "))
            }
        }
    }
}

/// The market on one page.
#[derive(Template)]
#[template(path = "market.html")]
pub(crate) struct MarketPage<'a> {
    pub(crate) network: &'a str,
    pub(crate) symbol: &'a str,
    pub(crate) decimals: u8,
    pub(crate) now: Timestamp,
    pub(crate) overview: &'a Overview,
    pub(crate) offers: &'a [OfferRow],
    pub(crate) pages: usize,
    pub(crate) devices: &'a [DeviceRow],
}

impl MarketPage<'_> {
    fn money(&self, amount: &Money) -> String {
        amount.display(self.decimals)
    }

    fn short(&self, text: impl ToString) -> String {
        text.to_string().chars().take(10).collect()
    }

    fn ago(&self, at: &Timestamp) -> String {
        format!("{} ago", self.now.since(*at))
    }

    fn left(&self, at: &Timestamp) -> String {
        format!("in {}", at.since(self.now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;
    use crate::index::tests::{happened, opened};

    fn html(overview: &Overview, offers: &[OfferRow]) -> String {
        let now = Timestamp::from_unix(1_010);
        let (pages, devices) = (0, &[]);
        MarketPage {
            network: "development",
            symbol: "tUSD",
            decimals: 6,
            now,
            overview,
            offers,
            pages,
            devices,
        }
        .render()
        .unwrap()
    }

    #[test]
    fn an_empty_market_says_how_to_fill_it() {
        let page = html(&Overview::default(), &[]);
        assert!(page.contains("No offers are live") && page.contains("No lease was opened yet"));
    }

    #[test]
    fn a_lease_shows_its_price_and_state() {
        let mut index = Index::default();
        index.apply(happened(1, opened()));
        let page = html(&index.overview(10), &[]);
        assert!(page.contains("0.18") && page.contains("on-demand") && page.contains("open"), "{page}");
    }

    #[test]
    fn hostile_offers_are_text_and_nothing_else() {
        let offer = OfferRow {
            provider: "0x01".into(),
            unit: "<script>alert(1)</script>".into(),
            free: "1 of 1".into(),
            region: "\"onload=".into(),
            runtimes: "process".into(),
            trust: "staked".into(),
            hourly: Money::ZERO,
            expires_at: Timestamp::from_unix(1_020),
        };
        let page = html(&Overview::default(), &[offer]);
        assert!(!page.contains("<script>alert"), "{page}");
        assert!(page.contains("in 10s"));
    }
}
