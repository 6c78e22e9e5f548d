//! `provider join`: what the machine is, what keeps it from lending, what to ask for it; then the role, until buyers see it.
//!
//! ```text
//! machine, its speed ─► doctor: anything bad ends it ─► price: said, or proposed from the live market ─► node.toml, node restarted
//!   └─► registered, staked, rent paid ─► the offer is out ─► a test job that the network's sponsor pays ─► the line
//!       ─► "you are live", or what is missing
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use toml_edit::{Array, Item, Table, value};
use tradewind_proto::ids::ProviderId;
use tradewind_proto::offer::{Proposal, Resources, power_cost, propose};
use tradewind_proto::profile::Asset;
use tradewind_proto::units::Money;
use tradewind_provider::doctor::{self, Verdict};
use tradewind_provider::inventory::{AllGpus, Inventory, Speed};

use super::doctor::{examine, refuse_bad, shown};
use super::speed::{self, Measured};
use super::{edit, show};
use crate::cli::Join;
use crate::client::NodeClient;
use crate::commands::{node, not_set_up};
use crate::node::api::view::{ProviderView, TestJobView};
use crate::node::config::{NodeConfig, ProviderSection};
use crate::node::{provider as role, read_profile};
use crate::paths;
use crate::printer::{Printer, about, counted, money};

/// How long a node that has just started listens for other offers before it names a price.
const HEAR: Duration = Duration::from_secs(6);
/// How long the network's sponsor may take to begin its test job, and the job to end.
const SPONSOR: Duration = Duration::from_secs(45);
const TEST: Duration = Duration::from_secs(300);
/// How long the offer may take to be out.
const LIVE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(300);

/// What a kWh costs where nobody says.
const USUAL_POWER_PRICE: &str = "0.25";

/// What joining did.
#[derive(Debug, Serialize)]
struct Joined {
    machine: Inventory,
    speed: Measured,
    /// An hour of a unit, in base units of the quote asset; it follows the market where absent.
    hourly: Option<u128>,
    #[serde(flatten)]
    provider: ProviderView,
}

pub(super) async fn join(options: &Join, printer: Printer) -> anyhow::Result<()> {
    let file = paths::config_file()?;
    if !file.exists() {
        return Err(not_set_up(&paths::data_dir()?.join("node.sock")));
    }
    let (file, config) = node::load(&file)?;
    let section = read(&section(options, &config, &file)?)?;
    let is_new = config.provider.is_none();
    let (machine, speed) = look_at(&config, printer)?;
    let planned = NodeConfig { provider: Some(section.clone()), ..config.clone() };
    refuse(&planned, printer).await?;
    let priced = section.price.is_some() || section.prices.is_some() || section.follow.is_some();
    let proposed = match priced {
        true => None,
        false => Some(name_a_price(options, &planned, &file, &machine, printer).await?),
    };
    edit(&file, |document| {
        let before = document.get("provider").cloned();
        document["provider"] = Item::Table(written(options, before.as_ref(), proposed.as_deref()));
    })?;
    let (file, config) = node::load(&file)?;
    let client = node::restart(&file, &config, printer).await?;
    // Whoever left, or paused, and joins again sells again.
    client.accept_leases(true).await?;
    let mut view = live(&client, config.ledger.is_some(), printer).await?;
    if is_new && read_profile(&config)?.sponsor.is_some_and(|sponsor| sponsor.to_string() != view.account) {
        view = tested(&client, view, printer).await?;
    }
    let network = speed::network(&client, printer).await;
    if !printer.is_json() {
        printer.step(&line("network", &speed::network_told(&network)));
    }
    let section = config.provider.as_ref().filter(|section| section.follow.is_none());
    let hourly = section.map(|section| role::hourly(section, &machine, view.asset.decimals)).transpose()?;
    let hourly = hourly.map(Money::base_units);
    let speed = Measured { machine: speed, network };
    let joined = Joined { machine, speed, hourly, provider: view };
    printer.data(&joined, |joined| format!("{}\n{}", show(&joined.provider), told(joined)))
}

fn told(joined: &Joined) -> String {
    let view = &joined.provider;
    let units = view.device.as_ref().map_or(1, |device| device.units);
    let price = joined.hourly.map(|hourly| format!(" at {} an hour", money(hourly, &joined.provider.asset)));
    format!(
        "you are live: {}{}\n`tradewind provider leases` shows who runs here, `tradewind provider leave` ends it",
        counted(units.into(), "unit"),
        price.unwrap_or_default()
    )
}

