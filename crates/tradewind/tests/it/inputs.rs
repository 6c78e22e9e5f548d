//! Inputs from stores that the buyer names and the provider reads, without ever having their keys.

mod git;
mod hub;
mod offsite;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tradewind_proto::manifest::Source;
use tradewind_proto::supervision::Outcome;
use tradewind_testbed::web::Authority;

use crate::market::{BUYER, Job, LEDGER, Market, PROVIDER};

const ID: &str = "AKIAINPUTSTEST";
const KEY: &str = "s3cr3t/hunter2+of+the+bucket";
const SMALL: &str = "resources: {cpus: 1, memory: 128MiB, disk: 64MiB}\ntimeout: 5m\n";

/// A market whose nodes trust `authority`, with a provider that reads its own machine's stores.
fn market(authority: &Authority, provider: &str) -> Market {
    let mut market = Market::new();
    market.trust(authority.file(&market.path("")));
    market.start_ledger(LEDGER);
    market.start("provider", &format!("{PROVIDER}private_inputs = true\n{provider}"));
    market.start("buyer", BUYER);
    market.hears_of(1);
    market
}

/// Hands a job over in a shell that has the bucket's keys.
fn submit(market: &Market, yaml: &str, key: &str) -> Result<Job, String> {
    let file = market.lay_out(yaml, &[]);
    let output = file.with_file_name("outputs");
    let (job, outputs) = (file.to_str().expect("a path"), output.to_str().expect("a path"));
    let said = market
        .command("buyer", &["--json", "run", "--yes", "--detach", "--output", outputs, job])
        .envs([("BUCKET_ID", ID), ("BUCKET_KEY", key), ("HUB_TOKEN", hub::TOKEN), ("GIT_TOKEN", git::TOKEN)])
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&said.stdout);
    let answer: Option<Value> = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    match answer.and_then(|answer| answer["job"].as_str().map(str::to_owned)) {
        Some(id) => Ok(Job { id, output }),
        None => Err(format!("{text}{}", String::from_utf8_lossy(&said.stderr))),
    }
}

/// Files below `dir` that hold `text`.
fn holding(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            found.extend(holding(&path, text));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

/// A directory of buckets with the one that the tests read.
fn bucket(market: &Path) -> PathBuf {
    let root = market.join("buckets");
    for (key, content) in [("labels.csv", "3,7\n"), ("days/mon", "1\n"), ("days/week 2/tue", "2\n")] {
        let path = root.join("acme-data").join(key);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, content).expect("written");
    }
    root
}

fn reading(endpoint: &str) -> String {
    format!(
        "name: reading\n\
         run: cat data/labels.csv days/mon 'days/week 2/tue' > result; env | grep -c BUCKET >> result || true\n\
         outputs: [result]\n\
         inputs:\n- {{url: \"s3://acme-data/labels.csv\", target: data/labels.csv}}\n- s3://acme-data/days/\n\
         s3: {{endpoint: \"{endpoint}\", access_key: BUCKET_ID, secret_key: BUCKET_KEY}}\n{SMALL}"
    )
}

#[test]
fn a_job_reads_a_private_bucket_whose_keys_its_provider_never_has() {
    let authority = Authority::new();
    let market = market(&authority, "");
    let root = bucket(&market.path(""));
    let endpoint = market.block_on(authority.buckets(&root, ID, KEY));
    let job = submit(&market, &reading(&endpoint), KEY).expect("taken over");
    let lease = market.settled(&job);
    assert_eq!(lease.outcome, Some(Outcome::Finished { code: 0 }), "{lease:?}");
    let result = std::fs::read_to_string(job.output.join("result")).expect("an output");
    assert_eq!(result, "3,7\n1\n2\n0\n", "one object, a prefix, and no key in the environment");
    for node in ["provider", "buyer", "ledger"] {
        assert_eq!(holding(&market.path(node), KEY), [] as [PathBuf; 0], "the key is in no file");
    }
    assert!(!market.logged("provider", "X-Amz-Signature") && !market.logged("buyer", "X-Amz-Signature"));
    let signed = format!("{:?}", lease.manifest);
    assert!(signed.contains("/acme-data/labels.csv") && !signed.contains("X-Amz"), "{signed}");
}

