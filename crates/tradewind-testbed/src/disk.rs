//! A disk of its own, whose bytes a test can read as one does who took it out of its machine.

use std::path::Path;
use std::process::Command;

use tempfile::{NamedTempFile, TempDir};

/// A file system that can encrypt, in a file that is mounted.
#[derive(Debug)]
pub struct Disk {
    image: NamedTempFile,
    mount: TempDir,
}

impl Disk {
    /// Makes and mounts it, with room for so many mebibytes.
    ///
    /// # Panics
    /// Without root, e2fsprogs or loop devices.
    #[must_use]
    pub fn encrypting(mebibytes: u64) -> Self {
        let image = NamedTempFile::new().expect("a temporary file");
        image.as_file().set_len(mebibytes << 20).expect("a sparse file");
        let mount = TempDir::new().expect("a temporary directory");
        let path = image.path().as_os_str();
        run(Command::new("mkfs.ext4").args(["-q", "-O", "encrypt"]).arg(path));
        run(Command::new("mount").args(["-o", "loop"]).arg(path).arg(mount.path()));
        Self { image, mount }
    }

    /// Where its files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// As after its machine was started anew: every key is gone.
    ///
    /// # Panics
    /// Where files are still open.
    pub fn restart(&self) {
        run(Command::new("umount").arg(self.path()));
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image.path()).arg(self.path()));
    }

    /// Whether this text is on it, all that was written included.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn holds(&self, text: &str) -> bool {
        run(Command::new("sync").arg("-f").arg(self.path()));
        let mut look = Command::new("grep");
        look.args(["--quiet", "--text", "--fixed-strings", text]).arg(self.image.path());
        match look.status().expect("grep is there").code() {
            Some(0) => true,
            Some(1) => false,
            other => panic!("{look:?}: {other:?}"),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: what a failed test left open must not keep it.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

fn run(command: &mut Command) {
    let status = command.status().expect("the program is there");
    assert!(status.success(), "{command:?}: {status}");
}
