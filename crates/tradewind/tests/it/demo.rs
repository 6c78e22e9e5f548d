//! The main job, end to end, between separate processes.

use serde_json::Value;

use crate::digits::program;
use crate::receipt;

#[test]
fn the_demo_trains_digits_and_its_receipt_adds_up() {
    let digits = program();
    let dir = tempfile::tempdir().expect("a directory");
    let market = dir.path().join("market");
    let place = market.to_str().expect("a path");
    let output =
        super::tradewind(dir.path(), &["demo", "--exit", "--json", "--digits", &digits, "--dir", place]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("one JSON object");
    receipt::holds(&last, &market.join("outputs"));
    assert!(last["accuracy"].as_f64().expect("a number") >= 0.95);
}
