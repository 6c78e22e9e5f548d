//! What is sold, to whom, and for how much: the configuration against what the machine has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use alloy::primitives::{Address, B256};
use anyhow::{Context, bail};
use jiff::tz::TimeZone;
use tradewind_proto::attestation::Tees;
use tradewind_proto::ids::{BuyerId, DeviceId, ProviderId};
use tradewind_proto::lending::{Lending, Limits, Schedule};
use tradewind_proto::offer::{
    Asked, Conditions, Follow, Offer, PortRange, PriceList, Prices, Region, Resources, Runtimes, Spot,
    TrustTier, power_cost,
};
use tradewind_proto::owner::{ImagePattern, OwnerRules};
use tradewind_proto::place::MAX_WORDS;
use tradewind_proto::units::{Bytes, Money, Seconds, Timestamp};
use tradewind_proto::workload::Network;
use tradewind_provider::docker::{CacheRules, ImageKey, SignedImages};
use tradewind_provider::inventory::{Inventory, Reserve, Sold, Wanted};
use tradewind_provider::runtime::Runtime;
use tradewind_provider::tee::{Attester, CommandAttester};

use super::{DOCKER, Needs, PROCESS, SLURM, slurm};
use crate::node::config::{
    FollowSection, LimitsSection, PowerSection, PricesSection, ProviderSection, ReserveSection, RulesSection,
    ScheduleSection, SignedSection, TeeSection,
};

/// Cuts the machine into what the configuration sells, or says what it has not.
pub(crate) fn sold(section: &ProviderSection, inventory: &Inventory) -> anyhow::Result<Sold> {
    if slurm::section(section)?.is_some() {
        return slurm::sold(section);
    }
    let wanted = Wanted {
        units: section.units,
        cpus: section.cpus,
        memory: size(section.memory.as_deref(), "memory")?,
        disk: size(section.disk.as_deref(), "disk")?,
        gpus: section.gpus,
    };
    let reserve = section.reserve.as_ref().map(reserve).transpose()?;
    let inventory = &lendable(section, inventory);
    let sold = inventory.sell(&wanted, reserve)?;
    let disk = Bytes::new(sold.unit.disk.get().saturating_mul(u64::from(section.units)));
    if disk > inventory.disk.free {
        tracing::warn!(sold = %disk, free = %inventory.disk.free, "less disk is free than is sold");
    }
    for problem in &inventory.gpu_problems {
        tracing::warn!(%problem, "accelerators are not sold");
    }
    Ok(sold)
}

/// The machine without the accelerators that a job may not get: a buyer chooses among all of the runtimes.
pub(crate) fn lendable(section: &ProviderSection, inventory: &Inventory) -> Inventory {
    if section.runtimes.iter().all(|name| name == DOCKER) {
        return inventory.clone();
    }
    inventory.without_containers()
}

fn reserve(section: &ReserveSection) -> anyhow::Result<Reserve> {
    let kept = |text: Option<&str>, field: &str| size(text, field).map(|size| size.unwrap_or(Bytes::ZERO));
    Ok(Reserve {
        cpus: section.cpus,
        memory: kept(section.memory.as_deref(), "reserve.memory")?,
        disk: kept(section.disk.as_deref(), "reserve.disk")?,
        gpus: section.gpus,
    })
}

pub(super) fn size(text: Option<&str>, field: &str) -> anyhow::Result<Option<Bytes>> {
    text.map(|text| text.parse::<Bytes>().with_context(|| format!("`provider.{field}` in node.toml")))
        .transpose()
}

