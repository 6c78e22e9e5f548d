//! Setting a machine up: what is trusted, where the wallet comes from, and whether its backup works.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;
use tradewind_chain::client::keystore;
use tradewind_proto::profile::{Asset, AssetKind, ChainProfile, Contracts, NetworkProfile};
use tradewind_proto::signature::SigningKey;
use zeroize::Zeroizing;

use super::tradewind;

fn publisher() -> SigningKey {
    SigningKey::from_bytes([7; 32]).unwrap()
}

/// A network that nobody serves, signed by `key`.
fn profile(dir: &Path, development: bool, key: &SigningKey) -> String {
    let profile = NetworkProfile {
        name: "nowhere".into(),
        development,
        relayers: Vec::new(),
        faucet: None,
        relays: Vec::new(),
        explorer: None,
        sponsor: None,
        chain: ChainProfile { id: 7, rpc: vec!["http://127.0.0.1:1".into()], finality: 0 },
        contracts: Contracts {
            leases: [1; 20].into(),
            registry: [2; 20].into(),
            court: None,
            network_token: None,
            multicall: None,
            attestations: None,
        },
        challenge: None,
        walk: None,
        stake: None,
        assets: vec![Asset {
            symbol: "USDC".into(),
            address: [3; 20].into(),
            decimals: 6,
            kind: AssetKind::Erc3009,
        }],
        bootstrap: Vec::new(),
    };
    let path = dir.join("published.toml");
    std::fs::write(&path, profile.sign(key).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn private(path: PathBuf, text: &str) -> String {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn refused(home: &Path, arguments: &[&str]) -> String {
    let output = tradewind(home, arguments);
    assert_eq!(output.status.code(), Some(125), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn set_up(home: &Path, arguments: &[&str]) -> Value {
    let output = tradewind(home, &[&["setup", "--no-wait", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_wallet_of_value_needs_a_backup_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    let home = &dir.path().join("home");
    let network = profile(dir.path(), false, &publisher());
    let said = refused(home, &["setup", "--no-wait", &network]);
    assert!(said.contains("money with value") && said.contains("hint: give `--yes`"), "{said}");
    assert!(!home.exists(), "nothing is written before somebody agreed");

    let said = refused(home, &["setup", "--no-wait", "--yes", &network]);
    assert!(
        said.contains("the wallet has no backup") && said.contains("`--no-backup` goes without"),
        "{said}"
    );

    let file = dir.path().join("backup.json");
    let password = private(dir.path().join("backup-password"), "kept elsewhere");
    let backup = ["--yes", "--backup", file.to_str().unwrap(), "--backup-password-file", &password];
    let done = set_up(home, &backup);
    let opened = keystore::load(&file, || Ok(Zeroizing::new("kept elsewhere".into()))).unwrap();
    assert_eq!(done["account"], opened.address().to_string(), "the broken off setup went on with its wallet");
    assert_eq!(set_up(home, &["--yes"])["backup"], done["backup"], "a checked backup is not asked for again");
}

#[test]
fn another_publisher_is_not_believed_without_being_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let home = &dir.path().join("home");
    let network = profile(dir.path(), true, &publisher());
    let stranger = SigningKey::from_bytes([8; 32]).unwrap();
    let said = refused(home, &["setup", "--yes", "--publisher", &stranger.address().to_string(), &network]);
    assert!(said.contains("signature does not count"), "{said}");
    let done = set_up(home, &["--yes", &network]);
    assert_eq!(done["publisher"], publisher().address().to_string());

    let forged = profile(dir.path(), true, &stranger);
    let said = refused(home, &["setup", "--yes", "--no-wait", &forged]);
    assert!(said.contains("signature does not count"), "{said}");
    let said = refused(home, &["setup", "--yes", "http://example.org/network.toml", "--force"]);
    assert!(said.contains("can be changed on its way") && said.contains("hint: use https"), "{said}");
}

#[test]
fn a_key_from_elsewhere_keeps_its_account_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let network = profile(dir.path(), true, &publisher());
    let key = SigningKey::from_bytes([9; 32]).unwrap();
    let digits = private(dir.path().join("key"), &format!("{}\n", "09".repeat(32)));
    let home = dir.path().join("digits");
    assert_eq!(
        set_up(&home, &["--yes", "--import", &digits, &network])["account"],
        key.address().to_string()
    );

    let stored = dir.path().join("elsewhere.json");
    keystore::save(&stored, &key, || Ok(Zeroizing::new("old password".into()))).unwrap();
    let password = private(dir.path().join("password"), "old password");
    let home = dir.path().join("keystore");
    let import =
        ["--yes", "--import", stored.to_str().unwrap(), "--import-password-file", &password, &network];
    assert_eq!(set_up(&home, &import)["account"], key.address().to_string());

    let broken = private(dir.path().join("broken"), &"09".repeat(31));
    let said = refused(&dir.path().join("broken-home"), &["setup", "--yes", "--import", &broken, &network]);
    assert!(said.contains("holds no key") && !said.contains("0909"), "{said}");
}

#[test]
fn every_setting_names_where_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let home = &dir.path().join("home");
    set_up(home, &["--yes", &profile(dir.path(), true, &publisher())]);
    let output = tradewind(home, &["config", "show", "--origin", "--json"]);
    let settings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let origin = |key: &str| {
        let found = settings.iter().find(|setting| setting["key"] == key);
        found.unwrap_or_else(|| panic!("no {key} in {settings:?}"))["origin"].as_str().unwrap().to_owned()
    };
    let file = home.join("node.toml").display().to_string();
    assert_eq!(origin("config"), "TRADEWIND_HOME");
    assert_eq!(origin("publisher"), file);
    std::fs::write(
        home.join("node.toml"),
        "data_dir = \".\"\nprofile = \"network.toml\"\n[buyer]\nslack = 9\n",
    )
    .unwrap();
    let output = tradewind(home, &["config", "show", "--origin", "--json"]);
    let settings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let found = |key: &str| settings.iter().find(|setting| setting["key"] == key).unwrap();
    assert_eq!(
        (&found("buyer.slack")["value"], &found("buyer.slack")["origin"]),
        (&"9".into(), &file.into())
    );
    assert_eq!(found("buyer.patience")["origin"], "default");
}

/// The program at a terminal, and the person before it.
struct Terminal {
    keys: File,
    shown: Arc<Mutex<String>>,
    child: Child,
}

impl Terminal {
    fn start(home: &Path, arguments: &[&str]) -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let size = Winsize { ws_row: 50, ws_col: 110, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&keys, size).unwrap();
        let name = ptsname(&keys, Vec::new()).unwrap().into_string().unwrap();
        let no_terminal = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap();
        let side = File::options().read(true).write(true).custom_flags(no_terminal).open(name).unwrap();
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", env!("CARGO_BIN_EXE_tradewind")])
            .args(arguments)
            .env("TRADEWIND_HOME", home)
            .env_remove("TRADEWIND_SOCKET")
            .stdin(side.try_clone().unwrap())
            .stdout(side.try_clone().unwrap())
            .stderr(side)
            .spawn()
            .unwrap();
        let (keys, shown) = (File::from(keys), Arc::new(Mutex::new(String::new())));
        let (mut screen, text) = (keys.try_clone().unwrap(), shown.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { keys, shown, child }
    }

    fn screen(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// Waits until `text` was shown `times` times.
    fn reads(&self, text: &str, times: usize) {
        let began = Instant::now();
        while self.screen().matches(text).count() < times {
            assert!(began.elapsed() < Duration::from_secs(120), "no `{text}` in:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn types(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
    }
}

#[test]
fn a_person_proves_the_backup_with_the_code_that_was_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let network = profile(dir.path(), true, &publisher());
    let backup = dir.path().join("copy.json");
    let mut terminal = Terminal::start(&home, &["setup", &network]);
    terminal.reads("join this network? [y/N]", 1);
    assert!(terminal.screen().contains(&publisher().address().to_string()), "{}", terminal.screen());
    terminal.types("y\n");
    terminal.reads("password for the wallet", 1);
    terminal.types("horse\n");
    terminal.reads("the same again", 1);
    terminal.types("horse\n");
    terminal.reads("write the wallet's backup to", 1);
    terminal.types(&format!("{}\n", backup.display()));
    terminal.reads("type the code back", 1);
    let code = terminal
        .screen()
        .lines()
        .map(str::trim)
        .find(|line| line.matches('-').count() == 5)
        .map(String::from);
    let code = code.expect("a code of six groups");
    terminal.types("0000-0000-0000-0000-0000-0000\n");
    terminal.reads("that does not open the backup", 1);
    terminal.reads("type the code back", 2);
    terminal.types(&format!("{}\n", code.to_lowercase()));
    terminal.reads("the backup opens with it", 1);

    terminal.reads("waiting for USDC at 0x", 1);
    terminal.types("\u{3}");
    terminal.reads("`tradewind wallet fund` goes on waiting", 1);
    assert_eq!(terminal.child.wait().unwrap().code(), Some(130));
    let screen = terminal.screen();
    assert!(!screen.contains("horse"), "a password is not shown: {screen}");

    let copy = keystore::load(&backup, || Ok(Zeroizing::new(code))).unwrap();
    let wallet = keystore::load(&home.join("wallet.json"), || Ok(Zeroizing::new("horse".into()))).unwrap();
    assert_eq!(copy.address(), wallet.address());
}
