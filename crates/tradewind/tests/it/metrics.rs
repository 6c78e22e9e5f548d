//! What Prometheus reads of a node.

use std::collections::BTreeMap;

use crate::market::{BUYER, LEDGER, Market, PROVIDER};

/// The samples of a page, by name and labels.
fn scrape(port: u16) -> BTreeMap<String, f64> {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let said = std::process::Command::new("curl").args(["--silent", "--fail", &url]).output().expect("curl");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.ends_with("# EOF\n"), "an OpenMetrics page: {text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn provider_and_buyer_each_show_their_own_to_prometheus() {
    let (at_provider, at_buyer) = (free_port(), free_port());
    let metrics = |port: u16| format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("provider", &format!("{PROVIDER}{}", metrics(at_provider)));
    market.start("buyer", &format!("{BUYER}{}", metrics(at_buyer)));
    market.hears_of(1);
    assert_eq!(scrape(at_provider)["tradewind_provider_accepting"], 1.0);
    let job = market.submit(
        "name: burning\nrun: echo begun; while true; do :; done\n\
         resources: {cpus: 1, memory: 64MiB, disk: 64MiB}\ntimeout: 5m\n",
    );
    market.said(&job, "begun");
    let lease = market.attempt(&job).expect("a lease").supervision.id;
    let of_lease = |name: &str| format!("tradewind_lease_{name}{{lease=\"{lease}\"}}");
    let of_job = |name: &str| format!("tradewind_job_{name}{{job=\"{}\",name=\"burning\"}}", job.id);
    market.until("the lease's processor time and money are shown", || {
        let page = scrape(at_provider);
        let above = |name: &str, least: f64| page.get(&of_lease(name)).is_some_and(|value| *value > least);
        above("cpu_seconds_total", 0.5) && above("memory_bytes", 0.0) && above("paid", 0.0)
    });
    let page = scrape(at_provider);
    assert_eq!(page["tradewind_leases{state=\"running\"}"], 1.0, "{page:?}");
    assert!(!page.keys().any(|name| name.contains("burning") || name.contains("job")), "{page:?}");
    market.until("the buyer's job is shown", || {
        let page = scrape(at_buyer);
        let cpu = page.get(&of_job("cpu_seconds_total")).copied().unwrap_or_default();
        page.get("tradewind_jobs{state=\"leased\"}") == Some(&1.0) && cpu > 0.5
    });
    assert!(scrape(at_buyer)[&of_job("signed")] > 0.0);
    market.command("buyer", &["stop", &job.id]).output().expect("the program starts");
    market.settled(&job);
    let page = scrape(at_buyer);
    assert_eq!(page["tradewind_jobs{state=\"ended\"}"], 1.0);
    assert!(!page.contains_key(&of_job("signed")), "a job that is over is counted and not listed: {page:?}");
}
