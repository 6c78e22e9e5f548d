//! What a provider's node costs its host while nobody leases: memory and processor, as /proc counts them. And what a lease adds that
//! does nothing: its container's processor, memory and traffic are read from the kernel's counters, once a turn; no byte
//! passes the node.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::figure::{Figure, number};
use crate::market::{Market, Runtime};
use crate::progress::say;
use crate::start::{BUSYBOX, IMAGE, import};

const SETTLE: Duration = Duration::from_secs(10);
const WATCH: Duration = Duration::from_secs(30);
/// The kernel's clock ticks a second, as every Linux reports them to programs.
const TICKS: f64 = 100.0;
/// The budgets: resident MiB, and percent of one core.
const RESIDENT: f64 = 60.0;
const SHARE: f64 = 0.5;

pub(crate) async fn measure(program: &Path) -> anyhow::Result<Vec<Figure>> {
    import()?;
    let market = Market::start(program, Runtime::Docker).await?;
    let watched = both(&market).await;
    market.end().await;
    watched
}

async fn both(market: &Market) -> anyhow::Result<Vec<Figure>> {
    let (resident, share) = watch(market).await?;
    let file = market.dir().join("job.yaml");
    let job = format!(
        "name: idle\nimage: {IMAGE}\nrun: [{BUSYBOX}, sleep, 600]\nresources: {{memory: 32MiB, disk: 32MiB}}\ntimeout: 11m\n"
    );
    std::fs::write(&file, job)?;
    market.ask("buyer", &["run", &file.display().to_string(), "--yes", "--detach"]).await?;
    let (_, leased) = watch(market).await?;
    Ok(vec![
        Figure::new("rest: a provider's resident memory", resident, "MiB").at_most(RESIDENT),
        Figure::new("rest: a provider's share of a core", share, "%").at_most(SHARE),
        Figure::new("rest: what an idle container and its metering add", leased - share, "%"),
    ])
}

/// Resident MiB, and percent of a core.
async fn watch(market: &Market) -> anyhow::Result<(f64, f64)> {
    let pid = market.pid("provider")?;
    tokio::time::sleep(SETTLE).await;
    let (before, began) = (ticks(pid)?, Instant::now());
    tokio::time::sleep(WATCH).await;
    let spent = number(ticks(pid)?.saturating_sub(before)) / TICKS;
    let share = spent / began.elapsed().as_secs_f64() * 100.0;
    let resident = number(resident_kib(pid)?) / 1024.0;
    say(format_args!("  {resident:.1} MiB, {share:.2} % of a core"));
    Ok((resident, share))
}

/// Processor time of a process and its threads so far, in ticks.
fn ticks(pid: u32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the node is gone")?;
    // The program's name stands in parentheses and may hold anything.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let spent: Option<Vec<u64>> =
        fields.split(' ').skip(11).take(2).map(|field| field.parse().ok()).collect();
    Ok(spent.context("the kernel's account of the node cannot be read")?.iter().sum())
}

fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the node is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.context("the kernel's account of the node cannot be read")
}
