//! What the program shows, screen by screen. A change here is a change for everybody who reads it.

use super::tradewind;

/// Exit code and both streams, without what differs between machines.
fn screen(arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let output = tradewind(&home, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(home.to_str().unwrap(), "[HOME]");
    let code = output.status.code().unwrap();
    format!("exit {code}\n--- stdout\n{}--- stderr\n{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_names_every_command_of_setup_node_and_wallet() {
    insta::assert_snapshot!("setup", screen(&["setup", "--help"]));
    insta::assert_snapshot!("node", screen(&["node", "--help"]));
    insta::assert_snapshot!("wallet", screen(&["wallet", "--help"]));
}

#[test]
fn a_machine_that_is_not_set_up_is_told_how_to() {
    for command in
        [&["status"][..], &["wallet", "address"], &["offers"], &["provider", "join", "--price", "1"]]
    {
        insta::assert_snapshot!("not-set-up", screen(command));
    }
    insta::assert_snapshot!("no-network", screen(&["setup"]));
    insta::assert_snapshot!("no-profile", screen(&["setup", "/nowhere/network.toml"]));
    insta::assert_snapshot!("config", screen(&["config", "show", "--json"]));
}
