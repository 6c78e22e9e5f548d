//! What a container reaches, in real containers and namespaces.
//!
//! ```text
//!  container ── twlo… ── host ── veth ── beyond: 203.0.113.10 (plays the Internet)
//!                         │              10.x.y.2 (the local network), 169.254.169.254, 100.64.9.9
//!                         └── its own addresses
//! ```

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::Network;
use tradewind_provider::docker::{DockerConfig, EgressPolicy, HostPrefixes, ruleset};
use tradewind_provider::runtime::RuntimeError;

use super::busybox::Recipe;
use super::topology::{Namespace, host_reaches, run, shows};
use super::{config, connect, eventually, fixture, fixture_of};
use crate::conformance::{Fixture, Job};

const INTERNET: &str = "203.0.113.10";
const METADATA: &str = "169.254.169.254";
const CARRIER_NAT: &str = "100.64.9.9";

/// The outside of the host, on one link.
struct Outside {
    beyond: Namespace,
    lan: String,
    host: String,
}

impl Outside {
    fn new(files: &Path) -> Self {
        let (a, b) = (rand::random::<u8>(), rand::random::<u8>() & 0xfc);
        let (host, lan) = (format!("10.{a}.{b}.1"), format!("10.{a}.{b}.2"));
        let mut beyond = Namespace::new("beyond");
        let link = format!("tw{}", hex::encode(rand::random::<[u8; 4]>()));
        run(&format!("ip link add {link} type veth peer name far netns {}", beyond.name));
        run(&format!("ip addr add {host}/30 dev {link} && ip link set {link} up"));
        beyond.run(&format!(
            "ip addr add {lan}/30 dev far; ip link set far up; ip route add default via {host}"
        ));
        for address in [INTERNET, METADATA, CARRIER_NAT] {
            beyond.run(&format!("ip addr add {address}/32 dev lo"));
            run(&format!("ip route replace {address}/32 via {lan}"));
        }
        beyond.serve(files);
        Self { beyond, lan, host }
    }
}

fn script(addresses: &[&str]) -> String {
    let list = addresses.join(" ");
    format!(
        "for a in {list} $(ip route | ./busybox awk '/default/ {{print $3}}'); do \
         timeout 2 wget -q -O - http://$a/ >/dev/null 2>&1 && echo reached $a; done; echo done"
    )
}

fn networked(f: &Fixture, script: &str) -> Job {
    let mut job = f.job(script);
    job.spec.network = Network::Internet;
    job
}

#[tokio::test]
async fn a_container_reaches_the_internet_and_nothing_near() {
    let f = fixture().await;
    let files = TempDir::new().expect("a directory");
    let outside = Outside::new(files.path());
    let near = [outside.lan.as_str(), METADATA, CARRIER_NAT];
    for address in near.iter().chain([&INTERNET]) {
        eventually(&format!("the test's own network reaches {address}"), async || host_reaches(address))
            .await;
    }
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", 0)).await.expect("listen");
    let port = listener.local_addr().expect("an address").port();
    let of_host = format!("{}:{port}", outside.host);

    let mut all = near.to_vec();
    all.extend([INTERNET, of_host.as_str()]);
    let gateway = "echo gateway $(timeout 2 nc $(ip route | ./busybox awk '/default/ {print $3}') PORT </dev/null 2>/dev/null && echo open)";
    let line = format!("{}; {}", script(&all), gateway.replace("PORT", &port.to_string()));
    let job = networked(&f, &line);
    f.run(&job).await;
    let log = f.log(job.lease()).await;
    assert_eq!(log, format!("reached {INTERNET}\ndone\ngateway\n"));
    f.clear(&job).await;
    assert!(host_reaches(outside.lan.as_str()), "the host itself goes on: {}", outside.beyond.name);
}

