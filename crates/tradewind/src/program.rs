//! A program file: what it runs on, which version it says it is, and how it takes the place of another.
//!
//! ```text
//! FILE ──copy──► tradewind.new ──checked──► tradewind      (rename: a whole program stands there at every moment)
//!                                 tradewind ──link──► tradewind.old ──rename, where the new one is no good──► tradewind
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use semver::Version;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::client::Told;
use crate::node::keys;

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most that it may say.
const MAX_SAID: u64 = 4096;
/// What an ELF file's head holds up to the field `e_machine`.
const HEAD: usize = 20;

/// A new program beside the one whose place it is to take. Gone when dropped, unless it took it.
#[derive(Debug)]
pub(crate) struct Candidate {
    copy: PathBuf,
    installed: PathBuf,
    /// What it says.
    pub(crate) version: Version,
}

/// A program that took the place of another, which is kept.
#[derive(Debug)]
pub(crate) struct Replaced {
    installed: PathBuf,
    /// The other.
    pub(crate) old: PathBuf,
}

impl Candidate {
    /// Copies `file` beside `installed` and checks the copy: this machine's kind of program, which runs.
    pub(crate) async fn take(file: &Path, installed: &Path) -> anyhow::Result<Self> {
        let copy = beside(installed, "new");
        // From here on a failure removes the copy.
        let mut candidate = Self { copy, installed: installed.into(), version: Version::new(0, 0, 0) };
        candidate.copy_of(file)?;
        let shown = file.display();
        if let (Some(new), Some(own)) = (Machine::of(&candidate.copy)?, Machine::of(installed)?)
            && new != own
        {
            let hint = "take the program that was built for this machine";
            return Err(Told::error(format!("{shown} is for {new}, and this machine runs {own}"), hint));
        }
        candidate.version = version(&candidate.copy)
            .await
            .with_context(|| format!("{shown} does not run here; nothing was changed"))?;
        Ok(candidate)
    }

    fn copy_of(&self, file: &Path) -> anyhow::Result<()> {
        let mut from = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        if !from.metadata()?.is_file() {
            bail!("{} is no file", file.display());
        }
        let shown = self.copy.display();
        let options = File::options().write(true).create(true).truncate(true).mode(0o755).open(&self.copy);
        let mut to = options.map_err(|error| {
            let hint = "run it as the user who owns the installed program, such as by sudo";
            Told::error(format!("cannot write {shown}: {error}"), hint)
        })?;
        std::io::copy(&mut from, &mut to).with_context(|| format!("cannot write {shown}"))?;
        to.flush()?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        to.set_permissions(executable).with_context(|| format!("cannot make {shown} executable"))?;
        to.sync_all().with_context(|| format!("cannot write {shown}"))
    }

    /// Takes the installed program's place, and keeps that one beside it.
    pub(crate) fn replace(self) -> anyhow::Result<Replaced> {
        let (installed, old) = (self.installed.clone(), beside(&self.installed, "old"));
        match std::fs::remove_file(&old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace {}", old.display()));
            }
            Ok(()) | Err(_) => {}
        }
        // Where links are not allowed, as across owners, a copy does.
        if std::fs::hard_link(&installed, &old).is_err() {
            std::fs::copy(&installed, &old).with_context(|| format!("cannot keep {}", old.display()))?;
        }
        std::fs::rename(&self.copy, &installed)
            .with_context(|| format!("cannot replace {}", installed.display()))?;
        Ok(Replaced { installed, old })
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // It is not there any more once it took the other's place.
        let _ = std::fs::remove_file(&self.copy);
    }
}

impl Replaced {
    /// Puts the old program back.
    pub(crate) fn undo(self) -> anyhow::Result<()> {
        let shown = self.installed.display();
        std::fs::rename(&self.old, &self.installed)
            .with_context(|| format!("{shown} cannot be put back from {}", self.old.display()))
    }
}

