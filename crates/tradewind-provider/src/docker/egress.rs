//! What a container may reach: one nftables table for every bridge named `twl*`.
//!
//! ```text
//!  container ──► twlo… (open)   ──forward──► private, link-local, carrier NAT, the host's prefixes? ──► refused
//!            │                                                                        else Internet ──► passes
//!            ├─► twlc… (closed) ──forward──► refused
//!            └─► any twl…       ──input────► the host itself ──────────────────────────────────────────► refused
//!  outside   ──► any twl…       ──forward──► new connections ──────────────────────────────────────────► dropped
//! ```
//!
//! The table sits before the engine's own chains (priority −5) and only takes away: what it lets pass they still judge.
//! Answers to connections that the agent opened (tunnels) pass.
//! An agent with `CAP_NET_ADMIN` replaces the table in one transaction whenever it is not as it left it. One without can only
//! trust the mark that the operator's installation left (see [`EgressPolicy::Installed`]).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;
use tradewind_proto::egress::SLOW;

/// Bridges of leases that may reach the Internet.
pub(super) const OPEN_BRIDGE: &str = "twlo";
/// Bridges of leases that may reach nothing.
pub(super) const CLOSED_BRIDGE: &str = "twlc";

/// `nft` is a local program; one that takes longer hangs.
const NFT_PATIENCE: Duration = Duration::from_secs(10);