/// Reads the owner's rules.
pub(super) fn rules(section: &RulesSection) -> anyhow::Result<OwnerRules> {
    let accounts = |list: &[String], field: &str| -> anyhow::Result<BTreeSet<BuyerId>> {
        let account = |text: &String| {
            let account = text.parse::<Address>();
            account
                .map(BuyerId::new)
                .with_context(|| format!("`provider.rules.{field}` in node.toml: `{text}`"))
        };
        list.iter().map(account).collect()
    };
    Ok(OwnerRules {
        allow_buyers: accounts(&section.allow_buyers, "allow_buyers")?,
        deny_buyers: accounts(&section.deny_buyers, "deny_buyers")?,
        allow_images: images(&section.allow_images, "rules.allow_images")?,
        deny_images: images(&section.deny_images, "rules.deny_images")?,
        pinned_images: section.pinned_images,
        leases_per_buyer: section.leases_per_buyer,
    })
}

/// Images that run with a signature only, and the keys whose signatures count.
pub(super) fn signed_images(section: &ProviderSection) -> anyhow::Result<Vec<SignedImages>> {
    const FIELD: &str = "`provider.signed_images` in node.toml";
    let key = |file: &PathBuf| {
        let named = || format!("{FIELD}: {}", file.display());
        let text = std::fs::read_to_string(file).with_context(named)?;
        ImageKey::from_pem(&text).with_context(named)
    };
    let rule = |signed: &SignedSection| {
        if signed.images.is_empty() || signed.keys.is_empty() {
            bail!("{FIELD}: name `images`, such as `[\"*\"]`, and the files of `keys`");
        }
        let keys = signed.keys.iter().map(key).collect::<anyhow::Result<_>>()?;
        Ok(SignedImages { images: images(&signed.images, "signed_images")?, keys })
    };
    section.signed_images.iter().map(rule).collect()
}

fn images(patterns: &[String], field: &str) -> anyhow::Result<Vec<ImagePattern>> {
    let pattern = |text: &String| {
        text.parse::<ImagePattern>().with_context(|| format!("`provider.{field}` in node.toml"))
    };
    patterns.iter().map(pattern).collect()
}

/// Which images stay for later leases.
pub(super) fn image_cache(section: &ProviderSection) -> anyhow::Result<CacheRules> {
    let limit = size(section.image_cache.as_deref(), "image_cache")?;
    let limit = limit.unwrap_or(CacheRules::default().limit);
    Ok(CacheRules { limit, keep: images(&section.keep_images, "keep_images")? })
}

/// How much of the web's inputs stays for later leases.
pub(super) fn input_cache(section: &ProviderSection) -> anyhow::Result<Bytes> {
    Ok(size(section.input_cache.as_deref(), "input_cache")?.unwrap_or(Bytes::gib(50)))
}

/// How the price follows the market's, where it does.
pub(super) fn follow(
    section: &ProviderSection,
    asked: Asked,
    decimals: u8,
) -> anyhow::Result<Option<Follow>> {
    let Some(FollowSection { percent, floor, ceiling }) = &section.follow else { return Ok(None) };
    let money = |text: &str, field: &str| {
        Money::parse(text, decimals).with_context(|| format!("`provider.follow.{field}` in node.toml"))
    };
    let floor = money(floor, "floor")?.max(asked.least);
    let ceiling = money(ceiling, "ceiling")?;
    if !(1..=1_000).contains(percent) {
        bail!("`provider.follow.percent` in node.toml must be 1 to 1000");
    }
    if floor.is_zero() || floor > ceiling {
        bail!(
            "`provider.follow` in node.toml: the floor, `rules.min_price` and what electricity costs must be more than nothing in \
             all, and each at most the ceiling"
        );
    }
    Ok(Some(Follow { percent: *percent, floor, ceiling, asked }))
}

/// Reads the owner's hours and limits.
pub(super) fn lending(section: &ProviderSection) -> anyhow::Result<Lending> {
    let ScheduleSection { time_zone, lend, maintenance } = section.schedule.clone().unwrap_or_default();
    let zone = match time_zone {
        Some(name) => TimeZone::get(&name).with_context(|| {
            format!("`provider.schedule.time_zone` in node.toml: write a name such as `Europe/Berlin`, not `{name}`")
        })?,
        None => TimeZone::system(),
    };
    let schedule = Schedule::new(zone, &lend, &maintenance).context("`provider.schedule` in node.toml")?;
    let LimitsSection { load, heat, idle } = section.limits.unwrap_or_default();
    Ok(Lending::new(schedule, Limits { load, heat, idle: idle.map(Seconds::new) }))
}