#[tokio::test]
async fn it_is_the_table_that_holds_containers_back_and_it_comes_back() {
    let f = fixture().await;
    let files = TempDir::new().expect("a directory");
    let outside = Outside::new(files.path());
    let lan = &outside.lan;
    let job = networked(
        &f,
        &format!(
            "while :; do timeout 1 wget -q -O - http://{lan}/ >/dev/null 2>&1 && echo reached || echo refused; ./busybox sleep 0.1; done"
        ),
    );
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "refused").await;
    assert!(!f.log(job.lease()).await.contains("reached"));
    run("nft delete table inet tradewind");
    f.log_says(job.lease(), "reached").await;
    assert!(f.runtime.readiness().await.ready, "whoever asks has the table put back");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let before = f.log(job.lease()).await.matches("reached").count();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(f.log(job.lease()).await.matches("reached").count(), before);
    f.clear(&job).await;
}

#[tokio::test]
async fn a_closed_network_reaches_nothing_at_all() {
    let f = fixture().await;
    let files = TempDir::new().expect("a directory");
    let outside = Outside::new(files.path());
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", 0)).await.expect("listen");
    let port = listener.local_addr().expect("an address").port();
    let mut job = f.job(&format!(
        "own=$(ip -4 addr show eth0 | ./busybox awk '/inet / {{print $2}}'); host=${{own%.*}}.1; \
         for a in {INTERNET} {} {METADATA} $host:{port}; do \
           timeout 2 wget -q -O - http://$a/ >/dev/null 2>&1 && echo reached $a; done; \
         timeout 2 nc $host {port} </dev/null 2>/dev/null && echo open; \
         timeout 3 nslookup example.com >/dev/null 2>&1 && echo resolved; echo done $host",
        outside.lan
    ));
    job.spec.ports = vec![8080];
    f.run(&job).await;
    let log = f.log(job.lease()).await;
    assert!(log.starts_with("done ") && log.trim_end().ends_with(".1"), "{log}");
    f.clear(&job).await;
}

#[tokio::test]
async fn who_sent_what_was_bought_is_slowed_and_nobody_else() {
    const PORT: u16 = 9_009;
    let root = TempDir::new().expect("a directory");
    let settings = DockerConfig { bandwidth: Some(100), ..config(&root) };
    let f = fixture_of(root, settings, &Recipe::with_shell()).await;
    let files = TempDir::new().expect("a directory");
    let mut outside = Outside::new(files.path());
    outside.beyond.swallow(PORT);
    let line = format!("timeout 12 nc {INTERNET} {PORT} < /dev/zero; echo done");
    let mut counted = networked(&f, &line);
    // A sixth of an hour's amount is there at once.
    counted.spec.limits.egress = Some(Bytes::mib(48));
    f.start(&counted).await.expect("start");
    let holds = || shows("nft list set inet tradewind slowed | grep -q twlo");
    eventually("it has sent what it may", async || holds()).await;
    let sent = outside.beyond.received();
    assert!(sent > 8 << 20, "{sent} bytes came before it was slowed");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let more = outside.beyond.received() - sent;
    assert!(more < 1 << 20, "{more} bytes in three seconds at 64 KiB a second");
    let free = networked(&f, &format!("timeout 2 nc {INTERNET} {PORT} < /dev/zero; echo done"));
    let before = outside.beyond.received();
    f.run(&free).await;
    let more = outside.beyond.received() - before;
    assert!(more > 8 << 20, "{more} bytes of a lease beside it that may send as it likes");
    assert!(!f.log(free.lease()).await.contains("slowed"));
    f.exit(counted.lease()).await;
    f.log_says(counted.lease(), "what it sends was slowed to 64 KiB/s").await;
    f.clear(&counted).await;
    f.clear(&free).await;
    eventually("no bridge is slowed after its lease", async || !holds()).await;
}

