//! The HTTP interface and its limits.

use std::time::Duration;

use alloy::providers::Provider as _;
use serde_json::{Value, json};
use tradewind_chain::embedded::{Embedded, ServeError, ServerGuard};

use crate::fixture::*;

async fn serve(ledger: &Embedded) -> (String, ServerGuard) {
    let (addr, guard) = ledger.serve("127.0.0.1:0".parse().expect("an address")).await.expect("it serves");
    (format!("http://{addr}/"), guard)
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

async fn post(url: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let request = client().post(url).header("content-type", "application/json").body(body);
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn only_loopback_is_served_unless_asked() {
    let ledger = open();
    let everywhere = "0.0.0.0:0".parse().expect("an address");
    assert!(matches!(ledger.serve(everywhere).await, Err(ServeError::NotLoopback(_))));
    let (addr, guard) = ledger.serve_beyond_loopback(everywhere).await.expect("it serves");
    let url = format!("http://127.0.0.1:{}", addr.port());
    assert_eq!(http(&url).get_chain_id().await.expect("an id"), CHAIN_ID);
    guard.stop().await;
    assert!(http(&url).get_chain_id().await.is_err());
}

#[tokio::test]
async fn http_and_the_inner_transport_answer_the_same() {
    let ledger = open();
    let (url, _guard) = serve(&ledger).await;
    let (outer, inner) = (http(&url), ledger.provider());
    send(&outer, ALICE, transfer(0, signer(BOB).address(), 1)).await;
    for (method, params) in [
        ("eth_blockNumber", json!([])),
        ("eth_getBlockByNumber", json!(["latest", true])),
        ("eth_getBlockReceipts", json!(["latest"])),
        ("eth_feeHistory", json!(["0x4", "latest", []])),
        ("eth_accounts", json!([])),
        ("eth_syncing", json!([])),
        ("net_version", json!([])),
        ("web3_clientVersion", json!([])),
    ] {
        assert_eq!(
            request(&outer, method, params.clone()).await,
            request(&inner, method, params).await,
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_batch_is_answered_in_order_with_an_answer_for_each() {
    let ledger = open();
    let (url, _guard) = serve(&ledger).await;
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" },
        { "jsonrpc": "2.0", "id": "two", "method": "eth_nothing", "params": [] },
        { "jsonrpc": "2.0", "method": "eth_chainId" },
        7,
    ]);
    let (status, answers) = post(&url, batch.to_string()).await;
    assert_eq!(status, 200);
    assert_eq!(answers.as_array().map(Vec::len), Some(3));
    assert_eq!(answers[0], json!({ "jsonrpc": "2.0", "id": 1, "result": "0x7a69" }));
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&json!("two"), &json!(-32601)));
    assert_eq!(answers[2]["error"]["code"], json!(-32600));
}

#[tokio::test]
async fn nonsense_and_excess_are_refused() {
    let ledger = open();
    let (url, _guard) = serve(&ledger).await;
    for (body, code) in [("{", -32700), ("[", -32700), ("[]", -32600), ("{}", -32600), ("nonsense", -32700)] {
        assert_eq!(post(&url, body).await.1["error"]["code"], json!(code), "{body}");
    }
    let many = vec![json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" }); 300];
    assert_eq!(post(&url, json!(many).to_string()).await.1["error"]["message"], json!("batch too large"));
    assert_eq!(post(&url, vec![b' '; 6 << 20]).await.0, 413);
    assert_eq!(client().get(&url).send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_web_page_cannot_use_the_interface() {
    let ledger = open();
    let (url, _guard) = serve(&ledger).await;
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" }).to_string();
    let simple = client().post(&url).header("content-type", "text/plain").body(body.clone());
    assert_eq!(simple.send().await.expect("an answer").status(), 415);
    let rebound = client()
        .post(&url)
        .header("content-type", "application/json")
        .header("host", "evil.example:80")
        .body(body.clone());
    assert_eq!(rebound.send().await.expect("an answer").status(), 403);
    let local = client()
        .post(&url)
        .header("content-type", "application/json")
        .header("host", "localhost:80")
        .body(body);
    assert_eq!(local.send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_request_is_cut_off() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ledger = open();
    let (addr, _guard) = ledger.serve("127.0.0.1:0".parse().expect("an address")).await.expect("it serves");
    let mut stream = tokio::net::TcpStream::connect(addr).await.expect("a connection");
    stream.write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\n").await.expect("it is sent");
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(25), stream.read_to_end(&mut rest)).await;
    end.expect("the server hangs up").expect("in order");
}
