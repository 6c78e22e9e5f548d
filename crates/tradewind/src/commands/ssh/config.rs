//! The ssh client's configuration: one file of ours, and one line of the person's own that includes it.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use etcetera::BaseStrategy;

use super::keys::{HOST_ALIAS, Keys, replace};
use super::{PREFIX, SUFFIX};
use crate::cli::Cli;
use crate::paths::HOME_VARIABLE;

/// Writes our file, and returns where it is.
pub(super) fn write(keys: &Keys, cli: &Cli) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let mut proxy = String::new();
    if let Some(home) = std::env::var_os(HOME_VARIABLE) {
        let home = std::path::absolute(home)?;
        proxy += &format!("env {HOME_VARIABLE}={} ", shell(&home)?);
    }
    proxy += &shell(&program)?;
    if let Some(socket) = &cli.socket {
        proxy += &format!(" --socket {}", shell(&std::path::absolute(socket)?)?);
    }
    let dir = &keys.dir;
    let (identity, known) = (quoted(&dir.join("id_ed25519"))?, quoted(&dir.join("known_hosts"))?);
    let text = format!(
        "# Written by `tradewind ssh-config`, and again whenever it runs.\n\
         Host {PREFIX}* *{SUFFIX}\n    \
         ProxyCommand {proxy} ssh-proxy '%n'\n    \
         User job\n    \
         IdentityFile {identity}\n    \
         IdentitiesOnly yes\n    \
         IdentityAgent none\n    \
         HostKeyAlias {HOST_ALIAS}\n    \
         UserKnownHostsFile {known}\n    \
         GlobalKnownHostsFile none\n    \
         StrictHostKeyChecking yes\n    \
         UpdateHostKeys no\n    \
         PreferredAuthentications publickey\n    \
         ServerAliveInterval 30\n"
    );
    let file = dir.join("config");
    replace(&file, text.as_bytes())?;
    Ok(file)
}

/// The line that includes it.
pub(super) fn include(file: &Path) -> anyhow::Result<String> {
    Ok(format!("Include {}", quoted(file)?))
}

/// Puts the line first into the person's own configuration, unless it is there, and returns which file that is.
pub(super) fn install(line: &str) -> anyhow::Result<PathBuf> {
    let home = etcetera::choose_base_strategy().context("there is no home directory")?.home_dir().to_owned();
    let dir = home.join(".ssh");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let file = dir.join("config");
    // Where it is a link, what it leads to is written.
    let file = file.canonicalize().unwrap_or(file);
    let (known, mode) = match fs::read_to_string(&file) {
        Ok(known) => (known, Some(fs::metadata(&file)?.permissions().mode())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (String::new(), None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    if !known.lines().any(|known| known.trim() == line) {
        let between = if known.is_empty() { "" } else { "\n" };
        replace(&file, format!("{line}\n{between}{known}").as_bytes())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode.unwrap_or(0o600)))?;
    }
    Ok(file)
}

/// A path as the client's configuration takes it.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\n', '%', '$']));
    let text =
        text.with_context(|| format!("ssh cannot be told of {}: move it elsewhere", path.display()))?;
    Ok(format!("\"{text}\""))
}

/// A path as one word of a shell, in a line where `%` means something.
fn shell(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().filter(|text| !text.contains('\n'));
    let text =
        text.with_context(|| format!("ssh cannot be told of {}: move it elsewhere", path.display()))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''").replace('%', "%%")))
}
