//! `setup`: joins a network and makes this machine ready to spend and earn. Every step looks first, so that a setup which
//! was broken off goes on where it stopped.
//!
//! ```text
//! profile (verified, shown, agreed to) ─► wallet (kept, imported or made) ─► node.toml ─► backup (checked) ─► money
//! ```

mod backup;
mod network;

use std::path::Path;

use anyhow::Context;
use tradewind_chain::client::keystore;
use tradewind_proto::signature::SigningKey;
use zeroize::Zeroizing;

use super::{funds, wallet};
use crate::cli::Setup;
use crate::client::Told;
use crate::node::config::{BuyerSection, NodeConfig};
use crate::node::keys;
use crate::paths;
use crate::printer::{Printer, table};

pub(super) async fn setup(options: &Setup, printer: Printer) -> anyhow::Result<u8> {
    let file = paths::config_file()?;
    let before = if file.exists() { Some(NodeConfig::load(&file)?) } else { None };
    let verified = network::take(options, before.as_ref(), printer).await?;
    let mut config = match before {
        Some(config) => config,
        None => {
            let data_dir = paths::data_dir()?;
            NodeConfig {
                buyer: Some(BuyerSection::default()),
                ..NodeConfig::new(data_dir.clone(), data_dir.join("network.toml"))
            }
        }
    };
    config.publisher = Some(verified.network.publisher);
    make_private(&config.data_dir)?;
    if let Some(text) = &verified.text {
        replace(&config.profile, text)?;
    }
    let key = open_wallet(options, &mut config, printer)?;
    let parent = file.parent().context("the configuration's path has no directory")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    if !file.exists() {
        config.save(&file)?;
    }
    let profile = &verified.network.profile;
    let saved = backup::make(options, &config.data_dir, &key, profile.development, printer)?;

    let result = serde_json::json!({
        "network": profile.name,
        "publisher": verified.network.publisher.to_string(),
        "account": key.address().to_string(),
        "config": file,
        "wallet": config.data_dir.join("wallet.json"),
        "backup": saved,
    });
    printer.data(&result, |_| {
        let rows = [
            ["network".to_owned(), format!("{} (published by {})", profile.name, verified.network.publisher)],
            ["account".into(), key.address().to_string()],
            ["configuration".into(), file.display().to_string()],
            ["wallet".into(), config.data_dir.join("wallet.json").display().to_string()],
            ["backup".into(), saved.map_or_else(|| "none".into(), |path| path.display().to_string())],
        ];
        table(["set up", ""], rows)
    })?;
    if options.no_wait {
        return Ok(0);
    }
    let wait = options.wait_for.is_some() || printer.can_ask();
    funds::settle(profile, key.address(), options.wait_for.as_deref(), wait, printer).await
}

/// The wallet that is there; else the imported one, or a new one.
fn open_wallet(options: &Setup, config: &mut NodeConfig, printer: Printer) -> anyhow::Result<SigningKey> {
    let path = config.data_dir.join("wallet.json");
    if path.exists() {
        if options.import.is_some() {
            let hint = "move it away first, or leave `--import` out";
            return Err(Told::error(format!("there is a wallet already: {}", path.display()), hint));
        }
        let password = match &config.password_file {
            None if std::env::var_os(keys::PASSWORD_VARIABLE).is_none() && printer.can_ask() => {
                printer.ask_secret("password of the wallet: ")?
            }
            file => keys::password(file.as_deref().or(options.password_file.as_deref()))?,
        };
        let key = keystore::load(&path, || Ok(password));
        return key.with_context(|| format!("cannot open the wallet {}", path.display()));
    }
    let key = match &options.import {
        Some(file) => imported(file, options.import_password_file.as_deref(), printer)?,
        None => keys::generate()?,
    };
    let password = choose_password(options, config, printer)?;
    keystore::save(&path, &key, || Ok(password))
        .with_context(|| format!("cannot make the wallet {}", path.display()))?;
    Ok(key)
}

/// The new wallet's password: of a file, of the environment, typed, or a random one that is kept beside the wallet.
fn choose_password(
    options: &Setup,
    config: &mut NodeConfig,
    printer: Printer,
) -> anyhow::Result<Zeroizing<String>> {
    if let Some(file) = &options.password_file {
        let file = std::path::absolute(file)?;
        let password = keys::password(Some(&file))?;
        config.password_file = Some(file);
        return Ok(password);
    }
    if std::env::var_os(keys::PASSWORD_VARIABLE).is_some() {
        return keys::password(None);
    }
    if !options.yes && printer.can_ask() {
        let question = "password for the wallet (empty: a random one is kept beside it, so that the node starts by itself): ";
        let password = wallet::new_password(question, printer)?;
        if !password.is_empty() {
            return Ok(password);
        }
    }
    let file = config.data_dir.join("password");
    keys::make_password_file(&file)?;
    let password = keys::password(Some(&file))?;
    config.password_file = Some(file);
    Ok(password)
}

/// A key from elsewhere: a Web3 v3 keystore, or 64 hex digits.
fn imported(file: &Path, password_file: Option<&Path>, printer: Printer) -> anyhow::Result<SigningKey> {
    let shown = file.display();
    let text = Zeroizing::new(std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?);
    if text.trim_start().starts_with('{') {
        let password = match password_file {
            Some(path) => keys::password(Some(path))?,
            None if printer.can_ask() => printer.ask_secret(&format!("password of {shown}: "))?,
            None => {
                let hint = "`--import-password-file` names a file that only you can read";
                return Err(Told::error(format!("nobody is there to ask for the password of {shown}"), hint));
            }
        };
        return keystore::load(file, || Ok(password)).with_context(|| format!("cannot open {shown}"));
    }
    let mut secret = Zeroizing::new([0; 32]);
    // The cause would repeat the text, and the text may be nearly the key.
    let decoded = hex::decode_to_slice(text.trim().trim_start_matches("0x"), secret.as_mut_slice()).ok();
    let key = decoded.and_then(|()| SigningKey::from_bytes(*secret).ok());
    let hint = "a key is a Web3 v3 keystore, or 64 hex digits";
    key.ok_or_else(|| Told::error(format!("{shown} holds no key"), hint))
}

fn make_private(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make {}", dir.display()))
}

fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).with_context(|| format!("cannot write {}", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("cannot write {}", path.display()))
}
