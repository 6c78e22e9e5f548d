//! What a person sees when something is wrong.

use super::tradewind;

#[test]
fn our_own_failures_exit_with_125_and_say_where() {
    let home = tempfile::tempdir().expect("a directory");
    let output = tradewind(home.path(), &["ps"]);
    assert_eq!(output.status.code(), Some(125));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no node answers on") && said.contains("node.sock"), "{said}");
}

#[test]
fn a_wrong_job_file_is_named_with_its_line() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("job.yaml");
    std::fs::write(&file, "run: ls\nresources:\n  acelerators: H100\n").expect("written");
    let output = tradewind(home.path(), &["run", "--yes", file.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(125));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("job.yaml:3:3") && said.contains("did you mean `accelerators`?"), "{said}");
}

#[test]
fn a_profile_that_nobody_signed_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("network.toml");
    std::fs::write(&file, "name = \"x\"\n").expect("written");
    let output = tradewind(home.path(), &["setup", file.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(125));
    assert!(!home.path().join("node.toml").exists(), "nothing is written for a bad profile");
}
