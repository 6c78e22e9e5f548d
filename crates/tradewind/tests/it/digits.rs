//! The digits job through the whole market, on other engines than the demonstration's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use alloy::providers::{DynProvider, Provider as _, ProviderBuilder};
use serde_json::Value;
use tradewind_chain::client::artifacts;
use tradewind_chain::client::deploy::{self, DeployPlan, Deployment, Timings};
use tradewind_chain::client::faucet::{Faucet, FaucetConfig};
use tradewind_chain::client::sender::{Sender, SenderConfig};
use tradewind_chain::client::store::Store;
use tradewind_mesh::PeerAddr;
use tradewind_proto::profile::{
    Asset, AssetKind, Bootstrap, ChainProfile, Contracts as Addresses, NetworkProfile,
};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::supervision::Outcome;
use tradewind_proto::units::Money;
use tradewind_testbed::anvil::{ALICE, Anvil, BOB, CHAIN_ID};

use crate::market::{BUYER, LEDGER, Market, PROVIDER};
use crate::receipt;

/// The static program.
pub(crate) fn program() -> String {
    std::env::var("TRADEWIND_DIGITS")
        .expect("TRADEWIND_DIGITS names the digits program; `cargo xtask digits` builds it, nextest sets it")
}

/// The job file and what lies beside it, as the repository has them.
pub(crate) fn lay_out(market: &Market) -> PathBuf {
    let (program, example) = (program(), example());
    let data = example.join("data/digits.bin");
    let yaml = include_str!("../../../../examples/digits/job.yaml");
    market.lay_out(yaml, &[("digits", Path::new(&program)), ("data/digits.bin", &data)])
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits")
}

/// Runs a job file as a person does, and checks what its receipt owes.
pub(crate) fn run(market: &Market, file: &Path) -> Value {
    let outputs = file.with_file_name("outputs");
    let (job, place) = (file.to_str().expect("a path"), outputs.to_str().expect("a path"));
    let mut command = market.command("buyer", &["--json", "run", "--yes", "--output", place, job]);
    let output = command.output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("a receipt");
    receipt::holds(&last, &outputs);
    last
}

