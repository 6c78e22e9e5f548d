//! What a job leaves: found, hashed, and shared with its buyer alone.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tradewind_mesh::blobs::{BlobError, Label};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::manifest::check_path;
use tradewind_proto::report::{MAX_OUTPUTS, OutputFile};
use tradewind_proto::saving::is_part;
use tradewind_proto::units::Bytes;

use super::Inner;
use super::record::Record;
use crate::at_rest;

/// Why outputs could not be collected.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectError {
    #[error("cannot read the outputs")]
    Read(#[source] std::io::Error),
    #[error("{LOCKED}")]
    Locked,
    #[error("cannot share the outputs: {0}")]
    Share(#[from] BlobError),
}

/// Why the files of a lease are out of reach.
pub(super) const LOCKED: &str =
    "the machine was restarted, and the key of the lease's encrypted files went with that";

/// Whether a work directory's key is gone.
pub(super) fn is_locked(work: &Path) -> bool {
    at_rest::state(work).is_ok_and(|state| state == at_rest::State::Locked)
}

/// The label under which a lease's blobs are kept.
pub(super) fn label(lease: LeaseId) -> Label {
    #[expect(clippy::expect_used, reason = "a lease id is 0x and 64 hex digits, which every label may hold")]
    lease.to_string().parse().expect("a lease id is a label")
}

/// Hashes and shares every declared output that is there. What a job links to outside its directory is not taken.
pub(super) async fn collect(inner: &Inner, record: &Record) -> Result<Vec<OutputFile>, CollectError> {
    let work = inner.work_dir(record.hosting.id);
    if is_locked(&work) {
        return Err(CollectError::Locked);
    }
    let declared = record.manifest.outputs.clone();
    let checkpoint = record.manifest.checkpoint.as_deref();
    let is_saved = |path: &str| checkpoint.is_some_and(|checkpoint| is_part(path, checkpoint));
    let inputs = record.manifest.inputs.iter().map(|input| input.target.clone());
    let inputs: BTreeSet<String> = inputs.filter(|target| !is_saved(target)).collect();
    let found = tokio::task::spawn_blocking(move || find(&work, &declared, &inputs)).await;
    let found = found
        .map_err(|error| CollectError::Read(std::io::Error::other(error)))?
        .map_err(CollectError::Read)?;
    let label = label(record.hosting.id);
    let mut outputs = Vec::with_capacity(found.len());
    for (path, file, executable) in found {
        let blob = inner.parts.transport.add_file(&file, &label).await?;
        inner.parts.transport.grant(&label, blob.hash, record.owner)?;
        outputs.push(OutputFile {
            path,
            hash: *blob.hash.as_bytes(),
            size: Bytes::new(blob.size),
            executable,
        });
    }
    Ok(outputs)
}

/// Shares once more what an earlier life collected and the buyer may not have yet: grants end with the process, and a blob
/// that was added shortly before a crash may be gone.
pub(super) async fn collect_again(inner: Arc<Inner>, record: Record) {
    if !record.hosting.collected || record.hosting.last.is_some() {
        return;
    }
    if let Err(error) = collect(&inner, &record).await {
        tracing::error!(lease = %record.hosting.id, %error, "its outputs cannot be shared again");
    }
}

type Found = (String, PathBuf, bool);

fn find(work: &Path, declared: &[String], inputs: &BTreeSet<String>) -> std::io::Result<Vec<Found>> {
    let work = work.canonicalize()?;
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open: Vec<String> = declared.iter().rev().cloned().collect();
    while let Some(path) = open.pop() {
        let file = work.join(&path);
        let outside =
            file.parent().and_then(|parent| parent.canonicalize().ok()).is_none_or(|p| !p.starts_with(&work));
        let Ok(kind) = file.symlink_metadata() else { continue };
        if outside || check_path(&path).is_err() || !seen.insert(path.clone()) {
            tracing::warn!(%path, "an output is left out: its path leaves the work directory or is not portable");
        } else if kind.is_dir() {
            let mut names: Vec<String> = std::fs::read_dir(&file)?
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .map(|name| format!("{path}/{name}"))
                .collect();
            names.sort_unstable_by(|a, b| b.cmp(a));
            open.extend(names);
        } else if kind.is_file() && !inputs.contains(&path) {
            found.push((path, file, kind.permissions().mode() & 0o100 != 0));
            if found.len() == MAX_OUTPUTS {
                tracing::warn!(limit = MAX_OUTPUTS, "the job left more outputs than are collected");
                break;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_inside_the_work_directory_are_collected() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        std::fs::create_dir_all(work.join("out/deep")).unwrap();
        std::fs::write(dir.path().join("secret"), "host").unwrap();
        std::fs::write(work.join("out/deep/model"), "weights").unwrap();
        std::fs::write(work.join("program"), "input").unwrap();
        std::os::unix::fs::symlink("/etc", work.join("etc")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), work.join("out/link")).unwrap();
        let declared: Vec<String> =
            ["out", "etc/passwd", "etc", "../secret", "program", "missing"].map(str::to_owned).into();
        let found = find(&work, &declared, &BTreeSet::from(["program".to_owned()])).unwrap();
        let paths: Vec<&str> = found.iter().map(|(path, _, _)| path.as_str()).collect();
        assert_eq!(paths, ["out/deep/model"]);
    }
}
