//! The main job, end to end, between separate processes.

use serde_json::Value;

#[test]
fn the_demo_trains_digits_and_its_receipt_adds_up() {
    let digits = std::env::var("TRADEWIND_DIGITS")
        .expect("TRADEWIND_DIGITS names the digits program; `cargo xtask digits` builds it, nextest sets it");
    let dir = tempfile::tempdir().expect("a directory");
    let market = dir.path().join("market");
    let place = market.to_str().expect("a path");
    let output =
        super::tradewind(dir.path(), &["demo", "--exit", "--json", "--digits", &digits, "--dir", place]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let receipt: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("one JSON object");
    let amount = |field: &str| receipt[field].as_u64().unwrap_or_else(|| panic!("no {field} in {receipt}"));
    assert_eq!(receipt["state"], "closed");
    assert_eq!(amount("deposited"), amount("paid") + amount("refunded") + amount("forfeited"));
    assert!(amount("paid") > 0 && amount("vouchers") >= 1);
    assert!(receipt["accuracy"].as_f64().expect("a number") >= 0.95);
    for file in receipt["outputs"].as_array().expect("a list") {
        let bytes = std::fs::read(market.join("outputs").join(file["path"].as_str().expect("a path")))
            .expect("a file");
        assert_eq!(file["blake3"], blake3::hash(&bytes).to_hex().as_str());
    }
}
