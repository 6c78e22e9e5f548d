//! Builds `examples/digits` without any shared library, so that it runs in an empty image.
//!
//! The C library is linked in by a target feature, which a manifest cannot set for one package only; with
//! `--target` it touches neither build scripts nor the other packages' artefacts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Builds the program and returns `<target directory>/digits`.
pub(crate) fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let host = host_triple()?;
    let mut command = cargo(root);
    command
        .args(["rustc", "--quiet", "--package", "digits", "--bin", "digits", "--target", &host])
        .args(["--message-format", "json-render-diagnostics", "--"])
        .args(["-C", "target-feature=+crt-static", "-C", "strip=symbols"]);
    let built = executable(&output(&mut command)?).context("cargo named no program")?;
    let place = target_directory(root)?.join("digits");
    let partial = place.with_extension("partial");
    std::fs::copy(&built, &partial)
        .with_context(|| format!("cannot copy {} to {}", built.display(), partial.display()))?;
    std::fs::rename(&partial, &place).with_context(|| format!("cannot write {}", place.display()))?;
    Ok(place)
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("{:?} failed: {}", command.get_program(), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn host_triple() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}

fn target_directory(root: &Path) -> anyhow::Result<PathBuf> {
    let text = output(cargo(root).args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("cargo names no target directory")
}

fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_last_executable_that_cargo_names() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"executable\":null}\n",
            "{\"reason\":\"compiler-artifact\",\"executable\":\"/t/digits\"}\n",
            "{\"reason\":\"build-finished\",\"success\":true}\n",
        );
        assert_eq!(executable(messages), Some(PathBuf::from("/t/digits")));
        assert_eq!(executable("{\"reason\":\"build-finished\"}"), None);
    }
}