/// The version that a program says it is.
pub(crate) async fn version(program: &Path) -> anyhow::Result<Version> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env_remove(keys::PASSWORD_VARIABLE).kill_on_drop(true);
    let mut child = command.spawn().context("it cannot be started")?;
    let mut out = child.stdout.take().context("its output is lost")?.take(MAX_SAID);
    let said = async move {
        let mut said = Vec::new();
        out.read_to_end(&mut said).await?;
        // One that says more ends by it, instead of waiting for a reader.
        drop(out);
        anyhow::Ok((said, child.wait().await?))
    };
    let said = tokio::time::timeout(PATIENCE, said).await;
    let (said, status) =
        said.with_context(|| format!("`--version` says nothing for {} s", PATIENCE.as_secs()))??;
    if !status.success() {
        bail!("`--version` ends with {status}");
    }
    let said = String::from_utf8_lossy(&said);
    let version = said.trim().strip_prefix("tradewind ").and_then(|text| Version::parse(text).ok());
    version.context("`--version` does not say `tradewind` and a version")
}

/// What kind of machine a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    class: u8,
    order: u8,
    number: u16,
}

impl Machine {
    /// `None` for what is no program of a machine's own, such as a script.
    fn of(file: &Path) -> anyhow::Result<Option<Self>> {
        let mut head = Vec::with_capacity(HEAD);
        let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        opened.take(HEAD as u64).read_to_end(&mut head)?;
        Ok(Self::parse(&head))
    }

    fn parse(head: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD] = head.try_into().ok()?;
        let [0x7f, b'E', b'L', b'F', class, order, .., low, high] = *head else { return None };
        let number =
            if order == 2 { u16::from_be_bytes([low, high]) } else { u16::from_le_bytes([low, high]) };
        Some(Self { class, order, number })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.number, self.class) {
            (62, _) => f.write_str("x86-64"),
            (3, _) => f.write_str("x86"),
            (183, _) => f.write_str("ARM64"),
            (40, _) => f.write_str("ARM"),
            (243, 2) => f.write_str("RISC-V 64"),
            (number, _) => write!(f, "the ELF machine {number}"),
        }
    }
}

fn beside(program: &Path, what: &str) -> PathBuf {
    let mut name = program.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    program.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(path: &Path, text: &str) {
        std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_new_program_takes_the_old_one_s_place_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let [installed, new] = ["tradewind", "elsewhere"].map(|name| dir.path().join(name));
        script(&installed, "echo tradewind 1.0.0");
        script(&new, "echo tradewind 1.1.0-rc.1");
        let candidate = Candidate::take(&new, &installed).await.unwrap();
        assert_eq!(candidate.version, "1.1.0-rc.1".parse().unwrap());
        let replaced = candidate.replace().unwrap();
        assert_eq!(version(&installed).await.unwrap().to_string(), "1.1.0-rc.1");
        assert_eq!(version(&replaced.old).await.unwrap(), Version::new(1, 0, 0));
        assert_eq!(names(dir.path()), ["elsewhere", "tradewind", "tradewind.old"]);
        replaced.undo().unwrap();
        assert_eq!(version(&installed).await.unwrap(), Version::new(1, 0, 0));
        assert_eq!(names(dir.path()), ["elsewhere", "tradewind"]);
    }

    #[tokio::test]
    async fn what_does_not_run_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [installed, new] = ["tradewind", "elsewhere"].map(|name| dir.path().join(name));
        script(&installed, "echo tradewind 1.0.0");
        for text in ["exit 1", "echo something else 1.0.0", "echo tradewind", "yes"] {
            script(&new, text);
            let error = format!("{:#}", Candidate::take(&new, &installed).await.unwrap_err());
            assert!(error.contains("nothing was changed"), "{text}: {error}");
        }
        assert!(Candidate::take(dir.path(), &installed).await.is_err());
        assert_eq!(names(dir.path()), ["elsewhere", "tradewind"]);
    }

    #[tokio::test]
    async fn a_program_of_another_machine_is_named_and_refused() {
        let dir = tempfile::tempdir().unwrap();
        let [installed, new] = ["tradewind", "elsewhere"].map(|name| dir.path().join(name));
        let elf = |machine: u8| {
            let mut head = [0; HEAD];
            head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
            head[18] = machine;
            head
        };
        std::fs::write(&installed, elf(62)).unwrap();
        std::fs::write(&new, elf(183)).unwrap();
        let error = Candidate::take(&new, &installed).await.unwrap_err().to_string();
        assert!(error.contains("is for ARM64, and this machine runs x86-64"), "{error}");
    }
}
