//! The program as a provider runs it: a process that is started, killed and resumed.

#![cfg(test)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use tradewind_proto::job::JobSpec;

const EPOCHS: u32 = 24;

#[test]
fn a_run_writes_a_model_and_metrics_that_agree() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_digits"))
        .env("TRADEWIND_OUTPUT", directory.path().join("out"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let metrics = metrics(directory.path());
    assert!(metrics["accuracy"].as_f64().unwrap() >= 0.95, "{metrics}");
    let evaluated = Command::new(env!("CARGO_BIN_EXE_digits"))
        .arg("--evaluate")
        .arg(directory.path().join("out/model.bin"))
        .output()
        .unwrap();
    let expected = format!(
        "accuracy {:.4} ({} of {})\n",
        metrics["accuracy"].as_f64().unwrap(),
        metrics["correct"],
        metrics["held_out"]
    );
    assert_eq!(text(&evaluated.stdout), expected);
    assert_eq!(text(&output.stdout).lines().last(), Some(expected.trim_end()));
}

#[test]
fn a_run_killed_at_any_moment_resumes_to_the_same_bytes() {
    let untouched = tempfile::tempdir().unwrap();
    assert!(digits(untouched.path(), EPOCHS).output().unwrap().status.success());

    let killed = tempfile::tempdir().unwrap();
    for epoch in [3, 9] {
        let (mut child, _lines) = run_to_epoch(killed.path(), epoch, EPOCHS);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = digits(killed.path(), EPOCHS).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("resumed after epoch "), "{}", text(&output.stdout));
    for name in ["model.bin", "metrics.json"] {
        assert_eq!(result(killed.path(), name), result(untouched.path(), name), "{name}");
    }
}

#[test]
fn a_run_told_to_stop_writes_a_checkpoint_and_exits_with_143() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, lines) = run_to_epoch(directory.path(), 2, 100_000);
    let told = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap();
    assert!(told.success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let last = lines.lines().last().unwrap().unwrap();
    let epoch = last
        .strip_prefix("stopped after epoch ")
        .and_then(|rest| rest.strip_suffix(", checkpoint written"))
        .unwrap_or_else(|| panic!("{last}"));
    let one_more = epoch.parse::<u32>().unwrap() + 1;
    let output = digits(directory.path(), one_more).output().unwrap();
    assert!(text(&output.stdout).contains(&format!("resumed after epoch {epoch}\n")));
}

#[test]
fn a_damaged_checkpoint_costs_the_progress_only() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("checkpoint")).unwrap();
    std::fs::write(directory.path().join("checkpoint/checkpoint.bin"), b"torn").unwrap();
    let output = digits(directory.path(), EPOCHS).output().unwrap();
    assert!(output.status.success());
    assert!(text(&output.stderr).starts_with("starting again: "), "{}", text(&output.stderr));
}

#[test]
fn a_checkpoint_of_another_run_is_an_error_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    assert!(digits(directory.path(), EPOCHS).output().unwrap().status.success());
    let output = digits(directory.path(), EPOCHS).args(["--seed", "8"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("name another directory"), "{}", text(&output.stderr));
}

#[test]
fn data_that_are_no_digits_are_an_error_that_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("noise");
    std::fs::write(&path, [200; 650]).unwrap();
    let output = digits(directory.path(), EPOCHS).arg("--data").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("record 0: label 200"), "{}", text(&output.stderr));
}

#[test]
fn the_job_file_is_a_valid_job_that_brings_the_results_back() {
    let text = include_str!("../../job.yaml");
    let job = JobSpec::parse("job.yaml", text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(job.outputs, ["output"]);
    assert_eq!(job.checkpoint.unwrap().path, "checkpoint");
    assert!(job.max_cost.is_some() && job.timeout.is_some(), "the worst loss has a bound");
}

fn digits(directory: &Path, epochs: u32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_digits"));
    command
        .args(["--epochs", &epochs.to_string(), "--hidden", "64", "--checkpoint-every", "1"])
        .arg("--output")
        .arg(directory.join("out"))
        .arg("--checkpoint")
        .arg(directory.join("checkpoint"));
    command
}

fn run_to_epoch(directory: &Path, epoch: u32, epochs: u32) -> (Child, BufReader<ChildStdout>) {
    let mut child = digits(directory, epochs).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with(&format!("epoch {epoch}/")) {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended before epoch {epoch}");
    }
    (child, lines)
}

fn metrics(directory: &Path) -> serde_json::Value {
    serde_json::from_slice(&result(directory, "metrics.json")).unwrap()
}

fn result(directory: &Path, name: &str) -> Vec<u8> {
    std::fs::read(directory.join("out").join(name)).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
