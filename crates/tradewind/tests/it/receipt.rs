//! What every receipt of the digits job owes.

use std::path::Path;

use serde_json::Value;

/// The money adds up, and the outputs in `directory` are those that the receipt names.
pub(crate) fn holds(receipt: &Value, directory: &Path) {
    let amount = |field: &str| receipt[field].as_u64().unwrap_or_else(|| panic!("no {field} in {receipt}"));
    assert_eq!(receipt["state"], "closed");
    assert_eq!(amount("deposited"), amount("paid") + amount("refunded") + amount("forfeited"));
    assert!(amount("paid") > 0 && amount("vouchers") >= 1);
    let used = &receipt["used"];
    assert_eq!((&used["lease"], &used["code"]), (&receipt["lease_id"], &Value::from(0)), "{receipt}");
    assert!(used["cpu_ms"].as_u64().is_some_and(|cpu| cpu > 0), "{receipt}");
    let outputs = receipt["outputs"].as_array().expect("a list");
    assert!(outputs.iter().any(|file| file["path"] == "output/metrics.json"), "{receipt}");
    for file in outputs {
        let bytes = std::fs::read(directory.join(file["path"].as_str().expect("a path"))).expect("a file");
        assert_eq!(file["blake3"], blake3::hash(&bytes).to_hex().as_str());
    }
    let metrics = std::fs::read(directory.join("output/metrics.json")).expect("the metrics");
    let metrics: Value = serde_json::from_slice(&metrics).expect("JSON");
    assert!(metrics["accuracy"].as_f64().expect("a number") >= 0.95, "{metrics}");
}