/// Never the Internet: this network, private use, carrier NAT, loopback, link-local with the metadata address, Azure's host
/// address, protocol assignments, benchmarks, multicast, reserved and broadcast.
const PRIVATE_V4: [(Ipv4Addr, u8); 12] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Never the Internet: unspecified, loopback, IPv4 in other clothes (mapped, NAT64, 6to4), discard, unique-local with the
/// metadata addresses, link-local, site-local, multicast.
const PRIVATE_V6: [(Ipv6Addr, u8); 10] = [
    (Ipv6Addr::UNSPECIFIED, 127),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Who keeps the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressPolicy {
    /// The agent itself; it needs `CAP_NET_ADMIN` and the program `nft`.
    Managed,
    /// The operator, by a unit that loads [`ruleset`] as root and then writes [`installation_mark`] into this file. The file
    /// must belong to root and be writable by nobody else; a reboot makes it void.
    Installed {
        /// Usually `/run/tradewind/egress`.
        mark: PathBuf,
    },
}

/// Why containers cannot be held back from the local network.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The program `nft` cannot be started.
    #[error("`nft` cannot be started: {0}")]
    NoProgram(#[source] std::io::Error),
    /// `nft` refused.
    #[error("`nft` refused: {0}")]
    Refused(String),
    /// `nft` hangs.
    #[error("`nft` did not finish within {} s", NFT_PATIENCE.as_secs())]
    Hangs,
    /// The mark of the operator's installation is not there or not right.
    #[error("the egress table is missing: {0}")]
    NotInstalled(String),
    /// The host's own addresses cannot be read.
    #[error("the host's addresses cannot be read: {0}")]
    Addresses(#[source] std::io::Error),
}

/// The host's own networks, which are nobody's Internet even where their addresses are public.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostPrefixes(BTreeSet<(IpAddr, u8)>);

impl HostPrefixes {
    /// Those of the interfaces as they are now, except the leases' own bridges.
    pub fn read() -> Result<Self, EgressError> {
        let networks = sysinfo::Networks::new_with_refreshed_list()
            .map_err(|error| EgressError::Addresses(std::io::Error::other(error.to_string())))?;
        let of_host = networks.iter().filter(|(name, _)| !name.as_encoded_bytes().starts_with(b"twl"));
        Ok(Self::from_addresses(
            of_host.flat_map(|(_, data)| {
                data.ip_networks().iter().map(|network| (network.addr, network.prefix))
            }),
        ))
    }

    /// The networks of these interface addresses. A length of zero would cut the Internet off and names no network.
    pub fn from_addresses(addresses: impl IntoIterator<Item = (IpAddr, u8)>) -> Self {
        Self(
            addresses
                .into_iter()
                .filter(|(_, length)| *length > 0)
                .map(|(a, length)| (network_of(a, length), length))
                .collect(),
        )
    }

    fn elements(&self, v4: bool) -> Vec<String> {
        let of_family: Vec<_> = self.0.iter().filter(|(address, _)| address.is_ipv4() == v4).collect();
        let covered = |inner: &(IpAddr, u8)| {
            of_family.iter().any(|outer| outer.1 < inner.1 && network_of(inner.0, outer.1) == outer.0)
        };
        of_family
            .iter()
            .filter(|prefix| !covered(prefix))
            .map(|(address, length)| format!("{address}/{length}"))
            .collect()
    }
}

fn network_of(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// An address that no lease may ever reach.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    let within = |network: IpAddr, length| network_of(address, length) == network;
    match address {
        IpAddr::V4(_) => PRIVATE_V4.iter().any(|(network, length)| within((*network).into(), *length)),
        IpAddr::V6(_) => PRIVATE_V6.iter().any(|(network, length)| within((*network).into(), *length)),
    }
}

/// What a lease may send and receive at most: by its bridge, which is its own.
const CAPS: [(&str, &str); 2] = [("capped_out", "iifname"), ("capped_in", "oifname")];

/// The bridges of leases whose sending is slowed, and what notes how much they send all the same.
const SLOWED: &str = "slowed";
const SLOWED_METER: &str = "slowed_out";

/// The table as `nft -f -` takes it: replaces an older one in one transaction. `bandwidth` caps a lease's traffic, in Mbit/s each way;
/// with `slowed`, what leases on these bridges send is slowed to [`SLOW`].
#[must_use]
pub fn ruleset(
    table: &str,
    host: &HostPrefixes,
    bandwidth: Option<u32>,
    slowed: Option<&BTreeSet<String>>,
) -> String {
    let v4 = PRIVATE_V4.iter().map(|(network, length)| format!("{network}/{length}")).collect::<Vec<_>>();
    let v6 = PRIVATE_V6.iter().map(|(network, length)| format!("{network}/{length}")).collect::<Vec<_>>();
    let mut text = format!("table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n");
    for (name, family, elements) in [
        ("private4", "ipv4_addr", v4),
        ("private6", "ipv6_addr", v6),
        ("host4", "ipv4_addr", host.elements(true)),
        ("host6", "ipv6_addr", host.elements(false)),
    ] {
        let list = if elements.is_empty() {
            String::new()
        } else {
            format!(" elements = {{ {} }};", elements.join(", "))
        };
        // Infallible: writing to a string.
        let _ = writeln!(text, "  set {name} {{ type {family}; flags interval;{list} }}");
    }
    let mut caps = String::new();
    if let Some(bridges) = slowed {
        let (rate, elements) = (SLOW.get(), elements(bridges));
        let _ = writeln!(text, "  set {SLOWED} {{ type ifname;{elements} }}");
        let _ =
            writeln!(text, "  set {SLOWED_METER} {{ type ifname; flags dynamic; timeout 1m; size 65535; }}");
        let limit = format!("{{ iifname limit rate over {rate} bytes/second burst {rate} bytes }}");
        let _ = writeln!(caps, "    iifname @{SLOWED} update @{SLOWED_METER} {limit} drop");
    }
    for (name, side) in CAPS.iter().filter(|_| bandwidth.is_some()) {
        let rate = u64::from(bandwidth.unwrap_or(u32::MAX)).saturating_mul(125_000);
        // What a tenth of a second brings, and never less than some packets.
        let burst = (rate / 10).max(64 << 10);
        let limit = format!("{{ {side} limit rate over {rate} bytes/second burst {burst} bytes }}");
        let _ = writeln!(text, "  set {name} {{ type ifname; flags dynamic; timeout 1m; size 65535; }}");
        let _ = writeln!(caps, "    {side} \"{OPEN_BRIDGE}*\" update @{name} {limit} drop");
    }
    text.push_str(&format!(
        "  chain leaving {{
    ct state established,related accept
    iifname \"{CLOSED_BRIDGE}*\" reject with icmpx type admin-prohibited
    ip daddr @private4 reject with icmpx type admin-prohibited
    ip daddr @host4 reject with icmpx type admin-prohibited
    ip6 daddr @private6 reject with icmpx type admin-prohibited
    ip6 daddr @host6 reject with icmpx type admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority -5; policy accept;
{caps}    iifname \"twl*\" jump leaving
    oifname \"twl*\" ct state established,related accept
    oifname \"twl*\" drop
  }}
  chain input {{
    type filter hook input priority -5; policy accept;
    iifname \"twl*\" ct state established,related accept
    iifname \"twl*\" reject with icmpx type admin-prohibited
  }}
}}
"
    ));
    text
}

/// The elements of a set of bridges, as its definition has them.
fn elements(bridges: &BTreeSet<String>) -> String {
    if bridges.is_empty() {
        return String::new();
    }
    format!(" elements = {{ {} }};", listed(bridges))
}

fn listed(bridges: &BTreeSet<String>) -> String {
    let names: Vec<String> = bridges.iter().map(|bridge| format!("\"{bridge}\"")).collect();
    names.join(", ")
}

