//! `provider doctor`: what keeps this machine from lending, and what to do about it. Starts nothing, spends nothing.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use alloy::primitives::Address;
use anyhow::{Context, bail};
use jiff::fmt::rfc2822;
use tradewind_mesh::PeerAddr;
use tradewind_proto::profile::NetworkProfile;
use tradewind_provider::doctor::{self, Diagnosis, Host, Verdict};
use tradewind_provider::inventory::{AllGpus, Inventory};

use crate::client::NodeClient;
use crate::node::config::{NodeConfig, ProviderSection};
use crate::node::provider::{encryption, sandbox};
use crate::node::{self as nodes, provider as role};
use crate::paths;
use crate::printer::{Printer, counted};

/// How long an endpoint of the network may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How far this clock may be from the network's: terms are refused beyond.
const SKEW: Duration = Duration::from_secs(5);

/// Examines, prints, and fails where something has to change first.
pub(super) async fn doctor(printer: Printer) -> anyhow::Result<()> {
    let file = paths::config_file()?;
    let config = if file.exists() { Some(NodeConfig::load(&file)?) } else { None };
    let bar = printer.spinner("examining this machine");
    let found = examine(config.as_ref()).await;
    bar.finish_and_clear();
    let found = found?;
    printer.data(&found, |found| found.iter().map(shown).collect::<Vec<_>>().join("\n"))?;
    let bad = found.iter().filter(|one| one.verdict == Verdict::Bad).count();
    if bad > 0 {
        let keep = if bad == 1 { "keeps" } else { "keep" };
        bail!("{} {keep} this machine from lending", counted(bad, "thing"));
    }
    Ok(())
}

/// Everything that can be said of this machine as a provider.
pub(super) async fn examine(config: Option<&NodeConfig>) -> anyhow::Result<Vec<Diagnosis>> {
    let data_dir = match config {
        Some(config) => config.data_dir.clone(),
        None => paths::data_dir()?,
    };
    let place = data_dir.ancestors().find(|dir| dir.is_dir()).context("the data directory has no place")?;
    // A directory of its own, so that a running node's stays as it is.
    let scratch = tempfile::Builder::new().prefix(".doctor-").tempdir_in(place);
    let scratch = scratch.with_context(|| format!("cannot write in {}", place.display()))?;
    let state_dir = scratch.path();
    let inventory = Inventory::take(state_dir, &AllGpus::default())?;
    let usual = ProviderSection::default();
    let section = config.and_then(|config| config.provider.as_ref());
    let lendable = role::lendable(section.unwrap_or(&usual), &inventory);
    let mut found = Host::default().examine(&lendable, state_dir);

    match section.map(|section| role::sold(section, &inventory)) {
        Some(Ok(sold)) => {
            // A cluster's jobs run on other machines.
            let is_here = section.is_some_and(|section| section.slurm.is_none());
            let nodes = inventory.describe_nodes(&sold).filter(|_| is_here);
            found.extend(nodes.map(|nodes| Diagnosis::good("nodes", nodes)));
        }
        Some(Err(problem)) => {
            let fix = "change it in node.toml, or run `tradewind provider join` again";
            found.push(Diagnosis::bad("capacity", format!("{problem:#}"), fix));
        }
        None => {}
    }
    let section = section.unwrap_or(&usual);
    let buys = config.is_some_and(|config| config.buyer.is_some());
    found.extend(encryption::examine(section.encrypt, buys, state_dir));
    found.extend(sandbox::examine(section).await);
    let first = lendable.gpu_groups().first().and_then(|group| group.indices.first().copied());
    let first = lendable.gpus.iter().find(|gpu| Some(gpu.index) == first);
    let cards = role::Cards::like(first);
    let runtimes = role::runtimes(section, Address::ZERO, &state_dir.join("runtime"), &cards);
    match runtimes {
        Ok(runtimes) => {
            for (name, runtime) in runtimes {
                found.extend(doctor::of_runtime(name, &runtime.readiness().await));
            }
        }
        Err(problem) => found.push(Diagnosis::bad("runtimes", format!("{problem:#}"), "see the message")),
    }
    match config {
        Some(config) => found.extend(of_network(config).await),
        None => found.push(Diagnosis::bad(
            "network",
            "this machine is in no network yet",
            "run `tradewind setup PROFILE` with the network's profile",
        )),
    }
    Ok(found)
}

async fn of_network(config: &NodeConfig) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    match NodeClient::new(config.socket()).status().await {
        Ok(status) => match status.mesh_address.parse::<PeerAddr>() {
            Ok(address) => found.push(reachable(&address)),
            Err(problem) => found.push(Diagnosis::weak("mesh", problem.to_string(), "restart the node")),
        },
        Err(_) => found.push(can_listen(config)),
    }
    match nodes::read_profile(config) {
        Ok(profile) => found.push(of_chain(&profile).await),
        Err(problem) => {
            let fix = "run `tradewind setup` again, with --force and the network's profile";
            found.push(Diagnosis::bad("network", format!("{problem:#}"), fix));
        }
    }
    found
}

