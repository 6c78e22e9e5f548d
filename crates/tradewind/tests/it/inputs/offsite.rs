//! Checkpoints in a store of the buyer's own.

use std::path::{Path, PathBuf};

use tradewind_proto::supervision::Outcome;
use tradewind_testbed::web::Authority;

use super::{KEY, holding, market, submit};
use crate::market::{Job, Market};

const MARK: &str = "what-the-model-has-learned";

/// Counts on from what is there, and saves each step.
fn learning(endpoint: &str, to: &str, more: &str) -> String {
    format!(
        "name: learning\n\
         run: |\n\
        \x20 n=$(cat state/step 2>/dev/null || echo 0); echo \"from $n\"\n\
        \x20 mkdir -p state\n\
        \x20 while true; do n=$((n + 1)); echo \"{MARK}\" > state/weights; echo $n > draft; mv draft state/step; sleep 2; done\n\
         resources: {{cpus: 1, memory: 128MiB, disk: 64MiB}}\ntimeout: 5m\n\
         checkpoint: {{path: state, store: \"s3://acme-data/runs/\", encrypt_to: {to}}}\n\
         s3: {{endpoint: \"{endpoint}\", access_key: BUCKET_ID, secret_key: BUCKET_KEY}}\n{more}"
    )
}

/// The names of what lies in the store.
fn there(runs: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

fn stop(market: &Market, job: &Job) {
    market.command("buyer", &["stop", &job.id]).output().expect("the program starts");
    market.settled(job);
}

#[test]
fn checkpoints_lie_in_the_buyers_own_store_where_its_key_alone_opens_them() {
    let authority = Authority::new();
    let mut market = market(&authority, "");
    let root = market.path("buckets");
    let runs = root.join("acme-data/runs");
    std::fs::create_dir_all(root.join("acme-data")).expect("made");
    let endpoint = market.block_on(authority.buckets(&root, super::ID, KEY));
    let own = age::x25519::Identity::generate();
    let to = own.to_public().to_string();

    let refused = submit(&market, &learning(&endpoint, &to, ""), "another key").map(|job| job.id);
    let refused = refused.expect_err("a store that takes nothing is found out at once");
    assert!(refused.contains("checkpoint.store") && !refused.contains("another key"), "{refused}");
    assert_eq!(there(&runs), [] as [&str; 0]);

    let job = submit(&market, &learning(&endpoint, &to, ""), KEY).expect("taken over");
    let newest = |market: &Market| {
        market
            .record(&job)
            .and_then(|record| record.offsite.last().map(|offsite| offsite.number))
            .unwrap_or_default()
    };
    market.until("several are there", || newest(&market) >= 3);
    stop(&market, &job);
    let record = market.record(&job).expect("a record");
    let short = job.id.trim_start_matches("0x").get(..8).expect("an id").to_owned();
    let names = there(&runs);
    let last = format!("learning-{short}-{:06}.tar.age", record.offsite.last().expect("one").number);
    assert!(names.contains(&last) && names.contains(&format!("learning-{short}-README.txt")), "{names:?}");
    assert_eq!(names.len(), 3, "the newest two, and how to read them: {names:?}");
    assert_eq!(holding(&root, MARK), [] as [PathBuf; 0], "nothing is there to be read");
    assert!(
        !market.path("buyer").join("buyer/jobs").join(&job.id).join("offsite").exists(),
        "packed and gone"
    );
    for node in ["provider", "buyer"] {
        assert_eq!(holding(&market.path(node), KEY), [] as [PathBuf; 0], "the store's key is in no file");
    }
    let manifest = format!("{:?}", record.attempts[0].manifest);
    assert!(
        !manifest.contains("acme-data") && !manifest.contains(&to),
        "no provider hears of it: {manifest}"
    );

    let bytes = std::fs::read(runs.join(&last)).expect("an object");
    let open = age::Decryptor::new(&bytes[..]).expect("a file of age");
    let open = open.decrypt(std::iter::once(&own as &dyn age::Identity)).expect("its recipient's");
    let restored = market.path("restored");
    tar::Archive::new(open).unpack(&restored).expect("an archive");
    let step = std::fs::read_to_string(restored.join("state/step")).expect("a step");
    assert_eq!(std::fs::read_to_string(restored.join("state/weights")).expect("weights").trim(), MARK);

    let inputs = format!("inputs: [{{path: {}, target: state}}]\n", restored.join("state").display());
    let again = submit(&market, &learning(&endpoint, &to, &inputs), KEY).expect("taken over");
    market.said(&again, &format!("from {}", step.trim()));
    stop(&market, &again);
    let ended = market.record(&again).expect("a record").attempts[0].outcome;
    assert!(matches!(ended, Some(Outcome::Stopped(_))), "{ended:?}");

    market.kill("buyer");
    let packing = market.path("buyer").join("buyer/jobs").join(&again.id).join("offsite");
    std::fs::create_dir_all(packing.join("files/state")).expect("made");
    std::fs::write(packing.join("files/state/weights"), MARK).expect("written");
    market.again("buyer");
    market.until("what a killed node was packing is gone", || !packing.exists());
}
