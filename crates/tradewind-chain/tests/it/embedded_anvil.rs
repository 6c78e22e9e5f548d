//! The same transactions on the embedded ledger and on anvil, with the same receipts, gas, logs and data.

use alloy::consensus::{TxEip1559, TxEip2930, TxLegacy, TypedTransaction};
use alloy::eips::eip2930::{AccessList, AccessListItem};
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, Uint, address, hex};
use alloy::providers::{DynProvider, Provider as _};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::sol;
use alloy::sol_types::{SolCall as _, SolConstructor as _};
use serde_json::{Value, json};
use tradewind_chain::client::drand::DrandChain;

use crate::drand_relay::Evmnet;
use crate::fixture::*;

const CAROL: Address = address!("0x00000000000000000000000000000000000ca201");

sol! {
    contract Stablecoin {
        constructor(address minter);
        function mint(address to, uint256 amount);
        function transfer(address to, uint256 value) returns (bool);
        function approve(address spender, uint256 value) returns (bool);
        function transferFrom(address from, address to, uint256 value) returns (bool);
        function balanceOf(address account) view returns (uint256);
    }

    contract Multicall {
        struct Call3 { address target; bool allowFailure; bytes callData; }
        function aggregate3(Call3[] calls) payable returns (bytes[]);
    }

    contract Drand {
        constructor(uint256[4] key, uint40 genesis, uint32 period, bytes32 groupSeed, string id, uint32 lag);
        function submit(uint64 round, uint256[2] signature);
    }
}