/// Docker's own command line, on the engine that the tests use.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let mut command = Command::new("docker");
    command.args(["--host", &engine()]).args(arguments).env("DOCKER_BUILDKIT", "0");
    let output = command.output().expect("docker starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let hint = "hint: scripts/with-dockerd cargo nextest run -p tradewind docker";
    assert!(output.status.success(), "docker {arguments:?}: {said}\n{hint}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Ends a market and removes its provider's bridges, which wait ready for the next lease: the agent does not come back, and an engine has
/// room for few.
pub(crate) fn sweep(market: Market) {
    let owner = format!("label=tradewind.owner={}", market.account("provider"));
    drop(market);
    for network in docker(&["network", "ls", "--quiet", "--filter", &owner]).lines() {
        assert_eq!(docker(&["network", "inspect", "--format", "{{len .Containers}}", network]), "0");
        docker(&["network", "rm", network]);
    }
}

/// Where the engine is.
pub(crate) fn engine() -> String {
    ["TRADEWIND_DOCKER_HOST", "DOCKER_HOST"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "unix:///var/run/docker.sock".into())
}

/// Builds the example's image and packs it; the engine forgets it, so that only the archive can bring it back.
fn archive(market: &Market) -> PathBuf {
    let context = market.path("image");
    std::fs::create_dir_all(&context).expect("made");
    std::fs::copy(example().join("Dockerfile"), context.join("Dockerfile")).expect("copied");
    std::fs::copy(program(), context.join("digits")).expect("copied");
    let tag = format!("tradewind-test/digits:{}", hex::encode(rand::random::<[u8; 6]>()));
    docker(&["build", "--quiet", "--tag", &tag, context.to_str().expect("a path")]);
    let file = context.join("digits.tar");
    docker(&["save", "--output", file.to_str().expect("a path"), &tag]);
    docker(&["rmi", &tag]);
    file
}

#[test]
fn docker_trains_digits_in_an_image_from_scratch() {
    let mut market = Market::new();
    let archive = archive(&market);
    market.start_ledger(LEDGER);
    market.start("provider", &format!("{PROVIDER}runtimes = [\"docker\"]\ndocker_host = \"{}\"\n", engine()));
    market.start("buyer", BUYER);
    market.hears_of(1);
    let yaml = include_str!("../../../../examples/digits/image.yaml");
    let file = market.lay_out(yaml, &[("digits.tar", &archive)]);
    let hash = blake3::hash(&std::fs::read(&archive).expect("the archive"));
    let last = run(&market, &file);

    let lease = last["lease_id"].as_str().expect("a lease").parse().expect("an id");
    let closed = market.chain().closed(lease).expect("closed on chain");
    assert_eq!(u128::from(last["paid"].as_u64().expect("paid")), closed.paid.base_units());
    let owner = format!("label=tradewind.owner={}", market.account("provider"));
    let containers = || docker(&["container", "ls", "--all", "--quiet", "--filter", &owner]);
    market.until("the lease's container is gone", || containers().is_empty());
    sweep(market);
    docker(&["rmi", &format!("tradewind/import:{hash}")]);
}

#[test]
fn docker_a_job_pays_for_what_it_may_send() {
    let mut market = Market::new();
    let archive = archive(&market);
    market.start_ledger(LEDGER);
    let counted = "egress_price = \"0.05\"\nruntimes = [\"docker\"]";
    market.start("provider", &format!("{PROVIDER}{counted}\ndocker_host = \"{}\"\n", engine()));
    market.start("buyer", BUYER);
    market.hears_of(1);
    let hash = blake3::hash(&std::fs::read(&archive).expect("the archive"));
    let yaml = include_str!("../../../../examples/digits/image.yaml")
        .replace("./digits.tar", archive.to_str().expect("a path"))
        .replace("memory: 256MiB", "memory: 256MiB\n  egress: 2GiB");
    let yaml = format!("{yaml}network: internet\n");
    let file = market.lay_out(&yaml, &[]);
    let mut plan = market.command("buyer", &["plan", file.to_str().expect("a path")]);
    let plan = plan.output().expect("the program starts");
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.contains("0.46") && plan.contains("2 GiB an hour are in it"), "{plan}");
    let attempt = market.settled(&market.submit(&yaml));
    let terms = &attempt.supervision.terms;
    assert_eq!(terms.rate.hourly(), Money::from_base_units(460_000), "0.36 for the unit, 0.10 for sending");
    assert_eq!(attempt.outcome, Some(Outcome::Finished { code: 0 }), "{attempt:?}");
    sweep(market);
    docker(&["rmi", &format!("tradewind/import:{hash}")]);
}

#[test]
fn anvil_settles_digits_while_buyer_and_provider_hold_no_gas() {
    let mut market = Market::new();
    let anvil = Anvil::start();
    let (deployer, relaying) = (key(ALICE), key(BOB));
    let (buying, selling) = (fresh(), fresh());
    let store = market.path("deployment.redb");
    let accounts = [buying.address(), selling.address()];
    let deployment = market.block_on(deploy(&anvil.url, deployer, &store, &accounts));

    let mut profile = profile(&anvil.url, &deployment);
    market.publish(&profile);
    market.start_as(&relaying, "ledger-relayer", "[relayer]\n");
    let status: Value = market.ask("ledger-relayer", "/v1/status").expect("an answer");
    let text = |field: &str| status[field].as_str().expect("a text").to_owned();
    let mesh: PeerAddr = text("mesh_address").parse().expect("an address");
    profile.relayers = vec![text("relayer")];
    profile.bootstrap = vec![Bootstrap { key: mesh.key, addresses: mesh.direct }];
    market.publish(&profile);
    market.start_as(&selling, "provider", PROVIDER);
    market.start_as(&buying, "buyer", BUYER);
    market.hears_of(1);
    let last = run(&market, &lay_out(&market));

    let chain = market.chain();
    for account in [buying.address(), selling.address()] {
        assert_eq!(
            chain.gas(account),
            alloy::primitives::U256::ZERO,
            "{account} holds the chain's gas token"
        );
    }
    let lease = last["lease_id"].as_str().expect("a lease").parse().expect("an id");
    let closed = chain.closed(lease).expect("closed on anvil");
    assert_eq!(u128::from(last["paid"].as_u64().expect("paid")), closed.paid.base_units());
    assert_eq!(chain.opened(), 1);
}

fn key(secret: &str) -> SigningKey {
    let bytes = hex::decode(secret.trim_start_matches("0x")).expect("hex");
    SigningKey::from_bytes(bytes.try_into().expect("32 bytes")).expect("a key")
}

fn fresh() -> SigningKey {
    SigningKey::from_bytes(rand::random()).expect("a key")
}

/// Deploys the contracts and gives the accounts test dollars, and nothing else.
async fn deploy(
    url: &str,
    deployer: SigningKey,
    store: &Path,
    accounts: &[alloy::primitives::Address],
) -> Deployment {
    let provider: DynProvider = ProviderBuilder::default().connect_http(url.parse().expect("a URL")).erased();
    let store = Store::open(store).expect("a store");
    let decoder = Arc::new(artifacts::decoder());
    let config = SenderConfig::local(CHAIN_ID);
    let sender = Sender::start(provider.clone(), deployer, store.clone(), decoder, config).expect("a sender");
    let plan = DeployPlan::development(Timings::Tests);
    let deployment = deploy::deploy(&sender, &provider, CHAIN_ID, &plan).await.expect("deployed");
    let faucet = Faucet::new(sender, store, FaucetConfig::test_dollars(deployment.stablecoin));
    for account in accounts {
        faucet.drip(*account).await.expect("given");
    }
    deployment
}

fn profile(url: &str, deployment: &Deployment) -> NetworkProfile {
    NetworkProfile {
        name: "anvil".into(),
        development: true,
        relayers: Vec::new(),
        faucet: None,
        relays: Vec::new(),
        explorer: None,
        sponsor: None,
        chain: ChainProfile { id: CHAIN_ID, rpc: vec![url.into()], finality: 0 },
        contracts: Addresses {
            leases: deployment.contracts.leases,
            registry: deployment.contracts.registry,
            court: deployment.contracts.court,
            network_token: deployment.network_token,
            multicall: None,
            attestations: deployment.contracts.attestations,
        },
        challenge: None,
        walk: None,
        stake: None,
        assets: vec![Asset {
            symbol: "tUSD".into(),
            address: deployment.stablecoin,
            decimals: 6,
            kind: AssetKind::Erc3009,
        }],
        bootstrap: Vec::new(),
    }
}