/// What asks the hardware for evidence of trusted execution.
pub(super) fn attester(section: &TeeSection) -> anyhow::Result<Arc<dyn Attester>> {
    let mut kinds = Tees::NONE;
    for name in &section.kinds {
        kinds = kinds.with(name.parse::<Tees>().context("`provider.tee.kinds` in node.toml")?);
    }
    if !kinds.intersects(Tees::MACHINES) {
        bail!("`provider.tee.kinds` in node.toml names no kind of machine; use tdx, sgx, sev-snp or nitro");
    }
    if section.command.is_empty() {
        bail!("`provider.tee.command` in node.toml is empty; name the program that prints the evidence");
    }
    Ok(Arc::new(CommandAttester { kinds, command: section.command.clone() }))
}

/// The offer of `unit`, as the configuration prices it.
pub(super) async fn offer(
    needs: &Needs<'_>,
    device: Option<DeviceId>,
    runtimes: &BTreeMap<&'static str, Arc<dyn Runtime>>,
    unit: Resources,
    asked: Asked,
) -> anyhow::Result<Offer> {
    let asset = needs.profile.quote().context("the network's profile names no asset")?;
    let version = needs.ledger.current_version().await.context("the chain's parameters cannot be read")?;
    let offer = Offer {
        provider: ProviderId::new(needs.key.address()),
        device: device.unwrap_or(DeviceId::NONE),
        mesh_key: needs.transport.key(),
        sequence: 0,
        issued_at: Timestamp::default(),
        // Filled in at each heartbeat, as the sequence is; until then it only has to be an offer.
        expires_at: Timestamp::from_unix(1),
        runtimes: runtimes.keys().fold(Runtimes::NONE, |set, name| set.with(runtime_bit(name))),
        prices: prices(needs.section, &unit, asked, asset.address, asset.decimals)?,
        unit,
        units: needs.section.units,
        free_units: needs.section.units,
        region: Region { country: needs.section.country.clone(), label: needs.section.label.clone() },
        conditions: conditions(needs.section),
        network: if runtimes.contains_key(DOCKER) { Network::Internet } else { Network::None },
        ports: vec![PortRange { first: 1, last: u16::MAX }],
        trust: if device.is_some() { TrustTier::Staked } else { TrustTier::Unstaked },
        terms_of_service: B256::ZERO,
        version,
        address: None,
        // Filled in at each heartbeat too.
        tees: Tees::NONE,
        encrypted: false,
        attested: Vec::new(),
    };
    offer.check().context("`provider` in node.toml makes no offer")?;
    Ok(offer)
}

/// Whose attestations of the place the offer repeats.
pub(super) fn auditors(section: &ProviderSection) -> anyhow::Result<Vec<Address>> {
    if section.auditors.len() > MAX_WORDS {
        bail!("`provider.auditors` in node.toml: an offer repeats {MAX_WORDS} attestations at most");
    }
    let auditor = |text: &String| {
        let parsed = text.parse::<Address>();
        parsed.with_context(|| {
            format!("`provider.auditors` in node.toml: `{text}` is no account (0x and 40 hex digits)")
        })
    };
    section.auditors.iter().map(auditor).collect()
}

fn conditions(section: &ProviderSection) -> Conditions {
    let standard = Conditions::standard();
    let seconds = |stated: Option<u64>, usual: Seconds| stated.map_or(usual, Seconds::new);
    Conditions {
        min_slack: Seconds::new(5),
        prepay: Seconds::new(5),
        notice: Seconds::new(section.notice),
        min_duration: seconds(section.rules.min_duration, standard.min_duration),
        max_duration: seconds(section.rules.max_duration, standard.max_duration),
        ..standard
    }
}

