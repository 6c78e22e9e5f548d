//! A node's keys: the wallet in an encrypted keystore, the mesh key beside it.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use tradewind_chain::client::keystore;
use tradewind_mesh::MeshSecret;
use tradewind_proto::signature::SigningKey;
use zeroize::Zeroizing;

/// Where the wallet's password comes from when no file is named.
pub(crate) const PASSWORD_VARIABLE: &str = "TRADEWIND_PASSWORD";

/// The wallet at `data_dir`, made where there is none.
pub(crate) fn wallet(data_dir: &Path, password_file: Option<&Path>) -> anyhow::Result<SigningKey> {
    let path = data_dir.join("wallet.json");
    let password = || password(password_file).map_err(|error| format!("{error:#}"));
    if path.exists() {
        return keystore::load(&path, password)
            .with_context(|| format!("cannot open the wallet {}", path.display()));
    }
    let key = generate()?;
    keystore::save(&path, &key, password)
        .with_context(|| format!("cannot make the wallet {}", path.display()))?;
    Ok(key)
}

/// The mesh key at `data_dir`, made where there is none.
pub(crate) fn mesh(data_dir: &Path) -> anyhow::Result<MeshSecret> {
    MeshSecret::load_or_create(&data_dir.join("mesh.key")).context("cannot open the mesh key")
}

/// A new key from the system's randomness.
pub(crate) fn generate() -> anyhow::Result<SigningKey> {
    loop {
        // One in 2^128 draws is no key.
        if let Ok(key) = SigningKey::from_bytes(rand::random()) {
            return Ok(key);
        }
    }
}

/// Writes a new random password to `path`, readable by its owner only; keeps one that is there.
pub(crate) fn make_password_file(path: &Path) -> anyhow::Result<()> {
    use std::io::Write;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match file {
        Ok(mut file) => {
            let password: Zeroizing<String> = Zeroizing::new(hex::encode(rand::random::<[u8; 16]>()));
            file.write_all(password.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", path.display())),
    }
}

/// The text of a file that only its owner reads.
pub(crate) fn private(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        bail!("{} can be read by others; run `chmod 600 {}`", path.display(), path.display());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Zeroizing::new(text))
}

/// The wallet's password: the file's, else the environment's.
pub(crate) fn password(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    if let Some(path) = file {
        return Ok(Zeroizing::new(private(path)?.trim_end_matches('\n').to_owned()));
    }
    match std::env::var(PASSWORD_VARIABLE) {
        Ok(password) => Ok(Zeroizing::new(password)),
        Err(_) => bail!("set `password_file` in node.toml, or the variable {PASSWORD_VARIABLE}"),
    }
}
