//! How the job is bought, where, and with whom.

use std::str::FromStr;

use alloy_primitives::Address;

use super::fields::{Fields, Reader, thousandths};
use super::resources::Extras;
use super::words;
use crate::attestation::{TeeDemand, Tees};
use crate::job::problem::Problem;
use crate::job::yaml::{Node, Value};
use crate::job::{Amount, Market, Placement, RegionRequest};
use crate::offer::TrustTier;

const MAX_LIST: usize = 64;
const MAX_PORTS: usize = 16;
const MAX_AUDITORS: usize = 16;
const ACCOUNT: &str = "`0x` and 40 hex digits";

impl Reader {
    pub(super) fn market(&mut self, fields: &Fields<'_>, extras: &Extras) -> Market {
        let choices = [
            ("on-demand", Market::OnDemand),
            ("spot", Market::Spot),
            ("spot-with-fallback", Market::SpotWithFallback),
            ("reserved", Market::Reserved),
        ];
        let market = fields.get("market").and_then(|node| self.choice(node, "market", &choices));
        let use_spot = extras.use_spot;
        let is_spot = matches!(market, Some(Market::Spot | Market::SpotWithFallback));
        if market.is_some() && use_spot.is_some_and(|spot| spot != is_spot) {
            let problem = Problem::new(fields.place("market"), "`market` and `resources.use_spot` disagree");
            self.problem(problem.hint("keep `market`"));
        }
        market.unwrap_or(if use_spot == Some(true) { Market::Spot } else { Market::OnDemand })
    }

    pub(super) fn price(&mut self, fields: &Fields<'_>) -> Option<Amount> {
        let node = fields.get("max_price")?;
        let text = self.text(node, "max_price")?;
        let amount = ["/hour", "/hr", "/h"].iter().find_map(|unit| text.trim().strip_suffix(unit));
        self.amount(node, "max_price", amount.unwrap_or(&text), "`2.50` (an hour)")
    }

    pub(super) fn cost(&mut self, fields: &Fields<'_>) -> Option<Amount> {
        let node = fields.get("max_cost")?;
        let text = self.text(node, "max_cost")?;
        self.amount(node, "max_cost", &text, "`40` or `12.50`")
    }

    fn amount(&mut self, node: &Node, field: &str, text: &str, example: &str) -> Option<Amount> {
        let amount = text.trim().parse::<Amount>().ok();
        if amount.is_none() {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
            let problem = Problem::new(node.place, format!("`{field}` cannot be `{shown}`"));
            self.problem(problem.hint(format!("write it like {example}, in whole tokens")));
        }
        amount
    }