/// What an operator's installation writes into the mark: the SHA-256 of the table as it was loaded, without the host's changing
/// prefixes (`docs/egress/tradewind-egress.nft`), and the boot that it was loaded in.
pub fn installation_mark(table: &str) -> std::io::Result<String> {
    let digest = hex::encode(Sha256::digest(ruleset(table, &HostPrefixes::default(), None, None)));
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(format!("{digest} {}\n", boot.trim()))
}

/// Keeps the table as it must be.
#[derive(Debug)]
pub(super) struct EgressTable {
    name: String,
    policy: EgressPolicy,
    bandwidth: Option<u32>,
    left: Mutex<Option<Left>>,
    /// The bridges whose sending is slowed.
    slowed: Mutex<BTreeSet<String>>,
}

/// How the table was left: what was loaded and how `nft` shows it.
#[derive(Debug)]
struct Left {
    loaded: String,
    shown: String,
}

impl EgressTable {
    pub(super) fn new(name: String, policy: EgressPolicy, bandwidth: Option<u32>) -> Self {
        Self { name, policy, bandwidth, left: Mutex::new(None), slowed: Mutex::default() }
    }

    /// Returns once the table is in force.
    pub(super) async fn ensure(&self) -> Result<(), EgressError> {
        match &self.policy {
            EgressPolicy::Managed => self.keep().await,
            EgressPolicy::Installed { mark } => {
                let missing = |why: String| EgressError::NotInstalled(format!("{}: {why}", mark.display()));
                let meta = std::fs::symlink_metadata(mark).map_err(|error| missing(error.to_string()))?;
                if !meta.is_file() || meta.uid() != 0 || meta.mode() & 0o022 != 0 {
                    return Err(missing("it must be a file that only root can write".into()));
                }
                let found = std::fs::read_to_string(mark).map_err(|error| missing(error.to_string()))?;
                let expected = installation_mark(&self.name).map_err(EgressError::Addresses)?;
                if found == expected {
                    Ok(())
                } else {
                    Err(missing("it is of another boot or another version".into()))
                }
            }
        }
    }

    async fn keep(&self) -> Result<(), EgressError> {
        let mut left = self.left.lock().await;
        let slowed = self.slowed.lock().await.clone();
        let wanted = ruleset(&self.name, &HostPrefixes::read()?, self.bandwidth, Some(&slowed));
        if let Some(before) = left.as_ref()
            && before.loaded == wanted
            && self.show().await.is_ok_and(|shown| shown == before.shown)
        {
            return Ok(());
        }
        if left.is_some() {
            tracing::warn!(table = self.name, "the egress table changed; loading it anew");
        }
        *left = None;
        nft(&["-f", "-"], &wanted).await?;
        *left = Some(Left { loaded: wanted, shown: self.show().await? });
        Ok(())
    }

    /// Whether a lease's sending can be slowed: an operator's table cannot.
    pub(super) fn can_slow(&self) -> bool {
        self.policy == EgressPolicy::Managed
    }

    /// Slows what leases on these bridges send, and no other's.
    pub(super) async fn slow(&self, bridges: BTreeSet<String>) -> Result<(), EgressError> {
        let mut left = self.left.lock().await;
        let mut slowed = self.slowed.lock().await;
        if *slowed == bridges {
            return Ok(());
        }
        let Some(left) = left.as_mut() else {
            // Whoever loads the table has it slow them.
            *slowed = bridges;
            return Ok(());
        };
        let set = format!("inet {} {SLOWED}", self.name);
        let add = match bridges.is_empty() {
            true => String::new(),
            false => format!("add element {set} {{ {} }}\n", listed(&bridges)),
        };
        nft(&["-f", "-"], &format!("flush set {set}\n{add}")).await?;
        left.loaded = ruleset(&self.name, &HostPrefixes::read()?, self.bandwidth, Some(&bridges));
        left.shown = self.show().await?;
        *slowed = bridges;
        Ok(())
    }

    /// Removes the table, if it is ours to keep and holds nobody back.
    pub(super) async fn remove_unused(&self) -> Result<(), EgressError> {
        let mut left = self.left.lock().await;
        let interfaces = std::fs::read_dir("/sys/class/net").map_err(EgressError::Addresses)?;
        let used = interfaces.flatten().any(|found| found.file_name().as_encoded_bytes().starts_with(b"twl"));
        if used || self.policy != EgressPolicy::Managed || self.show().await.is_err() {
            return Ok(());
        }
        *left = None;
        nft(&["delete", "table", "inet", &self.name], "").await.map(drop)
    }

    async fn show(&self) -> Result<String, EgressError> {
        nft(&["list", "table", "inet", &self.name], "").await.map(|shown| without_meters(&shown))
    }
}

