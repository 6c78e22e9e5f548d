//! Plain `ssh` into a running job, with nothing open anywhere.
//!
//! ```text
//! ssh, scp, rsync, VS Code ── ProxyCommand ──► tradewind ssh-proxy ── local API ──► node ══ mesh ══► the job
//!                                               an SSH server on its standard input and output
//! ```
//!
//! The server is on this machine and speaks to the one client that started it. It takes one key, made here; behind it each
//! channel is a session of the job, or a connection to one of its ports.

mod config;
mod keys;
mod server;

use std::process::Command;

use anyhow::Context;
use serde_json::json;

use super::exec::find;
use crate::cli::Cli;
use crate::client::{NodeClient, Told};
use crate::printer::{Printer, short};
use keys::Keys;

/// Before a job's id or name in a host's name.
pub(super) const PREFIX: &str = "tradewind-";
/// Or after it.
const SUFFIX: &str = ".tradewind";

/// Writes the client's configuration and says how to use it.
pub(super) async fn config(
    named: Option<&str>,
    install: bool,
    cli: &Cli,
    printer: Printer,
) -> anyhow::Result<u8> {
    let host = match named {
        Some(named) => {
            let job = find(named, &super::client(cli)?).await?.id.to_string();
            format!("{PREFIX}{}", job.trim_start_matches("0x").get(..12).unwrap_or(&job))
        }
        None => format!("{PREFIX}JOB"),
    };
    let keys = Keys::ensure()?;
    let file = config::write(&keys, cli)?;
    let line = config::include(&file)?;
    let installed = if install { Some(config::install(&line)?) } else { None };
    printer.data(
        &json!({ "config": file, "include": line, "host": host, "installed": installed }),
        |_| match &installed {
            Some(path) => format!("{} includes it now: ssh {host}", path.display()),
            None => format!(
                "{line}\n\nput this line first into ~/.ssh/config, or let `--install` do it; then: ssh {host}"
            ),
        },
    )?;
    Ok(0)
}

/// Runs the system's ssh.
pub(super) async fn ssh(named: &str, arguments: &[String], cli: &Cli) -> anyhow::Result<u8> {
    let job = find(named, &super::client(cli)?).await?.id.to_string();
    let file = config::write(&Keys::ensure()?, cli)?;
    let host = format!("{PREFIX}{}", job.trim_start_matches("0x"));
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(file).arg(host).args(arguments);
    let status = tokio::task::spawn_blocking(move || ssh.status()).await?;
    let status = status.map_err(|error| {
        Told::error(format!("cannot run ssh: {error}"), "install OpenSSH's client, or use `tradewind exec`")
    })?;
    // Ended by a signal, it has no code: 255 is ssh's own failure.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}

/// Serves SSH on standard input and output.
pub(super) async fn proxy(host: &str, node: &NodeClient) -> anyhow::Result<u8> {
    let named = host.strip_prefix(PREFIX).or_else(|| host.strip_suffix(SUFFIX)).unwrap_or(host);
    let job = find(named, node).await?;
    let shown = short(job.id);
    server::serve(Keys::ensure()?, job.id, node.clone())
        .await
        .with_context(|| format!("the way into {shown} ended"))?;
    Ok(0)
}
