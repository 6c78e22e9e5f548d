//! A fresh anvil, and accounts on it that have money.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alloy::network::EthereumWallet;
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::providers::{DynProvider, Provider as _, ProviderBuilder};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

/// The chain id that anvil and the embedded ledger are given here.
pub(crate) const CHAIN_ID: u64 = 31_337;
/// Gas of a block, and the most that one transaction here asks for.
pub(crate) const BLOCK_GAS: u64 = 60_000_000;
const TRANSACTION_GAS: u64 = 16_000_000;
const POLL: Duration = Duration::from_millis(10);

/// A program of the Foundry tools, as npm brings it into `contracts/`.
fn foundry(name: &str) -> anyhow::Result<PathBuf> {
    let packages = repository().join("contracts/node_modules/@foundry-rs");
    let entries = std::fs::read_dir(&packages)
        .with_context(|| format!("{} is missing; `scripts/tools bench` installs it", packages.display()))?;
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{name}-")))
        .map(|entry| entry.path().join("bin").join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no {name} in {}; `scripts/tools bench` installs it", packages.display()))
}

/// The repository that this program was built from.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A running anvil, which ends with this value.
pub(crate) struct Anvil {
    child: Child,
    pub(crate) url: String,
}

impl Anvil {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(foundry("anvil")?)
            .args(["--port", "0", "--hardfork", "cancun", "--order", "fifo"])
            .args(["--chain-id", &CHAIN_ID.to_string(), "--gas-limit", &BLOCK_GAS.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("anvil does not start")?;
        let mut lines = BufReader::new(child.stdout.take().context("anvil has no output")?).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned))
            .context("anvil ended before it listened")?;
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, url: format!("http://{address}") })
    }

    /// An account of this number's key, with ether.
    pub(crate) async fn account(&self, number: u8) -> anyhow::Result<Account> {
        let signer = PrivateKeySigner::from_slice(&[number; 32]).context("no key")?;
        let url = self.url.parse().context("anvil's address is no URL")?;
        let provider = ProviderBuilder::new().wallet(EthereumWallet::from(signer.clone())).connect_http(url);
        provider.client().set_poll_interval(POLL);
        let account = Account { signer, provider: provider.erased() };
        let balance = U256::from(10).pow(U256::from(24));
        account.request("anvil_setBalance", json!([account.address(), balance])).await?;
        Ok(account)
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A key with ether that sends one transaction after the other.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) signer: PrivateKeySigner,
    pub(crate) provider: DynProvider,
}

impl Account {
    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    /// Sends a transaction that has to succeed.
    pub(crate) async fn send(
        &self,
        to: TxKind,
        value: u64,
        input: Bytes,
    ) -> anyhow::Result<TransactionReceipt> {
        let request = TransactionRequest {
            to: Some(to),
            value: Some(U256::from(value)),
            gas: Some(TRANSACTION_GAS),
            ..TransactionRequest::default().input(input.into())
        };
        let receipt = self.provider.send_transaction(request).await?.get_receipt().await?;
        ensure!(receipt.status(), "the transaction {} was reverted", receipt.transaction_hash);
        Ok(receipt)
    }

    /// The gas of a call that has to succeed.
    pub(crate) async fn call(&self, to: Address, input: impl Into<Bytes>) -> anyhow::Result<u64> {
        Ok(self.send(to.into(), 0, input.into()).await?.gas_used)
    }

    /// Deploys a contract with its constructor's arguments.
    pub(crate) async fn deploy(&self, code: &[u8], arguments: &[u8]) -> anyhow::Result<Address> {
        let input = [code, arguments].concat();
        let receipt = self.send(TxKind::Create, 0, input.into()).await?;
        receipt.contract_address.context("the deployment left no contract")
    }

    /// Lets the chain's time pass.
    pub(crate) async fn pass(&self, seconds: u64) -> anyhow::Result<()> {
        self.request("evm_increaseTime", json!([seconds])).await?;
        self.request("evm_mine", json!([])).await
    }

    /// The newest block's time.
    pub(crate) async fn now(&self) -> anyhow::Result<u64> {
        let block = self.provider.get_block(alloy::eips::BlockId::latest()).await?;
        Ok(block.context("the chain has no block")?.header.timestamp)
    }

    async fn request(&self, method: &'static str, params: Value) -> anyhow::Result<()> {
        let params = serde_json::value::to_raw_value(&params)?;
        self.provider.raw_request_dyn(method.into(), &params).await?;
        Ok(())
    }
}

/// The creation code of a compiled contract, in any of the usual forms of artifacts.
pub(crate) fn code(path: &str, libraries: &[(&str, Address)]) -> anyhow::Result<Vec<u8>> {
    let path = repository().join(path);
    let text = std::fs::read(&path)
        .with_context(|| format!("{} is missing; `scripts/tools bench` installs it", path.display()))?;
    let artifact: Value = serde_json::from_slice(&text)?;
    let code = &artifact["bytecode"];
    let code = code.as_str().or_else(|| code["object"].as_str()).context("the artifact has no bytecode")?;
    let mut code = code.strip_prefix("0x").unwrap_or(code).to_owned();
    for (file, library) in links(&artifact) {
        let Some((_, address)) = libraries.iter().find(|(name, _)| *name == library) else {
            bail!("{} needs the library {library} of {file}", path.display());
        };
        let address = alloy::hex::encode(address);
        for place in artifact["linkReferences"][&file][&library].as_array().into_iter().flatten() {
            let start = place["start"].as_u64().and_then(|start| usize::try_from(start).ok());
            let start = start.context("a link without a place")? * 2;
            code.replace_range(start..start + address.len(), &address);
        }
    }
    alloy::hex::decode(code).context("the artifact's bytecode is not hexadecimal")
}

/// File and name of every library that an artifact is to be linked with.
fn links(artifact: &Value) -> Vec<(String, String)> {
    let files = artifact["linkReferences"].as_object().into_iter().flatten();
    files
        .flat_map(|(file, libraries)| {
            let names = libraries.as_object().into_iter().flatten();
            names.map(move |(name, _)| (file.clone(), name.clone()))
        })
        .collect()
}
