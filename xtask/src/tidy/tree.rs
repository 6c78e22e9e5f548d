//! The files that git has, or would take.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// One file of the tree.
#[derive(Debug, Clone)]
pub(crate) struct File {
    path: String,
    bytes: Vec<u8>,
}

/// Every file, and the machine's own paths, which must be in none of them.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    files: Vec<File>,
    machine_paths: Vec<String>,
}

impl File {
    /// From the repository's root, with `/`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// As git would store it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The content, unless it is binary.
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// What follows the last dot of the name; empty without one.
    pub(crate) fn extension(&self) -> &str {
        Path::new(&self.path).extension().and_then(|extension| extension.to_str()).unwrap_or_default()
    }

    /// The name without directories and without what follows its last dot.
    pub(crate) fn stem(&self) -> &str {
        Path::new(&self.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }
}

impl Tree {
    /// What git lists in the checkout at `root`: tracked files, and new ones that it does not ignore.
    pub(crate) fn of_checkout(root: &Path) -> anyhow::Result<Self> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"])
            .current_dir(root)
            .output()
            .context("cannot start git, which tidy asks for the list of files")?;
        if !output.status.success() {
            bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        let names = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
        let mut files = Vec::new();
        for path in names.split_terminator('\0') {
            let on_disk = root.join(path);
            if !on_disk.is_file() {
                continue;
            }
            let bytes =
                std::fs::read(&on_disk).with_context(|| format!("cannot read {}", on_disk.display()))?;
            files.push(File { path: path.to_owned(), bytes });
        }
        Ok(Self { files, machine_paths: machine_paths(root) })
    }

    /// Every file, by path.
    pub(crate) fn files(&self) -> &[File] {
        &self.files
    }

    /// Whether the tree has a file, or a directory, at this path.
    pub(crate) fn holds(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        path.is_empty() || self.files.iter().any(|file| file.path == path || file.path.starts_with(&inside))
    }

    /// Directories of this machine that mean nothing on another one.
    pub(crate) fn machine_paths(&self) -> &[String] {
        &self.machine_paths
    }

    /// A tree made of these files.
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(files: [(&str, &str); N]) -> Self {
        let files = files
            .into_iter()
            .map(|(path, text)| File { path: path.to_owned(), bytes: text.as_bytes().to_vec() })
            .collect();
        Self { files, machine_paths: vec!["/srv/checkout".to_owned()] }
    }
}

fn machine_paths(root: &Path) -> Vec<String> {
    let homes = ["CARGO_TARGET_DIR", "CARGO_HOME", "RUSTUP_HOME"];
    std::iter::once(root.to_path_buf())
        .chain(homes.iter().filter_map(std::env::var_os).map(PathBuf::from))
        .filter(|path| path.is_absolute() && path.components().count() > 2)
        .filter_map(|path| path.to_str().map(str::to_owned))
        .collect()
}