/// An amount in whole tokens, as one of the role's fields has it.
fn money(text: Option<&String>, field: &str, decimals: u8) -> anyhow::Result<Option<Money>> {
    let parse = |text: &String| {
        Money::parse(text, decimals).with_context(|| format!("`provider.{field}` in node.toml"))
    };
    text.map(parse).transpose()
}

/// What is asked beside the price on demand of a unit that draws `watts`, where that can be known.
pub(super) fn asked(section: &ProviderSection, watts: Option<u32>, decimals: u8) -> anyhow::Result<Asked> {
    let money = |text: Option<&String>, field: &str| money(text, field, decimals);
    let spot = match (money(section.spot_price.as_ref(), "spot_price")?, section.spot_percent) {
        (Some(_), Some(_)) => {
            bail!("`provider.spot_price` and `provider.spot_percent` in node.toml: keep one of them")
        }
        (None, Some(percent)) if !(1..=100).contains(&percent) => {
            bail!("`provider.spot_percent` in node.toml must be 1 to 100")
        }
        (Some(price), None) => Some(Spot::Fixed(price)),
        (None, percent) => percent.map(Spot::Percent),
    };
    let least = money(section.rules.min_price.as_ref(), "rules.min_price")?.unwrap_or(Money::ZERO);
    let power = section.power.as_ref().map(|power| electricity(power, watts, decimals)).transpose()?;
    let asked = Asked {
        spot,
        reserved_discount: section.reserved_discount.map(|percent| u16::from(percent) * 100),
        egress: money(section.egress_price.as_ref(), "egress_price")?.filter(|price| !price.is_zero()),
        least: least.max(power.unwrap_or(Money::ZERO)),
    };
    if asked.egress.is_some() && !section.runtimes.iter().any(|name| name == DOCKER) {
        bail!(
            "`provider.egress_price` in node.toml: only jobs in `docker` can send anything; name it in `provider.runtimes`"
        );
    }
    Ok(asked)
}

/// What an hour of a unit costs on demand, where that does not follow the market: the ceiling where it does.
pub(crate) fn hourly(
    section: &ProviderSection,
    inventory: &Inventory,
    decimals: u8,
) -> anyhow::Result<Money> {
    let unit = sold(section, inventory)?.unit;
    let asked = asked(section, watts(section, inventory, &unit), decimals)?;
    Ok(prices(section, &unit, asked, Address::ZERO, decimals)?.on_demand.hourly())
}

/// What a unit draws, where this machine can know it: a cluster's nodes are others.
pub(super) fn watts(section: &ProviderSection, inventory: &Inventory, unit: &Resources) -> Option<u32> {
    section.slurm.is_none().then(|| inventory.watts(unit))
}

/// What an hour of a unit's electricity costs.
fn electricity(power: &PowerSection, watts: Option<u32>, decimals: u8) -> anyhow::Result<Money> {
    let per_kwh = money(Some(&power.price), "power.price", decimals)?.unwrap_or(Money::ZERO);
    let watts = power.watts.or(watts).context(
        "`provider.power.watts` in node.toml is missing: what a unit of the cluster draws cannot be seen from here",
    )?;
    power_cost(watts, per_kwh).context("`provider.power.price` in node.toml is too large")
}

