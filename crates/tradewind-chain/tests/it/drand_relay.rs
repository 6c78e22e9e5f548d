//! Relays of drand's on loopback, honest and not, and a group of signers that signs any round.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use alloy::primitives::{B256, U256, hex, keccak256, uint};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tradewind_chain::client::drand::{DrandChain, RoundSignature};
use tradewind_proto::units::{Seconds, Timestamp};

/// What drand published on evmnet, with its chain's hash.
pub(crate) struct Evmnet {
    pub(crate) chain: B256,
    pub(crate) rounds: BTreeMap<u64, (RoundSignature, B256)>,
}

impl Evmnet {
    pub(crate) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/test/golden/evmnet.json");
        let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let word = |value: &Value| value.as_str().unwrap().parse::<B256>().unwrap();
        let rounds = vectors["rounds"].as_array().unwrap().iter().map(|entry| {
            let signature = [0, 1].map(|i| U256::from_be_bytes(word(&entry["signature"][i]).0));
            (entry["round"].as_u64().unwrap(), (signature, word(&entry["randomness"])))
        });
        Self { chain: word(&vectors["chain"]["hash"]), rounds: rounds.collect() }
    }
}

/// How a relay answers.
#[derive(Clone)]
pub(crate) enum Manner {
    /// With what was published.
    Published,
    /// With the group's signature of any round.
    Signs,
    /// The same, but not before it was asked so many times.
    SignsAfter(u32),
    /// With the signature of the round before.
    Wrong,
    /// With the next round.
    Next,
    /// With no end of bytes.
    Endless,
    /// Never.
    Silent,
    /// With one byte now and then.
    Dripping,
    /// With this text.
    Says(&'static str),
    /// To somewhere else.
    Redirects,
}

/// A relay; its server ends with the test.
pub(crate) struct TestRelay {
    pub(crate) url: String,
    asked: Arc<AtomicU32>,
}

struct Serving {
    manner: Manner,
    chain: B256,
    asked: Arc<AtomicU32>,
}

impl TestRelay {
    /// Serves rounds of `chain`, and of no other.
    pub(crate) async fn start(manner: Manner, chain: B256) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU32::new(0));
        let serving = Arc::new(Serving { manner, chain, asked: asked.clone() });
        let router = Router::new().route("/{chain}/public/{round}", get(answer)).with_state(serving);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, asked }
    }

    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer(State(relay): State<Arc<Serving>>, Path((chain, round)): Path<(String, u64)>) -> Response {
    let asked = relay.asked.fetch_add(1, Ordering::SeqCst);
    if chain != hex::encode(relay.chain) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let endless = |pause| {
        let chunks = futures::stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            Some((
                Ok::<_, Infallible>(Bytes::from(vec![b' '; if pause.is_zero() { 1 << 16 } else { 1 }])),
                (),
            ))
        });
        Body::from_stream(chunks).into_response()
    };
    match relay.manner {
        Manner::Published => match Evmnet::read().rounds.get(&round) {
            Some((signature, _)) => said(round, *signature),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        Manner::SignsAfter(refusals) if asked < refusals => StatusCode::TOO_EARLY.into_response(),
        Manner::Signs | Manner::SignsAfter(_) => said(round, Group::sign(round)),
        Manner::Wrong => said(round, Group::sign(round - 1)),
        Manner::Next => said(round + 1, Group::sign(round + 1)),
        Manner::Endless => endless(Duration::ZERO),
        Manner::Dripping => endless(Duration::from_millis(500)),
        Manner::Silent => std::future::pending().await,
        Manner::Says(text) => text.into_response(),
        Manner::Redirects => {
            (StatusCode::FOUND, [("location", format!("/{chain}/public/{round}"))]).into_response()
        }
    }
}

/// As drand's relays say it.
fn said(round: u64, [x, y]: RoundSignature) -> Response {
    let point = [x.to_be_bytes::<32>(), y.to_be_bytes::<32>()].concat();
    axum::Json(json!({ "round": round, "signature": hex::encode(&point) })).into_response()
}