/// Machine and speed, shown to whoever watches.
fn look_at(config: &NodeConfig, printer: Printer) -> anyhow::Result<(Inventory, Speed)> {
    let machine = Inventory::take(&config.data_dir, &AllGpus::default())?;
    let speed = speed::machine(&config.data_dir, printer)?;
    if !printer.is_json() {
        let cpu = &machine.cpu;
        let threads = counted(cpu.threads, "thread");
        let (memory, free) = (machine.memory.total, machine.disk.free);
        printer.step(&line(
            "machine",
            &format!("{} ({threads}), {memory} memory, {free} of disk free", cpu.model),
        ));
        for group in machine.gpu_groups() {
            let gpus = &group.gpus;
            printer.step(&line("", &format!("{} × {}, {}", gpus.count, gpus.model, gpus.vram)));
        }
        if machine.nodes.len() > 1 {
            printer.step(&line("", &format!("{} NUMA nodes", machine.nodes.len())));
        }
        printer.step(&line("speed", &speed::machine_told(&speed)));
    }
    Ok((machine, speed))
}

/// Says what is weak, and goes no further where something is bad. An empty job is run on the way, which nobody pays.
async fn refuse(planned: &NodeConfig, printer: Printer) -> anyhow::Result<()> {
    let bar = printer.spinner("examining this machine, with a test job");
    let found = examine(Some(planned)).await;
    bar.finish_and_clear();
    let found: Vec<doctor::Diagnosis> = found?.into_iter().filter(|one| one.area != "mesh").collect();
    if !printer.is_json() {
        for weak in found.iter().filter(|one| one.verdict == Verdict::Weak) {
            printer.step(&shown(weak));
        }
    }
    refuse_bad(&found)
}

/// A price from the live market, taken or changed by whoever is there.
async fn name_a_price(
    options: &Join,
    planned: &NodeConfig,
    file: &Path,
    machine: &Inventory,
    printer: Printer,
) -> anyhow::Result<String> {
    let section = planned.provider.as_ref().context("the role is planned")?;
    let unit = role::sold(section, machine)?.unit;
    let (client, fresh) = node::ensure(file, planned, printer).await?;
    let status = client.status().await?;
    let per_kwh = options.power_price.as_deref().unwrap_or(USUAL_POWER_PRICE);
    let per_kwh = Money::parse(per_kwh, status.asset.decimals).context("`--power-price`")?;
    let watts = options.watts.unwrap_or_else(|| machine.watts(&unit));
    let power = power_cost(watts, per_kwh).context("`--power-price` is too large")?;
    let bar = printer.spinner("asking the market for prices");
    let proposal = ask_the_market(&client, &status.account, &unit, power, fresh).await;
    bar.finish_and_clear();
    let (proposal, asset) = (proposal?, &status.asset);
    if !printer.is_json() {
        printer.step(&reasons(&proposal, watts, asset));
    }
    let price = proposal.hourly.display(asset.decimals);
    if options.yes {
        return Ok(price);
    }
    if !printer.can_ask() {
        bail!(
            "the market proposes {price} {} an hour of a unit; take it with --yes, or name a --price",
            asset.symbol
        );
    }
    let answer =
        printer.ask(&format!("{price} {} an hour of a unit? [Enter, or another price] ", asset.symbol))?;
    if answer.is_empty() {
        return Ok(price);
    }
    Money::parse(&answer, asset.decimals).with_context(|| format!("`{answer}` is no price"))?;
    Ok(answer)
}

fn reasons(proposal: &Proposal, watts: u32, asset: &Asset) -> String {
    let say = |amount: Money| format!("{} {}", about(amount, asset.decimals), asset.symbol);
    let market = match proposal.compared {
        0 => "nobody sells its like now".to_owned(),
        1 => "the one live offer of its like".to_owned(),
        many => format!("the middle of {many} live offers of its like"),
    };
    let (hourly, power) = (say(proposal.hourly), say(proposal.power));
    let price = line("price", &format!("{hourly} an hour of a unit: {market}"));
    format!("{price}\n{}", line("", &format!("its electricity, about {watts} W, costs {power}")))
}

/// A fact beside what the examination says.
fn line(of: &str, fact: &str) -> String {
    format!("  {of:<14} {fact}")
}

