//! The cluster that `scripts/with-slurm` starts, as its administrator asks and changes it.

use std::process::Command;

/// What one of Slurm's programs says.
///
/// # Panics
/// Where it is not there, or refuses.
pub fn slurm(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{program} cannot be run: {error}\nhint: scripts/with-slurm cargo nextest run slurm")
    });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}{failed}");
    said
}

/// A partition or a reservation that is there while this value is.
#[derive(Debug)]
pub struct Made(&'static str);

impl Made {
    /// Creates it: `PartitionName=brief` or `ReservationName=night`, and how it is to be.
    ///
    /// # Panics
    /// Where the cluster refuses.
    #[must_use]
    pub fn new(name: &'static str, words: &[&str]) -> Self {
        slurm("scontrol", &[&["create", name], words].concat());
        Self(name)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // A test that failed says why itself.
        let _ = Command::new("scontrol").args(["delete", self.0]).output();
    }
}