const P: U256 = uint!(0x30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47_U256);
const TAG: &[u8] = b"BLS_SIG_BN254G1_XMD:KECCAK-256_SVDW_RO_NUL_";

/// A group whose secret is one: its key is G2's generator, and its signature of a message the message's point.
pub(crate) struct Group;

impl Group {
    /// Its chain: a round every second since `genesis`.
    pub(crate) fn chain(genesis: Timestamp) -> DrandChain {
        DrandChain {
            key: [
                uint!(0x198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2_U256),
                uint!(0x1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed_U256),
                uint!(0x090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b_U256),
                uint!(0x12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa_U256),
            ],
            genesis,
            period: Seconds::new(1),
            group_seed: B256::repeat_byte(7),
            id: "test",
        }
    }

    pub(crate) fn sign(round: u64) -> RoundSignature {
        let [one, other] = elements(keccak256(round.to_be_bytes()).as_slice()).map(mapped);
        let slope = sub(other[1], one[1]).mul_mod(power(sub(other[0], one[0]), P - uint!(2_U256)), P);
        let x = sub(sub(slope.mul_mod(slope, P), one[0]), other[0]);
        [x, sub(slope.mul_mod(sub(one[0], x), P), one[1])]
    }
}

fn sub(a: U256, b: U256) -> U256 {
    a.add_mod(P - b, P)
}

fn power(base: U256, exponent: U256) -> U256 {
    base.pow_mod(exponent, P)
}

/// RFC 9380's `hash_to_field` with `expand_message_xmd` and keccak256, by long division.
fn elements(message: &[u8]) -> [U256; 2] {
    let suffix = [TAG, &[43]].concat();
    let first = keccak256([&[0; 136], message, &[0, 96, 0], &suffix].concat());
    let mut blocks: Vec<B256> = Vec::new();
    for index in 1..=3u8 {
        let chained = blocks.last().map_or(first, |last| first ^ *last);
        blocks.push(keccak256([chained.as_slice(), &[index], &suffix].concat()));
    }
    let expanded = blocks.iter().flat_map(|block| block.0).collect::<Vec<_>>();
    let reduced = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(U256::ZERO, |sum, byte| sum.mul_mod(uint!(256_U256), P).add_mod(U256::from(*byte), P))
    };
    [reduced(&expanded[..48]), reduced(&expanded[48..])]
}

/// The map of Shallue and van de Woestijne as RFC 9380, 6.6.1, states it, with divisions where they are written.
fn mapped(u: U256) -> [U256; 2] {
    let (one, two, three, four) = (uint!(1_U256), uint!(2_U256), uint!(3_U256), uint!(4_U256));
    let inverse = |a| power(a, P - two);
    let height = |x: U256| x.mul_mod(x, P).mul_mod(x, P).add_mod(three, P);
    let root = |a| power(a, (P + one) / four);
    let tv1 = u.mul_mod(u, P).mul_mod(four, P);
    let (plus, minus) = (one.add_mod(tv1, P), sub(one, tv1));
    let tv3 = inverse(plus.mul_mod(minus, P));
    let minus_three_g = sub(U256::ZERO, uint!(12_U256));
    let tv4 = root(minus_three_g);
    let tv4 = if tv4.bit(0) { P - tv4 } else { tv4 };
    let step = u.mul_mod(minus, P).mul_mod(tv3, P).mul_mod(tv4, P);
    let middle = sub(U256::ZERO, inverse(two));
    let last = plus.mul_mod(plus, P).mul_mod(tv3, P);
    let scale = sub(U256::ZERO, uint!(16_U256)).mul_mod(inverse(three), P);
    let third = last.mul_mod(last, P).mul_mod(scale, P).add_mod(one, P);
    let candidates = [sub(middle, step), middle.add_mod(step, P), third];
    let x = candidates.into_iter().find(|x| root(height(*x)).pow_mod(two, P) == height(*x)).unwrap();
    let y = root(height(x));
    [x, if y.bit(0) == u.bit(0) { y } else { P - y }]
}