async fn ask_the_market(
    client: &NodeClient,
    account: &str,
    unit: &Resources,
    power: Money,
    fresh: bool,
) -> anyhow::Result<Proposal> {
    let own = account.parse().map(ProviderId::new).context("the node names no account")?;
    let until = Instant::now() + HEAR;
    loop {
        let offers = client.offers().await?;
        let proposal = propose(unit, own, &offers, power);
        let heard = proposal.is_some_and(|proposal| proposal.compared > 0);
        if heard || !fresh || Instant::now() > until {
            return proposal.context(
                "nobody sells the like of a unit now; name a price with --price, or what electricity costs with --power-price",
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the device may lend and its offer is out; or says what is missing. A node that hosts the ledger may be `alone`.
async fn live(client: &NodeClient, alone: bool, printer: Printer) -> anyhow::Result<ProviderView> {
    let bar = printer.spinner("publishing the offer");
    let until = Instant::now() + LIVE;
    let view = loop {
        let view = client.provider().await?;
        let out = view.offered && (alone || view.heard_by > 0);
        if out || Instant::now() > until {
            break view;
        }
        tokio::time::sleep(LOOK).await;
    };
    bar.finish_and_clear();
    let state = match &view.device {
        _ if view.unstaked => "ready",
        Some(device) => device.state.as_str(),
        None => "none",
    };
    match (state, view.offered, view.heard_by) {
        ("ready", true, heard_by) if alone || heard_by > 0 => Ok(view),
        ("ready", true, _) => bail!(
            "nobody hears this node's offer: it has no neighbour in the mesh; look at `bootstrap` of the network's profile, and \
             whether UDP leaves this machine"
        ),
        ("ready", false, _) => {
            bail!("the offer is not out after {} s; look at the node's log", LIVE.as_secs())
        }
        ("jailed", ..) => {
            bail!("the device is jailed: watchers convicted it; `tradewind provider status` says until when")
        }
        ("unstaked", ..) if view.device.as_ref().is_some_and(|device| device.sponsor != view.account) => {
            let (id, sponsor) = view.device.as_ref().map(|device| (&device.id, &device.sponsor)).unzip();
            bail!(
                "the device waits for the stake of its sponsor {}, who runs `tradewind wallet stake {} AMOUNT`; join again then",
                sponsor.map_or("", String::as_str),
                id.map_or("", String::as_str)
            )
        }
        (state, ..) => bail!(
            "the device is {state} in the registry and cannot lend; look at `tradewind provider status`"
        ),
    }
}

/// Waits for the job by which the network's sponsor tests a new device: a whole lease, paid.
async fn tested(client: &NodeClient, live: ProviderView, printer: Printer) -> anyhow::Result<ProviderView> {
    let bar = printer.spinner("serving a test job that the network's sponsor pays");
    let begin = Instant::now();
    let mut last = live;
    let mut is_gone = false;
    while !is_gone && last.test_job.as_ref().is_none_or(|test| test.passed.is_none()) {
        let patience = if last.test_job.is_some() { TEST } else { SPONSOR };
        if begin.elapsed() > patience {
            break;
        }
        tokio::time::sleep(LOOK).await;
        let view = client.provider().await?;
        // A lease that went well is forgotten here once its buyer has everything.
        is_gone = view.test_job.is_none() && last.test_job.is_some();
        if !is_gone {
            last = view;
        }
    }
    if let Some(test) = last.test_job.as_mut().filter(|test| is_gone && test.problem.is_none()) {
        test.passed = Some(true);
    }
    bar.finish_and_clear();
    let told = match &last.test_job {
        None => {
            format!("none came from the network's sponsor within {} s; it may come later", SPONSOR.as_secs())
        }
        Some(TestJobView { problem: Some(problem), .. }) => bail!(
            "the test job of the network's sponsor failed here: {problem}; the offer is out all the same, and \
             `tradewind provider pause` takes it back"
        ),
        Some(TestJobView { passed: Some(_), paid, .. }) => {
            format!("served, and paid by the network's sponsor: {}", money(*paid, &last.asset))
        }
        Some(_) => format!("still running after {} s; `tradewind provider leases` shows it", TEST.as_secs()),
    };
    if !printer.is_json() {
        printer.step(&line("test job", &told));
    }
    Ok(last)
}

/// The role's section as it will be, to be examined before it is written.
fn section(options: &Join, config: &NodeConfig, file: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let document: toml_edit::DocumentMut = text.parse()?;
    let before = document.get("provider").filter(|_| config.provider.is_some());
    Ok(written(options, before, None))
}

fn read(section: &Table) -> anyhow::Result<ProviderSection> {
    toml::from_str(&section.to_string()).context("node.toml would not be valid")
}

/// What the options say, over what the file said already.
fn written(options: &Join, before: Option<&Item>, proposed: Option<&str>) -> Table {
    let mut section = before.and_then(Item::as_table).cloned().unwrap_or_default();
    let numbers = [("units", options.units.map(i64::from)), ("cpus", options.cpus.map(i64::from))];
    for (key, number) in numbers.into_iter().filter_map(|(key, number)| Some((key, number?))) {
        section[key] = value(number);
    }
    let texts = [
        ("price", options.price.as_deref().or(proposed)),
        ("memory", options.memory.as_deref()),
        ("disk", options.disk.as_deref()),
        ("country", options.country.as_deref()),
        ("stake", options.stake.as_deref()),
        ("sponsor", options.sponsor.as_deref()),
        ("bonds", options.bonds.as_deref()),
    ];
    for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text?))) {
        section[key] = value(text);
    }
    if options.price.is_some() {
        section.remove("prices");
        section.remove("follow");
    }
    if let Some(price) = &options.power_price {
        let mut power = Table::new();
        power["price"] = value(price);
        if let Some(watts) = options.watts {
            power["watts"] = value(i64::from(watts));
        }
        section["power"] = Item::Table(power);
    }
    if !options.runtimes.is_empty() {
        section["runtimes"] = value(options.runtimes.iter().map(String::as_str).collect::<Array>());
    }
    section
}