fn prices(
    section: &ProviderSection,
    unit: &Resources,
    asked: Asked,
    token: Address,
    decimals: u8,
) -> anyhow::Result<Prices> {
    let money = |text: Option<&String>, field: &str| money(text, field, decimals);
    let follow = follow(section, asked, decimals)?;
    let hourly = match (money(section.price.as_ref(), "price")?, &section.prices, follow) {
        (None, None, Some(follow)) => follow.ceiling,
        (Some(price), None, None) => price,
        (None, Some(list), None) => {
            let PricesSection { cpu, memory_gib, disk_gib, gpu } = list;
            let price = |text: &Option<String>, field: &str| {
                money(text.as_ref(), field).map(|price| price.unwrap_or(Money::ZERO))
            };
            let list = PriceList {
                cpu: price(cpu, "prices.cpu")?,
                memory: price(memory_gib, "prices.memory_gib")?,
                disk: price(disk_gib, "prices.disk_gib")?,
                gpu: price(gpu, "prices.gpu")?,
                least: asked.least,
            };
            list.unit(unit).context("`provider.prices` in node.toml")?
        }
        (None, None, None) => {
            bail!("`provider` in node.toml has no price; set `price`, a list under `prices`, or `follow`")
        }
        _ => {
            bail!("`provider.price`, `provider.prices` and `provider.follow` in node.toml: keep one of them")
        }
    };
    Ok(asked.prices(token, hourly))
}

fn runtime_bit(name: &str) -> Runtimes {
    match name {
        PROCESS => Runtimes::PROCESS,
        DOCKER => Runtimes::DOCKER,
        SLURM => Runtimes::SLURM,
        _ => Runtimes::NONE,
    }
}

#[cfg(test)]
mod tests {
    use tradewind_proto::units::RatePerSecond;

    use super::*;

    fn section(text: &str) -> ProviderSection {
        toml::from_str(text).unwrap()
    }

    fn unit() -> Resources {
        Resources { cpu_millis: 4_000, memory: Bytes::gib(8), disk: Bytes::gib(50), gpus: None }
    }

    fn of(text: &str) -> anyhow::Result<(u128, Option<u128>)> {
        let section = section(text);
        let asked = asked(&section, Some(400), 6)?;
        let prices = prices(&section, &unit(), asked, Address::repeat_byte(1), 6)?;
        let shown = |rate: RatePerSecond| rate.hourly().base_units();
        Ok((shown(prices.on_demand), prices.spot.map(shown)))
    }

    #[test]
    fn auditors_are_a_few_accounts() {
        let read = |auditors: &[String]| {
            let text = format!("auditors = {auditors:?}\n");
            super::auditors(&section(&text)).map_err(|error| format!("{error:#}"))
        };
        let account = |number: usize| format!("0x{number:040x}");
        assert!(read(&[]).unwrap().is_empty());
        assert_eq!(read(&[account(0xff)]).unwrap(), [Address::with_last_byte(0xff)]);
        assert!(read(&["acme".into()]).unwrap_err().contains("`acme` is no account"));
        let many: Vec<String> = (1..=5).map(account).collect();
        assert!(read(&many).unwrap_err().contains("4 attestations at most"));
    }

