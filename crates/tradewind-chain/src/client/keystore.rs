//! Keys at rest: Web3 Secret Storage, version 3, as every Ethereum wallet reads it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, hex};
use alloy::signers::k256::elliptic_curve::rand_core::OsRng;
use alloy::signers::local::PrivateKeySigner;
use serde::Deserialize;
use tradewind_proto::signature::{SignatureError, SigningKey};
use zeroize::{Zeroize, Zeroizing};

/// Why a keystore could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// The file cannot be read or written.
    #[error("the keystore {path} cannot be used")]
    File {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key exists there already; keys are never overwritten.
    #[error("{0} exists already; keys are never overwritten")]
    Exists(String),
    /// The password does not open it.
    #[error("the password does not open this keystore")]
    Password,
    /// The file is no Web3 v3 keystore.
    #[error("the file is no Web3 v3 keystore: {0}")]
    Format(String),
    /// The secret is no key.
    #[error(transparent)]
    Key(#[from] SignatureError),
    /// No password was given.
    #[error("no password: {0}")]
    NoPassword(String),
}

/// Writes `key` to a new file at `path`, readable by its owner only, encrypted under what `password` returns.
///
/// # Errors
/// [`KeystoreError`]; nothing was written then.
pub fn save(
    path: &Path,
    key: &SigningKey,
    password: impl FnOnce() -> Result<Zeroizing<String>, String>,
) -> Result<(), KeystoreError> {
    let shown = path.display().to_string();
    if path.exists() {
        return Err(KeystoreError::Exists(shown));
    }
    let password = password().map_err(KeystoreError::NoPassword)?;
    let file_error = |source| KeystoreError::File { path: shown.clone(), source };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(dir).map_err(file_error)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("key");
    let scratch = format!(".{name}.{}", std::process::id());
    let _cleared = Cleared(dir.join(&scratch));
    encrypt(dir, &scratch, key, &password)?;
    let json = fs::read_to_string(dir.join(&scratch)).map_err(file_error)?;
    write_private(path, &with_address(&json, key.address())?).map_err(file_error)
}

/// The key in the file at `path`, decrypted with what `password` returns.
///
/// # Errors
/// [`KeystoreError`].
pub fn load(
    path: &Path,
    password: impl FnOnce() -> Result<Zeroizing<String>, String>,
) -> Result<SigningKey, KeystoreError> {
    if !path.is_file() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(KeystoreError::File { path: path.display().to_string(), source });
    }
    address(path)?;
    let password = password().map_err(KeystoreError::NoPassword)?;
    let signer = PrivateKeySigner::decrypt_keystore(path, password.as_bytes()).map_err(|error| {
        let text = error.to_string();
        if text.contains("Mac Mismatch") { KeystoreError::Password } else { KeystoreError::Format(text) }
    })?;
    let mut secret = signer.to_bytes().0;
    let key = SigningKey::from_bytes(secret);
    secret.zeroize();
    Ok(key?)
}

/// The account of a keystore, where the file names it, without any password.
///
/// # Errors
/// [`KeystoreError::File`], [`KeystoreError::Format`].
pub fn address(path: &Path) -> Result<Option<Address>, KeystoreError> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
        address: Option<String>,
    }
    let text = fs::read_to_string(path)
        .map_err(|source| KeystoreError::File { path: path.display().to_string(), source })?;
    let head: Head = serde_json::from_str(&text).map_err(|error| KeystoreError::Format(error.to_string()))?;
    if head.version != 3 {
        return Err(KeystoreError::Format(format!("version {}", head.version)));
    }
    Ok(head.address.and_then(|address| address.trim_start_matches("0x").parse().ok()))
}

/// Removes the encrypted draft, however the writing went.
struct Cleared(PathBuf);

impl Drop for Cleared {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn encrypt(dir: &Path, name: &str, key: &SigningKey, password: &str) -> Result<(), KeystoreError> {
    let secret = Zeroizing::new(key.secret_bytes());
    PrivateKeySigner::encrypt_keystore(dir, &mut OsRng, secret.as_slice(), password.as_bytes(), Some(name))
        .map(drop)
        .map_err(|error| KeystoreError::Format(error.to_string()))
}

/// Other wallets show whose keystore it is without opening it.
fn with_address(json: &str, account: Address) -> Result<String, KeystoreError> {
    let format = |error: serde_json::Error| KeystoreError::Format(error.to_string());
    let mut value: serde_json::Value = serde_json::from_str(json).map_err(format)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("address".into(), hex::encode(account).into());
    }
    serde_json::to_string(&value).map_err(format)
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> impl FnOnce() -> Result<Zeroizing<String>, String> {
        let text = Zeroizing::new(text.to_owned());
        move || Ok(text)
    }

    #[test]
    fn a_key_comes_back_with_its_password_and_only_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/account.json");
        let key = SigningKey::from_bytes([7; 32]).unwrap();
        save(&path, &key, password("correct horse")).unwrap();
        assert_eq!(address(&path).unwrap(), Some(key.address()));
        assert_eq!(load(&path, password("correct horse")).unwrap().address(), key.address());
        assert!(matches!(load(&path, password("battery")), Err(KeystoreError::Password)));
        assert!(matches!(save(&path, &key, password("again")), Err(KeystoreError::Exists(_))));
        let refused = load(&path, || Err("no terminal".into()));
        assert!(matches!(refused, Err(KeystoreError::NoPassword(_))));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_the_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("account.json");
        save(&path, &SigningKey::from_bytes([7; 32]).unwrap(), password("x")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_keystore_of_another_wallet_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v3.json");
        // The PBKDF2 vector of the Web3 Secret Storage definition.
        let text = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},"ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},"mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
        fs::write(&path, text).unwrap();
        let key = load(&path, password("testpassword")).unwrap();
        assert_eq!(
            hex::encode(key.secret_bytes()),
            "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
        );
        fs::write(&path, "{\"version\":1}").unwrap();
        assert!(matches!(load(&path, password("x")), Err(KeystoreError::Format(_))));
    }
}