fn artifact(name: &str) -> Bytes {
    let path = format!("{}/../../contracts/artifacts/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let artifact: Value = serde_json::from_slice(&std::fs::read(path).expect("an artifact")).expect("JSON");
    artifact["bytecode"].as_str().expect("bytecode").parse().expect("hex")
}

/// One step of the common story: who signs what.
struct Step {
    name: &'static str,
    key: &'static str,
    transaction: TypedTransaction,
}

/// A story in which every transaction depends on the nonces before it.
struct Story {
    steps: Vec<Step>,
    alice: u64,
    bob: u64,
}

impl Story {
    fn alice(
        &mut self,
        name: &'static str,
        to: TxKind,
        value: u64,
        gas: u64,
        input: impl Into<Bytes>,
    ) -> Address {
        let created = signer(ALICE).address().create(self.alice);
        let transaction = transaction(self.alice, to, U256::from(value), gas, input).into();
        self.alice += 1;
        self.steps.push(Step { name, key: ALICE, transaction });
        created
    }

    fn bob(&mut self, name: &'static str, transaction: impl FnOnce(u64) -> TypedTransaction) {
        let transaction = transaction(self.bob);
        self.bob += 1;
        self.steps.push(Step { name, key: BOB, transaction });
    }

    fn deploy(&mut self, name: &'static str, runtime: &[u8]) -> Address {
        self.alice(name, TxKind::Create, 0, 1_000_000, deploying(runtime))
    }
}

struct Places {
    counter: Address,
    store: Address,
    revert: Address,
    coin: Address,
    multicall: Address,
}

fn words<const N: usize>(words: [u64; N]) -> Vec<u8> {
    words.iter().flat_map(|word| U256::from(*word).to_be_bytes::<32>()).collect()
}

fn story() -> (Story, Places) {
    let mut story = Story { steps: Vec::new(), alice: 0, bob: 0 };
    story.alice("transfer to a new account", CAROL.into(), 1_000_000, 21_000, []);
    story.alice("transfer with spare gas", CAROL.into(), 1, 90_000, []);
    story.alice("transfer with calldata", CAROL.into(), 1, 90_000, hex!("00ff00ff"));
    story.alice("transfer to oneself", signer(ALICE).address().into(), 1, 21_000, []);
    let (counter, store, revert) = programs(&mut story);
    creations(&mut story);
    for number in 1..=9 {
        story.alice("precompile", Address::with_last_byte(number).into(), 0, 400_000, words([1, 2, 3, 4]));
    }
    let (coin, multicall) = contracts(&mut story, counter, revert);
    signatures(&mut story);
    kinds(&mut story, counter, coin);
    (story, Places { counter, store, revert, coin, multicall })
}

/// Storage, logs, refunds, reverts and exhausted gas.
fn programs(story: &mut Story) -> (Address, Address, Address) {
    let counter = story.deploy("deploy a counter", COUNTER);
    let store = story.deploy("deploy a store", STORE);
    let revert = story.deploy("deploy a reverter", REVERT);
    let late = story.deploy("deploy a late reverter", LATE_REVERT);
    let endless = story.deploy("deploy a loop", LOOP);
    let invalid = story.deploy("deploy an invalid program", INVALID);
    story.alice("count from zero", counter.into(), 0, 100_000, words([7]));
    story.alice("count on", counter.into(), 5, 100_000, words([8]));
    story.alice("fill a slot", store.into(), 0, 100_000, words([3, 9]));
    story.alice("rewrite a slot", store.into(), 0, 100_000, words([3, 10]));
    story.alice("clear a slot for a refund", store.into(), 0, 100_000, words([3, 0]));
    story.alice("write the same value", store.into(), 0, 100_000, words([4, 0]));
    story.alice("revert with data", revert.into(), 0, 100_000, hex!("08c379a0deadbeef"));
    story.alice("revert with value", revert.into(), 77, 100_000, []);
    story.alice("revert after a log", late.into(), 0, 100_000, []);
    story.alice("run out of gas", endless.into(), 0, 100_000, []);
    story.alice("run out of gas late", endless.into(), 0, 1_000_000, []);
    story.alice("invalid instruction", invalid.into(), 0, 50_000, []);
    (counter, store, revert)
}

/// Deployments that fail, and one that leaves nothing.
fn creations(story: &mut Story) {
    let dying = [&[0x73][..], CAROL.as_slice(), &[0xff]].concat();
    story.alice("deploy with too little gas", TxKind::Create, 0, 60_000, deploying(COUNTER));
    story.alice(
        "deploy a program that starts with 0xef",
        TxKind::Create,
        0,
        200_000,
        deploying(&[0xef, 0x00]),
    );
    story.alice("deploy nothing", TxKind::Create, 0, 200_000, []);
    story.alice("destroy itself when born", TxKind::Create, 9, 200_000, dying);
}

/// Compiled contracts.
fn contracts(story: &mut Story, counter: Address, revert: Address) -> (Address, Address) {
    let (alice, bob) = (signer(ALICE).address(), signer(BOB).address());
    let arguments = Stablecoin::constructorCall { minter: alice }.abi_encode();
    let code = [artifact("TestStablecoin").as_ref(), &arguments].concat();
    let coin = story.alice("deploy the stablecoin", TxKind::Create, 0, 5_000_000, code);
    let mint = Stablecoin::mintCall { to: alice, amount: U256::from(1_000_000) };
    story.alice("mint", coin.into(), 0, 200_000, mint.abi_encode());
    let pay = Stablecoin::transferCall { to: bob, value: U256::from(400_000) };
    story.alice("pay", coin.into(), 0, 200_000, pay.abi_encode());
    let too_much = Stablecoin::transferCall { to: bob, value: U256::from(10_000_000) };
    story.alice("overdraw", coin.into(), 0, 200_000, too_much.abi_encode());
    let approve = Stablecoin::approveCall { spender: bob, value: U256::MAX };
    story.alice("approve", coin.into(), 0, 200_000, approve.abi_encode());
    let multicall = story.alice("deploy multicall", TxKind::Create, 0, 3_000_000, artifact("Multicall3"));
    let call = |target, allow_failure, data: Vec<u8>| Multicall::Call3 {
        target,
        allowFailure: allow_failure,
        callData: data.into(),
    };
    let calls = vec![
        call(coin, false, Stablecoin::balanceOfCall { account: bob }.abi_encode()),
        call(revert, true, vec![0x12, 0x34]),
        call(counter, false, words([9])),
    ];
    let aggregate = Multicall::aggregate3Call { calls };
    story.alice("aggregate", multicall.into(), 0, 500_000, aggregate.abi_encode());
    (coin, multicall)
}

/// What the precompiles of the curve BN254 and of modular powers find of drand's signatures, and what that costs.
fn signatures(story: &mut Story) {
    let evmnet = DrandChain::EVMNET;
    let arguments = Drand::constructorCall {
        key: evmnet.key,
        genesis: Uint::from(evmnet.genesis.unix()),
        period: 3,
        groupSeed: evmnet.group_seed,
        id: evmnet.id.into(),
        lag: 60,
    };
    let code = [artifact("DrandBeacon").as_ref(), &arguments.abi_encode()].concat();
    let beacon = story.alice("deploy drand's beacon", TxKind::Create, 0, 3_000_000, code);
    for (round, (signature, _)) in Evmnet::read().rounds {
        for (name, round) in
            [("another round's signature", round + 1), ("a round", round), ("the same round", round)]
        {
            story.alice(name, beacon.into(), 0, 400_000, Drand::submitCall { round, signature }.abi_encode());
        }
    }
}

/// The other kinds of transactions, from another account.
fn kinds(story: &mut Story, counter: Address, coin: Address) {
    story.bob("legacy", |nonce| {
        let to = counter.into();
        let input = words([1]).into();
        let (gas_price, gas_limit) = (5 * GWEI, 100_000);
        TxLegacy { chain_id: Some(CHAIN_ID), nonce, gas_price, gas_limit, to, value: U256::ZERO, input }
            .into()
    });
    story.bob("access list", |nonce| {
        let item =
            AccessListItem { address: counter, storage_keys: vec![B256::ZERO, B256::with_last_byte(1)] };
        TxEip2930 {
            chain_id: CHAIN_ID,
            nonce,
            gas_price: 5 * GWEI,
            gas_limit: 100_000,
            to: counter.into(),
            access_list: AccessList(vec![item]),
            input: words([2]).into(),
            value: U256::ZERO,
        }
        .into()
    });
    story.bob("pay out of an allowance", |nonce| {
        let from = signer(ALICE).address();
        let call = Stablecoin::transferFromCall { from, to: CAROL, value: U256::from(5) };
        transaction(nonce, coin.into(), U256::ZERO, 200_000, call.abi_encode()).into()
    });
    story
        .bob("no tip", |nonce| TxEip1559 { max_priority_fee_per_gas: 0, ..transfer(nonce, CAROL, 1) }.into());
}

/// What must be the same on both chains: all of a receipt but hashes of blocks and the base fee's share.
fn comparable(receipt: &TransactionReceipt) -> Value {
    let mut value = serde_json::to_value(receipt).expect("JSON");
    let fields = value.as_object_mut().expect("an object");
    fields.remove("blockHash");
    // Anvil states one for transactions without blobs, too.
    fields.remove("blobGasPrice");
    if receipt.inner.tx_type() as u8 == 2 {
        fields.remove("effectiveGasPrice");
    }
    for log in fields["logs"].as_array_mut().expect("logs") {
        let log = log.as_object_mut().expect("a log");
        log.remove("blockHash");
        log.remove("blockTimestamp");
    }
    value
}

async fn tell(provider: &DynProvider, story: &Story) -> Vec<(&'static str, Value)> {
    let mut receipts = Vec::new();
    for step in &story.steps {
        let receipt = send(provider, step.key, step.transaction.clone()).await;
        receipts.push((step.name, comparable(&receipt)));
    }
    receipts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_agrees_with_anvil_on_receipts_gas_logs_and_data() {
    let anvil = Anvil::start();
    let theirs = http(&anvil.url);
    let ledger = open();
    let (addr, _server) = ledger.serve("127.0.0.1:0".parse().expect("an address")).await.expect("it serves");
    let ours = http(&format!("http://{addr}"));
    let (story, places) = story();

    let (expected, actual) = tokio::join!(tell(&theirs, &story), tell(&ours, &story));
    for ((name, expected), (_, actual)) in expected.iter().zip(&actual) {
        assert_eq!(actual, expected, "{name}");
    }
    agree_on_state(&theirs, &ours, &places).await;
    agree_on_calls(&theirs, &ours, &places).await;
    agree_on_estimates(&theirs, &ours, &places).await;
    ledger.audit().expect("the history re-executes");
}

async fn agree_on_state(theirs: &DynProvider, ours: &DynProvider, places: &Places) {
    let (alice, bob) = (signer(ALICE).address(), signer(BOB).address());
    for account in [alice, bob, CAROL, places.counter, places.store, places.coin, places.multicall] {
        assert_eq!(
            ours.get_transaction_count(account).await.expect("a nonce"),
            theirs.get_transaction_count(account).await.expect("a nonce")
        );
        assert_eq!(
            ours.get_code_at(account).await.expect("code"),
            theirs.get_code_at(account).await.expect("code")
        );
    }
    assert_eq!(
        ours.get_balance(CAROL).await.expect("a balance"),
        theirs.get_balance(CAROL).await.expect("a balance")
    );
    for slot in 0..6 {
        for place in [places.counter, places.store, places.coin] {
            let slot = U256::from(slot);
            assert_eq!(
                ours.get_storage_at(place, slot).await.expect("a slot"),
                theirs.get_storage_at(place, slot).await.expect("a slot")
            );
        }
    }
    let filter = alloy::rpc::types::Filter::new().from_block(0).address(places.coin);
    let topics = |logs: Vec<alloy::rpc::types::Log>| {
        logs.into_iter().map(|log| (log.inner, log.log_index)).collect::<Vec<_>>()
    };
    assert_eq!(
        topics(ours.get_logs(&filter).await.expect("logs")),
        topics(theirs.get_logs(&filter).await.expect("logs"))
    );
}

async fn agree_on_calls(theirs: &DynProvider, ours: &DynProvider, places: &Places) {
    let balance = Stablecoin::balanceOfCall { account: signer(BOB).address() }.abi_encode();
    let read = TransactionRequest::default().to(places.coin).input(Bytes::from(balance).into());
    assert_eq!(
        ours.call(read.clone()).await.expect("a balance"),
        theirs.call(read).await.expect("a balance")
    );
    let call = |to: Address, data: &str| json!([{ "from": signer(ALICE).address(), "to": to, "data": data }, "latest"]);
    let reason = "0x08c379a0000000000000000000000000000000000000000000000000000000000000002000000000000000000000000000000000000000000000000000000000000000046e6f706500000000000000000000000000000000000000000000000000000000";
    for data in ["0x", "0xdeadbeef", reason] {
        let expected = failure(theirs, "eth_call", call(places.revert, data)).await;
        let actual = failure(ours, "eth_call", call(places.revert, data)).await;
        assert_eq!(actual.0, expected.0, "the code of {data}");
        assert_eq!(actual.2, expected.2, "the revert data of {data}");
        assert_eq!(actual.0, 3);
    }
    assert_eq!(failure(ours, "eth_call", call(places.revert, reason)).await.1, "execution reverted: nope");
    let expected = failure(theirs, "eth_estimateGas", call(places.revert, "0xdeadbeef")).await;
    let actual = failure(ours, "eth_estimateGas", call(places.revert, "0xdeadbeef")).await;
    assert_eq!((actual.0, actual.2), (expected.0, expected.2));
}

async fn agree_on_estimates(theirs: &DynProvider, ours: &DynProvider, places: &Places) {
    let from = signer(ALICE).address();
    let pay = Stablecoin::transferCall { to: Address::repeat_byte(0x42), value: U256::from(3) }.abi_encode();
    let requests = [
        TransactionRequest::default().to(CAROL).value(U256::from(1)),
        TransactionRequest::default().to(places.counter).input(Bytes::from(words([1])).into()),
        TransactionRequest::default().to(places.coin).input(Bytes::from(pay).into()),
        TransactionRequest {
            to: Some(TxKind::Create),
            ..TransactionRequest::default().input(Bytes::from(deploying(COUNTER)).into())
        },
    ];
    for request in requests {
        let request = request.from(from);
        let actual = ours.estimate_gas(request.clone()).await.expect("an estimate");
        let expected = theirs.estimate_gas(request.clone()).await.expect("an estimate");
        assert!(
            actual.abs_diff(expected) * 50 <= expected,
            "{actual} is not within 2 % of {expected}: {request:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_refuses_what_anvil_refuses() {
    let anvil = Anvil::start();
    let theirs = http(&anvil.url);
    let ledger = open();
    let ours = ledger.provider();
    for provider in [&theirs, &ours] {
        send(provider, ALICE, transfer(0, CAROL, 1)).await;
    }
    let huge = U256::from(10).pow(U256::from(30));
    let bad: Vec<(&str, TypedTransaction, &str)> = vec![
        ("old nonce", transfer(0, CAROL, 1).into(), "nonce too low"),
        ("no funds", TxEip1559 { value: huge, ..transfer(1, CAROL, 1) }.into(), "insufficient funds"),
        (
            "too little gas",
            TxEip1559 { gas_limit: 20_000, ..transfer(1, CAROL, 1) }.into(),
            "intrinsic gas too low",
        ),
        (
            "tip above fee",
            TxEip1559 { max_priority_fee_per_gas: 200 * GWEI, ..transfer(1, CAROL, 1) }.into(),
            "max priority fee per gas higher than max fee per gas",
        ),
        (
            "other chain",
            TxEip1559 { chain_id: 1, ..transfer(1, CAROL, 1) }.into(),
            "invalid chain id for signer",
        ),
        (
            "too much gas",
            TxEip1559 { gas_limit: GAS_LIMIT + 1, ..transfer(1, CAROL, 1) }.into(),
            "exceeds block gas limit",
        ),
    ];
    for (name, transaction, words) in bad {
        let params = json!([Bytes::from(raw(ALICE, transaction))]);
        let (code, message, _) = failure(&ours, "eth_sendRawTransaction", params.clone()).await;
        assert!(message.contains(words), "{name}: {message}");
        assert_eq!(code, -32000, "{name}");
        failure(&theirs, "eth_sendRawTransaction", params).await;
    }
}