/// The table without what its caps note of the traffic so far.
fn without_meters(shown: &str) -> String {
    let mut kept = String::new();
    let mut is_meter = false;
    for line in shown.lines() {
        let name = line.trim().strip_prefix("set ").and_then(|rest| rest.strip_suffix(" {"));
        is_meter |=
            name.is_some_and(|name| name == SLOWED_METER || CAPS.iter().any(|(meter, _)| *meter == name));
        if !is_meter {
            kept.push_str(line);
            kept.push('\n');
        }
        is_meter &= line != "\t}";
    }
    kept
}

async fn nft(arguments: &[&str], input: &str) -> Result<String, EgressError> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new("nft")
        .args(arguments)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(EgressError::NoProgram)?;
    let run = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read its input says why on its way out.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await.map_err(EgressError::NoProgram)
    };
    let output = tokio::time::timeout(NFT_PATIENCE, run).await.map_err(|_| EgressError::Hangs)??;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(EgressError::Refused(why.lines().next().unwrap_or("without a word").to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(list: &[(&str, u8)]) -> HostPrefixes {
        HostPrefixes::from_addresses(
            list.iter().map(|(address, length)| (address.parse().expect("an address"), *length)),
        )
    }

    #[test]
    fn the_places_that_a_job_must_not_see_are_private() {
        for address in [
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "127.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "ff02::1",
        ] {
            assert!(is_private(address.parse().expect("an address")), "{address}");
        }
        for address in
            ["1.1.1.1", "203.0.113.7", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2001:db8::1"]
        {
            assert!(!is_private(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn the_hosts_prefixes_are_networks_without_overlap() {
        let host =
            prefixes(&[("203.0.113.9", 24), ("203.0.113.77", 32), ("198.51.100.1", 0), ("2001:db8::5", 64)]);
        let text = ruleset("t", &host, None, None);
        assert!(
            text.contains("set host4 { type ipv4_addr; flags interval; elements = { 203.0.113.0/24 }; }"),
            "{text}"
        );
        assert!(text.contains("elements = { 2001:db8::/64 }"), "{text}");
    }

    #[test]
    fn the_file_for_operators_is_the_table() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/egress/tradewind-egress.nft");
        let wanted = ruleset("tradewind", &HostPrefixes::default(), None, None);
        let found = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(found, wanted, "docs/egress/tradewind-egress.nft is what agents without root rely on");
    }

    #[test]
    fn a_host_without_addresses_has_empty_sets() {
        let text = ruleset("t", &HostPrefixes::default(), None, None);
        assert!(text.contains("set host4 { type ipv4_addr; flags interval; }"), "{text}");
    }

    #[test]
    fn what_caps_have_noted_is_no_change_of_the_table() {
        let table = |noted: &str, rate: u32| {
            format!(
                "table inet t {{\n\tset host4 {{\n\t\telements = {{ 10.0.0.0/8 }}\n\t}}\n\n\tset capped_out {{\n\t\ttype ifname\n{noted}\t}}\n\n\t\
                 chain forward {{\n\t\tupdate @capped_out {{ iifname limit rate over {rate} bytes/second }} drop\n\t}}\n}}\n"
            )
        };
        let noted = "\t\telements = { \"twlo1\" limit rate over 5 bytes/second timeout 1m expires 59s }\n";
        assert_eq!(without_meters(&table("", 5)), without_meters(&table(noted, 5)));
        assert_ne!(without_meters(&table("", 5)), without_meters(&table("", 6)));
        let other = table("", 5).replace("10.0.0.0", "11.0.0.0");
        assert_ne!(without_meters(&table("", 5)), without_meters(&other), "other sets count");
    }

    #[tokio::test]
    async fn a_mark_that_anyone_could_write_is_no_mark() {
        let home = tempfile::tempdir().expect("a directory");
        let mark = home.path().join("egress");
        let table = EgressTable::new("t".into(), EgressPolicy::Installed { mark: mark.clone() }, None);
        assert!(matches!(table.ensure().await, Err(EgressError::NotInstalled(_))), "there is none");
        std::fs::write(&mark, installation_mark("t").expect("a mark")).expect("write");
        let mode = |bits| std::os::unix::fs::PermissionsExt::from_mode(bits);
        std::fs::set_permissions(&mark, mode(0o666)).expect("chmod");
        assert!(matches!(table.ensure().await, Err(EgressError::NotInstalled(_))), "anyone can write it");
        std::fs::set_permissions(&mark, mode(0o644)).expect("chmod");
        let owner_is_root = std::fs::metadata(&mark).expect("stat").uid() == 0;
        assert_eq!(table.ensure().await.is_ok(), owner_is_root);
        std::fs::write(&mark, "of another boot\n").expect("write");
        assert!(matches!(table.ensure().await, Err(EgressError::NotInstalled(_))), "another boot's");
    }
}
