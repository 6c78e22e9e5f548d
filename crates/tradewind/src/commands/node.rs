//! `node`: in the foreground, in the background, or as a service.

mod service;

use std::io;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use zeroize::Zeroizing;

use crate::background;
use crate::cli::{Node, NodeVerb};
use crate::client::NodeClient;
use crate::node::config::NodeConfig;
use crate::node::lock::Lock;
use crate::node::{self, api, keys, log};
use crate::paths;
use crate::printer::Printer;
use crate::service::Unit;

pub(super) async fn node(options: &Node, printer: Printer) -> anyhow::Result<()> {
    let file = || options.config.clone().map_or_else(paths::config_file, Ok);
    match &options.verb {
        None => serve(&file()?, options.background).await,
        Some(NodeVerb::Openapi) => {
            printer.data(&api::document(), |document| document.to_pretty_json().unwrap_or_default())
        }
        Some(NodeVerb::Start) => {
            let (file, config) = load(&file()?)?;
            let (node, fresh) = ensure(&file, &config, printer).await?;
            tell(&node, &file, &config, if fresh { "started" } else { "runs already" }, printer).await
        }
        Some(NodeVerb::Stop) => {
            let (file, config) = load(&file()?)?;
            let bar = printer.spinner("ending the node");
            let ran = background::stop(&file, &config).await;
            bar.finish_and_clear();
            let text = if ran? { "the node ended; leases and workloads go on" } else { "no node runs" };
            printer.data(&serde_json::json!({ "running": false }), |_| text.into())
        }
        Some(NodeVerb::Restart) => {
            let (file, config) = load(&file()?)?;
            let node = restart(&file, &config, printer).await?;
            tell(&node, &file, &config, "started anew", printer).await
        }
        Some(NodeVerb::Install(options)) => service::install(&file()?, options, printer).await,
        Some(NodeVerb::Uninstall) => service::uninstall(&file()?, printer).await,
    }
}

/// Ends the node of a configuration, and starts it in the background.
pub(super) async fn restart(
    file: &Path,
    config: &NodeConfig,
    printer: Printer,
) -> anyhow::Result<NodeClient> {
    let bar = printer.spinner("ending the node");
    let ended = background::stop(file, config).await;
    bar.finish_and_clear();
    ended?;
    Ok(ensure(file, config, printer).await?.0)
}

/// The node of a configuration, started in the background where none runs; and whether it was.
pub(super) async fn ensure(
    file: &Path,
    config: &NodeConfig,
    printer: Printer,
) -> anyhow::Result<(NodeClient, bool)> {
    let node = NodeClient::new(config.socket());
    if node.status().await.is_ok() {
        return Ok((node, false));
    }
    let password = match Lock::holder(&config.data_dir)? {
        Some(_) => None,
        None => password(config, printer)?,
    };
    let bar = printer.spinner("starting a node in the background");
    let started = background::start(file, config, password).await;
    bar.finish_and_clear();
    Ok((started?, true))
}

async fn tell(
    node: &NodeClient,
    file: &Path,
    config: &NodeConfig,
    what: &str,
    printer: Printer,
) -> anyhow::Result<()> {
    let status = node.status().await?;
    let unit = Unit::of(file);
    let log = match &unit {
        Some(unit) => unit.scope.journal().to_owned(),
        None => background::log_file(config)?.display().to_string(),
    };
    let told = serde_json::json!({
        "running": true, "pid": status.pid, "account": status.account, "log": log, "unit": unit.map(|unit| unit.file),
    });
    printer.data(&told, |_| {
        let (pid, roles) = (status.pid, status.roles.join(", "));
        format!("the node {what}: process {pid}, {roles}\nlog: {log}\n`tradewind node stop` ends it")
    })
}

/// The configuration at `file`, by its full path.
pub(super) fn load(file: &Path) -> anyhow::Result<(PathBuf, NodeConfig)> {
    let file = std::path::absolute(file)?;
    let config = NodeConfig::load(&file)?;
    Ok((file, config))
}

/// The wallet's password, asked for where neither a file nor the environment has it and somebody is there.
pub(super) fn password(config: &NodeConfig, printer: Printer) -> anyhow::Result<Option<Zeroizing<String>>> {
    let known = config.password_file.is_some() || std::env::var_os(keys::PASSWORD_VARIABLE).is_some();
    if known || !io::stdin().is_terminal() {
        return Ok(None);
    }
    printer.ask_secret("password of the wallet: ").map(Some)
}

async fn serve(file: &Path, in_background: bool) -> anyhow::Result<()> {
    let (_, config) = load(file)?;
    if in_background {
        background::detach()?;
        let path = background::log_file(&config)?;
        let log = log::BoundedLog::open(&path).with_context(|| format!("cannot write {}", path.display()))?;
        trace(Mutex::new(log), false);
    } else {
        trace(io::stderr, io::stderr().is_terminal());
    }
    node::run(config, in_background).await
}

fn trace<W>(writer: W, colours: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let wanted = std::env::var("TRADEWIND_LOG").ok();
    if subscriber(wanted.as_deref(), writer, colours).try_init().is_err() {
        tracing::debug!("a log subscriber was installed before ours");
    }
}

/// Logs what `wanted` says, except what is [indiscreet](is_discreet), which nobody can ask for.
fn subscriber<W>(wanted: Option<&str>, writer: W, colours: bool) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let usual = || EnvFilter::new("warn,tradewind=info");
    let filter = wanted.and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(usual);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(writer);
    subscriber.finish().with(filter_fn(is_discreet))
}

/// The client of the Docker engine logs whole requests while it debugs, and a job's secrets are in them.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("bollard") || *metadata.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn secrets_in_the_engine_s_requests_reach_no_log_whatever_is_asked_for() {
        let page = Page::default();
        let written = page.clone();
        subscriber(Some("trace,bollard=trace,bollard::docker=trace"), move || written.clone(), false)
            .try_init()
            .unwrap();
        ::log::debug!(target: "bollard::docker", "request body: hunter2");
        ::log::trace!(target: "bollard::read", "hunter2");
        ::log::info!(target: "bollard::docker", "the engine answered");
        tracing::debug!(target: "tradewind::node", "all else is logged");
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("the engine answered") && text.contains("all else is logged"), "{text}");
    }
}
