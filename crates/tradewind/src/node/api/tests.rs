//! The document against the types that it describes.

use serde_json::Value;
use tradewind_buyer::job::record::{JobRecord, JobState};
use tradewind_proto::ids::JobId;
use tradewind_proto::job::JobSpec;
use tradewind_proto::plan::Plan;
use tradewind_proto::units::Timestamp;

use super::document;

fn properties(document: &Value, name: &str) -> Vec<String> {
    let schema = &document["components"]["schemas"][name]["properties"];
    let mut names: Vec<String> =
        schema.as_object().unwrap_or_else(|| panic!("{name} is not described")).keys().cloned().collect();
    names.sort();
    names
}

fn fields(value: &impl serde::Serialize) -> Vec<String> {
    let value: Value = serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap();
    let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    names.sort();
    names
}

#[test]
fn every_operation_is_described_with_its_answers_and_errors() {
    let document = serde_json::to_value(document()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].is_string() && operation["operationId"].is_string(), "{path}");
            let answers = ["200", "101"].iter().any(|code| operation["responses"][code].is_object());
            assert!(answers, "{method} {path} answers nothing");
            operations.push(format!("{method} {path}"));
        }
    }
    operations.sort();
    let expected = [
        "get /openapi.json",
        "get /v1/attestations",
        "get /v1/jobs",
        "get /v1/jobs/{id}",
        "get /v1/jobs/{id}/logs",
        "get /v1/jobs/{id}/ports/{port}",
        "get /v1/jobs/{id}/secrets/{name}",
        "get /v1/jobs/{id}/session",
        "get /v1/jobs/{id}/wait",
        "get /v1/leases",
        "get /v1/meter",
        "get /v1/offers",
        "get /v1/provider",
        "get /v1/reputations",
        "get /v1/status",
        "get /v1/wallet",
        "get /v1/watcher",
        "post /v1/attestations/place",
        "post /v1/attestations/{id}/revoke",
        "post /v1/jobs",
        "post /v1/jobs/{id}/stop",
        "post /v1/plan",
        "post /v1/provider/accept",
        "post /v1/provider/leave",
        "post /v1/provider/reclaim",
        "post /v1/shutdown",
        "post /v1/speed",
        "post /v1/wallet/deposit",
        "post /v1/wallet/stake",
        "post /v1/wallet/unstake",
        "post /v1/wallet/withdraw",
    ];
    assert_eq!(operations, expected);
}

#[test]
fn what_a_schema_refers_to_is_in_the_document() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = serde_json::to_value(document()).unwrap();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference} is not in the document");
    }
}

#[test]
fn described_types_have_the_fields_of_the_real_ones() {
    let document = serde_json::to_value(document()).unwrap();
    let plan = Plan { choices: Vec::new(), rejections: Vec::new(), offers: 0 };
    assert_eq!(properties(&document, "Plan"), fields(&plan));
    let book = tradewind_proto::book::synthetic(1, 1);
    assert_eq!(properties(&document, "Offer"), fields(book.offers().next().unwrap()));
    let job = JobRecord {
        id: JobId::default(),
        spec: JobSpec::parse("job.yaml", "run: ls\n").unwrap(),
        inputs: Vec::new(),
        stored: Vec::new(),
        image: None,
        output_dir: "outputs".into(),
        submitted_at: Timestamp::from_unix(1),
        attempts: Vec::new(),
        state: JobState::Placing { problem: String::new() },
        stop_requested: false,
        unattended: false,
        meter: None,
        checkpoint: None,
        checkpoints: 0,
        offsite: Vec::new(),
    };
    assert_eq!(properties(&document, "Job"), fields(&job));
}
