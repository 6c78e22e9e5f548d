//! `provider leave`: no new leases, the running ones to their end, the stake unbonding, the role out of `node.toml`; and what
//! is still here after that, each thing with how it goes.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tradewind_proto::ids::LeaseId;

use super::drain::emptied;
use super::{edit, show, time};
use crate::cli::Cli;
use crate::commands::{client, node};
use crate::node::api::view::ProviderView;
use crate::node::config::NodeConfig;
use crate::paths;
use crate::printer::Printer;
use crate::service::Unit;

/// The machine as it left, and what remains of the role.
#[derive(Serialize)]
struct Left {
    #[serde(flatten)]
    view: ProviderView,
    /// Leases that are over, whose buyers have not taken everything.
    waiting: Vec<LeaseId>,
    remains: Vec<Remain>,
}

/// One thing that is still here.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Remain {
    what: &'static str,
    path: PathBuf,
    /// How it goes.
    remove: String,
}

pub(super) async fn leave(cli: &Cli, printer: Printer) -> anyhow::Result<()> {
    let node = client(cli)?;
    let view = node.provider().await?;
    let place = match cli.socket {
        Some(_) => None,
        None => Some(paths::config_file()?).filter(|file| file.exists()),
    };
    if view.device.as_ref().is_none_or(|device| device.stake == 0) && !view.serving {
        let remains = remains(place.as_deref(), &view)?;
        let left = Left { view, waiting: Vec::new(), remains };
        return printer.data(&left, |left| format!("this machine is no provider{}", told(left)));
    }
    let mut waiting = Vec::new();
    if view.serving {
        waiting = emptied(None, &node, printer).await?;
    }
    let bar = printer.spinner("unbonding the stake");
    let left = node.leave().await;
    bar.finish_and_clear();
    let view = left?;
    if let Some(file) = place.as_deref().filter(|_| view.serving) {
        edit(file, |document| {
            document.remove("provider");
        })?;
        let (file, config) = node::load(file)?;
        node::restart(&file, &config, printer).await?;
    }
    let remains = remains(place.as_deref(), &view)?;
    printer.data(&Left { view, waiting, remains }, |left| {
        let next = match left.view.device.as_ref().and_then(|device| device.unbonds_at) {
            Some(at) => {
                format!("the stake is free at {}; run `tradewind provider leave` again then", time(at))
            }
            None => "the stake is back; `tradewind wallet withdraw --all` takes everything out".into(),
        };
        format!("{}\n{next}{}", show(&left.view), told(left))
    })
}

/// What the role leaves on this machine. Nothing is said of another machine's node.
fn remains(file: Option<&Path>, view: &ProviderView) -> anyhow::Result<Vec<Remain>> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let (file, config) = node::load(file)?;
    let mut remains = on_disk(&config, view.device.as_ref().is_some_and(|device| device.stake > 0));
    match Unit::of(&file) {
        Some(unit) => remains.push(Remain {
            what: "the node's service, for its other roles",
            path: unit.file,
            remove: "tradewind node uninstall".into(),
        }),
        None => remains.push(Remain {
            what: "the node, for its other roles",
            path: config.socket(),
            remove: "tradewind node stop".into(),
        }),
    }
    Ok(remains)
}

fn on_disk(config: &NodeConfig, is_staked: bool) -> Vec<Remain> {
    if config.provider.is_some() {
        return Vec::new();
    }
    let dir = |name: &str| Some(config.data_dir.join(name)).filter(|dir| dir.exists());
    let removal = |path: &Path| format!("rm -r '{}'", path.display());
    let mut remains = Vec::new();
    for (name, what) in [
        ("provider", "work directories and inputs of leases that are over"),
        ("runtime", "the runtimes' own files"),
    ] {
        remains.extend(dir(name).map(|path| Remain { what, remove: removal(&path), path }));
    }
    remains.extend(dir("device").map(|path| Remain {
        what: "the device's key",
        remove: match is_staked {
            true => format!("keep it until the stake is back, then {}", removal(&path)),
            false => removal(&path),
        },
        path,
    }));
    remains
}

fn told(left: &Left) -> String {
    let mut text = String::new();
    if !left.waiting.is_empty() {
        let leases: Vec<String> = left.waiting.iter().map(ToString::to_string).collect();
        text.push_str(&format!(
            "\nbuyers have not taken everything of {}; `tradewind provider join` serves it again",
            leases.join(", ")
        ));
    }
    if !left.remains.is_empty() {
        text.push_str("\nstill here:");
    }
    for remain in &left.remains {
        text.push_str(&format!("\n  {} ({})\n    → {}", remain.what, remain.path.display(), remain.remove));
    }
    text
}