#[tokio::test]
async fn a_lease_that_cannot_be_slowed_is_not_counted() {
    let root = TempDir::new().expect("a directory");
    let egress = EgressPolicy::Installed { mark: root.path().join("no-such-mark") };
    let settings = DockerConfig { egress, ..config(&root) };
    let f = fixture_of(root, settings, &Recipe::with_shell()).await;
    let mut job = networked(&f, "echo never");
    job.spec.limits.egress = Some(Bytes::gib(1));
    let error = f.start(&job).await.expect_err("an operator's table slows nobody");
    assert!(
        matches!(&error, RuntimeError::Unsupported { what, .. } if what.contains("what is sent")),
        "{error:?}"
    );
    f.clear(&job).await;
}

#[tokio::test]
async fn two_leases_do_not_see_each_other() {
    let f = fixture().await;
    let mut server = f.job("echo hello > index.html; echo up; exec ./busybox httpd -f -p 8080 -h /work");
    server.spec.network = Network::Internet;
    server.spec.ports = vec![8080];
    f.start(&server).await.expect("start");
    f.log_says(server.lease(), "up").await;
    let address = f.runtime.address(server.lease(), 8080).await.expect("an address");
    let job = networked(&f, &format!("timeout 2 wget -q -O - http://{address}/ && echo reached; echo done"));
    f.run(&job).await;
    assert_eq!(f.log(job.lease()).await.lines().last(), Some("done"));
    assert!(!f.log(job.lease()).await.contains("reached"));
    f.clear(&job).await;
    f.clear(&server).await;
}

#[tokio::test]
async fn without_the_table_no_lease_gets_a_network() {
    let root = TempDir::new().expect("a directory");
    let egress = EgressPolicy::Installed { mark: root.path().join("no-such-mark") };
    let settings = DockerConfig { egress, ..config(&root) };
    let f = fixture_of(root, settings, &Recipe::with_shell()).await;
    let readiness = f.runtime.readiness().await;
    assert!(
        !readiness.ready
            && readiness.findings.iter().any(|found| found.problem.contains("egress table is missing"))
    );
    let mut job = networked(&f, "echo never");
    let error = f.start(&job).await.expect_err("no table");
    assert!(matches!(&error, RuntimeError::Unavailable(why) if why.contains("egress table")), "{error:?}");
    f.clear(&job).await;
    job.spec.network = Network::None;
    job.spec.ports = vec![80];
    assert!(f.start(&job).await.is_err(), "a closed bridge leads to the host, too");
    job.spec.ports.clear();
    assert_eq!(f.run(&job).await.code, 0, "a job without any network needs no table");
    f.clear(&job).await;
}

#[tokio::test]
async fn a_resolver_behind_the_table_is_refused() {
    let root = TempDir::new().expect("a directory");
    let mut settings = config(&root);
    settings.dns = vec!["192.168.1.1".parse().expect("an address")];
    let error = tradewind_provider::docker::DockerRuntime::connect(settings).expect_err("a local resolver");
    assert!(error.to_string().contains("192.168.1.1"), "{error}");
    drop(connect(&config(&root)));
}

/// A router of the test's own with a bridge as a lease has it, `twlo6`, a box on it, and what lies beyond.
struct Routed {
    router: Namespace,
    beyond: Namespace,
    boxed: Namespace,
    files: TempDir,
}