    #[test]
    fn images_that_must_be_signed_name_keys_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acme.pub");
        let read = |images: &str| {
            let text =
                format!("[[signed_images]]\nimages = {images}\nkeys = [{:?}]\n", path.display().to_string());
            signed_images(&section(&text)).map_err(|error| format!("{error:#}"))
        };
        assert!(read("[\"*\"]").unwrap_err().contains("acme.pub"), "the file is not there");
        std::fs::write(&path, "no key").unwrap();
        assert!(read("[\"*\"]").unwrap_err().contains("cosign generate-key-pair"));
        let pem = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n-----END PUBLIC KEY-----\n";
        std::fs::write(&path, pem).unwrap();
        assert_eq!(read("[\"ghcr.io/acme/*\"]").unwrap().len(), 1);
        assert!(read("[]").unwrap_err().contains("name `images`"));
        assert!(signed_images(&section("")).unwrap().is_empty());
    }

    #[test]
    fn a_unit_is_priced_by_a_number_or_by_a_list() {
        assert_eq!(of("price = \"0.18\"").unwrap(), (180_000, None));
        let list = "[prices]\ncpu = \"0.02\"\nmemory_gib = \"0.01\"\n";
        assert_eq!(of(list).unwrap(), (160_000, None));
        assert!(of(&format!("price = \"1\"\n{list}")).is_err());
        assert!(of("").unwrap_err().to_string().contains("has no price"));
    }

    #[test]
    fn a_price_that_follows_has_both_its_ends_and_no_other_beside_it() {
        let text = "[follow]\npercent = 90\nfloor = \"0.05\"\nceiling = \"0.5\"\n";
        assert_eq!(of(text).unwrap(), (500_000, None), "until others are heard of");
        assert!(of(&format!("price = \"1\"\n{text}")).unwrap_err().to_string().contains("keep one of them"));
        for wrong in [
            "floor = \"0\"\nceiling = \"1\"",
            "floor = \"2\"\nceiling = \"1\"",
            "percent = 0\nfloor = \"1\"\nceiling = \"2\"",
        ] {
            assert!(of(&format!("[follow]\n{wrong}\n")).is_err(), "{wrong}");
        }
        let least = section(&format!("{text}[rules]\nmin_price = \"0.2\"\n"));
        let asked = asked(&least, None, 6).unwrap();
        assert_eq!(follow(&least, asked, 6).unwrap().map(|follow| follow.floor), Money::parse("0.2", 6).ok());
    }

    #[test]
    fn nothing_is_sold_below_the_owner_s_least_price() {
        let text = "price = \"0.18\"\nspot_price = \"0.02\"\n[rules]\nmin_price = \"0.10\"\n";
        assert_eq!(of(text).unwrap(), (180_000, Some(100_000)));
    }

    #[test]
    fn nothing_is_sold_below_what_its_electricity_costs() {
        let power = "[power]\nprice = \"0.30\"\n";
        let sold = |text: &str| of(&format!("{text}{power}")).unwrap();
        assert_eq!(sold("price = \"0.18\"\nspot_price = \"0.02\"\n"), (180_000, Some(150_000)), "400 W");
        assert_eq!(sold("price = \"0.10\"\nspot_percent = 50\n"), (150_000, Some(150_000)));
        assert_eq!(sold("price = \"0.50\"\nspot_percent = 50\n"), (500_000, Some(250_000)));
        let watts = format!("price = \"0.10\"\n{power}watts = 100\n");
        assert_eq!(of(&watts).unwrap().0, 100_000);
        let cluster = section(&format!("price = \"1\"\n{power}"));
        let error = asked(&cluster, None, 6).unwrap_err().to_string();
        assert!(error.contains("`provider.power.watts`"), "{error}");
        let low = format!("[follow]\nfloor = \"0.05\"\nceiling = \"0.10\"\n{power}");
        assert!(of(&low).unwrap_err().to_string().contains("what electricity costs"));
        for wrong in ["spot_price = \"1\"\nspot_percent = 50", "spot_percent = 0", "spot_percent = 101"] {
            let error = of(&format!("price = \"1\"\n{wrong}\n")).unwrap_err().to_string();
            assert!(error.contains("`provider.spot_percent`"), "{error}");
        }
    }

    #[test]
    fn reserved_leases_and_what_is_sent_have_their_prices() {
        let read = |text: &str| asked(&section(text), None, 6).map_err(|error| error.to_string());
        assert_eq!(read("reserved_discount = 20\n").unwrap().reserved_discount, Some(2_000));
        let docker = "runtimes = [\"docker\"]\negress_price = ";
        assert_eq!(read(&format!("{docker}\"0.01\"\n")).unwrap().egress, Money::parse("0.01", 6).ok());
        assert_eq!(read(&format!("{docker}\"0\"\n")).unwrap().egress, None);
        assert!(read("egress_price = \"0.01\"\n").unwrap_err().contains("only jobs in `docker`"));
    }

    #[test]
    fn a_machine_that_has_less_than_the_configuration_says_is_not_offered() {
        let dir = tempfile::tempdir().unwrap();
        let inventory =
            Inventory::take(dir.path(), &tradewind_provider::inventory::AllGpus::default()).unwrap();
        let error = sold(&section("price = \"1\"\ncpus = 100000"), &inventory).unwrap_err().to_string();
        assert!(error.contains("`provider.cpus`"), "{error}");
        let whole = sold(&section("price = \"1\""), &inventory).unwrap();
        assert!(whole.unit.memory < inventory.memory.total);
    }

    #[test]
    fn cards_of_amd_are_sold_where_every_job_gets_a_container() {
        struct Card(tradewind_provider::inventory::Gpu);
        impl tradewind_provider::inventory::GpuSource for Card {
            fn list(&self) -> tradewind_provider::inventory::Listing {
                Ok(vec![self.0.clone()]).into()
            }
        }
        let card = serde_json::json!({
            "index": 128, "uuid": "u", "vendor": "amd", "name": "AMD Instinct MI300X", "vram": Bytes::gib(192),
            "compute_capability": null, "driver": null, "bus": "0000:03:00.0", "links": [],
        });
        let dir = tempfile::tempdir().unwrap();
        let inventory = Inventory::take(dir.path(), &Card(serde_json::from_value(card).unwrap())).unwrap();
        let sold = |text: &str| sold(&section(&format!("price = \"1\"\n{text}")), &inventory);
        assert_eq!(sold("runtimes = [\"docker\"]").unwrap().gpus, [128]);
        for runtimes in ["[\"process\"]", "[\"process\", \"docker\"]"] {
            assert_eq!(sold(&format!("runtimes = {runtimes}")).unwrap().gpus, [0_u32; 0], "{runtimes}");
        }
        let refused = sold("gpus = 1").unwrap_err().to_string();
        assert!(refused.contains("`provider.gpus`") && refused.contains("name it alone"), "{refused}");
    }

    #[test]
    fn hours_and_limits_that_make_no_sense_name_their_field() {
        let wrong = |text: &str| format!("{:#}", lending(&section(text)).unwrap_err());
        assert!(wrong("[schedule]\ntime_zone = \"Mars/Olympus\"\n").contains("provider.schedule.time_zone"));
        assert!(wrong("[schedule]\nlend = [\"noon\"]\n").contains("`noon` are no lending hours"));
        let kept = section(
            "[schedule]\ntime_zone = \"Europe/Berlin\"\nlend = [\"sat-sun\"]\n[limits]\nload = 50\nidle = 600\n",
        );
        assert!(lending(&kept).unwrap().needs_senses());
        assert!(lending(&section("")).unwrap().is_free());
    }

    #[test]
    fn images_are_kept_up_to_a_limit_and_pinned_by_patterns() {
        let cache = |text: &str| image_cache(&section(text));
        assert_eq!(cache("").unwrap().limit, Bytes::gib(100));
        let inputs = |text: &str| input_cache(&section(text));
        assert_eq!(inputs("").unwrap(), Bytes::gib(50));
        assert_eq!(inputs("input_cache = \"0\"").unwrap(), Bytes::ZERO);
        assert!(inputs("input_cache = \"much\"").is_err());
        let set = cache("image_cache = \"0\"\nkeep_images = [\"pytorch/pytorch:2.9*\"]").unwrap();
        assert_eq!(set.limit, Bytes::ZERO);
        assert!(set.keep.iter().any(|pattern| pattern.matches("docker.io/pytorch/pytorch:2.9.1")));
        for (field, text) in [("image_cache", "\"much\""), ("keep_images", "[\"\"]")] {
            let error = format!("{:#}", cache(&format!("{field} = {text}")).unwrap_err());
            assert!(error.contains(&format!("provider.{field}")), "{error}");
        }
    }

    #[test]
    fn a_rule_that_names_no_account_is_an_error() {
        let bad = RulesSection { deny_buyers: vec!["0x12".into()], ..RulesSection::default() };
        assert!(format!("{:#}", rules(&bad).unwrap_err()).contains("provider.rules.deny_buyers"));
    }
}
