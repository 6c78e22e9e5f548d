//! `upgrade`: a newer program takes the installed one's place, and the node starts anew with it.
//!
//! ```text
//! FILE ─► copied and checked ─► node ended ─► program replaced ─► node started ─► answers, hosts the same leases ─► done
//!                                                                    └── does not, or lost one ─► old program, node started
//! ```
//!
//! Workloads and leases go on all the while: a node that starts adopts them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use semver::Version;
use serde::Serialize;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::report::{Report, Stage};
use zeroize::Zeroizing;

use super::node;
use crate::background::{self, START, Starting};
use crate::cli::Upgrade;
use crate::client::{NodeClient, Told};
use crate::node::config::NodeConfig;
use crate::node::keys;
use crate::node::lock::Lock;
use crate::paths;
use crate::printer::{Printer, counted};
use crate::program::{self, Candidate};
use crate::service::Unit;

/// How long a node is watched after it answers: a workload that it cannot adopt shows in this time.
const WATCH: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(250);

/// What an upgrade did.
#[derive(Serialize)]
struct Upgraded {
    program: PathBuf,
    previous: PathBuf,
    from: Option<String>,
    to: String,
    /// The node ran, and was started anew.
    restarted: bool,
    /// Live leases that it hosted before and hosts now.
    leases: usize,
}

pub(super) async fn upgrade(options: &Upgrade, printer: Printer) -> anyhow::Result<()> {
    refuse_url(&options.file)?;
    let file = paths::config_file()?;
    let node = if file.exists() { Some(node::load(&file)?) } else { None };
    let installed = match node.as_ref().and_then(|(file, _)| Unit::of(file)) {
        Some(unit) => unit.program,
        None => std::env::current_exe().context("this program's own path is unknown")?,
    };
    let candidate = Candidate::take(&options.file, &installed).await?;
    // A program that is broken is no reason to refuse a better one.
    let from = program::version(&installed).await.ok();
    refuse_downgrade(from.as_ref(), &candidate.version, options.force)?;
    let to = candidate.version.to_string();
    let running = match &node {
        Some((file, config)) => Running::look(file, config, printer).await?,
        None => None,
    };
    let leases = running.as_ref().map_or(0, |running| running.leases.len());
    let restarted = running.is_some();
    let previous = match running {
        Some(running) => {
            let bar = printer.spinner("starting the node anew with the new program");
            let replaced = running.replace(candidate, &installed, Duration::from_secs(options.wait)).await;
            bar.finish_and_clear();
            replaced?
        }
        None => candidate.replace()?.old,
    };
    let from = from.map(|version| version.to_string());
    let upgraded = Upgraded { program: installed, previous, from, to, restarted, leases };
    printer.data(&upgraded, told)
}

fn told(upgraded: &Upgraded) -> String {
    let node = match upgraded.restarted {
        true => format!("the node runs it, and hosts {} as before", counted(upgraded.leases, "lease")),
        false => "no node ran".into(),
    };
    format!(
        "{} is {} now (was {}); {node}\nthe old program: {}; `tradewind upgrade --force` with it goes back",
        upgraded.program.display(),
        upgraded.to,
        upgraded.from.as_deref().unwrap_or("broken"),
        upgraded.previous.display()
    )
}

fn refuse_url(file: &Path) -> anyhow::Result<()> {
    if file.to_string_lossy().contains("://") {
        let hint = "download it, check it against its publisher's signature, and give the file";
        return Err(Told::error("nothing is downloaded here", hint));
    }
    Ok(())
}

fn refuse_downgrade(from: Option<&Version>, to: &Version, force: bool) -> anyhow::Result<()> {
    match from {
        Some(from) if to < from && !force => {
            let error = format!("version {to} is older than {from}, which is installed");
            Err(Told::error(error, "an older program may not read what a newer one wrote; --force tries it"))
        }
        Some(_) | None => Ok(()),
    }
}

/// A node that runs, with what it needs to start again.
struct Running<'a> {
    file: &'a Path,
    config: &'a NodeConfig,
    password: Option<Zeroizing<String>>,
    /// Leases that are live here.
    leases: Vec<LeaseId>,
}