/// How buyers reach a running node.
fn reachable(address: &PeerAddr) -> Diagnosis {
    let public: Vec<String> =
        address.direct.iter().filter(|at| is_public(at.ip())).map(ToString::to_string).collect();
    match (&address.relay, public.is_empty()) {
        (_, false) => Diagnosis::good("mesh", format!("reached at {}", public.join(", "))),
        (Some(relay), true) => Diagnosis::good("mesh", format!("reached through the relay {relay}")),
        (None, true) => Diagnosis::weak(
            "mesh",
            "buyers on other networks cannot reach it: it has no public address, and the network has no relay",
            "forward a UDP port to this machine, set it as `mesh.bind`, and write the public address into `mesh.external` \
             in node.toml",
        ),
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
    }
}

/// The port of a node that does not run.
fn can_listen(config: &NodeConfig) -> Diagnosis {
    let at = config.mesh.bind;
    match UdpSocket::bind(at) {
        Ok(_) => Diagnosis::weak("mesh", "the node does not run", "start it: tradewind node start"),
        Err(problem) => Diagnosis::bad(
            "mesh",
            format!("the node could not listen on UDP {at}: {problem}"),
            "end what holds the port (ss -lunp), or set another `mesh.bind` in node.toml",
        ),
    }
}

/// The chain's endpoint, and this clock against its.
async fn of_chain(profile: &NetworkProfile) -> Diagnosis {
    let mut problem = "the profile names no endpoint".to_owned();
    for url in &profile.chain.rpc {
        match date_of(url).await {
            Ok(Some(theirs)) => return of_skew(theirs, SystemTime::now()),
            Ok(None) => return Diagnosis::good("chain", format!("{url} answers")),
            Err(error) => problem = format!("{url}: {error:#}"),
        }
    }
    let fix = "look whether this machine reaches the Internet; leases that run go on meanwhile";
    Diagnosis::bad("chain", format!("no endpoint of the chain answers; {problem}"), fix)
}

async fn date_of(url: &str) -> anyhow::Result<Option<SystemTime>> {
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let asked = client.post(url).header("content-type", "application/json");
    let answer = asked.body(r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}"#).send().await?;
    let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| rfc2822::parse(date).ok());
    Ok(date.map(|date| SystemTime::from(date.timestamp())))
}

fn of_skew(theirs: SystemTime, ours: SystemTime) -> Diagnosis {
    let (skew, way) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if skew <= SKEW {
        return Diagnosis::good("chain", "answers, and its clock agrees with this machine's");
    }
    Diagnosis::bad(
        "clock",
        format!("this clock is {} s {way} the chain's endpoint", skew.as_secs()),
        "set it, and keep it: apt-get install systemd-timesyncd && timedatectl set-ntp true",
    )
}

/// One diagnosis as two lines at most.
pub(super) fn shown(one: &Diagnosis) -> String {
    let mark = match one.verdict {
        Verdict::Good => "✓",
        Verdict::Weak => "!",
        Verdict::Bad => "✗",
    };
    let fix = one.fix.iter().map(|fix| format!("\n  → {fix}")).collect::<String>();
    format!("{mark} {:<14} {}{fix}", one.area, one.found)
}

/// The verdict's worst, for whoever goes on only with a sound machine.
pub(super) fn refuse_bad(found: &[Diagnosis]) -> anyhow::Result<()> {
    let bad: Vec<String> = found.iter().filter(|one| one.verdict == Verdict::Bad).map(shown).collect();
    if bad.is_empty() {
        return Ok(());
    }
    bail!("this machine cannot lend yet:\n{}", bad.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_of_with_its_way() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(of_skew(now, now + SKEW).verdict, Verdict::Good);
        assert!(of_skew(now, now + Duration::from_secs(6)).found.contains("6 s ahead of"));
        assert!(of_skew(now, now - Duration::from_secs(60)).found.contains("60 s behind"));
    }

    #[test]
    fn a_node_is_reached_at_a_public_address_or_through_a_relay() {
        let at = |text: &str| reachable(&format!("{}@{text}", "5f".repeat(32)).parse().unwrap());
        assert_eq!(at("203.0.113.9:4433").verdict, Verdict::Good);
        assert!(at("192.168.1.4:4433,https://relay.example").found.contains("relay.example"));
        for private in ["10.0.0.1:1", "100.64.0.9:1", "[fd00::1]:1", "127.0.0.1:1"] {
            let alone = at(private);
            assert!(
                alone.verdict == Verdict::Weak && alone.fix.unwrap().contains("mesh.external"),
                "{private}"
            );
        }
    }

    #[test]
    fn a_port_that_is_taken_is_told_of() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = taken.local_addr().unwrap();
        let config: NodeConfig =
            toml::from_str(&format!("data_dir = \"/x\"\nprofile = \"/x/p\"\n[mesh]\nbind = \"{at}\"\n"))
                .unwrap();
        assert_eq!(can_listen(&config).verdict, Verdict::Bad);
        drop(taken);
        assert_eq!(can_listen(&config).verdict, Verdict::Weak);
    }
}