    pub(super) fn regions(&mut self, node: &Node) -> Vec<RegionRequest> {
        let mut regions = Vec::new();
        for item in self.items(node, "regions", MAX_LIST) {
            let Some(text) = self.text(item, "regions") else { continue };
            let (country, label) = match text.split_once('/') {
                Some((country, label)) => (country.to_ascii_uppercase(), Some(label.to_string())),
                None => (text.to_ascii_uppercase(), None),
            };
            let is_code = country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase());
            if country == "EU" && label.is_none() {
                let members =
                    words::EU.iter().map(|code| RegionRequest { country: (*code).into(), label: None });
                regions.extend(members);
            } else if is_code && label.as_deref().is_none_or(|label| !label.is_empty()) {
                regions.push(RegionRequest { country, label });
            } else {
                let problem = Problem::new(item.place, "a region must be a country's two letters");
                self.problem(problem.hint("write it like `DE`, `EU`, or `DE/fra-1` for a provider's label"));
            }
        }
        regions
    }

    pub(super) fn placement(&mut self, node: &Node) -> Placement {
        let known =
            ["trust_tier", "tee", "gpu_tee", "encrypted", "attestations", "min_reliability", "providers"];
        let mut placement = Placement::default();
        let Some(fields) = self.fields(node, "placement", &known) else { return placement };
        if let Some(node) = fields.get("trust_tier") {
            let choices = [
                ("unstaked", TrustTier::Unstaked),
                ("staked", TrustTier::Staked),
                ("attested", TrustTier::Attested),
                ("confidential", TrustTier::Confidential),
            ];
            placement.trust_tier =
                self.choice(node, "placement.trust_tier", &choices).unwrap_or(TrustTier::Staked);
            if placement.trust_tier > TrustTier::Staked {
                let message = format!("`trust_tier: {}` is not available yet", placement.trust_tier);
                self.problem(Problem::new(node.place, message).hint("nobody checks more than stake for now"));
            }
        }
        placement.tee = self.tee(&fields);
        let encrypted = fields.get("encrypted").and_then(|node| self.flag(node, "placement.encrypted"));
        placement.encrypted = encrypted.unwrap_or(false);
        placement.place_attested_by =
            fields.get("attestations").map(|node| self.auditors(node)).unwrap_or_default();
        placement.min_reliability = fields.get("min_reliability").and_then(|node| self.reliability(node));
        if let Some(node) = fields.get("providers")
            && let Some(providers) = self.fields(node, "placement.providers", &["allow", "deny", "devices"])
        {
            placement.allow = self.ids(providers.get("allow"), ACCOUNT);
            placement.deny = self.ids(providers.get("deny"), ACCOUNT);
            placement.devices = self
                .ids(providers.get("devices"), "`0x` and 64 hex digits, as `tradewind offers --json` shows");
        }
        placement
    }

    /// `attestations: {place: [0x…]}`: whose word counts for where a machine stands. An empty list asks for nothing.
    fn auditors(&mut self, node: &Node) -> Vec<Address> {
        if matches!(&node.value, Value::List(list) if list.is_empty()) {
            return Vec::new();
        }
        let Some(fields) = self.fields(node, "placement.attestations", &["place"]) else { return Vec::new() };
        let Some(node) = fields.get("place") else { return Vec::new() };
        let field = "placement.attestations.place";
        let items = self.items(node, field, MAX_AUDITORS);
        items.iter().filter_map(|item| self.parsed(item, field, ACCOUNT)).collect()
    }

    /// `tee: any`, a kind or several, and `gpu_tee: true`, which takes any machine where none is named.
    fn tee(&mut self, fields: &Fields<'_>) -> TeeDemand {
        let named = fields.get("tee").filter(|node| !matches!(node.value, Value::Bool(false)));
        let items = named.map(|node| self.items(node, "placement.tee", MAX_LIST)).unwrap_or_default();
        let mut machine = Tees::NONE;
        for item in items {
            let Some(text) = self.text(item, "placement.tee") else { continue };
            let kind = match text.as_str() {
                "any" => Some(Tees::MACHINES),
                kind => kind.parse::<Tees>().ok().filter(|kind| kind.intersects(Tees::MACHINES)),
            };
            if let Some(kind) = kind {
                machine = machine.with(kind);
            } else {
                let problem = Problem::new(item.place, "`placement.tee` names a kind that is not known");
                self.problem(
                    problem.hint(
                        "write `any`, `tdx`, `sgx`, `sev-snp` or `nitro`; `gpu_tee: true` for the GPUs",
                    ),
                );
            }
        }
        let gpus =
            fields.get("gpu_tee").and_then(|node| self.flag(node, "placement.gpu_tee")).unwrap_or(false);
        if gpus && machine.is_empty() {
            machine = Tees::MACHINES;
        }
        TeeDemand { machine, gpus }
    }

    fn ids<T: FromStr>(&mut self, node: Option<&Node>, hint: &str) -> Vec<T> {
        let (Some(node), field) = (node, "placement.providers") else { return Vec::new() };
        let items = self.items(node, field, MAX_LIST);
        items.iter().filter_map(|item| self.parsed(item, field, hint)).collect()
    }

    /// `99.5%` or `0.995`, in basis points.
    fn reliability(&mut self, node: &Node) -> Option<u16> {
        let text = self.text(node, "placement.min_reliability")?;
        let text = text.trim();
        let basis_points = match text.strip_suffix('%') {
            Some(percent) => thousandths(percent.trim()).map(|n| n / 10),
            None => text.strip_prefix('0').and_then(|part| thousandths(&format!("0{part}"))).map(|n| n * 10),
        };
        let basis_points = basis_points.and_then(|n| u16::try_from(n).ok()).filter(|n| *n <= 10_000);
        if basis_points.is_none() {
            let problem = Problem::new(node.place, "`placement.min_reliability` must be a share up to 100%");
            self.problem(problem.hint("write it like `99.5%` or `0.995`"));
        }
        basis_points
    }

    pub(super) fn ports(&mut self, node: &Node) -> Vec<u16> {
        let mut ports = Vec::new();
        for item in self.items(node, "ports", MAX_LIST) {
            let Some(text) = self.text(item, "ports") else { continue };
            let (first, last) = text.split_once('-').unwrap_or((&text, &text));
            match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
                (Ok(first), Ok(last)) if first > 0 && first <= last && usize::from(last - first) < 256 => {
                    ports.extend(first..=last);
                }
                _ => {
                    let problem = Problem::new(item.place, "a port must be a number from 1 to 65535");
                    self.problem(problem.hint("write it like `8080`, or `8080-8090` for a range"));
                }
            }
        }
        ports.sort_unstable();
        ports.dedup();
        if ports.len() > MAX_PORTS {
            self.problem(Problem::new(node.place, format!("`ports` are more than {MAX_PORTS}")));
            ports.clear();
        }
        ports
    }
}
