//! The node's ed25519 secret: made once, kept in a file that only its owner reads, wiped from memory on drop.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tradewind_proto::ids::MeshKey;
use zeroize::Zeroizing;

/// Why a mesh secret could not be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read or written.
    #[error("cannot use the mesh secret at {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others may read the file.
    #[error("the mesh secret at {} is readable by others (mode {mode:o}); run `chmod 600` on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold 64 hex digits.
    #[error("the mesh secret at {} is damaged: it must hold 64 hex digits", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// A node's ed25519 secret key.
#[derive(Clone)]
pub struct MeshSecret(Zeroizing<[u8; 32]>);

impl MeshSecret {
    /// A fresh secret from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// The secret with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads the secret at `path`, or makes one there with mode 0600. Two processes that race agree on one secret.
    ///
    /// # Errors
    /// When the file cannot be read or written, is damaged, or is readable by others.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretError> {
        match Self::load(path) {
            Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let secret = Self::generate();
        match secret.store_new(path) {
            Ok(()) => Ok(secret),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(source) => Err(SecretError::Io { path: path.into(), source }),
        }
    }

    /// The public key that peers dial.
    #[must_use]
    pub fn key(&self) -> MeshKey {
        MeshKey::from_bytes(*self.to_iroh().public().as_bytes())
    }

    pub(crate) fn to_iroh(&self) -> iroh::SecretKey {
        iroh::SecretKey::from_bytes(&self.0)
    }

    fn load(path: &Path) -> Result<Self, SecretError> {
        let io_error = |source| SecretError::Io { path: path.into(), source };
        let mode = fs::metadata(path).map_err(io_error)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Exposed { path: path.into(), mode });
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(io_error)?);
        let mut bytes = Zeroizing::new([0u8; 32]);
        hex::decode_to_slice(text.trim(), bytes.as_mut_slice())
            .map_err(|_| SecretError::Damaged { path: path.into() })?;
        Ok(Self(bytes))
    }

    /// Writes a side file and links it into place, so that a crash never leaves half a secret under `path`.
    fn store_new(&self, path: &Path) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let side = path.with_extension(format!("new.{}.{:08x}", std::process::id(), rand::random::<u32>()));
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&side)?;
        let text = Zeroizing::new(hex::encode(self.0.as_slice()));
        let linked = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&side, path));
        fs::remove_file(&side)?;
        linked
    }
}

impl fmt::Debug for MeshSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshSecret(of {})", self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("node/mesh.key");
        let made = MeshSecret::load_or_create(&path).expect("made");
        let found = MeshSecret::load_or_create(&path).expect("found");
        assert_eq!(made.key(), found.key());
        let mode = fs::metadata(&path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(
            fs::read_dir(path.parent().expect("parent")).expect("list").count(),
            1,
            "no side file stays"
        );
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("mesh.key");
        MeshSecret::load_or_create(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        let error = MeshSecret::load_or_create(&path).expect_err("exposed");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_damaged_secret_is_never_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("mesh.key");
        fs::write(&path, "abc").expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        assert!(matches!(MeshSecret::load_or_create(&path), Err(SecretError::Damaged { .. })));
        assert_eq!(fs::read_to_string(&path).expect("read"), "abc");
    }

    #[test]
    fn debug_output_never_shows_the_secret() {
        let secret = MeshSecret::from_bytes([0x5a; 32]);
        assert!(!format!("{secret:?}").contains("5a5a"));
    }
}