#[test]
fn a_job_that_is_placed_again_gets_addresses_of_its_own() {
    let authority = Authority::new();
    let mut market = Market::new();
    market.trust(authority.file(&market.path("")));
    market.start_ledger(LEDGER);
    let provider = format!("{PROVIDER}private_inputs = true\n");
    market.start("cheap", &provider);
    market.start("dear", &provider.replace("0.36", "0.72"));
    market.start("buyer", &BUYER.replace("patience = 150", "patience = 5"));
    market.hears_of(2);
    let root = bucket(&market.path(""));
    let endpoint = market.block_on(authority.buckets(&root, ID, KEY));
    let text = reading(&endpoint).replace("run: cat", "run: echo began; sleep 4; cat");
    let job = submit(&market, &format!("{text}retry: {{attempts: 2}}\n"), KEY).expect("taken over");
    market.said(&job, "began");
    market.destroy("cheap");
    let last = market.settled(&job);
    assert_eq!(last.outcome, Some(Outcome::Finished { code: 0 }), "{last:?}");
    let attempts = market.record(&job).expect("the job").attempts;
    let signed = |index: usize| match &attempts[index].manifest.inputs[0].source {
        Source::Https(file) => (file.url.clone(), file.until.expect("it is signed")),
        other @ (Source::Blob { .. } | Source::Git(_)) => panic!("{other:?}"),
    };
    let (first, second) = (signed(0), signed(1));
    assert!(first.0 != second.0 && first.1 < second.1, "{:?} and {:?}", first.1, second.1);
}

#[test]
fn a_wrong_key_is_refused_at_once_with_the_bucket_s_name() {
    let authority = Authority::new();
    let market = market(&authority, "");
    let root = bucket(&market.path(""));
    let endpoint = market.block_on(authority.buckets(&root, ID, KEY));
    let wrong = "another/hunter3";
    let error = submit(&market, &reading(&endpoint), wrong).err().expect("refused");
    assert!(error.contains("s3://acme-data/labels.csv") && error.contains("check the keys"), "{error}");
    assert!(!error.contains(wrong) && !error.contains("hunter"), "{error}");
    let absent = reading(&endpoint).replace("labels.csv\",", "nowhere.csv\",");
    let error = submit(&market, &absent, KEY).err().expect("refused");
    assert!(error.contains("s3://acme-data/nowhere.csv: it is not there"), "{error}");
}

/// A second lease with the same public input, named by its hash, asks the site for nothing.
#[test]
fn a_public_input_is_fetched_once_for_two_leases() {
    let authority = Authority::new();
    let market = market(&authority, "input_cache = \"1MiB\"\n");
    let asked = Arc::new(AtomicUsize::new(0));
    let site = {
        let asked = asked.clone();
        let answer = move || async move {
            asked.fetch_add(1, Ordering::SeqCst);
            "weights"
        };
        axum::Router::new().route("/weights.bin", axum::routing::get(answer))
    };
    let url = market.block_on(authority.serve(site));
    let hash = blake3::hash(b"weights");
    let text = format!(
        "run: cp weights.bin result; echo mine > weights.bin\noutputs: [result]\n\
         inputs: [{{url: \"{url}/weights.bin\", blake3: \"{hash}\"}}]\n{SMALL}"
    );
    for _ in 0..2 {
        let job = market.submit(&text);
        let lease = market.settled(&job);
        assert_eq!(lease.outcome, Some(Outcome::Finished { code: 0 }), "{lease:?}");
        assert_eq!(std::fs::read(job.output.join("result")).expect("an output"), b"weights");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
