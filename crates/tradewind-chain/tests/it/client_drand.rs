#![cfg(test)]

use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use alloy::providers::{DynProvider, Provider as _};
use alloy::sol_types::SolCall as _;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tradewind_chain::client::beacon::{self, BeaconKind, Maker};
use tradewind_chain::client::bindings::court::abi::{Beacon, DrandBeacon};
use tradewind_chain::client::deploy::{BeaconChoice, BeaconPlan, DeployPlan, Timings, TrustPlan};
use tradewind_chain::client::drand::{AnswerError, Relays};
use tradewind_chain::client::sender::{Call, Sender, SenderConfig};
use tradewind_chain::client::store::Store;
use tradewind_chain::ledger::court::CaseStage;
use tradewind_chain::ledger::{ActionStatus, LedgerError};
use tradewind_proto::evidence::Finding;
use tradewind_proto::units::{Seconds, Timestamp};

use crate::client_court::{Watchers, quick};
use crate::client_market::{Market, dollars, key};
use crate::drand_relay::{Evmnet, Group, Manner, TestRelay};
use crate::fixture::{self, Anvil, CHAIN_ID, http};

/// How long anything may take on a machine that does much else.
const LONG: Duration = Duration::from_secs(60);

async fn evmnet(provider: DynProvider) -> (Market, Address) {
    let plan = DeployPlan::development(Timings::Tests).drawing(BeaconChoice::Evmnet);
    let market = Market::planned(provider, 0, &plan).await;
    let beacon = market.deployment.beacon.unwrap();
    (market, beacon)
}

async fn submit(market: &Market, beacon: Address, round: u64, signature: [U256; 2]) -> ActionStatus {
    let key = format!("test:{round}:{}", signature[1]);
    let call = DrandBeacon::submitCall { round, signature }.abi_encode();
    market.owner.send(&key, Call::new(beacon, call.into())).await.unwrap();
    market.owner.settled(&key).await.unwrap()
}

async fn seed(market: &Market, beacon: Address, round: u64) -> B256 {
    Beacon::new(beacon, &market.provider).seed(round).call().await.unwrap()
}

