//! What a scenario claims, and the rules that have to hold before it is said.

use anyhow::bail;
use serde::Serialize;
use tradewind_chain::ledger::LeaseStage;
use tradewind_chain::ledger::court::Outcome;
use tradewind_proto::ids::{DeviceId, LeaseId};
use tradewind_proto::profile::Asset;

use crate::printer::{money, table};

/// Who paid what. Losses and compensation in base units of `asset`, stakes and supplies in those of `staked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) scenario: &'static str,
    /// What the court said: `none` where it had nothing to say.
    pub(super) verdict: &'static str,
    /// Seats in the roster of that epoch.
    pub(super) seats: u32,
    /// Below so many seats the court only observes.
    pub(super) jail_seats: u32,
    /// Seats drawn to decide; none where nobody votes.
    pub(super) committee: u32,
    /// Of them, whose signed votes are in.
    pub(super) signatures: u32,
    pub(super) device: DeviceId,
    /// The lease that the failure ended; none where it ended none.
    pub(super) lease: Option<LeaseId>,
    pub(super) buyer_loss: u128,
    pub(super) buyer_compensation: u128,
    pub(super) slashed: u128,
    pub(super) sunk: u128,
    pub(super) reporter_reward: u128,
    /// In seconds since 1970; zero where it was never jailed.
    pub(super) jailed_until: u64,
    /// From the failure to the conviction, or from the lie to its proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seconds_to_verdict: Option<u64>,
    /// From the failure to the block that paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seconds_to_compensation: Option<u64>,
    pub(super) supply_before: u128,
    pub(super) supply_after: u128,
    pub(super) burned: u128,
    pub(super) asset: Asset,
    pub(super) staked: Asset,
    /// What a court did, where one sat.
    #[serde(flatten)]
    pub(super) trial: Option<Trial>,
    /// The provider that did nothing wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) healthy: Option<Healthy>,
}

/// How a committee came to its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Trial {
    /// Processes that hold the seats.
    pub(super) watchers: u32,
    /// How many votes found the device guilty.
    pub(super) guilty: u32,
    /// Cases that it lost: one for each epoch that somebody accused it of.
    pub(super) convictions: usize,
    /// From the failure to the slash, after the appeal's window.
    pub(super) seconds_to_slash: u64,
}

/// A provider that was there all the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Healthy {
    pub(super) device: DeviceId,
    pub(super) slashed: u128,
    pub(super) jailed_until: u64,
    /// Cases about it.
    pub(super) cases: usize,
    pub(super) lease: LeaseId,
    /// Where its lease stands.
    pub(super) state: LeaseStage,
    /// Paid when the endpoint failed.
    pub(super) paid_before: u128,
    /// And after it came back.
    pub(super) paid: u128,
    /// How long the RPC endpoint was down.
    pub(super) outage_seconds: u64,
}

/// A case's end in a word.
pub(super) const fn verdict(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Open => "open",
        Outcome::Guilty => "guilty",
        Outcome::Clear => "clear",
        Outcome::Unknown => "unknown",
    }
}

