//! The key that a person's ssh shows, and the key that the job's door shows back. Both are made here and stay here.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKey};

use crate::paths;

/// What the door is called in the file of known hosts.
pub(super) const HOST_ALIAS: &str = "tradewind";

/// Both pairs, and where they are.
pub(super) struct Keys {
    pub(super) dir: PathBuf,
    pub(super) host: PrivateKey,
    pub(super) client: PublicKey,
}

impl Keys {
    /// Reads them, and makes those that are missing.
    pub(super) fn ensure() -> anyhow::Result<Self> {
        let dir = std::path::absolute(paths::data_dir()?.join("ssh"))?;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.with_context(|| format!("cannot make {}", dir.display()))?;
        let host = pair(&dir.join("host_ed25519"), "tradewind door")?;
        let client = pair(&dir.join("id_ed25519"), "tradewind")?.public_key().clone();
        let known = format!("{HOST_ALIAS} {}\n", host.public_key().to_openssh()?);
        replace(&dir.join("known_hosts"), known.as_bytes())?;
        replace(&dir.join("id_ed25519.pub"), format!("{}\n", client.to_openssh()?).as_bytes())?;
        Ok(Self { dir, host, client })
    }
}

/// The private key in `path`; two programs that make it at once agree on one.
fn pair(path: &Path, comment: &str) -> anyhow::Result<PrivateKey> {
    let reading = || format!("cannot read the key {}", path.display());
    if !path.exists() {
        let mut key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
        key.set_comment(comment);
        let draft = draft(path)?;
        fs::write(&draft, key.to_openssh(LineEnding::LF)?.as_bytes())?;
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(reading);
            }
            Ok(()) | Err(_) => {}
        }
        drop(draft);
    }
    PrivateKey::from_openssh(fs::read(path).with_context(reading)?).with_context(reading)
}

/// An empty file beside `path` that only its owner reads, and that is deleted unless it is kept.
fn draft(path: &Path) -> anyhow::Result<tempfile::TempPath> {
    let dir = path.parent().context("a file has a directory")?;
    let draft = tempfile::Builder::new()
        .make_in(dir, |path| File::options().write(true).create_new(true).mode(0o600).open(path))?;
    Ok(draft.into_temp_path())
}

/// Writes a file whole, where it says something else.
pub(super) fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|known| known == content) {
        return Ok(());
    }
    let draft = draft(path)?;
    File::options().write(true).open(&draft)?.write_all(content)?;
    draft.persist(path).with_context(|| format!("cannot write {}", path.display()))
}
