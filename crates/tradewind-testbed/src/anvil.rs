//! Foundry's development chain, as npm brings it into `contracts/`.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Its chain id.
pub const CHAIN_ID: u64 = 31_337;
/// The gas of a block.
pub const GAS_LIMIT: u64 = 60_000_000;
/// The base fee, in wei.
pub const GWEI: u128 = 1_000_000_000;
/// The first of its well-known accounts that have gas.
pub const ALICE: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
/// The second.
pub const BOB: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

/// A program of the Foundry tools.
///
/// # Panics
/// Where it is not installed; the message says how to install it.
#[must_use]
pub fn foundry(name: &str) -> PathBuf {
    let variable = format!("TRADEWIND_{}", name.to_uppercase());
    if let Some(path) = std::env::var_os(&variable) {
        return path.into();
    }
    let packages =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/node_modules/@foundry-rs"));
    let found = std::fs::read_dir(&packages).ok().and_then(|entries| {
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{name}-")))
            .map(|entry| entry.path().join("bin").join(name))
            .find(|path| path.is_file())
    });
    found.unwrap_or_else(|| {
        panic!(
            "{name} is missing: run `npm ci` in contracts/ (or `make tools`), or set {variable} to its path"
        )
    })
}

/// A running anvil, which ends with this value.
#[derive(Debug)]
pub struct Anvil {
    child: Child,
    /// Its JSON-RPC.
    pub url: String,
}

impl Anvil {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        let mut child = Command::new(foundry("anvil"))
            .args(["--port", "0", "--hardfork", "cancun", "--order", "fifo"])
            .args(["--chain-id", &CHAIN_ID.to_string(), "--gas-limit", &GAS_LIMIT.to_string()])
            .args(["--block-base-fee-per-gas", &GWEI.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("anvil starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let address = lines
            .by_ref()
            .map(|line| line.expect("anvil's output"))
            .find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned))
            .expect("anvil says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url: format!("http://{address}") }
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