/// Rounds that drand published are taken, and nothing else is.
async fn takes_drands_rounds(provider: DynProvider) {
    let (market, beacon) = evmnet(provider).await;
    let Evmnet { chain, rounds } = Evmnet::read();
    let kind = market.reader(0).beacon_kind(beacon).await.unwrap();
    assert_eq!(kind, BeaconKind::Drand { chain, lag: Seconds::new(2) }, "the chain's hash covers its key");
    let (first, _) = rounds[&1];
    for (round, (signature, randomness)) in rounds {
        let ActionStatus::Failed { reason } = submit(&market, beacon, round + 1, signature).await else {
            panic!("another round's signature was taken")
        };
        assert!(reason.contains("WrongSignature") && reason.contains(&(round + 1).to_string()), "{reason}");
        assert!(submit(&market, beacon, round, signature).await.is_included());
        assert_eq!(seed(&market, beacon, round).await, randomness);
    }
    let off = [first[0], first[1] ^ U256::from(1)];
    let ActionStatus::Failed { reason } = submit(&market, beacon, 2, off).await else {
        panic!("it was taken")
    };
    assert!(reason.contains("NotOnCurve"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_of_evmnet_are_verified_by_the_embedded_ledger() {
    takes_drands_rounds(fixture::open().provider()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_of_evmnet_are_verified_on_anvil() {
    let anvil = Anvil::start();
    takes_drands_rounds(http(&anvil.url)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_tells_its_beacon() {
    let market = Market::open(fixture::open().provider()).await;
    let reader = market.reader(0);
    let local = reader.beacon_kind(market.deployment.beacon.unwrap()).await;
    assert_eq!(local.unwrap(), BeaconKind::Local);
    let neither = reader.beacon_kind(market.deployment.contracts.leases).await;
    assert!(matches!(neither, Err(LedgerError::Invalid(_))), "{neither:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_is_asked_for_a_round_of_the_chain() {
    let Evmnet { chain, rounds } = Evmnet::read();
    let relay = TestRelay::start(Manner::Published, chain).await;
    // With a slash, as people paste it.
    let relays = Relays::new(&[format!("{}/", relay.url)]).unwrap();
    let [asked] = relays.all() else { panic!("one relay") };
    for (round, (signature, _)) in rounds {
        assert_eq!(relays.ask(asked, chain, round).await.unwrap(), signature);
    }
    let unknown = relays.ask(asked, chain, 2).await;
    assert!(matches!(unknown, Err(AnswerError::Status(404))), "{unknown:?}");
    let other = relays.ask(asked, B256::ZERO, 1).await;
    assert!(matches!(other, Err(AnswerError::Status(404))), "{other:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_no_use_is_told_from_a_round_within_its_limits() {
    let chain = B256::repeat_byte(1);
    let ask = async |manner: Manner| {
        let relay = TestRelay::start(manner, chain).await;
        let relays = Relays::new(std::slice::from_ref(&relay.url)).unwrap();
        let answer = timeout(Duration::from_secs(15), relays.ask(&relays.all()[0], chain, 9)).await;
        assert_eq!(relay.asked(), 1, "nothing is followed or asked twice");
        answer.expect("a relay's time is limited").unwrap_err()
    };
    let begun = Instant::now();
    assert!(matches!(ask(Manner::Endless).await, AnswerError::TooLong));
    assert!(matches!(ask(Manner::Next).await, AnswerError::OtherRound(10)));
    assert!(matches!(ask(Manner::Redirects).await, AnswerError::Status(302)));
    for text in ["", "<html>", "[9]", r#"{"round": -9, "signature": ""}"#, r#"{"round": 9}"#] {
        assert!(matches!(ask(Manner::Says(text)).await, AnswerError::Nonsense(_)), "{text}");
    }
    for text in [
        r#"{"round": 9, "signature": ""}"#,
        r#"{"round": 9, "signature": "00ff"}"#,
        concat!(
            r#"{"round": 9, "signature": "zz00000000000000000000000000000000000000000000000000000000000000"#,
            r#"0000000000000000000000000000000000000000000000000000000000000000"}"#
        ),
    ] {
        assert!(matches!(ask(Manner::Says(text)).await, AnswerError::Signature), "{text}");
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "none of these takes a relay's whole time");
    let (silent, dripping) = tokio::join!(ask(Manner::Silent), ask(Manner::Dripping));
    assert!(matches!(silent, AnswerError::Unreachable(_)), "{silent:?}");
    assert!(matches!(dripping, AnswerError::Unreachable(_)), "{dripping:?}");
}

/// A court that draws by rounds of the test's own group, one a second.
fn signed_by_the_group() -> TrustPlan {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let chain = Group::chain(Timestamp::from_unix(now - 1_000));
    TrustPlan { beacon: BeaconPlan::Drand { chain, lag: Seconds::new(1) }, ..quick() }
}

/// By which the contract names the group's chain.
async fn chain_of(market: &Market) -> B256 {
    let kind = market.reader(0).beacon_kind(market.deployment.beacon.unwrap()).await.unwrap();
    let BeaconKind::Drand { chain, .. } = kind else { panic!("{kind:?}") };
    chain
}

async fn relays(manners: &[Manner], chain: B256) -> (Relays, Vec<TestRelay>) {
    let mut started = Vec::new();
    for manner in manners {
        started.push(TestRelay::start(manner.clone(), chain).await);
    }
    let urls: Vec<String> = started.iter().map(|relay| relay.url.clone()).collect();
    (Relays::new(&urls).unwrap(), started)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_court_draws_by_drands_rounds_though_most_relays_lie() {
    let plan = DeployPlan { trust: Some(signed_by_the_group()), ..DeployPlan::development(Timings::Tests) };
    let market = Market::planned(fixture::open().provider(), 0, &plan).await;
    let manners = [Manner::Endless, Manner::Wrong, Manner::Says("{}"), Manner::Signs, Manner::Wrong];
    let (relays, started) = relays(&manners, chain_of(&market).await).await;
    let maker = Maker::Drand { relays, turns: Duration::from_secs(1) };
    let watchers = Watchers::seated(market, 33, maker).await;
    let seller = watchers.market.funded(key(2), dollars(50)).await;
    let device = watchers.market.enroll(&seller, key(3).address()).await;
    let id = watchers.open(device).await;
    watchers.find(id, Finding::Clear).await;
    let decided = watchers.court().case(id).await.unwrap();
    assert_eq!(decided.stage, CaseStage::Decided, "a panel and a committee were drawn");
    let asked = started.iter().map(TestRelay::asked).collect::<Vec<_>>();
    assert!(
        asked[..4].iter().all(|asked| *asked > 0) && asked[4] == 0,
        "in order, until one is right: {asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drand_that_stalls_leaves_the_round_unknown_until_it_answers() {
    let plan = TrustPlan { epoch: Seconds::new(12), ..signed_by_the_group() };
    let plan = DeployPlan { trust: Some(plan), ..DeployPlan::development(Timings::Tests) };
    let market = Market::planned(fixture::open().provider(), 0, &plan).await;
    let (relays, started) = relays(&[Manner::SignsAfter(2)], chain_of(&market).await).await;
    let maker = Maker::Drand { relays, turns: Duration::ZERO };
    let watchers = Watchers::seated(market, 1, maker).await;
    let setup = watchers.court().setup().await.unwrap();
    let start = setup.start_of(watchers.epoch().await);
    let seed = async || watchers.court().seed(start).await.unwrap();
    let known = async {
        while seed().await.is_none() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LONG, known).await.expect("a relay that answers is heard");
    assert_eq!(started[0].asked(), 3, "two refusals rest a while each, then the round is stored, once");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(started[0].asked(), 3, "what is known is not asked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_without_gas_contacts_nobody() {
    let plan = TrustPlan { epoch: Seconds::new(2), ..signed_by_the_group() };
    let plan = DeployPlan { trust: Some(plan), ..DeployPlan::development(Timings::Tests) };
    let market = Market::planned(fixture::open().provider(), 0, &plan).await;
    let (good, started) = relays(&[Manner::Signs], chain_of(&market).await).await;
    let (provider, store) = (market.provider.clone(), Store::in_memory().unwrap());
    let decoder = std::sync::Arc::new(tradewind_chain::client::artifacts::decoder());
    let poor = Sender::start(provider, key(77), store, decoder, SenderConfig::local(CHAIN_ID)).unwrap();
    let stop = CancellationToken::new();
    let maker = Maker::Drand { relays: good, turns: Duration::ZERO };
    let kept = tokio::spawn(beacon::keep(poor, market.reader(0), maker, stop.clone()));
    let nobody = Maker::Drand { relays: Relays::new(&[]).unwrap(), turns: Duration::ZERO };
    let watchers = Watchers::seated(market, 1, nobody).await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(started[0].asked(), 0);
    assert_eq!(watchers.market.provider.get_transaction_count(key(77).address()).await.unwrap(), 0);
    let setup = watchers.court().setup().await.unwrap();
    let start = setup.start_of(watchers.epoch().await);
    assert_eq!(watchers.court().seed(start).await.unwrap(), None, "nobody brought it");
    stop.cancel();
    timeout(LONG, kept).await.expect("it ends").unwrap();
}
