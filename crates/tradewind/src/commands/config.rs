//! `config show`: what is in force, and where each part comes from.

use serde::Serialize;
use toml_edit::{DocumentMut, Item};

use crate::cli::Cli;
use crate::node::config::NodeConfig;
use crate::node::keys;
use crate::paths;
use crate::printer::{Printer, table};

#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    value: String,
    origin: String,
}

/// What has no value of its own in the environment's settings is not shown.
const HIDDEN: &str = "(set)";

pub(super) fn show(cli: &Cli, origin: bool, printer: Printer) -> anyhow::Result<()> {
    let file = paths::config_file()?;
    let home = std::env::var_os(paths::HOME_VARIABLE).map_or("XDG directories", |_| paths::HOME_VARIABLE);
    let setting =
        |key: &str, value: String, origin: &str| Setting { key: key.into(), value, origin: origin.into() };
    let mut settings = vec![setting("config", file.display().to_string(), home)];
    if let Some(socket) = &cli.socket {
        settings.push(setting("socket", socket.display().to_string(), "--socket or TRADEWIND_SOCKET"));
    }
    if std::env::var_os(keys::PASSWORD_VARIABLE).is_some() {
        settings.push(setting("password", HIDDEN.into(), keys::PASSWORD_VARIABLE));
    }
    if file.exists() {
        let config = NodeConfig::load(&file)?;
        let written: DocumentMut = std::fs::read_to_string(&file)?.parse()?;
        let in_force: DocumentMut = toml::to_string(&config)?.parse()?;
        let mut all = Vec::new();
        flatten("", in_force.as_item(), &mut all);
        let from = file.display().to_string();
        for (key, value) in all {
            let is_written =
                key.split('.').try_fold(written.as_item(), |item, part| item.get(part)).is_some();
            settings.push(Setting {
                key,
                value,
                origin: if is_written { from.clone() } else { "default".into() },
            });
        }
        if cli.socket.is_none() {
            settings.push(setting("socket", config.socket().display().to_string(), "data_dir"));
        }
    } else {
        settings.push(setting("data_dir", paths::data_dir()?.display().to_string(), home));
    }
    printer.data(&settings, |settings| {
        if origin {
            let rows = settings.iter().map(|s| [s.key.clone(), s.value.clone(), s.origin.clone()]);
            return table(["setting", "value", "from"], rows);
        }
        table(["setting", "value"], settings.iter().map(|s| [s.key.clone(), s.value.clone()]))
    })
}

/// Every value of a document, by its dotted key.
fn flatten(prefix: &str, item: &Item, found: &mut Vec<(String, String)>) {
    let Some(table) = item.as_table_like() else {
        let value = item.as_str().map_or_else(|| item.to_string().trim().to_owned(), str::to_owned);
        found.push((prefix.to_owned(), value));
        return;
    };
    for (key, item) in table.iter() {
        let key = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        flatten(&key, item, found);
    }
}
