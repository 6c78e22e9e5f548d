//! Relayers that cheat or fail, and users that try to cheat a relayer.

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::Provider as _;
use alloy::sol_types::SolCall as _;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tradewind_chain::client::bindings::audit::abi as audit;
use tradewind_chain::client::bindings::{abi, deadline};
use tradewind_chain::client::faucet::FaucetConfig;
use tradewind_chain::client::relayed::RelayedConfig;
use tradewind_chain::client::relayer::{FeeOrder, Quote, RelayReply, RelayRequest, Relayer, RelayerConfig};
use tradewind_chain::client::sender::{Sender, SenderConfig};
use tradewind_chain::client::store::Store;
use tradewind_chain::client::wallet::{Wallet, calls_digest};
use tradewind_chain::embedded::Embedded;
use tradewind_chain::ledger::{Action, ActionStatus, Ledger as _};
use tradewind_proto::units::{Money, Seconds};

use crate::client_market::{Market, act, dollars, key, outcome, reference, serve};
use crate::client_sender::signing_key;
use crate::fixture::{ALICE, BOB, CHAIN_ID, open};

async fn market() -> (Embedded, Market) {
    let ledger = open();
    let market = Market::open(ledger.provider()).await;
    (ledger, market)
}

/// A request of `key(1)` with a proper fee.
async fn request(market: &Market, target: Address, calls: Vec<Bytes>) -> RelayRequest {
    let fee = FeeOrder {
        payer: key(1).address(),
        relayer: market.relayer.account(),
        token: market.deployment.stablecoin,
        amount: Money::from_base_units(1_000),
        calls: calls_digest(target, &calls),
        nonce: U256::from(77),
        deadline: market.now().await.after(Seconds::new(60)),
    };
    signed(market, target, calls, fee)
}

fn signed(market: &Market, target: Address, calls: Vec<Bytes>, fee: FeeOrder) -> RelayRequest {
    let wallet = Wallet::new(key(1), market.deployment.contracts);
    let signature = Bytes::copy_from_slice(wallet.sign_fee(&fee.to_abi()).as_bytes());
    RelayRequest { target, calls, fee, signature, wait_ms: 1_000 }
}

async fn ask(market: &Market, request: &RelayRequest) -> (u16, String) {
    ask_at(&market.relayer_url, request).await
}

