//! `node install`, `node uninstall`: the node as a service of systemd.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::load;
use crate::background;
use crate::cli::Install;
use crate::client::{NodeClient, Told};
use crate::node::config::NodeConfig;
use crate::printer::Printer;
use crate::service::{Linger, NAME, Scope, Unit, linger, vanishes};

/// A unit as it was installed, or would be.
#[derive(Serialize)]
struct Installation {
    unit: PathBuf,
    installed: bool,
    text: String,
    warnings: Vec<String>,
}

pub(super) async fn install(file: &Path, options: &Install, printer: Printer) -> anyhow::Result<()> {
    let (file, config) = load(file)?;
    let scope = match (options.user, options.system) {
        (true, _) => Scope::User,
        (_, true) => Scope::System,
        (false, false) if rustix::process::geteuid().is_root() => Scope::System,
        (false, false) => Scope::User,
    };
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let unit = Unit::planned(scope, &program, &file)?;
    let text = unit.text(owner(&config)?);
    let warnings = warnings(scope, &program).await;
    if !options.dry_run {
        refuse(&unit, &config).await?;
        put_up(&unit, &text, &file, &config, printer).await?;
    }
    let told = Installation { unit: unit.file.clone(), installed: !options.dry_run, text, warnings };
    for warning in &told.warnings {
        printer.step(&format!("warning: {warning}"));
    }
    printer.data(&told, |told| match told.installed {
        false => told.text.clone(),
        true => format!(
            "the node is a service: {}\nlog: {}\n`tradewind node stop` ends it until the machine starts again, \
             `tradewind node uninstall` for good",
            told.unit.display(),
            scope.journal()
        ),
    })
}

pub(super) async fn uninstall(file: &Path, printer: Printer) -> anyhow::Result<()> {
    let (file, config) = load(file)?;
    let Some(unit) = Unit::of(&file) else {
        let told = serde_json::json!({ "removed": null });
        return printer.data(&told, |_| "no service of this node is installed".into());
    };
    let bar = printer.spinner("ending the node");
    let ended = background::stop(&file, &config).await;
    bar.finish_and_clear();
    ended?;
    unit.disable().await?;
    unit.remove()?;
    unit.reload().await?;
    printer.data(&serde_json::json!({ "removed": unit.file }), |_| {
        format!(
            "{} is removed and the node ended; leases and workloads go on, and what it keeps stays in {}\n\
             `tradewind node start` starts it in the background",
            unit.file.display(),
            config.data_dir.display()
        )
    })
}

/// Whom a service of the system runs as: the owner of the node's data, where that is not root.
fn owner(config: &NodeConfig) -> anyhow::Result<Option<u32>> {
    use std::os::unix::fs::MetadataExt;
    let dir = &config.data_dir;
    let metadata = std::fs::metadata(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    Ok(Some(metadata.uid()).filter(|uid| *uid != 0))
}

async fn warnings(scope: Scope, program: &Path) -> Vec<String> {
    let mut warnings: Vec<String> = vanishes(program).into_iter().collect();
    if scope == Scope::User {
        match linger().await {
            Linger::Yes => {}
            Linger::No => warnings.push(
                "this user's services end with the last session, and start at log-in; `sudo loginctl enable-linger \
                 \"$USER\"` keeps them up"
                    .into(),
            ),
            Linger::Unknown => warnings.push(
                "nobody says whether this user's services outlive the session; `loginctl enable-linger` makes sure"
                    .into(),
            ),
        }
    }
    warnings
}

/// What is not installed, with what to do about it.
async fn refuse(unit: &Unit, config: &NodeConfig) -> anyhow::Result<()> {
    for scope in [Scope::System, Scope::User] {
        match Unit::at(scope) {
            Ok(Some(other)) if scope == unit.scope && other.config != unit.config => {
                let error = format!(
                    "{} runs the node of another home: {}",
                    other.file.display(),
                    other.config.display()
                );
                let hint = format!(
                    "remove it first: tradewind node uninstall --config '{}'",
                    other.config.display()
                );
                return Err(Told::error(error, hint));
            }
            Ok(Some(other)) if scope != unit.scope && other.config == unit.config => {
                let error = format!("this node is a service already: {}", other.file.display());
                return Err(Told::error(error, "remove it first: tradewind node uninstall"));
            }
            Err(problem) if scope == unit.scope => return Err(problem),
            Ok(_) | Err(_) => {}
        }
    }
    if config.password_file.is_none() {
        let hint = "write the password into a file that only the node's user can read, and name it as `password_file` in node.toml";
        return Err(Told::error("a service has nobody to ask for the wallet's password", hint));
    }
    Unit::refuse_without_systemd(unit.scope).await
}

/// Writes the unit, has it start with the machine, and puts it in the place of a node that runs.
async fn put_up(
    unit: &Unit,
    text: &str,
    file: &Path,
    config: &NodeConfig,
    printer: Printer,
) -> anyhow::Result<NodeClient> {
    unit.write(text)?;
    unit.reload().await?;
    unit.enable().await?;
    let bar = printer.spinner(&format!("starting {NAME}"));
    let started = async {
        background::stop(file, config).await?;
        background::start(file, config, None).await
    };
    let started = started.await;
    bar.finish_and_clear();
    started.with_context(|| format!("{} is installed, but its node does not come up", unit.file.display()))
}