impl Routed {
    fn new() -> Self {
        let files = TempDir::new().expect("a directory");
        let (router, mut beyond, boxed) =
            (Namespace::new("router"), Namespace::new("beyond"), Namespace::new("box"));
        router.run(
            "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; echo 1 > /proc/sys/net/ipv4/ip_forward; \
             ip link add twlo6 type bridge; ip link set twlo6 up",
        );
        let add = "nodad dev";
        run(&format!("ip -n {} link add out type veth peer name far netns {}", router.name, beyond.name));
        run(&format!("ip -n {} link add leg type veth peer name far netns {}", router.name, boxed.name));
        router.run(&format!(
            "ip link set leg master twlo6 up; ip link set out up; ip addr add 2001:db8:77::1/64 {add} twlo6; ip addr add fd77::1/64 {add} out; \
             ip -6 route add 2001:db8:99::/64 via fd77::2; \
             ip addr add 192.0.2.1/24 dev twlo6; ip addr add 198.51.100.1/30 dev out; ip route add {INTERNET} via 198.51.100.2"
        ));
        beyond.run(&format!(
            "ip link set far up; ip addr add fd77::2/64 {add} far; ip addr add 2001:db8:99::10/128 {add} lo; ip -6 route add default via fd77::1; \
             ip addr add 198.51.100.2/30 dev far; ip addr add {INTERNET}/32 dev lo; ip route add default via 198.51.100.1"
        ));
        boxed.run(&format!(
            "ip link set far up; ip addr add 2001:db8:77::2/64 {add} far; ip -6 route add default via 2001:db8:77::1; \
             ip addr add 192.0.2.2/24 dev far; ip route add default via 192.0.2.1"
        ));
        beyond.serve(files.path());
        let mut router = router;
        router.serve(files.path());
        Self { router, beyond, boxed, files }
    }

    /// Puts the table in force.
    fn load(&self, rules: &str) {
        let file = self.files.path().join("rules");
        std::fs::write(&file, rules).expect("write");
        self.router.run(&format!("nft -f {}", file.display()));
    }
}

/// The rules for IPv6, in a router of the test's own: engines give containers no IPv6 unless told to.
#[tokio::test]
async fn the_rules_of_docker_bridges_hold_for_ipv6() {
    let routed = Routed::new();
    let Routed { router, beyond, boxed, .. } = &routed;
    let near = ["fd77::2", "2001:db8:77::1", "fd77::1"];
    for address in near.iter().chain(&["2001:db8:99::10"]) {
        eventually(&format!("the test's own network reaches {address}"), async || boxed.reaches(address))
            .await;
    }

    routed.load(&ruleset("tradewind", &HostPrefixes::default(), None, None));
    for address in near {
        assert!(!boxed.reaches(address), "{address}");
    }
    assert!(boxed.reaches("2001:db8:99::10"), "the Internet stays open");
    // The host's own public network is nobody's Internet.
    let host = HostPrefixes::from_addresses([("2001:db8:99::1".parse().expect("an address"), 64)]);
    routed.load(&ruleset("tradewind", &host, None, None));
    assert!(!boxed.reaches("2001:db8:99::10"), "{}", router.name);
    assert!(!beyond.reaches("2001:db8:77::2"), "nobody opens a connection to a container from outside");
}

#[tokio::test]
async fn a_docker_lease_that_floods_its_line_gets_no_further_than_its_cap() {
    const SENT: u64 = 3_000 * 1_400;
    let routed = Routed::new();
    eventually("the test's own network reaches the Internet", async || routed.boxed.reaches(INTERNET)).await;
    let script = routed.files.path().join("flood");
    let line = format!(
        "x=$(printf %1400s)\nfor ((i = 0; i < 3000; i++)); do printf %s \"$x\" > /dev/udp/{INTERNET}/9; done 2> /dev/null\ntrue\n"
    );
    std::fs::write(&script, line).expect("write");
    let flood = || {
        let before = routed.beyond.received();
        routed.boxed.run(&format!("bash {}", script.display()));
        routed.beyond.received().saturating_sub(before)
    };
    let capped = ruleset("tradewind", &HostPrefixes::default(), Some(1), None);
    routed.load(&ruleset("tradewind", &HostPrefixes::default(), None, None));
    let free = flood();
    routed.load(&capped);
    let held = flood();
    assert!(free > SENT / 2 && held < SENT / 4, "{free} without a cap, {held} with one, of {SENT}");
    assert!(routed.boxed.reaches(INTERNET), "what keeps within it passes, both ways");
    for meter in ["capped_out", "capped_in"] {
        routed.router.run(&format!("nft list set inet tradewind {meter} | grep -q twlo6"));
    }
}
