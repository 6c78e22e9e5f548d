//! Takes a network's profile, makes a wallet, and shows the configuration.

use anyhow::{Context, bail};
use serde::Serialize;
use tradewind_proto::profile::VerifiedProfile;

use crate::cli::{Cli, Setup};
use crate::node::config::{BuyerSection, MeshSection, NodeConfig};
use crate::node::keys;
use crate::paths;
use crate::printer::{Printer, table};

pub(super) fn setup(options: &Setup, printer: Printer) -> anyhow::Result<()> {
    let config_file = paths::config_file()?;
    if config_file.exists() && !options.force {
        bail!("{} exists; `--force` replaces it (the wallet stays)", config_file.display());
    }
    let shown = options.profile.display().to_string();
    let text = std::fs::read_to_string(&options.profile).with_context(|| format!("cannot read {shown}"))?;
    let verified = VerifiedProfile::parse(&shown, &text, None)?;
    let data_dir = paths::data_dir()?;
    let parent = config_file.parent().context("the configuration's path has no directory")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    std::fs::create_dir_all(&data_dir).with_context(|| format!("cannot make {}", data_dir.display()))?;
    let profile = data_dir.join("network.toml");
    std::fs::write(&profile, text).with_context(|| format!("cannot write {}", profile.display()))?;
    let password_file = data_dir.join("password");
    keys::make_password_file(&password_file)?;
    let wallet = keys::wallet(&data_dir, Some(&password_file))?;
    let config = NodeConfig {
        data_dir: data_dir.clone(),
        profile,
        password_file: Some(password_file),
        mesh: MeshSection::default(),
        ledger: None,
        relayer: None,
        provider: None,
        buyer: Some(BuyerSection::default()),
        explorer: None,
        relay: None,
    };
    config.save(&config_file)?;
    let result = serde_json::json!({
        "network": verified.profile.name,
        "publisher": verified.publisher,
        "account": wallet.address(),
        "config": config_file,
        "wallet": data_dir.join("wallet.json"),
    });
    printer.data(&result, |_| {
        let rows = [
            ["network".to_owned(), format!("{} (published by {})", verified.profile.name, verified.publisher)],
            ["account".into(), wallet.address().to_string()],
            ["configuration".into(), config_file.display().to_string()],
            ["wallet".into(), data_dir.join("wallet.json").display().to_string()],
        ];
        let next = "Back up the wallet and its password file now: whoever has both has the money, and nobody can restore them.\n\
                    Then send funds to the account and start the node: tradewind node";
        format!("{}\n{next}", table(["set up", ""], rows))
    })
}

#[derive(Debug, Serialize)]
struct Setting {
    key: &'static str,
    value: String,
    origin: String,
}

pub(super) fn show(cli: &Cli, origin: bool, printer: Printer) -> anyhow::Result<()> {
    let file = paths::config_file()?;
    let home = std::env::var_os(paths::HOME_VARIABLE).map_or("XDG directories", |_| paths::HOME_VARIABLE);
    let mut settings = vec![
        Setting { key: "config", value: file.display().to_string(), origin: home.into() },
        Setting { key: "data_dir", value: paths::data_dir()?.display().to_string(), origin: home.into() },
    ];
    if let Some(socket) = &cli.socket {
        let origin = "--socket or TRADEWIND_SOCKET".into();
        settings.push(Setting { key: "socket", value: socket.display().to_string(), origin });
    }
    if file.exists() {
        let config = NodeConfig::load(&file)?;
        let from = file.display().to_string();
        for (key, value) in [
            ("data_dir", config.data_dir.display().to_string()),
            ("profile", config.profile.display().to_string()),
            ("socket", config.socket().display().to_string()),
            ("mesh.bind", config.mesh.bind.to_string()),
        ] {
            settings.retain(|setting| setting.key != key || setting.origin.starts_with("--"));
            settings.push(Setting { key, value, origin: from.clone() });
        }
    }
    printer.data(&settings, |settings| {
        let rows = settings.iter().map(|s| {
            [s.key.to_owned(), s.value.clone(), if origin { s.origin.clone() } else { String::new() }]
        });
        table(["setting", "value", if origin { "from" } else { "" }], rows)
    })
}