async fn ask_at(url: &str, request: &RelayRequest) -> (u16, String) {
    // Another client of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = format!("{url}/v1/relay");
    let answer = reqwest::Client::new().post(url).json(request).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn unsigned() -> abi::Auth {
    abi::Auth { nonce: U256::ZERO, deadline: alloy::primitives::Uint::MAX, signature: Bytes::new() }
}

#[tokio::test]
async fn nothing_that_needs_the_relayers_own_authority_is_submitted() {
    let (_ledger, market) = market().await;
    let buyer = market.funded(key(1), dollars(20)).await;
    let (leases, token) = (market.deployment.contracts.leases, market.deployment.stablecoin);
    let relayer = market.relayer.account();
    let earned = buyer.balance(token, relayer).await.unwrap();
    assert!(earned > Money::ZERO);

    let theft = abi::Leases::withdrawCall {
        token,
        account: relayer,
        to: key(1).address(),
        amount: U256::from(earned.base_units()),
        auth: unsigned(),
    };
    let (status, text) = ask(&market, &request(&market, leases, vec![theft.abi_encode().into()]).await).await;
    assert_eq!(status, 409, "{text}");
    assert!(text.contains("DeadlinePassed") || text.contains("InvalidSignature"), "{text}");
    let owner_only = abi::Leases::setTokenCall { token, allowed: false, burnable: false };
    let (status, _) =
        ask(&market, &request(&market, leases, vec![owner_only.abi_encode().into()]).await).await;
    assert_eq!(status, 400);
    assert_eq!(buyer.balance(token, relayer).await.unwrap(), earned);
}

#[tokio::test]
async fn a_fee_that_is_too_small_or_for_something_else_is_refused() {
    let (_ledger, market) = market().await;
    let leases = market.deployment.contracts.leases;
    let call: Bytes = abi::Leases::finalizeCall { terms: empty_terms() }.abi_encode().into();
    let good = request(&market, leases, vec![call.clone()]).await;
    let with = |change: &dyn Fn(&mut FeeOrder)| {
        let mut fee = good.fee;
        change(&mut fee);
        signed(&market, leases, vec![call.clone()], fee)
    };
    let cheap = with(&|fee| fee.amount = Money::from_base_units(999));
    assert_eq!(ask(&market, &cheap).await.0, 402);
    assert_eq!(ask(&market, &with(&|fee| fee.relayer = Address::ZERO)).await.0, 400);
    assert_eq!(ask(&market, &with(&|fee| fee.token = Address::ZERO)).await.0, 400);
    assert_eq!(ask(&market, &with(&|fee| fee.calls = U256::ZERO.into())).await.0, 400);
    let stranger = RelayRequest { target: Address::ZERO, ..good.clone() };
    assert_eq!(ask(&market, &stranger).await.0, 400);
    let none = RelayRequest { calls: Vec::new(), ..good.clone() };
    assert_eq!(ask(&market, &none).await.0, 400);
    let large = RelayRequest { calls: vec![vec![0u8; 70_000].into()], ..good };
    assert_eq!(ask(&market, &large).await.0, 413);
}

#[tokio::test]
async fn a_relayer_attests_for_who_signed_and_never_in_its_own_name() {
    let (_ledger, market) = market().await;
    market.funded(key(1), dollars(20)).await;
    let target = market.deployment.contracts.attestations.unwrap();
    let auth =
        || audit::Auth { nonce: U256::ZERO, deadline: alloy::primitives::Uint::MAX, signature: Bytes::new() };
    let (none, expires) = (B256::ZERO, deadline(market.now().await.after(Seconds::new(60))));
    let attestation =
        |issuer| audit::Attestation { issuer, subject: none, schema: none, document: none, expires };
    let attest = |issuer| -> Bytes {
        let attestation = attestation(issuer);
        audit::Attestations::attestCall { attestation, auth: auth() }.abi_encode().into()
    };
    let asked = async |call: Bytes| {
        let fee = FeeOrder { calls: B256::ZERO, ..request(&market, target, vec![call.clone()]).await.fee };
        ask(&market, &signed(&market, target, vec![call], fee)).await
    };
    let (status, text) = asked(attest(market.relayer.account())).await;
    assert_eq!(status, 409, "{text}");
    let read = audit::Attestations::holdsCall { id: none };
    assert_eq!(asked(read.abi_encode().into()).await.0, 400, "no user's function");
    let bound = request(&market, target, vec![attest(key(1).address())]).await;
    assert_eq!(ask(&market, &bound).await.0, 400, "a fee that no contract would pay");
}

fn empty_terms() -> abi::LeaseTerms {
    <abi::LeaseTerms as alloy::sol_types::SolValue>::abi_decode(&[0u8; 27 * 32]).unwrap()
}

#[tokio::test]
async fn an_account_that_asks_too_often_is_put_off_and_others_are_not() {
    let (ledger, market) = market().await;
    let config = RelayerConfig {
        burst: 2,
        refill: Duration::from_secs(60),
        ..RelayerConfig::small_fee(market.deployment.stablecoin)
    };
    let decoder = std::sync::Arc::new(tradewind_chain::client::artifacts::decoder());
    let sender = Sender::start(
        ledger.provider(),
        signing_key(BOB),
        Store::in_memory().unwrap(),
        decoder,
        SenderConfig::local(CHAIN_ID),
    )
    .unwrap();
    let strict = serve(Relayer::new(market.reader(0), sender, config).router()).await;
    let leases = market.deployment.contracts.leases;
    let call: Bytes = abi::Leases::finalizeCall { terms: empty_terms() }.abi_encode().into();
    let request = request(&market, leases, vec![call]).await;
    assert_eq!(ask_at(&strict, &request).await.0, 409);
    assert_eq!(ask_at(&strict, &request).await.0, 409);
    assert_eq!(ask_at(&strict, &request).await.0, 429);
    // Naming somebody as payer without a signature does not use up that account's requests.
    let forged = RelayRequest { signature: vec![1u8; 65].into(), ..request };
    assert_eq!(ask_at(&strict, &forged).await.0, 409);
}

#[tokio::test]
async fn the_same_request_twice_is_one_submission() {
    let (ledger, market) = market().await;
    let buyer = market.funded(key(1), dollars(20)).await;
    let token = market.deployment.stablecoin;
    let wallet = Wallet::new(key(1), market.deployment.contracts);
    let deadline = market.now().await.after(Seconds::new(60));
    let facts = tradewind_chain::client::encode::Facts {
        deadline,
        registered: false,
        deposit: tradewind_chain::client::encode::DepositForm::Allowance,
    };
    let to = Address::repeat_byte(0x66);
    let withdraw = Action::Withdraw { reference: reference("w"), token, to, amount: dollars(1) };
    let call = tradewind_chain::client::encode::encode(&wallet, &withdraw, &facts).unwrap();
    let request = request(&market, call.target, vec![call.input]).await;
    let blocks = ledger.provider().get_block_number().await.unwrap();
    for _ in 0..3 {
        let (status, text) = ask(&market, &request).await;
        assert_eq!(status, 200, "{text}");
        let reply: RelayReply = serde_json::from_str(&text).unwrap();
        assert!(reply.status.is_included());
    }
    assert_eq!(ledger.provider().get_block_number().await.unwrap(), blocks + 1);
    assert_eq!(buyer.holdings(token, to).await.unwrap(), dollars(1));
}

/// A relayer that quotes `amount` and acknowledges everything without doing anything.
async fn idle_relayer(market: &Market, amount: Money) -> String {
    let quote = Quote {
        relayer: Address::repeat_byte(0xee),
        contracts: market.deployment.contracts,
        token: market.deployment.stablecoin,
        amount,
        valid_for: Seconds::new(60),
    };
    let router = Router::new().route("/v1/relay/quote", get(async move || Json(quote))).route(
        "/v1/relay",
        post(async || {
            Json(RelayReply {
                id: B256::ZERO,
                status: ActionStatus::Final { block: 1, tx: B256::repeat_byte(1) },
            })
        }),
    );
    serve(router).await
}

#[tokio::test]
async fn a_relayer_that_says_done_and_does_nothing_is_passed_over() {
    let (_ledger, market) = market().await;
    let idle = idle_relayer(&market, Money::from_base_units(10)).await;
    let nonsense = serve(Router::new().route("/v1/relay/quote", get(async || Json(json!({"a": 1}))))).await;
    let dead = "http://127.0.0.1:1".to_owned();
    let relayers = vec![dead, nonsense, idle, market.relayer_url.clone()];
    let config = RelayedConfig {
        patience: Duration::from_millis(200),
        ..RelayedConfig::local(relayers, market.deployment.block)
    };
    let buyer = market.ledger_with(key(1), config, Store::in_memory().unwrap(), 0);
    market.faucet.drip(buyer.account()).await.unwrap();
    let token = market.deployment.stablecoin;
    act(&buyer, Action::Deposit { reference: reference("d"), token, amount: dollars(3) }).await;
    assert!(buyer.balance(token, buyer.account()).await.unwrap() > dollars(2));
}

#[tokio::test]
async fn a_relayer_that_asks_too_much_is_not_paid() {
    let (_ledger, market) = market().await;
    let greedy = idle_relayer(&market, dollars(1)).await;
    let config = RelayedConfig::local(vec![greedy], market.deployment.block);
    let buyer = market.ledger_with(key(1), config, Store::in_memory().unwrap(), 0);
    market.faucet.drip(buyer.account()).await.unwrap();
    let token = market.deployment.stablecoin;
    let deposit = Action::Deposit { reference: reference("d"), token, amount: dollars(3) };
    let submission = buyer.submit(deposit).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(buyer.status(&submission.key).await.unwrap(), Some(ActionStatus::Pending));
}

#[tokio::test]
async fn an_account_without_gas_and_without_relayers_is_told() {
    let (_ledger, market) = market().await;
    let config = RelayedConfig::local(Vec::new(), market.deployment.block);
    let buyer = market.ledger_with(key(1), config, Store::in_memory().unwrap(), 0);
    let token = market.deployment.stablecoin;
    let deposit = Action::Deposit { reference: reference("d"), token, amount: dollars(3) };
    let ActionStatus::Failed { reason } = outcome(&buyer, deposit).await else { panic!("it has no way out") };
    assert!(reason.contains("no relayer is configured"), "{reason}");
}

#[tokio::test]
async fn the_faucet_gives_each_account_its_share_and_no_more() {
    let (_ledger, market) = market().await;
    for _ in 0..10 {
        market.faucet.drip(key(1).address()).await.unwrap();
    }
    let refused = market.faucet.drip(key(1).address()).await.unwrap_err().to_string();
    assert!(refused.contains("10000000000 of 10000000000"), "{refused}");
    market.faucet.drip(key(2).address()).await.unwrap();
    let token = market.deployment.stablecoin;
    assert_eq!(market.ledger(key(1)).holdings(token, key(1).address()).await.unwrap(), dollars(10_000));
}

#[tokio::test]
async fn a_gasless_account_deposits_the_network_token_by_permit_and_the_faucet_gives_no_more_than_it_holds() {
    let (_ledger, market) = market().await;
    let token = market.deployment.network_token.unwrap();
    let holder = signing_key(ALICE).address();
    let config = FaucetConfig { per_account: tokens(1_500), ..FaucetConfig::network_token(token) };
    let faucet = market.faucet_of(config);
    let party = market.funded(key(1), dollars(3)).await;
    let before = party.holdings(token, holder).await.unwrap();
    assert_eq!(faucet.drip(party.account()).await.unwrap(), tokens(1_000));
    let refused = faucet.drip(party.account()).await.unwrap_err().to_string();
    assert!(refused.contains("had 1000000000000000000000 of 1500000000000000000000"), "{refused}");
    assert_eq!(party.holdings(token, holder).await.unwrap(), before.checked_sub(tokens(1_000)).unwrap());
    act(&party, Action::Deposit { reference: reference("stake"), token, amount: tokens(400) }).await;
    assert_eq!(party.balance(token, party.account()).await.unwrap(), tokens(400));
    assert_eq!(party.holdings(token, party.account()).await.unwrap(), tokens(600));
}

fn tokens(whole: u64) -> Money {
    Money::parse(&whole.to_string(), 18).unwrap()
}
