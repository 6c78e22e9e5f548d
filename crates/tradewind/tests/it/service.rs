//! The node as a service. No systemd runs where these tests do: a `systemctl` that writes down what it is told, and does it,
//! stands in front on the path.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// What systemd would do with one unit of a user, by the shell.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> "$RECORD"
unit="$XDG_CONFIG_HOME/systemd/user/tradewind.service"
[ "$1" = --user ] || exit 1
case $2 in
is-system-running) echo running ;;
start)
    eval "set -- $(sed -n 's/^ExecStart=//p' "$unit")"
    setsid "$@" </dev/null >/dev/null 2>"$RECORD.log" &
    ;;
stop)
    pid=$(cat "$TRADEWIND_HOME/node.lock") && kill "$pid" || exit 0
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    ;;
is-active) echo active ;;
esac
"#;
const LOGINCTL: &str = "#!/bin/sh\necho no\n";

/// A home whose user has a service manager.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap() };
        let config = "data_dir = \".\"\nprofile = \"network.toml\"\npassword_file = \"password\"\n\
                      [mesh]\nbind = \"127.0.0.1:0\"\n[ledger]\n";
        home.write("node/node.toml", config, 0o600);
        home.write("node/password", "correct horse", 0o600);
        home.write("bin/systemctl", SYSTEMCTL, 0o755);
        home.write("bin/loginctl", LOGINCTL, 0o755);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let usual = std::env::var("PATH").unwrap();
        Command::new(env!("CARGO_BIN_EXE_tradewind"))
            .args(arguments)
            .env("PATH", format!("{}:{usual}", self.path("bin").display()))
            .env("TRADEWIND_HOME", self.path("node"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("RECORD", self.path("record"))
            .env_remove("TRADEWIND_SOCKET")
            .env_remove("TRADEWIND_PASSWORD")
            .output()
            .unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn failure(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(125), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// What `systemctl` was told, without what only asks; forgotten when read.
    fn told(&self) -> Vec<String> {
        let record = std::fs::read_to_string(self.path("record")).unwrap_or_default();
        let _ = std::fs::remove_file(self.path("record"));
        let asks = |line: &&str| line.contains(" is-") || line.contains(" reset-failed");
        record.lines().filter(|line| !asks(line)).map(|line| line.replace("--user ", "")).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.run(&["node", "stop"]);
    }
}

#[test]
fn an_installed_node_is_started_stopped_and_removed_by_systemd() {
    let home = Home::new();
    let unit = home.path("config/systemd/user/tradewind.service");
    let planned = home.json(&["node", "install", "--user", "--dry-run"]);
    assert!(!unit.exists() && home.told().is_empty(), "a dry run changes nothing");

    let by_hand = home.json(&["node", "start"])["pid"].clone();
    let installed = home.json(&["node", "install", "--user"]);
    assert_eq!(installed["text"], planned["text"]);
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), planned["text"].as_str().unwrap());
    let warnings = installed["warnings"].to_string();
    assert!(warnings.contains("enable-linger") && warnings.contains("install -m 755"), "{warnings}");
    assert_eq!(
        home.told(),
        ["daemon-reload", "enable tradewind.service", "stop tradewind.service", "start tradewind.service"]
    );
    let status = home.json(&["status"]);
    assert_ne!(status["pid"], by_hand, "the service's node took the other's place");
    assert_eq!(status["service"], unit.to_str().unwrap());

    let started = home.json(&["node", "restart"]);
    assert_ne!(started["pid"], status["pid"]);
    assert_eq!(started["log"], "journalctl --user -u tradewind");
    assert_eq!(home.told(), ["stop tradewind.service", "start tradewind.service"]);
    home.json(&["node", "stop"]);
    assert_eq!(home.told(), ["stop tradewind.service"]);
    let down = home.failure(&["status"]);
    assert!(down.contains("its service") && down.contains("tradewind node start"), "{down}");

    home.json(&["node", "start"]);
    home.told();
    home.json(&["node", "uninstall"]);
    assert_eq!(home.told(), ["stop tradewind.service", "disable tradewind.service", "daemon-reload"]);
    assert!(!unit.exists() && home.path("node/wallet.json").exists(), "what the node keeps stays");
    assert_eq!(home.json(&["node", "uninstall"])["removed"], Value::Null);
}

#[test]
fn a_service_of_another_home_is_named_and_left_alone() {
    let home = Home::new();
    let other = "[Service]\nExecStart=\"/usr/bin/tradewind\" node --config \"/srv/ann/node.toml\"\n";
    home.write("config/systemd/user/tradewind.service", other, 0o644);
    let refused = home.failure(&["node", "install", "--user"]);
    assert!(refused.contains("another home: /srv/ann/node.toml"), "{refused}");
    assert!(refused.contains("tradewind node uninstall --config '/srv/ann/node.toml'"), "{refused}");
    home.write("config/systemd/user/tradewind.service", "[Service]\nExecStart=/bin/true\n", 0o644);
    let refused = home.failure(&["node", "install", "--user"]);
    assert!(refused.contains("was not written by this program"), "{refused}");
    assert_eq!(home.json(&["node", "uninstall"])["removed"], Value::Null);
    assert!(home.told().is_empty());
}

#[test]
fn no_service_is_installed_where_nobody_could_start_it() {
    let home = Home::new();
    home.write("bin/systemctl", "#!/bin/sh\necho offline\nexit 1\n", 0o755);
    let refused = home.failure(&["node", "install", "--user"]);
    assert!(refused.contains("no systemd of this user answers") && refused.contains("hint:"), "{refused}");
    let config = std::fs::read_to_string(home.path("node/node.toml")).unwrap();
    home.write("node/node.toml", &config.replace("password_file = \"password\"\n", ""), 0o600);
    let refused = home.failure(&["node", "install", "--user"]);
    assert!(refused.contains("nobody to ask for the wallet's password"), "{refused}");
    assert!(!home.path("config/systemd").exists(), "nothing was written");
}

#[test]
fn systemd_itself_finds_nothing_wrong_with_the_unit_where_it_is_there_to_say_so() {
    let home = Home::new();
    let text = home.json(&["node", "install", "--system", "--dry-run"])["text"].as_str().unwrap().to_owned();
    home.write("tradewind.service", &text, 0o644);
    let verified = Command::new("systemd-analyze").arg("verify").arg(home.path("tradewind.service")).output();
    // A machine without systemd has no such program; the snapshots hold the text there.
    if let Ok(output) = verified {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("tradewind.service")).collect();
        // The one key that systemd knows since version 254 only; older ones go without.
        let known = ours.iter().filter(|line| !line.contains("DelegateSubgroup")).count();
        assert!(output.status.success() && known == 0, "{said}");
    }
}