impl Report {
    /// The scenario claims nothing that does not hold.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let mut rules = vec![
            ("slashed = reporter_reward + sunk", self.slashed == self.reporter_reward + self.sunk),
            ("reporter_reward <= slashed / 10", self.reporter_reward <= self.slashed / 10),
            ("supply_before = supply_after + burned", self.supply_before == self.supply_after + self.burned),
            ("buyer_loss > 0", self.lease.is_none() || self.buyer_loss > 0),
            ("buyer_compensation >= buyer_loss", self.buyer_compensation >= self.buyer_loss),
        ];
        if self.scenario == "lonely" {
            rules.extend([
                ("too few seats for a case", self.seats < self.jail_seats),
                ("no verdict", self.verdict == "none"),
                ("slashed = 0", self.slashed == 0),
                ("never jailed", self.jailed_until == 0),
            ]);
        }
        if let Some(trial) = &self.trial {
            rules.extend([
                ("a committee of 11", self.committee == 11),
                ("8 signatures", self.signatures >= 8 && trial.guilty >= 8),
                ("40 seats in 5 processes", self.seats >= 40 && trial.watchers >= 5),
                ("guilty", self.verdict == "guilty"),
                ("slashed", self.slashed > 0 && self.burned == self.sunk),
                ("jailed", self.jailed_until > 0),
            ]);
        } else if self.lease.is_none() {
            rules.extend([
                ("no vote", self.committee == 0 && self.signatures == 0),
                ("slashed", self.slashed > 0 && self.burned == self.sunk),
                ("the reporter is paid", self.reporter_reward > 0),
            ]);
        }
        if let Some(healthy) = &self.healthy {
            rules.extend([
                ("the healthy provider is untouched", healthy.slashed == 0 && healthy.jailed_until == 0),
                ("nobody accused it", healthy.cases == 0),
                ("its lease runs", healthy.state == LeaseStage::Open),
                ("it earns on", healthy.paid > healthy.paid_before),
            ]);
        }
        let broken: Vec<&str> = rules.into_iter().filter(|(_, holds)| !holds).map(|(rule, _)| rule).collect();
        if broken.is_empty() {
            return Ok(());
        }
        bail!("`{}` does not hold: {}", broken.join("`, `"), serde_json::to_string(self)?)
    }

    /// The same for people.
    pub(super) fn text(&self) -> String {
        let quote = |amount| money(amount, &self.asset);
        let stake = |amount| money(amount, &self.staked);
        let mut rows =
            vec![["verdict".to_owned(), self.verdict.into()], ["seats".into(), self.seats.to_string()]];
        if let Some(lease) = self.lease {
            rows.push(["lease".into(), lease.to_string()]);
            rows.push(["buyer's loss".into(), quote(self.buyer_loss)]);
            rows.push(["buyer's compensation".into(), quote(self.buyer_compensation)]);
        }
        rows.extend(self.seconds_to_verdict.map(|after| ["verdict after".to_owned(), format!("{after} s")]));
        let paid = self.seconds_to_compensation;
        rows.extend(paid.map(|after| ["compensated after".to_owned(), format!("{after} s")]));
        rows.extend([
            ["slashed".into(), stake(self.slashed)],
            ["to the reporter".into(), stake(self.reporter_reward)],
            ["to the sink".into(), stake(self.sunk)],
            ["burned".into(), stake(self.burned)],
            ["supply before".into(), stake(self.supply_before)],
            ["supply after".into(), stake(self.supply_after)],
        ]);
        table(["scenario", self.scenario], rows)
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use tradewind_proto::profile::AssetKind;

    use super::*;

    fn lonely() -> Report {
        let asset = Asset { symbol: "T".into(), address: Address::ZERO, decimals: 6, kind: AssetKind::Plain };
        Report {
            scenario: "lonely",
            verdict: "none",
            seats: 3,
            jail_seats: 11,
            committee: 0,
            signatures: 0,
            device: DeviceId::NONE,
            lease: Some(LeaseId::default()),
            buyer_loss: 600,
            buyer_compensation: 1_600,
            slashed: 0,
            sunk: 0,
            reporter_reward: 0,
            jailed_until: 0,
            seconds_to_verdict: None,
            seconds_to_compensation: Some(12),
            supply_before: 1_000,
            supply_after: 1_000,
            burned: 0,
            asset: asset.clone(),
            staked: asset,
            trial: None,
            healthy: None,
        }
    }

    fn broken(report: &Report) -> String {
        report.check().expect_err("a broken rule").to_string()
    }

    #[test]
    fn a_report_that_does_not_add_up_names_every_rule_that_it_breaks() {
        lonely().check().unwrap();
        let lost = Report { buyer_compensation: 599, ..lonely() };
        assert!(broken(&lost).starts_with("`buyer_compensation >= buyer_loss` does not hold"));
        let burned = Report { slashed: 10, sunk: 8, burned: 7, ..lonely() };
        let said = broken(&burned);
        for rule in
            ["slashed = reporter_reward + sunk", "supply_before = supply_after + burned", "slashed = 0"]
        {
            assert!(said.contains(rule), "{said}");
        }
    }

    #[test]
    fn amounts_beyond_a_machine_word_stay_exact_in_json() {
        let supply = 1_000_000_000_000_000_000_000_000_001;
        let report = Report { supply_before: supply, supply_after: supply, ..lonely() };
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains("\"supply_before\":1000000000000000000000000001,"), "{json}");
    }
}
