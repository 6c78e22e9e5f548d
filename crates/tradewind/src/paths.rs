//! Where files are when nothing else is said: the XDG directories, or `TRADEWIND_HOME`.

use std::path::PathBuf;

use anyhow::Context;
use etcetera::BaseStrategy;

/// Overrides every directory.
pub(crate) const HOME_VARIABLE: &str = "TRADEWIND_HOME";

/// The node's data directory.
pub(crate) fn data_dir() -> anyhow::Result<PathBuf> {
    if let Some(home) = std::env::var_os(HOME_VARIABLE) {
        return Ok(PathBuf::from(home));
    }
    let dirs = etcetera::choose_base_strategy().context("there is no home directory; set TRADEWIND_HOME")?;
    Ok(dirs.data_dir().join("tradewind"))
}

/// Where a background node logs.
pub(crate) fn state_dir() -> anyhow::Result<PathBuf> {
    if let Some(home) = std::env::var_os(HOME_VARIABLE) {
        return Ok(PathBuf::from(home));
    }
    let dirs = etcetera::choose_base_strategy().context("there is no home directory; set TRADEWIND_HOME")?;
    Ok(dirs.state_dir().unwrap_or_else(|| dirs.data_dir()).join("tradewind"))
}

/// The node's configuration.
pub(crate) fn config_file() -> anyhow::Result<PathBuf> {
    if let Some(home) = std::env::var_os(HOME_VARIABLE) {
        return Ok(PathBuf::from(home).join("node.toml"));
    }
    let dirs = etcetera::choose_base_strategy().context("there is no home directory; set TRADEWIND_HOME")?;
    Ok(dirs.config_dir().join("tradewind").join("node.toml"))
}
