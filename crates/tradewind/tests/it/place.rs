//! A job that wants an auditor's word for where its machine stands.

use serde_json::Value;
use tradewind_proto::supervision::Outcome;

use crate::market::{BUYER, Job, LEDGER, Market, PROVIDER};

/// What a command of a person at a node prints, as JSON.
fn json(market: &Market, node: &str, arguments: &[&str]) -> Value {
    let output =
        market.command(node, &[&["--json"], arguments].concat()).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a command says that is refused.
fn refused(market: &Market, node: &str, arguments: &[&str]) -> String {
    let output = market.command(node, arguments).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(125), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until the buyer hears an offer of the device that repeats a word of this expiry, or none.
fn repeats(market: &Market, device: &str, expires: Option<&Value>) {
    market.until("the offer repeats who attests its place", || {
        let offers = market.ask::<Vec<Value>>("buyer", "/v1/offers").unwrap_or_default();
        let offer = offers.into_iter().find(|offer| offer["device"] == device);
        offer.is_some_and(|offer| offer["attested"][0].get("expires") == expires)
    });
}

/// What a job that has no place yet says of it.
fn placing(market: &Market, job: &Job) -> String {
    market.record(job).map(|record| format!("{:?}", record.state)).unwrap_or_default()
}

#[test]
fn a_job_that_trusts_an_auditor_runs_where_it_attests_the_place_and_nowhere_once_that_is_taken_back() {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("auditor", BUYER);
    market.start("buyer", BUYER);
    let cheap = PROVIDER.replace("[provider]\n", "[provider]\ncountry = \"DE\"\n");
    market.start("provider-cheap", &cheap);
    let auditor = market.account("auditor").to_string();
    // It asks the chain at its start, and then so seldom that the buyer is the first to hear of a revocation.
    let dear = cheap.replace("price = \"0.36\"", "price = \"0.72\"\nlabel = \"fra-1\"");
    let dear = dear.replace("heartbeat = 2", &format!("heartbeat = 8\nauditors = [\"{auditor}\"]"));
    market.start("provider-dear", &dear);
    market.hears_of(2);
    let machine: Value = market.ask("provider-dear", "/v1/provider").expect("an answer");
    let device = machine["device"]["id"].as_str().expect("an id").to_owned();

    json(&market, "auditor", &["wallet", "deposit", "1"]);
    let place = ["attest", "place", &device, "--country", "de", "--label", "fra-1", "--for"];
    let nowhere = ["attest", "place", &format!("0x{:064x}", 1), "--country", "DE"];
    assert!(refused(&market, "auditor", &nowhere).contains("the registry has no device"));
    let elsewhere = ["attest", "place", &device, "--country", "Germany"];
    assert!(refused(&market, "auditor", &elsewhere).contains("is not two upper-case letters"));
    let first = json(&market, "auditor", &[&place[..], &["365d"]].concat());
    assert_eq!((&first["place"], &first["holds"]), (&"DE/fra-1".into(), &true.into()), "{first}");
    repeats(&market, &device, Some(&first["expires"]));
    let view: Value = market.ask("provider-dear", "/v1/provider").expect("an answer");
    assert_eq!(view["attested"][0]["issuer"], auditor.as_str(), "{view}");

    let trusting = format!(
        "name: short\nrun: echo done\nresources: {{cpus: 1, memory: 128MiB, disk: 64MiB}}\n\
         placement: {{attestations: {{place: [\"{auditor}\"]}}}}\n"
    );
    let attempt = market.settled(&market.submit(&trusting));
    assert_eq!(attempt.outcome, Some(Outcome::Finished { code: 0 }), "{attempt:?}");
    assert_eq!(attempt.provider.account(), market.account("provider-dear"), "not the cheaper one");

    // A second attestation that the buyer never asked for, repeated by the offer and taken back at once.
    let second = json(&market, "auditor", &[&place[..], &["400d"]].concat());
    market.kill("provider-dear");
    market.again("provider-dear");
    repeats(&market, &device, Some(&second["expires"]));
    let ids = [&first, &second].map(|attested| attested["id"].as_str().expect("an id").to_owned());
    let others = refused(&market, "buyer", &["attest", "revoke", &ids[0]]);
    assert!(others.contains(&format!("{auditor} attested it")), "{others}");
    for id in &ids {
        assert_eq!(json(&market, "auditor", &["attest", "revoke", id])["holds"], false);
    }
    assert!(refused(&market, "auditor", &["attest", "revoke", &ids[0]]).contains("it holds no more"));
    let job = market.submit(&trusting);
    let chain = "nobody you trust attests where it stands: the chain holds no such attestation now";
    market.until("the chain says no", || placing(&market, &job).contains(chain));
    repeats(&market, &device, None);
    let plan = "2 providers: nobody you trust attests where it stands";
    market.until("no offer claims it any more", || placing(&market, &job).contains(plan));
    let listed = json(&market, "buyer", &["attest", "list", &device]);
    let standing: Vec<bool> =
        listed.as_array().expect("a list").iter().filter_map(|one| one["holds"].as_bool()).collect();
    assert_eq!(standing, [false, false], "{listed}");
}