impl<'a> Running<'a> {
    /// The node of `file`, refused where this command could not start it again as it was.
    async fn look(file: &'a Path, config: &'a NodeConfig, printer: Printer) -> anyhow::Result<Option<Self>> {
        let Some(pid) = Lock::holder(&config.data_dir)? else { return Ok(None) };
        let node = NodeClient::new(config.socket());
        let status = node.status().await.context("the node runs but does not answer; nothing was changed")?;
        let unit = Unit::of(file);
        if unit.is_none() && !status.background {
            let error = format!("the node (process {pid}) was started by something else, in the foreground");
            let hint = "end it, upgrade, and start it again; or have `tradewind node install` keep it up";
            return Err(Told::error(error, hint));
        }
        let known = unit.is_some()
            || config.password_file.is_some()
            || std::env::var_os(keys::PASSWORD_VARIABLE).is_some();
        let password = if known { None } else { node::password(config, printer)? };
        if !known && password.is_none() {
            bail!("the node could not start again: nobody is there to type the wallet's password");
        }
        let leases = live(&hosted(&node).await?);
        Ok(Some(Self { file, config, password, leases }))
    }

    /// Ends the node, replaces the program, and starts the node; the other way round where that one is no good. Returns the
    /// place of the old program.
    async fn replace(
        &self,
        candidate: Candidate,
        installed: &Path,
        wait: Duration,
    ) -> anyhow::Result<PathBuf> {
        // Before the program is replaced: the old node must not start a workload by the new program.
        background::stop(self.file, self.config).await?;
        let replaced = match candidate.replace() {
            Ok(replaced) => replaced,
            Err(problem) => {
                self.start(installed, START).await.context("the old program does not come up again")?;
                return Err(problem.context("the node runs as before"));
            }
        };
        let Err(problem) = self.start(installed, wait).await else { return Ok(replaced.old) };
        let old = replaced.old.clone();
        let back = async {
            replaced.undo()?;
            self.start(installed, START).await
        };
        match back.await {
            Ok(()) => {
                let hint = "workloads went on; report what the log says to whoever built the new program";
                let error = format!("the new program is no good, and the old one runs again: {problem:#}");
                Err(Told::error(error, hint))
            }
            Err(second) => {
                let error = format!(
                    "the new program is no good: {problem:#}; nor does the old one come up: {second:#}"
                );
                let hint = format!(
                    "workloads go on; look at {} and {}, then `tradewind node start`",
                    installed.display(),
                    old.display()
                );
                Err(Told::error(error, hint))
            }
        }
    }

    /// Starts the node and waits until it answers and hosts what it hosted; ends it again where it does not.
    async fn start(&self, program: &Path, wait: Duration) -> anyhow::Result<()> {
        let mut starting = Starting::begin(program, self.file, self.config, self.password.as_ref()).await?;
        let good = async {
            let node = starting.answers(self.config, wait).await?;
            self.hosts_the_same(&node).await
        };
        let Err(problem) = good.await else { return Ok(()) };
        starting.give_up(self.file, self.config).await.context(format!("{problem:#}"))?;
        Err(problem)
    }

    async fn hosts_the_same(&self, node: &NodeClient) -> anyhow::Result<()> {
        if self.leases.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        loop {
            let reports = hosted(node).await?;
            for lease in &self.leases {
                match reports.iter().find(|report| report.lease == *lease).map(|report| &report.stage) {
                    None => bail!("the lease {lease} is not hosted any more"),
                    Some(Stage::Failed { reason }) => bail!("the lease {lease} was lost: {reason}"),
                    Some(_) => {}
                }
            }
            if began.elapsed() > WATCH {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn hosted(node: &NodeClient) -> anyhow::Result<Vec<Report>> {
    let sells = node.status().await?.roles.iter().any(|role| role == "provider");
    if sells { node.leases().await } else { Ok(Vec::new()) }
}

/// Those whose work is not over.
fn live(reports: &[Report]) -> Vec<LeaseId> {
    let over = |stage: &Stage| matches!(stage, Stage::Finished | Stage::Failed { .. });
    reports.iter().filter(|report| !over(&report.stage)).map(|report| report.lease).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_program_is_refused_unless_somebody_insists() {
        let [older, newer] = ["1.2.0-rc.1", "1.2.0"].map(|text| text.parse::<Version>().unwrap());
        let refused = refuse_downgrade(Some(&newer), &older, false).unwrap_err().to_string();
        assert!(refused.contains("1.2.0-rc.1 is older than 1.2.0"), "{refused}");
        refuse_downgrade(Some(&newer), &older, true).unwrap();
        refuse_downgrade(Some(&newer), &newer, false).unwrap();
        refuse_downgrade(Some(&older), &newer, false).unwrap();
        refuse_downgrade(None, &older, false).unwrap();
    }

    #[test]
    fn nothing_is_downloaded() {
        assert!(refuse_url(Path::new("https://example.org/tradewind")).is_err());
        refuse_url(Path::new("/srv/ann/tradewind")).unwrap();
    }
}
